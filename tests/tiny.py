"""Small random hybrids of every family in which every size differs from every other, so that an axis swap fails."""

SIZES = dict(
    vocab_size=211,
    hidden_size=44,
    intermediate_size=52,
    num_hidden_layers=5,
    layer_types=[
        "linear_attention",
        "linear_attention",
        "full_attention",
        "linear_attention",
        "full_attention",
    ],
    num_attention_heads=6,
    num_key_value_heads=2,
    head_dim=16,
    linear_num_key_heads=3,
    linear_num_value_heads=9,
    linear_key_head_dim=10,
    linear_value_head_dim=14,
    linear_conv_kernel_dim=4,
    max_position_embeddings=512,
    rope_parameters=dict(
        rope_type="default",
        rope_theta=1000.0,
        partial_rotary_factor=0.5,
        mrope_section=[2, 1, 1],
        mrope_interleaved=True,
    ),
    tie_word_embeddings=False,
    pad_token_id=0,
    eos_token_id=1,
)
EXPERTS = {name: size for name, size in SIZES.items() if name != "intermediate_size"} | dict(
    moe_intermediate_size=20,
    shared_expert_intermediate_size=28,
    num_experts=13,
    num_experts_per_tok=7,
)
NEXT = EXPERTS | dict(rope_parameters=dict(rope_type="default", rope_theta=1000.0, partial_rotary_factor=0.5))
FAMILY_SIZES = {"qwen3_5": SIZES, "qwen3_5_moe": EXPERTS, "qwen3_next": NEXT}


def config(experts=False, family=None, **changes):
    """The text config of a five-layer hybrid, D D A D A, dense or with experts, or of a family by its name."""
    from labkit.families import FAMILIES

    family = family or ("qwen3_5_moe" if experts else "qwen3_5")
    return FAMILIES[family].model_class().config_class(**(FAMILY_SIZES[family] | changes))


def model(seed=0, dtype=None, experts=False, family=None, **changes):
    """A random model whose gates, decays and norms really vary, in eval mode."""
    import torch

    from labkit.families import FAMILIES

    generator, made = torch.Generator().manual_seed(seed), config(experts, family, **changes)
    family = family or ("qwen3_5_moe" if experts else "qwen3_5")
    built = FAMILIES[family].model_class()(made).eval().requires_grad_(False)
    for name, weight in built.named_parameters():
        if name.endswith("A_log"):
            weight.copy_(torch.rand(weight.shape, generator=generator) * 2 - 2.5)
        elif name.endswith("dt_bias"):
            weight.copy_(torch.randn(weight.shape, generator=generator))
        elif weight.ndim == 1:
            weight.add_(0.2 * torch.randn(weight.shape, generator=generator))
        else:
            weight.copy_(torch.randn(weight.shape, generator=generator) * (1.5 / weight.shape[-1] ** 0.5))
    for weight in built.parameters():  # as `from_pretrained` does: the rotary frequencies stay float32
        weight.data = weight.to(dtype or torch.float32)
    return built


def ids(length, seed=0, vocab=SIZES["vocab_size"]):
    """Random token ids, [length], none of them special."""
    import torch

    return torch.randint(2, vocab, (length,), generator=torch.Generator().manual_seed(seed))


def make_lab(model, name="tiny"):
    """A lab around any model of a known family."""
    import labkit

    return labkit.wrap(model, name=name)


def hooks(model):
    """Names of modules that carry a hook."""
    return [n for n, m in model.named_modules() if m._forward_hooks or m._forward_pre_hooks or m._backward_hooks]
