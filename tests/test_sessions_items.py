"""The law and the traps of Responses, Codex, Anthropic, Cline, Roo and Cursor."""

import json

import pytest

import labkit as lk
from labkit import thinking
from labkit.errors import InputError
from tests import logs, writers_items

BARE = {"schemas": False, "system": False}  # what a file does not hold of a story
LAWS = {  # writer: its format, (branches, compacted) that it can hold, what it cannot
    "responses": ("responses", [(0, False), (2, False), (1, True)], {}),
    "responses_chained": ("responses", [(0, False), (2, False)], {}),
    "responses_events": ("responses", [(0, False), (1, True)], {}),
    "responses_sse": ("responses", [(0, False), (1, True)], {}),
    "responses_items": ("responses", [(0, False)], {"schemas": False}),
    "codex": ("codex", [(0, False), (0, True)], {"schemas": False}),
    "codex_before": ("codex", [(0, False), (0, True)], {"schemas": False}),
    "codex_bare": ("codex", [(0, False)], {"schemas": False}),
    "anthropic": ("anthropic", [(0, False), (2, False), (1, True)], {}),
    "anthropic_bodies": ("anthropic", [(0, False), (1, True)], {}),
    "anthropic_sse": ("anthropic", [(0, False), (1, True)], {}),
    "anthropic_events": ("anthropic", [(0, False), (1, True)], {}),
    "anthropic_list": ("anthropic", [(0, False)], BARE),
    "cline": ("cline", [(0, False)], BARE),
    "roo": ("roo", [(0, False), (0, True)], BARE),
    "cursor": ("cursor", [(0, False)], BARE),
    "cursor_composer": ("cursor", [(0, False)], BARE),
    "cursor_agent": ("cursor", [(0, False)], BARE),
}


@pytest.fixture(scope="module")
def tokenizer():
    return lk.load("nano").tokenizer


def drawn(seed, branches=0, compacted=False, schemas=True, **more):
    """A story that a format can hold."""
    story = logs.Story(seed, branches=branches, compacted=compacted, **more)
    story.tools = story.tools if schemas else None
    return story


@pytest.mark.parametrize("name", LAWS)
def test_the_ledger_of_a_file_is_brute_force(tmp_path, tokenizer, name):
    form, shapes, more = LAWS[name]
    for seed, (branches, compacted) in enumerate(shapes):
        story = drawn(seed, branches, compacted, **more)
        path = tmp_path / f"session{seed}.json"
        path.write_text(getattr(writers_items, name)(story), encoding="utf-8")
        session = thinking.read_session(path)
        assert session.format == form and not session.problems
        assert logs.same(session, story.exchanges())
        for policy in ("strip", "preserve", "drop"):
            found = logs.ledger(session, tokenizer, policy)
            assert found == logs.counted(story.exchanges(), tokenizer, policy)
            assert len(found) > 3 and any(row[2] > 20 for row in found)


def written(tmp_path, rows, name="session.json"):
    """A session of rows, JSON one a line, or of a text."""
    path = tmp_path / name
    path.write_text(rows if isinstance(rows, str) else writers_items.lines(rows), encoding="utf-8")
    return thinking.read_session(path)


def small(name):
    """A file of a format for attacks on it."""
    form, _, more = LAWS[name]
    return form, getattr(writers_items, name)(drawn(3, turns=2, **more))


FILES = {name: small(name) for name in LAWS}
ASKED = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "why?"}]}
SAID = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "so"}]}
CALLED = {"type": "function_call", "call_id": "1", "name": "read", "arguments": '{"path": "a"}'}
OUTPUT = {"type": "function_call_output", "call_id": "1", "output": "7"}


def roles(session):
    """Who spoke in what was sent for each call."""
    return [" ".join(message["role"] for message in call.sent) for call in session.calls]


# --------------------------------------------------------------------------------------------------------- responses


