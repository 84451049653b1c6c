"""Logs of requests: the ledger of a file equals brute force over what was sent, whoever wrote it."""

import functools
import json

import pytest

import labkit as lk
from labkit import reuse, thinking
from labkit.errors import InputError
from labkit.thinking.sessions.formats.openai import PREFILLED
from tests import logs
from tests import writers_requests as writers

EVERY = dict(branches=1, compacted=True)
WRITTEN = {  # writer: (format, what stories it can hold)
    "openai": ("openai", EVERY),
    "openai_list": ("openai", EVERY),
    "openai_sides": ("openai", EVERY),
    "openai_texts": ("openai", EVERY),
    "openai_events": ("openai", EVERY),
    "openai_chunks": ("openai", EVERY),
    "openai_snapshots": ("openai", EVERY),
    "openai_batch": ("openai-batch", EVERY),
    "llama_log": ("openai", EVERY),
    "langsmith": ("langsmith", EVERY),
    "langsmith_lines": ("langsmith", EVERY),
}
RENDERED = {"vllm": "vllm", "sglang": "sglang", "llama_server": "llama-server"}
FIRST = {"vllm": 1, "sglang": 2, "sglang_ids": 2, "llama_server": 1}  # line of the first call
IDS = {"vllm_ids": "vllm", "sglang_ids": "sglang"}
FORMATS = {name: format for name, (format, _) in WRITTEN.items()} | RENDERED | IDS
FILES = {name: (format, getattr(writers, name)(logs.Story(3, turns=3))) for name, format in FORMATS.items()}


@pytest.fixture(scope="module")
def tokenizer():
    return lk.load("nano").tokenizer


def written(folder, rows, name="log.jsonl"):
    """A file of rows, or of a text."""
    path = folder / name
    path.write_text(rows if isinstance(rows, str) else writers.lines(rows), encoding="utf-8")
    return path


def told(session):
    """Problems but for the other lines of a server's log."""
    return [reason for _, reason in session.problems if "other lines of a log" not in reason]


@pytest.mark.parametrize("policy", ["strip", "preserve", "drop"])
@pytest.mark.parametrize("name", WRITTEN)
def test_the_ledger_of_a_log_is_brute_force(tmp_path, tokenizer, name, policy):
    format, holds = WRITTEN[name]
    for seed in range(2):
        story = logs.Story(seed, turns=3, **holds)
        session = thinking.read_session(written(tmp_path, getattr(writers, name)(story)))
        assert session.format == format and not told(session), session
        assert logs.same(session, story.exchanges())
        found = logs.ledger(session, tokenizer, policy)
        assert found == logs.counted(story.exchanges(), tokenizer, policy)
        assert len(found) > 4 and any(row[2] > 40 for row in found)


@pytest.mark.parametrize("policy", ["strip", "preserve", "drop"])
@pytest.mark.parametrize("name", RENDERED)
def test_rendered_prompts_are_read_back(tmp_path, tokenizer, name, policy):
    for seed in range(2):
        story = logs.Story(seed, turns=3, **EVERY)
        session = thinking.read_session(written(tmp_path, getattr(writers, name)(story)))
        assert session.format == RENDERED[name]
        assert [(line, "read back into messages" in reason) for line, reason in session.problems] == [
            (FIRST[name], True)
        ]
        assert logs.ledger(session, tokenizer, policy) == logs.counted(story.exchanges(), tokenizer, policy)


@pytest.mark.parametrize("policy", ["strip", "drop"])
@pytest.mark.parametrize("name", IDS)
def test_token_ids_are_taken_at_their_word(tmp_path, tokenizer, name, policy):
    story = logs.Story(1, turns=3, **EVERY)
    session = thinking.read_session(written(tmp_path, getattr(writers, name)(story)))
    assert session.format == IDS[name]
    assert [(line, "taken at their word" in reason) for line, reason in session.problems] == [
        (FIRST.get(name, 1), True)
    ]
    assert logs.ledger(session, tokenizer, policy) == logs.counted(story.exchanges(), tokenizer, "preserve")


# ------------------------------------------------------------------------------------------- what a request differs in

ASK = {"role": "user", "content": "why?"}
SAID = {"role": "assistant", "content": "because"}
THOUGHT = SAID | {"reasoning_content": "let me look"}
AGAIN = {"role": "user", "content": "and then?"}
CALL = {"type": "function", "function": {"name": "read", "arguments": {"path": "a"}}}


def requests(*talks, **more):
    """A log: each talk but for its last message was sent, the last came back."""
    return [
        {"request": {"messages": talk[:-1]} | more, "response": {"choices": [{"message": talk[-1]}]}} for talk in talks
    ]


def test_a_clock_in_the_system_message(tmp_path, tokenizer):
    clock = lambda n: {"role": "system", "content": f"You are an agent. Current time: 2026-11-27 10:00:0{n}"}  # noqa: E731
    talks = (
        [clock(0), ASK, THOUGHT],
        [clock(1), ASK, SAID, AGAIN, THOUGHT],
        [clock(2), ASK, SAID, AGAIN, SAID, ASK, SAID],
    )
    session = thinking.read_session(written(tmp_path, requests(*talks)))
    found = reuse.divergences(session, tokenizer)
    assert [(one.cause, one.position) for one in found] == [("system block", 33)] * 2
    assert [row[2] for row in logs.ledger(session, tokenizer)] == [0, 33, 33]


