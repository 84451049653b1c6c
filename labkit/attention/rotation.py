"""A softmax logit taken apart by rotary band, and what it would be under another scaling.

With a_i = q_i + i·q_{i+d/2} of the query and b_i of the key, both before rotation, at a distance Δ of positions:

    √head_dim · s = m² Σ_i |a_i||b_i| cos(ω'_i Δ + arg a_i - arg b_i)  +  ⟨q_rest, k_rest⟩

The sum over i is the part that knows the distance; the rest of the channels carry no position (RoPE, arXiv 2104.09864,
on the first channels alone). For frozen queries and keys the same formula gives the logits under any ω' and m. That is
exact in the first attention layer, whose inputs no scaling reaches; in later layers queries and keys move too, which
only running the model again can tell (`bands` of a second run beside `bands` with `scaling=` of the first).
"""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from labkit import rotary
from labkit.attention.distances import bin_axis, bin_of, edges
from labkit.attention.softmax import SEAMS, proof, values
from labkit.errors import InputError
from labkit.notation import Quantity, label, select
from labkit.plan import Cost
from labkit.reading import Request, axis, reading
from labkit.rotary import Scaling
from labkit.spec import Spec
from labkit.trace import Run

if TYPE_CHECKING:
    import xarray

FREE, BINS = "position-free", 25  # of distances below 2^24
ELEMENTS = 2**22  # parts of one head at once
SPREAD = Quantity("sd(s_b)", "standard deviation of the part", "1", "positive", "arXiv 2104.09864")


