"""Counted and billed tokens side by side: the factor, the offset and every planted jump; folders of sessions."""

import dataclasses
import json

import numpy as np
import pytest

from labkit import draw, reuse, thinking
from labkit.__main__ import main
from labkit.errors import InputError
from labkit.reuse.bills import _jumps
from tests import logs

FACTOR, OFFSET = 1.27, 5300


def text_of(story):
    """A log of requests and responses."""
    rows = [
        {"request": {"messages": sent, "tools": tools}, "response": {"choices": [{"message": reply}]}}
        for sent, reply, tools in story.exchanges()
    ]
    return "\n".join(map(json.dumps, rows))


@pytest.fixture(scope="module")
def counted(tmp_path_factory):
    """(session, prompts, shared) of two threads, without usage."""
    path = tmp_path_factory.mktemp("billed") / "log.jsonl"
    path.write_text(text_of(logs.Story(3, turns=12)), encoding="utf-8")
    session = thinking.read_session(path)
    half = len(session.calls) // 2
    other = [dataclasses.replace(call, thread="b") for call in session.calls[half:]]
    session = dataclasses.replace(session, calls=(*session.calls[:half], *other))
    ds = reuse.replay(session, tokenizer=reuse.small_tokenizer())
    return session, ds.prompt.values, ds.shared.values


def with_usage(session, given, cached, times=None):
    usages = [
        thinking.Usage(input=int(a), cached=None if b is None else int(b)) for a, b in zip(given, cached, strict=True)
    ]
    times = times or [None] * len(usages)
    calls = [dataclasses.replace(c, usage=u, time=t) for c, u, t in zip(session.calls, usages, times, strict=True)]
    return dataclasses.replace(session, calls=tuple(calls))


def test_a_factor_and_an_offset_are_no_jump(counted):
    session, prompt, shared = counted
    offset = np.array([OFFSET if call.thread == "" else 2 * OFFSET for call in session.calls])
    given = FACTOR * prompt + offset
    ds = reuse.billed(with_usage(session, given, (FACTOR * shared + offset) * (shared > 0)))
    assert ds.attrs["factor"] == pytest.approx(FACTOR, rel=0.01) and set(ds.jump.values.tolist()) == {""}
    assert np.abs(ds.expected - given).max() < 16 and ds.ratio.values == pytest.approx(np.floor(given) / prompt)
    shown = reuse.curves(ds).tokens
    assert np.abs(shown.sel(term="prompt, counted") - shown.sel(term="prompt, billed")).max() < 16
    assert np.abs(shown.sel(term="shared, counted") - shown.sel(term="from a cache, billed")).max() < 16
    text = reuse.billed_text(ds)
    assert f"billed: {np.floor(given).sum():,.0f} tokens" in text and "no call leaves that line" in text
    assert f"one token here is {ds.attrs['factor']:.3f} there" in text
    draw.lines(reuse.curves(ds), "tokens", x="call", color="term")


def grown(by):
    """From a call on, so many tokens more (or fewer) in every prompt, and in the cache."""

    def change(given, cached, at):
        given[at:] += by
        cached[at:] += min(by, 0)

    return change


@pytest.mark.parametrize(
    ("at", "change", "name"),
    [
        (9, grown(900), "more sent (+900)"),
        (9, grown(-900), "less sent (-900)"),
        (6, lambda given, cached, at: cached.__setitem__(at, 0), "cache missed after 21 min"),
        (6, lambda given, cached, at: cached.__setitem__(at, cached[at] + 700), "more cached (+"),
    ],
)
def test_every_jump_has_its_name_and_place(counted, at, change, name):
    session, prompt, shared = counted
    given, cached = FACTOR * prompt + OFFSET, (FACTOR * shared + OFFSET) * (shared > 0)
    change(given, cached, at)
    times = [60.0 * j + (1200 if j >= at else 0) for j in range(len(prompt))]
    ds = reuse.billed(with_usage(session, given, cached, times))
    found = ds.jump.values.tolist()
    assert found[at].startswith(name) and sum(map(bool, found)) == 1, found
    assert name.split(" (")[0] in reuse.billed_text(ds)


