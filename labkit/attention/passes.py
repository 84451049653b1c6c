"""Two passes over the tiles of a softmax map, in Triton; nothing of the map is stored. `fused` launches them.

A program takes a tile of rows, all of one block of rows, and one head. With c = log2(e) / sqrt(d), x = c ⟨q, k⟩ and the
level L = log2 Σ 2^x:

    first    L, the entropy and the largest weight of each row, from running sums as flash attention keeps them
    second   p = 2^(x - L), summed by row, by block of sources, by distance and by segment

Rows stand at any ascending positions. Sources come in tiles that begin at multiples of BN from the beginning of their
block. Nearly all of them are plain: every row sees all of the tile, at distances of one bin, beyond the sink and what
is near, in one segment. Their loops hold a product, an exponential and two sums by row. Around the diagonal, at a bound
of a bin or of a segment, a tile is taken apart under masks. Every sum is written by one program, and none is added by
several at once, so that a run repeats its numbers.
"""

import triton
import triton.language as tl


@triton.jit
def _bin(distance):
    """floor(log2(distance + 1)) of a whole number, exact: the exponent of a float64."""
    number = (distance + 1).to(tl.float64)
    return ((number.to(tl.int64, bitcast=True) >> 52) - 1023).to(tl.int32)


@triton.jit
def _rows(Q, AT, START, HEADS, q_row, q_head, D: tl.constexpr, DP: tl.constexpr, BM: tl.constexpr):
    """The rows of this program: (place, whether there, position, first and last position, queries)."""
    tile = tl.num_programs(0) - 1 - tl.program_id(0)  # the longest first
    begin, end = tl.load(START + tile), tl.load(START + tile + 1)
    r, d = tl.arange(0, BM), tl.arange(0, DP)
    there = r < end - begin
    t = tl.load(AT + begin + r, mask=there, other=-1)
    base = Q + tl.cast(begin, tl.int64) * q_row + tl.cast(tl.load(HEADS + tl.program_id(1)), tl.int64) * q_head
    q = tl.load(base + r[:, None] * q_row + d[None, :], mask=there[:, None] & (d < D)[None, :], other=0.0)
    return begin + r, there, t, tl.load(AT + begin), tl.load(AT + end - 1), q