def responses(tmp_path, *output, asked=None, **answer):
    """A session of one request and its answer."""
    request = {"model": "m", "input": [ASKED]} | (asked or {})
    answer = {"id": "r1", "object": "response", "output": list(output)} | answer
    return written(tmp_path, [request | {"response": answer}])


def test_responses_bill_the_input_with_what_was_cached(tmp_path):
    usage = {"input_tokens": 90, "input_tokens_details": {"cached_tokens": 64}, "output_tokens": 8}
    usage |= {"output_tokens_details": {"reasoning_tokens": 5}, "total_tokens": 98}
    (call,) = responses(tmp_path, SAID, usage=usage, created_at=1.7e9).calls
    assert call.usage == thinking.Usage(input=90, cached=64, output=8, thinking=5)
    assert (call.time, call.model) == (1.7e9, "m")


@pytest.mark.parametrize("summary", ["", "in short"])
def test_thinking_that_is_encrypted_is_reported_and_its_summary_read(tmp_path, summary):
    text = [{"type": "summary_text", "text": summary}] if summary else []
    thought = {"type": "reasoning", "id": "rs", "summary": text, "encrypted_content": "gAAA"}
    session = responses(tmp_path, thought, SAID)
    assert session.calls[0].reply.get("reasoning_content", "") == summary and session.calls[0].reply["content"] == "so"
    assert [line for line, _ in session.problems] == [1] and "encrypted" in session.problems[0][1]
    assert session.left_out[0][0] == 1 and "encrypted" in session.left_out[0][1]


def test_a_response_before_that_is_not_in_the_file_is_a_problem(tmp_path):
    session = responses(tmp_path, SAID, asked={"previous_response_id": "r0"})
    assert roles(session) == ["user"]
    assert session.problems[0][0] == 1 and "'r0'" in session.problems[0][1] and "missing" in session.problems[0][1]


def test_instructions_are_those_of_the_request_alone(tmp_path):
    rows = []
    for n, words in enumerate(["be brief", "be long"]):
        request = {"input": f"{n}?", "instructions": words, "previous_response_id": f"r{n - 1}" if n else None}
        rows.append({"request": request, "response": {"id": f"r{n}", "object": "response", "output": [SAID]}})
    session = written(tmp_path, rows)
    assert [call.sent[0]["content"] for call in session.calls] == ["be brief", "be long"]
    assert roles(session) == ["system user", "system user assistant user"]


def test_tools_of_every_kind_are_calls(tmp_path):
    custom = {"type": "custom_tool_call", "call_id": "2", "name": "patch", "input": '{"x": 1}'}
    shell = {"type": "local_shell_call", "call_id": "3", "status": "completed", "action": {"command": ["ls"]}}
    search = {"type": "web_search_call", "id": "4", "status": "completed", "action": {"query": "q"}}
    session = responses(tmp_path, CALLED, custom, shell, search)
    names = [call["function"] for call in session.calls[0].reply["tool_calls"]]
    assert [call["name"] for call in names] == ["read", "patch", "local_shell", "web_search"]
    assert [call["arguments"] for call in names] == [
        {"path": "a"},
        {"input": '{"x": 1}'},
        {"command": ["ls"]},
        {"query": "q"},
    ]
    assert not session.problems and session.left_out[0][0] == 1 and "provider" in session.left_out[0][1]


def test_a_tool_of_the_provider_parts_an_answer(tmp_path):
    mcp = {"type": "mcp_call", "name": "look", "arguments": "{}", "output": "seven", "server_label": "s"}
    session = responses(tmp_path, mcp, SAID, usage={"input_tokens": 9})
    assert roles(session) == ["user", "user assistant tool"]
    assert session.calls[1].sent[-1]["content"] == "seven" and session.calls[1].reply["content"] == "so"
    assert session.calls[0].usage is None and session.calls[1].usage is None


