"""Presets give what servers logged, keep states where their engines keep them, and never beat attention alone."""

import dataclasses
import random

import numpy as np
import pytest

import labkit as lk
from labkit import reuse, spec
from labkit.errors import InputError
from labkit.reuse import schemes
from tests import engine_logs
from tests.engine_logs import Log, Row, again, synthetic

BIG = spec.read("Qwen3.6-27B")
NAMES = [name for name in reuse.PRESETS if name != "attention-only"]


def options(name, **change):
    return dataclasses.replace(reuse.PRESETS[name], **change).options(BIG)


def states(log: Log) -> list[int]:
    ds = reuse.replay(synthetic(log.rows), spec=BIG, **options(log.preset, **log.change))
    return ds.state.values.tolist()


# ------------------------------------------------------------------------------------------------------- servers


@pytest.mark.parametrize("log", engine_logs.LOGS, ids=str)
def test_a_preset_gives_what_a_server_logged(log):
    assert states(log) == [row.cached for row in log.rows]
    assert log.address in reuse.PRESETS[log.preset].checked.split("; ")


def test_a_preset_that_says_checked_is_checked():
    logged = {(log.preset, log.address) for log in engine_logs.LOGS} | {
        ("vllm-align-16282a9", "vllm-project/vllm#45238")
    }
    said = {(name, one) for name in NAMES for one in reuse.PRESETS[name].checked.split("; ") if one != "unchecked"}
    assert logged == said
    assert {name for name in NAMES if reuse.PRESETS[name].checked == "unchecked"} == {
        "transformers",
        "sglang",
        "sglang-level-3",
        "vllm-align-fp8",
        "llama.cpp",
    }


@pytest.mark.parametrize(("log", "given", "why"), engine_logs.DIFFERENT, ids=str)
def test_what_a_preset_does_not_give(log, given, why):
    logged = [row.cached for row in log.rows]
    assert states(log) == given != logged and why
    assert all(ours >= theirs for ours, theirs in zip(given, logged, strict=True)), "an upper bound"


def test_a_tool_loop_in_a_build_of_one_checkpoint():
    log = Log("llama.cpp-b8182", "", engine_logs.LOOP)
    assert states(log) == [row.cached for row in log.rows] == [0, 403, 825, 0]


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("shared", engine_logs.HITS)
def test_64_requests_of_some_beginnings(shared, together):
    """A state at 1,584 lies in a beginning of 1,600 tokens and not in one of 1,500; the first of each misses."""
    families, hits = engine_logs.FAMILIES, engine_logs.HITS[shared]
    order = sorted(range(64), key=lambda i: i % families) if together else range(64)
    first, rows = {}, []
    for i in order:
        of = first.setdefault(i % families, len(rows))
        rows.append(Row(2200, 0) if of == len(rows) else Row(2200, 0, of, shared))
    found = states(Log("vllm-align-16282a9", "", rows, {"block": 528}))
    assert [sum(state > 0 for state in found), max(found)] == [hits, 1584 if hits else 0]
    old = reuse.replay(synthetic(rows), spec=BIG, snapshots="every 528", block=528).state.values
    assert (old > 0).sum() == 64 - families, "all edges: the bound that the engine stays below"


@pytest.mark.parametrize("block", [528, 1056])
def test_the_same_request_again_and_again(block):
    """N requests of P tokens reuse (N - 1) ⌊P / B⌋ B; with a draft model a block less of each."""
    for prompt in (block - 1, block + 1, 3 * block + 7, 5000):
        rows = (*again(prompt, 0), *(Row(prompt, 0, 0, prompt) for _ in range(6)))
        whole = prompt // block * block
        assert sum(states(Log("vllm-align", "", rows, {"block": block}))) == 7 * whole
        assert sum(states(Log("vllm-align-mtp", "", rows, {"block": block}))) == 7 * max(0, whole - block)


