"""The explorer on a screen: an anywidget of `pictures.js`, `panel.js` and `panel.css`; they ask nothing of a network.

The page sends what was clicked, `{"number", "do", ...}`; the kernel answers with everything that is to be seen, in
`shown`, together with that number. While a run is made, `progress` says how far it is.
"""

import pathlib
import time
from collections.abc import Sequence

import anywidget
import traitlets

from labkit.draw.theme import KIND
from labkit.errors import LabError
from labkit.explore import kept
from labkit.explore.choices import CARDS, SHOWS, Choice
from labkit.explore.explorer import Explorer, said
from labkit.explore.forms import form, ribbon, written
from labkit.explore.stopping import listening
from labkit.explore.views import absent, by_name, spoken
from labkit.lab import Lab
from labkit.signs import inert
from labkit.spec import DELTANET

HERE = pathlib.Path(__file__).parent
NOWHERE = (
    "shown as the last value of a cell in JupyterLab, Notebook 7 or VS Code; elsewhere panel.explorer has its data"
)
PAUSE = 0.1  # seconds between two words on progress


class Panel(anywidget.AnyWidget):
    """Made by `lab.explore`.

    Attributes:
        explorer: what is looked at, without the screen. path: of the file that keeps the choice, or None.
        shown: what the page draws. prompt: the text of its field, and `code`, as code has it.
        progress: of a run, `{"done", "of"}`, or {}. given: the prompt of the cell. note: a line to begin with.
    """

    _esm = "\n".join((HERE / name).read_text("utf-8") for name in ("pictures.js", "panel.js"))
    _css = (HERE / "panel.css").read_text("utf-8")
    shown = traitlets.Dict().tag(sync=True)
    prompt = traitlets.Dict().tag(sync=True)
    progress = traitlets.Dict().tag(sync=True)

    def __init__(self, explorer: Explorer, path: pathlib.Path | None = None, given: object = None, note: str = ""):
        super().__init__()
        self.explorer, self.path, self.given, self.note = explorer, path, given, note
        explorer.told, self._said, self._heard = self._tell, 0.0, None
        self._draw(None)
        self.on_msg(lambda _, content, buffers: self.answer(content))

    def __repr__(self):
        choice, spec = self.explorer.choice, self.explorer.lab.spec
        kind = spec.kind(choice.layer)
        head = choice.head if kind == DELTANET else choice.query_head
        at = f"layer {choice.layer}, head {head}, token {choice.token}" if self.explorer.runs else "nothing run yet"
        return f"Panel({self.explorer.lab.name}, {at}): {NOWHERE}"

    def answer(self, content: object) -> None:
        """Do what the page asks, and show what comes of it; an error is shown, an interrupt leaves all as it was.

        Args:
            content: `{"number": n, "do": "ready", "run", "pick" or "toggle"}`, with `prompt`, `changes` or `toggle`.
        """
        with listening() as self._heard:
            self._answer(content if isinstance(content, dict) else {})

    def _answer(self, content):
        number, problem = content.get("number"), ""
        try:
            self._do(content)
        except KeyboardInterrupt:
            problem = "Interrupted. What was there before is still here."
        except Exception as error:  # of the user's model, prompt or disk: it belongs into the panel
            problem = said(error)
        self.progress = {}
        try:
            self._draw(number, problem)
        except KeyboardInterrupt:
            self._draw(number, "Interrupted while views were made. Click again to make them.", views=False)
        if not problem and content.get("do") != "ready":
            self._keep()

    def _do(self, content):
        do, explorer = content.get("do"), self.explorer
        if do == "ready":
            if explorer.runs is None and explorer.choice.prompt not in ("", ()):
                explorer.run(keep=True)
            return
        if do == "run":
            explorer.run(_prompt(explorer.lab, content.get("prompt", "")))
        elif do == "pick":
            explorer.pick(**dict(content.get("changes", {})))
        elif do == "toggle":
            explorer.toggle(*content.get("toggle", []))
        self.note = ""

    def _keep(self):
        if self.path is None:
            return
        try:
            kept.write(self.path, self.explorer.choice, model=self.explorer.lab.name, given=self.given)
        except LabError as error:
            self.path, self.shown = None, self.shown | {"note": f"{error} It will not be tried again."}

    def _tell(self, done, of):
        if self._heard is not None and self._heard.is_set():
            self._heard.clear()  # once: what was there before is drawn again, which may need a run
            raise KeyboardInterrupt
        now = time.monotonic()
        if done == 1 or done == of or now - self._said > PAUSE:
            self._said, self.progress = now, {"done": done, "of": of}

    def _draw(self, number, problem="", *, views=True):
        explorer, spec = self.explorer, self.explorer.lab.spec
        choice = explorer.choice
        facts = {
            "number": number,
            "problem": problem,
            "note": " ".join(filter(None, [self.note, explorer.left_out])),
            "model": explorer.lab.name,
            "kinds": list(spec.kinds),
            "spoken": spoken(spec),
            "colours": KIND,
            "heads": {"deltanet": spec.value_heads, "attention": spec.query_heads},
            "ids": explorer.lab.tokenizer is None,
            "choice": choice.facts() | {"prompt": None},
            "pair": choice.pair(spec),
            "shows": list(SHOWS),
            "tabs": {
                card: [{"name": name, "title": by_name(name).title} for name in explorer.views[card]] for card in CARDS
            },
            "touched": sorted({toggle.layer for toggle in choice.toggles}),
            "ran": explorer.runs is not None,
        }
        if explorer.runs is not None and views:
            facts |= self._views(choice)
        self.prompt = {"text": _words(choice.prompt), "code": written(choice.prompt)}
        self.shown = facts

    def _views(self, choice):
        explorer, on = self.explorer, set(choice.toggles)
        there = [card for card in CARDS if card == "stream" or explorer.layer_of(card) is not None]
        offered = explorer.offered()
        listed = [*offered, *(each for each in choice.toggles if each not in offered)]
        return {
            "absent": {card: absent(explorer.lab.spec, card) for card in CARDS if card not in there},
            "cards": {card: form(explorer, explorer.shown(card)) for card in there},
            "next": [form(explorer, explorer.shown("next", show)) for show in ("before", "after")[: 1 + bool(on)]],
            "ribbon": ribbon(explorer),
            "answer": explorer.answer(),
            "edits": [
                {"toggle": [each.sort, each.layer, each.head, each.token], "words": each.words(), "on": each in on}
                for each in listed
            ],
        }


