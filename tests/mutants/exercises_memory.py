"""Mutants of the checkers of notebooks 03 to 06: a law that lets a mistake pass, or one that no solution obeys."""

from tests.mutants import Mutant

MEMORY, LOOK = "labkit/check/operate_on_memory.py", "labkit/check/look_back.py"
WORK, THINK = "labkit/check/share_the_work.py", "labkit/check/think_aloud.py"
SOLVED = "tests/test_check.py::test_the_solution_obeys_every_law"
NAMED = "tests/test_check.py::test_a_mistake_breaks_the_law_that_is_named"

MUTANTS = [
    Mutant(MEMORY, "lambda: yours(S, 3 * k, v)", "lambda: yours(S, 1 * k, v)", NAMED),
    Mutant(MEMORY, "all_(ones / 2, none), halves", "all_(ones, none), q @ change", NAMED),
    Mutant(MEMORY, "k = k / k.norm()\n    return", "return", SOLVED),
    Mutant(LOOK, "                tensor.fill_(torch.nan)", "                tensor.mul_(1)", NAMED),
    Mutant(LOOK, "earlier[-1] + 1", "earlier[0] + 1", SOLVED),
    Mutant(LOOK, "ends in ((10, 900), (900, 10))", "ends in ((1, 2), (2, 1))", NAMED),
    Mutant(WORK, "[0.5, 1.0, 2.0, 0.1, 0.4]", "[0.8, 0.8, 0.8, 0.8, 0.8]", NAMED),
    Mutant(WORK, "lost.std(correction=1)", "lost.std(correction=0)", SOLVED),
    Mutant(THINK, "len(prompt) - 1) and", "len(prompt)) and", SOLVED),
    Mutant(THINK, "(EARLIER, [1])", "(EARLIER, [5])", SOLVED),
]
