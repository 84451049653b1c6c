"""Sessions of coding agents: trees, compactions, sub-agents, what is sent and not shown, and what was billed."""

import json

import pytest

import labkit as lk
from labkit import thinking
from tests import logs, writers_agents
from tests.writers_agents import iso, lines

FORMATS = {"claude_code": "claude-code", "pi": "pi", "qwen_code": "qwen-code", "gemini": "qwen-code", "atif": "atif"}
TOLD = (
    "The conversation history before this point was compacted into the following summary:\n\n<summary>\n{}\n</summary>"
)


@pytest.fixture(scope="module")
def tokenizer():
    return lk.load("nano").tokenizer


def told(name, seed, **options):
    """A story that a format can hold: in most there is no system text and no tools."""
    whole = name == "atif"
    story = logs.Story(seed, system=whole, **options)
    story.tools = logs.TOOLS if whole else None
    if name == "pi":
        for one in story.said:
            if "summary of" in one.message["content"]:
                one.message["content"] = TOLD.format(one.message["content"])
    return story


def session(folder, text, name="s1.jsonl"):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text if isinstance(text, str) else lines(text), encoding="utf-8")
    return thinking.read_session(path)


FILES = {name: (FORMATS[name], getattr(writers_agents, name)(told(name, 1, branches=1))) for name in FORMATS}


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize(("branches", "compacted"), [(0, False), (2, False), (1, True)])
def test_the_ledger_is_brute_force(tmp_path, tokenizer, name, branches, compacted):
    for seed in range(2):
        story = told(name, seed, branches=branches, compacted=compacted)
        found = session(tmp_path, getattr(writers_agents, name)(story))
        assert found.format == FORMATS[name]
        assert logs.same(found, story.exchanges())
        assert [problem for problem in found.problems if problem[0]] == []
        for policy in ("strip", "preserve", "drop"):
            rows = logs.ledger(found, tokenizer, policy)
            assert rows == logs.counted(story.exchanges(), tokenizer, policy)
        assert len(rows) > 4 and any(row[2] > 40 for row in rows)
        times = [one.time for one in story.said if one.message["role"] == "assistant"]
        assert [call.time for call in found.calls] == pytest.approx(times, abs=0.01)
        assert {call.usage for call in found.calls} <= {
            thinking.Usage(13, 7, 2, 9),
            thinking.Usage(13, 7, None, 9),
            thinking.Usage(13, 7, None, 9, 4),
        }
        assert {call.model for call in found.calls} == {"m"}


def user(name, parent, content, **more):
    row = {"type": "user", "sessionId": "s1", "uuid": name, "parentUuid": parent}
    return row | {"message": {"role": "user", "content": content}} | more


def reply(name, parent, *blocks, of=None, **more):
    blocks = [{"type": "text", "text": block} if isinstance(block, str) else block for block in blocks]
    inner = {"id": of or f"m{name}", "role": "assistant", "content": blocks}
    return {"type": "assistant", "sessionId": "s1", "uuid": name, "parentUuid": parent, "message": inner} | more


def tool(name):
    return {"type": "tool_use", "id": name, "name": "read", "input": {"path": name}}


def shows(name):
    return [{"type": "tool_result", "tool_use_id": name, "content": f"result of {name}"}]


def attachment(name, parent, **given):
    return {"type": "attachment", "sessionId": "s1", "uuid": name, "parentUuid": parent, "attachment": given}


def said(messages):
    """(role, words) of messages."""
    return [(message["role"], message["content"]) for message in messages]


def reasons(found, line):
    return [reason for at, reason in found.problems if at == line]


def test_a_rewound_branch_keeps_its_own_call(tmp_path, tokenizer):
    """Counted as a line, the third prompt is 358 tokens and 343 of them shared."""
    think = {"type": "thinking", "thinking": "so"}
    rows = [user("1", None, "why the test?"), reply("2", "1", think, "read it so then")]
    rows += [user("3", "2", "then" + " then" * 201), reply("4", "3", think, "ok")]
    rows += [user("5", "2", "then?"), reply("6", "5", think, "no")]
    found = session(tmp_path, rows)
    assert [row[::2] for row in logs.ledger(found, tokenizer, "preserve")] == [(15, 0), (238, 23), (38, 30)]
    assert said(found.calls[2].sent)[1:] == [("assistant", "read it so then"), ("user", "then?")]


@pytest.mark.parametrize("last", ["ra", "rb"])
@pytest.mark.parametrize("between", [False, True])
def test_results_of_parallel_calls_hang_on_their_own_rows(tmp_path, last, between):
    first, second = reply("a1", "u", "two", tool("a"), of="m"), reply("a2", "a1", tool("b"), of="m")
    results = [user("rb", "a2", shows("b")), user("ra", "a1", shows("a"))]
    middle = [first, results[1], second, results[0]] if between else [first, second, *results]
    found = session(tmp_path, [user("u", None, "go"), *middle, reply("z", last, "done")])
    assert len(found.calls) == 2 and not found.problems[1:]
    sent = found.calls[1].sent
    assert said(sent)[2:] == [("tool", "result of a"), ("tool", "result of b")]
    assert [call["function"]["arguments"] for call in sent[1]["tool_calls"]] == [{"path": "a"}, {"path": "b"}]
    assert said([found.calls[0].reply]) == [("assistant", "two")] and found.calls[0].line == 2


