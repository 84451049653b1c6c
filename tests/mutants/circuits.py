"""Mutants of the memory circuit, of the heads that are taken away, of slopes and cuts, and of drawn graphs."""

from tests.mutants import Mutant

PATHS, GRAPH, KNOCKED, SLOPES = (f"labkit/attribution/{name}.py" for name in ("paths", "graph", "knocked", "gradients"))
DRAWN, CIRCUIT, GRADIENTS = "labkit/draw/graphs.py", "tests/test_circuit.py", "tests/test_gradients.py"
LAST = f"{CIRCUIT}::test_followed_to_the_last_path_sources_bring_what_exact_attribution_says"
SUMS = f"{CIRCUIT}::test_in_float64_to_the_last_digits"
STORED = f"{CIRCUIT}::test_what_is_stored_and_what_is_erased_of_it_are_the_implied_attention"
ERASED = f"{CIRCUIT}::test_what_one_token_erases_is_what_the_memory_says_to_its_key"
CHANNEL = "tests/test_attribution_latent.py::test_what_one_token_erases_is_what_the_memory_says_to_its_key_by_channel"
SHARE = f"{CIRCUIT}::test_a_share_is_where_edges_end"
WITHOUT = f"{CIRCUIT}::test_a_head_that_is_taken_away_hands_on_nothing"
ORDER = f"{CIRCUIT}::test_the_order_of_heads_is_a_rank_correlation"
EVERY = f"{GRADIENTS}::test_every_seam_of_either_kind_in_every_family_has_its_slope"
CHOSEN = f"{GRADIENTS}::test_slopes_along_chosen_paths_are_those_of_the_model_with_the_others_held"
HEADS = f"{GRADIENTS}::test_shares_of_heads_and_tokens_are_their_own_differences"
CUT = f"{GRADIENTS}::test_a_cut_is_of_heads_and_tokens"
WIDE = "tests/test_draw_graphs.py::test_edges_join_their_nodes_and_are_as_wide_as_their_values"
ROWS = "tests/test_draw_graphs.py::test_nodes_stand_in_rows_and_columns_without_room_for_those_that_are_empty"

MUTANTS = [
    Mutant(PATHS, "range(layer + mixer)", "range(layer)", LAST),
    Mutant(PATHS, "rule.g[i, head].exp() * rule.k[i]", "rule.k[i]", SUMS),
    Mutant(PATHS, "rule.g[i, head].exp() * rule.k[i]", "rule.g[i, head].exp().mean() * rule.k[i]", CHANNEL),
    Mutant(PATHS, "rule.row(i - 1, head, ", "rule.row(i, head, ", SUMS),
    Mutant(PATHS, '"erase", taken, -each)', '"erase", taken, each)', SUMS),
    Mutant(PATHS, 'rule.row(t, head, "write")', 'rule.row(t, head, "heuristic")', STORED),
    Mutant(PATHS, "stored, left - stored", "stored, left", STORED),
    Mutant(PATHS, "taken = -(each * rule.recalled", "taken = -(each * rule.v", ERASED),
    Mutant(PATHS, "len(values) - len(self.run) + node.token", "node.token", LAST),
    Mutant(GRAPH, "slopes.get(edge.sender, 0) + edge.slope", "edge.slope", SUMS),
    Mutant(GRAPH, "max(waiting, key=_height)", "min(waiting, key=_height)", SUMS),
    Mutant(GRAPH, "bar, whole = least * abs(", "bar, whole = least / 2 * abs(", SHARE),
    Mutant(KNOCKED, "if place not in named]", "if place in named]", WITHOUT),
    Mutant(
        KNOCKED,
        "[[others[i] for i in rng.permutation(len(others))[: len(named)]]",
        "[others[: len(named) - 1]",
        WITHOUT,
    ),
    Mutant(KNOCKED, "together - ds.others", "together + ds.others", ORDER),
    Mutant(SLOPES, '"gate_input", "write_input"', '"write_input"', CHOSEN),
    Mutant(SLOPES, "2 * spec.key_heads * spec.dk", "spec.key_heads * spec.dk", CHOSEN),
    Mutant(SLOPES, "elif kind != word:", "elif kind == word:", CHOSEN),
    Mutant(SLOPES, "if kind.follow]", "if kind.indexes]", EVERY),
    Mutant(SLOPES, "heads=heads, tokens=tokens, name=", "tokens=tokens, name=", CUT),
    Mutant(SLOPES, "heads[place].T", "heads[place].T.flip(0)", HEADS),
    Mutant(DRAWN, "abs(value) / top", "abs(value)", WIDE),
    Mutant(DRAWN, '"solid" if value >= 0', '"solid" if value <= 0', WIDE),
    Mutant(DRAWN, "(np.arange(len(some)) + 0.5)", "(np.arange(len(some)) + 1)", ROWS),
]
