"""A direction is the difference of what was there; what is added is what was asked for, where and when; controls."""

import sys

import numpy as np
import pytest
import siblings
import tiny
import torch
import xarray

import labkit
from labkit import cache, deltanet, edit, steering
from labkit.errors import BackendError, CheckpointError, InputError, LayerError
from labkit.steering import measuring, tuning

MODELS = {family: lambda family=family: tiny.model(family=family) for family in sorted(tiny.FAMILY_SIZES)}
MODELS |= {"olmo_hybrid": siblings.olmo, "kimi_linear": siblings.kimi}
PLUS = [tiny.ids(7 + n % 3, seed=n) for n in range(8)]
MINUS = [tiny.ids(6 + n % 4, seed=100 + n) for n in range(6)]
IDS = tiny.ids(11, seed=5)
EXAMPLES = [(tiny.ids(5 + n % 3, seed=40 + n), tiny.ids(1 + n % 2, seed=60 + n)) for n in range(5)]


@pytest.fixture(scope="module", params=MODELS)
def own(request):
    """A lab of each family."""
    return tiny.make_lab(MODELS[request.param]())


@pytest.fixture(scope="module")
def lab():
    """The random hybrid of five layers, D D A D A."""
    return tiny.make_lab(tiny.model())


def there(lab, ids, layer, seam):
    """What is at a seam, or the state, at the last token; by the plainest way."""
    if seam == "state":
        held = lab.cache()
        lab.trace(ids, layers=[], cache=held)
        return lab.snapshot(held).state[layer][0]
    run = lab.trace(ids, layers=[layer])
    if seam == "v" and (layer, "v") not in run.seams:
        return run.seams[layer, "qkv"][-1][-9 * 14 :].view(9, 14)
    return run.seams[layer, seam][-1]


# ------------------------------------------------------------------------------------------------------- directions


@pytest.mark.parametrize(
    ("layer", "seam"), [(1, "resid_post"), (1, "v"), (3, "b"), (1, "state"), (2, "gated"), (4, "gate"), (4, "v")]
)
def test_a_direction_is_the_difference_of_means(own, layer, seam):
    kinds = own.spec.seams[own.spec.kind(layer)]
    if seam not in (*kinds, "state") and not (seam == "v" and "qkv" in kinds):
        pytest.skip(f"no seam {seam} in this family")
    ds = steering.difference(own, PLUS, MINUS, layer=layer, seam=seam, draws=3)
    plus, minus = (torch.stack([there(own, ids, layer, seam) for ids in part]) for part in (PLUS, MINUS))
    moved = plus.mean(0) - minus.mean(0)
    norm = float(torch.cat([plus, minus]).flatten(1).norm(dim=1).mean())
    assert np.allclose(ds.direction.values * float(ds.gap) * norm, moved, atol=2e-5 * float(moved.abs().max()))
    assert abs(float((ds.direction**2).sum()) - 1) < 1e-5 and abs(float(ds.norm) - norm) < 1e-4 * norm
    assert ds.attrs["seam"] == seam and int(ds.layer) == layer


def test_several_layers_are_an_axis_and_heads_are_those_chosen(lab):
    ds = steering.difference(lab, PLUS, MINUS, layer=[3, 0], seam="read", heads=[7, 2], token=2, draws=2)
    assert ds.direction.dims == ("layer", "head", "value") and ds["head"].values.tolist() == [7, 2]
    alone = steering.difference(lab, PLUS, MINUS, layer=0, seam="read", heads=[7, 2], token=2, draws=2)
    assert np.allclose(ds.direction.sel(layer=0), alone.direction)
    held = [lab.trace(ids).seams[0, "read"][2, [7, 2]].flatten().norm() for ids in [*PLUS, *MINUS]]
    assert abs(float(alone.norm) - float(torch.stack(held).mean())) < 1e-4


def test_sets_that_chance_would_have_made_are_said_to_be(lab):
    apart = [torch.cat([ids[:-1], torch.tensor([end])]) for ids in PLUS for end in (17, 90)]
    ds = steering.difference(lab, apart[::2], apart[1::2], layer=0, seam="resid_pre")
    assert float(ds.p) == 1 / 200 and not bool(ds.reproduced) and float(ds.gap) > float(ds.shuffled.max())
    mixed = steering.difference(lab, [*apart[:4], *apart[9:13]], [*apart[4:9], *apart[13:]], layer=0, seam="resid_pre")
    assert float(mixed.p) > 0.05 and bool(mixed.reproduced)


