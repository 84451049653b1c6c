"""Operations on a memory: the response is the predicted one, gates are what they were set to, patches add up."""

import pytest
import tiny
import torch

from labkit import deltanet, edit
from labkit.deltanet import equation as eq
from labkit.errors import InputError, LayerError
from labkit.trace import cache_parameter

IDS = tiny.ids(90)
LAYER, HEADS, AT = 1, [7, 2], 40


def state_at(run, token):
    return torch.from_numpy(deltanet.memory(run, layer=LAYER, tokens=token).state.values)


def rule(x, t, **changes):
    """The state after token t by the reference loop."""
    x = vars(x.upto(t + 1)) | {name: y[: t + 1] for name, y in changes.items()}
    return eq.scan(**x)[3]


def without(x, j, t, sense):
    """The state after token t if token j had no value, or had not been written: v_j = 0, or β_j = 0."""
    name = {"value": "v", "write": "beta"}[sense]
    changed = getattr(x, name).clone()
    changed[j] = 0
    return rule(x, t, **{name: changed})


def edits(run):
    """(edit, change of the state of the chosen heads) for every operation on a state."""
    old = state_at(run, AT)[HEADS]
    r = torch.Generator().manual_seed(5)
    new = torch.randn(old.shape, generator=r)
    place = dict(layer=LAYER, at=AT, heads=HEADS)
    yield "replace", deltanet.replace_state(new, **place), new - old
    yield "blend", deltanet.replace_state(new, share=0.3, **place), 0.3 * (new - old)
    yield "empty", deltanet.replace_state(0.0, **place), -old
    x = deltanet.inputs(run, LAYER)
    key, value = eq.grouped(x.k, 9)[12, HEADS], x.v[30, HEADS]
    key = key / key.norm(dim=-1, keepdim=True)
    recalled = torch.einsum("hkv,hk->hv", old, key)
    change = torch.einsum("hk,hv->hkv", key, value - recalled)
    yield "associate", deltanet.associate(run, source=12, value=30, **place), change
    for sense in ("value", "write"):
        gone = without(x, 37, AT, sense)[HEADS] - rule(x, AT)[HEADS]
        yield f"forget {sense}", deltanet.forget(run, source=37, sense=sense, **place), gone


@pytest.mark.parametrize("case", range(6))
@pytest.mark.parametrize("warm", [False, True], ids=["cold", "warm"])
def test_the_measured_response_within_the_layer_is_the_predicted_one(lab, case, warm):
    def trace(*edits):
        with lab.edit(*edits):
            if not warm:
                return lab.trace(IDS)
            cache = lab.cache()
            lab.trace(IDS[:25], cache=cache)
            return lab.trace(IDS[25:], cache=cache)

    whole, run = lab.trace(IDS), trace()
    name, change, delta = list(edits(whole))[case]
    changed, at = trace(change), AT - (25 if warm else 0)
    predicted = deltanet.response(run, delta, layer=LAYER, at=at, heads=HEADS)
    by_edit = deltanet.response(run, change, layer=LAYER)
    assert float(abs(by_edit.predicted - predicted.predicted).max()) < 1e-5, "an edit says itself what it changes"
    gap = deltanet.measured(run, changed, layer=LAYER, at=at, heads=HEADS)
    scale = float(abs(predicted.predicted).max())
    assert scale > 1e-3, f"{name} does something"
    assert float(abs(gap.measured - predicted.predicted).max()) < 2e-5 * max(1, scale), name
    others = [head for head in range(9) if head not in HEADS]
    still = deltanet.measured(run, changed, layer=LAYER, at=at, heads=others)
    # The edited prompt is split after the token, so the kernel's chunks lie elsewhere: equal to rounding.
    assert float(abs(still.measured).max()) < 1e-5 < 0.01 * scale, "the other heads read what they read before"
    assert float(abs(changed.logits - run.logits).max()) > 1e-4, "and it propagates"


def test_after_an_association_the_state_says_the_new_value(lab):
    run = lab.trace(IDS)
    with lab.edit(deltanet.associate(run, layer=LAYER, source=12, value=30, at=AT, heads=HEADS)):
        cache = lab.cache()
        lab.trace(IDS[: AT + 1], cache=cache)
    x = deltanet.inputs(run, LAYER)
    key = eq.grouped(x.k, 9)[12, HEADS]
    said = torch.einsum("hkv,hk->hv", cache.layers[LAYER].recurrent_states[0][0, HEADS], key)
    assert (said - x.v[30, HEADS]).abs().max() < 1e-5 * x.v[30].abs().max() + 1e-5


