"""Runs that agents export, data sets of conversations, and exports of chat programs, read as they were sent."""

import json

import pytest

import labkit as lk
from labkit import thinking
from labkit.errors import InputError
from labkit.thinking.sessions import chats
from labkit.thinking.sessions.formats import open_webui, swe_agent
from tests import logs
from tests import writers_exports as write

PLAIN, TREE, BOTH = [{}], [{}, {"branches": 2}], [{}, {"branches": 2}, {"compacted": True}]
LINE = [{}, {"compacted": True}]
BARE = {"tools": False, "thinks": False}
# name: (writer, format, what stories, what they have not)
CASES = {
    "swe-agent": (write.swe_agent, "swe-agent", BOTH, {}),
    "swe-agent before 1.1": (write.swe_agent_of_before, "swe-agent", PLAIN, {}),
    "mini-swe": (write.mini_swe, "mini-swe", PLAIN, {}),
    "mini-swe, responses": (write.mini_swe_responses, "mini-swe", PLAIN, {}),
    "openhands, logs": (write.openhands_logs, "openhands", BOTH, {}),
    "openhands, events": (write.openhands_events, "openhands", LINE, {"thinks": False}),
    "openhands-sdk, events": (write.sdk_events, "openhands-sdk", BOTH, {}),
    "openhands-sdk, logs": (write.sdk_logs, "openhands-sdk", BOTH, {}),
    "hermes": (write.hermes, "hermes", PLAIN, {}),
    "hermes, a session": (write.hermes_session, "hermes", PLAIN, {}),
    "hermes, rows": (write.hermes_rows, "hermes", PLAIN, {"system": False}),
    "sharegpt": (write.sharegpt, "sharegpt", PLAIN, {"tools": False}),
    "sharegpt, roles": (write.sharegpt_roles, "sharegpt", PLAIN, BARE),
    "lmsys": (write.lmsys, "lmsys", PLAIN, BARE | {"system": False}),
    "open-webui": (write.open_webui, "open-webui", TREE, {}),
    "open-webui, items": (write.open_webui_output, "open-webui", TREE, {}),
    "chatgpt": (write.chatgpt, "chatgpt", TREE, {}),
}
TOOLLESS = ("swe-agent", "mini-swe", "open-webui", "chatgpt")  # they keep no tools
FILES = {name: (case[1], case[0](write.story(0, **case[3]))) for name, case in CASES.items()}


@pytest.fixture(scope="module")
def tokenizer():
    return lk.load("nano").tokenizer


def read(tmp_path, text, name="log.json", **options):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return thinking.read_session(path, **options)


def told(session):
    """Problems, but those that tell what the files of a format never hold."""
    known = (chats.TOOLLESS, swe_agent.WHOLE, open_webui.TOGETHER)
    return [problem for problem in session.problems if problem[1] not in known]


@pytest.mark.parametrize("name", CASES)
def test_the_ledger_is_brute_force(tmp_path, tokenizer, name):
    writer, form, stories, without = CASES[name]
    for seed, options in enumerate(stories):
        story = write.story(seed, **(options | without))
        expected = story.exchanges()
        if form in TOOLLESS:
            expected = [(sent, reply, None) for sent, reply, _ in expected]
        session = read(tmp_path, writer(story))
        assert session.format == form and not told(session)
        assert logs.same(session, expected)
        for policy in ("strip", "preserve", "drop"):
            found = logs.ledger(session, tokenizer, policy)
            assert found == logs.counted(expected, tokenizer, policy) and len(found) > 3


def test_a_byte_order_mark_changes_nothing(tmp_path):
    for name, (form, text) in FILES.items():
        assert read(tmp_path, "\ufeff" + text).calls == read(tmp_path, text).calls, (name, form)


def rows(session):
    """(texts that were sent, text that came back) of every call."""
    return [([m["content"] for m in c.sent], c.reply and c.reply["content"]) for c in session.calls]


def user(text, **more):
    return {"role": "user", "content": text} | more


# ------------------------------------------------------------------------------------------------------------ SWE-agent


def step(query, response, **more):
    return {"action": "ls", "observation": "o", "response": response, "thought": response, "query": query} | more


