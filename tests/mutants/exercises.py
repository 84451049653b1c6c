"""Mutants of the exercises' laws: a law that is weaker lets a mistake of readers pass."""

from tests.mutants import Mutant

CAUSE, STEER = "labkit/check/find_the_cause.py", "labkit/check/steer.py"
ALOUD, WINDOW = "labkit/check/think_aloud.py", "labkit/check/stretch_the_context.py"
LAWS = "labkit/check/laws.py"
SOLVED = "tests/test_check.py::test_the_solution_obeys_every_law"
NAMED = "tests/test_check.py::test_a_mistake_breaks_the_law_that_is_named"
VARIED = "tests/test_check.py::test_what_is_right_in_another_way_passes"
CHANGED = "tests/test_check.py::test_what_is_given_may_not_be_changed"

MUTANTS = [
    Mutant(CAUSE, "abs(values.sum()) * (1 - 1e-9)", "abs(values.sum()) * (1 + 1e-9)", SOLVED),
    Mutant(CAUSE, "np.array([0.1, 0.2, -0.3, 0.6])), 0.625", "np.array([1.0, 2, -3, 6])), 0.625", NAMED),
    Mutant(CAUSE, "np.array([0.4, 0.8, 1.8])", "np.array([0.4, 0.8, 2])", SOLVED),
    Mutant(CAUSE, "(given != ALONE[:, held].sum(1)).any()", "False", NAMED),
    Mutant(CAUSE, "np.array([1.0, 2, 3, 4, -20])), 1.0", "np.array([1.0, 2, 3, -2])), 0.5", NAMED),
    Mutant(CAUSE, "np.array([4.0, 5, -1, 3]) / 10_000", "np.array([4.0, 5, -1, 3])", NAMED),
    Mutant(CAUSE, "np.array([0.5, 0.02, 0.02])), np.array([0.5, 0.06, 0.06])", "_P3 / _P3), np.ones(3)", NAMED),
    Mutant(
        ALOUD, "short, long = (other, [3, 6]), (EARLIER, [1])", "short, long = (other, [3, 8]), (EARLIER, [1])", NAMED
    ),
    Mutant(ALOUD, "many(EARLIER, (EARLIER, [4, 7])), 3", "many(EARLIER, (EARLIER, [6, 7])), 1", NAMED),
    Mutant(ALOUD, "1000 + ord(letter)", "ord(letter)", NAMED),
    Mutant(WINDOW, "made(81.0, 4)[1], 1 / 9", "made(10_000.0, 4)[1], 0.01", NAMED),
    Mutant(WINDOW, "fast=20, slow=5)[2] / speeds[2]", "fast=20, slow=1)[2] / speeds[2] - 7 / 190", NAMED),
    Mutant(WINDOW, "torch.as_tensor(yours(*given, **named))", "yours(*given, **named)", VARIED),
    Mutant(LAWS, "raise _Changed(", "print(", CHANGED),
    Mutant(LAWS, "return [_held(each) for each in value]", "return None", CHANGED),
    Mutant(CAUSE, "len(model.asked) - len(set(model.asked))", "0", NAMED),
    Mutant(STEER, "some, others = rng.normal(1, 1, (5, 7))", "some, others = rng.normal(1, 1, (3, 7))", NAMED),
    Mutant("labkit/check/one_gpu.py", "yours(500, 30, 24, 5), 500 / 24", "yours(480, 30, 24, 5), 20.0", NAMED),
    Mutant("labkit/check/see_pictures.py", "_positions(0, 2, 3, 0)", "_positions(0, 2, 3, 1)", SOLVED),
    Mutant(STEER, "rest = np.arange(len(rows)) != n", "rest = np.arange(len(rows)) >= 0", SOLVED),
]
