"""The doctor: every verdict on the pinned versions is good, and each fault it is there for turns the verdict."""

import dataclasses
import html
import pathlib
import re
import tomllib
import types

import pytest
import torch
from packaging.requirements import Requirement
from transformers import AttentionInterface, DynamicCache
from transformers.models.qwen3_5 import modeling_qwen3_5 as modeling

from labkit import doctor
from labkit.doctor import edits, masks, memory, seams, stack
from labkit.doctor.sample import SIZES, Sample, build, far
from labkit.families import FAMILIES
from labkit.trace import Pass


@pytest.fixture(scope="module")
def sample():
    """One patient for all tests."""
    return Sample()


@pytest.fixture(scope="module")
def report():
    """The verdicts on the installed packages."""
    return doctor.checkup()


def test_the_installed_packages_pass(report):
    assert report.healthy, repr(report)
    assert len(report.verdicts) == len(doctor.CHECKS) == len({verdict.name for verdict in report.verdicts})
    for verdict in report.verdicts:
        if verdict.name not in ("versions", "memory", "browser"):  # these depend on the machine
            assert verdict.status == "ok", verdict


def test_measured_numbers_are_told(report):
    assert "gives 0 maps" in report["attention maps under sdpa"].detail
    assert "2 maps for 4 layers" in report["attention map index"].detail
    assert "becomes 10,000" in report["rope base"].detail
    count = sum(2 * len(own) for family in FAMILIES.values() for own in family.seams.values())  # of D A D A
    told = f"{count} seams of {4 * len(FAMILIES)} layers of {len(FAMILIES)} families; logits moved by 0e+00, 0 hooks"
    assert told in report["tracing"].detail
    assert "the stack sees 0 and 20 tokens before two passes" in report["cache argument"].detail
    assert f"{3 * len(FAMILIES)} edits at token 40" in report["chunked edits"].detail
    assert "[2, 1]" in report["stop ids"].detail


def test_tested_versions_are_the_pinned_and_allowed_ones():
    root = pathlib.Path(__file__).parent.parent
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    ranges = {wanted.name: wanted.specifier for wanted in map(Requirement, project["dependencies"])}
    pins = dict(re.findall(r"^([a-z0-9-]+)==(\S+)$", (root / "constraints.txt").read_text(), re.MULTILINE))
    for name, versions in stack.TESTED.items():
        assert versions[0] == pins[name]
        assert all(ranges[name].contains(version) for version in versions)
    oldest = ".".join(map(str, stack.OLDEST_TRANSFORMERS))
    assert f">={oldest}" in str(ranges["transformers"])
    assert project["requires-python"] == ">=" + ".".join(map(str, stack.PYTHON))


def test_text_and_html_say_the_same(report):
    page = html.unescape(re.sub("<[^>]*>", " ", report._repr_html_()))
    for verdict in report.verdicts:
        line = f"{verdict.status:4}  {verdict.name}: {verdict.detail}"
        assert line in repr(report).splitlines()
        assert all(word in page for word in (verdict.name, verdict.status, verdict.detail))
    assert repr(report).splitlines()[-1] == report.summary()
    assert report.summary() in page


def test_html_is_escaped():
    verdict = doctor.Verdict("a <b>", "fail", "<script>alert(1)</script>")
    assert "<script>" not in doctor.Report((verdict,))._repr_html_()
    with pytest.raises(ValueError, match="none of"):
        doctor.Verdict("a", "fine", "")


def test_a_checkup_leaves_no_trace(sample):
    before, known = torch.get_rng_state(), set(AttentionInterface._global_mapping)
    doctor.checkup()
    assert torch.equal(torch.get_rng_state(), before)
    assert set(AttentionInterface._global_mapping) == known
    implementation = sample.model.config._attn_implementation
    for check in masks.CHECKS:
        check(sample)
    assert sample.model.config._attn_implementation == implementation


def test_the_command_tells_and_exits(monkeypatch, capsys):
    def good(sample):
        return doctor.Verdict("good", "warn", "so so")

    def bad_one(sample):
        raise KeyError("lost")

    monkeypatch.setattr(doctor.checkup, "__defaults__", ((good,),))
    assert doctor.main([]) == 0
    assert capsys.readouterr().out == "warn  good: so so\n0 ok, 1 warn, 0 fail\n"
    monkeypatch.setattr(doctor.checkup, "__defaults__", ((good, bad_one),))
    assert doctor.main([]) == 1
    assert "fail  bad one: the check stumbled: KeyError: 'lost'" in capsys.readouterr().out
    with pytest.raises(SystemExit) as stop:
        doctor.main(["--help"])
    assert stop.value.code == 0
    assert "usage: labkit doctor" in capsys.readouterr().out


