"""A lens's reading stands beside its controls, is the sum of its paths, and its blocks beside their null."""

import random

import numpy as np
import pytest
import siblings
import tiny
import torch

import labkit
from labkit import edit, residual
from labkit.errors import BudgetError, InputError, ParityError, SeamError
from labkit.nano.tokens import KEYS, VALUES
from labkit.residual import controls, geometry

IDS = tiny.ids(23)
WIDTH, DEPTH = 44, 5
MAKERS = {name: (lambda name=name: tiny.model(family=name)) for name in sorted(tiny.FAMILY_SIZES)}
MAKERS |= {"olmo": siblings.olmo, "kimi": siblings.kimi}
ALL = ["another prompt's answer", "near in the prompt", "random stream", "random map"]


def drawn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) / shape[-1] ** 0.5


def lens(width=WIDTH, layers=DEPTH - 1, **options):
    return residual.Lens({layer: drawn(width, width, seed=layer) for layer in range(layers)}, **options)


TUNED = dict(
    kind="tuned", stream="resid_pre", onto=True, biases={layer: drawn(WIDTH, seed=9 + layer) for layer in range(5)}
)


def by_hand(lab, stream):
    """RMS norm and unembedding of the Qwen families from their definition, in float64."""
    wide = stream.double()
    wide = wide / (wide.square().mean(-1, keepdim=True) + 1e-6).sqrt() * (1 + lab.final_norm.weight.double())
    return wide @ lab.unembedding.weight.double().T


@pytest.fixture(scope="module", params=MAKERS)
def own(request):
    """A lab of each family."""
    return tiny.make_lab(MAKERS[request.param]())


@pytest.fixture(scope="module")
def wide():
    return tiny.make_lab(tiny.model(dtype=torch.float64))


@pytest.fixture(scope="module")
def nano():
    return labkit.load("nano")


@pytest.fixture(scope="module")
def asked(nano):
    """(runs, answers) of recall prompts of different lengths."""
    prompts, of = [], []
    for seed in range(14):
        draw = random.Random(seed)
        count = draw.randrange(3, 6)
        keys, values, which = draw.sample(KEYS, count), draw.sample(VALUES, count), draw.randrange(count)
        facts = "".join(f" {key} {value}." for key, value in zip(keys, values, strict=True))
        prompts.append(f"{facts} {keys[which]}")
        of.append(f" {values[which]}")
    return nano.trace(prompts), of


# controls -------------------------------------------


def test_random_matrices_read_nothing_and_the_control_says_so(nano, asked):
    runs, of = asked
    for seed in (0, 1, 2):
        maps = {layer: drawn(128, 128, seed=17 * seed + layer) for layer in range(7)}
        ds = residual.lens_controls(runs, nano, of=of, by=residual.Lens(maps, prompts=3))
        assert not ds.beyond.any() and ds.verdict.startswith("no layer reads beyond its controls; ")
        assert "random map reproduces" in ds.verdict and "further up than by the logit lens: no layer" in ds.verdict


def test_the_logit_lens_reads_on_nano_what_its_controls_do_not(nano, asked):
    runs, of = asked
    ds = residual.lens_controls(runs, nano, of=of)
    assert ds.control.values.tolist() == ALL and ds.null.dims == ("layer", "control", "sample")
    assert ds.beyond.values.tolist() == [False] * 3 + [True] * 5 and float(ds.found[-1].min()) > 10
    assert ds.verdict.startswith("beyond every control: layers 3 to 7; another prompt's answer reproduces ")
    assert (ds.low <= ds.excess).all() and (ds.excess <= ds.high).all()
    assert ds.kind.values.tolist() == ["deltanet"] * 3 + ["attention"] + ["deltanet"] * 3 + ["attention"]


