"""Streaming: equal to one-shot readings, independent of the chunk, resumable after a stop at any place."""

import json
import re
import threading

import pytest
import tiny
import torch
import xarray

from labkit import deltanet, edit, stream
from labkit.errors import InputError, LayerError
from labkit.stream import store

IDS = tiny.ids(300)


def probes():
    return [
        deltanet.gates(),
        deltanet.norms(),
        deltanet.updates(layers=[1, 3]),
        deltanet.spectra(layers=[1, 3]),
        deltanet.rows(tokens=[250, 70], layers=[3]),
        stream.capture("resid_post", tokens=[5, 200, 299], layers=[0, 2]),
    ]


def test_blocks_equal_the_means_and_sums_of_the_readings(lab):
    run = lab.trace(IDS)
    ds = lab.stream(IDS, probes=probes(), chunk=128)
    assert ds.block_start.values.tolist() == [0, 64, 128, 192, 256] and ds.attrs["tokens"] == 300
    for layer in (1, 3):
        whole = deltanet.memory(run, layer=layer)
        for name in (
            "keep",
            "write",
            "state_norm",
            "out",
            "recalled",
            "error",
            "decayed",
            "erased",
            "written",
        ):
            how = "sum" if name in ("decayed", "erased", "written") else "mean"
            blocks = [getattr(part, how)(1) for part in torch.tensor(whole[name].values).split(64, 1)]
            mine = ds[name].sel(layer=layer).values
            assert abs(mine - torch.stack(blocks, 1).numpy()).max() < 2e-4 * abs(mine).max(), name
    assert ds.written.sel(layer=0).isnull().all()
    assert abs(ds.logits.values - run.logits[0].numpy()).max() < 2e-4
    kept = run.seams[2, "resid_post"][[5, 200, 299]].numpy()
    assert abs(ds.resid_post.sel(layer=2, token=[5, 200, 299]).values - kept).max() < 2e-4


def test_spectra_stand_where_chunks_end_and_rows_are_exact(lab):
    run = lab.trace(IDS)
    ds = lab.stream(IDS, probes=[*deltanet.saturation(layers=[1, 3]), deltanet.rows(tokens=[250, 70])], chunk=128)
    assert ds.step_token.values.tolist() == [127, 255, 299]
    for layer in (1, 3):
        whole = deltanet.spectrum(run, layer=layer, tokens=[127, 255, 299])
        for name, mine in (
            ("effective_rank", "effective_rank"),
            ("stable_rank", "stable_rank"),
            ("end_norm", "state_norm"),
        ):
            assert abs(ds[name].sel(layer=layer).values - whole[mine].values).max() < 1e-3, name
        surprise = deltanet.memory(run, layer=layer).surprise.values
        assert abs(ds.surprise.sel(layer=layer).values[:, 0] - surprise[:, :64].mean(1)).max() < 1e-4
        for token in (70, 250):
            row = deltanet.implied_row(run, layer=layer, token=token).weight.values
            mine = ds.weight.sel(layer=layer, token=token)
            assert abs(mine.values[:, : token + 1] - row[:, : token + 1]).max() < 1e-5
            assert float(abs(mine.isel(source=slice(token + 1, None))).max() if token < 250 else 0) == 0


def test_block_of_one_gives_every_token(lab):
    ds = lab.stream(IDS[:100], probes=[deltanet.gates(layers=[3], block=1)], chunk=64)
    whole = deltanet.memory(lab.trace(IDS[:100]), layer=3)
    assert ds.keep.shape == (1, 9, 100)
    assert abs(ds.keep.sel(layer=3).values - whole.keep.values).max() < 1e-5


def test_the_chunk_does_not_show(lab):
    made = lambda: [probe for probe in probes() if "Spectrum" not in type(probe).__name__]  # noqa: E731
    a, b = (lab.stream(IDS, probes=made(), chunk=chunk) for chunk in (64, 256))
    xarray.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("layer", [0, 4])
