"""Snapshot, restore, fork, resume: a resumed run equals the cold run, and a resume at the wrong place does not."""

import pytest
import tiny
import torch
from tape import Tape

from labkit import cache as hybrid
from labkit.errors import InputError
from labkit.steps import capture, single
from labkit.trace import cache_parameter
from tests.attacks.interrupts import interrupted

IDS = tiny.ids(90)


def warm(lab, n):
    cache = lab.cache()
    lab.trace(IDS[:n], cache=cache)
    return cache, lab.snapshot(cache)


def fed_by_the_bare_model(lab, cache, n):
    with torch.no_grad():
        lab.model(IDS[None, :n], **{cache_parameter(lab.model): cache})
    return cache


@pytest.mark.parametrize("n", [1, 3, 64, 77, 89])
def test_resumed_equals_cold(lab, n):
    cold = lab.trace(IDS, logits="all").logits[n:]
    _, snap = warm(lab, n)
    resumed = lab.resume(snap, IDS, logits="all")
    assert resumed.start.length == n and len(resumed) == 90 - n
    assert (resumed.logits - cold).abs().max() < 2e-4


def test_resumed_state_equals_cold_state(lab):
    cold, whole = warm(lab, 90)
    cache, snap = warm(lab, 64)
    lab.trace(IDS[64:], cache=lab.restore(snap))
    again = lab.restore(snap)
    lab.trace(IDS[64:], cache=again)
    for layer in lab.spec.deltanet_layers:
        a, b = again.layers[layer], cold.layers[layer]
        assert (a.recurrent_states[0] - b.recurrent_states[0]).abs().max() < 1e-5
        assert torch.allclose(a.conv_states[0], b.conv_states[0], atol=1e-5)


def test_a_resume_at_the_wrong_place_is_another_answer_or_refused(lab):
    cold = lab.trace(IDS).logits
    _, snap = warm(lab, 60)
    wrong = lab.trace(IDS[61:], cache=lab.restore(snap)).logits  # one token is missing
    assert (wrong - cold).abs().max() > 0.05
    changed = IDS.clone()
    changed[40] = (changed[40] + 1) % 200 + 2
    with pytest.raises(InputError, match="(?s)does not begin with.*first difference at token 40.*same 60 tokens"):
        lab.resume(snap, changed)
    with pytest.raises(InputError, match="first difference at token 30"):
        lab.resume(snap, IDS[:30])
    for at in (0, 59):  # the first and the last token count like any other
        changed = IDS.clone()
        changed[at] += 1
        with pytest.raises(InputError, match=f"first difference at token {at}\\b"):
            lab.resume(snap, changed)
    with pytest.raises(InputError, match="nothing is left"):
        lab.resume(snap, IDS[:60])


def test_cutting_keys_and_values_alone_is_silently_wrong(lab):
    """Why there is no crop: after cutting K/V by hand the states still hold the removed tokens."""
    cache, _ = warm(lab, 60)
    for layer in lab.spec.attention_layers:
        cache.layers[layer].keys = cache.layers[layer].keys[:, :, :50]
        cache.layers[layer].values = cache.layers[layer].values[:, :, :50]
    wrong = lab.trace(IDS[50:], cache=cache).logits
    assert (wrong - lab.trace(IDS).logits).abs().max() > 0.05


def test_snapshots_share_keys_and_own_states(lab):
    cache, snap = warm(lab, 33)
    state = snap.state[1].clone()
    assert snap.keys[2].data_ptr() == cache.layers[2].keys.data_ptr()
    assert snap.state[1].data_ptr() != cache.layers[1].recurrent_states[0].data_ptr()
    lab.trace(IDS[33:], cache=cache)
    assert torch.equal(snap.state[1], state) and snap.keys[2].shape[2] == 33
    s = tiny.SIZES
    own = 3 * (9 * 10 * 14 * 4 + (2 * 3 * 10 + 9 * 14) * s["linear_conv_kernel_dim"] * 4)
    assert snap.nbytes == {"shared": 2 * 2 * 2 * 33 * 16 * 4, "own": own}
    assert "after 33 tokens" in repr(snap)


