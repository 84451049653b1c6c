"""Small checkpoints on disk, in every layout that `labkit.load` reads, written from the random hybrids of `tiny`."""

import json

import tiny

STOPS = {"<|endoftext|>": 0, "<|im_end|>": 1}
# Widths in whole blocks of 32 and 64, all different, for quantisers; D D A D D A fits a .gguf file too.
BLOCKS = dict(
    hidden_size=128,
    intermediate_size=320,
    num_hidden_layers=6,
    layer_types=["linear_attention", "linear_attention", "full_attention"] * 2,
    num_attention_heads=6,
    num_key_value_heads=2,
    head_dim=32,
    linear_num_key_heads=4,
    linear_num_value_heads=12,
    linear_key_head_dim=16,
    linear_value_head_dim=16,
)
VISION = dict(
    depth=1,
    hidden_size=24,
    intermediate_size=36,
    num_heads=3,
    in_channels=3,
    out_hidden_size=tiny.SIZES["hidden_size"],
    patch_size=2,
    spatial_merge_size=2,
    temporal_patch_size=2,
    num_position_embeddings=16,
)


def vocabulary(size=tiny.SIZES["vocab_size"]):
    """`{token: id}`: stop tokens, the letters a and b, a space, the merged "ab", and words nothing merges to."""
    first = STOPS | {"a": 2, "b": 3, "Ġ": 4, "ab": 5}
    return first | {f"w{index}": index for index in range(len(first), size)}


def write_tokenizer(folder, size=tiny.SIZES["vocab_size"]):
    """A byte-level BPE tokenizer with one merge, tokenizer.json and its configuration."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    made = Tokenizer(models.BPE(vocabulary(size), [("a", "b")]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens(list(STOPS))
    made.save(str(folder / "tokenizer.json"))
    write_json(folder / "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast"})


def write_json(path, content):
    """A JSON file."""
    path.write_text(json.dumps(content), encoding="utf-8")


def change_json(path, **changes):
    """Set or, with None, remove top-level fields of a JSON file."""
    content = json.loads(path.read_text(encoding="utf-8")) | changes
    write_json(path, {key: value for key, value in content.items() if value is not None})


def text_only(folder, model, *, shards=1, apart=False):
    """The text-only layout; with more shards, an index and files of roughly equal size; experts fused or apart."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", text_config(model))
    write_tensors(folder, tensors(model, apart), shards)
    write_tokenizer(folder, model.config.vocab_size)
    return folder


def image_text(folder, model, *, shards=1, apart=False):
    """The image-text layout: prefixed names beside vision and multi-token-prediction tensors."""
    import torch

    folder.mkdir(parents=True, exist_ok=True)
    text = text_config(model) | {"mtp_num_hidden_layers": 1}
    tied = text.pop("tie_word_embeddings")
    kind = text["model_type"].removesuffix("_text")
    config = {"model_type": kind, "text_config": text, "vision_config": VISION, "tie_word_embeddings": tied}
    write_json(folder / "config.json", config)
    renamed = {name.replace("model.", "model.language_model.", 1): w for name, w in tensors(model, apart).items()}
    renamed["model.visual.blocks.0.norm1.weight"] = torch.ones(VISION["hidden_size"])
    renamed["mtp.fc.weight"] = torch.ones(3, 2)
    write_tensors(folder, renamed, shards)
    write_tokenizer(folder)
    return folder


def text_config(model):
    """The config of a model as a plain dict."""
    return json.loads(model.config.to_json_string(use_diff=False)) | {"dtype": str(model.dtype).removeprefix("torch.")}


def tensors(model, apart=False):
    """`{name: tensor}` of a model, lm_head left out where it is the embedding; `apart` gives every expert its own."""
    named = {name: weight.detach().clone().contiguous() for name, weight in model.state_dict().items()}
    if model.config.tie_word_embeddings:
        named.pop("lm_head.weight")
    for name in [name for name in named if apart and ".experts." in name]:
        head, _, kind = name.rpartition(".")
        kinds = ("gate_proj", "up_proj") if kind == "gate_up_proj" else (kind,)
        for expert, weight in enumerate(named.pop(name)):
            for part, rows in zip(kinds, weight.chunk(len(kinds)), strict=True):
                named[f"{head}.{expert}.{part}.weight"] = rows.clone()
    return named