def test_a_failed_request_is_no_call(tmp_path):
    rows = [{"input": "a?", "model": "m", "response": {"object": "response", "error": {"code": "x"}, "output": []}}]
    rows.append({"input": "b?", "model": "m", "response": {"object": "response", "output": [SAID]}})
    session = written(tmp_path, rows)
    assert len(session.calls) == 1 and session.left_out == ((1, "a request that failed"),)


def test_an_item_that_cannot_be_read_is_a_problem_and_the_rest_is_read(tmp_path):
    session = responses(tmp_path, {"type": "hologram"}, 7, {"type": "message", "role": None, "content": "x"}, SAID)
    assert session.calls[0].reply["content"] == "so"
    assert [reason for _, reason in session.problems] == [
        "item 1: an item of unknown type 'hologram'",
        "item 2: a int where an object is needed",
        "item 3: no message: it has no role",
    ]


# ------------------------------------------------------------------------------------------------------------- codex


def rollout(*rows):
    """Rows of a rollout, a second apart; a dict is an item, a tuple (type, payload)."""
    pairs = [row if isinstance(row, tuple) else ("response_item", row) for row in rows]
    return [writers_items._row(kind, payload, 1.7e9 + n) for n, (kind, payload) in enumerate(pairs)]


def count(n, total=None):
    """A count of tokens after a sampling."""
    last = {"input_tokens": n, "cached_input_tokens": n - 1, "output_tokens": 3, "reasoning_output_tokens": 2}
    info = {"last_token_usage": last, "total_token_usage": {"total_tokens": total or n}}
    return "event_msg", {"type": "token_count", "info": info}


NONE = ("event_msg", {"type": "token_count", "info": None, "rate_limits": {}})
TURN = ("turn_context", {"model": "gpt-5", "effort": "high", "cwd": "/"})


@pytest.mark.parametrize(
    "order",
    [
        [CALLED, count(10), OUTPUT, SAID, count(20)],
        [count(10), CALLED, OUTPUT, count(20), SAID],
        [CALLED, OUTPUT, count(10), SAID, count(20)],
        [NONE, CALLED, count(10), count(10), NONE, OUTPUT, SAID, count(20), count(20)],
    ],
)
def test_tokens_that_are_counted_belong_to_their_call(tmp_path, order):
    session = written(tmp_path, rollout(TURN, ASKED, *order))
    assert [call.usage.input for call in session.calls] == [10, 20] and not session.problems
    assert session.calls[1].usage == thinking.Usage(input=20, cached=19, output=3, thinking=2)
    assert {call.model for call in session.calls} == {"gpt-5"}
    assert session.calls[0].time == 1.7e9 + 2 + next(n for n, row in enumerate(order) if row is CALLED)


def test_parallel_calls_of_tools_are_one_reply(tmp_path):
    session = written(tmp_path, rollout(TURN, ASKED, CALLED, CALLED, OUTPUT, OUTPUT, SAID))
    assert roles(session) == ["user", "user assistant tool tool"]
    assert len(session.calls[0].reply["tool_calls"]) == 2


def test_two_samplings_in_a_row_are_two_calls(tmp_path):
    session = written(tmp_path, rollout(TURN, ASKED, SAID, count(10), SAID, count(20)))
    assert roles(session) == ["user", "user assistant"]


def test_events_that_repeat_items_are_counted_and_left_out(tmp_path):
    events = [("event_msg", {"type": name}) for name in ("user_message", "agent_message", "task_started")]
    session = written(tmp_path, rollout(TURN, ASKED, SAID, *events))
    assert {reason: number for number, reason in session.left_out} == {
        "events that repeat items": 2,
        "events of the program": 1,
        "settings of a turn": 1,
        "the system text and tools, which the file does not hold": 1,
    }


def test_thinking_that_an_event_alone_tells_reaches_the_reply(tmp_path):
    thought = {"type": "reasoning", "summary": [{"type": "summary_text", "text": "short"}], "encrypted_content": None}
    event = ("event_msg", {"type": "agent_reasoning_raw_content", "text": "all that was thought"})
    for rows in ([thought, event], [event, thought]):
        session = written(tmp_path, rollout(TURN, ASKED, *rows, SAID))
        assert session.calls[0].reply["reasoning_content"] == "all that was thought"


