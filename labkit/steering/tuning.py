"""S₀ tuning: states before the first token, optimised on examples, every weight left as it is.

    loss = mean over examples of the mean surprise of their answers + λ Σ ‖S₀‖²

from S₀ = 0, by Adam on all examples at once, the gradient's norm bounded: Young, arXiv 2604.01168, algorithm 1. There
α S₀ is used for a scale α per architecture; here α is 1, since Adam's rate sets the size.
"""

import dataclasses
import hashlib
import os
import random
from collections.abc import Sequence

import torch
import xarray
from transformers.cache_utils import DynamicLayer, LinearAttentionLayer

from labkit.arguments import number, whole
from labkit.calling import public
from labkit.errors import InputError
from labkit.identity import lasting
from labkit.lab import Lab
from labkit.notation import label, select
from labkit.plan import admit
from labkit.progress import counter
from labkit.steering.beginning import BEGINS, LOSS, ROWS, Example, paired, surprise, understood
from labkit.steering.kept import Kept
from labkit.trace import layers_of

NAME = "steering.tune"
CLIP, FIRST, SECOND, TINY = 1.0, 0.9, 0.999, 1e-8  # bound of the gradient's norm; Adam's own
PARTS = ("state", "first", "second", "best")


class Beginning(LinearAttentionLayer):
    """A cached layer whose state before the first token is a variable: it is read once, and nothing overwrites it."""

    def __init__(self, state: torch.Tensor, window: torch.Tensor):
        super().__init__()
        self.lazy_initialization(conv_states=window)
        self.recurrent_states[0], self.is_recurrent_states_initialized[0] = state, True
        self.has_previous_state[0] = True

    def update_conv_state(self, conv_states, state_idx=0, **kwargs):
        """As transformers', and forgets: there is no next pass."""
        return torch.cat([self.conv_states[state_idx], conv_states], -1)

    def update_recurrent_state(self, recurrent_states, state_idx=0, **kwargs):
        """What comes, not kept."""
        return recurrent_states


@public
def tune(
    lab: Lab,
    examples: Sequence[Example],
    *,
    layers: int | Sequence[int] | None = None,
    heads: int | Sequence[int] | None = None,
    held_out: Sequence[Example] | None = None,
    steps: int = 100,
    rate: float = 0.02,
    decay: float = 1e-4,
    patience: int = 10,
    checkpoint: str | os.PathLike | None = None,
    every: int = 10,
    progress: bool = False,
) -> xarray.Dataset:
    """States before the first token that make the answers of examples likely.

    Nothing is drawn: it starts from zero and reads all examples at every step, so that the same call gives the same
    states. Its controls are `shuffled_answers`, `random_start` and `judged` on other examples.

    Args:
        examples: pairs (prompt, answer), texts or ids; answers are given, prompts only read.
        layers: DeltaNet layers that get a state; None for all. heads: value heads of each; None for all.
        held_out: examples that stop it: those states are kept that did best on them. None keeps the last.
        steps: at most. rate: of Adam. decay: λ. patience: steps without a better loss on `held_out` before it stops.
        checkpoint: a folder to rest in; the same call goes on from there. every: steps between two rests; an interrupt
            rests as well.
        progress: whether to show a bar.

    Returns:
        Dataset: `state` (layer, head, key, value), for `begin`; `loss` and `held_out_loss` (step), before each step;
        the step that the states are of in the attribute `step`.

    Raises:
        InputError: no examples, a folder of another request, options out of range. LayerError: a layer without a state.
        BudgetError. CheckpointError: a folder that is damaged or cannot be written.
    """
    spec = lab.spec
    layers = layers_of(spec, layers, "deltanet", NAME, 'edit.scale("v", layer={layer}, factor=0.0)')
    layers, heads = sorted(set(layers)), sorted(set(select(heads, spec.value_heads, "head")))
    steps, patience, every = (
        whole(value, what, least=1) for value, what in ((steps, "steps"), (patience, "patience"), (every, "every"))
    )
    rate, decay = number(rate, "rate", above=0), number(decay, "decay", least=0)
    rows = understood(lab, examples, NAME)
    others = [] if held_out is None else understood(lab, held_out, NAME)
    size = 4 * len(layers) * spec.value_heads * spec.dk * spec.dv
    batch, length = min(ROWS, len(rows)), max(len(ids) for ids, _ in rows)
    graph = 16 * batch * length * spec.layers * (spec.hidden + spec.conv_channels)  # order of what a pass keeps
    admit(NAME, length, {"states and averages": (len(PARTS) + 2 + batch) * size, "graph": graph}, lab.device)
    request = dict(identity=lasting(lab), examples=_mark(rows), held_out=_mark(others), layers=layers, heads=heads)
    request |= dict(rate=rate, decay=decay, patience=patience)
    fit = _Fit.fresh(lab, layers, heads)
    with Kept(checkpoint, request).open() as kept:
        if (held := kept.read({name: tuple(part.shape) for name, part in fit.tensors.items()})) is not None:
            fit.done, fit.losses, fit.tensors = held[0], held[1], {n: t.to(lab.device) for n, t in held[2].items()}
        rested = fit.done
        try:
            with counter(show=progress, unit="step", total=steps, done=fit.done, title=NAME) as bar:
                while fit.done < steps and not fit.over(patience):
                    fit.step(rows, others, rate, decay)
                    bar.update()
                    if fit.done % every == 0:
                        kept.write(fit.done, fit.losses, fit.tensors)
                        rested = fit.done
        finally:  # also of an interrupt: a step is finished or has changed nothing
            if fit.done > rested:
                kept.write(fit.done, fit.losses, fit.tensors)
    return fit.labelled(bool(others), len(rows))


