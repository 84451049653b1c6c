"""What a family record holds: `Seam`, a tensor that crosses a module boundary; `Part` of an MLP; and `Family`.

Nothing here imports torch or transformers before a model is asked for.
"""

import dataclasses
import functools
import importlib
import math
from collections.abc import Callable, Iterable, Mapping
from types import ModuleType

DELTANET, ATTENTION = "deltanet", "attention"


@dataclasses.dataclass(frozen=True)
class Seam:
    """Where one tensor crosses a module boundary of a decoder layer.

    Attributes:
        path: the module, dotted, below the decoder layer; "" is the layer itself.
        side: "out" (what the module returns; the first entry of a tuple) or "in" (its first positional argument).
        dims: axes after `token`; the first one is a head axis or a vector's only one.
        quantity: what the numbers are, a key of `notation.QUANTITIES`.
        part: None, or (index, parts): which of `parts` equal pieces of every head's channels.
        channels: None, or spec -> for every channel of the seam its place among those of the module, where the module
            interleaves them; it chooses a part by itself.
        size: field of `Spec` that counts the channels of a seam without heads.
        whole: None, or spec -> numbers per token of the module's tensor, where `channels` chooses some of them.
        entry: which entry of a tuple that the module returns.
        follow: None, or (changed entry [batch·token, ...], spec) -> the entries after it, which an edit of this one
            decides at its tokens.
        indexes: None, or the axis whose entries the seam names by whole numbers; such a seam cannot be edited.
    """

    path: str
    side: str
    dims: tuple[str, ...]
    quantity: str
    part: tuple[int, int] | None = None
    channels: Callable | None = None
    size: str = "hidden"
    whole: Callable | None = None
    entry: int = 0
    follow: Callable | None = None
    indexes: str | None = None

    def __post_init__(self):
        if self.part is not None and self.channels is not None:
            raise ValueError(f"{self.path}: channels choose a part by themselves; leave part out")

    def shape(self, spec) -> tuple[int, ...]:
        """Lengths of its axes after `token`."""
        sizes = spec.axis_sizes
        return tuple(getattr(spec, self.size) if axis == "channel" else sizes[axis] for axis in self.dims)

    def width(self, spec) -> int:
        """Numbers per token that the module's tensor holds; a part keeps the whole tensor alive."""
        if self.whole is not None:
            return self.whole(spec)
        return (1 if self.part is None else self.part[1]) * math.prod(self.shape(spec))

    @property
    def source(self) -> tuple[str, str, int]:
        """The tensor that it is read from: seams of one source share its memory."""
        return self.path, self.side, self.entry

    def read(self, tensor, spec, batch: int, tokens: int):
        """The seam [batch, token, *dims] of what crosses the boundary; a view unless the channels are interleaved."""
        if self.channels is not None:
            import torch

            whole = tensor.reshape(batch, tokens, -1)
            tensor = torch.cat([whole[..., run] for run in runs(tuple(self.channels(spec)))], -1)
        if self.part is not None:
            index, parts = self.part
            return tensor.view(batch, tokens, spec.axis_sizes[self.dims[0]], parts, -1).select(3, index)
        if len(self.dims) == 1:
            return tensor.view(batch, tokens, -1)
        return tensor.reshape(batch, tokens, spec.axis_sizes[self.dims[0]], -1)

    def write(self, tensor, values, spec, batch: int, tokens: int) -> None:
        """Put changed values of `read` back into a contiguous tensor; views are there already."""
        if self.channels is not None:
            whole, values, first = tensor.view(batch, tokens, -1), values.reshape(batch, tokens, -1), 0
            for run in runs(tuple(self.channels(spec))):
                last = first + run.stop - run.start
                whole[..., run] = values[..., first:last]
                first = last


