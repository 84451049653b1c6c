"""nano: text comes back, the template is the family's, tasks mark right answers, the weights do what the card says."""

import json
import math
import random
import re

import pytest
import torch

import labkit as lk
from labkit import nano, stats
from labkit.errors import InputError
from labkit.nano import card, chat, exam, export, lessons, mtp, questions, recipe, shape, tasks, text, tokens


@pytest.fixture(scope="module")
def tokenizer():
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(nano.FOLDER / "tokenizer.json"))


@pytest.fixture(scope="module")
def deck(tokenizer):
    return lessons.Deck(tokenizer, list(range(300, 1300)), random.Random(0))


@pytest.fixture(scope="module")
def embedded():
    return lk.load("nano")


# ------------------------------------------------------------------------------------------------------ tokenizer


@pytest.mark.parametrize(
    "words",
    [
        "red fox, blue whale",
        "<think>\nnaïve café\n</think>\n\n",
        "日本語 🦊🐋 \t\r\n  end ",
        "<script>alert('x')</script>",
        "<|im_start|>user\nhi<|im_end|>\n",
        "x = [1, 22, 333]\n\n\n    return None",
    ],
)
def test_any_text_comes_back(embedded, words):
    ids = embedded.tokenizer(words, add_special_tokens=False)["input_ids"]
    assert embedded.tokenizer.decode(ids) == words
    assert max(ids) < embedded.spec.vocab


def test_special_tokens_are_single_and_tags_stay_in_text(embedded):
    t = embedded.tokenizer
    for words in (*tokens.SPECIAL, *tokens.TAGS, "\n", "\n\n", *(f" {word}" for word in tokens.WORDS)):
        assert len(t(words, add_special_tokens=False)["input_ids"]) == 1, words
    ids = t("<think>a</think><|im_end|>", add_special_tokens=False)["input_ids"]
    assert t.decode(ids, skip_special_tokens=True) == "<think>a</think>"
    assert (t.eos_token, t.pad_token) == ("<|im_end|>", "<|endoftext|>")


def test_both_stop_ids(embedded):
    ids = [embedded.tokenizer.convert_tokens_to_ids(words) for words in ("<|im_end|>", "<|endoftext|>")]
    assert sorted(embedded.model.generation_config.eos_token_id) == sorted(ids)


# ------------------------------------------------------------------------------------------------- chat template

USER, CALL = {"role": "user", "content": " hi "}, {"function": {"name": "look", "arguments": {"name": "fox", "n": 2}}}


def render(embedded, messages, **options):
    return embedded.tokenizer.apply_chat_template(messages, tokenize=False, **options)


@pytest.mark.parametrize(
    ("messages", "options", "expected"),
    [
        ([USER], {}, "<|im_start|>user\nhi<|im_end|>\n"),
        ([USER], dict(add_generation_prompt=True), "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n<think>\n"),
        (
            [USER],
            dict(add_generation_prompt=True, enable_thinking=False),
            "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n",
        ),
        (
            [{"role": "system", "content": ""}, USER],
            {},
            "<|im_start|>system\n<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n",
        ),
        (
            [USER, {"role": "assistant", "reasoning_content": " why ", "content": "so", "tool_calls": [CALL, CALL]}],
            {},
            "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n<think>\nwhy\n</think>\n\nso\n\n"
            + "\n".join(
                [
                    "<tool_call>\n<function=look>\n<parameter=name>\nfox\n</parameter>\n<parameter=n>\n2\n</parameter>\n"
                    "</function>\n</tool_call>"
                ]
                * 2
            )
            + "<|im_end|>\n",
        ),
        (
            [USER, {"role": "assistant", "content": "x<think>\nwhy</think>\n\nso"}, USER],
            {},
            "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\nso<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n",
        ),
        (
            [USER, {"role": "assistant", "content": "so"}, USER],
            dict(preserve_thinking=True),
            "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\nso<|im_end|>\n"
            "<|im_start|>user\nhi<|im_end|>\n",
        ),
        (
            [USER, {"role": "assistant", "content": "so"}, USER],
            dict(preserve_thinking="true"),
            "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\nso<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n",
        ),
        (
            [
                USER,
                {"role": "assistant", "reasoning_content": "w", "content": "", "tool_calls": [CALL["function"]]},
                {"role": "tool", "content": "a"},
                {"role": "tool", "content": "b"},
                {"role": "assistant", "reasoning_content": "v", "content": "so"},
            ],
            {},
            "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n<think>\nw\n</think>\n\n<tool_call>\n<function=look>\n"
            "<parameter=name>\nfox\n</parameter>\n<parameter=n>\n2\n</parameter>\n</function>\n</tool_call><|im_end|>\n"
            "<|im_start|>user\n<tool_response>\na\n</tool_response>\n<tool_response>\nb\n</tool_response><|im_end|>\n"
            "<|im_start|>assistant\n<think>\nv\n</think>\n\nso<|im_end|>\n",
        ),
        (
            [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "what?"}]}],
            {},
            "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>what?<|im_end|>\n",
        ),
    ],
)
def test_conversations_render_as_the_family_does(embedded, messages, options, expected):
    assert render(embedded, messages, **options) == expected


