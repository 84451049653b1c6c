"""A softmax logit taken apart by rotary band, and what it would be under another scaling.

With a_i = q_i + i·q_{i+d/2} of the query and b_i of the key, both before rotation, at a distance Δ of positions:

    √head_dim · s = m² Σ_i |a_i||b_i| cos(ω'_i Δ + arg a_i - arg b_i)  +  ⟨q_rest, k_rest⟩

The sum over i is the part that knows the distance; the rest of the channels carry no position (RoPE, arXiv 2104.09864,
on the first channels alone). For frozen queries and keys the same formula gives the logits under any ω' and m. That is
exact in the first attention layer, whose inputs no scaling reaches; in later layers queries and keys move too, which
only running the model again can tell (`predicted` beside `bands` of a second run).
"""

import torch

from labkit.errors import InputError
from labkit.notation import label, select
from labkit.plan import admit
from labkit.rotary import frequencies
from labkit.yarn.table import CLASSES, shape, stretched, wavelengths

FREE = "position-free"


@torch.no_grad()
def bands(run, *, layer, heads=None, rows=None, by="class", scaling=None):
    """Every pre-softmax logit as the sum of its bands.

    Args:
        run: `Run` from the beginning of a sequence, with the seams q, k, v, gate and gated of this layer.
        layer: an attention layer. heads: query heads. rows: reading tokens; None for all.
        by: "class" (how YaRN treats the pairs: untouched, blended, interpolated), or "pair".
        scaling: `rotary.Scaling`s to predict for frozen queries and keys; None is the run's own, whose sum is proven.

    Returns:
        Dataset: `part` (band, query_head, token, source), the bands' parts, `logit` (query_head, token, source), their
        sum; NaN after the token. `distance` (token, source): positions between them.

    Raises:
        LayerError, SeamError, InputError, ParityError; BudgetError: parts that would not fit.
    """
    heads, rows, q, k, places = _inputs(run, layer, heads, rows)
    groups, names = _groups(run.spec, by)
    count = 4 * len(heads) * len(rows) * len(places) * (len(names) + 2)
    less = count // len(rows) * min(16, len(rows))
    admit("yarn.bands", len(places), count, q.device, (("heads=[0]", count // len(heads)), ("16 rows", less)))
    own = run.scaling if scaling is None else scaling
    found = [_parts(run.spec, own, q[:, h], k, places, rows, groups, h) for h in heads]
    part = torch.stack(found, 1)
    logit = part.sum(0)
    facts = {"model": run.model, "layer": layer, "reading": "yarn.bands", "scaling": str(own)}
    if scaling is None:
        facts |= _proven(run, layer, heads, rows, logit)
    gone = torch.arange(len(places))[None] > torch.as_tensor(rows)[:, None]
    part[:, :, gone], logit[:, gone] = torch.nan, torch.nan
    distance = places[rows][:, None] - places[None]
    coords = {"band": names, "query_head": heads, "token": run.positions[rows], "source": range(len(places))}
    coords |= {"token_text": ("token", [run.tokens[t] for t in rows]), "source_text": ("source", list(run.tokens))}
    where = ("query_head", "token", "source")
    values = {"part": (("band", *where), part), "logit": (where, logit), "distance": (where[1:], distance)}
    return label(values, coords=coords, attrs=facts)


@torch.no_grad()
def by_distance(run, *, layer, heads=None, rows=None, by="class", scaling=None):
    """The bands of the logits by distance, in bins that double: what knows the position, and from how far.

    Args:
        as for `bands`; memory does not grow with the square of the length.

    Returns:
        Dataset: `part` (query_head, bin, band), mean over all pairs of tokens at distances of a bin; `spread`, their
        standard deviation; `count` (bin); bins as in `attention.summary`.

    Raises:
        as `bands`.
    """
    heads, rows, q, k, places = _inputs(run, layer, heads, rows)
    groups, names = _groups(run.spec, by)
    own = run.scaling if scaling is None else scaling
    last = int((places.max() - places.min()).clamp(min=0)) + 1
    bins = last.bit_length()
    total = torch.zeros(2, len(heads), bins, len(names), dtype=torch.float64, device=q.device)
    count, errors = torch.zeros(bins, dtype=torch.float64, device=q.device), []
    step = max(1, 2**22 // (len(places) * (len(names) + 1)))
    for a in range(0, len(rows), step):
        here = rows[a : a + step]
        back = places[here][:, None] - places[None]
        seen = (torch.arange(len(places))[None] <= torch.as_tensor(here)[:, None]) & (back >= 0)
        at = torch.floor(torch.log2(back.clamp(min=0).double() + 1)).long().to(q.device)[seen]
        count.index_add_(0, at, torch.ones_like(at, dtype=torch.float64))
        logits = []
        for n, head in enumerate(heads):
            part = _parts(run.spec, own, q[:, head], k, places, here, groups, head)
            logits.append(part.sum(0))
            chosen = part[:, seen].T.double()
            total[0, n].index_add_(0, at, chosen)
            total[1, n].index_add_(0, at, chosen**2)
        if scaling is None and a == 0:
            errors.append(_proven(run, layer, heads, here, torch.stack(logits)))
    known = count.clamp(min=1)[:, None]
    mean = total[0] / known
    spread = (total[1] / known - mean**2).clamp(min=0).sqrt()
    mean[:, count == 0], spread[:, count == 0] = torch.nan, torch.nan
    facts = {"model": run.model, "layer": layer, "reading": "yarn.by_distance", "scaling": str(own)}
    facts |= errors[0] if errors else {}
    where = ("query_head", "bin", "band")
    values = {"part": (where, mean.float()), "spread": (where, spread.float()), "count": (("bin",), count)}
    texts = [f"{2**n - 1:,} to {2 ** (n + 1) - 2:,}" if n else "0" for n in range(bins)]
    coords = {"query_head": heads, "bin": range(bins), "bin_text": ("bin", texts), "band": names}
    return label(values, coords=coords, attrs=facts)


def predicted(run, *, layer, factor=None, scaling=None, **options):
    """The logits of a run under another scaling, queries and keys frozen: `bands` with that scaling.

    Args:
        factor: of YaRN, or `scaling`, a `rotary.Scaling`. options: `heads`, `rows`, `by` of `bands`.
    """
    if (factor is None) == (scaling is None):
        raise InputError("one scaling to predict", got=f"factor={factor}, scaling={scaling}", expected="either of them")
    scaling = stretched(run.spec, factor) if scaling is None else scaling
    return bands(run, layer=layer, scaling=scaling, **options).assign_attrs(reading="yarn.predicted")


def _inputs(run, layer, heads, rows):
    """(heads, rows, q [token, head, channel], k, places): queries and keys before rotation, and where they stand."""
    run.require(layer, "attention", "yarn.bands", "deltanet.implied_row")
    if run.start.length:
        hint = "keys of a warm cache are rotated already; trace the whole prompt"
        raise InputError("bands need a run from its beginning", got=f"{run.start.length} cached tokens", hint=hint)
    if "dynamic" in run.scaling.kind:
        raise InputError("bands need one scaling for the whole run", got=str(run.scaling))
    heads = select(heads, run.spec.query_heads, "query_head")
    rows = select(rows, len(run), "token")
    places = run.positions if run.places is None else run.places
    return heads, rows, run.seams[layer, "q"].float(), run.seams[layer, "k"].float(), places


def _groups(spec, by):
    """(band of each pair, names of the bands, the position-free one last)."""
    if by == "pair":
        return torch.arange(spec.rotary_dim // 2), [*map(str, range(spec.rotary_dim // 2)), FREE]
    if by != "class":
        raise InputError("no such bands", got=by, expected="'class' or 'pair'")
    kinds = wavelengths(spec).kind.values
    names = [name for name in CLASSES if name in kinds]
    return torch.tensor([names.index(kind) for kind in kinds]), [*names, FREE]


def _parts(spec, scaling, q, k, places, rows, groups, head):
    """[band, row, source] of one query head, after the softmax scale."""
    half, scale = spec.rotary_dim // 2, spec.head_dim**-0.5
    keys = k[:, head * spec.kv_heads // spec.query_heads]
    queries = q[rows] * scale
    omega = frequencies(scaling, dtype=torch.float64, **shape(spec)).to(q.device)
    # float32 loses phases at far positions, so angles are reduced to one turn in float64.
    angle = (places.to(q.device)[:, None].double() * omega) % (2 * torch.pi)
    turn = torch.polar(torch.ones_like(angle), angle).to(torch.complex64)
    a = torch.complex(queries[:, :half], queries[:, half : 2 * half]) * turn[rows]
    b = torch.complex(keys[:, :half], keys[:, half : 2 * half]) * turn
    bands = int(groups.max()) + 1
    found = q.new_empty(bands + 1, len(rows), len(keys), dtype=torch.float32)
    for n in range(bands):
        mine = (groups == n).to(q.device)
        left = torch.cat([a[:, mine].real, a[:, mine].imag], 1)
        right = torch.cat([b[:, mine].real, b[:, mine].imag], 1)
        found[n] = scaling.m**2 * (left @ right.T)
    found[-1] = queries[:, 2 * half :] @ keys[:, 2 * half :].T
    return found


def _proven(run, layer, heads, rows, logit):
    """Parity of the softmax of these logits, through the values and the gate, with the model's own output."""
    v, gate = (run.seams[layer, name] for name in ("v", "gate"))
    hidden = torch.arange(len(v))[None] > torch.as_tensor(rows)[:, None]
    weight = logit.masked_fill(hidden.to(logit.device), -torch.inf).softmax(-1)
    values = v[:, [h * run.spec.kv_heads // run.spec.query_heads for h in heads]].float()
    gated = torch.einsum("hts,shv->thv", weight, values) * gate[rows][:, heads].sigmoid().float()
    error, tolerance = run.prove(layer, "yarn.bands", gated, run.seams[layer, "gated"][rows][:, heads])
    return {"parity": error, "tolerance": tolerance}