def test_a_draft_model_cannot_use_a_state_at_the_end_of_what_is_shared():
    """5,000 tokens in blocks of 800 keep a state at 4,000; what shares 4,100 may use up to 3,200, 4,800 up to 4,000."""
    for common, state in ((4100, 0), (4799, 0), (4800, 4000)):
        log = Log("vllm-align-mtp", "", (Row(5000, 0), Row(5000, 0, 0, common)), {"block": 800})
        assert states(log) == [0, state]


def test_where_prompts_part_is_of_use_from_the_third_visit_on():
    rows = [Row(9000, 0), *(Row(9000, 0, 0, 5000) for _ in range(3))]
    for name, state in (("vllm-align", 4800), ("vllm-align-mtp", 4000), ("sglang-extra-buffer", 4992)):
        change = {"block": 800} if "vllm" in name else {"snapshots": "edge 64+fork 64+tail 256"}
        assert states(Log(name, "", rows, change)) == [0, 0, state, state], name


# --------------------------------------------------------------------------------------------------------- marks


def places(mark, call, length, state, shared):
    """Where a mark saves, said of every depth on its own."""
    n, name, k, past = len(call.prompt), *mark
    most = min(shared, n - 1)
    for d in range(1, length + 1):
        multiple = d % k == 0
        if {
            "back": d + k == n and (not past or call.before_user == 0 or d > call.before_user + past),
            "step": d <= n and (d - state) % k == 0,
            "edge": multiple and d <= n < d + k,
            "edge_before": multiple and (d + k <= n < d + 2 * k or d + k < n <= d + 2 * k),
            "fork": multiple and d <= most < d + k,
            "fork_before": multiple and d + k <= most < d + 2 * k,
            "tail": multiple and n < d <= length < d + k,
            "written": multiple and d > n,
        }[name]:
            yield d


@pytest.mark.parametrize("name", schemes.COUNTED[1:])
def test_marks_that_count_tokens(name):
    draw, seen = random.Random(name), set()
    for _ in range(600):
        n, k, answer = draw.randint(1, 40), draw.randint(1, 12), draw.randint(1, 20)
        state, past = draw.randrange(n), draw.choice([0, 0, 5]) if name == "back" else 0
        shared, asked = draw.randint(state, n), draw.choice([0, draw.randrange(n)])
        call = reuse.Call(np.zeros(n), np.zeros(answer), 1, 0, n, n, 0, before_user=asked)
        marks = schemes.schemes(f"{name} {k}" + (f"/{past}" if past else ""))
        assert marks == [(name, k, past)]
        length = n + answer - 1
        found = schemes.depths(marks, call, length, state, shared)
        assert found == [d for d in places(marks[0], call, length, state, shared) if d > state]
        seen.add(bool(found))
    assert seen == {True, False}


def test_marks_of_a_session(tokenizer, session):
    assert session[0]["role"] == "system"
    calls = list(reuse.calls(session, tokenizer))
    for call in calls:
        asked, text = (tokenizer.decode(part.tolist()) for part in np.split(call.prompt, [call.before_user]))
        question = [m["content"] for m in session[: call.message] if m["role"] == "user"][call.turn - 1]
        assert text.startswith(f"<|im_start|>user\n{question}<|im_end|>") and asked.endswith("<|im_end|>\n")
        head = tokenizer.decode(call.prompt[: call.system].tolist())
        assert head.startswith("<|im_start|>system\n") and head.endswith("<|im_end|>\n<|im_start|>user\n")
        assert head.count("<|im_start|>") == 2
        found = schemes.depths(["question"], call, 10**6, 0, 0)
        assert found == ([call.before_think] if session[call.message - 1]["role"] == "user" else [])
    assert {session[call.message - 1]["role"] for call in calls} == {"user", "tool"}
    assert next(reuse.calls(session[1:], tokenizer)).system == 0
    assert next(reuse.calls(session[1:], tokenizer)).before_user == 0
    told = [m | {"prompt_ids": calls[0].prompt[:9].tolist()} if m is session[2] else m for m in session]
    odd = next(reuse.calls(told, tokenizer))
    assert (odd.before_user, odd.system, odd.last_user) == (0, 0, 0)


