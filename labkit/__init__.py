"""labkit: look inside hybrid-attention language models of the Qwen3.5 / 3.6 / 3.8 families.

    import labkit as lk
    lab = lk.load()
    run = lab.trace("red fox, blue whale")
    lk.deltanet.implied_attention(run, layer=2)

Everything heavy is imported when it is first used.
"""

import importlib

__version__ = "0.8.0"

_PLACES = {
    "load": "labkit.zoo",
    "wrap": "labkit.zoo",
    "Lab": "labkit.lab",
    "Run": "labkit.trace",
    "open_run": "labkit.packs",
    "pack": "labkit.packs",
    "Spec": "labkit.spec",
    "LabError": "labkit.errors",
}
_MODULES = (
    "attention",
    "attribution",
    "cache",
    "check",
    "claims",
    "deltanet",
    "doctor",
    "draw",
    "edit",
    "errors",
    "experts",
    "explore",
    "export",
    "families",
    "features",
    "mtp",
    "notation",
    "packs",
    "pictures",
    "plan",
    "replicate",
    "report",
    "residual",
    "reuse",
    "rotary",
    "spec",
    "stats",
    "steering",
    "stream",
    "sweeps",
    "thinking",
    "trace",
    "words",
    "yarn",
    "zoo",
)

__all__ = [*_PLACES, *_MODULES]


def __getattr__(name):
    if name in _PLACES:
        return getattr(importlib.import_module(_PLACES[name]), name)
    if name in _MODULES:
        return importlib.import_module(f"labkit.{name}")
    raise AttributeError(f"module 'labkit' has no attribute {name!r}")


def __dir__():
    return sorted(__all__)
