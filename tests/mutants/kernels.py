"""Mutants of what computes: kernels chosen by the tensors, attention that continues a cache without a mask."""

from tests.mutants import Mutant

BOUND, LIMITS, CARDS = "labkit/kernels/bound.py", "labkit/kernels/limits.py", "labkit/kernels/cards.py"
LOWER_RIGHT, PLAN, RUN = "labkit/kernels/lower_right.py", "labkit/plan/model.py", "labkit/trace/run.py"
TESTS = "tests/test_kernels.py::"
HERE = TESTS + "test_a_model_on_the_cpu_runs_where_fast_kernels_are_installed"
ABLE = TESTS + "test_what_a_fast_kernel_can_compute"
MASKS = TESTS + "test_no_mask_is_made_where_attention_is_plainly_causal"
LAST = TESTS + "test_the_last_query_sees_the_last_key"
PROVEN = TESTS + "test_a_kernel_is_taken_once_it_was_right_on_this_card"
PARTS = TESTS + "test_two_softmaxes_meet_by_their_log_sums"
ROUNDED = TESTS + "test_tf32_is_taken_where_it_was_asked_for_and_told"

MUTANTS = [
    Mutant(BOUND, "(self.fast if fit else self.reference)", "self.fast", HERE),
    Mutant(BOUND, '"torch" if chosen else package', "package", HERE),
    Mutant(BOUND, " and behind(function) and", " and", TESTS + "test_a_function_that_somebody_else_put_there_stays"),
    Mutant(BOUND, "and torch.is_grad_enabled()", "and False", TESTS + "test_a_dispatcher_asks_the_tensors"),
    Mutant(LIMITS, 'work.device != "cuda" or ', "", ABLE),
    Mutant(LIMITS, " and (tf32 or work.dtype != torch.float32)", "", ABLE),
    Mutant(LIMITS, " and work.channels % 8 == 0", "", ABLE),
    Mutant(LOWER_RIGHT, " and attention_mask.all()", "", MASKS),
    Mutant(LOWER_RIGHT, " and q_offset + q_length == kv_length", "", MASKS),
    Mutant(LOWER_RIGHT, "allow_is_causal_skip=False", "allow_is_causal_skip=True", MASKS),
    Mutant(LOWER_RIGHT, ".tril(m - n)", ".tril()", LAST),
    Mutant(
        LOWER_RIGHT,
        "attention_mask is not None or not causal",
        "not causal",
        TESTS + "test_a_mask_that_is_given_counts_and_image_towers_see_everything",
    ),
    Mutant(CARDS, "return bool((made - right).abs().max() <= NEAR * right.abs().max())", "return True", PROVEN),
    Mutant(CARDS, "part.double().repeat_interleave(groups, 1)", "part.double().repeat(1, groups, 1, 1)", LAST),
    Mutant(CARDS, "(far - near)", "(near - far)", PARTS),
    Mutant(CARDS, "part(q, k[:, :, :before], v[:, :, :before], False", "part(q, k[:, :, :], v[:, :, :], False", PARTS),
    Mutant(PLAN, "not self.maskless and ", "", TESTS + "test_a_million_tokens_of_the_27b_in_one_stream_fit_a_card"),
    Mutant(RUN, "ROUNDED[bits] if rounded and", "ROUNDED[bits or 'tf32'] if", ROUNDED),
]
