"""The multi-token-prediction head: read in the published layout, aligned, verified exactly, refused by name."""

import collections

import checkpoints
import measure
import numpy as np
import packers
import pytest
import tiny
import torch
from safetensors.torch import load_file, save_file

import labkit as lk
from labkit import draw, errors, mtp, yarn
from labkit.families import FAMILIES
from labkit.mtp import groups, readings, verify
from labkit.trace import decoder

SHAPES = {  # of `tiny.SIZES`, by hand
    "fc.weight": (44, 88),
    "pre_fc_norm_hidden.weight": (44,),
    "pre_fc_norm_embedding.weight": (44,),
    "norm.weight": (44,),
    "layers.0.input_layernorm.weight": (44,),
    "layers.0.post_attention_layernorm.weight": (44,),
    "layers.0.self_attn.q_proj.weight": (192, 44),
    "layers.0.self_attn.k_proj.weight": (32, 44),
    "layers.0.self_attn.v_proj.weight": (32, 44),
    "layers.0.self_attn.o_proj.weight": (44, 96),
    "layers.0.self_attn.q_norm.weight": (16,),
    "layers.0.self_attn.k_norm.weight": (16,),
    "layers.0.mlp.gate_proj.weight": (52, 44),
    "layers.0.mlp.up_proj.weight": (52, 44),
    "layers.0.mlp.down_proj.weight": (44, 52),
}
EXPERTS = {
    "layers.0.mlp.gate.weight": (13, 44),
    "layers.0.mlp.shared_expert_gate.weight": (1, 44),
    "layers.0.mlp.shared_expert.gate_proj.weight": (28, 44),
    "layers.0.mlp.shared_expert.up_proj.weight": (28, 44),
    "layers.0.mlp.shared_expert.down_proj.weight": (44, 28),
}
FUSED = {"layers.0.mlp.experts.gate_up_proj": (13, 40, 44), "layers.0.mlp.experts.down_proj": (13, 44, 20)}
APART = {
    f"layers.0.mlp.experts.{n}.{kind}_proj.weight": (44, 20) if kind == "down" else (20, 44)
    for n in range(13)
    for kind in ("gate", "up", "down")
}


def weights(shapes=SHAPES, seed=5):
    """`{name: tensor}` of a random head."""
    generator = torch.Generator().manual_seed(seed)
    return {
        f"mtp.{name}": torch.randn(shape, generator=generator) * (0.2 if len(shape) == 1 else 1.5 / shape[-1] ** 0.5)
        for name, shape in shapes.items()
    }


