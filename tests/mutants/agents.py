"""Mutants of the readers of coding agents: branches, compactions, results, what is sent and not shown."""

from tests.mutants import Mutant

HOME = "labkit/thinking/sessions/"
CLAUDE, ROWS, PI = HOME + "formats/claude_code.py", HOME + "claude_rows.py", HOME + "formats/pi.py"
QWEN, ATIF, TREES = HOME + "formats/qwen_code.py", HOME + "formats/atif.py", HOME + "trees.py"


def _test(name):
    return f"tests/test_sessions_agents.py::test_{name}"


MUTANTS = [
    Mutant(TREES, "return at, found[::-1]", "return at, found", _test("a_rewound_branch_keeps_its_own_call")),
    Mutant(
        CLAUDE,
        "known = [one for one in known if one[1] < until]",
        "pass",
        _test("a_result_that_came_later_was_not_sent"),
    ),
    Mutant(
        CLAUDE,
        "for key in reply.ids:",
        "for key in reply.ids[:1]:",
        _test("results_of_parallel_calls_hang_on_their_own_rows"),
    ),
    Mutant(
        CLAUDE, "(cut and cut[-1] > self.log.tree.rows[at].line)", "False", _test("a_compaction_keeps_what_it_says")
    ),
    Mutant(CLAUDE, "self.log.cleared.keys() & set(names)", "False", _test("results_that_were_cleared")),
    Mutant(
        CLAUDE,
        "if not reply.failed and not reply.empty():",
        "if not reply.empty():",
        _test("errors_and_what_the_client_made_up_are_no_calls"),
    ),
    Mutant(
        ROWS, 'if row.get("isCompactSummary") is True', "if False", _test("a_summary_without_a_boundary_begins_anew")
    ),
    Mutant(ROWS, "if text not in self.said:", "if True:", _test("queued_commands_that_went_into_the_turn_are_sent")),
    Mutant(
        ROWS,
        "self.gathered) or reply.usage",
        "self.gathered) if not reply.usage else reply.usage",
        _test("a_reply_of_many_rows_is_billed_once_by_the_last"),
    ),
    Mutant(ROWS, "sum(known) if known", "known[0] if known", _test("a_reply_of_many_rows_is_billed_once_by_the_last")),
    Mutant(
        HOME + "attachments.py",
        "for number, line in enumerate(lines, first)",
        "for number, line in enumerate(lines, 1)",
        _test("what_is_sent_and_not_shown_is_in"),
    ),
    Mutant(PI, "known[at][2] != entry.by", "False", _test("another_models_thinking_is_told_as_words")),
    Mutant(
        PI,
        "kept = entries[path.index(keeps) : last] if keeps in path[:last] else []",
        "kept = []",
        _test("a_compaction_of_pi_keeps_what_it_says"),
    ),
    Mutant(
        PI,
        "messages += [MISSING] * len(waiting)",
        "pass",
        _test("failed_replies_of_pi_are_not_sent_and_calls_get_a_result"),
    ),
    Mutant(QWEN, "sent = list(self.begins[one])", "sent += self.begins[one]", _test("the_ledger_is_brute_force")),
    Mutant(
        QWEN,
        "output += thinking",
        "pass",
        _test("the_ledger_is_brute_force"),
    ),
    Mutant(QWEN, "names[:at]}", "names}", _test("a_session_of_gemini_that_went_back")),
    Mutant(
        ATIF, 'if step.get("is_copied_context") is True:', "if False:", _test("sub_agents_and_continued_trajectories")
    ),
    Mutant(ATIF, "not path.is_relative_to(home) or", "", _test("sub_agents_and_continued_trajectories")),
    Mutant(ATIF, "results.sort(", "sorted(results, ", _test("steps_of_atif")),
]
