"""What the head guesses at every position of a run, and how good that is.

From where the model stands at token t and the token t+1 the head guesses token t+2. Engines use one head several times:
it then reads its own output and its own guess, and guesses token t+3, and so on. A chain is what begins at one t; every
chain looks at the pairs (hidden state, next token) of the run up to t, and at its own.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from labkit import passes, plan
from labkit.calling import public
from labkit.errors import InputError
from labkit.lab import Lab
from labkit.mtp.groups import DRAFT, bigram
from labkit.mtp.loading import Head, count, head
from labkit.notation import Quantity, label, select, visible
from labkit.reading import axis
from labkit.trace import Run

if TYPE_CHECKING:
    import xarray

PROVEN = "logits from the state that the head reads,"  # is what the parity is of; a guess has nothing to be like
ROWS = 256  # rows of logits in float32 at a time
SURE = Quantity("p", "probability of the head's guess", "fraction", "fraction", "this run")
TARGET = Quantity("-log p", "the head's negative log-likelihood of the token that came", "nat", "positive", "this run")
MAIN = Quantity("-log p", "the model's own, with everything before it read", "nat", "positive", "this run")
RANK = Quantity("rank", "rank of the token that came, 1 is the guess", "1", "positive", "this run")
AHEAD = Quantity("right", "whether the head named the token that came", "fraction", "fraction", "this run")
OWN = Quantity("right", "whether the model itself names it, one token before", "fraction", "fraction", "this run")
PAIRS = Quantity("right", "whether counts of pairs in this run name it", "fraction", "fraction", "this run")
AGREES = Quantity("agrees", "whether the head names what the model would", "fraction", "fraction", "this run")
LENGTH = Quantity("a", "guesses that came true before the first that did not", "tokens", "positive", "this run")


@public
@torch.no_grad()
def drafts(
    run: Run, lab: Lab, *, drafts: int = 1, rows: int | Sequence[int] | None = None, folder: str | None = None
) -> "xarray.Dataset":
    """Guesses of the multi-token-prediction head at the tokens of a run; the first is of the token after next.

    The control is the model itself: for every token that is guessed, what it says one token before. The baseline counts
    which token followed which, in this run up to the last token that the guess has seen. `parity` compares the model's
    logits, made anew from the hidden states that the head reads, with those of the run.

    Args:
        run: `Run` with the seam `resid_post` of the last layer, from its first token on. lab: the lab it came from.
        drafts: how many tokens a chain guesses. rows: tokens at which chains begin, relative to the run's first; None
            is all but the last one, whose next token nobody knows.
        folder: as for `mtp.head`.

    Returns:
        Dataset: over (draft, token) `guess` and `target`, ids of what was guessed and of what came, -1 after the end,
        `target_text`; `probability` of the guess; `loss` of the head and `main_loss` of the model for what came;
        `rank` of that among the head's guesses; `right`, `main_right`, `bigram_right` and `agrees`, 0 or 1: the head,
        the model and the pairs named what came, the head named what the model would. NaN where nothing came. `accepted`
        (token): how many guesses came true before one did not; in a run of `lab.generate` these are the guesses that
        greedy decoding accepts; NaN where the run ends before that is known.

    Raises:
        InputError: a run that continues a cache, one of another model or scaling, rows out of range.
        SeamError, ParityError; BudgetError: it would not fit; CheckpointError, BackendError: as `mtp.head`.
    """
    _check(run, lab)
    chains, last = count(drafts, "drafts", least=1), lab.spec.layers - 1
    starts = select(rows, len(run), "token") if rows is not None else list(range(len(run) - 1))
    if len(run) - 1 in starts or not starts:
        got, expected = f"row {len(run) - 1} of {len(run)}", f"0 to {len(run) - 2}"
        raise InputError("nobody knows the token after the last one", got=got, expected=expected)
    stream, ahead = run.seams[last, "resid_post"], head(lab, folder=folder)
    _admit(lab, len(run), len(starts), chains)
    with lab.scopes.call():
        passes.check_mode(lab)
        hidden = lab.final_norm(stream.to(lab.device))
        facts = run.check_parity(last, "mtp.drafts", lab.unembedding(hidden[run.logit_tokens]), run.logits)
        own = _scores(lab, hidden, torch.cat([run.ids[1:], run.ids[-1:]]))
        guessed = list(_chains(lab, ahead, run, hidden, starts, chains))
    return _labelled(run, starts, own, guessed, facts)


def _check(run, lab):
    if differing := run.spec.differing(lab.spec):
        got, expected = f"{run.model}, other {', '.join(differing)}", lab.name
        raise InputError("the run came from another model", got=got, expected=expected)
    lab.identity().check(run.identity, "this run was made")
    if run.scaling != lab.scaling:
        got, expected = str(run.scaling), f"{lab.scaling}, the scaling in force"
        raise InputError("the run was made under another scaling", got=got, expected=expected)
    if run.start.length:
        got, hint = f"a run after {run.start.length} cached tokens", "mtp.drafts(lab.trace(ids), lab), of all ids"
        raise InputError("the head reads a text from its first token on", got=got, hint=hint)


def _admit(lab, tokens, chains, drafts):
    """Refuse what would not fit: the pass over the run, the masks and scores of its chains, logits, the result."""
    spec, width = lab.spec, lab.dtype.itemsize
    one = 8 * spec.hidden + 5 * spec.query_heads * spec.head_dim + 3 * spec.intermediate * max(1, spec.active_experts)
    sources = tokens + (drafts - 1) * chains
    looked = 8 * chains * sources if drafts > 1 else 0
    looked += 2 * sources * spec.query_heads * spec.head_dim * width if drafts > 1 else 0  # keys and values, repeated
    parts = {
        "the head's pass, or logits": max(tokens * one * width, min(ROWS, tokens) * spec.vocab * (9 + width)),
        "its keys and values": 4 * sources * spec.kv_heads * spec.head_dim * width,
        "masks of the chains": looked,
        "states and guesses": 2 * tokens * spec.hidden * width + 120 * drafts * chains,
    }
    fewer = 0 if drafts == 1 else looked
    plan.admit("mtp.drafts", tokens, parts, lab.device, [("drafts=1", sum(parts.values()) - fewer)] if fewer else [])


def _chains(lab, ahead: Head, run, hidden, starts, drafts):
    """`_scores` of every draft in turn, for the chains that begin at `starts`."""
    length, at = len(run), torch.tensor(starts)
    places = run.positions if run.position_ids is None else run.position_ids
    cache, seen = ahead.empty(), torch.arange(length - 1) <= at[:, None]
    made = ahead.read(lab, hidden[:-1], run.ids[1:], places[1:], cache=cache)[at.to(lab.device)]
    for draft in range(1, drafts + 1):
        target = (at + draft + 1).clamp(max=length - 1)
        scores = _scores(lab, made, run.ids[target])
        yield scores
        if draft < drafts:
            seen = torch.cat([seen, torch.eye(len(at), dtype=torch.bool)], 1)
            made = ahead.read(lab, made, scores[0], places[at + 1] + draft, cache=cache, mask=seen)


def _scores(lab, hidden, targets):
    """(guess, its probability, loss of the targets, their rank) of every row of hidden, on the CPU."""
    parts = []
    for rows, ids in zip(hidden.split(ROWS), targets.to(lab.device).split(ROWS), strict=True):
        logs = lab.unembedding(rows).float().log_softmax(-1)
        best, loss = logs.max(-1), -logs.gather(1, ids[:, None])
        parts.append((best.indices, best.values.exp(), loss[:, 0], 1 + (logs > -loss).sum(-1)))
    return [torch.cat(part).cpu() for part in zip(*parts, strict=True)]


def _labelled(run, starts, own, guessed, facts):
    at, ids = np.array(starts), run.ids.cpu().numpy()
    drafts = range(1, len(guessed) + 1)
    place = at + np.array(drafts)[:, None] + 1  # of the token that is guessed
    came = place < len(ids)
    place = place.clip(max=len(ids) - 1)
    guess, sure, loss, rank = (np.stack([part[n].numpy() for part in guessed]) for n in range(4))
    known = lambda values: np.where(came, values, np.nan).astype(np.float32)  # noqa: E731
    main = own[0].numpy()[place - 1], own[2].numpy()[place - 1]
    pairs = bigram(ids, starts, len(guessed))
    right = known(guess == ids[place])
    wrong = (right == 0).cumsum(0) > 0  # from the first false guess on
    length = np.where((np.isnan(right) & ~wrong).any(0), np.nan, (~wrong & (right == 1)).sum(0))
    texts = np.where(came, np.array([visible(text) for text in run.tokens], dtype=object)[place], "")
    dims = ("draft", "token")
    variables = {
        "guess": (dims, guess, None),
        "target": (dims, np.where(came, ids[place], -1), None),
        "target_text": (dims, texts.astype(str), None),
        "probability": (dims, sure, SURE),
        "loss": (dims, known(loss), TARGET),
        "main_loss": (dims, known(main[1]), MAIN),
        "rank": (dims, known(rank), RANK),
        "right": (dims, right, AHEAD),
        "main_right": (dims, known(main[0] == ids[place]), OWN),
        "bigram_right": (dims, known(pairs == ids[place]), PAIRS),
        "agrees": (dims, known(guess == main[0]), AGREES),
        "accepted": (("token",), length.astype(np.float32), LENGTH),
    }
    coords = {"draft": ("draft", list(drafts), DRAFT), **axis(run, "token", starts), "layer": run.spec.layers}
    attrs = {"model": run.model, "layer": run.spec.layers, "reading": "mtp.drafts", "proven": PROVEN, **facts}
    if run.scaling.kind != "none":
        attrs["scaling"] = str(run.scaling)
    return label(variables, coords=coords, attrs=attrs)
