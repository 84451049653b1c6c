"""Family records: what they say is there in transformers, seams may be permuted, and nothing else knows a family."""

import ast
import copy
import dataclasses
import pathlib
import re

import pytest
import tiny
import torch

import labkit as lk
from labkit import attention, deltanet, edit, families, yarn
from labkit.errors import BackendError, InputError
from labkit.families import ATTENTION, DELTANET, FAMILIES, Seam
from labkit.notation import AXES, QUANTITIES
from labkit.trace import cache_parameter, decoder

NAMES = [name for name in FAMILIES if name.startswith("qwen")]  # test_families_lin.py has the others
PACKAGE = pathlib.Path(lk.__file__).parent
# Files outside labkit/families that name a family in code, and why.
NAMED = {
    "nano/shape.py": "the recipe of one model",
    "nano/export.py": "its config.json",
    "nano/mtp.py": "its multi-token-prediction layer",
    "nano/card.py": "its card",
    "thinking/vocabulary.py": "transformers' tokenizer class of that name",
    "zoo/gguf_weights.py": "converters that lay rows out in ways of their own",
}


@pytest.fixture(scope="module", params=NAMES)
def built(request):
    """(family, a random hybrid of it)."""
    return FAMILIES[request.param], tiny.model(family=request.param)


def code_strings(path):
    """Names and texts in the code of a file; docstrings and comments are free to cite."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    prose = {
        id(node.body[0].value) for node in ast.walk(tree) if isinstance(node, documented) and ast.get_docstring(node)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
            yield node.value
        for field in ("id", "attr", "module", "name"):
            if isinstance(getattr(node, field, None), str):
                yield getattr(node, field)


def test_no_family_is_named_elsewhere():
    naming = {
        str(path.relative_to(PACKAGE).as_posix())
        for path in PACKAGE.rglob("*.py")
        if path.parent.name != "families"
        and any(re.search("qwen3_?(5|next)", text, re.I) for text in code_strings(path))
    }
    assert naming == set(NAMED)


def test_records_do_not_overlap():
    types = [name for family in FAMILIES.values() for name in family.model_types]
    assert len(types) == len(set(types))
    architectures = [family.gguf for family in FAMILIES.values() if family.gguf]
    assert len(architectures) == len(set(architectures))
    assert all(name == family.name for name, family in FAMILIES.items())


def test_a_record_says_what_transformers_has(built):
    family, model = built
    spec = lk.spec.read(model.config)
    assert spec.family == family.name
    assert type(model) is family.model_class()
    assert model.config.model_type == family.model_types[-1]
    assert tuple(kind.config_class.model_type for kind in family.classes()) == family.model_types[::-1]
    assert all(callable(getattr(family.module(), name)) for name in family.kernels.values())
    fields = {field.name for field in dataclasses.fields(spec)}
    for ours, theirs in family.sizes.items():
        assert ours in fields
        assert getattr(spec, ours) == getattr(model.config, theirs)
    names = {name.rpartition(".")[2] for name, _ in model.named_modules()}
    assert set(family.unquantized) <= names
    assert sum(part.count for part in family.mlp(spec)) == sum(
        w.numel() for w in model.model.layers[0].mlp.parameters()
    )


def test_every_seam_fires_as_its_record_says(built):
    family, model = built
    lab = lk.wrap(model)
    run, spec = lab.trace(tiny.ids(11)), lab.spec
    sizes = spec.axis_sizes
    for layer, kind in enumerate(spec.kinds):
        for name, seam in family.seams[kind].items():
            assert set(seam.dims) <= set(AXES) and seam.quantity in QUANTITIES
            shape = (
                (getattr(spec, seam.size),) if seam.dims == ("channel",) else tuple(sizes[axis] for axis in seam.dims)
            )
            assert tuple(run.seams[layer, name].shape) == (11, *shape) == (11, *seam.shape(spec)), (layer, name)
        weight = lab.projection(layer).weight
        mixed = run.seams[layer, "gated"].flatten(1) @ weight.T
        torch.testing.assert_close(mixed, run.seams[layer, "mixer_out"], rtol=1e-4, atol=1e-4)
        for name in family.parameters[kind]:
            assert torch.equal(
                run.parameters[layer, name], model.model.layers[layer].get_parameter(family.parameters[kind][name])
            )


def test_configuration_takes_names_of_the_spec():
    made = FAMILIES["qwen3_5_moe"].configuration(hidden=44, experts=13, num_hidden_layers=3)
    assert (made.hidden_size, made.num_experts, made.num_hidden_layers) == (44, 13, 3)


def test_the_family_of_a_type_and_of_a_model(built):
    family, model = built
    assert families.of_model(model) is family
    assert all(families.of_model_type(name) is family for name in family.model_types)
    with pytest.raises(
        InputError, match=r"labkit knows\n.*'mamba'\n.*qwen3_5, qwen3_5_text, qwen3_5_moe, .*\n.*CONTRIBUTING"
    ):
        families.of_model_type("mamba")
    with pytest.raises(InputError, match=r"labkit knows\n.*torch.nn.modules.linear.Linear\n.*Qwen3_5MoeForCausalLM"):
        families.of_model(torch.nn.Linear(2, 3))
    with pytest.raises(InputError, match=r"labkit knows\n.*Model\n"):
        families.of_model(decoder(model))


# ------------------------------------------------------------------------------------------------- names on disk


@pytest.mark.parametrize("name", NAMES)
def test_places_of_stored_tensors(name):
    place = FAMILIES[name].place
    assert place("model.layers.0.mlp.up_proj.weight") == "model.layers.0.mlp.up_proj.weight"
    inside = "model." if FAMILIES[name].conditional else "model.language_model."  # of a class that there is
    assert place("model.language_model.norm.weight") == f"{inside}norm.weight"
    assert place("lm_head.weight") == "lm_head.weight"
    for skipped in ("mtp.fc.weight", "model.visual.blocks.0.norm1.weight", "visual.merger.norm.weight"):
        assert place(skipped) is None


def test_experts_apart_are_expected_piece_by_piece():
    family, head = FAMILIES["qwen3_5_moe"], "model.layers.3.mlp.experts."
    shapes = {head + "gate_up_proj": (3, 8, 5), head + "down_proj": (3, 5, 4), "model.norm.weight": (5,)}
    assert family.stored_shapes(shapes, shapes) == shapes
    pieces = {f"{head}{expert}.{part}.weight": (4, 5) for expert in range(3) for part in ("gate_proj", "up_proj")}
    down = {f"{head}{expert}.down_proj.weight": (5, 4) for expert in range(3)}
    norm = {"model.norm.weight": (5,)}
    assert family.stored_shapes(shapes, pieces | down | norm) == pieces | down | norm
    assert family.stored_shapes(shapes, {f"{head}2.up_proj.weight"}) == pieces | {head + "down_proj": (3, 5, 4)} | norm
    assert FAMILIES["qwen3_5"].stored_shapes(norm, pieces) == norm


# ------------------------------------------------------------------------------------------------ permuted seams


def interleaved(spec):
    """Places of the value channels of qkv if they stood value channel by value channel, not head by head."""
    first = 2 * spec.key_heads * spec.dk
    return [first + value * spec.value_heads + head for head in range(spec.value_heads) for value in range(spec.dv)]


@pytest.fixture
def permuted(model, monkeypatch):
    """A lab of a family that is the dense one with two seams more: qkv from its end, and its values interleaved."""
    own = FAMILIES["qwen3_5"]
    backwards = lambda spec: list(range(spec.conv_channels))[::-1]  # noqa: E731
    more = {
        "back": Seam("linear_attn.in_proj_qkv", "out", ("channel",), "projection", None, backwards, "conv_channels"),
        "values": Seam("linear_attn.in_proj_qkv", "out", ("head", "value"), "projection", channels=interleaved),
    }
    seams = {DELTANET: own.seams[DELTANET] | more, ATTENTION: own.seams[ATTENTION]}
    monkeypatch.setitem(FAMILIES, "permuted", dataclasses.replace(own, name="permuted", seams=seams))
    lab = tiny.make_lab(model)
    lab.spec = dataclasses.replace(lab.spec, family="permuted")
    return lab


def test_a_permuted_seam_is_read_in_its_own_order(permuted):
    run = permuted.trace(tiny.ids(9))
    qkv, (heads, dv) = run.seams[1, "qkv"], (permuted.spec.value_heads, permuted.spec.dv)
    assert torch.equal(run.seams[1, "back"], qkv.flip(-1))
    expected = qkv[:, -heads * dv :].view(9, dv, heads).transpose(1, 2)
    assert torch.equal(run.seams[1, "values"], expected)


@pytest.mark.parametrize("chunk", [None, 4])
def test_an_edit_at_a_permuted_seam_lands_in_the_modules_order(permuted, chunk):
    ids, (head, value) = tiny.ids(9), (5, 11)
    spot = interleaved(permuted.spec)[head * permuted.spec.dv + value]
    vector = torch.zeros(1, permuted.spec.dv)
    vector[0, value] = 3.0
    plain = permuted.trace(ids, chunk=chunk)
    with permuted.edit(edit.add("values", layer=1, vector=vector, heads=head, tokens=[6])):
        changed = permuted.trace(ids, chunk=chunk)
    moved = changed.seams[1, "qkv"] - plain.seams[1, "qkv"]
    assert moved.nonzero().tolist() == [[6, spot]]
    assert moved[6, spot] == pytest.approx(3.0, abs=1e-5)
    assert not torch.equal(changed.logits, plain.logits)


def test_channels_and_part_exclude_each_other():
    with pytest.raises(ValueError, match="channels choose a part"):
        Seam("q", "out", ("head",), "query", part=(0, 2), channels=interleaved)


# --------------------------------------------------------------------------------------------------------- wrapping


def image_text(model):
    """The image-text class around the weights of a text model."""
    import checkpoints

    family = families.of_model(model)
    kind = family.model_class(images=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # of the image tower
        made = kind(kind.config_class(text_config=model.config.to_dict(), vision_config=dict(checkpoints.VISION)))
    made.model.language_model.load_state_dict(model.model.state_dict())
    made.lm_head.load_state_dict(model.lm_head.state_dict())
    return made.eval()


@pytest.fixture(scope="module")
def pictured(built):
    """`built`, of a family with an image-text class."""
    if built[0].conditional is None:
        pytest.skip("this family has no image-text class")
    return built


@pytest.fixture(scope="module", params=["text", "image-text"])
def wrapped(request, built):
    """(text model, lab around it or around the image-text class with its weights)."""
    family, model = built
    if request.param == "image-text" and family.conditional is None:
        pytest.skip("this family has no image-text class")
    return model, lk.wrap(model if request.param == "text" else image_text(model))


def test_a_wrapped_model_computes_what_the_bare_one_does(wrapped):
    model, lab = wrapped
    ids = tiny.ids(37)
    with torch.no_grad():
        expected = model(ids[None]).logits[0]
    assert torch.equal(lab.trace(ids, logits="all").logits, expected)
    close = dict(rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(lab.trace(ids, logits="all", chunk=5).logits, expected, **close)
    short, long = lab.trace([ids[:9], ids])
    torch.testing.assert_close(long.logits[0], expected[-1], **close)
    torch.testing.assert_close(short.logits[0], expected[8], **close)
    cache = lab.cache()
    lab.trace(ids[:20], cache=cache)
    resumed = lab.resume(lab.snapshot(cache), ids)
    torch.testing.assert_close(resumed.logits[0], expected[-1], **close)
    generated = lab.generate(ids, max_new_tokens=3)
    assert int(generated.ids[37]) == int(expected[-1].argmax())
    assert lab.backend.dtype == "float32" and lab.backend.device == "cpu"
    assert set(lab.backend.kernels) == set(families.of_model(model).kernels)
    assert (lab.backend.experts is not None) == (lab.spec.experts > 0)


@pytest.mark.parametrize("chunk", [None, 16])
def test_edits_land_in_a_wrapped_model(wrapped, chunk):
    _, lab = wrapped
    ids, parts = tiny.ids(37), dict(chunk=chunk, logits="all")
    plain = lab.trace(ids, **parts)
    for layer, name, head in ((1, "gated", 7), (2, "gated", 5), (0, "z", 8), (4, "gate", 4)):
        with lab.edit(edit.set(name, layer=layer, value=0.5, heads=head, tokens=[21])):
            changed = lab.trace(ids, **parts)
        moved = (changed.seams[layer, name] - plain.seams[layer, name]).abs().amax(-1).nonzero().tolist()
        assert moved == [[21, head]]
        assert bool((changed.seams[layer, name][21, head] == 0.5).all())
        later = (changed.logits - plain.logits).abs().amax(-1)
        # Tokens that choose an expert share a product, and some processors round its rows by how many there are.
        assert later[:21].max() <= (1e-5 if lab.spec.experts else 0) and later[21] > 1e-4
    assert torch.equal(lab.trace(ids, **parts).logits, plain.logits)


def test_state_edits_and_forks_of_a_wrapped_model(wrapped):
    _, lab = wrapped
    ids = tiny.ids(37)
    cache = lab.cache()
    lab.trace(ids[:30], cache=cache)
    snap = lab.snapshot(cache)
    with lab.edit(edit.state(lambda state: 0 * state, layer=1, at=29)):
        wiped = lab.trace(ids)
    for branch in lab.fork(snap, 2):
        branch.layers[1].recurrent_states[0].zero_()
        expected = lab.trace(ids[30:], cache=branch).logits
        torch.testing.assert_close(wiped.logits, expected, rtol=1e-3, atol=1e-3)
    assert not torch.allclose(wiped.logits, lab.trace(ids).logits, rtol=1e-3, atol=1e-3)


def look_at_an_image(model):
    """The user's own image call, 12 image tokens on a grid of 2 x 6; it leaves the positions that the image saved."""
    ids, image = tiny.ids(20)[None].clone(), slice(5, 17)
    ids[0, image] = model.config.image_token_id = 3
    types = torch.zeros_like(ids)
    types[0, image] = 1
    grid = torch.tensor([[1, 4, 12]])
    pixels = torch.randn(48, 3 * 2 * 2 * 2, generator=torch.Generator().manual_seed(4))
    options = dict(attention_mask=torch.ones_like(ids), max_new_tokens=2, min_new_tokens=2)
    options |= dict(return_dict_in_generate=True)
    pictures = dict(pixel_values=pixels, image_grid_thw=grid, mm_token_type_ids=types)
    return model.generate(ids, **pictures, **options).past_key_values


