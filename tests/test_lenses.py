"""Fitted lenses: their files are read as their programs write them, and what they say is what their formulas say."""

import collections
import dataclasses
import json
import zipfile

import numpy as np
import pytest
import siblings
import tiny
import torch
import torch.nn.functional as F

from labkit import edit, residual
from labkit.errors import CheckpointError, InputError

IDS = tiny.ids(23)
WIDTH, DEPTH = 44, 5
MAKERS = {name: (lambda name=name: tiny.model(family=name)) for name in sorted(tiny.FAMILY_SIZES)}
MAKERS |= {"olmo": siblings.olmo, "kimi": siblings.kimi}


@pytest.fixture(scope="module", params=MAKERS)
def own(request):
    """A lab of each family."""
    return tiny.make_lab(MAKERS[request.param]())


def drawn(*shape, seed=0, dtype=torch.float32):
    """Normal numbers, small enough that a map of them keeps norms."""
    return (torch.randn(shape, generator=torch.Generator().manual_seed(seed)) / shape[-1] ** 0.5).to(dtype)


def maps(layers=range(DEPTH - 1), width=WIDTH, dtype=torch.float32):
    return {layer: drawn(width, width, seed=layer, dtype=dtype) for layer in layers}


def jacobian_file(path, **changes):
    """What `JacobianLens.save` of jlens/lens.py writes."""
    held = {"J": maps(dtype=torch.float16), "n_prompts": 7, "source_layers": [0, 1, 2, 3], "d_model": WIDTH}
    torch.save({name: value for name, value in (held | changes).items() if value is not None}, path)
    return path


@dataclasses.dataclass
class TunedLensConfig:
    """That of tuned_lens/nn/lenses.py."""

    base_model_name_or_path: str = "tiny/model"
    d_model: int = WIDTH
    num_hidden_layers: int = DEPTH
    bias: bool = True
    base_model_revision: str | None = None
    unembed_hash: str | None = None
    lens_type: str = "linear_tuned_lens"


def tuned_folder(folder, state=None, config=None, **changes):
    """What `TunedLens.save` writes: the state of a ModuleList of Linear, and its config."""
    folder.mkdir(exist_ok=True)
    made = dataclasses.asdict(TunedLensConfig(**changes))
    translators = torch.nn.ModuleList(torch.nn.Linear(WIDTH, WIDTH, bias=made["bias"]) for _ in range(DEPTH))
    for name, weight in translators.named_parameters():
        weight.data = drawn(*weight.shape, seed=len(name) + int(name[0]))
    torch.save(translators.state_dict() if state is None else state, folder / "params.pt")
    (folder / "config.json").write_text(json.dumps(made) if config is None else config)
    return folder


def read_out(lab, stream):
    """What the model itself makes of a stream: its norm, its unembedding."""
    with torch.no_grad():
        return lab.model.get_output_embeddings()(lab.final_norm(stream))


# what is said -------------------------------------------


def test_maps_that_change_nothing_are_the_logit_lens_to_the_last_bit(own):
    run, eye = own.trace(IDS), {layer: torch.eye(WIDTH) for layer in range(DEPTH)}
    for seam, more in (("resid_post", {}), ("resid_pre", {})):
        plain = residual.lens(run, own, of=[3, 150], seam=seam)
        by = residual.Lens(eye, stream=seam, **more)
        assert residual.lens(run, own, of=[3, 150], by=by).equals(plain)
    onto = residual.Lens({layer: torch.zeros(WIDTH, WIDTH) for layer in range(DEPTH)}, onto=True, kind="tuned")
    assert residual.lens(run, own, of=[3, 150], by=onto).equals(residual.lens(run, own, of=[3, 150]))


def test_they_are_it_in_bfloat16_too():
    lab = tiny.make_lab(tiny.model(dtype=torch.bfloat16))
    run, by = lab.trace(IDS), residual.Lens({layer: torch.eye(WIDTH).half() for layer in range(1, 4)})
    assert residual.lens(run, lab, by=by).equals(residual.lens(run, lab, layers=[1, 2, 3]))


def test_a_tuned_lens_says_what_its_own_formulas_say(own, tmp_path):
    by = residual.open_lens(tuned_folder(tmp_path / "lens"))
    state = torch.load(tmp_path / "lens/params.pt", weights_only=True)
    with torch.no_grad():
        stream = own.model(IDS[None], output_hidden_states=True).hidden_states
    ds = residual.lens(own.trace(IDS), own, of=[3, 7, 150], tokens=[2, -4], by=by)
    for layer in range(DEPTH):
        h = stream[layer][0, [2, -4]]
        said = read_out(own, h + F.linear(h, state[f"{layer}.weight"], state[f"{layer}.bias"]))
        assert np.allclose(ds.answer_logit[layer], said[:, [3, 7, 150]], atol=1e-4)
        assert (ds.best[layer, :, 0].values == said.argmax(-1).numpy()).all()
    assert (
        ds.attrs["seam"] == "resid_pre" and ds.attrs["by"] == "tuned lens" and ds.layer.values.tolist() == [*range(5)]
    )