def test_a_result_that_came_later_was_not_sent(tmp_path):
    rows = [user("u", None, "go"), reply("a", "u", tool("a"), tool("b")), user("ra", "a", shows("a"))]
    rows += [reply("z", "ra", "done"), user("rb", "a", shows("b")), user("v", "z", "on"), reply("y", "v", "ok")]
    rows += [user("ra2", "a", [shows("a")[0] | {"content": "another"}]), reply("x", "ra2", "and")]
    found = session(tmp_path, rows)
    assert [said(call.sent)[2:] for call in found.calls] == [
        [],
        [("tool", "result of a")],
        [("tool", "result of a"), ("assistant", "done"), ("user", "on")],
        [("tool", "another"), ("tool", "result of b")],
    ]


def test_the_same_uuid_twice_is_one(tmp_path):
    rows = [user("1", None, "why?"), reply("2", "1", "so"), user("1", None, "why?"), reply("2", "1", "so")]
    found = session(tmp_path, [*rows, user("1", None, "else?"), reply("3", "2", "then")])
    assert [said(call.sent) for call in found.calls] == [[("user", "why?")], [("user", "why?"), ("assistant", "so")]]
    assert [reasons(found, line) for line in (3, 4)] == [
        [f"the same as line {n} ({n}); the first counts"] for n in (1, 2)
    ]
    assert reasons(found, 5) == ["another content under the id as line 1 (1); the first counts"]


def test_errors_and_what_the_client_made_up_are_no_calls(tmp_path):
    made = lambda *given, **more: (
        reply(*given) | {"message": reply(*given)["message"] | {"model": "<synthetic>"}} | more
    )  # noqa: E731
    rows = [user("1", None, "why?"), made("2", "1", "API Error: 529", isApiErrorMessage=True), reply("e", "2")]
    rows += [made("f", "e", "API Error: overloaded"), user("3", "f", "again"), reply("4", "3", "so")]
    rows += [user("5", "4", "[Request interrupted by user]"), made("6", "5", "No response requested.")]
    rows += [user("7", "6", "on"), reply("8", "7", "then")]
    found = session(tmp_path, rows)
    assert [said(call.sent) for call in found.calls] == [
        [("user", "why?\nagain"), ("assistant", "so"), ("user", "[Request interrupted by user]")]
        + [("assistant", "No response requested."), ("user", "on")]
    ]
    assert {reason: count for count, reason in found.left_out} == {
        "a reply that is an error of the API": 2,
        "a reply that the client made up; it is sent and is no call": 1,
        "an empty reply": 1,
        "an interrupted reply; it is sent and is no call": 1,
    }


def boundary(name, parent=None, **told):
    row = {"type": "system", "subtype": "compact_boundary", "uuid": name, "parentUuid": None, "sessionId": "s1"}
    return row | {"logicalParentUuid": parent, "compactMetadata": {"trigger": "auto", "preTokens": 7} | told}


@pytest.mark.parametrize("behind", ["c", "4"])
@pytest.mark.parametrize("form", ["segment", "uuids"])
def test_a_compaction_keeps_what_it_says(tmp_path, behind, form):
    kept = {"preservedSegment": {"headUuid": "3", "anchorUuid": "c", "tailUuid": "4"}}
    if form == "uuids":
        kept = {"preservedMessages": {"anchorUuid": "c", "uuids": ["3", "4"]}}
    rows = [user("1", None, "one"), reply("2", "1", "two"), user("3", "2", "three"), reply("4", "3", "four")]
    rows += [boundary("b", "4", **kept), user("c", "b", "what was", isCompactSummary=True)]
    rows += [user("5", behind, "five"), reply("6", "5", "six"), user("7", "2", "back"), reply("8", "7", "eight")]
    found = session(tmp_path, rows)
    assert said(found.calls[2].sent) == [("user", "what was\nthree"), ("assistant", "four"), ("user", "five")]
    assert said(found.calls[1].sent) == [("user", "one"), ("assistant", "two"), ("user", "three")]
    assert said(found.calls[3].sent) == [("user", "one"), ("assistant", "two"), ("user", "back")]


def test_a_summary_without_a_boundary_begins_anew(tmp_path):
    rows = [user("1", None, "one"), reply("2", "1", "two"), user("c", "2", "what was", isCompactSummary=True)]
    found = session(tmp_path, [*rows, reply("3", "c", "so")])
    assert said(found.calls[1].sent) == [("user", "what was")]


def test_results_that_were_cleared(tmp_path):
    rows = [user("u", None, "go"), reply("a", "u", tool("a"), tool("b")), user("r", "a", shows("a") + shows("b"))]
    cut = {"type": "system", "subtype": "microcompact_boundary", "uuid": "c", "parentUuid": "z", "sessionId": "s1"}
    rows += [reply("z", "r", "ok"), cut | {"microcompactMetadata": {"compactedToolIds": ["b"]}}]
    found = session(tmp_path, [*rows, user("v", "c", "on"), reply("y", "v", "so")])
    results = [[words for role, words in said(call.sent) if role == "tool"] for call in found.calls]
    assert results == [[], ["result of a", "result of b"], ["result of a", "[Old tool result content cleared]"]]


