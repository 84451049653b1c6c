"""The residual stream: what it would say at every layer, and what each branch of each layer adds to an answer.

    ds = residual.lens(run, lab, of=" red")                # what every layer would say
    residual.contributions(run, lab, of=" red", against=" blue")
    draw.lines(ds, "entropy", x="layer", color="token")

In this folder:

    stream    the way out of the stream, final norm and unembedding, proven by the run's own logits
    spoken    the lens: the stream read as if the model ended there
    lenses    the record of a fitted lens: linear maps, one per layer
    published lenses of others, from the files that their programs write
    fitting   the Jacobian lens, fitted here, and how many prompts are enough
    controls  a lens beside what would read as much without knowing the answer
    geometry  whether the layers of a lens fall into blocks, or neighbours are merely alike
    paths     what a lens says, as the sum of what came by states, attention and MLPs
    costs     what both need, for `lab.plan`
    branches  the stream, and with the final norm frozen a logit, as the sum of what every branch added
"""

from labkit.residual.branches import contributions
from labkit.residual.controls import lens_controls
from labkit.residual.fitting import fit_lens, lens_convergence
from labkit.residual.geometry import lens_geometry
from labkit.residual.lenses import Lens
from labkit.residual.paths import lens_by_path
from labkit.residual.published import open_lens
from labkit.residual.spoken import lens

__all__ = [
    "Lens",
    "contributions",
    "fit_lens",
    "lens",
    "lens_by_path",
    "lens_controls",
    "lens_convergence",
    "lens_geometry",
    "open_lens",
]


def __dir__():
    return sorted(__all__)
