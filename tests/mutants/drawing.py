"""Mutants of drawing: what stands where, and in which colour."""

from tests.mutants import Mutant

PLOTS, THEME = "labkit/draw/plots.py", "labkit/draw/theme.py"
INTERVAL = "tests/test_draw.py::test_an_interval_reaches_from_its_low_to_its_high_end"
SIGNED = "tests/test_draw.py::test_signed_colours_are_centred_on_0"
ROWS = "tests/test_draw.py::test_rows_run_down_columns_right_and_later_sources_are_blank"
SCALES, CELLS, WORDS, NOTATION = (
    "labkit/draw/scales.py",
    "labkit/draw/cells.py",
    "labkit/draw/words.py",
    "labkit/notation.py",
)
PAGES, SCRIPT = "labkit/draw/titles.py", "labkit/draw/script.py"
UNEVEN = "tests/test_draw_scales.py::test_uneven_magnitudes_stand_at_their_values"
UPRIGHT = "tests/test_draw_scales.py::test_upright_lines_stand_where_their_values_do"
HAIR = "tests/test_draw_scales.py::test_ticks_stand_a_hair_beside_their_places_on_either_scale"
STANDING = "tests/test_draw_scales.py::test_bars_to_scale_stand_on_their_values_and_do_not_meet"
FRACTION = "tests/test_draw_scales.py::test_the_axis_of_a_fraction_holds_its_levels_and_intervals"
SIGN = "tests/test_draw_scales.py::test_negative_cells_carry_a_sign"
DASHED = "tests/test_draw_scales.py::test_the_first_eight_lines_and_bars_differ_without_colour"
RAW = "tests/test_draw_scales.py::test_no_raw_name_is_shown_on_axes_hovers_legends_and_sliders"
TOGETHER = "tests/test_notation.py::test_what_is_put_together_keeps_only_what_it_has_in_common"
LAYERS = "tests/test_layers.py::test_the_title_says_the_layers_of_the_coordinate"
READABLE = "tests/test_readable.py::test_every_kind_of_figure_can_be_read"
WHOLE = "tests/test_browser.py::test_live_figures_are_whole_when_they_are_first_shown"

STACK, ARCHITECTURE = "labkit/spec/layers.py", "labkit/draw/architecture.py"
ADDS, STRIP = (
    f"tests/test_draw_architecture.py::test_{name}"
    for name in ("the_stack_adds_up_to_the_model", "the_strip_has_every_layer_in_its_colour")
)
REPEAT = "tests/test_draw_architecture.py::test_how_many_layers_repeat"

MUTANTS = [
    Mutant(STACK, "[0 if delta else added for delta in deltas]", "[added for _ in deltas]", ADDS),
    Mutant(STACK, "dense = [n < spec.dense_layers", "dense = [n <= spec.dense_layers", ADDS),
    Mutant(ARCHITECTURE, "kind == kinds[i % n]", "kind == kinds[0]", REPEAT),
    Mutant(ARCHITECTURE, "y = low + tall * n", "y = high - tall * n", STRIP),
    Mutant(ARCHITECTURE, "KIND[kind], hover))", 'KIND["deltanet"], hover))', STRIP),
    Mutant("labkit/draw/live.py", "self.figure.fit()", "pass", WHOLE),
    Mutant("labkit/draw/live.py", '"calc(100% - 4px)"', '"200%"', WHOLE),
    Mutant(SCALES, "return where * (3e-4 *", "return 0 * where + where[-1] * (3e-4 *", HAIR),
    Mutant(SCALES, "if dim in NUMBERED or", "if", UNEVEN),
    Mutant(SCALES, 'return "log" if wide and', 'return "log" if', UNEVEN),
    Mutant(SCALES, "and _uneven(np.log(where)) < _uneven(where) else", "else", UNEVEN),
    Mutant(
        SCALES,
        "or (cells and dim in TOKENS)",
        "",
        "tests/test_draw_scales.py::test_rows_of_tokens_stay_one_place_each_in_maps_alone",
    ),
    Mutant(SCALES, "return inside + float(", "return inside + 0 * float(", UPRIGHT),
    Mutant(PLOTS, "*(place(array, x, value) for value in at.values())", "", UPRIGHT),
    Mutant(PLOTS, '"offset": low - where}', '"offset": low}', STANDING),
    Mutant(PLOTS, "[*(levels or {}).values()]", "[]", FRACTION),
    Mutant(CELLS, "< -LEAST * self.top", "> LEAST * self.top", SIGN),
    Mutant(CELLS, "size <= MARKED", "size < MARKED", SIGN),
    Mutant(THEME, '"longdashdot", "2px,6px"', '"longdashdot", "solid"', DASHED),
    Mutant(WORDS, 'attrs.get("long_name", spoken(dim))', 'attrs.get("long_name", dim)', RAW),
    Mutant(NOTATION, '"combine_attrs": "drop_conflicts"', '"combine_attrs": "override"', TOGETHER),
    Mutant(NOTATION, 'part.drop_vars(apart, errors="ignore")', "part", TOGETHER),
    Mutant(THEME, 'if "layer" in getattr(ds, "coords", {}):', "if False:", LAYERS),
    Mutant(SCRIPT, "thin(xs[i], names", "0 && thin(xs[i], names", READABLE),
    Mutant(SCRIPT, "width >= NARROW ?", "true ?", READABLE),
    Mutant(PAGES, 'if name != "title"', "if True", READABLE),
    Mutant(PLOTS, "low, high = (np.array(", "high, low = (np.array(", INTERVAL),
    Mutant(PLOTS, '"array": high - y', '"array": high - low', INTERVAL),
    Mutant(THEME, '"zmin": -top, "zmax": top', '"zmin": float(finite.min(initial=0)), "zmax": top', SIGNED),
    Mutant(THEME, '"zmin": -top, "zmax": top', '"zmin": -top, "zmax": float(finite.max(initial=0))', SIGNED),
    Mutant(THEME, '(0.5, "#f5f5f5")', '(0.4, "#f5f5f5")', SIGNED),
    Mutant(CELLS, "cells[source > token]", "cells[source >= token]", ROWS),
    Mutant(CELLS, "cells[source > token]", "cells[source < token]", ROWS),
    Mutant(
        CELLS,
        'if {"token", "source"} <= set(array.coords) and',
        "if False and",
        ROWS,
    ),
]
