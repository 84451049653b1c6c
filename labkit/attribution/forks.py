"""Scores of a prompt with this or that patched: what comes before a patch is read once, what follows it many times.

    prompt            t₀ … t_f │ t_f+1 … T        the cache after t_f is forked into rows
    rows of a batch            │ patch 1 ─► score 1
                               │ patch 2 ─► score 2     one pass; each row has its own patch

A cell costs its suffix alone. Cells whose first patched tokens are near each other share a fork: the one of the first
of them is exact for all, since a patch is at its own token wherever the reading begins. States are put in place in the
fork itself, so that cells with states share the fork of their token alone.

Every unit reads one of its cells again, on its whole prompt, by `lab.edit`: how far the two scores are apart is the
parity of the sweep.
"""

from collections import defaultdict

import numpy as np
import torch

from labkit import edit
from labkit.attribution.cells import STATES, first
from labkit.lab import Lab
from labkit.plan import admit, budget, make

TOKENS = 4096  # of a batch, rows times suffix: more is no faster
SPARE = 8  # a fork may be shared by cells that begin within an eighth of its suffix


@torch.no_grad()
def scores(lab: Lab, unit: dict, *, put: str, batch: int | None) -> dict[str, np.ndarray]:
    """A unit of a sweep.

    Args:
        unit: as `cells.units` makes it. batch: rows of a pass at most; None for what is fast.

    Returns:
        score [cell], the difference of the logits of `of` and `against`; right [cell], whether `of` is first of all;
        base [score, right] of the prompt as it is; other, the score of the other one, if any; off, how far the cell
        that was read again was off, over the largest of its logits.
    """
    forks, cells, count = Forks(lab, unit, put, batch), unit["cells"], len(unit["ids"])
    found: list = [None] * len(cells)
    for fork, numbers in shared(cells, count):
        forks.read(fork)
        for n, each in zip(numbers, forks.patched([cells[n] for n in numbers], fork), strict=True):
            found[n] = each
    base = forks.end()
    found = [base if each is None else each for each in found]
    scored, right = zip(*found, strict=True)
    made = {"score": np.array(scored, np.float32), "right": np.array(right, np.float32)}
    made |= {"base": np.array(base, np.float32), "other": np.array([forks.other], np.float32)}
    return made | {"off": np.array([forks.again(cells, scored)], np.float32)}