def test_a_lens_that_always_says_all_answers_is_unmasked_by_another_prompts_answer(nano, asked):
    """Its maps are 0: what it says is its bias, whatever the stream is."""
    runs, of = asked
    ids = [nano.encode(answer).tolist()[0] for answer in of]
    rows = nano.unembedding.weight.detach()[sorted(set(ids))] * (1 + nano.final_norm.weight.detach())
    bias = torch.linalg.pinv(rows).sum(1)  # the same logit for all of them
    by = residual.Lens({layer: torch.zeros(128, 128) for layer in range(8)}, biases=dict.fromkeys(range(8), bias))
    ds = residual.lens_controls(runs, nano, of=of, by=by)
    assert float(ds.found.mean()) > 5 and not ds.beyond.any()
    for control in ("another prompt's answer", "random stream", "random map"):
        assert abs(float(ds.reproduced.sel(control=control).mean()) - 1) < 0.1
    assert "another prompt's answer reproduces" in ds.verdict


def test_a_lens_that_echoes_the_prompt_is_unmasked_by_what_stands_near(lab):
    """Streams are put together from the unembedding rows of all tokens of a prompt: no token of it stands out."""
    rows = lab.unembedding.weight.detach() / (1 + lab.final_norm.weight.detach())
    runs = [lab.trace(tiny.ids(9, seed=seed)) for seed in range(12)]
    inverse = torch.linalg.pinv(rows / rows.norm(dim=1, keepdim=True))
    for run in runs:
        said = torch.zeros(lab.spec.vocab).index_fill(0, run.ids, 1.0)
        run.seams[2, "resid_post"][-1] = inverse @ said
    of = [int(run.ids[4]) for run in runs]
    ds = residual.lens_controls(runs, lab, of=of, layers=2)
    shares = ds.reproduced.sel(control=["near in the prompt", "another prompt's answer"]).values
    assert (
        not ds.beyond
        and abs(shares[0] - 1) < 0.15
        and shares[1] < 0.6
        and "near in the prompt reproduces" in ds.verdict
    )


def test_a_reading_is_the_place_of_the_answer(own):
    runs, of = [own.trace(IDS), own.trace(IDS[:9])], [3, 150]
    ds = residual.lens_controls(runs, own, of=of, token=-2)
    for n, run in enumerate(runs):
        plain = residual.lens(run, own, of=of[n], tokens=-2)
        assert ds.answer_rank[:, n].values.tolist() == plain.answer_rank[:, 0].values.tolist()
    assert np.allclose(ds.found, np.log2(own.spec.vocab / (ds.answer_rank + 1)))
    one = residual.lens_controls(runs, own, of=of, token=-2, layers=1)
    assert one.found.dims == ("sample",) and np.array_equal(one.found, ds.found[1])


def test_controls_that_ask_the_same_stream_are_means_over_tokens(lab):
    runs, of, by = [lab.trace(IDS[first : first + 12]) for first in (0, 5, 9)], [3, int(IDS[8]), 150], lens()
    ds = residual.lens_controls(runs, lab, of=of, by=by)
    place = lambda row, token: int((row > row[token]).sum())  # noqa: E731
    near = [[*range(11, 3, -1)], [4, 2, 5, 1, 6, 0, 7, 8], [*range(11, 3, -1)]]  # the answer of the second stands at 3
    for layer in range(4):
        for n, run in enumerate(runs):
            row = residual_row(lab, by.carry(run.seams[layer, "resid_post"][-1], layer))
            bits = lambda tokens, row=row: np.mean([np.log2(211 / (place(row, token) + 1)) for token in tokens])  # noqa: E731
            others = [answer for answer in of if answer != of[n]]
            assert np.isclose(ds.null.sel(control=ALL[0])[layer, n], bits(others))
            assert np.isclose(ds.null.sel(control=ALL[1])[layer, n], bits(run.ids[near[n]].tolist()))
            plain = residual_row(lab, run.seams[layer, "resid_post"][-1])
            assert np.isclose(ds.null.sel(control="logit lens")[layer, n], bits([of[n]], plain))


def residual_row(lab, stream):
    with torch.no_grad():
        return lab.unembedding(lab.final_norm(stream))


