"""What computes: the kernel each operation of a DeltaNet layer resolved to, and the versions of all involved.

transformers decides at import: each of four globals of a family's modeling file is the fast kernel of an installed
package (fla, causal_conv1d) or the PyTorch reference, independently of the others. So installing a package changes the
numbers without a word; this record says which of them computed. Names of the globals stand in the family's record.
"""

import dataclasses
import functools
import importlib.metadata
import inspect
import logging
import platform

from labkit.errors import BackendError, InputError
from labkit.families import FAMILIES, Family
from labkit.families.kernels import behind, resolved
from labkit.spec import Spec
from labkit.tables import Table
from labkit.trace import decoder

PACKAGES = {  # name in the record: names of the distribution, first installed counts
    "torch": ("torch",),
    "transformers": ("transformers",),
    "fla": ("flash-linear-attention", "fla-core"),
    "causal_conv1d": ("causal-conv1d",),
    "kernels": ("kernels",),
}
QUANTIZERS = {"nf4": "bitsandbytes", "int8": "torchao", "int4": "torchao"}
QUANTIZERS |= {package: package for package in QUANTIZERS.values()}  # the names of stored methods
_installed = {}  # family -> {name of a global: what import resolved it to}, while the reference is forced


@dataclasses.dataclass(frozen=True, repr=False)
class Backend(Table):
    """What computes a lab's model; made by `labkit.load` and `labkit.wrap`.

    Attributes:
        versions: `{package: version, or None if it is not installed}`, with "python".
        kernels: `{operation: "torch", "fla", "causal_conv1d", ...}` for the operations of a DeltaNet layer.
        attention: transformers' name of the softmax implementation, for example "sdpa".
        experts: its name of the implementation of experts, for example "grouped_mm"; None without experts.
        dtype: of activations and unquantised weights. device: its name, for example "cpu" or "cuda:0 NVIDIA
        H100". quantize: how linear weights are stored, or None.
        forced: whether the reference kernels were forced on this family in this process.
    """

    versions: dict
    kernels: dict
    attention: str
    dtype: str
    device: str
    quantize: str | None = None
    forced: bool = False
    experts: str | None = None
    title = "backend"

    def facts(self) -> tuple[tuple[str, str, str], ...]:
        """Rows (group, name, value) that both the text and the HTML show."""
        note = " (reference, forced)" if self.forced else ""
        rows = [("kernels", op, kernel + note) for op, kernel in self.kernels.items()]
        rows += [("kernels", "attention", self.attention)]
        rows += [("kernels", "experts", self.experts)] if self.experts else []
        rows += [("numbers", "dtype", self.dtype), ("numbers", "quantize", self.quantize or "none")]
        rows += [("numbers", "device", self.device)]
        rows += [("versions", name, version or "not installed") for name, version in self.versions.items()]
        return tuple(rows)


def record(model, spec: Spec, *, quantize: str | None = None) -> Backend:
    """The `Backend` of a model; it replaces transformers' notes on missing kernels at the first forward pass."""
    logging.getLogger("transformers.integrations.hub_kernels").addFilter(_no_note)
    stack, family = decoder(model), FAMILIES[spec.family]
    return Backend(
        versions=versions(quantize),
        kernels=resolved(family),
        attention=stack.config._attn_implementation,
        dtype=str(stack.norm.weight.dtype).removeprefix("torch."),
        device=device_name(stack.norm.weight.device),
        quantize=quantize,
        forced=family.name in _installed,
        experts=stack.config._experts_implementation if spec.experts else None,
    )


def _no_note(record):
    return "is falling back to its reference" not in record.getMessage()


def versions(quantize: str | None = None) -> dict[str, str | None]:
    """`{name: version or None}` of python and of every package that can change the numbers."""
    wanted = PACKAGES | ({QUANTIZERS[quantize]: (QUANTIZERS[quantize],)} if quantize in QUANTIZERS else {})
    installed = {name: next(filter(None, map(_version, names)), None) for name, names in wanted.items()}
    return {"python": platform.python_version()} | installed


def _version(distribution):
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def device_name(device) -> str:
    """ "cpu", or the index and the name of the GPU."""
    if device.type != "cuda":
        return str(device)
    import torch

    return f"{device} {torch.cuda.get_device_name(device)}"


def check(backend: str | None) -> None:
    """Refuse an unknown choice of kernels.

    Raises:
        InputError: not None, "torch" or "installed".
    """
    if backend not in (None, "torch", "installed"):
        raise InputError("unknown backend", got=repr(backend), expected='None, "torch" or "installed"')


def choose(backend: str | None, family: Family) -> None:
    """Bind the operations of a family for the whole process.

    Args:
        backend: None keeps what is bound; "torch" binds the PyTorch reference kernels, the oracle for every
            fast one; "installed" undoes that. The operations are module globals of transformers, so models
            of the family that are already loaded in this process change too.

    Raises:
        InputError: anything else.
    """
    check(backend)
    module = family.module()
    if backend == "torch" and family.name not in _installed:
        resolved(family)
        _installed[family.name] = {name: getattr(module, name) for name in family.kernels.values()}
        for name, function in _installed[family.name].items():
            setattr(module, name, _reference(function))
    if backend == "installed":
        for name, function in _installed.pop(family.name, {}).items():
            setattr(module, name, function)


def _reference(function):
    """The pure PyTorch function behind a decorated one, taking and dropping arguments only kernels know."""
    variables = behind(function)
    reference = variables["torch_function"] if variables else inspect.unwrap(function)
    known = tuple(inspect.signature(reference).parameters)

    @functools.wraps(reference)
    def plain(*args, **options):
        if options.get("cu_seqlens") is not None or options.get("seq_idx") is not None:
            raise BackendError(
                "the reference kernels cannot keep packed sequences apart",
                got="cu_seqlens",
                hint="one sequence per row, padded on the left",
            )
        return reference(*args, **{name: value for name, value in options.items() if name in known})

    return plain
