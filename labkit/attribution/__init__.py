"""Attribution through both kinds of layer: what of a logit came from which token, head, branch and cached thing.

    prompt = " fox red. whale blue. fox"
    attribution.logit(lab, prompt, of=" red")              # what each head adds to a logit, by source token
    attribution.exact(lab, prompt, of=" red")              # all of it, through all layers, nothing lost
    attribution.knockout(lab, prompt, of=" red", against=" blue")     # what is lost without each head, in turn

It stands above the mechanisms, whose equations it uses side by side. In this folder:

    wide      the same question of a copy in float32, for models in a half precision
    costs     what attribution needs before it runs, for `lab.plan`
    frozen    the network with every factor that is no value held where it was: linear in embeddings and cache
    latent    of that, attention whose keys and values are made of latents
    complete  a logit as the sum of what that network carries to it
    direct    what each head adds to a logit from each source, without later layers
    cells     what a sweep patches: prompts, answers, places
    forks     cells of one prompt, in batches that share what is before them
    evidence  what prompts say together about many cells
    patching  a sweep over layers, heads, tokens, with intervals
    paths     what comes into one node of that network: a value, a read, what was erased, an MLP
    graph     the memory circuit: paths from tokens to a logit, as edges that add up
    gradients slopes of the model itself at its seams, along all paths or with some of them cut
    knocked   whether the model misses a circuit's heads, and how far it misses others
    estimated the same sweep, estimated by gradients
    agree     whether readings of the same places rank them alike
    alone     knock-outs of every head in turn
    together  joint knock-outs, by pairs and in a set that grows
"""

from labkit.attribution.agree import agreement
from labkit.attribution.alone import knockout
from labkit.attribution.complete import exact
from labkit.attribution.direct import logit
from labkit.attribution.estimated import patch_slopes
from labkit.attribution.gradients import slopes, stop
from labkit.attribution.graph import circuit
from labkit.attribution.knocked import confirm
from labkit.attribution.patching import patch_sweep
from labkit.attribution.together import knockout_greedy, knockout_pairs

__all__ = [
    "agreement",
    "circuit",
    "confirm",
    "exact",
    "knockout",
    "knockout_greedy",
    "knockout_pairs",
    "logit",
    "patch_slopes",
    "patch_sweep",
    "slopes",
    "stop",
]


def __dir__():
    return sorted(__all__)
