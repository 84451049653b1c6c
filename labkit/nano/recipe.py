"""How nano is trained: the curriculum of `lessons`, answers weighing ten times, the multi-token-prediction layer last.

One seed, one thread and one machine repeat every number; other machines diverge after some hundred steps, so the
checkpoint is stored and never trained again by a test.
"""

import contextlib
import dataclasses
import json
import pathlib
import random
from collections.abc import Iterator

import torch
import torch.nn.functional as F

from labkit.errors import InputError
from labkit.nano import FOLDER, tokens
from labkit.nano.lessons import LESSONS, Deck
from labkit.nano.shape import fresh
from labkit.progress import counter

ANSWER_WEIGHT, MTP_WEIGHT = 10.0, 0.2
WARM, COOL = 50, 0.3  # steps of rising rate; share of all tokens over which it falls to 0
MEMORY = 0.98  # of the running accuracies


@dataclasses.dataclass
class Progress:
    """Where training stands; saved with the weights. `begun` is the token at which its lesson began, `held` the running
    accuracy of each (lesson, task).
    """

    step: int = 0
    tokens: int = 0
    lesson: int = 0
    begun: int = 0
    held: dict = dataclasses.field(default_factory=dict)


class Training:
    """Everything that changes while nano is trained, and lies in its folder: `state.pt`, `log.jsonl`, `tokenizer.json`.

    Args:
        folder: made if it is not there; what lies there is continued.
        total: tokens of the whole training; the rate falls to 0 over the last of them.
        seed: of the data. rate: of the optimiser.
        device: None takes the accelerator if there is one.
        lessons: the curriculum.
    """

    def __init__(self, folder, *, total, seed=1, rate=1e-3, device=None, lessons=LESSONS):
        self.folder, self.total, self.rate, self.lessons = pathlib.Path(folder), total, rate, lessons
        self.folder.mkdir(parents=True, exist_ok=True)
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        texts = tokens.corpus()
        tokenizer = tokens.build(texts)
        tokenizer.save(str(self.folder / "tokenizer.json"))
        self.seed, self.deck = seed, Deck(tokenizer, plain_text(tokenizer, texts), random.Random(seed), lessons)
        self.model, self.mtp = (part.to(self.device).train() for part in fresh())
        self.at = Progress()
        weights = [*self.model.parameters(), *self.mtp.parameters()]
        groups = [[w for w in weights if (w.ndim >= 2) == wide] for wide in (True, False)]
        self.optimizer = torch.optim.AdamW(
            [{"params": group, "weight_decay": decay} for group, decay in zip(groups, (0.05, 0.0), strict=True)],
            lr=rate,
            betas=(0.9, 0.95),
        )
        if (self.folder / "state.pt").exists():
            self._resume()

    def run(self, *, save_every: int = 200, progress: bool = True) -> "Training":
        """Train until `total` tokens; a stop at any moment loses at most `save_every` steps."""
        with (
            open(self.folder / "log.jsonl", "a", encoding="utf-8") as log,
            counter(total=self.total, done=self.at.tokens, unit="tok", show=progress) as bar,
        ):
            while self.at.tokens < self.total:
                facts = self.step()
                log.write(json.dumps(facts) + "\n")
                log.flush()
                bar.update(facts["new"])
                bar.set_postfix(lesson=self.at.lesson, loss=f"{facts['loss']:.3f}", **self._shown())
                if self.at.step % save_every == 0 or self.at.tokens >= self.total:
                    self.save()
        return self

    def step(self) -> dict:
        """One batch; returns what the log says of it."""
        last = self.at.lesson == len(self.lessons) - 1
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate * min(1, (self.at.step + 1) / WARM, (1 - self.at.tokens / self.total) / COOL)
        names, *parts = self.deck.batch(self.at.lesson)
        ids, answers, real, heard = (part.to(self.device) for part in parts)
        with silenced(self.model, heard):
            hidden = self.model.model(ids, use_cache=False).last_hidden_state
        logits = self.model.lm_head(hidden[:, :-1]).float()
        loss = _weighed(logits, ids[:, 1:], answers[:, 1:], real[:, 1:])
        whole = loss
        if last:
            ahead = self.mtp(self.model, ids, hidden)[:, :-1].float()
            whole = loss + MTP_WEIGHT * _weighed(ahead, ids[:, 2:], answers[:, 2:], real[:, 2:])
        self.optimizer.zero_grad()
        whole.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        torch.nn.utils.clip_grad_norm_(self.mtp.parameters(), 1.0)
        self.optimizer.step()
        self._note(names, logits.argmax(-1) == ids[:, 1:], answers[:, 1:])
        self.at.step, self.at.tokens = self.at.step + 1, self.at.tokens + ids.numel()
        facts = {"step": self.at.step, "tokens": self.at.tokens, "new": ids.numel(), "lesson": self.at.lesson}
        facts |= {"loss": round(loss.item(), 5), "whole": round(whole.item(), 5)}
        if self.at.step % 50 == 0:
            facts["held"] = {f"{lesson} {name}": round(share, 4) for (lesson, name), share in self.at.held.items()}
        return facts

    def _note(self, names, right, answers):
        for name, good, marks in zip(names, right, answers, strict=True):
            if marks.any():
                share = good[marks].float().mean().item()
                self.at.held[name] = MEMORY * self.at.held.get(name, 0.0) + (1 - MEMORY) * share
        lesson = self.lessons[self.at.lesson]
        wanted = {(self.at.lesson, name) for name, _ in lesson.tasks} - {(self.at.lesson, n) for n in SILENT}
        learnt = all(self.at.held.get(name, 0.0) >= lesson.holds for name in wanted)
        overdue = self.at.tokens - self.at.begun > lesson.most
        if (learnt or overdue) and self.at.lesson + 1 < len(self.lessons):
            self.at.lesson, self.at.begun = self.at.lesson + 1, self.at.tokens

    def _shown(self):
        return {name: f"{share:.2f}" for (lesson, name), share in self.at.held.items() if lesson == self.at.lesson}

    def save(self) -> None:
        """Write `state.pt`; a kill at any moment leaves the old one or the new one."""
        draft = self.folder / "state.pt.new"
        state = {"model": self.model.state_dict(), "mtp": self.mtp.state_dict()}
        state |= {"seed": self.seed, "optimizer": self.optimizer.state_dict(), "draw": self.deck.draw.getstate()}
        torch.save(state | {"progress": dataclasses.asdict(self.at)}, draft)
        draft.replace(self.folder / "state.pt")

    def _resume(self):
        state = torch.load(self.folder / "state.pt", weights_only=True, map_location=self.device)
        self.model.load_state_dict(state["model"])
        self.mtp.load_state_dict(state["mtp"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.deck.draw.setstate(state["draw"])
        if state["seed"] != self.seed:
            raise InputError("this folder holds another training", got=f"seed {state['seed']}", expected=self.seed)
        self.at = Progress(**state["progress"])


def plain_text(tokenizer, texts: list[str] | None = None) -> list[int]:
    """Token ids of all docstrings, a blank line after each."""
    return [i for passage in texts or tokens.corpus() for i in tokenizer.encode(passage + "\n\n").ids]


def embedded() -> tuple:
    """(model, mtp) of the checkpoint in this folder, on the CPU, in eval mode."""
    from safetensors.torch import load_file

    weights = load_file(FOLDER / "model.safetensors")
    model, mtp = fresh()
    tied = {"lm_head.weight": weights["model.embed_tokens.weight"]}
    model.load_state_dict(tied | {name: weight for name, weight in weights.items() if not name.startswith("mtp.")})
    mtp.load_state_dict({name[4:]: weight for name, weight in weights.items() if name.startswith("mtp.")})
    return model.eval(), mtp.eval()


@contextlib.contextmanager
def silenced(model, heard: torch.Tensor) -> Iterator[None]:
    """The model with the attention mixers of rows whose `heard` [batch] is 0 silenced, while the block lasts."""

    def soften(module, args, output):
        return (output[0] * heard[:, None, None], *output[1:])

    with contextlib.ExitStack() as scope:
        if not heard.all():
            for layer in model.model.layers:
                if hasattr(layer, "self_attn"):
                    scope.callback(layer.self_attn.register_forward_hook(soften).remove)
        yield


SILENT = ("story", "docstrings")  # tasks without answers


def _weighed(logits, ids, answers, real):
    """Cross entropy in which answers weigh ten times and padding nothing."""
    each = F.cross_entropy(logits.flatten(0, 1), ids.flatten(), reduction="none").view_as(ids)
    weight = (1 + (ANSWER_WEIGHT - 1) * answers) * real
    return (each * weight).sum() / weight.sum()


def trained(folder: str | pathlib.Path) -> tuple:
    """(model, mtp) of a training folder, on the CPU, in eval mode."""
    state = torch.load(pathlib.Path(folder) / "state.pt", weights_only=True, map_location="cpu")
    model, mtp = fresh()
    model.load_state_dict(state["model"])
    mtp.load_state_dict(state["mtp"])
    return model.eval(), mtp.eval()
