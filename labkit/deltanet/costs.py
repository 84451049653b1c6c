"""What the readings of one DeltaNet layer need: bytes of the result and of scratch, and operations, for `lab.plan`.

Scratch was counted on seven shapes and three lengths, in tiles of 512 tokens of which two live at once; within 10 %
there. `tests/test_plan.py` and `tests/test_deltanet.py` hold it against counted bytes.
"""

from labkit.notation import select
from labkit.plan import Cost
from labkit.reading import Request

NUMBERS = 12  # per token and head in the result of `deltanet.memory`
STATES = 64  # most states that `deltanet.spectrum` takes by itself


def memory(request: Request) -> Cost:
    """`deltanet.memory`: numbers per token, and whole states."""
    spec, count = request.spec, _chosen(request, 1)
    result = 4 * request.heads * (NUMBERS * request.tokens + count * spec.dk * spec.dv)
    scratch = 4 * spec.value_heads * (2.3 * request.tokens * spec.dv + 2 * (count - 1) * spec.dk * spec.dv)
    return Cost(result, _inputs(request) + _tile(request) + int(scratch), _rule(request))


def implied(request: Request) -> Cost:
    """Rows of the implied attention."""
    spec, padded = request.spec, -(-request.tokens // 64) * 64
    chunked = 4 * padded * request.heads * (3 * 64 + 2 * spec.dk)
    mixed = 4 * request.heads * request.rows * (spec.dk + 3 * spec.dv)
    flops = 2.0 * request.heads * request.rows * request.tokens * (2 * spec.dk + 64)
    return Cost(4 * request.heads * request.rows * padded, _inputs(request) + chunked + mixed, flops)


def numbers(request: Request) -> Cost:
    """A few numbers per head and token, or per head and source: survival, forgetting, recall, ..."""
    result = 4 * request.heads * 5 * request.tokens
    return Cost(result, _inputs(request) + 2 * _tile(request), 2 * _rule(request))


def reads(request: Request) -> Cost:
    """One vector per head and token: `deltanet.response`, `deltanet.measured`."""
    vectors = 4 * request.tokens * request.spec.dv
    scratch = _inputs(request) + _tile(request) + 3 * vectors * request.spec.value_heads
    return Cost(vectors * request.heads, scratch, 2 * _rule(request))


def states(request: Request) -> Cost:
    """Singular values of states: `deltanet.spectrum`, `deltanet.state_difference`."""
    spec, count = request.spec, _chosen(request, min(STATES, request.tokens))
    kept = 4 * count * spec.value_heads * spec.dk * spec.dv
    return Cost(4 * count * request.heads * (min(spec.dk, spec.dv) + 3), _inputs(request) + _tile(request) + 2 * kept)


def _chosen(request, count):
    """Number of tokens whose states are asked for; `count` where the request does not say."""
    tokens = request.options.get("tokens")
    return count if tokens is None else len(select(tokens, request.tokens, "token"))


def _inputs(request):
    """Float32 inputs of the rule, and the convolution they are split from."""
    spec = request.spec
    return 4 * request.tokens * (spec.conv_channels + 2 * spec.key_heads * spec.dk + 3 * spec.value_heads)


def _tile(request):
    spec, tile = request.spec, min(request.tokens, 1024)
    chunked = tile * spec.value_heads * (0.5 * spec.dk + 1.95 * spec.dv + 3.3 * 32)
    entries = 1.4 * -(-tile // 32) * spec.value_heads * spec.dk * spec.dv
    return int(4 * (chunked + entries))


def _rule(request):
    """Operations of the chunk form: state in and out, and products within chunks of 32."""
    spec = request.spec
    return 2.0 * request.tokens * spec.value_heads * (3 * spec.dk * spec.dv + 2 * 32 * (spec.dk + spec.dv))
