"""Mutants of what leaves the house: numbers as files, sheets for print, and sections of a report."""

from tests.mutants import Mutant

NETCDF, TABLE, ATTRIBUTES = (f"labkit/export/{name}.py" for name in ("netcdf", "table", "attributes"))
PRINTED, PAGES, CONVERTED = (f"labkit/draw/{name}.py" for name in ("printed", "pages", "converted"))
MAKING, SECTION, HEADS = (f"labkit/report/{name}.py" for name in ("making", "section", "sections/heads"))
STATES, WORDS = (f"labkit/report/sections/{name}.py" for name in ("states", "words"))
HERE, REPORT = "tests/test_export.py::test_", "tests/test_report.py::test_"
EQUAL, CELLS = HERE + "netcdf_opens_again_equal", HERE + "no_cell_of_text_is_computed_by_a_spreadsheet"
ORDER, STEP = HERE + "axes_in_another_order_keep_their_points", HERE + "a_sheet_is_black_on_white_and_stands_at_a_step"
BLOCKS = REPORT + "long_prompts_are_pooled_in_blocks_that_lose_nothing"
OWN_ROWS = HERE + "variables_on_other_axes_have_rows_of_their_own"
TOKENS = REPORT + "sentences_speak_of_tokens_not_of_blocks"

MUTANTS = [
    Mutant(NETCDF, "EXACT = 2**53", "EXACT = 2**62", EQUAL),
    Mutant(NETCDF, "high < 2**31", "high < 2**33", EQUAL),
    Mutant(NETCDF, '"\\0" not in each and ', "", EQUAL),
    Mutant(
        ATTRIBUTES, 'return {"tuple": [inner(part) for part in value]}', "return [inner(part) for part in value]", EQUAL
    ),
    Mutant(TABLE, '("=", "+", ', '("=", ', CELLS),
    Mutant(TABLE, "order = sorted(range(len(at)), key=lambda n: at[n])", "order = []", ORDER),
    Mutant(
        TABLE,
        "dims, shape) if name in names else None",
        "dims, shape)",
        HERE + "variables_on_other_axes_have_rows_of_their_own",
    ),
    Mutant(PRINTED, "POINT = 25.4 / 72", "POINT = 25.4 / 96", HERE + "letters_have_their_points"),
    Mutant(PRINTED, 'drawn["data"][n] | part', 'part | drawn["data"][n]', STEP),
    Mutant(PRINTED, "{INK: BLACK, FAINT: BLACK,", "{INK: BLACK,", STEP),
    Mutant(PAGES, 'beside=plotly == "beside"', "beside=False", HERE + "a_page_as_large_as_its_data_with_plotly_beside"),
    Mutant(CONVERTED, 'return "labkit" in', "return True or", HERE + "notebooks_of_others_are_left_as_they_are"),
    Mutant(SECTION, "if name not in total:", "if name in total:", BLOCKS),
    Mutant(STATES, "source=slice(-1)", "source=slice(None)", TOKENS),
    Mutant(
        WORDS,
        "ds.answer_rank.values > 0",
        "ds.answer_rank.values > 1",
        REPORT + "the_layer_from_which_the_answer_comes_first",
    ),
    Mutant(
        HEADS,
        "range(len(task)) if rows is None",
        "range(len(task) + 1) if rows is None",
        REPORT + "claims_are_comparisons_that_say_when_they_fail",
    ),
    Mutant(
        MAKING,
        '"ids": job.ids.tolist(), "text": job.text',
        '"ids": 0',
        REPORT + "another_prompt_or_edit_is_computed_anew",
    ),
]