def test_a_query_counts_and_not_the_history(tmp_path):
    elided = [user("task"), {"role": "assistant", "content": "a"}, user("Old environment output: (9 lines omitted)")]
    complaint = [*elided, {"role": "assistant", "content": "bad"}, user("no action in it")]
    steps = [step(elided[:1], "a"), step(elided, "bad"), step(complaint, "b"), step([{}], "", action="exit")]
    history = [user("task"), {"role": "assistant", "content": "a", "thought": "a", "action": "ls"}, user("nine lines")]
    history = [item | {"agent": "main"} for item in history]
    session = read(tmp_path, json.dumps({"trajectory": steps, "history": history, "info": {}}))
    texts = ["task", "a", "Old environment output: (9 lines omitted)"]
    assert rows(session) == [(texts[:1], "a"), (texts, "bad"), ([*texts, "bad", "no action in it"], "b")]
    assert session.left_out == ((1, swe_agent.ENDED),) and not session.problems


def test_attempts_agents_and_demonstrations(tmp_path):
    query = [user("task")]
    history = [user("task", agent="main"), {"role": "assistant", "content": "a", "agent": "main"}]
    run = {"trajectory": [step(query, "a")], "history": history, "info": {}}
    session = read(tmp_path, json.dumps({"attempts": [run, run]} | run))
    assert session.threads == ("attempt 1", "attempt 2") and session.left_out == ((1, swe_agent.BEST),)
    demo = [user("demo", agent="main", is_demo=True)]
    demo.append({"role": "assistant", "content": "shown", "agent": "main", "is_demo": True})
    other = [item | {"agent": "reviewer"} for item in history]
    session = read(tmp_path, json.dumps({"history": [*demo, *history, *other]}))
    assert session.threads == ("main", "reviewer")
    assert rows(session) == [(["demo", "shown", "task"], "a"), (["task"], "a")]


def test_steps_of_before_there_were_queries(tmp_path):
    said = [user("task"), {"role": "assistant", "content": "a"}, user("elided")]
    old = {"action": "ls", "observation": "o", "thought": "x"}
    steps = [
        old | {"response": "a", "messages": said},
        old | {"response": "b", "messages": [*said, user("b"), user("c")]},
    ]
    session = read(tmp_path, json.dumps({"trajectory": steps, "history": [said[0] | {"agent": "main"}], "info": {}}))
    assert rows(session) == [
        (["task"], "a"),
        (["task", "a", "elided"], "b"),
    ]  # the query of a step is kept by the one before
    history = [item | {"agent": "main"} for item in said]
    steps = [old | {"response": "a"}, old | {"response": "lost"}, old | {"response": "the last"}]
    session = read(tmp_path, json.dumps({"trajectory": steps, "history": history, "info": {}}))
    assert rows(session) == [(["task"], "a"), (["task", "a", "elided"], "the last")]
    assert session.left_out == ((1, swe_agent.UNHEARD),)


def test_a_response_that_could_not_be_used_is_a_call(tmp_path):
    bad = write.litellm({"content": "no call in it", "reasoning_content": "hm"})
    messages = [user("task"), user("that was no call", extra={"interrupt_type": "FormatError", "response": bad})]
    good = write.litellm({"content": "better"})
    messages.append(good["choices"][0]["message"] | {"extra": {"response": good, "timestamp": 1.7e9}})
    run = {
        "messages": messages,
        "trajectory_format": "mini-swe-agent-1.1",
        "info": {"config": {"model": {"model_name": "q"}}},
    }
    session = read(tmp_path, json.dumps(run))
    assert rows(session) == [(["task"], "no call in it"), (["task", "that was no call"], "better")]
    first, last = session.calls
    assert (first.usage.input, first.usage.cached, first.usage.output) == (500, 300, 40) and last.time == 1.7e9
    assert first.reply["reasoning_content"] == "hm" and first.model == "q"


# ------------------------------------------------------------------------------------------------------------ OpenHands


