"""Recorded sessions become one format; what cannot be read is reported by its line and kept out."""

import dataclasses
import json
import re
import tracemalloc

import pytest

from labkit import thinking
from labkit.errors import InputError

ASK, THOUGHT, RESULT, SAID = "why?", "let me look", "7", "because"
CALL = {"type": "function", "function": {"name": "read", "arguments": {"path": "a"}}}
EXPECTED = [
    {"role": "user", "content": ASK},
    {"role": "assistant", "content": "", "reasoning_content": THOUGHT, "tool_calls": [CALL]},
    {"role": "tool", "content": RESULT},
    {"role": "assistant", "content": SAID},
]
OPENAI = [
    EXPECTED[0],
    {
        "role": "assistant",
        "content": None,
        "reasoning": THOUGHT,
        "tool_calls": [{"id": "1", "type": "function", "function": {"name": "read", "arguments": '{"path": "a"}'}}],
    },
    {"role": "tool", "tool_call_id": "1", "content": RESULT},
    {"role": "assistant", "content": SAID},
]
BLOCK = {"type": "tool_use", "id": "t", "name": "read", "input": {"path": "a"}}
CLAUDE = [
    {"type": "summary", "summary": "x", "sessionId": "s"},
    {"type": "user", "sessionId": "s", "message": {"role": "user", "content": ASK}},
    {"type": "assistant", "message": {"id": "m", "content": [{"type": "thinking", "thinking": THOUGHT}]}},
    {"type": "assistant", "message": {"id": "m", "content": [BLOCK]}},
    {"type": "user", "isSidechain": True, "message": {"role": "user", "content": "elsewhere"}},
    {"type": "user", "message": {"content": [{"type": "tool_result", "content": [{"type": "text", "text": RESULT}]}]}},
    {"type": "assistant", "message": {"id": "n", "content": [{"type": "text", "text": SAID}]}},
]
PI = [
    {"type": "session", "id": "x"},
    {"type": "message", "message": {"role": "user", "content": [{"type": "text", "text": ASK}]}},
    {
        "type": "message",
        "message": {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": THOUGHT},
                {"type": "toolCall", "id": "t", "name": "read", "arguments": {"path": "a"}},
            ],
        },
    },
    {"type": "message", "message": {"role": "toolResult", "content": [{"type": "text", "text": RESULT}]}},
    {"type": "message", "message": {"role": "assistant", "content": [{"type": "text", "text": SAID}]}},
]
ATIF = {
    "schema_version": "ATIF-v1.4",
    "steps": [
        {"step_id": 1, "source": "user", "message": ASK},
        {
            "step_id": 2,
            "source": "agent",
            "message": "",
            "reasoning_content": THOUGHT,
            "tool_calls": [{"tool_call_id": "t", "function_name": "read", "arguments": {"path": "a"}}],
            "observation": {"results": [{"source_call_id": "t", "content": RESULT}]},
        },
        {"step_id": 3, "source": "agent", "message": SAID},
    ],
}


def lines(rows):
    return "\n".join(json.dumps(row) for row in rows)


