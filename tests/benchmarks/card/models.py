"""Models with the true shapes of the 27B and random weights, made where they live."""

TINY = dict(  # for a dry run: every size small and different
    num_hidden_layers=8,
    hidden_size=64,
    intermediate_size=96,
    vocab_size=512,
    num_attention_heads=6,
    num_key_value_heads=2,
    head_dim=32,
    linear_num_key_heads=2,
    linear_num_value_heads=6,
    linear_key_head_dim=16,
    linear_value_head_dim=24,
)
BYTES = {"27B": 50.2, "period": 3.4}  # GiB in bfloat16
SECONDS = {"27B": 40, "period": 5}  # to build one


def seeded(device, *, name="seeded 27B", dtype=None, **changes):
    """A lab around random weights of the 27B's text model; `changes` of sizes."""
    import torch

    import labkit
    from labkit import spec
    from labkit.families import FAMILIES

    real = spec.read("Qwen3.6-27B")
    family = FAMILIES[real.family]
    sizes = {theirs: getattr(real, ours) for ours, theirs in family.sizes.items()} | {"layer_types": None}
    share = real.rotary_dim / real.head_dim
    rope = dict(rope_type="default", rope_theta=real.rope_theta, partial_rotary_factor=share)
    config = family.configuration(**sizes | {"num_hidden_layers": real.layers} | changes, rope_parameters=rope)
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype or torch.bfloat16)
    try:
        with torch.device(device):
            model = family.model_class()(config).eval().requires_grad_(False)
    finally:
        torch.set_default_dtype(before)
    stack, rotary = model.model, int(config.head_dim * share)
    omega = 1.0 / real.rope_theta ** (torch.arange(0, rotary, 2, device=device).float() / rotary)
    stack.rotary_emb.inv_freq = omega  # a buffer that the default dtype would hold in 16 bits
    generator = torch.Generator(device).manual_seed(0)
    for part, weight in model.named_parameters():
        if weight.ndim > 1:
            weight.normal_(0, 0.02, generator=generator)
        elif part.endswith("A_log"):
            weight.uniform_(-3, 0, generator=generator)
    return labkit.wrap(model, name=name, attention="auto")


def period(device, **changes):
    """One period of the stack, three DeltaNet layers and one of attention, true widths; all 16 are alike."""
    return seeded(device, name="one period of 27B", **dict(num_hidden_layers=4, vocab_size=4096) | changes)