def write_tensors(folder, named, shards=1):
    """One safetensors file, or several and their index."""
    from safetensors.torch import save_file

    if shards == 1:
        save_file(named, folder / "model.safetensors", metadata={"format": "pt"})
        return
    places = {}
    for shard in range(shards):
        file = f"model-{shard + 1:05d}-of-{shards:05d}.safetensors"
        part = {name: weight for i, (name, weight) in enumerate(named.items()) if i % shards == shard}
        save_file(part, folder / file, metadata={"format": "pt"})
        places |= dict.fromkeys(part, file)
    size = sum(weight.nbytes for weight in named.values())
    write_json(folder / "model.safetensors.index.json", {"metadata": {"total_size": size}, "weight_map": places})


def rewrite(folder, change):
    """Load the single safetensors file, let `change` alter the dict of tensors, write it back."""
    from safetensors.torch import load_file

    named = load_file(folder / "model.safetensors")
    change(named)
    write_tensors(folder, named)


def write_gguf(path, model, *, architecture=None, leave_out=(), writer=None, settings=None, pack=None):
    """A float32 .gguf file of a model, converted the way llama.cpp does: norms plus one, decay rates, tiled heads.

    `writer` stands in for the class of the gguf package. `settings` are more of them, in the order they are written;
    `pack(name, array)` gives an array and its type, or None for float32.
    """
    import torch

    if writer is None:
        from gguf import GGUFWriter as writer

    config = model.config
    experts = getattr(config, "num_experts", 0)
    apart = config.model_type == "qwen3_next"  # value heads stay grouped by key head, q, k, v and z are told apart
    architecture = architecture or ("qwen3next" if apart else "qwen35moe" if experts else "qwen35")
    heads, keys = config.linear_num_value_heads, config.linear_num_key_heads
    writer = writer(path, architecture)
    sizes = {
        "block_count": config.num_hidden_layers,
        "context_length": config.max_position_embeddings,
        "embedding_length": config.hidden_size,
        "attention.head_count": config.num_attention_heads,
        "attention.head_count_kv": config.num_key_value_heads,
        "attention.key_length": config.head_dim,
        "full_attention_interval": 3,
        "ssm.conv_kernel": config.linear_conv_kernel_dim,
        "ssm.state_size": config.linear_key_head_dim,
        "ssm.group_count": keys,
        "ssm.time_step_rank": heads,
        "ssm.inner_size": heads * config.linear_value_head_dim,
        "rope.dimension_count": int(config.head_dim * config.rope_parameters["partial_rotary_factor"]),
    } | (
        {
            "expert_count": experts,
            "expert_used_count": config.num_experts_per_tok,
            "expert_feed_forward_length": config.moe_intermediate_size,
            "expert_shared_feed_forward_length": config.shared_expert_intermediate_size,
        }
        if experts
        else {"feed_forward_length": config.intermediate_size}
    )
    for key, value in sizes.items():
        writer.add_uint32(f"{architecture}.{key}", value)
    writer.add_float32(f"{architecture}.attention.layer_norm_rms_epsilon", config.rms_norm_eps)
    writer.add_float32(f"{architecture}.rope.freq_base", config.rope_parameters["rope_theta"])
    if not apart:
        writer.add_array(f"{architecture}.rope.dimension_sections", [*config.rope_parameters["mrope_section"], 0])
    for key, value in (settings or {}).items():
        add = {str: "add_string", int: "add_uint32", float: "add_float32"}[type(value)]
        getattr(writer, add)(f"{architecture}.{key}", value)
    words = list(vocabulary(config.vocab_size))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen35")
    writer.add_token_list(words)
    writer.add_token_types([3 if word in STOPS else 1 for word in words])
    writer.add_token_merges(["a b"])
    writer.add_eos_token_id(STOPS["<|im_end|>"])

    def tiled(weight, width=1, first=0):
        if apart:
            return weight
        head, tail = weight[:first], weight[first:]
        tail = tail.reshape(keys, heads // keys, width, *tail.shape[1:]).transpose(0, 1).reshape(tail.shape)
        return torch.cat([head, tail])

    def add(name, weight):
        array = weight.float().contiguous().numpy()
        packed = pack(name, array) if pack else None
        writer.add_tensor(name, array) if packed is None else writer.add_tensor(name, packed[0], raw_dtype=packed[1])

    dv, qk = config.linear_value_head_dim, 2 * keys * config.linear_key_head_dim
    names = {
        "input_layernorm.weight": ("attn_norm.weight", lambda w: w + 1),
        "post_attention_layernorm.weight": ("post_attention_norm.weight", lambda w: w + 1),
        "self_attn.q_proj.weight": ("attn_q.weight", None),
        "self_attn.k_proj.weight": ("attn_k.weight", None),
        "self_attn.v_proj.weight": ("attn_v.weight", None),
        "self_attn.o_proj.weight": ("attn_output.weight", None),
        "self_attn.q_norm.weight": ("attn_q_norm.weight", lambda w: w + 1),
        "self_attn.k_norm.weight": ("attn_k_norm.weight", lambda w: w + 1),
        "mlp.gate_proj.weight": ("ffn_gate.weight", None),
        "mlp.up_proj.weight": ("ffn_up.weight", None),
        "mlp.down_proj.weight": ("ffn_down.weight", None),
        "mlp.gate.weight": ("ffn_gate_inp.weight", None),
        "mlp.experts.down_proj": ("ffn_down_exps.weight", None),
        "mlp.shared_expert.gate_proj.weight": ("ffn_gate_shexp.weight", None),
        "mlp.shared_expert.up_proj.weight": ("ffn_up_shexp.weight", None),
        "mlp.shared_expert.down_proj.weight": ("ffn_down_shexp.weight", None),
        "mlp.shared_expert_gate.weight": ("ffn_gate_inp_shexp.weight", lambda w: w[0]),
        "linear_attn.in_proj_qkv.weight": ("attn_qkv.weight", lambda w: tiled(w, dv, qk)),
        "linear_attn.in_proj_z.weight": ("attn_gate.weight", lambda w: tiled(w, dv)),
        "linear_attn.in_proj_a.weight": ("ssm_alpha.weight", tiled),
        "linear_attn.in_proj_b.weight": ("ssm_beta.weight", tiled),
        "linear_attn.conv1d.weight": ("ssm_conv1d.weight", lambda w: tiled(w[:, 0], dv, qk)),
        "linear_attn.in_proj_ba.weight": ("ssm_ba.weight", None),
        "linear_attn.norm.weight": ("ssm_norm.weight", None),
        "linear_attn.out_proj.weight": ("ssm_out.weight", lambda w: tiled(w.T, dv).T),
        "linear_attn.A_log": ("ssm_a", lambda w: tiled(-w.exp())),
        "linear_attn.dt_bias": ("ssm_dt.bias", tiled),
    }
    whole = {"model.embed_tokens.weight": "token_embd.weight", "lm_head.weight": "output.weight"}
    for name, weight in model.state_dict().items():
        if name.endswith("experts.gate_up_proj"):
            for stored, rows in zip(("gate", "up"), weight.chunk(2, 1), strict=True):
                stored = f"blk.{name.split('.')[2]}.ffn_{stored}_exps.weight"
                add(stored, rows)
            continue
        if name.endswith("in_proj_qkvz.weight"):
            dk, group = config.linear_key_head_dim, heads // keys * dv
            parts = weight.view(keys, -1, weight.shape[-1]).split((dk, dk, group, group), 1)
            q, k, v, z = (part.flatten(0, 1) for part in parts)
            add(f"blk.{name.split('.')[2]}.attn_qkv.weight", torch.cat((q, k, v)))
            add(f"blk.{name.split('.')[2]}.attn_gate.weight", z)
            continue
        if name == "model.norm.weight":
            stored, weight = "output_norm.weight", weight + 1
        elif name in whole:
            stored = whole[name]
        else:
            _, _, layer, leaf = name.split(".", 3)
            leaf, change = names[leaf]
            stored, weight = f"blk.{layer}.{leaf}", change(weight) if change else weight
        if stored not in leave_out:
            add(stored, weight)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
