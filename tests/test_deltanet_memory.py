"""Laws of what a state holds: what is left of keys, recall cards, spectra; cold and warm, both dtypes."""

import pytest
import tiny
import torch

from labkit import deltanet
from labkit.deltanet import bisection, recompute, singular
from labkit.deltanet import equation as eq
from labkit.errors import InputError, LayerError

T, HK, H, DK, DV = 150, 3, 6, 10, 14
IDS = tiny.ids(137)
LAYERS = (0, 1, 3)


def draw(seed=0, tokens=T, dtype=torch.float64):
    """Random inputs of the rule with a start state; every size different."""
    r = torch.Generator().manual_seed(seed)
    normal = lambda *shape: torch.randn(*shape, generator=r, dtype=dtype)  # noqa: E731
    return recompute.Inputs(
        q=eq.unit(normal(tokens, HK, DK)) * DK**-0.5,
        k=eq.unit(normal(tokens, HK, DK)),
        v=normal(tokens, H, DV),
        g=-torch.rand(tokens, H, generator=r, dtype=dtype) * 0.3,
        beta=torch.rand(tokens, H, generator=r, dtype=dtype),
        state=normal(H, DK, DV),
    )


def rule(x, **changes):
    """Reads and final state of the reference loop."""
    parts = dict(q=x.q, k=x.k, v=x.v, g=x.g, beta=x.beta, state=x.state) | changes
    return eq.scan(**parts)


def transitions(x, j, t):
    """Φ_tj [head, key, key] by multiplying the factors."""
    k = eq.grouped(x.k, H)
    phi = torch.eye(DK, dtype=x.k.dtype).expand(H, DK, DK)
    for i in range(j + 1, t + 1):
        factor = torch.eye(DK, dtype=x.k.dtype) - x.beta[i, :, None, None] * k[i, :, :, None] * k[i, :, None, :]
        phi = x.g[i].exp()[:, None, None] * factor @ phi
    return phi


@pytest.fixture(params=["cold", "warm"])
def run(request, lab):
    """The same last 97 tokens, read in one piece with the rest or from a cache that holds the rest."""
    if request.param == "cold":
        return lab.trace(IDS)
    cache = lab.cache()
    lab.trace(IDS[:40], cache=cache)
    return lab.trace(IDS[40:], cache=cache)


# --------------------------------------------------------------------------------------------- what is left


@pytest.mark.parametrize("layer", LAYERS)
def test_survival_never_exceeds_what_decay_alone_leaves(run, layer):
    ds = deltanet.survival(run, layer=layer)
    assert ds.survival.dims == ("head", "source") and ds.survival.shape == (9, len(run))
    assert float((ds.survival - ds.decay_only).max()) < 1e-6
    assert float(ds.survival.isel(source=-1).min()) > 1 - 1e-5, "of the last key nothing is gone yet"
    assert (ds.survival < 0.9 * ds.decay_only).any(), "later tokens erased something"
    assert ds.attrs["parity"] < 1e-5


def test_survival_at_a_token_does_not_know_what_comes_later(lab):
    whole, cut = lab.trace(IDS), lab.trace(IDS[:60])
    a, b = deltanet.survival(whole, layer=3, token=59, heads=[7, 2]), deltanet.survival(cut, layer=3, heads=[7, 2])
    assert a.source.values.tolist() == list(range(60)) and int(a.token) == 59
    assert abs(a.survival.values - b.survival.values).max() < 1e-5


def test_without_later_writes_only_decay_is_left(lab):
    with lab.edit(deltanet.never_write(layer=1, tokens=range(50, len(IDS)))):
        run = lab.trace(IDS)
    ds = deltanet.survival(run, layer=1).sel(source=49)
    assert abs(ds.survival - ds.decay_only).max() < 1e-5 * float(ds.decay_only.max())
    curve = deltanet.forgetting(run, layer=1, source=49)
    assert float(curve.removed.max()) < 1e-6
    assert abs(curve.survival - curve.decay_only).max() < 1e-5