def test_branches_of_a_fork_are_independent_and_equal_reruns(lab):
    _, snap = warm(lab, 50)
    branches = lab.fork(snap, 3)
    assert branches[0].layers[2].keys.data_ptr() == branches[2].layers[2].keys.data_ptr()
    for seed, branch in enumerate(branches):
        suffix = tiny.ids(11, seed=100 + seed)
        forked = lab.trace(suffix, cache=branch).logits
        assert (forked - lab.trace(torch.cat([IDS[:50], suffix])).logits).abs().max() < 2e-4
    with pytest.raises(InputError, match="(?s)n out of range.*n=0.*1 to 65536"):
        lab.fork(snap, 0)


def test_an_empty_cache_can_be_kept_too(lab):
    snap = lab.snapshot(lab.cache())
    assert snap.length == 0
    assert torch.equal(lab.trace(IDS, cache=lab.restore(snap)).logits, lab.trace(IDS, cache=lab.cache()).logits)


def test_states_stay_float32_in_a_bfloat16_model():
    from tiny import make_lab

    _, snap = warm(make_lab(tiny.model(dtype=torch.bfloat16)), 9)
    assert snap.state[0].dtype == torch.float32 and snap.conv[0].dtype == torch.bfloat16


def test_other_caches_are_refused(lab):
    from transformers import DynamicCache

    with pytest.raises(InputError, match="(?s)not a hybrid cache.*DynamicCache\\(config=model.config\\).*lab.cache"):
        lab.snapshot(DynamicCache())
    with pytest.raises(InputError, match="(?s)ids do not fit.*got: 3 ids.*9 tokens"):
        hybrid.snapshot(warm(lab, 9)[0], ids=IDS[:3])
    foreign = DynamicCache(config=lab.model.config)
    with torch.no_grad():
        lab.model(IDS[None, :9], **{cache_parameter(lab.model): foreign})
    with pytest.raises(InputError, match="does not know its tokens"):
        lab.resume(lab.snapshot(foreign), IDS)
    with pytest.raises(InputError, match="does not know its tokens"):
        lab.resume(hybrid.snapshot(fed_by_the_bare_model(lab, lab.cache(), 9)), IDS)
    with pytest.raises(InputError, match="a batch starts cold"):
        lab.trace([IDS[:4], IDS[:5]], cache=lab.cache())


def test_the_last_token_of_a_snapshot_counts(lab):
    _, snap = warm(lab, 60)
    for at in (0, 31, 59):
        changed = IDS.clone()
        changed[at] = (changed[at] + 1) % 200 + 2
        with pytest.raises(InputError, match=f"first difference at token {at}\n"):
            lab.resume(snap, changed)
    changed = IDS.clone()
    changed[60] = (changed[60] + 1) % 200 + 2
    assert lab.resume(snap, changed).start.length == 60


def test_a_reset_cache_forgets_its_tokens(lab):
    cache, _ = warm(lab, 40)
    cache.reset()
    other = tiny.ids(40, seed=5)
    fed_by_the_bare_model(lab, cache, 7)
    assert lab.snapshot(cache).ids is None, "7 tokens that nobody told the lab, 40 that are gone"
    cache.reset()
    lab.trace(other, cache=cache)
    snap = lab.snapshot(cache)
    assert torch.equal(snap.ids, other)
    with pytest.raises(InputError, match="first difference at token 0"):
        lab.resume(snap, IDS)


ROWS = {"batch_repeat_interleave": (3,), "batch_select_indices": (torch.tensor([0, 0]),), "crop": (-4,)}
WHOLE = {"reorder_cache": (torch.tensor([0, 0]),), "reset": ()}


@pytest.mark.parametrize("way", ["trace", *ROWS, *WHOLE])
def test_what_transformers_does_to_a_branch_changes_no_other_and_not_the_snapshot(lab, way):
    _, snap = warm(lab, 20)
    parts = [(name, i) for name in ("keys", "values", "conv", "state") for i in getattr(snap, name)]
    before = {(name, i): getattr(snap, name)[i].clone() for name, i in parts}
    one, other = lab.fork(snap, 2)
    if way == "trace":
        lab.trace(IDS[20:33], cache=one)
    elif way in WHOLE:
        getattr(one, way)(*WHOLE[way])
    else:
        for layer in lab.spec.attention_layers:
            getattr(one.layers[layer], way)(*ROWS[way])
    for layer in lab.spec.deltanet_layers if way != "reset" else ():
        one.layers[layer].recurrent_states[0].add_(1)
        one.layers[layer].conv_states[0].add_(1)
    assert all(torch.equal(getattr(snap, name)[i], before[name, i]) for name, i in parts)
    expected = lab.trace(IDS[:33]).logits
    assert (lab.trace(IDS[20:33], cache=other).logits - expected).abs().max() < 2e-4
    assert (lab.resume(snap, IDS[:33]).logits - expected).abs().max() < 2e-4


