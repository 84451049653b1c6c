"""Damaged and hostile recorded sessions, and hostile conversations given as Python objects."""

import contextlib
import copy
import functools
import json
import math
import random
import re

import numpy as np

import labkit as lk
from labkit import reuse, thinking
from tests import test_sessions_agents as agents
from tests import test_sessions_bounds as bounds
from tests import test_sessions_exports as exports
from tests import test_sessions_items as items
from tests import test_sessions_requests as requests
from tests.attacks import attack, tried

HALF = re.compile("[\ud800-\udfff]")
SAYS = ("text", "thinking", "content", "reasoning_content", "reasoning", "value")
HOMES = ("message", "messages", "conversations", "steps", "observation", "results", "content")  # where it is said
POOL = [None, True, False, 0, -1, 2**70, 1.5, "", "x", "user", "assistant", "tool", "\ud83d", "\0", [], {}, [1]]
POOL += [{"a": 1}, [[]], ["x"], {"role": "user"}, {"type": "text"}, [{"type": "text", "text": "y"}], [None], "{}"]
POOL += ["@@9*9000@@", "@@NaN@@", "@@-Infinity@@", "@@1e999@@", "@@[*200@@", "@@[*200000@@", "@@{*90000@@"]
SIGNS = {"NaN": "NaN", "-Infinity": "-Infinity", "1e999": "1e999", "9*9000": "9" * 9000}
SIGNS |= {"[*200": "[" * 200 + "]" * 200, "[*200000": "[" * 200_000, "{*90000": '{"a":' * 90_000 + "1" + "}" * 90_000}


# ------------------------------------------------------------------------------------------------------------- files


@functools.cache
def samples():
    """(format, text) of sessions, of the tests and those that come along; the format is that of plain ones alone."""
    plain = [bounds.FILES[name] for name in ("openai, a line each", "openai, one list", "openai, a log of requests")]
    known = [*plain, *(("", path.read_text("utf-8")) for path in thinking.examples().values())]
    sharegpt = {"conversations": [{"from": "human", "value": "a?"}, {"from": "gpt", "value": "<think>b</think>c"}]}
    made = [one for part in (bounds, requests, items, agents, exports) for one in part.FILES.values()]
    return [*known, *(("", text) for _, text in made if isinstance(text, str)), ("", json.dumps(sharegpt))]


def places(value, path=()):
    """Paths to every value of a JSON value."""
    yield path
    for name, inner in (
        value.items() if isinstance(value, dict) else enumerate(value if isinstance(value, list) else ())
    ):
        yield from places(inner, (*path, name))


def changed(line, draw):
    """A line of JSON with one value replaced, deleted, doubled or wrapped."""
    try:
        value = [json.loads(line)]
    except (ValueError, RecursionError):
        return line
    *path, last = draw.choice([path for path in places(value) if path])
    home = value
    for name in path:
        home = home[name]
    way = draw.randrange(6)
    if way == 0 and isinstance(home, dict):
        del home[last]
    elif way == 1 and isinstance(home, list) and path:
        home.insert(last, copy.deepcopy(home[last]))
    elif way == 2:
        home[last] = draw.choice([[home[last]], {"x": home[last]}, str(home[last])])
    elif way == 3 and isinstance(home, dict):
        home["@@twice@@"] = draw.choice(POOL)
    else:
        home[last] = copy.deepcopy(draw.choice(POOL))
    names = list(home) if isinstance(home, dict) and home else [""]
    text = json.dumps(value[0], ensure_ascii=draw.random() < 0.7)
    text = text.replace("@@twice@@", str(names[0]))
    return re.sub('"@@(.*?)@@"', lambda sign: SIGNS.get(sign[1], sign[0]), text)


