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
DISPATCHED = TESTS + "test_a_dispatcher_asks_the_tensors"
COPIED = TESTS + "test_a_dispatcher_is_copied_and_pickled_by_its_name_as_functions_are"
ALIGNED = TESTS + "test_what_only_sdpa_can_do_is_aligned_to_the_last_key_too"
TRACED = TESTS + "test_a_graph_that_is_traced_depends_on_no_numbers"
TOLD = TESTS + "test_the_kernel_within_attention_is_told_and_why_others_are_not_taken"
ROUNDS = TESTS + "test_a_cpu_that_rounds_nothing_is_not_said_to_round"
PRODUCT = TESTS + "test_a_product_says_whether_float32_is_rounded"
ROUNDING, WATCHED = "labkit/kernels/rounding.py", "labkit/watched.py"

MUTANTS = [
    Mutant(BOUND, "(self.fast if fit else self.reference)", "self.fast", HERE),
    Mutant(BOUND, '"torch" if chosen else package', "package", HERE),
    Mutant(BOUND, " and behind(function) and", " and", TESTS + "test_a_function_that_somebody_else_put_there_stays"),
    Mutant(BOUND, "if torch.is_grad_enabled():", "if False:", TESTS + "test_a_dispatcher_asks_the_tensors"),
    Mutant(BOUND, "is not None for name in PACKED), graph", "is not None for name in ()), graph", DISPATCHED),
    Mutant(BOUND, "return self.__qualname__", "return object.__reduce__(self)", COPIED),
    Mutant(LIMITS, " or work.device in HOSTS", "", ABLE),
    Mutant(LIMITS, 'work.device != "cuda" or work.packed', 'work.device != "cuda"', ABLE),
    Mutant(LIMITS, 'work.device != "cuda" or work.packed', "work.packed", ABLE),
    Mutant(LIMITS, " and (tf32 or work.dtype != torch.float32)", "", ABLE),
    Mutant(LIMITS, " and work.channels % 8 == 0", "", ABLE),
    Mutant(LOWER_RIGHT, " and attention_mask.all()", "", MASKS),
    Mutant(LOWER_RIGHT, " and q_offset + q_length == kv_length", "", MASKS),
    Mutant(LOWER_RIGHT, "allow_is_causal_skip=False", "allow_is_causal_skip=True", MASKS),
    Mutant(LOWER_RIGHT, ".tril(m - n)", ".tril()", LAST),
    Mutant(LOWER_RIGHT, "if plain and n != m:", "if plain and not special and n != m:", ALIGNED),
    Mutant(LOWER_RIGHT, "plain and not special and", "plain and", ALIGNED),
    Mutant(LOWER_RIGHT, "whole = not is_tracing(attention_mask) and", "whole =", TRACED),
    Mutant(
        LOWER_RIGHT,
        "attention_mask is None and causal",
        "causal",
        TESTS + "test_a_mask_that_is_given_counts_and_image_towers_see_everything",
    ),
    Mutant(CARDS, "if not off <= NEAR:", "if False:", PROVEN),
    Mutant(CARDS, "for n in (40, 2):", "for n in (40,):", PROVEN),
    Mutant(CARDS, 'device="cpu").to(dtype)', ").to(dtype)", PROVEN),
    Mutant(
        CARDS,
        "        except torch.OutOfMemoryError:\n            raise\n",
        "",
        TESTS + "test_a_card_that_was_full_is_asked_again",
    ),
    Mutant(
        WATCHED, "lower_right.told(config, self.stack.norm.weight.device, dtype)", "config._attn_implementation", TOLD
    ),
    Mutant(ROUNDING, " or rounds(device, chosen)", " or True", ROUNDS),
    Mutant(ROUNDING, "<= EXACT * exact", "<= 1e-1 * exact", PRODUCT),
    Mutant(ROUNDING, "torch.autocast(device, enabled=False)", "torch.no_grad()", PRODUCT),
    Mutant(CARDS, "part.double().repeat_interleave(groups, 1)", "part.double().repeat(1, groups, 1, 1)", LAST),
    Mutant(CARDS, "(far - near)", "(near - far)", PARTS),
    Mutant(CARDS, "part(q, k[:, :, :before], v[:, :, :before], False", "part(q, k[:, :, :], v[:, :, :], False", PARTS),
    Mutant(PLAN, "not self.maskless and ", "", TESTS + "test_a_million_tokens_of_the_27b_in_one_stream_fit_a_card"),
    Mutant(RUN, "ROUNDED[bits] if rounded and", "ROUNDED[bits or 'tf32'] if", ROUNDED),
]
