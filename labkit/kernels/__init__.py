"""Which code computes a model's layers: kernels of other packages, chosen by what they can do where the model is.

    bound        the operations of a DeltaNet layer: transformers' reference, or an installed package's kernel
    limits       what those kernels can compute
    rounding     whether float32 is multiplied as it is
    lower_right  causal attention that needs no mask to continue a cache, registered with transformers
    cards        which attention kernel a card runs

`lab.backend` records the outcome, `labkit.load` and `labkit.wrap` let it be chosen.
"""

from labkit.kernels.bound import force, forced, installed, running, settle
from labkit.kernels.rounding import TOLD, float32_as

__all__ = ["TOLD", "float32_as", "force", "forced", "installed", "running", "settle"]
