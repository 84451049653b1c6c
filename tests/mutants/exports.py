"""Mutants of the readers of runs, data sets and chat programs, and of how files that are no session are told."""

from tests.mutants import Mutant

HOME, TESTS, UNKNOWN = (
    "labkit/thinking/sessions/",
    "tests/test_sessions_exports.py::",
    "tests/test_sessions_unknown.py::",
)
LAW, SWE, EVENTS = (
    TESTS + "test_the_ledger_is_brute_force",
    HOME + "formats/swe_agent.py",
    HOME + "formats/openhands.py",
)
SDK, WEBUI, GPT = HOME + "formats/openhands_sdk.py", HOME + "formats/open_webui.py", HOME + "formats/chatgpt.py"
OF_EVENTS = TESTS + "test_events_of_one_response_are_one_call_and_reasoning_is_not_sent_again"
OF_SDK = TESTS + "test_sdk_actions_usage_and_logs_among_events"
FINE = UNKNOWN + "test_what_looks_like_thinking_and_is_none_is_no_error"
LOST = UNKNOWN + "test_words_and_thinking_that_a_reader_loses_are_an_error"

MUTANTS = [
    Mutant(SWE, "and any(query):", "and not any(query):", TESTS + "test_a_query_counts_and_not_the_history"),
    Mutant(SWE, "if step is steps[-1] and", "if False and", TESTS + "test_steps_of_before_there_were_queries"),
    Mutant(SWE, "while found and found[0][0] <= self.at:", "while False:", LAW + "[swe-agent]"),
    Mutant(
        HOME + "formats/mini_swe.py",
        "if came or refused:",
        "if came:",
        TESTS + "test_a_response_that_could_not_be_used_is_a_call",
    ),
    Mutant(EVENTS, 'if name != "reasoning_content"}', "}", OF_EVENTS),
    Mutant(EVENTS, "if reply is not None and not again:", "if reply is not None:", OF_EVENTS),
    Mutant(EVENTS, "ends[0] <= name <= ends[1]", "ends[0] < name <= ends[1]", OF_EVENTS),
    Mutant(
        EVENTS,
        "events.insert(self.summary[1], self.summary[0])",
        "events.append(self.summary[0])",
        LAW + "[openhands, events]",
    ),
    Mutant(SDK, "[*view[:at], summary, *view[at:]]", "[*view, summary]", LAW + "[openhands-sdk, events]"),
    Mutant(SDK, "if parent != self.last:", "if False:", LAW + "[openhands-sdk, events]"),
    Mutant(SDK, "count - before.get(key, 0)", "count", OF_SDK),
    Mutant(SDK, "_both(self.waiting[2], message)", "self.waiting[2]", OF_SDK),
    Mutant(WEBUI, "gathered.call([*sent, *said[:i]], said[i]", "gathered.call(sent, said[i]", LAW + "[open-webui]"),
    Mutant(
        WEBUI,
        'html.unescape(body) if body.startswith("&gt;") else body',
        "html.unescape(body)",
        TESTS + "test_chats_of_open_webui",
    ),
    Mutant(
        GPT, "return not ends or any(ends)", "return not ends or all(ends)", TESTS + "test_conversations_of_chatgpt"
    ),
    Mutant(GPT, 'to != "all" and said', "False", TESTS + "test_conversations_of_chatgpt"),
    Mutant(
        HOME + "formats/sharegpt.py",
        'name if name not in taken else f"{name} ({n})"',
        "name",
        TESTS + "test_many_conversations_are_threads_of_their_own",
    ),
    Mutant(HOME + "tags.py", "return ast.literal_eval(text.strip())", "raise reason", TESTS + "test_tags_of_hermes"),
    Mutant(
        HOME + "formats/hermes.py", "for one in tags.results(said)", "for one in [said]", TESTS + "test_tags_of_hermes"
    ),
    Mutant(HOME + "formats/lmsys.py", "name + SIDES[side][0]", "name", TESTS + "test_rows_of_lmsys"),
    Mutant(
        HOME + "format.py",
        "if sign and value != [] else 0)",
        "if sign else 0)",
        UNKNOWN + "test_an_empty_list_steals_no_file",
    ),
    Mutant(HOME + "reading.py", "if words not in known and not", "if not", FINE),
    Mutant(HOME + "reading.py", "if thinks or gathered.unseen_thinking:", "if True:", LOST),
    Mutant(
        HOME + "gathering.py",
        "if row is not None and not self.unseen_thinking:",
        "if False:",
        UNKNOWN + "test_thinking_of_rows_that_are_left_out_is_missed_nowhere",
    ),
    Mutant(
        HOME + "looks.py",
        "if head.startswith(sign, at):",
        "if False:",
        UNKNOWN + "test_a_file_that_is_no_session_says_what_it_is",
    ),
]
