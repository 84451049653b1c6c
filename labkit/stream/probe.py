"""Online probes: they are shown one chunk at a time and keep small rows."""

from collections.abc import Iterable, Sequence

import torch

from labkit.arguments import whole
from labkit.errors import InputError
from labkit.notation import label, select
from labkit.plan import ProbeCost
from labkit.spec import Spec
from labkit.trace import Run, layers_of


class Probe:
    """Base of online probes: named rows that grow chunk by chunk.

    A subclass sets `layers` in `needs`, adds rows in `eat` and turns them into a dataset in `result`. `blocks` says
    whether its dataset has the axis `block`.

    Args:
        layers: layers to watch; None for all that fit the probe.
        block: rows are reduced over so many tokens, so that results stay small at a million tokens; 1 keeps all.
    """

    blocks = False

    def __init__(self, *, layers=None, block=1):
        self.asked, self.block = layers, whole(block, "block", least=1)
        self.layers: tuple[int, ...] = ()
        self.rows: dict[str, list[torch.Tensor]] = {}

    def needs(self, spec: Spec) -> dict[int, Sequence[str]]:
        """Settle `self.layers` for this model; returns `{layer: seam names}`."""
        raise NotImplementedError

    def outputs(self, spec: Spec) -> dict[str, dict[str, int | None]]:
        """`{variable: {axis: size, or None where a coordinate aligns it}}` of the dataset; after `needs`."""
        return {}

    def check(self, tokens: int) -> None:
        """Refuse a prompt of so many tokens that does not hold what is asked for; before anything runs."""

    def cost(self, spec: Spec, *, tokens: int, chunk: int, width: int) -> ProbeCost:
        """What the probe needs beside the seams, asked before anything runs; after `needs` and `check`.

        A probe that does not say it is taken to copy the seams of its largest layer twice, in float32.

        Args:
            tokens: of the prompt. chunk: tokens of a chunk. width: bytes of an activation.
        """
        needed = self.needs(spec).items()
        seams = [sum(spec.seams[spec.kind(layer)][name].width(spec) for name in names) for layer, names in needed]
        return ProbeCost(8 * chunk * max(seams, default=0))

    def eat(self, run: Run) -> None:
        """Look at one chunk."""
        raise NotImplementedError

    def result(self, model: str) -> "xarray.Dataset":  # noqa: F821
        """The dataset of everything eaten so far."""
        raise NotImplementedError

    def signature(self) -> list:
        """What must be equal for a checkpoint to be continued."""
        return [type(self).__name__, list(self.layers), self.block]

    def add(self, name: str, value: torch.Tensor) -> None:
        """Append a row; it moves to the CPU."""
        self.rows.setdefault(name, []).append(value.detach().cpu())

    def column(self, name: str) -> torch.Tensor:
        """All rows of a name, joined."""
        joined = torch.cat(self.rows[name])
        self.rows[name] = [joined]
        return joined

    def lengths(self) -> dict[str, int]:
        """How many rows there are of every name."""
        return {name: sum(map(len, rows)) for name, rows in self.rows.items()}

    def cut(self, lengths: dict[str, int]) -> None:
        """Back to so many rows of every name: what an interrupted chunk added goes."""
        self.rows = {name: [self.column(name)[:length]] for name, length in lengths.items()}

    def reduced(self, x: torch.Tensor, how: str) -> torch.Tensor:
        """[token, ...] -> [block, ...] by "mean" or "sum"; the last block may be shorter."""
        parts = [getattr(part, how)(0) for part in x.split(self.block)]
        return torch.stack(parts)


def listed(probes: Probe | Iterable[Probe]) -> list[Probe]:
    """The probes of a stream as a list.

    Raises:
        InputError: none, something else than probes, one object twice.
    """
    hint = "lab.stream(run.ids, probes=[deltanet.gates()])"
    given = [probes] if isinstance(probes, Probe) or not isinstance(probes, Iterable) else list(probes)
    if not given:
        raise InputError("nothing to watch", got="no probes", hint=hint)
    if wrong := [type(probe).__name__ for probe in given if not isinstance(probe, Probe)]:
        raise InputError("not a probe", got=wrong[0], expected="what deltanet.gates() returns, say", hint=hint)
    if len(set(map(id, given))) < len(given):
        _twice(next(probe for n, probe in enumerate(given) if any(probe is other for other in given[:n])))
    return given