def add(folder, named):
    """Put tensors into the one file of a checkpoint, or take those away that are None."""
    path = folder / "model.safetensors"
    held = load_file(path) | named
    save_file({name: t for name, t in held.items() if t is not None}, path, metadata={"format": "pt"})
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A text-only checkpoint of the tiny model with a head in the published layout."""
    return add(checkpoints.text_only(tmp_path_factory.mktemp("mtp") / "tiny", tiny.model()), weights())


@pytest.fixture(scope="module")
def lab(folder):
    return lk.load(folder)


@pytest.fixture(scope="module")
def nano():
    return lk.load("nano")


PROMPT = " the hunter hunts game in the forest. the baker likes bread. fox red. the singer likes songs."


# the head ----------------------------------------


def norm(x, w):
    return x * (x.pow(2).mean(-1, keepdim=True) + 1e-6).rsqrt() * (1 + w)


def rotated(x):
    """The first 8 of 16 channels in half-split pairs, base 1000; x [head, n, 16] at positions 1 to n."""
    n = torch.arange(1, x.shape[1] + 1)[:, None] * 1000.0 ** (-torch.arange(4) / 4)
    a, b, rest = x[..., :4], x[..., 4:8], x[..., 8:]
    return torch.cat([a * n.cos() - b * n.sin(), b * n.cos() + a * n.sin(), rest], -1)


def formula(model, w, hidden, ids):
    """What the head hands to lm_head [n, hidden], from pairs (hidden state, next token) one after the other."""
    w = {name.removeprefix("mtp."): t for name, t in w.items()}
    seen = model.get_input_embeddings().weight[ids]
    both = [norm(seen, w["pre_fc_norm_embedding.weight"]), norm(hidden, w["pre_fc_norm_hidden.weight"])]
    x = torch.cat(both, -1) @ w["fc.weight"].T
    part = lambda name: w[f"layers.0.{name}.weight"]  # noqa: E731
    y = norm(x, part("input_layernorm"))
    q, gate = (y @ part("self_attn.q_proj").T).view(-1, 6, 32).chunk(2, -1)
    k, v = ((y @ part(f"self_attn.{name}_proj").T).view(-1, 2, 16) for name in "kv")
    q, k = rotated(norm(q, part("self_attn.q_norm")).transpose(0, 1)), norm(k, part("self_attn.k_norm"))
    k, v = (t.transpose(0, 1).repeat_interleave(3, 0) for t in (rotated(k.transpose(0, 1)).transpose(0, 1), v))
    scores = (q @ k.transpose(1, 2) / 4).masked_fill(torch.ones(len(ids), len(ids)).triu(1).bool(), -torch.inf)
    mixed = (scores.softmax(-1) @ v).transpose(0, 1) * gate.sigmoid()
    x = x + mixed.flatten(1) @ part("self_attn.o_proj").T
    y = norm(x, part("post_attention_layernorm"))
    y = torch.nn.functional.silu(y @ part("mlp.gate_proj").T) * (y @ part("mlp.up_proj").T)
    return norm(x + y @ part("mlp.down_proj").T, w["norm.weight"])


def states(lab, ids):
    """[T, hidden], what the model hands to lm_head, from transformers alone."""
    with torch.no_grad():
        return decoder(lab.model)(ids[None], use_cache=False).last_hidden_state[0]


@pytest.mark.parametrize("layout", ["text", "shards", "image-text"])
def test_the_head_is_read_in_the_published_layout_and_computes_its_formula(layout, tmp_path, folder):
    if layout == "image-text":
        place = add(checkpoints.image_text(tmp_path, tiny.model()), {"mtp.fc.weight": None} | weights())
    elif layout == "shards":
        place = checkpoints.text_only(tmp_path, tiny.model())
        named = load_file(place / "model.safetensors") | weights()
        (place / "model.safetensors").unlink()
        checkpoints.write_tensors(place, named, 3)
    else:
        place = folder
    lab = lk.load(place)
    head = mtp.head(lab)
    assert head.parameters == sum(t.numel() for t in weights().values()) and mtp.head(lab) is head
    ids = tiny.ids(23)
    hidden = states(lab, ids)
    made = head.read(lab, hidden[:-1], ids[1:], torch.arange(1, 23))
    assert torch.allclose(made, formula(lab.model, weights(), hidden[:-1], ids[1:]), atol=2e-5)
    cache = head.empty()  # in three pieces
    pieces = [
        head.read(lab, hidden[a:b], ids[a + 1 : b + 1], torch.arange(a + 1, b + 1), cache=cache)
        for a, b in ((0, 9), (9, 10), (10, 22))
    ]
    assert torch.allclose(torch.cat(pieces), made, atol=2e-5)


@pytest.mark.parametrize("experts", [FUSED, APART], ids=["fused", "apart"])
def test_a_head_with_experts(tmp_path, experts):
    model = tiny.model(experts=True)
    shapes = {name: shape for name, shape in SHAPES.items() if ".mlp." not in name} | EXPERTS
    named = weights(shapes | experts)
    lab = lk.load(add(checkpoints.text_only(tmp_path, model), named))
    block = mtp.head(lab).layer.mtp_block.mlp
    if experts is FUSED:
        wanted = named["mtp.layers.0.mlp.experts.gate_up_proj"]
    else:
        rows = [
            [named[f"mtp.layers.0.mlp.experts.{n}.{kind}_proj.weight"] for kind in ("gate", "up")] for n in range(13)
        ]
        wanted = torch.stack([torch.cat(pair) for pair in rows])
    assert torch.equal(block.experts.gate_up_proj, wanted)
    run, ds = lab.generate(tiny.ids(17), max_new_tokens=9), mtp.generate(lab, tiny.ids(17), max_new_tokens=9, drafts=2)
    assert ds.id.values.tolist() == run.ids[17:].tolist()
    assert mtp.drafts(run, lab, drafts=2).parity <= 1e-4


# as checkpoints that are stored packed hold it ----------------------------------------

PACKED = {
    "fp8": packers.fp8,
    "nf4 twice": packers.nf4,
    "nf4 once": lambda place: packers.nf4(place, double=False),
    "int8": packers.int8,
    "compressed int4": packers.compressed,
    "compressed int4, uneven": lambda place: packers.compressed(place, symmetric=False),
    "compressed int8": packers.compressed_int8,
    "compressed fp8": packers.compressed_fp8,
    "compressed nvfp4": packers.nvfp4,
    "gptq": packers.gptq,
    "gptq, 8 bits in order": lambda place: packers.gptq(place, width=8, mixed=False),
    "awq": packers.awq,
}
BLOCKS = checkpoints.BLOCKS | dict(num_hidden_layers=3, layer_types=checkpoints.BLOCKS["layer_types"][:3])
SMALL_EXPERTS = {name: size for name, size in BLOCKS.items() if name != "intermediate_size"} | dict(
    moe_intermediate_size=64, shared_expert_intermediate_size=192, num_experts=5, num_experts_per_tok=3
)


def head_of(model, apart=False, seed=5):
    """`{name: tensor}` of a random head for a model: a layer of attention like its last one, and what stands around."""
    head = f"model.layers.{len(model.model.layers) - 1}."
    like = {name: w for name, w in checkpoints.tensors(model, apart).items() if name.startswith(head)}
    shapes = {name.replace(head, "layers.0."): tuple(w.shape) for name, w in like.items()}
    width = model.config.hidden_size
    names = ("pre_fc_norm_hidden.weight", "pre_fc_norm_embedding.weight", "norm.weight")
    return weights(shapes | {"fc.weight": (width, 2 * width)} | dict.fromkeys(names, (width,)), seed)


def store(place, model, named, apart=False):
    """A text-only checkpoint with a head."""
    return add(checkpoints.text_only(place, model, apart=apart), named)


@pytest.mark.filterwarnings("ignore")  # what transformers says of packed weights is handed on
@pytest.mark.parametrize(
    ("way", "experts", "dtype"),
    [(way, False, "float32") for way in PACKED]
    + [("fp8", True, "float32"), ("compressed int4", True, "float32"), ("gptq", False, "bfloat16")],
)
def test_a_packed_head_is_the_head_of_the_numbers_that_it_stands_for(way, experts, dtype, tmp_path):
    model = tiny.model(experts=experts, **(SMALL_EXPERTS if experts else BLOCKS))
    named = head_of(model, apart=experts)
    place = store(tmp_path / "packed", model, named, apart=experts)
    meant = PACKED[way](place)
    packed = {name for name in named if name in meant}
    assert len(packed) == 1 + 4 + (3 * 5 + 3 if experts else 3)
    plain = store(tmp_path / "plain", model, named | {name: meant[name] for name in packed}, apart=experts)
    lab = lk.load(place, device="cpu", dtype=dtype)
    made, expected = mtp.head(lab), mtp.head(lk.load(plain, device="cpu", dtype=dtype))
    assert made.parameters == expected.parameters and made.folder == place
    for name, weight in expected.layer.named_parameters():
        held = made.layer.get_parameter(name)
        assert held.dtype == lab.dtype and torch.equal(held, weight), name
    run = lab.generate(tiny.ids(17), max_new_tokens=9)
    ds = mtp.drafts(run, lab, drafts=2)
    assert ds.parity <= ds.tolerance
    hidden, ids = run.logits.new_zeros(5, lab.spec.hidden) + 0.5, tiny.ids(5)
    both = [each.read(lab, hidden, ids, torch.arange(5)) for each in (made, expected)]
    assert torch.equal(*both) and both[0].isfinite().all()
    if lab.dtype == torch.float32:
        assert mtp.generate(lab, run.ids[:17], max_new_tokens=9, drafts=2).id.values.tolist() == run.ids[17:].tolist()


def test_a_plain_head_beside_packed_weights_is_read_as_it_is(tmp_path):
    model = tiny.model(**BLOCKS)
    named = head_of(model)
    place = checkpoints.text_only(tmp_path, model)
    packers.awq(place)
    made = mtp.head(lk.load(add(place, named), device="cpu"))
    assert torch.equal(made.layer.eh_proj.weight, named["mtp.fc.weight"])
    assert torch.equal(made.layer.mtp_block.mlp.up_proj.weight, named["mtp.layers.0.mlp.up_proj.weight"])


def test_a_packed_head_of_another_folder_is_read_by_that_folders_method(tmp_path):
    model = tiny.model(**BLOCKS)
    place = store(tmp_path / "packed", model, head_of(model))
    meant = packers.gptq(place)
    made = mtp.head(lk.load(checkpoints.text_only(tmp_path / "bare", model), device="cpu"), folder=place)
    assert torch.equal(made.layer.eh_proj.weight, meant["mtp.fc.weight"])


@pytest.mark.parametrize("prefix", ["", "language_model."])
def test_norms_of_a_head_in_mlx_files_are_not_guessed(prefix, tmp_path):
    model = tiny.model(**BLOCKS)
    place = checkpoints.text_only(tmp_path, model)
    packers.mlx(place)
    lab = lk.load(add(place, {prefix + name: w for name, w in head_of(model).items()}), device="cpu")
    refused(errors.CheckpointError, "(?s)no head is read.*one added and without.*labkit.mtp.head", mtp.head, lab)


SCALES = "mtp.fc.weight_scale_inv"
PARTS = {
    "do not belong together\\n.*mtp.fc": lambda named: {SCALES: named[SCALES][:0]},
    "stored packed\\n.*mtp.fc.weight: F8_E4M3, quant_method fp8": lambda named: {SCALES: None},
}


@pytest.mark.parametrize("match", PARTS)
def test_a_packed_head_without_its_scales_is_refused(match, tmp_path):
    model = tiny.model(**BLOCKS)
    place = store(tmp_path, model, head_of(model))
    packers.fp8(place)
    lab = lk.load(place, device="cpu")
    add(place, PARTS[match](load_file(place / "model.safetensors")))
    refused(errors.CheckpointError, match, mtp.head, lab)


def test_the_model_stays_as_it_is(folder):
    lab = lk.load(folder)
    ids, before = tiny.ids(13), lab.model.config.to_dict()
    logits = lab.trace(ids).logits
    mtp.drafts(lab.trace(ids), lab, drafts=3)
    mtp.generate(lab, ids, max_new_tokens=5)
    assert torch.equal(lab.trace(ids).logits, logits) and lab.model.config.to_dict() == before
    assert tiny.hooks(lab.model) == [] and not any("mtp" in name for name, _ in lab.model.named_modules())
    assert "mtp." in FAMILIES[lab.spec.family].skipped


def test_hooks_on_the_head_fire(lab):
    seen = []
    handle = mtp.head(lab).layer.mtp_block.self_attn.q_norm.register_forward_hook(lambda *given: seen.append(given[2]))
    run = lab.trace(tiny.ids(11))
    mtp.drafts(run, lab, drafts=2, rows=[3, 5])
    handle.remove()
    assert [tuple(t.shape) for t in seen] == [(1, 10, 6, 16), (1, 2, 6, 16)]


def test_the_head_follows_the_model_to_another_dtype(folder):
    lab = lk.load(folder)
    assert mtp.head(lab).layer.eh_proj.weight.dtype == torch.float32
    lab.model.to(torch.bfloat16)
    with torch.no_grad():
        assert mtp.head(lab).layer.eh_proj.weight.dtype == torch.bfloat16
    assert mtp.head(lab, folder=folder) is mtp.head(lab)


# what it guesses ----------------------------------------


def test_a_figure_says_what_was_proven_and_not_that_guesses_are(lab):
    ds = mtp.failures(mtp.drafts(lab.trace(tiny.ids(19)), lab, drafts=2), by="draft")
    text = draw.bars(ds, "right", x="draft").layout.title.subtitle.text
    assert text == "logits from the state that the head reads, within 1e-05 of the model's own"


def test_guesses_are_of_the_token_after_next_and_chains_read_their_own_guesses(lab):
    ids, w = tiny.ids(19), weights()
    hidden, head = states(lab, ids), lab.unembedding.weight
    ds = mtp.drafts(lab.trace(ids), lab, drafts=3)
    assert ds.sizes == {"draft": 3, "token": 18} and ds.parity <= ds.tolerance
    for t in range(18):
        pairs, following = hidden[: t + 1], ids[1 : t + 2]
        for d in range(1, 4):
            made = formula(lab.model, w, pairs, following)[-1:]
            logs = (made @ head.T).log_softmax(-1)[0]
            here = ds.sel(draft=d, token=t)
            assert int(here.guess) == int(logs.argmax())
            assert float(here.probability) == pytest.approx(float(logs.max().exp()), abs=1e-4)
            if t + d + 1 < 19:
                came = int(ids[t + d + 1])
                assert int(here.target) == came and here.target_text == f"w{came}"
                assert float(here.loss) == pytest.approx(-float(logs[came]), abs=1e-3)
                assert int(here["rank"]) == 1 + int((logs > logs[came]).sum())
                assert bool(here.right) == (int(here.guess) == came)
            else:
                assert (
                    int(here.target) == -1
                    and np.isnan([float(here.loss), float(here["rank"]), float(here.right)]).all()
                )
            pairs, following = torch.cat([pairs, made]), torch.cat([following, logs.argmax()[None]])


def test_the_control_is_the_model_itself_one_token_before(lab):
    ids = tiny.ids(19)
    logs = lab.trace(ids, logits="all").logits.log_softmax(-1)
    ds = mtp.drafts(lab.trace(ids), lab, drafts=2)
    for d in (1, 2):
        for t in range(18 - d):
            here, own = ds.sel(draft=d, token=t), logs[t + d]
            assert float(here.main_loss) == pytest.approx(-float(own[ids[t + d + 1]]), abs=1e-4)
            assert bool(here.main_right) == (int(own.argmax()) == int(ids[t + d + 1]))
            assert bool(here.agrees) == (int(own.argmax()) == int(here.guess))


def test_some_rows_are_rows_of_all(lab):
    run = lab.trace(tiny.ids(19))
    whole, some = mtp.drafts(run, lab, drafts=3), mtp.drafts(run, lab, drafts=3, rows=[-3, 2, 7])
    assert some.token.values.tolist() == [16, 2, 7]
    for name in ("guess", "right", "rank", "accepted", "bigram_right"):
        assert some[name].equals(whole[name].sel(token=[16, 2, 7])), name
    assert np.allclose(some.loss, whole.loss.sel(token=[16, 2, 7]), atol=1e-4, equal_nan=True)


def test_accepted_is_how_many_came_true_before_one_did_not(nano):
    run = nano.generate(PROMPT, max_new_tokens=40)
    ds = mtp.drafts(run, nano, drafts=3)
    right, lengths = ds.right.values, ds.accepted.values
    for column, length in zip(right.T, lengths, strict=True):
        expected = next((n for n, r in enumerate(column) if r != 1), 3)
        if expected < 3 and np.isnan(column[expected]):
            assert np.isnan(length)
        else:
            assert length == expected
    assert {0, 1, 2, 3} == set(lengths[np.isfinite(lengths)]) and np.isnan(lengths).any()


def test_pairs_count_what_followed_up_to_the_last_token_seen():
    ids = np.array([3, 5, 3, 7, 3, 5, 9, 3, 7, 7])
    made = groups.bigram(ids, list(range(9)), 2)
    for t in range(9):
        seen, chain = ids[: t + 2].tolist(), [int(ids[t + 1])]
        for _ in range(2):
            pairs = [b for a, b in zip(seen, seen[1:], strict=False) if a == chain[-1]] or seen
            count = collections.Counter(pairs)
            most = [token for token in pairs if count[token] == max(count.values())]
            chain.append(most[-1])
        assert made[:, t].tolist() == chain[1:], t


def test_the_head_of_nano_is_as_good_as_its_card_says_and_better_than_pairs(nano):
    import random

    from labkit.nano import text

    story = text.story(random.Random(10_001), 500, lambda part: len(nano.encode(part)))
    shares = mtp.failures(mtp.drafts(nano.trace(story), nano, drafts=2), by="draft")
    first, second = (shares.sel(draft=d) for d in (1, 2))
    assert float(first.low) > float(first.bigram_right) and float(first.right) <= float(first.main_right) + 0.02
    assert float(second.right) < float(first.low)
    agrees = float(mtp.drafts(nano.trace(story), nano).agrees.mean())
    assert agrees == pytest.approx(0.809, abs=0.06)  # labkit/nano/README.md


def test_failures_are_counted_by_group(nano):
    run = nano.trace(" fox red. 12 the\n hunters <|im_end|> sees 7")
    ds = mtp.drafts(run, nano)
    by = mtp.failures(ds)
    kinds = {"special": "<|im_end|>", "new line": "⏎", "number": "12"}
    assert set(kinds) <= set(by.group.values) and int(by.tokens.sum()) == int(np.isfinite(ds.right).sum())
    surprise = mtp.failures(ds, by="surprise")
    sure = ds.main_loss.values[0] < 0.1
    if "sure: below 0.1 nat" in surprise.group:
        assert int(surprise.sel(group="sure: below 0.1 nat").tokens[0]) == sure.sum()
    whole = mtp.failures(ds, by="draft")
    assert float(whole.right[0]) == pytest.approx(float(ds.right.mean())) and float(whole.low[0]) < float(whole.high[0])
    assert all(float((by[n] * by.tokens).sum()) == pytest.approx(float(ds[n].sum())) for n in groups.SHARES)


# greedy decoding that guesses ----------------------------------------


@pytest.mark.parametrize(("drafts", "wait"), [(0, 16), (1, 0), (1, 16), (2, 3), (3, 0), (5, 16), (7, 64)])
def test_the_tokens_are_those_of_plain_greedy_decoding(nano, drafts, wait):
    run = nano.generate(PROMPT, max_new_tokens=37)
    ds = mtp.generate(nano, PROMPT, max_new_tokens=37, drafts=drafts, wait=wait)
    assert ds.id.values.tolist() == run.ids[run.prompt_length :].tolist() and ds.parity <= ds.tolerance
    assert (ds.wrote.values <= ds.accepted.values + 1).all() and int(ds.wrote.sum()) == 36 == ds.plain_passes
    assert int((ds.draft > 0).sum()) == int(ds.accepted.sum()) and ds.rounds == ds.sizes["round"]
    assert int(ds["read"].sum() - ds.reread.sum()) == int((ds.drafted + 1).sum())
    assert (ds.passes, ds.snapshots) == (36, 0) if drafts == 0 else ds.rounds <= ds.passes <= 2 * ds.rounds
    assert ds.reread.sum() == 0 if drafts == 0 else ds.rounds < 36


def test_the_rounds_accept_what_the_reading_says(nano, monkeypatch):
    """Guess by guess: the head's pairs in a round are those of the run, whatever it guessed before."""
    guessed, guess = {}, verify._Writer._guess

    def watched(writer, drafts, place):
        return guessed.setdefault(place, guess(writer, drafts, place))

    monkeypatch.setattr(verify._Writer, "_guess", watched)
    ds = mtp.generate(nano, PROMPT, max_new_tokens=37, drafts=4)
    run = nano.generate(PROMPT, max_new_tokens=37)
    read = mtp.drafts(run, nano, drafts=4)
    assert len(guessed) == ds.rounds > 10
    for round, (place, guesses) in enumerate(guessed.items()):
        if place < len(run) - 1:
            there = read.sel(token=place - 1)
            assert guesses == there.guess.values[: len(guesses)].tolist(), place
            if len(guesses) == 4:
                assert ds.accepted.values[round] == float(there.accepted)
    assert set(ds.accepted.values[ds.drafted.values == 4]) >= {0, 1, 2}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("wait", [0, 5, 40])
