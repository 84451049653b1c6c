"""Linear maps of the stream into the basis of the last layer, one per layer: what a fitted lens is.

    tuned lens      norm(h + W h + b)    the stream before a layer         arXiv 2303.08112
    Jacobian lens   norm(J h)            the stream after a layer, J the mean of ∂h_last/∂h

and then the unembedding. The logit lens is the map that changes nothing.
"""

import dataclasses
import hashlib
import os
import pathlib
import types
from collections.abc import Mapping, Sequence

import numpy as np
import torch

from labkit.errors import InputError
from labkit.folders import told, whole
from labkit.lab import Lab
from labkit.notation import is_index, select, whole_numbers
from labkit.tables import Table

STREAMS = "resid_post", "resid_pre"
EDGE = 3  # rows and columns at each end that numpy prints of a large matrix
KINDS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


@dataclasses.dataclass(frozen=True, repr=False, eq=False)
class Lens(Table):
    """A lens that was fitted; `residual.lens(run, lab, by=lens)` reads through it.

    Attributes:
        maps: `{layer: [channel out, channel in]}`, as they were stored; a stream h becomes `maps[layer] @ h`.
        kind: "jacobian" or "tuned", or the name of another way to fit one.
        stream: which stream of a layer is mapped, "resid_post" after it or "resid_pre" before it.
        prompts: how many it was fitted on, if that is known.
        depth: layers of the model that it was fitted on, if that is known.
        biases: `{layer: [channel out]}`, added; empty for none.
        onto: whether a map is added to the stream (h + W h), as the tuned lens stores it.
        known: what else its files say: the model's name, its revision, the hash of its unembedding.

    Raises:
        InputError: no maps, maps that are not square and of one size, entries that are no numbers.
    """

    maps: Mapping[int, torch.Tensor]
    kind: str = "jacobian"
    stream: str = "resid_post"
    prompts: int | None = None
    depth: int | None = None
    biases: Mapping[int, torch.Tensor] = dataclasses.field(default_factory=dict)
    onto: bool = False
    known: Mapping = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        layers = whole_numbers(list(self.maps), "layer", least=0)
        if not layers:
            raise InputError("a lens without maps", got="no layer", expected="{layer: [channel, channel]}")
        if self.stream not in STREAMS:
            raise InputError("a lens maps the stream", got=f"stream {self.stream!r}", expected=" or ".join(STREAMS))
        if self.depth is not None and max(layers) >= self.depth:
            got = f"layer {max(layers)} of {self.depth}"
            raise InputError("a lens of a layer that its model lacks", got=got, expected=f"0 to {self.depth - 1}")
        width = self.maps[layers[0]].shape[-1] if getattr(self.maps[layers[0]], "ndim", 0) else 0
        for what, tensors, shape in (("map", self.maps, (width, width)), ("bias", self.biases, (width,))):
            for layer, tensor in tensors.items():
                _check(f"the {what} of layer {layer}", tensor, shape)
        if self.biases and set(self.biases) != set(layers):
            got = f"biases of layers {sorted(self.biases)[:8]}"
            raise InputError("a lens with biases has one for every map", got=got, expected=f"layers {layers[:8]}")
        for name in ("maps", "biases"):
            kept = {layer: tensor.detach() for layer, tensor in sorted(getattr(self, name).items())}
            object.__setattr__(self, name, types.MappingProxyType(kept))
        object.__setattr__(self, "known", types.MappingProxyType(dict(self.known)))

    @property
    def layers(self) -> list[int]:
        """Layers that it has maps of, ascending."""
        return list(self.maps)

    @property
    def width(self) -> int:
        """Channels of the stream."""
        return len(next(iter(self.maps.values())))

    @property
    def title(self) -> str:
        """What it is, in one line: "jacobian lens, 1,000 prompts"."""
        return f"{self.kind} lens" + ("" if self.prompts is None else f", {self.prompts:,} prompts")

    def facts(self) -> list[tuple[str, str, str]]:
        """Rows (group, name, value) of its table."""
        depth = "" if self.depth is None else f" of {self.depth}"
        maps = f"{len(self.maps)}{depth} layers, {self.layers[0]} to {self.layers[-1]}, {self.width:,} channels"
        rows = [("maps", "of", self.stream), ("maps", "layers", maps), ("maps", "biases", str(bool(self.biases)))]
        return rows + [("its files say", name, str(value)) for name, value in self.known.items()]

    def matrix(self, layer: int, like: torch.Tensor) -> torch.Tensor:
        """The whole map of a layer, [channel out, channel in], in the precision and place of `like`."""
        own = self.maps[layer].to(like.device, like.dtype)
        return own + torch.eye(self.width, device=like.device, dtype=like.dtype) if self.onto else own

    def carry(self, stream: torch.Tensor, layer: int) -> torch.Tensor:
        """The stream [..., channel] of a layer in the last layer's basis; in float32, or float64 where it is that."""
        h = stream if stream.dtype == torch.float64 else stream.float()
        own = self.maps[layer].to(h.device, h.dtype)
        made = h @ own.T
        if self.biases:
            made = made + self.biases[layer].to(h.device, h.dtype)
        return h + made if self.onto else made

    def save(self, path: str | os.PathLike) -> pathlib.Path:
        """Write it in the format of Jacobian lenses, in float16, whole or not at all; `jlens` loads it.

        Raises:
            InputError: a lens with biases, of the stream before a layer, of unknown prompts, or too large for float16.
            CheckpointError: the disk says no.
        """
        path, wrong = pathlib.Path(path).expanduser(), []
        wrong += [f"maps of {self.stream}"] if self.stream != "resid_post" else []
        wrong += ["biases"] if self.biases else []
        wrong += [] if self.prompts else [f"{self.prompts} prompts"]
        maps = {} if wrong else {layer: self.matrix(layer, torch.empty(0)).half() for layer in self.layers}
        wrong += [f"layer {layer} beyond float16" for layer, made in maps.items() if not torch.isfinite(made).all()]
        if wrong:
            expected = "maps of the stream after a layer without biases, of a known number of prompts, within 65,504"
            raise InputError("the format of Jacobian lenses cannot say this lens", got=wrong[0], expected=expected)
        held = {"J": maps, "n_prompts": int(self.prompts), "source_layers": self.layers, "d_model": self.width}
        with told("a lens cannot be written", path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with whole(path) as draft, draft.open("wb") as file:  # torch would write the draft's name into it
                torch.save(held, file)
        return path


def _check(name, tensor, shape):
    if not isinstance(tensor, torch.Tensor) or tensor.layout != torch.strided or tensor.device.type == "meta":
        raise InputError(f"{name} is no array of numbers", got=type(tensor).__name__, expected=f"tensor {list(shape)}")
    if tuple(tensor.shape) != shape or not len(tensor):
        expected = f"{list(shape)}, like the others" if len(shape) == 1 else "square maps of one size"
        raise InputError(f"{name} has another shape", got=list(tensor.shape), expected=expected)
    if tensor.dtype not in KINDS:
        expected = ", ".join(str(kind).removeprefix("torch.") for kind in KINDS)
        raise InputError(f"{name} holds no plain numbers", got=str(tensor.dtype), expected=expected)
    if not torch.isfinite(tensor).all():
        raise InputError(f"{name} has entries that are no numbers", got="NaN or infinite", expected="finite numbers")


def fitting(lens: Lens, lab: Lab, name: str) -> dict:
    """Refuse a lens of another model; what a Dataset says of one that fits.

    Raises:
        InputError: something else than a lens; other channels, other layers.
    """
    if not isinstance(lens, Lens):
        hint = "labkit.residual.open_lens(path)"
        raise InputError(f"{name}: no lens", got=type(lens).__name__, expected="by=, a residual.Lens", hint=hint)
    spec = lab.spec
    differing = [
        f"{what} {theirs:,}, here {own:,}"
        for what, theirs, own, fits in (
            ("channels", lens.width, spec.hidden, lens.width == spec.hidden),
            ("layers", lens.depth, spec.layers, lens.depth in (None, spec.layers)),
            ("a map of layer", lens.layers[-1], spec.layers, lens.layers[-1] < spec.layers),
        )
        if not fits
    ]
    if differing:
        model = lens.known.get("base_model_name_or_path", "another model")
        got = f"{lens.title} of {model}: {'; '.join(differing)}"
        raise InputError(f"{name}: the lens was fitted on another model", got=got, expected=f"a lens of {spec.name}")
    same = _same_unembedding(lens, lab)
    told = {} if same is None else {"unembedding": "that of the lens" if same else "not that of the lens"}
    return {"by": lens.title} | told


def _same_unembedding(lens, lab):
    """Whether the lens was fitted with this unembedding, by the hash that its files give; None where they give none.

    The hash is of what numpy prints of the matrix, to one digit: `tuned_lens/utils.py`, `tensor_hash`.
    """
    weight, known = lab.unembedding.weight, lens.known.get("unembed_hash")
    if known is None or not weight.is_floating_point():
        return None
    rows = [*range(EDGE + 1), *range(-EDGE, 0)]  # the middle one is not printed
    large = weight.numel() > 1000
    shown = weight.detach()[rows][:, rows] if large else weight.detach()
    with np.printoptions(threshold=0 if large else 1000, edgeitems=EDGE):
        text = np.array_str(shown.float().cpu().numpy(), precision=1)
    return hashlib.sha256(text.encode()).hexdigest() == known


def taken(lens: Lens | None, lab: Lab, layers: int | Sequence[int] | None, seam: str | None, name: str) -> tuple:
    """(layers, seam, facts) that a reading by a lens is of; without a lens those that were asked for.

    Raises:
        InputError: as `fitting`; a layer that the lens has no map of, another stream than it maps.
    """
    if lens is None:
        return select(layers, lab.spec.layers, "layer"), seam or STREAMS[0], {}
    facts = fitting(lens, lab, name)
    if seam not in (None, lens.stream):
        raise InputError(f"{name}: the lens maps another stream", got=f"seam {seam!r}", expected=lens.stream)
    found = lens.layers if layers is None else select(layers, lab.spec.layers, "layer")
    if missing := [layer for layer in found if layer not in lens.maps]:
        shown = str(lens.layers[0]) if len(lens.layers) == 1 else f"{lens.layers[0]} to {lens.layers[-1]}"
        expected = f"layers that it maps, {shown}" + ("" if is_index(layers) else ", or None for all of them")
        raise InputError(f"{name}: the lens has no map of a layer", got=missing[:8], expected=expected)
    return found, lens.stream, facts
