"""Mutants of the delta rule, of what is read from it, of attention and of keys that are turned anew."""

from tests.mutants import Mutant

REFERENCE, BACKWARD = "labkit/deltanet/equation/reference.py", "labkit/deltanet/equation/backward.py"
READINGS, RECALL = "labkit/deltanet/readings.py", "labkit/deltanet/card.py"
SPEC, SOFTMAX, KINDS = "labkit/spec/anatomy.py", "labkit/attention/softmax.py", "labkit/attention/kinds.py"
STATISTICS, ROWS = "labkit/attention/statistics.py", "labkit/attention/readings.py"
UNROTATED = "labkit/yarn/unrotated.py"
FUSED, PASSES = "labkit/attention/fused.py", "labkit/attention/passes.py"
LOOP = "tests/test_equation.py::test_the_loop_is_the_recurrence_of_transformers"
STEP = "tests/test_equation.py::test_a_step_applies_the_transition_decay_first"
REBUILT = "tests/test_equation.py::test_rows_rebuild_reads_and_a_backward_row_is_a_row"
LEFT = "tests/test_equation.py::test_what_is_left_of_keys_is_the_product_of_transitions"
FORMS = "tests/test_deltanet.py::test_the_implied_map_rebuilds_the_reads_from_what_it_weights"
STATES = "tests/test_deltanet.py::test_states_stand_at_their_tokens"
EAGER = "tests/test_attention.py::test_pattern_equals_eager_attention"
DENSE = "tests/test_attention_summaries.py::test_every_statistic_is_that_of_the_dense_map"
PLAIN = "tests/test_attention_fused.py::test_plain_tiles_say_the_same"
RAGGED = "tests/test_attention_fused.py::test_every_statistic_of_the_passes_is_that_of_the_dense_map[ragged]"
BUILT = "tests/test_attention_heads.py::test_every_score_of_heads_that_were_built"
ADDED = "tests/test_attention_heads.py::test_a_contribution_is_the_norm_of_what_the_source_adds"
TURNED = "tests/test_yarn.py::test_dynamic_scaling_keeps_keys_that_can_be_turned"
NORM = "tests/test_yarn.py::test_dynamic_keeps_the_keys_of_the_norm_at_any_factor"
QUESTIONS = "tests/test_yarn.py::test_questions_fill_the_length_and_put_the_fact_at_its_depth"
ONCE = "tests/test_yarn.py::test_a_text_that_is_the_same_at_every_depth_is_read_once"

