"""The ledger equals brute force; closed forms, constants and every known trap show in the counters."""

import random

import numpy as np
import pytest

import labkit as lk
from labkit import reuse, spec, thinking
from labkit.errors import InputError
from labkit.reuse.tree import Book, Tree
from labkit.thinking.messages import Conversation

BIG = spec.read("Qwen3.6-27B")


@pytest.fixture(scope="module")
def tokenizer():
    return lk.load("nano").tokenizer


# ------------------------------------------------------------------------------------------------- brute force


def lcp(a, b):
    count = 0
    for x, y in zip(a, b, strict=False):
        if x != y:
            break
        count += 1
    return count


def random_calls(seed, count=25):
    """Calls over three tokens, so that sequences fork everywhere; some go on from an earlier one."""
    draw, made, found = random.Random(seed), [[0]], []
    for _ in range(count):
        base = draw.choice(made)
        cut = draw.randint(1, len(base))
        prompt = base[:cut] + [draw.randrange(3) for _ in range(draw.randint(1, 6))]
        generated = [draw.randrange(3) for _ in range(draw.randint(1, 5))]
        made.append(prompt + generated[:-1])
        marks = sorted(draw.sample(range(1, len(prompt) + 1), 2)) if len(prompt) > 1 else [1, 1]
        arrays = [np.array(part, np.int32) for part in (prompt, generated)]
        found.append(reuse.Call(*arrays, turn=1, message=0, before_think=marks[1], last_user=marks[0], thinking=0))
    return found