def test_the_spread_is_within_a_set(lab):
    ends = [17, 90]
    plus, minus = ([torch.tensor([3, 4, end])] * 3 for end in ends)
    ds = steering.difference(lab, plus, minus, layer=0, seam="resid_pre", draws=1)
    assert float(ds.spread) < 1e-6 < float(ds.gap)
    ds = steering.difference(lab, PLUS, MINUS, layer=1, seam="resid_post", draws=1)
    line = torch.tensor(ds.direction.values)
    along = [[float((there(lab, ids, 1, "resid_post") * line).sum()) for ids in part] for part in (PLUS, MINUS)]
    within = np.mean([np.var(part, ddof=1) for part in along]) ** 0.5
    assert float(ds.spread * ds.norm) == pytest.approx(within, rel=1e-3)


def test_labels_that_chance_did_not_change_count_against_the_direction(lab):
    """Of two prompts a set many orders give the sets themselves, or their opposite: as long as what was asked for."""
    pair = [torch.tensor([3, 4, end]) for end in (17, 90, 21, 55)]
    signs = torch.tensor([1.0, 1.0, -1.0, -1.0])
    orders = steering.directions.shuffled(signs, 40, 5)
    same = int(((orders == signs).all(1) | (orders == -signs).all(1)).sum())
    assert same > 3
    ds = steering.difference(lab, pair[:2], pair[2:], layer=0, seam="resid_pre", draws=40, seed=5)
    longer = int((ds.shuffled > ds.gap * (1 + 1e-4)).sum())
    assert float(ds.p) == (1 + same + longer) / 41


# --------------------------------------------------------------------------------------------------------- what acts


@pytest.mark.parametrize(("layer", "seam", "heads"), [(1, "resid_post", None), (1, "v", [5, 2]), (4, "gate", [3])])
def test_from_a_token_on_the_dose_is_added_also_in_decode(lab, layer, seam, heads):
    ds = steering.difference(lab, PLUS, MINUS, layer=layer, seam=seam, heads=heads, draws=1)
    crossed = "qkv" if seam == "v" else seam
    plain = lab.trace(IDS, layers=[layer])
    with lab.edit(steering.add(lab, ds, dose=0.7, start=4)):
        run = lab.generate(IDS, max_new_tokens=3, layers=[layer])
        first = lab.trace(IDS, layers=[layer])
    off = first.seams[layer, crossed] - plain.seams[layer, crossed]
    expected = torch.zeros_like(off)
    amount = 0.7 * float(ds.norm) * torch.from_numpy(ds.direction.values)
    if seam == "v":
        expected[4:, -9 * 14 :].view(7, 9, 14)[:, heads] = amount
    elif heads:
        expected[4:, heads] = amount
    else:
        expected[4:] = amount
    assert torch.allclose(off, expected, atol=1e-4)
    # In decode: what crosses less the dose is what the steered model would have handed over.
    with lab.edit(steering.add(lab, ds, dose=0.7, start=4)):
        again = lab.trace(run.ids, layers=[layer])
    assert torch.allclose(run.seams[layer, crossed], again.seams[layer, crossed], atol=1e-4)
    assert torch.equal(lab.trace(IDS, layers=[layer]).logits, plain.logits)


def test_a_state_is_changed_once_before_its_token(lab):
    ds = steering.difference(lab, PLUS, MINUS, layer=3, seam="state", heads=[1, 8], draws=1)
    amount = 0.5 * float(ds.norm) * torch.from_numpy(ds.direction.values)
    mine = edit.state(lambda old: old + amount, layer=3, at=5, heads=[1, 8])
    with lab.edit(mine):
        expected = lab.trace(IDS).logits
    with lab.edit(steering.add(lab, ds, dose=0.5, start=6)):
        got = lab.trace(IDS).logits
    assert torch.allclose(got, expected) and not torch.allclose(got, lab.trace(IDS).logits, atol=1e-3)


def test_a_head_that_was_selected_is_the_one_that_is_steered(lab):
    ds = steering.difference(lab, PLUS, MINUS, layer=1, seam="gated", draws=1)
    with lab.edit(steering.add(lab, ds.sel(head=6), dose=1.0)):
        run = lab.trace(IDS, layers=[1])
    off = (run.seams[1, "gated"] - lab.trace(IDS, layers=[1]).seams[1, "gated"]).norm(dim=-1).amax(0)
    assert off.nonzero().flatten().tolist() == [6]