def test_a_log_is_what_was_sent_even_where_calls_are_texts(tmp_path):
    said = {"messages": [user("task, with tools in words")], "fncall_messages": [user("task")], "args": [], "cost": 0}
    answer = write.litellm({"content": "<function=run>ls</function>"})
    log = said | {
        "response": answer,
        "fncall_response": write.litellm({"content": ""}),
        "kwargs": {},
        "timestamp": 1.7e9,
    }
    session = read(tmp_path, json.dumps(log))
    assert rows(session) == [(["task, with tools in words"], "<function=run>ls</function>")]
    call = session.calls[0]
    assert call.usage.cached == 300 and call.time == 1.7e9 and call.model == "m" and call.tools is None
    log = {"messages": [user("in words")], "raw_messages": [user("task")], "tools": [{"description": "d", "kind": "T"}]}
    log |= {"response": write.litellm({"content": "called"}), "raw_response": answer, "context_window": 9, "kwargs": {}}
    log |= {"timestamp": 1.7e9, "latency_sec": 1, "cost": 0}
    failed = log | {"response": None, "error": {"type": "Timeout"}}
    session = read(tmp_path, write.dumped([log, failed]))
    assert rows(session) == [(["in words"], "<function=run>ls</function>")] and session.calls[0].tools is None
    assert [reason for _, reason in session.left_out] == ["requests that failed"]
    native = {k: v for k, v in log.items() if not k.startswith("raw")}
    session = read(tmp_path, json.dumps(native))
    assert session.calls[0].tools == [{"type": "function", "function": {"name": "T", "description": "d"}}]
    assert "without their schemas" in session.problems[0][1]


def event(n, source, **more):
    return {"id": n, "source": source, "timestamp": f"2025-06-01T10:00:{n:02}"} | more


def acted(n, response, call):
    metadata = {"tool_call_id": call, "function_name": "read", "model_response": response, "total_calls_in_response": 2}
    return event(n, "agent", action="run", args={"command": "ls"}, tool_call_metadata=metadata)


def seen(n, response, call, text, **extras):
    metadata = {"tool_call_id": call, "function_name": "read", "model_response": response}
    return event(n, "agent", observation="run", content=text, extras=extras, tool_call_metadata=metadata)


def test_events_of_one_response_are_one_call_and_reasoning_is_not_sent_again(tmp_path):
    calls = [{"id": name, "function": {"name": "read", "arguments": {"path": name}}} for name in ("x", "y")]
    response = write.litellm(
        {"content": "both", "reasoning_content": "let me look at both of them", "tool_calls": calls}
    )
    told = {"metadata": {"exit_code": 0, "working_dir": "/w", "prefix": "", "suffix": ""}}
    usage = {"token_usages": [{"prompt_tokens": 70, "completion_tokens": 9, "cache_read_tokens": 60}]}
    stream = [
        event(0, "user", action="message", args={"content": "task"}),
        event(1, "environment", observation="recall", content="", extras={"recall_type": "knowledge"}),
        acted(2, response, "x"),
        acted(3, response, "y"),
        seen(4, response, "x", "one", **told),
        event(5, "user", action="message", args={"content": "and?"}),
        seen(6, response, "y", "two"),
        event(7, "agent", action="message", args={"content": "so"}, llm_metrics=usage),
        event(
            8,
            "agent",
            action="condensation",
            args={
                "forgotten_events_start_id": 2,
                "forgotten_events_end_id": 6,
                "summary": "short",
                "summary_offset": 1,
            },
        ),
        event(9, "user", action="run", args={"command": "ls"}),
        event(10, "user", observation="error", content="no", extras={}),
        event(11, "agent", action="finish", args={"thought": "done", "final_thought": "done"}),
    ]
    session = read(tmp_path, json.dumps(stream))
    one = "one\n[Current working directory: /w]\n[Command finished with exit code 0]"
    both = ["task", "and?", "both", one, "two"]  # a reply stands where its last result came
    last = ["task", "short", "so", "User executed the command:\nls", "no\n[Error occurred in processing last action]"]
    assert rows(session) == [(["task"], "both"), (both, "so"), (last, "done")]
    first, second, _ = session.calls
    assert first.reply["reasoning_content"] and len(first.reply["tool_calls"]) == 2
    assert "reasoning_content" not in second.sent[2] and second.usage.cached == 60 and second.usage.input == 70
    assert first.time == 1748772002.0 and "recalled" in session.problems[-1][1]
    two = [{"instance_id": name, "history": stream, "metadata": {}} for name in ("a", "b")]
    assert read(tmp_path, write.dumped(two)).threads == ("a", "b")