@dataclasses.dataclass
class _Fit:
    """Where a tuning stands.

    Attributes:
        tensors: `PARTS`, each [layer, head, key, value]. losses: [on the examples, on held-out ones] before each step.
    """

    lab: Lab
    layers: list[int]
    heads: list[int]
    tensors: dict[str, torch.Tensor]
    losses: list[list[float]]
    done: int = 0

    @classmethod
    def fresh(cls, lab, layers, heads):
        spec = lab.spec
        zero = torch.zeros(len(layers), spec.value_heads, spec.dk, spec.dv, device=lab.device)
        return cls(lab, layers, heads, {name: zero.clone() for name in PARTS}, [])

    @property
    def best(self) -> int:
        """The step before which the held-out loss was least."""
        return min(range(len(self.losses)), key=lambda n: self.losses[n][1])

    def over(self, patience: int) -> bool:
        """Whether so many steps did not do better on held-out examples."""
        watched = bool(self.losses) and self.losses[-1][1] == self.losses[-1][1]
        return watched and len(self.losses) - 1 - self.best >= patience

    def step(self, rows, others, rate, decay) -> None:
        """One step of Adam, from the losses of the states as they are; all of it, or nothing."""
        state = self.tensors["state"]
        loss, slope = self._slope(state, rows)
        beside = self._loss(state, others) if others else torch.nan
        slope = slope + 2 * decay * state
        only = torch.zeros_like(slope)
        only[:, self.heads] = slope[:, self.heads]
        only = only * min(1.0, CLIP / max(float(only.norm()), TINY))
        first = FIRST * self.tensors["first"] + (1 - FIRST) * only
        second = SECOND * self.tensors["second"] + (1 - SECOND) * only.square()
        n = self.done + 1
        sized = (second / (1 - SECOND**n)).sqrt() + TINY
        moved = state - rate * (first / (1 - FIRST**n)) / sized
        losses = [*self.losses, [loss, float(beside)]]
        leads = not others or beside <= min(pair[1] for pair in losses)
        kept = state if others else moved
        best = kept.clone() if leads else self.tensors["best"]
        self.tensors, self.losses, self.done = dict(state=moved, first=first, second=second, best=best), losses, n

    @torch.enable_grad()
    def _slope(self, state, rows):
        """(mean loss, its slope) at some states."""
        variable, total = state.detach().clone().requires_grad_(), 0.0
        for first in range(0, len(rows), ROWS):
            part = rows[first : first + ROWS]
            losses, _ = surprise(self.lab, part, self._cache(variable, len(part)), grad=True)
            (share := losses.sum() / len(rows)).backward()
            total += float(share.detach())
        return total, variable.grad

    @torch.no_grad()
    def _loss(self, state, rows):
        parts = [rows[first : first + ROWS] for first in range(0, len(rows), ROWS)]
        losses = [surprise(self.lab, part, self._cache(state, len(part)))[0].sum() for part in parts]
        return float(torch.stack(losses).sum() / len(rows))

    def _cache(self, states, count):
        """A cache for one pass of so many rows, whose layers begin with the states."""
        lab, spec = self.lab, self.lab.spec
        cache = lab.cache()
        window = torch.zeros(count, spec.conv_channels, spec.conv, dtype=lab.dtype, device=lab.device)
        for layer in range(spec.layers):
            cache.layers[layer] = DynamicLayer()
            if layer in spec.deltanet_layers:
                own = states[self.layers.index(layer)] if layer in self.layers else torch.zeros_like(states[0])
                cache.layers[layer] = Beginning(own.expand(count, *own.shape), window)
        return cache

    def labelled(self, watched, samples):
        losses = torch.tensor(self.losses, dtype=torch.float64)
        variables = {
            "state": (("layer", "head", "key", "value"), self.tensors["best"], BEGINS),
            "loss": (("step",), losses[:, 0], LOSS),
            "held_out_loss": (("step",), losses[:, 1], LOSS),
        }
        facts = dict(model=self.lab.name, reading=NAME, samples=samples, step=self.best if watched else self.done)
        coords = {"layer": self.layers, "head": range(self.lab.spec.value_heads), "step": range(len(losses))}
        return label(variables, coords=coords, attrs=facts)


def shuffled_answers(examples: Sequence[Example], *, seed: int = 0) -> list[Example]:
    """The control of a tuning: the same prompts, each with the answer of another example, by `seed`.

    Raises:
        InputError: fewer than two examples, or examples whose answers are all the same.
    """
    pairs = paired(examples, "steering.shuffled_answers")
    answers = [answer for _, answer in pairs]
    if len({str(answer.tolist() if hasattr(answer, "tolist") else answer) for answer in answers}) < 2:
        got, expected = f"{len(pairs)} examples of one answer", "two answers or more"
        raise InputError("answers are exchanged among examples", got=got, expected=expected)
    draw, order = random.Random(whole(seed, "seed", least=0)), list(range(len(pairs)))
    while any(n == other for n, other in enumerate(order)):  # one that keeps its own answer is no control
        draw.shuffle(order)
    return [(prompt, answers[other]) for (prompt, _), other in zip(pairs, order, strict=True)]


def _mark(rows):
    hashed = hashlib.sha256()
    for ids, more in rows:
        hashed.update(f"{ids.tolist()} {more};".encode())
    return hashed.hexdigest()