def test_a_snapshot_is_restored_into_an_empty_cache_alone(lab):
    cache, snap = warm(lab, 20)
    with pytest.raises(InputError, match=r"(?s)into an empty cache.*20 tokens.*lab.restore\(snap\)"):
        hybrid.restore(snap, cache)


@pytest.mark.parametrize("layer", [0, 1, 3, 4])
def test_a_bare_pass_that_did_not_end_leaves_a_torn_cache(lab, layer):
    def stop(module, args):
        raise KeyboardInterrupt

    warm, cached = lab.cache(), cache_parameter(lab.model)
    lab.trace(IDS[:9], cache=warm)
    lab.model(IDS[None, 9:12], **{cached: warm})
    before = lab.snapshot(warm)
    hook = lab.model.model.layers[layer].mlp.register_forward_pre_hook(stop)
    with pytest.raises(KeyboardInterrupt):
        lab.model(IDS[None, 12:15], **{cached: warm})
    hook.remove()
    if layer < 4:  # after the last mixer all layers have read all tokens
        with pytest.raises(InputError, match="(?s)was interrupted.*lab.restore a snapshot"):
            lab.trace(IDS[12:], cache=warm)
        with pytest.raises(InputError, match="was interrupted"):
            lab.snapshot(warm)
        with pytest.raises(InputError, match="was interrupted"):
            lab.model(IDS[None, 12:15], **{cached: warm})
    cold = lab.trace(IDS).logits
    rest = lab.trace(IDS[12:], cache=lab.restore(before)).logits
    assert (rest - cold).abs().max() < 1e-4 * cold.abs().max()


STEP = ("step", "_at_place", "_stepped", "_run", "replay", "advance", "update", "joined")  # what a recorded step runs


def bare(lab, ids, cache=None):
    """Logits of the bare model, [token, vocab]."""
    with torch.no_grad():
        return lab.model(ids[None], **{cache_parameter(lab.model): cache}).logits[0]


def test_a_bare_pass_after_an_interrupted_step_is_right_or_refused(lab, monkeypatch):
    """A recorded step says in every layer of its cache where its token goes; nothing may rely on that being undone."""
    monkeypatch.setattr(single, "refusal", capture.static)
    monkeypatch.setattr(single, "CudaGraph", Tape)

    def stepped(steps):
        cache = lab.cache(room=60)
        lab.trace(IDS[:10], cache=cache)
        for token in IDS[10 : 10 + steps].tolist():
            lab.step(cache, token, layers=[])
        return cache

    fresh, cold = bare(lab, IDS[:9]), bare(lab, IDS[:30])
    for steps in (2, 4):  # a step that is recorded, and one that is played back
        names, cache = [], stepped(steps)
        step = lambda: lab.step(cache, int(IDS[10 + steps]), layers=[])  # noqa: B023, E731
        interrupted(step, 0, names=names)
        lines, seen = [line for line, name in enumerate(names, 1) if name in STEP], set()
        for line in [*lines[:-10:27], *lines[-10:], *(n for n, name in enumerate(names, 1) if name == "_at_place")]:
            cache = stepped(steps)
            _, raised = interrupted(step, line)  # held, as a notebook holds the last one
            assert isinstance(raised, KeyboardInterrupt), line
            left = {getattr(layer, "place", None) is not None for layer in cache.layers}
            assert torch.equal(bare(lab, IDS[:9]), fresh), line
            assert torch.equal(bare(lab, IDS[:9], lab.cache()), fresh), line
            length = cache.get_seq_length()
            try:
                rest = bare(lab, IDS[length:30], cache)
            except InputError as error:
                assert "was interrupted" in str(error), line
                seen.add("refused")
                continue
            assert (rest - cold[length:]).abs().max() < 1e-4 * cold.abs().max(), (line, names[line - 1])
            seen |= {"place left" if True in left else "right", length}
        assert seen >= {"refused", "right", "place left", 10 + steps, 11 + steps}, (steps, seen)