def test_a_direction_of_something_else_is_refused(lab):
    ds = steering.difference(lab, PLUS, MINUS, layer=[1, 3], seam="read", draws=1)
    with pytest.raises(InputError, match="of one layer"):
        steering.add(lab, ds, dose=1)
    with pytest.raises(InputError, match="no direction"):
        steering.add(lab, ds.drop_vars("norm"), dose=1)
    with pytest.raises(InputError, match="of another model"):
        steering.add(lab, ds.sel(layer=1).isel(value=slice(3)), dose=1)
    with pytest.raises(InputError, match="dose"):
        steering.add(lab, ds.sel(layer=1), dose=float("nan"))
    state = steering.difference(lab, PLUS, MINUS, layer=1, seam="state", draws=1)
    with pytest.raises(InputError, match="after a token"):
        steering.add(lab, state, dose=1)


@pytest.mark.parametrize(
    ("given", "error", "match"),
    [
        (dict(layer=2, seam="state"), LayerError, "layer 2 is a gated attention"),
        (dict(layer=2, seam="read"), LayerError, "not steered here"),
        (dict(layer=1, heads=[0]), LayerError, "no heads"),
        (dict(layer=1, seam="v", heads=[9]), InputError, "out of range"),
        (dict(layer=[1, 2], seam="v"), InputError, "layers of one kind"),
        (dict(layer=[]), InputError, "no layer chosen"),
        (dict(layer=1, token=30), InputError, "token out of range"),
    ],
)
def test_places_that_do_not_exist_are_named(lab, given, error, match):
    with pytest.raises(error, match=match):
        steering.difference(lab, PLUS, MINUS, **given)


def test_two_sets_of_prompts_are_needed(lab):
    with pytest.raises(InputError, match="two sets"):
        steering.difference(lab, PLUS[0].tolist(), MINUS, layer=0)
    with pytest.raises(InputError, match="two sets"):
        steering.difference(lab, PLUS, MINUS[:1], layer=0)


# ------------------------------------------------------------------------------------------------------------ probes


def test_a_probe_finds_what_is_there_and_says_where_nothing_is(lab):
    pytest.importorskip("sklearn", reason="the extra `probes` is not installed")
    told = [torch.cat([ids, torch.tensor([end])]) for end in (17, 90) for ids in (PLUS + MINUS)[:12]]
    ds = steering.probe(lab, told[:12], told[12:], layer=0, seam="resid_pre", folds=4)
    assert float(ds.accuracy) == 1 and float(ds.p) == 0.05 and not bool(ds.reproduced)
    assert float(ds.low) < 1 and float(ds.high) == 1 and float(ds.shuffled.mean()) < 0.7
    assert abs(float((ds.direction**2).sum()) - 1) < 1e-5
    blind = steering.probe(lab, told[::2], told[1::2], layer=0, seam="resid_pre", folds=4)
    assert bool(blind.reproduced) and float(blind.accuracy) < 0.75
    for each in (ds, blind):  # labels that do as well count against it
        assert float(each.p) == (1 + int((each.shuffled.values >= float(each.accuracy)).sum())) / 20
    assert (blind.shuffled.values == float(blind.accuracy)).any()
    wide = steering.probe(lab, told[::2], told[1::2], layer=3, seam="state", folds=4)  # more numbers than prompts
    assert float(wide.shuffled.mean()) < 0.7
    mean = steering.difference(lab, told[:12], told[12:], layer=0, seam="resid_pre", draws=1)
    assert float((mean.direction * ds.direction).sum()) > 0.9  # one token apart: the probe points from one to the other


def test_a_probe_in_the_basis_of_its_rows_is_that_of_all_numbers(lab):
    linear = pytest.importorskip("sklearn.linear_model", reason="the extra `probes` is not installed")
    ds = steering.probe(lab, PLUS[:6], MINUS, layer=3, seam="state", folds=2, draws=1, strength=3.0)
    rows = torch.stack([there(lab, ids, 3, "state").flatten() for ids in [*PLUS[:6], *MINUS]]).double()
    rows = rows - rows.mean(0)
    held = torch.stack([there(lab, ids, 3, "state").flatten() for ids in [*PLUS[:6], *MINUS]])
    scale = float(held.norm(dim=1).mean())
    fitted = linear.LogisticRegression(C=3.0, max_iter=5000, tol=1e-10).fit(rows.numpy() / scale, [1] * 6 + [-1] * 6)
    expected = fitted.coef_[0] / np.linalg.norm(fitted.coef_)
    assert np.allclose(ds.direction.values.flatten(), expected, atol=1e-3 * abs(expected).max())


