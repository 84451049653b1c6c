"""One forward pass of a hybrid as transformers makes it: what is alive at its highest moment, layer by layer.

Scratch of the delta rule is that of transformers' chunk rule in PyTorch, in float32 whatever the model's dtype; fused
kernels need less. Attention with a mask (every pass that continues a cache, and padded rows) holds the mask as truth
values through the whole pass, and for one layer at a time the same mask in the model's dtype and keys and values
repeated for every query head (`sdpa_attention_forward`). Lower-right attention on a card (`labkit.kernels`) needs none
of that, but for padded rows.

Two ways of attention make the whole map of a layer (`Maps`): "eager", in every family, and sdpa on a processor where
keys and values differ in width, as those of latent attention do, since its fused kernel takes equal widths alone.
"""

import dataclasses
from collections.abc import Mapping, Sequence

from labkit.spec import Spec

BLOCK = 64  # tokens of a chunk of transformers' rule
BEFORE = ("resid_pre", "mixer_in", "qkv", "z", "b", "a", "q", "k", "v", "gate")  # kept: alive at the mixer's peak
LOOSE = ("resid_pre", "mixer_in", "z", "b", "a", "v")  # of those, the model itself still holds these then
GRAPHED = ("resid_pre", "resid_post", "qkv", "z", "read", "v", "gated")  # of a trace with gradients: the graph's own


@dataclasses.dataclass(frozen=True)
class Maps:
    """Bytes of each pair of tokens in each query head, where attention makes its map.

    Attributes:
        high: at the highest moment. held: of the map that a layer hands on to its end. graph: that autograd keeps.
        scaled: of each number in the copies of queries, keys and values that it computes with; 0 where it takes them
            as they are.
    """

    high: int
    held: int
    graph: int
    scaled: int


def eager(width: int, host: bool) -> Maps:
    """Of transformers' eager attention, `width` bytes a number: scores and their softmax, which is of float32; `host`
    says whether a processor computes it, which turns scores of 16 bits into numbers of 32 first."""
    wide, narrow = max(4, width), width < 4
    return Maps(wide + width + (wide if host and narrow else 0), width, wide + (width if narrow else 0), 0)


def unfused(width: int) -> Maps:
    """Of sdpa without its fused kernel: scores, their softmax, and which of them are shut out; of float32 at least."""
    wide = max(4, width)
    return Maps(2 * wide + 1, 0, wide, wide)


@dataclasses.dataclass(frozen=True)
class Pass:
    """One forward pass.

    Attributes:
        tokens: new ones in each row. sources: those that can be read, before them and they.
        rows: of the batch. padded: whether some rows are shorter. grows: whether buffers that hold earlier
            tokens may be replaced by larger ones.
        maskless: whether attention continues a cache without a mask. maps: of attention that makes its map.
    """

    tokens: int
    sources: int
    rows: int = 1
    padded: bool = False
    grows: bool = False
    maskless: bool = False
    maps: Maps | None = None

    @property
    def numbered(self) -> bool:
        """Whether its mask is made of numbers from the beginning, in every pass, as eager attention's is."""
        return self.maps is not None and self.maps.held > 0

    @property
    def masked(self) -> bool:
        """Whether transformers makes a mask."""
        return self.padded or self.numbered or (not self.maskless and 1 < self.tokens < self.sources)

    @property
    def pairs(self) -> int:
        """Pairs of a token and one that it may read, of all rows."""
        return self.rows * self.tokens * self.sources


@dataclasses.dataclass(frozen=True)
class Moment:
    """Bytes alive at one moment of a pass: seams that are kept, scratch of a layer, and the attention mask."""

    seams: int
    scratch: int
    mask: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.seams + self.scratch + self.mask


def passes(tokens: int, chunk: int | None, cuts: Sequence[int], before: int, **facts) -> list[Pass]:
    """The passes over so many tokens after `before` cached ones, split by chunks and at `cuts`, that may be highest.

    These are the last one, the longest one, and the one with the largest mask.
    """
    edges = {cut - before for cut in cuts if before < cut < before + tokens} | set(
        range(chunk or tokens, tokens, chunk or tokens)
    )
    edges = [0, *sorted(edges), tokens]
    made = [Pass(b - a, before + b, **facts) for a, b in zip(edges, edges[1:], strict=False)]
    return list(
        dict.fromkeys(
            [made[-1], max(made, key=lambda p: (p.tokens, p.sources)), max(made, key=lambda p: p.tokens * p.sources)]
        )
    )