def test_sdk_actions_usage_and_logs_among_events(tmp_path):
    text = lambda words: [{"type": "text", "text": words}]  # noqa: E731
    head = {"timestamp": "2026-06-16T05:39:48", "parent_id": None}
    say = lambda n, who, words, **more: {  # noqa: E731
        **head, "id": f"e{n}", "source": who, "kind": "MessageEvent",
        "llm_message": {"role": "user" if who == "user" else "assistant", "content": text(words)}, **more,
    }  # fmt: skip
    act = lambda n, call: {  # noqa: E731
        **head, "id": f"e{n}", "source": "agent", "kind": "ActionEvent", "llm_response_id": "r1",
        "thought": text("look") if n == 2 else [], "tool_call_id": call,
        "tool_call": {"id": call, "name": "read", "arguments": '{"path": "a"}'},
    }  # fmt: skip
    total = lambda count: {"agent": {"accumulated_token_usage": {"prompt_tokens": count}}}  # noqa: E731
    stats = lambda n, count: {  # noqa: E731
        **head, "id": f"e{n}", "source": "environment", "kind": "ConversationStateUpdateEvent", "key": "stats",
        "value": {"usage_to_metrics": total(count)},
    }  # fmt: skip
    see = lambda n, call, words, **more: {  # noqa: E731
        **head, "id": f"e{n}", "source": "environment", "kind": "ObservationEvent", "tool_call_id": call,
        "observation": {"content": text(words), **more},
    }  # fmt: skip
    stream = [
        say(0, "user", "task"),
        stats(1, 100),
        act(2, "x"),
        act(3, "y"),
        see(4, "x", "one", is_error=True),
        see(5, "y", "two"),
    ]
    stream += [stats(6, 250), say(7, "agent", "so")]
    session = read(tmp_path, write.dumped(stream))
    assert rows(session) == [
        (["task"], "look"),
        (["task", "look", "[An error occurred during execution.]\none", "two"], "so"),
    ]
    assert len(session.calls[0].reply["tool_calls"]) == 2 == len(session.calls[1].sent[1]["tool_calls"])
    assert [call.usage.input for call in session.calls] == [100, 150]
    assert (2, "events of kind ConversationStateUpdateEvent") in session.left_out
    log = {"messages": [user("what was really sent")], "response": write.litellm({"content": "so"}), "tools": None}
    row = head | {
        "id": "l",
        "source": "environment",
        "kind": "LLMCompletionLogEvent",
        "filename": "f",
        "usage_id": "condenser",
    }
    session = read(tmp_path, write.dumped([*stream, row | {"log_data": json.dumps(log)}]))
    assert rows(session) == [(["what was really sent"], "so")] and session.threads == ("condenser",)
    assert session.left_out[0][0] == len(stream)


# ------------------------------------------------------------------------------------------------------------ data sets


def test_tags_of_hermes(tmp_path):
    two = "<tool_response>\n{'a': 1}\n</tool_response>\n<tool_response>\ntwo\n</tool_response>"
    call = "<tool_call>\n{'name': 'read', 'arguments': {'path': \"it's\"}}\n</tool_call>"
    turns = [
        {"from": "system", "value": "You may call <tools>[{}]</tools>"},
        {"from": "human", "value": "why?"},
        {"from": "gpt", "value": f"<think>\nhm\n</think>\nlook\n{call}\n<tool_call>\n{{not a dict}}\n</tool_call>"},
        {"from": "tool", "value": two},
        {"from": "gpt", "value": "<scratch_pad>x</scratch_pad>so"},
    ]
    text = write.dumped([{"conversations": turns, "tools": '[{"name": "read"}]'}])
    session = read(tmp_path, text)
    first, second = session.calls
    assert session.format == "hermes" and first.tools is None  # they stand in the system's text
    assert first.reply["reasoning_content"] == "hm" and first.reply["tool_calls"][0]["function"]["arguments"] == {
        "path": "it's"
    }
    assert "{not a dict}" in first.reply["content"] and first.reply["content"].startswith("look")
    assert [m["content"] for m in second.sent[3:]] == ["{'a': 1}", "two"] and second.reply["content"].startswith(
        "<scratch_pad>"
    )
    reasons = [reason for _, reason in session.problems]
    assert "stays text" in reasons[1] and "behind a call" in reasons[2] and reasons[0] == chats.TOOLLESS
    assert session.left_out == ((1, "tools beside a system text that holds them"),)