def test_tools_in_another_order_share_what_is_before_the_first_that_differs(tmp_path, tokenizer):
    tools = [
        {"name": f"{name}_it", "description": logs.Story(n).words(40)}
        for n, name in enumerate(("find", "drop", "move"))
    ]
    orders, talk = (tools, [tools[1], tools[0], tools[2]], [tools[2], tools[0], tools[1]]), [ASK]
    rows = []
    for n, order in enumerate(orders):
        talk = [*talk, SAID, AGAIN]
        rows += requests([*talk, SAID | {"content": f"so {n}"}], tools=order)
    session = thinking.read_session(written(tmp_path, rows))
    assert [call.tools for call in session.calls] == list(orders)
    head = tokenizer(thinking.render([ASK], tools=tools).partition("find_it")[0], add_special_tokens=False)["input_ids"]
    shared = [row[2] for row in logs.ledger(session, tokenizer)]
    assert shared == [0, len(head), len(head)] and len(head) < 40
    same = [json.loads(line) for line in written(tmp_path, rows).read_text().splitlines()]
    for row in same:
        row["request"]["tools"] = tools
    kept = logs.ledger(thinking.read_session(written(tmp_path, same)), tokenizer)
    assert [row[2] > 150 for row in kept] == [False, True, True], "in one order they are shared"


def test_a_compacted_request_is_a_call(tmp_path, tokenizer):
    long = {"role": "user", "content": logs.Story(1).words(90)}
    talks = [long, SAID], [long, SAID, AGAIN, SAID], [{"role": "user", "content": "in short: so"}, SAID, ASK, SAID]
    session = thinking.read_session(written(tmp_path, requests(*talks)))
    rows = logs.ledger(session, tokenizer)
    assert len(rows) == 3 and rows[2][0] < rows[0][0] < rows[1][0] and not session.problems


# ------------------------------------------------------------------------------------ one form, from a file or directly

FORMS = {
    "reasoning_content": [ASK, THOUGHT, AGAIN, SAID],
    "reasoning": [ASK, SAID | {"reasoning": "let me look"}, AGAIN, SAID],
    "thinking": [ASK, SAID | {"thinking": "let me look"}, AGAIN, SAID],
    "inline": [ASK, SAID | {"content": "<think>\nlet me look\n</think>\n\nbecause"}, AGAIN, SAID],
    "half a tag": [ASK, SAID | {"content": "let me look\n</think>\n\nbecause"}, AGAIN, SAID],
}
OTHERS = {
    "arguments as text": [
        ASK,
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"function": {"name": "read", "arguments": '{"path": "a"}'}}],
        },
        {"role": "tool", "content": "7", "tool_call_id": "1"},
        SAID,
    ],
    "two system messages": [
        {"role": "system", "content": "be brief"},
        {"role": "system", "content": "be kind"},
        ASK,
        SAID,
    ],
    "developer": [{"role": "developer", "content": "be brief"}, ASK, SAID],
    "late": [ASK, SAID, {"role": "system", "content": "now in verse"}, AGAIN, SAID],
}


@pytest.mark.parametrize("policy", reuse.POLICIES)
@pytest.mark.parametrize("name", FORMS | OTHERS)
def test_a_file_and_its_messages_have_one_ledger(tmp_path, tokenizer, name, policy):
    messages = (FORMS | OTHERS)[name]
    session = thinking.read_session(written(tmp_path, messages))
    rows = logs.ledger(session, tokenizer, policy)
    assert rows == logs.ledger(messages, tokenizer, policy)
    log = requests(*(messages[: i + 1] for i, one in enumerate(messages) if one["role"] == "assistant"))
    assert rows == logs.ledger(thinking.read_session(written(tmp_path, log)), tokenizer, policy)
    if name in FORMS:
        assert rows == logs.ledger(FORMS["reasoning_content"], tokenizer, policy), "wherever the thinking stands"


def test_dropping_drops_inline_thinking_too(tokenizer):
    bare = [ASK, SAID, AGAIN]
    for name in FORMS:
        prompts = {p: list(reuse.calls(FORMS[name], tokenizer, policy=p))[1].prompt for p in reuse.POLICIES}
        texts = {policy: tokenizer.decode(ids) for policy, ids in prompts.items()}
        assert texts["drop"] == thinking.render(bare, preserve=True)
        assert texts["preserve"] == thinking.render([ASK, THOUGHT, AGAIN], preserve=True)
        assert texts["strip"] == thinking.render(bare)


def test_system_messages_are_joined_kept_and_told(tmp_path, tokenizer):
    read = lambda name: thinking.read_session(written(tmp_path, OTHERS[name]))  # noqa: E731
    two, one, late = read("two system messages"), read("developer"), read("late")
    assert two.calls[0].sent[0]["content"] == "be brief\n\nbe kind" and "2 system messages" in two.problems[0][1]
    assert one.calls[0].sent[0] == {"role": "system", "content": "be brief"} and "developer" in one.problems[0][1]
    assert [line for line, _ in late.problems] == [5] and "behind the first turn" in late.problems[0][1]
    prompt = tokenizer.decode(list(reuse.calls(late, tokenizer))[1].prompt)
    assert "because<|im_end|>\n<|im_start|>system\nnow in verse<|im_end|>\n<|im_start|>user\n" in prompt


# ----------------------------------------------------------------------------------------------------- replies begun

