"""Traps of masks, positions and attention implementations: each gives wrong numbers without a word."""

import contextlib

import torch

from labkit.doctor.report import Verdict
from labkit.doctor.sample import Sample, far
from labkit.families import ATTENTION

NAME = "labkit_doctor"
GAP = 1000
CLOSE = 1e-3


@contextlib.contextmanager
def _attention(sample, name):
    """The sample's model with another attention implementation, as long as the block lasts."""
    before = sample.model.config._attn_implementation
    sample.model.set_attn_implementation(name)
    try:
        yield sample.model
    finally:
        sample.model.set_attn_implementation(before)


def attention_without_mask(sample: Sample) -> Verdict:
    """A function registered with AttentionInterface alone gets no mask, so plain code attends to the future."""
    from transformers import AttentionInterface

    expected = sample.logits
    AttentionInterface.register(NAME, sample.family.module().eager_attention_forward)
    try:
        with _attention(sample, NAME):
            moved = far(sample.run(sample.ids), expected)
    finally:
        AttentionInterface._global_mapping.pop(NAME, None)
    text = f"an attention function registered without its mask moves logits by {moved:.1f}"
    if moved < CLOSE:
        return Verdict("attention without mask", "warn", f"{text}: it gets a mask now; labkit's own brings one")
    return Verdict("attention without mask", "ok", f"{text}, it sees the future; labkit's own brings one")


def attentions_under_sdpa(sample: Sample) -> Verdict:
    """Asking for attention maps under sdpa returns nothing instead of an error."""
    with _attention(sample, "sdpa"), torch.no_grad():
        maps = sample.model(sample.ids, use_cache=False, output_attentions=True).attentions
    count = sum(weights is not None for weights in maps or ())
    text = f"output_attentions=True gives {count} maps; labkit recomputes them from the seams"
    return Verdict("attention maps under sdpa", "warn" if count else "ok", text)


def attention_index(sample: Sample) -> Verdict:
    """Under eager attention the tuple has an entry per attention layer: the index is not that of the layer."""
    layers, kinds = sample.model.config.num_hidden_layers, sample.model.config.layer_types
    with _attention(sample, "eager"), torch.no_grad():
        maps = sample.model(sample.ids[:, :20], use_cache=False, output_attentions=True).attentions
    full = sum(sample.family.kinds[kind] == ATTENTION for kind in kinds)
    text = f"{len(maps)} maps for {layers} layers, {full} of them attention; labkit indexes by layer"
    return Verdict("attention map index", "ok" if len(maps) == full else "warn", text)


def position_gap(sample: Sample) -> Verdict:
    """Without mask and cache a jump in position_ids counts as the start of another sequence, and is cut off."""
    ids = sample.ids[:, :30]
    positions = torch.arange(30)[None] + GAP * (torch.arange(30) >= 15)
    sample_mask = torch.ones_like(ids)
    cut, whole = (
        sample.run(ids, position_ids=positions),
        sample.run(ids, position_ids=positions, attention_mask=sample_mask),
    )
    lost = far(cut[:, -1], whole[:, -1])
    even = far(sample.run(ids, attention_mask=sample_mask), sample.run(ids))
    text = f"a jump in position_ids without a mask moves logits by {lost:.1f} more than with one"
    if even > CLOSE:
        return Verdict("position gap", "fail", f"an all-ones mask itself moves logits by {even:.0e}")
    if lost < CLOSE:
        return Verdict("position gap", "warn", f"{text}: it is no longer cut; labkit gives positions only with a mask")
    return Verdict("position gap", "ok", f"{text}, attention is cut there; labkit gives positions only with a mask")


def rope_base(sample: Sample) -> Verdict:
    """A config without rope_theta is taken as 10,000, whatever the model was trained with."""
    configuration = type(sample.model.config)(rope_parameters={"rope_type": "default"})
    theta = configuration.rope_parameters.get("rope_theta")
    text = f"a missing rope_theta becomes {theta:,.0f}" if theta else "a missing rope_theta stays missing"
    return Verdict("rope base", "ok" if theta == 10_000 else "warn", f"{text}; labkit refuses such a config")


def stop_ids(sample: Sample) -> Verdict:
    """A config names one stop id; the models end a turn with another."""
    import types

    from labkit.zoo import loading

    named = sample.model.generation_config.eos_token_id
    vocabulary = {token: index + 1 for index, token in enumerate(reversed(loading.STOPS))}
    stand_in = types.SimpleNamespace(
        generation_config=types.SimpleNamespace(eos_token_id=named, pad_token_id=0),
        eval=lambda: types.SimpleNamespace(requires_grad_=lambda wanted: None),
    )
    loading.finish(stand_in, types.SimpleNamespace(get_vocab=lambda: vocabulary))
    both = stand_in.generation_config.eos_token_id
    text = f"from a config alone a model stops at {named}; labkit.load makes it {both}, {' and '.join(loading.STOPS)}"
    return Verdict("stop ids", "ok" if sorted(both) == sorted(vocabulary.values()) else "fail", text)


CHECKS = (attention_without_mask, attentions_under_sdpa, attention_index, position_gap, rope_base, stop_ids)
