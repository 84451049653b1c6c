"""The record of what computes, and the switch to the reference kernels."""

import functools
import html
import inspect
import re
import types

import checkpoints
import pytest
import tiny
import torch
from transformers.models.qwen3_5 import modeling_qwen3_5 as modeling

import labkit as lk
from labkit.errors import BackendError
from labkit.families import FAMILIES
from labkit.kernels import bound
from labkit.zoo import backend

DENSE, MIXED = FAMILIES["qwen3_5"], FAMILIES["qwen3_5_moe"]


@pytest.fixture
def kernels(monkeypatch):
    """Whatever a test binds is undone."""
    for family in FAMILIES.values():
        for name in family.kernels.values():
            monkeypatch.setattr(family.module(), name, getattr(family.module(), name))
    monkeypatch.setattr(bound, "_forced", {})


def decorated(reference, module):
    """The reference behind transformers' decorator, resolved to a kernel of another package."""

    def kernel(*args, **options):
        return reference(*args, **options)

    kernel.__module__ = module

    def outer(implementation, torch_function):
        @functools.wraps(torch_function)
        def wrapped(*args, **options):
            return implementation(*args, **options) if implementation else torch_function(*args, **options)

        return wrapped

    return outer(kernel, inspect.unwrap(reference))


def test_the_record_names_each_kernel_by_itself(kernels, monkeypatch):
    assert set(bound.installed(DENSE)) == set(DENSE.kernels)
    for name in DENSE.kernels.values():
        bare = inspect.unwrap(getattr(modeling, name))
        monkeypatch.setattr(modeling, name, bare)
    assert set(bound.installed(DENSE).values()) == {"torch"}
    fast = decorated(modeling.torch_chunk_gated_delta_rule, "fla.ops.gated_delta_rule.chunk")
    monkeypatch.setattr(modeling, "torch_chunk_gated_delta_rule", fast)
    monkeypatch.setattr(modeling, "causal_conv1d_fn", decorated(modeling.causal_conv1d_fn, "causal_conv1d"))
    assert bound.installed(DENSE) == {
        "chunk_gated_delta_rule": "fla",
        "recurrent_gated_delta_rule": "torch",
        "causal_conv1d": "causal_conv1d",
        "causal_conv1d_update": "torch",
    }
    assert bound.installed(MIXED)["chunk_gated_delta_rule"] != "fla", "each family has kernels of its own"


def test_the_reference_can_be_forced_and_undone(kernels, monkeypatch, tmp_path, model):
    def wrong(*args, **options):
        raise RuntimeError("a broken kernel")

    wrong.__module__ = "fla.ops"
    fast = decorated(modeling.torch_chunk_gated_delta_rule, "fla.ops")
    cells = dict(zip(fast.__code__.co_freevars, fast.__closure__, strict=True))
    cells["implementation"].cell_contents = wrong
    ids = tiny.ids(70)[None]
    expected = model(ids).logits
    monkeypatch.setattr(modeling, "torch_chunk_gated_delta_rule", fast)
    with pytest.raises(RuntimeError, match="a broken kernel"):
        model(ids)
    folder = checkpoints.text_only(tmp_path / "hybrid", model)
    lab = lk.load(folder, device="cpu", backend="torch")
    assert torch.equal(lab.model(ids).logits, expected)
    assert torch.equal(lab.model(ids, use_cache=False).logits, expected)
    assert set(lab.backend.kernels.values()) == {"torch"}
    assert "torch (reference, forced)" in repr(lab.backend)
    assert lk.load(folder, device="cpu").backend.forced, "None keeps what is bound"
    undone = lk.load(folder, device="cpu", backend="installed").backend
    assert not undone.forced
    assert bound.installed(DENSE)["chunk_gated_delta_rule"] == "fla"
    assert undone.kernels["chunk_gated_delta_rule"] == "torch", "on a CPU the reference computes all the same"
    assert torch.equal(model(ids).logits, expected)


def test_forcing_is_refused_packed_sequences_and_done_once(kernels):
    others = MIXED.module().causal_conv1d_fn
    backend.choose("torch", DENSE)
    first = modeling.causal_conv1d_fn
    backend.choose("torch", DENSE)
    assert modeling.causal_conv1d_fn is first
    assert MIXED.module().causal_conv1d_fn is others
    backend.choose("torch", MIXED)
    assert MIXED.module().causal_conv1d_fn is not others
    backend.choose("installed", DENSE)
    assert modeling.causal_conv1d_fn is not first
    assert MIXED.module().causal_conv1d_fn is not others
    backend.choose("installed", MIXED)
    assert MIXED.module().causal_conv1d_fn is others
    with pytest.raises(BackendError, match="packed sequences"):
        first(torch.zeros(1, 3, 4), torch.zeros(3, 4), seq_idx=torch.zeros(1))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_transformers_without_the_kernels_is_refused(family, kernels, monkeypatch):
    monkeypatch.delattr(FAMILIES[family].module(), "causal_conv1d_update")
    with pytest.raises(BackendError, match=rf"than labkit knows\n.*no causal_conv1d_update in .*modeling_{family}\n"):
        bound.installed(FAMILIES[family])


def test_text_and_html_say_the_same(model):
    spec = lk.spec.read(model.config)
    record = backend.record(model, spec)
    assert repr(record) == repr(backend.record(model, spec)) == repr(lk.wrap(model).backend)
    text, page = repr(record), html.unescape(re.sub("<[^>]*>", " ", record._repr_html_()))
    for group, name, value in record.facts():
        for word in (group, name, *value.split()):
            assert word in text
            assert word in page
    assert record.attention == "sdpa"
    assert record.device == "cpu"
    assert record.versions["torch"] == torch.__version__
    assert set(record.versions) == {"python", "torch", "transformers", "fla", "causal_conv1d", "kernels", "triton"}


def test_the_gpu_is_named(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H100")
    assert backend.device_name(types.SimpleNamespace(type="cuda", __str__=None) and torch.device("cuda", 1)) == (
        "cuda:1 NVIDIA H100"
    )