BEGUN = [
    SAID | {"content": content} | more
    for content in ("Sure", "  Sure, ", "a\nb  \n", "", "<think>\nhm", "yes <think>x</think> no", "</think>", "why?")
    for more in ({}, {"reasoning_content": "why\n"}, {"reasoning_content": ""}, {"tool_calls": [CALL]})
]
BEGUN += [
    SAID | {"content": [{"type": "text", "text": "one "}, {"type": "text", "text": " two "}]},
    SAID | {"content": None},
]
HEADS = {
    "question": [ASK],
    "third turn": [{"role": "system", "content": "be brief"}, ASK, THOUGHT, AGAIN],
    "tool loop": [ASK, {"role": "assistant", "content": "", "tool_calls": [CALL]}, {"role": "tool", "content": "7"}],
}


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("preserve", [None, True])
def test_a_reply_that_was_begun_is_rendered_as_transformers_does(tokenizer, head, preserve):
    refused = 0
    for last in BEGUN:
        talk, options = [*HEADS[head], last], {} if preserve is None else {"preserve_thinking": preserve}
        begin = dict(continue_final_message=True, preserve=preserve)
        try:
            expected = tokenizer.apply_chat_template(talk, tokenize=False, continue_final_message=True, **options)
        except ValueError:
            refused += 1
            for function in (thinking.render, functools.partial(thinking.spans, tokenizer=tokenizer)):
                with pytest.raises(InputError, match="continued|chat template gives no prompt"):
                    function(talk, **begin)
        else:
            assert thinking.render(talk, **begin) == expected
            if last is BEGUN[0] or last is BEGUN[5]:
                found = thinking.spans(talk, tokenizer, **begin)
                assert found.text == expected and found.spans[-1].kind in ("answer", "think")
    assert 2 <= refused < len(BEGUN) / 3, "some, not most"
    with pytest.raises(InputError, match="only an assistant's words"):
        thinking.render([ASK, AGAIN], continue_final_message=True)


@pytest.mark.parametrize("flag", [{"continue_final_message": True, "add_generation_prompt": False}, {}])
def test_a_prefilled_request_in_the_ledger(tmp_path, tokenizer, flag):
    begun, rest = SAID | {"content": "Sure, be"}, SAID | {"content": "cause of this"}
    rows = [{"request": {"messages": [ASK, begun]} | flag, "response": {"choices": [{"message": rest}]}}]
    session = thinking.read_session(written(tmp_path, rows))
    assert [reason for _, reason in session.problems] == ([] if flag else [PREFILLED])
    call, *more = reuse.calls(session, tokenizer)
    expected = tokenizer.apply_chat_template([ASK, begun], tokenize=False, continue_final_message=True)
    assert tokenizer.decode(call.prompt) == expected and not more and expected.endswith("Sure, be")
    assert tokenizer.decode(call.generated) == "cause of this<|im_end|>" and call.thinking == 0
    bare = [{"messages": [ASK, begun], "continue_final_message": True}]
    (call,) = thinking.read_session(written(tmp_path, bare)).calls
    assert call.reply is None and call.sent[-1]["content"] == "Sure, be"


def test_a_reply_begun_that_no_template_goes_on_from(tmp_path):
    begun = SAID | {"content": "<think>x</think>yes"}
    rows = requests([ASK, begun, SAID], [ASK, THOUGHT], continue_final_message=True)
    session = thinking.read_session(written(tmp_path, rows))
    assert len(session.calls) == 1 and session.problems[0][0] == 1 and "rewrites" in session.problems[0][1]


# ---------------------------------------------------------------------------------------------- what rows say of a call


def single(folder, request=None, response=None, **row):
    """The one call of a log of one row, and the session."""
    request = {"messages": [ASK]} | (request or {})
    response = {"choices": [{"message": THOUGHT}]} | (response or {})
    session = thinking.read_session(written(folder, [{"request": request, "response": response} | row]))
    assert len(session.calls) == 1, session
    return session.calls[0], session


def test_what_was_billed_and_when(tmp_path):
    usage = {"prompt_tokens": 90, "completion_tokens": 8, "prompt_tokens_details": {"cached_tokens": 64}}
    usage["completion_tokens_details"] = {"reasoning_tokens": 5}
    call, _ = single(tmp_path, {"model": "a"}, {"usage": usage, "created": 1700000007, "model": "b"})
    assert call.usage == thinking.Usage(input=90, cached=64, output=8, thinking=5)
    assert (call.time, call.model) == (1700000007.0, "a")
    call, _ = single(tmp_path, {}, {"usage": {"prompt_tokens": 9, "prompt_cache_hit_tokens": 4}, "model": "b"})
    assert call.usage == thinking.Usage(input=9, cached=4) and call.model == "b" and call.time is None
    call, _ = single(tmp_path, {}, {"timings": {"cache_n": 30, "prompt_n": 12, "predicted_n": 3}})
    assert call.usage == thinking.Usage(input=42, cached=30, output=3)
    call, session = single(tmp_path, {}, {"usage": {"prompt_tokens": "9", "prompt_tokens_details": 7}})
    assert call.usage is None and len(session.problems) == 2 and {line for line, _ in session.problems} == {1}


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        (1700000007, 1700000007.0),
        (1700000007.5, 1700000007.5),
        (1700000007500, 1700000007.5),
        (1700000007500000, 1700000007.5),
        (1700000007500000000, 1700000007.5),
        ("2023-11-14T22:13:27Z", 1700000007.0),
        ("2023-11-14T23:13:27.500+01:00", 1700000007.5),
        ("2023-11-14 22:13:27", 1700000007.0),
        ("soon", None),
        (True, None),
        (-3, None),
        ({}, None),
    ],
)
def test_times_of_any_kind(tmp_path, given, seconds):
    assert single(tmp_path, timestamp=given)[0].time == seconds


@pytest.mark.parametrize(
    ("more", "asked"),
    [
        ({"chat_template_kwargs": {"enable_thinking": False}}, False),
        ({"chat_template_kwargs": {"enable_thinking": True}}, True),
        ({"extra_body": {"chat_template_kwargs": {"enable_thinking": False}}}, False),
        ({"enable_thinking": False}, False),
        ({"thinking": {"type": "disabled"}}, False),
        ({}, None),
    ],
)
def test_what_a_request_asks_of_thinking(tmp_path, tokenizer, more, asked):
    call, session = single(tmp_path, more)
    assert call.enable_thinking is asked
    own = list(reuse.calls(session, tokenizer))[0]
    assert tokenizer.decode(own.prompt) == thinking.render([ASK], enable_thinking=asked)