def test_one_random_map_serves_all_streams_and_has_the_norm_of_the_lens():
    streams, by = drawn(6, WIDTH, seed=3), lens()
    streams[4] = 2 * streams[0] - streams[3]
    made = torch.stack([controls._mapped(streams, by, 2, torch.Generator().manual_seed(seed)) for seed in range(400)])
    assert torch.allclose(made[:, 4], 2 * made[:, 0] - made[:, 3], atol=1e-3)
    expected = streams.norm(dim=-1) * by.maps[2].norm() / WIDTH**0.5
    assert torch.allclose(made.square().sum(-1).mean(0).sqrt(), expected, rtol=0.03)
    inner = (made[:, 1] * made[:, 2]).sum(-1).mean()  # a map of normal entries keeps angles on the mean
    assert abs(float(inner - streams[1] @ streams[2] * by.maps[2].norm() ** 2 / WIDTH)) < 0.1
    plain = controls._mapped(streams, None, 2, torch.Generator().manual_seed(0))
    assert torch.allclose(plain.norm(dim=-1), streams.norm(dim=-1), rtol=0.5)


def test_random_streams_keep_norms_and_draws_repeat_by_seed(lab):
    streams = 9 * drawn(6, WIDTH, seed=3)
    made = controls._directions(streams, torch.Generator().manual_seed(1))
    assert torch.allclose(made.norm(dim=-1), streams.norm(dim=-1)) and abs(float((made @ streams.T).mean())) < 30
    runs = [lab.trace(IDS), lab.trace(IDS[:9])]
    read = lambda seed: residual.lens_controls(runs, lab, of=[3, 150], by=lens(), seed=seed)  # noqa: E731
    assert read(4).equals(read(4)) and not read(4).null.equals(read(5).null)


def test_rows_in_parts_are_rows_at_once(lab, monkeypatch):
    runs, of = [lab.trace(IDS[first:]) for first in range(5)], [3, 150, 7, 9, 11]
    whole = residual.lens_controls(runs, lab, of=of)
    monkeypatch.setattr(controls, "SCRATCH", 4 * 211 * 2)
    assert residual.lens_controls(runs, lab, of=of).equals(whole)


def test_edits_are_read_too(lab):
    runs, of = lambda: [lab.trace(IDS), lab.trace(IDS[:9])], [3, 150]
    plain = residual.lens_controls(runs(), lab, of=of)
    with lab.edit(edit.scale("mixer_out", layer=2, factor=0)):
        edited = residual.lens_controls(runs(), lab, of=of)
    assert edited.found[:2].equals(plain.found[:2]) and not edited.found[2:].equals(plain.found[2:])


def test_too_few_prompts_are_told(lab):
    ds = residual.lens_controls([lab.trace(IDS[first:]) for first in range(6)], lab, of=[3, 7, 9, 11, 13, 150])
    assert ds.verdict == "6 prompts cannot tell 5 layers from chance, whatever they read" and not ds.beyond.any()


def test_wrong_questions_are_refused(lab, monkeypatch):
    runs = [lab.trace(IDS), lab.trace(IDS[:9])]
    for given, of, got in (
        (runs, [3], "2 prompts, 1 answers, 1 of them different"),
        (runs, [3, 3], "2 prompts, 2 answers, 1 of them different"),
        (runs[0], 3, "1 prompts, 1 answers"),
    ):
        with pytest.raises(InputError, match=f"an answer for each of several prompts\n  got: {got}"):
            residual.lens_controls(given, lab, of=of)
    with pytest.raises(InputError, match="residual.lens_controls reads a run\n  got: a text"):
        residual.lens_controls(["red fox"], lab, of=3)
    with pytest.raises(InputError, match="nothing stands near the answer\n  got: prompt 1\n"):
        residual.lens_controls([runs[0], lab.trace([7, 7])], lab, of=[3, 7])
    with pytest.raises(InputError, match="draws out of range"):
        residual.lens_controls(runs, lab, of=[3, 7], draws=0)
    with pytest.raises(SeamError, match="seam 'resid_pre'"):
        kept = [lab.trace(IDS, seams=["resid_post"]), lab.trace(IDS[:9], seams=["resid_post"])]
        residual.lens_controls(kept, lab, of=[3, 7], by=residual.Lens({0: torch.eye(44)}, stream="resid_pre"))
    monkeypatch.setattr("labkit.plan.card.budget", lambda device: (1000, "nothing"))
    for read in (
        lambda: residual.lens_controls(runs, lab, of=[3, 7]),
        lambda: residual.lens_by_path(runs[0], lab, of=3),
        lambda: residual.lens_geometry(lens(layers=6), tiny_six(), vocab=20),
        lambda: residual.lens(runs[0], lab, by=lens()),
    ):
        with pytest.raises(BudgetError, match="would not fit"):
            read()