@pytest.mark.parametrize("source", [0, 30, 63, -2, -1])
def test_forgetting_ends_where_survival_and_the_recall_card_stand(run, source):
    curve = deltanet.forgetting(run, layer=3, source=source)
    left = deltanet.survival(run, layer=3).isel(source=source)
    card = deltanet.recall(run, layer=3, source=source)
    last = curve.isel(token=-1)
    assert abs(last.survival.values - left.survival.values).max() < 1e-5
    assert abs(last.signal.values - card.signal.values).max() < 1e-5
    assert abs(last.recall.values - card.recall.values).max() < 1e-4
    assert int(curve.token[0]) == int(curve.source) == int(card.stored)


def test_forgetting_is_what_the_states_say(run):
    """At every token: the state, asked for the stored key; and what the rule itself leaves of that key."""
    j = 25
    curve = deltanet.forgetting(run, layer=1, source=j)
    x = deltanet.inputs(run, 1)
    states = deltanet.memory(run, layer=1, tokens=range(j, len(run))).state.values
    key = eq.grouped(x.k, 9)[j]
    said = torch.einsum("htkv,hk->thv", torch.tensor(states), key)
    expected = torch.cosine_similarity(said, x.v[j][None], dim=-1)
    assert (torch.tensor(curve.recall.values).T - expected).abs().max() < 1e-4
    drop = curve.survival.values[:, :-1] - curve.survival.values[:, 1:]
    decayed = curve.survival.values[:, :-1] * (1 - curve.decay_only.values[:, 1:] / curve.decay_only.values[:, :-1])
    assert (drop <= decayed + curve.removed.values[:, 1:] + 1e-5).all(), "what is gone decayed or was erased"


def test_parts_of_a_state_add_up(lab):
    """Against the states that the parts alone would write, and against a warm start."""
    run, cache = lab.trace(IDS), lab.cache()
    lab.trace(IDS[:50], cache=cache)
    warm = lab.trace(IDS[50:], cache=cache)
    names = ["a"] * 50 + ["b", "c"] * 44
    whole = deltanet.written_by(run, layer=1, segments=names, token=130)
    assert whole.segment.values.tolist() == ["a", "b", "c"] and float(abs(whole.share.sum("segment") - 1).max()) < 1e-5
    x = deltanet.inputs(run, 1)
    for n, name in enumerate("abc"):
        mine = torch.tensor([segment == name for segment in names[:131]])
        only = eq.scan(x.q[:131], x.k[:131], x.v[:131] * mine[:, None, None], g=x.g[:131], beta=x.beta[:131])[3]
        full = eq.scan(x.q[:131], x.k[:131], x.v[:131], g=x.g[:131], beta=x.beta[:131])[3]
        share = (only * full).sum((-1, -2)) / full.square().sum((-1, -2))
        assert abs(whole.share.values[:, n] - share.numpy()).max() < 1e-4
        ratio = only.flatten(1).norm(dim=1) / full.flatten(1).norm(dim=1)
        assert abs(whole.part_norm.values[:, n] - ratio.numpy()).max() < 1e-4
    rest = deltanet.written_by(warm, layer=1, segments=names[50:], token=80, heads=[7, 2])
    assert rest.segment.values.tolist() == ["b", "c", "before"]
    expected = whole.share.sel(head=[7, 2], segment=["b", "c", "a"]).values
    assert abs(rest.share.values - expected).max() < 1e-4
    with pytest.raises(InputError, match="(?s)one segment per token.*3 names.*131 tokens"):
        deltanet.written_by(run, layer=1, segments="abc", token=130)


