"""Published layouts of packed weights, written by hand from small checkpoints, and the numbers that they stand for.

Each function packs the large linear layers of a folder that `checkpoints` wrote, says so in its config.json, and
returns `{name: matrix in float32}` worked out from what it stored, matrix by matrix in the plainest way.
"""

import json

import checkpoints
import torch
from safetensors.torch import load_file

SMALL = ("in_proj_a", "in_proj_b", "gate", "shared_expert_gate", "lm_head", "embed_tokens", "conv1d")
NF4 = [-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334]
NF4 += [-0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224]
NF4 += [0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0]
NF4 = torch.tensor(NF4)


def matrices(named, kept=SMALL):
    """Names of the matrices that quantisers pack."""
    return [name for name, w in named.items() if w.ndim == 2 and name.split(".")[-2] not in kept]


def packed(folder, config, pack, kept=SMALL):
    """Pack every matrix: `pack(name, w)` gives ({suffix: tensor}, the matrix that they stand for)."""
    named, meant = load_file(folder / "model.safetensors"), {}
    for name in matrices(named, kept):
        parts, meant[name] = pack(name, named.pop(name).float())
        layer = name.removesuffix(".weight")
        named |= {layer + suffix: tensor.contiguous() for suffix, tensor in parts.items()}
    checkpoints.write_tensors(folder, named)
    if config:
        checkpoints.change_json(folder / "config.json", quantization_config=config)
    return meant


