"""The patient: a four-layer random hybrid, D A D A, in which every size differs from every other."""

import functools

import torch

SIZES = dict(
    vocab_size=97,
    hidden_size=40,
    intermediate_size=52,
    num_hidden_layers=4,
    layer_types=["linear_attention", "full_attention", "linear_attention", "full_attention"],
    num_attention_heads=8,
    num_key_value_heads=2,
    head_dim=16,
    linear_num_key_heads=3,
    linear_num_value_heads=6,
    linear_key_head_dim=10,
    linear_value_head_dim=14,
    linear_conv_kernel_dim=4,
    max_position_embeddings=4096,
    rope_parameters=dict(
        rope_type="default",
        rope_theta=1000.0,
        partial_rotary_factor=0.5,
        mrope_section=[2, 1, 1],
        mrope_interleaved=True,
    ),
    pad_token_id=0,
    eos_token_id=1,
)


class Sample:
    """Models and ids the checks share; everything is made once, when first asked for, from local seeds."""

    @functools.cached_property
    def model(self):
        """The hybrid in float32."""
        return build(torch.float32)

    @functools.cached_property
    def ids(self):
        """Token ids [1, 150]."""
        return torch.randint(2, SIZES["vocab_size"], (1, 150), generator=torch.Generator().manual_seed(1))

    @functools.cached_property
    def logits(self):
        """Logits [1, 150, vocab] of the ids in one pass without a cache."""
        return self.run(self.ids)

    def run(self, ids, **options):
        """Logits of one forward pass; without a cache unless one is given."""
        with torch.no_grad():
            options = {"use_cache": "past_key_values" in options} | options
            return self.model(ids, **options).logits

    def cache(self):
        """An empty hybrid cache."""
        from transformers import DynamicCache

        return DynamicCache(config=self.model.config)


def build(dtype, seed=0):
    """A random hybrid whose gates, decays and norms really vary; the global generator is left alone."""
    from transformers import Qwen3_5ForCausalLM, Qwen3_5TextConfig

    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        model = Qwen3_5ForCausalLM(Qwen3_5TextConfig(**SIZES)).eval().requires_grad_(False)
    for name, weight in model.named_parameters():
        noise = torch.randn(weight.shape, generator=generator)
        if name.endswith("A_log"):
            weight.copy_(noise - 2)
        elif weight.ndim == 1:
            weight.add_(0.3 * noise)
        else:
            weight.copy_(noise * 1.5 / weight[0].numel() ** 0.5)
    return model.to(dtype)


def far(a, b):
    """Largest absolute difference of two tensors, as a float."""
    return (a.float() - b.float()).abs().max().item()