def test_a_late_message_of_the_system_stands_before_the_answer(tokenizer):
    talk = [{"role": "user", "content": "the fox?"}, {"role": "system", "content": "be brief."}]
    talk += [{"role": "assistant", "content": "red."}, {"role": "user", "content": "the whale?"}]
    first, second = reuse.calls([*talk, {"role": "assistant", "content": "blue."}], tokenizer)
    for call in (first, second):
        assert tokenizer.decode(call.prompt[: call.last_user].tolist()).endswith("<|im_start|>assistant\n")
        assert call.last_user == call.before_think
    assert (first.prompt[: first.last_user] == second.prompt[: first.last_user]).all()


@pytest.mark.parametrize(
    "scheme", ["edge", "edge 0", "edge 4/2", "back 4/", "every 4/2", "end 3", "back -4", "edge 4 4"]
)
def test_a_scheme_that_is_none(scheme):
    with pytest.raises(InputError, match="(?s)no such snapshot scheme.*edge_before"):
        schemes.schemes(scheme)


def test_what_a_draft_model_reads_again():
    for block, spare in ((1, 3), (4, 4), (4, 8)):
        for calls in (random_calls(seed) for seed in range(6)):
            ds = reuse.replay(calls, spec=BIG, snapshots="every 1", block=block, spare=spare)
            assert (ds.state == np.maximum(0, ds.attention // block * block - spare)).all()
            ideal = reuse.replay(calls, spec=BIG, block=block, spare=spare, attention_only=True)
            assert (ideal.state == ds.attention).all()
    with pytest.raises(InputError, match="spare out of range"):
        reuse.Ledger(spare=-1)


# ------------------------------------------------------------------------------------------------------- presets


@pytest.fixture(scope="module")
def tokenizer():
    return lk.load("nano").tokenizer


@pytest.fixture(scope="module")
def session():
    return reuse.drawn(7, turns=4, calls=2, thinking=90, answer=60, result=150)


def random_calls(seed, count=20, scale=1):
    """Calls that share beginnings of any length; some go on from an answer."""
    draw, rows = random.Random(seed), [Row(9 * scale, 0, answer=scale)]
    for _ in range(count):
        of = draw.randrange(len(rows))
        whole = rows[of].prompt + rows[of].answer - 1
        common = draw.choice([whole, draw.randint(1, whole)])
        n = common + draw.randint(1, 9 * scale)
        rows.append(Row(n, 0, of, common, draw.randint(1, 2 * scale), draw.randrange(n), draw.randrange(9)))
    return synthetic(rows)


def edges(block, n, shared):
    """The last block edge of a prompt, and the last one of what it shares, whose last token is always read."""
    return n // block * block, min(shared, n - 1) // block * block


PLACES = {  # where an engine keeps states, of a call of n tokens and `end` with its answer
    "transformers": lambda d, n, end, call, state, shared: d == end,
    "sglang": lambda d, n, end, call, state, shared: d in (end, shared),
    "sglang-level-3": lambda d, n, end, call, state, shared: d in (end, shared) or (d - state) % 8192 == 0,
    "sglang-extra-buffer": lambda d, n, end, call, state, shared: (
        d in edges(64, n, shared) or (d <= n and (d - state) % 8192 == 0) or n < d == end // 256 * 256
    ),
    "sglang-no-buffer": lambda d, n, end, call, state, shared: d in (n, end) or (d < n and (d - state) % 8192 == 0),
    "vllm-align": lambda d, n, end, call, state, shared: d in edges(784, n, shared),
    "vllm-align-fp8": lambda d, n, end, call, state, shared: d in edges(1568, n, shared),
    "vllm-align-mtp": lambda d, n, end, call, state, shared: d + 784 in (*edges(784, n, shared), (n - 1) // 784 * 784),
    "vllm-align-16282a9": lambda d, n, end, call, state, shared: (
        d % 784 == 0 and (d > n or d == n // 784 * 784 or (d - state) % 1568 == 0)
    ),
    "llama.cpp": lambda d, n, end, call, state, shared: d in (end, call.before_user, n - 4, n - 516),
    "llama.cpp-b9849": lambda d, n, end, call, state, shared: d in (end, call.before_user, n - 516),
    "llama.cpp-b8182": lambda d, n, end, call, state, shared: d in (end, n - 512),
    "mlx-lm": lambda d, n, end, call, state, shared: d in (end, call.before_think, call.system),
}
MOST = {"llama.cpp": 32, "llama.cpp-b9849": 32, "llama.cpp-b8182": 8, "mlx-lm": 10}


@pytest.mark.parametrize("name", NAMES)
def test_states_are_where_an_engine_keeps_them_and_none_beats_attention(name, monkeypatch):
    kept, own = [], schemes.depths

    def watched(marks, call, length, state, shared):
        found = own(marks, call, length, state, shared)
        kept.extend((depth, call, length, state, shared) for depth in found)
        return found

    monkeypatch.setattr("labkit.reuse.ledger.depths", watched)
    for seed in range(6):
        calls = random_calls(seed, scale=(40, 400, 2000)[seed % 3])
        ds = reuse.replay(calls, spec=BIG, **options(name))
        same = dict(slots=options(name)["slots"], snapshots="none")
        ideal = reuse.replay(calls, spec=BIG, attention_only=True, **same)
        assert (ds.state <= ideal.state).all() and (ds.recomputed >= ideal.recomputed).all()
        assert int(ds.snapshots.max()) <= MOST.get(name, 10**6)
    assert len(kept) > 10
    for depth, call, length, state, shared in kept:
        assert PLACES[name](depth, len(call.prompt), length, call, state, shared), (depth, len(call.prompt), length)


@pytest.mark.parametrize("name", NAMES)
def test_a_session_under_a_preset(tokenizer, session, name):
    for policy in ("strip", "preserve"):
        calls = list(reuse.calls(session, tokenizer, policy=policy))
        change = {"block": 48} if reuse.PRESETS[name].block == 0 else {}
        ds = reuse.replay(calls, spec=BIG, **options(name, **change))
        ideal = reuse.replay(calls, spec=BIG, attention_only=True)
        assert (ds.state <= ideal.state).all()


def test_an_engine_of_one_slot_goes_back_to_a_checkpoint(tokenizer, session):
    """A loop goes on from the live state; what parts from it goes back to the last checkpoint before that."""
    calls, points, live, turned = list(reuse.calls(session, tokenizer)), set(), [], 0
    ds = reuse.replay(calls, spec=BIG, **options("llama.cpp"))
    for call, state in zip(calls, ds.state.values.tolist(), strict=True):
        prompt = call.prompt.tolist()
        common = next((i for i, (a, b) in enumerate(zip(live, prompt, strict=False)) if a != b), len(live))
        points = {point for point in points if point <= common}
        expected = len(live) if live and common == len(live) else max(points, default=0)
        assert state == expected
        turned += 0 < expected < len(live)
        live = prompt + call.generated.tolist()[:-1]
        points |= {at for at in (call.before_user, len(prompt) - 4, len(prompt) - 516) if at > state}
    assert turned == 3


@pytest.mark.parametrize(
    "scheme", ["live+before_user+back 4", "edge 16+fork 16+tail 8", "end+question+system", "step 24"]
)
def test_states_at_these_places_continue_like_a_cold_run(scheme):
    lab = lk.load("nano")
    made = reuse.drawn(3, turns=2, calls=1, thinking=12, answer=8, result=12, question=6)
    calls = list(reuse.calls(made, lab.tokenizer))
    played = reuse.play(lab, calls, snapshots=scheme)
    ledger = reuse.replay(calls, snapshots=scheme, spec=lab.spec)
    assert played.state.values.tolist() == ledger.state.values.tolist()
    assert float(played.state.max()) > 0 and float(played.gap.max()) < 2e-3
