"""Mutants of the checkers of notebooks 02 to 06: a law that lets a mistake pass, or one that no solution obeys."""

from tests.mutants import Mutant

FORGET, MEMORY, LOOK = (f"labkit/check/{name}.py" for name in ("forget", "operate_on_memory", "look_back"))
WORK, THINK = "labkit/check/share_the_work.py", "labkit/check/think_aloud.py"
SOLVED = "tests/test_check.py::test_the_solution_obeys_every_law"
NAMED = "tests/test_check.py::test_a_mistake_breaks_the_law_that_is_named"

MUTANTS = [
    Mutant(FORGET, "yours(0.5**powers), 0.25", "yours(flat(1 / 16)), 0.25", NAMED),
    Mutant(FORGET, "yours(flat(0.5, 2000))", "yours(flat(0.5, 20))", NAMED),
    Mutant(FORGET, "lambda: yours(S, k, v, 1, 0.5)[1]", "lambda: yours(S, k, v, 1, 1)[1] / 2", NAMED),
    Mutant(MEMORY, "lambda: yours(S, 3 * k, v)", "lambda: yours(S, 1 * k, v)", NAMED),
    Mutant(MEMORY, "all_(ones / 2, none), halves", "all_(ones, none), q @ change", NAMED),
    Mutant(MEMORY, "all_(alpha, none), gated", "all_(ones, none), q @ change", NAMED),
    Mutant(MEMORY, "for score in (-5.0, 7.0)]", "for score in (-3.0, 7.0)]", SOLVED),
    Mutant(MEMORY, "k = k / k.norm()\n    return", "return", SOLVED),
    Mutant(LOOK, "                tensor.fill_(torch.nan)", "                tensor.mul_(1)", NAMED),
    Mutant(LOOK, "earlier[-1] + 1", "earlier[0] + 1", SOLVED),
    Mutant(LOOK, "ends in ((10, 900), (900, 10))", "ends in ((1, 2), (2, 1))", NAMED),
    Mutant(WORK, "[0.5, 1.0, 2.0, 0.1, 0.4]", "[0.8, 0.8, 0.8, 0.8, 0.8]", NAMED),
    Mutant(
        WORK,
        "[[0.0, 0, 5], [0, 2, 0], [0, 0.6, 0.8], [6, 0, 8], [5, 0, 0]]",
        "[[0.0, 3, 4], [2, 0, 0], [0, 1, 0], [10, 0, 0], [4, 0, 3]]",
        NAMED,
    ),
    Mutant(
        WORK,
        "_recalled(*_facts(seed, 9)) for seed in (122, 83)",
        "_recalled(*_facts(seed, 9)) for seed in (0, 1)",
        SOLVED,
    ),
    Mutant(WORK, "lost.std(correction=1)", "lost.std(correction=0)", SOLVED),
    Mutant(THINK, "len(prompt) - 1) and", "len(prompt)) and", SOLVED),
    Mutant(THINK, "(EARLIER, [1])", "(EARLIER, [5])", SOLVED),
]