def test_thinking_asked_for_in_odd_words_is_told(tmp_path):
    call, session = single(tmp_path, {"chat_template_kwargs": {"enable_thinking": "no"}})
    assert call.enable_thinking is None and "enable_thinking is 'no'" in session.problems[0][1]


def test_the_time_before_tools(tmp_path, tokenizer):
    old = [ASK, {"role": "assistant", "content": None, "function_call": {"name": "read", "arguments": '{"path": "a"}'}}]
    old += [{"role": "function", "name": "read", "content": "7"}, SAID]
    new = [ASK, {"role": "assistant", "content": "", "tool_calls": [CALL]}, {"role": "tool", "content": "7"}, SAID]
    functions = [{"name": "read", "parameters": {"type": "object"}}]
    session = thinking.read_session(written(tmp_path, requests(old, functions=functions)))
    tools = [{"type": "function", "function": functions[0]}]
    assert logs.same(session, [(new[:-1], SAID, tools)]) and not session.problems
    assert logs.ledger(thinking.read_session(written(tmp_path, old)), tokenizer) == logs.ledger(new, tokenizer)


def test_refusals_reasoning_details_and_items(tmp_path):
    call, _ = single(tmp_path, {}, {"choices": [{"message": {"content": None, "refusal": "no", "reasoning": "hm"}}]})
    assert call.reply["content"] == "no"
    details = [{"type": "reasoning.text", "text": "let "}, {"type": "reasoning.text", "text": "me"}]
    call, session = single(tmp_path, {}, {"choices": [{"message": SAID | {"reasoning_details": details}}]})
    assert call.reply["reasoning_content"] == "let me" and not session.problems
    hidden = [{"type": "reasoning.encrypted", "data": "xyz"}, {"type": "reasoning.summary", "summary": "in short"}]
    call, session = single(tmp_path, {}, {"choices": [{"message": SAID | {"reasoning_details": hidden}}]})
    assert "reasoning_content" not in call.reply and "encrypted or a summary" in session.problems[0][1]
    heard = {"type": "input_audio", "input_audio": {"data": "AA", "format": "wav"}}
    seen = {"type": "image_url", "image_url": {"url": "http://a/b.png"}}
    said = {"role": "user", "content": [{"type": "text", "text": "what"}, heard, seen]}
    call, session = single(tmp_path, {"messages": [said]})
    assert call.sent[0]["content"] == [said["content"][0], seen]
    assert session.problems == ((1, session.problems[0][1]),) and "message 1: an item of type input_audio" in str(
        session
    )
    system = {"role": "system", "content": [{"type": "text", "text": "be"}, seen]}
    call, session = single(tmp_path, {"messages": [system, ASK]})
    assert "a picture of the system's" in str(session) and thinking.render(call.sent).startswith(
        "<|im_start|>system\nbe<"
    )
    inner = {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}
    call, _ = single(
        tmp_path, {}, {"choices": [{"message": SAID | {"content": [inner, {"type": "text", "text": "so"}]}}]}
    )
    assert call.reply["reasoning_content"] == "hm"


def test_choices_and_errors_are_counted(tmp_path):
    call, session = single(tmp_path, {}, {"choices": [{"message": THOUGHT}, {"message": SAID}, {"message": SAID}]})
    assert call.reply["reasoning_content"] and session.left_out == (
        (2, "further choices of a response; the first is counted"),
    )
    rows = requests([ASK, THOUGHT])
    rows += [{"request": {"messages": [ASK]}, "response": {"error": {"message": "overloaded"}}}]
    rows += [
        {"messages": [ASK], "error": "timeout"},
        {"request": {"messages": [ASK]}, "response": {"status_code": 500}},
    ]
    session = thinking.read_session(written(tmp_path, rows))
    assert len(session.calls) == 1 and not session.problems
    assert session.left_out == ((3, "requests that were answered by an error"),)


def test_token_ids_of_an_engine_in_chat_responses(tmp_path, tokenizer):
    response = {"prompt_token_ids": [3, 1, 4, 1, 5], "choices": [{"message": SAID, "token_ids": [9, 2, 6]}]}
    _, session = single(tmp_path, {}, response)
    (call,) = reuse.calls(session, tokenizer)
    assert call.prompt.tolist() == [3, 1, 4, 1, 5] and call.generated.tolist() == [9, 2, 6]


# ----------------------------------------------------------------------------------------------- rows without responses


def test_replies_are_read_off_the_next_request(tmp_path, tokenizer):
    story = logs.Story(5, turns=4)
    full = story.exchanges()
    rows = [writers.body(sent, tools) for sent, _, tools in full]
    other = {"messages": [{"role": "user", "content": "another conversation"}]}
    session = thinking.read_session(written(tmp_path, [*rows[:2], other, *rows[2:]]))
    count = len(rows)
    reason = f"requests without a response, {count + 1}: of {count - 1} a later one holds the reply"
    assert session.problems == ((0, reason),)
    assert [call.reply is None for call in session.calls] == [False] * 2 + [True] + [False] * (count - 3) + [True]
    expected = [(sent, reply if n < count - 1 else None, tools) for n, (sent, reply, tools) in enumerate(full)]
    expected.insert(2, ([other["messages"][0]], None, None))
    assert logs.ledger(session, tokenizer) == logs.counted(expected, tokenizer)


def test_replies_are_found_though_a_clock_runs_but_not_in_another_conversation(tmp_path):
    clock = lambda n: {"role": "system", "content": f"it is {n}"}  # noqa: E731
    talks = [clock(1), ASK], [clock(2), ASK, SAID, AGAIN], [clock(2), AGAIN, THOUGHT, ASK]
    calls = thinking.read_session(written(tmp_path, [{"messages": talk} for talk in talks])).calls
    assert [call.reply and call.reply["content"] for call in calls] == ["because", None, None]


