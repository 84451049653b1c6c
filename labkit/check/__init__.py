"""Exercises: guess first, then build, and learn which law broke.

    from labkit import check
    guess = check.predict("does a second value under a key add to the first?", among=("yes", "no"))
    check.delta_rule(write)          # your function, held against the laws of the rule

Checkers name the first law that is broken, with what was got and expected. `verdict.working` is your work if it obeys
every law, else the solution, so that a notebook runs on; `verdict.must()` raises, for a course that grades.
"""

from labkit.check.guess_ahead import right_in_a_row, tokens_a_round, verified_round
from labkit.check.guesses import Prediction, Seen, predict
from labkit.check.laws import Law, Verdict, exercise
from labkit.check.one_gpu import cache_grows_by, least_seconds
from labkit.check.remember import delta_rule
from labkit.check.see_pictures import mass_over_even, picture_tokens, rope_positions
from labkit.check.stretch_the_context import pair_speeds, rotated, yarn_speeds

__all__ = [
    "Law",
    "Prediction",
    "Seen",
    "Verdict",
    "exercise",
    "predict",
    "delta_rule",
    "pair_speeds",
    "rotated",
    "yarn_speeds",
    "least_seconds",
    "cache_grows_by",
    "right_in_a_row",
    "verified_round",
    "tokens_a_round",
    "picture_tokens",
    "rope_positions",
    "mass_over_even",
]
