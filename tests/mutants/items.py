"""Mutants of the readers of Responses, Codex, Anthropic, Cline, Roo and Cursor."""

from tests.mutants import Mutant

HOME, TEST = "labkit/thinking/sessions/", "tests/test_sessions_items.py::test_"
CODEX, RESPONSES, ROO = HOME + "formats/codex.py", HOME + "formats/responses.py", HOME + "formats/roo.py"
CLINE, CURSOR, ANTHROPIC = HOME + "formats/cline.py", HOME + "formats/cursor.py", HOME + "formats/anthropic.py"
BLOCKS, ITEMS, ASIDES = HOME + "blocks.py", HOME + "items.py", HOME + "asides.py"
COUNTED = TEST + "tokens_that_are_counted_belong_to_their_call"

MUTANTS = [
    Mutant(CODEX, "(total is not None and total == self.counted)", "False", COUNTED),
    Mutant(
        CODEX,
        "        if self._ended():\n            self.usage = usage(",
        "        if True:\n            self.usage = usage(",
        TEST + "two_samplings_in_a_row_are_two_calls",
    ),
    Mutant(
        CODEX,
        "self.items = self.items.messages, Items(self.gathered)",
        "self.items = self.items.messages, self.items",
        TEST + "a_compaction_without_a_history_is_rebuilt_and_told",
    ),
    Mutant(
        CODEX, 'reply["reasoning_content"] = raw', "pass", TEST + "thinking_that_an_event_alone_tells_reaches_the_reply"
    ),
    Mutant(CODEX, "messages[:stop]", "messages", TEST + "turns_that_were_taken_back_are_not_sent"),
    Mutant(
        CODEX, "if self.known or self.items.messages:", "if False:", TEST + "heads_of_forked_rollouts_and_empty_replies"
    ),
    Mutant(
        ITEMS, "thought or summary}", "thought}", TEST + "thinking_that_is_encrypted_is_reported_and_its_summary_read"
    ),
    Mutant(ITEMS, '{"input": _text(item, "input")}', '_text(item, "input")', TEST + "tools_of_every_kind_are_calls"),
    Mutant(
        RESPONSES,
        "own = billed if len(replies) == 1 else None",
        "own = billed",
        TEST + "a_tool_of_the_provider_parts_an_answer",
    ),
    Mutant(
        RESPONSES,
        "self.chains[name] = items.messages",
        "self.chains[name] = sent",
        TEST + "instructions_are_those_of_the_request_alone",
    ),
    Mutant(
        RESPONSES,
        'if answer.get("error") and not answer.get("output"):',
        "if False:",
        TEST + "a_failed_request_is_no_call",
    ),
    Mutant(
        BLOCKS,
        "whole += sum(count for count in (written, cached) if type(count) is int)",
        "pass",
        TEST + "anthropic_bills_what_was_cached_apart",
    ),
    Mutant(
        BLOCKS,
        '        gathered.unseen(line, REDACTED)\n    elif kind == "thinking"',
        '        pass\n    elif kind == "thinking"',
        TEST + "redacted_thinking_is_reported_and_counted",
    ),
    Mutant(
        ANTHROPIC,
        'address.partition("?")[0].endswith("/count_tokens")',
        "False",
        TEST + "requests_that_failed_or_count_are_no_calls",
    ),
    Mutant(CLINE, "range(last + 1, i)", "range(last, i)", TEST + "cline_bills_and_cuts_what_the_file_beside_says"),
    Mutant(
        ASIDES,
        'told.get("apiProtocol") != "openai"',
        "True",
        TEST + "requests_are_placed_by_their_time_and_repeated_ones_count_once",
    ),
    Mutant(
        ASIDES,
        "placed[at], waiting = before[-1], waiting[len(before) :]",
        "placed[at], waiting = before[0], waiting[1:]",
        TEST + "requests_are_placed_by_their_time_and_repeated_ones_count_once",
    ),
    Mutant(ROO, "i + 1 + len(gone)", "i + 1", TEST + "roo_hides_what_a_truncation_hides_from_when_it_can_have"),
    Mutant(
        ROO,
        'KEPT if one.get("role") == "assistant" else 0',
        "0",
        TEST + "summaries_of_roo_begin_anew_and_those_of_the_assistant_kept_three",
    ),
    Mutant(
        CURSOR, "call is not None and call == before", "False", TEST + "tools_of_one_call_of_the_model_are_one_reply"
    ),
    Mutant(
        CURSOR,
        "for one in order or _timely(known)",
        "for one in known",
        TEST + "composers_are_threads_and_what_is_missing_is_told",
    ),
]