def test_rows_for_tuning_are_conversations_of_their_own(tmp_path):
    tools = [{"name": "read"}]
    rows = [{"messages": [ASK, SAID, AGAIN, SAID], "tools": tools}, {"messages": [AGAIN, SAID], "id": "b"}]
    rows.append({"messages": [{"role": "system", "content": "be"}, ASK, SAID]})
    session = thinking.read_session(written(tmp_path, rows))
    assert session.threads == ("1", "b", "3") and [call.line for call in session.calls] == [1, 1, 2, 3]
    assert len(session.of("1").calls) == 2 and session.of("1").tools == tools and not session.problems
    (call, last), one = thinking.read_session(written(tmp_path, rows[:1])).calls, rows[0]
    assert (call.thread, len(last.sent)) == ("", 3) and one["messages"] == [*last.sent, last.reply]


def test_pictures_of_one_conversation_are_calls_each(tmp_path):
    whole = [ASK, SAID, AGAIN, THOUGHT, ASK, SAID]
    rows = [{"messages": whole[:4]}, {"messages": whole}, {"messages": [{"role": "user", "content": "in short"}, SAID]}]
    session = thinking.read_session(written(tmp_path, rows))
    assert [(len(call.sent), call.thread) for call in session.calls] == [(3, ""), (5, ""), (1, "")]
    dropped = [{"messages": [SAID if one is THOUGHT else one for one in whole[: 4 + n]]} for n in (0, 2)]
    dropped[0]["messages"] = whole[:4]
    assert len(thinking.read_session(written(tmp_path, dropped)).calls) == 2, (
        "a client drops the thinking of what it sends"
    )


def test_messages_beside_requests_are_a_conversation_apart(tmp_path):
    session = thinking.read_session(written(tmp_path, [*requests([ASK, SAID]), ASK, SAID]))
    assert [call.thread for call in session.calls] == ["", "beside"] and session.problems[0][0] == 2


def test_responses_find_their_requests(tmp_path):
    said = lambda n: {"choices": [{"message": SAID | {"content": f"so {n}"}}]}  # noqa: E731
    asked = lambda n: {"messages": [{"role": "user", "content": f"{n}?"}]}  # noqa: E731
    rows = [{"id": "a", "request": asked(1)}, {"id": "b", "request": asked(2)}]
    rows += [{"id": "b", "response": said(2)}, {"id": "a", "response": said(1)}]
    session = thinking.read_session(written(tmp_path, rows))
    assert [call.reply["content"] for call in session.calls] == ["so 1", "so 2"] and not session.problems
    bare = thinking.read_session(written(tmp_path, [said(0), asked(1), asked(2), said(2), said(3)]))
    assert [call.reply and call.reply["content"] for call in bare.calls] == [None, "so 2"]
    assert [line for line, reason in bare.problems if "not the row before" in reason] == [1, 5]


@pytest.mark.parametrize(
    ("row", "reason", "kept"),
    [
        ({"request": None, "messages": [ASK], "choices": None}, "without a response", True),
        ({"messages": None, "role": None}, "a request without messages", False),
        ({"messages": [ASK], "choices": [{"delta": {}}]}, "a response without a message", True),
        ({"messages": [ASK], "choices": []}, "a response without a message", True),
        ({"messages": [ASK], "response": "{text"}, "response: not JSON", True),
        ({"messages": [ASK], "response": [{"choices": 7}]}, "response: a int where a list", True),
        ({"messages": [ASK], "response": ["data: {"]}, "response: not JSON", True),
        (
            {"messages": [ASK], "response": {"choices": [{"message": {"role": "user", "content": "x"}}]}},
            "role 'user'",
            True,
        ),
        ({"messages": 7}, "messages: a int where a list is needed", False),
        ({"messages": [7, ASK], "choices": [{"message": SAID}]}, "message 1: no message", True),
        ({"request": 7}, "a request that is a int", False),
        ({"messages": [SAID], "choices": [{"message": SAID}]}, "a call without a question", False),
        ({"messages": [ASK], "tools": [7], "choices": [{"message": SAID}]}, "tools: tools are JSON schemas", True),
        ({"messages": [ASK], "response": {"choices": [{"message": {"tool_calls": 1}}]}}, "a int where a list", True),
        ({"choices": [{"message": SAID}]}, "whose request is not the row before it", False),
        ({"object": "chat.completion.chunk", "choices": [{"delta": 7}]}, "a stream: a int where an object", False),
        (7, "a int where an object is needed", False),
    ],
)
def test_odd_rows_of_a_log_are_reported(tmp_path, row, reason, kept):
    session = thinking.read_session(written(tmp_path, [*requests([ASK, THOUGHT]), {"x": 1, "role": "robot"}, row]))
    assert any(reason in why for line, why in session.problems if line in (3, 0)), session.problems
    assert [call.line for call in session.calls] == [1, 3] if kept else [1]
    assert (2, "no message: role 'robot'") in session.problems


def test_a_reply_as_words_alone(tmp_path):
    session = thinking.read_session(written(tmp_path, [{"messages": [ASK], "response": "because"}]))
    assert session.calls[0].reply == SAID and not session.problems


def test_a_stream_that_breaks_off_is_what_came(tmp_path):
    rows = writers.chunks(THOUGHT)
    text = writers.events(rows[:-3]).removesuffix("data: [DONE]\n\n")
    (call,) = thinking.read_session(written(tmp_path, [{"messages": [ASK], "response": text}])).calls
    assert call.reply["reasoning_content"] == "let me look" and call.reply["content"] and call.usage is None


# ---------------------------------------------------------------------------------------------------- the other formats


def test_a_file_of_every_writer_is_recognised_among_all(tmp_path):
    for name, (format, text) in FILES.items():
        path = written(tmp_path, text)
        assert thinking.read_session(path).format == format, name
        path.write_bytes(b"\xef\xbb\xbf" + text.lstrip("\ufeff").encode())
        assert thinking.read_session(path).format == format, f"{name}, with a byte order mark"