def test_gates_are_clamped_to_what_was_asked(lab):
    run = lab.trace(IDS)
    clamps = [
        deltanet.clamp_keep(run, layer=LAYER, value=0.25, heads=[2, 5], tokens=range(10, 20)),
        deltanet.clamp_write(layer=LAYER, value=0.75, heads=3),
        deltanet.clamp_keep(run, layer=LAYER, value=1, heads=8),
        deltanet.clamp_write(layer=LAYER, value=0, heads=0),
    ]
    with lab.edit(*clamps):
        ds = deltanet.memory(lab.trace(IDS), layer=LAYER)
    free = deltanet.memory(run, layer=LAYER)
    assert abs(ds.keep.sel(head=[2, 5], token=range(10, 20)) - 0.25).max() < 1e-5
    assert ds.keep.sel(head=[2, 5], token=range(10)).identical(free.keep.sel(head=[2, 5], token=range(10)))
    assert abs(ds.write.sel(head=3) - 0.75).max() < 1e-6
    assert (ds.keep.sel(head=8) == 1).all() and (ds.write.sel(head=0) == 0).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda run: deltanet.clamp_keep(run, layer=1, value=0),
            "(?s)value out of range.*=0.*above 0, at most 1",
        ),
        (
            lambda run: deltanet.clamp_write(layer=1, value=2),
            "(?s)value out of range.*=2.*below 2",
        ),
        (lambda run: deltanet.forget(run, layer=1, source=3, sense="both"), "(?s)unknown sense.*'value' or 'write'"),
        (lambda run: deltanet.forget(run, layer=1, source=50, at=30), "(?s)source out of range.*0 to 30"),
        (lambda run: deltanet.response(run, 0.0, layer=1), "the token after which it happens"),
        (
            lambda run: deltanet.response(run, deltanet.replace_state(0.0, layer=0, at=5), layer=1),
            "(?s)of another layer.*got: +0",
        ),
        (lambda run: deltanet.response(run, 0.0, layer=1, at=-1), "(?s)nothing comes after.*at most 88"),
        (lambda run: deltanet.associate(run, layer=1, source=3, value=99, at=5), "(?s)token out of range.*99"),
        (lambda run: deltanet.associate(run, layer=1, source=3, value=9, at=90), "(?s)token out of range.*90"),
        (lambda run: deltanet.clamp_keep(run, layer=1, value=0.5, tokens=90), "(?s)token out of range.*90"),
        (lambda run: deltanet.measured(run, run, layer=1, at=-1), "(?s)nothing comes after.*at most 88"),
    ],
)
def test_misuse(lab, make, message):
    with pytest.raises(InputError, match=message):
        make(lab.trace(IDS))


@pytest.mark.parametrize("name", ["associate", "forget", "response", "measured", "clamp_keep"])
def test_an_attention_layer_has_no_memory_to_operate_on(lab, name):
    run = lab.trace(IDS)
    calls = {
        "associate": lambda: deltanet.associate(run, layer=2, source=1, value=2, at=3),
        "forget": lambda: deltanet.forget(run, layer=2, source=1),
        "response": lambda: deltanet.response(run, 0.0, layer=2, at=3),
        "measured": lambda: deltanet.measured(run, run, layer=2, at=3),
        "clamp_keep": lambda: deltanet.clamp_keep(run, layer=2, value=0.5),
    }
    with pytest.raises(LayerError, match="layer 2 is a gated attention layer"):
        calls[name]()


# ------------------------------------------------------------------------------------------------------ patching

CLEAN, OTHER, SUFFIX = tiny.ids(33), torch.cat([tiny.ids(12, seed=9), tiny.ids(33)[12:]]), tiny.ids(3, seed=4)


def test_a_patched_branch_is_the_restored_cache_with_one_state_exchanged(lab):
    ds = deltanet.patch_states(lab, CLEAN, OTHER, SUFFIX, score=(5, 9), heads=[8, 3], batch=4)
    assert ds.score.shape == (3, 2) and ds.layer.values.tolist() == [0, 1, 3]
    snaps = []
    for prefix in (CLEAN, OTHER):
        cache = lab.cache()
        lab.trace(prefix, cache=cache)
        snaps.append(lab.snapshot(cache))
    for layer in (0, 3):
        for head in (8, 3):
            cache = lab.restore(snaps[1])
            cache.layers[layer].recurrent_states[0][:, head] = snaps[0].state[layer][:, head]
            logits = lab.trace(SUFFIX, cache=cache).logits[0]
            assert abs(float(ds.score.sel(layer=layer, head=head)) - float(logits[5] - logits[9])) < 1e-4
    ends = [lab.trace(torch.cat([prefix, SUFFIX])).logits[0] for prefix in (CLEAN, OTHER)]
    for name, logits in zip(("clean", "other"), ends, strict=True):
        assert abs(ds.attrs[name] - float(logits[5] - logits[9])) < 1e-3
    span = ds.attrs["clean"] - ds.attrs["other"]
    assert abs(ds.effect - (ds.score - ds.attrs["other"]) / span).max() < 1e-5