def bands_of(spec: Spec, by: str) -> tuple[torch.Tensor, list[str]]:
    """(band of each rotary pair, names of the bands, the position-free one last); by "class" or "pair".

    Raises:
        InputError: neither; a model that rotates nothing.
    """
    if not spec.rotary_dim:
        got, hint = "rotary_dim 0", "attention.pattern(run, layer={layer}, logits=True)"
        hint = hint.format(layer=spec.attention_layers[0])
        raise InputError("this model's attention rotates nothing: a logit has no bands", got=got, hint=hint)
    if by == "pair":
        return torch.arange(spec.rotary_dim // 2), [*map(str, range(spec.rotary_dim // 2)), FREE]
    if by != "class":
        raise InputError("no such bands", got=by, expected="'class' or 'pair'")
    classes = rotary.pair_classes(rotary.ramp(rotary.stretched(spec), **rotary.constants(spec)))
    names = [name for name in rotary.CLASSES if name in classes]
    return torch.tensor([names.index(name) for name in classes]), [*names, FREE]


@dataclasses.dataclass(frozen=True)
class Unrotated:
    """Queries and keys of a layer before rotation, and where they stand.

    Attributes:
        q: [token, query_head, head_dim], k: [source, kv_head, head_dim], float32; sources of a warm cache first.
        position_ids: [source] rotary positions, of pictures those in time; the last ones are those of the tokens.
        turned: [source, pair] the positions by which each pair is turned, or [source, 1] the same for all.
    """

    run: object
    layer: int
    q: torch.Tensor
    k: torch.Tensor
    position_ids: torch.Tensor
    turned: torch.Tensor

    @classmethod
    def of(cls, run: Run, layer: int) -> "Unrotated":
        """Of a run. Keys of a warm cache lie there rotated, by positions that count from 0; they are turned back.

        Raises:
            InputError: several scalings in one run, or keys whose positions are not known.
        """
        if "dynamic" in run.scaling.kind:
            raise InputError("bands need one scaling for the whole run", got=str(run.scaling))
        start, spec = run.start, run.spec
        q, k = (run.seams[layer, name].float() for name in ("q", "k"))
        position_ids = run.positions if run.position_ids is None else run.position_ids
        turned = position_ids[:, None]
        if run.pictures is not None:
            position_ids, turned = run.pictures.position_ids[0], run.pictures.turned
        if start.length:
            if start.placed or start.position_ids is not None:
                expected = "the whole prompt traced at once, with its own positions"
                raise InputError(
                    "keys in this cache stand at positions of their own", got="a warm run", expected=expected
                )
            before, half = torch.arange(start.length), spec.rotary_dim // 2
            cached = start.keys[layer].transpose(0, 1).to(k)
            m = run.scaling.at(window=spec.window).attention_factor
            turn = phases(spec, run.scaling, before[:, None], k.device).conj()[:, None] / m
            pairs = torch.complex(cached[..., :half], cached[..., half : 2 * half]) * turn
            cached = torch.cat([pairs.real, pairs.imag, cached[..., 2 * half :]], -1)
            k, position_ids = torch.cat([cached, k]), torch.cat([before, position_ids])
            turned = torch.cat([before[:, None].expand(-1, turned.shape[1]), turned])
        return cls(run, layer, q, k, position_ids, turned)

    def parts(self, scaling: Scaling, bands: torch.Tensor, rows: Sequence[int], head: int) -> torch.Tensor:
        """[band, row, source] of one query head, after the softmax scale; also where a source is after the row."""
        spec, rows, known = self.run.spec, torch.as_tensor(rows), len(self.k) - len(self.q)
        half, keys, queries = spec.rotary_dim // 2, self.k[:, spec.kv_head(head)], self.q[rows, head]
        queries = queries * spec.head_dim**-0.5
        turn = phases(spec, scaling, self.turned, keys.device)
        a = torch.complex(queries[:, :half], queries[:, half : 2 * half]) * turn[rows + known]
        b = torch.complex(keys[:, :half], keys[:, half : 2 * half]) * turn
        parts = queries.new_empty(int(bands.max()) + 2, len(rows), len(keys))
        for band in range(len(parts) - 1):
            pairs = (bands == band).to(keys.device)
            left, right = (torch.cat([c[:, pairs].real, c[:, pairs].imag], 1) for c in (a, b))
            parts[band] = scaling.at(window=spec.window).attention_factor ** 2 * (left @ right.T)
        parts[-1] = queries[:, 2 * half :] @ keys[:, 2 * half :].T
        return parts

    def proof(self, name: str, bands: torch.Tensor, rows: Sequence[int], heads: Sequence[int], most: int) -> dict:
        """Parity of the softmax of the run's own logits, through values and gate; of at most so many rows.

        The rows are evenly spaced among those that are given.
        """
        run, layer, rows = self.run, self.layer, rows[:: -(-len(rows) // most)]
        logit = torch.stack([self.parts(run.scaling, bands, rows, head).sum(0) for head in heads])
        p = logit.masked_fill(self.unread(rows).to(logit.device), -torch.inf).softmax(-1)
        v = values(run, layer)[:, [run.spec.kv_head(head) for head in heads]].float()
        return proof(run, layer, name, heads, rows, torch.einsum("hts,shv->thv", p, v))

    def unread(self, rows: Sequence[int]) -> torch.Tensor:
        """[row, source]: whether a source comes after the row, on the CPU."""
        at = torch.as_tensor(rows) + len(self.k) - len(self.q)
        return torch.arange(len(self.k))[None] > at[:, None]

    def distance(self, rows: Sequence[int]) -> torch.Tensor:
        """[row, source]: rotary positions between them, on the CPU."""
        return self.position_ids[torch.as_tensor(rows) + len(self.k) - len(self.q)][:, None] - self.position_ids[None]

    def sums(
        self, scaling: Scaling, bands: torch.Tensor, rows: Sequence[int], heads: Sequence[int]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(sums [2, query_head, bin, band] of parts and of their squares, pairs of tokens [bin]), float64.

        Each part is measured from its mean over the row.
        """
        count = torch.zeros(BINS, dtype=torch.float64, device=self.q.device)
        total = count.new_zeros(2, len(heads), BINS, int(bands.max()) + 2)
        step = max(1, ELEMENTS // (len(self.k) * total.shape[-1]))
        for a in range(0, len(rows), step):
            part = rows[a : a + step]
            distance = self.distance(part)
            read = ~self.unread(part) & (distance >= 0)
            home, read = bin_of(distance[read]).to(count.device), read.to(count.device)
            count.index_add_(0, home, torch.ones_like(home, dtype=torch.float64))
            for n, head in enumerate(heads):
                parts = self.parts(scaling, bands, part, head).double()
                parts -= torch.where(read, parts, 0.0).sum(-1, keepdim=True) / read.sum(-1, keepdim=True)
                columns = parts[:, read].T
                total[0, n].index_add_(0, home, columns)
                total[1, n].index_add_(0, home, columns**2)
        return total, count


def phases(spec: Spec, scaling: Scaling, turned: torch.Tensor, device: torch.device | str) -> torch.Tensor:
    """e^{iωp} [token, pair] of positions [token, pair or 1]; angles are reduced in float64, as float32 loses phases."""
    omega = rotary.frequencies(scaling, dtype=torch.float64, **rotary.constants(spec)).to(device)
    angle = (turned.to(device).double() * omega) % (2 * torch.pi)
    return torch.polar(torch.ones_like(angle), angle).to(torch.complex64)


def binned(total: torch.Tensor, count: torch.Tensor, heads: Sequence[int], names: Sequence[str]) -> tuple[dict, dict]:
    """(variables, coordinates) of `Unrotated.sums`; more axes of the sums may stand before the head."""
    known, bins = count.clamp(min=1)[:, None], int(count.nonzero().max()) + 1
    mean = total[0] / known
    spread = (total[1] / known - mean**2).clamp(min=0).sqrt()
    mean[..., count == 0, :], spread[..., count == 0, :] = torch.nan, torch.nan
    dims = (*("layer",)[: mean.ndim - 3], "query_head", "bin", "band")
    variables = {
        "part": (dims, mean[..., :bins, :].float(), "part"),
        "spread": (dims, spread[..., :bins, :].float(), SPREAD),
        "count": (("bin",), count[:bins], None),
    }
    return variables, {"query_head": list(heads), **bin_axis(bins), "band": list(names)}


def _unrotated_cost(request, scratch, result):
    """Queries and keys in float32 beside the scratch; each logit is head_dim products."""
    spec, cell = request.spec, request.heads * request.rows * request.sources
    unrotated = (request.tokens * spec.query_heads + request.sources * spec.kv_heads) * spec.head_dim
    return Cost(result, scratch + 4 * unrotated, 2.0 * cell * spec.head_dim)


def _bands_cost(request: Request) -> Cost:
    _, names = bands_of(request.spec, request.options.get("by", "class"))
    cell = 4 * request.rows * request.sources
    return _unrotated_cost(request, cell * len(names), cell * (request.heads * (len(names) + 1) + 2))


def binned_cost(request: Request) -> Cost:
    """Of `bands_by_distance`."""
    _, names = bands_of(request.spec, request.options.get("by", "class"))
    parts = min(request.rows * request.sources * len(names), ELEMENTS)
    bins = len(edges(request.sources)) - 1
    return _unrotated_cost(request, 30 * parts, 8 * bins * (request.heads * len(names) + 1))


@reading(
    "attention",
    seams=SEAMS,
    instead="deltanet.implied_row(run, layer={layer})",
    cost=_bands_cost,
    cheaper=("attention.bands_by_distance",),
)
def bands(
    run: Run,
    *,
    layer: int,
    heads: Sequence[int] | int | None = None,
    rows: Sequence[int] | int | None = None,
    by: str = "class",
    scaling: Scaling | None = None,
) -> "xarray.Dataset":
    """Every softmax logit, before the softmax, as the sum of its bands.

    Args:
        run: `Run` with the seams q, k, v, gate and gated of this layer.
        layer: attention layers. heads: query heads; None for all. rows: reading tokens, relative to the run's first;
            None for all.
        by: "class" (how YaRN treats the pairs: untouched, blended, interpolated), or "pair".
        scaling: a `rotary.Scaling` to foretell for frozen queries and keys; None is the run's own.

    Returns:
        Dataset: `part` (query_head, token, band, source), the bands' parts, `logit` (query_head, token, source), their
        sum; NaN after the token. `distance` (token, source): rotary positions between them, of
        pictures in time. Parity is that of the run's own logits, of at most 64 rows.

    Raises:
        LayerError, SeamError, InputError, ParityError; BudgetError: parts that would not fit.
    """
    heads, rows = select(heads, run.spec.query_heads, "query_head"), select(rows, len(run), "token")
    (band, names), unrotated, own = bands_of(run.spec, by), Unrotated.of(run, layer), scaling or run.scaling
    part = unrotated.q.new_empty(len(heads), len(rows), len(names), len(unrotated.k))
    for n, head in enumerate(heads):
        part[n] = unrotated.parts(own, band, rows, head).transpose(0, 1)
    logit, unread = part.sum(2), unrotated.unread(rows).to(part.device)
    part.masked_fill_(unread[:, None], torch.nan)
    variables = {
        "part": (("query_head", "token", "band", "source"), part, "part"),
        "logit": (("query_head", "token", "source"), logit.masked_fill_(unread, torch.nan), "logit"),
        "distance": (("token", "source"), unrotated.distance(rows), None),
    }
    coords = {"query_head": heads, "band": names, **axis(run, "token", rows), **axis(run, "source", cached=True)}
    parity = unrotated.proof("attention.bands", band, rows, heads, most=64)
    return label(variables, coords=coords, attrs={"scaling": str(own)} | parity)


@reading("attention", seams=SEAMS, instead="deltanet.implied_row(run, layer={layer})", cost=binned_cost)
def bands_by_distance(
    run: Run,
    *,
    layer: int,
    heads: Sequence[int] | int | None = None,
    rows: Sequence[int] | int | None = None,
    by: str = "class",
    scaling: Scaling | None = None,
) -> "xarray.Dataset":
    """The bands of the logits by distance, in bins that double: what knows the position, and from how far.

    Args:
        as for `bands`; memory does not grow with the square of the length. `attention.watch_bands` does the same in a
        stream.

    Returns:
        Dataset: `part` (query_head, bin, band), mean over all pairs of tokens at distances of a bin, each part measured
        from its mean over the row, which the softmax does not see; `spread`, their standard deviation; `count` (bin);
        bins as in `attention.summary`.

    Raises:
        as `bands`.
    """
    heads, rows = select(heads, run.spec.query_heads, "query_head"), select(rows, len(run), "token")
    (band, names), unrotated, own = bands_of(run.spec, by), Unrotated.of(run, layer), scaling or run.scaling
    variables, coords = binned(*unrotated.sums(own, band, rows, heads), heads, names)
    parity = unrotated.proof("attention.bands_by_distance", band, rows, heads, most=4)
    return label(variables, coords=coords, attrs={"scaling": str(own)} | parity)