def test_half_life_says_which_of_the_two_it_is(lab):
    run = lab.trace(IDS)
    ds = deltanet.half_life(run, layer=1)
    keep = deltanet.memory(run, layer=1).keep
    import numpy as np

    expected = np.log(2) / -np.log(keep.values).mean(1)
    assert abs(ds.decay_only.values / expected - 1).max() < 1e-4
    assert (ds.with_erasure <= ds.decay_only.where(ds.decay_only < 60, 1e9) + 8).all()
    left = deltanet.survival(run, layer=1).survival.isel(source=slice(None, None, -1)).values
    for line, age in zip(left, ds.with_erasure.values, strict=True):
        if age < 130:
            assert np.median(line[int(age) - 2 : int(age) + 3]) < 0.5


# ------------------------------------------------------------------------------------------------ recall cards


def test_the_card_adds_up_to_what_the_state_says(run):
    ds = deltanet.recall(run, layer=3, source=[5, 60, -1])
    assert ds.contribution.dims == ("head", "step", "source") and ds.attrs["rebuilt"] < 1e-5
    assert ds.stored_text.values.tolist()[0] == run.tokens[5]
    early = deltanet.recall(run, layer=1, source=[0, 3], token=4)  # what a warm start says is still loud here
    assert early.attrs["rebuilt"] < 1e-5


def test_crosstalk_is_of_the_other_tokens_alone(run):
    """Signal ‖c_jj v_j‖ of the stored token itself; crosstalk Σ |c_ji| ‖v_i‖ over i ≠ j, summed one by one."""
    x, sources = deltanet.inputs(run, 3), [len(run) - n for n in (4, 2, 1)]
    ds = deltanet.recall(run, layer=3, source=sources, token=-1, heads=[7, 2])
    size = x.v.norm(dim=-1)[:, [7, 2]].T.numpy()
    for n, j in enumerate(sources):
        weight = abs(ds.contribution.isel(step=n).values)
        others = sum(weight[:, i] * size[:, i] for i in range(len(run)) if i != j)
        own = weight[:, j] * size[:, j]
        assert own.min() > 1e-3 * others.max(), "a signal that cannot be seen in the crosstalk tests nothing"
        assert abs(ds.signal.isel(step=n).values - own).max() < 1e-5 * own.max()
        assert abs(ds.crosstalk.isel(step=n).values - others).max() < 1e-5 * others.max()


def test_contributions_are_the_stored_key_times_what_each_token_left():
    x = draw()
    t, j = T - 1, 70
    weights, rest = eq.implied(x.q, x.k, g=x.g, beta=x.beta, rows=[t], queries=x.k[[j]])
    keys = eq.grouped(x.k, H)
    for i in (0, 64, 70, 71, T - 1):
        p = x.beta[i, :, None] * torch.einsum("hkj,hj->hk", transitions(x, i, t), keys[i])
        assert (weights[:, 0, i] - (keys[j] * p).sum(-1)).abs().max() < 1e-12
    said = torch.einsum("hs,shv->hv", weights[:, 0], x.v) + torch.einsum("hk,hkv->hv", rest[:, 0], x.state)
    assert (said - torch.einsum("hkv,hk->hv", rule(x)[3], keys[j])).abs().max() < 1e-11


def test_orthonormal_keys_are_recalled_without_crosstalk():
    x = draw(tokens=DK)
    keys = torch.eye(DK, dtype=torch.float64)[:, None].expand(DK, HK, DK)
    weights, _ = eq.implied(
        x.q, keys, g=0 * x.g, beta=torch.ones_like(x.beta), rows=[DK - 1] * DK, queries=keys.contiguous()
    )
    assert (weights - torch.eye(DK, dtype=torch.float64)).abs().max() < 1e-12


def test_a_source_after_the_token_is_refused(lab):
    run = lab.trace(IDS[:20])
    with pytest.raises(InputError, match="(?s)source out of range.*15.*0 to 10"):
        deltanet.recall(run, layer=1, source=15, token=10)
    with pytest.raises(InputError, match="one source at a time"):
        deltanet.forgetting(run, layer=1, source=[1, 2])


