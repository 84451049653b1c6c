"""The fitted Jacobian lens: derivatives as finite differences give them, sums that survive kills, how many do."""

import functools
import types

import numpy as np
import pytest
import siblings
import tiny
import torch

from labkit import edit, plan, residual
from labkit.errors import BudgetError, InputError
from labkit.residual import fitting
from labkit.residual.fitting import jacobian_of_ids

IDS = [tiny.ids(length, seed=length).tolist() for length in (9, 11, 7, 13)]
OPTIONS = dict(skip=2, longest=12, rows=5)


@pytest.fixture(scope="module")
def lab64():
    return tiny.make_lab(tiny.model(dtype=torch.float64))


def bent(lab, ids, layer, place, channel, step):
    """The sum over later places of the last stream, [channel], when one channel is moved a step after `layer`."""
    vector, last = torch.zeros(lab.spec.hidden, dtype=torch.float64), lab.spec.layers - 1
    vector[channel] = step
    with lab.edit(edit.add("resid_post", layer=layer, tokens=[place], vector=vector)):
        run = lab.trace(ids, seams=["resid_post"], layers=[last])
    return run.seams[last, "resid_post"][2 : len(ids) - 1].sum(0)


def slope(lab, ids, layer, step, channel=17):
    """Central differences, [channel], the mean over places at which the channel is moved."""
    ends = [[bent(lab, ids, layer, place, channel, sign * step) for sign in (1, -1)] for place in range(2, 8)]
    return torch.stack([(up - down) / (2 * step) for up, down in ends]).mean(0)


@pytest.mark.parametrize("family", ["qwen3_5", "olmo_hybrid"])
def test_the_map_is_the_mean_of_finite_differences(lab64, family):
    """Steps are long and extrapolated, since models round inside to float32: shorter ones are noise."""
    lab = lab64 if family == "qwen3_5" else tiny.make_lab(siblings.olmo(dtype=torch.float64))
    layers, ids, step = [0, lab.spec.attention_layers[0]], IDS[0], 0.08
    own = torch.from_numpy(jacobian_of_ids(lab, ids, layers=layers, skip=2, rows=7)["J"])
    for n, layer in enumerate(layers):
        expected = (4 * slope(lab, ids, layer, step / 2) - slope(lab, ids, layer, step)) / 3
        assert (own[n, :, 17] - expected).abs().max() <= 1e-4 * expected.abs().max()


def test_rows_at_a_time_do_not_count(lab64):
    maps = [jacobian_of_ids(lab64, IDS[1], layers=[1, 3], skip=2, rows=rows)["J"] for rows in (1, 5, 44)]
    for each in maps[1:]:
        np.testing.assert_allclose(each, maps[0], atol=1e-6)


def test_a_lens_is_the_mean_over_prompts_and_reads_as_one(lab64, tmp_path):
    lens = residual.fit_lens(lab64, IDS, **OPTIONS)
    each = [jacobian_of_ids(lab64, ids[:12], layers=range(4), skip=2, rows=5)["J"] for ids in IDS]
    expected = np.mean(np.stack(each).astype(np.float64), 0)
    for layer in range(4):
        np.testing.assert_allclose(lens.maps[layer].numpy(), expected[layer], rtol=1e-6, atol=1e-7)
    assert (lens.prompts, lens.depth, lens.layers, lens.kind) == (4, 5, [0, 1, 2, 3], "jacobian")
    run = lab64.trace(IDS[0])
    own = residual.open_lens(lens.save(tmp_path / "lens.pt"))
    read, again = (residual.lens(run, lab64, by=by, of=[5]).answer_logit for by in (lens, own))
    assert read.dims[0] == "layer" and np.abs(read - again).max() < 0.05 * np.abs(read).max()