def test_whatever_is_guessed_the_tokens_are_the_same(lab, seed, wait, monkeypatch):
    """Guesses of an oracle that is often wrong, so that every number of them is accepted somewhere."""
    prompt, generator = tiny.ids(29, seed=seed), torch.Generator().manual_seed(seed)
    run = lab.generate(prompt, max_new_tokens=33)
    truth = run.ids.tolist()

    def guess(writer, drafts, place):
        true = (truth[place + 1 :] + [7] * drafts)[:drafts]
        return [token if torch.rand(1, generator=generator) < 0.8 else (token + 1) % 211 for token in true]

    monkeypatch.setattr(verify._Writer, "_guess", guess)
    ds = mtp.generate(lab, prompt, max_new_tokens=33, drafts=4, wait=wait)
    assert ds.id.values.tolist() == truth[29:]
    if len(truth) == 62:
        assert len(set(ds.accepted.values)) > 2 and ds.passes < ds.plain_passes


def test_without_waiting_a_false_guess_costs_a_pass_and_the_true_tokens_again(nano):
    ds = mtp.generate(nano, PROMPT, max_new_tokens=37, drafts=3, wait=0)
    false = (ds.accepted < ds.drafted).values
    false[-1] = False  # nothing comes after the last round
    assert ds.reread.values.tolist() == np.where(false, ds.accepted.values + 1, 0).tolist()
    assert ds.passes == ds.rounds + false.sum() and ds.snapshots == (ds.drafted > 0).sum()
    late = mtp.generate(nano, PROMPT, max_new_tokens=37, drafts=3, wait=64)
    assert late.passes == late.rounds == ds.rounds and int(late.reread.sum()) > int(ds.reread.sum())
    assert late.snapshots < ds.snapshots and ds.snapshot_bytes == nano.snapshot(_warm(nano)).nbytes["own"]