# ------------------------------------------------------------------------------------------------------ spectra


def test_ranks_have_their_limits():
    r = torch.Generator().manual_seed(0)
    state = torch.randn(7, DK, DV, generator=r, dtype=torch.float64)
    stable, effective = deltanet.ranks(torch.linalg.svdvals(state))
    assert (stable >= 1).all() and (stable <= effective + 1e-12).all() and (effective <= DK).all()
    one = torch.linalg.svdvals(torch.outer(torch.arange(1.0, 5), torch.arange(1.0, 8)))
    assert [round(float(rank), 5) for rank in deltanet.ranks(one)] == [1, 1]
    even = torch.ones(DK)
    assert [round(float(rank), 5) for rank in deltanet.ranks(even)] == [DK, DK]
    assert all(torch.isfinite(rank) for rank in deltanet.ranks(torch.zeros(4)))


def hard(shape, seed=0):
    """Matrices [..., m, n]: random, of rank 1, of zeros, tiny, of equal values; and one whose values fall by tens."""
    r = torch.Generator().manual_seed(seed)
    made = torch.randn(*shape, generator=r, dtype=torch.float64)
    flat = made.view(-1, *shape[-2:])
    flat[1] = flat[1][:, :1] * flat[1][:1]
    flat[2], flat[3], flat[4] = 0, flat[3] * 1e-30, torch.eye(*shape[-2:])
    left, _, right = torch.linalg.svd(flat[5], full_matrices=False)
    return made, left * 10.0 ** -torch.arange(min(shape[-2:])) @ right


@pytest.mark.parametrize("shape", [(2, 3, 10, 14), (7, 14, 10), (6, 9, 9), (6, 1, 5), (6, 5, 1), (6, 1, 1)])
def test_singular_values_by_bisection_are_those_of_lapack(shape, monkeypatch):
    monkeypatch.setattr(bisection, "AT_ONCE", 4)
    made, graded = hard(shape)
    before = made.clone()
    for each in (made, graded):
        expected, found = torch.linalg.svdvals(each), bisection.bisected(each)
        assert found.shape == expected.shape
        assert ((found - expected).abs() <= 1e-12 * each.flatten(-2).norm(dim=-1)[..., None] + 1e-300).all()
    assert torch.equal(made, before), "the states are not overwritten"
    # Through SᵀS, values below 1e-8 of the largest are noise; here the tenth decade below it still has digits.
    if min(shape[-2:]) > 8:
        assert float(bisection.bisected(graded)[8]) == pytest.approx(1e-8, rel=1e-3)


def test_both_ways_to_singular_values_give_one_spectrum(run, monkeypatch):
    host = deltanet.spectrum(run, layer=1)
    monkeypatch.setattr(singular, "singular_values", bisection.bisected)
    card = deltanet.spectrum(run, layer=1)
    assert abs(card.singular - host.singular).max() < 3e-6 * float(host.singular.max())
    for name in ("stable_rank", "effective_rank"):
        assert abs(card[name] / host[name] - 1).max() < 1e-5
    assert bisection.singular_values(torch.eye(3)[None]).tolist() == [[1, 1, 1]]


def test_a_spectrum_says_which_places_it_took(run):
    assert deltanet.spectrum(run, layer=1).attrs["places"] == f"{len(whole_of(run))} of {len(run)}, evenly spaced"
    assert deltanet.spectrum(run, layer=[1, 3], tokens=[2, -1]).attrs["places"] == f"2 of {len(run)}, chosen"


def whole_of(run):
    return deltanet.spectrum(run, layer=1).token


