"""Contributions are what a source adds; likeness has its limits; classes find heads that were built to be them."""

import pytest
import tiny
import torch

from labkit import attention, deltanet, edit
from labkit.attention import kinds
from labkit.errors import InputError, LayerError

IDS = tiny.ids(70)


@pytest.mark.parametrize("warm", [False, True], ids=["cold", "warm"])
def test_a_contribution_is_the_norm_of_what_the_source_adds(lab, warm):
    run = lab.trace(IDS)
    if warm:
        cache = lab.cache()
        lab.trace(IDS[:30], cache=cache)
        run = lab.trace(IDS[30:], cache=cache)
    ds = attention.contribution(run, lab, layer=4, heads=[5, 2], rows=[7, -1])
    x, out = attention.inputs(run, 4), lab.model.model.layers[4].self_attn.o_proj
    for i, head in enumerate((5, 2)):
        for n, t in enumerate((7, len(run) - 1)):
            for source in (0, int(run.positions[t])):
                vector = torch.zeros(6, 16)
                weight = float(ds.weight[i, n, source])
                vector[head] = weight * x.gate[t, head] * x.v[source, head // 3]
                added = out(vector.flatten()).norm()
                assert abs(float(ds.contribution_norm[i, n, source]) - float(added)) < 1e-5
    assert (
        abs(ds.weight.values - attention.pattern(run, layer=4, heads=[5, 2], rows=[7, -1]).weight.values).max() < 1e-6
    )


def test_contributions_of_another_model_are_refused(lab):
    other = tiny.make_lab(tiny.model(hidden_size=48), "other")
    with pytest.raises(InputError, match="(?s)came from another model.*tiny.*other"):
        attention.contribution(lab.trace(IDS), other, layer=2)
    with pytest.raises(LayerError, match="layer 1 is a Gated DeltaNet layer"):
        attention.contribution(lab.trace(IDS), lab, layer=1)


def test_similarity_is_the_overlap_of_the_maps(lab):
    run = lab.trace(IDS)
    ds = attention.similarity(run, layer=2, rows=[5, 40, 69])
    p = torch.tensor(attention.pattern(run, layer=2, rows=[5, 40, 69]).weight.values)
    expected = torch.minimum(p[:, None], p[None]).sum(-1).mean(-1)
    assert (torch.tensor(ds.similarity.values) - expected).abs().max() < 1e-6
    assert abs(ds.similarity.values.diagonal() - 1).max() < 1e-5
    assert ds.kv_head.values.tolist() == [0, 0, 0, 1, 1, 1] and ds.attrs["rows"] == "3 of 70, chosen"
    with lab.edit(edit.set("q", layer=2, value=0.0)):
        flat = attention.similarity(lab.trace(IDS), layer=2)
    assert float(flat.similarity.min()) > 1 - 1e-5, "heads that ask for nothing attend alike"


def test_scores_find_what_was_built_in(lab):
    """A head that is edited to look at the first token, and heads that look everywhere, are called so."""
    ids = torch.arange(2, 200)
    free = attention.scores(lab, pool=ids, length=40, samples=2, seed=1)
    assert free.previous.shape == (2, 6) and free.layer.values.tolist() == [2, 4]
    with lab.edit(edit.set("q", layer=2, value=0.0)):
        flat = attention.classes(attention.scores(lab, pool=ids, length=40, samples=2))
    assert set(flat.kind.sel(layer=2).values.tolist()) == {"diffuse"}
    assert abs(flat.diffuse.sel(layer=2) - 1).max() < 1e-5 and abs(flat.diffuse_spread.sel(layer=2)).max() < 1e-5
    mean = sum(4 / (t + 1) for t in range(16, 80)) / 64
    assert abs(flat.sink.sel(layer=2) - mean).max() < 1e-5
    first = [edit.set("k", layer=4, value=30.0, tokens=[0]), edit.set("q", layer=4, value=30.0)]
    with lab.edit(*first, edit.set("k", layer=4, value=-30.0, tokens=range(1, 80))):
        sunk = attention.classes(attention.scores(lab, pool=ids, length=40, samples=2))
    assert set(sunk.kind.sel(layer=4).values.tolist()) == {"sink"}


def test_previous_and_induction_are_read_at_the_right_places(lab, monkeypatch):
    def built(x, *, rows, heads, first=0):
        count = len(x.k)
        p = torch.zeros(len(heads), count, count)
        places = torch.arange(1, count)
        p[0, places, places - 1] = 1
        after = torch.arange(40, count)
        p[1, after, after - 39] = 1
        return p, torch.zeros(count, len(heads), 16)

    monkeypatch.setattr(kinds, "weights", built)
    monkeypatch.setattr(type(lab.trace(IDS)), "prove", lambda *args: (0.0, 1.0))
    ds = attention.classes(attention.scores(lab, pool=torch.arange(2, 200), length=40, samples=1))
    assert float(ds.previous[0, 0]) == 1 and float(ds.induction[0, 1]) == 1
    assert ds.kind.values[0].tolist()[:2] == ["previous", "induction"]


def test_retrieval_is_the_weight_on_the_answer(lab):
    run = lab.trace(IDS)
    ds = attention.scores(lab, pool=torch.arange(2, 200), length=40, samples=1, facts=[(IDS, -1, 12)])
    for i, layer in enumerate((2, 4)):
        expected = attention.pattern(run, layer=layer, rows=-1).weight.values[:, 0, 12]
        assert abs(ds.retrieval.values[i] - expected).max() < 1e-5


def test_scores_of_other_samples_agree_within_their_spread(lab):
    a, b = (attention.scores(lab, pool=torch.arange(2, 200), length=60, samples=6, seed=seed) for seed in (0, 7))
    for name in ("sink", "previous", "induction", "local", "diffuse"):
        gap = abs(a[name] - b[name])
        assert float(gap.max()) < 4 * float((a[f"{name}_spread"] + b[f"{name}_spread"]).max()) / 6**0.5 + 1e-3, name


def test_misuse(lab):
    with pytest.raises(InputError, match="(?s)of attention layers.*\\[1\\]"):
        attention.scores(lab, layers=[1])
    with pytest.raises(InputError, match="too few tokens"):
        attention.scores(lab, pool=[1, 2, 3])
    with pytest.raises(InputError, match="rows too short"):
        attention.scores(lab, length=10)


# ------------------------------------------------------------------------------------------------------- online


@pytest.mark.parametrize("method", ["tiles", None])
@pytest.mark.parametrize("rows", [None, 5], ids=["all rows", "some rows"])
def test_the_summary_online_is_the_summary(lab, rows, method):
    ids = tiny.ids(300)
    run = lab.trace(ids)
    for chunk in (64, 128):
        ds = lab.stream(
            ids, probes=[attention.watch(block=64, rows=rows, method=method), deltanet.gates()], chunk=chunk
        )
        for layer in (2, 4):
            mine = ds.sel(layer=layer)
            places = {63 - i * 64 // 5 for i in range(5)}
            taken = None if rows is None else [t for t in range(300) if t % 64 in places or t == 299]
            whole = attention.summary(run, layer=layer, block=64, rows=taken, method="tiles")
            if rows is not None and chunk == 64:
                assert mine.rows_taken.values.tolist() == whole.rows_taken.values.tolist()
            if rows is not None and chunk == 128:
                continue
            for name in ("entropy", "entropy_low", "entropy_high", "support", "sink", "local", "distance", "gate"):
                assert abs(mine[name].values.T - whole[name].values).max() < 1e-4 * abs(whole[name].values).max(), name
            assert abs(mine.pooled.transpose("query_head", ...).values - whole.pooled.values).max() < 1e-5
            bins = whole.bin.size
            assert (
                abs(mine.histogram.transpose("query_head", ...).values[..., :bins] - whole.histogram.values).max()
                < 1e-5
            )


def test_a_stopped_stream_goes_on_with_the_identical_summary(lab, tmp_path):
    ids = tiny.ids(300)
    make = lambda: [attention.watch(block=32)]  # noqa: E731
    whole = lab.stream(ids, probes=make(), chunk=64)
    calls = []

    def die(*_):
        calls.append(1)
        if len(calls) > 3:
            raise SystemError("killed")

    handle = lab.model.model.layers[1].mlp.register_forward_hook(die)
    with pytest.raises(SystemError):
        lab.stream(ids, probes=make(), chunk=64, checkpoint=tmp_path, every=1)
    handle.remove()
    assert lab.stream(ids, probes=make(), chunk=64, checkpoint=tmp_path).identical(whole)


def test_misuse_online(lab):
    with pytest.raises(LayerError, match="(?s)gated attention layers.*\\[1\\].*deltanet.gates"):
        lab.stream(IDS, probes=[attention.watch(layers=[1])])
    with pytest.raises(InputError, match="(?s)rows per block.*got: 65"):
        attention.watch(rows=65)


def test_a_contribution_is_not_touched_by_an_edit_of_now(lab):
    """The output projection is read, not run: an edit in force changes nothing of a run made before it."""
    run = lab.trace(IDS)
    before = attention.contribution(run, lab, layer=2)
    with lab.edit(edit.scale("gated", layer=2, heads=[1], factor=0.0)):
        lab.trace(IDS[:16])
        after = attention.contribution(run, lab, layer=2)
    assert (before.contribution_norm == after.contribution_norm).all() and float(before.contribution_norm[1].max()) > 0
    assert before.weight.attrs["symbol"] == "P"


def test_scores_are_made_where_the_seams_are(lab, monkeypatch):
    """No vector of the CPU meets a tensor of the device: run on the meta device, which knows shapes alone."""
    run = lab.trace(IDS)
    x = attention.inputs(run, 2)
    p, mixed = attention.weights(x, rows=range(70), heads=range(6))
    there = [part.to("meta") for part in (p, mixed)]
    moved = type(x)(*(part.to("meta") for part in (x.q, x.k, x.v, x.gate)))
    monkeypatch.setattr(kinds, "inputs", lambda run, layer: moved)
    monkeypatch.setattr(kinds, "weights", lambda *args, **options: there)
    monkeypatch.setattr(type(run), "prove", lambda *args: (0.0, 1.0))
    found = kinds._row(run, 2, 35)
    assert {value.device.type for value in found.values()} == {"meta"} and found["local"].shape == (6,)


def test_an_opened_window_loses_no_distance():
    model = tiny.model()
    model.config.max_position_embeddings = 4096
    lab = tiny.make_lab(model)
    ds = lab.stream(tiny.ids(1536), probes=[attention.watch(block=256, layers=[2])], chunk=512, progress=False)
    assert float(abs(ds.histogram.sum("bin") - 1).max()) < 1e-5
