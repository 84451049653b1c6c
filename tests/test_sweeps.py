"""Sweeps: kept as they finish, whoever is killed; the same table by every way; sums in the order of the units."""

import functools
import os
import pathlib
import signal
import time

import numpy as np
import pytest
import torch

import labkit as lk
from labkit import edit, sweeps
from labkit.errors import InputError
from labkit.zoo import load

PROMPTS = [[3, 1, 4, 1, 5][: 2 + n % 4] + [n] for n in range(9)]
OPTIONS = {"scale": 2.0}


@pytest.fixture(scope="module")
def nano():
    return lk.load("nano")


def spoken(lab, unit, *, scale, marks=None):
    """Logits after a prompt; leaves a mark for each time that it ran."""
    if marks is not None:
        (pathlib.Path(marks) / f"{unit[-1]}-{time.time_ns()}").touch()
    logits = lab.logits(torch.tensor([unit]))[0, :7] * scale
    return {"logits": logits.numpy(), "length": np.array([len(unit)])}


def fails(lab, unit, *, scale):
    if unit[-1] == 4:
        raise KeyboardInterrupt
    return spoken(lab, unit, scale=scale)


def kills(lab, unit, *, scale, marks):
    """The first worker that meets unit 5 dies of it."""
    if unit[-1] == 5 and not list(pathlib.Path(marks).glob("killed")):
        (pathlib.Path(marks) / "killed").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return spoken(lab, unit, scale=scale, marks=marks)


def table(made):
    return np.stack([each["logits"] for each in made])


def counts(marks):
    """How often each unit ran."""
    names = [path.name.split("-")[0] for path in marks.iterdir() if path.name != "killed"]
    return {int(name): names.count(name) for name in names}


def test_units_come_in_order_kept_or_not(nano, tmp_path):
    own = table(sweeps.results(nano, spoken, PROMPTS, options=OPTIONS))
    kept = table(sweeps.results(nano, spoken, PROMPTS, options=OPTIONS, store=tmp_path / "a"))
    again = table(sweeps.results(nano, spoken, PROMPTS, options=OPTIONS, store=tmp_path / "a"))
    expected = np.stack([2 * nano.logits(torch.tensor([row]))[0, :7].numpy() for row in PROMPTS])
    assert (own == expected).all() and (kept == own).all() and (again == own).all()


def test_nothing_finished_is_computed_again(nano, tmp_path):
    marks, store = tmp_path / "marks", tmp_path / "store"
    marks.mkdir()
    options = OPTIONS | {"marks": str(marks)}
    part = sweeps.results(nano, spoken, PROMPTS, options=options, store=store)
    for _ in range(4):
        next(part)
    part.close()  # as an interrupt or a kill leaves it
    whole = table(sweeps.results(nano, spoken, PROMPTS, options=options, store=store))
    assert (whole == table(sweeps.results(nano, spoken, PROMPTS, options=OPTIONS))).all()
    assert counts(marks) == dict.fromkeys(range(9), 1)


def test_a_damaged_file_is_told_and_made_again(nano, tmp_path):
    own = table(sweeps.results(nano, spoken, PROMPTS, options=OPTIONS, store=tmp_path))
    path = next(tmp_path.glob("unit-000003-*"))
    raw = bytearray(path.read_bytes())
    raw[-2] ^= 1
    path.write_bytes(raw)
    with pytest.warns(UserWarning, match="a result is damaged, and is computed again"):
        again = table(sweeps.results(nano, spoken, PROMPTS, options=OPTIONS, store=tmp_path))
    assert (again == own).all() and next(tmp_path.glob("unit-000003-*")).read_bytes() != bytes(raw)


@pytest.mark.parametrize("change", ["units", "options", "work", "edit", "scaling"])
def test_a_folder_of_another_sweep_is_refused(nano, tmp_path, change):
    list(sweeps.results(nano, spoken, PROMPTS[:2], options=OPTIONS, store=tmp_path))
    work, units, options = spoken, PROMPTS[:2], OPTIONS
    units = PROMPTS[:3] if change == "units" else units
    options = {"scale": 3.0} if change == "options" else options
    work = fails if change == "work" else work
    scope = {
        "edit": lambda: nano.edit(edit.scale("mixer_out", layer=0, factor=0.5)),
        "scaling": lambda: lk.yarn.scaled(nano, factor=2),
    }.get(change, lambda: nano.edit())
    named = {"edit": "edits"}.get(change, change)
    with scope(), pytest.raises(InputError, match=f"another sweep[\\s\\S]*different {named}"):
        list(sweeps.results(nano, work, units, options=options, store=tmp_path))


def test_sums_are_those_of_the_units_however_often_they_stop(nano, tmp_path):
    own = sum(each["logits"].astype(np.float64) for each in sweeps.results(nano, spoken, PROMPTS, options=OPTIONS))
    marks, store = tmp_path / "marks", tmp_path / "store"
    marks.mkdir()
    total = functools.partial(sweeps.total, nano, spoken, PROMPTS, options=OPTIONS | {"marks": str(marks)}, store=store)
    total(upto=3)
    assert len(list(store.glob("total-*"))) == 1 and not list(store.glob("unit-*"))
    total(upto=7)
    found = total()
    assert found["logits"].dtype == np.float64 and (found["logits"] == own).all()
    assert found["length"] == sum(map(len, PROMPTS))
    assert (total(upto=9)["logits"] == own).all() and counts(marks) == dict.fromkeys(range(9), 1)


