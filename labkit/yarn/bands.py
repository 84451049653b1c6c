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

FREE, BINS = "position-free", 25  # of distances below 2^24


@torch.no_grad()
def bands(run, *, layer, heads=None, rows=None, by="class", scaling=None):
    """Every pre-softmax logit as the sum of its bands.

    Args:
        run: `Run` with the seams q, k, v, gate and gated of this layer.
        layer: an attention layer. heads: query heads. rows: reading tokens; None for all.
        by: "class" (how YaRN treats the pairs: untouched, blended, interpolated), or "pair".
        scaling: `rotary.Scaling`s to predict for frozen queries and keys; None is the run's own, whose sum is proven.

    Returns:
        Dataset: `part` (band, query_head, token, source), the bands' parts, `logit` (query_head, token, source), their
        sum; NaN after the token. `distance` (token, source): positions between them.

    Raises:
        LayerError, SeamError, InputError, ParityError; BudgetError: parts that would not fit.
    """
    heads, rows, q, k, places = inputs(run, layer, heads, rows)
    groups, names = grouped(run.spec, by)
    count = 4 * len(heads) * len(rows) * len(places) * (len(names) + 2)
    less = count // len(rows) * min(16, len(rows))
    admit("yarn.bands", len(places), count, q.device, (("heads=[0]", count // len(heads)), ("16 rows", less)))
    own, known = run.scaling if scaling is None else scaling, run.start.length
    part = torch.stack([parts(run.spec, own, q, k, places, rows, groups, h) for h in heads], 1)
    logit = part.sum(0)
    facts = {"model": run.model, "layer": layer, "reading": "yarn.bands", "scaling": str(own)}
    if scaling is None:
        facts |= proven(run, layer, heads, rows, own, q, k, places, groups, most=len(rows))
    at = torch.as_tensor(rows) + known
    gone = (torch.arange(len(places))[None] > at[:, None]).to(part.device)
    part[:, :, gone], logit[:, gone] = torch.nan, torch.nan
    distance = places[at][:, None] - places[None]
    coords = {"band": names, "query_head": heads, "token": run.positions[rows], "source": range(len(places))}
    coords |= {"token_text": ("token", [run.tokens[t] for t in rows])}
    coords |= {"source_text": ("source", ["·"] * known + list(run.tokens))}
    where = ("query_head", "token", "source")
    values = {"part": (("band", *where), part), "logit": (where, logit), "distance": (where[1:], distance)}
    return label(values, coords=coords, attrs=facts)


@torch.no_grad()
def by_distance(run, *, layer, heads=None, rows=None, by="class", scaling=None):
    """The bands of the logits by distance, in bins that double: what knows the position, and from how far.

    Args:
        as for `bands`; memory does not grow with the square of the length. `yarn.watch` does the same in a stream.

    Returns:
        Dataset: `part` (query_head, bin, band), mean over all pairs of tokens at distances of a bin, each part measured
        from its mean over the row, which the softmax does not see; `spread`, their standard deviation; `count` (bin);
        bins as in `attention.summary`.

    Raises:
        as `bands`.
    """
    heads, rows, q, k, places = inputs(run, layer, heads, rows)
    groups, names = grouped(run.spec, by)
    own = run.scaling if scaling is None else scaling
    total, count = summed(run.spec, own, q, k, places, rows, heads, groups)
    facts = {"model": run.model, "layer": layer, "reading": "yarn.by_distance", "scaling": str(own)}
    if scaling is None:
        facts |= proven(run, layer, heads, rows, own, q, k, places, groups)
    return binned(total, count, heads, names, facts)


def summed(spec, scaling, q, k, places, rows, heads, groups):
    """(sums [2, query_head, bin, band] of parts and of their squares, pairs of tokens [bin]), float64."""
    bands, first = int(groups.max()) + 2, len(places) - len(q)
    total = torch.zeros(2, len(heads), BINS, bands, dtype=torch.float64, device=q.device)
    count = torch.zeros(BINS, dtype=torch.float64, device=q.device)
    step = max(1, 2**22 // (len(places) * (bands + 1)))
    for a in range(0, len(rows), step):
        at = torch.as_tensor(rows[a : a + step]) + first
        back = places[at][:, None] - places[None]
        seen = (torch.arange(len(places))[None] <= at[:, None]) & (back >= 0)
        where = torch.floor(torch.log2(back[seen].double() + 1)).long().to(q.device)
        seen = seen.to(q.device)
        count.index_add_(0, where, torch.ones_like(where, dtype=torch.float64))
        for n, head in enumerate(heads):
            found = parts(spec, scaling, q, k, places, rows[a : a + step], groups, head).double()
            found -= torch.where(seen, found, 0.0).sum(-1, keepdim=True) / seen.sum(-1, keepdim=True)
            chosen = found[:, seen].T
            total[0, n].index_add_(0, where, chosen)
            total[1, n].index_add_(0, where, chosen**2)
    return total, count


def binned(total, count, heads, names, facts, layers=None):
    """Means and standard deviations of sums of bands, labelled; with `layers` the sums have that dim first."""
    known = count.clamp(min=1)[:, None]
    mean, bins = total[0] / known, int(count.nonzero().max()) + 1
    spread = (total[1] / known - mean**2).clamp(min=0).sqrt()
    mean[..., count == 0, :], spread[..., count == 0, :] = torch.nan, torch.nan
    where = ("query_head", "bin", "band") if layers is None else ("layer", "query_head", "bin", "band")
    values = {name: (where, part[..., :bins, :].float()) for name, part in (("part", mean), ("spread", spread))}
    texts = [f"{2**n - 1:,} to {2 ** (n + 1) - 2:,}" if n else "0" for n in range(bins)]
    coords = {"query_head": list(heads), "bin": range(bins), "bin_text": ("bin", texts), "band": names}
    coords |= {} if layers is None else {"layer": list(layers)}
    return label(values | {"count": (("bin",), count[:bins])}, coords=coords, attrs=facts)


def predicted(run, *, layer, factor=None, scaling=None, **options):
    """The logits of a run under another scaling, queries and keys frozen: `bands` with that scaling.

    Args:
        factor: of YaRN, or `scaling`, a `rotary.Scaling`. options: `heads`, `rows`, `by` of `bands`.
    """
    if (factor is None) == (scaling is None):
        raise InputError("one scaling to predict", got=f"factor={factor}, scaling={scaling}", expected="either of them")
    scaling = stretched(run.spec, factor) if scaling is None else scaling
    return bands(run, layer=layer, scaling=scaling, **options).assign_attrs(reading="yarn.predicted")


def inputs(run, layer, heads, rows):
    """(heads, rows, q [token, head, channel], k [source, ...], places): before rotation, and where they stand.

    Keys of a warm cache lie there rotated, by positions that count from 0; they are turned back.
    """
    run.require(layer, "attention", "yarn.bands", "deltanet.implied_row")
    if "dynamic" in run.scaling.kind:
        raise InputError("bands need one scaling for the whole run", got=str(run.scaling))
    heads = select(heads, run.spec.query_heads, "query_head")
    rows = select(rows, len(run), "token")
    places = run.positions if run.places is None else run.places
    q, k, start = run.seams[layer, "q"].float(), run.seams[layer, "k"].float(), run.start
    if start.length:
        if start.placed or start.places is not None:
            hint = "trace the whole prompt at once, with positions=..."
            raise InputError("keys in this cache stand at positions of their own", got="a warm run", hint=hint)
        before = torch.arange(start.length)
        known = start.keys[layer].transpose(0, 1).to(k)
        k, places = torch.cat([_turned_back(known, before, run), k]), torch.cat([before, places])
    return heads, rows, q, k, places


def _turned_back(keys, places, run):
    half = run.spec.rotary_dim // 2
    turn = _turns(run.spec, run.scaling, places, keys.device).conj()[:, None] / run.scaling.m
    pairs = torch.complex(keys[..., :half], keys[..., half : 2 * half]) * turn
    return torch.cat([pairs.real, pairs.imag, keys[..., 2 * half :]], -1)


def grouped(spec, by):
    """(band of each pair, names of the bands, the position-free one last)."""
    if by == "pair":
        return torch.arange(spec.rotary_dim // 2), [*map(str, range(spec.rotary_dim // 2)), FREE]
    if by != "class":
        raise InputError("no such bands", got=by, expected="'class' or 'pair'")
    kinds = wavelengths(spec).kind.values
    names = [name for name in CLASSES if name in kinds]
    return torch.tensor([names.index(kind) for kind in kinds]), [*names, FREE]


def parts(spec, scaling, q, k, places, rows, groups, head):
    """[band, row, source] of one query head, after the softmax scale."""
    half, scale = spec.rotary_dim // 2, spec.head_dim**-0.5
    keys, queries = k[:, head * spec.kv_heads // spec.query_heads], q[rows, head] * scale
    turn = _turns(spec, scaling, places, q.device)
    own = turn[torch.as_tensor(rows) + len(places) - len(q)]
    a = torch.complex(queries[:, :half], queries[:, half : 2 * half]) * own
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


def _turns(spec, scaling, places, device):
    """e^{iωp} [token, pair]; float32 loses phases at far positions, so angles are reduced to one turn in float64."""
    omega = frequencies(scaling, dtype=torch.float64, **shape(spec)).to(device)
    angle = (places.to(device)[:, None].double() * omega) % (2 * torch.pi)
    return torch.polar(torch.ones_like(angle), angle).to(torch.complex64)


def proven(run, layer, heads, rows, scaling, q, k, places, groups, most=4):
    """Parity of the softmax of these logits, through the values and the gate, with the model's own output.

    Some rows of those that are asked for are proven, `most` of them, evenly spaced.
    """
    rows = rows[:: max(1, len(rows) // most)]
    logit = torch.stack([parts(run.spec, scaling, q, k, places, rows, groups, h).sum(0) for h in heads])
    v, gate = (run.seams[layer, name] for name in ("v", "gate"))
    if run.start.length:
        v = torch.cat([run.start.values[layer].transpose(0, 1).to(v), v])
    last = torch.as_tensor(rows)[:, None] + run.start.length
    weight = logit.masked_fill((torch.arange(len(v))[None] > last).to(logit.device), -torch.inf).softmax(-1)
    values = v[:, [h * run.spec.kv_heads // run.spec.query_heads for h in heads]].float()
    gated = torch.einsum("hts,shv->thv", weight, values) * gate[rows][:, heads].sigmoid().float()
    error, tolerance = run.check_parity(layer, "yarn.bands", gated, run.seams[layer, "gated"][rows][:, heads])
    return {"parity": error, "tolerance": tolerance}