def _warm(lab):
    cache = lab.cache()
    lab.trace(" fox red", cache=cache, layers=[])
    return cache


@pytest.mark.parametrize("drafts", [0, 3])
def test_a_stop_id_ends_it_where_it_ends_lab_generate(nano, drafts, monkeypatch):
    """Also in the middle of a round, where the model's own next token is known already."""
    whole = mtp.generate(nano, PROMPT, max_new_tokens=30, drafts=3)
    ids = whole.id.values.tolist()
    at = next(n for n, draft in enumerate(whole.draft.values) if n > 5 and draft > 0 and ids[n] not in ids[:n])
    monkeypatch.setattr(nano.model.generation_config, "eos_token_id", [1, ids[at]])
    run, ds = nano.generate(PROMPT, max_new_tokens=30), mtp.generate(nano, PROMPT, max_new_tokens=30, drafts=drafts)
    assert ds.id.values.tolist() == run.ids[run.prompt_length :].tolist() == ids[: at + 1]


def test_the_first_token_may_be_the_last(nano):
    ds = mtp.generate(nano, PROMPT, max_new_tokens=1)
    assert ds.sizes["round"] == 0 and ds.passes == 0 and ds.sizes["token"] == 1
    assert int(ds.id[0]) == int(nano.trace(PROMPT).logits[-1].argmax())