def test_an_interrupt_keeps_the_sum_so_far(nano, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        sweeps.total(nano, fails, PROMPTS, options=OPTIONS, store=tmp_path)
    assert [path.name[:12] for path in tmp_path.glob("total-*")] == ["total-000004"]


# ------------------------------------------------------------------------------------------------------------ clusters


@pytest.fixture(scope="module")
def client():
    distributed = pytest.importorskip("distributed", reason="the extra `cluster` is not installed")
    quiet = dict(dashboard_address=":0", silence_logs=50)
    cluster = distributed.LocalCluster(n_workers=2, threads_per_worker=1, **quiet)
    with cluster, distributed.Client(cluster) as made:
        yield made


def test_workers_give_the_same_table(nano, client, tmp_path):
    own = table(sweeps.results(nano, spoken, PROMPTS, options=OPTIONS))
    spread = table(sweeps.results(nano, spoken, PROMPTS, options=OPTIONS, store=tmp_path, client=client))
    np.testing.assert_allclose(spread, own, atol=1e-5)
    assert (table(sweeps.results(nano, spoken, PROMPTS, options=OPTIONS, store=tmp_path)) == spread).all()


def test_a_killed_worker_loses_nothing_and_repeats_nothing_finished(nano, client, tmp_path):
    marks = tmp_path / "marks"
    marks.mkdir()
    options = OPTIONS | {"marks": str(marks)}
    spread = table(sweeps.results(nano, kills, PROMPTS, options=options, store=tmp_path / "a", client=client))
    calm = table(sweeps.results(nano, spoken, PROMPTS, options=OPTIONS, store=tmp_path / "b", client=client))
    assert (marks / "killed").exists() and (spread == calm).all()
    assert counts(marks) == dict.fromkeys(range(9), 1)


def test_sums_of_workers_are_in_order(nano, client, tmp_path):
    own = sweeps.total(nano, spoken, PROMPTS, options=OPTIONS)
    first = sweeps.total(nano, spoken, PROMPTS, options=OPTIONS, store=tmp_path, client=client, upto=4)
    spread = sweeps.total(nano, spoken, PROMPTS, options=OPTIONS, store=tmp_path, client=client)
    np.testing.assert_allclose(spread["logits"], own["logits"], atol=1e-5)
    assert first["length"] == sum(map(len, PROMPTS[:4])) and spread["length"] == sum(map(len, PROMPTS))


def test_what_workers_cannot_do_is_refused(nano, lab, client, tmp_path):
    run = lambda lab, **more: list(sweeps.results(lab, spoken, PROMPTS, options=OPTIONS, **more))  # noqa: E731
    with pytest.raises(InputError, match="no client of dask.distributed[\\s\\S]*got: +str"):
        run(nano, client="tcp://localhost", store=tmp_path)
    with pytest.raises(InputError, match="workers write into a folder"):
        run(nano, client=client)
    with pytest.raises(InputError, match="workers cannot make this lab[\\s\\S]*lab.source"):
        run(lab, client=client, store=tmp_path)
    edited = nano.edit(edit.scale("mixer_out", layer=0, factor=0.5))
    with edited, pytest.raises(InputError, match="beside open scopes"):
        run(nano, client=client, store=tmp_path)


def test_a_worker_with_another_model_is_refused(client, tmp_path):
    other = lk.load("nano")
    with torch.no_grad():
        other.model.get_output_embeddings().weight[0, 0] += 1
    with pytest.raises(InputError, match="a worker has another model[\\s\\S]*weights"):
        list(sweeps.results(other, spoken, PROMPTS, options=OPTIONS, store=tmp_path, client=client))


def test_a_grid_of_questions_is_asked_by_workers(nano, client, tmp_path):
    cells = dict(lengths=[40, 70], depths=[0.0, 0.5], scalings=[lk.yarn.Scaling(), lk.yarn.stretched(nano.spec, 2.0)])
    own = lk.yarn.grid(nano, **cells)
    with pytest.raises(InputError, match="workers write into a folder[\\s\\S]*folder=None"):
        lk.yarn.grid(nano, **cells, client=client)
    half = lk.yarn.grid(nano, **cells | {"lengths": [40]}, folder=tmp_path)  # here, and the rest by workers
    spread = lk.yarn.grid(nano, **cells, folder=tmp_path, client=client)
    np.testing.assert_allclose(spread.margin, own.margin, atol=1e-4)
    assert (spread.right == own.right).all() and (spread.margin.sel(length=[40]) == half.margin).all()
    assert not list(tmp_path.glob("units-*"))
    assert (lk.yarn.grid(nano, **cells, folder=tmp_path).margin == spread.margin).all()


def test_a_lens_is_fitted_by_workers(nano, client, tmp_path):
    prompts, options = [[3, 5, 8, 13, 21], [2, 7, 1, 8, 2, 8], [9, 4, 1, 6]], dict(layers=[5, 6], skip=1, rows=64)
    own = lk.residual.fit_lens(nano, prompts, **options)
    spread = lk.residual.fit_lens(nano, prompts, store=tmp_path, client=client, **options)
    for layer in own.layers:
        assert torch.allclose(spread.maps[layer], own.maps[layer], atol=1e-5)


def test_a_lab_knows_how_it_was_made(nano, tmp_path, monkeypatch):
    assert nano.source.func is load and nano.source.keywords["model"] == "nano"
    again = nano.source()
    assert again.identity() == nano.identity()
    monkeypatch.setenv("LABKIT_MODEL", "nano")
    assert lk.load().source.keywords["model"] == "nano"