def fp8(folder, scale=torch.bfloat16, block=128):
    """Fine-grained FP8: e4m3, a scale for every block of 128 x 128, of which the last ones are cut off."""

    def pack(name, weight):
        rows, columns = (-(-size // block) for size in weight.shape)
        scales, stored = torch.ones(rows, columns, dtype=scale), torch.empty(weight.shape, dtype=torch.float8_e4m3fn)
        meant = torch.empty(weight.shape)
        for i in range(rows):
            for j in range(columns):
                at = slice(block * i, block * (i + 1)), slice(block * j, block * (j + 1))
                scales[i, j] = weight[at].abs().max() / 448
                stored[at] = (weight[at] / scales[i, j].float()).to(torch.float8_e4m3fn)
                meant[at] = stored[at].float() * scales[i, j].float()
        return {".weight": stored, ".weight_scale_inv": scales}, meant

    config = dict(quant_method="fp8", activation_scheme="dynamic", weight_block_size=[block, block])
    return packed(folder, config | dict(modules_to_not_convert=["lm_head", "model.embed_tokens"]), pack)


def nf4(folder, *, double=True, kept=("lm_head", "embed_tokens", "conv1d")):
    """bitsandbytes, 4 bits: blocks of 64, scales themselves in 8 bits by blocks of 256, or in float32."""

    def pack(name, weight):
        flat = weight.flatten()
        blocks = flat.view(-1, 64)
        scale = blocks.abs().amax(1)
        state = dict(quant_type="nf4", blocksize=64, dtype="bfloat16", shape=list(weight.shape))
        parts = {}
        if double:
            offset = float(scale.mean())
            table = torch.linspace(-1, 1, 256)
            groups = -(-len(scale) // 256)
            nested = torch.stack([(scale[256 * i : 256 * (i + 1)] - offset).abs().max() for i in range(groups)])
            places = torch.stack(
                [(table - (s - offset) / nested[i // 256]).abs().argmin() for i, s in enumerate(scale)]
            )
            scale = torch.stack([table[place] * nested[i // 256] + offset for i, place in enumerate(places)])
            parts = {".weight.nested_absmax": nested, ".weight.nested_quant_map": table}
            state |= dict(nested_blocksize=256, nested_dtype="float32", nested_offset=offset)
            parts[".weight.absmax"] = places.to(torch.uint8)
        else:
            parts[".weight.absmax"] = scale
        codes = ((blocks / scale[:, None])[..., None] - NF4).abs().argmin(-1)
        meant = (NF4[codes] * scale[:, None]).view(weight.shape)
        pairs = codes.view(-1, 2)
        parts[".weight"] = (16 * pairs[:, :1] + pairs[:, 1:]).to(torch.uint8)  # the first of two in the high bits
        parts[".weight.quant_map"] = NF4.clone()
        text = json.dumps(state).encode()
        parts[".weight.quant_state.bitsandbytes__nf4"] = torch.tensor(list(text), dtype=torch.uint8)
        return parts, meant

    config = dict(
        quant_method="bitsandbytes", load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_quant_storage="uint8"
    )
    config |= dict(
        bnb_4bit_compute_dtype="bfloat16", bnb_4bit_use_double_quant=double, llm_int8_skip_modules=["lm_head"]
    )
    return packed(folder, config, pack, kept)


def int8(folder):
    """bitsandbytes, 8 bits: a scale for every row in `.SCB`, in multiples of 127."""

    def pack(name, weight):
        scale = weight.abs().amax(1)
        stored = (weight * 127 / scale[:, None]).round().to(torch.int8)
        meant = torch.stack([row.float() * (top / 127) for row, top in zip(stored, scale, strict=True)])
        return {".weight": stored, ".SCB": scale, ".weight_format": torch.tensor(0, dtype=torch.uint8)}, meant

    config = dict(quant_method="bitsandbytes", load_in_8bit=True, llm_int8_skip_modules=["lm_head"])
    return packed(folder, config, pack, ("lm_head", "embed_tokens", "conv1d"))


def words(numbers, width):
    """Whole numbers [rows, n] of `width` bits one after the other in words of 32 bits, int32 [rows, ...]."""
    made = []
    for row in numbers.tolist():
        whole = sum(int(number) << (width * place) for place, number in enumerate(row))
        count = -(-len(row) * width // 32)
        signed = [(whole >> (32 * place)) & 0xFFFFFFFF for place in range(count)]
        made.append([word - 2**32 if word >= 2**31 else word for word in signed])
    return torch.tensor(made, dtype=torch.int32)


def grid(weight, width, group):
    """(whole numbers from 0, scale, zero): an uneven grid for each group of columns of each row."""
    top = 2**width - 1
    parts = weight.view(len(weight), -1, group)
    low, high = parts.amin(-1).clamp(max=0), parts.amax(-1).clamp(min=0)
    scale = ((high - low) / top).to(torch.float16)
    zero = (-low / scale.float()).round().clamp(0, top)
    number = ((parts / scale.float()[..., None]).round() + zero[..., None]).clamp(0, top)
    return number.view(weight.shape).long(), scale, zero.long()


def by_number(number, scale, zero, group):
    """The matrix, column by column."""
    columns = [scale[:, j // group].float() * (number[:, j] - zero[:, j // group]) for j in range(number.shape[1])]
    return torch.stack(columns, 1)


def compressed(folder, *, width=4, group=64, symmetric=True):
    """compressed-tensors, pack-quantized."""

    def pack(name, weight):
        number, scale, zero = grid(weight, width, group)
        if symmetric:
            zero = torch.full_like(zero, 2 ** (width - 1))
        parts = {".weight_packed": words(number, width), ".weight_scale": scale}
        parts[".weight_shape"] = torch.tensor(weight.shape, dtype=torch.int64)
        if not symmetric:
            parts[".weight_zero_point"] = words(zero.T, width).T
        return parts, by_number(number, scale, zero, group)

    weights = dict(num_bits=width, type="int", symmetric=symmetric, strategy="group", group_size=group)
    return packed(folder, compressed_config("pack-quantized", weights), pack)


def compressed_config(form, weights):
    """A `quantization_config` of compressed-tensors."""
    groups = {"group_0": {"targets": ["Linear"], "weights": weights, "input_activations": None}}
    config = dict(quant_method="compressed-tensors", format=form, quantization_status="compressed")
    return config | dict(config_groups=groups, ignore=["lm_head", "re:.*in_proj_[ab]"], kv_cache_scheme=None)


def compressed_fp8(folder):
    """compressed-tensors, float-quantized: e4m3, a scale for every row."""

    def pack(name, weight):
        scale = (weight.abs().amax(1, keepdim=True) / 448).to(torch.bfloat16)
        stored = (weight / scale.float()).to(torch.float8_e4m3fn)
        meant = torch.stack([row.float() * float(one) for row, one in zip(stored, scale, strict=True)])
        return {".weight": stored, ".weight_scale": scale}, meant

    weights = dict(num_bits=8, type="float", symmetric=True, strategy="channel")
    return packed(folder, compressed_config("float-quantized", weights), pack)


def compressed_int8(folder):
    """compressed-tensors, int-quantized: a scale for every row."""

    def pack(name, weight):
        scale = (weight.abs().amax(1, keepdim=True) / 127).to(torch.bfloat16)
        stored = (weight / scale.float()).round().clamp(-128, 127).to(torch.int8)
        meant = torch.stack([row.float() * float(one) for row, one in zip(stored, scale, strict=True)])
        return {".weight": stored, ".weight_scale": scale}, meant

    weights = dict(num_bits=8, type="int", symmetric=True, strategy="channel")
    return packed(folder, compressed_config("int-quantized", weights), pack)


def nvfp4(folder):
    """compressed-tensors, nvfp4-pack-quantized: floats of 4 bits, e4m3 scales of 16, one number over them all."""
    table = torch.tensor([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0])

    def pack(name, weight):
        whole = 448 * 6 / weight.abs().max()
        parts = weight.view(len(weight), -1, 16)
        scale = (parts.abs().amax(-1) / 6 * whole).to(torch.float8_e4m3fn)
        each = (scale.float() / whole)[..., None]
        place = ((parts.abs() / each)[..., None] - table).abs().argmin(-1)
        meant = (table[place] * parts.sign() * each).view(weight.shape)
        code = (place + 8 * (parts < 0)).view(len(weight), -1, 2)
        stored = (code[..., 0] + 16 * code[..., 1]).to(torch.uint8)  # the first of two in the low bits
        return {".weight_packed": stored, ".weight_scale": scale, ".weight_global_scale": whole.view(1)}, meant

    weights = dict(num_bits=4, type="float", symmetric=True, strategy="tensor_group", group_size=16)
    return packed(folder, compressed_config("nvfp4-pack-quantized", weights), pack)


def gptq(folder, *, width=4, group=32, mixed=True):
    """GPTQ: words down the columns of the transposed matrix, zeros less one; `mixed`, columns in an order of theirs."""

    def pack(name, weight):
        order = torch.randperm(weight.shape[1]) if mixed else torch.arange(weight.shape[1])
        number, scale, zero = grid(weight[:, order], width, group)
        meant = torch.empty(weight.shape)
        meant[:, order] = by_number(number, scale, zero, group)
        back = order.argsort()
        parts = {".qweight": words(number[:, back], width).T, ".scales": scale.T}
        parts[".qzeros"] = words(((zero - 1) % 2**width).T, width)
        parts[".g_idx"] = (back // group).to(torch.int32)
        return parts, meant

    config = dict(
        quant_method="gptq", bits=width, group_size=group, desc_act=mixed, sym=False, checkpoint_format="gptq"
    )
    return packed(folder, config, pack)


def awq(folder, group=32):
    """AWQ, gemm: words across eight columns of the transposed matrix, in the order 0 2 4 6 1 3 5 7."""

    def across(numbers):
        eights = numbers.view(len(numbers), -1, 8)[..., [0, 2, 4, 6, 1, 3, 5, 7]]
        return words(eights.reshape(numbers.shape), 4)

    def pack(name, weight):
        number, scale, zero = grid(weight, 4, group)
        parts = {".qweight": across(number.T), ".qzeros": across(zero.T), ".scales": scale.T}
        return parts, by_number(number, scale, zero, group)

    config = dict(quant_method="awq", bits=4, group_size=group, zero_point=True, version="gemm")
    return packed(folder, config, pack)


def mlx(folder, *, width=4, group=32, prefix=True):
    """MLX: every matrix but the router, scale and bias; norms plus one, the convolution turned, experts stacked."""
    named = load_file(folder / "model.safetensors")
    made, meant = {}, {}

    def pack(name, weight, width):
        flat = weight.float().reshape(-1, weight.shape[-1])
        number, scale, zero = grid(flat, width, group)
        bias = (-zero * scale.float()).to(torch.float16)
        columns = [
            scale[:, j // group].float() * number[:, j] + bias[:, j // group].float() for j in range(flat.shape[1])
        ]
        layer = name.removesuffix(".weight")
        made[layer + ".weight"] = words(number, width).view(*weight.shape[:-1], -1).view(torch.uint32)
        made[layer + ".scales"] = scale.view(*weight.shape[:-1], -1)
        made[layer + ".biases"] = bias.view(*weight.shape[:-1], -1)
        return torch.stack(columns, 1).view(weight.shape)

    for name, weight in named.items():
        if name.endswith("conv1d.weight"):
            made[name] = weight.transpose(1, 2).contiguous()
        elif name.endswith("norm.weight") and "linear_attn" not in name:
            made[name] = weight + 1
            meant[name] = made[name] - 1
        elif name.endswith("experts.gate_up_proj"):
            head = name.removesuffix("experts.gate_up_proj") + "switch_mlp."
            rows = [
                pack(f"{head}{kind}_proj", w, width) for kind, w in zip(("gate", "up"), weight.chunk(2, 1), strict=True)
            ]
            meant[name] = torch.cat(rows, 1)
        elif name.endswith("experts.down_proj"):
            meant[name] = pack(name.replace("experts.", "switch_mlp."), weight, width)
        elif weight.ndim == 2:
            small = name.endswith(("mlp.gate.weight", "shared_expert_gate.weight"))
            meant[name] = pack(name, weight, 8 if small else width)
        else:
            made[name] = weight
    if prefix:
        made = {f"language_model.{name}": tensor for name, tensor in made.items()}
    checkpoints.write_tensors(folder, made)
    config = dict(group_size=group, bits=width, mode="affine")
    checkpoints.change_json(folder / "config.json", quantization=config, quantization_config=config)
    return meant