def test_sizes_differ_pairwise_where_a_swap_could_hide():
    assert len(set(SIZES.values())) == len(SIZES)
    assert set(SIZES) == {name for family in FAMILIES.values() for name in family.sizes}


# -------------------------------------------------------------------------------- each fault turns its verdict


@pytest.mark.parametrize(
    ("found", "status"),
    [
        ({}, "ok"),
        ({"torch": "2.13.0+cu130"}, "ok"),
        ({"transformers": "5.24.0"}, "ok"),
        ({"torch": "2.14.1"}, "warn"),
        ({"transformers": "5.22.9"}, "fail"),
    ],
)
def test_versions(found, status, monkeypatch):
    monkeypatch.setattr(stack, "_version", lambda name: found.get(name, stack.TESTED[name][0]))
    verdict = stack.versions(None)
    assert verdict.status == status
    assert all(version in verdict.detail for version in found.values())


def test_old_python(monkeypatch):
    monkeypatch.setattr(stack.platform, "python_version_tuple", lambda: ("3", "10", "4"))
    assert stack.versions(None).status == "fail"


@pytest.mark.parametrize(
    ("gpu", "conv", "chunk", "status", "said"),
    [
        (
            False,
            "torch",
            "torch",
            "ok",
            "all PyTorch's reference; no GPU, so the reference computes, and fast packages",
        ),
        (False, "torch", "fla", "ok", "chunk fla; no GPU, so the reference computes, and fla would compute on a GPU"),
        (True, "torch", "torch", "warn", "all PyTorch's reference; a GPU is faster with fla-core and causal-conv1d"),
        (True, "torch", "fla", "warn", "chunk torch, conv torch, chunk fla; a GPU is faster with causal-conv1d"),
        (True, "causal_conv1d", "fla", "ok", "chunk fla; float32 and what they cannot do is left to the reference"),
    ],
)
def test_fast_kernels_matter_with_a_gpu_alone(gpu, conv, chunk, status, said, monkeypatch):
    found = {"qwen3_5": {"chunk": "torch", "conv": conv}, "qwen3_5_moe": {"chunk": chunk, "conv": conv}}
    monkeypatch.setattr(stack, "installed", lambda family: found.get(family.name, found["qwen3_5"]))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    verdict = stack.kernels(None)
    assert verdict.status == status and said in verdict.detail


def test_no_browser(monkeypatch):
    monkeypatch.setattr(stack.shutil, "which", lambda name: None)
    assert stack.browser(None).status == "warn"
    monkeypatch.setattr(stack.shutil, "which", lambda name: "/usr/bin/chrome" if name == "chrome" else None)
    assert stack.browser(None).detail == "chrome is installed"


def test_share_button(monkeypatch):
    import plotly.offline

    for script, status, word in (
        ('showSendToCloud:{valType:"boolean",dflt:!1}', "ok", "off"),
        ("no such option", "warn", "no longer"),
    ):
        monkeypatch.setattr(plotly.offline, "get_plotlyjs", lambda script=script: script)
        verdict = stack.share_button(None)
        assert (verdict.status, word in verdict.detail) == (status, True)


def test_a_forgotten_state_fails(sample, monkeypatch):
    rule = modeling.torch_chunk_gated_delta_rule

    def forgetful(*args, initial_state=None, **options):
        return rule(*args, **options)

    assert memory.warm_cache(sample).status == "ok"
    monkeypatch.setattr(modeling, "torch_chunk_gated_delta_rule", forgetful)
    assert memory.warm_cache(sample).status == "fail"


def test_ignored_padding_fails(monkeypatch):
    monkeypatch.setattr(modeling, "create_recurrent_attention_mask", lambda **options: None)
    assert memory.left_padding(Sample()).status == "fail"


def test_a_croppable_cache_is_noticed(sample, monkeypatch):
    assert memory.crop(sample).status == "ok"
    monkeypatch.setattr(DynamicCache, "crop", lambda self, length: None)
    assert memory.crop(sample).status == "warn"
    monkeypatch.setattr(DynamicCache, "is_croppable", True)
    assert memory.crop(sample).status == "warn"


