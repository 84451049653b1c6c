"""The residual stream: what it would say at every layer, and what each branch of each layer adds to an answer.

In this folder:

    stream    the way out of the stream, final norm and unembedding, proven by the run's own logits
    spoken    the lens: the stream read as if the model ended there
    costs     what both need, for `lab.plan`
    branches  the stream, and with the final norm frozen a logit, as the sum of what every branch added
"""

from labkit.residual.branches import contributions
from labkit.residual.spoken import lens

__all__ = ["contributions", "lens"]