def damaged(text, draw):
    """The bytes of a session after one to three changes of its structure, lines or bytes."""
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        lines, way = text.split("\n"), draw.randrange(10)
        at, other = draw.randrange(len(lines)), draw.randrange(len(lines))
        if way < 6:
            lines[at] = changed(lines[at], draw) if len(lines) < 40 or draw.random() < 0.2 else lines[at]
            if len(lines) > 1 and text[:1] in "[{" and text.lstrip()[1:2] == "\n":  # a document of many lines
                lines = [changed(text, draw)]
        elif way == 6:
            lines.insert(other, lines[at])
        elif way == 7:
            lines[at], lines[other] = lines[other], lines[at]
        elif way == 8:
            del lines[at]
        else:
            lines.insert(
                at, draw.choice(["7", "null", '{"type": ', "[]", "{}", "\x00", '"\\ud800"', '{"a": 1, "a": 2}'])
            )
        text = "\n".join(lines)
    data = text.encode("utf-8", "surrogatepass")
    way = draw.randrange(16)
    at, stop = draw.randrange(len(data) + 1), draw.randrange(len(data) + 1)
    if way == 0:
        data = data[:at]
    elif way == 1:
        data = data[: min(at, stop)] + data[max(at, stop) :]
    elif way in (2, 3) and data:
        data = bytearray(data)
        for _ in range(draw.choice((1, 1, 20))):
            data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    elif way == 4:
        data = draw.choice([b"\xef\xbb\xbf" + data, b"\0" + data, data.replace(b"\n", b"\r\n")])
    elif way == 5:
        data = data.decode("utf-8", "replace").encode(draw.choice(["utf-16", "utf-16-le", "utf-32"]))
    return bytes(data)


def rows(data):
    """An independent reading: (line, value) of all that Python's json takes, and whether the whole is one document."""
    text = data.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "replace")
    found = []
    for number, part in [(1, text)] if "\n" in text.strip() else []:
        try:
            found.append((number, json.loads(part)))
            return found, True
        except (ValueError, RecursionError):
            pass
    for number, line in enumerate(text.split("\n"), 1):
        try:
            found.append((number, json.loads(line)))
        except (ValueError, RecursionError):
            continue
    return found, False


def leaves(value, deep=2):
    """Every text and number in a JSON value, also of JSON within texts."""
    if isinstance(value, str):
        yield HALF.sub("\ufffd", value)
        if deep and value[:1] in ("{", "[", '"'):
            with contextlib.suppress(ValueError, RecursionError):
                yield from leaves(json.loads(value), deep - 1)
    elif isinstance(value, list):
        for item in value:
            yield from leaves(item, deep)
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from leaves(name, deep)
            yield from leaves(item, deep)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield value


def made_of(text, known):
    """Whether a text is one of those known, or some of them in a row, with line breaks between or none."""
    if text in known or not text:
        return True
    ends = {0}
    for at in range(len(text)):
        if at in ends:
            if text[at] == "\n":
                ends.add(at + 1)
            ends |= {at + len(word) for word in known if word and text.startswith(word, at)}
    return len(text) in ends


def said(row):
    """What a row says, by the names under which formats say it."""
    for path in places(row):
        value = row
        for name in path:
            value = value[name]
        known = all(isinstance(name, int) or name in HOMES for name in path[:-1])
        if path and path[-1] in SAYS and known and isinstance(value, str) and value.strip():
            yield HALF.sub("\ufffd", value)


def faithful(data, form):
    """`session -> bool`: whether a session in a plain format holds nothing that the file does not, and all that it does
    not report; of the others, whose readers join, part and move words, whether it is read and counted twice alike.
    """
    found, _ = rows(data)

    def check(both):
        session, again, calls = both
        whole = all(isinstance(call.thinking, int) and call.thinking >= 0 for call in calls)
        ids = all((call.prompt < 2**31).all() and call.turn >= 1 for call in calls)
        counted = whole and ids and session == again and len(calls) == len(session.calls) > 0
        if session.format != form:
            return counted
        words = {leaf for _, row in found for leaf in leaves(row)}
        texts = {word for word in words if isinstance(word, str)}
        messages = [m for call in session.calls for m in (*call.sent, *([call.reply] if call.reply else []))]
        messages = list({id(one): one for one in messages}.values())
        out = list(leaves([m | {"role": "", "tool_calls": m.get("tool_calls") or []} for m in messages]))
        own = {"role", "content", "reasoning_content", "tool_calls", "function", "arguments", "name", "input", "type"}
        own |= {"text", "image", "source", "data", "tool_call_id", "prompt_ids", "completion_ids"}
        invented = [
            w for w in out if w not in own and w not in words and not (isinstance(w, str) and made_of(w, texts))
        ]
        reported = {line for line, _ in session.problems}
        dump = "\n".join(str(leaf) for leaf in out)
        told = [(line, row) for line, row in found if line not in reported and 0 not in reported]
        lost = [] if session.left_out else [text for _, row in told for text in said(row) if text not in dump]
        return counted and not invented and not lost

    return check