def test_half_precision_states_fail(sample, monkeypatch):
    rule = modeling.torch_chunk_gated_delta_rule

    def rounded(*args, **options):
        out, state = rule(*args, **options)
        return out, state.bfloat16()

    monkeypatch.setattr(modeling, "torch_chunk_gated_delta_rule", rounded)
    verdict = memory.state_precision(sample)
    assert verdict.status == "fail"
    assert "states are bfloat16" in verdict.detail


def test_changed_defaults_are_noticed():
    class Other:
        def __init__(self, rope_parameters):
            self.rope_parameters = rope_parameters | {"rope_theta": 500.0}

    model = types.SimpleNamespace(config=Other({}))
    verdict = masks.rope_base(types.SimpleNamespace(model=model))
    assert verdict.status == "warn"
    assert "becomes 500" in verdict.detail


def test_a_hook_left_behind_fails(sample, monkeypatch):
    from labkit.lab import Lab

    trace, hooks = Lab.trace, []

    def careless(self, *args, **options):
        hooks.append(self.model.lm_head.register_forward_hook(lambda *a: None))
        return trace(self, *args, **options)

    monkeypatch.setattr(Lab, "trace", careless)
    verdict = seams.tracing(sample)
    for hook in hooks:
        hook.remove()
    assert verdict.status == "fail"
    assert f"{len(FAMILIES)} hooks left" in verdict.detail


def blind(monkeypatch):
    """From here on hooks on the stack see no cache, as when its parameter has a name that nobody looks for."""
    see = Pass.of.__func__

    def without(cls, module, args, kwargs):
        return dataclasses.replace(see(cls, module, args, kwargs), cache=None, before=0)

    monkeypatch.setattr(Pass, "of", classmethod(without))


def test_a_cache_that_nobody_finds_fails(sample, monkeypatch):
    assert edits.cache_argument(sample).status == "ok"
    blind(monkeypatch)
    verdict = edits.cache_argument(sample)
    assert (verdict.status, "0 and 0 tokens" in verdict.detail) == ("fail", True)
    report = doctor.checkup((edits.cache_argument, edits.chunked_edits))
    assert [verdict.status for verdict in report.verdicts] == ["fail", "fail"]


def test_an_edit_dropped_in_chunks_fails(sample, monkeypatch):
    """Seam edits alone: they vanish without a word, where a state edit would be refused."""
    monkeypatch.setattr(edits.edit, "state", lambda change, layer, at: edits.edit.scale("z", layer=layer, factor=8))
    verdict = edits.chunked_edits(sample)
    assert verdict.status == "ok"
    blind(monkeypatch)
    verdict = edits.chunked_edits(sample)
    assert verdict.status == "fail"
    assert float(re.search(r"but for (\S+) of it", verdict.detail)[1]) >= 0.9, verdict


def test_an_edit_without_effect_fails(sample, monkeypatch):
    """Both ways alike is not enough: here they are alike because nothing happens."""
    from labkit.lab import Lab

    trace, nothing = Lab.trace, edits.edit.scale("gated", layer=0, factor=1, tokens=[40])
    monkeypatch.setattr(edits.edit, "scale", lambda *args, **options: nothing)
    monkeypatch.setattr(Lab, "trace", lambda lab, ids, chunk=None: trace(lab, ids))
    verdict = edits.chunked_edits(sample)
    assert verdict.status == "fail"
    assert "but for 0e+00 of it" in verdict.detail


def test_dropout_is_noticed(sample):
    sample.model.train()
    try:
        sample.model.config.attention_dropout = 0.1
        for layer in sample.model.model.layers[1::2]:
            layer.self_attn.attention_dropout = 0.1
        assert seams.random_numbers(sample).status == "fail"
    finally:
        sample.model.eval()
        sample.model.config.attention_dropout = 0.0
        for layer in sample.model.model.layers[1::2]:
            layer.self_attn.attention_dropout = 0.0
    assert seams.random_numbers(sample).status == "ok"


def test_the_patient_is_always_the_same(sample):
    again = build(torch.float32)
    for (name, a), (_, b) in zip(again.named_parameters(), sample.model.named_parameters(), strict=True):
        assert far(a, b) == 0, name
