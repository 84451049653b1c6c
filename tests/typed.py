"""The equations with their shapes checked: a second copy of the module, imported under jaxtyping's hook."""

import importlib
import sys

import jaxtyping


def checked(name="labkit.deltanet.equation"):
    """The module (and its submodules) with every annotation enforced; what others imported stays as it was."""
    parent, _, leaf = name.rpartition(".")
    plain = importlib.import_module(name)
    ours = lambda: [n for n in sys.modules if n == name or n.startswith(f"{name}.")]  # noqa: E731
    before = {n: sys.modules.pop(n) for n in ours()}
    try:
        with jaxtyping.install_import_hook(name, "beartype.beartype"):
            return importlib.import_module(name)
    finally:
        for n in ours():
            del sys.modules[n]
        sys.modules.update(before)
        setattr(sys.modules[parent], leaf, plain)
