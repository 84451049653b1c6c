"""Atoms of a state: the state of one head as the sum of a few matrices of low rank, each with a strength.

    Ŝ = Σ_i s_i V_i W_iᵀ + bias          V_i [rank, key], W_i [rank, value]; of rank 1 as what one token writes

WriteSAE: arXiv 2605.12770; `labkit.features.writesae` says how strengths are found.
"""

import dataclasses

import torch

from labkit.features.dictionary import Record


@dataclasses.dataclass(frozen=True, repr=False, eq=False)
class Atoms(Record):
    """Atoms of the state of a value head.

    Attributes:
        head: whose state.
        weights: V [feature, rank, key], W [feature, rank, value], b_enc [feature], bias [key, value]; and left, right,
            shaped as V and W, where the encoder has vectors of its own, or encoder [feature, key · value].
    """

    head: int = 0

    def __len__(self):
        return len(self.weights["b_enc"])

    @property
    def axes(self) -> tuple[int, ...]:
        """Keys and values of a state."""
        return tuple(self.weights["bias"].shape)

    def rows(self) -> int:
        """How many states fit the scratch, with a product of each atom and state."""
        rank = self.weights["V"].shape[1]
        return max(1, super().rows() // (1 + rank * max(self.axes) // 4))

    def encode(self, states: torch.Tensor) -> torch.Tensor:
        """Strengths [row, feature] of states [row, key, value]."""
        x, bias = self._turned(states), self.weights["b_enc"].to(states)
        if "encoder" in self.weights:
            return self.activation(x.flatten(1) @ self.weights["encoder"].to(x).T + bias)
        left, right = (self.weights.get(name, self.weights[own]).to(x) for name, own in (("left", "V"), ("right", "W")))
        return self.activation(torch.einsum("nirv,irv->ni", torch.einsum("irk,nkv->nirv", left, x), right) + bias)

    def decode(self, strengths: torch.Tensor, states: torch.Tensor) -> torch.Tensor:
        """The sum [row, key, value] of atoms with these strengths."""
        active = strengths.any(0).nonzero()[:, 0]
        V, W = (self.weights[name][active].to(strengths) for name in ("V", "W"))
        made = torch.einsum("ni,irk,irv->nkv", strengths[:, active], V, W)
        return self._turned(made, back=True) + self.weights["bias"].to(made)

    def atom(self, feature: int) -> torch.Tensor:
        """The matrix [key, value] that strength 1 of a feature adds."""
        V, W = (self.wide(self.weights[name][feature]) for name in ("V", "W"))
        return self._turned(torch.einsum("rk,rv->kv", V, W)[None], back=True)[0]

    def _turned(self, x, back=False):
        """Keys and values of a control dealt, or put back."""
        for axis, (order, signs) in zip((1, 2), self.dealt, strict=False):
            signs = signs.view(-1, 1) if axis == 1 else signs
            x = torch.empty_like(x).index_copy_(axis, order, x * signs) if back else x.index_select(axis, order) * signs
        return x
