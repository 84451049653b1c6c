"""Which package computes each operation of a DeltaNet layer: chosen by the tensors, not by the process.

transformers decides at import: each of four globals of a family's modeling file is the fast kernel of an installed
package or the PyTorch reference. A fast kernel fails on a CPU tensor, so with fla installed no model on the CPU could
run. `settle` puts a `Dispatcher` in front of each fast kernel, once per family and process.

These are globals of transformers: from then on every model of the family in this process is dispatched, one that no lab
wraps too. Such a model sees a difference in one place: in float32 on a CUDA card, prefill runs the reference, unless
float32 may be multiplied as TF32, since fla's chunk kernel rounds to TF32 by itself (`labkit.kernels.limits`).
"""

import functools
import inspect
from collections.abc import Callable

import torch

from labkit.errors import BackendError
from labkit.families import Family
from labkit.kernels.limits import Work, able
from labkit.kernels.rounding import float32_as

PACKED = ("cu_seqlens", "seq_idx")  # arguments that tell packed sequences apart
_forced = {}  # family -> {name of a global: what stood there}, while the reference is forced


class Dispatcher:
    """A fast kernel where it can compute, the PyTorch reference elsewhere; called as transformers' function is.

    Args:
        operation: a key of `Family.kernels`. fast: transformers' function, resolved to a package's kernel.
    """

    def __init__(self, operation: str, fast: Callable):
        functools.update_wrapper(self, fast)
        self.operation, self.fast, self.reference, self.package = operation, fast, reference(fast), package_of(fast)

    def __call__(self, *args, **options):
        work = _work(self.operation, args, options)
        fit = able(self.package, self.operation, work, tf32=float32_as(work.device) != "ieee")
        return (self.fast if fit else self.reference)(*args, **options)

    def __reduce__(self):
        return self.__qualname__  # copied and pickled by its name, as the function that it stands for


def _work(operation, args, options):
    """What a call asks for; the arguments are those of transformers' reference functions."""
    given = lambda place, name: args[place] if place < len(args) else options[name]  # noqa: E731
    facts = dict(packed=any(options.get(name) is not None for name in PACKED), graph=False)
    if torch.is_grad_enabled():
        facts["graph"] = any(torch.is_tensor(part) and part.requires_grad for part in (*args, *options.values()))
    if operation.endswith("delta_rule"):
        query = given(0, "query")
        return Work(query.device.type, query.dtype, width=query.shape[-1], **facts)
    states, weight = given(0, "hidden_states"), given(2 if operation == "causal_conv1d_update" else 1, "weight")
    return Work(states.device.type, states.dtype, channels=weight.shape[0], taps=weight.shape[-1], **facts)


def settle(family: Family) -> None:
    """Put a `Dispatcher` in front of each fast kernel of a family; a function that somebody else put there stays.

    It holds for the whole process, for models that no lab wraps too (see above).

    Raises:
        BackendError: its modeling file has no such global.
    """
    for operation, function in functions(family).items():
        if not isinstance(function, Dispatcher) and behind(function) and package_of(function) != "torch":
            setattr(family.module(), family.kernels[operation], Dispatcher(operation, function))


def force(family: Family, forced: bool) -> None:
    """Bind the reference kernels of a family for the whole process, or undo that.

    The operations are module globals of transformers, so models of the family that are already loaded change too.
    """
    module = family.module()
    if forced and family.name not in _forced:
        found = functions(family)
        _forced[family.name] = {family.kernels[operation]: function for operation, function in found.items()}
        for name, function in _forced[family.name].items():
            setattr(module, name, reference(function))
    if not forced:
        for name, function in _forced.pop(family.name, {}).items():
            setattr(module, name, function)


def forced(family: Family) -> bool:
    """Whether the reference kernels of a family were forced in this process."""
    return family.name in _forced


def installed(family: Family) -> dict[str, str]:
    """`{operation: package}` as transformers resolved it at import, or as it was forced since.

    Raises:
        BackendError: as `settle`.
    """
    return {operation: package_of(function) for operation, function in functions(family).items()}


def running(family: Family, stack: torch.nn.Module) -> dict[str, str]:
    """`{operation: package}` that computes the tensors of a model where it is now, without gradients.

    Args:
        stack: its decoder layers.

    Raises:
        BackendError: as `settle`.
    """
    size = lambda name: getattr(stack.config, family.sizes[name])  # noqa: E731
    channels = 2 * size("key_heads") * size("dk") + size("value_heads") * size("dv")
    weight = stack.norm.weight
    work = Work(weight.device.type, weight.dtype, width=size("dk"), channels=channels, taps=size("conv"))
    tf32 = float32_as(work.device) != "ieee"
    found = {}
    for operation, function in functions(family).items():
        package = package_of(function)
        chosen = behind(function) and not able(package, operation, work, tf32=tf32)
        found[operation] = "torch" if chosen else package
    return found


def functions(family: Family) -> dict[str, Callable]:
    """`{operation: function}` as a model of the family would call it now.

    Raises:
        BackendError: its modeling file has no such global.
    """
    module = family.module()
    found = {operation: getattr(module, name, None) for operation, name in family.kernels.items()}
    if absent := [operation for operation, function in found.items() if function is None]:
        raise BackendError(
            "this transformers has other kernels than labkit knows",
            got=f"no {family.kernels[absent[0]]} in {family.modeling}",
            expected=", ".join(family.kernels.values()),
            hint="install the tested versions; `labkit doctor` names them",
        )
    return found


@functools.lru_cache
def package_of(function: Callable) -> str:
    """ "torch" for the reference, else the top package of what is behind transformers' decorator."""
    variables = behind(function)
    real = function if variables is None else variables["implementation"]
    if variables is not None and real is variables["torch_function"]:
        return "torch"
    top = (getattr(real, "__module__", None) or type(real).__module__).split(".")[0]
    return "torch" if top in ("transformers", "labkit") else top


@functools.lru_cache
def behind(function: Callable) -> dict | None:
    """The decorator's variables `implementation` and `torch_function`, however often it is wrapped; or None."""
    while function is not None:
        inner = inspect.getclosurevars(function).nonlocals if inspect.isfunction(function) else {}
        if {"implementation", "torch_function"} <= set(inner):
            return inner
        function = getattr(function, "__wrapped__", None)
    return None


def reference(function: Callable) -> Callable:
    """The pure PyTorch function behind a decorated one, taking and dropping arguments that only kernels know."""
    variables = behind(function)
    plain = variables["torch_function"] if variables else inspect.unwrap(function)
    known = tuple(inspect.signature(plain).parameters)

    @functools.wraps(plain)
    def alone(*args, **options):
        if any(options.get(name) is not None for name in PACKED):
            raise BackendError(
                "the reference kernels cannot keep packed sequences apart",
                got="cu_seqlens",
                hint="one sequence per row, padded on the left",
            )
        return plain(*args, **{name: value for name, value in options.items() if name in known})

    return alone