def test_thinking_is_stripped_before_the_last_query_and_a_tool_response_is_no_query(embedded):
    reply = {"role": "assistant", "reasoning_content": "w", "content": "a"}
    wrapped = {"role": "user", "content": "<tool_response>\nx\n</tool_response>"}
    kept = render(embedded, [USER, reply, wrapped, reply])
    assert kept.count("<think>") == 2
    assert render(embedded, [USER, reply, USER, reply]).count("<think>") == 1
    assert render(embedded, [USER, reply, USER, reply], preserve_thinking=True).count("<think>") == 2


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ([{"role": "developer", "content": "x"}, USER], "Unexpected message role"),
        ([USER, {"role": "system", "content": "x"}], "System message must be at the beginning"),
        ([{"role": "assistant", "content": "x"}], "No user query"),
        ([{"role": "system", "content": [{"type": "image"}]}, USER], "cannot contain images"),
    ],
)
def test_conversations_that_make_no_sense_are_refused(embedded, messages, message):
    import jinja2

    with pytest.raises(jinja2.exceptions.TemplateError, match=message):
        render(embedded, messages)


def test_tools_are_listed_in_the_system_block(embedded):
    said = render(embedded, [{"role": "system", "content": "be brief"}, USER], tools=chat.TOOLS)
    assert said.startswith("<|im_start|>system\n# Tools") and '"name": "look"' in said
    assert said.index("</tools>") < said.index("be brief<|im_end|>")


# ---------------------------------------------------------------------------------------------------------- tasks


def marked(deck, name, room, seed=0, **options):
    """(marked text, ids, answers) of one row."""
    draw = random.Random(f"{name}/{room}/{seed}")
    if name == "chat":
        said = chat.chat(draw, room, deck.reader.size, deck.render, **options)
    else:
        said = getattr(tasks, name)(draw, room, deck.reader.size, **options)
    return said, *deck.reader.read(said)


NAMES = ("pairs", "scattered", "order", "values", "copy", "chat")


@pytest.mark.parametrize("room", [64, 130, 512])
@pytest.mark.parametrize("name", NAMES)
def test_rows_fit_their_room_and_their_answers_are_the_marked_words(deck, tokenizer, name, room):
    if (name, room) == ("chat", 64):
        room = 110
    for seed in range(20):
        said, ids, answers = marked(deck, name, room, seed)
        assert len(ids) <= room, "nothing is cut off"
        words = re.findall(f"{tasks.OPEN} (.+?){tasks.CLOSE}", said)
        assert [tokenizer.decode([i]) for i, mark in zip(ids, answers, strict=True) if mark] == [f" {w}" for w in words]
        assert tokenizer.decode(ids, skip_special_tokens=False) == said.replace(tasks.OPEN, "").replace(tasks.CLOSE, "")
        if name != "chat":
            assert any(answers)