def wipe(lab, ids, chunk):
    with lab.edit(edit.state(lambda state: 0 * state, layer=1, at=14)):
        return lab.trace(ids, chunk=chunk).logits, lab.generate(ids, max_new_tokens=3).logits


def every_way(lab, ids):
    """Logits of one prompt by every way that continues a cache, and of a padded batch."""
    cache = lab.cache()
    lab.trace(ids[:20], cache=cache)
    stream = lab.stream(ids, probes=[deltanet.gates(block=5)], chunk=10)
    chunk, resumed = lab.trace(ids, chunk=16, logits="all"), lab.resume(lab.snapshot(cache), ids)
    generated = lab.generate(ids, max_new_tokens=4)
    batch = lab.trace([ids[:9], ids], chunk=6)
    with yarn.dynamic(lab):
        dynamic = lab.trace(ids, chunk=16).logits
    given = [chunk.logits, resumed.logits, generated.ids, generated.logits, torch.from_numpy(stream.logits.values)]
    given += [dynamic, *(run.logits for run in batch), *wipe(lab, ids, None), *wipe(lab, ids, 8)]
    rows = lab.cache()
    lab.logits(ids[None, :20].expand(3, -1), cache=rows)
    return [*given, lab.logits(ids[None, 20:].expand(3, -1), cache=rows)]