@pytest.mark.parametrize("stop", [1, 2, 4])
def test_stopped_anywhere_and_resumed_gives_the_identical_dataset(lab, tmp_path, stop, layer):
    """Ctrl-C inside a layer of the chunk `stop`: the cache is half updated there, the checkpoint must not be."""
    whole = lab.stream(IDS, probes=probes(), chunk=64)
    calls = []

    def interrupt(*_):
        calls.append(1)
        if len(calls) > stop:
            raise KeyboardInterrupt

    handle = lab.model.model.layers[layer].mlp.register_forward_hook(interrupt)
    with pytest.raises(
        stream.Interrupted, match=f"(?s)stopped after {64 * stop} of 300.*same checkpoint folder"
    ) as error:
        lab.stream(IDS, probes=probes(), chunk=64, checkpoint=tmp_path / "kept", every=2)
    handle.remove()
    assert error.value.dataset.keep.sizes["block"] == stop
    again = lab.stream(IDS, probes=probes(), chunk=64, checkpoint=tmp_path / "kept", every=2)
    assert again.identical(whole)


def test_a_kill_between_checkpoints_resumes_from_the_last_one(lab, tmp_path):
    """No clean-up code runs: what a kill -9 leaves is the folder as it last was."""
    whole = lab.stream(IDS, probes=probes(), chunk=64)
    calls = []

    def die(*_):
        calls.append(1)
        if len(calls) > 3:
            raise SystemError("killed")

    handle = lab.model.model.layers[1].mlp.register_forward_hook(die)
    with pytest.raises(SystemError):
        lab.stream(IDS, probes=probes(), chunk=64, checkpoint=tmp_path, every=1)
    handle.remove()
    assert '"done": 192' in (tmp_path / "stream.json").read_text()
    assert lab.stream(IDS, probes=probes(), chunk=64, checkpoint=tmp_path).identical(whole)
    finished = lab.stream(IDS, probes=probes(), chunk=64, checkpoint=tmp_path)  # nothing left to do
    assert finished.identical(whole)


@pytest.mark.parametrize(("every", "finished"), [(1, 3), (2, 1), (2, 3), (2, 4), (3, 2), (3, 4), (16, 4)])
def test_a_checkpoint_lies_after_every_so_many_chunks(lab, tmp_path, every, finished):
    """After a kill in the chunk that follows, the folder holds the chunks up to the last multiple of `every`."""
    calls = []

    def die(*_):
        calls.append(1)
        if len(calls) > finished:
            raise SystemError("killed")

    made = lambda: [stream.capture("resid_post", tokens=[5, 200, 299])]  # noqa: E731
    handle = lab.model.model.layers[2].mlp.register_forward_hook(die)
    with pytest.raises(SystemError):
        lab.stream(IDS, probes=made(), chunk=64, checkpoint=tmp_path / "c", every=every)
    handle.remove()
    written = finished // every * every
    path = tmp_path / "c" / "stream.json"
    assert path.exists() == (written > 0)
    if written:
        assert json.loads(path.read_text())["done"] == 64 * written
    whole = lab.stream(IDS, probes=made(), chunk=64, checkpoint=tmp_path / "c", every=every)
    assert whole.identical(lab.stream(IDS, probes=made(), chunk=64))
    assert json.loads(path.read_text())["done"] == 300, "and at the end"


def test_without_a_checkpoint_the_finished_chunks_come_with_the_error(lab):
    def interrupt(module, args, output):
        if args[0].shape[1] == 300 - 256:
            raise KeyboardInterrupt

    handle = lab.model.model.layers[1].mlp.register_forward_hook(interrupt)
    with pytest.raises(KeyboardInterrupt, match="(?s)stopped after 256 of 300.*error.dataset") as error:
        lab.stream(IDS, probes=probes(), chunk=64)
    handle.remove()
    assert error.value.dataset.block.size == 4