@pytest.mark.parametrize("name", ["pairs", "scattered"])
def test_the_last_value_of_a_key_is_its_answer(deck, name):
    fact = re.compile(rf" (\w+)(?: is)?({tasks.OPEN})? ({'|'.join(tokens.VALUES)})\b")
    changed = 0
    for seed in range(40):
        said, *_ = marked(deck, name, 300, seed)
        known = {}
        for key, asked, value in fact.findall(said):
            if key not in tokens.KEYS:
                continue
            if asked:
                assert known[key] == value
            changed += known.get(key, value) != value
            known[key] = value
    assert changed > 10, "keys are overwritten"


def test_first_and_last_values(deck):
    for seed in range(30):
        said, *_ = marked(deck, "values", 200, seed)
        body, _, questions = said.partition("\n")
        facts = re.findall(rf" (\w+) ({'|'.join(tokens.VALUES)})\.", body)
        for which, key, value in re.findall(rf" (first|last) (\w+){tasks.OPEN} (\w+)", questions):
            own = [v for k, v in facts if k == key]
            assert value == own[0 if which == "first" else -1] and len(own) >= 2


def test_places_in_a_list():
    words = ["ant", "bee", "cod", "dog", "eel"]
    said = {
        kind: tasks.question(kind, words, 1, 3) for kind in ("ordinal", "after", "before", "earlier", "later", "last")
    }
    plain = {kind: one.replace(tasks.OPEN, "[").replace(tasks.CLOSE, "]") for kind, one in said.items()}
    assert plain == {
        "ordinal": " second[ bee]",
        "after": " after bee[ dog]",
        "before": " before dog[ bee]",
        "earlier": " earlier bee dog[ bee]",
        "later": " later bee dog[ dog]",
        "last": " last[ eel]",
    }
    assert "earlier dog bee" in tasks.question("earlier", words, 1, 3, swapped=True)


def test_lists_ask_about_their_own_items_and_never_twice(deck):
    for seed in range(40):
        said, *_ = marked(deck, "order", 300, seed)
        for one in said.split(" list")[1:]:
            body, _, rest = one.partition(" end")
            asked = re.findall(rf" ((?:\w+ ){{0,2}}\w+){tasks.OPEN} (\w+)", rest)
            assert len({question for question, _ in asked}) == len(asked)
            assert all(f" {item}" in body for _, item in asked)


def test_what_was_decided_in_thinking_is_an_answer_only_if_thinking_is_kept(deck):
    draw = random.Random(3)
    for preserve in (True, False):
        turn = chat.ask(draw, "fox", "red", known=preserve)
        assert (tasks.OPEN in turn[1]["reasoning_content"]) == preserve
        messages = chat.session(draw, turns=8, preserve=preserve, kinds=(chat.decide,))
        said = deck.render(messages, preserve)
        assert ("pick a colour" in said) and (said.count("<think>") > 1) == preserve


def test_sentences_state_no_fact():
    draw = random.Random(0)
    for _ in range(500):
        assert not re.search(rf"({'|'.join(tokens.KEYS)})(?: is)? ({'|'.join(tokens.VALUES)})\b", text.sentence(draw))


def test_every_lesson_draws_rows_with_answers_that_fit(deck):
    for number, lesson in enumerate(lessons.LESSONS):
        for _ in range(3):
            names, ids, answers, real, heard = deck.batch(number)
            assert ids.shape == answers.shape == real.shape and len(names) == len(ids) == len(heard)
            assert answers.sum() > 0 and real.float().mean() > 0.6 and not (answers & ~real).any()
            assert {of for of, _ in names} <= set(range(number + 1))
            assert all(("unheard" in name) == (not h) for (_, name), h in zip(names, heard, strict=True))
        assert lesson.room <= shape.WINDOW


# ------------------------------------------------------------------------------------------------ model and recipe