MUTANTS = [
    Mutant("labkit/yarn/margins.py", "if len(some) > 1 else snap", "if len(some) > 2 else snap", ONCE),
    Mutant("labkit/yarn/margins.py", "asked.ids[: -asked.asked].tolist()", "asked.ids.tolist()", ONCE),
    Mutant("labkit/yarn/tasks.py", "len(facts) - 1)) for n in", "len(facts))) for n in", QUESTIONS),
    Mutant(REFERENCE, "error = v - recalled", "error = v + recalled", LOOP),
    Mutant(REFERENCE, 'torch.einsum("hkv,hk->hv", decayed, k)', 'torch.einsum("hkv,hk->hv", state, k)', STEP),
    Mutant(REFERENCE, "k, beta[:, None] * error)", "k, error)", LOOP),
    Mutant(REFERENCE, "range(token, -1, -1)", "range(token, 0, -1)", REBUILT),
    Mutant(REFERENCE, "x - written[:, None] * k[j])", "x + written[:, None] * k[j])", REBUILT),
    Mutant(
        REFERENCE,
        "if highest > 0 and most <= 0 and",
        "if False and",
        "tests/test_equation.py::test_gates_that_are_exchanged_are_refused",
    ),
    Mutant(BACKWARD, 'if form == "value":', 'if form != "heuristic":', FORMS),
    Mutant(BACKWARD, "seen.transpose(1, 2) * beta[:, n, None]", "seen.transpose(1, 2)", REBUILT),
    Mutant(BACKWARD, "inside.transpose(-1, -2) @ scaled", "scaled.transpose(-1, -2) @ inside", LEFT),
    Mutant(READINGS, 'coords["state_token"] = run.positions[at[0]]', 'coords["state_token"] = at[0]', STATES),
    Mutant(
        READINGS, 'coords["state_token"] = ("step", run.positions[at])', 'coords["state_token"] = ("step", at)', STATES
    ),
    Mutant(READINGS, 'weighted = (walked.writes if form == "write" else x.v)', "weighted = x.v", FORMS),
    Mutant(
        RECALL,
        "(sizes * ~own).sum(-1)",
        "sizes.sum(-1)",
        "tests/test_deltanet_memory.py::test_crosstalk_is_of_the_other_tokens_alone",
    ),
    Mutant(
        SPEC,
        '"query_head") * self.kv_heads // self.query_heads',
        '"query_head") % self.kv_heads',
        "tests/test_attention.py::test_a_query_head_reads_its_own_kv_head",
    ),
    Mutant(ROWS, "x.v[:, spec.kv_head(head)].float()", "x.v[:, head % spec.kv_heads].float()", ADDED),
    Mutant(SOFTMAX, 'mixed * run.seams[layer, "gate"][rows][:, heads].sigmoid().float()', "mixed", EAGER),
    Mutant(KINDS, "(distance < NEAR) & (distance != 1)", "(distance < NEAR)", BUILT),
    Mutant(KINDS, "p[:, first, first - 1]", "p[:, first, first]", BUILT),
    Mutant(KINDS, "second - length]", "second - length - 1]", BUILT),
    Mutant(STATISTICS, "-(p * log_p).sum(-1)", "-(p * log_p).sum(-1) / 0.6931471805599453", DENSE),
    Mutant(
        "labkit/attention/kernel.py",
        "wide**-0.5 * (q.float() * mean)",
        "(q.float() * mean)",
        "tests/test_attention_summaries.py::test_stock_kernels_say_what_the_dense_map_says",
    ),
    Mutant(PASSES, "distance += rows * (t - j).to", "distance += rows * (j - t).to", PLAIN),
    Mutant(PASSES, "tl.arange(0, BN))[None, :] <= t[:, None]", "tl.arange(0, BN))[None, :] < t[:, None]", RAGGED),
    Mutant(PASSES, "(back >= 0) & (source < stop)", "(back > 0) & (source < stop)", RAGGED),
    Mutant(PASSES, "last, j0 = t1 + 1, t0 * 0", "last, j0 = t1 // block * block, t0 * 0", RAGGED),
    Mutant(PASSES, "p = tl.exp2(s * scale - level[:, None])", "p = tl.exp2(s * scale)", PLAIN),
    Mutant(PASSES, "(h + z * (m - high)) * less", "h * less", RAGGED),
    Mutant(PASSES, "whole = (t0 + 1) // BN * BN", "whole = (t0 + BN) // BN * BN", RAGGED),
    Mutant(PASSES, "tl.load(UNTIL + j0))", "free)", PLAIN),
    Mutant(PASSES, "(1 << far) - 1, local)", "(1 << far) - 1, 0)", PLAIN),
    Mutant(PASSES, "(distance + 1).to(tl.float64)", "(distance + 2).to(tl.float64)", RAGGED),
    Mutant(FUSED, "key_head[place] for place in", "heads[place] % 2 for place in", RAGGED),
    Mutant(FUSED, "place % down == 0", "torch.arange(len(at)) % down == 0", PLAIN),
    Mutant(UNROTATED, "rotated / (cos**2 + sin**2)", "rotated / (cos**2 + sin**2).sqrt()", NORM),
    Mutant(UNROTATED, "rotary.rotate(keys.float(), cos, -sin)", "rotary.rotate(keys.float(), cos, sin)", TURNED),
    Mutant(UNROTATED, "[self.position_ids, position_ids], -1)", "[position_ids, self.position_ids], -1)", TURNED),
]
