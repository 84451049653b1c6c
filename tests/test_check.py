"""Exercises: every checker passes its solution, names the law that a mistake breaks, and says what was not written."""

import importlib
import inspect
import pathlib

import numpy as np
import pytest
import torch

import labkit as lk
from labkit import check
from labkit.check import Law, exercise
from labkit.check.laws import difference, made
from labkit.errors import ClaimError, InputError

FILES = sorted((pathlib.Path(__file__).parent / "mistakes").glob("[a-z]*.py"))
MODULES = [importlib.import_module(f"mistakes.{path.stem}") for path in FILES]
MISTAKES = {name: wrong for module in MODULES for name, wrong in module.MISTAKES.items()}
WAYS = {name: ways for module in MODULES for name, ways in getattr(module, "WAYS", {}).items()}
OPTIONS = {name: made for module in MODULES for name, made in getattr(module, "OPTIONS", {}).items()}
CHECKERS = [name for name in check.__all__ if hasattr(getattr(check, name), "solution")]


@pytest.fixture(scope="module")
def lab():
    return lk.load("nano")


def asked(name, lab):
    """The options of a checker, made from a lab where it takes any."""
    return OPTIONS[name](lab) if name in OPTIONS else {}


def test_every_checker_has_its_mistakes():
    assert set(MISTAKES) == set(CHECKERS)
    assert [name for name in CHECKERS if len(MISTAKES[name]) < 3] == []


@pytest.mark.parametrize("name", CHECKERS)
def test_the_solution_obeys_every_law(name, lab):
    options, checker = asked(name, lab), getattr(check, name)
    solution = checker(..., **options).working
    verdict = checker(solution, **options)
    assert verdict.passed and verdict.must() is verdict, verdict
    assert verdict.working is solution
    assert "hold" in repr(verdict).partition("\n")[0]


@pytest.mark.parametrize(("name", "mistake"), [(name, wrong) for name in MISTAKES for wrong in MISTAKES[name]])
def test_a_mistake_breaks_the_law_that_is_named(name, mistake, lab):
    wrong, words = MISTAKES[name][mistake]
    verdict = getattr(check, name)(wrong, **asked(name, lab))
    assert verdict.written and not verdict.passed
    assert words in verdict.broken.says, verdict
    assert verdict.why and verdict.working is not wrong


@pytest.mark.parametrize(("name", "way"), [(name, way) for name in WAYS for way in WAYS[name]])
def test_what_is_right_in_another_way_passes(name, way, lab):
    verdict = getattr(check, name)(WAYS[name][way], **asked(name, lab))
    assert verdict.passed and verdict.working is WAYS[name][way], verdict


@pytest.mark.parametrize("name", CHECKERS)
def test_what_is_not_written_is_said(name, lab):
    options, checker = asked(name, lab), getattr(check, name)
    verdicts = [checker(..., **options), checker(None, **options)]
    if callable(verdicts[0].working):

        def stub(*args, **kwargs):
            raise NotImplementedError

        verdicts += [checker(lambda *args, **kwargs: None, **options), checker(stub, **options)]
        with pytest.raises(InputError, match=f"{name} checks a function"):
            checker(3, **options)
    for verdict in verdicts:
        assert repr(verdict) == f"{name}: not written yet; what follows goes on with the solution"
        with pytest.raises(ClaimError, match=f"{name} is not solved yet"):
            verdict.must()


@pytest.mark.parametrize("name", CHECKERS)
def test_a_checker_says_what_it_wants(name):
    text = inspect.getdoc(getattr(check, name))
    assert "yours" in text and "Source: " in text


# the laws themselves ----------------------------------------


def double(x):
    return 2 * x


@exercise(solution=double)
def twice(yours):
    """Twice a number."""
    yield Law("nothing doubles to nothing", lambda: yours(0), 0)
    yield Law("three doubles to six", lambda: yours(3), 6, "add it to itself")


def test_a_verdict_names_the_first_broken_law():
    assert repr(twice(double)) == (
        "twice: all 2 laws hold\n  holds   nothing doubles to nothing\n  holds   three doubles to six"
    )
    assert repr(twice(lambda x: x**2)) == (
        "twice: not yet; what follows goes on with the solution\n"
        "  holds   nothing doubles to nothing\n"
        "  BROKEN  three doubles to six\n"
        "          got: 9\n"
        "          expected: 6\n"
        "          try: add it to itself"
    )
    assert twice(lambda x: x**2).working is double


def test_what_a_reader_raises_breaks_the_law():
    verdict = twice(lambda x: 1 / x)
    assert verdict.why == "it raised ZeroDivisionError: division by zero"
    assert twice(lambda x: x if not x else None).why == "it returned nothing"


@exercise(solution=lambda given, n: 3)
def three(yours):
    """Three, of anything."""
    nan = float("nan")
    yield Law("of a list", lambda: yours([nan, 2.0], 1), 3)
    yield Law("of an array", lambda: yours(np.array([nan, 2.0]), n=1), 3)
    yield Law("of a tensor", lambda: yours(torch.tensor([nan, 2.0]).bfloat16(), 1), 3)
    yield Law("of lists in a list", lambda: yours([[nan], [2.0]], 1), 3)


@pytest.mark.parametrize("kind", [list, np.ndarray, torch.Tensor])
def test_what_is_given_may_not_be_changed(kind):
    def written(given, n):
        if isinstance(given, kind):
            given[n] = 5.0
        return 3

    verdict = three(written)
    assert len(verdict.held) == [list, np.ndarray, torch.Tensor].index(kind)
    assert verdict.broken.says == "what it is given is left as it was" and "x.clone()" in verdict.broken.hint
    assert verdict.why == "got: argument 1 was made [nan, 5]\nexpected: no change of it"