def test_turns_that_were_taken_back_are_not_sent(tmp_path):
    context = ASKED | {"content": [{"type": "input_text", "text": "<environment_context>x</environment_context>"}]}
    back = ("event_msg", {"type": "thread_rolled_back", "num_turns": 1})
    session = written(tmp_path, rollout(TURN, context, ASKED, SAID, ASKED, SAID, back, ASKED, SAID))
    assert roles(session) == ["user user", "user user assistant user", "user user assistant user"]
    session = written(tmp_path, rollout(TURN, context, ASKED, SAID, ("event_msg", {**back[1], "num_turns": -1})))
    assert session.problems[0][0] == 5 and "-1" in session.problems[0][1]


def test_a_compaction_without_a_history_is_rebuilt_and_told(tmp_path):
    session = written(tmp_path, rollout(TURN, ASKED, CALLED, OUTPUT, SAID, ("compacted", {"message": "sum"}), SAID))
    assert roles(session) == ["user", "user assistant tool", "user user"]
    assert session.calls[2].sent[1]["content"] == "sum"
    assert [line for line, _ in session.problems] == [6] and "rebuilt" not in session.problems[0][1]
    sealed = {"message": "", "replacement_history": [ASKED, {"type": "compaction", "encrypted_content": "g"}]}
    session = written(tmp_path, rollout(TURN, ASKED, SAID, ("compacted", sealed), ASKED, SAID))
    assert roles(session) == ["user", "user user"] and "encrypted" in session.problems[0][1]


def test_heads_of_forked_rollouts_and_empty_replies(tmp_path):
    head = ("session_meta", {"id": "1", "base_instructions": {"text": "be brief"}, "forked_from_id": "0"})
    other = ("session_meta", {"id": "0", "base_instructions": {"text": "be long"}})
    empty = {"type": "reasoning", "summary": []}
    session = written(tmp_path, rollout(head, other, TURN, ASKED, empty, ASKED, SAID))
    assert roles(session) == ["system user user"] and session.calls[0].sent[0]["content"] == "be brief"
    assert {"the head of a session that this one was forked from"} < {reason for _, reason in session.left_out}


def test_rows_of_a_rollout_that_cannot_be_read(tmp_path):
    rows = [*rollout(TURN, ASKED, ("hologram", {})), {"type": "response_item", "payload": 7}, *rollout({"a": 1}, SAID)]
    session = written(tmp_path, rows)
    assert [line for line, _ in session.problems] == [3, 4, 5] and len(session.calls) == 1
    assert "'hologram'" in session.problems[0][1] and "unknown type None" in session.problems[2][1]


# --------------------------------------------------------------------------------------------------------- anthropic


def anthropic(tmp_path, *content, sent="why?", **more):
    """A session of one request and its answer."""
    request = {"model": "m", "max_tokens": 9, "system": "be brief", "messages": [{"role": "user", "content": sent}]}
    answer = {"type": "message", "role": "assistant", "content": list(content)}
    return written(tmp_path, [{"request": request | more.pop("asked", {}), "response": answer | more}])


TEXT = {"type": "text", "text": "so"}


def test_anthropic_bills_what_was_cached_apart(tmp_path):
    usage = {"input_tokens": 3, "cache_creation_input_tokens": 40, "cache_read_input_tokens": 500, "output_tokens": 8}
    (call,) = anthropic(tmp_path, TEXT, usage=usage).calls
    assert call.usage == thinking.Usage(input=543, cached=500, written=40, output=8)
    story = drawn(0, turns=1)
    assert written(tmp_path, writers_items.anthropic_sse(story)).calls[0].usage.output == 8


