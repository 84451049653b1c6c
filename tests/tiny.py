"""Small random hybrids of the family in which every size differs from every other, so that an axis swap fails."""

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


def config(**changes):
    """The text config of a five-layer hybrid, D D A D A."""
    from transformers import Qwen3_5TextConfig

    return Qwen3_5TextConfig(**(SIZES | changes))


def model(seed=0, dtype=None, **changes):
    """A random model whose gates, decays and norms really vary, in eval mode."""
    import torch
    from transformers import Qwen3_5ForCausalLM

    generator = torch.Generator().manual_seed(seed)
    built = Qwen3_5ForCausalLM(config(**changes)).eval().requires_grad_(False)
    for name, weight in built.named_parameters():
        if name.endswith("A_log"):
            weight.copy_(torch.rand(weight.shape, generator=generator) * 2 - 2.5)
        elif name.endswith("dt_bias"):
            weight.copy_(torch.randn(weight.shape, generator=generator))
        elif weight.ndim == 1:
            weight.add_(0.2 * torch.randn(weight.shape, generator=generator))
        else:
            fan_in = weight.shape[-1] if weight.ndim == 2 else weight[0].numel()
            weight.copy_(torch.randn(weight.shape, generator=generator) * (1.5 / fan_in**0.5))
    return built.to(dtype or torch.float32)


def ids(length, seed=0, vocab=SIZES["vocab_size"]):
    """Random token ids, [length], none of them special."""
    import torch

    return torch.randint(2, vocab, (length,), generator=torch.Generator().manual_seed(seed))


def make_lab(model, name="tiny"):
    """A lab around any model of the family."""
    from labkit import spec
    from labkit.lab import Lab

    return Lab(model, None, spec.read(model.config), None, name)


def hooks(model):
    """Names of modules that carry a hook."""
    return [n for n, m in model.named_modules() if m._forward_hooks or m._forward_pre_hooks or m._backward_hooks]