def test_shape_has_the_ratios_of_the_27b(embedded):
    s = embedded.spec
    assert s.strip() == "D D D A · D D D A" and s.window == 512 and s.mtp_layers == 1
    assert (s.value_heads // s.key_heads, s.query_heads // s.kv_heads) == (3, 6) and s.kv_heads >= 2
    assert s.rotary_dim * 4 == s.head_dim and s.dk != s.dv


def test_rotary_pairs_fall_into_all_three_yarn_classes(embedded):
    s = embedded.spec
    turns = [s.window * s.rope_theta ** (-2 * i / s.rotary_dim) / (2 * math.pi) for i in range(s.rotary_dim // 2)]
    untouched = sum(turn > 32 for turn in turns)
    interpolated = sum(turn < 1 for turn in turns)
    assert (untouched, len(turns) - untouched - interpolated, interpolated) == (1, 4, 3)


def test_the_multi_token_prediction_layer_has_the_published_names_and_sees_no_future():
    from safetensors import safe_open

    with safe_open(nano.FOLDER / "model.safetensors", "pt") as file:
        stored = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys() if name.startswith("mtp.")}  # noqa: SIM118
    model, layer = shape.fresh()
    assert stored == {f"mtp.{name}": tuple(weight.shape) for name, weight in layer.state_dict().items()}
    assert stored["mtp.fc.weight"] == (128, 256) and "mtp.layers.0.self_attn.q_proj.weight" in stored
    ids = torch.randint(0, 2000, (2, 20), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        hidden = model.model(ids).last_hidden_state
        whole = layer(model, ids, hidden)
        assert whole.shape == (2, 19, tokens.VOCAB)
        ids[:, 12:] = 7
        cut = layer(model, ids, torch.cat([hidden[:, :11], model.model(ids).last_hidden_state[:, 11:]], 1))
    assert torch.equal(whole[:, :11], cut[:, :11]) and not torch.equal(whole[:, 11], cut[:, 11])


def test_the_multi_token_prediction_layer_puts_the_embedding_first():
    model, layer = shape.fresh()
    seen = []
    layer.fc.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    ids = torch.tensor([[5, 6, 7]])
    with torch.no_grad():
        hidden = torch.randn(1, 3, 128, generator=torch.Generator().manual_seed(1))
        layer(model, ids, hidden)
    embedded = model.model.embed_tokens.weight[[6, 7]]
    assert torch.allclose(seen[0][0, :, :128], layer.pre_fc_norm_embedding(embedded), atol=1e-6)
    assert torch.allclose(seen[0][0, :, 128:], layer.pre_fc_norm_hidden(hidden[0, :2]), atol=1e-6)
    assert isinstance(layer, mtp.Mtp)


def test_silenced_rows_are_read_without_attention_and_the_others_as_ever():
    model, _ = shape.fresh()
    model.eval()
    ids = torch.randint(0, 2000, (2, 30), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        plain = model(ids).logits
        with exam.without(model, "full_attention"):
            bare = model(ids).logits
        with recipe.silenced(model, torch.tensor([1.0, 0.0])):
            mixed = model(ids).logits
        assert torch.allclose(mixed[0], plain[0], atol=1e-6) and torch.allclose(mixed[1], bare[1], atol=1e-6)
        assert not torch.allclose(plain[1], bare[1], atol=1e-3)
        assert torch.equal(model(ids).logits, plain), "no hook is left"


SHORT = (
    lessons.Lesson(24, 8, (("pairs", lessons.FEW),), holds=0.0, silenced=0.3),
    lessons.Lesson(40, 6, (("pairs", {}), ("copy", {}), ("story", {}))),
)


@pytest.fixture
def small_corpus(monkeypatch):
    words = ["A sentence that stands in for a corpus of docstrings, long enough to draw windows from. " * 30]
    monkeypatch.setattr(tokens, "corpus", lambda: words)
    torch.set_num_threads(1)


def test_training_learns_and_a_resumed_run_equals_one_that_never_stopped(tmp_path, small_corpus, monkeypatch):
    make = lambda name: recipe.Training(tmp_path / name, total=12_000, lessons=SHORT)  # noqa: E731
    whole = make("a").run(save_every=6, progress=False)
    step, calls = recipe.Training.step, []

    def stop(self):
        calls.append(1)
        if len(calls) > 20:
            raise KeyboardInterrupt
        return step(self)

    monkeypatch.setattr(recipe.Training, "step", stop)
    with pytest.raises(KeyboardInterrupt):
        make("b").run(save_every=6, progress=False)
    monkeypatch.setattr(recipe.Training, "step", step)
    again = make("b")
    assert again.at.step == 18
    again.run(save_every=6, progress=False)
    for part in ("model", "mtp"):
        pairs = zip(getattr(whole, part).state_dict().items(), getattr(again, part).state_dict().values(), strict=True)
        for (name, a), b in pairs:
            assert torch.equal(a, b), name
    log = [json.loads(line) for line in (tmp_path / "a" / "log.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in log]
    assert sum(losses[-10:]) < 0.8 * sum(losses[:10]) and log[-1]["tokens"] >= 12_000 and log[-1]["lesson"] == 1
    with pytest.raises(InputError, match="(?s)another training.*seed 1.*expected: 2"):
        recipe.Training(tmp_path / "a", total=12_000, seed=2, lessons=SHORT)


def test_what_is_exported_is_what_was_trained(tmp_path, small_corpus):
    training = recipe.Training(tmp_path / "state", total=600, lessons=SHORT[:1] * 2)
    training.run(progress=False)
    target = tmp_path / "nano"
    target.mkdir()
    (target / "chat_template.jinja").write_text((nano.FOLDER / "chat_template.jinja").read_text())
    export.export(tmp_path / "state", target)
    lab = lk.load(target)
    ids = torch.arange(20, 60)
    with torch.no_grad():
        assert torch.allclose(lab.model(ids[None]).logits, training.model.eval()(ids[None]).logits, atol=1e-5)
    assert set(json.loads((target / "checksums.json").read_text())) == set(export.SUMMED)


# ----------------------------------------------------------------------------------------------------------- exam


def test_results_carry_their_wilson_interval():
    assert exam.Result("a", 9, 14).interval == stats.wilson(9, 14)


@pytest.fixture(scope="module")
def asked(tokenizer):
    model, layer = shape.fresh()
    deck = lessons.Deck(tokenizer, list(range(300, 1300)), random.Random(0))
    return exam.Exam(lk.load("nano").model, layer, deck, samples=60, batch=20)


@pytest.mark.parametrize(
    "question",
    [
        questions.recall,
        questions.overwritten,
        questions.first_value,
        questions.earlier,
        questions.ordinal,
        questions.induction,
    ],
)
def test_questions_fill_the_room_and_ask_for_one_word(deck, question):
    for room in (300, 512, 2048):
        draw = random.Random(room)
        for _ in range(5):
            prompt, value = question(draw, room, deck.reader.size)
            assert deck.reader.size(prompt) <= room and deck.reader.size(value) == 1
            if question is not questions.induction:
                assert deck.reader.size(prompt) > room - 40


def test_shares_of_a_lab(embedded, deck):
    always = lambda draw, room, size: (" fox red whale blue fox", " red")  # noqa: E731
    never = lambda draw, room, size: (" fox red whale blue fox", " elk")  # noqa: E731
    assert (exam.share(embedded, always, samples=3), exam.share(embedded, never, samples=3)) == (1.0, 0.0)
    prompt, value = questions.single(random.Random(3), 200, deck.reader.size)
    assert 170 < deck.reader.size(prompt) <= 200 and prompt.startswith(f" {prompt.split()[-1]}{value}.")


def test_answers_keep_their_order_and_do_not_depend_on_the_batch(embedded):
    asked = [(" fox red. whale blue. fox", " red"), (" crow gold. crow", " gold"), (" elk pink. owl red. elk", " teal")]
    right, p = exam.answers(embedded, asked, batch=2)
    assert right.tolist() == [True, True, False] and p[0] > 0.5 > p[2]
    alone = [exam.answers(embedded, [pair])[1].item() for pair in asked]
    assert p.tolist() == pytest.approx(alone, abs=1e-4)


def test_contrasts_differ_in_one_value():
    for seed in range(20):
        clean, other, asked_, right, wrong = questions.contrast(random.Random(seed))
        assert [a != b for a, b in zip(clean.split("."), other.split("."), strict=True)].count(True) == 1
        assert f"{asked_}{right}." in clean and f"{asked_}{wrong}." in other and right != wrong
        assert not clean.endswith(f"{asked_}{right}."), "never the last fact"


def test_conversations_are_asked_without_marks(asked, monkeypatch):
    seen = []
    monkeypatch.setattr(exam.Exam, "_continue", lambda self, rows: seen.extend(rows) or ["the x is y."] * len(rows))
    assert asked.converse("marks", preserve=True).right == 0, "what is said in thinking that never ends is no answer"
    texts = [asked.deck.reader.tokenizer.decode(row, skip_special_tokens=False) for row in seen]
    assert len(texts) == 60 and not any(sign in text for text in texts for sign in (tasks.OPEN, tasks.CLOSE))
    assert any("tool said" in text for text in texts), "also those in which a tool answers"


def test_a_needle_lies_where_it_should(deck):
    for depth in range(questions.DEPTHS):
        prompt, value = questions.needle(random.Random(depth), 512, deck.reader.size, depth=depth)
        key = re.search(r"\n (\w+)", prompt)[1]
        fact = re.search(rf" {key}(?: is)?{value}\.", prompt)
        place = deck.reader.size(prompt[: fact.start()]) / 512
        assert abs(place - (depth + 0.5) / questions.DEPTHS) < 0.08
        assert value.strip() in tokens.VALUES


def test_padding_changes_no_answer(asked):
    rows = [[5, 6, 7, 8, 9], [30, 31], [40, 41, 42]]
    together = asked._next(rows)
    assert together.tolist() == [int(asked._next([row])) for row in rows]


def test_the_exam_counts_right_answers(asked):
    always = lambda draw, room, size: (" fox red fox red fox", " red")  # noqa: E731
    never = lambda draw, room, size: (" fox red fox red fox", " elk")  # noqa: E731
    assert (asked.ask("yes", always).right, asked.ask("no", never).right) == (60, 0)


def test_yarn_is_a_scope(asked):
    rotary = asked.model.model.rotary_emb
    before, scale = rotary.inv_freq.clone(), rotary.attention_scaling
    with pytest.raises(RuntimeError, match="inside"), exam.yarn(asked.model, 4):
        slower = before / rotary.inv_freq
        assert rotary.attention_scaling == pytest.approx(0.1 * math.log(4) + 1)
        assert torch.allclose(slower[[0, -3, -2, -1]], torch.tensor([1.0, 4, 4, 4])) and (slower.diff() > -1e-6).all()
        raise RuntimeError("inside")
    assert torch.equal(rotary.inv_freq, before) and rotary.attention_scaling == scale


# -------------------------------------------------------------------------------------------- the stored checkpoint


def test_the_stored_weights_answer(asked):
    """On questions of a seed that no training and no card used."""
    asked.seed = 77
    assert asked.ask("recall", questions.recall).share >= 0.9
    assert asked.ask("needle", questions.needle, depth=3).share >= 0.9
    assert asked.converse("kept", preserve=True).share >= 0.8
    assert asked.converse("stripped", preserve=False).share <= 0.25


def test_a_prompt_as_a_user_types_it(embedded):
    run = embedded.trace(" fox red whale blue crow green whale")
    assert embedded.tokenizer.decode([int(run.logits[-1].argmax())]) == " blue"


def test_the_card_is_that_of_the_measured_results(tmp_path):
    runs = card.load(nano.FOLDER / "exam.json")
    assert len(runs) == 2 and runs[0][0]["seed"] != runs[1][0]["seed"]
    card.write(tmp_path / "README.md", runs)
    assert (tmp_path / "README.md").read_text() == (nano.FOLDER / "README.md").read_text(), "run evaluate again"
    said = (tmp_path / "README.md").read_text()
    for results in runs[0][1].values():
        for result in results:
            assert card.shown(result) in said and result.samples >= 1000


def test_a_card_says_what_was_not_measured(tmp_path):
    (facts, parts), other = card.load(nano.FOLDER / "exam.json")
    some = {**parts, "long": [result for result in parts["long"] if not result.name.endswith("| 4 | 2")]}
    card.write(tmp_path / "README.md", [(facts, some), (other[0], {"window": other[1]["window"][:3]})])
    lines = (tmp_path / "README.md").read_text().splitlines()
    (row,) = [line for line in lines if line.startswith("| overwritten key, last value counts | 2,048 |")]
    assert row.count("not measured") == 1 and row.count("|") == 6
    row = next(line for line in lines if line.startswith("| next word of a repeated row | 9"))
    assert row.endswith("| not measured |") and row.count("|") == 6


def test_the_weights_that_are_examined_are_those_that_load(embedded):
    model, ahead = recipe.embedded()
    mine, theirs = model.state_dict(), embedded.model.state_dict()
    assert mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)
    ids = torch.tensor([list(range(300, 330))])
    hidden = model.model(ids, use_cache=False).last_hidden_state
    assert torch.isfinite(ahead(model, ids, hidden)).all()
    assert ahead.state_dict().keys() == mtp_names() and not any(p.training for p in (model, ahead))


def mtp_names():
    from safetensors import safe_open

    with safe_open(nano.FOLDER / "model.safetensors", "pt") as held:
        return {name[4:] for name in held.keys() if name.startswith("mtp.")}  # noqa: SIM118


def test_rows_that_the_card_lacks_are_measured_from_the_shipped_weights(tmp_path, monkeypatch, capsys):
    from labkit.nano import __main__ as command

    folder = tmp_path / "nano"
    folder.mkdir()
    runs = card.load(nano.FOLDER / "exam.json")
    lost = runs[0][1]["knocked"].pop()
    card.dump(folder / "exam.json", runs)
    for name in ("tokenizer.json", "model.safetensors"):
        (folder / name).symlink_to(nano.FOLDER / name)
    monkeypatch.setattr(command, "FOLDER", folder)
    monkeypatch.setattr(recipe, "plain_text", lambda tokenizer: list(range(300, 1300)))
    command.main(["evaluate", "--embedded", "--samples", "3"])
    (line,) = capsys.readouterr().out.splitlines()
    (found,) = [one for one in card.load(folder / "exam.json")[0][1]["knocked"] if one.name == lost.name]
    assert lost.name in line and found.samples == 3, "nothing else was asked"
    assert "not measured" not in (folder / "README.md").read_text(encoding="utf-8").split("Who carries it")[1]
    before = (folder / "exam.json").read_text()
    command.main(["evaluate", "--embedded", "--samples", "3"])
    assert (folder / "exam.json").read_text() == before and capsys.readouterr().out == ""


def test_the_card_meets_its_targets():
    """The lower ends of what was measured, as the card states them, of both trainings."""
    for _, parts in card.load(nano.FOLDER / "exam.json"):
        found = {result.name: result.share for results in parts.values() for result in results}
        assert found["recall, 16 facts among sentences"] >= 0.95
        assert found["overwritten key, last value counts"] >= 0.90
        assert min(found[f"needle, depth {n + 1} of {questions.DEPTHS}"] for n in range(questions.DEPTHS)) >= 0.95
        assert found["asked about earlier thinking, preserved"] >= 0.90
        stripped = next(r for r in parts["chat"] if "stripped" in r.name)
        assert stripped.interval[0] <= exam.COLOUR <= stripped.interval[1] + 0.02
        assert found["sentences of the grammar"] >= 0.5


def test_files_are_small_and_complete():
    assert (nano.FOLDER / "model.safetensors").stat().st_size <= 12_000_000
    assert set(json.loads((nano.FOLDER / "checksums.json").read_text())) == set(export.SUMMED)
