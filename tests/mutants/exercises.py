"""Mutants of the exercises' laws: a law that is weaker lets a mistake of readers pass."""

from tests.mutants import Mutant

CAUSE, STEER = "labkit/check/find_the_cause.py", "labkit/check/steer.py"
SOLVED = "tests/test_check.py::test_the_solution_obeys_every_law"
NAMED = "tests/test_check.py::test_a_mistake_breaks_the_law_that_is_named"

MUTANTS = [
    Mutant(CAUSE, "abs(values.sum()) * (1 - 1e-9)", "abs(values.sum()) * (1 + 1e-9)", SOLVED),
    Mutant(CAUSE, "np.array([0.1, 0.2, -0.3, 0.6])), 0.625", "np.array([1.0, 2, -3, 6])), 0.625", NAMED),
    Mutant(CAUSE, "np.array([0.5, 1, 1.5])", "np.array([0.5, 1, 2])", SOLVED),
    Mutant(CAUSE, "len(model.asked) - len(set(model.asked))", "0", NAMED),
    Mutant(STEER, "some, others = rng.normal(1, 1, (5, 7))", "some, others = rng.normal(1, 1, (3, 7))", NAMED),
    Mutant("labkit/check/one_gpu.py", "yours(500, 30, 24, 5), 500 / 24", "yours(480, 30, 24, 5), 20.0", NAMED),
    Mutant("labkit/check/see_pictures.py", "_positions(0, 2, 3, 0)", "_positions(0, 2, 3, 1)", SOLVED),
    Mutant(STEER, "rest = np.arange(len(rows)) != n", "rest = np.arange(len(rows)) >= 0", SOLVED),
]