def seam_bytes(spec: Spec, layer: int, name: str, tokens: int, width: int) -> int:
    """Bytes of one seam of so many tokens, `width` bytes a number; a part keeps its whole tensor alive."""
    return tokens * width * spec.widths[spec.kinds[layer]][name]


def kept_bytes(
    spec: Spec, wanted: Mapping[int, Sequence[str]], tokens: int, width: int, names: Sequence[str] = ()
) -> int:
    """Bytes of all wanted seams of so many tokens; `names` leaves these out."""
    return sum(sum(own.values()) for own in _owned(spec, wanted, tokens, width, names).values())


def highest(spec: Spec, width: int, step: Pass, wanted: Mapping[int, Sequence[str]], done: int = 0) -> Moment:
    """The highest moment of a pass.

    Args:
        width: bytes of an activation. wanted: `{layer: seams}` that are kept.
        done: tokens of each row whose seams are kept from earlier passes.
    """
    tokens = step.rows * step.tokens
    kept, top, most, alike = kept_bytes(spec, wanted, step.rows * done, width), (0, 0, 0), -1, {}
    owned = _owned(spec, wanted, tokens, width)
    mask = step.pairs * (width if step.numbered else 1) if step.masked else 0
    for layer, kind in enumerate(spec.kinds):
        own, names = owned.get(layer, {}), wanted.get(layer, ())
        if (key := (kind, len(own), *names)) not in alike:  # most layers are like another
            alike[key] = _inside(spec, kind, own, names, step, width), sum(own.values())
        moments, count = alike[key]
        for more, scratch, floats in moments:
            if (total := kept + more + scratch + mask + floats) > most:
                top, most = (kept + more, scratch, mask + floats), total
        kept += count
    return Moment(*top)


def _inside(spec, kind, own, names, step, width):
    """(seams kept so far, scratch, float masks) at the high moments of one layer, beside what is kept before it."""
    tokens = step.rows * step.tokens
    inside = {name: tokens * width * count for name, count in spec.widths[kind].items() if name in LOOSE}
    before = sum(count for name, count in own.items() if name in BEFORE)
    loose = sum(count for name, count in inside.items() if name not in names)
    moments = [(before, loose + scratch, floats) for scratch, floats in _mixer(spec, kind, step, width)]
    loose = sum(inside[name] for name in ("resid_pre", "mixer_in") if name not in names)
    held = step.pairs * spec.query_heads * step.maps.held if step.maps and kind == "attention" else 0
    return [*moments, (sum(own.values()), loose + held + mlp(spec, tokens, width), 0)]


def state_bytes(spec: Spec, width: int) -> int:
    """Bytes of the state and the convolution window of one DeltaNet layer, one row."""
    return 4 * spec.value_heads * spec.dk * spec.dv + spec.conv_channels * spec.conv * width


def mixer(spec: Spec, kind: str, step: Pass, width: int) -> int:
    """Bytes of the highest moment of a mixer of a `kind` beside its inputs; `step` is the pass, `width` bytes a
    number.
    """
    return max(scratch + floats for scratch, floats in _mixer(spec, kind, step, width))


def mlp(spec: Spec, tokens: int, width: int) -> int:
    """Bytes of gate, up and their product, `width` for each number; with experts also every chosen expert's input
    and output.
    """
    widths = 3 * spec.intermediate
    if spec.experts:
        widths = spec.active_experts * (2 * spec.hidden + 3 * spec.intermediate) + 3 * spec.shared_intermediate
    return tokens * width * widths


