"""The image-text class from disk, however it is stored: the tower is whole, and texts are those of the text class."""

import json

import checkpoints
import packers
import pytest
import sights
import tiny
import torch

import labkit as lk
from labkit import doctor, pictures
from labkit.errors import BudgetError, CheckpointError, InputError
from labkit.plan import card
from labkit.trace import decoder
from labkit.zoo import adapters, held, precision, towers

IDS = tiny.ids(23)
GIVEN = sights.processed(*sights.PROMPT)


def written(folder, model, *, shards=1, apart=False, change=lambda name: name):
    """A checkpoint of an image-text model; `change` gives the names on disk."""
    folder.mkdir(parents=True)
    named = checkpoints.tensors(model, apart)
    checkpoints.write_tensors(folder, {change(name): tensor for name, tensor in named.items()}, shards)
    config = json.loads(model.config.to_json_string(use_diff=False))
    checkpoints.write_json(folder / "config.json", config | {"dtype": "float32"})
    checkpoints.write_tokenizer(folder, model.config.text_config.vocab_size)
    return folder


@pytest.fixture(scope="module")
def models():
    """With and without experts."""
    return {experts: sights.image_text(experts=experts) for experts in (False, True)}


@pytest.fixture
def folder(tmp_path, models):
    return written(tmp_path / "eyes", models[False])


def logits(lab, prompt):
    return lab.trace(prompt, logits="all").logits


def assert_same(lab, model, folder, **options):
    """Weights bit by bit, pictures as the model alone, texts as the text class."""
    assert type(lab.model) is type(model)
    expected = model.state_dict()
    assert lab.model.state_dict().keys() == expected.keys()
    for name, weight in lab.model.state_dict().items():
        assert torch.equal(weight, expected[name]), name
    seen = pictures.see(lab, GIVEN)
    assert torch.equal(logits(lab, seen), logits(tiny.make_lab(model), seen))
    text = lk.load(folder, device="cpu", **options)
    assert not hasattr(text.model.model, "visual") and text.processor is None
    assert torch.equal(logits(text, IDS), logits(lab, IDS))


PREFIXED = "model.language_model."
STORED = {
    "as published": {},
    "shards": dict(shards=3),
    "experts apart": dict(apart=True),
    "both": dict(shards=4, apart=True),
    "data parallel": dict(change=lambda name: f"module.{name}"),
    "compiled, apart": dict(apart=True, change=lambda name: f"_orig_mod.{name}"),
    "merged": dict(change=lambda name: f"base_model.model.{name}"),
    "older": dict(change=lambda name: name.removeprefix("model.")),
    "text names": dict(change=lambda name: name.replace(PREFIXED, "model.")),
    "text names, apart": dict(apart=True, change=lambda name: name.replace(PREFIXED, "model.")),
    "doubled": dict(change=lambda name: name.replace(PREFIXED, f"{PREFIXED}language_model.")),
    "tower alone": dict(change=lambda name: name.replace("model.visual.", "visual.")),
}


@pytest.mark.filterwarnings("ignore:.*(no preprocessor_config|names on disk)")
@pytest.mark.parametrize("experts", [False, True], ids=["dense", "experts"])
@pytest.mark.parametrize("way", STORED)
def test_every_way_of_storing_gives_the_model_that_was_stored(way, experts, models, tmp_path):
    folder = written(tmp_path / "eyes", models[experts], **STORED[way])
    assert_same(lk.load(folder, device="cpu", images=True), models[experts], folder)


EYES = checkpoints.VISION | dict(out_hidden_size=checkpoints.BLOCKS["hidden_size"])
PACKED = {
    "fp8": packers.fp8,
    "nf4": packers.nf4,
    "compressed-tensors": packers.compressed,
    "gptq": packers.gptq,
    "awq": packers.awq,
    "mlx": packers.mlx,
}


