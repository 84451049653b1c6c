"""Runs of one prompt, made when a view needs them: without edits and with them, whole or in parts that fit."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence

from labkit.explore.asks import Prompt
from labkit.explore.toggles import Toggle
from labkit.hooks import Place
from labkit.lab import Lab
from labkit.scopes import Scope
from labkit.trace import Run, decoder

LARGE = 2**30  # bytes: runs that keep more are made in parts, for the layers on the screen and for the stream
KEPT = 4  # runs at once
STREAM = ("resid_pre", "resid_post", "mixer_out", "mlp_out")  # what lens and contributions read
Told = Callable[[int, int], None]


class Runs:
    """The runs of a prompt.

    Attributes:
        lab: that makes them. prompt: of them. ids: [token]. tokens: their readable texts.
        told: called with (layers that were read, layers in all) while a run is made.
    """

    def __init__(self, lab: Lab, prompt: Prompt, told: Told | None = None):
        given = prompt if isinstance(prompt, str) else list(prompt)
        self.lab, self.prompt, self.ids, self.told = lab, prompt, lab.encode(given), told
        lab.check_room(len(self.ids))
        self.whole = lab.plan(tokens=len(self.ids), want="trace").kept <= LARGE
        self._made: dict[tuple, Run] = {}

    def options(self, part: str, layers: Sequence[int]) -> Mapping:
        """Options of `lab.trace` for a part: "mixer", these layers with all seams, or "stream", all with those four."""
        if self.whole:
            return {}
        return {"layers": sorted(layers)} if part == "mixer" else {"seams": list(STREAM)}

    def of(self, part: str, layers: Sequence[int], toggles: Sequence[Toggle] = ()) -> Run:
        """A run that holds a part, under edits.

        Raises:
            LabError: whatever `lab.trace` and `lab.edit` raise.
        """
        options, toggles = self.options(part, layers), tuple(sorted(toggles, key=repr))
        key = (repr(sorted(options.items())), toggles)
        run = self._made.pop(key, None)
        if run is None:
            while len(self._made) >= KEPT:
                self._made.pop(next(iter(self._made)))  # the one that was used least lately
            edits = [toggle.ask(self.lab.spec).make() for toggle in toggles]
            with self.lab.edit(*edits) if edits else contextlib.nullcontext(), self._watched():
                run = self.lab.trace(self.ids, **options)
        self._made[key] = run
        return run

    @contextlib.contextmanager
    def _watched(self) -> Iterator[None]:
        """While it is open, `told` hears of every layer that was read. Reads nothing, changes nothing."""
        if self.told is None:
            yield
            return
        stack, lab, told, done = decoder(self.lab.model), self.lab, self.told, 0

        def count(module, args, output):
            nonlocal done
            done = min(done + 1, len(stack.layers))
            told(done, len(stack.layers))

        with Scope(lab.scopes, lab, places=[Place(layer, "after", count) for layer in stack.layers]):
            yield