def test_what_the_formats_say_was_billed(tmp_path):
    expected = {
        "openai": thinking.Usage(input=100, cached=64, output=7),
        "openai_chunks": thinking.Usage(input=100, output=7),
        "openai_batch": thinking.Usage(input=100, cached=64, output=7),
        "llama_log": thinking.Usage(input=100, cached=40, output=7),
        "vllm": thinking.Usage(input=50, cached=48, output=9),
        "sglang": thinking.Usage(input=70, cached=64, output=11),
        "llama_server": thinking.Usage(input=90, cached=80, output=12),
        "langsmith": thinking.Usage(input=60, cached=32, output=8),
        "langsmith_lines": None,
    }
    for name, usage in expected.items():
        call = thinking.read_session(written(tmp_path, FILES[name][1])).calls[0]
        assert call.usage == usage, name
        assert call.time is None or 1699999999 < call.time < 1700000002, name


def test_a_batch_by_halves(tmp_path):
    rows = [json.loads(line) for line in FILES["openai_batch"][1].splitlines()]
    half = len(rows) // 2
    session = thinking.read_session(written(tmp_path, rows[:half]))
    assert session.format == "openai-batch" and len(session.calls) == half
    assert all(call.reply is None for call in session.calls) and not session.problems
    with pytest.raises(InputError, match="(?s)no call of a model.*line 1, a response without its request"):
        thinking.read_session(written(tmp_path, rows[half:]))
    rows[half]["response"] = {"status_code": 429, "body": {"error": {"message": "slow down"}}}
    rows[half + 1] |= {"response": None, "error": {"code": "batch_expired"}}
    again = thinking.read_session(written(tmp_path, [*rows, rows[0], {"body": {}}, {"custom_id": "x"}]))
    assert len(again.calls) == half - 2 and again.left_out == ((2, "requests that were answered by an error"),)
    assert [line for line, _ in again.problems] == [2 * half + 1, 2 * half + 2, 2 * half + 3]
    other = {"custom_id": "e", "method": "POST", "url": "/v1/embeddings", "body": {"input": "words"}}
    assert "another interface" in str(thinking.read_session(written(tmp_path, [*rows[: half + 3], other])))
    text = {"custom_id": "t", "url": "/v1/completions", "body": {"prompt": writers.prompt([ASK], None)}}
    assert thinking.read_session(written(tmp_path, [*rows[:half], text])).calls[-1].sent == (ASK,)


PROMPT = "<|im_start|>user\nwhy?<|im_end|>\n<|im_start|>assistant\n"


def completed(folder, prompt, said="hm\n</think>\n\nso"):
    """The session of one request to /v1/completions."""
    return thinking.read_session(written(folder, [{"prompt": prompt, "choices": [{"text": said}]}]))


def test_prompts_of_other_openings(tmp_path):
    (call,) = (session := completed(tmp_path, PROMPT + "<think>\n")).calls
    assert (call.sent, call.enable_thinking) == ((ASK,), None) and call.reply["content"] == "hm\n</think>\n\nso"
    assert len(session.problems) == 1 and session.format == "vllm"
    (call,) = completed(tmp_path, PROMPT + "<think>\n\n</think>\n\n", "so").calls
    assert call.enable_thinking is False and call.reply == {"role": "assistant", "content": "so"}
    (call,) = completed(tmp_path, PROMPT + "<think>\n", "hm and").calls
    assert call.reply == {"role": "assistant", "content": "", "reasoning_content": "hm and"}
    (call,) = (session := completed(tmp_path, PROMPT + "<think>\nhm\n</think>\n\nSure", " so")).calls
    assert (
        call.sent[-1] == {"role": "assistant", "reasoning_content": "hm", "content": "Sure"}
        and len(session.problems) == 1
    )
    session = completed(tmp_path, PROMPT, "so")
    assert [reason.partition(";")[0] for _, reason in session.problems] == [
        "a prompt that the family's template writes otherwise",
        "prompts that were rendered, read back into messages",
    ]


@pytest.mark.parametrize(
    ("prompt", "reason"),
    [
        ("Once upon a time", "no ChatML; log chat requests"),
        ("[INST] why? [/INST]", "no ChatML"),
        (PROMPT.replace("user", "human"), "turn 1, of role 'human'"),
        (PROMPT.replace("<|im_end|>", ""), "turn 1, of role 'user'"),
        (PROMPT.replace("<|im_end|>\n", "<|im_end|> and"), "turn 1, of role 'user'"),
        ([1, "a"], "prompt_ids are no token ids"),
        ([1, -2], "prompt_ids are no token ids"),
        (7, "a request without its prompt"),
        ({"prompt_token_ids": "x"}, "prompt_ids are no token ids"),
    ],
)
def test_prompts_that_are_none(tmp_path, prompt, reason):
    good = {"prompt": PROMPT + "<think>\n", "choices": [{"text": "hm</think>so"}]}
    session = thinking.read_session(written(tmp_path, [good, {"prompt": prompt, "choices": [{"text": "so"}]}]))
    assert len(session.calls) == 1 and any(line == 2 and reason in why for line, why in session.problems), (
        session.problems
    )


def test_completions_by_token_ids(tmp_path, tokenizer):
    rows = [
        {"request": {"prompt": [5, 6, 7]}, "response": {"choices": [{"text": "so", "token_ids": [8]}]}},
        {"prompt_token_ids": [5, 6, 7, 8, 9], "output_token_ids": [10, 11]},
        {"request": {"prompt": [5, 6, 7, 8, 9, 10]}, "response": {"error": {"message": "too long"}}},
        {"request": {"messages": [ASK]}, "response": {"choices": []}},
    ]
    assert thinking.read_session(written(tmp_path, rows[:3])).format == "vllm"
    session = thinking.read_session(written(tmp_path, rows), format="vllm")
    assert logs.ledger(session, tokenizer, "strip") == [(3, 1, 0), (5, 2, 3)]
    assert [line for line, _ in session.problems] == [1, 4] and session.left_out[0][0] == 1