def test_many_conversations_are_threads_of_their_own(tmp_path):
    talk = lambda *words: [{"from": ("human", "gpt")[i % 2], "value": w} for i, w in enumerate(words)]  # noqa: E731
    data = [{"id": "a", "conversations": talk("1", "2", "3", "4")}, {"conversations": talk("5", "6")}]
    data += [{"id": "a", "conversations": talk("7", "8")}, {"id": "b", "conversations": talk("9")}]
    for text in (json.dumps(data), json.dumps(data, indent=1), write.dumped(data)):
        session = read(tmp_path, text)
        assert session.threads == ("a", "2", "a (3)") and len(session.of("a").calls) == 2
        assert rows(session.of("2")) == [(["5"], "6")] and session.left_out == ((1, "conversations without an answer"),)
    odd = talk("1", "2") + [{"from": "narrator", "value": "x"}, {"from": "human", "value": None}, 7]
    session = read(tmp_path, write.dumped([data[0], {"conversations": odd}]))
    assert [line for line, _ in session.problems] == [2, 2, 2]
    assert "turn 3: a turn from 'narrator'" in session.problems[0][1]
    session = read(tmp_path, json.dumps([talk("1", "2"), talk("3", "4")]))
    assert session.format == "sharegpt" and len(session.threads) == 2
    session = read(tmp_path, json.dumps([{"conversations": [{"from": "gpt", "value": "first"}, *talk("1", "2")]}]))
    assert rows(session) == [(["first", "1"], "2")] and "without a question" in session.problems[0][1]


def test_rows_of_lmsys(tmp_path):
    talk = lambda *words: [{"role": ("user", "assistant")[i % 2], "content": w} for i, w in enumerate(words)]  # noqa: E731
    battle = {"question_id": "q", "model_a": "x", "model_b": "y", "winner": "tie", "tstamp": 1.68e9, "turn": 1}
    battle |= {"conversation_a": talk("why?", "so"), "conversation_b": talk("why?", "no")}
    session = read(tmp_path, write.dumped([battle, battle | {"question_id": 7}]))
    assert session.threads == ("q a", "q b", "7 a", "7 b") and session.format == "lmsys"
    assert [call.model for call in session.calls] == ["x", "y"] * 2 and session.calls[0].time == 1.68e9
    row = {"conversation_id": "c", "model": "v", "conversation": talk("NAME_1?", "so"), "redacted": True}
    session = read(tmp_path, write.dumped([row, row]))
    assert session.threads == ("c", "c (2)") and len(session.problems) == 1 and "redacted" in session.problems[0][1]
    items = [
        user([{"type": "text", "text": "why?", "image": None}]),
        {"role": "assistant", "content": [{"type": "text", "text": "so"}]},
    ]
    session = read(tmp_path, json.dumps([battle | {"conversation_a": items}]))
    assert rows(session)[0] == (["why?"], "so")


# -------------------------------------------------------------------------------------------------------- chat programs


def webui(nodes, **more):
    return {"id": "c", "title": "t", "chat": {"history": {"messages": nodes, "currentId": "x"}} | more}


def test_chats_of_open_webui(tmp_path):
    nodes = {
        "q": user("why?", id="q", parentId=None, files=[{"type": "image", "url": "data:image/png;base64,AA"}]),
        "a": {
            "role": "assistant",
            "content": "so",
            "parentId": "q",
            "model": "m",
            "timestamp": 1.7e9,
            "usage": {"prompt_tokens": 9},
        },
        "b": {"role": "assistant", "content": "", "parentId": "q", "error": {"content": "429"}},
        "c": {"role": "assistant", "content": "or", "parentId": "q", "info": {"prompt_eval_count": 8, "eval_count": 2}},
        "d": user("and?", parentId="gone"),
        "e": {
            "role": "assistant",
            "content": '<details type="code_interpreter" done="true">\nx\n</details>\nok',
            "parentId": "d",
        },
    }
    chat = webui(nodes)
    older = {"id": "o", "title": "t", "chat": {"messages": [user("hi"), {"role": "assistant", "content": "ho"}]}}
    session = read(tmp_path, json.dumps([chat, older, chat]))
    assert session.threads == ("c", "o", "3") and rows(session.of("o")) == [(["hi"], "ho")]
    mine = session.of("c")
    assert [call.reply["content"] for call in mine.calls] == ["so", "or", "ok"]
    assert [call.usage and call.usage.input for call in mine.calls] == [9, 8, None] and mine.calls[0].time == 1.7e9
    assert mine.calls[0].sent[0]["content"][1]["type"] == "image"
    assert {r: n for n, r in session.left_out} == {open_webui.FAILED: 2, open_webui.CODE: 2}
    assert "its parent gone is not in the file" in session.problems[0][1]
    quoted = '<details type="reasoning" done="true">\n<summary>Thought</summary>\n> a &lt;b>\n> \n> c\n</details>\nso'
    nodes = {"q": nodes["q"], "a": nodes["a"] | {"content": quoted}}
    assert read(tmp_path, json.dumps([webui(nodes)])).calls[0].reply["reasoning_content"] == "a &lt;b>\n\nc"


