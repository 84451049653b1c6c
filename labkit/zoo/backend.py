"""What computes: the kernel each operation of a DeltaNet layer resolved to, and the versions of all involved.

transformers decides at import: each of four module globals of its `modeling_qwen3_5` is the fast kernel of an
installed package (fla, causal_conv1d) or the PyTorch reference, independently of the others. So installing a
package changes the numbers without a word; this record says which of them computed.
"""

import dataclasses
import functools
import importlib.metadata
import inspect
import logging
import platform

from labkit.errors import BackendError, InputError
from labkit.tables import Table

OPS = {
    "chunk_gated_delta_rule": "torch_chunk_gated_delta_rule",
    "recurrent_gated_delta_rule": "torch_recurrent_gated_delta_rule",
    "causal_conv1d": "causal_conv1d_fn",
    "causal_conv1d_update": "causal_conv1d_update",
}
PACKAGES = {  # name in the record: names of the distribution, first installed counts
    "torch": ("torch",),
    "transformers": ("transformers",),
    "fla": ("flash-linear-attention", "fla-core"),
    "causal_conv1d": ("causal-conv1d",),
    "kernels": ("kernels",),
}
QUANTIZERS = {"nf4": ("bitsandbytes", ("bitsandbytes",)), "int8": ("torchao", ("torchao",))}
QUANTIZERS["int4"] = QUANTIZERS["int8"]
_installed = {}  # name of a global -> what import resolved it to; filled while the reference is forced


@dataclasses.dataclass(frozen=True, repr=False)
class Backend(Table):
    """What computes a lab's model; made by `labkit.load`.

    Attributes:
        versions: `{package: version, or None if it is not installed}`, with "python".
        kernels: `{operation: "torch", "fla", "causal_conv1d", ...}` for the four operations in `OPS`.
        attention: transformers' name of the softmax implementation, for example "sdpa".
        dtype: of activations and unquantised weights. device: its name, for example "cpu" or "cuda:0 NVIDIA
        H100". quantize: how linear weights are stored, or None.
        forced: whether the reference kernels were forced on this process.
    """

    versions: dict
    kernels: dict
    attention: str
    dtype: str
    device: str
    quantize: str | None = None
    forced: bool = False
    title = "backend"

    def facts(self):
        """Rows (group, name, value) that both the text and the HTML show."""
        note = " (reference, forced)" if self.forced else ""
        rows = [("kernels", op, kernel + note) for op, kernel in self.kernels.items()]
        rows += [("kernels", "attention", self.attention)]
        rows += [("numbers", "dtype", self.dtype), ("numbers", "quantize", self.quantize or "none")]
        rows += [("numbers", "device", self.device)]
        rows += [("versions", name, version or "not installed") for name, version in self.versions.items()]
        return tuple(rows)


def record(model, *, quantize=None):
    """The `Backend` of a loaded model; it replaces transformers' notes on missing kernels at the first forward pass."""
    logging.getLogger("transformers.integrations.hub_kernels").addFilter(_no_note)
    weight = model.model.norm.weight
    return Backend(
        versions=versions(quantize),
        kernels=resolved(),
        attention=model.config._attn_implementation,
        dtype=str(weight.dtype).removeprefix("torch."),
        device=device_name(weight.device),
        quantize=quantize,
        forced=bool(_installed),
    )


def _no_note(record):
    return "is falling back to its reference" not in record.getMessage()


def versions(quantize=None):
    """`{name: version or None}` of python and of every package that can change the numbers."""
    wanted = PACKAGES | dict([QUANTIZERS[quantize]] if quantize in QUANTIZERS else [])
    found = {name: next(filter(None, map(_version, names)), None) for name, names in wanted.items()}
    return {"python": platform.python_version()} | found


def _version(distribution):
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def device_name(device):
    """ "cpu", or the index and the name of the GPU."""
    if device.type != "cuda":
        return str(device)
    import torch

    return f"{device} {torch.cuda.get_device_name(device)}"


def resolved():
    """`{operation: package that computes it}` as the model would use it now."""
    from transformers.models.qwen3_5 import modeling_qwen3_5 as modeling

    return {op: _package(getattr(modeling, name, None), name) for op, name in OPS.items()}


def _package(function, name):
    """ "torch" for the reference, else the top package of what is behind the decorator."""
    if function is None:
        raise BackendError(
            "this transformers has other kernels than labkit knows",
            got=f"no {name} in modeling_qwen3_5",
            expected=", ".join(OPS.values()),
            hint="install the tested versions; `labkit doctor` names them",
        )
    behind = _behind(function)
    real = function if behind is None else behind["implementation"]
    if behind is not None and real is behind["torch_function"]:
        return "torch"
    top = (getattr(real, "__module__", None) or type(real).__module__).split(".")[0]
    return "torch" if top in ("transformers", "labkit") else top


def _behind(function):
    """The decorator's variables `implementation` and `torch_function`, however often it is wrapped; or None."""
    while function is not None:
        inner = inspect.getclosurevars(function).nonlocals if inspect.isfunction(function) else {}
        if {"implementation", "torch_function"} <= set(inner):
            return inner
        function = getattr(function, "__wrapped__", None)
    return None


def check(backend):
    """Refuse an unknown choice of kernels.

    Raises:
        InputError: not None, "torch" or "installed".
    """
    if backend not in (None, "torch", "installed"):
        raise InputError("unknown backend", got=repr(backend), expected='None, "torch" or "installed"')


def choose(backend):
    """Bind the four operations for the whole process.

    Args:
        backend: None keeps what is bound; "torch" binds the PyTorch reference kernels, the oracle for every
            fast one; "installed" undoes that. The operations are module globals of transformers, so models
            that are already loaded in this process change too.

    Raises:
        InputError: anything else.
    """
    check(backend)
    from transformers.models.qwen3_5 import modeling_qwen3_5 as modeling

    if backend == "torch" and not _installed:
        resolved()
        for name in OPS.values():
            _installed[name] = getattr(modeling, name)
            setattr(modeling, name, _reference(_installed[name]))
    if backend == "installed":
        while _installed:
            setattr(modeling, *_installed.popitem())


def _reference(function):
    """The pure PyTorch function behind a decorated one, taking and dropping arguments only kernels know."""
    behind = _behind(function)
    reference = behind["torch_function"] if behind else inspect.unwrap(function)
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
