"""Scaling that grows with the text: keys are cached before rotation and turned at every pass.

Static YaRN, as engines serve it, stretches short texts too. Dynamic scaling uses s = l/L at length l, at least 1. With
keys that were rotated when they were cached that mixes two scalings in one softmax as soon as s moves. Here the
attention layers' part of the cache holds keys as they leave the key norm; every pass turns all of them under the s of
its length. The bytes are the same, the turning costs one pass over the rotated channels.
"""

import contextlib
import dataclasses

import torch
from transformers.cache_utils import DynamicLayer

from labkit import rotary
from labkit.errors import InputError
from labkit.trace import decoder
from labkit.yarn.scope import under
from labkit.yarn.table import RELEASED, shape, stretched


@contextlib.contextmanager
def dynamic(lab, most=RELEASED, *, ramp="index", attention_factor=None):
    """The model under YaRN with s = l/L at length l, at least 1 and at most `most`; caches are made by `lab.cache()`.

    A pass (a chunk, a decode step) is read under the s of its last token. States and values of earlier tokens stay what
    they were when they were read.

    Args:
        lab: `Lab`. most: the largest s, hence the window meanwhile. ramp, attention_factor: as in `scaled`.

    Yields:
        the lab.

    Raises:
        InputError: as `scaled`; continuing a cache of another scope.
    """
    scaling = stretched(lab.spec, most, kind="dynamic-yarn", ramp=ramp, attention_factor=attention_factor)
    stack = decoder(lab.model)
    turner = Turner(lab, scaling, stack.rotary_emb)
    with under(lab, scaling), contextlib.ExitStack() as scope:
        scope.callback(stack.register_forward_pre_hook(turner.settle, with_kwargs=True).remove)
        for layer in lab.spec.attention_layers:
            norm = stack.layers[layer].self_attn.k_norm
            scope.callback(norm.register_forward_hook(turner.keeper(layer)).remove)
        before, lab._keys_layer = lab._keys_layer, turner.layer
        try:
            yield lab
        finally:
            turner.open, lab._keys_layer = False, before


class Turner:
    """The scaling of the pass that is running, and the keys that just left the key norms."""

    def __init__(self, lab, scaling, module):
        self.scaling, self.module, self.where = scaling, module, shape(lab.spec)
        self.lab, self.now, self.fresh, self.open = lab, scaling.at(), {}, True

    def settle(self, module, args, kwargs):
        """Before a pass: the scaling of its length."""
        given = kwargs.get("input_ids") if args == () else args[0]
        given = kwargs["inputs_embeds"] if given is None else given
        cache = kwargs.get("past_key_values")
        length = given.shape[1] + (0 if cache is None else cache.get_seq_length())
        now = self.scaling.at(length, self.where["window"])
        self.module.inv_freq.copy_(rotary.frequencies(now, **self.where))
        self.module.attention_scaling, self.now = now.m, now
        self.lab._scaling = dataclasses.replace(self.scaling, length=length)

    def keeper(self, layer):
        """A hook on the key norm of a layer."""
        return lambda module, args, output: self.fresh.__setitem__(layer, output.transpose(1, 2))

    def layer(self, index):
        """The part of a cache of an attention layer."""
        return UnturnedLayer(self, index)


class UnturnedLayer(DynamicLayer):
    """Keys before rotation, values; gives out keys turned under the scaling of the running pass."""

    unturned = True

    def __init__(self, turner, index):
        super().__init__()
        self.turner, self.index = turner, index

    def update(self, key_states, value_states, *args, **kwargs):
        """Append this pass's keys as the key norm gave them, and turn all."""
        if not self.turner.open:
            hint = "lab.restore(lab.snapshot(cache)) inside another yarn.dynamic scope goes on"
            raise InputError("the scope that turns the keys of this cache is closed", hint=hint)
        keys, values = super().update(self.turner.fresh.pop(self.index).to(key_states), value_states)
        at = torch.arange(keys.shape[2], device=keys.device)
        cos, sin = rotary.angles(at, self.turner.now, **self.turner.where, dtype=keys.dtype)
        width = cos.shape[-1]
        a, b = keys[..., :width].chunk(2, -1)
        turned = keys[..., :width] * cos + torch.cat([-b, a], -1) * sin
        return torch.cat([turned, keys[..., width:]], -1), values