def test_patching_along_the_tokens(lab):
    """Before the prompts differ nothing changes; afterwards each place is the cache with one state exchanged."""
    other, cut = torch.cat([CLEAN[:10], tiny.ids(4, seed=9), CLEAN[14:]]), 20
    options = dict(score=(5, 9), layers=[3], heads=[1, 8])
    ds = deltanet.patch_states(lab, CLEAN, other, SUFFIX, tokens=[9, cut, -1], **options)
    assert ds.score.dims == ("layer", "head", "token") and ds.token.values.tolist() == [9, cut, 32]
    assert float(abs(ds.effect.isel(token=0)).max()) < 1e-4
    last = deltanet.patch_states(lab, CLEAN, other, SUFFIX, **options)
    assert float(abs(ds.score.isel(token=-1) - last.score).max()) < 1e-5
    caches = []
    for prefix in (CLEAN, other):
        cache = lab.cache()
        lab.trace(prefix[: cut + 1], cache=cache)
        caches.append(cache)
    caches[1].layers[3].recurrent_states[0][:, 8] = caches[0].layers[3].recurrent_states[0][:, 8]
    logits = lab.trace(torch.cat([other[cut + 1 :], SUFFIX]), cache=caches[1]).logits[-1]
    assert abs(float(ds.score.sel(token=cut, layer=3, head=8)) - float(logits[5] - logits[9])) < 1e-4
    assert abs(float(ds.effect.sel(token=cut, layer=3, head=8))) > 1e-3, "and it does something"


def test_heads_patched_together(lab):
    """One place alone is `patch_states`; all places and all windows, without attention, are the clean prompt."""
    alone = deltanet.patch_states(lab, CLEAN, OTHER, SUFFIX, score=(5, 9))
    every = [(layer, head) for layer in lab.spec.deltanet_layers for head in range(lab.spec.value_heads)]
    sets = [[], [(3, 8)], [(0, 1), (1, 0), (3, 8)], every]
    ds = deltanet.patch_together(lab, CLEAN, OTHER, SUFFIX, score=(5, 9), sets=sets, batch=3)
    assert float(abs(ds.score[0] - ds.attrs["other"])) < 1e-4
    assert float(abs(ds.score[1] - alone.score.sel(layer=3, head=8))) < 1e-4
    assert len(set(ds.score.values.round(5).tolist())) == 4
    silent = [edit.scale("mixer_out", layer=layer, factor=0) for layer in lab.spec.attention_layers]
    with lab.edit(*silent):
        ds = deltanet.patch_together(lab, CLEAN, OTHER, SUFFIX, score=(5, 9), sets=[every], window=True)
    assert abs(float(ds.effect[0]) - 1) < 1e-4


def test_patching_with_ones_own_state_changes_nothing(lab):
    score = lambda logits: logits[:, 5]  # noqa: E731
    ds = deltanet.patch_states(lab, CLEAN, CLEAN, SUFFIX, score=score, window=True)
    assert float(abs(ds.score - ds.attrs["clean"]).max()) < 1e-5 and ds.effect.isnull().all()


def test_exchanging_everything_gives_the_clean_prompt(lab):
    """All states, windows, keys and values of the clean prefix: the other prefix is forgotten."""
    cache = lab.cache()
    lab.trace(CLEAN, cache=cache)
    snap = lab.snapshot(cache)
    cold = lab.trace(torch.cat([CLEAN, SUFFIX])).logits
    stacked = snap.stacked(3)
    with torch.no_grad():
        out = lab.model(SUFFIX[None].expand(3, -1), **{cache_parameter(lab.model): lab.restore(stacked)}).logits[:, -1]
    assert (out - cold).abs().max() < 2e-4 * cold.abs().max()
    assert snap.state[0].shape[0] == 1, "the snapshot is as it was"


def test_misuse_of_patching(lab):
    with pytest.raises(LayerError, match="(?s)patch_states: layer 2 is a gated attention.*edit.patch"):
        deltanet.patch_states(lab, CLEAN, OTHER, SUFFIX, score=(5, 9), layers=[2])
    with pytest.raises(InputError, match="the same token"):
        deltanet.patch_states(lab, CLEAN, OTHER, SUFFIX, score=(5, 5))
    with pytest.raises(InputError, match=r"(?s)no such .layer, head. with a state.*\[\(2, 0\), \(0, 99\)\].*0, 1, 3"):
        deltanet.patch_together(lab, CLEAN, OTHER, SUFFIX, score=(5, 9), sets=[[(0, 1), (2, 0)], [(0, 99)]])
    cache = lab.cache()
    lab.trace(CLEAN, cache=cache)
    with pytest.raises(InputError, match="(?s)n out of range.*n=0"):
        lab.snapshot(cache).stacked(0)


