"""The patient: a four-layer random hybrid, D A D A, of any family, in which every size differs from every other."""

import functools

import torch
from transformers.cache_utils import Cache, DynamicCache

from labkit.families import ATTENTION, DELTANET, FAMILIES, Family
from labkit.kernels import settle
from labkit.trace import cache_parameter

KINDS = (DELTANET, ATTENTION, DELTANET, ATTENTION)
SIZES = dict(  # by the names of `Spec`; those of experts count for families that have them
    hidden=40,
    intermediate=52,
    vocab=97,
    key_heads=3,
    value_heads=6,
    dk=10,
    dv=14,
    conv=4,
    query_heads=8,
    kv_heads=2,
    head_dim=16,
    window=4096,
    experts=7,
    active_experts=5,
    shared_intermediate=36,
    dense_intermediate=44,
    latent=24,
    shared=12,
    plain=20,
)
FIXED = dict(
    num_hidden_layers=len(KINDS),
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
    """Model and ids that the checks share; everything is made once, when first asked for, from local seeds."""

    def __init__(self, family: Family | None = None):
        self.family = family or next(iter(FAMILIES.values()))

    @functools.cached_property
    def families(self) -> list["Sample"]:
        """This sample, and one of every other family."""
        return [self, *(Sample(family) for family in FAMILIES.values() if family is not self.family)]

    @functools.cached_property
    def model(self):
        """The hybrid in float32."""
        return build(torch.float32, self.family)

    @functools.cached_property
    def ids(self) -> torch.Tensor:
        """Token ids [1, 150]."""
        return torch.randint(2, SIZES["vocab"], (1, 150), generator=torch.Generator().manual_seed(1))

    @functools.cached_property
    def logits(self) -> torch.Tensor:
        """Logits [1, 150, vocab] of the ids in one pass without a cache."""
        return self.run(self.ids)

    def run(self, ids: torch.Tensor, *, cache: Cache | None = None, **options) -> torch.Tensor:
        """Logits of one forward pass, which continues and grows a cache if one is given."""
        return run(self.model, ids, cache=cache, **options)

    def cache(self) -> Cache:
        """An empty hybrid cache."""
        return DynamicCache(config=self.model.config)


def run(model, ids: torch.Tensor, *, cache: Cache | None = None, **options) -> torch.Tensor:
    """Logits of one forward pass of any model of the family."""
    given = {cache_parameter(model): cache, "use_cache": cache is not None}
    with torch.no_grad():
        return model(ids, **given, **options).logits


def build(dtype: torch.dtype, family: Family | None = None, seed: int = 0):
    """A random hybrid whose gates, decays and norms really vary; the global generator is left alone."""
    family = family or next(iter(FAMILIES.values()))
    settle(family)
    names = {kind: name for name, kind in family.kinds.items()}
    sizes = {name: SIZES[name] for name in {*family.sizes, "head_dim"}}
    configuration = family.configuration(**sizes, **FIXED, layer_types=[names[kind] for kind in KINDS])
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        model = family.model_class()(configuration).eval().requires_grad_(False)
    for name, weight in model.named_parameters():
        noise = torch.randn(weight.shape, generator=generator)
        if name.endswith("A_log"):
            weight.copy_(noise - 2)
        elif weight.ndim == 1:
            weight.add_(0.3 * noise)
        else:
            weight.copy_(noise * 1.5 / (weight[0].numel() if weight.ndim < 3 else weight.shape[-1]) ** 0.5)
    for weight in model.parameters():  # the rotary frequencies stay float32, as in a model that is loaded
        weight.data = weight.to(dtype)
    return model


def far(a: torch.Tensor, b: torch.Tensor) -> float:
    """Largest absolute difference of two tensors."""
    return (a.float() - b.float()).abs().max().item()
