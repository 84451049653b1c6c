"""Which package computes each operation of a DeltaNet layer, as transformers resolved it at import."""

import functools
import inspect

from labkit.errors import BackendError
from labkit.families.record import Family


def resolved(family: Family) -> dict[str, str]:
    """`{operation: package that computes it}` as a model of the family would use it now.

    Raises:
        BackendError: its modeling file has no such global.
    """
    module = family.module()
    functions = {operation: getattr(module, name, None) for operation, name in family.kernels.items()}
    if absent := [operation for operation, function in functions.items() if function is None]:
        raise BackendError(
            "this transformers has other kernels than labkit knows",
            got=f"no {family.kernels[absent[0]]} in {family.modeling}",
            expected=", ".join(family.kernels.values()),
            hint="install the tested versions; `labkit doctor` names them",
        )
    return {operation: _package(function) for operation, function in functions.items()}


@functools.lru_cache
def _package(function):
    """ "torch" for the reference, else the top package of what is behind the decorator."""
    variables = behind(function)
    real = function if variables is None else variables["implementation"]
    if variables is not None and real is variables["torch_function"]:
        return "torch"
    top = (getattr(real, "__module__", None) or type(real).__module__).split(".")[0]
    return "torch" if top in ("transformers", "labkit") else top


def behind(function) -> dict | None:
    """The decorator's variables `implementation` and `torch_function`, however often it is wrapped; or None."""
    while function is not None:
        inner = inspect.getclosurevars(function).nonlocals if inspect.isfunction(function) else {}
        if {"implementation", "torch_function"} <= set(inner):
            return inner
        function = getattr(function, "__wrapped__", None)
    return None