def test_what_is_sent_and_not_shown_is_in(tmp_path):
    read = {"type": "text", "file": {"filePath": "a.py", "content": "x\ny", "numLines": 2, "startLine": 9}}
    rows = [user("1", None, "<local-command-caveat>no</local-command-caveat>", isMeta=True)]
    rows += [user("2", "1", "<command-name>/model</command-name>")]
    command = {
        "type": "system",
        "subtype": "local_command",
        "content": "<local-command-stdout>set</local-command-stdout>",
    }
    rows += [command | {"uuid": "3", "parentUuid": "2", "sessionId": "s1"}, user("4", "3", "why?")]
    rows += [attachment("5", "4", type="file", filename="a.py", content=read)]
    rows += [attachment("6", "5", type="hook_additional_context", hookName="Start", content=["one", "two"])]
    rows += [attachment("7", "6", type="plan_mode", reminderType="full"), attachment("8", "7", type="hook_success")]
    rows += [attachment("9", "8", type="todo_reminder", content=[{"status": "pending", "content": "test"}])]
    rows += [attachment("10", "9", type="moon_phase", text="full"), reply("11", "10", tool("a"))]
    rows += [user("12", "11", shows("a")), attachment("13", "12", type="queued_command", prompt="and b?")]
    rows += [attachment("14", "13", type="edited_text_file", filename="b.py", snippet="1 z"), reply("15", "14", "so")]
    found = session(tmp_path, rows)
    (_, first), *rest = said(found.calls[1].sent)
    parts = first.split("<system-reminder>\n")
    assert parts[0].split("\n") == [
        "<local-command-caveat>no</local-command-caveat>",
        "<command-name>/model</command-name>",
        "<local-command-stdout>set</local-command-stdout>",
        "why?",
        "",
    ]
    called, result, hook, todo, moon = parts[1:]
    assert '{"file_path": "a.py"}' in called and "     9→x\n    10→y\n" in result
    assert hook == "Start hook additional context: one\ntwo\n</system-reminder>\n"
    assert "[1. [pending] test]" in todo and moon == "full\n</system-reminder>"
    assert [role for role, _ in rest] == ["assistant", "tool", "user"]
    assert (
        "\nand b?\n" in rest[2][1] and "b.py was modified" in rest[2][1] and rest[2][1].endswith("</system-reminder>")
    )
    assert (1, "an attachment whose words are not in the file (plan_mode)") in found.left_out
    assert (1, "an attachment that is shown and not sent (hook_success)") in found.left_out
    assert reasons(found, 10) == ["an attachment of unknown type 'moon_phase', its text as it stands"]


def test_queued_commands_that_went_into_the_turn_are_sent(tmp_path):
    queue = lambda operation, **more: {"type": "queue-operation", "operation": operation, "sessionId": "s1"} | more  # noqa: E731
    rows = [user("1", None, "go"), reply("2", "1", tool("a")), queue("enqueue", content="taken in")]
    rows += [queue("enqueue", content="typed"), queue("remove"), user("3", "2", shows("a")), reply("4", "3", "ok")]
    rows += [queue("dequeue"), user("5", "4", "typed"), reply("6", "5", "so"), queue("enqueue", content="edited")]
    rows += [queue("popAll", content="edited"), queue("remove"), user("7", "6", "on"), reply("8", "7", "done")]
    found = session(tmp_path, rows)
    words = [[words for role, words in said(call.sent) if role == "user"] for call in found.calls]
    assert words[0] == ["go"] and [w.count("taken in") for w in words[1]] == [0, 1]
    assert said(found.calls[1].sent)[2][0] == "tool" and "while you were working" in words[1][1]
    assert words[2] == [*words[1], "typed"] and words[3] == [*words[2], "on"]
    told = attachment("2a", "2", type="queued_command", prompt="taken in")
    found = session(tmp_path, [*rows[:5], told, user("3", "2a", shows("a")), *rows[6:7]])
    assert "".join(words for _, words in said(found.calls[1].sent)).count("taken in") == 1


def test_sub_agents_are_threads_in_time(tmp_path):
    at = lambda seconds: {"timestamp": iso(1.7e9 + seconds)}  # noqa: E731
    side = {"isSidechain": True}
    rows = [user("1", None, "go", **at(0)), reply("2", "1", tool("a"), **at(1))]
    rows += [user("x1", None, "find", **at(2), **side), reply("x2", "x1", "found", **at(3), **side)]
    rows += [user("y1", None, "look", **at(4), **side), reply("y2", "y1", "seen", **at(9), **side)]
    rows += [user("3", "2", shows("a"), **at(10)), reply("4", "3", "done", **at(11))]
    agent = {"isSidechain": True, "agentId": "a7"}
    files = [user("z1", None, "count", **at(5), **agent), reply("z2", "z1", "three", **at(6), **agent)]
    (tmp_path / "agent-a7.jsonl").write_text(lines(files) + "{broken\n", encoding="utf-8")
    (tmp_path / "agent-b.jsonl").write_text(lines([files[0] | {"sessionId": "other"}]), encoding="utf-8")
    deep = tmp_path / "s1" / "subagents"
    deep.mkdir(parents=True)
    files = [user("w1", None, "walk", **at(7), **side), reply("w2", "w1", "done", **at(8), **side)]
    (deep / "agent-c9.jsonl").write_text(lines(files), encoding="utf-8")
    found = session(tmp_path, rows)
    assert [call.thread for call in found.calls] == ["", "sidechain x1", "a7", "c9", "sidechain y1", ""]
    assert [said(call.sent)[0][1] for call in found.calls] == ["go", "find", "count", "walk", "look", "go"]
    assert said(found.of("").calls[1].sent)[1:] == [("assistant", ""), ("tool", "result of a")]
    problem = next(reason for line, reason in found.problems if line == 0 and "agent-a7" in reason)
    assert problem.startswith("agent-a7.jsonl, line 3: not JSON")
    alone = thinking.read_session(tmp_path / "agent-a7.jsonl")
    assert [(call.thread, call.line) for call in alone.calls] == [("a7", 2)]