def brute(calls, marks, *, block=1, slots=None):
    """The definitions, pair by pair."""
    rows, cached, saved, live = [], [], [], None  # saved: (call, depth)
    for j, call in enumerate(calls):
        x = call.prompt.tolist()
        y = x + call.generated.tolist()[:-1]
        usable = range(j) if slots is None else range(max(0, j - 1), j)
        shares = {i: lcp(x, cached[i]) for i in usable}
        shared = max(shares.values(), default=0)
        most = len(x) - 1
        keys = min(shared // block * block, most)  # a state is of no use beyond the keys that are there
        fitting = [p for i, p in saved if i in shares and p <= min(shares[i], keys)]
        state = max(fitting, default=0)
        rows.append((len(x), shared, keys, state))
        saved = [one for one in saved if one != live]
        positions = set()
        for mark in marks:
            positions |= {
                "live": {len(y)},
                "end": {len(y)},
                "prompt_end": {len(x)},
                "before_think": {call.before_think},
                "last_user": {call.last_user},
                "branch": {len(y), shared},
            }.get(mark, set(range(mark, len(y) + 1, mark)) if isinstance(mark, int) else set())
        if slots == 1:  # the path goes on: what lies on its shared part stays
            saved = [(j, p) for i, p in saved if p <= shared and i in shares and p <= shares[i]]
        saved += [(j, p) for p in positions if state < p <= len(y)]
        others = set(marks) - {"live"}
        stays = {"end", "branch"} & others or any(isinstance(mark, int) and len(y) % mark == 0 for mark in others)
        stays = stays or any(getattr(call, mark, 0) == len(y) for mark in others if isinstance(mark, str))
        stays = stays or ("prompt_end" in others and len(x) == len(y))
        live = (j, len(y)) if "live" in marks and not stays else None
        cached.append(y)
    return rows


SCHEMES = [
    "live",
    "end",
    "prompt_end",
    "before_think",
    "last_user",
    "branch",
    "end+before_think",
    "every 3",
    "end+every 4",
    "live+end",
    "live+before_think",
    "live+every 3",
]


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize(("block", "slots"), [(1, None), (4, None), (1, 1)])
def test_the_ledger_is_brute_force(scheme, block, slots):
    marks = [int(part.removeprefix("every ")) if part.startswith("every") else part for part in scheme.split("+")]
    for seed in range(12):
        calls = random_calls(seed)
        ds = reuse.replay(calls, snapshots=scheme, spec=BIG, block=block, slots=slots)
        names = ("prompt", "shared", "attention", "state")
        found = list(zip(*(ds[name].values.astype(int).tolist() for name in names), strict=True))
        assert found == brute(calls, marks, block=block, slots=slots), (scheme, seed)
        assert (ds.recomputed == ds.prompt - ds.state).all() and (ds.penalty == ds.attention - ds.state).all()
        assert (ds.penalty >= 0).all()


def test_bytes_are_those_of_distinct_prefixes():
    for seed in range(6):
        calls = random_calls(seed)
        ds = reuse.replay(calls, snapshots="end", spec=BIG)
        seen, cached = set(), [(c.prompt.tolist() + c.generated.tolist()[:-1]) for c in calls]
        for j, y in enumerate(cached):
            seen |= {tuple(y[:n]) for n in range(1, len(y) + 1)}
            assert int(ds.kv_bytes[j]) == len(seen) * 65_536
            later = {tuple(c.prompt.tolist()[:n]) for c in calls[j + 1 :] for n in range(1, len(c.prompt) + 1)}
            later |= {tuple(cached[-1][:n]) for n in range(1, len(cached[-1]) + 1)}
            assert int(ds.dead_bytes[j]) == len(seen - later) * 65_536, j


def test_a_budget_drops_what_was_of_no_use_longest():
    calls = random_calls(3)
    each = spec.memory.snapshot_bytes(BIG, "bfloat16")
    free = reuse.replay(calls, snapshots="every 2", spec=BIG)
    tight = reuse.replay(calls, snapshots="every 2", spec=BIG, budget=5 * each + 10)
    assert int(tight.snapshots.max()) == 5 and int(free.snapshots.max()) > 20
    assert float(tight.recomputed.sum()) > float(free.recomputed.sum())
    assert float(tight.snapshot_bytes.max()) == 5 * each
    assert tight.equals(reuse.replay(calls, snapshots="every 2", spec=BIG, most=5))
    tree, book = Tree(), Book(keep=2)
    end = tree.add(np.arange(9), 0, tree.match(np.arange(9), 0))
    for depth in (3, 5):
        book.save(end, depth)
    assert book.best(end, 4) == 3, "used: now 5 is the older one"
    book.save(end, 8)
    assert [book.best(end, limit) for limit in (7, 9)] == [3, 8]


def test_what_a_prompt_is_compared_with():
    """Of the sequences that share as much, the one that was in use last; nothing where the prompt goes on from one."""
    tree = Tree()
    for j, ids in enumerate(([1, 2, 3, 4], [1, 2, 5, 6, 7], [1, 2, 3, 4, 8])):
        tree.add(np.array(ids), j, tree.match(np.array(ids), j))
    for ids, shared, rest in (
        ([1, 2, 9], 2, [3, 4, 8]),
        ([1, 2, 5, 9], 3, [6, 7]),
        ([1, 2, 5, 6, 7, 9], 5, []),
        ([1, 9], 1, [2, 5, 6, 7]),  # the one before was of use last
    ):
        at, node = tree.match(np.array(ids), j := j + 1)
        assert (at, tree.beyond(node).tolist()) == (shared, rest), ids


@pytest.mark.parametrize("slots", [None, 1])
def test_ledgers_of_one_tree_are_ledgers_of_their_own(slots):
    for seed in range(8):
        calls = random_calls(seed, count=40)
        shared = reuse.shared_by(*(reuse.Ledger(snapshots=scheme, spec=BIG, slots=slots) for scheme in SCHEMES))
        for call in calls:
            reuse.ledger.add(shared, call)
        for scheme, ledger in zip(SCHEMES, shared, strict=True):
            alone = reuse.replay(calls, snapshots=scheme, spec=BIG, slots=slots)
            assert ledger.dataset(policy="strip").identical(alone), (seed, scheme)
    with pytest.raises(InputError, match="cannot share a tree"):
        reuse.shared_by(reuse.Ledger(slots=1), reuse.Ledger())


# ------------------------------------------------------------------------------------- sessions of the template


@pytest.fixture(scope="module")
def session():
    return reuse.drawn(5, turns=5, calls=2, thinking=60, answer=30, result=80)


@pytest.mark.parametrize("policy", ["strip", "preserve"])
def test_prompts_are_the_rendered_ones(tokenizer, session, policy):
    """Encoded message by message, the prompt of every call has the ids of the whole text."""
    for call in reuse.calls(session, tokenizer, policy=policy):
        text = thinking.render(session[: call.message], preserve=policy == "preserve")
        assert call.prompt.tolist() == tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        head = tokenizer.decode(call.prompt[: call.before_think].tolist())
        assert head.endswith("<|im_start|>assistant\n") and text == head + "<think>\n"
        start = tokenizer.decode(call.prompt[: call.last_user].tolist())
        assert start.endswith("<|im_start|>assistant\n") and start.count("?<|im_end|>") == call.turn
        message = session[call.message]
        said = tokenizer.decode(call.generated.tolist())
        assert said.startswith(message["reasoning_content"] + "\n</think>\n\n") and said.endswith("<|im_end|>")
        assert call.thinking == len(tokenizer(said.split("</think>")[0], add_special_tokens=False)["input_ids"]) + 2


def test_end_and_before_think_together_recover_what_attention_could(tokenizer, session):
    for policy in ("strip", "preserve"):
        ds = reuse.replay(session, policy=policy, tokenizer=tokenizer)
        ideal = reuse.replay(session, policy=policy, tokenizer=tokenizer, attention_only=True)
        assert int(ds.recomputed.sum()) == int(ideal.recomputed.sum()) and int(ds.penalty.sum()) == 0
    strip, preserve = (
        reuse.replay(session, policy=p, tokenizer=tokenizer, snapshots="end") for p in ("strip", "preserve")
    )
    assert int(preserve.penalty.sum()) == 0 and int(strip.penalty.sum()) > 0
    late = reuse.replay(session, tokenizer=tokenizer, snapshots="prompt_end")
    early = reuse.replay(session, tokenizer=tokenizer, snapshots="before_think")
    new = np.flatnonzero(np.diff(late.turn, prepend=1))
    assert (late.penalty[new] > 0).all() and (early.penalty[new] == 0).all(), "two tokens too late, and in time"


def test_stripping_reads_the_visible_tokens_of_finished_turns_once_more(tokenizer, session):
    """Σ recomputed(strip) - Σ recomputed(preserve) = Σ visible tokens of finished turns, to a few tokens a boundary."""
    total = [
        int(reuse.replay(session, policy=policy, tokenizer=tokenizer).recomputed.sum())
        for policy in ("strip", "preserve")
    ]
    prompt, visible = thinking.spans(session, tokenizer, preserve=False, add_generation_prompt=False), 0
    last = thinking.last_query(session)
    for span in prompt.spans:
        if span.message < last and span.kind in ("answer", "call", "tool", "frame"):
            visible += len(span)
    turns = 5
    assert abs(total[0] - total[1] - visible) <= 12 * turns


def test_inside_one_turn_both_policies_are_the_same(tokenizer):
    one = reuse.drawn(2, turns=1, calls=8)
    assert sum(m["role"] == "assistant" for m in one) > 3
    strip, preserve = (reuse.replay(one, policy=p, tokenizer=tokenizer) for p in ("strip", "preserve"))
    assert (strip.prompt == preserve.prompt).all() and (strip.recomputed == preserve.recomputed).all()


TURN = {"role": "user", "content": "what?"}
REPLY = {"role": "assistant", "reasoning_content": "hm hm", "content": "that."}


def wasted(messages, tokenizer, **options):
    return int(reuse.replay(messages, tokenizer=tokenizer, snapshots="end", **options).recomputed[-1])


def test_traps_flip_their_counters(tokenizer):
    tool = {"role": "tool", "content": "7"}
    call = REPLY | {"tool_calls": [{"name": "f", "arguments": {"a": 1}}]}
    loop = [TURN, call, tool, call, tool, REPLY]
    fine = wasted(loop, tokenizer)
    assert fine < 20
    as_user = [TURN, REPLY, {"role": "user", "content": "7"}, REPLY, {"role": "user", "content": "7"}, REPLY]
    wrapped = [m | {"content": "<tool_response>7</tool_response>"} if m["content"] == "7" else m for m in as_user]
    assert wasted(as_user, tokenizer) > wasted(wrapped, tokenizer) + 8, (
        "observations as user messages move the question"
    )
    assert wasted(loop, tokenizer, policy="drop") > fine + 8, "reasoning not sent back, inside a loop"
    empty = [m | {"reasoning_content": ""} if m["role"] == "assistant" else m for m in loop]
    assert wasted(empty, tokenizer) > fine, "an empty block is written in other tokens than the template's"
    spaced = [
        m | {"completion_ids": _ids(tokenizer, "hm hm\n\n</think>\n\nthat.<|im_end|>")} if m is REPLY else m
        for m in loop
    ]
    spaced += [TURN, REPLY]
    plain = [*loop, TURN, REPLY]
    assert wasted(spaced, tokenizer, policy="preserve") > wasted(plain, tokenizer, policy="preserve"), "trimmed"


def with_prompts(messages, tokenizer, change):
    """The messages, each reply with the ids of its own prompt, whose messages `change(n, messages)` may rewrite."""
    told, made = [], list(reuse.calls(messages, tokenizer, policy="preserve"))
    for message in messages:
        if message["role"] == "assistant":
            history = change(sum(one["role"] == "assistant" for one in told), [dict(one) for one in told])
            ids = _ids(tokenizer, thinking.render(history, preserve=True))
            told.append(message | {"prompt_ids": ids})
        else:
            told.append(message)
    assert len(made) == sum("prompt_ids" in message for message in told)
    return told


def test_a_volatile_system_block_and_arguments_written_anew(tokenizer):
    call = REPLY | {"tool_calls": [{"name": "f", "arguments": {"path": "a", "from": 1}}]}
    loop = [{"role": "system", "content": "day 0"}, TURN, call, {"role": "tool", "content": "7"}, REPLY, TURN, REPLY]
    plain = with_prompts(loop, tokenizer, lambda n, history: history)
    same = reuse.replay(loop, policy="preserve", tokenizer=tokenizer)
    assert reuse.replay(plain, policy="preserve", tokenizer=tokenizer).recomputed.equals(same.recomputed)

    def dated(n, history):
        return [{"role": "system", "content": f"day {n}"}, *history[1:]]

    def turned(n, history):
        for message in history[2:3] if n else []:
            message["tool_calls"] = [{"name": "f", "arguments": {"from": 1, "path": "a"}}]
        return history

    cold = reuse.replay(with_prompts(loop, tokenizer, dated), policy="preserve", tokenizer=tokenizer)
    assert (cold.state == 0).all() and int(cold.shared[1]) < 6, "the date stands before everything"
    anew = reuse.replay(with_prompts(loop, tokenizer, turned), policy="preserve", tokenizer=tokenizer)
    assert (int(anew.recomputed[1]), int(anew.shared[1])) > (int(same.recomputed[1]), int(same.shared[0]))
    assert int(anew.shared[1]) < int(same.shared[1]) and int(anew.recomputed[2]) == int(same.recomputed[2])


def test_tokens_that_are_not_the_canonical_ones(tokenizer):
    """The same text, sampled in other tokens, is lost as soon as someone encodes it again."""
    whole = _ids(tokenizer, "hm hm\n</think>\n\nthat.<|im_end|>")
    apart = [i for sign in "hm hm" for i in _ids(tokenizer, sign)] + _ids(tokenizer, "\n</think>\n\nthat.<|im_end|>")
    assert tokenizer.decode(whole) == tokenizer.decode(apart) and whole != apart
    found = []
    for ids in (whole, apart):
        session = [TURN, REPLY | {"completion_ids": ids}, TURN, REPLY]
        found.append(reuse.replay(session, policy="preserve", tokenizer=tokenizer, snapshots="end"))
        assert reuse.divergences(session, tokenizer, policy="preserve")[0].cause == (
            "retokenised" if len(found) > 1 else "none"
        )
    assert int(found[0].penalty[1]) == 0 < int(found[1].recomputed[1]) - int(found[0].recomputed[1])


def test_after_a_compaction_only_a_grid_helps(tokenizer, session):
    long = list(reuse.calls(session, tokenizer, policy="preserve"))
    short = [session[0], {"role": "user", "content": "in short: we looked at files."}, *session[-2:]]
    short += [{"role": "user", "content": "go on"}, REPLY]
    after = list(reuse.calls([m for m in short if m["role"] != "tool"], tokenizer, policy="preserve"))
    shared = thinking.common_prefix(long[-1].prompt, after[0].prompt)
    assert 16 < shared < len(after[0].prompt) - 10
    for scheme, state in (("end+before_think", 0), ("every 16", shared // 16 * 16), ("branch", 0)):
        ds = reuse.replay([*long, *after], snapshots=scheme)
        assert int(ds.state[len(long)]) == state, scheme
        assert int(ds.attention[len(long)]) == shared


def test_keys_and_values_are_reused_in_whole_blocks(tokenizer, session):
    exact, whole = (reuse.replay(session, tokenizer=tokenizer, block=b, attention_only=True) for b in (1, 48))
    assert (whole.attention == np.minimum(whole.shared // 48 * 48, whole.prompt - 1)).all()
    lost = exact.attention - whole.attention
    assert int(lost.max()) > 0 and (lost <= 48).all() and (whole.recomputed == exact.recomputed + lost).all()


def test_another_picture_is_not_the_same_token(tokenizer):
    def shown(*urls):
        items = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
        return {"role": "user", "content": [{"type": "text", "text": "see"}, *items]}

    one = [shown("a.png", "b.png"), REPLY, TURN, REPLY]
    first, second = reuse.calls(one, tokenizer, policy="preserve")
    assert (first.prompt < 0).sum() == 2 and len(set(first.prompt[first.prompt < 0].tolist())) == 2
    kept = reuse.replay([first, second], snapshots="end")
    assert int(kept.penalty[1]) == 0
    other = list(reuse.calls([shown("a.png", "c.png"), *one[1:]], tokenizer, policy="preserve"))
    ds = reuse.replay([first, other[1]], snapshots="end")
    assert int(ds.shared[1]) == int(np.flatnonzero(first.prompt < 0)[1]) and int(ds.state[1]) == 0
    found = thinking.divergence(first.prompt, other[1].prompt, tokenizer)
    assert found.cause == "picture" and found.texts == ("a picture", "a picture")
    gone = list(reuse.calls([{"role": "user", "content": "see"}, *one[1:]], tokenizer, policy="preserve"))
    assert thinking.divergence(first.prompt, gone[1].prompt, tokenizer).cause == "picture"
    text = [{"role": "user", "content": "a pad <|image_pad|> typed by hand"}, REPLY]
    assert (next(reuse.calls(text, tokenizer)).prompt >= 0).all()


def _ids(tokenizer, text):
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def test_the_sampled_end_is_not_in_the_cache(tokenizer):
    ds = reuse.replay([TURN, REPLY, TURN, REPLY], policy="preserve", tokenizer=tokenizer, snapshots="end")
    assert int(ds.shared[1]) == int(ds.prompt[0] + ds.generated[0] - 1)


# ------------------------------------------------------------------------------------------- costs and presets


def test_constants_come_from_the_configuration():
    assert spec.memory.kv_bytes_per_token(BIG) == 65_536
    assert spec.memory.engine_block(BIG) == 784
    options = {name: reuse.preset(name, BIG) for name in reuse.PRESETS}
    assert options["vllm-align"]["snapshots"] == "edge 784+fork 784" and options["vllm-align"]["block"] == 784
    assert options["vllm-align-fp8"]["snapshots"] == "edge 1568+fork 1568"
    assert options["llama.cpp"]["most"] == 32
    state = spec.memory.snapshot_bytes(BIG, "float32", columns=3)
    assert state == 149.625 * 2**20


@pytest.mark.parametrize("name", reuse.PRESETS)
def test_every_preset_replays_and_none_beats_the_ideal(tokenizer, session, name):
    ds = reuse.replay(session, tokenizer=tokenizer, spec=BIG, **reuse.preset(name, BIG))
    ideal = reuse.replay(session, tokenizer=tokenizer, spec=BIG, attention_only=True)
    assert (ds.recomputed >= ideal.recomputed).all()
    found = reuse.PRESETS[name]
    assert found.source and found.read.startswith("20") and found.says and found.version and found.checked


def test_costs_are_those_of_the_card(tokenizer):
    ds = reuse.replay([TURN, REPLY, TURN, REPLY], tokenizer=tokenizer, spec=BIG, gpu="H200")
    tokens, cached = int(ds.prompt[1]), int(ds.state[1])
    assert float(ds.prefill_flops[1]) == pytest.approx(spec.compute.prefill_flops(BIG, tokens, cached=cached)["total"])
    steps = [spec.compute.decode_seconds(BIG, tokens + t) for t in range(int(ds.generated[1]))]
    assert float(ds.decode_seconds[1]) == pytest.approx(sum(steps), rel=1e-5)
    assert float(ds.window_share[1]) == pytest.approx((tokens + int(ds.generated[1])) / 262_144)


def test_break_even():
    """v = 10k, g = 6k, R = 4k, p = 60k on an H200 at 560 TFLOP/s: about eight turns."""
    turns = reuse.break_even_turn(BIG, visible=10_000, generated=6_000, thinking=4_000, position=60_000, rate=560e12)
    assert 7 < turns < 9
    assert reuse.break_even_turn(BIG, visible=10, generated=6, thinking=0, position=6) == float("inf")
    calls = random_calls(1)
    cheap, dear = (reuse.replay(calls, snapshots=s, spec=BIG) for s in ("every 1", "none"))
    assert reuse.break_even_shortening(dear, cheap) == 0.0 and reuse.break_even_shortening(cheap, dear) > 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"policy": "keep"}, "(?s)no such policy.*strip, preserve, drop"),
        ({"snapshots": "often"}, "(?s)no such snapshot scheme.*often.*every k"),
        ({"snapshots": "every 0"}, "no such snapshot scheme"),
        ({"block": 0}, "(?s)block out of range.*1 or more"),
        ({"slots": 2}, "(?s)slots out of range.*1 to 1"),
        ({"budget": 10}, "(?s)not one snapshot.*10 bytes"),
        ({"gpu": "abacus"}, "unknown GPU"),
    ],
)
def test_misuse(tokenizer, change, message):
    with pytest.raises(InputError, match=message):
        reuse.replay([TURN, REPLY], tokenizer=tokenizer, **change)


def test_misuse_of_sessions(tokenizer):
    with pytest.raises(InputError, match="(?s)without calls.*an assistant message"):
        reuse.replay([TURN], tokenizer=tokenizer)
    with pytest.raises(InputError, match="(?s)no such preset.*mlx-lm"):
        reuse.preset("abacus", BIG)
    with pytest.raises(InputError, match="turns out of range"):
        reuse.drawn(turns=0)

    class Other:
        def get_added_vocab(self):
            return {"<s>": 0}

    with pytest.raises(InputError, match="(?s)special tokens.*no <.im_start.>"):
        reuse.replay([TURN, REPLY], tokenizer=Other())


def test_marks_of_a_prompt_that_was_given(tokenizer, session):
    call = next(reuse.calls(session, tokenizer))
    given = [m | {"prompt_ids": call.prompt.tolist()} if m is session[2] else m for m in session]
    assert next(reuse.calls(given, tokenizer)).last_user == call.last_user > 0
    given = [m | {"prompt_ids": [5, 6, 7]} if m is session[2] else m for m in session]
    odd = next(reuse.calls(given, tokenizer))
    assert odd.last_user == 0 and len(odd.prompt) == 3 and odd.before_think <= 3
    assert session[2]["role"] == "assistant"


def test_replies_without_thinking(tokenizer):
    plain = [TURN, {"role": "assistant", "content": "that."}] * 3
    data = reuse.compare(
        plain, tokenizer, enable_thinking=False, schemes=("end", "end"), policies=("preserve", "preserve")
    )
    assert data.sizes["policy"] == 1 and data.sizes["scheme"] == 2
    assert int(data.parted.sel(cause="none").sum()) == 2, "an empty block that stays in the history"
    assert {one.cause for one in reuse.divergences(plain, tokenizer, policy="preserve", enable_thinking=False)} == {
        "none"
    }


def test_a_session_is_its_seed():
    assert reuse.drawn(4) == reuse.drawn(4) != reuse.drawn(5)
    assert (
        sum(
            thinking.last_query(reuse.drawn(4)[: i + 1]) == i
            for i, m in enumerate(reuse.drawn(4))
            if m["role"] == "user"
        )
        == 6
    )


def test_policies_and_schemes_side_by_side(tokenizer, session):
    data = reuse.compare(session, tokenizer, policies=("strip", "drop"), schemes=("live", "every 64"), spec=BIG)
    assert data.recomputed.dims == ("policy", "scheme") and data.scheme.values.tolist() == [
        "attention-only",
        "live",
        "every 64",
    ]
    one = reuse.replay(session, policy="drop", snapshots="every 64", tokenizer=tokenizer, spec=BIG)
    row = data.sel(policy="drop", scheme="every 64")
    for name, how in (
        ("recomputed", "sum"),
        ("prefill_seconds", "sum"),
        ("window_share", "max"),
        ("snapshot_bytes", "max"),
    ):
        assert float(row[name]) == pytest.approx(float(getattr(one[name], how)()))
    assert int(data.parted.sel(policy="strip").sum()) == len(list(reuse.calls(session, tokenizer))) - 1
    text = reuse.as_text(data)
    assert f"{int(row.recomputed):,}" in text and "thinking stripped" in text


def test_causes_are_at_the_turns(tokenizer, session):
    calls = list(reuse.calls(session, tokenizer))
    found = reuse.divergences(session, tokenizer)
    new = [b.turn > a.turn for a, b in zip(calls, calls[1:], strict=False)]
    assert [one.cause == "thinking stripped" for one in found] == new and sum(new) == 4
    assert {one.cause for one in reuse.divergences(session, tokenizer, policy="drop")} <= {"reasoning dropped"}


def test_a_long_session_is_linear_in_its_tokens(tokenizer):
    """200 calls and 400,000 tokens of prompts take no more lookups than the tokens they add."""
    session = reuse.drawn(1, turns=20, calls=5, thinking=8, answer=8, result=12, question=6)
    calls = list(reuse.calls(session, tokenizer, policy="preserve"))
    ds = reuse.replay(calls, snapshots="end+before_think", spec=BIG)
    unique = int(ds.kv_bytes[-1]) // 65_536
    assert len(calls) > 80 and int(ds.prompt.sum()) > 20 * unique, "prompts are stored once"


def test_what_figures_of_a_session_are_drawn_from(tokenizer, session):
    ds = reuse.replay(session, tokenizer=tokenizer, snapshots="end")
    held = reuse.timeline(ds)
    assert held.tokens.dims == ("term", "call") and (held.tokens >= 0).all()
    assert (held.tokens.sel(term=["from the cache", "read again", "new"]).sum("term") == ds.prompt).all()
    assert (held.tokens.sel(term="generated") == ds.generated).all() and (held.turn == ds.turn).all()
    data = reuse.compare(session, tokenizer, schemes=("end",))
    seconds = reuse.costs(data).seconds
    assert seconds.dims == ("phase", "policy", "scheme") and seconds.attrs["units"] == "s"
    for phase in ("prefill", "decode"):
        total = float(ds[f"{phase}_seconds"].sum())
        assert float(seconds.sel(phase=phase, policy="strip", scheme="end")) == pytest.approx(total)
    reasons = reuse.parted(data)
    assert reasons.cause.values.tolist() == ["none", "thinking stripped"] and int(reasons.parted.sum()) == 2 * (
        len(ds.call) - 1
    )


def test_books_kept_in_one_pass_are_those_of_replay(tokenizer, session):
    book = reuse.Ledger(snapshots="branch", spec=BIG)
    with pytest.raises(InputError, match="without calls"):
        book.dataset()
    for call in reuse.calls(session, tokenizer):
        book.add(call)
    assert book.dataset(policy="strip").identical(
        reuse.replay(session, tokenizer=tokenizer, snapshots="branch", spec=BIG)
    )


def test_the_tree_holds_its_own_tokens_alone():
    """A run of tokens is no view of the prompt it came with: long sessions would hold every prompt."""
    prompt, tree = np.arange(1000), Tree()
    tree.add(prompt, 0, tree.match(prompt[:3], 0))
    longer = np.concatenate([prompt, [7, 8]])
    tree.add(longer, 1, tree.match(longer, 1))
    assert sorted(len(node.tokens) for node in tree.nodes()) == [2, 1000]
    assert all(node.tokens.base is None or node.tokens.base.size <= 1000 for node in tree.nodes())


def test_every_column_says_what_it_is(tokenizer, session):
    ds = reuse.replay(session, tokenizer=tokenizer)
    units = {name: ds[name].attrs["units"] for name in ds.data_vars}
    counted = ("prompt", "generated", "thinking", "shared", "attention", "state", "recomputed", "penalty")
    assert all(units[name] == "tokens" for name in counted)
    assert all(units[name] == "bytes" for name in units if name.endswith("bytes"))
    assert all(units[name] == "s" for name in units if name.endswith("seconds"))
    assert units["prefill_flops"] == "FLOP" and units["window_share"] == "fraction"
    assert "S" not in {ds[name].attrs["symbol"] for name in units}, "tokens that a state holds are no state"
    compared = reuse.compare(session, tokenizer, schemes=("end",))
    assert all(compared[name].attrs == ds[name].attrs for name in compared.data_vars if name != "parted")
    assert compared.parted.attrs["units"] == "calls"


@pytest.mark.parametrize("policy", ["strip", "preserve", "drop"])
def test_calls_that_go_on_from_the_one_before_are_written_as_if_alone(tokenizer, policy):
    """Whatever call came before, another thread, a branch, a prompt whose last result of a tool has a neighbour now."""
    draw, talks = (
        random.Random(3),
        [reuse.drawn(seed, turns=3, calls=2, thinking=4, answer=3, result=5) for seed in (1, 2)],
    )
    talks.append([*talks[0][:-1], {"role": "user", "content": "and now?"}, {"role": "assistant", "content": "so"}])
    talks.append([{"role": "user", "content": "no system text"}, *talks[0][2:]])
    cuts = [(talk, i) for talk in talks for i, m in enumerate(talk) if m["role"] == "assistant"]
    cuts += [(talk, i) for talk in talks for i, m in enumerate(talk) if i > 2 and m["role"] == "tool"]
    shuffled = draw.sample(cuts, len(cuts))
    exchanges = [thinking.Exchange(Conversation(talk[:i]), None) for talk, i in shuffled]
    session = thinking.Session(tuple(exchanges), "openai")
    for call, exchange in zip(reuse.calls(session, tokenizer, policy=policy), exchanges, strict=True):
        (alone,) = reuse.calls(thinking.Session((exchange,), "openai"), tokenizer, policy=policy)
        assert call.prompt.tolist() == alone.prompt.tolist()
        assert (call.turn, call.last_user, call.before_user) == (alone.turn, alone.last_user, alone.before_user)
