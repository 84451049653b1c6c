"""What a request will cost, told before it runs: bytes that stay, the peak on the way, FLOPs, and cheaper ways.

The peak is found by walking the layers as the model does: at each layer, the seams kept so far plus the scratch of
that layer's largest moment. Scratch of the delta rule is that of transformers' chunk rule in PyTorch, per token and
head 8 + max(6·dk + 5·dv + 2·64, 3·dk + 2·dv + 4·64) float32 numbers; fused kernels need less. `tests/test_plan.py`
holds the estimate against counted bytes.

A request whose peak is above the budget (free accelerator memory, or available host memory) is refused.

What a reading needs (seams, bytes, operations) is said by the reading itself (`labkit.reading`).

In this folder: `card` (the `Plan` and its budget), `estimate` (where its numbers come from).
"""

from labkit.plan.card import Cost, Plan, admit, budget
from labkit.plan.estimate import admit_trace, make, readings, seam_bytes

__all__ = ["Cost", "Plan", "admit", "admit_trace", "budget", "make", "readings", "seam_bytes"]
