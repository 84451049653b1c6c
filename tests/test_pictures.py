"""Pictures and films in a prompt: the model sees what transformers sees, and every reading knows where they are."""

import dataclasses

import pytest
import tiny
import torch
from sights import IMAGE, PROMPT, VIDEO, image_text, processed
from transformers.image_utils import SizeDict as Size

import labkit
from labkit import attention, deltanet, edit, pictures, rotary, yarn
from labkit.errors import BackendError, BudgetError, CheckpointError, InputError
from labkit.pictures import processing
from labkit.steps.capture import static
from labkit.trace import axes_of

CACHED = dict(rtol=1e-4, atol=1e-4)  # what a cached pass may differ by


@pytest.fixture(scope="module")
def lab():
    return tiny.make_lab(image_text())


@pytest.fixture(scope="module")
def given():
    return processed(*PROMPT)


@pytest.fixture(scope="module")
def seen(lab, given):
    return pictures.see(lab, given)


@pytest.fixture(scope="module")
def run(lab, seen):
    return lab.trace(seen, logits="all")


def plain(lab, given, **more):
    """Logits of transformers alone, and the model as it was."""
    with torch.no_grad():
        logits = lab.model(**given, **more).logits[0]
    lab.model.model.rope_deltas = None
    return logits


def test_logits_are_those_of_transformers_bit_for_bit(lab, given, run):
    assert torch.equal(run.logits, plain(lab, given, use_cache=False))
    masked = given | {"attention_mask": torch.ones_like(given["input_ids"])}
    assert torch.equal(run.logits, plain(lab, masked, use_cache=False))
    assert not tiny.hooks(lab.model) and lab.model.model.rope_deltas is None


def test_a_text_before_and_after_is_as_ever(given, seen):
    fresh = tiny.make_lab(image_text())
    text = tiny.ids(23)
    before = fresh.trace(text, logits="all").logits
    fresh.trace(pictures.see(fresh, given))
    fresh.generate(pictures.see(fresh, given), max_new_tokens=2)
    assert torch.equal(fresh.trace(text, logits="all").logits, before)
    alone = tiny.make_lab(tiny.model())
    assert torch.equal(alone.trace(text, logits="all").logits, before)


def test_spans_grids_and_segments_say_where_pictures_are(run):
    spans = run.pictures.spans
    assert [(span.name, span.first, span.last) for span in spans] == [
        ("image 0", 4, 19),
        ("video 0 step 0", 23, 29),
        ("video 0 step 1", 32, 38),
        ("image 1", 42, 50),
    ]
    assert [(span.rows, span.columns) for span in spans] == [(3, 5), (2, 3), (2, 3), (4, 2)]
    pads = [IMAGE, VIDEO, VIDEO, IMAGE]
    for span, pad in zip(spans, pads, strict=True):
        assert set(run.ids[span.first : span.last].tolist()) == {pad}
    rows = run.pictures.segments("row")
    assert rows[3:10] == ["text", *["image 0 row 0"] * 5, "image 0 row 1"] and rows[32] == "video 0 step 1 row 0"
    assert run.pictures.segments("kind", before=2)[:3] == ["before", "before", "text"]
    assert run.pictures.segments().count("image 1") == 8
    with pytest.raises(InputError, match="no such names"):
        run.pictures.segments("column")