def test_a_probe_forgets_the_stream_before(lab):
    again = [deltanet.gates(), deltanet.spectra(layers=[1])]
    lab.stream(tiny.ids(130, seed=5), probes=again, chunk=64)
    xarray.testing.assert_identical(
        lab.stream(IDS, probes=again, chunk=64),
        lab.stream(IDS, probes=[deltanet.gates(), deltanet.spectra(layers=[1])], chunk=64),
    )


def test_edits_hold_while_streaming(lab):
    with lab.edit(deltanet.never_forget(layer=1, heads=3)):
        ds = lab.stream(IDS, probes=[deltanet.gates()], chunk=64)
    assert (ds.keep.sel(layer=1, head=3) == 1).all() and (ds.keep.sel(layer=1, head=2) < 1).all()


def test_a_checkpoint_of_another_request_is_refused(lab, tmp_path):
    lab.stream(IDS[:64], probes=[deltanet.gates()], chunk=64, checkpoint=tmp_path)
    for ids, made in ((IDS[:65], [deltanet.gates()]), (IDS[:64], [deltanet.norms()])):
        with pytest.raises(InputError, match="(?s)belongs to another request.*different (ids|probes).*another folder"):
            lab.stream(ids, probes=made, chunk=64, checkpoint=tmp_path)


@pytest.mark.parametrize(
    ("made", "options", "error", "message"),
    [
        ([], {}, InputError, "(?s)nothing to watch.*deltanet.gates"),
        ([deltanet.gates(block=48)], dict(chunk=64), InputError, "(?s)whole blocks.*chunk 64"),
        ([deltanet.gates(), deltanet.norms(block=32)], {}, InputError, "share their block"),
        ([deltanet.gates(layers=[2])], {}, LayerError, "(?s)layer 2 is a gated attention layer.*stream.capture"),
        ([deltanet.rows(tokens=[3], layers=[4])], {}, LayerError, "(?s)layer 4 is a gated attention layer.*0, 1, 3"),
        ([deltanet.rows(tokens=[3, 300])], {}, InputError, "(?s)that the prompt does not have.*300.*below 300"),
        ([stream.capture("k", tokens=[1], layers=[1])], {}, InputError, "(?s)no seam 'k'.*\\[1\\]"),
        ([stream.capture("scores", tokens=[1])], {}, InputError, "(?s)unknown seam.*scores.*resid_post"),
    ],
)
def test_misuse(lab, made, options, error, message):
    with pytest.raises(error, match=message):
        lab.stream(IDS, probes=made, **options)


def test_rows_are_proven_against_the_model(lab):
    from labkit.errors import ParityError

    with lab.edit(edit.scale("read", layer=1, factor=1.5)), pytest.raises(ParityError, match="deltanet.rows"):
        lab.stream(IDS, probes=[deltanet.rows(tokens=[5], layers=[1])], chunk=128)


def test_a_block_holds_a_token():
    with pytest.raises(InputError, match="(?s)block out of range.*1 or more"):
        deltanet.gates(block=0)


# ----------------------------------------------------------------------------------------------------- long runs


@pytest.mark.parametrize("resumed", [False, True])
def test_keys_that_rest_in_host_memory_give_the_identical_dataset(lab, tmp_path, monkeypatch, resumed):
    made, whole = lab.cache, lab.stream(IDS, probes=probes(), chunk=64)
    monkeypatch.setattr(lab, "cache", lambda **options: made(**options | {"offloading": True}))
    if resumed:
        handle = lab.model.model.layers[3].mlp.register_forward_hook(stopping_at(3))
        with pytest.raises(stream.Interrupted):
            lab.stream(IDS, probes=probes(), chunk=64, checkpoint=tmp_path, every=2)
        handle.remove()
    assert lab.stream(IDS, probes=probes(), chunk=64, checkpoint=tmp_path, every=2).identical(whole)


