"""What a family record holds: `Seam`, a tensor that crosses a module boundary, and `Family`."""

import dataclasses
from collections.abc import Callable, Mapping

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
            interleaves them.
        size: field of `Spec` that counts the channels of a seam without heads.
    """

    path: str
    side: str
    dims: tuple[str, ...]
    quantity: str
    part: tuple[int, int] | None = None
    channels: Callable | None = None
    size: str = "hidden"

    def width(self, spec) -> int:
        """Numbers per token that the module's tensor holds; a part keeps the whole tensor alive."""
        if self.dims == ("channel",):
            return getattr(spec, self.size)
        count = 1 if self.part is None else self.part[1]
        for axis in self.dims:
            count *= spec.axis_sizes[axis]
        return count

    def read(self, tensor, spec, batch: int, tokens: int):
        """The seam [batch, token, *dims] of what crosses the boundary; a view unless the channels are interleaved."""
        if self.channels is not None:
            tensor = tensor.reshape(batch, tokens, -1)[..., self.channels(spec)]
        if self.part is not None:
            index, parts = self.part
            return tensor.view(batch, tokens, spec.axis_sizes[self.dims[0]], parts, -1).select(3, index)
        if len(self.dims) == 1:
            return tensor.view(batch, tokens, -1)
        return tensor.reshape(batch, tokens, spec.axis_sizes[self.dims[0]], -1)

    def write(self, tensor, values, spec, batch: int, tokens: int) -> None:
        """Put changed values of `read` back into a contiguous tensor; views are there already."""
        if self.channels is not None:
            tensor.view(batch, tokens, -1)[..., self.channels(spec)] = values.reshape(batch, tokens, -1)


@dataclasses.dataclass(frozen=True)
class Family:
    """One family of models.

    Attributes:
        name: key in `FAMILIES`, kept in every `Spec`. title: for people.
        model_types: of the image-text and of the text configuration.
        causal, conditional: names of transformers' text and image-text classes.
        modeling: module that holds the classes and, as globals, the kernels.
        kernels: `{operation: name of the global}`.
        kinds: `{transformers' layer type: "deltanet" or "attention"}`.
        seams: `{kind: {name: Seam}}`. parameters: `{kind: {name: path}}` of small weights that readings need.
        projections: `{kind: path}` of the linear layer from heads to the residual stream.
        sizes: `{field of Spec: field of the text configuration}`.
        mlp: spec -> (parameters, parameters that one token uses) of the MLP of one layer.
        unquantized: names of modules of the MLP that quantisation leaves as they are.
        text_prefix: of text tensors in an image-text checkpoint. skipped: prefixes of tensors that are not loaded.
        gguf: architecture in a .gguf file, or None.
    """

    name: str
    title: str
    model_types: tuple[str, str]
    causal: str
    conditional: str
    modeling: str
    kernels: Mapping[str, str]
    kinds: Mapping[str, str]
    seams: Mapping[str, Mapping[str, Seam]]
    parameters: Mapping[str, Mapping[str, str]]
    projections: Mapping[str, str]
    sizes: Mapping[str, str]
    mlp: Callable
    unquantized: tuple[str, ...] = ()
    text_prefix: str = "model.language_model."
    skipped: tuple[str, ...] = ("mtp.", "model.visual.", "visual.")
    gguf: str | None = None


COMMON = {
    "resid_pre": Seam("", "in", ("channel",), "residual"),
    "mixer_in": Seam("input_layernorm", "out", ("channel",), "normed"),
    "mlp_out": Seam("mlp", "out", ("channel",), "added"),
    "resid_post": Seam("", "out", ("channel",), "residual"),
}
