"""A model in memory, whatever stands around it, and adapters of PEFT: read as they compute, or refused by name."""

import checkpoints
import pytest
import tiny
import torch
from safetensors.torch import load_file, save_file

import labkit as lk
from labkit.errors import BackendError, CheckpointError, InputError
from labkit.zoo import adapters, exact_rotation

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing")  # of transformers, asked by peft
IDS = tiny.ids(23)


def logits(model):
    with torch.no_grad():
        return model(IDS[None]).logits[0]


def traced(lab):
    return lab.trace(IDS, logits="all").logits


# ------------------------------------------------------------------------------------------------ what stands around


def test_load_takes_a_model_as_wrap_does(model, tmp_path):
    folder = checkpoints.text_only(tmp_path / "hybrid", model)
    tokenizer = lk.load(folder, device="cpu").tokenizer
    for given in (tokenizer, folder, str(folder)):
        lab = lk.load(model, tokenizer=given)
        assert lab.model is model and lab.encode("ab").tolist() == [5]
    assert torch.equal(traced(lab), logits(model))
    assert lk.load(model, attention="eager").backend.attention == "eager"
    assert lk.load(model, attention="sdpa").backend.attention == lk.load(model).backend.attention == "sdpa"
    assert lk.load(model).tokenizer is None and lk.load(model).backend.notes == ()
    for options in (dict(device="cpu"), dict(dtype="float32"), dict(quantize="nf4"), dict(base="x"), dict(merge=True)):
        with pytest.raises(InputError, match=f"which a model in memory does not have\n.*{next(iter(options))} beside"):
            lk.load(model, **options)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch.compile in itself
def test_a_compiled_model_is_read_uncompiled(model):
    lab = lk.load(torch.compile(model, backend="eager"))
    assert lab.model is model and torch.equal(traced(lab), logits(model))
    assert any("torch.compile stood around it" in note for note in lab.backend.notes)
    own = tiny.model()
    own.compile(backend="eager")
    with pytest.raises(InputError, match=r"compiled: the model\n.*torch.compile\(model\) leaves model"):
        lk.load(own)


def test_a_data_parallel_model_is_read_inside(model):
    lab = lk.load(torch.nn.DataParallel(model))
    assert lab.model is model and any("data-parallel" in note for note in lab.backend.notes)


def test_hooks_of_others_are_told():
    own = tiny.model()

    def louder(module, args, output):
        return 2 * output

    own.model.layers[1].mlp.up_proj.register_forward_hook(louder)
    with pytest.warns(UserWarning, match=r"hooks of others are on this model.*louder at model.layers.1.mlp.up_proj"):
        lab = lk.wrap(own)
    run = lab.trace(IDS, logits="all")
    assert torch.equal(run.logits, logits(own)) and len(run.identity.hooks) == len(lab.backend.notes) == 1


def rounded(own):
    return own.to(torch.bfloat16)


def back(own):
    return own.to(torch.bfloat16).float()


def halved(own):
    return own.half().float()


def doubled(own):
    return own.double()


@pytest.mark.parametrize("round", [rounded, back, halved, doubled])
def test_rounded_rotary_frequencies_are_refused_and_put_back(round):
    with pytest.raises(InputError, match=r"rotary frequencies were rounded\n(.*\n)*.*exact_rotation"):
        lk.wrap(round(tiny.model()))
    mended = exact_rotation(round(tiny.model()))
    exact = tiny.model()
    assert torch.equal(mended.model.rotary_emb.inv_freq, exact.model.rotary_emb.inv_freq)
    for weight in exact.parameters():
        weight.data = weight.to(torch.float16 if round is halved else torch.bfloat16).to(mended.dtype)
    if round is not doubled:
        assert torch.equal(traced(lk.wrap(mended)), logits(exact))
    lab = lk.wrap(tiny.model())
    traced(lab)
    round(lab.model)
    with pytest.raises(InputError, match="rotary frequencies were rounded"):
        traced(lab)


@pytest.mark.parametrize("kind", ["yarn", "linear", "dynamic"])
def test_frequencies_of_a_scaling_are_whole(kind):
    rope = dict(tiny.SIZES["rope_parameters"], rope_type=kind, factor=4.0, original_max_position_embeddings=128)
    own = tiny.model(rope_parameters=rope)
    lab = lk.wrap(own)
    own(tiny.ids(300)[None])  # after which "dynamic" keeps other frequencies
    assert traced(lab).isfinite().all()
    with pytest.raises(InputError, match="rotary frequencies were rounded"):
        lk.wrap(back(tiny.model(rope_parameters=rope)))
    assert lk.wrap(exact_rotation(back(tiny.model(rope_parameters=rope))))


