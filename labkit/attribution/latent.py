"""Latent attention in the frozen network: queries, keys and values of all heads, made anew of what a layer keeps.

    c_j, e_j = W_a x_j              of each token: latent, and key channels that all heads share; n(c), e are cached
    k_j = [W_k n(c_j), e_j]         per head; nothing is rotated
    v_j = W_v n(c_j)                per head
    q_t = W_q x_t                   per head, or W_q n(W_b x_t) where queries are compressed as well
    P   = softmax(⟨q_t, k_j⟩ / √(plain + shared))

Held are q, k, so P, and the rms of n on the way to the values: v is linear in x and in the cached n(c). No seam shows
queries and keys: they are the model's own modules of the run's seams `mixer_in` and `latent`.

Source: `KimiLinearAttention.forward` (transformers); DeepSeek-V2, arXiv 2405.04434, section 2.1.
"""

import torch

from labkit.families import ATTENTION
from labkit.spec import Spec
from labkit.trace import Run


def of_latents(spec: Spec) -> bool:
    """Whether the attention layers of a model make keys and values of latents."""
    return "latent" in spec.seams[ATTENTION]


def values(mixer: torch.nn.Module, spec: Spec, latent: torch.Tensor) -> torch.Tensor:
    """v [source, query_head, head_dim] of normed latents [source, latent]."""
    return _expanded(mixer, spec, latent)[..., spec.plain :]


def held(mixer: torch.nn.Module, run: Run, layer: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """(q [token, query_head, plain + shared], k [source, query_head, plain + shared]) of a run; cached sources first.

    Args:
        mixer: of that layer. device: where it is.
    """
    spec = run.spec
    x, kept = (run.seams[layer, name].detach().to(device) for name in ("mixer_in", "latent"))
    if mixer.q_proj is None:
        x = mixer.q_b_proj.forward(mixer.q_a_layernorm.forward(mixer.q_a_proj.forward(x)))
    else:
        x = mixer.q_proj.forward(x)
    latent, shared = kept.split([spec.latent, spec.shared], -1)
    latent = mixer.kv_a_layernorm.forward(latent)
    if run.start.length:
        latent = torch.cat([run.start.keys[layer][0].to(latent), latent])
        shared = torch.cat([run.start.values[layer][0].to(shared), shared])
    plain = _expanded(mixer, spec, latent)[..., : spec.plain]
    k = torch.cat([plain, shared[:, None].expand(-1, spec.query_heads, -1)], -1)
    return x.view(len(x), spec.query_heads, -1).detach(), k.detach()


def _expanded(mixer, spec, latent):
    """[source, query_head, plain + head_dim]"""
    return mixer.kv_b_proj.forward(latent).view(len(latent), spec.query_heads, spec.plain + spec.head_dim)
