"""nano: any text comes back, the stored weights really recall, and training resumes where it stopped."""

import json
import math

import pytest
import torch

from labkit import nano
from labkit.nano import recipe, tokens
from labkit.nano.tasks import Tasks


@pytest.fixture(scope="module")
def tokenizer():
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(nano.FOLDER / "tokenizer.json"))


@pytest.fixture(scope="module")
def embedded():
    from labkit import zoo

    return zoo.load("nano")


@pytest.mark.parametrize(
    "text",
    [
        "red fox, blue whale",
        "<think>\nnaïve café\n</think>\n\n",
        "日本語 🦊🐋 \t\r\n  end ",
        "<script>alert('x')</script>",
        "<|im_start|>user\nhi<|im_end|>\n",
        "x = [1, 22, 333]\n\n\n    return None",
    ],
)
def test_any_text_comes_back(embedded, text):
    ids = embedded.tokenizer(text, add_special_tokens=False)["input_ids"]
    assert embedded.tokenizer.decode(ids) == text
    assert max(ids) < embedded.spec.vocab


def test_special_tokens_are_single_and_tags_stay_in_text(embedded):
    t = embedded.tokenizer
    for text in (*tokens.SPECIAL, *tokens.TAGS):
        assert len(t(text, add_special_tokens=False)["input_ids"]) == 1
    ids = t("<think>a</think><|im_end|>", add_special_tokens=False)["input_ids"]
    assert t.decode(ids, skip_special_tokens=True) == "<think>a</think>"
    assert (t.eos_token, t.pad_token) == ("<|im_end|>", "<|endoftext|>")


def test_both_stop_ids(embedded):
    ids = [embedded.tokenizer.convert_tokens_to_ids(text) for text in ("<|im_end|>", "<|endoftext|>")]
    assert sorted(embedded.model.generation_config.eos_token_id) == sorted(ids)


def test_shape_has_the_ratios_of_the_27b(embedded):
    s = embedded.spec
    assert s.strip() == "D D D A · D D D A" and s.window == 512
    assert (s.heads // s.key_heads, s.query_heads // s.kv_heads) == (3, 6) and s.kv_heads >= 2
    assert s.rotary_dim * 4 == s.head_dim and s.dk != s.dv


def test_rotary_pairs_fall_into_all_three_yarn_classes(embedded):
    s = embedded.spec
    turns = [s.window * s.rope_theta ** (-2 * i / s.rotary_dim) / (2 * math.pi) for i in range(s.rotary_dim // 2)]
    untouched = sum(turn > 32 for turn in turns)
    interpolated = sum(turn < 1 for turn in turns)
    assert (untouched, len(turns) - untouched - interpolated, interpolated) == (1, 4, 3)


def test_the_stored_weights_recall(embedded, tokenizer):
    """Far above chance (1 in 8) on questions of a seed that no training or card used."""
    rows = {name: right / n for name, right, n, *_ in recipe.evaluate(embedded.model, tokenizer, samples=200, seed=77)}
    assert rows["recall, 8 pairs"] >= 0.95 and rows["recall, 12 pairs"] >= 0.95


def test_a_prompt_as_a_user_types_it(embedded):
    run = embedded.trace(" fox red whale blue crow green whale")
    assert embedded.tokenizer.decode([int(run.logits[-1].argmax())]) == " blue"


def test_the_card_states_what_was_measured():
    text = (nano.FOLDER / "README.md").read_text(encoding="utf-8")
    assert "Provisional" in text and "12.5 %" in text
    for name, _ in recipe.ROWS:
        assert f"| {name} |" in text
    assert text.count("| 1000 |") == len(recipe.ROWS)


def test_files_are_small_and_complete():
    assert (nano.FOLDER / "model.safetensors").stat().st_size <= 12 * 2**20
    sums = json.loads((nano.FOLDER / "checksums.json").read_text())
    assert set(sums) == {"config.json", "model.safetensors", "tokenizer.json"}


def test_wilson_interval():
    low, high = recipe.wilson(95, 100)
    assert (round(low, 3), round(high, 3)) == (0.888, 0.978)
    assert recipe.wilson(0, 10)[0] == 0 and recipe.wilson(10, 10)[1] == 1


def test_tasks_mark_exactly_the_answers(tokenizer):
    tasks = Tasks(tokenizer, torch.arange(500), torch.Generator().manual_seed(0))
    keys, values = tasks.keys.tolist(), tasks.values.tolist()
    for overwrite, comma in ((0.0, 0.0), (0.4, 1.0)):
        ids, answers = tasks.pairs(5, 30, overwrite=overwrite, comma=comma)
        width = 3 if comma else 2
        assert ids.shape == answers.shape == (5, 30 * width)
        for row, marks in zip(ids.view(5, 30, width).tolist(), answers.view(5, 30, width).tolist(), strict=True):
            now = {}
            for (key, value, *rest), (on_key, on_value, *_) in zip(row, marks, strict=True):
                assert key in keys and value in values and rest == [tasks.comma] * (width - 2)
                assert not on_key
                if on_value:
                    assert now[key] == value
                now[key] = value
    ids, answer = tasks.question(4, 6, overwritten=True)
    for row, right in zip(ids.tolist(), answer.tolist(), strict=True):
        asked = row[-1]
        stated = [row[i + 1] for i in range(0, len(row) - 1, 2) if row[i] == asked]
        assert len(stated) == 2 and stated[0] != stated[1] == right


def test_training_learns_and_a_resumed_run_equals_one_that_never_stopped(tmp_path, monkeypatch):
    texts = ["A sentence that stands in for a corpus of docstrings, long enough to draw windows from. " * 30]
    monkeypatch.setattr(tokens, "corpus", lambda: texts)
    monkeypatch.setattr(recipe, "STAGES", ((4, 3, 0.0, 0.0), (5, 3, 0.2, 0.5)))
    monkeypatch.setattr(recipe, "HOLDS", 0.0)  # on to the second stage at once, so that text is drawn too
    torch.set_num_threads(1)
    whole = recipe.train(tmp_path / "a", steps=20, save_every=4, progress=False)
    calls = []

    def stop(*args):
        calls.append(1)
        if len(calls) > 5:
            raise KeyboardInterrupt
        return step(*args)

    step = recipe._step
    monkeypatch.setattr(recipe, "_step", stop)
    with pytest.raises(KeyboardInterrupt):
        recipe.train(tmp_path / "b", steps=20, save_every=4, progress=False)
    monkeypatch.setattr(recipe, "_step", step)
    again = recipe.train(tmp_path / "b", steps=20, save_every=4, progress=False)
    for (name, a), b in zip(whole.state_dict().items(), again.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    losses = [json.loads(line)["loss"] for line in (tmp_path / "a" / "log.jsonl").read_text().splitlines()]
    pairs = [loss for step, loss in enumerate(losses) if step % recipe.TEXT_EVERY != recipe.TEXT_EVERY - 1]
    assert len(losses) == 20 and sum(pairs[-4:]) < sum(pairs[:4]) - 1