def test_autocast_training_and_inference_mode_are_refused(model):
    with torch.autocast("cpu", dtype=torch.bfloat16), pytest.raises(InputError, match="no readings under autocast"):
        lk.load(model)
    with torch.inference_mode(), pytest.raises(InputError, match="inference mode"):
        lk.load(model)
    with pytest.raises(InputError, match="eval mode"):
        lk.load(tiny.model().train())


def test_weights_that_accelerate_keeps_elsewhere_are_refused():
    accelerate = pytest.importorskip("accelerate", reason="needs the extra: pip install '.[quant]'")
    own = accelerate.cpu_offload(tiny.model(), execution_device="cpu")
    with pytest.raises(BackendError, match=r"all on one device\n.*meta"):
        lk.load(own)
    here = accelerate.dispatch_model(tiny.model(), device_map={"": "cpu"}, force_hooks=True)
    with pytest.warns(UserWarning, match="hooks of others are on this model.*another forward"):
        assert torch.equal(traced(lk.load(here)), logits(here))


# ------------------------------------------------------------------------------------------------------------ adapters


def adapted(**options):
    """A model of PEFT with a LoRA adapter whose weights are no zeros."""
    peft = pytest.importorskip("peft", reason="pip install peft")
    options = dict(r=3, target_modules=["q_proj", "out_proj", "down_proj"], init_lora_weights=False) | options
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return peft.get_peft_model(tiny.model(), peft.LoraConfig(**options)).eval()


def saved(folder, base, around, **changes):
    """An adapter's folder that names its base."""
    around.save_pretrained(folder)
    checkpoints.change_json(folder / adapters.CONFIG, base_model_name_or_path=str(base), **changes)
    return folder


@pytest.fixture
def base(tmp_path, model):
    return checkpoints.text_only(tmp_path / "hybrid", model)


def test_a_model_with_adapters_is_its_base_with_them():
    around = adapted()
    lab = lk.load(around)
    assert lab.model is around.get_base_model() and torch.equal(traced(lab), logits(around))
    assert lab.identity().adapters.startswith("default x 2.66") and "default x 2.66" in repr(lab.backend)
    parity = lk.deltanet.memory(lab.trace(IDS), layer=0).attrs["parity"]
    assert parity < 1e-5
    with around.disable_adapter():
        assert lab.identity().adapters == "switched off" and torch.equal(traced(lab), logits(around))


def test_adapters_outside_the_layers_are_refused_with_a_call_that_helps(model):
    peft = pytest.importorskip("peft", reason="pip install peft")
    prompts = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)
    for around, inside in (
        (peft.get_peft_model(tiny.model(), prompts).eval(), lambda around: around.base_model),
        (adapted(alora_invocation_tokens=[3], task_type="CAUSAL_LM"), lambda around: around.unload()),
    ):
        with pytest.raises(InputError, match="outside the layers") as caught:
            lk.load(around)
        name = "model.unload()" if "unload" in caught.value.hint else "model.base_model"
        assert name in caught.value.hint
        assert torch.equal(traced(lk.wrap(inside(around))), logits(model))


KINDS = {
    "plain": {},
    "stabilised": dict(use_rslora=True),
    "directions": dict(use_dora=True),
    "ranks": dict(rank_pattern={"q_proj": 5}, alpha_pattern={"q_proj": 7}),
    "whole modules": dict(modules_to_save=["lm_head"]),
    "embedding": dict(target_modules=["embed_tokens", "q_proj"]),
    "all": dict(target_modules="all-linear"),
    "rule": dict(target_modules=r".*\.(q_proj|in_proj_a)"),
    "layers": dict(layers_to_transform=[2, 3]),
}


@pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers`|Could not find a config")  # of peft, when it saves
@pytest.mark.parametrize("case", KINDS)
def test_an_adapter_on_disk_computes_what_peft_computes(case, tmp_path, base):
    around = adapted(**KINDS[case])
    folder = saved(tmp_path / "in french", base, around)
    lab = lk.load(folder, device="cpu")
    assert torch.equal(traced(lab), logits(around))
    assert "in_french" in lab.identity().adapters and lab.name == "hybrid + in_french"
    assert any("LoRA of rank 3" in note and "beside" in note for note in lab.backend.notes)
    assert not any(weight.requires_grad for weight in lab.model.parameters())
    merged = lk.load(folder, merge=True, device="cpu")
    assert (traced(merged) - logits(around)).abs().max() < 1e-3 and merged.identity().adapters == ""
    assert not any(hasattr(module, "merged_adapters") for module in merged.model.modules())


def test_an_adapter_finds_its_base_its_tokenizer_and_the_text_part(tmp_path, base, model):
    around = adapted()
    folder = saved(tmp_path / "adapter", "org/nowhere", around)
    with pytest.raises(CheckpointError, match=r"base of the adapter is not there\n.*org/nowhere.*\n.*base="):
        lk.load(folder)
    checkpoints.change_json(folder / adapters.CONFIG, base_model_name_or_path=None)
    with pytest.raises(InputError, match=r"does not name its base\n(.*\n)*.*base="):
        lk.load(folder)
    images = checkpoints.image_text(tmp_path / "images", model)
    checkpoints.rewrite(images, lambda named: None)
    assert torch.equal(traced(lk.load(folder, base=images, device="cpu")), logits(around))
    weights = folder / adapters.WEIGHTS
    rename = lambda named: {
        name.replace(".model.layers", ".model.language_model.layers"): w for name, w in named.items()
    }  # noqa: E731
    from safetensors.torch import load_file, save_file

    save_file(rename(load_file(weights)), weights)
    assert torch.equal(traced(lk.load(folder, base=images, device="cpu")), logits(around))
    for file in base.glob("tokenizer*"):
        file.rename(folder / file.name)
    assert lk.load(folder, base=base, device="cpu").encode("ab").tolist() == [5]
    with pytest.raises(InputError, match="base and merge are of an adapter's folder"):
        lk.load(images, base=base)


def spoilt(name, change):
    """Change one tensor of an adapter."""

    def spoil(folder):
        named = load_file(folder / adapters.WEIGHTS)
        first = sorted(named)[0]
        change(named, first)
        save_file(named, folder / adapters.WEIGHTS)

    return spoil


def settings(**changes):
    return lambda folder: checkpoints.change_json(folder / adapters.CONFIG, **changes)


REFUSED = {
    "kind": (settings(peft_type="IA3"), "of a kind that labkit does not read", "peft_type 'IA3'"),
    "imports": (settings(megatron_config={"a": 1}), "settings that labkit does not read", "megatron_config"),
    "rank": (settings(r="x"), "a setting of the adapter that is none", "r is 'x'"),
    "another rank": (settings(r=4), "the adapter is of another model", "[4, "),
    "bias": (settings(bias="all"), "a setting of the adapter that is none", "'all'"),
    "modules": (settings(target_modules=["nothing"]), "the adapter does not fit this base", "nothing"),
    "fewer modules": (settings(target_modules=["q_proj"]), "the model has no place for", "16 unexpected"),
    "more modules": (
        settings(target_modules=["q_proj", "k_proj", "out_proj", "down_proj"]),
        "the adapter lacks",
        "4 of",
    ),
    "lacks": (spoilt("lacks", lambda named, first: named.pop(first)), "the adapter lacks tensors", "1 of 20"),
    "more": (spoilt("more", lambda named, first: named.update(x=torch.ones(2))), "has no place for", "unexpected: x"),
    "NaN": (spoilt("NaN", lambda named, first: named[first].fill_(float("nan"))), "NaN or infinite", "1 tensors"),
    "no weights": (
        lambda f: (f / adapters.WEIGHTS).rename(f / "adapter_model.bin"),
        "weights are missing",
        "model.bin",
    ),
    "short": (
        lambda f: (f / adapters.WEIGHTS).write_bytes((f / adapters.WEIGHTS).read_bytes()[:-5]),
        "is truncated",
        adapters.WEIGHTS,
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_an_adapter_that_is_not_whole_is_refused(case, tmp_path, base):
    damage, what, detail = REFUSED[case]
    folder = saved(tmp_path / "adapter", base, adapted())
    damage(folder)
    with pytest.raises(CheckpointError) as caught:
        lk.load(folder, device="cpu")
    assert what in caught.value.what and detail in str(caught.value)


def test_an_adapter_needs_peft(tmp_path, base, monkeypatch):
    import importlib.util

    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / adapters.WEIGHTS).write_bytes((base / "model.safetensors").read_bytes())
    checkpoints.write_json(folder / adapters.CONFIG, {"peft_type": "LORA", "r": 3, "target_modules": ["q_proj"]})
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "peft" else find(name, *a))
    with pytest.raises(BackendError, match=r"packages that are not installed\n.*no peft\n.*pip install"):
        lk.load(folder, base=base)
    with pytest.raises(InputError, match="packed weights cannot take an adapter in"):
        adapters.read(folder, merge=True, quantize="int8")