def test_a_jacobian_lens_says_what_its_own_formulas_say(own, tmp_path):
    by = residual.open_lens(jacobian_file(tmp_path / "lens.pt"))
    held = torch.load(tmp_path / "lens.pt", weights_only=True)["J"]
    with torch.no_grad():
        stream = own.model(IDS[None], output_hidden_states=True).hidden_states
    ds = residual.lens(own.trace(IDS), own, of=[3, 7, 150], by=by)
    for layer in range(DEPTH - 1):
        said = read_out(own, stream[layer + 1][0] @ held[layer].float().T)
        assert np.allclose(ds.answer_logit[layer], said[:, [3, 7, 150]], atol=1e-4)
    assert ds.attrs["by"] == "jacobian lens, 7 prompts" and ds.layer.values.tolist() == [0, 1, 2, 3]


def test_a_lens_without_biases_and_a_layer_by_itself(lab, tmp_path):
    by = residual.open_lens(tuned_folder(tmp_path / "lens", bias=False))
    run, all_of_it = lab.trace(IDS), residual.lens(lab.trace(IDS), lab, by=by, of=3)
    one = residual.lens(run, lab, by=by, of=3, layers=-2, tokens=4)
    assert one.best.dims == ("choice",) and int(one.layer) == 3 and not by.biases
    assert np.allclose(one.answer_logit, all_of_it.answer_logit[3, 4], atol=1e-5)


def test_it_sees_what_an_edit_did(own, tmp_path):
    by, plain = residual.open_lens(jacobian_file(tmp_path / "lens.pt")), own.trace(IDS)
    with own.edit(edit.scale("mixer_out", layer=1, factor=0)):
        run = own.trace(IDS)
        inside = residual.lens(run, own, of=12, by=by)
    after, before = (residual.lens(each, own, of=12, by=by) for each in (run, plain))
    assert inside.equals(after) and np.array_equal(after.answer_logit[0], before.answer_logit[0])
    assert all(abs(after.answer_logit[layer] - before.answer_logit[layer]).max() > 1e-3 for layer in range(1, 4))


# files ----------------------------------------------


def test_what_is_saved_is_the_published_form(lab, tmp_path):
    by = residual.Lens(maps([0, 2, 3]), prompts=12, depth=DEPTH)
    held = torch.load(by.save(tmp_path / "new/lens.pt"), weights_only=True)
    assert list(held) == ["J", "n_prompts", "source_layers", "d_model"]
    assert (held["n_prompts"], held["source_layers"], held["d_model"]) == (12, [0, 2, 3], WIDTH)
    again = residual.open_lens(tmp_path / "new")  # a folder with one file
    assert again.prompts == 12 and again.layers == [0, 2, 3] and again.stream == "resid_post" and not again.onto
    for layer, made in held["J"].items():
        assert made.dtype == torch.float16 and torch.equal(made, by.maps[layer].half())
        assert torch.equal(again.maps[layer], made)
    again.save(tmp_path / "twice.pt")
    assert (tmp_path / "twice.pt").read_bytes() == (tmp_path / "new/lens.pt").read_bytes()


def test_an_added_map_is_saved_whole(tmp_path):
    by = residual.Lens(maps(), prompts=2, onto=True)
    again = residual.open_lens(by.save(tmp_path / "lens.pt"))
    h = drawn(3, WIDTH, seed=9)
    assert torch.allclose(again.carry(h, 2), by.carry(h, 2), atol=1e-3)


def test_what_the_form_cannot_say_is_not_written(tmp_path):
    one = dict(maps={0: torch.eye(3)}, prompts=2)
    for changes, got in (
        (dict(biases={0: torch.ones(3)}), "biases"),
        (dict(stream="resid_pre"), "maps of resid_pre"),
        (dict(prompts=None), "None prompts"),
        (dict(maps={4: 1e6 * torch.eye(3)}), "layer 4 beyond float16"),
    ):
        with pytest.raises(InputError, match=f"the format of Jacobian lenses cannot say this lens\n  got: {got}"):
            residual.Lens(**(one | changes)).save(tmp_path / "lens.pt")
    assert not list(tmp_path.iterdir())


class Runs:
    """What pickle would run."""

    def __reduce__(self):
        return exec, ("raise SystemExit",)