def test_spectrum_is_that_of_the_states(run):
    ds = deltanet.spectrum(run, layer=1, tokens=[3, 64, -1], heads=[8, 0])
    states = deltanet.memory(run, layer=1, tokens=[3, 64, -1], heads=[8, 0]).state.values
    expected = torch.linalg.svdvals(torch.tensor(states))
    assert abs(ds.singular.values - expected.numpy()).max() < 1e-5 * float(expected.max())
    assert abs((ds.singular**2).sum("mode") - ds.state_norm**2).max() < 1e-4 * float(ds.state_norm.max() ** 2)
    assert ((ds.stable_rank <= ds.effective_rank + 1e-4) & (ds.stable_rank >= 1 - 1e-6)).all()
    assert ds.singular.shape == (2, 3, 10) and ds["head"].values.tolist() == [8, 0]
    whole = deltanet.spectrum(run, layer=1)
    assert whole.token.size <= 64 and int(whole.token[-1]) == int(run.positions[-1])


def test_equal_prompts_do_not_differ_and_others_do(lab):
    a, b = lab.trace(IDS), lab.trace(torch.cat([tiny.ids(40, seed=3), IDS[40:]]))
    same, other = deltanet.state_difference(a, a, layer=3), deltanet.state_difference(a, b, layer=3, heads=[4, 1])
    assert float(same.difference.max()) == 0 and float(same.readout.max()) == 0 and float(same.angle.max()) < 0.1
    assert other["head"].values.tolist() == [4, 1] and float(other.difference.min()) > 1e-4
    assert (other.angle.diff("mode") >= -1e-3).all()
    alone = [deltanet.spectrum(each, layer=3, tokens=-1).attrs["parity"] for each in (a, b)]
    pairs = [deltanet.state_difference(*pair, layer=3).attrs["parity"] for pair in ((a, b), (b, a))]
    assert alone[0] != alone[1] and pairs == [max(alone)] * 2, "the worse of both"
    states = [deltanet.memory(each, layer=3, heads=[4, 1]).state.values for each in (a, b)]
    import numpy as np

    gap = np.linalg.norm((states[0] - states[1]).reshape(2, -1), axis=1) / np.linalg.norm(
        states[1].reshape(2, -1), axis=1
    )
    assert abs(other.difference.values - gap).max() < 1e-4


# -------------------------------------------------------------------------------------- everything, everywhere

READINGS = {
    "survival": lambda run, layer: deltanet.survival(run, layer=layer),
    "forgetting": lambda run, layer: deltanet.forgetting(run, layer=layer, source=10),
    "half_life": lambda run, layer: deltanet.half_life(run, layer=layer),
    "recall": lambda run, layer: deltanet.recall(run, layer=layer, source=10),
    "spectrum": lambda run, layer: deltanet.spectrum(run, layer=layer),
    "memory": lambda run, layer: deltanet.memory(run, layer=layer),
    "implied_attention": lambda run, layer: deltanet.implied_attention(run, layer=layer),
    "implied_row": lambda run, layer: deltanet.implied_row(run, layer=layer),
    "written_by": lambda run, layer: deltanet.written_by(run, layer=layer, segments="ab" * len(run)),
    "response": lambda run, layer: deltanet.response(run, 0.3, layer=layer, at=6),
    "measured": lambda run, layer: deltanet.measured(run, run, layer=layer, at=6),
    "state_difference": lambda run, layer: deltanet.state_difference(run, run, layer=layer),
}


@pytest.mark.parametrize("name", ["survival", "forgetting", "recall", "spectrum", "memory"])
def test_a_warm_cache_gives_the_readings_of_the_whole_run(lab, name):
    cache = lab.cache()
    lab.trace(IDS[:40], cache=cache)
    warm, whole = lab.trace(IDS[40:], cache=cache), lab.trace(IDS)
    make = {
        "survival": lambda run, shift: deltanet.survival(run, layer=3),
        "forgetting": lambda run, shift: deltanet.forgetting(run, layer=3, source=50 + shift),
        "recall": lambda run, shift: deltanet.recall(run, layer=3, source=50 + shift),
        "spectrum": lambda run, shift: deltanet.spectrum(run, layer=3, tokens=[5 + shift, -1]),
        "memory": lambda run, shift: deltanet.memory(run, layer=3, tokens=[7 + shift, -1], heads=[8, 2]),
    }[name]
    a, b = make(warm, 0), make(whole, 40)
    for axis in ("token", "source"):
        if axis in a.dims:
            b = b.sel({axis: a[axis].values})
    for variable in a.data_vars:
        scale = float(abs(b[variable]).max()) or 1.0
        assert float(abs(a[variable].values - b[variable].values).max()) < 3e-4 * scale, variable


