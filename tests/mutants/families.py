"""Mutants of the families: interleaved seams, routers, what their models cost."""

from tests.mutants import Mutant

HOOKS, NEXT = "labkit/edit/hooks.py", "labkit/families/qwen3_next.py"
READINGS, ROUTING = "labkit/experts/readings.py", "labkit/experts/routing.py"
HEADS = "tests/test_families_parity.py::test_one_heads_edit_is_a_change_of_that_heads_rows_of_the_weight"
ORDER = "tests/test_families_parity.py::test_interleaved_seams_are_what_the_model_takes_apart"
TAKEN = "tests/test_experts.py::test_an_expert_that_is_taken_away_is_chosen_nowhere"
COUNTED = "tests/test_experts.py::test_load_is_counted_by_hand"
REFUSED = "tests/test_spec.py::test_configurations_that_are_refused"
USED = "tests/test_spec.py::test_models_with_experts_say_what_a_token_uses_and_reads"

MUTANTS = [
    Mutant(
        "labkit/families/record.py",
        "whole[..., run] = values[..., first:last]",
        "whole[..., run]",
        HEADS,
    ),
    Mutant(NEXT, "(spec.dk, spec.dk, group, group)", "(spec.dk, group, spec.dk, group)", ORDER),
    Mutant(
        NEXT,
        '"write_input", channels=lambda spec: ba(spec)[0]',
        '"write_input", channels=lambda spec: ba(spec)[1]',
        ORDER,
    ),
    Mutant(
        NEXT,
        "for group in range(groups) for i in range(width)]",
        "for i in range(width) for group in range(groups)]",
        ORDER,
    ),
    Mutant("labkit/families/qwen3_5_moe.py", "(weights / weights.sum(-1, keepdim=True))", "weights", TAKEN),
    Mutant(HOOKS, "torch.where(rows.view(-1, *[1] * (made.ndim - 1)), made, parts[entry])", "parts[entry]", TAKEN),
    Mutant(
        HOOKS,
        "torch.where(rows.view(-1, *[1] * (made.ndim - 1)), made, parts[entry])",
        "made",
        "tests/test_experts.py::test_an_edit_of_the_router_leaves_weights_of_other_tokens_as_another_edit_set_them",
    ),
    Mutant(
        HOOKS,
        "sorted(self.seams, key=lambda item: self._seam(item).entry)",
        "self.seams",
        "tests/test_experts.py::test_weights_are_edited_after_the_logits_that_decide_them",
    ),
    Mutant(
        ROUTING,
        "best / best.sum(-1, keepdim=True)",
        "weights",
        "tests/test_experts.py::test_choices_that_are_not_the_largest_are_refused",
    ),
    Mutant(READINGS, "share = times / (count * k)", "share = times / count", COUNTED),
    Mutant(READINGS, "(times < low) | (times > high)", "times > high", COUNTED),
    Mutant(
        READINGS,
        "binom.ppf(q, count, k / experts)",
        "binom.ppf(q, count, 1 / experts)",
        "tests/test_experts.py::test_an_even_router_lies_within_its_interval",
    ),
    Mutant(
        "labkit/yarn/unrotated.py",
        "position_ids if self.axes == 3 else position_ids[0]",
        "position_ids",
        "tests/test_families_parity.py::test_yarn_is_a_model_built_that_way",
    ),
    Mutant(
        "labkit/plan/model.py",
        "[name].source: name for name",
        "[name]: name for name",
        "tests/test_shapes_27b.py::test_seams_of_one_tensor_are_counted_once",
    ),
    Mutant("labkit/spec/config.py", '_flag(text, "norm_topk_prob") is False', "False", REFUSED),
    Mutant("labkit/spec/config.py", 'text.get("decoder_sparse_step", 1) != 1', "False", REFUSED),
    Mutant("labkit/spec/card.py", 'at["KV bytes"] + 2 * at["state bytes"]', 'at["KV bytes"] + at["state bytes"]', USED),
    Mutant(
        "labkit/trace/saved.py",
        "None if seam.indexes is None else spec.axis_sizes[seam.indexes]",
        "None",
        "tests/test_experts.py::test_seams_of_a_router_are_streamed_saved_and_opened",
    ),
]