@attack("sessions: damaged files", short=120, long=2400)
def files(tries, seed, folder):
    """Sessions of every format with values, keys, lines and bytes changed."""
    tokenizer = reuse.small_tokenizer()
    for i in range(tries):
        draw = random.Random(seed * 1_000_003 + i)
        path = folder / "session.jsonl"
        form, text = draw.choice(samples())
        data = damaged(text, draw)
        path.write_bytes(data)

        def call(path=path):
            session = thinking.read_session(path)
            str(session)
            return session, thinking.read_session(path), list(reuse.calls(session, tokenizer))

        yield tried(call, faithful(data, form), f"try {i}: {data[:3000]!r}" if len(data) < 3000 else f"try {i}")


# ----------------------------------------------------------------------------------------------------- conversations


def cycle():
    """A list that holds itself."""
    loop = []
    loop.append({"a": loop})
    return loop


def nested(levels, wide=1):
    """Lists in lists; the same one `wide` times in each, so that a walk takes wide**levels steps."""
    inner = []
    for _ in range(levels):
        inner = [inner] * wide
    return inner


ODD = [
    None,
    True,
    0,
    -1,
    7,
    1.5,
    math.nan,
    10**500,
    "",
    "x",
    "\ud83d",
    "\0",
    "</think>",
    b"x",
    object(),
    {1, 2},
    range(3),
]
ODD += [[], {}, [1], [[]], [None], {"a": 1}, {1: 2}, {"role": "user"}, [{"type": "text", "text": 7}], [{"text": "t"}]]
ODD += [[{"type": "image", "image": object()}], [{"type": "image", "text": "both"}], cycle, lambda: nested(5000)]
ODD += [
    lambda: nested(60, 2),
    lambda: {"a": nested(99, 2)},
    lambda: np.zeros((2, 2)),
    lambda: np.arange(3),
    "a" * 100_000,
]
TALK = [
    {"role": "system", "content": "be brief"},
    {"role": "user", "content": [{"type": "text", "text": "why?"}, {"type": "image", "image": "a.png"}]},
    {
        "role": "assistant",
        "reasoning_content": "let me look",
        "content": "",
        "tool_calls": [{"type": "function", "function": {"name": "read", "arguments": {"path": "a", "n": [1, None]}}}],
    },
    {"role": "tool", "content": "7"},
    {"role": "assistant", "reasoning_content": "so", "content": "because", "completion_ids": [1, 2, 3]},
    {"role": "user", "content": "and?"},
]


def odd(draw):
    """A conversation with one value replaced by an object of any kind, and tools, sometimes odd too."""
    talk = [copy.deepcopy(TALK)]
    *path, last = draw.choice([path for path in places(talk) if path and len(path) > draw.randrange(3)])
    home = talk
    for name in path:
        home = home[name]
    value = draw.choice(ODD)
    home[last] = value() if callable(value) else value
    value = draw.choice([None, None, None, [{"name": "look"}], *ODD])
    return talk[0], value() if callable(value) else value


def _after(text, tools):
    """A prompt; after its words on tools, where there are any: nano's template has words of its own."""
    return text if not tools else text[text.index("</tools>") :].partition("<|im_end|>")[2]


@attack("sessions: odd conversations", short=100, long=1500)
def conversations(tries, seed, folder):
    """Messages given as Python objects: rendered as transformers renders them by the same template, or refused."""
    tokenizer = lk.load("nano").tokenizer
    for i in range(tries):
        draw = random.Random(seed * 1_000_003 + i)
        talk, tools = odd(draw)

        def plain(talk=talk, tools=tools):
            return tokenizer.apply_chat_template(talk, tokenize=False, tools=tools, add_generation_prompt=True)

        by_rules = functools.partial(thinking.render, talk, tools=tools)
        asked = (
            (by_rules, lambda text, plain=plain, o=tools: _after(text, o) == _after(plain(), o)),
            (
                lambda t=talk, o=tools: thinking.spans(t, tokenizer, tools=o).text,
                lambda text, plain=plain: text == plain(),
            ),
            (
                functools.partial(thinking.rendered, talk, tokenizer, tools=tools),
                lambda text, plain=plain: text == plain(),
            ),
            (functools.partial(thinking.last_query, talk), lambda at, talk=talk: talk[at]["role"] == "user"),
            (
                lambda t=talk, o=tools: list(reuse.calls(t, tokenizer, tools=o, policy="preserve")),
                lambda calls: [call.message for call in calls] == [2, 4],
            ),
            (
                lambda t=talk, o=tools: thinking.divergence(t, o, tokenizer),
                lambda found, t=talk, o=tools: isinstance(t, str) and found.position <= len(t),
            ),
        )
        call, right = draw.choice(asked)
        yield tried(call, right, f"try {i}")