def stopping_at(call, error=KeyboardInterrupt):
    """A hook that raises when it is called for the time after `call`."""
    calls = []

    def stop(*_):
        calls.append(1)
        if len(calls) > call:
            raise error

    return stop


def test_a_checkpoint_is_written_while_the_next_chunk_is_computed(lab, tmp_path, monkeypatch):
    """The writer waits here for a pass that begins after it: in one thread this would never end."""
    write, passes, begun = store.folders.write_tensors, [0], []
    ran = threading.Condition()

    def waiting(path, tensors):
        before = passes[0]
        begun.append(threading.current_thread())
        with ran:
            if path.name.startswith("kv") and before < 5:
                assert ran.wait_for(lambda: passes[0] > before, 20)
        return write(path, tensors)

    def count(*_):
        with ran:
            passes[0] += 1
            ran.notify_all()

    monkeypatch.setattr(store.folders, "write_tensors", waiting)
    whole = lab.stream(IDS, probes=probes(), chunk=64)
    handle = lab.model.model.layers[0].register_forward_pre_hook(count)
    written = lab.stream(IDS, probes=probes(), chunk=64, checkpoint=tmp_path, every=2)
    handle.remove()
    assert written.identical(whole) and threading.main_thread() not in begun and passes == [5]
    assert lab.stream(IDS, probes=probes(), chunk=64, checkpoint=tmp_path, every=2).identical(whole)
    assert not [t for t in threading.enumerate() if t.name.startswith("labkit-checkpoint")], "it ends with the stream"


def test_a_write_that_fails_is_told_with_what_is_finished(lab, tmp_path, monkeypatch):
    failing = lambda path, tensors: (_ for _ in ()).throw(OSError(28, "No space left on device"))  # noqa: E731
    write = store.folders.write_tensors
    monkeypatch.setattr(store.folders, "write_tensors", failing)
    with pytest.raises(stream.Unwritten, match="(?s)could not be written.*No space left") as error:
        lab.stream(IDS, probes=probes(), chunk=64, checkpoint=tmp_path, every=2)
    assert 128 <= error.value.dataset.attrs["tokens"] <= 256, "before the checkpoint after that"
    assert error.value.dataset.keep.sizes["block"] == error.value.dataset.attrs["tokens"] // 64
    monkeypatch.setattr(store.folders, "write_tensors", write)
    whole = lab.stream(IDS, probes=probes(), chunk=64)
    assert lab.stream(IDS, probes=probes(), chunk=64, checkpoint=tmp_path).identical(whole)


def test_the_bar_tells_speed_and_time_left_also_of_a_resumed_run(lab, tmp_path, capsys):
    handle = lab.model.model.layers[3].mlp.register_forward_hook(stopping_at(3))
    with pytest.raises(stream.Interrupted):
        lab.stream(IDS, probes=probes(), chunk=64, checkpoint=tmp_path, every=2, progress=True)
    handle.remove()
    first = capsys.readouterr().err
    lab.stream(IDS, probes=probes(), chunk=64, checkpoint=tmp_path, every=2, progress=True)
    second = capsys.readouterr().err
    for shown, done in ((first, "0.00/300"), (second, "192/300")):
        assert done in shown and re.search(r"stream: .*\[\d\d:\d\d<\d\d:\d\d, +[\d.]+k?tok/s\]", shown), shown
    assert "0.00/300" not in second and "300/300" in second


# ------------------------------------------------------------------------------------------------------------ capture


def test_seams_of_both_kinds_are_captured_in_one_stream_and_say_what_they_are(lab):
    ids = tiny.ids(80)
    probes = [
        stream.capture("read", tokens=[3, 70]),
        stream.capture("q", tokens=[70]),
        stream.capture("gate", tokens=[5]),
    ]
    ds, run = lab.stream(ids, probes=probes, chunk=16), lab.trace(ids)
    assert ds.read.dims == ("layer", "head", "token", "value")
    assert ds.q.dims == ("layer", "query_head", "token", "head_dim")
    for layer in (1, 3):
        expected = run.seams[layer, "read"][[3, 70]].transpose(0, 1).numpy()
        assert abs(ds.read.sel(layer=layer, token=[3, 70]).values - expected).max() < 1e-5
    gate = ds.gate.sel(layer=4, token=5)
    assert gate.attrs["long_name"].startswith("input of the output gate") and gate.attrs["scale"] == "signed"
    assert float(gate.min()) < 0, "before the sigmoid"


