"""Greedy decoding that guesses ahead: the head drafts, one pass of the model verifies, states are rolled back.

What is written is what the model alone would write: a guess stays only if the model names it itself. A pass over the
last token and k guesses says what comes after each of them. The guesses before the first false one stay, and the
model's own next token with them.

Keys and values of false guesses could be cut off. A recurrent state cannot be cut back: before every pass the states
are copied (`Lab.snapshot`), and after a false guess the copy is restored and the tokens that stay are read once more.
So on a hybrid a false guess costs a second pass, and the copy; on a model of attention alone neither.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from labkit import plan, prompts
from labkit.lab import Lab
from labkit.mtp.loading import count, head
from labkit.mtp.readings import LENGTH
from labkit.notation import Quantity, label
from labkit.trace import texts

if TYPE_CHECKING:
    import xarray

TOKENS = "tokens"
GAP = Quantity("Δz", "logit of the token that was written over that of the next best", "nat", "positive", "this run")


def generate(
    lab: Lab,
    prompt: str | Sequence[int] | torch.Tensor,
    *,
    max_new_tokens: int = 32,
    drafts: int = 3,
    folder: str | None = None,
) -> "xarray.Dataset":
    """Continue a prompt as `lab.generate(prompt)` does, token for token, in fewer rounds.

    One pass over several tokens and several passes over one round differently (about 1e-6 of a logit in float32, more
    in half precisions), so two tokens that are so close may change places; `gap` says how close any came.

    Args:
        prompt: a text or token ids. max_new_tokens: at most so many; a stop id ends it earlier.
        drafts: how many tokens are guessed in a round; 0 is plain decoding. folder: as for `mtp.head`.

    Returns:
        Dataset: `id` (token) of the tokens that were written, the one that ended it included; `draft` (token), 0 for
        the model's own, else which guess of its round it was; `gap`. Over `round`: `drafted`, `accepted`; `read`,
        tokens that its passes read, of which `reread` a second time after a false guess; `wrote`. Attributes count
        the passes after the prompt: `passes`, and `passes_without_states`, what they would be if states could be cut
        back; `plain_passes` of decoding token by token; `snapshot_bytes`, of states, that each round copies.

    Raises:
        InputError: an empty prompt, ids or numbers out of range, no room in the window. BudgetError: it would not fit.
        CheckpointError, BackendError: as `mtp.head`.
    """
    ids = lab.encode(prompt)
    most, _, _ = prompts.choices(max_new_tokens, 0.0, 0)
    drafts = count(drafts, "drafts", least=0)
    lab.check_room(len(ids) + most)
    wanted = {lab.spec.layers - 1: ["resid_post"]}
    plan.admit_generate(lab, tokens=len(ids), new=most, wanted=wanted, prompts=1, padded=False, states=0)
    writer = _Writer(lab, ids, head(lab, folder=folder) if drafts else None, most)
    while not writer.done:
        writer.round(drafts)
    return writer.dataset(drafts)


class _Writer:
    """One sequence that grows: the model's cache holds every token but the last, the head's every pair up to there."""

    def __init__(self, lab, ids, ahead, most):
        self.lab, self.given, self.ahead, self.most = lab, ids, ahead, most
        self.stops, self.rows, self.written, self.gaps, self.origin = _stops(lab.model), [], [], [], []
        self.cache, self.pairs, self.own = lab.cache(), None if ahead is None else ahead.empty(), 0
        self.proof = {}
        self.cache.reserve(len(ids) + most)
        choice, hidden = self._read(ids, "last")
        self.write(choice, [0])
        self._pair(hidden, torch.cat([ids[1:], torch.tensor(self.written)]), 0)

    @property
    def done(self):
        return len(self.written) == self.most or self.written[-1] in self.stops

    def write(self, choice, origin):
        """Append what the model chose, up to the room and a stop id; says how many."""
        chosen, gaps = choice
        stop = next((n + 1 for n, token in enumerate(chosen) if token in self.stops), len(chosen))
        count = min(stop, len(chosen), self.most - len(self.written))
        self.written += chosen[:count]
        self.gaps += gaps[:count]
        self.origin += origin[:count]
        return count

    def round(self, drafts):
        """Guess, verify, and keep what is true."""
        lab, held, token = self.lab, self.cache.get_seq_length(), self.written[-1]
        guesses = self._guess(min(drafts, self.most - len(self.written) - 1))
        snap = lab.snapshot(self.cache) if guesses else None
        if snap is not None and not self.own:
            self.own = snap.nbytes["own"]
            plan.admit_copies(lab, want="mtp.generate", length=held, each=self.own, n=2)
        choice, hidden = self._read(torch.tensor([token, *guesses]), "all")
        same = [guess == chosen for guess, chosen in zip(guesses, choice[0], strict=False)]
        accepted = same.index(False) if False in same else len(guesses)
        true = [part[: accepted + 1] for part in choice]
        wrote = self.write(true, [*range(1, accepted + 1), 0])
        again = 0
        if not self.done:
            if accepted < len(guesses):
                self.cache, again = lab.restore(snap), accepted + 1
                lab.trace(torch.tensor([token, *guesses[:accepted]]), cache=self.cache, layers=[])
            self._pair(hidden[: accepted + 1], torch.tensor(true[0]), held)
        self.rows.append((len(guesses), min(accepted, wrote), 1 + len(guesses) + again, again, wrote))

    def _read(self, ids, logits):
        """((tokens that the model chooses after these, gaps to the next best), hidden states [n, hidden])."""
        last = self.lab.spec.layers - 1
        run = self.lab.trace(ids, cache=self.cache, layers=[last], seams=["resid_post"], logits=logits)
        with torch.no_grad(), self.lab.scopes.call():
            hidden = self.lab.final_norm(run.seams[last, "resid_post"])
            made = self.lab.unembedding(hidden[run.logit_tokens])
        facts = run.check_parity(last, "mtp.generate", made, run.logits)
        self.proof = max(self.proof, facts, key=lambda each: each.get("parity", -1.0))
        scores = run.logits.float()
        two = scores.topk(2, -1).values
        return (scores.argmax(-1).tolist(), (two[:, 0] - two[:, 1]).tolist()), hidden

    @torch.no_grad()
    def _pair(self, hidden, ids, first):
        """The head reads pairs of hidden states and next tokens, of which the first stands at `first`."""
        if self.ahead is not None:
            with self.lab.scopes.call():
                if (guessed := self.pairs.get_seq_length() - first) > 0:
                    self.pairs.crop(-guessed)
                places = torch.arange(first + 1, first + 1 + len(ids))
                self.last = self.ahead.read(self.lab, hidden, ids, places, cache=self.pairs)[-1:]

    @torch.no_grad()
    def _guess(self, drafts):
        """The head's next guesses; what it keeps of them is cut off again when true pairs come."""
        guesses, made, place = [], getattr(self, "last", None), len(self.given) + len(self.written)
        with self.lab.scopes.call():
            for n in range(drafts):
                guesses.append(int(self.lab.unembedding(made).float().argmax(-1)))
                if n + 1 < drafts:
                    at = torch.tensor([place + n])
                    made = self.ahead.read(self.lab, made, torch.tensor(guesses[-1:]), at, cache=self.pairs)
        return guesses

    def dataset(self, drafts):
        """What was written, and what it took."""
        rows = torch.tensor(self.rows, dtype=torch.long).reshape(-1, 5).T
        variables = {
            "id": (("token",), self.written, None),
            "draft": (("token",), self.origin, None),
            "gap": (("token",), torch.tensor(self.gaps), GAP),
        }
        kinds = {"drafted": TOKENS, "accepted": LENGTH, "read": TOKENS, "reread": TOKENS, "wrote": TOKENS}
        variables |= {name: (("round",), rows[n], kinds[name]) for n, name in enumerate(kinds)}
        where = torch.arange(len(self.written)) + len(self.given)
        named = ("token", list(texts(self.lab.tokenizer, torch.tensor(self.written))))
        coords = {"token": where, "token_text": named, "round": range(len(self.rows))}
        again = int((rows[3] > 0).sum())
        facts = {
            "model": self.lab.name,
            "layer": self.lab.spec.layers,
            "reading": "mtp.generate",
            "prompt_length": len(self.given),
        }
        facts |= {"drafts": drafts, "passes": len(self.rows) + again, "passes_without_states": len(self.rows)}
        facts |= {"plain_passes": len(self.written) - 1, "snapshot_bytes": self.own, **self.proof}
        return label(variables, coords=coords, attrs=facts)


def _stops(model):
    """Ids that end a generation, as `model.generate` takes them from the checkpoint's settings."""
    ids = model.generation_config.eos_token_id
    return set() if ids is None else {ids} if isinstance(ids, int) else set(ids)
