"""A map that leaves out the removal of old values misses most of what this DeltaNet head does

Left, the exact implied attention of one head, with which its reads are rebuilt to rounding. Right, the common
shortcut: queries times keys, decayed and scaled by the write strength, but without what later tokens erased. Both say
how far the reads rebuilt from them are from the model's own, as a share of their size; the head is the one where the
shortcut is furthest off in nano.

Look for columns that stay bright on the right and fade on the left: a value that was overwritten, and that the
shortcut still counts. Two equal maps would refute the title, and so would a head whose keys are all orthogonal,
because then nothing is ever removed.

Source: Gated DeltaNet, arXiv 2412.06464, section 3.
"""

from labkit import deltanet
from labkit import draw as plot

PROMPT = " fox red whale blue crow green fox gold lion pink whale black crow white fox"


def data(lab):
    """exact and heuristic (token, source) of one head, and the relative error of each over (layer, head)."""
    run = lab.trace(PROMPT)
    layers, heads = lab.spec.deltanet_layers, range(lab.spec.value_heads)
    read = lambda layer, head, form: deltanet.implied_attention(run, layer=layer, heads=head, form=form)  # noqa: E731
    shortcuts = {(layer, head): read(layer, head, "heuristic") for layer in layers for head in heads}
    worst = max(shortcuts, key=lambda place: shortcuts[place].attrs["relative_error"])
    exact = read(*worst, "value")
    maps = exact.rename(weight="exact").assign(heuristic=shortcuts[worst].weight).isel(head=0, drop=True)
    errors = [[shortcuts[layer, head].attrs["relative_error"] for head in heads] for layer in layers]
    facts = {"long_name": "error of the reads rebuilt by the shortcut", "units": "share of their norm", "symbol": "ε"}
    maps = maps.drop_vars("layer").assign(
        error=(("layer", "head"), errors, facts | {"scale": "positive", "source": "this figure"})
    )
    maps = maps.assign_coords(layer=list(layers), head=list(heads)).assign_attrs(head=worst[1])
    return maps.assign(
        wrong=float(shortcuts[worst].attrs["relative_error"]), right=float(exact.attrs["relative_error"])
    )


def draw(ds):
    """Both maps side by side, with the error of each above it."""
    left = f"exact: reads rebuilt to {float(ds.right):.0e}"
    right = f"without removal: reads off by {float(ds.wrong):.0%}"
    title = f"Layer {ds.attrs['layer']}, head {ds.attrs['head']}: what the shortcut without removal gets wrong"
    return plot.maps((ds, "exact", left), (ds, "heuristic", right), title=title)
