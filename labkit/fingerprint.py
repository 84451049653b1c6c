"""What a function does, as a number: its code and constants, and the values it closes over and names.

Edits are told apart by it, also in another process. A function whose behaviour can depend on what is not seen here (an
object with state of its own, a class of a notebook) has no fingerprint.
"""

import dataclasses
import dis
import functools
import hashlib
import sys
import types

import torch

# Packages whose versions `Identity` tells.
KNOWN = {"torch", "numpy", "transformers", "labkit", "builtins"} | sys.stdlib_module_names
NUMBERS = (type(None), bool, int, float, complex, str, bytes, type(...), slice, range)
PLAIN = (*NUMBERS, torch.dtype, torch.device, torch.Size)


class Opaque(TypeError):
    """A value that has no fingerprint; says which."""


def fingerprint(value: object) -> str:
    """16 hexadecimal digits, equal for values and functions that are equal.

    Raises:
        Opaque: an object with state of its own, or a function that uses one.
    """
    hashed = hashlib.sha256()
    _feed(hashed, value, set())
    return hashed.hexdigest()[:16]


def flat(tensor: torch.Tensor) -> torch.Tensor:
    """All numbers in a row, in an order of memory that can be viewed as another dtype; a copy where need be."""
    row = tensor.reshape(-1)
    return row if row.stride(0) == 1 else row.clone(memory_format=torch.contiguous_format)


def _feed(hashed, value, above):
    """Feed a value; `above` holds the ids of the functions it lies in, so that recursion ends."""
    tell = lambda *parts: hashed.update("\x1f".join(map(str, parts)).encode("utf-8", "surrogatepass") + b"\x1e")  # noqa: E731
    kind = type(value)
    if isinstance(value, PLAIN):
        tell(kind.__name__, repr(value))
    elif isinstance(value, list | tuple):
        tell(kind.__name__, len(value))
        for each in value:
            _feed(hashed, each, above)
    elif isinstance(value, set | frozenset):
        tell(kind.__name__, sorted(fingerprint(each) for each in value))
    elif isinstance(value, dict | types.MappingProxyType):
        tell("dict", len(value))
        for key, each in value.items():
            _feed(hashed, key, above)
            _feed(hashed, each, above)
    elif isinstance(value, torch.Tensor):
        plain = value.detach().as_subclass(torch.Tensor)
        tell("tensor", plain.dtype, tuple(plain.shape))
        hashed.update(memoryview(flat(plain.cpu()).view(torch.uint8).numpy()))
    elif kind.__module__ == "numpy":
        tell("numpy", getattr(value, "dtype", kind), getattr(value, "shape", ()))
        hashed.update(value.tobytes())
    elif isinstance(value, types.ModuleType):
        tell("module", value.__name__)
    elif isinstance(value, functools.partial):
        tell("partial")
        _feed(hashed, (value.func, value.args, value.keywords), above)
    elif isinstance(value, types.MethodType):
        tell("method")
        _feed(hashed, (value.__func__, value.__self__), above)
    elif isinstance(value, types.FunctionType):
        _feed_function(hashed, value, above, tell)
    elif isinstance(value, types.CodeType):
        tell("code", value.co_code.hex(), value.co_names, value.co_freevars)
        _feed(hashed, value.co_consts, above)
    elif isinstance(value, type | types.BuiltinFunctionType | types.MethodDescriptorType) and _known(value):
        tell("name", getattr(value, "__module__", ""), value.__qualname__)
        owner = getattr(value, "__self__", None)
        if owner is not None and not isinstance(owner, types.ModuleType | type):
            _feed(hashed, owner, above)
    elif dataclasses.is_dataclass(value) and _known(kind):
        tell("record", kind.__qualname__)
        _feed(hashed, {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}, above)
    elif isinstance(value, torch.nn.Module):
        _feed_module(hashed, value, above, tell)
    elif isinstance(value, type):
        _feed_class(hashed, value, above, tell)
    elif not _known(kind) and hasattr(value, "__dict__") and id(value) not in above:
        tell("object")
        _feed_class(hashed, kind, above, tell)
        _feed(hashed, vars(value), above | {id(value)})
    else:
        raise Opaque(f"{kind.__module__}.{kind.__qualname__}")


def _feed_class(hashed, kind, above, tell):
    """A class: its name, and what those that belong to no known package define."""
    tell("class", kind.__module__, kind.__qualname__)
    if _known(kind) or id(kind) in above:
        return
    above = above | {id(kind)}
    for name, part in sorted(vars(kind).items()):
        part = part.__func__ if isinstance(part, staticmethod | classmethod) else part
        if isinstance(part, (types.FunctionType, *NUMBERS)) and name not in ("__module__", "__doc__", "__qualname__"):
            tell(name)
            _feed(hashed, part, above)
    for base in kind.__bases__:
        _feed_class(hashed, base, above, tell)


def _feed_module(hashed, module, above, tell):
    """A module: classes, weights, modes and numbers; none with hooks."""
    for name, each in module.named_modules():
        if each._forward_hooks or each._forward_pre_hooks or "forward" in vars(each):
            raise Opaque(f"a module with hooks, {name or type(each).__qualname__}")
        numbers = {key: fact for key, fact in vars(each).items() if isinstance(fact, NUMBERS) and key[0] != "_"}
        tell("module", name, sorted(numbers.items(), key=str), each.training, each.extra_repr())
        _feed_class(hashed, type(each), above, tell)
    _feed(hashed, module.state_dict(), above)


def _feed_function(hashed, function, above, tell):
    if id(function) in above:
        return tell("itself")
    if _known(function) and "<" not in function.__qualname__ and not function.__closure__:
        return tell("name", function.__module__, function.__qualname__)
    tell("function")
    above = above | {id(function)}
    code = function.__code__
    _feed(hashed, (code, function.__defaults__, function.__kwdefaults__), above)
    for cell in function.__closure__ or ():
        try:
            _feed(hashed, cell.cell_contents, above)
        except ValueError:  # not set yet
            tell("empty")
    for name in sorted(_globals(code)):
        tell(name)
        value = function.__globals__.get(name, ...)
        if isinstance(value, types.ModuleType) and value.__name__.split(".")[0] not in KNOWN:
            tell("module", value.__name__)  # of which the attributes count that the function names
            _feed(hashed, {part: getattr(value, part) for part in _names(code) if hasattr(value, part)}, above)
        elif value is not ...:
            _feed(hashed, value, above)
    return None


def _globals(code):
    """Names that a code object and those inside it read from its module."""
    names = {step.argval for step in dis.get_instructions(code) if step.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
    return names.union(*(_globals(each) for each in code.co_consts if isinstance(each, types.CodeType)))


def _names(code):
    """All names in a code object and those inside it, attributes too, in a fixed order."""
    inner = (_names(each) for each in code.co_consts if isinstance(each, types.CodeType))
    return sorted({*code.co_names}.union(*inner))


def _known(value):
    """Whether a function or class belongs to a package whose version `Identity` tells."""
    owner = getattr(value, "__module__", None) or getattr(
        getattr(value, "__objclass__", None), "__module__", "builtins"
    )
    return owner.split(".")[0] in KNOWN