def test_calls_that_do_not_say_are_left_open(counted):
    session, prompt, shared = counted
    given = FACTOR * prompt + OFFSET
    told = with_usage(session, given, [None] * len(prompt))
    calls = [dataclasses.replace(c, usage=None) if j % 3 else c for j, c in enumerate(told.calls)]
    ds = reuse.billed(dataclasses.replace(told, calls=tuple(calls)))
    assert np.isnan(ds.billed.values).tolist() == [bool(j % 3) for j in range(len(prompt))]
    assert np.isnan(ds.billed_cached.values).all() and set(ds.jump.values.tolist()) == {""}
    with pytest.raises(InputError, match="does not say what was billed"):
        reuse.billed(session)
    with pytest.raises(InputError, match="come with a recorded session"):
        reuse.billed([{"role": "user", "content": "a"}])


def test_what_a_log_does_not_say_is_not_claimed(counted):
    """No share of a cache that nobody told of, no nan, and no line through fewer than two steps."""
    session, prompt, shared = counted
    steps = prompt + 900.0 * (np.arange(len(prompt)) > 5)
    text = reuse.billed_text(reuse.billed(with_usage(session, steps, [None] * len(prompt))))
    assert "more sent (+900)" in text and "nothing said of a cache" in text and "nan" not in text
    told = with_usage(session, prompt, shared)
    calls = [dataclasses.replace(c, usage=None) if j % 3 else c for j, c in enumerate(told.calls)]
    ds = reuse.billed(dataclasses.replace(told, calls=tuple(calls)))
    assert f"of these: {prompt[::3].sum():,.0f}, shared {shared[::3].sum():,.0f}" in reuse.billed_text(ds)
    for count in (1, 2):
        first = with_usage(session, prompt + OFFSET, 0 * prompt)
        ds = reuse.billed(dataclasses.replace(first, calls=first.calls[:count]))
        text = reuse.billed_text(ds)
        assert "too few prompts grow" in text and "nan" not in text and set(ds.jump.values.tolist()) == {""}
        assert np.isnan(ds.attrs["offset"]) and np.isfinite(reuse.curves(ds).tokens).all()


def test_a_negative_offset_shares_no_less_than_nothing(tmp_path):
    path, rows = tmp_path / "log.jsonl", []
    for n in range(1, 6):
        usage = {"prompt_tokens": 100 * n, "prompt_tokens_details": {"cached_tokens": 0}}
        answer = {"choices": [{"message": {"role": "assistant", "content": "a"}}], "usage": usage}
        rows.append({"request": {"messages": [{"role": "user", "content": "hi" * n}]}, "response": answer})
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    ds = reuse.billed(thinking.read_session(path))
    assert (ds.attrs["factor"] * ds.shared + ds.attrs["offset"] < -64).any() and float(ds.shared.max()) > 0
    assert not any("cached" in jump for jump in ds.jump.values.tolist())
    assert float(reuse.curves(ds).tokens.min()) >= 0


def test_sessions_of_a_folder(tmp_path, capsys):
    (tmp_path / "deep").mkdir()
    stories = {"a.jsonl": logs.Story(1), "deep/b.jsonl": logs.Story(2, turns=6)}
    for name, story in stories.items():
        (tmp_path / name).write_text(text_of(story), encoding="utf-8")
    (tmp_path / "c.json").write_text('{"a": 1}')
    found, failed = reuse.sessions(tmp_path)
    assert list(found) == ["a.jsonl", "deep/b.jsonl"] and list(failed) == ["c.json"]
    ds = reuse.across(found)
    for name, session in found.items():
        row = ds.sel(session=name, policy="preserve")
        one = reuse.replay(session, policy="preserve")
        assert (row.prompt, row.recomputed) == (one.prompt.sum(), one.recomputed.sum())
        ideal = reuse.replay(session, policy="preserve", snapshots="none", attention_only=True)
        assert row.ideal == ideal.recomputed.sum() and row.calls == len(session.calls)
    page = tmp_path / "page.html"
    assert main(["reuse", str(tmp_path), "--page", str(page)]) == 0
    text = capsys.readouterr().out
    assert text.index("deep/b.jsonl") < text.index("a.jsonl  "), "the largest first"
    assert "not read, c.json: a session of unknown format" in text and page.is_file()
    for option in ("--thread", "--format"):
        assert main(["reuse", str(tmp_path), option, "openai"]) == 1
        assert f"{option} is of one session" in capsys.readouterr().err
    (tmp_path / "none").mkdir()
    for folder, message in ((tmp_path / "none", "no sessions in this folder"), (tmp_path / "x", "no such folder")):
        with pytest.raises(InputError, match=message):
            reuse.sessions(folder)


