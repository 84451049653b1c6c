"""The tokenizer of a lab: the one beside the weights, one that was given, or none."""

import os
import pathlib

from labkit.errors import CheckpointError, InputError
from labkit.spec import Spec
from labkit.zoo import finding, loading, settings

VOCABULARIES = (("tokenizer.json",), ("vocab.json", "merges.txt"))


def of_ready(ready: loading.Ready, given):
    """The tokenizer of a checkpoint: the given one, that beside the weights or in their file, or None, which is noted.

    Raises:
        InputError: something given that is no tokenizer. CheckpointError: one that is broken or another model's.
    """
    if given is not None:
        return given_one(given, ready.spec)
    if ready.vocabulary if ready.gguf else held(ready.folder):
        return loading.tokenizer(ready.folder, ready.spec, config=ready.config, gguf=ready.gguf)
    ready.notes.append("there is no tokenizer beside the weights, so this lab reads token ids alone")
    return None


def given_one(given, spec: Spec):
    """A tokenizer that was given: one of transformers, or the name of a folder or hub id that holds one.

    Raises:
        InputError: neither, or one that does not fit the model. CheckpointError: a folder without one, or a broken one.
    """
    if not isinstance(given, str | os.PathLike):
        if not hasattr(given, "get_vocab"):
            hint = "labkit.wrap(model, processor.tokenizer)" if hasattr(given, "tokenizer") else None
            raise InputError("not a tokenizer", got=type(given).__name__, expected="a tokenizer", hint=hint)
        loading.check_tokenizer(given, spec, InputError)
        return given
    kind, where = finding.find(given)
    if kind == "gguf":
        raise InputError("not the folder of a tokenizer", got=str(given), expected="a folder or a hub id")
    folder = finding.fetch(where, finding.SMALL) if kind == "hub" else where
    if not held(folder):
        raise CheckpointError("no tokenizer there", got=folder.name, expected="tokenizer.json")
    settings.refuse_code(folder, weights=False)
    return loading.tokenizer(folder, spec)


def held(folder: pathlib.Path) -> bool:
    """Whether the files of a vocabulary are in a folder."""
    return any(all((folder / file).is_file() for file in group) for group in VOCABULARIES)
