"""How float32 is multiplied: as it is ("ieee"), or rounded to the 10 bits of TF32 on its way in.

PyTorch multiplies float32 as it is until somebody asks for less (`torch.set_float32_matmul_precision("high")`,
`torch.backends.cuda.matmul.allow_tf32`, `fp32_precision`). Whoever asks is heard, in Triton's kernels too
(`labkit.kernels.limits`), and `lab.backend` says so. Few CPUs can round at all: away from CUDA a product says whether
it happens. Triton's own default is TF32, and `TRITON_F32_DEFAULT=ieee` in the environment, read when a kernel is
compiled, changes it for dots that name no precision (triton 3.6 to 3.9).
"""

import functools

import torch

TOLD = ", float32 multiplied as "  # how `Identity.kernels` says that it was not as it is
EXACT = 1e-5  # of the largest number; a product of float32 is within 1e-6, one of TF32 or bfloat16 beyond 1e-4


def float32_as(device: str) -> str:
    """How matmuls of float32 are computed on a type of device: "ieee", "tf32" or, on a CPU alone, "bf16"."""
    part = torch.backends.cuda if device == "cuda" else torch.backends.mkldnn
    chosen = getattr(part.matmul, "fp32_precision", "none")
    if chosen in ("none", "ieee") or device == "meta":
        return "ieee"
    return chosen if device == "cuda" or rounds(device, chosen) else "ieee"


@functools.lru_cache
def rounds(device: str, chosen: str) -> bool:
    """Whether a product of float32 is rounded on a type of device, under the setting `chosen`, which holds now."""
    numbers = torch.arange(64 * 300, dtype=torch.float64, device="cpu").sin()
    a, b = numbers.view(64, 300).float(), numbers.flip(0).view(300, 64).float()
    with torch.no_grad(), torch.autocast(device, enabled=False):
        made = (a.to(device) @ b.to(device)).cpu().double()
    exact = a.double() @ b.double()
    return not bool((made - exact).abs().max() <= EXACT * exact.abs().max())
