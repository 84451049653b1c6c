"""The two kinds of edit, a function on a seam and a function on a state: where it acts, and what it is known by.

A function on a seam sees the whole pass, [batch, token, *dims] of the chosen heads, and the absolute positions
[batch, token]; what it returns is taken at the chosen tokens alone. Token positions count from the first real token of
each row, in prefill, in chunks and in decode alike.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping

from labkit.errors import InputError, LayerError
from labkit.fingerprint import Opaque, fingerprint
from labkit.notation import is_index, select
from labkit.spec import Spec

SHOWN = 12  # places that a `repr` lists
_numbers = itertools.count(1)


class Edit:
    """What both kinds of edit can tell of themselves.

    Attributes:
        cut: token count at which a prompt must be split for it, or None.
    """

    cut: int | None = None

    @functools.cached_property
    def fingerprint(self) -> str | None:
        """What it does and where, without its tokens, as a number; None if its function cannot be fingerprinted."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        try:
            return fingerprint({name: value for name, value in fields.items() if name not in ("tokens", "name")})
        except Opaque:
            return None

    @functools.cached_property
    def key(self) -> str:
        """Equal for edits that are known to do the same; another number for each whose function is not known."""
        return self.fingerprint or f"function {next(_numbers)}"

    def acts_on(self, first: int, last: int) -> tuple[int, ...] | None:
        """The tokens from `first` to before `last` that it acts on, absolute; None for all of them."""
        raise NotImplementedError

    @functools.cached_property
    def text(self) -> str:
        """Its `repr` and its key, for `Identity`."""
        return f"{self!r} {self.key}" + ("" if self.tokens is None else f" {fingerprint(self.tokens)}")


def _places(name, values):
    """`, tokens=[...]` of a `repr`; long ones are shortened."""
    if values is None:
        return ""
    shown = list(values) if len(values) <= SHOWN else f"{len(values):,} from {min(values)} to {max(values)}"
    return f", {name}={shown}"


@dataclasses.dataclass(frozen=True)
class OfModel:
    """The function of an edit that depends on the model: `make(spec)` is it, once the edit is held on one."""

    make: Callable


@dataclasses.dataclass(frozen=True)
class SeamEdit(Edit):
    """A function on a seam.

    Attributes:
        seam: name from `spec.seams` of the layer's kind.
        layer: index in the stack.
        change: `(values [batch, token, head, ...], positions [batch, token]) -> values`, for the chosen heads; or an
            `OfModel`.
        heads: indices, or None for all.
        tokens: absolute positions, or None for all.
    """

    seam: str
    layer: int
    change: Callable
    heads: tuple[int, ...] | None = None
    tokens: tuple[int, ...] | None = None
    name: str = "edit"

    @functools.cached_property
    def span(self) -> range | None:
        """Its tokens as a range, if there are none between them that are not its: then no pass searches a long list."""
        if not self.tokens:
            return None
        whole = range(min(self.tokens), max(self.tokens) + 1)
        return whole if len(whole) == len(frozenset(self.tokens)) else None

    def acts_on(self, first: int, last: int) -> tuple[int, ...] | None:
        if self.tokens is None:
            return None
        if self.span is not None:
            return tuple(range(max(first, self.span.start), min(last, self.span.stop)))
        return tuple(t for t in sorted(frozenset(self.tokens)) if first <= t < last)

    def __repr__(self):
        where = _places("heads", self.heads) + _places("tokens", self.tokens)
        return f"{self.name}({self.seam!r}, layer={self.layer}{where})"