def shared(cells: list, count: int) -> list[tuple[int, list[int]]]:
    """(fork, numbers of cells) in the order of the forks; cells that patch nothing have none."""
    groups: list[tuple[int, bool, list[int]]] = []
    for n in sorted(range(len(cells)), key=lambda n: first(cells[n], count)):
        fork, states = first(cells[n], count), any(place[0] in STATES for place in cells[n])
        if fork >= count:
            continue
        begun = groups and groups[-1]
        near = begun and fork - begun[0] <= (0 if states or begun[1] else (count - begun[0]) // SPARE)
        if near:
            begun[2].append(n)
        else:
            groups.append((fork, states, [n]))
    return [(fork, numbers) for fork, _, numbers in groups]


class Forks:
    """One prompt, read once from front to back, and branches of it.

    Attributes:
        other: score of the prompt that values come from; not-a-number without one.
    """

    def __init__(self, lab: Lab, unit: dict, put: str, batch: int | None):
        self.lab, self.put, self.batch = lab, put, batch
        self.ids, self.ends = torch.tensor(unit["ids"]), (unit["of"], unit["against"])
        self.cache, self.snap, self.done = None, None, 0
        places = [place for cell in unit["cells"] for place in cell]
        ids = self.ids if unit["other"] is None else torch.tensor(unit["other"])
        self.seams, self.other = self._values(ids, places, unit["other"] is not None)
        after = sorted({place[4][0] for place in places if place[0] in STATES}) if put == "other" else []
        self.states = self._held(ids, after, {place[1] for place in places if place[0] in STATES})

    def _values(self, ids, places, other):
        """({(layer, seam): [token, *dims]} of the prompt that values come from, its score)."""
        wanted = sorted({(place[1], place[0]) for place in places if place[0] not in STATES})
        if not other and self.put != "mean":
            return {}, float("nan")
        layers, seams = ({pair[n] for pair in wanted} for n in (0, 1))
        run = self.lab.trace(ids, layers=sorted(layers), seams=sorted(seams) if seams else None)
        return {pair: run.seams[pair] for pair in wanted}, self._score(run.logits)[0][0] if other else float("nan")

    def _held(self, ids, after, layers):
        """{token: {layer: (state, window)}} of the prompt that values come from."""
        held, cache = {}, self.lab.cache()
        for start, end in zip([0, *(t + 1 for t in after)], [t + 1 for t in after], strict=False):
            self.lab.logits(ids[None, start:end], cache=cache)
            snap = self.lab.snapshot(cache)
            if not held:
                each = sum(part[layer].nbytes for layer in layers for part in (snap.state, snap.conv))
                admit("states to patch with", len(ids), {"states": each * len(after)}, self.lab.device)
            held[end - 1] = {layer: (snap.state[layer], snap.conv[layer]) for layer in layers}
        return held

    def read(self, fork: int) -> None:
        """Read the prompt up to a fork, which is not before the last one."""
        if fork > self.done:
            self.cache = self.cache or self.lab.cache(room=len(self.ids))
            self.last = self.lab.logits(self.ids[None, self.done : fork], cache=self.cache)
            self.done, self.snap = fork, self.lab.snapshot(self.cache)

    def end(self) -> tuple[float, bool]:
        """(score, whether the answer is first) of the prompt as it is."""
        self.read(len(self.ids))
        return self._score(self.last)[0]

    def patched(self, cells: list, fork: int) -> list[tuple[float, bool]]:
        """(score, whether the answer is first) of cells, from the fork that was read last."""
        rows, found = self._rows(len(cells), fork), []
        for start in range(0, len(cells), rows):
            some = cells[start : start + rows]
            cache = None if fork == 0 else self._forked(some)
            with self.lab.edit(*self._edits(some)):
                found += self._score(self.lab.logits(self.ids[None, fork:].expand(len(some), -1), cache=cache))
        return found

    def again(self, cells: list, scored: tuple[float, ...]) -> float:
        """How far the score of the first cell that patches something is off on the whole prompt, over its logits."""
        n = next((n for n, cell in enumerate(cells) if cell), None)
        if n is None:
            return 0.0
        with self.lab.edit(*self._edits(cells[n : n + 1]), *self._state_edits(cells[n])):
            logits = self.lab.logits(self.ids[None])
        return abs(self._score(logits)[0][0] - scored[n]) / float(logits.abs().max().clamp(min=1e-30))

    def _score(self, logits):
        logits, (of, against) = logits.float(), self.ends
        return list(zip((logits[:, of] - logits[:, against]).tolist(), (logits.argmax(-1) == of).tolist(), strict=True))

    def _rows(self, most, fork):
        """Rows of a batch: as many as are fast, and fit."""
        suffix = len(self.ids) - fork
        rows = min(most, max(1, TOKENS // suffix) if self.batch is None else self.batch)
        own = 0 if self.snap is None else self.snap.nbytes["own"]
        peak = lambda n: make(self.lab, prompts=n, tokens=suffix, want="logits", cached=fork or None).peak + n * own  # noqa: E731
        free, _ = budget(self.lab.device)
        while rows > 1 and peak(rows) > free:
            rows = rows // 2
        admit("a branch of a sweep", len(self.ids), {"branch": peak(1)}, self.lab.device) if rows == 1 else None
        return rows

    def _forked(self, cells):
        """A cache of a row for each cell, with its states."""
        stack = self.snap.stacked(len(cells))
        for row, cell in enumerate(cells):
            for place in cell:
                if place[0] in STATES:
                    self._put_state(stack.state[place[1]][row], stack.conv[place[1]][row], place)
        return self.lab.restore(stack)

    def _put_state(self, state, window, place):
        """Put in place what a cell says about a layer's state [head, key, value] or window [channel, taps]."""
        seam, layer, head, _, source = place
        held = window if seam == "window" else state if head is None else state[head]
        if self.put == "zero":
            return held.zero_()
        new = self.states[source[0]][layer][seam == "window"][0]
        return held.copy_(new if head is None else new[head])

    def _state_edits(self, cell):
        """The same as edits of a whole prompt."""
        for place in cell:
            if place[0] in STATES:

                def change(x, place=place):
                    for each in x:
                        self._put_state(each, each, place)
                    return x

                named = {"window": change} if place[0] == "window" else {"change": change}
                yield edit.StateEdit(place[1], place[3][0], **named)

    def _edits(self, cells):
        """One edit for every seam that some row is patched at."""
        entries = defaultdict(list)
        for row, cell in enumerate(cells):
            for seam, layer, head, tokens, source in cell:
                if seam not in STATES:
                    entries[layer, seam].append((row, head, tokens, source))
        for (layer, seam), some in entries.items():
            tokens = sorted({token for _, _, tokens, _ in some for token in tokens})
            change = Rows(some, self.seams.get((layer, seam)), self.put).change
            yield edit.function(change, seam=seam, layer=layer, tokens=tokens, name="cells")


class Rows:
    """What is put at one seam, in each row where its cell says.

    Args:
        entries: (row, head or None, tokens, source) of each place. values: [token, *dims] that they come from, or None.
    """

    def __init__(self, entries: list, values: torch.Tensor | None, put: str):
        self.parts = []
        for headed in (False, True):
            if some := [entry for entry in entries if (entry[1] is not None) == headed]:
                places = [
                    (r, t, h or 0, s) for r, h, tokens, source in some for t, s in zip(tokens, source, strict=True)
                ]
                row, token, head, source = torch.tensor(places).T
                self.parts.append((row, token, head if headed else None, self._new(values, put, head, source, headed)))

    @staticmethod
    def _new(values, put, head, source, headed):
        if put == "zero":
            return torch.zeros(())
        if put == "mean":
            mean = values.float().mean(0).to(values.dtype)
            return mean[head.to(values.device)] if headed else mean.expand(len(head), *mean.shape)
        where = source.to(values.device)
        return values[where, head.to(values.device)] if headed else values[where]

    def change(self, x: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """As `edit.function` takes it: x [row, token, *dims], positions [row, token]."""
        start = int(positions[0, 0])
        for row, token, head, new in self.parts:
            inside = (token >= start) & (token < start + x.shape[1])
            at = tuple(each[inside].to(x.device) for each in (row, token - start, head) if each is not None)
            x[at] = (new if new.ndim == 0 else new[inside.to(new.device)]).to(x)
        return x