FILES = {
    "openai, a line each": ("openai", lines(OPENAI)),
    "openai, one list": ("openai", json.dumps(OPENAI)),
    "openai, a log of requests": (
        "openai",
        lines(
            [
                {"request": {"messages": OPENAI[:1]}, "response": {"choices": [{"message": OPENAI[1]}]}},
                {"request": {"messages": OPENAI[:3]}, "response": {"choices": [{"message": OPENAI[3]}]}},
            ]
        ),
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_every_format_says_the_same(tmp_path, name):
    form, text = FILES[name]
    path = tmp_path / "session.jsonl"
    path.write_text(text, encoding="utf-8")
    for chosen in (None, form):
        found = thinking.read_session(path, format=chosen)
        core = [
            {key: m[key] for key in ("role", "content", "reasoning_content", "tool_calls") if key in m}
            for m in found.messages
        ]
        assert core == EXPECTED and found.format == form and not [line for line, _ in found.problems if line]
    assert f"2 calls, 4 messages in the last ({form})" in str(found)
    assert thinking.render(found.messages), "and the template takes it"


def test_sharegpt(tmp_path):
    turns = [
        {"from": "human", "value": "a"},
        {"from": "gpt", "value": "<think>b</think>c"},
        {"from": "robot", "value": ""},
    ]
    path = tmp_path / "s.json"
    path.write_text(json.dumps({"conversations": turns}))
    found = thinking.read_session(path)
    assert found.messages == [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "c", "reasoning_content": "b"},
    ]
    assert found.problems == ((1, "turn 3: a turn from 'robot', its value a str"),)
    assert "<think>\nb\n</think>\n\nc" in thinking.render(found.messages)


def test_broken_lines_are_reported_and_kept_out(tmp_path):
    rows = lines(OPENAI).split("\n")
    rows[1:1] = ['{"role": "assist', "7", "", '{"role": "robot", "content": ""}']
    path = tmp_path / "broken.jsonl"
    path.write_text("\n".join(rows), encoding="utf-8")
    found = thinking.read_session(path)
    assert [m["role"] for m in found.messages] == ["user", "assistant", "tool", "assistant"]
    assert [line for line, _ in found.problems] == [2, 3, 5]
    assert "not JSON" in found.problems[0][1] and "int" in found.problems[1][1] and "'robot'" in found.problems[2][1]
    assert "3 problems" in str(found) and "line 2: not JSON" in str(found)


def test_arguments_that_are_no_mapping(tmp_path):
    call = lambda arguments: {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": arguments}}]}  # noqa: E731
    path = tmp_path / "s.json"
    path.write_text(json.dumps([EXPECTED[0], call("{broken"), call(""), call([1]), call(None)]))
    found = [m["tool_calls"][0]["function"]["arguments"] for m in thinking.read_session(path).messages[1:]]
    assert found == [{"input": "{broken"}, {}, {"input": [1]}, {}]


@pytest.mark.parametrize(
    ("text", "format", "message"),
    [
        ("hello", None, "(?s)unknown format.*not JSON.*openai, "),
        ('{"type": "x"}', None, "unknown format"),
        (lines(OPENAI), "csv", "(?s)unknown format.*csv"),
        ('{"role": "robot"}', "openai", "(?s)no call of a model.*line 1, no message: role 'robot'"),
    ],
)
def test_what_is_no_session(tmp_path, text, format, message):
    path = tmp_path / "x.jsonl"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        thinking.read_session(path, format=format)
    with pytest.raises(InputError, match="no such session"):
        thinking.read_session(tmp_path / "none")


def test_the_examples_are_read_whole():
    found = {name: thinking.read_session(path) for name, path in thinking.examples().items()}
    assert {name: session.format for name, session in found.items()} == {
        "bread": "openai",
        "garden": "claude-code",
        "tides": "pi",
    }
    for session in found.values():
        assert (
            not [line for line, _ in session.problems if line]
            and sum(m["role"] == "user" for m in session.messages) >= 3
        )
        assert any(m.get("reasoning_content") for m in session.messages)
        thinking.render(session.messages, tools=session.tools)


def test_reasoning_that_a_client_does_not_send_back_is_in_its_reply_alone(tmp_path):
    bare = {name: value for name, value in OPENAI[1].items() if name != "reasoning"}
    log = [
        {"request": {"messages": OPENAI[:1]}, "response": {"choices": [{"message": OPENAI[1]}]}},
        {"request": {"messages": [OPENAI[0], bare, OPENAI[2]]}, "response": {"choices": [{"message": OPENAI[3]}]}},
    ]
    first, second = thinking.read_session(write(tmp_path, log)).calls
    assert first.reply["reasoning_content"] == THOUGHT and "reasoning_content" not in second.sent[1]
    other = {"request": {"messages": [{"role": "user", "content": "else?"}]}, "response": log[1]["response"]}
    found = thinking.read_session(write(tmp_path, [other, *log]))
    assert len(found.calls) == 3 and found.calls[1:] == tuple(
        dataclasses.replace(call, line=call.line + 1) for call in (first, second)
    )


def write(folder, rows):
    path = folder / "rows.jsonl"
    path.write_text(lines(rows), encoding="utf-8")
    return path


def test_calls_of_the_time_before_tools(tmp_path):
    old = {"role": "assistant", "content": None, "function_call": {"name": "read", "arguments": '{"path": "a"}'}}
    found = thinking.read_session(write(tmp_path, [OPENAI[0], old]))
    assert found.messages[1]["tool_calls"] == [CALL]


def test_line_breaks_that_json_may_hold(tmp_path):
    said = "one\u2028two\u0085three"
    path = tmp_path / "a.jsonl"
    path.write_text(
        "\n".join(json.dumps(m, ensure_ascii=False) for m in [{"role": "user", "content": said}, OPENAI[3]]), "utf-8"
    )
    found = thinking.read_session(path)
    assert found.messages[0]["content"] == said and len(found.messages) == 2 and not found.problems


def test_odd_items_and_files(tmp_path):
    (tmp_path / "a.json").write_text("7")
    with pytest.raises(InputError, match="a session of unknown format"):
        thinking.read_session(tmp_path / "a.json")
    with pytest.raises(InputError, match="(?s)an item of unknown type.*str.*text, image or video"):
        thinking.render([{"role": "user", "content": ["hi"]}])


# -------------------------------------------------------------------------------------------------------------- bounds


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"role": "user", "content": NaN}', "NaN, which JSON does not have"),
        ('{"role": "user", "content": "a", "n": 1e999}', "the number 1e999, which is out of range"),
        ('{"role": "user", "content": "a", "n": ' + "9" * 401 + "}", "a number of 401 digits"),
        ('{"role": "user", "content": "a", "content": "b"}', "the key 'content' stands twice in one object"),
        ('{"role": "user", "content": "a", "n": ' + "[" * 100 + "]" * 100 + "}", "nested too deeply"),
        ("[" * 100_000, "nested too deeply"),
        ('{"role": "user", "content": 7}', r"content of unknown type \(int\)"),
        ('{"role": "user", "content": [7]}', r"an item of unknown type \(int\)"),
        ('{"role": ["user"], "content": "a"}', r"no message: role \['user'\]"),
        ('{"role": "assistant", "reasoning_content": {}}', "reasoning_content of unknown type"),
        ('{"role": "assistant", "tool_calls": 1}', "a int where a list is needed"),
        (
            '{"role": "assistant", "tool_calls": [{"function": {"arguments": "{}"}}]}',
            "a tool call without a name: None",
        ),
        ('{"role": "assistant", "prompt_ids": [1, -2]}', "prompt_ids are no token ids"),
        ('{"role": "assistant", "completion_ids": [true]}', "completion_ids are no token ids"),
        ('{"role": "user", "content": "a", "x": "\\udead"}', "halves of surrogate pairs, read as U.FFFD"),
    ],
)
def test_a_line_out_of_bounds_is_reported_and_the_rest_is_read(tmp_path, line, reason):
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join([lines(OPENAI[:1]), line, lines(OPENAI[1:])]), "utf-8")
    found = thinking.read_session(path)
    assert [number for number, _ in found.problems] == [2] and re.search(reason, found.problems[0][1]), found.problems
    kept = "U.FFFD" in reason
    assert len(found.messages) == len(OPENAI) + kept


