"""The session in the model: what the ledger counts is what is read, and what is resumed says what a cold run says."""

import random

import numpy as np
import pytest

import labkit as lk
from labkit import reuse, thinking
from labkit.errors import InputError
from labkit.nano import chat


@pytest.fixture(scope="module")
def lab():
    return lk.load("nano")


@pytest.fixture(scope="module")
def session():
    """Three facts decided in thinking, looked up or told, and a question: what nano was trained on."""
    draw = random.Random(4)
    messages = chat.decide(draw, "fox", "red") + chat.look(draw, "whale", "blue") + chat.tell(draw, "crow", "green")
    messages += chat.ask(draw, "fox", "red")
    plain = lambda text: text.replace("\x02", "").replace("\x03", "") if isinstance(text, str) else text  # noqa: E731
    return [{name: plain(value) for name, value in message.items()} for message in messages]


@pytest.mark.parametrize("policy", ["strip", "preserve", "drop"])
@pytest.mark.parametrize("scheme", ["live", "end+before_think", "prompt_end", "branch", "every 32", "none"])
def test_the_model_reads_what_the_ledger_counts(lab, session, policy, scheme):
    played = reuse.play(lab, session, policy=policy, snapshots=scheme)
    ledger = reuse.replay(session, policy=policy, snapshots=scheme, tokenizer=lab.tokenizer, spec=lab.spec)
    for name in ("prompt", "state", "recomputed"):
        assert played[name].values.tolist() == ledger[name].values.tolist(), name
    assert float(played.gap.max()) < 2e-3 and played.same.all(), "what is resumed is what a cold run says"
    if scheme == "none":
        assert float(played.state.max()) == 0
    elif policy == "preserve" and scheme != "every 32":
        assert float(played.state[1:].min()) > 0


@pytest.mark.parametrize("scheme", ["live", "end", "live+every 3", "branch"])
def test_a_live_state_goes_with_the_next_call(lab, scheme):
    """A, then B that parts from it, then C that continues A: what was live after A serves C only if it was saved."""
    a, b = [30, 31, 32, 33, 34, 35, 36], [30, 31, 40, 41, 42]
    made = []
    for prompt, generated in ((a, [50, 51, 52]), (b, [60, 61]), ([*a, 50, 51, 70, 71], [80, 81])):
        arrays = [np.array(ids, np.int32) for ids in (prompt, generated)]
        made.append(reuse.Call(*arrays, turn=1, message=0, before_think=3, last_user=2, thinking=0))
    played = reuse.play(lab, made, snapshots=scheme)
    ledger = reuse.replay(made, snapshots=scheme, spec=lab.spec)
    assert played.state.values.tolist() == ledger.state.values.tolist()
    assert int(played.state[2]) == {"live": 0, "end": 9, "live+every 3": 9, "branch": 9}[scheme]
    assert float(played.gap.max()) < 2e-3


def test_cropping_keys_and_values_alone_is_silently_wrong(lab, session):
    calls = list(reuse.calls(session, lab.tokenizer))
    wrong = []
    for before, after in zip(calls, calls[1:], strict=False):
        cached = np.concatenate([before.prompt, before.generated[:-1]])
        if thinking.common_prefix(cached, after.prompt) < len(cached):
            wrong.append(reuse.cropped(lab, cached, after.prompt))
    assert len(wrong) >= 2 and min(one["gap"] for one in wrong) > 0.05 and min(one["kl"] for one in wrong) > 0
    fine = reuse.play(lab, calls, snapshots="before_think")
    assert float(fine.gap.max()) < 2e-3, "going back to a snapshot at the same place is right"


def test_misuse(lab, session):
    picture = [
        {"role": "user", "content": [{"type": "image", "image": "a.png"}]},
        {"role": "assistant", "content": "a fox"},
    ]
    with pytest.raises(InputError, match="(?s)with pictures is not played.*reuse.replay"):
        reuse.play(lab, picture)
    with pytest.raises(InputError, match="(?s)does not fit the window.*at most 512"):
        reuse.play(lab, reuse.drawn(1))
    ids = reuse.calls(session, lab.tokenizer)
    prompt = next(ids).prompt
    with pytest.raises(InputError, match="(?s)nothing to crop"):
        reuse.cropped(lab, prompt[:9], prompt)