@dataclasses.dataclass(frozen=True)
class StateEdit(Edit):
    """A function on what a DeltaNet layer carries, applied once token `at` has been absorbed.

    Attributes:
        layer: index in the stack.
        at: absolute position of the last token absorbed before the change.
        change: `[batch, head, key, value] -> same shape` on the recurrent state, for the chosen heads; or None.
        heads: indices, or None for all.
        window: `[batch, channel, taps] -> same shape` on the convolution window; or None.
    """

    layer: int
    at: int
    change: Callable | None = None
    heads: tuple[int, ...] | None = None
    window: Callable | None = None
    name: str = "state"

    @property
    def cut(self) -> int:
        """Its change comes once so many tokens have been absorbed."""
        return self.at + 1

    @property
    def tokens(self) -> tuple[int, ...]:
        """The one token."""
        return (self.at,)

    def acts_on(self, first: int, last: int) -> tuple[int, ...] | None:
        return (self.at,) if first <= self.at < last else ()

    def __repr__(self):
        return f"{self.name}(layer={self.layer}, at={self.at}{_places('heads', self.heads)})"


def flat(edits: Iterable) -> Iterator:
    """Edits out of lists, tuples and generators of them, however deep; what is no edit as it stands."""
    for item in edits:
        if isinstance(item, str | bytes | Mapping) or hasattr(item, "ndim") or not isinstance(item, Iterable):
            yield item
        else:
            yield from flat(item)


def checked(edits: Iterable[SeamEdit | StateEdit], spec: Spec) -> tuple[SeamEdit | StateEdit, ...]:
    """The edits, if each fits the model; lists of them count as what is in them.

    Raises:
        InputError: not an edit, a layer, head or token out of range, an unknown seam.
        LayerError: a seam of the other layer kind, heads at a seam without heads, a state edit on attention.
    """
    fitting = []
    for item in flat(edits):
        if not isinstance(item, SeamEdit | StateEdit):
            raise InputError("not an edit", got=type(item).__name__, hint='edit.scale("gated", layer=0, factor=0.0)')
        if not is_index(item.layer):
            hint = f"[{item.name}(..., layer=layer) for layer in {item.layer!r}]"
            raise InputError("an edit is of one layer", got=f"layer={item.layer!r}", expected="an int", hint=hint)
        item = dataclasses.replace(item, layer=select(item.layer, spec.layers, "layer")[0])
        kind = spec.kind(item.layer)
        if isinstance(item, StateEdit):
            if kind != "deltanet":
                raise LayerError(
                    f"layer {item.layer} is a gated attention layer and carries no recurrent state",
                    expected=f"a DeltaNet layer: {list(spec.deltanet_layers)}",
                    hint=f'edit.scale("v", layer={item.layer}, factor=0.0)',
                )
            axis = "head"
        else:
            if item.seam not in spec.seams[kind]:
                raise LayerError(
                    f"layer {item.layer} is a {kind} layer and has no seam {item.seam!r}",
                    expected=", ".join(spec.seams[kind]),
                )
            if (indexes := spec.seams[kind][item.seam].indexes) is not None:
                raise LayerError(
                    f"seam {item.seam!r} names {indexes}s by number; a change of it would be no change of a choice",
                    got=repr(item),
                    expected="a seam that decides: router, routed",
                    hint=f'edit.add("router", layer={item.layer}, heads=[3], vector=-1e4)',
                )
            axis = spec.seams[kind][item.seam].dims[0]
        if item.heads is not None:
            if axis == "channel":
                raise LayerError(
                    f"seam {item.seam!r} has no head axis",
                    got=f"heads={list(item.heads)}",
                    hint=f'edit.scale("gated", layer={item.layer}, heads={list(item.heads)}, factor=0.0)',
                )
            count = spec.axis_sizes[axis]
            item = dataclasses.replace(item, heads=tuple(select(item.heads, count, axis)))
        if isinstance(item.change, OfModel):
            item = dataclasses.replace(item, change=item.change.make(spec))
        item = dataclasses.replace(item)  # as its function is now: what it closes over may have changed since
        item.key  # noqa: B018
        places = [item.at] if isinstance(item, StateEdit) else item.tokens or ()
        if negative := [p for p in places if p < 0]:
            raise InputError("token positions count from 0", got=negative, hint="len(run) - 1 for the last one")
        fitting.append(item)
    return tuple(fitting)
