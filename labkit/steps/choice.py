"""Which token comes next: transformers' own processors and stopping criteria, around steps that are labkit's.

`model.generate` takes a loop of the caller's (`custom_generate`) and hands it everything that it made of the options.
This one chooses as `GenerationMixin._sample` does. Rows of a batch draw from generators of their own, so that each is
what its prompt alone would give.
"""

from collections.abc import Sequence

import torch

from labkit.decoding import SAMPLING, settings
from labkit.errors import InputError
from labkit.passes import check_mode, text_alone
from labkit.trace import cache_parameter

# Options that ask of a row which ids it holds, and no more: rows may begin with copies of their first id.
PADDED = (*SAMPLING, "repetition_penalty", "min_new_tokens", "eos_token_id", "suppress_tokens", "max_time")


@torch.no_grad()
def generate(
    lab, reader, rows: Sequence[torch.Tensor], max_new_tokens: int, temperature: float, seed: int, options: dict
) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Continue prompts with a reader that is open, and read the last token that was chosen too.

    Args:
        reader: `Plain` or `Fixed`, with the pads of these rows. rows: ids [T] of the prompts.

    Returns:
        (ids of each prompt and its continuation, logits [batch, vocab] of what would come next).

    Raises:
        InputError: as `passes.check_mode`, or an option that `decoding.settings` refuses; a streamer for several
            prompts; an option that looks at whole rows, for prompts of several lengths.
    """
    from transformers import StopStringCriteria

    check_mode(lab)
    given = [name for name, value in options.items() if value is not None]
    options = settings(lab, options, max_new_tokens, temperature)
    looking = [name for name in given if name not in PADDED and name != "streamer"]
    if len({len(row) for row in rows}) > 1 and looking:
        got = f"{looking[0]} and prompts of {sorted({len(row) for row in rows})} tokens"
        hint = "prompts of one length, or lab.generate(prompt) for each of them"
        raise InputError("this option looks at whole rows", got=got, expected="rows without padding", hint=hint)
    if len(rows) > 1 and "streamer" in given:
        got, hint = f"a streamer and {len(rows)} prompts", "lab.generate(prompt, streamer=...)"
        raise InputError("a streamer follows one prompt", got=got, hint=hint)
    length = max(map(len, rows))
    # Processors look at ids: pads are copies of a token that the row has.
    ids = torch.stack([torch.cat([row[:1].expand(length - len(row)), row]) for row in rows]).to(lab.device)
    mask = torch.stack([torch.arange(length) >= length - len(row) for row in rows]).long().to(lab.device)
    draws = [torch.Generator(lab.device).manual_seed(seed) for _ in rows]
    loop = Loop(reader, draws, options.get("streamer"))
    if texts := options.pop("stop_strings", None):  # `generate` drops the tokenizer where the loop is the caller's
        ends = StopStringCriteria(tokenizer=options.pop("tokenizer"), stop_strings=texts)
        options["stopping_criteria"] = [*(options.get("stopping_criteria") or ()), ends]
    with text_alone(lab), torch.random.fork_rng([lab.device] if lab.device.type == "cuda" else []):
        torch.manual_seed(seed)  # for processors of the user's
        given = {"attention_mask": mask, cache_parameter(lab.model): reader.cache}
        whole = lab.model.generate(ids, custom_generate=loop, **options | given).cpu()
    ends = [length + count for count in loop.counts]
    return [
        whole[i, length - len(row) : end] for i, (row, end) in enumerate(zip(rows, ends, strict=True))
    ], loop.answers


class Loop:
    """The loop that `model.generate` calls.

    Attributes:
        counts: new tokens of every row, the one that ended it included. answers: [batch, vocab] logits after the last.
    """

    def __init__(self, reader, draws: list[torch.Generator], streamer=None):
        self.reader, self.draws, self.streamer = reader, draws, streamer
        self.counts, self.answers = [0] * len(draws), None

    def __call__(self, model, ids, logits_processor, stopping_criteria, generation_config, **given) -> torch.Tensor:
        """[batch, T + new] ids; rows that ended earlier are filled up."""
        logits, going = self.reader.prefill(ids), torch.ones(len(ids), dtype=torch.bool, device=ids.device)
        filler = generation_config._pad_token_tensor
        while True:
            scores = logits_processor(ids, logits.to(torch.float32, copy=True))
            chosen = self._chosen(scores, generation_config.do_sample)
            if filler is not None:
                chosen = torch.where(going, chosen, filler.to(chosen))
            ids = torch.cat([ids, chosen[:, None]], 1)
            if self.streamer is not None:
                self.streamer.put(chosen.cpu())
            logits = self.reader.step(chosen)
            self.answers = logits if self.answers is None else torch.where(going[:, None], logits, self.answers)
            living = going.tolist()
            self.counts = [count + alive for count, alive in zip(self.counts, living, strict=True)]
            going = going & ~stopping_criteria(ids, None).to(going.device)
            if not going.any():
                break
        if self.streamer is not None:
            self.streamer.end()
        return ids

    def _chosen(self, scores, sampled):
        if not sampled:
            return scores.argmax(-1)
        shares = scores.softmax(-1)
        rows = [torch.multinomial(row, 1, generator=draw) for row, draw in zip(shares, self.draws, strict=True)]
        return torch.cat(rows)
