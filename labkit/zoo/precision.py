"""Where and how precisely: device, dtype and quantisation. What cannot work is refused before a weight is read.

Quantised are the large linear layers of mixers and MLPs. lm_head stays as it is, and so do the a and b
projections, whose few numbers set decay and write strength of every head, and routers. Experts that stand in one
tensor are packed by fp8 alone.

    nf4    bitsandbytes, 4 bits on a normal grid, double quantisation    CPU and GPU
    int8   torchao, 8 bits weight-only                                   CPU and GPU
    int4   torchao, 4 bits weight-only, groups of 128                    GPU
    fp8    transformers' fine-grained e4m3, blocks of 128 x 128          GPU, compute capability 8.9 and up
"""

import importlib.util
from collections.abc import Iterator

import torch

from labkit.errors import BackendError, BudgetError, InputError, install_hint
from labkit.plan import budget
from labkit.spec import Spec, size, weight_bytes

DTYPES = ("float32", "bfloat16", "float16", "float64")
PACKAGES = {
    "nf4": ("accelerate", "bitsandbytes"),
    "int8": ("accelerate", "torchao"),
    "int4": ("accelerate", "torchao"),
    "fp8": ("accelerate", "kernels"),
}
E4M3_FROM = (8, 9)  # compute capability of the first card that multiplies e4m3
NF4_BLOCK = (32, 64)  # rows and columns that bitsandbytes multiplies at once on a CPU


def whole_blocks(shape: tuple[int, ...]) -> bool:
    """Whether bitsandbytes can multiply a matrix of 4 bits on a CPU, where its layout is in blocks."""
    return all(size % block == 0 for size, block in zip(shape, NF4_BLOCK, strict=True))


def device_of(device: str | torch.device | None) -> torch.device:
    """The torch device; None is the GPU if there is one.

    Raises:
        InputError: not a device. BackendError: a device that is not there.
    """
    if device is None:
        return torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")
    try:
        place = torch.device(device)
    except (RuntimeError, TypeError):
        raise InputError("not a device", got=repr(device), expected='"cuda", "cuda:0" or "cpu"') from None
    if place.type not in ("cuda", "cpu"):
        raise BackendError("labkit runs on a CPU or one NVIDIA GPU", got=place.type, expected='"cuda" or "cpu"')
    if place.type == "cpu":
        return place
    if not torch.cuda.is_available():
        built = "" if torch.version.cuda else " (built without CUDA)"
        raise BackendError(
            "no GPU that torch can use",
            got=f"device={str(device)!r}, torch {torch.__version__}{built}",
            hint='device="cpu", or install the CUDA build of torch and check `nvidia-smi`',
        )
    count, index = torch.cuda.device_count(), place.index
    if index is not None and index >= count:
        raise BackendError("no such GPU", got=str(place), expected=f"cuda:0 to cuda:{count - 1}")
    return torch.device("cuda", torch.cuda.current_device() if index is None else index)


def dtype_of(
    dtype: str | torch.dtype | None,
    spec: Spec,
    device: torch.device,
    *,
    quantize: str | None = None,
    small: bool = False,
) -> torch.dtype:
    """The torch dtype of activations and unquantised weights.

    None is the checkpoint's own on a GPU; on a CPU float32, or the checkpoint's own where float32 would not
    fit.

    Raises:
        InputError: not a floating dtype labkit runs.
    """
    stored = spec.dtype if spec.dtype in DTYPES else "bfloat16"
    if dtype is None and device.type == "cpu":
        fits = small or weight_bytes(spec, "float32", quantize)["text"] <= budget(device)[0]
        dtype = "float32" if fits else stored
    name = str(stored if dtype in (None, "auto") else dtype).removeprefix("torch.")
    if name not in DTYPES:
        raise InputError("not a dtype to run a model in", got=repr(dtype), expected=", ".join(DTYPES))
    return getattr(torch, name)


def check_quantize(quantize: str | None, device: torch.device, dtype: str | torch.dtype | None = None) -> None:
    """Refuse a quantisation that is unknown, or that this machine cannot run.

    Raises:
        InputError: unknown. BackendError: missing packages or the wrong device.
    """
    if quantize is None:
        return
    if quantize not in PACKAGES:
        raise InputError("unknown quantisation", got=repr(quantize), expected=f"None, {', '.join(PACKAGES)}")
    if quantize in ("int4", "fp8") and device.type != "cuda":
        raise BackendError(
            f'quantize="{quantize}" needs a GPU',
            got=f'device="{device}"',
            hint='quantize="nf4" or "int8" run on a CPU',
        )
    if quantize == "fp8" and (capability := torch.cuda.get_device_capability(device)) < E4M3_FROM:
        raise BackendError(
            'quantize="fp8" needs a newer GPU',
            got=f"{torch.cuda.get_device_name(device)}, compute capability {'.'.join(map(str, capability))}",
            expected=f"{'.'.join(map(str, E4M3_FROM))} or later",
            hint='quantize="int8"',
        )
    if quantize == "int4" and dtype not in (None, "auto", "bfloat16", torch.bfloat16):
        raise InputError('quantize="int4" computes in bfloat16', got=f"dtype={dtype}", expected='dtype="bfloat16"')
    need_packages(PACKAGES[quantize], f'quantize="{quantize}"')