def test_heads_have_probes_of_their_own(lab):
    pytest.importorskip("sklearn", reason="the extra `probes` is not installed")
    ds = steering.probe(lab, PLUS, MINUS, layer=[0, 3], seam="state", heads=[4, 1], by_head=True, folds=3, draws=2)
    alone = steering.probe(lab, PLUS, MINUS, layer=3, seam="state", heads=[1], folds=3, draws=2)
    assert ds.accuracy.dims == ("layer", "head") and ds.direction.dims == ("layer", "head", "key", "value")
    assert float(ds.accuracy.sel(layer=3, head=1)) == float(alone.accuracy)
    assert np.allclose(ds.direction.sel(layer=3, head=1), alone.direction[0], atol=1e-6)
    assert steering.add(lab, ds.sel(layer=3, head=1), dose=1, start=2).heads == (1,)


def test_without_scikit_learn_the_extra_is_named(lab, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.linear_model", None)
    with pytest.raises(BackendError, match=r"\[probes\]"):
        steering.probe(lab, PLUS, MINUS, layer=0)


def test_a_fold_needs_prompts(lab):
    pytest.importorskip("sklearn", reason="the extra `probes` is not installed")
    with pytest.raises(InputError, match="for every fold") as told:
        steering.probe(lab, PLUS, MINUS, layer=0, folds=4)
    assert "folds=3" in str(told.value)
    with pytest.raises(InputError, match="vectors of heads"):
        steering.probe(lab, PLUS, MINUS, layer=0, folds=2, by_head=True)


# ------------------------------------------------------------------------------------------------------------- doses


@pytest.mark.parametrize("seam", ["resid_post", "v", "state"])
def test_a_row_of_the_batch_is_the_prompt_under_its_dose(lab, seam):
    ds = steering.difference(lab, PLUS, MINUS, layer=3, seam=seam, draws=1)
    found = steering.doses(lab, [IDS, PLUS[1]], ds, doses=[0.4, -1], of=[7, 9], against=11, start=-2, controls=2, new=3)
    for n, (ids, own) in enumerate(((IDS, 7), (PLUS[1], 9))):
        plain = lab.trace(ids).logits[-1]
        for m, dose in enumerate((0.4, -1)):
            with lab.edit(steering.add(lab, ds, dose=dose, start=len(ids) - 2)):
                row = lab.trace(ids).logits[-1]
                grown = lab.generate(ids, max_new_tokens=3).ids
            at = found.isel(arrow=0, dose=m, sample=n)
            assert abs(float(at.score) - float(row[own] - row[11])) < 1e-4
            assert abs(float(at.moved) - float(row[own] - row[11] - plain[own] + plain[11])) < 1e-4
            assert abs(float(at.probability) - float(row.softmax(-1)[own])) < 1e-5
            base, said = plain.log_softmax(-1), row.log_softmax(-1)
            assert abs(float(at.divergence) - float((base.exp() * (base - said)).sum())) < 1e-4
            logits = lab.trace(grown, logits="all").logits.log_softmax(-1)
            lost = -logits[torch.arange(len(ids) - 1, len(grown) - 1), grown[len(ids) :]].mean()
            assert abs(float(at.perplexity) / float(lost.exp()) - 1) < 1e-3


def test_a_dose_of_nothing_moves_nothing(lab):
    ds = steering.difference(lab, PLUS, MINUS, layer=1, draws=1)
    found = steering.doses(lab, [IDS], ds, doses=[0.0], of=7, controls=1, new=2).isel(dose=0, sample=0)
    assert np.allclose(found.moved, 0, atol=1e-5) and np.allclose(found.divergence, 0, atol=1e-5)
    assert abs(float(found.perplexity[0]) - float(found.plain_perplexity)) < 1e-3
    assert float(found.p[0] if found.p.ndim else found.p) == 1 and found.attrs["reproduced"] == 1


def test_random_directions_unmask_one_that_is_none(lab):
    ds = steering.difference(lab, PLUS, MINUS, layer=4, draws=1)
    generator = torch.Generator().manual_seed(3)
    noise = torch.randn(44, generator=generator)
    noisy = ds.assign(direction=("channel", (noise / noise.norm()).numpy()))
    rows = lab.unembedding.weight[7] - lab.unembedding.weight[11]
    aimed = ds.assign(direction=("channel", (rows / rows.norm()).numpy()))
    asked = dict(doses=[0.5, 1], of=7, against=11, controls=19, new=0)
    none, real = (steering.doses(lab, [IDS, *PLUS[:3]], each, **asked) for each in (noisy, aimed))
    assert none.attrs["reproduced"] == 1 and float(none.p[1]) > 0.05
    assert real.attrs["reproduced"] == 0 and float(real.p[1]) == 0.05 and float(real.moved[0].min()) > 0
    assert bool(none.perplexity.isnull().all())
    curve = steering.curves(real)
    others = real.moved.mean("sample")[1:]
    assert np.allclose(curve.high.sel(term="random directions"), others.max("arrow"))
    assert np.allclose(curve.moved.sel(term="direction"), real.moved[0].mean("sample"))
    assert bool((curve.low <= curve.moved).all()) and bool((curve.moved <= curve.high).all())


def test_what_doses_are_asked_of_is_checked(lab):
    ds = steering.difference(lab, PLUS, MINUS, layer=1, draws=1)
    with pytest.raises(InputError, match="several prompts"):
        steering.doses(lab, IDS.tolist(), ds, doses=[1], of=7)
    with pytest.raises(InputError, match="one for every prompt"):
        steering.doses(lab, [IDS], ds, doses=[1], of=[7, 8])
    with pytest.raises(InputError, match="no dose"):
        steering.doses(lab, [IDS], ds, doses=[], of=7)
    with pytest.raises(InputError, match="no curve"):
        steering.curves(ds)


@pytest.fixture(scope="module")
def nano():
    return labkit.load("nano")


def on_nano(nano, seam="v", **options):
    rows = [tiny.ids(9, seed=n, vocab=90) for n in range(4)]
    ds = steering.difference(nano, rows[:2], rows[2:], layer=1, seam=seam, draws=1)
    if seam == "state":
        ds = ds.isel(head=[2])
    return steering.doses(nano, rows, ds, doses=[0.5, -1], of=[3, 4, 5, 6], start=-2, controls=2, new=2, **options)


@pytest.mark.parametrize("left", [0, 2, 3])
def test_doses_that_were_killed_go_on_to_the_same_table(nano, tmp_path, monkeypatch, left):
    whole, real, calls = on_nano(nano), measuring._before, []

    def dies(*given):
        calls.append(1)
        if len(calls) == left + 1:
            raise KeyboardInterrupt
        return real(*given)

    monkeypatch.setattr(measuring, "_before", dies)
    with pytest.raises(KeyboardInterrupt):
        on_nano(nano, store=tmp_path)
    assert len(list(tmp_path.glob("unit-*"))) == left
    assert on_nano(nano, store=tmp_path).identical(whole) and len(calls) == 5
    with pytest.raises(InputError, match="this folder belongs to another sweep\n  got: different options"):
        on_nano(nano, "resid_post", store=tmp_path)


@pytest.mark.parametrize("seam", ["v", "state"])
def test_doses_on_a_cluster_are_the_same_table(nano, tmp_path, seam):
    distributed = pytest.importorskip("distributed", reason="the extra `cluster` is not installed")
    cluster = distributed.LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=":0", silence_logs=50)
    with cluster, distributed.Client(cluster) as client:
        spread = on_nano(nano, seam, client=client, store=tmp_path)
        with pytest.raises(InputError, match="workers write into a folder"):
            on_nano(nano, seam, client=client)
    xarray.testing.assert_allclose(spread.drop_attrs(), on_nano(nano, seam).drop_attrs(), atol=1e-4)
    assert len(list(tmp_path.glob("unit-*"))) == 4


