"""A window on the map of one head at any scale: exact masses between stretches of tokens, at a fixed number of cells.

A window of a million by a million tokens and one of 64 by 64 cost the same picture; each cell is the mass that its
reading tokens put on its sources, mean over the reading tokens, from softmax rows over all sources.
"""

import torch

from labkit.attention.readings import inputs, weights
from labkit.attention.summaries import ELEMENTS
from labkit.errors import InputError
from labkit.notation import label, select

LEAST = 1e-6  # mass below which a cell counts as this, so that its logarithm is a number


@torch.no_grad()
def window(run, *, layer, head, rows=None, sources=None, cells=64):
    """What stretches of reading tokens take from stretches of sources; for `draw.zoom`.

    Args:
        run: `Run` with the seams q, k, v, gate and gated of this layer.
        layer: an attention layer. head: one query head.
        rows: (first, end) absolute positions of reading tokens; None for all of the run.
        sources: (first, end) positions of sources; None for all.
        cells: most stretches each way; their lengths differ by one token at most.

    Returns:
        Dataset over (token, source), the last reading token and the first source of each stretch: `mass`, and `lift`,
        log₂ of the mass over that of a head that spreads its attention evenly; NaN where there is nothing to read.

    Raises:
        LayerError, SeamError, ParityError; InputError: stretches outside the run, no cells.
    """
    run.require(layer, "attention", "attention.window", "deltanet.implied_row")
    (head,) = select(head, run.spec.query_heads, "query_head")
    first, length = run.start.length, run.start.length + len(run)
    if cells < 1:
        raise InputError("at least one cell each way", got=cells)
    rows, sources = _stretch("rows", rows, first, length), _stretch("sources", sources, 0, length)
    x = inputs(run, layer)
    device, down, right = x.q.device, _edges(*rows, cells), _edges(*sources, cells)
    mass, even = (torch.zeros(len(down) - 1, len(right) - 1, dtype=torch.float64, device=device) for _ in range(2))
    row, column = _places(down).to(device), _places(right).to(device)
    edges, errors, step = right.to(device), [], max(1, ELEMENTS // length)
    for a in range(rows[0], rows[1], step):
        at = torch.arange(a, min(a + step, rows[1]))
        near = (at - first).tolist()
        p, mixed = weights(x, rows=near, heads=[head], first=first)
        gated = mixed * x.gate[near][:, [head]].float()
        error, tolerance = run.check_parity(
            layer, "attention.window", gated, run.seams[layer, "gated"][near][:, [head]]
        )
        errors.append(error)
        p, at = p[0, :, sources[0] : sources[1]].double(), at.to(device)
        here = row[a - rows[0] : a - rows[0] + len(at)]
        mass.index_add_(0, here, p.new_zeros(len(at), len(right) - 1).index_add_(1, column, p))
        seen = edges[None].minimum(at[:, None] + 1).diff(dim=1)  # sources of each stretch that a row can read
        even.index_add_(0, here, seen.double() / (at[:, None] + 1))
    sizes = down.diff()[:, None].to(device)
    mass, even = mass / sizes, even / sizes
    lift = torch.where(even > 0, (mass.clamp(min=LEAST) / even).log2(), torch.nan)
    facts = {"model": run.model, "layer": layer, "reading": "attention.window", "query_head": head}
    facts |= {"parity": max(errors), "tolerance": tolerance}
    texts = list(run.tokens)
    coords = {"token": down[1:] - 1, "source": right[:-1]}
    coords |= {
        "token_text": ("token", _texts(down, first, texts)),
        "source_text": ("source", _texts(right, first, texts)),
    }
    dims = ("token", "source")
    data = label({"mass": (dims, mass.float()), "lift": (dims, lift.float())}, coords=coords, attrs=facts)
    data.mass.attrs |= {"long_name": "attention mass", "units": "fraction", "scale": "fraction"}
    data.lift.attrs |= {"long_name": "mass over that of an even head", "symbol": "log₂ lift", "scale": "signed"}
    return data


def _stretch(name, given, least, end):
    first, last = (least, end) if given is None else map(int, given)
    if not least <= first < last <= end:
        raise InputError(f"{name} outside the run", got=f"({first}, {last})", expected=f"within ({least}, {end})")
    return first, last


def _edges(first, end, cells):
    count = min(cells, end - first)
    return first + torch.arange(count + 1) * (end - first) // count


def _places(edges):
    """The stretch of every position between the edges."""
    return torch.arange(len(edges) - 1).repeat_interleave(edges.diff())


def _texts(edges, first, tokens):
    """The token of a stretch of one, else its positions."""
    pairs = zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)
    single = lambda a: tokens[a - first] if a >= first and tokens else "·"  # noqa: E731
    return [single(a) if b == a + 1 else f"{a:,}–{b - 1:,}" for a, b in pairs]