@functools.lru_cache(maxsize=64)
def runs(places: tuple[int, ...]) -> tuple[slice, ...]:
    """Places as slices of neighbours, in their order: slices need no index on the card, so a step can be recorded."""
    starts = [i for i, place in enumerate(places) if not i or place != places[i - 1] + 1]
    return tuple(slice(places[a], places[b - 1] + 1) for a, b in zip(starts, [*starts[1:], len(places)], strict=True))


@dataclasses.dataclass(frozen=True)
class Part:
    """Parameters of a part of one layer's MLP.

    Attributes:
        count: how many there are. active: how many of them one token uses.
        form: "linear", a linear layer, which every quantisation packs; "stacked", all experts in one tensor, which few
            pack (`labkit.spec.PACKED`); "small", which stays as it is.
    """

    count: int
    active: int
    form: str = "linear"


@dataclasses.dataclass(frozen=True)
class Family:
    """One family of models.

    Attributes:
        name: key in `FAMILIES`, kept in every `Spec`. title: for people.
        model_types: of the image-text and of the text configuration, or of the text configuration alone.
        causal, conditional: names of transformers' text and image-text classes; None where there is no such class.
        modeling: module that holds the classes and, as globals, the kernels.
        kernels: `{operation: name of the global}`.
        kinds: `{transformers' layer type: "deltanet" or "attention"}`.
        seams: `{kind: {name: Seam}}`. parameters: `{kind: {name: path}}` of small weights that readings need.
        projections: `{kind: path}` of the linear layer from heads to the residual stream.
        branch_norms: `{kind: path}` of the norm that a mixer's branch passes before it is added, where there is one.
        sizes: `{field of Spec: field of the text configuration}`.
        derived: text configuration -> fields of `Spec` that are not among its fields, such as the largest write.
        mlp: spec -> `Part`s of the MLP of one layer.
        mixers: `{kind: spec -> parameters of a mixer, and how many of them quantisation leaves as they are}`, where
            that is not Gated DeltaNet, or gated attention with norms of single heads (`labkit.spec.memory`).
        settled: text configuration -> the same with the fields that `sizes` names, where files write them elsewhere.
        stored_fields: names of fields that files have, that transformers converts and that are not among its own.
        unread: `{kind: why}` of layers that are traced and edited, but have no readings.
        rotated: share of a head's channels that is rotated where the configuration names none; 0 is never any.
        unrotated: whether a rope_theta of null means that nothing is rotated.
        unquantized: names of modules that quantisation leaves as they are.
        fused: `{name of a tensor of a layer: names of its pieces}`, `{}` standing for the expert, where checkpoints may
            store experts apart: row after row of each piece in this order, expert after expert.
        joined: `{name of a tensor of a layer: {name of a piece: tensor of the layer with as many rows}}`, where
            checkpoints store its rows in pieces, in this order; transformers itself cuts it into equal ones.
        renamed: `{part of a stored name: what the model calls it}`.
        text_prefix: of text tensors in an image-text checkpoint, where there is such a class. skipped: prefixes of
            tensors that are not loaded.
        carried: attributes of the image-text model in which one call leaves rotary positions to the next.
        gguf: architecture in a .gguf file, or None. mlx: whether MLX stores it as `labkit.zoo.unpacking` reads.
    """

    name: str
    title: str
    model_types: tuple[str, ...]
    causal: str
    conditional: str | None
    modeling: str
    kernels: Mapping[str, str]
    kinds: Mapping[str, str]
    seams: Mapping[str, Mapping[str, Seam]]
    parameters: Mapping[str, Mapping[str, str]]
    projections: Mapping[str, str]
    sizes: Mapping[str, str]
    mlp: Callable[..., tuple[Part, ...]]
    unquantized: tuple[str, ...]
    fused: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    text_prefix: str = "model."
    skipped: tuple[str, ...] = ("mtp.", "model.visual.", "visual.")
    carried: tuple[str, ...] = ("rope_deltas",)
    gguf: str | None = None
    mlx: bool = False
    joined: Mapping[str, Mapping[str, str]] = dataclasses.field(default_factory=dict)
    renamed: Mapping[str, str] = dataclasses.field(default_factory=dict)
    branch_norms: Mapping[str, str] = dataclasses.field(default_factory=dict)
    derived: Callable[[Mapping], dict] = lambda text: {}
    mixers: Mapping[str, Callable[..., tuple[int, int]]] = dataclasses.field(default_factory=dict)
    settled: Callable[[Mapping], Mapping] = lambda text: text
    stored_fields: tuple[str, ...] = ()
    unread: Mapping[str, str] = dataclasses.field(default_factory=dict)
    rotated: float = 0.25
    unrotated: bool = False

    def module(self) -> ModuleType:
        """The module with the classes and the kernels, imported."""
        return importlib.import_module(self.modeling)

    def model_class(self, *, images: bool = False) -> type:
        """transformers' class of the text model, or of the one with an image tower."""
        return getattr(self.module(), self.conditional if images else self.causal)

    def classes(self) -> tuple[type, ...]:
        """Both of them, or the one that there is."""
        return tuple(getattr(self.module(), name) for name in (self.causal, self.conditional) if name)

    def text_part(self, config: Mapping):
        """The text configuration inside one of this family: `text_config` of an image-text one, else it itself."""
        images = self.conditional is not None and config["model_type"] == self.model_types[0]
        return config.get("text_config") if images else config

    def configuration(self, **fields):
        """A text configuration from fields of `Spec` and of the configuration itself."""
        return self.model_class().config_class(**{self.sizes.get(name, name): size for name, size in fields.items()})

    def place(self, stored: str) -> str | None:
        """The model's name of a tensor in a checkpoint; None for what is not loaded."""
        if stored.startswith(self.skipped):
            return None
        for theirs, ours in self.renamed.items():
            stored = stored.replace(theirs, ours)
        bare = stored.removeprefix(self.text_prefix)
        return stored if bare == stored else f"model.{bare}"

    def stored_shapes(self, shapes: Mapping[str, tuple], names: Iterable[str]) -> dict[str, tuple]:
        """`{name: shape}` of the model's tensors as a checkpoint stores them.

        Args:
            shapes: of the model. names: of the checkpoint's tensors, by the model's prefixes (`place`); with their
                shapes, as a dict, pieces of joined rows may be cut anywhere.

        Returns:
            dict: fused experts and joined rows in pieces where the checkpoint has any piece of them.
        """
        known = names if isinstance(names, Mapping) else {}
        names, expected = set(names), {}
        for name, shape in shapes.items():
            tail = next((tail for tail in self.fused if name.endswith(tail)), None)
            pieces = {}
            if tail is not None:
                head, parts = name.removesuffix(tail), self.fused[tail]
                rows = (shape[1] // len(parts), *shape[2:])
                pieces = {head + part.format(expert): rows for expert in range(shape[0]) for part in parts}
            if (tail := next((tail for tail in self.joined if name.endswith(tail)), None)) is not None:
                head = name.removesuffix(tail)
                rows = {head + piece: shapes[head + like][0] for piece, like in self.joined[tail].items()}
                cut = [known[piece] for piece in rows if piece in known]
                if len(cut) == len(rows) and all(map(len, cut)) and sum(piece[0] for piece in cut) == shape[0]:
                    rows = {piece: known[piece][0] for piece in rows}
                pieces = {piece: (count, *shape[1:]) for piece, count in rows.items()}
            expected |= pieces if names & pieces.keys() else {name: tuple(shape)}
        return expected


COMMON = {
    "resid_pre": Seam("", "in", ("channel",), "residual"),
    "mixer_in": Seam("input_layernorm", "out", ("channel",), "normed"),
    "mlp_out": Seam("mlp", "out", ("channel",), "added"),
    "resid_post": Seam("", "out", ("channel",), "residual"),
}
