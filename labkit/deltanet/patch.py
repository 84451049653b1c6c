"""Which heads hold a fact: exchange one head's state for that of another prompt, go on, and see what is said.

Two prefixes that differ in one fact (the clean one states what the question asks for, the other something else) are
read once each. For every layer and head a branch forks from the other prefix's snapshot, takes that one state from
the clean one, and reads the suffix: T + N·s token passes instead of N·(T + s). All branches of a batch run together;
keys and values are shared. Activation patching: arXiv 2404.15255; here of recurrent states, which propagates.

Parity is that of what is exchanged: the states of both prefixes in the first of the layers, recomputed from the seams
by the rule, against those in the snapshots.
"""

from collections.abc import Callable, Sequence

import torch

from labkit.arguments import whole
from labkit.calling import public
from labkit.deltanet.equation import delta_rule
from labkit.deltanet.recompute import SEAMS, inputs
from labkit.errors import InputError
from labkit.lab import Lab
from labkit.notation import Quantity, is_index, label, select
from labkit.plan import admit, make
from labkit.trace import layers_of, texts

SCORE = Quantity("s", "score of the answer", "1", "signed", "arXiv 2404.15255")
EFFECT = Quantity("Δ", "share of the way from the other prompt to the clean one", "1", "signed", "arXiv 2404.15255")
Prompt = str | Sequence[int] | torch.Tensor
Score = Callable[[torch.Tensor], torch.Tensor] | tuple[int, int]


@public
@torch.no_grad()
def patch_states(
    lab: Lab,
    clean: Prompt,
    other: Prompt,
    suffix: Prompt,
    *,
    score: Score,
    layers: int | Sequence[int] | None = None,
    heads: int | Sequence[int] | None = None,
    tokens: int | Sequence[int] | None = None,
    window: bool = False,
    batch: int = 64,
) -> "xarray.Dataset":  # noqa: F821
    """The effect of each head's state.

    Args:
        clean, other: two prefixes, text or ids.
        suffix: what follows both, text or ids; the answer is what the model says after it.
        score: `(logits [branch, vocab]) -> [branch]`, or a pair (right, wrong) of token ids, whose logit difference is
            taken.
        layers: DeltaNet layers; None for all. heads: value heads; None for all.
        tokens: after which token of the prefixes the states are exchanged; what follows it in `other` is then read
            before the suffix. An int, or several for an axis `token`; negative from the end of the shorter prefix;
            None for where each prefix ends.
        window: also take the clean convolution window of the layer, with every head.
        batch: branches that run together.

    Returns:
        Dataset: `score` (layer, head), or (layer, head, token); `effect`, the share of the way from `other` (0) to
        `clean` (1) that the one state goes; scores of the two unpatched prompts in `attrs["clean"]` and
        `attrs["other"]`.

    Raises:
        InputError: an empty part, a layer, head or token out of range. LayerError: a layer without a state.
        ParityError: a state that the rule does not give. BudgetError: branches that would not fit.
    """
    spec = lab.spec
    instead = 'edit.patch("v", layer={layer}, run=run)'
    layers = layers_of(spec, layers, "deltanet", "deltanet.patch_states", instead)
    heads = select(heads, spec.value_heads, "head")
    sets = [[(layer, head)] for layer in layers for head in heads]
    sweep = _Sweep(lab, clean, other, suffix, score, window, batch, layers[0])
    at = select(-1 if tokens is None else tokens, sweep.length, "token")
    scores = torch.stack([sweep.scores(sets, after=None if tokens is None else t) for t in at], -1)
    dims, ids = ("layer", "head", "token"), lab.encode(other)[at]
    coords = {"token": at, "token_text": ("token", list(texts(lab.tokenizer, ids))), "layer": layers, "head": heads}
    data = sweep.labelled("deltanet.patch_states", dims, scores.view(len(layers), len(heads), -1), coords)
    return data.isel(token=0, drop=tokens is None) if tokens is None or is_index(tokens) else data


@public
@torch.no_grad()
def patch_together(
    lab: Lab,
    clean: Prompt,
    other: Prompt,
    suffix: Prompt,
    *,
    score: Score,
    sets: Sequence[Sequence[tuple[int, int]]],
    window: bool = False,
    batch: int = 64,
) -> "xarray.Dataset":  # noqa: F821
    """The effect of several heads' states at once, as `patch_states` has it for one.

    Args:
        clean, other, suffix, score, window, batch: as for `patch_states`.
        sets: sets of places, each a list of (layer, head) whose states are exchanged in the same branch. A set and the
            set of all other heads say whether the first is enough for the answer, and whether the answer needs it.

    Returns:
        Dataset: `score` and `effect` over step, one per set.

    Raises:
        InputError: a place that is no head with a state. ParityError: a state that the rule does not give.
    """
    known = {(layer, head) for layer in lab.spec.deltanet_layers for head in range(lab.spec.value_heads)}
    sets = [[tuple(place) for place in places] for places in sets]
    if wrong := [place for places in sets for place in places if place not in known]:
        raise InputError("no such (layer, head) with a state", got=wrong, expected=f"layers {lab.spec.deltanet_layers}")
    first = next((layer for places in sets for layer, _ in places), lab.spec.deltanet_layers[0])
    sweep = _Sweep(lab, clean, other, suffix, score, window, batch, first)
    scores = sweep.scores(sets, after=None)
    return sweep.labelled("deltanet.patch_together", ("step",), scores, {"step": range(len(sets))})