@pytest.mark.parametrize("rows", [1, 2])
def test_an_image_seen_before_moves_no_text(pictured, rows):
    own = image_text(pictured[1])
    lab, ids = lk.wrap(own), tiny.ids(37)
    before = every_way(lab, ids)
    assert own.model.rope_deltas is None
    look_at_an_image(own)
    assert own.model.rope_deltas.tolist() == [[-6]]
    own.model.rope_deltas = left = own.model.rope_deltas.repeat(rows, 1)
    for a, b in zip(before, every_way(lab, ids), strict=True):
        assert torch.equal(a, b)
    assert own.model.rope_deltas is left, "what the user's next image call finds is untouched"


def test_a_cache_with_an_image_needs_positions(pictured):
    """Twenty tokens with 6 positions saved, and one of the two new tokens: 21 tokens end at position 14."""
    own = image_text(pictured[1])
    lab, ids = lk.wrap(own), tiny.ids(5)
    cache = look_at_an_image(own)
    assert cache.get_seq_length() == 21
    with pytest.raises(InputError, match=r"positions of this cache's tokens\n.*after an image\n.*position_ids="):
        lab.trace(ids, cache=cache)
    expected, placed = copy.deepcopy(cache), torch.arange(15, 20)
    with torch.no_grad():
        bare = own(ids[None], **{cache_parameter(own): expected}).logits[0, -1]
    counted = lab.trace(ids, cache=copy.deepcopy(cache), position_ids=placed + 6).logits[0]
    assert (counted - bare).abs().max() > 0.01
    torch.testing.assert_close(lab.trace(ids, cache=cache, position_ids=placed).logits[0], bare, rtol=1e-5, atol=1e-5)