# --------------------------------------------------------------------------------------------------- states that begin


def states(lab, layers=(0, 3), size=1.0):
    generator = torch.Generator().manual_seed(2)
    shape = (lab.spec.value_heads, lab.spec.dk, lab.spec.dv)
    return {layer: size * torch.randn(shape, generator=generator) for layer in layers}


def test_a_state_before_the_first_token_is_known_to_the_readings(own):
    snap = steering.begin(own, states(own))
    run = own.resume(snap, IDS)
    assert run.start.length == 0 and torch.equal(run.start.state[3], states(own)[3])
    ds = deltanet.written_by(run, layer=3, segments=["text"] * len(run))
    assert float(ds.attrs["parity"]) < 1e-4 and ds.segment.values.tolist() == ["text", "before"]
    assert bool((abs(ds.share.sum("segment") - 1) < 1e-4).all()) and float(ds.part_norm.sel(segment="before").min()) > 0
    assert not torch.allclose(run.logits, own.trace(IDS).logits, atol=1e-2)
    # Token by token, and as branches of one snapshot, it is the same.
    held = own.restore(snap)
    for token in IDS:
        last = own.trace(token[None], layers=[], cache=held).logits
    assert torch.allclose(last, run.logits, atol=1e-3)
    fork = own.fork(snap, 2)[1]
    assert torch.equal(own.trace(IDS, cache=fork).logits, run.logits)