def test_redacted_thinking_is_reported_and_counted(tmp_path):
    sealed, signed = {"type": "redacted_thinking", "data": "Eo"}, {"type": "thinking", "thinking": "", "signature": "s"}
    session = anthropic(tmp_path, sealed, sealed, signed, TEXT)
    assert session.calls[0].reply == {"role": "assistant", "content": "so"}
    assert len(session.problems) == 2 and "redacted" in session.problems[1][1]
    assert sorted(session.left_out)[1][0] == 2


def test_a_prefilled_answer_stands_last_in_what_was_sent(tmp_path, tokenizer):
    talk = [{"role": "user", "content": "why?"}, {"role": "assistant", "content": "because"}]
    session = anthropic(tmp_path, TEXT, asked={"messages": talk, "thinking": {"type": "disabled"}})
    (call,) = session.calls
    assert roles(session) == ["system user assistant"] and call.reply["content"] == "so"
    assert call.enable_thinking is False and logs.ledger(session, tokenizer)[0][0] > 0


def test_documents_pictures_and_results(tmp_path):
    source = {"type": "text", "media_type": "text/plain", "data": "a page"}
    picture = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iV"}}
    sealed = {"type": "document", "source": {"type": "base64", "data": "JV"}}
    result = {"type": "tool_result", "tool_use_id": "t", "content": [TEXT, picture]}
    sent = [result, {"type": "document", "source": source}, sealed, TEXT | {"cache_control": {"type": "ephemeral"}}]
    session = anthropic(tmp_path, TEXT, sent=sent)
    _, tool, user = session.calls[0].sent
    assert [item["type"] for item in tool["content"]] == ["text", "image"] and user["content"] == "a page\nso"
    assert session.problems == ((1, "a document as 'base64', whose text is not in the file"),)


def test_tools_of_the_provider_part_an_answer(tmp_path):
    use = {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"query": "q"}}
    page = {"type": "web_search_result", "title": "A", "url": "https://a", "encrypted_content": "E"}
    session = anthropic(tmp_path, use, {"type": "web_search_tool_result", "content": [page]}, TEXT)
    assert roles(session) == ["system user", "system user assistant tool"]
    assert session.calls[1].sent[-1]["content"] == "A\nhttps://a" and session.left_out[0][0] == 1


def test_requests_that_failed_or_count_are_no_calls(tmp_path):
    ask = {"max_tokens": 9, "system": "x", "messages": [{"role": "user", "content": "why?"}]}
    rows = [{"request": ask, "response": {"type": "error", "error": {"type": "overloaded_error"}}}]
    rows.append({"request": {"url": "/v1/messages/count_tokens?beta=true", "body": ask}, "response": {"body": {}}})
    rows.append({"request": ask, "response": {"type": "message", "role": "assistant", "content": [TEXT]}})
    session = written(tmp_path, rows)
    assert len(session.calls) == 1 and sorted(session.left_out) == [
        (1, "a request that counts tokens"),
        (1, "a request that failed"),
    ]


def test_a_late_system_message_and_an_odd_block_are_told(tmp_path):
    session = anthropic(tmp_path, {"type": "hologram"}, TEXT, 7, sent=[TEXT, {"type": "tool_result", "content": 7}])
    assert session.calls[0].reply["content"] == "so"
    assert [reason for _, reason in session.problems] == [
        "a block of unknown type 'hologram'",
        "a block: a int where an object is needed",
        "a result: a int where a list is needed",
    ]
    bare = [{"type": "message_start", "message": {"usage": {"input_tokens": 5}}}]
    bare += [{"type": "content_block_delta", "delta": {"type": "text_delta", "text": part}} for part in ("s", "o")]
    asked = {"max_tokens": 9, "system": "x", "messages": [{"role": "user", "content": "why?"}]}
    session = written(tmp_path, [{"request": asked, "response": bare}])
    assert session.calls[0].reply["content"] == "so" and session.calls[0].usage.input == 5
    stream = [{"type": "message_start", "message": {"role": "assistant", "content": []}}, {"type": "message_stop"}]
    session = written(
        tmp_path, [*stream, {"role": "user", "content": [TEXT]}, {"role": "assistant", "content": [TEXT]}]
    )
    assert session.problems == ((1, "events of a stream without the request that they answer"),)