def test_a_line_that_is_no_utf_8_is_one_line(tmp_path):
    path = tmp_path / "a.jsonl"
    rows = [lines(OPENAI[:1]).encode(), b'{"role": "user", "content": "\xff"}', lines(OPENAI[3:]).encode(), b""]
    path.write_bytes(b"\xef\xbb\xbf" + b"\r\n".join(rows))
    found = thinking.read_session(path)
    assert found.messages == [EXPECTED[0], EXPECTED[3]] and found.problems == ((2, "not UTF-8 (byte 30)"),)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (lines(OPENAI).encode("utf-16"), "(?s)UTF-8 text.*UTF-16"),
        (lines(OPENAI).encode("utf-32-le"), "(?s)UTF-8 text.*UTF-32"),
        (b"", "(?s)no session.*an empty file"),
        (json.dumps(OPENAI, indent=1)[:-9].encode(), "(?s)unknown format.*not JSON .*at line"),
        (b"{x\n" * 100_001, "(?s)hardly a line.*100,000 problems, the first in line 1: not JSON"),
    ],
)
def test_files_that_are_given_up(tmp_path, data, message):
    path = tmp_path / "a.jsonl"
    path.write_bytes(data)
    with pytest.raises(InputError, match=message):
        thinking.read_session(path)


