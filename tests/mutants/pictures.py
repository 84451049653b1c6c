"""Mutants of prompts with pictures: where they stand, what turns their tokens, and what goes on after them."""

from tests.mutants import Mutant

SPANS, PROMPT, PASSES = "labkit/trace/spans.py", "labkit/pictures/prompt.py", "labkit/passes.py"
SNAPSHOTS = "labkit/cache/snapshots.py"
HERE = "tests/test_pictures.py::test_"
AXES, BANDS = HERE + "axes_alternate_as_far_as_their_sections_go", HERE + "bands_of_pictures_are_turned_by_three_axes"
ON, AFTER = HERE + "a_text_goes_on_after_pictures", HERE + "pictures_after_a_text_or_after_pictures"
ON += "_at_its_right_positions"
OWN, REFUSED = (
    HERE + "a_snapshot_is_resumed_with_its_own_pictures_alone",
    HERE + "what_cannot_be_read_is_refused_by_name",
)
SHOWS, GOES = HERE + "what_a_picture_shows_is_what_counts", HERE + "generation_goes_on_as_transformers_does"
TOWERS, FILMS, ROUTES = "labkit/zoo/towers.py", "labkit/pictures/films.py", "labkit/zoo/routes.py"
STORED = "tests/test_zoo_images.py::test_every_way_of_storing_gives_the_model_that_was_stored"
HALF = "tests/test_zoo_images.py::test_half_a_tower_is_refused_and_texts_are_not"
PACKED = "tests/test_zoo_images.py::test_packed_text_layers_are_unpacked_beside_a_plain_tower"
SHORT = "tests/test_zoo_images.py::test_the_tower_counts_where_memory_is_short"
FRAMES = HERE + "films_pass_the_real_processor"
RESIZED = HERE + "films_are_resized_and_sampled_as_the_settings_say"

MUTANTS = [
    Mutant(SPANS, "axes[axis : 3 * sections[axis] : 3]", "axes[axis::3]", AXES),
    Mutant(SPANS, "self.position_ids[self.axes].T", "self.position_ids[self.axes * 0].T", BANDS),
    Mutant(
        SPANS,
        "(at - span.first) // span.columns",
        "(at - span.first) % span.columns",
        HERE + "spans_grids_and_segments_say_where_pictures_are",
    ),
    Mutant(SPANS, "int(self.position_ids.max()) + 1 + torch", "self.position_ids.shape[1] + torch", GOES),
    Mutant(PASSES, "torch.arange(tokens) + first + shift", "torch.arange(tokens) + first", ON),
    Mutant(PASSES, "position_ids[:, None] + first + shift", "position_ids[:, None] + first", AFTER),
    Mutant(PASSES, "int(position_ids.max()) + 1 - first - length", "int(position_ids.max()) + 1 - length", AFTER),
    Mutant(PASSES, "(a + first, b + first, digest)", "(a, b, digest)", AFTER),
    Mutant(
        PASSES,
        '    if cuts:\n        got, expected = f"a pass',
        '    if False:\n        got, expected = f"a pass',
        REFUSED,
    ),
    Mutant(SNAPSHOTS, "facts |= dict(shift=self.shift, pictures=self.pictures)", "pass", ON),
    Mutant(SNAPSHOTS, "!= list(snap.pictures)", "!= list(snap.pictures) and False", OWN),
    Mutant(SNAPSHOTS, "placed=book.placed or book.shift != 0", "placed=book.placed", ON),
    Mutant(PROMPT, "places[:, tokens:] - start", "places[:, tokens:]", AFTER),
    Mutant(PROMPT, "self.inputs[pixels][rows:]", "self.inputs[pixels][:-rows or None]", AFTER),
    Mutant(PROMPT, "part.numpy().tobytes()", "part[:0].numpy().tobytes()", SHOWS),
    Mutant("labkit/steps/capture.py", "if book_of(cache).shift:", "if False:", ON),
    Mutant(TOWERS, "rules | {inside: family.text_prefix}", "rules", STORED + "[data parallel-experts]"),
    Mutant(TOWERS, "or len({*signs.values()}) < len(SIGNS)", "", HALF + "[one sign]"),
    Mutant(TOWERS, "if vision.get(name) not in (None, FIXED[name])", "if False", HALF + "[another activation]"),
    Mutant(ROUTES, "towers.tower_bytes(spec, chosen) if images else 0", "0", SHORT),
    Mutant("labkit/zoo/unpacking.py", "w.permute(0, 4, 1, 2, 3)", "w.permute(0, 4, 2, 1, 3)", PACKED + "[mlx]"),
    Mutant(FILMS, "return (image - mean) / std", "return image - mean", FRAMES),
    Mutant(FILMS, "not in (1, 3)", "== 0", RESIZED),
]