STOPPED = dict(J=None, n_prompts=None, jacobian_sum=maps(), n_done=80, next_idx=81)
NAN = maps() | {2: drawn(WIDTH, WIDTH).index_fill(0, torch.tensor(7), torch.nan)}
DAMAGED = {
    "code": (dict(more=Runs()), "lens.pt: holds something else"),
    "a fit that was stopped": (STOPPED, "a fit that was stopped, after 80 prompts"),
    "no maps": (dict(J=None), "'d_model', 'n_prompts', 'source_layers'"),
    "maps in a list": (dict(J=list(maps().values())), "'J', 'd_model'"),
    "prompts as text": (dict(n_prompts="7"), "'J', 'd_model'"),
    "no prompts": (dict(n_prompts=0), "'J', 'd_model'"),
    "layers by name": (dict(J={str(layer): made for layer, made in maps().items()}), "'J', 'd_model'"),
    "a layer below 0": (dict(J={-1: maps()[0]}, source_layers=[-1]), "layer out of range"),
    "other layers": (dict(source_layers=[0, 1, 2]), r"source_layers \[0, 1, 2\], maps of \[0, 1, 2, 3\]"),
    "no layer": (dict(J={}, source_layers=[]), "a lens without maps"),
    "other channels": (dict(d_model=43), "maps of 44 channels\n  expected: 43"),
    "maps of several sizes": (dict(J=maps() | {3: drawn(9, 9)}), r"the map of layer 3 has another shape, \[9, 9\]"),
    "maps that are not square": (dict(J={0: drawn(9, 44)}, source_layers=[0]), r"has another shape, \[9, 44\]"),
    "not a number": (dict(J=NAN), "the map of layer 2 has entries that are no numbers"),
    "whole numbers": (dict(J={0: torch.ones(44, 44).int()}, source_layers=[0]), "no plain numbers, torch.int32"),
    "no array": (dict(J={0: 1.5}, source_layers=[0]), "the map of layer 0 is no array of numbers, float"),
    "a sparse one": (dict(J={0: torch.ones(44, 44).to_sparse()}, source_layers=[0]), "is no array of numbers, Tensor"),
    "one number shown often": (
        dict(J={0: torch.ones(1).expand(9000, 9000)}, source_layers=[0]),
        "tensors of 324,000,000",
    ),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_jacobian_lens_is_refused(case, tmp_path):
    changes, message = DAMAGED[case]
    with pytest.raises(CheckpointError, match=f"(?s)lens.*{message}"):
        residual.open_lens(jacobian_file(tmp_path / "lens.pt", **changes))


def test_files_that_torch_did_not_write(tmp_path):
    whole = jacobian_file(tmp_path / "lens.pt").read_bytes()
    (tmp_path / "half.pt").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.pt").write_text("J")
    torch.save(torch.eye(3), tmp_path / "bare.pt")
    torch.save({"J": maps()}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    packed = zipfile.ZipFile(tmp_path / "packed.pt", "w", zipfile.ZIP_DEFLATED)
    with zipfile.ZipFile(tmp_path / "lens.pt") as given, packed:
        for name in given.namelist():
            packed.writestr(name, given.read(name))
    for name in ("half", "text", "bare", "old", "packed"):
        with pytest.raises(CheckpointError, match=f"this is no file of a lens\n  got: .*{name}.pt"):
            residual.open_lens(tmp_path / f"{name}.pt")
    with pytest.raises(
        CheckpointError, match="no lens there\n  got: .*bare.pt, half.pt, lens.pt, old.pt\n  expected: a fi"
    ):
        residual.open_lens(tmp_path)
    with pytest.raises(CheckpointError, match="no lens there\n  got: .*nowhere\n"):
        residual.open_lens(tmp_path / "nowhere")


STATE = collections.OrderedDict(
    (f"{n}.{part}", drawn(*([WIDTH] * k))) for n in range(5) for part, k in (("weight", 2), ("bias", 1))
)
WRONG = {
    "another kind": (dict(lens_type="deep"), "lens_type deep\n  expected: linear_tuned_lens"),
    "channels as text": (dict(d_model="44"), "d_model 44\n  expected: d_model, num"),
    "no layers": (dict(num_hidden_layers=0), "num_hidden_layers 0"),
    "bias in words": (dict(config=json.dumps(dict(d_model=44, num_hidden_layers=5, bias="yes"))), "bias yes"),
    "a name that is none": (dict(base_model_name_or_path=[1]), r"base_model_name_or_path \[1\]"),
    "no object": (dict(config="[1]"), "no JSON object"),
    "other channels": (dict(d_model=45), "maps of 44 channels\n  expected: 45"),
    "fewer layers": (dict(num_hidden_layers=6), "weight of 5 layers\n  expected: weight of 6"),
    "no biases": (
        dict(state={name: STATE[name] for name in STATE if "w" in name}),
        "bias of 0 layers\n  expected: bias of 5",
    ),
    "biases that it does not have": (dict(state=STATE, bias=False), "bias of 5 layers\n  expected: bias of 0"),
    "other names": (dict(state=STATE | {"input.weight": drawn(44, 44)}), "input.weight\n  expected: translators"),
    "a bias of another size": (
        dict(state=STATE | {"3.bias": drawn(43)}),
        r"the bias of layer 3 has another shape, \[43\]",
    ),
    "an infinite bias": (dict(state=STATE | {"1.bias": drawn(44) / 0}), "the bias of layer 1 has entries that are no"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_damaged_tuned_lens_is_refused(case, tmp_path):
    changes, message = WRONG[case]
    with pytest.raises(CheckpointError, match=f"a tuned lens cannot be read\n  got: .*{message}"):
        residual.open_lens(tuned_folder(tmp_path / "lens", **changes))


def test_what_else_its_files_say_is_kept(tmp_path):
    config = dataclasses.asdict(TunedLensConfig(base_model_revision="abc")) | {"trained_on": "the pile"}
    by = residual.open_lens(tuned_folder(tmp_path / "lens", config=json.dumps(config)))
    assert by.known["base_model_revision"] == "abc" and by.known["trained_on"] == "the pile" and by.depth == 5
    text = repr(by)
    assert text.startswith("tuned lens\nmaps\n") and "5 of 5 layers, 0 to 4, 44 channels" in text and "the pile" in text


@pytest.mark.parametrize("changes", [{}, dict(vocab_size=12, eos_token_id=1)], ids=["large", "small"])
def test_the_unembedding_it_was_fitted_with_is_known_by_its_hash(changes, tmp_path):
    import hashlib

    labs = [tiny.make_lab(tiny.model(seed=seed, **changes)) for seed in (0, 1)]
    rows = labs[0].unembedding.weight.detach().numpy()
    printed = hashlib.sha256(np.array_str(rows, precision=1).encode()).hexdigest()  # tuned_lens/utils.py, tensor_hash
    by = residual.open_lens(tuned_folder(tmp_path / "lens", unembed_hash=printed))
    said = [residual.lens(lab.trace([3, 5, 7]), lab, by=by).attrs["unembedding"] for lab in labs]
    assert said == ["that of the lens", "not that of the lens"]
    plain = residual.open_lens(tuned_folder(tmp_path / "lens"))
    assert "unembedding" not in residual.lens(labs[0].trace([3, 5, 7]), labs[0], by=plain).attrs


# what is refused ----------------------------------------


def test_a_lens_of_another_model_is_refused_with_what_and_why(lab):
    run = lab.trace(IDS)
    named = dict(kind="tuned", known={"base_model_name_or_path": "else/where"}, prompts=3)
    for by, why in (
        (residual.Lens(maps(width=40), **named), "tuned lens, 3 prompts of else/where: channels 40, here 44"),
        (residual.Lens(maps(), depth=9), "of another model: layers 9, here 5"),
        (residual.Lens(maps([0, 5])), "a map of layer 5, here 5"),
    ):
        for read in (residual.lens, residual.lens_by_path):
            with pytest.raises(
                InputError, match=f"the lens was fitted on another model\n  got: .*{why}\n  expected: a lens of"
            ):
                read(run, lab, by=by, of=3)
    with pytest.raises(InputError, match="residual.lens: no lens\n  got: str\n  expected: by=, a residual.Lens"):
        residual.lens(run, lab, by="lens.pt")


def test_layers_and_streams_that_it_does_not_map(lab):
    run, by = lab.trace(IDS), residual.Lens(maps([1, 2]))
    with pytest.raises(InputError, match="no map of a layer\n  got: .4.\n  expected: layers that it maps, 1 to 2$"):
        residual.lens(run, lab, by=by, layers=-1)
    with pytest.raises(InputError, match="got: .0, 3, 4.\n  expected: layers that it maps, 1 to 2, or None"):
        residual.lens(run, lab, by=by, layers=range(5))
    with pytest.raises(InputError, match="maps another stream\n  got: seam 'resid_pre'\n  expected: resid_post"):
        residual.lens(run, lab, by=by, seam="resid_pre")


def test_records_that_are_no_lens():
    for changes, message in (
        (dict(stream="mlp_out"), "a lens maps the stream\n  got: stream 'mlp_out'"),
        (dict(depth=3), "a lens of a layer that its model lacks\n  got: layer 3 of 3"),
        (
            dict(biases={0: torch.ones(44)}),
            r"one for every map\n  got: biases of layers \[0\]\n  expected: layers \[0, 1",
        ),
        (dict(maps={True: torch.eye(3)}), "layer must be whole numbers"),
    ):
        with pytest.raises(InputError, match=message):
            residual.Lens(**(dict(maps=maps()) | changes))