def test_edits_and_scalings_hold_inside(nano):
    with nano.edit(lk.deltanet.never_forget(layer=2, heads=1)):
        run, ds = nano.generate(PROMPT, max_new_tokens=15), mtp.generate(nano, PROMPT, max_new_tokens=15, drafts=2)
        assert ds.id.values.tolist() == run.ids[run.prompt_length :].tolist()
    with yarn.scaled(nano, factor=4):
        run, ds = nano.generate(PROMPT, max_new_tokens=15), mtp.generate(nano, PROMPT, max_new_tokens=15, drafts=2)
        assert ds.id.values.tolist() == run.ids[run.prompt_length :].tolist()
        assert mtp.drafts(run, nano).attrs["scaling"] == str(run.scaling)
    with pytest.raises(errors.InputError, match="this run was made by another model|under another scaling"):
        mtp.drafts(run, nano)


# what is refused ----------------------------------------


def refused(kind, match, call, *given, **options):
    with pytest.raises(kind, match=match):
        call(*given, **options)


def test_models_without_a_head_are_named(tmp_path, lab, folder):
    memory = tiny.make_lab(tiny.model())
    refused(errors.CheckpointError, "(?s)came from no folder.*a model in memory.*labkit.mtp.head", mtp.head, memory)
    assert mtp.head(memory, folder=folder).parameters == mtp.head(lab).parameters
    bare = lk.load(checkpoints.text_only(tmp_path / "bare", tiny.model()))
    refused(errors.CheckpointError, "(?s)holds no multi-token-prediction head.*none of", mtp.head, bare)
    refused(errors.CheckpointError, "no such folder", mtp.head, bare, folder=tmp_path / "nothing")
    packed = lk.Lab(bare.model, None, bare.spec, _Gguf(), "gguf")
    refused(errors.CheckpointError, r"(?s)safetensors alone.*\.gguf", mtp.drafts, packed.trace(tiny.ids(5)), packed)
    refused(errors.CheckpointError, r"(?s)safetensors alone.*\.gguf", mtp.generate, packed, tiny.ids(5))


