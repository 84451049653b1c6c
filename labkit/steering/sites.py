"""Where a model is steered: a seam of a layer, the values of a DeltaNet layer, or its recurrent state.

A head writes β k vᵀ into its state. No seam carries that product, but each factor comes from one: `qkv` (or `v`), its
last channels being v before convolution and SiLU, and `b`, from which β = σ(b). So "v" is a site of every DeltaNet
layer, and gates are the seams `a`, `b`, `z` and, of attention, `gate`.
"""

import base64
import dataclasses
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from labkit import edit
from labkit.arguments import number, whole
from labkit.calling import public
from labkit.errors import InputError, LayerError
from labkit.lab import Lab
from labkit.notation import Quantity, select, whole_numbers
from labkit.spec import Spec
from labkit.trace import layers_of

if TYPE_CHECKING:
    import xarray

Prompt = str | Sequence[int] | torch.Tensor
STATE, VALUES, MIXED = "state", "v", "qkv"
SOURCE = "arXiv 2310.01405"
DIRECTION = Quantity("d", "direction, of norm 1", "1", "signed", SOURCE)
NORM = Quantity("‖x‖", "mean norm of what is there: a dose of 1", "norm", "positive", SOURCE)
FACTS = ("seam", "reading", "token")


@dataclasses.dataclass(frozen=True)
class Site:
    """One place of one layer.

    Attributes:
        layer: index in the stack. seam: as it is asked for. crossed: the seam that carries it; None for a state.
        dims, shape: axes of what is there at one token, all heads.
    """

    layer: int
    seam: str
    crossed: str | None
    dims: tuple[str, ...]
    shape: tuple[int, ...]

    @classmethod
    def of(cls, spec: Spec, layer: int, seam: str, name: str) -> "Site":
        """Of a model, for the call `name`.

        Raises:
            LayerError: a seam that the layer does not have, or one that names things by number.
        """
        kind = spec.kind(layer)
        seams, sizes = spec.seams[kind], spec.axis_sizes
        if seam == STATE:
            layers_of(spec, layer, "deltanet", name, 'edit.scale("v", layer={layer}, factor=0.0)')
            dims = ("head", "key", "value")
            return cls(layer, seam, None, dims, tuple(sizes[axis] for axis in dims))
        if seam == VALUES and seam not in seams and MIXED in seams:
            dims = ("head", "value")
            return cls(layer, seam, MIXED, dims, tuple(sizes[axis] for axis in dims))
        if seam not in seams or seams[seam].indexes is not None:
            more = [VALUES, STATE] if kind == "deltanet" else []
            there = [each for each in seams if seams[each].indexes is None]
            expected = ", ".join(dict.fromkeys([*there, *more]))
            raise LayerError(f"{name}: layer {layer} is not steered here", got=f"seam {seam!r}", expected=expected)
        return cls(layer, seam, seam, seams[seam].dims, seams[seam].shape(spec))

    def heads(self, chosen: int | Sequence[int] | None) -> list[int] | None:
        """Heads of the site as a list; None where all are meant, or where there are none.

        Raises:
            InputError: out of range. LayerError: a site without heads.
        """
        if chosen is None:
            return None
        if self.dims[0] == "channel":
            got = f"heads={chosen!r} at {self.seam!r} of layer {self.layer}"
            raise LayerError("this seam has no heads", got=got, expected="gated, read, v, state, b, ...")
        return select(chosen, self.shape[0], self.dims[0])


def values(lab: Lab, prompts: Sequence[Prompt], sites: Sequence[Site], token: int) -> dict[Site, torch.Tensor]:
    """What is at some sites while prompts are read, {site: [prompt, *shape]}, float32 on the CPU.

    Args:
        token: relative to each prompt's first, negative from its end; a state is that after this token.
    """
    found = {site: [] for site in sites}
    seams = {site.crossed for site in sites if site.crossed is not None}
    layers = sorted({site.layer for site in sites if site.crossed is not None})
    for prompt in prompts:
        ids = lab.encode(prompt)
        at = select(token, len(ids), "token")[0]
        cache = lab.cache() if any(site.crossed is None for site in found) else None
        run = lab.trace(ids[: at + 1], layers=layers, seams=seams or None, cache=cache)
        for site in found:  # each once, however often it was named
            if site.crossed is None:
                there = cache.layers[site.layer].recurrent_states[0][0]
            else:
                there = run.seams[site.layer, site.crossed][at]
                there = there[-math.prod(site.shape) :] if site.crossed != site.seam else there
            found[site].append(there.float().cpu().reshape(site.shape).clone())
    return {site: torch.stack(rows) for site, rows in found.items()}


