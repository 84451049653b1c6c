"""nano's sizes and where its weights start.

8 layers D D D A twice; key to value heads 1:3, query to kv heads 6:1, a quarter of each head rotary, as in the 27B. Of
the 8 rotary pairs, in a window of 512 with base 2,000: YaRN leaves the first alone (more than 32 turns), blends four
and interpolates the last three, which never complete a turn.
"""

import torch

from labkit.nano.tokens import VOCAB

WINDOW = 512
INITIAL = 0  # seed of the first weights; the seed of a training is that of its data


def config():
    """transformers' config of the text model."""
    from transformers import Qwen3_5TextConfig

    return Qwen3_5TextConfig(
        vocab_size=VOCAB,
        hidden_size=128,
        intermediate_size=320,
        num_hidden_layers=8,
        num_attention_heads=12,
        num_key_value_heads=2,
        head_dim=64,
        linear_num_key_heads=2,
        linear_num_value_heads=6,
        linear_key_head_dim=24,
        linear_value_head_dim=32,
        linear_conv_kernel_dim=4,
        max_position_embeddings=WINDOW,
        tie_word_embeddings=True,
        rope_parameters={
            "rope_type": "default",
            "rope_theta": 2000.0,
            "partial_rotary_factor": 0.25,
            "mrope_section": [3, 3, 2],
            "mrope_interleaved": True,
        },
    )


def fresh(seed: int = INITIAL) -> tuple:
    """(model, mtp): new ones whose convolutions, decays and widths start where small models learn quickly.

    The global random generator is left as it was.
    """
    from transformers import Qwen3_5ForCausalLM

    from labkit.families import QWEN3_5
    from labkit.kernels import settle
    from labkit.nano.mtp import Mtp

    settle(QWEN3_5)  # it is trained on the CPU
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        model = Qwen3_5ForCausalLM(config())
        mtp = Mtp(model.config)
        for part in (model, mtp):
            _begin(part)
    return model, mtp


@torch.no_grad()
def _begin(part):
    for name, weight in part.named_parameters():
        if "conv1d" in name:
            weight.uniform_(-0.5, 0.5)
        elif name.endswith("embed_tokens.weight"):
            weight.normal_(0, 0.05)
        elif weight.ndim == 2:
            weight.normal_(0, 0.7 / weight.shape[1] ** 0.5)
        if name.endswith(("o_proj.weight", "out_proj.weight", "down_proj.weight")):
            weight.mul_(0.3)
        if name.endswith("A_log"):
            weight.copy_(torch.empty_like(weight).uniform_(0.2, 4).log())
        if name.endswith("dt_bias"):
            weight.copy_(torch.linspace(-4, 0, weight.numel()))
