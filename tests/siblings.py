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