def graph_bytes(spec: Spec, step: Pass, width: int) -> int:
    """What autograd keeps of every layer: numbers per token in float32 and in the model's dtype.

    Fitted to 140 shapes in float32 and bfloat16 within 11 %, weights without gradients; decay per channel, which keeps
    three numbers of every pair in a block and channel and the steps of solving the block, to 15 shapes within 10 %.
    """
    tokens = step.rows * step.tokens
    padded, heads = -(-tokens // BLOCK) * BLOCK, spec.value_heads
    rule = 4 * (5 * spec.dk + 6 * spec.dv + 5 * BLOCK) + width * (5.5 * spec.dk + 2.5 * spec.dv)
    if "key" in spec.seams["deltanet"]["a"].dims:
        rule += 4 * (3 * BLOCK * spec.dk + BLOCK * BLOCK / 3 + BLOCK / 2)
    deltanet = padded * heads * rule + tokens * spec.key_heads * spec.dk * (8 + 1.5 * width)
    deltanet += padded // BLOCK * heads * spec.dk * spec.dv * 3.5 * width
    softmax = tokens * spec.head_dim * (spec.query_heads * (2 + 5.5 * width) + spec.kv_heads * (2 + 2.5 * width))
    softmax += step.pairs * spec.query_heads * (step.maps.graph if step.maps else 0)
    each = 12 * tokens * spec.hidden + mlp(spec, tokens, width) * (0.85 if not spec.experts else 4 / 3)
    return int(len(spec.deltanet_layers) * deltanet + len(spec.attention_layers) * softmax + spec.layers * each)


def graph_scratch(spec: Spec, step: Pass, width: int) -> int:
    """Bytes that the last layer of softmax attention holds for its map beside the graph; 0 where it makes none."""
    if step.maps is None:
        return 0
    return step.pairs * (spec.query_heads * (step.maps.high - step.maps.graph) + width * step.masked)


def _owned(spec, wanted, tokens, width, without=()):
    """`{layer: {seam: bytes}}` of what is kept; a layer's input is the tensor that the layer before gave, and seams of
    one tensor, which keep all of it, are counted once.

    Layers of which the same is kept share their entry.
    """
    owned, made = {}, {}
    for layer, names in wanted.items():
        taken = "resid_post" in wanted.get(layer - 1, ())
        key = (spec.kinds[layer], taken, *names)
        if key not in made:
            left = {*without, "resid_pre"} if taken else without
            seams = {spec.seams[spec.kinds[layer]][name].source: name for name in names if name not in left}
            made[key] = {name: seam_bytes(spec, layer, name, tokens, width) for name in seams.values()}
        owned[layer] = made[key]
    return owned


def _mixer(spec, kind, step, width):
    """(scratch, float masks) at each of a mixer's high moments."""
    tokens = step.rows * step.tokens
    if kind == "deltanet":
        # Of every token and head: where chunks are multiplied, where keys and queries are decayed, where reads return.
        pairs, decayed = 3 * spec.dk + 2 * spec.dv + 4 * BLOCK, 6 * spec.dk + 4 * spec.dv + 3 * BLOCK
        numbers = max(pairs, decayed, 5 * (spec.dk + spec.dv) + 3 * BLOCK) + 8
        if "key" in spec.seams["deltanet"]["a"].dims:  # decay by channel: three numbers of every pair
            numbers = 3 * BLOCK * spec.dk + 4 * spec.dk + 2 * spec.dv
        padded = step.rows * -(-step.tokens // BLOCK) * BLOCK
        conv = tokens * spec.conv_channels * width
        states = 4 * 4 * step.rows * spec.value_heads * spec.dk * spec.dv
        if step.tokens == 1 and step.sources > 1:  # the recurrent rule
            return [(conv + states, 0)]
        return [(padded * spec.value_heads * numbers * 4 + conv + states, 0)]
    return _softmax(spec, step, width)


def _softmax(spec, step, width):
    """(scratch, float masks) at each high moment of softmax attention."""
    tokens, sources = step.rows * step.tokens, step.rows * step.sources
    queries, keys = spec.query_heads * spec.head_dim, spec.kv_heads * spec.head_dim
    floats = step.pairs * width if step.masked and not step.numbered else 0
    if spec.latent:  # of every head keys and values of all that is read, made anew
        asked = spec.query_heads * (spec.plain + spec.shared)
        taken = tokens * (asked + 2 * spec.latent_channels)
        given = sources * (spec.query_heads * (spec.plain + spec.head_dim) + asked)
        moments = [(width * (taken + given + tokens * queries), floats)]
    else:
        # Rotated queries and keys, gate, mixed values, opened gate and their product.
        asked, taken = queries, tokens * (3 * queries + keys)
        given = 2 * sources * queries if spec.query_heads > spec.kv_heads else 0
        moments = [(tokens * width * (5 * queries + keys), 0)]
        if step.masked:
            moments.append((width * (taken + given), floats))
        if step.grows:  # full buffers are copied into larger ones
            moments.append((width * (tokens * 2 * (queries + keys) + sources * keys), 0))
    if step.maps:
        scaled = step.maps.scaled * (tokens + sources) * asked
        causal = 0 if step.masked else step.pairs // step.rows * (1 + step.maps.scaled)
        high = step.pairs * spec.query_heads * step.maps.high
        moments.append((width * (taken + given) + scaled + high, floats + causal))
    return moments
