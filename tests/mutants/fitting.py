"""Mutants of the fitted lens: which places count, on which side, and what is averaged."""

from tests.mutants import Mutant

FITTING = "labkit/residual/fitting.py"
TEST = "tests/test_fitting.py::test_"
SLOPES = f"{TEST}the_map_is_the_mean_of_finite_differences"
MEAN = f"{TEST}a_lens_is_the_mean_over_prompts_and_reads_as_one"
APART = f"{TEST}two_lenses_of_other_prompts_are_compared"
THERE = f"{TEST}rows_are_held_against_the_memory_of_the_models_device"

MUTANTS = [
    Mutant(FITTING, "(sums, host), (rows, device)", "(sums, host), (rows, host)", THERE),
    Mutant(FITTING, "torch.arange(skip, len(ids) - 1, device", "torch.arange(skip, len(ids), device", SLOPES),
    Mutant(FITTING, "slope[:, 0, counted].float().mean(1)", "slope[:, 0, counted].float().sum(1)", SLOPES),
    Mutant(FITTING, "0, counted, channels[:, None]] = 1", "0, counted, channels.flip(0)[:, None]] = 1", SLOPES),
    Mutant(FITTING, "lab.encode(prompt)[:longest]", "lab.encode(prompt)[-longest:]", MEAN),
    Mutant(FITTING, 'summed["J"] / len(units)', 'summed["J"] / (len(units) - 1)', MEAN),
    Mutant(FITTING, "halves[n % 2] = halves[n % 2]", "halves[n % 2] = halves[0]", APART),
    Mutant(FITTING, "_same(lab, runs, said, layer, other)", "_same(lab, runs, said, layer, one)", APART),
    Mutant(FITTING, "slope[:, 0, counted].float().mean(1)", "slope[:, 0].float().mean(1)", SLOPES),
    Mutant(FITTING, "(pair[0] + pair[1]) / 2)", "(pair[0] + pair[1]))", APART),
    Mutant(FITTING, '"size": sorted(set(sizes))', '"size": sizes', APART),
]