def test_an_edit_before_a_warm_run_has_no_response_in_it(lab):
    cache = lab.cache()
    lab.trace(IDS[:25], cache=cache)
    run = lab.trace(IDS[25:], cache=cache)
    with pytest.raises(InputError, match="(?s)before the run begins.*got: +7.*from 25 on"):
        deltanet.response(run, deltanet.replace_state(0.0, layer=LAYER, at=7), layer=LAYER)


def test_a_slow_head_is_clamped_without_overflow():
    model = tiny.model()
    with torch.no_grad():
        model.model.layers[0].linear_attn.A_log.fill_(-7.0)
    lab = tiny.make_lab(model)
    run = lab.trace(IDS)
    for value in (0.5, 1e-3, 0.999):
        with lab.edit(deltanet.clamp_keep(run, layer=0, value=value, heads=1)):
            changed = lab.trace(IDS)
        keep = deltanet.memory(changed, layer=0).keep
        assert abs(keep.isel(head=1) - value).max() < 1e-4 and bool(torch.isfinite(changed.logits).all())


def test_the_response_is_that_of_a_state_alone(lab):
    run, cache = lab.trace(IDS), lab.cache()
    lab.trace(IDS[:40], cache=cache)
    snap = lab.snapshot(cache)
    with pytest.raises(InputError, match="(?s)convolution window.*with a window.*window=False"):
        deltanet.response(run, edit.patch_state(snap, layer=LAYER, at=29), layer=LAYER)
    deltanet.response(run, edit.patch_state(snap, layer=LAYER, at=29, window=False), layer=LAYER)
    only = edit.StateEdit(LAYER, 29, None, None, lambda old: 0 * old)
    with pytest.raises(InputError, match="(?s)with a window"):
        deltanet.response(run, only, layer=LAYER)


def test_patching_prefixes_of_different_length(lab):
    """An explicit token is where the states are exchanged, also if one prefix ends there."""
    clean, other, options = CLEAN[:6], OTHER[:9], dict(score=(5, 9), layers=[1], heads=[2])
    ds = deltanet.patch_states(lab, clean, other, SUFFIX, tokens=5, **options).squeeze()
    caches = []
    for prefix in (clean, other):
        cache = lab.cache()
        lab.trace(prefix[:6], cache=cache)
        caches.append(cache)
    caches[1].layers[1].recurrent_states[0][:, 2] = caches[0].layers[1].recurrent_states[0][:, 2]
    logits = lab.trace(torch.cat([other[6:], SUFFIX]), cache=caches[1]).logits[-1]
    assert abs(float(ds.score) - float(logits[5] - logits[9])) < 1e-4 and int(ds.token) == 5
    ends = deltanet.patch_states(lab, clean, other, SUFFIX, **options).squeeze()
    assert abs(float(ends.score) - float(ds.score)) > 1e-3, "where each ends is another place"
    long = tiny.ids(lab.window)
    with pytest.raises(InputError, match="(?s)longer than the model's window"):
        deltanet.patch_states(lab, long, OTHER, SUFFIX, score=(5, 9))


def test_operations_count_from_the_first_token_of_their_run(lab):
    """Made from a warm run, an edit stands where the same edit made from the whole run stands, and does the same."""
    cache = lab.cache()
    lab.trace(IDS[:25], cache=cache)
    warm, whole = lab.trace(IDS[25:], cache=cache), lab.trace(IDS)
    state = state_at(whole, AT)[None, HEADS]
    for make in (
        lambda run, shift, at: deltanet.forget(run, layer=LAYER, source=37 - shift, at=at, heads=HEADS),
        lambda run, shift, at: deltanet.forget(run, layer=LAYER, source=37 - shift, at=at, heads=HEADS, sense="write"),
        lambda run, shift, at: deltanet.associate(
            run, layer=LAYER, source=30 - shift, value=35 - shift, at=at, heads=HEADS
        ),
    ):
        known = make(whole, 0, AT)
        for moved in (make(warm, 25, AT - 25), make(warm, 25, AT - len(IDS))):
            assert moved.at == known.at == AT and moved.heads == tuple(HEADS)
            assert (moved.change(state) - known.change(state)).abs().max() < 1e-5
        assert (known.change(state) - state).abs().max() > 1e-3
    clamps = [deltanet.clamp_keep(warm, layer=LAYER, value=value, tokens=[0, 9, -1]) for value in (0.5, 1)]
    assert [clamp.tokens for clamp in clamps] == [(25, 34, 89)] * 2
    with pytest.raises(InputError, match="(?s)source out of range.*20.*0 to 15"):
        deltanet.forget(warm, layer=LAYER, source=20, at=15)