# paths ----------------------------------------------


@pytest.mark.parametrize("by", [None, lens(), lens(layers=5, **TUNED)], ids=["logit", "jacobian", "tuned"])
def test_paths_add_up_to_what_the_lens_says(own, by):
    run = own.trace(IDS)
    ds = residual.lens_by_path(run, own, of=[3, 150, 7], by=by, tokens=[2, -4], each=True)
    said = residual.lens(run, own, of=[3, 150, 7], by=by, tokens=[2, -4])
    assert ds.came.dims == ("layer", "path", "token", "answer") and ds.attrs["residual"] < 1e-4
    assert np.allclose(ds.came.sum("path"), said.answer_logit, atol=1e-4)
    assert np.allclose(ds.logit, said.answer_logit, atol=1e-4)
    assert ("bias" in ds.path.values) == (by is not None and bool(by.biases))
    kinds = own.spec.deltanet_layers, own.spec.attention_layers
    for path, layers in zip(("states", "attention"), kinds, strict=True):
        mixers = ds.branch.sel(term="mixer", source_layer=list(layers)).sum("source_layer")
        assert np.allclose(ds.came.sel(path=path), mixers, atol=1e-5)
    assert np.allclose(ds.came.sel(path="mlp"), ds.branch.sel(term="mlp").sum("source_layer"), atol=1e-5)
    later = ds.source_layer > ds.layer if ds.attrs["seam"] == "resid_post" else ds.source_layer >= ds.layer
    assert (ds.branch.where(later, 0) == 0).all() and (
        abs(ds.branch.where(~later, 1)).max(("token", "answer")) > 0
    ).all()


def test_a_path_is_what_the_map_makes_of_its_branches(wide):
    run, by = wide.trace(IDS), lens(layers=5, **TUNED)
    ds = residual.lens_by_path(run, wide, of=9, by=by, tokens=-2, layers=[3, 4])
    for n, layer in enumerate((3, 4)):
        map_of = torch.eye(WIDTH).double() + by.maps[layer].double()
        h = map_of @ run.seams[layer, "resid_pre"][-2] + by.biases[layer].double()
        way = (1 + wide.final_norm.weight) * wide.unembedding.weight[9] / (h.square().mean() + 1e-6).sqrt()
        read = lambda branch, map_of=map_of, way=way: float(way @ (map_of @ branch))  # noqa: E731
        take = lambda layers, seam: sum(run.seams[index, seam][-2] for index in layers)  # noqa: E731
        below = range(layer)
        found = ds.came[n, :, 0].values
        expected = [
            read(run.seams[0, "resid_pre"][-2]),
            read(take([index for index in below if index in wide.spec.deltanet_layers], "mixer_out")),
            read(take([index for index in below if index in wide.spec.attention_layers], "mixer_out")),
            read(take(below, "mlp_out")),
            float(way @ by.biases[layer].double()),
        ]
        assert np.allclose(found, expected, atol=1e-10)
        assert abs(found.sum() - float(by_hand(wide, h)[9])) < 1e-10


def test_against_a_foil_it_is_the_difference_of_both(wide):
    run, by = wide.trace(IDS), lens()
    one, other, both = (
        residual.lens_by_path(run, wide, by=by, **asked)
        for asked in (dict(of=[9, 11]), dict(of=[77, 78]), dict(of=[9, 11], against=[77, 78]))
    )
    assert np.allclose(both.came, one.came.values - other.came.values, atol=1e-10)
    assert both.answer.values.tolist() == ["[9] - [77]", "[11] - [78]"]
    assert np.allclose(both.logit, one.logit.values - other.logit.values, atol=1e-10)


def test_at_the_last_layer_it_is_direct_attribution(own):
    run = own.trace(IDS)
    ds = residual.lens_by_path(run, own, of=[3, 7], layers=-1, each=True)
    direct = residual.contributions(run, own, of=[3, 7])
    assert np.allclose(ds.branch, direct.added, atol=1e-5) and np.allclose(ds.came[0], direct.embedding, atol=1e-5)
    assert ds.came.dims == ("path", "answer") and int(ds.layer) == 4


