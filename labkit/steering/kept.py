"""The folder of a tuning: what a kill leaves of it is the last step that was written, whole.

tuning.json                  the request, steps done, losses, and the digest of the tensors; signed
tuning-<step>.safetensors    the states, the averages of Adam, and the best states so far
"""

import math
import os
import pathlib
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch

from labkit import folders
from labkit.errors import CheckpointError, InputError

FORMAT = 1
BOOK, LOCK = "tuning.json", "tuning.lock"
OURS = re.compile(r"tuning-\d{6,}\.safetensors")
WHAT = "the book of a tuning"


class Kept:
    """A folder of one tuning, or none; `Kept.open` holds it.

    Args:
        folder: None keeps nothing. request: what is asked for, as JSON can hold it.
    """

    def __init__(self, folder: str | os.PathLike | None, request: Mapping):
        self.folder, self.request = None if folder is None else pathlib.Path(folder), dict(request)

    @contextmanager
    def open(self) -> Iterator["Kept"]:
        """Hold the folder while the block lasts. Raises InputError: another process writes it."""
        if self.folder is None:
            yield self
            return
        with folders.lock(self.folder / LOCK):
            yield self

    def read(self, shapes: Mapping[str, tuple[int, ...]]) -> tuple[int, list, dict] | None:
        """(steps done, losses of each step, tensors), or None where there is nothing.

        Raises:
            InputError: it belongs to another request. CheckpointError: damaged.
        """
        if self.folder is None or not (self.folder / BOOK).exists():
            return None
        facts = folders.read_signed(self.folder / BOOK, FORMAT, WHAT)
        if facts.get("request") != self.request:
            held = facts.get("request") if isinstance(facts.get("request"), dict) else {}
            differing = [key for key in self.request if held.get(key) != self.request[key]]
            raise InputError(
                "this folder belongs to another tuning",
                got=f"different {', '.join(differing) or 'requests'}",
                expected="the same model, examples, layers, heads and options",
                hint="give another folder, or delete this one",
            )
        done, losses = facts.get("done"), facts.get("losses")
        fits = isinstance(done, int) and isinstance(losses, list) and len(losses) == done > 0
        if not fits or not all(isinstance(pair, list) and len(pair) == 2 for pair in losses):
            raise CheckpointError(f"{WHAT} is damaged", got=f"{self.folder / BOOK}: no losses of its steps")
        losses = [[math.nan if loss is None else float(loss) for loss in pair] for pair in losses]
        tensors = folders.read_tensors(self.folder / _file(done), str(facts.get("tensors")))
        if {name: tuple(value.shape) for name, value in tensors.items()} != dict(shapes):
            raise CheckpointError(f"{WHAT} is damaged", got=f"{self.folder / _file(done)}: other tensors than it says")
        return done, losses, tensors

    def write(self, done: int, losses: list, tensors: Mapping[str, torch.Tensor]) -> None:
        """What there is after so many steps; files of earlier ones go. Raises CheckpointError."""
        if self.folder is None:
            return
        folders.check_room(self.folder, sum(value.numel() * value.element_size() for value in tensors.values()))
        with folders.told("this folder cannot be written", self.folder):
            digest = folders.write_tensors(self.folder / _file(done), dict(tensors))
            losses = [[None if math.isnan(loss) else loss for loss in pair] for pair in losses]
            facts = dict(format=FORMAT, request=self.request, done=done, losses=losses, tensors=digest)
            folders.write_text(self.folder / BOOK, folders.signed(facts))
            for path in self.folder.iterdir():
                if OURS.fullmatch(path.name) and path.name != _file(done):
                    path.unlink(missing_ok=True)


def _file(done):
    return f"tuning-{done:06d}.safetensors"