def test_what_is_generated_after_a_state_is_read_after_it(own):
    """Token by token what the likeliest is after the state and all before; the same alone and as a row of a batch."""
    snap, ids = steering.begin(own, states(own, size=3.0)), IDS[:6]
    grown = own.generate(ids, max_new_tokens=5, start=snap, states=[0])
    for length in range(6, 11):
        said = own.resume(snap, grown.ids[:length], layers=[]).logits
        assert int(said.argmax()) == int(grown.ids[length])
    assert grown.ids.tolist() != own.generate(ids, max_new_tokens=5).ids.tolist()
    whole = own.resume(snap, grown.ids)
    assert torch.allclose(grown.logits, whole.logits, atol=1e-3) and grown.start.length == 0
    assert torch.equal(grown.start.state[0], whole.start.state[0]) and bool((grown.start.state[0] != 0).any())
    for layer in own.spec.deltanet_layers:
        assert deltanet.memory(grown, layer=layer).attrs["parity"] < 1e-4
    both = own.generate([ids, PLUS[0][:6]], max_new_tokens=5, start=snap)
    assert torch.equal(both[0].ids, grown.ids)
    assert torch.equal(both[1].ids, own.generate(PLUS[0][:6], max_new_tokens=5, start=snap).ids)
    again = own.generate(ids, max_new_tokens=5, start=snap)
    assert torch.equal(again.ids, grown.ids), "a snapshot is not written into"
    own.generate(ids[:1], max_new_tokens=2, start=snap)


def test_what_is_no_state_before_the_first_token_begins_nothing(lab):
    snap, held = steering.begin(lab, states(lab)), lab.cache()
    lab.trace(IDS, cache=held)
    for given, told in (
        (lab.snapshot(held), r"got: a snapshot of 11 tokens\n.*steering.begin\(lab, tuned\).*\n.*lab.step"),
        (held, r"got: HybridCache\n  expected: what steering.begin"),
        ({0: torch.zeros(2)}, "got: dict"),
    ):
        with pytest.raises(InputError, match=f"generating begins with a state before the first token\n  {told}"):
            lab.generate(IDS, start=given)
    with pytest.raises(InputError, match="before padding would decay along it\n  got: 5 and 11 tokens"):
        lab.generate([IDS, IDS[:5]], start=snap)


def test_an_empty_state_is_none(own):
    snap = steering.begin(own, {0: torch.zeros_like(states(own)[0])})
    assert torch.allclose(own.resume(snap, IDS).logits, own.trace(IDS).logits, atol=1e-5)
    assert own.trace(IDS, cache=own.cache()).start == cache.snapshots.Start()


def test_states_of_something_else_are_refused(lab):
    with pytest.raises(LayerError, match="gated attention"):
        steering.begin(lab, {2: states(lab)[0]})
    with pytest.raises(InputError, match="no state of layer 0"):
        steering.begin(lab, {0: states(lab)[0][:5]})
    with pytest.raises(InputError, match="no state of layer 0"):
        steering.begin(lab, {0: states(lab)[0] * torch.nan})
    with pytest.raises(InputError, match="no states"):
        steering.begin(lab, states(lab)[0])


def test_answers_are_judged_as_if_alone(own):
    start = steering.tune(own, EXAMPLES, steps=2)
    ds = steering.judged(own, EXAMPLES, starts={"none": None, "tuned": start})
    for n, (prompt, answer) in enumerate(EXAMPLES):
        ids = torch.cat([prompt, answer])
        for name, run in (("none", own.trace(ids, logits="all")), ("tuned", None)):
            logits = (run or own.resume(steering.begin(own, start), ids, logits="all")).logits[len(prompt) - 1 : -1]
            lost = -logits.log_softmax(-1)[torch.arange(len(answer)), answer].mean()
            assert abs(float(ds.loss.sel(start=name)[n]) - float(lost)) < 1e-4
            assert bool(ds.right.sel(start=name)[n]) == bool((logits.argmax(-1) == answer).all())


