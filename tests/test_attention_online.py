"""Probes of attention layers give the numbers of the readings, however the stream is cut."""

import numpy as np
import pytest
import tiny
import xarray
from interpreted import interpreter  # noqa: F401

from labkit import attention, yarn
from labkit.errors import InputError, LayerError
from labkit.stream import capture
from labkit.trace import Run

IDS = tiny.ids(150)


@pytest.mark.parametrize("method", ["tiles", None, "fused"])
@pytest.mark.parametrize("samples", [None, 5], ids=["all rows", "some rows"])
def test_the_summary_online_is_the_summary(lab, samples, method, request):
    if method == "fused":
        request.getfixturevalue("interpreter")
    ids = tiny.ids(150 if method == "fused" else 300)
    run = lab.trace(ids)
    for chunk in (128,) if method == "fused" else (64, 128):
        watch = attention.watch(block=64, samples=samples, method=method)
        ds = lab.stream(ids, probes=[watch, capture("q", tokens=[3])], chunk=chunk)
        assert 0 < ds.attrs["parity"] < 1e-5 and ds.attrs["tolerance"] == 1e-4
        assert ds.entropy.dims == ("layer", "query_head", "block") and ds.entropy_low.attrs == ds.entropy.attrs
        for layer in (2, 4):
            mine = ds.sel(layer=layer)
            places = {63 - i * 64 // 5 for i in range(5)}
            rows = None if samples is None else [t for t in range(len(ids)) if t % 64 in places or t == len(ids) - 1]
            whole = attention.summary(run, layer=layer, block=64, rows=rows, method="tiles")
            assert mine.rows_taken.values.tolist() == whole.rows_taken.values.tolist()
            for name in ("entropy", "entropy_low", "entropy_high", "support", "sink", "local", "distance", "gate"):
                assert abs(mine[name].values - whole[name].values).max() < 1e-4 * abs(whole[name].values).max(), name
            assert mine.pooled.dims == whole.pooled.dims and mine.histogram.dims == whole.histogram.dims
            assert abs(mine.pooled.values - whole.pooled.values).max() < 1e-5
            assert abs(mine.histogram.values - whole.histogram.values).max() < 1e-5
            assert mine.bin_text.values.tolist() == whole.bin_text.values.tolist()


def test_probes_say_what_they_will_give(lab):
    """`outputs` names the variables and axes of the dataset, so that a stream can refuse a merge before it runs."""
    for probe in (attention.watch(block=64), attention.watch_bands(layers=[4], block=64, heads=[4, 1])):
        probe.needs(lab.spec)
        told = {name: tuple(sizes) for name, sizes in probe.outputs(lab.spec).items()}
        ds = lab.stream(tiny.ids(150), probes=[probe], chunk=128)
        assert told == {name: ds[name].dims for name in ds.data_vars if name != "logits"}


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
    with pytest.raises(LayerError, match="(?s)layer 1 is a Gated DeltaNet layer.*2, 4.*deltanet.gates"):
        lab.stream(IDS, probes=[attention.watch(layers=[1])])
    with pytest.raises(InputError, match="(?s)samples out of range.*got: samples=65"):
        attention.watch(samples=65)


def test_an_opened_window_loses_no_distance():
    model = tiny.model()
    model.config.max_position_embeddings = 4096
    lab = tiny.make_lab(model)
    ds = lab.stream(tiny.ids(1536), probes=[attention.watch(block=256, layers=[2])], chunk=512, progress=False)
    assert float(abs(ds.histogram.sum("bin") - 1).max()) < 1e-5


def test_bands_in_a_stream_are_those_of_the_same_rows(lab, tmp_path):
    probe = lambda: [attention.watch_bands(layers=[4], block=32, samples=2, heads=[4, 1])]
    with yarn.scaled(lab, 4):
        ds = lab.stream(IDS, probes=probe(), chunk=64)
        run = lab.trace(IDS)
        rows = [a + n for a in range(0, 150, 32) for n in (15, 31) if a + n < 150] + [149]
        whole = attention.bands_by_distance(run, layer=4, heads=[4, 1], rows=rows)
    assert ds.part.dims == ("layer", "query_head", "bin", "band") and int(ds["count"].sum()) == sum(r + 1 for r in rows)
    assert np.nanmax(np.abs(ds.part[0].values - whole.part.values)) < 1e-4
    assert np.nanmax(np.abs(ds.spread[0].values - whole.spread.values)) < 1e-3
    assert ds.attrs["scaling"] == "yarn 4" and ds.attrs["rows"] == "2 rows a block, evenly spaced"
    assert 0 < ds.attrs["parity"] < 1e-5
    with yarn.scaled(lab, 4):
        for _ in range(2):  # the second time nothing is left to read
            again = lab.stream(IDS, probes=probe(), chunk=64, checkpoint=tmp_path / "stream")
        xarray.testing.assert_identical(again, ds)
    with pytest.raises(LayerError, match="(?s)layer 0 is a Gated DeltaNet layer.*deltanet.norms"):
        lab.stream(IDS, probes=[attention.watch_bands(layers=[0])], chunk=64)
    with pytest.raises(InputError, match="(?s)samples out of range.*1 to 64"):
        attention.watch_bands(samples=65)


def test_the_worst_parity_is_told(lab, monkeypatch):
    """Of all prompts of the scores, and of all chunks and layers of a stream."""
    errors, check = [], Run.check_parity

    def noted(run, *args):
        parity = check(run, *args)
        errors.append(parity["parity"])
        return parity

    monkeypatch.setattr(Run, "check_parity", noted)
    calls = [lambda: attention.scores(lab, pool=range(2, 90), length=20, samples=3, facts=[(IDS, -1, 12)])]
    for probe in (attention.watch(block=32), attention.watch_bands(block=32)):
        calls.append(lambda probe=probe: lab.stream(IDS, probes=[probe], chunk=64))
    for call in calls:
        errors.clear()
        parity = call().attrs["parity"]
        assert parity == max(errors) > min(errors) and len(errors) > 5
