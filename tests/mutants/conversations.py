"""Mutants of reuse and thinking: what a ledger counts, where states are saved, where prompts part."""

from tests.mutants import Mutant

LEDGER, SCHEMES, TREE = "labkit/reuse/ledger.py", "labkit/reuse/schemes.py", "labkit/reuse/tree.py"
PARTING, PREFIX = "labkit/thinking/parting.py", "tests/test_thinking.py::test_the_common_prefix_at_every_length"
BRUTE = "tests/test_reuse.py::test_the_ledger_is_brute_force"
BOUNDS = "tests/test_sessions_bounds.py::test_a_line_out_of_bounds_is_reported_and_the_rest_is_read"
ODD = "tests/test_thinking.py::test_a_conversation_of_odd_objects_is_refused_with_its_place"
STRANGER = "tests/test_thinking.py::test_a_template_of_a_stranger_is_bounded_in_any_thread"

MUTANTS = [
    Mutant(LEDGER, "self.block, len(call.prompt) - 1)", "self.block, len(call.prompt))", BRUTE),
    Mutant(LEDGER, "min(shared // self.block * self.block, ", "min(shared, ", BRUTE),
    Mutant(LEDGER, '"penalty": attention - state', '"penalty": shared - state', BRUTE),
    Mutant(
        "labkit/reuse/even.py",
        "return 2 * visible * flops",
        "return visible * flops",
        "tests/test_reuse.py::test_break_even",
    ),
    Mutant(SCHEMES, "mark * (state // mark + 1)", "mark * (state // mark + 2)", BRUTE),
    Mutant(SCHEMES, "chosen |= {length, shared}", "chosen |= {length}", BRUTE),
    Mutant(TREE, "return max(fitting)", "return min(fitting)", BRUTE),
    Mutant(TREE, "node.parent is not None and same == node.begin", "False", BRUTE),
    Mutant(
        TREE,
        "key=lambda child: (child.used, child.born)",
        "key=lambda child: -child.born",
        "tests/test_reuse.py::test_what_a_prompt_is_compared_with",
    ),
    Mutant(
        TREE,
        "self.order.move_to_end(saved[max(fitting)])",
        "pass",
        "tests/test_reuse.py::test_a_budget_drops_what_was_of_no_use_longest",
    ),
    Mutant(
        "labkit/reuse/measured.py",
        "saved = [pair for pair in saved if pair is not live]",
        "saved = list(saved)",
        "tests/test_reuse_play.py::test_a_live_state_goes_with_the_next_call",
    ),
    Mutant(
        "labkit/reuse/call.py",
        "min(same - 1, same if",
        "min(same, same if",
        "tests/test_reuse.py::test_calls_that_go_on_from_the_one_before_are_written_as_if_alone",
    ),
    Mutant(
        "labkit/reuse/call.py",
        "min(self.before[1][-1], last) + 1), int(leads))",
        "same), int(leads))",
        "tests/test_reuse.py::test_calls_that_go_on_from_the_one_before_are_written_as_if_alone",
    ),
    Mutant(
        "labkit/reuse/call.py",
        "before_think=max(0, len(prompt) - len(opened))",
        "before_think=len(prompt)",
        "tests/test_reuse.py::test_prompts_are_the_rendered_ones",
    ),
    Mutant(PARTING, "return at + int(differ[0])", "return int(differ[0])", PREFIX),
    Mutant(PARTING, "at, step = stop, 4 * step", "at, step = stop + 1, 4 * step", PREFIX),
    Mutant(
        "labkit/thinking/rules.py",
        "preserve is True or",
        "preserve or",
        "tests/test_thinking.py::test_thinking_of_an_earlier_turn",
    ),
    Mutant("labkit/bounded.py", "if len(made) < len(pairs):", "if False:", BOUNDS),
    Mutant("labkit/bounded.py", "if len(text) > digits:", "if False:", BOUNDS),
    Mutant(
        "labkit/thinking/sessions/rows.py",
        "return mended, bool(halves) and mended != value",
        "return value, False",
        BOUNDS,
    ),
    Mutant("labkit/thinking/messages.py", "if not value.isascii():", "if False:", ODD),
    Mutant("labkit/thinking/stranger.py", 'if len(text) > request["most"]:', "if False:", STRANGER),
]
