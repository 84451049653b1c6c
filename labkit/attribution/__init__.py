"""Attribution through both kinds of layer: what of a logit came from which token, head, branch and cached thing.

It stands above the mechanisms, whose equations it uses side by side. In this folder:

    wide      the same question of a copy in float32, for models in a half precision
    costs     what attribution needs before it runs, for `lab.plan`
    frozen    the network with every factor that is no value held where it was: linear in embeddings and cache
    complete  a logit as the sum of what that network carries to it
    direct    what each head adds to a logit from each source, without later layers
"""

from labkit.attribution.complete import exact
from labkit.attribution.direct import logit

__all__ = ["exact", "logit"]
