"""What the readings of one DeltaNet layer need: bytes of the result and of scratch, and operations, for `lab.plan`.

Scratch is that of tiles of 512 tokens, of which two live at once: the one that is being made and the one before.
`tests/test_costs.py` holds it against counted bytes.
"""

import dataclasses

from labkit.deltanet.bisection import AT_ONCE
from labkit.notation import select
from labkit.plan import Cost
from labkit.reading import Request
from labkit.spec import Spec

NUMBERS = 12  # per token and head in the result of `deltanet.memory`
STATES = 64  # most states that `deltanet.spectrum` takes by itself
COPIES = 6.1  # bytes that bisection takes, over those of the float32 matrices of one go
TILE, CHUNK = 512, 32  # tokens of a tile of `equation`, and of a chunk within it


def memory(request: Request) -> Cost:
    """`deltanet.memory`: numbers per token, and whole states."""
    spec, none = request.spec, request.options.get("tokens", -1) is None
    count = 0 if none else _chosen(request, 1)
    result = 4 * request.heads * (NUMBERS * request.tokens + count * spec.dk * spec.dv)
    states = 4 * spec.value_heads * max(2 * count - 1, 0) * spec.dk * spec.dv
    return Cost(result, _inputs(request) + _walk(request, spec.dv + NUMBERS) + states, _rule(request))


def implied(request: Request) -> Cost:
    """Rows of the implied attention; `form` walks the layer before."""
    spec, tokens, form = request.spec, request.tokens, request.options.get("form", "value")
    flops = 2.0 * request.heads * request.rows * tokens * (2 * spec.dk + 64)
    scratch = _rows(request, request.heads, request.rows, tokens)
    if form != "value":
        writes = spec.dv if form == "write" else 0
        scratch = max(_walk(request, spec.dv + writes), scratch + 4 * tokens * spec.value_heads * (spec.dv + writes))
    return Cost(4 * request.heads * (request.rows + 1) * tokens, _inputs(request) + scratch, flops)


def survival(request: Request) -> Cost:
    """`deltanet.survival`: four numbers per head and source, up to the token."""
    return _walked_back(request, 16 * request.heads * _upto(request))


def half_life(request: Request) -> Cost:
    """`deltanet.half_life`: two numbers per head, one of them in float64, from the survival of all sources."""
    cost = _walked_back(request, 12 * request.heads)
    return dataclasses.replace(cost, scratch=cost.scratch + 12 * request.heads * request.tokens)


def written_by(request: Request) -> Cost:
    """`deltanet.written_by`: two numbers per head and segment; what is left of every key, and a few states."""
    spec, segments, tokens = request.spec, request.options.get("segments", ("all",)), _upto(request)
    names = len({str(name) for name in segments[:tokens]}) + (request.sources > request.tokens)
    parts = 5 * spec.dk * spec.dv + min(tokens, TILE) * (spec.dk + 2 * spec.dv)
    cost, kept = _walked_back(request, 8 * request.heads * names), 4 * spec.value_heads * tokens * spec.dk
    gathered = _inputs(request) + 4 * spec.value_heads * (parts + 4 * names)
    return dataclasses.replace(cost, scratch=kept + max(cost.scratch, gathered))


def forgetting(request: Request) -> Cost:
    """`deltanet.forgetting`: six numbers per head and token; a walk to the source, then two side by side."""
    spec = request.spec
    after = request.tokens - select(request.options.get("source", 0), request.tokens, "source")[0]
    beside = 4 * 2 * min(after, TILE) * spec.value_heads * (CHUNK + 3)
    before = _walk(request, 0, request.tokens - after + 1, outputs=False)
    scratch = _inputs(request) + max(before, _walk(request, 2, after) + beside)
    return Cost(24 * request.heads * after, scratch, 2 * _rule(request))


def recall(request: Request) -> Cost:
    """`deltanet.recall`: a row of coefficients and three numbers per head and stored token."""
    tokens, stored = _upto(request), len(select(request.options.get("source", 0), request.tokens, "source"))
    rows = _rows(request, request.heads, stored, tokens)
    scratch = _inputs(request) + max(_walk(request, 0, tokens, outputs=False), rows)
    return Cost(4 * request.heads * stored * (tokens + 3), scratch, 2 * _rule(request))


def response(request: Request) -> Cost:
    """`deltanet.response`: one vector per head and token, of a second walk beside the first one's inputs."""
    cost, spec = measured(request), request.spec
    return dataclasses.replace(cost, scratch=cost.scratch + 4 * request.tokens * spec.dv * spec.value_heads)


def measured(request: Request) -> Cost:
    """`deltanet.measured`: one vector per head and token, from the reads of a walk."""
    vectors, spec = 4 * request.tokens * request.spec.dv, request.spec
    return Cost(vectors * request.heads, _inputs(request) + _walk(request, spec.dv), 2 * _rule(request))