def test_rotary_axes_are_those_that_the_layers_received(run):
    """By an equation of our own: a picture has one time, rows on the second axis, columns on the third."""
    time, height, width = run.pictures.position_ids
    assert time[:4].tolist() == height[:4].tolist() == [0, 1, 2, 3]
    for span in run.pictures.spans:
        at, grid = slice(span.first, span.last), torch.arange(span.rows * span.columns)
        begin = int(time[span.first])
        assert set(time[at].tolist()) == {begin} and begin == int(time[span.first - 1]) + 1
        assert torch.equal(height[at] - begin, grid // span.columns)
        assert torch.equal(width[at] - begin, grid % span.columns)
        assert int(time[span.last]) == begin + max(span.rows, span.columns)
    facts = rotary.constants(run.spec)
    omega = rotary.frequencies(run.scaling, **facts)
    phase = run.pictures.turned.float() * omega
    torch.testing.assert_close(run.rotary[0], torch.cat([phase.cos()] * 2, -1))
    torch.testing.assert_close(run.rotary[1], torch.cat([phase.sin()] * 2, -1))


def test_axes_alternate_as_far_as_their_sections_go():
    assert axes_of([11, 11, 10], 32).tolist() == [0, 1, 2] * 10 + [0, 1]
    assert axes_of([2, 1, 1], 4).tolist() == [0, 1, 2, 0]
    assert axes_of([4, 1, 2], 7).tolist() == [0, 1, 2, 0, 0, 2, 0]
    assert axes_of([3, 3, 2], 8).tolist() == [0, 1, 2, 0, 1, 2, 0, 1]


@pytest.mark.parametrize("experts", [False, True], ids=["dense", "experts"])
def test_every_reading_is_proven(experts, given):
    lab = tiny.make_lab(image_text(experts=experts))
    run = lab.trace(pictures.see(lab, given))
    names = run.pictures.segments()
    sets = [reading(run, layer=[0, 1, 3]) for reading in (deltanet.memory, deltanet.survival, deltanet.half_life)]
    sets += [deltanet.implied_row(run, layer=1), deltanet.recall(run, layer=0, source=[5, 6], token=-1)]
    sets += [deltanet.written_by(run, layer=3, segments=names), deltanet.spectrum(run, layer=0)]
    sets += [attention.pattern(run, layer=[2, 4]), attention.summary(run, layer=2, segments=names)]
    sets += [attention.bands(run, layer=2), attention.bands_by_distance(run, layer=4, by="pair")]
    assert max(ds.attrs["parity"] for ds in sets) < 5e-6
    assert float(sets[5].share.sum("segment").max()) == pytest.approx(1, abs=1e-4)


def test_bands_of_pictures_are_turned_by_three_axes(lab, run):
    """Their softmax is the pattern; by one position for all pairs it is not."""
    ds = attention.bands(run, layer=2)
    weight = torch.as_tensor(ds.logit.values).nan_to_num(-torch.inf).softmax(-1)
    pattern = torch.as_tensor(attention.pattern(run, layer=2).weight.values)
    torch.testing.assert_close(weight, pattern, rtol=1e-4, atol=1e-6)
    flat = dataclasses.replace(run.pictures, axes=torch.zeros_like(run.pictures.axes))
    with pytest.raises(labkit.errors.ParityError):
        attention.bands(dataclasses.replace(run, pictures=flat), layer=2)


def test_what_a_picture_shows_is_what_counts(lab, given, run):
    other = lab.trace(pictures.see(lab, given | {"pixel_values": -given["pixel_values"]}), logits="all")
    assert torch.equal(other.ids, run.ids) and torch.equal(other.logits[:4], run.logits[:4])
    assert not torch.equal(other.logits[-1], run.logits[-1])
    assert other.pictures.spans[0].digest != run.pictures.spans[0].digest
    assert other.pictures.spans[1].digest == run.pictures.spans[1].digest


def test_generation_goes_on_as_transformers_does(lab, given, seen):
    with torch.no_grad():
        whole = lab.model.generate(**given, max_new_tokens=5, do_sample=False, eos_token_id=2)[0]
    lab.model.model.rope_deltas = None
    run = lab.generate(seen, max_new_tokens=5, eos_token_id=2)
    assert len(run) == len(seen) + 5 and torch.equal(run.ids, whole) and run.prompt_length == len(seen)
    again = torch.cat([given["input_ids"], whole[None, len(seen) :]], 1)
    types = torch.nn.functional.pad(given["mm_token_type_ids"], (0, 5))
    logits = plain(lab, given | {"input_ids": again, "mm_token_type_ids": types}, use_cache=False)
    torch.testing.assert_close(run.logits[-1], logits[-1], **CACHED)
    assert run.pictures.position_ids.shape == (3, len(run))
    assert attention.bands(run, layer=2).attrs["parity"] < 5e-6
    with pytest.raises(BackendError, match="cannot be recorded"):
        lab.generate(seen, max_new_tokens=5, capture=True)


def test_a_text_goes_on_after_pictures_at_its_right_positions(lab, given):
    """In a cache: traces, steps, snapshots, forks and batches of them; the reference is one pass over everything."""
    tail = tiny.ids(9, seed=4)[tiny.ids(9, seed=4) > 8]
    longer = processed(*PROMPT, tail.tolist())
    whole = lab.trace(pictures.see(lab, longer), logits="all")
    close = CACHED
    cache = lab.cache()
    head = pictures.see(lab, given)
    assert "pictures" not in str(static(lab, cache))
    lab.trace(head, cache=cache)
    assert "pictures" in static(lab, cache)
    snap = lab.snapshot(cache)
    rest = lab.trace(tail, cache=cache, chunk=2, logits="all")
    torch.testing.assert_close(rest.logits, whole.logits[-len(tail) :], **close)
    assert torch.equal(rest.position_ids, whole.pictures.position_ids[0, -len(tail) :])
    assert attention.pattern(rest, layer=2).attrs["parity"] < 5e-6
    with pytest.raises(InputError, match="positions of their own"):
        attention.bands(rest, layer=2)
    cache = lab.restore(snap)
    steps = [lab.step(cache, int(token)) for token in tail]
    torch.testing.assert_close(steps[-1].logits, whole.logits[-1:], **close)
    assert int(steps[1].position_ids) == int(whole.pictures.position_ids[0, len(head) + 1])
    torch.testing.assert_close(lab.logits(tail[None], cache=lab.fork(snap, 2)[1]), whole.logits[-1:], **close)
    rows = lab.restore(snap.stacked(2))
    torch.testing.assert_close(lab.logits(tail.expand(2, -1), cache=rows), whole.logits[[-1, -1]], **close)
    resumed = lab.resume(snap, pictures.see(lab, longer))
    torch.testing.assert_close(resumed.logits, whole.logits[-1:], **close)
    assert len(resumed) == len(tail) and resumed.start.length == len(head)


def test_pictures_after_a_text_or_after_pictures(lab):
    whole = pictures.see(lab, processed(*PROMPT))
    reference = lab.trace(whole).logits
    for cut in (2, 20, 41):  # in text before all, behind the first picture, behind the film
        cache = lab.cache()
        first = processed(*PROMPT[: {2: 0, 20: 2, 41: 5}[cut]])
        head = {2: [30, 31], 20: None, 41: None}[cut]
        beginning = head if head else pictures.see(lab, first)
        run = lab.trace(beginning, cache=cache)
        assert len(run) == cut or cut == 41
        rest = whole.after(len(run))
        torch.testing.assert_close(lab.trace(rest, cache=cache).logits, reference, rtol=1e-4, atol=1e-5)
        snap = lab.snapshot(cache)
        assert snap.pictures == whole.marks and len(snap.ids) == len(whole)
        assert snap.shift == int(whole.pictures.position_ids.max()) + 1 - len(whole)
    for cut in (10, 30, 33):
        with pytest.raises(InputError, match="one pass"):
            whole.after(cut)


def test_a_snapshot_is_resumed_with_its_own_pictures_alone(lab, given, seen):
    cache = lab.cache()
    lab.trace(seen, cache=cache)
    snap = lab.snapshot(cache)
    longer = processed(*PROMPT, [60, 61])
    other = longer | {"pixel_values": longer["pixel_values"].flip(0)}
    for prompt in (pictures.see(lab, other), longer["input_ids"][0]):
        with pytest.raises(InputError, match="snapshot's pictures"):
            lab.resume(snap, prompt)
    cache = lab.cache()
    lab.trace(given["input_ids"][0], cache=cache)  # pads as text
    with pytest.raises(InputError, match="snapshot's pictures"):
        lab.resume(lab.snapshot(cache), pictures.see(lab, longer))


def test_edits_and_gradients_reach_pictures(lab, seen, run):
    span = run.pictures.spans[0]
    at = range(span.first, span.last)
    with lab.edit(edit.function(lambda x, at: x * 0, seam="resid_post", layer=0, tokens=at)):
        changed = lab.trace(seen)
    assert not changed.seams[0, "resid_post"][span.first : span.last].any()
    assert torch.equal(changed.seams[0, "resid_post"][: span.first], run.seams[0, "resid_post"][: span.first])
    with lab.edit(*edit.ablate([0])):
        assert not torch.equal(lab.trace(seen).logits[-1], run.logits[-1])
    slopes = lab.trace(seen, grad=True)
    slope = slopes.gradient(slopes.logits[-1, 9], layer=0, seam="resid_pre")
    assert slope[at].abs().sum() > 0
    with yarn.scaled(lab, factor=2):
        scaled = lab.trace(seen)
        assert attention.bands(scaled, layer=2).attrs["parity"] < 5e-6
    assert not torch.equal(scaled.logits, run.logits[-1:])


def test_what_cannot_be_read_is_refused_by_name(lab, seen, run, tmp_path):
    for options in (dict(chunk=4), dict(chunk=1, cache=lab.cache())):
        with pytest.raises(InputError, match="one pass"):
            lab.trace(seen, **options)
    with pytest.raises(InputError, match="positions of their own"):
        lab.trace(seen, position_ids=range(len(seen)))
    with lab.edit(deltanet.replace_state(0.0, layer=0, at=9)), pytest.raises(InputError, match="one pass"):
        lab.trace(seen)
    with yarn.dynamic(lab), pytest.raises(InputError, match="yarn.dynamic"):
        lab.trace(seen)
    for call in (lambda: lab.encode(seen), lambda: lab.trace([seen, seen]), lambda: lab.stream(seen, probes=[])):
        with pytest.raises(InputError, match="more than token ids"):
            call()
    with pytest.raises(InputError, match="is not saved"):
        run.save(tmp_path / "run")
    with pytest.raises(InputError, match="is not packed"):
        labkit.pack(run, tmp_path / "run.pack", readings=[deltanet.half_life])
    text = tiny.make_lab(tiny.model())
    with pytest.raises(InputError, match="no image tower"):
        text.trace(seen)
    with pytest.raises(InputError, match="no image tower"):
        pictures.see(text, processed(*PROMPT))
    assert torch.equal(lab.trace(seen, logits="all").logits, run.logits)


def wrong(**changes):
    return lambda given: given | changes


FAULTS = {
    "more in it": (wrong(second_per_grid_ts=[1.0]), "more in it"),
    "no ids": (lambda given: {name: part for name, part in given.items() if name != "input_ids"}, "without token ids"),
    "padding": (lambda given: given | {"attention_mask": (given["input_ids"] != 30).long()}, "at a time"),
    "types": (lambda given: given | {"mm_token_type_ids": given["mm_token_type_ids"] * 0}, "another model"),
    "no grid": (
        lambda given: {name: part for name, part in given.items() if name != "image_grid_thw"},
        "come together",
    ),
    "grid of a film": (wrong(image_grid_thw=torch.tensor([[2, 6, 10], [1, 8, 4]])), "no grid"),
    "odd grid": (wrong(image_grid_thw=torch.tensor([[1, 5, 12], [1, 8, 4]])), "no grid"),
    "width": (lambda given: given | {"pixel_values": given["pixel_values"][:, :-1]}, "do not fit this tower"),
    "not a number": (lambda given: given | {"pixel_values": given["pixel_values"] / 0}, "no numbers"),
    "another grid": (wrong(image_grid_thw=torch.tensor([[1, 8, 4], [1, 6, 10]])), "do not fit the pictures"),
    "two rows": (lambda given: given | {"input_ids": given["input_ids"].repeat(2, 1)}, "one sequence"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_inputs_that_contradict_each_other_are_refused(lab, given, fault):
    change, match = FAULTS[fault]
    with pytest.raises(InputError, match=match):
        pictures.see(lab, change(given))
    with pytest.raises(InputError, match="needs no other"):
        pictures.see(lab, given, processor=object())


def test_the_tower_is_planned_and_admitted(lab, given, seen, monkeypatch):
    import measure

    from labkit import plan

    grids = {"pixel_values": 8, "pixel_values_videos": 8}
    parts = seen.planned(lab.plan(tokens=len(seen)), lab)
    assert parts.flops > lab.plan(tokens=len(seen)).flops and lab.plan(tokens=seen).parts == parts.parts
    rows = {name: given[name].repeat(grids[name], 1) for name in grids}
    many = rows | {name: given[name].repeat(8, 1) for name in ("image_grid_thw", "video_grid_thw")}
    features = lambda: (
        lab.model.model.get_image_features(many["pixel_values"], many["image_grid_thw"]),
        lab.model.model.get_video_features(many["pixel_values_videos"], many["video_grid_thw"]),
    )
    with torch.no_grad():
        counted, _, _ = measure.peak(features)
    held = sum(part.nbytes for part in rows.values())
    wide = dataclasses.replace(seen, inputs=many)
    (planned,) = pictures.tower.peak(lab.spec.vision, wide.grids, 4, fused=True).values()
    assert counted <= planned <= 3 * (counted + held)
    monkeypatch.setattr(plan.card, "budget", lambda device: (1000, "a small card"))
    with pytest.raises(BudgetError, match="image tower|trace"):
        lab.trace(seen)
    with pytest.raises(BudgetError, match="image tower"):
        seen.admit(lab)


# ------------------------------------------------------------------------------------- through the real processor

BOTH = processing.without_torchvision, processing.whole


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return pictures.graft(labkit.load("nano"), tmp_path_factory.mktemp("seen") / "eyes", seed=3)


@pytest.fixture(scope="module")
def processor(folder):
    pytest.importorskip("PIL", reason="pictures are read by Pillow, which is not installed")
    return pictures.processor(folder)


@pytest.fixture(scope="module")
def nano(folder, processor):
    return labkit.load(folder, images=True, device="cpu")


def drawn(rows, columns, seed=0):
    """A picture of random colours."""
    import numpy
    from PIL import Image

    return Image.fromarray(numpy.random.default_rng(seed).integers(0, 256, (rows, columns, 3), dtype="uint8"))


def asked(*items):
    return [{"role": "user", "content": [*items, {"type": "text", "text": " fox red."}]}]


def image(rows, columns, seed=0):
    return {"type": "image", "image": drawn(rows, columns, seed)}


def test_a_grafted_checkpoint_reads_texts_as_its_lab(nano, folder, tmp_path):
    alone, text = labkit.load("nano"), " fox red. whale blue. fox"
    assert torch.equal(nano.trace(text, logits="all").logits, alone.trace(text, logits="all").logits)
    loaded = labkit.load(folder)
    assert torch.equal(loaded.trace(text).logits, alone.trace(text).logits)
    with pytest.raises(InputError, match="has an image tower already"):
        pictures.graft(nano, tmp_path / "again")
    with pytest.raises(InputError, match="not empty"):
        pictures.graft(alone, folder)
    with pytest.raises(InputError, match="no signs for pictures"):
        pictures.graft(tiny.make_lab(tiny.model()), tmp_path / "none")


def test_messages_pass_the_real_processor(nano, processor):
    messages = asked(image(24, 40), image(16, 24, seed=1))
    seen = pictures.see(nano, messages, processor=processor)
    assert [(span.rows, span.columns) for span in seen.spans] == [(3, 5), (2, 3)]
    given = processor.apply_chat_template(
        messages, tokenize=True, add_generation_prompt=True, return_dict=True, return_tensors="pt"
    )
    run = nano.trace(seen, logits="all")
    assert torch.equal(run.logits, plain(nano, given, use_cache=False))
    assert torch.equal(nano.trace(pictures.see(nano, given), logits="all").logits, run.logits)
    closed = pictures.see(nano, messages, processor=processor, add_generation_prompt=False)
    assert len(closed) < len(seen) and torch.equal(closed.ids, seen.ids[: len(closed)])
    assert deltanet.written_by(run, layer=0, segments=run.pictures.segments("row")).attrs["parity"] < 5e-6


def patches_of(frames, tower):
    """[patch, channel x frame x row x column] of frames [frame, row, column, channel], patch by patch in loops.

    Four patches that become a token follow each other; two frames, the last one repeated, make a step.
    """
    size, merge, many = tower["patch_size"], tower["spatial_merge_size"], tower["temporal_patch_size"]
    frames = torch.as_tensor(frames).float() / 255 * 2 - 1
    while len(frames) % many:
        frames = torch.cat([frames, frames[-1:]])
    steps, rows, columns = len(frames) // many, frames.shape[1] // size, frames.shape[2] // size
    made = []
    for step in range(steps):
        for row in range(0, rows, merge):
            for column in range(0, columns, merge):
                for i in range(row, row + merge):
                    for j in range(column, column + merge):
                        cut = frames[step * many : (step + 1) * many]
                        cut = cut[:, i * size : (i + 1) * size, j * size : (j + 1) * size]
                        made.append(cut.permute(3, 0, 1, 2).flatten())
    return torch.stack(made), [(steps, rows, columns)]


def film(frames, rows, columns, seed=0):
    """Frames of random colours."""
    import numpy

    return numpy.random.default_rng(seed).integers(0, 256, (frames, rows, columns, 3), dtype="uint8")


@pytest.mark.parametrize("frames", [4, 5], ids=["even", "odd"])
def test_films_pass_the_real_processor(nano, processor, frames):
    """Its pixels are those of patches cut by hand, and every reading of the states and heads after it is proven."""
    shot = film(frames, 16, 24)
    messages = asked({"type": "video", "video": shot}, image(24, 16))
    options = {"do_sample_frames": False}
    seen = pictures.see(nano, messages, processor=processor, processor_kwargs={"videos_kwargs": options})
    pixels, grids = patches_of(shot, nano.spec.vision)
    torch.testing.assert_close(seen.inputs["pixel_values_videos"], pixels, rtol=0, atol=1e-6)
    assert [tuple(row) for row in seen.inputs["video_grid_thw"].tolist()] == grids
    steps = [(f"video 0 step {step}", 2, 3) for step in range(-(-frames // 2))]
    assert [(span.name, span.rows, span.columns) for span in seen.spans] == [*steps, ("image 0", 3, 2)]
    run = nano.trace(seen, logits="all")
    given = {"input_ids": seen.ids[None]} | seen.inputs
    kinds = torch.zeros_like(seen.ids)
    for span in seen.spans:
        kinds[span.first : span.last] = 2 if span.kind == "video" else 1
    expected = plain(nano, given | {"mm_token_type_ids": kinds[None].int()}, use_cache=False)
    assert torch.equal(run.logits, expected)
    time, height, width = run.pictures.position_ids
    for span in seen.spans:
        at, place = slice(span.first, span.last), torch.arange(span.rows * span.columns)
        begin = int(time[span.first - 1]) + 1
        assert set(time[at].tolist()) == {begin}  # between steps stand their times, as text
        assert torch.equal(height[at] - begin, place // span.columns)
        assert torch.equal(width[at] - begin, place % span.columns)
    names = run.pictures.segments()
    assert names.count("video 0 step 1") == 6
    sets = [deltanet.memory(run, layer=[0, 4]), deltanet.written_by(run, layer=1, segments=names)]
    sets += [attention.bands(run, layer=3), attention.pattern(run, layer=7)]
    assert max(ds.attrs["parity"] for ds in sets) < 5e-6
    other = nano.trace(pictures.see(nano, given | {"pixel_values_videos": -seen.inputs["pixel_values_videos"]}))
    assert not torch.equal(other.logits[-1], run.logits[-1])


@pytest.mark.parametrize("size", [(4, 40, 56), (7, 13, 37), (6, 90, 50)], ids=str)
def test_filmswithout_torchvision_are_those_of_torchvision(nano, folder, processor, size):
    """Bit by bit: the family's own class calls the same interpolation."""
    pytest.importorskip("torchvision", reason="what this is compared with is not installed")
    messages = asked({"type": "video", "video": film(*size)})
    alone, whole = (pictures.see(nano, messages, processor=make(folder)) for make in BOTH)
    assert torch.equal(alone.ids, whole.ids) and alone.grids == whole.grids
    assert torch.equal(alone.inputs["pixel_values_videos"], whole.inputs["pixel_values_videos"])


def test_films_are_resized_and_sampled_as_the_settings_say(nano, folder, processor):
    """Frames of a size that fits stay; a flat colour stays flat, whatever its size; two frames a second are taken."""
    alone = BOTH[0](folder)
    flat = film(48, 22, 42) * 0 + 51
    messages = asked({"type": "video", "video": flat})
    data = {"videos_kwargs": {"video_metadata": [{"fps": 8, "total_num_frames": 48}]}}
    seen = pictures.see(nano, messages, processor=alone, processor_kwargs=data)
    pixels = seen.inputs["pixel_values_videos"]
    assert (pixels - (51 / 255 * 2 - 1)).abs().max() < 1e-6
    (steps, rows, columns) = seen.grids[0]
    assert steps == 48 / 8 * 2 / 2 and rows % 2 == columns % 2 == 0 and 1.6 < columns / rows < 2.2
    assert steps * rows * columns * 16 * 2 <= 16_384
    ramp = film(4, 16, 48) * 0 + torch.arange(48, dtype=torch.uint8).numpy()[None, None, :, None] * 5
    half = alone.video_processor.resize(
        torch.as_tensor(ramp).permute(0, 3, 1, 2)[None],
        size=Size(shortest_edge=64, longest_edge=16 * 48 * 4 // 4),
        resample=3,
        factor=8,
        temporal_factor=2,
    )
    assert half.shape == (1, 4, 3, 8, 24) and (half[0, 0, 0, 0].diff() >= 0).all() and half.dtype == torch.uint8
    for frames, match in ((film(4, 16, 24)[..., :1].repeat(2, -1), "channel"), (film(1, 16, 24), "larger than")):
        with pytest.raises(BackendError, match=match):
            pictures.see(nano, asked({"type": "video", "video": frames}), processor=alone)
    grey = film(4, 16, 24)[..., :1]
    colour = asked({"type": "video", "video": grey.repeat(3, -1)})
    one, three = (
        pictures.see(nano, each, processor=alone) for each in (asked({"type": "video", "video": grey}), colour)
    )
    assert torch.equal(one.inputs["pixel_values_videos"], three.inputs["pixel_values_videos"])


def test_pillow_alone_makes_the_same_inputs(nano, processor, folder, monkeypatch):
    """Without torchvision a processor reads pictures, to the last digits of resizing."""
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "torchvision" else find(name))
    alone = pictures.processor(folder)
    messages = asked(image(24, 40))
    one, two = (pictures.see(nano, messages, processor=each) for each in (alone, processor))
    assert torch.equal(one.ids, two.ids) and one.grids == two.grids
    torch.testing.assert_close(one.inputs["pixel_values"], two.inputs["pixel_values"], rtol=0, atol=0.02)
    with pytest.raises(BackendError, match="cannot read these messages"):  # nothing decodes a file of a film
        pictures.see(nano, asked({"type": "video", "video": "film.mp4"}), processor=alone)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BackendError, match="Pillow"):
        pictures.processor(folder)


def test_messages_that_cannot_be_read_are_refused(nano, processor, tmp_path):
    for item in ({"type": "image", "image": "https://example.org/a.png"}, {"image_url": {"url": "HTTP://a/b.png"}}):
        with pytest.raises(InputError, match="network"):
            pictures.see(nano, asked(item), processor=processor)
    with pytest.raises(BackendError, match="cannot read these messages"):
        pictures.see(nano, asked({"type": "image", "image": str(tmp_path / "none.png")}), processor=processor)
    with pytest.raises(InputError, match="rendered by a processor"):
        pictures.see(nano, asked(image(16, 16)), processor=nano.tokenizer)
    for place in (tmp_path, tmp_path / "none"):
        with pytest.raises(CheckpointError):
            pictures.processor(place)
