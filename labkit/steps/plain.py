"""Decode by ordinary passes: the reference for every faster way, and what runs where those cannot."""

import dataclasses

import torch

from labkit import passes
from labkit.pictures import Seen
from labkit.scopes import Call
from labkit.trace import Recorder, Seams


@dataclasses.dataclass(frozen=True)
class Asked:
    """What is to be kept of some steps.

    Attributes:
        wanted: `{layer: seams}`. states: DeltaNet layers whose state is kept after each step.
        pads: for every row, how many of the first columns hold no token. most: steps that are kept, the last ones.
        seen: `pictures.Seen` of the prompt, which is read first.
    """

    wanted: dict[int, list[str]]
    states: tuple[int, ...] = ()
    pads: tuple[int, ...] = (0,)
    most: int = 1
    seen: Seen | None = None


class Plain:
    """Reads prompts and then token after token of all rows into one cache, inside a `with` block, and keeps the seams.

    Args:
        call: the turn at the model in which it reads. cache: of the rows. asked: what is kept, of all steps.
    """

    def __init__(self, call: Call, lab, cache, asked: Asked):
        self.call, self.lab, self.cache = call, lab, cache
        self.pads, self.held = torch.tensor(asked.pads), {layer: [] for layer in asked.states}
        self.recorder, self.columns, self.seen = Recorder(call, lab.model, lab.spec, asked.wanted), 0, asked.seen

    def __enter__(self):
        self.recorder.__enter__()
        return self

    def __exit__(self, *error):
        self.recorder.__exit__(*error)

    def prefill(self, ids: torch.Tensor) -> torch.Tensor:
        """Logits [batch, vocab] after ids [batch, T]."""
        return self._read(ids)

    def step(self, tokens: torch.Tensor) -> torch.Tensor:
        """Logits [batch, vocab] after one more token of every row, [batch]."""
        logits = self._read(tokens[:, None])
        for layer, kept in self.held.items():
            kept.append(self.cache.layers[layer].recurrent_states[0].clone())
        return logits

    def joined(self) -> tuple[list[Seams], tuple[torch.Tensor, ...]]:
        """Seams of each row from its first token on, and rotary of all columns, as `Recorder.joined`."""
        return self.recorder.joined(self.columns, self.pads.tolist())

    def states(self) -> dict[int, torch.Tensor]:
        """`{layer: [batch, step, head, key, value]}`, the cache's own states after each step."""
        return {layer: torch.stack(kept, 1) for layer, kept in self.held.items() if kept}

    def _read(self, ids):
        first, count = self.cache.get_seq_length(), ids.shape[1]
        mask = position_ids = None
        if self.pads.any():
            at = torch.arange(first + count)
            mask = (at >= self.pads[:, None]).long()
            position_ids = (at[first:] - self.pads[:, None]).clamp(min=0)
        options = dict(mask=mask, position_ids=position_ids, seen=self.seen if not first else None)
        given = passes.feed(self.lab, ids, cache=self.cache, columns=[count - 1], **options)
        self.columns += count
        return given[:, 0]
