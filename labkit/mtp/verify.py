"""Greedy decoding that guesses ahead: the head drafts, one pass of the model verifies, states are rolled back.

What is written is what the model alone would write: a guess stays only if the model names it itself. A pass over the
last token and k guesses says what comes after each of them. The guesses before the first false one stay, and the
model's own next token with them.

Keys and values of false guesses could be cut off. A recurrent state cannot be cut back: before a pass the states are
copied (`Lab.snapshot`), and after a false guess the copy is restored and the tokens that stay are read once more: at
once, in a pass of its own, or, since a pass takes the weights through memory however few tokens it reads, as the
beginning of the next one. On a model of attention alone neither the copies nor these tokens would be needed.
transformers' own `generate(use_mtp=True)` counts none of this, hence the loop here.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from labkit import plan, prompts
from labkit.arguments import whole
from labkit.calling import public
from labkit.lab import Lab
from labkit.mtp.loading import count, head
from labkit.mtp.readings import LENGTH, PROVEN
from labkit.notation import Quantity, label
from labkit.trace import texts

if TYPE_CHECKING:
    import xarray

TOKENS = "tokens"
GAP = Quantity("Δz", "logit of the token that was written over that of the next best", "nat", "positive", "this run")


@public
def generate(
    lab: Lab,
    prompt: str | Sequence[int] | torch.Tensor,
    *,
    max_new_tokens: int = 32,
    drafts: int = 3,
    wait: int = 16,
    folder: str | None = None,
) -> "xarray.Dataset":
    """Continue a prompt as `lab.generate(prompt)` does, token for token, in fewer rounds.

    One pass over several tokens and several passes over one round differently (about 1e-6 of a logit in float32, more
    in half precisions), so two tokens that are so close may change places; `gap` says how close any came.

    Args:
        prompt: a text or token ids. max_new_tokens: at most so many; a stop id ends it earlier.
        drafts: how many tokens are guessed in a round; 0 is plain decoding.
        wait: how many true tokens may wait, after a false guess, to be read again with the next guesses; 0 reads them
            at once, in a pass of its own. folder: as for `mtp.head`.

    Returns:
        Dataset: `id` (token) of the tokens that were written, the one that ended it included; `draft` (token), 0 for
        the model's own, else which guess of its round it was; `gap`. Over `round`: `drafted`, `accepted`; `read`,
        tokens that its passes read, of which `reread` again; `wrote`. Attributes count the passes after the prompt:
        `passes`; `rounds`, what they would be if states could be cut back; `plain_passes` of decoding token by token;
        and `snapshots`, with `snapshot_bytes`, of states, of each.

    Raises:
        InputError: an empty prompt, ids or numbers out of range, no room in the window. BudgetError: it would not fit.
        CheckpointError, BackendError: as `mtp.head`.
    """
    ids = lab.encode(prompt)
    most, _, _ = prompts.choices(max_new_tokens, 0.0, 0)
    drafts, wait = count(drafts, "drafts", least=0), whole(wait, "wait", least=0)
    lab.check_room(len(ids) + most)
    wanted = {lab.spec.layers - 1: ["resid_post"]}
    plan.admit_generate(lab, tokens=len(ids), new=most, wanted=wanted, prompts=1, padded=False, states=0)
    writer = _Writer(lab, ids, head(lab, folder=folder) if drafts else None, most, wait)
    while not writer.done:
        writer.round(drafts)
    return writer.dataset(drafts)


class _Writer:
    """One sequence that grows, its last token unread.

    The model's cache holds every other token but those that wait to be read again; the head's, every pair.
    """

    def __init__(self, lab, ids, ahead, most, wait):
        self.lab, self.given, self.ahead, self.most, self.wait = lab, ids, ahead, most, wait
        self.written, self.gaps, self.origin, self.rows, self.proof = [], [], [], [], {}
        self.stops, self.pairs = _stops(lab.model), None if ahead is None else ahead.empty()
        self.cache, self.snap, self.waiting, self.snapshots, self.own = lab.cache(), None, [], 0, 0
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
        token, place, again = self.written[-1], len(self.given) + len(self.written) - 1, len(self.waiting)
        guesses = self._guess(min(drafts, self.most - len(self.written) - 1), place)
        if guesses and not again:
            self._snapshot()
        asked = torch.tensor([*self.waiting, token, *guesses])
        choice, hidden = self._read(asked, list(range(again, len(asked))))
        same = [guess == chosen for guess, chosen in zip(guesses, choice[0], strict=False)]
        accepted = same.index(False) if False in same else len(guesses)
        true = [part[: accepted + 1] for part in choice]
        wrote, read = self.write(true, [*range(1, accepted + 1), 0]), len(asked)
        if not self.done:
            self.waiting = [*self.waiting, token, *guesses[:accepted]] if accepted < len(guesses) else []
            if self.waiting:
                self.cache = self.lab.restore(self.snap)
            if len(self.waiting) > self.wait:
                self.lab.trace(torch.tensor(self.waiting), cache=self.cache, layers=[])
                read, again, self.waiting = read + len(self.waiting), again + len(self.waiting), []
            self._pair(hidden[-len(guesses) - 1 :][: accepted + 1], torch.tensor(true[0]), place)
        self.rows.append((len(guesses), min(accepted, wrote), read, again, wrote, 1 + (read > len(asked))))

    def _snapshot(self):
        """Copy the states as they are before guesses are read."""
        self.snap = self.lab.snapshot(self.cache)
        self.snapshots += 1
        if not self.own:
            self.own = self.snap.nbytes["own"]
            plan.admit_copies(self.lab, want="mtp.generate", length=self.snap.length, each=self.own, n=2)

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
    def _guess(self, drafts, place):
        """The head's guesses after the token at `place`; its pairs of them are cut off when true ones come."""
        guesses, made = [], getattr(self, "last", None)
        with self.lab.scopes.call():
            for n in range(drafts):
                guesses.append(int(self.lab.unembedding(made).float().argmax(-1)))
                if n + 1 < drafts:
                    at = torch.tensor([place + 1 + n])
                    made = self.ahead.read(self.lab, made, torch.tensor(guesses[-1:]), at, cache=self.pairs)
        return guesses

    def dataset(self, drafts):
        """What was written, and what it took."""
        rows = torch.tensor(self.rows, dtype=torch.long).reshape(-1, 6).T
        variables = {
            "id": (("token",), self.written, None),
            "draft": (("token",), self.origin, None),
            "gap": (("token",), torch.tensor(self.gaps), GAP),
        }
        kinds = {"drafted": TOKENS, "accepted": LENGTH, "read": TOKENS, "reread": TOKENS, "wrote": TOKENS}
        variables |= {name: (("round",), rows[n], kinds[name]) for n, name in enumerate(kinds)}
        where = torch.arange(len(self.written)) + len(self.given)
        named = ("token", list(texts(self.lab.tokenizer, torch.tensor(self.written))))
        coords = {"token": where, "token_text": named, "round": range(len(self.rows)), "layer": self.lab.spec.layers}
        facts = {"model": self.lab.name, "layer": self.lab.spec.layers, "reading": "mtp.generate", **self.proof}
        facts |= {"proven": PROVEN}
        facts |= {"prompt_length": len(self.given), "drafts": drafts, "wait": self.wait}
        facts |= {"passes": int(rows[5].sum()), "rounds": len(self.rows), "plain_passes": len(self.written) - 1}
        facts |= {"snapshots": self.snapshots, "snapshot_bytes": self.own}
        return label(variables, coords=coords, attrs=facts)


def _stops(model):
    """Ids that end a generation, as `model.generate` takes them from the checkpoint's settings."""
    ids = model.generation_config.eos_token_id
    return set() if ids is None else {ids} if isinstance(ids, int) else set(ids)
