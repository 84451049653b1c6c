"""How float32 is multiplied: as it is ("ieee"), or rounded to the 10 bits of TF32 on its way in.

PyTorch multiplies float32 as it is until somebody asks for less (`torch.set_float32_matmul_precision("high")`,
`torch.backends.cuda.matmul.allow_tf32`, `fp32_precision`). Whoever asks is heard, in Triton's kernels too
(`labkit.kernels.limits`), and `lab.backend` says so. Triton's own default is TF32, and `TRITON_F32_DEFAULT=ieee` in the
environment, read when a kernel is compiled, changes it for dots that name no precision (triton 3.6 to 3.9).
"""

import torch

TOLD = ", float32 multiplied as "  # how `Identity.kernels` says that it was not as it is


def float32_as(device: str) -> str:
    """How matmuls of float32 are computed on a type of device: "ieee", "tf32" or, on a CPU alone, "bf16"."""
    part = torch.backends.cuda if device == "cuda" else torch.backends.mkldnn
    chosen = getattr(part.matmul, "fp32_precision", "none")
    return "ieee" if chosen == "none" else chosen
