"""Mutants of the residual stream and of attribution: what is held, what is summed, what reads."""

from tests.mutants import Mutant

SPOKEN, BRANCHES, STREAM = (f"labkit/residual/{name}.py" for name in ("spoken", "branches", "stream"))
FROZEN, COMPLETE, DIRECT = (f"labkit/attribution/{name}.py" for name in ("frozen", "complete", "direct"))
LENS = "tests/test_residual.py::test_the_lens_is_norm_and_unembedding_at_every_layer"
FAR = "tests/test_residual.py::test_the_last_layer_says_what_the_model_says"
PARTS = "tests/test_residual.py::test_rows_in_parts_are_rows_at_once"
ADDED = "tests/test_residual.py::test_a_contribution_is_the_inner_product_with_the_way_out"
FOIL = "tests/test_residual.py::test_in_float64_branches_add_up_to_the_last_digits"
SUM = "tests/test_attribution.py::test_the_sum_is_the_logit_and_nothing_is_lost_at_any_layer"
HEADS = "tests/test_attribution.py::test_a_head_adds_its_map_times_its_projected_values"
TIES = "tests/test_attribution.py::test_answers_that_are_as_likely_can_be_compared"
WHOLE = "tests/test_attribution.py::test_heads_mlps_embedding_and_cache_add_up_to_the_logit"

MUTANTS = [
    Mutant(SPOKEN, "(said > column[:, None])", "(said >= column[:, None])", LENS),
    Mutant(SPOKEN, "own.exp() * (own - said)", "said.exp() * (said - own)", FAR),
    Mutant(SPOKEN, "range(0, len(rows), step)", "range(0, len(rows), step + 1)", PARTS),
    Mutant(BRANCHES, "reads - way_out(", "reads + way_out(", FOIL),
    Mutant(BRANCHES, '("mixer_out", "mlp_out")', '("mlp_out", "mixer_out")', ADDED),
    Mutant(STREAM, "row.detach().abs().max()", "row.detach().abs().min()", TIES),
    Mutant(BRANCHES, "- own, row)", "- own, whole)", TIES),
    Mutant(FROZEN, "c * c.detach().sigmoid()", "c * c.sigmoid()", SUM),
    Mutant(FROZEN, "1 - spec.conv :].T)", "1 - spec.conv :].flip(-1).T)", SUM),
    Mutant(FROZEN, "v = v[:, reads]", "v = v[:, sorted(reads, reverse=True)]", SUM),
    Mutant(FROZEN, "<= run.positions", "< run.positions", SUM),
    Mutant(FROZEN, "x * factor(module, x.detach())", "x * factor(module, x.detach()) ** 1.01", SUM),
    Mutant(FROZEN, 'GATES = ("act_fn", ', "GATES = (", SUM),
    Mutant(COMPLETE, "tensor([1.0, -1.0])", "tensor([1.0, 1.0])", SUM),
    Mutant(DIRECT, "rows[0] - (rows[1]", "rows[0] + (rows[1]", WHOLE),
    Mutant(DIRECT, "factor(lab.final_norm, last)", "factor(lab.final_norm, 2 * last)", HEADS),
]
