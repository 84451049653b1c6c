"""The tensors of a .gguf file under transformers' names, unpacked and with what llama.cpp's converter does undone.

The converter adds one to the weights of norms, stores -exp(A_log), and flattens the convolution. Value heads of Qwen3.5
lie tiled, one of each key head after the other, where the model groups them by key head. Qwen3-Next keeps them grouped
and stores q, k, v apart from z, which the model interleaves by key head.
"""

import dataclasses
import math
import pathlib
from collections.abc import Callable, Mapping

import numpy as np
import torch

from labkit.spec import Spec
from labkit.zoo.gguf_header import Entry, Header

FIVE_BITS = {6: (32, 22), 7: (32, 24)}  # Q5_0, Q5_1: numbers and bytes of a block; transformers reads the others
PLAIN = {0: torch.float32, 1: torch.float16, 30: torch.bfloat16}
HIGH = torch.arange(32)


@dataclasses.dataclass(frozen=True)
class Stored:
    """One tensor of the model in a file, read by indexing; for the checks a tensor in float32."""

    path: pathlib.Path
    start: int
    entries: tuple[Entry, ...]
    undo: Callable[..., torch.Tensor]
    shape: tuple[int, ...]
    dtype: str = "F32"

    def __getitem__(self, _) -> torch.Tensor:
        """The tensor in float32."""
        return self.undo(*(_numbers(self.path, self.start, entry) for entry in self.entries)).contiguous()


def tensors(path: pathlib.Path, header: Header, spec: Spec, layout: Mapping) -> dict[str, Stored]:
    """`{the model's name: tensor}` of a file; a tensor that has no place keeps its own name.

    Args:
        layout: of the architecture, from `LAYOUTS`.
    """
    held = {entry.name: entry for entry in header.tensors}
    blocks = {f"blk.{layer}.": f"model.layers.{layer}." for layer in range(spec.layers)}
    named, leaves = {}, COMMON | layout
    for name in [name for name in held if name.startswith("blk.")]:
        block = ".".join(name.split(".")[:2]) + "."
        if block not in blocks:
            del held[name]  # of the layers that draft tokens
    for whole, (stored, undo) in WHOLE.items():
        if stored in held:
            named[whole] = _stored(path, header, (held.pop(stored),), undo, spec)
    for block, prefix in blocks.items():
        for stored, (leaf, undo) in leaves.items():
            parts = [block + part for part in stored]
            if all(part in held for part in parts):
                entries = tuple(held.pop(part) for part in parts)
                named[prefix + leaf] = _stored(path, header, entries, undo, spec)
    return named | {name: _stored(path, header, (entry,), None, spec) for name, entry in held.items()}


def _stored(path, header, entries, undo, spec):
    def undone(*numbers):
        return undo(spec, *numbers) if undo else numbers[0]

    try:
        shape = tuple(undone(*(torch.empty(entry.shape, device="meta") for entry in entries)).shape)
    except (RuntimeError, IndexError):  # sizes that do not fit the settings; told by name where shapes are compared
        shape = entries[0].shape
    return Stored(path, header.start, entries, undone, shape)


def _numbers(path, start, entry):
    """The numbers of one entry, in float32."""
    data = np.fromfile(path, np.uint8, entry.bytes, offset=start + entry.offset)
    if entry.kind in PLAIN:
        return torch.from_numpy(data).view(PLAIN[entry.kind]).reshape(entry.shape).float()
    rows, columns = math.prod(entry.shape[:-1]), entry.shape[-1]
    if entry.kind in FIVE_BITS:
        return _five_bits(torch.from_numpy(data), entry.kind).reshape(entry.shape)
    from transformers.integrations.gguf.kernels import dequantize_blocks

    packed = torch.from_numpy(data).reshape(rows, -1)
    return dequantize_blocks(packed, entry.kind, rows, columns, torch.float32).reshape(entry.shape)


def _five_bits(data, kind):
    """Blocks of 32: a scale, for Q5_1 a least value, one high bit of each number, then four low bits of each."""
    blocks = data.view(-1, FIVE_BITS[kind][1])
    first = 2 if kind == 6 else 4
    halves = blocks[:, :first].contiguous().view(torch.float16).float()
    high = (blocks[:, first : first + 4].contiguous().view(torch.int32) >> HIGH) & 1
    low = blocks[:, first + 4 :]
    numbers = torch.cat((low & 15, low >> 4), 1) + 16 * high
    least = halves[:, 1:] if kind == 7 else -16 * halves[:, :1]
    return numbers * halves[:, :1] + least


# ---------------------------------------------------------------------------------------------- the converter, undone


def _less_one(spec, weight):
    return weight - 1


def _log(spec, rates):
    return torch.log(-rates)


def _row(spec, weight):
    return weight.reshape(1, -1)


def _pair(spec, gate, up):
    return torch.cat((gate, up), 1)