@pytest.mark.parametrize(
    ("probes", "message"),
    [
        (
            lambda: [stream.capture("qkv", tokens=[1]), stream.capture("mlp_out", tokens=[1])],
            "channel: 186 of qkv, 44 of",
        ),
        (
            lambda: [stream.capture("gated", tokens=[1])],
            "(?s)other axes in the two kinds of layer.*layers=\\[0, 1, 3\\]",
        ),
    ],
)
def test_probes_that_cannot_be_merged_are_refused_before_anything_runs(lab, monkeypatch, probes, message):
    monkeypatch.setattr(stream.feed.passes, "feed", lambda *_, **__: pytest.fail("the stream ran"))
    with pytest.raises(InputError, match=message):
        lab.stream(tiny.ids(40), probes=probes(), chunk=16)


def test_a_layer_that_is_named_twice_is_watched_once(lab):
    probes = lambda layers: [deltanet.norms(layers=layers, block=16), stream.capture("q", tokens=[7], layers=[2, 2])]  # noqa: E731
    twice, once = (lab.stream(tiny.ids(40), probes=probes(layers), chunk=16) for layers in ([1, 3, 1], [1, 3]))
    xarray.testing.assert_identical(twice, once)


@pytest.mark.parametrize(
    ("probes", "message"),
    [
        (lambda one: [one, deltanet.norms(), one], "given twice\n  got: deltanet.gates\n"),
        (
            lambda one: [one, deltanet.gates(layers=[0, 1, 3])],
            r"given twice\n  got: deltanet.gates of layers \[0, 1, 3\]",
        ),
        (
            lambda one: [stream.capture("q", tokens=[3]), stream.capture("q", tokens=[-37])],
            "given twice\n  got: Capture",
        ),
        (lambda one: [deltanet.gates], "(?s)not a probe.*got: function.*try: lab.stream"),
        (lambda one: [deltanet.saturation()], "(?s)not a probe.*got: list"),
        (lambda one: 7, "(?s)not a probe.*got: int"),
    ],
)
def test_probes_that_are_none_and_probes_twice_are_refused(lab, probes, message):
    with pytest.raises(InputError, match=message):
        lab.stream(tiny.ids(40), probes=probes(deltanet.gates()), chunk=64)


def test_probes_of_one_class_that_watch_other_things_go_together(lab):
    both = [deltanet.norms(), deltanet.updates(), deltanet.gates(layers=[1]), deltanet.gates(layers=[1, 3])]
    ds = lab.stream(tiny.ids(40), probes=both, chunk=64)
    assert {"out", "written", "keep"} <= set(ds.data_vars) and ds.keep.sel(layer=[1, 3]).notnull().all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(chunk=0), r"chunk out of range\n  got: chunk=0\n  expected: 1 or more"),
        (dict(chunk=True), "chunk is a whole number"),
        (dict(chunk=64.0), "chunk is a whole number"),
        (dict(every=0), "every out of range"),
        (dict(every=-1), "every out of range"),
        (dict(checkpoint=""), "(?s)a checkpoint is a folder.*checkpoint=''"),
        (dict(checkpoint=" "), "a checkpoint is a folder"),
        (dict(checkpoint=7), "a checkpoint is a folder"),
    ],
)
def test_options_that_are_no_numbers_and_no_folder(lab, options, message):
    with pytest.raises(InputError, match=message):
        lab.stream(tiny.ids(40), probes=deltanet.gates(), **dict(chunk=64) | options)