@dataclasses.dataclass(frozen=True)
class Arrow:
    """A direction, understood: what may be added, and where.

    Attributes:
        site: where. heads: those it is of; None for all. unit: [*shape] of these heads, of norm 1.
        norm: mean norm of what was there.
    """

    site: Site
    heads: list[int] | None
    unit: torch.Tensor
    norm: float

    @classmethod
    def of(cls, lab: Lab, ds: "xarray.Dataset", name: str) -> "Arrow":
        """From a Dataset of `steering.difference` or `steering.probe`, of one layer.

        Raises:
            InputError: another Dataset, several layers, or a direction of another model.
        """
        found = getattr(ds, "variables", {})
        missing = [each for each in ("direction", "norm", "layer") if each not in found]
        if missing or "seam" not in ds.attrs:
            got = f"{type(ds).__name__} without {', '.join(missing or ['its seam'])}"
            raise InputError(f"{name}: no direction", got=got, expected="what steering.difference gives")
        if ds.layer.ndim:
            got, hint = f"layers {ds.layer.values.tolist()}", "one of them: direction.sel(layer=...)"
            raise InputError(f"{name}: a direction is of one layer", got=got, hint=hint)
        site = Site.of(lab.spec, int(ds.layer), ds.attrs["seam"], name)
        axis = site.dims[0]
        if ds.norm.ndim:
            got, hint = f"{len(ds.norm)} of them, one for each {axis}", f"one of them: direction.sel({axis}=...)"
            raise InputError(f"{name}: a direction has one norm", got=got, hint=hint)
        heads = None if axis == "channel" else [int(head) for head in np.atleast_1d(ds[axis].values)]
        length = site.shape[0] if heads is None else len(select(heads, site.shape[0], axis))
        unit = torch.from_numpy(np.array(ds.direction.values, dtype="float32"))
        unit = unit[None] if heads is not None and not ds[axis].ndim else unit
        if tuple(unit.shape) != (length, *site.shape[1:]) or not bool(unit.isfinite().all()):
            expected = f"finite numbers {[length, *site.shape[1:]]}"
            raise InputError(f"{name}: a direction of another model", got=list(unit.shape), expected=expected)
        return cls(site, heads, unit, number(float(ds.norm), "norm", least=0))

    def told(self) -> dict:
        """It, as JSON can hold it; `retold` is the way back."""
        numbers = base64.b64encode(self.unit.contiguous().numpy().tobytes()).decode()
        shape = list(self.unit.shape)
        where = dict(layer=self.site.layer, seam=self.site.seam, heads=self.heads)
        return where | dict(shape=shape, numbers=numbers, norm=self.norm)

    @classmethod
    def retold(cls, spec: Spec, told: dict) -> "Arrow":
        """From what `told` gave."""
        numbers = np.frombuffer(base64.b64decode(told["numbers"]), dtype="float32").copy()
        site = Site.of(spec, told["layer"], told["seam"], "steering")
        return cls(site, told["heads"], torch.from_numpy(numbers).view(told["shape"]), told["norm"])

    def edit(self, lab: Lab, vectors: torch.Tensor, start: int) -> edit.SeamEdit | edit.StateEdit:
        """The edit that adds vectors [row, *shape], one for every row of a batch, or one for all.

        Args:
            start: absolute position of the first token that is read under it.
        """
        site, heads = self.site, self.heads
        if site.crossed is None:
            if not start:
                expected, hint = "start=1 or later", "steering.begin, a state before the first token"
                raise InputError("a state is changed after a token", got="start=0", expected=expected, hint=hint)
            plus = lambda old: old + vectors.to(old)
            return edit.state(plus, layer=site.layer, at=start - 1, heads=heads)
        if site.crossed != site.seam:  # values among other channels
            whole_row = torch.zeros(len(vectors), lab.spec.conv_channels)
            last = whole_row[:, -math.prod(site.shape) :].view(-1, *site.shape)
            last[:, slice(None) if heads is None else heads] = vectors
            vectors, heads = whole_row, None
        vectors = vectors[:, None]
        tokens = None if not start else range(start, lab.window)
        add = lambda x, at: x + vectors.to(x)
        return edit.function(add, seam=site.crossed, layer=site.layer, heads=heads, tokens=tokens, name="steer")


@public
def add(lab: Lab, direction: "xarray.Dataset", *, dose: float, start: int = 0) -> edit.SeamEdit | edit.StateEdit:
    """An edit that adds a direction, for `lab.edit`: `with lab.edit(steering.add(lab, direction, dose=0.5)): ...`

    Args:
        direction: of one layer, from `steering.difference` or `steering.probe`.
        dose: in units of the mean norm of what is there; negative goes the other way.
        start: absolute position of the first token that is read under it: it acts on this one and on all that follow,
            in prefill and while tokens are generated. A state is changed once, between the token before and this one,
            and carries the change on.

    Raises:
        InputError: no direction of this model, a dose that is no number, `start` 0 of a state.
    """
    arrow, dose = Arrow.of(lab, direction, "steering.add"), number(dose, "dose")
    start = whole(start, "start", least=0, most=lab.window - 1)
    return arrow.edit(lab, dose * arrow.norm * arrow.unit[None], start)


def sites_of(lab: Lab, layer: int | Sequence[int], seam: str, name: str) -> list[Site]:
    """A site of each of some layers. Raises InputError and LayerError."""
    layers = whole_numbers(layer, "layer")
    if not layers:
        raise InputError(f"{name}: no layer chosen", expected="an int, or several")
    return [Site.of(lab.spec, each, seam, name) for each in select(layers, lab.spec.layers, "layer")]
