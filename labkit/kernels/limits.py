"""What fast kernels can compute, by package and operation: the device, precision and sizes of a model decide.

A kernel that is asked for more fails, some of them only in the middle of a pass. Read from fla-core 0.6.0
(`ops/gated_delta_rule`, `ops/common/chunk_delta_h`) and from causal-conv1d's repository at commit 018489d
(`csrc/causal_conv1d.cpp`); its releases were not compared with that:

- all of them take CUDA tensors alone, in 16 bits or in float32;
- `chunk_gated_delta_rule` takes keys of at most 256 channels, and solves its triangular systems in TF32 by name
  (`SOLVE_TRIL_DOT_PRECISION`), whatever Triton's own default says; that alone moves float32 by 7e-5 instead of 1e-6 (in
  Triton's interpreter). So a float32 model runs the reference, unless TF32 was asked for. In 16 bits TF32 is finer than
  what goes in;
- `fused_recurrent_gated_delta_rule` multiplies no matrices, and has no backward pass;
- `causal_conv1d` takes 2 to 4 taps and, where channels lie last, as they do here, a multiple of 8 of them; the update
  of one token has no backward pass.
"""

import dataclasses

import torch

HOSTS = ("cpu", "meta")  # where no such kernel runs
FAST = (torch.bfloat16, torch.float16, torch.float32)
WIDEST = 256
TAPS = range(2, 5)
FORWARD_ALONE = {("fla", "recurrent_gated_delta_rule"), ("causal_conv1d", "causal_conv1d_update")}


@dataclasses.dataclass(frozen=True)
class Work:
    """What an operation is asked to compute.

    Attributes:
        device: its type, for example "cuda". dtype: of the activations.
        width: channels of a key. channels, taps: of the convolution.
        packed: several sequences in a row. graph: gradients are asked for.
    """

    device: str
    dtype: torch.dtype
    width: int = 0
    channels: int = 0
    taps: int = 0
    packed: bool = False
    graph: bool = False


def able(package: str, operation: str, work: Work, *, tf32: bool) -> bool:
    """Whether the kernel of an installed package computes this work, as well as the reference or where that cannot.

    Packed sequences stay with the kernel, since the reference cannot keep them apart; and on accelerators other than
    CUDA, of which labkit knows no limits, everything stays with what transformers bound.

    Args:
        package: "fla", "causal_conv1d" or another one. operation: a key of `Family.kernels`.
        tf32: whether float32 may be multiplied as TF32.
    """
    if package == "torch" or work.device in HOSTS:
        return False
    if work.device != "cuda" or work.packed:
        return True
    if work.dtype not in FAST or (work.graph and (package, operation) in FORWARD_ALONE):
        return False
    if operation == "chunk_gated_delta_rule":
        return work.width <= WIDEST and (tf32 or work.dtype != torch.float32)
    if package == "causal_conv1d":
        return work.taps in TAPS and work.channels % 8 == 0
    return True
