"""Small random models of the other gated-delta families, every size different from every other, gates that vary."""

import tiny

OLMO = {name: size for name, size in tiny.SIZES.items() if name != "rope_parameters"}


def olmo(rope_theta=1000.0, seed=0, dtype=None, **changes):
    """OLMo Hybrid, D D A D A; `rope_theta=None` rotates nothing; "absent" leaves a setting out."""
    from transformers import OlmoHybridConfig, OlmoHybridForCausalLM

    rope = dict(rope_type="default", rope_theta=rope_theta)
    given = OLMO | dict(rope_parameters=rope) | changes
    config = OlmoHybridConfig(**{name: value for name, value in given.items() if value != "absent"})
    return varied(OlmoHybridForCausalLM(config), seed, dtype)


KIMI = dict(
    vocab_size=211,
    hidden_size=44,
    intermediate_size=52,
    moe_intermediate_size=20,
    num_hidden_layers=5,
    layer_types=tiny.SIZES["layer_types"],
    num_attention_heads=6,
    num_key_value_heads=6,
    kv_lora_rank=26,
    qk_rope_head_dim=8,
    qk_nope_head_dim=18,
    v_head_dim=16,
    num_experts=13,
    num_experts_per_token=7,
    num_shared_experts=2,
    linear_head_dim=10,
    linear_num_heads=9,
    linear_conv_kernel_dim=4,
    model_max_length=512,
    pad_token_id=0,
    bos_token_id=None,
    eos_token_id=1,
)


def kimi(seed=0, dtype=None, **changes):
    """Kimi Linear, D D A D A; keys and values of a DeltaNet layer are equally many and wide in this family."""
    from transformers import KimiLinearConfig, KimiLinearForCausalLM

    return varied(KimiLinearForCausalLM(KimiLinearConfig(**(KIMI | changes))), seed, dtype)


def kimi64(**changes):
    """In float64, with experts one by one: transformers' grouped products of experts take no float64."""
    import torch

    model = kimi(dtype=torch.float64, **changes)
    model.config._experts_implementation = "eager"
    return model


def varied(model, seed=0, dtype=None):
    """The model in eval mode with random weights, norms and decays that differ from place to place."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    model.eval().requires_grad_(False)
    for name, weight in model.named_parameters():
        noise = torch.randn(weight.shape, generator=generator)
        if name.endswith("A_log"):
            weight.copy_(noise.clamp(-2, 2) / 2 - 1.5)
        elif name.endswith("dt_bias"):
            weight.copy_(noise)
        elif weight.ndim == 1:
            weight.add_(0.2 * noise)
        else:
            weight.copy_(noise * (1.5 / weight.shape[-1] ** 0.5))
    for weight in model.parameters():  # as `from_pretrained` does: the rotary frequencies stay float32
        weight.data = weight.to(dtype or torch.float32)
    return model
