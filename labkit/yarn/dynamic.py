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
from labkit.cache import CLOSED, GO_ON
from labkit.errors import InputError
from labkit.trace import Pass, decoder
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
    rotator = Rotator(lab, scaling, stack.rotary_emb)
    with contextlib.ExitStack() as scope:
        scope.enter_context(under(lab, dataclasses.replace(scaling, length=lab.spec.window), rotator.reach))
        scope.callback(stack.register_forward_pre_hook(rotator.settle, with_kwargs=True).remove)
        scope.callback(stack.rotary_emb.register_forward_hook(rotator.seen, with_kwargs=True).remove)
        scope.enter_context(lab.scopes.opened(unrotated=rotator.layer))
        scope.callback(setattr, rotator, "open", False)
        yield lab


class Rotator:
    """The scaling of the pass that is running, and the angles that its tokens were rotated by."""

    def __init__(self, lab, scaling, module):
        self.lab, self.scaling, self.module, self.where = lab, scaling, module, shape(lab.spec)
        self.reach, self.open = int(scaling.factor * lab.spec.window), True
        self.places = self.cos = self.sin = None

    def __deepcopy__(self, memo):
        return self  # a copy of a cache is turned by the same scope

    def settle(self, module, args, kwargs):
        """Before a pass: the scaling of its length."""
        current = Pass.of(module, args, kwargs)
        length = current.before + current.tokens
        now = self.scaling.at(length, self.where["window"])
        self.module.inv_freq.copy_(rotary.frequencies(now, **self.where))
        self.module.attention_scaling = now.m
        self.lab.scopes.scaling = dataclasses.replace(self.scaling, length=length)

    def seen(self, module, args, kwargs, output):
        """After the rotary module: positions [3, batch, T] of the pass, and its cos and sin [batch, 1, T, channels]."""
        places = args[1] if len(args) > 1 else kwargs["position_ids"]
        self.places = places.expand(3, *places.shape[-2:])
        self.cos, self.sin = (part[:, None] for part in output)

    def angles(self, places):
        """cos and sin of any positions under the scaling of the pass, as the model makes them."""
        found = type(self.module).forward(self.module, self.cos, places)
        return tuple(part[:, None] for part in found)

    def layer(self, index):
        """The part of a cache of an attention layer."""
        return UnrotatedLayer(self)


class UnrotatedLayer(DynamicLayer):
    """Keys before rotation with their positions, and values; gives out keys turned under the running pass's scaling."""

    unrotated = True

    def __init__(self, rotator):
        super().__init__()
        self.rotator, self.places = rotator, None

    def update(self, key_states, value_states, *args, **kwargs):
        """Turn this pass's keys back and keep them so; give out earlier ones turned anew, these as they are."""
        rotator = self.rotator
        if not rotator.open:
            raise InputError(CLOSED, got="keys before rotation", hint=GO_ON)
        known = self.keys if self.places is not None else key_states[:, :, :0]
        turned = rotary.rotate(known, *rotator.angles(self.places)) if self.places is not None else known
        new = rotator.places.expand(3, len(key_states), -1)
        back = rotary.rotate(key_states.float(), rotator.cos.float(), -rotator.sin.float())
        width, norm = rotator.cos.shape[-1], rotator.cos.float() ** 2 + rotator.sin.float() ** 2  # m², up to rounding
        back = torch.cat([back[..., :width] / norm, back[..., width:]], -1)
        super().update(back.to(key_states), value_states)
        self.places = new if self.places is None else torch.cat([self.places, new], -1)
        return torch.cat([turned, key_states], 2), self.values