def test_a_resumed_file_begins_where_its_rows_do(tmp_path):
    found = session(
        tmp_path, [user("5", "4", "on"), reply("6", "5", "so"), user("7", "6", "and"), reply("8", "7", "ok")]
    )
    assert [len(call.sent) for call in found.calls] == [1, 3]
    assert reasons(found, 1) == ["its parent 4 is not in the file; read from here on"]


def test_a_reply_of_many_rows_is_billed_once_by_the_last(tmp_path):
    used = lambda output: {"input_tokens": 1, "cache_read_input_tokens": 20, "output_tokens": output}  # noqa: E731
    rows = [user("1", None, "go"), reply("2", "1", "a", of="m"), reply("3", "2", tool("b"), of="m")]
    for n, output in ((1, 3), (2, 8)):
        rows[n]["message"]["usage"] = used(output)
    found = session(tmp_path, [*rows, user("4", "3", shows("b")), reply("5", "4", "so")])
    assert [call.usage for call in found.calls] == [thinking.Usage(21, 20, None, 8), None]
    rows[2]["message"]["usage"] = used("many")
    found = session(tmp_path, rows)
    assert found.calls[0].usage == thinking.Usage(21, 20) and "output is 'many'" in reasons(found, 3)[0]


def test_thinking_that_cannot_be_seen_is_told(tmp_path):
    blocks = [{"type": "redacted_thinking", "data": "x"}, {"type": "thinking", "thinking": "", "signature": "y"}]
    found = session(tmp_path, [user("1", None, "go"), reply("2", "1", *blocks, "so")])
    assert found.calls[0].reply == {"role": "assistant", "content": "so"} and len(reasons(found, 2)) == 1
    assert "redacted or encrypted" in reasons(found, 2)[0]
    assert (2, "thinking that is redacted or encrypted, left out") in found.left_out


def test_the_system_text_is_missed_once(tmp_path):
    found = session(tmp_path, [user("1", None, "go"), reply("2", "1", "so")])
    assert [line for line, _ in found.problems] == [0] and "system text" in found.problems[0][1]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (user("x", "2", "on") | {"message": None}, "a user line without a message"),
        (user("x", "2", "on") | {"message": {"role": "user"}}, "a user line without a message"),
        (reply("x", "2") | {"message": {"id": "q"}}, "an assistant line without a message"),
        (reply("x", "2", "on") | {"message": {"id": 7, "content": []}}, "a message id that is no text: 7"),
        (user("x", "2", "on", isSidechain="yes"), "isSidechain is 'yes', not true or false"),
        (user("x", "2", 7), "a int where a list is needed"),
        (user("x", "2", [{"type": "moon"}]), "a block of unknown type 'moon'"),
        (user("x", "2", [shows("a")[0] | {"content": [{"type": "moon"}]}]), "a result: a block of unknown type 'moon'"),
        (reply("x", "2", {"type": "moon"}), "a block of unknown type 'moon'"),
        (user(["x"], "2", "on"), "an id that is no text: ['x']"),
        (user("x", 7, "on"), "a parentUuid that is no text: 7"),
        (attachment("x", "2", type=7), "an attachment of type 7"),
        (attachment("x", "2", type="token_usage", used=1, total=2), "an attachment whose remaining is a NoneType"),
        ({"type": 7}, "a line of unknown type 7"),
        ({"type": "moon", "message": {}}, "a line of unknown type 'moon'"),
        ([1], "a list where an object is needed"),
    ],
)
def test_rows_of_claude_code_that_cannot_be_read(tmp_path, row, reason):
    rows = [user("1", None, "go"), reply("2", "1", "so"), row, user("3", "2", "and?"), reply("4", "3", "ok")]
    found = session(tmp_path, rows)
    assert reasons(found, 3) == [reason]
    assert said(found.calls[-1].sent) == [("user", "go"), ("assistant", "so"), ("user", "and?")]


# ---------------------------------------------------------------------------------------------------------------- pi


def entry(name, parent, kind="message", **more):
    return {"type": kind, "id": name, "parentId": parent, "timestamp": iso(1.7e9)} | more


def asked(name, parent, text):
    return entry(name, parent, message={"role": "user", "content": [{"type": "text", "text": text}]})


