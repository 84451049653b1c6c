"""What computes: the kernel of each operation of a DeltaNet layer, of attention, and the versions of all involved.

Installing a package (fla, causal_conv1d) changes the numbers without a word; this record says which code computes this
model, where it is (`labkit.kernels`).
"""

import dataclasses
import importlib.metadata
import logging
import platform
from collections.abc import Iterable

from labkit import kernels
from labkit.errors import InputError
from labkit.families import FAMILIES, Family
from labkit.kernels import lower_right
from labkit.spec import Spec
from labkit.tables import Table
from labkit.trace import decoder

PACKAGES = {  # name in the record: names of the distribution, first installed counts
    "torch": ("torch",),
    "transformers": ("transformers",),
    "fla": ("flash-linear-attention", "fla-core"),
    "causal_conv1d": ("causal-conv1d",),
    "kernels": ("kernels",),
    "triton": ("triton",),
}
QUANTIZERS = {"nf4": "bitsandbytes", "int8": "torchao", "int4": "torchao"}
QUANTIZERS |= {package: package for package in QUANTIZERS.values()}  # the names of stored methods


@dataclasses.dataclass(frozen=True, repr=False)
class Backend(Table):
    """What computed a lab's model when `labkit.load` or `labkit.wrap` made the lab.

    A record, which stays as it is whatever is chosen, bound or moved later; `lab.identity().kernels` says what computes
    now.

    Attributes:
        versions: `{package: version, or None if it is not installed}`, with "python".
        kernels: `{operation: "torch", "fla", "causal_conv1d", ...}` for the operations of a DeltaNet layer.
        attention: transformers' name of the softmax implementation, for example "sdpa"; "labkit_lower_right" needs no
            masks. attention_kernel: what computes that one here, or None. refused: `{kernel: why}` of faster ones that
            were not taken.
        experts: its name of the implementation of experts, for example "grouped_mm"; None without experts.
        dtype: of activations and unquantised weights. device: its name, for example "cpu" or "cuda:0 NVIDIA
        H100". quantize: how linear weights are stored, or None.
        precision: how float32 is multiplied, "ieee", as it is, or "tf32", where you asked PyTorch for it.
        forced: whether the reference kernels were forced on this family in this process.
        notes: what was found otherwise than one would expect when the lab was made, and what transformers warned about.
    """

    versions: dict
    kernels: dict
    attention: str
    dtype: str
    device: str
    quantize: str | None = None
    forced: bool = False
    experts: str | None = None
    precision: str = "ieee"
    attention_kernel: str | None = None
    refused: dict = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()
    title = "backend"

    def facts(self) -> tuple[tuple[str, str, str], ...]:
        """Rows (group, name, value) that both the text and the HTML show."""
        note = " (reference, forced)" if self.forced else ""
        rows = [("kernels", op, kernel + note) for op, kernel in self.kernels.items()]
        inner = f" ({self.attention_kernel})" if self.attention_kernel else ""
        rows += [("kernels", "attention", self.attention + inner)]
        rows += [("kernels", f"attention, not {name}", why) for name, why in self.refused.items()]
        rows += [("kernels", "experts", self.experts)] if self.experts else []
        rows += [("numbers", "dtype", self.dtype), ("numbers", "quantize", self.quantize or "none")]
        rows += [("numbers", "precision", self.precision), ("numbers", "device", self.device)]
        rows += [("versions", name, version or "not installed") for name, version in self.versions.items()]
        rows += [("notes", str(index), note) for index, note in enumerate(self.notes, 1)]
        return tuple(rows)


def record(model, spec: Spec, *, quantize: str | None = None, notes: Iterable[str] = ()) -> Backend:
    """The `Backend` of a model; it replaces transformers' notes on missing kernels at the first forward pass."""
    logging.getLogger("transformers.integrations.hub_kernels").addFilter(_no_note)
    stack, family = decoder(model), FAMILIES[spec.family]
    attention, dtype, device = stack.config._attn_implementation, stack.norm.weight.dtype, stack.norm.weight.device
    kernel, refused = lower_right.choice(stack.config, device, dtype)
    return Backend(
        versions=versions(quantize),
        kernels=kernels.running(family, stack),
        attention=attention,
        attention_kernel=kernel,
        refused=refused,
        dtype=str(dtype).removeprefix("torch."),
        device=device_name(device),
        precision=kernels.float32_as(device.type),
        quantize=quantize,
        forced=kernels.forced(family),
        experts=stack.config._experts_implementation if spec.experts else None,
        notes=tuple(notes),
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
    """Bind the operations of a family, for the whole process.

    Args:
        backend: None keeps what is bound; "torch" binds the PyTorch reference kernels, the oracle for every
            fast one; "installed" undoes that.

    Raises:
        InputError: anything else. BackendError: a transformers with other kernels.
    """
    check(backend)
    kernels.settle(family)
    if backend is not None:
        kernels.force(family, backend == "torch")
