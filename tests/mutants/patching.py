"""Mutants of patching: which rows, which tokens, which fork, what is compared."""

from tests.mutants import Mutant

CELLS, FORKS, PATCHING, EVIDENCE, TOGETHER, SLOPES, AGREE = (
    f"labkit/attribution/{name}.py"
    for name in ("cells", "forks", "patching", "evidence", "together", "estimated", "agree")
)
TEST, JOINT = "tests/test_patch_sweep.py::test_", "tests/test_knockouts.py::test_"
HEADS = f"{TEST}a_fork_is_a_rerun_of_heads_and_streams"
STATES = f"{TEST}a_fork_is_a_rerun_of_states"
OUT = f"{TEST}knocked_out_is_zero_or_the_mean_of_the_prompt"
TELLS = f"{TEST}the_dataset_says_what_it_is"
EVIDENT = f"{TEST}intervals_and_p_are_those_of_stats"
SHARED = f"{TEST}cells_that_begin_near_each_other_share_a_fork"
PAIRS = f"{JOINT}pairs_are_knocked_out_as_edits_would"
SMALL = f"{JOINT}slopes_are_those_of_small_patches"
RANKS = f"{JOINT}agreement_is_spearman_with_its_interval_and_control"

MUTANTS = [
    Mutant(CELLS, "t == s < asked.same", "t == s <= asked.same + 1", HEADS),
    Mutant(CELLS, "place[3][0] + (place[0] in STATES)", "place[3][0]", SHARED),
    Mutant(CELLS, "len(each.ids) < 2 for each", "len(each.ids) < 1 for each", f"{TEST}questions_without_sense"),
    Mutant(CELLS, "(2 if seam in STATES else 1)", "1", f"{TEST}questions_without_sense"),
    Mutant(FORKS, "0 if states or begun[1] else", "8 if states or begun[1] else", SHARED),
    Mutant(FORKS, "(row, token - start, head)", "(row * 0, token - start, head)", HEADS),
    Mutant(FORKS, "(token >= start) & ", "(token > start) & ", HEADS),
    Mutant(FORKS, "new if head is None else new[head]", "new if head is None else new[0]", STATES),
    Mutant(FORKS, '[seam == "window"][0]', '[seam != "state"][0] * 1.01', STATES),
    Mutant(FORKS, "values.float().mean(0)", "values.float().mean(1, keepdim=True)[0]", OUT),
    Mutant(
        FORKS,
        "abs(self._score(logits)[0][0] - scored[n])",
        "abs(scored[n] - scored[n])",
        f"{TEST}a_fork_that_says_something_else_is_refused",
    ),
    Mutant(PATCHING, '(found["reference"] - found["base"])[one]', '(found["base"] - found["reference"])[one]', TELLS),
    Mutant(PATCHING, 'if put == "other" else 0.0', 'if put == "other" else 1.0', OUT),
    Mutant(EVIDENCE, "(reached + (not exact))", "(reached + 1)", EVIDENT),
    Mutant(EVIDENCE, "50 * (1 - stats.LEVEL)", "100 * (1 - stats.LEVEL)", EVIDENT),
    Mutant(TOGETHER, "- alone[:, :, None] - alone[:, None, :]", "- alone[:, :, None]", PAIRS),
    Mutant(TOGETHER, "dict.fromkeys(itertools.chain(*parts))", "list(itertools.chain(*parts))[:1]", PAIRS),
    Mutant(SLOPES, "new.float() - old[tokens].float()", "new.float() + old[tokens].float()", SMALL),
    Mutant(AGREE, "means[i][shuffles]", "means[j][shuffles * 0]", RANKS),
    Mutant(AGREE, "[:n]) for k in (i, j)]", "[: n - 1]) for k in (i, j)]", RANKS),
    Mutant(
        "labkit/attribution/evidence.py",
        "abs(ds.change) <= ROUNDED",
        "abs(ds.change) <= 0",
        "tests/test_patch_sweep.py::test_changes_that_rounding_makes_have_no_sign",
    ),
]