def answered(name, parent, *blocks, stop="stop", **more):
    blocks = [{"type": "text", "text": block} if isinstance(block, str) else block for block in blocks]
    inner = {"role": "assistant", "content": blocks, "stopReason": stop, "api": "a", "provider": "p", "model": "m"}
    return entry(name, parent, message=inner | more)


def called(name):
    return {"type": "toolCall", "id": name, "name": "read", "arguments": {"path": name}}


def resulted(name, parent, of):
    inner = {"role": "toolResult", "toolCallId": of, "content": [{"type": "text", "text": f"result of {of}"}]}
    return entry(name, parent, message=inner)


HEAD = {"type": "session", "version": 3, "id": "s", "timestamp": iso(1.7e9), "cwd": "/w"}


def test_a_compaction_of_pi_keeps_what_it_says(tmp_path):
    rows = [HEAD, asked("1", None, "one"), answered("2", "1", "two"), asked("3", "2", "three"), answered("4", "3", "4")]
    rows += [
        entry("c", "4", "compaction", summary="was", firstKeptEntryId="3", tokensBefore=7),
        asked("5", "c", "five"),
    ]
    rows += [answered("6", "5", "six"), entry("d", "6", "compaction", summary="is", firstKeptEntryId="4")]
    rows += [asked("7", "d", "7"), answered("8", "7", "8"), asked("9", "2", "back"), answered("10", "9", "ten")]
    found = session(tmp_path, rows)
    three = [("user", "three"), ("assistant", "4"), ("user", "five")]
    assert [said(call.sent) for call in found.calls[2:]] == [
        [("user", TOLD.format("was")), *three],
        [("user", TOLD.format("is")), *three[1:], ("assistant", "six"), ("user", "7")],
        [("user", "one"), ("assistant", "two"), ("user", "back")],
    ]
    assert not found.problems
    old = [{name: row[name] for name in row if name not in ("id", "parentId", "version")} for row in rows[:8]]
    del old[5]["firstKeptEntryId"]
    old[5]["firstKeptEntryIndex"] = 3
    assert session(tmp_path, old).calls == session(tmp_path, rows[:8]).calls


def test_rows_of_pi_that_are_sent_as_the_users(tmp_path):
    bash = {"role": "bashExecution", "command": "ls", "output": "a b", "exitCode": 2, "cancelled": False}
    rows = [HEAD, asked("1", None, "one"), entry("2", "1", message=bash | {"truncated": True, "fullOutputPath": "/t"})]
    rows += [entry("3", "2", message=bash | {"excludeFromContext": True})]
    rows += [entry("4", "3", message={"role": "hookMessage", "content": "from a hook"})]
    rows += [entry("5", "4", "custom_message", content=[{"type": "text", "text": "custom"}], customType="x")]
    rows += [entry("6", "5", "branch_summary", summary="tried", fromId="9"), entry("7", "6", "custom", data={"a": 1})]
    rows += [entry("8", "7", message=bash | {"output": "", "exitCode": 0, "cancelled": True}), answered("9", "8", "so")]
    found = session(tmp_path, rows)
    branch = (
        "The following is a summary of a branch that this conversation came back from:\n\n<summary>\ntried</summary>"
    )
    assert [words for _, words in said(found.calls[0].sent)] == [
        "one",
        "Ran `ls`\n```\na b\n```\n\nCommand exited with code 2\n\n[Output truncated. Full output: /t]",
        "from a hook",
        "custom",
        branch,
        "Ran `ls`\n(no output)\n\n(command cancelled)",
    ]
    assert (1, "a command that the user kept from the model") in found.left_out


def test_failed_replies_of_pi_are_not_sent_and_calls_get_a_result(tmp_path):
    rows = [HEAD, asked("1", None, "go"), answered("2", "1", "half", stop="aborted"), answered("3", "2", stop="error")]
    rows += [asked("4", "3", "again"), answered("5", "4", called("a"), called("b"), stop="toolUse")]
    rows += [resulted("6", "5", "b"), asked("7", "6", "on"), answered("8", "7", "so")]
    found = session(tmp_path, rows)
    assert [len(call.sent) for call in found.calls] == [2, 6]
    results = [("tool", "result of b"), ("tool", "No result provided"), ("user", "on")]
    assert said(found.calls[1].sent)[3:] == results
    assert {reason for _, reason in found.left_out} == {
        "heads of sessions",
        "a reply that ended with aborted; it is not sent either",
        "a reply that ended with error; it is not sent either",
    }


def test_another_models_thinking_is_told_as_words(tmp_path):
    think = {"type": "thinking", "thinking": "hm"}
    rows = [HEAD, asked("1", None, "go"), answered("2", "1", think, "so"), asked("3", "2", "on")]
    rows += [answered("4", "3", "ok", model="n"), asked("5", "4", "and"), answered("6", "5", "yes")]
    found = session(tmp_path, rows)
    assert found.calls[1].sent[1] == {"role": "assistant", "content": "hmso"}
    assert found.calls[2].sent[1] == {"role": "assistant", "content": "so", "reasoning_content": "hm"}
    assert [call.model for call in found.calls] == ["m", "n", "m"]
    secret = {"type": "thinking", "thinking": "", "thinkingSignature": "x"}
    found = session(tmp_path, [HEAD, asked("1", None, "go"), answered("2", "1", secret, "so")])
    assert "redacted or encrypted" in reasons(found, 3)[0]