def test_a_session_without_thinking_is_counted_alike_alone_and_in_a_folder(tmp_path):
    talk = [{"role": role, "content": "a b"} for role in ("user", "assistant") * 3]
    (tmp_path / "a.json").write_text(json.dumps(talk))
    found, _ = reuse.sessions(tmp_path)
    ds = reuse.across(found)
    for policy in ("strip", "preserve"):
        one, row = reuse.replay(found["a.json"], policy=policy, enable_thinking=False), ds.sel(policy=policy)
        assert (row.prompt, row.recomputed) == (one.prompt.sum(), one.recomputed.sum())
    for compare in (reuse.across, lambda given, **options: reuse.compare(talk, reuse.small_tokenizer(), **options)):
        with pytest.raises(InputError, match="no policies to compare"):
            compare(found, policies=[])


def test_a_call_without_a_reply_keeps_its_whole_prompt(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps({"messages": [{"role": "user", "content": "a b"}]}))
    session = thinking.read_session(tmp_path / "a.json")
    one, every = (reuse.replay(session, slots=slots) for slots in (1, None))
    assert session.calls[0].reply is None and one.kv_bytes.values.tolist() == every.kv_bytes.values.tolist()


def test_the_command_shows_what_was_billed(tmp_path, capsys):
    story = logs.Story(4)
    rows = [json.loads(line) for line in text_of(story).split("\n")]
    for n, row in enumerate(rows):
        row["response"]["usage"] = {"prompt_tokens": 3000 + 100 * n, "prompt_tokens_details": {"cached_tokens": 90 * n}}
    path = tmp_path / "log.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    assert main(["reuse", str(path), "--page", str(tmp_path / "p.html"), "--format", "openai"]) == 0
    assert f"billed: {sum(3000 + 100 * n for n in range(len(rows))):,} tokens" in capsys.readouterr().out
    assert "billed by the provider" in (tmp_path / "p.html").read_text(encoding="utf-8")
    assert main(["reuse", str(path), "--thread", "other"]) == 1
    assert "no such thread" in capsys.readouterr().err


def test_files_of_sub_agents_are_part_of_their_session(tmp_path):
    from tests.test_sessions_agents import FILES

    form, text = FILES["claude_code"]
    rows = [json.loads(line) for line in text.splitlines() if line.strip()]
    name = next(row["sessionId"] for row in rows if row.get("sessionId"))
    (tmp_path / f"{name}.jsonl").write_text(text, encoding="utf-8")
    asked = {"type": "user", "uuid": "a1", "parentUuid": None, "isSidechain": True, "agentId": "x", "sessionId": name}
    said = asked | {"type": "assistant", "uuid": "a2", "parentUuid": "a1"}
    asked |= {"message": {"role": "user", "content": "look there"}}
    said |= {"message": {"id": "m1", "role": "assistant", "content": [{"type": "text", "text": "nothing there"}]}}
    agents = tmp_path / name / "subagents"
    agents.mkdir(parents=True)
    (agents / "agent-x.jsonl").write_text("\n".join(map(json.dumps, (asked, said))), encoding="utf-8")
    found, failed = reuse.sessions(tmp_path)
    assert list(found) == [f"{name}.jsonl"] and not failed
    (session,) = found.values()
    assert len(session.threads) == 2 and [path.name for path in session.along] == ["agent-x.jsonl"]


def test_a_log_that_says_nothing_of_a_cache_or_of_some_calls(counted):
    session, prompt, shared = counted
    some = with_usage(session, FACTOR * prompt, [None] * len(prompt))
    bare = dataclasses.replace(some, calls=(*some.calls[:-1], dataclasses.replace(some.calls[-1], usage=None)))
    text = reuse.billed_text(reuse.billed(bare))
    assert "nothing said of a cache" in text and "%" not in text.splitlines()[0]
    assert f"counted here, of these: {prompt[:-1].sum():,}, shared {shared[:-1].sum():,}" in text


def test_no_more_is_missed_in_a_cache_than_was_billed(counted):
    session, two = counted[0], np.array([2000.0, 2000.0])
    given = {"input": two, "cached": np.zeros(2)}
    names = _jumps(session, two, given, two, 1.0, np.array([9000.0, 9000.0]), np.array(["", ""]))
    assert names == ["", "cache missed (2,000)"]