@pytest.mark.parametrize("level", ["text", "cut text", "cut ids", "none"])
def test_sglang_logs_of_other_levels(tmp_path, level):
    rows = [json.loads(line.partition("] ")[2]) for line in FILES["sglang"][1].splitlines()]
    whole = "a" * 3000
    for row in rows[2:]:
        row["obj"] |= {"text": whole[:1024] + "..." + whole[-1024:]} if level == "cut text" else {}
        row["obj"] |= {"input_ids": [1] * 1024 + ["..."] + [2] * 1024, "text": None} if level == "cut ids" else {}
        row["obj"] |= {"text": None} if level == "none" else {}
    if level == "text":
        lines = "".join(f"[2026-05-20 08:02:44] Finish: obj=GenerateReqInput(rid='{n}'), out={{}}\n" for n in range(3))
        with pytest.raises(InputError, match="(?s)a log of sglang in text.*Finish: obj=.*--log-requests-format json"):
            thinking.read_session(written(tmp_path, lines))
        return
    session = thinking.read_session(written(tmp_path, rows))
    assert len(session.calls) == 1 and session.left_out[0] == (len(rows) // 2, session.left_out[0][1])
    reasons = [reason for _, reason in session.problems if "--log-requests-level 3" in reason]
    assert len(reasons) == len(rows) // 2 - 1 and all(("has cut" in one) == level.startswith("cut") for one in reasons)


def test_requests_that_were_aborted(tmp_path):
    rows = [json.loads(line.partition("] ")[2]) for line in FILES["sglang"][1].splitlines()]
    rows[3]["out"]["meta_info"]["finish_reason"] = {"type": "abort", "message": "timeout"}
    session = thinking.read_session(written(tmp_path, rows))
    assert (1, "requests that were aborted") in session.left_out and len(session.calls) == len(rows) // 2 - 1


def test_slots_and_verbose_responses_of_llama_server(tmp_path, tokenizer):
    text = writers.prompt([ASK], None)
    slots = [{"id": n, "n_ctx": 4096, "is_processing": False, "prompt": text if n else ""} for n in range(3)]
    session = thinking.read_session(written(tmp_path, json.dumps(slots)))
    assert session.format == "llama-server" and [call.sent for call in session.calls] == [(ASK,)] * 2
    assert session.left_out == ((1, "slots without a prompt"),) and all(call.reply is None for call in session.calls)
    verbose = {
        "prompt": text,
        "content": "hm\n</think>\n\nso",
        "tokens": [7, 8],
        "tokens_evaluated": 30,
        "truncated": True,
    }
    verbose["timings"] = {"prompt_n": 10, "predicted_n": 2}
    row = {"object": "chat.completion", "choices": [{"message": SAID}], "__verbose": verbose}
    session = thinking.read_session(written(tmp_path, [row]), format="llama-server")
    assert session.calls[0].usage == thinking.Usage(input=30, cached=20, output=2)
    assert any("truncated" in reason for _, reason in session.problems)
    assert list(reuse.calls(session, tokenizer))[0].generated.tolist() == [7, 8]


@pytest.mark.parametrize(
    ("text", "format"),
    [
        (
            "INFO 05-20 08:02:44 [logger.py:42] Received request cmpl-1: prompt: 'why?', params: SamplingParams(n=1)\n",
            "vllm",
        ),
        ("build: 7000\nslot update_slots: id  0 | task 1 | new prompt, n_ctx_slot = 4096\n", "llama-server"),
        ("[2026-05-20 08:02:44] Receive OpenAI: obj={'model': 'q'}\n", "sglang"),
    ],
)
def test_logs_in_text_say_what_to_log_instead(tmp_path, text, format):
    with pytest.raises(InputError, match=f"(?s)a log of {format} in text, which is not read.*expected: .*") as caught:
        thinking.read_session(written(tmp_path, text * 3))
    assert any(word in str(caught.value) for word in ("JSONL", "-v", "--log-requests-level 3"))


def test_a_log_of_llama_server_counts_its_other_lines(tmp_path):
    session = thinking.read_session(written(tmp_path, FILES["llama_log"][1]))
    assert session.format == "openai" and [line for line, _ in session.problems] == [0]
    assert f"without a request or a response: {2 + 2 * len(session.calls)}" in session.problems[0][1]


def test_runs_of_langsmith(tmp_path):
    runs = json.loads(FILES["langsmith"][1])
    session = thinking.read_session(written(tmp_path, json.dumps(runs)))
    count = len(session.calls)
    assert session.left_out == ((count, "runs of type 'tool'"), (1, "runs of type 'chain'"))
    assert [call.time for call in session.calls] == sorted(call.time for call in session.calls) and count > 3
    assert session.calls[0].model == "q" and session.calls[0].tools == logs.TOOLS
    tree = next(run for run in runs if run["run_type"] == "chain") | {
        "child_runs": [r for r in runs if r["id"] != "root"]
    }
    nested = thinking.read_session(written(tmp_path, json.dumps({"runs": [tree, runs[0]]})))
    assert (
        nested.calls == tuple(call for call in session.calls) and (1, "runs that stand there twice") in nested.left_out
    )
    first, second, *rest = (run for run in runs if run["run_type"] == "llm")
    first["error"], second["extra"]["metadata"]["thread_id"] = "RateLimitError()", "other"
    del rest[0]["outputs"]
    session = thinking.read_session(written(tmp_path, runs))
    assert len(session.calls) == count - 2 and set(session.threads) == {"t", "other"}
    assert {(1, "runs that failed"), (1, "runs without an answer")} < set(session.left_out)


@pytest.mark.parametrize(
    ("inputs", "outputs"),
    [
        ({"messages": [ASK]}, {"choices": [{"message": SAID}]}),
        ({"messages": [{"type": "human", "content": "why?"}]}, {"message": {"type": "ai", "content": "because"}}),
        ({"messages": [[{"type": "human", "data": {"content": "why?"}}]]}, {"generations": [[{"text": "because"}]]}),
        ({"messages": [{"type": "HumanMessage", "content": "why?"}]}, {"output": "because"}),
        ({"messages": [ASK]}, {"messages": [{"type": "AIMessageChunk", "content": "because"}]}),
        ({"messages": [ASK]}, SAID),
    ],
)
def test_forms_of_langchains_messages(tmp_path, inputs, outputs):
    run = {"id": "a", "run_type": "llm", "start_time": "2026-01-01T00:00:00", "inputs": inputs, "outputs": outputs}
    session = thinking.read_session(written(tmp_path, [run]))
    assert logs.same(session, [([ASK], SAID, None)]) and not session.problems


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            {"inputs": {"messages": [{"type": "hologram", "content": "x"}]}},
            "message 1: no message: of type 'hologram'",
        ),
        ({"inputs": {"messages": 7}}, "a int where a list is needed"),
        ({"inputs": {}}, "a run without messages"),
        ({"outputs": {"what": 1}}, "an answer of unknown form, what"),
        ({"outputs": {"generations": [[{"message": 7}]]}}, "a int where an object is needed"),
        ({"child_runs": 7}, "child_runs: a int where a list is needed"),
    ],
)
def test_damaged_runs_are_told(tmp_path, change, reason):
    runs = [{"id": n, "run_type": "llm", "inputs": {"messages": [ASK]}, "outputs": SAID} for n in "ab"]
    session = thinking.read_session(written(tmp_path, [runs[0], runs[1] | change]))
    assert any(line == 2 and reason in why for line, why in session.problems), session.problems


