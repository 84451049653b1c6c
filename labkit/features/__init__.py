"""Sparse autoencoders of others: read, looked through, and used to change what a model does. Nothing is trained here.

    path = huggingface_hub.hf_hub_download("Qwen/SAE-Res-Qwen3.5-27B-W80K-L0_100", "layer40.sae.pt")   # 3.4 GB
    lab = labkit.load("Qwen/Qwen3.5-27B")
    sae = features.open(path, lab)
    run = lab.trace(prompt, layers=[40], seams=["resid_post"])
    ds = features.activations(run, sae, tokens=range(1, len(run)))     # what is active, and the error beside it
    features.says(sae, lab, ds.feature[-1, :3].values)                 # what these features say
    features.spliced(lab, prompt, sae).attrs["recovered"]              # what the reconstruction keeps of the loss
    with lab.edit(features.scale(sae, 1234, factor=3.0)):
        changed = lab.generate(prompt)

Atoms of the state of a head, WriteSAE:

    atoms = features.open("writesae/qwen0p8b/L9_H4/best.pt", lab)
    run = lab.generate(prompt, states=[9])
    features.activations(run, atoms)
    with lab.edit(features.scale_atom(atoms, 412, factor=0.0, at=20)):
        changed = lab.trace(prompt)

A dictionary explains a part of what it reads, and its features are features of that part: every reading shows how much
it leaves out, and what the same dictionary leaves out with its channels dealt anew. In this folder:

    kinds       from pre-activations to strengths: top-k, relu, a threshold, a gate
    dictionary  directions of a seam; atoms: matrices of a state
    opening     the door: qwen_scope, saelens, writesae read a format each; files, place: what is checked
    active      which features are active where
    spoken      what a feature says, and what is lost when the reconstruction is all that is left
    changes     features as edits of a seam; slots: atoms as edits of a state
"""

from labkit.features.active import activations
from labkit.features.atoms import Atoms
from labkit.features.changes import ablate, clamp, reconstruct, scale
from labkit.features.dictionary import Dictionary
from labkit.features.opening import of_matrix, open
from labkit.features.slots import add_atom, replace_write, scale_atom
from labkit.features.spoken import says, spliced

__all__ = [
    "Atoms",
    "Dictionary",
    "ablate",
    "activations",
    "add_atom",
    "clamp",
    "of_matrix",
    "open",
    "reconstruct",
    "replace_write",
    "says",
    "scale",
    "scale_atom",
    "spliced",
]


def __dir__():
    return sorted(__all__)