class _Sweep:
    """Two prefixes, read once, and the scores of branches of the second with states of the first."""

    def __init__(self, lab, clean, other, suffix, score, window, batch, layer):
        self.lab, self.window, self.layer = lab, window, layer
        self.batch = whole(batch, "batch", least=1)
        self.judge = _difference(*score) if isinstance(score, tuple | list) else score
        self.prefixes, self.suffix = [lab.encode(prefix) for prefix in (clean, other)], lab.encode(suffix)
        self.length = min(map(len, self.prefixes))
        longest = max(map(len, self.prefixes)) + len(self.suffix)
        if longest > lab.window:
            raise InputError(
                "longer than the model's window", got=f"{longest} tokens", expected=f"at most {lab.window}"
            )
        self.parities = []
        self.whole = [self._read(prefix) for prefix in self.prefixes]
        ends = [float(self.judge(self._branches(snap, self.suffix, 1, ()))[0]) for snap in self.whole]
        self.ends = dict(zip(("clean", "other"), ends, strict=True))

    def scores(self, sets: Sequence, after: int | None) -> torch.Tensor:
        """Score of every set [branch], its states exchanged after a token; None means where each prefix ends."""
        if after is None:
            (source, snap), rest = self.whole, self.suffix
        else:
            source, snap = (self._read(prefix[: after + 1]) for prefix in self.prefixes)
            rest = torch.cat([self.prefixes[1][after + 1 :], self.suffix])
        scores = []
        for first in range(0, len(sets), self.batch):
            chosen = sets[first : first + self.batch]
            exchanged = [(row, *place) for row, places in enumerate(chosen) for place in places]
            scores.append(self.judge(self._branches(snap, rest, len(chosen), exchanged, source)).float().cpu())
        return torch.cat(scores)

    def labelled(self, name: str, dims: Sequence[str], score: torch.Tensor, coords: dict) -> "xarray.Dataset":  # noqa: F821
        """Score and effect: the share of the way from the other prompt (0) to the clean one (1); NaN if both agree."""
        clean, other = self.ends["clean"], self.ends["other"]
        effect = (score - other) / (clean - other) if clean != other else score * float("nan")
        parity = max(self.parities, key=lambda facts: facts["parity"])
        facts = {"model": self.lab.name, "reading": name} | parity | self.ends
        return label({"score": (dims, score, SCORE), "effect": (dims, effect, EFFECT)}, coords=coords, attrs=facts)

    def _read(self, prefix):
        cache = self.lab.cache()
        seams = self.lab.spec.having("deltanet", SEAMS)
        run = self.lab.trace(prefix, layers=[self.layer], seams=seams, cache=cache)
        snap = self.lab.snapshot(cache)
        _, state = delta_rule(**vars(inputs(run, self.layer)), outputs=False)
        held = snap.state[self.layer][0].to(run.seams[self.layer, "read"])  # as exact as what it came from
        self.parities.append(run.check_parity(self.layer, "deltanet.patch_states", state, held))
        return snap

    def _branches(self, snap, suffix, n, exchanged, source=None):
        """Logits [branch, vocab] after the suffix, from n branches of a snapshot with some states exchanged."""
        self._admit(snap, len(suffix), n)
        stack = snap.stacked(n)
        for row, layer, head in exchanged:
            stack.state[layer][row, head] = source.state[layer][0, head]
            if self.window:
                stack.conv[layer][row] = source.conv[layer][0]
        ids, cache = suffix[None].expand(n, -1), self.lab.restore(stack)
        return self.lab.logits(ids, cache=cache).float()

    def _admit(self, snap, tokens, n):
        """Refuse so many branches whose copies of states, and of keys and values in the pass, would not fit."""
        sizes, own = dict(tokens=tokens, want="logits", cached=snap.length), snap.nbytes["own"]
        peaks = {rows: make(self.lab, prompts=rows, **sizes).peak + rows * own for rows in (n, 8, 1) if rows <= n}
        ways = [(f"batch={rows}", peak) for rows, peak in peaks.items() if rows < n]
        admit(f"{n} branches", tokens, {"branches": peaks[n]}, self.lab.device, ways)


def _difference(right, wrong):
    if right == wrong:
        raise InputError("the right and the wrong answer are the same token", got=right)
    return lambda logits: logits[:, right] - logits[:, wrong]