def test_wrapping_changes_nothing(model):
    own = copy.deepcopy(model).requires_grad_(True)
    own.generation_config.eos_token_id = 7
    before = {name: weight.clone() for name, weight in own.state_dict().items()}
    lab = lk.wrap(own, name="mine")
    assert lab.model is own and lab.name == lab.spec.name == "mine" and lab.tokenizer is None
    assert all(weight.requires_grad for weight in own.parameters())
    assert own.generation_config.eos_token_id == 7
    assert tiny.hooks(own) == []
    assert all(torch.equal(weight, before[name]) for name, weight in own.state_dict().items())
    run = lab.trace(tiny.ids(5))
    assert not run.logits.requires_grad and not run.seams[0, "qkv"].requires_grad


def test_a_wrapped_model_has_its_own_name(model):
    own = copy.deepcopy(model)
    own.config._name_or_path = "someone/Small-Hybrid"
    assert lk.wrap(own).name == "Small-Hybrid"


def test_a_tokenizer_comes_along(model, tmp_path):
    import types

    import checkpoints
    from transformers import AutoTokenizer

    checkpoints.write_tokenizer(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    lab = lk.wrap(model, tokenizer)
    assert lab.tokenizer is tokenizer
    assert lab.trace("ab ba").ids.tolist() == [5, 4, 3, 2]
    checkpoints.write_tokenizer(tmp_path, tiny.SIZES["vocab_size"] + 3)
    with pytest.raises(InputError, match=r"of another model\n.*214 ids\n.*at most 211"):
        lk.wrap(model, AutoTokenizer.from_pretrained(tmp_path))
    with pytest.raises(InputError, match=r"not a tokenizer\n(.*\n)*.*labkit.wrap\(model, processor.tokenizer\)"):
        lk.wrap(model, types.SimpleNamespace(tokenizer=tokenizer))


def test_what_cannot_be_wrapped_is_refused(model):
    own = copy.deepcopy(model)
    own.model.layers[3].train()
    with pytest.raises(InputError, match=r"eval mode\n.*model.layers.3\n.*labkit.wrap\(model.eval\(\)\)"):
        lk.wrap(own)
    lk.wrap(own.eval())
    with pytest.raises(InputError, match="not a model of a family that labkit knows"):
        lk.wrap("nano")
    own.model.layers[2].self_attn.q_norm = None
    with pytest.raises(BackendError, match=r"a module is missing\n.*layer 2: no self_attn.q_norm\n.*unmodified"):
        lk.wrap(own)
    own.model.layers = own.model.layers[:2].eval()
    with pytest.raises(BackendError, match=r"configuration says\n.*2 layers\n.*5, as"):
        lk.wrap(own)
    with pytest.raises(BackendError, match=r"on one device\n.*weights on meta\n"):
        lk.wrap(copy.deepcopy(model).to("meta"))
    own = copy.deepcopy(model)
    own.lm_head.to("meta")
    with pytest.raises(BackendError, match=r"on one device\n.*weights on cpu and meta\n"):
        lk.wrap(own)


def test_an_adapted_model_names_the_call_that_works(model):
    class Adapted(torch.nn.Module):
        def get_base_model(self):
            return model

    with pytest.raises(InputError, match=r"labkit knows\n.*Adapted\n.*\n.*labkit.wrap\(model.get_base_model\(\)\)"):
        lk.wrap(Adapted().eval())
    assert lk.wrap(Adapted().get_base_model()).model is model


def test_readings_of_every_family_agree_with_the_model(built):
    """All layers of a kind in one call, cold and behind a warm cache."""
    lab, ids = lk.wrap(built[1]), tiny.ids(70)
    cache = lab.cache()
    lab.trace(ids[:40], cache=cache)
    for run in (lab.trace(ids), lab.trace(ids[40:], cache=cache)):
        for reading in (deltanet.memory, deltanet.implied_attention, deltanet.survival, deltanet.spectrum):
            assert 0 < reading(run, layer=lab.spec.deltanet_layers).attrs["parity"] < 1e-5, reading
        for reading in (attention.pattern, attention.summary, attention.bands):
            assert 0 < reading(run, layer=lab.spec.attention_layers).attrs["parity"] < 1e-5, reading