def test_the_slope_is_that_of_the_loss(own):
    fit = tuning._Fit.fresh(own, [0, 3], [0])
    at = torch.stack(list(states(own, size=0.1).values()))
    rows = steering.beginning.understood(own, EXAMPLES, "test")
    _, slope = fit._slope(at, rows)
    way, off = slope / slope.norm(), []
    for step in (1e-2, 3e-3, 1e-3, 3e-4):  # rounding or curvature, whichever is less
        ends = [fit._loss(at + sign * step * way, rows) for sign in (1, -1)]
        off.append(abs((ends[0] - ends[1]) / (2 * step * float(slope.norm())) - 1))
    assert min(off) < 2e-2 and float(slope[1].norm()) > 0


def test_a_tuning_lowers_the_loss_in_the_places_it_was_given(lab):
    ds = steering.tune(lab, EXAMPLES, layers=[3], heads=[2, 7], steps=12, rate=0.3)
    assert float(ds.loss[-1]) < float(ds.loss[0]) - 0.1 and ds.layer.values.tolist() == [3]
    norms = np.sqrt((ds.state**2).sum(("key", "value")))[0]
    assert np.flatnonzero(norms.values).tolist() == [2, 7]
    plain = steering.judged(lab, EXAMPLES, starts={"none": None}).loss.mean()
    assert abs(float(ds.loss[0]) - float(plain)) < 1e-4  # it begins with the model as it is
    again = steering.tune(lab, EXAMPLES, layers=[3], heads=[2, 7], steps=12, rate=0.3)
    assert np.array_equal(ds.state, again.state)
    heavy = steering.tune(lab, EXAMPLES, layers=[3], heads=[2, 7], steps=12, rate=0.3, decay=1.0)
    assert float((heavy.state**2).sum()) < float((ds.state**2).sum())
    drawn = steering.random_start(ds, seed=1)
    assert np.allclose(np.sqrt((drawn.state**2).sum(("key", "value"))), norms, atol=1e-5)
    assert not np.allclose(drawn.state, ds.state)


def test_held_out_examples_stop_it_and_choose_the_states(lab):
    others = steering.shuffled_answers(EXAMPLES, seed=4)
    ds = steering.tune(lab, EXAMPLES, held_out=others, steps=60, rate=0.5, patience=3)
    best = int(np.argmin(ds.held_out_loss.values))
    assert ds.attrs["step"] == best and ds.sizes["step"] == best + 4 < 60
    kept = steering.judged(lab, others, starts={"kept": ds}).loss.mean()
    assert abs(float(kept) - float(ds.held_out_loss.min())) < 1e-4


def test_answers_are_exchanged_and_nothing_else(lab):
    mixed = steering.shuffled_answers(EXAMPLES, seed=1)
    assert [prompt.tolist() for prompt, _ in mixed] == [prompt.tolist() for prompt, _ in EXAMPLES]
    key = lambda examples: sorted(answer.tolist() for _, answer in examples)  # noqa: E731
    assert key(mixed) == key(EXAMPLES) and all(a is not b for (_, a), (_, b) in zip(mixed, EXAMPLES, strict=True))


def test_no_example_keeps_its_own_answer(lab):
    for count in (2, 3, 4, 7):
        pairs = [([n], [100 + n]) for n in range(count)]
        for seed in range(9):
            assert all(answer != [100 + prompt[0]] for prompt, answer in steering.shuffled_answers(pairs, seed=seed))
    for wrong, match in (([(IDS, [3]), (IDS, [3])], "one answer"), ([1, 2], "pairs"), ([("a", "b", "c")] * 2, "pairs")):
        with pytest.raises(InputError, match=match):
            steering.shuffled_answers(wrong)


class Killed(BaseException):
    """What ends a process in the middle."""


@pytest.mark.parametrize("after", [1, 4, 5])
def test_a_tuning_that_was_interrupted_goes_on_to_the_same_states(lab, tmp_path, monkeypatch, after):
    asked = dict(held_out=EXAMPLES[:2], steps=7, every=3)
    whole = steering.tune(lab, EXAMPLES, **asked)
    calls, real = [], tuning._Fit.step

    def step(self, *args):
        if len(calls) == after:
            raise Killed
        calls.append(1)
        real(self, *args)

    monkeypatch.setattr(tuning._Fit, "step", step)
    with pytest.raises(Killed):
        steering.tune(lab, EXAMPLES, checkpoint=tmp_path, **asked)
    monkeypatch.setattr(tuning._Fit, "step", lambda self, *args: (calls.append(1), real(self, *args))[1])
    ds = steering.tune(lab, EXAMPLES, checkpoint=tmp_path, **asked)
    assert len(calls) == 7 and np.array_equal(ds.state, whole.state) and np.array_equal(ds.loss, whole.loss)
    assert ds.attrs == whole.attrs and len(list(tmp_path.glob("*.safetensors"))) == 1


