"""What the heads of an attention layer hand on, where no map can be had: one number of each head and token."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from labkit.notation import Quantity, label, select
from labkit.reading import axis
from labkit.trace import Run, layers_of

if TYPE_CHECKING:
    import xarray

LENGTH = Quantity(
    "‖y‖", "length of what the head hands to the output projection", "norm", "positive", "arXiv 1706.03762 sec. 3.2.2"
)


def handed(
    run: Run, *, layer: int, heads: Sequence[int] | int | None = None, tokens: Sequence[int] | int | None = None
) -> "xarray.Dataset":
    """The length of what each head of an attention layer hands to the output projection, read from the seam `gated`.

    Latent attention makes keys and values inside the layer, so that no reading has its maps; this it shows.

    Args:
        run: `Run` with the seam `gated` of this layer. heads: query heads; None for all. tokens: None for all.

    Returns:
        Dataset: `length` ‖y‖ (query_head, token).

    Raises:
        InputError: no such layer, head or token. SeamError: a layer without the seam, or one that was not kept.
    """
    (layer,) = select([layer], run.spec.layers, "layer")
    if run.spec.kind(layer) != "attention":
        layers_of(run.spec, layer, "attention", "explore.handed", "deltanet.memory(run, layer={layer})")
    heads, tokens = select(heads, run.spec.query_heads, "query_head"), select(tokens, len(run), "token")
    length = run.seams[layer, "gated"][tokens][:, heads].float().norm(dim=-1).T
    attrs = {"model": run.model, "layer": layer, "reading": "explore.handed"}
    coords = {"query_head": heads, **axis(run, "token", tokens)}
    return label({"length": (("query_head", "token"), length, LENGTH)}, coords=coords, attrs=attrs)