# ------------------------------------------------------------------------------------------------------ cline and roo


def history(tmp_path, rows, shown=None, name="api_conversation_history.json"):
    """A session of a history and of what stands beside it."""
    if shown is not None:
        (tmp_path / "ui_messages.json").write_text(json.dumps(shown))
    return written(tmp_path, json.dumps(rows), name)


def entry(role, text, **more):
    """An entry of a history."""
    return {"role": role, "content": [{"type": "text", "text": text}]} | more


TALK = [entry("user" if n % 2 == 0 else "assistant", f"<task>{n}</task>") for n in range(8)]


def request(n, cut=None, **usage):
    """A request as it was shown: `n` is the index of its reply."""
    told = {"request": "...", "tokensIn": 3, "tokensOut": 5, "cacheWrites": 40, "cacheReads": 500} | usage
    made = {"ts": 1000 * n, "type": "say", "say": "api_req_started", "text": json.dumps(told)}
    return made | {"conversationHistoryIndex": n - 2} | ({"conversationHistoryDeletedRange": cut} if cut else {})


def test_cline_bills_and_cuts_what_the_file_beside_says(tmp_path):
    shown = [request(1), request(3), request(5), {"say": "text", "conversationHistoryDeletedRange": [2, 3]}, request(7)]
    session = history(tmp_path, TALK, shown)
    assert session.format == "cline" and not session.problems
    words = [[m["content"][6:-7] for m in call.sent] for call in session.calls]
    assert words == [["0"], ["0", "1", "2"], ["0", "1", "4"], ["0", "1", "2", "3", "4", "5", "6"]]
    assert {call.usage for call in session.calls} == {thinking.Usage(input=543, cached=500, written=40, output=5)}
    (tmp_path / "context_history.json").write_text("[]")
    session = history(tmp_path, TALK, [])
    assert [line for line, _ in session.problems] == [0, 0] and "not applied" in session.problems[0][1]
    assert "0 requests, of which 0 belong to the 4 replies" in session.problems[1][1]
    assert "ui_messages.json" in str(history(tmp_path, TALK, name="x.json").left_out)


def test_requests_are_placed_by_their_time_and_repeated_ones_count_once(tmp_path):
    talk = [one | {"ts": 1000 * n + 1} for n, one in enumerate(TALK)]
    shown = [request(1), request(2, tokensIn=9), request(3), request(5), request(7)]
    shown = [{name: one[name] for name in one if name != "conversationHistoryIndex"} for one in shown]
    session = history(tmp_path, talk, shown)
    assert session.format == "roo" and [call.usage.input for call in session.calls] == [543, 543, 543, 543]
    shown[0]["text"] = json.dumps({"tokensIn": 600, "cacheReads": 500, "apiProtocol": "openai"})
    assert history(tmp_path, talk, shown).calls[0].usage == thinking.Usage(input=600, cached=500)
    shown[0]["text"] = "{"
    session = history(tmp_path, talk, shown)
    assert session.problems[0][0] == 0 and session.problems[0][1].startswith("ui_messages.json, line 1: not JSON")


def test_roo_hides_what_a_truncation_hides_from_when_it_can_have(tmp_path):
    talk = [entry("user" if n % 2 == 0 else "assistant", str(n), ts=n) for n in range(8)]
    talk[1]["truncationParent"] = talk[2]["truncationParent"] = "t"
    talk.insert(3, entry("user", "cut", ts=2, isTruncationMarker=True, truncationId="t"))
    session = history(tmp_path, talk)
    words = [" ".join(message["content"] for message in call.sent) for call in session.calls]
    assert words == ["0", "0 1 2", "0 cut 3 4", "0 cut 3 4 5 6"]
    assert session.problems[0][0] == 1 and "message 4" in session.problems[0][1]