@triton.jit
def _products(
    q, K, j0, last, k_source,
    D: tl.constexpr, DP: tl.constexpr, BN: tl.constexpr, EDGE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """⟨q, k⟩ of sources from j0 on; of an edge, none from `last` on is read."""
    j, d = tl.arange(0, BN), tl.arange(0, DP)
    places = K + tl.cast(j0, tl.int64) * k_source + j[None, :] * k_source + d[:, None]
    if EDGE:
        k = tl.load(places, mask=(j0 + j < last)[None, :] & (d < D)[:, None], other=0.0)
    elif D == DP:
        k = tl.load(places)
    else:
        k = tl.load(places, mask=(d < D)[:, None], other=0.0)
    return tl.dot(q, k, input_precision=PRECISION)


@triton.jit
def _rise(s, scale, m, z, h):
    """(m, z, h) of each row with the products s of one more tile: running maximum of x = scale s, z = Σ 2^(x - m) and
    h = Σ 2^(x - m) (x - m), which cancels nothing however large x is."""
    high = tl.maximum(m, tl.max(s, 1) * scale)
    x = s * scale - high[:, None]
    p, less = tl.exp2(x), tl.exp2(m - high)
    return high, z * less + tl.sum(p, 1), (h + z * (m - high)) * less + tl.sum(p * x, 1)


@triton.jit
def touch(PLACE):
    """Write 1: the smallest kernel, which says whether kernels can be compiled and run here at all."""
    tl.store(PLACE, 1)


@triton.jit(do_not_specialize=["T"])
def first(
    Q, K, AT, START, HEADS, KEYS, LEVEL, ENTROPY, TOP, q_row, q_head, k_source, k_head, T, scale,
    D: tl.constexpr, DP: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Level, entropy in nat and largest weight [head, row]; grid (tiles of rows, heads)."""
    r, there, t, t0, t1, q = _rows(Q, AT, START, HEADS, q_row, q_head, D, DP, BM)
    base = K + tl.cast(tl.load(KEYS + tl.program_id(1)), tl.int64) * k_head
    m = tl.full([BM], -1e30, tl.float32)
    z = tl.zeros([BM], tl.float32)
    h = tl.zeros([BM], tl.float32)
    whole = (t0 + 1) // BN * BN  # every row sees all sources below
    for j0 in range(0, whole, BN):
        s = _products(q, base, j0, 0, k_source, D, DP, BN, False, PRECISION)
        m, z, h = _rise(s, scale, m, z, h)
    for j0 in range(whole, t1 + 1, BN):
        s = _products(q, base, j0, t1 + 1, k_source, D, DP, BN, True, PRECISION)
        seen = (j0 + tl.arange(0, BN))[None, :] <= t[:, None]
        m, z, h = _rise(tl.where(seen, s, -1e30), scale, m, z, h)
    z = tl.where(there, z, 1.0)
    out = tl.cast(tl.program_id(1), tl.int64) * T + r
    tl.store(LEVEL + out, m + tl.log2(z), mask=there)
    tl.store(ENTROPY + out, tl.maximum(0.6931471805599453 * (tl.log2(z) - h / z), 0.0), mask=there)
    tl.store(TOP + out, 1.0 / z, mask=there)


@triton.jit(do_not_specialize=["T", "sink", "local", "blocks"])
def second(
    Q, K, AT, START, HEADS, KEYS, LEVEL, SEGMENT, UNTIL, SINK, LOCAL, DISTANCE, POOLED, BINS, KINDS,
    q_row, q_head, k_source, k_head, T, scale, sink, local, block, blocks,
    D: tl.constexpr, DP: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr,
    BINS_UP: tl.constexpr, KINDS_UP: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Masses, from the levels of `first`: sink, local and mean distance [head, row]; sums over each tile of rows by
    block of sources, bin of distance and segment [head, tile, ...]. KINDS_UP: 0 without segments."""
    r, there, t, t0, t1, q = _rows(Q, AT, START, HEADS, q_row, q_head, D, DP, BM)
    base = K + tl.cast(tl.load(KEYS + tl.program_id(1)), tl.int64) * k_head
    out = tl.cast(tl.program_id(1), tl.int64) * T + r
    level = tl.load(LEVEL + out, mask=there, other=1e30)  # rows that are not there weigh nothing
    c, bins, kinds = tl.arange(0, BN), tl.arange(0, BINS_UP), tl.arange(0, KINDS_UP if KINDS_UP else 1)
    tile = tl.cast(tl.program_id(1) * tl.num_programs(0) + tl.num_programs(0) - 1 - tl.program_id(0), tl.int64)
    distance = tl.zeros([BM], tl.float32)
    near = tl.zeros([BM], tl.float32)
    early = tl.zeros([BM], tl.float32)
    by_bin = tl.zeros([BINS_UP], tl.float32)
    by_kind = tl.zeros([KINDS_UP if KINDS_UP else 1], tl.float32)
    held = 0.0  # of the block of sources, so far
    last, j0 = t1 + 1, t0 * 0
    while j0 < last:
        stop = tl.minimum((j0 // block + 1) * block, last)
        far = _bin(t1 - j0)
        free = tl.minimum(stop, t0 - tl.maximum((1 << far) - 1, local) + 1)  # plain sources end here
        if KINDS_UP:
            free = tl.minimum(free, tl.load(UNTIL + j0))
        plain = tl.where(j0 < sink, 0, tl.maximum(free - j0, 0) // BN * BN)
        if plain > 0:
            run = tl.zeros([BM], tl.float32)
            for j in range(j0, j0 + plain, BN):
                s = _products(q, base, j, 0, k_source, D, DP, BN, False, PRECISION)
                p = tl.exp2(s * scale - level[:, None])
                rows = tl.sum(p, 1)
                run += rows
                distance += rows * (t - j).to(tl.float32) - tl.sum(p * c[None, :].to(tl.float32), 1)
            mass = tl.sum(run, 0)
            by_bin += tl.where(bins == far, mass, 0.0)
            if KINDS_UP:
                by_kind += tl.where(kinds == tl.load(SEGMENT + j0), mass, 0.0)
            held += mass
            j0 += plain
        else:
            source = j0 + c
            back = t[:, None] - source[None, :]
            s = _products(q, base, j0, stop, k_source, D, DP, BN, True, PRECISION)
            p = tl.exp2(tl.where((back >= 0) & (source < stop)[None, :], s * scale - level[:, None], -1e30))
            rows = tl.sum(p, 1)
            distance += rows * (t - j0).to(tl.float32) - tl.sum(p * c[None, :].to(tl.float32), 1)
            early += tl.sum(tl.where((source < sink)[None, :], p, 0.0), 1)
            near += tl.sum(tl.where(back < local, p, 0.0), 1)
            edge = tl.minimum(j0 + BN, stop)
            for n in range(_bin(tl.maximum(t0 - edge + 1, 0)), far + 1):
                inside = (back >= (1 << n) - 1) & (back < (2 << n) - 1)
                by_bin += tl.where(bins == n, tl.sum(tl.sum(tl.where(inside, p, 0.0), 1), 0), 0.0)
            if KINDS_UP:
                columns, kind = tl.sum(p, 0), tl.load(SEGMENT + source, mask=source < stop, other=-1)
                lowest = tl.min(tl.where(source < stop, kind, KINDS_UP), 0)
                for n in range(lowest, tl.max(kind, 0) + 1):
                    by_kind += tl.where(kinds == n, tl.sum(tl.where(kind == n, columns, 0.0), 0), 0.0)
            held += tl.sum(rows, 0)
            j0 = edge
        if j0 == stop:
            tl.store(POOLED + tile * blocks + (stop - 1) // block, held)
            held = 0.0
    tl.store(SINK + out, early, mask=there)
    tl.store(LOCAL + out, near, mask=there)
    tl.store(DISTANCE + out, distance, mask=there)
    tl.store(BINS + tile * BINS_UP + bins, by_bin)
    if KINDS_UP:
        tl.store(KINDS + tile * KINDS_UP + kinds, by_kind)