def _flat(spec, kernel):
    return kernel.reshape(kernel.shape[0], 1, -1)


def _grouped(spec, weight, width=1, first=0):
    """Rows from `first` on, `width` to a value head, from tiled to grouped by key head."""
    head, tail = weight[:first], weight[first:]
    sorts = tail.reshape(spec.value_heads // spec.key_heads, spec.key_heads, width, *tail.shape[1:])
    return torch.cat((head, sorts.transpose(0, 1).reshape(tail.shape)))


def _mixed(spec, weight):
    return _grouped(spec, weight, spec.dv, 2 * spec.key_heads * spec.dk)


def _by_key_head(spec, qkv, z):
    """in_proj_qkvz: for each key head its q, its k, and the v and z of its value heads."""
    queries = spec.key_heads * spec.dk
    q, k, v = qkv.split((queries, queries, spec.value_heads * spec.dv))
    parts = [part.reshape(spec.key_heads, -1, qkv.shape[-1]) for part in (q, k, v, z)]
    return torch.cat(parts, 1).flatten(0, 1)


WHOLE = {
    "model.embed_tokens.weight": ("token_embd.weight", None),
    "model.norm.weight": ("output_norm.weight", _less_one),
    "lm_head.weight": ("output.weight", None),
}
COMMON = {
    ("attn_norm.weight",): ("input_layernorm.weight", _less_one),
    ("post_attention_norm.weight",): ("post_attention_layernorm.weight", _less_one),
    ("attn_q.weight",): ("self_attn.q_proj.weight", None),
    ("attn_k.weight",): ("self_attn.k_proj.weight", None),
    ("attn_v.weight",): ("self_attn.v_proj.weight", None),
    ("attn_output.weight",): ("self_attn.o_proj.weight", None),
    ("attn_q_norm.weight",): ("self_attn.q_norm.weight", _less_one),
    ("attn_k_norm.weight",): ("self_attn.k_norm.weight", _less_one),
    ("ffn_gate.weight",): ("mlp.gate_proj.weight", None),
    ("ffn_up.weight",): ("mlp.up_proj.weight", None),
    ("ffn_down.weight",): ("mlp.down_proj.weight", None),
    ("ffn_gate_inp.weight",): ("mlp.gate.weight", None),
    ("ffn_gate_exps.weight", "ffn_up_exps.weight"): ("mlp.experts.gate_up_proj", _pair),
    ("ffn_gate_up_exps.weight",): ("mlp.experts.gate_up_proj", None),
    ("ffn_down_exps.weight",): ("mlp.experts.down_proj", None),
    ("ffn_gate_shexp.weight",): ("mlp.shared_expert.gate_proj.weight", None),
    ("ffn_up_shexp.weight",): ("mlp.shared_expert.up_proj.weight", None),
    ("ffn_down_shexp.weight",): ("mlp.shared_expert.down_proj.weight", None),
    ("ffn_gate_inp_shexp.weight",): ("mlp.shared_expert_gate.weight", _row),
    ("ssm_norm.weight",): ("linear_attn.norm.weight", None),
}
TILED = {
    ("attn_qkv.weight",): ("linear_attn.in_proj_qkv.weight", _mixed),
    ("attn_gate.weight",): ("linear_attn.in_proj_z.weight", lambda spec, w: _grouped(spec, w, spec.dv)),
    ("ssm_alpha.weight",): ("linear_attn.in_proj_a.weight", _grouped),
    ("ssm_beta.weight",): ("linear_attn.in_proj_b.weight", _grouped),
    ("ssm_conv1d.weight",): ("linear_attn.conv1d.weight", lambda spec, w: _mixed(spec, _flat(spec, w))),
    ("ssm_out.weight",): ("linear_attn.out_proj.weight", lambda spec, w: _grouped(spec, w.T, spec.dv).T),
    ("ssm_a",): ("linear_attn.A_log", lambda spec, rates: _grouped(spec, _log(spec, rates))),
    ("ssm_dt.bias",): ("linear_attn.dt_bias", _grouped),
}
BY_KEY_HEAD = {
    ("attn_qkv.weight", "attn_gate.weight"): ("linear_attn.in_proj_qkvz.weight", _by_key_head),
    ("ssm_in.weight",): ("linear_attn.in_proj_qkvz.weight", None),  # as the first converter left it
    ("ssm_ba.weight",): ("linear_attn.in_proj_ba.weight", None),
    ("ssm_conv1d.weight",): ("linear_attn.conv1d.weight", _flat),
    ("ssm_out.weight",): ("linear_attn.out_proj.weight", None),
    ("ssm_a",): ("linear_attn.A_log", _log),
    ("ssm_dt.bias",): ("linear_attn.dt_bias", None),
}
LAYOUTS = {"qwen35": TILED, "qwen35moe": TILED, "qwen3next": BY_KEY_HEAD}
SECTIONED = ("qwen35", "qwen35moe")  # architectures with a rotary width for each of three axes
