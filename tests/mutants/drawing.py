"""Mutants of drawing: what stands where, and in which colour."""

from tests.mutants import Mutant

PLOTS, THEME, MAPS = "labkit/draw/plots.py", "labkit/draw/theme.py", "labkit/draw/heatmaps.py"
INTERVAL = "tests/test_draw.py::test_an_interval_reaches_from_its_low_to_its_high_end"
SIGNED = "tests/test_draw.py::test_signed_colours_are_centred_on_0"
ROWS = "tests/test_draw.py::test_rows_run_down_columns_right_and_later_sources_are_blank"

MUTANTS = [
    Mutant(PLOTS, "low, high = (np.array(", "high, low = (np.array(", INTERVAL),
    Mutant(PLOTS, '"array": high - trace.y', '"array": high - low', INTERVAL),
    Mutant(THEME, '"zmin": -top, "zmax": top', '"zmin": float(finite.min(initial=0)), "zmax": top', SIGNED),
    Mutant(THEME, '"zmin": -top, "zmax": top', '"zmin": -top, "zmax": float(finite.max(initial=0))', SIGNED),
    Mutant(THEME, '(0.5, "#f5f5f5")', '(0.4, "#f5f5f5")', SIGNED),
    Mutant(MAPS, "cells[source > token]", "cells[source >= token]", ROWS),
    Mutant(MAPS, "cells[source > token]", "cells[source < token]", ROWS),
    Mutant(
        MAPS,
        'if {"token", "source"} <= set(array.coords) and',
        "if False and",
        ROWS,
    ),
]