@pytest.mark.parametrize("name", READINGS)
def test_readings_of_a_16_bit_model_and_of_batch_rows(name):
    lab = tiny.make_lab(tiny.model(dtype=torch.bfloat16))
    for run in (lab.trace(IDS[:70]), *lab.trace([IDS[:33], IDS[:70]])):
        for layer in lab.spec.deltanet_layers:
            READINGS[name](run, layer)
        assert max(run.parity.values()) < 1e-2


@pytest.mark.parametrize("name", READINGS)
def test_an_attention_layer_has_no_memory_to_read(lab, name):
    with pytest.raises(LayerError, match="(?s)layer 2 is a gated attention layer.*0, 1, 3.*try: (attention|edit)\\."):
        READINGS[name](lab.trace(IDS[:20]), 2)


def test_angles_of_states_of_low_rank(lab):
    """One token: each state is one key, and there is one angle, that of the two keys."""
    one, other = (lab.trace(torch.tensor([i])) for i in (5, 17))
    ds = deltanet.state_difference(one, other, layer=0, modes=3, ends="any")
    keys = [deltanet.inputs(run, 0).k[0] for run in (one, other)]
    cosine = torch.cosine_similarity(*keys, dim=-1).abs().repeat_interleave(3)
    assert torch.allclose(torch.tensor(ds.angle.values[:, 0]), torch.rad2deg(torch.arccos(cosine)), atol=1e-2)
    assert ds.angle.isel(mode=slice(1, None)).isnull().all()
    same = deltanet.state_difference(lab.trace(IDS), lab.trace(IDS), layer=0)
    assert float(same.angle.max()) < 1e-4, "small angles are not lost in a cosine"


def test_survival_of_what_is_almost_gone(lab):
    """Down to nothing, in steps that the norm of a fast form would lose: against the product of transitions."""
    model = tiny.model()
    with torch.no_grad():
        model.model.layers[0].linear_attn.dt_bias.fill_(0.5)
    lab = tiny.make_lab(model)
    run = lab.trace(IDS)
    x = deltanet.inputs(run, 0)
    ds = deltanet.forgetting(run, layer=0, source=9, heads=[4])
    stored = x.k[9, 4 // 3].double()
    for n, t in enumerate(range(10, 40), 1):
        k = x.k[t, 4 // 3].double()
        stored = x.g[t, 4].double().exp() * (stored - x.beta[t, 4].double() * k * (k @ stored))
        truth = float(stored.norm() / x.k[9, 4 // 3].double().norm())
        assert abs(float(ds.survival[0, n]) - truth) < 1e-4 * truth + 1e-12, t
    assert float(ds.survival[0, 30]) < 1e-4


def test_half_lives_of_short_runs():
    from labkit.deltanet.remains import _crossing

    line = lambda *values: torch.tensor(values)  # noqa: E731
    assert _crossing(line(1.0, 0.31)) == 1 and _crossing(line(1.0, 0.9, 0.8)) == float("inf")
    assert _crossing(line(1.0, 0.4, 0.3, 0.2, 0.1, 0.0)) == 1
    assert _crossing(line(1.0, 0.9, 0.1, 0.9, 0.9, 0.9, 0.1, 0.1, 0.1)) == 6, "one low neighbour is no half-life"