def _words(prompt):
    return prompt if isinstance(prompt, str) else " ".join(map(str, prompt))


def _prompt(lab, text):
    """What a page's field holds: a text, or token ids of a lab without a tokenizer."""
    if lab.tokenizer is not None or not isinstance(text, str):
        return text
    words = text.replace(",", " ").split()
    return [int(word) if word.isdecimal() else word for word in words]


def opened(lab: Lab, prompt: str | Sequence[int] | None = None, *, name: str | None = "explore", **changes) -> Panel:
    """A panel to click through a prompt: layers, heads, tokens, both kinds of a block, edits as switches.

    What is chosen (prompt, layer, head, token, views, edits) is kept in the file `.labkit/explore/NAME.json` beside the
    notebook, at every click: a widget's own state is gone with the kernel. After a restart the same cell shows the same
    place again. What the cell gives anew, another prompt or layer than last time, wins over what was kept. Two panels
    of one folder need two names.

    Args:
        lab: a lab. prompt: a text or token ids, read once the panel is on a screen; None for the one that was kept.
        name: of the file; None keeps nothing.
        changes: where to begin: layer=, head=, query_head=, token=, and views by name, as of `Choice`.

    Returns:
        `Panel`; end a cell with it, in JupyterLab, Notebook 7 or VS Code. Its `explorer` has the same views as data.

    Raises:
        InputError: a name that is no plain word; a layer, head, token or view that there is not.
    """
    explorer, note = Explorer(lab), ""
    path = None if name is None else kept.place(name)
    given = Choice().picked(lab.spec, None, explorer.views, prompt="" if prompt is None else prompt, **changes)
    told = None if prompt is None and not changes else inert_facts(given)
    found = None
    if path is not None:
        found, note = kept.taken_up(path, lab.spec, explorer.views, model=lab.name, given=told)
    explorer.choice = (given if found is None else found).fitted(explorer.views)
    return Panel(explorer, path, told, inert(note))


def inert_facts(choice: Choice) -> dict:
    """What a cell gave, as JSON holds it, to be compared with what it gives next time."""
    return {key: value for key, value in choice.facts().items() if value != Choice().facts()[key]}