def test_pi_counts_what_is_billed(tmp_path):
    used = {"input": 3, "output": 5, "cacheRead": 20, "cacheWrite": 4}
    none = dict.fromkeys(used, 0)
    rows = [HEAD, asked("1", None, "go"), answered("2", "1", "so", usage=used), asked("3", "2", "on")]
    found = session(tmp_path, [*rows, answered("4", "3", "ok", usage=none, timestamp=1.7e12)])
    assert [call.usage for call in found.calls] == [thinking.Usage(27, 20, 4, 5), None]
    assert found.calls[1].time == 1.7e9


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (entry("x", "2", message=None), "a message of unknown role None"),
        (entry("x", "2", message={"role": "robot"}), "a message of unknown role 'robot'"),
        (entry("x", "2", message={"role": "user"}), "a message without content"),
        (entry("x", "2", message={"role": ["user"], "content": "a"}), "a message of unknown role ['user']"),
        (entry("x", "2", message=7), "a int where an object is needed"),
        (entry("x", "2", 7), "a line of unknown type 7"),
        (entry("x", "2", "moon", message={}), "a line of unknown type 'moon'"),
        (entry("x", "2", "branch_summary", summary=7), "a summary that is 7"),
        (entry("x", 7, "label"), "a parentId that is no text: 7"),
        (entry(7, "2", "label"), "an id that is no text: 7"),
        (answered("x", "2", {"type": "moon"}, "a"), "a block of unknown type 'moon'"),
        (entry("x", "2", "compaction", summary="a"), "a compaction that keeps None: read as if it kept nothing"),
    ],
)
def test_rows_of_pi_that_cannot_be_read(tmp_path, row, reason):
    rows = [
        HEAD,
        asked("1", None, "go"),
        answered("2", "1", "so"),
        row,
        asked("3", "2", "and?"),
        answered("4", "3", "ok"),
    ]
    found = session(tmp_path, rows)
    assert reasons(found, 4) == [reason]
    assert said(found.calls[-1].sent) == [("user", "go"), ("assistant", "so"), ("user", "and?")]


# --------------------------------------------------------------------------------------------- Qwen Code, Gemini CLI


def record(name, parent, kind, *parts, role=None, **more):
    parts = [{"text": part} if isinstance(part, str) else part for part in parts]
    role = role or ("model" if kind == "assistant" else "user")
    row = {"uuid": name, "parentUuid": parent, "sessionId": "s", "type": kind, "timestamp": iso(1.7e9)}
    return row | {"message": {"role": role, "parts": parts}} | more


def function(name):
    return {"functionCall": {"id": name, "name": "read", "args": {"path": name}}}


def response(name, given):
    return {"functionResponse": {"id": name, "name": "read", "response": given}}


def test_parts_of_qwen_code(tmp_path):
    rows = [record("1", None, "user", "go ", "on"), record("2", "1", "assistant", function("a"), function("b"))]
    results = [response("a", {"output": "7"}), response("b", {"error": "no"}), response("c", {"x": [1, "é"]})]
    picture = {"inlineData": {"mimeType": "image/png", "data": "AA"}}
    rows += [
        record("3", "2", "tool_result", *results),
        record("4", "3", "user", "too", subtype="mid_turn_user_message"),
    ]
    rows += [record("5", "4", "user", "!", subtype="mid_turn_user_message"), record("6", "5", "assistant", "so")]
    found = session(tmp_path, [*rows, record("7", "6", "user", "see", picture), record("8", "7", "assistant", "ok")])
    tools = [("tool", "7"), ("tool", "no"), ("tool", '{"x":[1,"é"]}'), ("user", "too!")]
    assert said(found.calls[1].sent) == [("user", "go on"), ("assistant", ""), *tools]
    shown = found.calls[2].sent[-1]["content"]
    assert shown == [{"type": "text", "text": "see"}, {"type": "image", "source": picture["inlineData"]}]


def test_threads_and_notes_of_qwen_code(tmp_path):
    side = {"agentId": "a7", "isSidechain": True}
    history = [{"role": "user", "parts": [{"text": "inherited"}]}]
    boot = {"uuid": "x0", "parentUuid": None, "sessionId": "s", "type": "system", "subtype": "agent_bootstrap"} | side
    rows = [record("1", None, "user", "go"), boot | {"systemPayload": {"kind": "fork", "history": history}}]
    rows += [record("x1", "x0", "user", "count", **side), record("x2", "x1", "assistant", "three", **side)]
    rows += [record("2", "1", "assistant", "so"), record("3", "2", "assistant"), record("2", "1", "assistant", "so")]
    rows += [record("4", "3", "user", "hm", subtype="realtime_message"), record("2", "1", "assistant", "other")]
    found = session(tmp_path, [*rows, record("5", "4", "user", "on"), record("6", "5", "assistant", "yes")])
    assert [(call.thread, [words for _, words in said(call.sent)]) for call in found.calls] == [
        ("a7", ["inherited", "count"]),
        ("", ["go"]),
        ("", ["go", "so", "on"]),
    ]
    assert reasons(found, 7) == ["the same as line 5 (2); the first counts"]
    assert reasons(found, 9) == ["another content under the id as line 5 (2); the first counts"]
    assert {reason for _, reason in found.left_out} == {
        "an empty reply",
        "a note of the client (realtime_message)",
    }