def test_calls_of_a_stream_by_their_index(tmp_path):
    part = lambda i, **function: {"choices": [{"delta": {"tool_calls": [{"index": i, "function": function}]}}]}  # noqa: E731
    rows = [part(0, name="read", arguments='{"path"'), part(1, name="run", arguments=""), part(0, arguments=': "a"}')]
    rows += [part(1, arguments='{"n": 2}'), {"choices": [], "usage": {"prompt_tokens": 5}}]
    (call,) = thinking.read_session(written(tmp_path, [{"messages": [ASK], "response": rows}])).calls
    made = [one["function"] for one in call.reply["tool_calls"]]
    assert made == [{"name": "read", "arguments": {"path": "a"}}, {"name": "run", "arguments": {"n": 2}}]
    assert call.usage.input == 5


def test_calls_of_a_stream_without_an_index_or_all_with_one(tmp_path):
    part = lambda id, more, **function: {
        "choices": [{"delta": {"tool_calls": [more | {"id": id, "function": function}]}}]
    }  # noqa: E731
    for more in ({}, {"index": 0}):
        rows = [part("1", more, name="read", arguments='{"path"'), part(None, more, arguments=': "a"}')]
        rows += [part("2", more, name="run", arguments='{"n"'), part("other", more, arguments=": 2}")]
        (call,) = thinking.read_session(written(tmp_path, [{"messages": [ASK], "response": rows}])).calls
        made = [one["function"] for one in call.reply["tool_calls"]]
        assert made == [{"name": "read", "arguments": {"path": "a"}}, {"name": "run", "arguments": {"n": 2}}]


def test_chunks_of_streams_that_take_turns(tmp_path):
    part = lambda id, text: {"id": id, "object": "chat.completion.chunk", "choices": [{"delta": {"content": text}}]}  # noqa: E731
    rows = [{"id": id, "messages": [{"role": "user", "content": f"{id}?"}]} for id in "xy"]
    rows += [part("x", "so "), part("y", "no "), part("x", "x"), part("y", "y")]
    session = thinking.read_session(written(tmp_path, rows))
    assert [call.reply["content"] for call in session.calls] == ["so x", "no y"] and not session.problems


def test_usage_of_ollama_and_under_names_that_are_unknown(tmp_path):
    answer = {"message": SAID, "prompt_eval_count": 11, "eval_count": 3}
    row = {"messages": [ASK], "response": answer}
    session = thinking.read_session(written(tmp_path, [row]))
    assert session.calls[0].usage == thinking.Usage(input=11, output=3) and not session.problems
    odd = {"messages": [ASK], "response": {"choices": [{"message": SAID}], "usage": {"input_tokens": 7}}}
    session = thinking.read_session(written(tmp_path, [odd, odd]))
    assert session.problems == ((1, "usage under other names, not read: 'input_tokens'"),)


def test_why_there_is_no_call_is_told_by_its_line(tmp_path):
    reply = {"type": "assistant", "sessionId": "s", "message": {"role": "assistant", "content": "so"}}
    with pytest.raises(InputError, match="line 1, a call without a question"):
        thinking.read_session(written(tmp_path, [reply]))


def test_a_request_that_was_logged_twice_counts_once(tmp_path):
    row = lambda id, said="because": {
        "messages": [ASK],
        "response": {"id": id, "choices": [{"message": SAID | {"content": said}}]},
    }  # noqa: E731
    rows = [row("a"), row("a"), row("b"), row("a", "so"), row(None), row(None)]
    session = thinking.read_session(written(tmp_path, rows))
    assert [call.line for call in session.calls] == [1, 3, 4, 5, 6]
    assert session.left_out == ((1, "requests that are there twice, with the same response of the same id"),)
