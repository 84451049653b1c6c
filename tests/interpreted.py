"""Triton's kernels on a CPU: a fixture under which Triton's interpreter runs them, and nothing else is changed.

Triton decides when it decorates a function, its own `tl.sum` and the like included, and something may have imported it
long before. Those functions are exchanged for as long as the tests of a module run, and the kernels are imported anew.
"""

import importlib
import sys

import pytest

KERNELS = "labkit.attention.passes"


@pytest.fixture(scope="module")
def interpreter():
    """The kernels `labkit.attention.passes`, interpreted."""
    tl = pytest.importorskip("triton.language", reason="fused passes need Triton, which has wheels for Linux on x86-64")
    from triton.runtime.interpreter import InterpretedFunction
    from triton.runtime.jit import JITFunction

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_INTERPRET", "1")
        for module in (tl, tl.standard):
            for name, value in list(vars(module).items()):
                if isinstance(value, JITFunction):
                    patch.setattr(module, name, InterpretedFunction(value.fn))
        patch.setitem(sys.modules, KERNELS, None)  # so that what was there comes back
        del sys.modules[KERNELS]
        kernels = importlib.import_module(KERNELS)
        assert isinstance(kernels.first, InterpretedFunction)
        yield kernels
