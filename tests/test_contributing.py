"""CONTRIBUTING's chapters do what they say: their code is written into files, imported, and used."""

import dataclasses
import importlib.util
import json
import pathlib
import re
import shutil
import sys
from unittest import mock

import checkpoints
import pytest
import test_families_parity as parity
import tiny
import torch

import figures
import labkit as lk
from labkit import deltanet, doctor, edit, plan
from labkit.errors import InputError, LayerError
from labkit.families import DELTANET, FAMILIES

ROOT = pathlib.Path(__file__).parent.parent
IDS = tiny.ids(41)


def chapter(title, name, folder):
    """The module that the chapter's code makes, imported under a name."""
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8").partition(f"## {title}\n")[2].partition("\n## ")[0]
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    path = folder / f"{name.rpartition('.')[2]}.py"
    path.write_text(code, "utf-8")
    return imported(name, path)


def imported(name, path):
    """A module from a file that no package holds."""
    place = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(place)
    place.loader.exec_module(module)
    return module


def test_a_reading_in_one_file(lab, tmp_path, monkeypatch):
    forgotten = chapter("A reading in one file", "labkit.deltanet.forgotten", tmp_path).forgotten
    run = lab.trace(IDS)
    ds = forgotten(run, layer=[1, 3], heads=[2, 5])
    assert ds.lost.dims == ("layer", "head", "token") and ds.layer.values.tolist() == [1, 3]
    alone = deltanet.memory(run, layer=3, heads=5)
    assert abs(ds.lost.sel(layer=3, head=5) - (1 - alone.keep.sel(head=5))).max() < 1e-6
    assert 0 < ds.attrs["parity"] < ds.attrs["tolerance"] and ds.attrs["reading"] == "deltanet.forgotten"
    assert ds.lost.attrs["symbol"] == "1-α"
    with pytest.raises(LayerError, match="(?s)deltanet.forgotten: layer 2.*attention.summary\\(run, layer=2\\)"):
        forgotten(run, layer=2)
    monkeypatch.setattr(deltanet, "forgotten", forgotten, raising=False)
    monkeypatch.setattr(deltanet, "__all__", [*deltanet.__all__, "forgotten"])
    assert "deltanet.forgotten" in plan.readings() and lab.plan(tokens=50, want="deltanet.forgotten").fits
    assert lab.plan(tokens=50, want=forgotten).peak == lab.plan(tokens=50, want="deltanet.forgotten").peak


class Sorted(torch.nn.Module):
    """A projection whose channels come out in another order inside, and in the plain one outside."""

    def __init__(self, plain, order):
        super().__init__()
        self.order, self.mixed = order, torch.nn.Linear(plain.in_features, plain.out_features, bias=False)
        rows = torch.empty_like(plain.weight)
        rows[order] = plain.weight
        self.mixed.weight = torch.nn.Parameter(rows, requires_grad=False)

    def forward(self, x):
        return self.mixed(x)[..., self.order]


def test_a_family_in_one_file(tmp_path, monkeypatch):
    """A model whose projection is interleaved reads, and takes edits, as the plain one with the same weights does."""
    family = chapter("A family in one file", "labkit.families.mixed", tmp_path).MIXED
    spec = lk.spec.read(tiny.model().config)
    seam = family.seams[DELTANET]["qkv"]
    order = torch.tensor(seam.channels(spec))
    assert sorted(order.tolist()) == list(range(spec.conv_channels)) and order.tolist() != sorted(order.tolist())
    inside = dataclasses.replace(seam, path="linear_attn.in_proj_qkv.mixed")
    family = dataclasses.replace(family, seams=family.seams | {DELTANET: family.seams[DELTANET] | {"qkv": inside}})
    monkeypatch.setitem(FAMILIES, family.name, family)
    plain, mixed = tiny.make_lab(tiny.model()), tiny.make_lab(tiny.model())
    for layer in spec.deltanet_layers:
        mixer = mixed.model.model.layers[layer].linear_attn
        mixer.in_proj_qkv = Sorted(mixer.in_proj_qkv, order).eval()
    mixed.spec = dataclasses.replace(mixed.spec, family=family.name)
    change = edit.function(lambda x, at: torch.cat([2 * x[..., :30], x[..., 30:]], -1), seam="qkv", layer=1, tokens=[7])
    runs = []
    for lab in (plain, mixed):
        with lab.edit(change):
            runs.append(lab.trace(IDS))
    assert torch.allclose(runs[0].logits, runs[1].logits, atol=1e-5)
    assert (runs[0].logits - plain.trace(IDS).logits).abs().max() > 1e-3, "the edit does something"
    assert torch.allclose(runs[0].seams[1, "qkv"], runs[1].seams[1, "qkv"], atol=1e-5)
    readings = [deltanet.memory(run, layer=3, tokens=None) for run in runs]
    assert abs(readings[0].out - readings[1].out).max() < 1e-5