@pytest.mark.parametrize("form", ["list", "history", "clientHistory", "rows"])
def test_checkpoints_are_conversations(tmp_path, form):
    contents = [
        {"role": "user", "parts": [{"text": "go"}]},
        {"role": "model", "parts": [{"text": "so"}, function("a")]},
    ]
    contents += [
        {"role": "user", "parts": [response("a", {"output": "7"})]},
        {"role": "model", "parts": [{"text": "ok"}]},
    ]
    document = contents if form in ("list", "rows") else {form: contents, "toolCall": {"name": "x", "args": {}}}
    text = lines(contents) if form == "rows" else json.dumps(document)
    found = session(tmp_path, text, "checkpoint-a.json")
    assert found.format == "qwen-code" and not found.problems
    assert [said(call.sent) for call in found.calls] == [
        [("user", "go")],
        [("user", "go"), ("assistant", "so"), ("tool", "7")],
    ]


def test_a_session_of_gemini_that_went_back(tmp_path):
    say = lambda name, kind, text, **more: {"id": name, "timestamp": iso(1.7e9), "type": kind, "content": text} | more  # noqa: E731
    rows = [{"sessionId": "s", "projectHash": "h", "startTime": iso(1.7e9)}, say("1", "user", [{"text": "go"}])]
    rows += [say("2", "gemini", "so", thoughts=[{"subject": "Look", "description": "there"}]), say("3", "user", "on")]
    rows += [say("4", "gemini", "lost"), say("n", "info", "a note"), {"$rewindTo": "3"}, say("5", "user", "back")]
    tokens = {"input": 9, "output": 4, "cached": 2, "thoughts": 3, "total": 16}
    rows += [say("6", "gemini", ""), say("6", "gemini", "there", tokens=tokens), {"$set": {"summary": "x"}}]
    found = session(tmp_path, rows)
    assert [said(call.sent)[1:] for call in found.calls] == [
        [],
        [("assistant", "so"), ("user", "on")],
        [("assistant", "so"), ("user", "back")],
    ]
    assert found.calls[0].reply["reasoning_content"] == "**Look** there"
    assert found.calls[2].usage == thinking.Usage(9, 2, None, 7, 3) and found.calls[2].line == 10
    whole = {"sessionId": "s", "projectHash": "h", "messages": [rows[1], rows[2], rows[7], rows[9]]}
    document = session(tmp_path, json.dumps(whole, indent=1), "session-1.json")
    assert [said(call.sent) for call in document.calls] == [said(call.sent) for call in found.calls[::2]]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (record("x", "2", "user") | {"message": None}, "a user line without a message"),
        (record("x", "2", "user", role="robot"), "a content of role 'robot'"),
        (record("x", "2", "user") | {"message": {"parts": 7}}, "a int where a list is needed"),
        (record("x", "2", "user", {"moon": 1}), "a part of unknown kind: moon"),
        (record("x", "2", "user", {"text": 7}), "text is a int where text is needed"),
        (record("x", "2", "assistant", {"functionCall": {"args": {}}}, "a"), "a tool call without a name: None"),
        (record("x", "2", "user", {"inlineData": {"mimeType": "audio/wav"}}), "a part that is a 'audio/wav'"),
        (record("x", 7, "user", "a"), "a parentUuid that is no text: 7"),
        ({"id": "x", "type": "moon"}, "a message of type 'moon'"),
        ({"x": 7}, "a row of unknown kind"),
    ],
)
def test_rows_of_qwen_code_that_cannot_be_read(tmp_path, row, reason):
    rows = [record("1", None, "user", "go"), record("2", "1", "assistant", "so"), row]
    found = session(tmp_path, [*rows, record("3", "2", "user", "and?"), record("4", "3", "assistant", "ok")])
    assert reason in reasons(found, 3)
    assert said(found.calls[-1].sent) == [("user", "go"), ("assistant", "so"), ("user", "and?")]


# -------------------------------------------------------------------------------------------------------------- ATIF


def step(source, message, **more):
    return {"source": source, "message": message} | more


def trajectory(*steps, **more):
    steps = [{"step_id": n} | one for n, one in enumerate(steps, 1)]
    return {
        "schema_version": "ATIF-v1.7",
        "session_id": "s",
        "agent": {"name": "a", "version": "1"},
        "steps": steps,
    } | more


def acts(*names):
    return [{"tool_call_id": name, "function_name": "read", "arguments": {"path": name}} for name in names]


def observed(*names):
    return {"results": [{"source_call_id": name, "content": f"result of {name}"} for name in names]}