def test_the_input_of_the_first_layer_is_embedding_alone(lab):
    ds = residual.lens_by_path(lab.trace(IDS), lab, of=3, by=lens(layers=1, stream="resid_pre"))
    assert ds.came.values[0, 1:].tolist() == [[0.0]] * 3 and np.allclose(ds.came[0, 0], ds.logit[0], atol=1e-5)


def test_what_is_no_branch_is_told(lab):
    with lab.edit(edit.scale("resid_post", layer=2, factor=1.5)):
        run = lab.trace(IDS)
    residual.lens_by_path(run, lab, of=3, layers=[0, 1])
    with pytest.raises(ParityError, match="the paths do not add up to what the lens says.*\n.*\n.*\n  try: an edit of"):
        residual.lens_by_path(run, lab, of=3)
    with pytest.raises(InputError, match="as many answers as foils, or one foil\n  got: 3 and 2"):
        residual.lens_by_path(run, lab, of=[1, 2, 3], against=[4, 5])


# blocks ---------------------------------------------


def tiny_six():
    return tiny.make_lab(tiny.model(num_hidden_layers=6, layer_types=[*tiny.SIZES["layer_types"], "linear_attention"]))


def test_blocks_stand_out_and_their_null_does_not_make_them():
    shared = [drawn(WIDTH, 6, seed=seed) @ drawn(6, WIDTH, seed=70 + seed) for seed in range(3)]
    maps = {layer: shared[layer // 2] + 0.02 * drawn(WIDTH, WIDTH, seed=40 + layer) for layer in range(6)}
    ds = residual.lens_geometry(residual.Lens(maps), tiny_six(), vocab=40, samples=5)
    # Of six layers in pairs, 1 within and b between, the null keeps (0.8 + 0.2 b) - (0.1 + 0.9 b) = 0.7 (1 - b).
    assert ds.attrs["cuts"] == [2, 4] and abs(ds.attrs["reproduced"] - 0.7) < 0.01 and ds.attrs["low"] > 0.1
    assert ds.verdict.startswith("layers as far apart are as alike: ") and float(ds.similarity[0, 1]) > 0.9
    assert float(ds.similarity[1, 2]) < 0.6 and np.allclose(np.diag(ds.similarity), 1, atol=1e-5)


def test_what_falls_off_with_distance_has_no_blocks_beyond_it():
    ends = drawn(WIDTH, WIDTH, seed=1), drawn(WIDTH, WIDTH, seed=2)
    turned = {layer: np.cos(layer / 4) * ends[0] + np.sin(layer / 4) * ends[1] for layer in range(6)}
    ds = residual.lens_geometry(residual.Lens(turned), tiny_six(), vocab=40, samples=5)
    assert float(ds.blocks.mean()) > 0.1 and abs(ds.attrs["reproduced"] - 1) < 0.15
    one = geometry.by_distance(np.array([[1, 2, 6], [4, 1, 8], [6, 2, 1]]))
    assert one.tolist() == [[1, 4, 6], [4, 1, 4], [6, 4, 1]]
    assert (geometry.by_distance(one) == one).all()


def test_similarity_is_linear_cka_of_the_rows():
    lab, by = tiny_six(), lens(layers=6)
    ds = residual.lens_geometry(by, lab, vocab=30, samples=2, seed=3)
    drawn_rows = torch.randperm(211, generator=torch.Generator().manual_seed(3))[:60].split(30)
    expected = []
    for rows in drawn_rows:
        x, y = (lab.unembedding.weight[rows] @ by.maps[layer] for layer in (1, 4))
        x, y = x - x.mean(0), y - y.mean(0)
        expected.append(float((x.T @ y).norm() ** 2 / ((x.T @ x).norm() * (y.T @ y).norm())))
    assert np.isclose(ds.similarity[1, 4], np.mean(expected), atol=1e-5)


def test_geometry_of_what_has_none(lab):
    with pytest.raises(InputError, match="too few layers for three blocks\n  got: 4\n  expected: 6 or more"):
        residual.lens_geometry(lens(), lab)
    with pytest.raises(InputError, match="more tokens than there are\n  got: 8 times 256\n  expected: at most 211"):
        residual.lens_geometry(lens(layers=6), tiny_six())