def node(name, parent, role, content, **more):
    if isinstance(content, str):
        content = {"content_type": "text", "parts": [content]}
    return {
        name: {
            "id": name,
            "parent": parent,
            "children": [],
            "message": {"author": {"role": role}, "content": content} | more,
        }
    }


def test_conversations_of_chatgpt(tmp_path):
    context = {"content_type": "user_editable_context", "user_profile": "I am I.", "user_instructions": "Be brief."}
    picture = {
        "content_type": "multimodal_text",
        "parts": [{"content_type": "image_asset_pointer", "asset_pointer": "f:1"}, "what?"],
    }
    output = {"content_type": "execution_output", "text": "4"}
    mapping = {"r": {"id": "r", "message": None, "parent": None, "children": ["s"]}}
    mapping |= node("s", "r", "system", "", metadata={"is_visually_hidden_from_conversation": True}, weight=0.0)
    mapping |= node("c", "s", "user", context, weight=0.0) | node("q", "c", "user", picture)
    mapping |= node("h", "q", "system", "") | node(
        "a", "h", "assistant", {"content_type": "code", "text": "2+2"}, recipient="python"
    )
    mapping |= node("t", "a", "tool", output) | node("b", "t", "assistant", "four", recipient="all", create_time=1.7e9)
    mapping |= node("b2", "t", "assistant", "4", recipient="all")  # said anew
    mapping |= node("v", "b", "user", "and?") | node("w", "v", "assistant", {"content_type": "app_pairing", "x": 1})
    mapping |= node("y", "v", "assistant", "then", metadata={"model_slug": "gpt-5"})
    row = {"title": "t", "mapping": mapping, "current_node": "y", "conversation_id": "g"}
    session = read(tmp_path, json.dumps([row, row | {"conversation_id": "g2"}]))
    assert session.threads == ("g", "g2") and session.format == "chatgpt"
    calls = session.of("g").calls
    assert [call.reply["content"] for call in calls] == ["", "four", "4", "then"]
    assert calls[0].sent[0] == {"role": "system", "content": "I am I.\n\nBe brief."}
    assert calls[0].reply["tool_calls"][0]["function"] == {"name": "python", "arguments": {"input": "2+2"}}
    assert [m["role"] for m in calls[3].sent] == ["system", "user", "assistant", "tool", "assistant", "user"]
    assert calls[3].model == "gpt-5" and calls[1].time == 1.7e9 and calls[2].sent == calls[1].sent
    assert any("app_pairing" in reason for _, reason in session.problems)
    assert session.left_out[0] == (4, "rows without words")


# ------------------------------------------------------------------------------------------------------------ damage


@pytest.mark.parametrize("name", CASES)
def test_damage_in_a_place_is_told_and_the_rest_is_read(tmp_path, name):
    """A text in the place of each object, one at a time: a session whose problem names it, or a clear error."""
    form, text = FILES[name]
    lines = text.split("\n") if text.count("\n{") else [text]
    whole = len(read(tmp_path, text).calls)
    found = 0
    for at, line in enumerate(lines):
        for path in list(places(json.loads(line)))[:60]:
            value = json.loads(line)
            home = value
            for step_ in path[:-1]:
                home = home[step_]
            home[path[-1]] = "damaged"
            changed = [*lines[:at], json.dumps(value), *lines[at + 1 :]]
            try:
                session = read(tmp_path, "\n".join(changed), format=form)
            except InputError:
                continue
            found += 1
            lost = len(session.calls) < whole
            assert not lost or session.problems or session.left_out, (path, session)
    assert found


def places(value, path=()):
    """Paths to objects and lists in a value."""
    for name, inner in value.items() if isinstance(value, dict) else enumerate(value):
        if isinstance(inner, dict | list):
            yield (*path, name)
            yield from places(inner, (*path, name))
