"""Contributions are what a source adds; likeness has its limits; classes find heads that were built to be them."""

import dataclasses
from types import SimpleNamespace

import pytest
import tiny
import torch
import xarray

from labkit import attention, edit
from labkit.attention import kinds
from labkit.errors import InputError, LayerError, ParityError
from labkit.identity import Identity

IDS = tiny.ids(70)


@pytest.mark.parametrize("warm", [False, True], ids=["cold", "warm"])
def test_a_contribution_is_the_norm_of_what_the_source_adds(lab, warm):
    run = lab.trace(IDS)
    if warm:
        cache = lab.cache()
        lab.trace(IDS[:30], cache=cache)
        run = lab.trace(IDS[30:], cache=cache)
    ds = attention.contribution(run, lab, layer=4, heads=[4, 1], rows=[7, -1])
    x, out = attention.inputs(run, 4), lab.model.model.layers[4].self_attn.o_proj
    for i, head in enumerate((4, 1)):
        for n, t in enumerate((7, len(run) - 1)):
            for source in (0, int(run.positions[t])):
                vector = torch.zeros(6, 16)
                weight = float(ds.weight[i, n, source])
                vector[head] = weight * x.gate[t, head] * x.v[source, head // 3]
                added = out(vector.flatten()).norm()
                assert abs(float(ds.contribution_norm[i, n, source]) - float(added)) < 1e-5
    assert (
        abs(ds.weight.values - attention.pattern(run, layer=4, heads=[4, 1], rows=[7, -1]).weight.values).max() < 1e-6
    )


def test_contributions_of_another_model_are_refused(lab):
    other = tiny.make_lab(tiny.model(hidden_size=48), "other")
    with pytest.raises(InputError, match="(?s)came from another model.*tiny.*other"):
        attention.contribution(lab.trace(IDS), other, layer=2)
    with pytest.raises(LayerError, match="layer 1 is a Gated DeltaNet layer"):
        attention.contribution(lab.trace(IDS), lab, layer=1)


def test_contributions_through_other_weights_are_refused(lab):
    """A lab of the same shape and another seed: what its projection makes is not what the run added."""
    run, other = dataclasses.replace(lab.trace(IDS), identity=Identity()), tiny.make_lab(tiny.model(seed=7))
    said = (
        r"output projection of layer 2.*relative error.*at most 0.0001.*try: attention.contribution\(lab.trace\(run.ids"
    )
    with pytest.raises(ParityError, match=f"(?s){said}") as caught:
        attention.contribution(run, other, layer=2, heads=0, rows=-1)
    assert eval(caught.value.hint, dict(attention=attention, lab=other, run=run)).attrs["parity"] < 1e-5
    with lab.edit(edit.scale("mixer_out", layer=2, factor=1.01)), pytest.raises(ParityError):
        attention.contribution(lab.trace(IDS), lab, layer=2)
    ds = attention.contribution(run, lab, layer=2)
    assert 0 < ds.attrs["parity"] == run.parity[2, "attention.contribution"] < 1e-5
    bare = lab.trace(IDS, layers=[2], seams=attention.contribution.needs.of(lab.spec))
    assert (attention.contribution(bare, lab, layer=2).contribution_norm == ds.contribution_norm).all()


def test_similarity_is_the_overlap_of_the_maps(lab):
    run = lab.trace(IDS)
    ds = attention.similarity(run, layer=2, rows=[5, 40, 69])
    p = torch.tensor(attention.pattern(run, layer=2, rows=[5, 40, 69]).weight.values)
    expected = torch.minimum(p[:, None], p[None]).sum(-1).mean(-1)
    assert (torch.tensor(ds.similarity.values) - expected).abs().max() < 1e-6
    assert abs(ds.similarity.values.diagonal() - 1).max() < 1e-5
    assert ds.kv_head.values.tolist() == [0, 0, 0, 1, 1, 1] and ds.attrs["rows"] == "3 of 70, chosen"
    assert ds.attrs["parity"] < 1e-5 < ds.attrs["tolerance"] and int(ds.layer) == 2
    texts = [attention.similarity(run, layer=2, **options).attrs["rows"] for options in ({}, {"samples": 9})]
    assert texts == ["64 of 70, evenly spaced", "9 of 70, evenly spaced"]
    with pytest.raises(InputError, match="(?s)either rows or samples.*both.*positions, or a number"):
        attention.similarity(run, layer=2, rows=[3], samples=2)
    with lab.edit(edit.set("q", layer=2, value=0.0)):
        flat = attention.similarity(lab.trace(IDS), layer=2)
    assert float(flat.similarity.min()) > 1 - 1e-5, "heads that ask for nothing attend alike"


def test_rows_are_drawn_of_ordinary_tokens_wherever_the_special_ones_stand(lab):
    class Tokenizer(SimpleNamespace):
        def __len__(self):
            return 300

    at = lambda special, added: kinds._plain(  # noqa: E731
        SimpleNamespace(spec=lab.spec, tokenizer=Tokenizer(all_special_ids=special, added_tokens_decoder=added))
    )
    assert at([0, None], {0: "", 1: ""}) == list(range(2, lab.spec.vocab))
    assert at([200], {200: "", 201: ""}) == [*range(200), *range(202, lab.spec.vocab)]
    assert kinds._plain(SimpleNamespace(spec=lab.spec, tokenizer=None)) == list(range(lab.spec.vocab))


def test_scores_find_what_was_built_in(lab):
    """A head that is edited to look at the first token, and heads that look everywhere, are called so."""
    ids = torch.arange(2, 200)
    free = attention.scores(lab, pool=ids, length=40, samples=2, seed=1)
    assert free.previous.shape == (2, 6) and free.layer.values.tolist() == [2, 4]
    assert 0 < free.attrs["parity"] < 1e-5 < free.attrs["tolerance"]
    assert free.local.attrs["symbol"] == "local" and free.gate_spread.attrs["scale"] == "positive"
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


def test_every_score_of_heads_that_were_built():
    """A row of 40 tokens, read twice: heads with one place to look at, and one that looks everywhere."""
    p, at = torch.zeros(6, 80, 80), torch.arange(80)
    p[0, at, (at - 1).clamp(min=0)] = 1
    p[1, at[40:], at[40:] - 39] = 1
    p[2, at, at] = 1
    p[3] = torch.ones(80, 80).tril() / (at + 1.0)[:, None]
    p[4, at, 2] = 1
    p[5, at, (at - 7).clamp(min=0)] = 1
    scores = {name: value.tolist() for name, value in kinds.scored(p, 40).items()}
    even = [7 / (t + 1) for t in range(16, 40)]  # of the last 8 sources, without the previous one
    away = -sum(e / (1 - e) for e in even) / 24  # what a head scores that reads none of them
    expected = {
        "previous": [1, 0, 0, sum(1 / (t + 1) for t in range(16, 40)) / 24, 0, 0],
        "induction": [0, 1, 0, sum(1 / (t + 1) for t in range(40, 79)) / 39, 1 / 39, 0],
        "local": [away, away, 1, 0, away, 1],
        "diffuse": [0, 0, 0, 1, 0, 0],
        "sink": [0, 3 / 64, 0, sum(4 / (t + 1) for t in range(16, 80)) / 64, 1, 0],
    }
    assert scores.keys() == expected.keys()
    for name, values in expected.items():
        assert scores[name] == pytest.approx(values, abs=1e-5), name


def test_a_class_is_the_largest_score_above_its_bar():
    column = lambda *values: (("layer", "query_head"), [list(values)])
    scores = {"sink": column(0.9, 0.3, 0.2, 0.2), "previous": column(0.1, 0.31, 0.2, 0.24)}
    data = attention.classes(xarray.Dataset(scores | {"diffuse": column(0.8, 0.8, 0.76, 0.74)}))
    assert data.kind.values.tolist() == [["sink", "previous", "diffuse", "none"]]


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
    with pytest.raises(LayerError, match=r"(?s)attention.scores: .*\[1\].*of \[2, 4\].*try: attention.scores\(lab\)"):
        attention.scores(lab, layers=[1, 2])
    for wrong in (lab.trace(IDS), "red fox"):
        with pytest.raises(InputError, match=r"(?s)attention.scores reads a lab.*got: .*try: attention.scores\(lab\)"):
            attention.scores(wrong)
    with pytest.raises(InputError, match="too few tokens"):
        attention.scores(lab, pool=[1, 2, 3])
    with pytest.raises(InputError, match="(?s)length out of range.*17 or more"):
        attention.scores(lab, length=10)


def test_a_contribution_is_not_touched_by_an_edit_of_now(lab):
    """The output projection is read, not run: an edit in force changes nothing of a run made before it."""
    run = lab.trace(IDS)
    before = attention.contribution(run, lab, layer=2)
    with lab.edit(edit.scale("gated", layer=2, heads=[1], factor=0.0)):
        lab.trace(IDS[:16])
        after = attention.contribution(run, lab, layer=2)
    assert (before.contribution_norm == after.contribution_norm).all() and float(before.contribution_norm[1].max()) > 0
    assert before.weight.attrs["symbol"] == "P"


def test_scores_are_made_where_the_seams_are():
    """No vector of the CPU meets a tensor of the device: run on the meta device, which knows shapes alone."""
    scores = kinds.scored(torch.zeros(6, 70, 70, device="meta"), 35)
    assert {value.device.type for value in scores.values()} == {"meta"} and scores["local"].shape == (6,)
