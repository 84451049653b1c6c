"""Decode by ordinary passes: the reference for every faster way, and what runs where those cannot."""

from collections.abc import Sequence

import torch

from labkit import passes
from labkit.scopes import Call
from labkit.trace import Recorder


class Plain:
    """Reads prompts and then token after token of all rows into one cache, inside a `with` block, and keeps the seams.

    Args:
        call: the turn at the model in which it reads. cache: of the rows. wanted: `{layer: seams}`.
        pads: for every row, how many of the first columns hold no token.
    """

    def __init__(self, call: Call, lab, cache, wanted: dict[int, list[str]], *, pads: Sequence[int] = (0,)):
        self.call, self.lab, self.cache, self.wanted = call, lab, cache, wanted
        self.pads = torch.tensor(pads)
        self.recorder, self.columns = Recorder(call, lab.model, lab.spec, wanted), 0

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
        return self._read(tokens[:, None])

    def joined(self) -> tuple[dict[tuple[int, str], torch.Tensor], tuple[torch.Tensor, ...]]:
        """Seams and rotary of all tokens read, as `Recorder.joined`."""
        return self.recorder.joined(self.columns)

    def _read(self, ids):
        first, count = self.cache.get_seq_length(), ids.shape[1]
        mask = position_ids = None
        if self.pads.any():
            at = torch.arange(first + count)
            mask = (at >= self.pads[:, None]).long()
            position_ids = (at[first:] - self.pads[:, None]).clamp(min=0)
        options = dict(mask=mask, position_ids=position_ids)
        given = passes.feed(self.lab, ids, cache=self.cache, columns=[count - 1], **options)
        self.columns += count
        return given[:, 0]
