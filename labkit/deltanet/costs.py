"""What the readings of one DeltaNet layer need: bytes of the result and of scratch, and operations, for `lab.plan`.

Scratch is that of tiles of 512 tokens, of which two live at once. `tests/test_costs.py` holds it against counted bytes
within 0.7 to 3, results within a quarter; `tests/test_plan.py` holds the plan of `deltanet.memory` closer.
"""

import dataclasses

from labkit.notation import select
from labkit.plan import Cost
from labkit.reading import Request

NUMBERS = 12  # per token and head in the result of `deltanet.memory`
STATES = 64  # most states that `deltanet.spectrum` takes by itself


def memory(request: Request) -> Cost:
    """`deltanet.memory`: numbers per token, and whole states."""
    spec, none = request.spec, request.options.get("tokens", -1) is None
    count = 0 if none else _chosen(request, 1)
    result = 4 * request.heads * (NUMBERS * request.tokens + count * spec.dk * spec.dv)
    scratch = 4 * spec.value_heads * (2.3 * request.tokens * spec.dv + 2 * max(count - 1, 0) * spec.dk * spec.dv)
    return Cost(result, _inputs(request) + _tile(request) + int(scratch), _rule(request))


def implied(request: Request) -> Cost:
    """Rows of the implied attention."""
    spec, padded = request.spec, -(-request.tokens // 64) * 64
    chunked = 4 * padded * request.heads * (3 * 64 + 2 * spec.dk)
    mixed = 4 * request.heads * request.rows * (spec.dk + 3 * spec.dv)
    flops = 2.0 * request.heads * request.rows * request.tokens * (2 * spec.dk + 64)
    rounded = 4 * request.heads * request.rows * (padded - request.tokens)
    result = 4 * request.heads * (request.rows + 1) * request.tokens
    return Cost(result, _inputs(request) + chunked + mixed + rounded, flops)


def survival(request: Request) -> Cost:
    """`deltanet.survival`: three numbers per head and source, up to the token."""
    return _walked_back(request, 12 * request.heads * _upto(request))


def half_life(request: Request) -> Cost:
    """`deltanet.half_life`: two numbers per head, one of them in float64, from the survival of all sources."""
    cost = _walked_back(request, 12 * request.heads)
    return dataclasses.replace(cost, scratch=cost.scratch + 12 * request.heads * request.tokens)


def written_by(request: Request) -> Cost:
    """`deltanet.written_by`: two numbers per head and segment, from a state of every segment."""
    spec, segments = request.spec, request.options.get("segments", ("all",))
    names = len({str(name) for name in segments[: _upto(request)]}) + (request.sources > request.tokens)
    parts = 4 * names * spec.value_heads * spec.dk * spec.dv
    return _walked_back(request, 8 * request.heads * names, 2 * parts)


def forgetting(request: Request) -> Cost:
    """`deltanet.forgetting`: five numbers per head and token, from the source on."""
    after = request.tokens - select(request.options.get("source", 0), request.tokens, "source")[0]
    return Cost(20 * request.heads * after, _inputs(request) + 2 * _tile(request), 2 * _rule(request))


def recall(request: Request) -> Cost:
    """`deltanet.recall`: a row of coefficients and three numbers per head and stored token."""
    stored = len(select(request.options.get("source", 0), request.tokens, "source"))
    scratch = _inputs(request) + 2 * _tile(request)
    return Cost(4 * request.heads * stored * (_upto(request) + 3), scratch, 2 * _rule(request))


def reads(request: Request) -> Cost:
    """One vector per head and token: `deltanet.response`, `deltanet.measured`."""
    vectors = 4 * request.tokens * request.spec.dv
    scratch = _inputs(request) + _tile(request) + 3 * vectors * request.spec.value_heads
    return Cost(vectors * request.heads, scratch, 2 * _rule(request))


def spectrum(request: Request) -> Cost:
    """`deltanet.spectrum`: singular values and three numbers per head and state."""
    spec, count = request.spec, _chosen(request, len(spaced(request.tokens)))
    states = 4 * count * spec.value_heads * spec.dk * spec.dv
    result = 4 * count * request.heads * (min(spec.dk, spec.dv) + 3)
    return Cost(result, _inputs(request) + _tile(request) + 2 * states, _rule(request))


def state_difference(request: Request) -> Cost:
    """`deltanet.state_difference`: two numbers and some angles per head, from one state of either run."""
    spec, result = request.spec, 4 * request.heads * (2 + request.options.get("modes", 4))
    states = 4 * 4 * spec.value_heads * spec.dk * spec.dv
    return Cost(result, 2 * _inputs(request) + _tile(request) + states, 2 * _rule(request))


def spaced(tokens: int) -> list[int]:
    """The tokens whose states `deltanet.spectrum` takes by itself: at most `STATES`, the last one included."""
    return sorted(range(tokens - 1, -1, -max(1, -(-tokens // STATES))))


def _upto(request):
    """Tokens up to the one that is asked for, which is the last where the request does not say."""
    return select(request.options.get("token", -1), request.tokens, "token")[0] + 1


def _walked_back(request, result, states=0):
    """Of readings by `equation.left_of_keys`."""
    return Cost(result, _inputs(request) + _tile(request) + states, 2 * _rule(request))


def _chosen(request, count):
    """Number of tokens whose states are asked for; `count` where the request does not say."""
    tokens = request.options.get("tokens")
    return count if tokens is None else len(select(tokens, request.tokens, "token"))


def _inputs(request):
    """Float32 inputs of the rule, and the convolution they are split from."""
    spec = request.spec
    return 4 * request.tokens * (spec.conv_channels + 2 * spec.key_heads * spec.dk + 3 * spec.value_heads)


def _tile(request):
    spec, tile = request.spec, min(3 * request.tokens // 2, 1024)  # one that is being made counts half as much again
    chunked = tile * spec.value_heads * (0.5 * spec.dk + 1.95 * spec.dv + 3.3 * 32)
    entries = 1.4 * -(-tile // 32) * spec.value_heads * spec.dk * spec.dv
    return int(4 * (chunked + entries))


def _rule(request):
    """Operations of the chunk form: state in and out, and products within chunks of 32."""
    spec = request.spec
    return 2.0 * request.tokens * spec.value_heads * (3 * spec.dk * spec.dv + 2 * 32 * (spec.dk + spec.dv))