@pytest.mark.filterwarnings("ignore:.*(no preprocessor_config|names on disk)")
@pytest.mark.parametrize("way", PACKED)
def test_packed_text_layers_are_unpacked_beside_a_plain_tower(way, tmp_path, monkeypatch):
    """The tower is read as it was stored, and what stands beside it are the numbers of the packed weights."""
    monkeypatch.setattr(held, "stays_packed", lambda *_: False)
    model = sights.image_text(vision=EYES, **checkpoints.BLOCKS)
    named, tower = {}, {}
    for name, tensor in checkpoints.tensors(model).items():
        (tower if "visual" in name else named)[name.replace(PREFIXED, "model.")] = tensor
    folder = written(tmp_path / "eyes", model)
    checkpoints.write_tensors(folder, named)
    meant = PACKED[way](folder)

    def join(stored):
        for name in [name for name in stored if way != "mlx" and name.startswith("model.")]:
            stored[name.replace("model.", PREFIXED, 1)] = stored.pop(name)
        for name, tensor in tower.items():
            turned = tensor.permute(0, 2, 3, 4, 1).contiguous() if way == "mlx" and tensor.ndim == 5 else tensor
            stored[name.replace("model.visual.", "vision_tower.") if way == "mlx" else name] = turned

    checkpoints.rewrite(folder, join)
    twin = sights.image_text(vision=EYES, **checkpoints.BLOCKS)
    placed = {name.replace("model.", PREFIXED, 1): tensor for name, tensor in meant.items()}
    twin.load_state_dict(twin.state_dict() | placed)
    lab = lk.load(folder, device="cpu", dtype="float32", images=True)
    assert lab.backend.quantize.endswith(", unpacked") and not torch.equal(
        logits(lab, IDS), logits(lk.wrap(model), IDS)
    )
    assert_same(lab, twin, folder, dtype="float32")


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing")  # of transformers, asked by peft
@pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers`|Could not find a config|.*no preprocessor_config")
@pytest.mark.parametrize("trained", ["text class", "image-text class", "tower as well"])
def test_adapters_of_both_classes_compute_in_it(trained, tmp_path, folder, models):
    peft = pytest.importorskip("peft", reason="pip install peft")
    names = ["q_proj", "out_proj"] + (["linear_fc1"] if trained == "tower as well" else [])
    options = peft.LoraConfig(r=3, target_modules=names, init_lora_weights=False)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        text = tiny.model() if trained == "text class" else sights.image_text()
        around = peft.get_peft_model(text, options).eval()
    around.save_pretrained(tmp_path / "adapter")
    checkpoints.change_json(tmp_path / "adapter" / adapters.CONFIG, base_model_name_or_path=str(folder))
    lab = lk.load(tmp_path / "adapter", device="cpu", images=True)
    with torch.no_grad():
        assert torch.equal(logits(lab, IDS), around(IDS[None]).logits[0])
    seen = pictures.see(lab, GIVEN)
    assert not torch.equal(logits(lab, seen), logits(tiny.make_lab(models[False]), seen))
    if trained != "text class":
        assert torch.equal(logits(lab, seen), logits(tiny.make_lab(around.get_base_model()), seen))
    merged = lk.load(tmp_path / "adapter", device="cpu", images=True, merge=True)
    torch.testing.assert_close(logits(merged, seen), logits(lab, seen), rtol=1e-3, atol=1e-4)


@pytest.mark.filterwarnings("ignore:.*no preprocessor_config")
def test_a_quantisation_on_the_way_in_leaves_the_tower_as_it_is(tmp_path):
    pytest.importorskip("torchao", reason="pip install torchao")
    pytest.importorskip("accelerate", reason="pip install accelerate")
    model = sights.image_text(vision=EYES, **checkpoints.BLOCKS)
    folder = written(tmp_path / "eyes", model)
    lab, text = (lk.load(folder, device="cpu", quantize="int8", images=images) for images in (True, False))
    for name, weight in lab.model.model.visual.named_parameters():
        assert torch.equal(weight, model.model.visual.get_parameter(name)), name
    projection = decoder(lab.model).layers[0].mlp.up_proj.weight
    assert not precision.plain(projection) or type(projection.data) is not torch.Tensor
    assert torch.equal(logits(lab, IDS), logits(text, IDS))
    assert pictures.see(lab, GIVEN) is not None


# ------------------------------------------------------------------------------------------------------- refusals


def tower(name, tensor):
    """Leave a tensor of the tower out, or put another one there."""

    def change(folder):
        def edit(named):
            named.pop(name)
            if tensor is not None:
                named[name] = tensor

        checkpoints.rewrite(folder, edit)

    return change


def config(**changes):
    return lambda folder: checkpoints.change_json(folder / "config.json", **changes)


def vision(**changes):
    return lambda folder: checkpoints.change_json(folder / "config.json", vision_config=checkpoints.VISION | changes)


def broken_processor(folder):
    (folder / "preprocessor_config.json").write_text("{", encoding="utf-8")


NORM = "model.visual.blocks.0.norm1.weight"
FAULTS = {
    "no norm": (tower(NORM, None), CheckpointError, rf"lacks tensors\n.*{NORM}"),
    "a short norm": (tower(NORM, torch.ones(23)), CheckpointError, rf"model's shapes\n.*{NORM} \[23\]\n.*\[24\]"),
    "not a number": (tower(NORM, torch.full((24,), torch.nan)), CheckpointError, f"NaN or infinite\n.*{NORM}"),
    "deeper": (vision(depth=2), CheckpointError, "lacks tensors"),
    "another activation": (vision(hidden_act="relu"), CheckpointError, "another kind\n.*hidden_act is 'relu'"),
    "deep stacks": (vision(deepstack_visual_indexes=[0]), CheckpointError, "another kind\n.*deepstack"),
    "no sign": (config(image_token_id=None), CheckpointError, "signs of their own"),
    "one sign": (config(image_token_id=sights.VIDEO), CheckpointError, "signs of their own"),
    "a sign outside": (config(video_token_id=10**6), CheckpointError, "outside the vocabulary\n.*video_token_id"),
    "no tower": (config(vision_config=None), InputError, "no image tower\n(.*\n)*.*leave images out"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_half_a_tower_is_refused_and_texts_are_not(fault, folder):
    change, kind, match = FAULTS[fault]
    change(folder)
    with pytest.raises(kind, match=match):
        lk.load(folder, device="cpu", images=True)
    assert lk.load(folder, device="cpu").trace(IDS).logits.isfinite().all()


def test_what_has_no_tower_is_refused_with_what_to_do(tmp_path):
    (tmp_path / "a.gguf").write_bytes(b"GGUF")
    with pytest.raises(InputError, match=r"a .gguf file has no image tower\n.*a.gguf\n.*\n.*safetensors folder"):
        lk.load(tmp_path / "a.gguf", images=True)
    with pytest.raises(InputError, match=r"no image tower\n.*nano reads texts alone\n.*\n.*pictures.graft"):
        lk.load("nano", images=True)
    olmo = lk.spec.read("Olmo-Hybrid-7B")
    with pytest.raises(InputError, match="a family with image towers"):
        towers.check(olmo)
    with pytest.raises(InputError, match="images beside a model in memory"):
        lk.load(tiny.model(), images=True)


@pytest.mark.filterwarnings("ignore:.*no preprocessor_config")
def test_pictures_for_a_lab_of_texts_name_a_call_that_runs(folder):
    text = lk.load(folder, device="cpu")
    with pytest.raises(InputError, match="no image tower") as caught:
        pictures.see(text, GIVEN)
    names = {"labkit": lk}
    exec(caught.value.hint, names)
    seen = pictures.see(names["lab"], GIVEN)
    with pytest.raises(InputError, match="no image tower") as again:
        text.trace(seen)
    assert again.value.hint == caught.value.hint
    assert names["lab"].trace(seen).parity is not None


def test_the_tower_counts_where_memory_is_short(folder, models, monkeypatch):
    spec = lk.spec.read(folder)
    eyes = towers.tower_bytes(spec, "float32")
    assert eyes == sum(weight.nbytes for weight in models[False].model.visual.parameters())
    need = lk.spec.weight_bytes(spec, "float32")["text"]
    for module in (precision, card):
        monkeypatch.setattr(module, "budget", lambda device: (need + eyes - 1, "a small card"))
    with pytest.raises(BudgetError, match="would not fit") as caught:
        lk.load(folder, device="cpu", dtype="float32", images=True)
    assert "images=False" in caught.value.hint and lk.spec.size(need + eyes) in caught.value.got
    assert lk.load(folder, device="cpu", dtype="float32").model is not None


def test_doctor_and_plan_say_what_the_tower_adds(folder, models, tmp_path):
    verdict = doctor.examine(folder, device="cpu")["pictures"]
    count = sum(weight.numel() for weight in models[False].model.visual.parameters())
    size = lk.spec.size(4 * count)
    assert verdict.status == "warn" and "no processor" in verdict.detail
    assert f"adds an image tower: {count:,} parameters, {size}" in verdict.detail
    checkpoints.write_json(folder / "preprocessor_config.json", {})
    assert doctor.examine(folder, device="cpu")["pictures"].status == "ok"
    tower(NORM, None)(folder)
    report = doctor.examine(folder, device="cpu")
    assert report.healthy and report["pictures"].status == "warn" and NORM in report["pictures"].detail
    text = checkpoints.text_only(tmp_path / "text", tiny.model())
    assert doctor.examine(text, device="cpu")["pictures"].detail == "no image tower: a model of texts"
    told = dict(row[1:] for row in lk.spec.read(folder).card(tokens=9, dtype="float32").facts())
    assert told["vision"].endswith(f"{size} more with images=True")
    assert "images=True" not in repr(lk.load("nano").spec.card())


def test_a_folder_without_processor_takes_what_a_processor_gave(folder):
    with pytest.warns(UserWarning, match="eyes: no preprocessor_config.json beside the weights"):
        lab = lk.load(folder, device="cpu", images=True)
    assert lab.processor is None and len(pictures.see(lab, GIVEN)) == len(GIVEN["input_ids"][0])
    with pytest.raises(InputError, match="messages are rendered by a processor"):
        pictures.see(lab, [{"role": "user", "content": "ab"}])
    broken_processor(folder)
    pytest.importorskip("PIL", reason="pip install pillow")
    with pytest.raises(CheckpointError, match="no processor can be read"):
        lk.load(folder, device="cpu", images=True)
