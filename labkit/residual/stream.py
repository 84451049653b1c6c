"""The stream of a run and the way out of it: logits are `unembedding(final_norm(x))` of the last layer's output."""

from collections.abc import Iterable, Sequence

import torch

from labkit.errors import InputError, ParityError
from labkit.lab import Lab
from labkit.notation import is_index
from labkit.trace import Run, texts

Answers = int | str | Sequence[int | str]


def check_lab(run: Run, lab: Lab, name: str) -> None:
    """Refuse a lab of another shape or of other weights than the run's; edits may differ, since seams are the run's.

    Raises:
        InputError: either of them.
    """
    if differing := run.spec.differing(lab.spec):
        got, expected = f"{run.model}, other {', '.join(differing)}", lab.name
        raise InputError(f"{name}: the run came from another model", got=got, expected=expected)
    lab.identity().check(run.identity, "this run was made")


def answers(lab: Lab, given: Answers, name: str) -> tuple[list[int], list[str]]:
    """(token ids, readable texts) of answers: ids, or texts of one token each.

    Raises:
        InputError: none, an id out of range, a text of several tokens or of none.
    """
    several = given.tolist() if hasattr(given, "tolist") else given
    several = [several] if is_index(several) or isinstance(several, str) else several
    if not isinstance(several, Iterable):
        expected = "a token id, a text of one token, or several of them"
        raise InputError(f"{name}: no answer", got=repr(given), expected=expected)
    several = list(several)
    if not several:
        raise InputError(f"{name}: no answer", expected="a token id, a text of one token, or several of them")
    ids = []
    for answer in several:
        found = lab.encode(answer).tolist() if isinstance(answer, str) else [answer]
        if len(found) != 1:
            hint = f"its first token, of={found[0]}" if found else None
            raise InputError(f"{name}: an answer is one token", got=f"{answer!r}: {len(found)} tokens", hint=hint)
        if not is_index(found[0]) or not 0 <= found[0] < lab.spec.vocab:
            raise InputError(f"{name}: no such token", got=found[0], expected=f"0 to {lab.spec.vocab - 1}")
        ids.append(int(found[0]))
    return ids, list(texts(lab.tokenizer, torch.tensor(ids)))


def compared(
    lab: Lab, of: Answers, against: Answers | None, name: str
) -> tuple[list[int], list[int] | None, list[str]]:
    """(ids, foils or None, names) of answers and of what they are compared with, as many.

    Raises:
        InputError: as `answers`; neither one foil nor as many as answers.
    """
    ids, names = answers(lab, of, name)
    if against is None:
        return ids, None, names
    foils, others = answers(lab, against, name)
    if len(foils) not in (1, len(ids)):
        got, expected = f"{len(ids)} and {len(foils)}", f"against= {len(ids)} tokens, or one"
        raise InputError(f"{name}: as many answers as foils, or one foil", got=got, expected=expected)
    foils, others = (several * (len(ids) // len(foils)) for several in (foils, others))
    return ids, foils, [f"{one} - {other}" for one, other in zip(names, others, strict=True)]


def logits(lab: Lab, stream: torch.Tensor) -> torch.Tensor:
    """What a stream [..., channel] would say, [..., vocab]; modules by `forward`, so that no hook of an edit acts."""
    stream = stream.to(lab.device, lab.dtype)
    return lab.unembedding.forward(lab.final_norm.forward(stream))


def proof(run: Run, lab: Lab, name: str) -> dict:
    """Parity of the last layer's stream, read out, with the run's own logits; for a Dataset's attributes.

    Raises:
        SeamError: a run without the last layer's stream. ParityError: the lab reads it otherwise than the model did.
    """
    last = run.spec.layers - 1
    stream = run.seams[last, "resid_post"]
    at = run.logit_tokens[-1:].tolist()
    try:
        facts = run.check_parity(last, name, logits(lab, stream[at]), run.logits[-1:])
    except ParityError as error:
        what = f"{name}: this lab's final norm and unembedding do not give the run's logits"
        hint = "lab.trace(run.ids)"
        raise ParityError(what, got=error.got, expected=error.expected, hint=hint) from error
    return facts | {"proven": "logits read from the last layer"}


def check_sum(run: Run, name: str, off: torch.Tensor, row: torch.Tensor) -> dict:
    """Parity of sums with the model's own logits, for a Dataset's attributes.

    Args:
        off: how far the sums are from the model's own numbers, of any shape.
        row: the model's logits there, in its own precision. Their largest is the scale: two of them may be as good as
            equal, and what is left between them is rounding.

    Raises:
        ParityError: they are too far.
    """
    top, off = row.detach().abs().max().view(1), off.detach().flatten().to(row.device)
    found, own = torch.cat([top.to(off.dtype), off]), torch.cat([top, top.new_zeros(len(off))])
    return run.check_parity(run.spec.layers - 1, name, found, own)
