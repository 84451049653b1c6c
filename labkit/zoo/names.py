"""Names on disk that carry more than the model's own: prefixes of whatever the model stood in when it was saved.

    module.model.layers.0 ...                          a data-parallel wrapper
    _orig_mod.model.layers.0 ...                       torch.compile
    base_model.model.model.layers.0 ...                a PEFT model whose adapter was merged
    model.language_model.language_model.layers.0 ...   a text model that was put into an image-text class by hand

The one tensor whose name is known and stands once, the embedding, says what stands before the text model; it is taken
away if every tensor of the checkpoint has a place without it, and is named otherwise.
"""

import re
from collections.abc import Iterable

from labkit.errors import CheckpointError
from labkit.families import Family
from labkit.zoo.files import Tensor, listed

ANCHOR, HEAD = "embed_tokens.weight", "lm_head.weight"
WRAPPERS = re.compile(r"(?<![^.])(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")  # around a layer
ADAPTER = re.compile(r"\.(lora_[A-Z]\w*|base_layer|original_module|modules_to_save)\.")


def renaming(names: Iterable[str], family: Family) -> dict[str, str]:
    """`{pattern: text}` that makes the names those of the family's layouts, applied in this order; empty if they are.

    Raises:
        CheckpointError: the prefix is on some names alone, or a PEFT model was saved with its adapter apart.
    """
    names = [*names]
    if apart := [name for name in names if ADAPTER.search(name)]:
        raise CheckpointError(
            "these weights are a PEFT model's, its adapter not merged",
            got=listed(apart),
            expected="the names of a plain model",
            hint="save it merged: model.merge_and_unload().save_pretrained(folder); or save the adapter alone",
        )
    rules = _rules(names, family)
    made = [renamed(name, rules) for name in names]
    for part in family.skipped:  # what transformers passes over under the one name and not under the other
        if f"model.{part}" in family.skipped and any(name.startswith(part) for name in made):
            rules |= {f"^{re.escape(part)}": f"model.{part}"}
    return rules


def _rules(names, family):
    """Rules for the text model."""
    inside = sorted({match[0] for name in names for match in WRAPPERS.finditer(name)})
    rules = {rf"(?<![^.]){re.escape(wrapper)}": "" for wrapper in inside}
    plain = [renamed(name, rules) for name in names]
    bare = {name for name in plain if not _skipped(name, family)}
    anchors = sorted(name.removesuffix(ANCHOR) for name in bare if f".{name}".endswith(f".{ANCHOR}"))
    if not anchors or {"model.", family.text_prefix} & {*anchors}:
        return rules
    if len(anchors) > 1:
        got = listed([f"{anchor}{ANCHOR}" for anchor in anchors])
        raise CheckpointError("weights of more than one model", got=got, expected=f"one {ANCHOR}")
    before = anchors[0]
    if not before:  # the decoder stack alone, without the class around it
        return rules | {r"^(?=(?:embed_tokens|layers|norm)\.)": "model."}
    layouts = sorted({family.text_prefix, "model."}, key=len, reverse=True)
    outer = next((before.removesuffix(each) for each in layouts if before.endswith(f".{each}")), "")
    rules |= {f"^{re.escape(before)}": "model."}
    rules |= {f"^{re.escape(name)}$": HEAD for name in bare if name.endswith(f".{HEAD}")}
    rules |= {f"^{re.escape(outer)}(?={'|'.join(map(re.escape, family.skipped))})": ""} if outer else {}
    strange = [
        name
        for name, new in zip(names, (renamed(name, rules) for name in names), strict=True)
        if new == name and new != HEAD and family.place(new) is not None
    ]
    if strange:
        raise CheckpointError(
            "a prefix stands before some names and not before others",
            got=f"{before}{ANCHOR}, but {listed(strange)}",
            expected=f"names as {' or '.join(f'{each}{ANCHOR}' for each in reversed(layouts))}",
            hint="save the model itself, without what it stood in: model.save_pretrained(folder)",
        )
    return rules


def placed(stored: dict[str, Tensor], rules: dict[str, str], family: Family) -> dict[str, Tensor]:
    """Tensors by their names of the family's layouts.

    Raises:
        CheckpointError: two of one name, or experts apart whose names on disk are in another order than their places:
            transformers stacks them in the order of those.
    """
    made = {}
    for name, tensor in stored.items():
        if made.setdefault(new := renamed(name, rules), tensor) is not tensor:
            raise CheckpointError("two stored tensors have the same place in the model", got=f"{name}, as {new}")
    ours = {name: place for name in stored if ".experts." in name and (place := family.place(renamed(name, rules)))}
    experts = sorted(ours, key=_natural)
    places = [ours[name] for name in experts]
    for name, here, there in zip(experts, places, sorted(places, key=_natural), strict=True):
        if here != there:
            raise CheckpointError(
                "something stands in the names of some experts and not of others",
                got=name[:200],
                expected="the same in all of them, or the model's own names",
                hint="save the model itself, without what it stood in: model.save_pretrained(folder)",
            )
    return made


def first(stored: Iterable[str], rules: dict[str, str], family: Family) -> str | None:
    """The first name on disk of the text model that is another one by the rules."""
    pairs = ((name, renamed(name, rules)) for name in stored)
    return next((name for name, new in pairs if name != new and family.place(new)), None)


def renamed(name: str, rules: dict[str, str]) -> str:
    """A name on disk by the rules of `renaming`, each applied once."""
    for pattern, text in rules.items():
        name = re.sub(pattern, text, name, count=1)
    return name


def _skipped(name, family):
    """Whether a name is of a part that is not loaded, wherever that part stands."""
    return any(f".{part}" in f".{name}" for part in family.skipped)


def _natural(name):
    return [(0, int(part)) if part.isdigit() else (1, part) for part in name.split(".")]
