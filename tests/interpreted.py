"""Triton's kernels on a CPU: a fixture under which they are run by Triton's interpreter, and nothing else is changed.

Triton decides when it decorates a function, its own `tl.sum` and the like included, and it may have been imported long
before without the interpreter. Those functions are exchanged for the time of the tests, and the kernels imported anew.
"""

import importlib
import sys

import pytest

KERNELS = "labkit.attention.passes"


@pytest.fixture(scope="module")
def interpreter():
    """The kernels `labkit.attention.passes`, interpreted."""
    import triton.language as tl
    from triton.runtime.interpreter import InterpretedFunction
    from triton.runtime.jit import JITFunction

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_INTERPRET", "1")
        for module in (tl, tl.standard):
            for name, value in list(vars(module).items()):
                if isinstance(value, JITFunction):
                    patch.setattr(module, name, InterpretedFunction(value.fn))
        patch.delitem(sys.modules, KERNELS, raising=False)
        kernels = importlib.import_module(KERNELS)
        assert isinstance(kernels.first, InterpretedFunction)
        yield kernels
        del sys.modules[KERNELS]