def test_stopping_and_going_on_is_the_same_lens(lab64, tmp_path, monkeypatch):
    whole = residual.fit_lens(lab64, IDS, **OPTIONS)
    calls, real = [], jacobian_of_ids

    @functools.wraps(real)
    def stops(lab, ids, **options):
        calls.append(tuple(ids))
        if len(calls) in (3, 5):
            raise KeyboardInterrupt
        return real(lab, ids, **options)

    monkeypatch.setattr("labkit.residual.fitting.jacobian_of_ids", stops)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            residual.fit_lens(lab64, IDS, store=tmp_path, **OPTIONS)
    again = residual.fit_lens(lab64, IDS, store=tmp_path, **OPTIONS)
    assert all(torch.equal(again.maps[layer], whole.maps[layer]) for layer in whole.layers)
    assert len(calls) == len(IDS) + 2  # two that were stopped, none that was finished is made again


def test_two_lenses_of_other_prompts_are_compared(lab64):
    options = dict(layers=[0, 3], skip=2, rows=44)
    found = residual.lens_convergence(lab64, IDS, [IDS[0][::-1]], sizes=[2, 1], **options)  # in any order
    assert found.size.values.tolist() == [1, 2]
    assert found.apart.dims == ("layer", "size") and found.logit_lens.sizes == {"layer": 2}
    run = lab64.trace(IDS[0][::-1])
    for size in (1, 2):
        pair = [residual.fit_lens(lab64, IDS[n : 2 * size : 2], **options) for n in (0, 1)]
        for layer in (0, 3):
            one, two = (each.maps[layer].double() for each in pair)
            here = found.sel(layer=layer, size=size)
            assert float(here.apart) == pytest.approx(float((one - two).norm() / ((one + two) / 2).norm()), rel=1e-5)
            first, second = (residual.lens(run, lab64, by=each, layers=layer, top=1).best for each in pair)
            model = residual.lens(run, lab64, layers=4, top=1).best
            assert float(here.agreement) == float((first == second).mean())
            assert float(here.with_model) == float((first == model).mean())
            plain = residual.lens(run, lab64, layers=layer, top=1).best
            assert float(found.logit_lens.sel(layer=layer)) == float((plain == model).mean())


def test_rows_are_held_against_the_memory_of_the_models_device(lab64, monkeypatch):
    """On a card: sums against the processor's, rows of slopes against the card's, each by itself."""
    free = {"cpu": 2**40, "cuda": 2**40}
    monkeypatch.setattr(plan.card, "budget", lambda device: (free[device.type], f"a small {device.type}"))
    on_card = types.SimpleNamespace(spec=lab64.spec, encode=lab64.encode, device=torch.device("cuda"))
    ask = lambda lab: fitting._asked(lab, IDS, None, 2, 12, 5, "residual.fit_lens")  # noqa: E731
    assert ask(on_card) == ask(lab64)
    rows, sums = 5 * 4 * (4 + 8) * 12 * 44, 3 * 8 * 4 * 44**2
    for lab, least in ((on_card, {"cpu": sums, "cuda": rows}), (lab64, {"cpu": sums + rows, "cuda": 0})):
        free |= least
        ask(lab)
        for device in least:
            free |= least | {device: least[device] - 1}
            if least[device]:
                with pytest.raises(BudgetError, match=f"residual.fit_lens of 12 tokens[\\s\\S]*a small {device}"):
                    ask(lab)


def test_what_cannot_be_fitted_is_told(lab64):
    with pytest.raises(InputError, match="the last layer needs no map[\\s\\S]*got: +layer 4[\\s\\S]*0 to 3"):
        residual.fit_lens(lab64, IDS, layers=[1, 4], skip=2)
    with pytest.raises(InputError, match="a prompt is too short[\\s\\S]*prompt 0: 9 tokens[\\s\\S]*at least 10"):
        residual.fit_lens(lab64, IDS, skip=8)
    for wrong in (None, "one text", IDS[0], torch.tensor(IDS[0])):
        with pytest.raises(InputError, match="several prompts"):
            residual.fit_lens(lab64, wrong, skip=0)
    with pytest.raises(InputError, match="no prompts"):
        residual.fit_lens(lab64, [])
    with pytest.raises(InputError, match="prompts of their own[\\s\\S]*sizes of 1 to 2"):
        residual.lens_convergence(lab64, IDS, IDS, sizes=[3], skip=2)
    with pytest.raises(InputError, match="no held-out prompts"):
        residual.lens_convergence(lab64, IDS, [], sizes=[2], skip=2)
