"""A run that was packed: it answers what was asked when it was made, and says clearly what it does not hold."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch

from labkit.errors import InputError, SeamError
from labkit.notation import select
from labkit.packs import requests
from labkit.packs.labels import Labelled
from labkit.packs.requests import Request
from labkit.reading import Stored
from labkit.trace import Seams

HEADS = {"deltanet": ("head", "value_heads"), "attention": ("query_head", "query_heads")}
HEADS["experts"] = HEADS["deltanet"]  # of either kind of layer; their readings have no axis of heads
NEEDED = "a pack holds chosen readings; for others trace the prompt with the model"


class PackedSeams(Seams):
    """The seams of a packed run."""

    def __getitem__(self, key):
        if key in self:
            return super().__getitem__(key)
        layer, name = key if isinstance(key, tuple) and len(key) == 2 else (key, None)
        held = ", ".join(f"{seam!r} of layer {at}" for at, seam in list(self)[:8]) or "no seams"
        raise SeamError(f"seam {name!r} of layer {layer} is not in this pack", got=key, expected=held, hint=NEEDED)


class Datasets(Mapping):
    """What else was measured, `{name: Dataset}`; each is made anew when it is looked at."""

    def __init__(self, made: Mapping[str, Labelled], array: Callable):
        self._made, self._array = made, array

    def __getitem__(self, name):
        if name not in self._made:
            held = ", ".join(self._made) or "none"
            raise SeamError("this pack holds no such dataset", got=ascii(name)[:80], expected=held)
        return self._made[name].dataset(self._array)

    def __contains__(self, name):
        return name in self._made

    def __iter__(self):
        return iter(self._made)

    def __len__(self):
        return len(self._made)


@dataclasses.dataclass(frozen=True)
class Answer:
    """One request and the Dataset of each of its layers, before its arrays are read."""

    request: Request
    layers: dict[int, Labelled]


class Packed(Stored):
    """A `Run` out of a pack: `deltanet.memory(run, layer=...)` answers from what was stored.

    It has the tokens (unless they were left out), spec, identity, parity and scaling of the run, and the seams that
    were chosen. Logits, rotary angles, weights and the start of the run are not in it.

    Attributes:
        facts: what was written of the run. held: the numbers by name, read by `array` when they are asked for.
        size: bytes of the file. bits: of stored numbers. written: version of labkit that wrote it.
        datasets: `{name: Dataset}` of what else was measured.
        seam_errors: `{(layer, seam): largest error}` of seams that were rounded.
        answered: what it can answer. mark: what tells the run from others; None without its tokens.
    """

    def __init__(self, facts: Mapping, held: Mapping, answered: Sequence[Answer], array: Callable):
        self.__dict__.update(facts)  # frozen: nothing is set later
        self.__dict__.update(held)
        self.__dict__.update(answered=tuple(answered), graph=None, states={}, array_of=array)

    def __getattr__(self, name):
        if name in ABSENT:
            raise SeamError(f"a pack holds no {name}", got=ABSENT[name], expected=_names(self), hint=NEEDED)
        raise AttributeError(f"a packed run has no {name!r}")

    def __len__(self):
        return self.count

    @property
    def layers(self) -> tuple[int, ...]:
        """The layers that something is known of."""
        known = {layer for each in self.answered for layer in each.layers}
        return tuple(sorted(known | {layer for layer, _ in self.seams}))

    @property
    def positions(self) -> torch.Tensor:
        """Absolute positions of the run's tokens, [token]."""
        return torch.arange(self.count) + self.length

    @property
    def readings(self) -> tuple[str, ...]:
        """The calls that it answers, as they are written."""
        return tuple(each.request.call(list(each.layers)) for each in self.answered)

    def __repr__(self):
        lines = [f"Run({len(self)} tokens, of a pack of {self.size:,} bytes, {self.bits} bits a number)"]
        more = [f"  datasets {', '.join(self.datasets)}"] if self.datasets else []
        return "\n".join([*lines, *(f"  {call}" for call in self.readings), *more])

    def answers(self, read: Callable, more: Sequence, layers: Sequence[int], chosen: Mapping) -> list:
        """See `labkit.reading.Stored`: layers and heads may be fewer than were stored, all else must be the same."""
        request = requests.asked(read, self, more, layers, chosen)
        axis, count = HEADS[read.needs.kind][0], getattr(self.spec, HEADS[read.needs.kind][1])
        given = request.arguments.get("heads")
        heads = select(given, count, axis) if "heads" in request.arguments else None
        return [self._answer(read, request, layer, axis, heads, layers) for layer in layers]

    def _answer(self, read, request, layer, axis, heads, layers):
        """The Dataset of one layer."""
        usual = requests.defaults(read, self)
        for each in self.answered:
            made, stored = each.layers.get(layer), each.request
            if made is None or stored.reading != request.reading:
                continue
            if usual | stored.others != usual | request.others:  # a pack may be older than an argument
                continue
            if stored.owned and stored.arguments != request.arguments:
                continue
            if axis not in made.sizes or heads is None:
                return made.dataset(self.array_of)
            known = np.atleast_1d(self.array_of(made.coords[axis].stored)).tolist()
            if set(heads) <= set(known):
                data = made.dataset(self.array_of)
                places = [known.index(head) for head in heads]
                both = [dim for dim in (axis, "other_head") if dim in made.sizes]  # heads beside each other
                return data if heads == known else data.isel(dict.fromkeys(both, places))
        raise self._refused(read, request, layers)

    def _refused(self, read, request, layers):
        usual = requests.defaults(read, self)
        held = [each for each in self.answered if each.request.reading == request.reading]
        calls = [each.request.call(list(each.layers), usual) for each in held]
        return SeamError(
            f"this pack does not hold that {request.reading}",
            got=request.call(layers[0] if len(layers) == 1 else layers, usual),
            expected="; ".join(calls[:8]) or f"no {request.reading}; {_names(self)}",
            hint=f"{calls[0]}, with fewer layers or heads; {NEEDED}" if calls else NEEDED,
        )

    def save(self, folder: object) -> None:
        """Not of a packed run, which is a file.

        Raises:
            InputError: always.
        """
        hint = "copy its file, or make a smaller one with lk.pack(run, path, readings=[...])"
        raise InputError("a packed run is saved already", got=ascii(str(folder))[:80], hint=hint)


ABSENT = {  # what a packed run cannot have, and where it would come from
    "ids": "its token ids were left out (texts=False)",
    "logits": "logits, as wide as the vocabulary",
    "logit_tokens": "logits, as wide as the vocabulary",
    "rotary": "what the inside of a layer is computed from",
    "parameters": "what the inside of a layer is computed from",
    "start": "what the inside of a layer is computed from",
}


def _names(run):
    return "readings " + (", ".join(sorted({each.request.reading for each in run.answered})) or "none")