def test_problems_are_told_up_to_a_number(tmp_path):
    found = thinking.read_session(write(tmp_path, [*OPENAI, *[{"role": "robot"}] * 1003]))
    assert len(found.problems) == 1001 and found.problems[0] == (0, "3 more problems than the 1,000 that are told")


@pytest.mark.parametrize(("wide", "times"), [("", 4), ("\N{FOX FACE}", 8.5)])
def test_a_long_line_is_held_a_few_times_alone(tmp_path, wide, times):
    path = tmp_path / "a.jsonl"
    said = json.dumps({"role": "user", "content": "x" * 3_000_000 + wide}, ensure_ascii=False)
    path.write_text("\n".join([said, lines(OPENAI[3:])]), "utf-8")
    tracemalloc.start()
    found = thinking.read_session(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(found.messages[0]["content"]) == 3_000_000 + len(wide) and peak < times * 3_000_000, peak / 3_000_000


# ------------------------------------------------------------------------------------------------ files of agents alone

AGENTS = {
    "claude-code": ("claude-code", lines(CLAUDE)),
    "pi": ("pi", lines(PI)),
    "atif": ("atif", json.dumps(ATIF, indent=1)),
}


@pytest.mark.parametrize("name", AGENTS)
def test_files_of_agents_say_the_same(tmp_path, name):
    form, text = AGENTS[name]
    (tmp_path / "session.jsonl").write_text(text, encoding="utf-8")
    found = thinking.read_session(tmp_path / "session.jsonl")
    core = [
        {key: m[key] for key in ("role", "content", "reasoning_content", "tool_calls") if key in m}
        for m in found.messages
    ]
    assert core == EXPECTED and found.format == form and not [line for line, _ in found.problems if line]


def test_blocks_of_unknown_type_are_reported(tmp_path):
    rows = [
        CLAUDE[1],
        {"type": "assistant", "message": {"id": "m", "content": [{"type": "hologram"}, {"type": "text", "text": "x"}]}},
    ]
    path = tmp_path / "s.jsonl"
    path.write_text(lines([*rows, {"type": "user", "sessionId": "s"}]))
    found = thinking.read_session(path)
    assert found.messages[1]["content"] == "x"
    assert found.problems[1:] == ((2, "a block of unknown type 'hologram'"), (3, "a user line without a message"))


def test_a_picture_keeps_what_it_shows(tmp_path):
    shown = {"type": "image", "source": {"type": "base64", "data": "AAAA"}}
    rows = [{"type": "user", "sessionId": "s", "message": {"content": [shown]}}, CLAUDE[-1]]
    (tmp_path / "a.jsonl").write_text(lines(rows))
    assert thinking.read_session(tmp_path / "a.jsonl").messages[0]["content"] == [shown]


def test_pictures_in_results_stay(tmp_path):
    shown = {"type": "image", "source": {"type": "base64", "data": "AAAA"}}
    result = {"type": "tool_result", "content": [{"type": "text", "text": RESULT}, shown]}
    rows = [*CLAUDE[:4], {"type": "user", "message": {"content": [result]}}, CLAUDE[-1]]
    found = thinking.read_session(write(tmp_path, rows))
    assert found.messages[2] == {"role": "tool", "content": [{"type": "text", "text": RESULT}, shown]}
    assert "<|image_pad|>" in thinking.render(found.messages)


def test_a_session_that_is_repeated_under_its_ids_is_read_once(tmp_path):
    rows = [row | {"uuid": f"u{n}"} for n, row in enumerate(CLAUDE)]
    other = {**rows[-1], "message": {"id": "n", "content": [{"type": "text", "text": "another"}]}}
    found = thinking.read_session(write(tmp_path, [*rows, rows[-1], other]))
    assert found.messages == EXPECTED
    assert found.problems[1:] == (
        (8, "the same as line 7 (u6); the first counts"),
        (9, "another content under the id as line 7 (u6); the first counts"),
    )
