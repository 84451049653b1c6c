"""Mutants of what is planned and refused."""

from tests.mutants import Mutant

MODEL, REQUESTS, BOUNDS = "labkit/plan/model.py", "labkit/plan/requests.py", "labkit/plan/bounds.py"
READING, STATISTICS, FEED = "labkit/reading.py", "labkit/attention/statistics.py", "labkit/stream/feed.py"
HERE = "tests/test_budgets.py::"
CONTAINER = f"{HERE}test_a_container_bounds_the_budget"
MAPS = "tests/test_budgets_maps.py::test_"
EAGER, LATENT = (f"{MAPS}{name}_attention_takes_what_was_planned" for name in ("eager", "latent"))
TAKEN = f"{HERE}test_a_request_takes_what_was_planned"

MUTANTS = [
    Mutant(
        MODEL,
        "floats = step.pairs * width if",
        "floats = 0 if",
        f"{HERE}test_the_mask_of_chunks_is_planned",
    ),
    Mutant(
        REQUESTS, '{"seams": 2 * kept, "rotary and logits": 2 * rotary + answers}', "{}", f"{TAKEN}[small-chunks-900]"
    ),
    Mutant(BOUNDS, "- now + _row(", "- now - _row(", CONTAINER),
    Mutant(BOUNDS, "for up in (inner, *inner.parents)", "for up in (inner,)", CONTAINER),
    Mutant(
        READING, '"scratch of the reading": cost.scratch', '"scratch": 0', f"{HERE}test_scratch_is_refused_like_results"
    ),
    Mutant(READING, "(2 * count if count > 1 else 1)", "count", f"{HERE}test_several_layers_are_refused_at_once"),
    Mutant(
        STATISTICS,
        "where % seen)",
        "where // seen)",
        f"{HERE}test_links_are_the_largest_weights_and_no_more_than_there_are",
    ),
    Mutant(FEED, "wanted=wanted, costs=costs", "wanted=wanted, costs=[]", f"{HERE}test_the_rows_of_a_probe_count"),
    Mutant(
        "labkit/plan/requests.py",
        'held = {"keys and values": keys, "states": states}',
        'held = {"keys and values": keys, "states": 0}',
        "tests/test_fit.py::test_states_keys_and_logits_are_those_of_the_shape",
    ),
    Mutant(
        "labkit/plan/requests.py",
        "return whole * min(2, layers) // max(layers, 1) if away else whole",
        "return whole * min(1, layers) // max(layers, 1) if away else whole",
        "tests/test_fit.py::test_states_keys_and_logits_are_those_of_the_shape",
    ),
    Mutant(
        "labkit/plan/contexts.py",
        "SHARE * (gpu.memory * 1e9 - weights)",
        "SHARE * gpu.memory * 1e9 - weights",
        "tests/test_fit.py::test_27b_in_16_bits_counted_by_hand",
    ),
    Mutant(
        "labkit/plan/contexts.py",
        "(middle, high) if peak(middle * step)[0] <= budget",
        "(middle, high) if peak((middle - 1) * step or 1)[0] <= budget",
        "tests/test_fit.py::test_a_context_is_the_longest_that_fits",
    ),
    Mutant(REQUESTS, '"maps": _maps(lab)}', '"maps": None}', f"{LATENT}[few seams-300-values narrower]"),
    Mutant(REQUESTS, '"maps": _maps(lab)}', '"maps": None}', f"{EAGER}[few seams-300-olmo_hybrid]"),
    Mutant(MODEL, "high = step.pairs * spec.query_heads", "high = step.pairs", f"{LATENT}[few seams-300-values wider]"),
    Mutant(MODEL, "Maps(2 * wide + 1, 0,", "Maps(wide + 1, 0,", f"{LATENT}[few seams-300-values wider]"),
]
