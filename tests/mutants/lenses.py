"""Mutants of fitted lenses: how their files are read, how they are applied, their controls, paths and blocks."""

from tests.mutants import Mutant

LENSES, PUBLISHED, SPOKEN, CONTROLS, PATHS, GEOMETRY = (
    f"labkit/residual/{name}.py" for name in ("lenses", "published", "spoken", "controls", "paths", "geometry")
)
FILES, BESIDE = "tests/test_lenses.py::test_", "tests/test_lens_controls.py::test_"
TUNED = FILES + "a_tuned_lens_says_what_its_own_formulas_say"
JACOBIAN = FILES + "a_jacobian_lens_says_what_its_own_formulas_say"
SAVED = FILES + "what_is_saved_is_the_published_form"
DAMAGED = FILES + "a_damaged_jacobian_lens_is_refused"
OTHER = FILES + "a_lens_of_another_model_is_refused_with_what_and_why"
MEANS = BESIDE + "controls_that_ask_the_same_stream_are_means_over_tokens"
MAP = BESIDE + "one_random_map_serves_all_streams_and_has_the_norm_of_the_lens"
RANDOM = BESIDE + "random_matrices_read_nothing_and_the_control_says_so"
ADD_UP = BESIDE + "paths_add_up_to_what_the_lens_says"
BRANCHES = BESIDE + "a_path_is_what_the_map_makes_of_its_branches"
BLOCKS = BESIDE + "blocks_stand_out_and_their_null_does_not_make_them"

MUTANTS = [
    Mutant(LENSES, "made = h @ own.T", "made = h @ own", JACOBIAN),
    Mutant(LENSES, "return h + made if self.onto else made", "return made", TUNED),
    Mutant(LENSES, "made = made + self.biases", "made = made - self.biases", TUNED),
    Mutant(
        LENSES,
        "self.matrix(layer, torch.empty(0)).half()",
        "self.maps[layer].half()",
        FILES + "an_added_map_is_saved_whole",
    ),
    Mutant(LENSES, 'draft.open("wb") as file', "draft as file", SAVED),
    Mutant(LENSES, "if not torch.isfinite(tensor).all():", "if torch.isnan(tensor).all():", DAMAGED),
    Mutant(LENSES, '("layers", lens.depth, spec.layers, lens.depth in (None, spec.layers)),', "", OTHER),
    Mutant(
        LENSES,
        "threshold=0 if large else 1000",
        "threshold=1000",
        FILES + "the_unembedding_it_was_fitted_with_is_known_by_its_hash",
    ),
    Mutant(PUBLISHED, "weights_only=True", "weights_only=False", DAMAGED),
    Mutant(PUBLISHED, "{*map(repr, named)} != {*map(repr, maps)}", "False", DAMAGED),
    Mutant(PUBLISHED, "if counted > size:", "if not counted:", DAMAGED),
    Mutant(PUBLISHED, 'stream="resid_pre", depth', 'stream="resid_post", depth', TUNED),
    Mutant(SPOKEN, "by.carry(stream.to(lab.device), layer)", "by.carry(stream.to(lab.device), chosen[0])", JACOBIAN),
    Mutant(CONTROLS, "if token != answer)", "if token)", MEANS),
    Mutant(CONTROLS, "center = held[-1] if held else place", "center = place", MEANS),
    Mutant(CONTROLS, "right=True", "right=False", MEANS),
    Mutant(CONTROLS, "(norm / width) @ span", "(norm / width) @ torch.eye(len(span)) * span.norm(dim=0)", MAP),
    Mutant(CONTROLS, "(norm / width)", "(norm / width**0.5)", MAP),
    Mutant(CONTROLS, ')[:, nulls].all("control")', ')[:, nulls].any("control")', RANDOM),
    Mutant(CONTROLS, "own(stream)])", "own(carry(stream))])", MEANS),
    Mutant(PATHS, "out @ by.matrix(layer, out)", "out @ by.matrix(layer, out).T", ADD_UP),
    Mutant(PATHS, "written[: layer + after]", "written[: layer + 1]", ADD_UP),
    Mutant(
        PATHS,
        '{"deltanet": "states", "attention": "attention"}',
        '{"deltanet": "attention", "attention": "states"}',
        BRANCHES,
    ),
    Mutant(
        PATHS, "out - way_out(lab, carried, foils, wide)", "out", BESIDE + "against_a_foil_it_is_the_difference_of_both"
    ),
    Mutant(
        GEOMETRY,
        "held = rows @ by.matrix(layer, rows)",
        "held = rows @ by.matrix(layer, rows).T",
        BESIDE + "similarity_is_linear_cka_of_the_rows",
    ),
    Mutant(
        GEOMETRY,
        "held = held - held.mean(0)",
        "held = held - held.mean()",
        BESIDE + "similarity_is_linear_cka_of_the_rows",
    ),
    Mutant(
        GEOMETRY,
        "alike[away == distance].mean()",
        "alike[away >= distance].mean()",
        BESIDE + "what_falls_off_with_distance_has_no_blocks_beyond_it",
    ),
    Mutant(GEOMETRY, 'side="right"', 'side="left"', BLOCKS),
]
