"""Which kernel computes lower-right causal attention without a mask, by card, precision and size of a head.

Lower-right: the last of n queries sees all m keys, as in a pass that continues a cache. Each kernel reads grouped keys
and values as they lie, without a copy for every query head. A kernel is taken once it has given the right numbers on
the card at hand, in small problems (`failing`); the last in the table, sdpa with a mask, needs no proof.
"""

import functools
import importlib.util
from collections.abc import Callable

import torch

from labkit.errors import one_line

SDPA = "sdpa"  # transformers' own path, with an explicit mask
PACKAGED = "flash_attn_interface"  # flash-attention 3
TABLE = (  # (kernel, least and greatest compute capability), the fastest first; all are lower-right by themselves
    ("flash3", (9, 0), (9, 9)),  # a Hopper kernel of a package
    ("cudnn", (9, 0), (9, 9)),  # one within PyTorch; by its arithmetic twice as fast as flash 2 there, not measured
    ("flash", (8, 0), (12, 9)),  # flash 2 within PyTorch; on an H200 82 ms where a mask takes 115
)
WIDEST = 256  # channels of a head
NEAR = 2**-6  # of the largest number, in 16 bits; another alignment or order of heads is off by its whole size


def kernels_for(capability: tuple[int, int] | None, dtype: torch.dtype, head_dim: int) -> tuple[str, ...]:
    """Names of kernels that may do it, the fastest first; the last is always "sdpa".

    Args:
        capability: of a CUDA card; None for any other device.
    """
    found = []
    if capability is not None and dtype in (torch.bfloat16, torch.float16) and head_dim % 8 == 0:
        found = [name for name, least, most in TABLE if least <= capability <= most and head_dim <= WIDEST]
    return (*found, SDPA)  # float32 multiplies exactly there


def kernel_for(device: torch.device, dtype: torch.dtype, head_dim: int, groups: int) -> str:
    """The fastest kernel that is right on this device.

    Args:
        groups: query heads that share a head of keys and values.
    """
    return tried(device, dtype, head_dim, groups)[0]


def tried(device: torch.device, dtype: torch.dtype, head_dim: int, groups: int) -> tuple[str, dict[str, str]]:
    """(the kernel of `kernel_for`, `{name: why it is not taken}` of those before it)."""
    index = torch.cuda.current_device() if device.type == "cuda" and device.index is None else device.index
    capability = torch.cuda.get_device_capability(index) if device.type == "cuda" else None
    refused = {}
    for name in kernels_for(capability, dtype, head_dim):
        why = None if name == SDPA else failing(name, index, dtype, head_dim, groups)
        if why is None:
            break
        refused[name] = why
    return name, refused


@functools.lru_cache
def failing(name: str, index: int | None, dtype: torch.dtype, head_dim: int, groups: int) -> str | None:
    """Why a kernel is not taken; None if it gives the numbers of dense float64.

    Proven on two prompts, 2 and 40 queries and 104 keys of two heads that lie in a cache with room for more, as numbers
    do in a pass.

    Args:
        index: of a CUDA card; None computes on the CPU.

    Raises:
        torch.OutOfMemoryError: it passes, and nothing is remembered.
    """
    device = torch.device("cpu") if index is None else torch.device("cuda", index)
    generator = torch.Generator("cpu").manual_seed(0)
    draw = lambda *sizes: torch.randn(*sizes, head_dim, generator=generator, device="cpu").to(dtype)  # noqa: E731
    k, v = (draw(2, 2, 128).index_fill(2, torch.arange(104, 128, device="cpu"), torch.nan) for _ in range(2))
    for n in (40, 2):
        q = draw(2, n, 2 * groups).transpose(1, 2)
        right = dense(q, k[:, :, :104], v[:, :, :104], head_dim**-0.5)
        try:
            with torch.no_grad():
                there = q.to(device), k.to(device)[:, :, :104], v.to(device)[:, :, :104]
                made = KERNELS[name](*there, head_dim**-0.5).cpu().double()
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # a kernel that this build or card lacks says so in many ways
            return one_line(error)
        off = float((made - right).abs().max() / right.abs().max())
        if not off <= NEAR:
            return f"wrong numbers, off by {off:.2g} of the largest for {n} queries"
    return None


def dense(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float) -> torch.Tensor:
    """Lower-right causal attention by its definition, in float64.

    Args:
        q: [batch, query_head, n, head_dim]. k, v: [batch, kv_head, m, head_dim].
    """
    (groups, n, m) = q.shape[1] // k.shape[1], q.shape[2], k.shape[2]
    hidden = torch.ones(n, m, dtype=torch.bool, device=q.device).triu(1 + m - n)
    k, v = (part.double().repeat_interleave(groups, 1) for part in (k, v))
    logits = (q.double() @ k.transpose(-1, -2) * scale).masked_fill(hidden, -torch.inf)
    return logits.softmax(-1) @ v


def _flash3(q, k, v, scale):
    if importlib.util.find_spec(PACKAGED) is None:
        raise ImportError(PACKAGED)
    made = importlib.import_module(PACKAGED).flash_attn_func(
        *(part.transpose(1, 2) for part in (q, k, v)), softmax_scale=scale, causal=True
    )
    return (made[0] if isinstance(made, tuple) else made).transpose(1, 2)


def _flash(q, k, v, scale):
    # This op is lower-right, unlike `scaled_dot_product_attention`; `torch.nn.attention.bias` builds on that too.
    return torch.ops.aten._scaled_dot_product_flash_attention(q, k, v, 0.0, True, scale=scale)[0]


def _cudnn(q, k, v, scale):
    return in_two_parts(_cudnn_part, q, k, v, scale)


def _cudnn_part(q, k, v, causal, scale):
    made = torch.ops.aten._scaled_dot_product_cudnn_attention(q, k, v, None, True, 0.0, causal, scale=scale)
    return made[0], made[1]


def in_two_parts(part: Callable, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float) -> torch.Tensor:
    """Lower-right attention from a kernel that knows square causal and full attention alone.

    What stands before the queries is seen by all of them; the two softmaxes meet by their log sums.

    Args:
        part: (q, k, v, causal, scale) -> (mixed values, log of the sum of exp [batch, head, n] or [..., 1]).
    """
    before = k.shape[2] - q.shape[2]
    own, near = part(q, k[:, :, before:], v[:, :, before:], True, scale)
    if not before:
        return own
    others, far = part(q, k[:, :, :before], v[:, :, :before], False, scale)
    share = (far - near).float().reshape(*q.shape[:3], 1).sigmoid()  # of what stands before
    for head in range(q.shape[1]):  # one at a time: float32 copies stay small
        own[:, head] = torch.lerp(own[:, head].float(), others[:, head].float(), share[:, head]).to(own.dtype)
    return own


KERNELS = {"flash3": _flash3, "cudnn": _cudnn, "flash": _flash}