def check_widths(
    shapes: dict[str, tuple], quantize: str | None, device: torch.device, unquantized: tuple[str, ...]
) -> None:
    """Refuse 4-bit weights on a CPU that bitsandbytes could load but not multiply: its layout there is in blocks.

    Args:
        shapes: `{name: shape}` of the model's tensors. unquantized: names of modules that stay as they are.

    Raises:
        BackendError: names the first matrix that is no whole number of blocks.
    """
    if quantize != "nf4" or device.type != "cpu":
        return
    whole = (*unquantized, "embed_tokens")
    for name, shape in shapes.items():
        if len(shape) == 2 and name.split(".")[-2] not in whole and not whole_blocks(shape):
            raise BackendError(
                'quantize="nf4" on a CPU needs matrices in whole blocks',
                got=f"{name} {list(shape)}",
                expected="rows in multiples of {}, columns in multiples of {}".format(*NF4_BLOCK),
                hint='quantize="int8"',
            )


def need_packages(names: tuple[str, ...], purpose: str) -> None:
    """Refuse if one of these packages is not installed.

    Raises:
        BackendError: names them and the command that installs them.
    """
    if absent := [name for name in names if importlib.util.find_spec(name) is None]:
        raise BackendError(
            f"{purpose} needs packages that are not installed",
            got=f"no {', '.join(absent)}",
            hint=f"pip install {' '.join(absent)}, or {install_hint('quant')}",
        )


def quantization_config(quantize: str, dtype: torch.dtype, unquantized: tuple[str, ...]):
    """transformers' own configuration for a quantisation on the way in.

    Quantisers match a pattern from the start of a name or at its end, some against the name of the weight: a bare
    "in_proj_a" would not match "….in_proj_a.weight". Naming any module replaces transformers' own list, hence lm_head.
    """
    skip = [name if name == "lm_head" else rf".*\.{name}" for name in unquantized]
    if quantize == "nf4":
        from transformers import BitsAndBytesConfig

        return BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
            llm_int8_skip_modules=skip,
        )
    if quantize == "fp8":
        from transformers import FineGrainedFP8Config

        return FineGrainedFP8Config(modules_to_not_convert=skip)
    from torchao.quantization import Int4WeightOnlyConfig, Int8WeightOnlyConfig
    from transformers import TorchAoConfig

    if quantize == "int8":
        return TorchAoConfig(Int8WeightOnlyConfig(), modules_to_not_convert=skip)
    packed = Int4WeightOnlyConfig(group_size=128, int4_packing_format="tile_packed_to_4d")
    return TorchAoConfig(packed, modules_to_not_convert=skip)


def check_kept(model, unquantized: tuple[str, ...]) -> None:
    """Refuse a quantised model in which a module that must stay as it is was packed too.

    Raises:
        BackendError: names the modules.
    """
    packed = {
        name
        for name, module in model.named_modules()
        for weight in module.parameters(recurse=False)
        if name.rpartition(".")[2] in unquantized and (type(weight) is not torch.nn.Parameter or not plain(weight))
    }
    if packed:
        raise BackendError(
            "the quantiser packed modules that must stay as they are",
            got=", ".join(sorted(packed)[:4]),
            expected=f"{', '.join(unquantized)} unquantised",
            hint="install the tested versions; `labkit doctor` names them",
        )


def plain(weight: torch.Tensor) -> bool:
    """Whether a parameter holds its own floating numbers, unpacked."""
    return weight.is_floating_point() and weight.element_size() > 1 and type(weight.data) is torch.Tensor


def admit(
    spec: Spec,
    device: torch.device,
    dtype: torch.dtype,
    *,
    quantize: str | None = None,
    need: int | None = None,
    stored: str | None = None,
    fixed: bool = False,
    tower: int = 0,
) -> None:
    """Refuse a model whose weights would not fit in what is free.

    Args:
        need: bytes of weights that are stored packed, by the method `stored`; None follows from `spec`.
        fixed: the format allows no quantisation on the way in. tower: bytes of an image tower beside the text model.

    Raises:
        BudgetError: with the bytes, what is free, and the nearest route that would fit.
    """
    need = need or weight_bytes(spec, dtype, quantize)["text"] + tower
    free, where = budget(device)
    if need <= free:
        return
    how = f"{quantize or stored} weights, {dtype}" if quantize or stored else str(dtype)
    options = sorted(cheaper(spec, device, dtype, fixed=fixed or stored), key=lambda option: -option[1])
    options = [(way, count + tower) for way, count in options]
    fits = [f"{way}: {size(count)}" for way, count in options if count <= free and count < need]
    if tower and need - tower <= free:
        fits = [f"images=False: {size(need - tower)}", *fits]
    if not fits and device.type == "cuda" and need <= budget(torch.device("cpu"))[0]:
        fits = [f'device="cpu": {size(need)}']
    least = [f"the smallest route, {way}, takes {size(count)}; use a smaller model" for way, count in options[-1:]]
    raise BudgetError(
        f"{spec.name} would not fit",
        got=f"{size(need)} of weights ({how.replace('torch.', '')})",
        expected=f"at most {size(free)} ({where})",
        hint=(fits or least or ['a smaller model, labkit.load("nano")'])[0],
    )


def cheaper(spec: Spec, device: torch.device, dtype: torch.dtype, *, fixed: bool = False) -> Iterator[tuple[str, int]]:
    """Pairs (way, bytes of weights) of the other routes this device could run."""
    if weight_bytes(spec, dtype)["text"] > weight_bytes(spec, "bfloat16")["text"]:
        yield 'dtype="bfloat16"', weight_bytes(spec, "bfloat16")["text"]
    if fixed:
        return
    routes = ["int8", "nf4"] if device.type == "cpu" else ["int8", "nf4", "int4"]
    if device.type == "cuda" and torch.cuda.get_device_capability(device) >= E4M3_FROM:
        routes.append("fp8")
    for route in routes:
        yield f'dtype="bfloat16", quantize="{route}"', weight_bytes(spec, "bfloat16", route)["text"]
