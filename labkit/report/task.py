"""What the sections of a report share: the lab, the prompt, and runs of it that hold what is asked for."""

from collections.abc import Callable, Sequence

import torch

from labkit.families import FAMILIES
from labkit.lab import Lab
from labkit.thinking import Session

SHOWN = 300  # characters of the prompt that the page shows at each end


class Task:
    """One model and one prompt.

    Attributes:
        lab: `Lab`. ids: [T]. text: the prompt as it was given, or None of ids. session: a recorded session, or None.
    """

    def __init__(self, lab: Lab, prompt, session: Session | None = None):
        self.lab, self.session = lab, session
        self.text = prompt if isinstance(prompt, str) else None
        self.ids: torch.Tensor = lab.encode(prompt)
        self._runs, self._small, self._whole = {}, {}, None

    @property
    def spec(self):
        """Anatomy of the model."""
        return self.lab.spec

    def __len__(self):
        return len(self.ids)

    def run(self, layers: Sequence[int] | int | None = None, seams: Sequence[str] | None = None):
        """A `Run` of the prompt that holds these layers and seams: one of everything, if that fits into memory.

        Raises:
            InputError: a prompt longer than the window. BudgetError: not even this would fit.
        """
        self.lab.check_room(len(self))
        if self._whole is None:
            self._whole = self.lab.plan(tokens=len(self), want="trace").fits
        asked = {} if self._whole else {"layers": layers, "seams": seams}
        key = str(asked)
        if key not in self._runs:
            self._runs.clear()  # before the next one is made
            self._runs[key] = self.lab.trace(self.ids, **asked)
        return self._runs[key]

    def once(self, name: str, function: Callable):
        """What `function(self)` gives, computed when the first section asks: small tables that several show."""
        if name not in self._small:
            self._small[name] = function(self)
        return self._small[name]

    @property
    def answer(self) -> int:
        """The likeliest next token."""
        return int(self.run(layers=[self.spec.layers - 1], seams=["resid_post"]).logits[-1].argmax())

    def said(self, token: int) -> str:
        """A token as text; its number where there is no tokenizer."""
        return str(token) if self.lab.tokenizer is None else self.lab.tokenizer.decode([token])

    @property
    def sample(self) -> str:
        """What the numbers are of, for the line below a figure."""
        return f"one prompt of {len(self):,} token{'s' * (len(self) != 1)}"


def needs(task: Task, kind: str) -> str:
    """Why a section about a kind of layer does not apply, or nothing."""
    count = len(task.spec.deltanet_layers if kind == "deltanet" else task.spec.attention_layers)
    named = {"deltanet": "Gated DeltaNet", "attention": "attention"}[kind]
    if not count:
        return f"this model has no {named} layer"
    why = FAMILIES[task.spec.family].unread.get(kind)
    return f"{named} layers of this model have no readings: {why}" if why else ""


def fits(task: Task) -> str:
    """Why a section that runs the model does not apply, or nothing."""
    room = task.lab.window
    return "" if len(task) <= room else f"the prompt is longer than the window: {len(task):,} of {room:,} tokens"