def test_lists_in_a_list_may_not_be_changed_either():
    assert three(lambda given, n: 3).passed
    verdict = three(lambda given, n: isinstance(given[1], list) and given[1].append(n) or 3)
    assert len(verdict.held) == 3 and "was made" in verdict.why


def test_a_solution_is_made_from_the_options():
    @exercise(solution=made(lambda size: size**2))
    def square(yours, size):
        """A square."""
        yield Law("it is the square", lambda: yours, size**2)

    assert square(49, size=7).passed and square(..., size=7).working == 49
    assert square(50, size=7).why == "got: 50\nexpected: 49"


SIDES = {
    "numbers within the tolerance": (torch.tensor([1.0, 2.000001]), [1.0, 2.0], ""),
    "a number apart": (torch.tensor([1.0, 2.5]), [1.0, 2.0], "farthest apart at (1,): 2.5 for 2"),
    "exchanged axes": (torch.zeros(3, 5), torch.zeros(5, 3), "shape (3, 5); its axes look exchanged"),
    "another order": (("b", "a"), ("a", "b"), "got: ('b', 'a'); in another order"),
    "a text": ("red", "green", "got: 'red'\nexpected: 'green'"),
    "a truth value for a number": (True, 1, "got: True\nexpected: 1"),
    "a tensor of one whole number": (torch.tensor(4), 4, ""),
    "a tensor of whole numbers": (torch.tensor([5, 7]), (5, 7), ""),
    "a tensor in another order": (torch.tensor([7, 5]), (5, 7), "got: (7, 5); in another order"),
    "no number": ("red", 1.5, "expected: numbers like 1.5"),
    "NaN": (float("nan"), 1.0, "got: nan"),
    "another precision": (torch.tensor([1.0, 2.5]).bfloat16(), [1.0, 2.5], ""),
    "too few things": ([torch.zeros(2)], [torch.zeros(2), torch.ones(2)], "expected: 2 things"),
    "the second of two": ([torch.zeros(2), torch.zeros(2)], [torch.zeros(2), torch.ones(2)], "thing 2: got: [0, 0]"),
}


@pytest.mark.parametrize("case", SIDES)
def test_sides_of_a_law_are_compared(case):
    got, expected, words = SIDES[case]
    why = difference(got, torch.tensor(expected) if case.startswith(("numbers", "a number")) else expected)
    assert (why == "") is (words == "")
    assert words in why


def test_what_a_function_gave_is_one_tensor():
    rows = torch.arange(6.0).reshape(2, 3)
    for given in (rows, rows.double(), rows.numpy(), list(rows), rows.tolist()):
        assert check.laws.tensor(given).dtype == torch.float32
        assert check.laws.tensor(given).equal(rows)


# guesses ----------------------------------------


def test_a_guess_is_kept_and_held_against_the_answer():
    guess = check.predict("which value comes back?", among={"the first": 0.0, "the second": 1.0, "both": 2.0})
    assert repr(guess) == "Guess first: which value comes back?\n  a) the first\n  b) the second\n  c) both"
    assert repr(guess.see(1.2)) == "Answer: the second (1.2)"
    assert guess.see(1.2).right is None
    guess.guess = "the second"
    assert repr(guess.see(1.2)) == "Answer: the second (1.2)\nYou guessed the second: right"
    assert guess.see(1.7).right is False


def test_the_widget_keeps_what_is_pressed():
    guess = check.predict("which?", among=("<b>one</b>", "two"))
    assert set(guess._repr_mimebundle_()) >= {"text/plain", "application/vnd.jupyter.widget-view+json"}
    head, field, row = guess._widget().children
    button, said = row.children
    button.click()
    assert (guess.guess, said.value) == (None, "choose one first")
    field.value = "<b>one</b>"
    button.click()
    assert guess.guess == "<b>one</b>"
    assert "<b>&lt;b&gt;one&lt;/b&gt;</b>" in said.value
    assert guess._widget() is guess._box


def test_a_number_is_right_when_it_is_near():
    guess = check.predict("how many tokens?", unit="tokens")
    assert repr(guess) == "Guess first: how many tokens?\n  a number (tokens)"
    guess.guess = 95.0
    assert repr(guess.see(100)) == "Answer: 100 tokens\nYou guessed 95: right"
    assert guess.see(120).right is False


def test_without_a_guess_the_answer_is_folded_away():
    guess = check.predict("which <one>?", among=("a", "b"))
    assert guess.see("b")._repr_html_().startswith("<details>")
    guess.guess = "b"
    assert guess.see("b")._repr_html_() == "<p>Answer: b<br>You guessed b: right</p>"


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: check.predict("tell me", among=("a", "b")), "a prediction asks something"),
        (lambda: check.predict("which?", among=("a",)), "got: 1 texts"),
        (lambda: check.predict("how many?"), "a number is asked for without its unit"),
        (lambda: check.predict("which?", among=("a", "b")).see("c"), "none of the choices"),
        (lambda: check.predict("which?", among=("a", "b")).see(3.0), "these choices are texts"),
        (lambda: check.predict("how many?", unit="tokens").see(float("nan")), "the answer is no number"),
    ],
)
def test_what_makes_no_question_is_refused(call, words):
    with pytest.raises(InputError, match=words):
        call()