def test_steps_of_atif(tmp_path):
    two = [{"type": "text", "text": "see"}, {"type": "image", "source": {"media_type": "image/png", "path": "a.png"}}]
    steps = [step("system", "be brief"), step("user", two)]
    steps += [step("agent", "both", tool_calls=acts("a", "b"), observation=observed("b", "a"))]
    steps += [step("agent", "`ls`", observation={"results": [{"content": "a b"}]}), step("agent", "", llm_call_count=0)]
    steps += [step("agent", "twice", llm_call_count=2), step("agent", "last", model_name="n")]
    tools = [{"type": "function", "function": {"name": "read"}}]
    agent = {"name": "a", "version": "1", "model_name": "m", "tool_definitions": tools}
    found = session(tmp_path, json.dumps(trajectory(*steps, agent=agent)))
    assert found.calls[0].sent[1]["content"] == two and {id(call.tools) for call in found.calls} == {id(found.tools)}
    sent = said(found.calls[-1].sent)[2:]
    assert sent[:5] == [
        ("assistant", "both"),
        ("tool", "result of a"),
        ("tool", "result of b"),
        ("assistant", "`ls`"),
        ("user", "a b"),
    ]
    assert [call.reply["content"] for call in found.calls] == ["both", "`ls`", "twice", "last"]
    assert [call.model for call in found.calls] == ["m", "m", "m", "n"]
    assert reasons(found, 1) == ["step 6 is of 2 calls of the model, read as one"]
    assert found.left_out == ((1, "a step of the agent without a call of the model; it is sent"),)


def test_token_ids_of_atif_are_taken_at_their_word(tmp_path, tokenizer):
    metrics = {
        "prompt_tokens": 3,
        "completion_tokens": 2,
        "prompt_token_ids": [1, 2, 3],
        "completion_token_ids": [4, 5],
    }
    more = metrics | {"prompt_token_ids": [1, 2, 3, 4, 6]}
    steps = [step("user", "go"), step("agent", "so", metrics=metrics), step("user", "on")]
    found = session(tmp_path, json.dumps(trajectory(*steps, step("agent", "ok", metrics=more))))
    assert logs.ledger(found, tokenizer) == [(3, 2, 0), (5, 2, 4)]
    assert found.calls[0].usage == thinking.Usage(3, None, None, 2)
    metrics["prompt_token_ids"] = ["x"]
    found = session(tmp_path, json.dumps(trajectory(*steps)))
    assert reasons(found, 1) == ["step 2 prompt_ids are no token ids"] and len(found.calls) == 1


def test_sub_agents_and_continued_trajectories(tmp_path):
    refers = {"results": [{"content": "seen", "subagent_trajectory_ref": [{"trajectory_path": "sub/b.json"}]}]}
    lost = {"results": [{"subagent_trajectory_ref": [{"trajectory_path": "../c.json"}]}]}
    inner = trajectory(step("user", "count"), step("agent", "three"), trajectory_id="counter")
    first = trajectory(
        step("user", "go"),
        step("agent", "look", tool_calls=acts("a"), observation=refers),
        step("agent", "lost", tool_calls=acts("b"), observation=lost),
        subagent_trajectories=[inner, {"x": 1}],
        continued_trajectory_ref="next.json",
    )
    copied = [one | {"is_copied_context": True} for one in (step("user", "what was"), step("agent", "so"))]
    after = trajectory(*copied, step("user", "on"), step("agent", "done"), continued_trajectory_ref="first.json")
    folder = tmp_path / "in"
    (folder / "sub").mkdir(parents=True)
    (tmp_path / "c.json").write_text(json.dumps(inner))
    (folder / "sub" / "b.json").write_text(json.dumps(trajectory(step("user", "walk"), step("agent", "seen"))))
    (folder / "next.json").write_text(json.dumps(after))
    found = session(folder, json.dumps(first), "first.json")
    assert [(call.thread, [words for _, words in said(call.sent)]) for call in found.calls] == [
        ("", ["go"]),
        ("b", ["walk"]),
        ("", ["go", "look", "seen"]),
        ("counter", ["count"]),
        ("", ["what was", "so", "on"]),
    ]
    assert found.problems == (
        (1, "a sub-agent's trajectory that is not beside this file: '../c.json'"),
        (1, "sub-agent 2: an object without steps"),
    )
    assert found.left_out == ((1, "a step copied from before; it is sent and is no call"),)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (step("robot", "a"), "step 3 of unknown source 'robot'"),
        (step(["user"], "a"), "step 3 of unknown source ['user']"),
        ({"source": "user"}, "step 3 without a message"),
        (7, "step 3 a int where an object is needed"),
        (step("user", 7), "step 3 a int where a list is needed"),
        (step("agent", "a", tool_calls=[{"arguments": {}}]), "step 3 a tool call without a name (None)"),
        (step("agent", "a", observation={"results": [{}]}), "step 3 with a result that shows nothing"),
        (step("agent", "a", observation={"results": 7}), "step 3 a int where a list is needed"),
    ],
)
def test_steps_of_atif_that_cannot_be_read(tmp_path, bad, reason):
    steps = [step("user", "go"), step("agent", "so"), step("user", "and?"), step("agent", "ok")]
    whole = trajectory(*steps)
    whole["steps"].insert(2, bad)
    found = session(tmp_path, json.dumps(whole))
    assert reasons(found, 1)[0].startswith(reason.split(" (")[0])
    assert said(found.calls[-1].sent) == [("user", "go"), ("assistant", "so"), ("user", "and?")]
