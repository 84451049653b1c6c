"""Mutants of the card's own book: what is compared with what, what is left out, what is written when."""

from tests.mutants import Mutant

BOOK, BENCH, TABLE = (f"tests/benchmarks/card/{name}.py" for name in ("book", "bench", "table"))
TEST = "tests/test_benchmarks.py::"
RIVALS = f"{TEST}test_a_check_compares_the_right_rivals"
ROWS = f"{TEST}test_a_row_holds_what_each_version_measured_and_no_more"

MUTANTS = [
    Mutant(
        BENCH,
        "[:: 1 if turn % 2 else -1]",
        "[::1]",
        f"{TEST}test_rivals_take_turns_after_a_warm_up_and_ratios_are_paired",
    ),
    Mutant(BENCH, "a / b for a, b", "b / a for a, b", RIVALS),
    Mutant("tests/benchmarks/card/attend.py", "[a - b for a, b", "[a for a, b", RIVALS),
    Mutant("tests/benchmarks/card/decode.py", "(long - short) / many", "long / (few + many)", RIVALS),
    Mutant(BOOK, "if not name.endswith(ABSOLUTE)", "if name", f"{TEST}test_a_cpu_keeps_ratios_alone"),
    Mutant(
        BOOK, "models.SECONDS[one.of] if build", "0 if build", f"{TEST}test_the_budget_counts_models_that_must_be_built"
    ),
    Mutant(
        BOOK,
        "models.BYTES[one.of] if build",
        "0 if build",
        f"{TEST}test_what_a_card_has_no_room_for_is_skipped_by_name",
    ),
    Mutant(TABLE, '"not measured" if line is None else "failed"', '"not measured"', ROWS),
    Mutant(TABLE, '"> " if isinstance', '"" if isinstance', ROWS),
    Mutant(
        "tests/benchmarks/card/__init__.py",
        "value >= self.bound if",
        "value <= self.bound if",
        f"{TEST}test_a_goal_is_a_bound_from_above_or_below",
    ),
]
