"""Scaling that grows with the text: keys are cached before rotation and turned at every pass.

Static YaRN, as engines serve it, stretches short texts too. Dynamic scaling uses s = l/L at length l, at least 1. With
keys that were rotated when they were cached that mixes two scalings in one softmax as soon as s moves. Here the
attention layers' part of the cache holds keys as they leave the key norm; every pass turns all of them under the s of
its length. The bytes are the same, the turning costs one pass over the rotated channels.
"""

import dataclasses

import torch

from labkit import rotary
from labkit.cache import CLOSED, GO_ON, Blocks
from labkit.calling import public
from labkit.errors import InputError
from labkit.hooks import Place
from labkit.lab import Lab
from labkit.rotary import RELEASED, stretched
from labkit.scopes import Scope
from labkit.trace import Pass, decoder
from labkit.yarn.scope import under


@public
def dynamic(lab: Lab, most: float = RELEASED, *, ramp: str = "index", attention_factor: float | None = None) -> Scope:
    """The model under YaRN with s = l/L at length l, at least 1, at most `most`; caches are made by `lab.cache()`.

    A pass (a chunk, a decode step) is read under the s of its last token. States and values of earlier tokens stay what
    they were when they were read.

    Args:
        lab: `Lab`. most: the largest s; positions up to `most` windows are allowed meanwhile.
        ramp, attention_factor: as in `scaled`.

    Returns:
        `Scope`, which hands the lab to the block.

    Raises:
        InputError: as `scaled`; continuing a cache of another scope.
    """
    scaling = stretched(lab.spec, most, kind="dynamic-yarn", ramp=ramp, attention_factor=attention_factor)
    stack = decoder(lab.model)
    rotator = Rotator(scaling, stack.rotary_emb)
    first = dataclasses.replace(scaling, length=lab.spec.window)
    rotator.scope = scope = under(lab, first, unrotated=lambda layer: UnrotatedLayer(rotator))
    scope.places += [Place(stack, "before", rotator.settle, kwargs=True)]
    scope.places += [Place(stack.rotary_emb, "after", rotator.seen, kwargs=True)]
    return scope


class Rotator:
    """The scaling of the pass that is running, and the angles that its tokens were rotated by."""

    def __init__(self, scaling, module):
        self.scaling, self.module, self.scope = scaling, module, None
        self.position_ids = self.cos = self.sin = None
        self.axes = 3  # of the positions that the module is handed: 2 where it knows no pictures

    @property
    def open(self) -> bool:
        """Whether its scope acts."""
        return self.scope.acts

    def __deepcopy__(self, memo):
        return self  # a copy of a cache is turned by the same scope

    def settle(self, module: torch.nn.Module, args: tuple, kwargs: dict) -> None:
        """Before a pass: the scaling of its length."""
        current = Pass.of(module, args, kwargs)
        length = current.before + current.tokens
        self.scope.scaling = dataclasses.replace(self.scaling, length=length)
        self.scope.scopes.turn()

    def seen(
        self, module: torch.nn.Module, args: tuple, kwargs: dict, output: tuple[torch.Tensor, torch.Tensor]
    ) -> None:
        """After the rotary module: positions [3, batch, T] of the pass, and its cos and sin [batch, 1, T, channel]."""
        position_ids = args[1] if len(args) > 1 else kwargs["position_ids"]
        self.position_ids, self.axes = position_ids.expand(3, *position_ids.shape[-2:]), position_ids.ndim
        self.cos, self.sin = (part[:, None] for part in output)

    def angles(self, position_ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """cos and sin of any rotary positions under the scaling of the pass, as the model makes them."""
        position_ids = position_ids if self.axes == 3 else position_ids[0]
        cos, sin = type(self.module).forward(self.module, self.cos, position_ids)
        return cos[:, None], sin[:, None]

    def turned_back(self, keys: torch.Tensor) -> torch.Tensor:
        """Keys of the pass before rotation: turned by the negative angle, over cos² + sin², which is m²."""
        cos, sin = self.cos.float(), self.sin.float()
        rotated, rest = rotary.rotate(keys.float(), cos, -sin).tensor_split([cos.shape[-1]], -1)
        return torch.cat([rotated / (cos**2 + sin**2), rest], -1).to(keys)


class UnrotatedLayer(Blocks):
    """Keys before rotation with their positions, and values; gives out keys turned under the running pass's scaling."""

    unrotated = True

    def __init__(self, rotator):
        super().__init__()
        self.rotator, self.position_ids = rotator, None

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args, **kwargs
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Keep this pass's keys turned back; give out earlier ones turned anew, these as they are."""
        rotator = self.rotator
        if not rotator.open:
            raise InputError(CLOSED, got="keys before rotation", hint=GO_ON)
        given, position_ids = key_states, rotator.position_ids.expand(3, len(key_states), -1)
        if self.get_seq_length():
            given = torch.cat([rotary.rotate(self.keys, *rotator.angles(self.position_ids)), key_states], 2)
            position_ids = torch.cat([self.position_ids, position_ids], -1)
        super().update(rotator.turned_back(key_states), value_states)
        self.position_ids = position_ids
        return given, self.values

    def reorder_cache(self, beam_idx: torch.Tensor) -> None:
        """As transformers'; positions go with their rows."""
        super().reorder_cache(beam_idx)
        if self.get_seq_length():
            self.position_ids = self.position_ids.index_select(1, beam_idx.to(self.position_ids.device))