def test_summaries_of_roo_begin_anew_and_those_of_the_assistant_kept_three(tmp_path):
    talk = [entry("user" if n % 2 == 0 else "assistant", str(n), ts=n) for n in range(8)]
    words = lambda calls: [" ".join(message["content"] for message in call.sent) for call in calls]  # noqa: E731
    fresh = [*talk[:4], entry("user", "sum", ts=4, isSummary=True, condenseId="s"), *talk[5:]]
    assert words(history(tmp_path, fresh).calls) == ["0", "0 1 2", "sum", "sum 5 6"]
    kept = [
        *talk[:4],
        entry("assistant", "sum", ts=4, isSummary=True, condenseId="s"),
        *talk[4:],
        entry("user", "8", ts=9),
    ]
    kept += [entry("assistant", "9", ts=10)]
    session = history(tmp_path, kept)
    assert len(session.calls) == 5
    assert words(session.calls)[2:] == ["0 1 2 3 4", "sum 4 5 6", "sum 4 5 6 7 8"]


def test_reasoning_of_roo_in_every_spelling_reaches_the_reply(tmp_path):
    ask, sealed = entry("user", "why?", ts=1), {"type": "reasoning", "role": "assistant", "ts": 2}
    block = {"type": "reasoning", "text": "hm"}
    forms = [
        [entry("assistant", "so", ts=3, reasoning_content="hm")],
        [entry("assistant", "so", ts=3, reasoning_details=[{"type": "reasoning.text", "text": "hm"}])],
        [{"role": "assistant", "ts": 3, "content": [block, TEXT]}],
        [sealed | {"text": "hm", "content": []}, entry("assistant", "so", ts=3)],
        [sealed | {"summary": [{"type": "summary_text", "text": "hm"}]}, entry("assistant", "so", ts=3)],
    ]
    for rows in forms:
        (call,) = history(tmp_path, [ask, *rows]).calls
        assert call.reply == {"role": "assistant", "content": "so", "reasoning_content": "hm"}
    session = history(tmp_path, [ask, sealed | {"encrypted_content": "g"}, entry("assistant", "so", ts=3)])
    assert "redacted" in session.problems[0][1] and len(session.calls) == 1


@pytest.mark.parametrize("more", [{}, {"modelInfo": {"modelId": "m", "providerId": "p", "mode": "act"}}])
def test_entries_of_a_history_that_cannot_be_read(tmp_path, more):
    rows = [
        entry("user", "<task>a</task>", ts=1),
        7,
        {"role": None, "content": []},
        entry("assistant", "b", ts=2, **more),
    ]
    session = history(tmp_path, rows)
    assert session.format == ("cline" if more else "roo") and len(session.calls) == 1
    assert [reason for _, reason in session.problems] == [
        "a int where an object is needed",
        "message 2: no message: role None",
    ]


# ------------------------------------------------------------------------------------------------------------ cursor


def bubble(kind, name, text="", **more):
    """A bubble."""
    return {"type": kind, "bubbleId": name, "text": text} | more


def test_a_database_is_refused_with_how_to_export_it(tmp_path):
    path = tmp_path / "state.vscdb"
    path.write_bytes(b"SQLite format 3\0" + bytes(100))
    with pytest.raises(InputError, match="an SQLite database") as error:
        thinking.read_session(path)
    assert "sqlite3 -json state.vscdb" in str(error.value)