class _Gguf:
    quantize = "gguf, unpacked"


BROKEN = {
    "lacks the tensors": {"mtp.norm.weight": None},
    "has more than the tensors": {"mtp.layers.1.input_layernorm.weight": torch.ones(44)},
    "of another model.*88, 44": {"mtp.fc.weight": torch.ones(88, 44)},
    "stored packed.*F8_E4M3": {"mtp.fc.weight": torch.ones(44, 88).to(torch.float8_e4m3fn)},
}


@pytest.mark.parametrize("match", BROKEN)
def test_broken_heads_are_refused(tmp_path, match):
    place = add(checkpoints.text_only(tmp_path, tiny.model()), weights() | BROKEN[match])
    lab = lk.load(place)
    refused(errors.CheckpointError, f"(?s){match}", mtp.head, lab)


def test_a_last_layer_of_another_kind_is_refused(tmp_path):
    model = tiny.model(layer_types=["full_attention"] + ["linear_attention"] * 4)
    lab = lk.load(add(checkpoints.text_only(tmp_path, model), weights()))
    refused(errors.BackendError, "no head fits this model", mtp.head, lab)


def test_runs_that_cannot_be_read_are_refused(lab, nano):
    run = lab.trace(tiny.ids(9))
    refused(errors.InputError, "(?s)the token after the last one.*row 8 of 9.*0 to 7", mtp.drafts, run, lab, rows=-1)
    refused(errors.InputError, "the token after the last one", mtp.drafts, lab.trace(tiny.ids(1)), lab)
    refused(errors.InputError, "the run came from another model", mtp.drafts, run, nano)
    refused(errors.InputError, "mtp.drafts reads a run", mtp.drafts, "red fox", nano)
    refused(errors.SeamError, "resid_post", mtp.drafts, lab.trace(tiny.ids(9), layers=[0]), lab)
    cache = lab.cache()
    lab.trace(tiny.ids(5), cache=cache)
    warm = lab.trace(tiny.ids(4), cache=cache)
    refused(errors.InputError, "(?s)from its first token on.*5 cached", mtp.drafts, warm, lab)
    refused(errors.InputError, "drafts out of range", mtp.drafts, run, lab, drafts=0)
    refused(errors.InputError, "drafts out of range", mtp.generate, lab, run.ids, drafts=65)
    refused(errors.InputError, "wait out of range", mtp.generate, lab, run.ids, wait=-1)
    refused(errors.InputError, "longer than the model's window", mtp.generate, lab, run.ids, max_new_tokens=504)
    refused(errors.InputError, "unknown groups", mtp.failures, mtp.drafts(run, lab), by="colour")
    refused(errors.InputError, "failures of guesses", mtp.failures, run)
    end = mtp.drafts(run, lab, rows=[7])
    refused(errors.InputError, "nothing came that was guessed", mtp.failures, end)


@pytest.mark.parametrize("tokens", [70, 400])
@pytest.mark.parametrize(("drafts", "rows"), [(1, None), (4, None), (4, range(10))])
def test_the_estimate_covers_what_lives_at_once(lab, tokens, drafts, rows, monkeypatch):
    asked = {}
    monkeypatch.setattr(readings.plan, "admit", lambda want, tokens, parts, *more: asked.update({want: parts}))
    run = lab.trace(tiny.ids(tokens), layers=[4], seams=["resid_post"])
    mtp.head(lab)
    peak, _, _ = measure.peak(lambda: mtp.drafts(run, lab, drafts=drafts, rows=rows))
    assert peak <= sum(asked["mtp.drafts"].values()) <= 3 * peak


def test_what_would_not_fit_is_refused_before_it_is_made(lab, monkeypatch):
    from labkit.plan import card

    run = lab.trace(tiny.ids(90))
    mtp.drafts(run, lab)
    monkeypatch.setattr(card, "budget", lambda device: (900_000, "a small machine"))
    refused(errors.BudgetError, r"(?s)mtp.drafts of 90 tokens.*masks of the chains", mtp.drafts, run, lab, drafts=8)