def check_distinct(probes: Sequence[Probe]) -> None:
    """Refuse two probes that watch the same, after `needs` and `check`: one of them would be eaten for nothing.

    Raises:
        InputError: two of one signature.
    """
    seen = []
    for probe in probes:
        if (signature := [getattr(probe, "name", ""), *probe.signature()]) in seen:
            _twice(probe)
        seen.append(signature)


def _twice(probe):
    name = getattr(probe, "name", type(probe).__name__)
    got = f"{name} of layers {list(probe.layers)}" if probe.layers else name
    raise InputError("a probe is given twice", got=got, expected="each probe once")


def of_kind(layers: int | Sequence[int] | None, spec: Spec, kind: str, instead: str) -> tuple[int, ...]:
    """The layers of a kind among these, for a probe; None is all of them. `instead` names the probe for the other kind.
    Raises as `trace.layers_of`."""
    return tuple(dict.fromkeys(layers_of(spec, layers, kind, "this probe", instead)))


class Capture(Probe):
    """Keep whole seams at chosen tokens."""

    def __init__(self, seam, *, tokens, layers=None):
        super().__init__(layers=layers, block=1)
        self.seam, self.asked_tokens, self.tokens = seam, tokens, []

    def needs(self, spec: Spec) -> dict[int, Sequence[str]]:
        fits = [at for at in range(spec.layers) if self.seam in spec.seams[spec.kind(at)]]
        if not fits:
            known = sorted({name for seams in spec.seams.values() for name in seams})
            raise InputError("unknown seam", got=self.seam, expected=known)
        self.layers = tuple(dict.fromkeys(fits if self.asked is None else select(self.asked, spec.layers, "layer")))
        if wrong := sorted(set(self.layers) - set(fits)):
            raise InputError(f"these layers have no seam {self.seam!r}", got=wrong, expected=fits)
        places = {layer: spec.seams[spec.kind(layer)][self.seam] for layer in self.layers}
        if len({place.dims for place in places.values()}) > 1:
            kinds = {kind: [layer for layer in self.layers if spec.kind(layer) == kind] for kind in spec.seams}
            got, hint = f"{self.seam!r} of layers of both kinds", f"one probe for layers={kinds['deltanet']}, say"
            raise InputError("a seam with other axes in the two kinds of layer", got=got, hint=hint)
        self.place = places[self.layers[0]]
        return dict.fromkeys(self.layers, (self.seam,))

    def check(self, tokens: int) -> None:
        self.tokens = sorted(set(select(self.asked_tokens, tokens, "token")))

    def outputs(self, spec: Spec) -> dict[str, dict[str, int | None]]:
        sizes = dict(zip(self.place.dims, self.place.shape(spec), strict=True))
        return {self.seam: {"token": None, "layer": None} | sizes}

    def cost(self, spec: Spec, *, tokens: int, chunk: int, width: int) -> ProbeCost:
        row = len(self.layers) * self.place.width(spec) * width
        return ProbeCost(2 * min(len(self.tokens), chunk) * row, len(self.tokens) * row, 2 * len(self.tokens) * row)

    def signature(self) -> list:
        return [*super().signature(), self.seam, list(self.tokens)]

    def eat(self, run: Run) -> None:
        rows = [token - run.start.length for token in self.tokens if 0 <= token - run.start.length < len(run)]
        self.add("at", run.positions[rows])
        self.add("values", torch.stack([run.seams[layer, self.seam][rows] for layer in self.layers], 1))

    def result(self, model: str) -> "xarray.Dataset":  # noqa: F821
        heads = self.place.dims[:1] if self.place.dims != ("channel",) else ()
        dims = ("layer", *heads, "token", *self.place.dims[len(heads) :])
        values = self.column("values").transpose(0, 1)  # [layer, token, *dims]
        values = values.transpose(1, 2) if heads else values
        coords = {"token": self.column("at"), "layer": list(self.layers)}
        facts = {"model": model, "reading": f"stream.capture {self.seam}"}
        return label({self.seam: (dims, values, self.place.quantity)}, coords=coords, attrs=facts)


def capture(seam: str, *, tokens: int | Sequence[int], layers: int | Sequence[int] | None = None) -> Capture:
    """A probe that keeps one seam, whole, at chosen tokens: (layer, head, token, ...), or (layer, token, channel).

    Args:
        seam: name from `lab.spec.seams`.
        tokens: of the prompt, negative from its end.
        layers: layers that have this seam; None for all of them.
    """
    return Capture(seam, tokens=tokens, layers=layers)
