"""Guess first: a question that is answered before the output exists, kept, and held against what came out.

    guess = check.predict("what does the memory say for the first key?", among=("its value", "nothing", "both values"))
    guess.see("both values")

`predict` shows the question with something to press; `see`, in the cell that computes the answer, shows both. Without
a guess the answer is folded away in a notebook, and printed where there is none. Nothing is written to disk or sent.
"""

import html
import math
from collections.abc import Mapping, Sequence

from labkit.errors import InputError

NEAR = 0.1  # a guessed number counts as right within this share of the answer
LETTERS = "abcdefgh"


class Prediction:
    """A question and the guess that was made; from `predict`.

    Attributes:
        question: its text. choices: texts to choose from, none if a number is asked for. unit: of the number.
        guess: a text of `choices`, a number, or None as long as there is none; may be set by hand as well.
    """

    def __init__(self, question: str, choices: Mapping | None, unit: str):
        self.question, self.choices, self.unit = question, choices, unit
        self.guess, self._box = None, None

    def see(self, answer) -> "Seen":
        """The answer beside the guess.

        Args:
            answer: one of the choices, or the number that stands behind one, of which the nearest is right; or the
                number that was asked for.

        Raises:
            InputError: none of the choices, or no number where one was asked for.
        """
        if self.choices is None:
            if isinstance(answer, str) or not math.isfinite(float(answer)):
                raise InputError("the answer is no number", got=repr(answer), expected=f"a number ({self.unit})")
            return Seen(self, float(answer), None)
        return Seen(self, answer, self._right(answer))

    def _right(self, answer):
        if isinstance(answer, str):
            if answer not in self.choices:
                raise InputError("the answer is none of the choices", got=answer, expected=" | ".join(self.choices))
            return answer
        numbers = {text: value for text, value in self.choices.items() if value is not None}
        if not numbers:
            raise InputError("these choices are texts", got=repr(answer), expected=" | ".join(self.choices))
        return min(numbers, key=lambda text: abs(numbers[text] - float(answer)))

    def _widget(self):
        import ipywidgets

        if self._box is None:
            wide = {"width": "max-content"}
            if self.choices is None:
                field = ipywidgets.FloatText(value=0, description="your guess", layout={"width": "14em"})
            else:
                field = ipywidgets.RadioButtons(options=list(self.choices), value=None, layout=wide)
            button = ipywidgets.Button(description="This is my guess", tooltip="keep the guess; run the next cell then")
            said = ipywidgets.HTML()

            def keep(_):
                if field.value is None:
                    said.value = "choose one first"
                    return
                self.guess = field.value
                said.value = f"kept: <b>{html.escape(str(self.guess))}</b>. Now run the next cell."

            button.on_click(keep)
            head = ipywidgets.HTML(f"<b>{html.escape(self.question)}</b>")
            self._box = ipywidgets.VBox([head, field, ipywidgets.HBox([button, said])])
        return self._box

    def _repr_mimebundle_(self, **kwargs):
        bundle = self._widget()._repr_mimebundle_(**kwargs)
        bundle = bundle[0] if isinstance(bundle, tuple) else bundle
        return bundle | {"text/plain": repr(self)}

    def __repr__(self):
        rows = [f"  {letter}) {text}" for letter, text in zip(LETTERS, self.choices or (), strict=False)]
        return "\n".join([f"Guess first: {self.question}", *(rows or [f"  a number ({self.unit})"])])


class Seen:
    """The answer to a prediction, the choice that it makes right, and the guess; from `Prediction.see`.

    Attributes:
        answer: what was computed. right: whether the guess was; None without one.
    """

    def __init__(self, prediction: Prediction, answer, choice):
        self.answer, self._choice, self._guess, self._unit = answer, choice, prediction.guess, prediction.unit
        self.right = None if self._guess is None else self._agrees()

    def _agrees(self):
        if self._choice is not None:
            return self._guess == self._choice
        return math.isclose(self._guess, self.answer, rel_tol=NEAR, abs_tol=1e-12)

    def _text(self):
        if self._choice is None:
            return f"{self.answer:.4g} {self._unit}".strip()
        return self._choice if isinstance(self.answer, str) else f"{self._choice} ({float(self.answer):.4g})"

    def __repr__(self):
        if self._guess is None:
            return f"Answer: {self._text()}"
        guess = self._guess if isinstance(self._guess, str) else f"{self._guess:.4g}"
        return f"Answer: {self._text()}\nYou guessed {guess}: {'right' if self.right else 'not so'}"

    def _repr_html_(self):
        text = html.escape(repr(self)).replace("\n", "<br>")
        if self._guess is not None:
            return f"<p>{text}</p>"
        return (
            f"<details><summary>No guess was kept. Guess above and run this again, or open.</summary>{text}</details>"
        )


def predict(
    question: str, *, among: Sequence[str] | Mapping[str, float | None] | None = None, unit: str = ""
) -> Prediction:
    """Ask for a guess, before the cell that computes the answer.

    Args:
        question: a sentence with a question mark.
        among: two to eight texts to choose from; with a number behind each where `see` will be given one. None asks
            for a number.
        unit: of the number, "tokens", "share"; shown.

    Raises:
        InputError: no question, fewer than two choices, or a number without its unit.
    """
    if not question.strip().endswith("?"):
        raise InputError("a prediction asks something", got=question, expected="a sentence that ends with ?")
    if among is None:
        if not unit:
            hint = 'check.predict("how many tokens?", unit="tokens")'
            raise InputError("a number is asked for without its unit", got="unit=''", hint=hint)
        return Prediction(question, None, unit)
    choices = dict(among) if isinstance(among, Mapping) else dict.fromkeys(among)
    if not 2 <= len(choices) <= len(LETTERS):
        raise InputError("a choice is among a few", got=f"{len(choices)} texts", expected=f"2 to {len(LETTERS)}")
    return Prediction(question, choices, unit)