def test_a_folder_of_another_tuning_or_a_damaged_one_is_refused(lab, tmp_path):
    steering.tune(lab, EXAMPLES, checkpoint=tmp_path, steps=2)
    with pytest.raises(InputError, match="different rate"):
        steering.tune(lab, EXAMPLES, checkpoint=tmp_path, steps=2, rate=0.5)
    longer = steering.tune(lab, EXAMPLES, checkpoint=tmp_path, steps=4)
    assert np.array_equal(longer.state, steering.tune(lab, EXAMPLES, steps=4).state)
    file = next(tmp_path.glob("*.safetensors"))
    raw = bytearray(file.read_bytes())
    raw[-3] ^= 1
    file.write_bytes(raw)
    with pytest.raises(CheckpointError, match="damaged"):
        steering.tune(lab, EXAMPLES, checkpoint=tmp_path, steps=4)


def test_nothing_of_a_tuning_is_left_on_the_model(lab):
    before = lab.trace(IDS).logits
    steering.tune(lab, EXAMPLES, steps=1)
    assert torch.equal(lab.trace(IDS).logits, before) and tiny.hooks(lab.model) == []
    assert not any(weight.requires_grad or weight.grad is not None for weight in lab.model.parameters())


@pytest.mark.parametrize("examples", ["text", [], [("a",)], ["ab"]])
def test_examples_are_pairs(lab, examples):
    with pytest.raises(InputError, match="pairs of prompt and answer"):
        steering.tune(lab, examples)


# ------------------------------------------------------------------------------------------------ what is named twice


def test_a_layer_that_is_named_twice_is_read_once(lab):
    one = steering.difference(lab, PLUS, MINUS, layer=1, draws=3)
    two = steering.difference(lab, PLUS, MINUS, layer=[1, 1], draws=3)
    assert two.sizes["layer"] == 2 and all(np.array_equal(two.direction[n], one.direction) for n in (0, 1))


def test_a_state_of_a_layer_that_is_named_twice_is_the_tuned_one(lab):
    once, twice = (steering.tune(lab, EXAMPLES, layers=layers, steps=3) for layers in ([3, 1], [3, 1, 3]))
    assert once.layer.values.tolist() == twice.layer.values.tolist() == [1, 3]
    assert np.array_equal(once.state, twice.state) and bool((twice.state != 0).any(("head", "key", "value")).all())


def test_a_tuning_needs_no_mode_of_the_caller(lab):
    with torch.no_grad():
        within = steering.tune(lab, EXAMPLES, steps=2)
    assert np.array_equal(within.state, steering.tune(lab, EXAMPLES, steps=2).state)


def test_one_place_one_head_and_named_beginnings_are_asked_for(lab):
    ds = steering.difference(lab, PLUS, MINUS, layer=1, draws=3)
    told = steering.doses(lab, [IDS], ds, doses=[1], of=3, controls=1, new=0)
    by_head = steering.probe(lab, PLUS, MINUS, layer=1, seam="v", by_head=True, folds=2, draws=1)
    tuned = steering.tune(lab, EXAMPLES, steps=1)
    for wrong, match in (
        (lambda: steering.difference(lab, PLUS, MINUS, layer=1, token=[1, 2]), "token is a whole number"),
        (lambda: steering.difference(lab, PLUS, MINUS, layer=1, token=None), "token is a whole number"),
        (lambda: steering.doses(lab, [IDS], ds, doses=[1], of=3, start=[1, 2]), "start is a whole number"),
        (lambda: steering.curves(told.isel(arrow=0)), "no curve over doses"),
        (lambda: steering.probe(lab, (each for each in PLUS), MINUS, layer=1), "two sets of prompts"),
        (lambda: steering.add(lab, by_head, dose=1), r"one of them: direction.sel\(head=...\)"),
        (lambda: steering.random_start({1: torch.zeros(9, 10, 14)}), "no tuned states"),
        (lambda: steering.judged(lab, EXAMPLES, starts=[None]), "beginnings have names"),
        (lambda: steering.judged(lab, EXAMPLES, starts={}), "beginnings have names"),
        (lambda: steering.judged(lab, EXAMPLES, starts=tuned), "beginnings have names"),
    ):
        with pytest.raises(InputError, match=match):
            wrong()