def test_tools_of_one_call_of_the_model_are_one_reply(tmp_path):
    tool = lambda call, **more: {"toolFormerData": {"name": "read", "rawArgs": "{}", "modelCallId": call} | more}  # noqa: E731
    rows = [bubble(1, "a", "why?"), bubble(2, "b", thinking={"text": "hm"}), bubble(2, "c", **tool("m", result="1"))]
    rows += [bubble(2, "d", **tool("m", result="2")), bubble(2, "e", **tool("n", result="3")), bubble(2, "f", "so")]
    session = written(tmp_path, rows)
    assert roles(session) == ["user", "user assistant tool tool", "user assistant tool tool assistant tool"]
    assert session.calls[0].reply["reasoning_content"] == "hm" and len(session.calls[0].reply["tool_calls"]) == 2


def test_composers_are_threads_and_what_is_missing_is_told(tmp_path):
    heads = [{"bubbleId": name, "type": 1} for name in ("b2", "b1", "gone")]
    rows = [{"key": "bubbleId:c1:b1", "value": json.dumps(bubble(2, "b1", "so", tokenCount={"inputTokens": 9}))}]
    rows += [{"key": "bubbleId:c1:b2", "value": json.dumps(bubble(1, "b2", "why?"))}, {"key": "x", "value": None}]
    head = {"fullConversationHeadersOnly": heads, "modelConfig": {"modelName": "q"}}
    rows += [{"key": "composerData:c1", "value": json.dumps(head)}, {"key": "bubbleId:c2:b1", "value": "{"}]
    rows += [{"key": f"bubbleId:c2:{n}", "value": bubble(n, str(n), "z")} for n in (1, 2)]
    session = written(tmp_path, rows)
    assert session.threads == ("c1", "c2") and roles(session) == ["user", "user"]
    assert (session.calls[0].model, session.calls[0].usage.input) == ("q", 9)
    assert [line for line, _ in session.problems] == [0, 5] and "1 bubbles that are not" in session.problems[0][1]
    assert (1, "rows of the database that are no conversation") in session.left_out


def test_transcripts_without_results_say_so(tmp_path):
    use = {"type": "tool_use", "name": "read", "input": {}}
    rows = [{"role": "user", "message": {"content": [TEXT]}}, {"role": "assistant", "message": {"content": [use]}}]
    session = written(
        tmp_path, [*rows, {"role": "assistant", "message": {"content": [TEXT]}}, {"role": "x", "message": {}}]
    )
    assert roles(session) == ["user", "user assistant"]
    assert "results of tools" in session.problems[0][1] and session.problems[1] == (4, "no message: role 'x'")


# -------------------------------------------------------------------------------------------------------------- all


@pytest.mark.parametrize("name", FILES)
def test_files_are_told_apart(tmp_path, name):
    form, text = FILES[name]
    path = tmp_path / "session"
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert thinking.read_session(path).format == form


# ------------------------------------------------------------------------------------------ answers of another kind


@pytest.mark.parametrize("output", ["so", {"role": "assistant", "content": "so"}, [SAID]])
def test_an_output_that_is_words_or_a_message_is_the_reply(tmp_path, output):
    session = written(tmp_path, [{"input": [{"role": "user", "content": "why?"}], "output": output}])
    assert session.format == "responses" and session.calls[0].reply["content"] == "so" and not session.problems


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"input": [ASKED], "output": {"choices": []}}, "an item of unknown type"),
        ({"input": [ASKED], "response": {"choices": []}}, "it has no output: 'choices'"),
        ({"system": "s", "messages": [{"role": "user", "content": "?"}], "response": {"choices": []}}, "no message of"),
    ],
)
def test_an_answer_of_another_interface_is_told(tmp_path, row, reason):
    session = written(tmp_path, [row])
    assert session.calls[0].reply is None
    assert any(line == 1 and reason in why for line, why in session.problems), session.problems


@pytest.mark.parametrize("row", [{"input": [ASKED]}, {"system": "s", "messages": [{"role": "user", "content": "?"}]}])
def test_requests_without_a_response_are_told_once(tmp_path, row):
    session = written(tmp_path, [row, row])
    assert [line for line, reason in session.problems if "without a response" in reason] == [1]
    assert [call.reply for call in session.calls] == [None, None]
