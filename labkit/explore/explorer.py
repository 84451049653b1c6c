"""The explorer without a screen: a lab, a choice, and views of it as data with the code that makes them."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from labkit.errors import InputError, LabError
from labkit.explore import views
from labkit.explore.asks import Ask, Made, named
from labkit.explore.choices import Choice
from labkit.explore.runs import Runs, Told
from labkit.explore.toggles import Toggle, offered
from labkit.lab import Lab
from labkit.spec import ATTENTION, DELTANET

if TYPE_CHECKING:
    import xarray

READ = 64  # readings that are kept


@dataclasses.dataclass(frozen=True)
class Shown:
    """One view as it is.

    Attributes:
        view: `views.View`. data: what its call returned, or None. code: that makes the same as `ds`, as it stands.
        show: "before", "after" or "difference". error: what the call raised, as text, or None.
        missing: why there is nothing to see where that is no error; then no data either.
    """

    view: views.View
    data: "xarray.Dataset | None"
    code: str
    show: str
    error: str | None = None
    missing: str = ""


def said(error: BaseException) -> str:
    """An error in words: those of labkit say all themselves, others say also what they are."""
    return str(error) if isinstance(error, LabError) else f"{type(error).__name__}: {error}"


class Explorer:
    """What one looks at, and what is there to see.

    Args:
        lab: a lab. choice: where to begin. told: see `Runs`.

    Attributes:
        choice: what is chosen; `pick` changes it. runs: of its prompt, or None before `run`.
        left_out: a sentence on what a new prompt made impossible, or "".
    """

    def __init__(self, lab: Lab, choice: Choice | None = None, told: Told | None = None):
        self.lab, self.told, self.views = lab, told, views.of(lab.spec)
        self.choice = (choice or Choice()).fitted(self.views)
        self.runs: Runs | None = None
        self.left_out = ""
        self._read: dict[tuple, object] = {}

    @property
    def length(self) -> int | None:
        """Tokens of the prompt that was run; None before."""
        return None if self.runs is None else len(self.runs.ids)

    def run(self, prompt: str | Sequence[int] | None = None, *, keep: bool = False) -> None:
        """Read a prompt; the last token is chosen.

        Args:
            prompt: a text or token ids; None for that of the choice. keep: let the token and the answer stand, as when
                a kept choice is taken up again.

        Raises:
            LabError: whatever `lab.trace` raises; the explorer then stays as it was.
        """
        choice = self.choice if prompt is None else self.choice.picked(self.lab.spec, None, self.views, prompt=prompt)
        runs = Runs(self.lab, choice.prompt, self.told)
        length = len(runs.ids)
        fitting = tuple(each for each in choice.toggles if each.token is None or each.token < length)
        stays = keep and 0 <= choice.token < length
        answer = choice.answer if stays and (choice.answer or 0) < self.lab.spec.vocab else None
        choice = dataclasses.replace(choice, toggles=fitting, answer=answer)
        first = {"first": min(choice.first, length - 1)} if stays else {}
        place = {"token": choice.token if stays else length - 1, **first}
        made = choice.picked(self.lab.spec, length, self.views, **place)
        runs.of("mixer", made.layers(self.lab.spec))  # the pass itself, before anything is changed
        lost = len(self.choice.toggles) - len(fitting)
        self.left_out = f"{lost} of the edits were of tokens that this prompt does not have; they are off." * bool(lost)
        self.runs, self.choice, self._read = runs, made, {}

    def pick(self, **changes) -> None:
        """Choose something else: `layer`, `head`, `query_head`, `token`, `first`, a view, `show`, `toggles`, `answer`.

        Raises:
            InputError: what there is not; the prompt, which `run` takes.
        """
        if "prompt" in changes:
            raise InputError("a prompt is read, not picked", got="prompt=", hint="explorer.run(prompt)")
        self.choice = self.choice.picked(self.lab.spec, self.length, self.views, **changes)

    def toggle(self, sort: str, layer: int, head: int | None = None, token: int | None = None) -> None:
        """Switch an edit on, or off if it is on.

        Raises:
            InputError: no such edit.
        """
        on, given = self.choice.toggles, (sort, layer, head, token)
        rest = tuple(each for each in on if dataclasses.astuple(each) != given)
        self.pick(toggles=rest if len(rest) < len(on) else (*on, given))

    def offered(self) -> list[Toggle]:
        """Edits of the layers on the screen, at the chosen heads and token."""
        heads = {DELTANET: self.choice.head, ATTENTION: self.choice.query_head}
        pair, kind = self.choice.pair(self.lab.spec), self.lab.spec.kind(self.choice.layer)
        kinds = sorted(pair, key=lambda each: each != kind)
        there = [(pair[each], heads[each]) for each in kinds if pair[each] is not None]
        return [each for layer, head in there for each in offered(self.lab.spec, layer, head, self.choice.token)]

    def answer(self) -> int | None:
        """The token id whose logit is followed: the chosen one, else the likeliest before any edit."""
        if self.choice.answer is not None or self.runs is None:
            return self.choice.answer
        best = self._of(views.by_name("next"), "before")
        return int(best.best.values.flat[0])

    def shown(self, name: str, show: str | None = None) -> Shown:
        """A view as it is now.

        Args:
            name: of the view; or the name of a card, for the view that is open there.
            show: "before", "after" or "difference"; None is what is chosen. Without edits all are "before".

        Raises:
            InputError: no prompt yet, no such view. Other errors are told in `Shown.error`.
        """
        if self.runs is None:
            raise InputError("nothing was run yet", hint='lab.explore("red fox")')
        view = views.by_name(getattr(self.choice, name) if name in self.views else name)
        show = (self.choice.show if show is None else show) if self.choice.toggles else "before"
        show = "after" if view.card == "next" and show == "difference" else show  # other tokens: nothing to subtract
        missing = "" if show == "before" else view.lacks(self._place())
        if missing:
            return Shown(view, None, "", show, missing=missing)
        code, data, error = "", None, None
        try:
            ask = self._ask(view)
            numbers = views.NUMBERS.get(view.name, ())
            if show == "difference" and numbers:
                ask = dataclasses.replace(ask, keep=numbers)
            code = self._made(view).code(ask, show, view.draw)
            data = self._of(view, show, ask)
        except Exception as failed:  # whatever it is belongs into the panel
            error = said(failed)
        return Shown(view, data, code, show, error)

    @property
    def layers(self) -> list[int]:
        """The layers on the screen."""
        return self.choice.layers(self.lab.spec)

    def layer_of(self, card: str) -> int | None:
        """The layer that a card is about; None where there is none of its kind in the block."""
        return self.choice.pair(self.lab.spec).get(card)

    # ------------------------------------------------------------------------------------------------ inside

    def _ask(self, view) -> Ask:
        return view.ask(self._place(self.answer() if view.card == "stream" else None))

    def _place(self, answer=None):
        return views.Place(self.lab.spec, self.choice, self.length, answer)

    def _of(self, view, show, ask=None):
        """The data of a view, read once."""
        ask = self._ask(view) if ask is None else ask
        toggles = () if show == "before" else tuple(sorted(self.choice.toggles, key=repr))
        key = (ask.text, show, toggles)
        made = self._read.pop(key, None)
        if made is None:
            while len(self._read) >= READ:
                self._read.pop(next(iter(self._read)))
            if show == "difference":
                made = self._call(view, ask, toggles) - self._call(view, ask, ())
            else:
                made = self._call(view, ask, toggles)
        self._read[key] = made
        return made

    def _call(self, view, ask, toggles):
        part = "mixer" if view.card in (DELTANET, ATTENTION) else "stream"
        run = self.runs.of(part, self.layers, toggles)
        return ask.make(run=run, lab=self.lab)

    def _made(self, view) -> Made:
        part = "mixer" if view.card in (DELTANET, ATTENTION) else "stream"
        name, before = named(self.lab)
        options: Mapping = self.runs.options(part, self.layers)
        edits = tuple(each.ask(self.lab.spec) for each in sorted(self.choice.toggles, key=repr))
        return Made(self.choice.prompt, options, edits, name, before)