@pytest.mark.parametrize("name", ["qwen3_5_moe", "qwen3_next"])
def test_a_real_family_is_its_file_and_a_line(name, tmp_path):
    """Without the line, an error names this page; a copy of the file, and a model is planned, loaded, traced, read."""
    model = tiny.model(family=name)
    folder, ids = checkpoints.text_only(tmp_path / "model", model), parity.IDS
    file = ROOT / "labkit" / "families" / f"{name}.py"
    with torch.no_grad(), mock.patch.dict(FAMILIES):
        expected, known = model(ids[None]).logits[0], FAMILIES.pop(name)
        page = f"{model.config.model_type}(?s:.)*qwen3_5_text(?s:.)*CONTRIBUTING.md, .A family in one file"
        assert re.search(page, doctor.examine(folder, device="cpu")["configuration"].detail)
        for call in (lk.load, lk.spec.read):
            with pytest.raises(InputError, match=f"not a model of a family that labkit knows\n(?s:.)*{page}"):
                call(folder)
        with pytest.raises(InputError, match=f"{known.causal}(?s:.)*A family in one file"):
            lk.wrap(model)
        module = imported(f"labkit.families.copied_{name}", shutil.copy(file, tmp_path))
        (FAMILIES[name],) = (each for each in vars(module).values() if getattr(each, "name", "") == name)
        assert FAMILIES[name] is not known and doctor.examine(folder, device="cpu").healthy
        lab = lk.load(folder, device="cpu", dtype="float32")
        run = lab.trace(ids, logits="all")
        # Weights from a file lie elsewhere in memory, which some processors notice in the last bits.
        assert torch.equal(run.logits, lab.model(ids[None]).logits[0])
        assert torch.allclose(run.logits, expected, atol=1e-5)
        assert lk.spec.read(model.config).differing(lab.spec) == []
        for reading in parity.READINGS:
            assert parity.read(lab, run, reading).attrs.get("parity", 0) < 1e-5
        with lab.edit(edit.function(lambda x, at: 2 * x, seam="qkv", layer=1, tokens=[7])):
            assert (lab.trace(ids, logits="all").logits - expected).abs().max() > 1e-3


def test_a_figure_in_one_file(tmp_path):
    figure = chapter("A figure in one file", "figures.lost", tmp_path)
    lab = lk.load("nano")
    ds = figure.data(lab)
    assert ds.keep.dims == ("layer", "head", "token") and ds.keep.attrs["symbol"] == "α"
    before = ds.copy(deep=True)
    drawn = figure.draw(ds)
    assert ds.identical(before) and len(drawn.data) == len(lab.spec.deltanet_layers)
    assert figures.Entry("lost", figure, None).fault(ds) is None
    claim = figure.claim(ds)
    assert drawn.layout.title.text.replace("<br>", " ") == claim.title == claim.sentence
    assert f"{float(ds.keep.mean('token').min()):.2f}" in claim.sentence
    assert set(figures.FACTS) <= ds.attrs.keys() and figure.PLACE[0] in figures.PROBES
    assert figure.__doc__.count("\n\n") >= 3 and "figures.lost" not in sys.modules


def test_a_session_format_in_one_file(tmp_path, monkeypatch):
    from labkit import reuse, thinking
    from labkit.thinking.sessions import reading

    own = chapter("A session format in one file", "labkit.thinking.sessions.formats.diary", tmp_path).FORMAT
    rows = [
        {"asked": "why?", "said": "because", "thought": "let me see", "tokens": 31},
        {"asked": "x", "said": "", "draft": True},
    ]
    rows += [{"asked": "and?", "said": 7}, {"asked": "so?", "said": "yes", "tokens": -1}]
    path = tmp_path / "d.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), "utf-8")
    with pytest.raises(InputError, match="unknown format"):
        thinking.read_session(path)
    monkeypatch.setitem(reading.FORMATS, own.name, own)
    session = thinking.read_session(path)
    assert [call.line for call in session.calls] == [1, 4] and session.calls[0].usage == thinking.Usage(input=31)
    assert session.calls[0].reply["reasoning_content"] == "let me see"
    assert session.left_out == ((1, "a draft, which was never sent"),)
    assert [line for line, _ in session.problems] == [3, 4] and "no count of tokens" in session.problems[1][1]
    assert reuse.replay(session).sizes["call"] == 2
