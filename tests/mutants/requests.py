"""Mutants of the readers of request logs: which call gets which reply, what a rendered prompt says, what is told."""

from tests.mutants import Mutant

SESSIONS, TESTS = "labkit/thinking/sessions", "tests/test_sessions_requests.py"
OPENAI, BODIES, PARTS = (f"{SESSIONS}/{name}.py" for name in ("formats/openai", "bodies", "parts"))
RENDERED, CALL = f"{SESSIONS}/rendered.py", "labkit/reuse/call.py"

MUTANTS = [
    Mutant(
        OPENAI,
        "and not any(map(chains.extends, requests))",
        "",
        f"{TESTS}::test_pictures_of_one_conversation_are_calls_each",
    ),
    Mutant(
        OPENAI,
        "waiting.pop((loose[at - 1],), None)",
        "None",
        f"{TESTS}::test_replies_are_found_though_a_clock_runs_but_not_in_another_conversation",
    ),
    Mutant(
        OPENAI,
        'if message["role"] != but:',
        "if True:",
        f"{TESTS}::test_replies_are_found_though_a_clock_runs_but_not_in_another_conversation",
    ),
    Mutant(
        OPENAI,
        "leave_out(FAILED)\n            self.requests[at] = None",
        "leave_out(FAILED)",
        f"{TESTS}::test_choices_and_errors_are_counted",
    ),
    Mutant(
        OPENAI,
        "at = self.waiting.pop(names[0]) if names else self.last",
        "at = self.last",
        f"{TESTS}::test_responses_find_their_requests",
    ),
    Mutant(BODIES, '"input": known[0] + known[1]', '"input": known[1]', f"{TESTS}::test_what_was_billed_and_when"),
    Mutant(
        BODIES,
        "at = str(n if index is None else index)",
        "at = str(n)",
        f"{TESTS}::test_calls_of_a_stream_by_their_index",
    ),
    Mutant(PARTS, "while value > 1e11:", "while value > 1e14:", f"{TESTS}::test_times_of_any_kind"),
    Mutant(
        RENDERED,
        "            if rules.render(",
        "            if not rules.render(",
        f"{TESTS}::test_prompts_of_other_openings",
    ),
    Mutant(RENDERED, "thinks = False", "thinks = None", f"{TESTS}::test_prompts_of_other_openings"),
    Mutant(
        f"{SESSIONS}/formats/sglang.py", "    if cut:", "    if False:", f"{TESTS}::test_sglang_logs_of_other_levels"
    ),
    Mutant(
        f"{SESSIONS}/formats/llama_server.py",
        "cached = whole - read",
        "cached = read",
        f"{TESTS}::test_slots_and_verbose_responses_of_llama_server",
    ),
    Mutant(
        f"{SESSIONS}/formats/langsmith.py",
        "if all(time is not None for time in times):",
        "if False:",
        f"{TESTS}::test_runs_of_langsmith",
    ),
    Mutant(
        f"{SESSIONS}/gathering.py",
        'if kept[-1]["role"] == "assistant":',
        "if False:",
        f"{TESTS}::test_a_reply_begun_that_no_template_goes_on_from",
    ),
    Mutant(
        "labkit/thinking/rules.py",
        ' or messages[i].get("content") is None:',
        ":",
        f"{TESTS}::test_a_reply_that_was_begun_is_rendered_as_transformers_does",
    ),
    Mutant(CALL, 'if "</think>" in body:', "if False:", f"{TESTS}::test_dropping_drops_inline_thinking_too"),
    Mutant(
        f"{SESSIONS}/rows.py",
        "self.known, self.others = True, self.problems.emptied()",
        "self.known = True",
        f"{TESTS}::test_a_log_of_llama_server_counts_its_other_lines",
    ),
]