def spectrum(request: Request) -> Cost:
    """`deltanet.spectrum`: singular values and three numbers per head and state."""
    spec, count = request.spec, _chosen(request, len(spaced(request.tokens)))
    state = 4 * count * spec.dk * spec.dv
    result = 4 * count * request.heads * (min(spec.dk, spec.dv) + 3)
    walked = _walk(request, 0, outputs=False) + state * spec.value_heads
    bisected = request.card * COPIES * 4 * min(count * request.heads, AT_ONCE) * spec.dk * spec.dv
    decomposed = _before(request) + state * (spec.value_heads + 2 * request.heads) + bisected
    return Cost(result, _inputs(request) + max(walked, int(decomposed)), _rule(request))


def state_difference(request: Request) -> Cost:
    """`deltanet.state_difference`: two numbers and some angles per head, from one state of either run."""
    spec, result = request.spec, 4 * request.heads * (2 + request.options.get("modes", 4))
    states = 4 * 3 * spec.value_heads * spec.dk * spec.dv
    return Cost(result, 2 * _inputs(request) + _walk(request, 0, outputs=False) + states, 2 * _rule(request))


def watched(spec: Spec, layers: int, chunk: int, numbers: int) -> int:
    """Bytes of scratch of a probe that walks a chunk of so many layers, and keeps so many numbers of each at a time."""
    request = Request(spec, chunk, chunk, spec.value_heads, chunk, 4)
    kept = 4 * (layers - 1) * chunk * spec.value_heads * numbers
    return _inputs(request) + _walk(request, spec.dv + NUMBERS) + kept


def row(spec: Spec, tokens: int, rows: int) -> int:
    """Bytes of scratch of so many rows of the implied attention over so many tokens, all heads."""
    return _rows(Request(spec, tokens, tokens, spec.value_heads, rows, 4), spec.value_heads, rows, tokens)


def spaced(tokens: int) -> list[int]:
    """The tokens whose states `deltanet.spectrum` takes by itself: at most `STATES`, the last one included."""
    return sorted(range(tokens - 1, -1, -max(1, -(-tokens // STATES))))


def _upto(request):
    """Tokens up to the one that is asked for, which is the last where the request does not say."""
    return select(request.options.get("token", -1), request.tokens, "token")[0] + 1


def _walked_back(request, result):
    """Of readings by `equation.left_of_keys`."""
    spec, tokens = request.spec, min(_upto(request), TILE)
    tiles = 2 if _upto(request) > TILE else 1
    numbers = (
        tokens * ((2 + tiles) * CHUNK + 4 * spec.dk + _decays(spec)) + -(-tokens // CHUNK) * 2 * tiles * spec.dk**2
    )
    return Cost(result, _inputs(request) + 4 * spec.value_heads * numbers, 2 * _rule(request))


def _chosen(request, count):
    """Number of tokens whose states are asked for; `count` where the request does not say."""
    tokens = request.options.get("tokens")
    return count if tokens is None else len(select(tokens, request.tokens, "token"))


def _inputs(request):
    """Float32 inputs of the rule, and the convolution they are split from."""
    spec = request.spec
    gates = (2 + spec.decays) * spec.value_heads
    return 4 * request.tokens * (spec.conv_channels + 2 * spec.key_heads * spec.dk + gates)


def _decays(spec):
    """Numbers per token and head of decay per channel: cumulated in float64, differences, what keys become by them."""
    return 12 * spec.dk if spec.decays > 1 else 0


def _walk(request, columns, tokens=None, *, outputs=True):
    """The highest moment of a walk that keeps so many numbers per token and head: its tiles, or its end."""
    spec, tokens = request.spec, request.tokens if tokens is None else tokens
    first, second = min(tokens, TILE), min(max(tokens - TILE, 0), TILE)

    def made(count):
        numbers = 4 * CHUNK + (5 if outputs else 3) * spec.dv + 2 * spec.dk + _decays(spec)
        return spec.value_heads * (-(-count // CHUNK)) * (CHUNK * numbers + 3 * spec.dk * spec.dv)

    before = _before(request, first, outputs=outputs) // 4
    grown = tokens * spec.value_heads * columns
    tiles = max(made(first), before + made(second) if second else 0)
    return 4 * max(tiles + grown * (tokens > TILE) * (tokens - TILE) // max(tokens, 1), before + 2 * grown)


def _before(request, tokens=TILE, *, outputs=False):
    """A tile that is there."""
    spec, tokens = request.spec, min(tokens, request.tokens)
    entries = -(-tokens // CHUNK) * spec.dk * spec.dv
    return 4 * spec.value_heads * (tokens * (CHUNK + (3 if outputs else 2) * spec.dv) + entries)


def _rows(request, heads, rows, tokens):
    """`equation.implied` of so many heads and rows."""
    spec, padded = request.spec, -(-tokens // 64) * 64
    chunked, mixed = padded * (3 * 64 + 2 * spec.dk), rows * (spec.dk + 3 * spec.dv)
    return 4 * heads * (chunked + mixed + rows * (padded - tokens))


def _rule(request):
    """Operations of the chunk form: state in and out, and products within chunks of 32."""
    spec = request.spec
    return 2.0 * request.tokens * spec.value_heads * (3 * spec.dk * spec.dv + 2 * CHUNK * (spec.dk + spec.dv))
