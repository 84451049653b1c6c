"""Edits that one switches on and off: what of a layer, a head or a token does not do its work."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import NamedTuple

from labkit.errors import InputError
from labkit.explore.asks import Ask
from labkit.spec import ATTENTION, DELTANET, Spec

OFF = -1e4  # the sigmoid of it is exactly 0


class Sort(NamedTuple):
    """One sort of edit.

    Attributes:
        words: with `{head}` and `{token}`. kinds: of layers that have it. make: `(spec, toggle) -> Ask`.
    """

    words: str
    kinds: tuple[str, ...]
    make: Callable


def _scale(seam):
    return lambda spec, on: Ask("edit.scale", (), {"seam": seam, "layer": on.layer, "factor": 0})


def _head(spec, on):
    if "gate" in spec.seams[spec.kind(on.layer)]:  # closed, so that the map can still be proven by what passes it
        return Ask("edit.set", (), {"seam": "gate", "layer": on.layer, "heads": on.head, "value": OFF})
    return Ask("edit.scale", (), {"seam": "gated", "layer": on.layer, "heads": on.head, "factor": 0})


def _gate(name):
    def make(spec, on):
        tokens = {} if on.token is None else {"tokens": on.token}
        return Ask(f"deltanet.{name}", (), {"layer": on.layer, "heads": on.head} | tokens)

    return make


SORTS = {
    "mixer": Sort("whole mixer off", (DELTANET, ATTENTION), _scale("mixer_out")),
    "mlp": Sort("MLP off", (DELTANET, ATTENTION), _scale("mlp_out")),
    "head": Sort("head {head} off", (DELTANET, ATTENTION), _head),
    "never_write": Sort("head {head} never writes", (DELTANET,), _gate("never_write")),
    "never_write_here": Sort("head {head} does not write at token {token}", (DELTANET,), _gate("never_write")),
    "never_forget": Sort("head {head} never forgets", (DELTANET,), _gate("never_forget")),
    "never_forget_here": Sort("head {head} does not forget at token {token}", (DELTANET,), _gate("never_forget")),
}


@dataclasses.dataclass(frozen=True)
class Toggle:
    """One edit that is on.

    Attributes:
        sort: key of `SORTS`. layer: index in the stack. head, token: which, where the sort has one; else None.
    """

    sort: str
    layer: int
    head: int | None = None
    token: int | None = None

    def ask(self, spec: Spec) -> Ask:
        """The call that makes the edit."""
        return SORTS[self.sort].make(spec, self)

    def words(self) -> str:
        """What it does in its layer."""
        return SORTS[self.sort].words.format(head=self.head, token=self.token)


def checked(given: Sequence, spec: Spec, length: int | None = None) -> Toggle:
    """A toggle from its four parts, as JSON holds them.

    Args:
        length: tokens of the prompt; None where it is not known.

    Raises:
        InputError: an unknown sort, a layer, head or token that there is not, or a sort that the layer does not have.
    """
    parts = [*given] if isinstance(given, list | tuple) else []
    if len(parts) != 4 or not isinstance(parts[0], str) or parts[0] not in SORTS:
        raise InputError("no edit of the explorer", got=repr(given)[:80], expected=f"one of {', '.join(SORTS)}")
    sort, layer, head, token = parts
    kind = spec.kind(layer)
    if kind not in SORTS[sort].kinds:
        raise InputError("this kind of layer has no such edit", got=f"{sort} of layer {layer}", expected="a D layer")
    heads = spec.value_heads if kind == DELTANET else spec.query_heads
    for name, value, needs, count in (
        ("head", head, "{head}", heads),
        ("token", token, "{token}", length),
    ):
        if (value is None) == (needs in SORTS[sort].words):
            raise InputError(f"this edit does not fit its {name}", got=repr(value), expected=SORTS[sort].words)
        wrong = value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 0)
        if wrong or (value is not None and count is not None and value >= count):
            raise InputError(f"{name} of an edit out of range", got=repr(value), expected=f"0 to {(count or 1) - 1}")
    return Toggle(sort, int(layer), head, token)


def offered(spec: Spec, layer: int, head: int, token: int) -> list[Toggle]:
    """What can be switched at a layer, one of its heads and a token."""
    return [
        Toggle(sort, layer, head if "{head}" in each.words else None, token if "{token}" in each.words else None)
        for sort, each in SORTS.items()
        if spec.kind(layer) in each.kinds
    ]
