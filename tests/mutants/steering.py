"""Mutants of steering: what is added and where, which control is drawn, what a beginning learns."""

from tests.mutants import Mutant

NAMES = "sites", "directions", "probing", "dosing", "measuring", "beginning", "kept", "tuning"
SITES, DIRECTIONS, PROBING, DOSING, MEASURING, BEGINNING, KEPT, TUNING = (
    f"labkit/steering/{name}.py" for name in NAMES
)
SNAPSHOTS = "labkit/cache/snapshots.py"
TEST = "tests/test_steering.py::"
EXCHANGED = TEST + "test_no_example_keeps_its_own_answer"
TWICE = TEST + "test_a_state_of_a_layer_that_is_named_twice_is_the_tuned_one"
MEANS = TEST + "test_a_direction_is_the_difference_of_means"
CHANCE = TEST + "test_sets_that_chance_would_have_made_are_said_to_be"
ADDED = TEST + "test_from_a_token_on_the_dose_is_added_also_in_decode"
ONCE = TEST + "test_a_state_is_changed_once_before_its_token"
HEAD = TEST + "test_a_head_that_was_selected_is_the_one_that_is_steered"
BLIND = TEST + "test_a_probe_finds_what_is_there_and_says_where_nothing_is"
BASIS = TEST + "test_a_probe_in_the_basis_of_its_rows_is_that_of_all_numbers"
ROW = TEST + "test_a_row_of_the_batch_is_the_prompt_under_its_dose"
UNMASK = TEST + "test_random_directions_unmask_one_that_is_none"
SPREAD = TEST + "test_doses_on_a_cluster_are_the_same_table"
BEFORE = TEST + "test_a_state_before_the_first_token_is_known_to_the_readings"
ALONE = TEST + "test_answers_are_judged_as_if_alone"
SLOPE = TEST + "test_the_slope_is_that_of_the_loss"
PLACES = TEST + "test_a_tuning_lowers_the_loss_in_the_places_it_was_given"
STOPS = TEST + "test_held_out_examples_stop_it_and_choose_the_states"
KILLED = TEST + "test_a_tuning_that_was_interrupted_goes_on_to_the_same_states"
OTHER = TEST + "test_a_folder_of_another_tuning_or_a_damaged_one_is_refused"
AFTER = TEST + "test_what_is_generated_after_a_state_is_read_after_it"
NONE = TEST + "test_what_is_no_state_before_the_first_token_begins_nothing"

MUTANTS = [
    Mutant(
        "labkit/calls.py",
        "lab.cache() if begun is None else lab.restore(begun.stacked(len(rows)))",
        "lab.cache()",
        AFTER,
    ),
    Mutant("labkit/calls.py", "dict(start=start[i], seams", "dict(start=_cache.start_of(None, wanted), seams", AFTER),
    Mutant("labkit/prompts.py", "{len(row) for row in rows})) > 1", "{len(row) for row in rows})) > 2", NONE),
    Mutant(SITES, "there[-math.prod(site.shape) :] if", "there[: math.prod(site.shape)] if", MEANS),
    Mutant(
        SITES,
        "last[:, slice(None) if heads is None else heads] = vectors",
        "last[:, : vectors.shape[1]] = vectors",
        ADDED,
    ),
    Mutant(SITES, "range(start, lab.window)", "range(start + 1, lab.window)", ADDED),
    Mutant(SITES, "at=start - 1", "at=start", ONCE),
    Mutant(SITES, "dose * arrow.norm * arrow.unit", "dose * arrow.unit", ADDED),
    Mutant(SITES, 'heads = None if axis == "channel" else', "heads = None if True else", HEAD),
    Mutant(DIRECTIONS, "- minus / minus.sum(-1, keepdim=True)", "- minus / plus.sum(-1, keepdim=True)", MEANS),
    Mutant(DIRECTIONS, "signs[torch.randperm(len(signs), generator=generator)]", "signs", CHANCE),
    Mutant(PROBING, "regression().fit(rows[~out], seen)", "regression().fit(rows, labels)", BLIND),
    Mutant(PROBING, "coef_[0] @ basis.numpy()", "coef_[0] @ basis.numpy()[:, ::-1]", BASIS),
    Mutant(PROBING, "/ max(norm, 1e-30)\n", "/ max(norm**2, 1e-30)\n", BASIS),
    Mutant(MEASURING, "start - (arrow.site.crossed is None)", "start", ROW),
    Mutant(MEASURING, "(base.exp() * (base - said))", "(said.exp() * (said - base))", ROW),
    Mutant(MEASURING, "range(length - 1, max(map(len, grown)) - 1)", "range(length, max(map(len, grown)))", ROW),
    Mutant(
        SITES,
        "where | dict(shape=shape, numbers=numbers, norm=self.norm)",
        "where | dict(shape=shape, numbers=numbers, norm=1.0)",
        ROW,
    ),
    Mutant(DOSING, "start=firsts[n]", "start=firsts[0]", ROW),
    Mutant(DOSING, "store=store, client=client", "store=store", SPREAD),
    Mutant(DOSING, "far[1:] >= far[0] - ROUNDED", "far[1:] < far[0] - ROUNDED", UNMASK),
    Mutant(SNAPSHOTS, "or any(map(_began, cache.layers))", "", BEFORE),
    Mutant(BEGINNING, "where[len(ids) - more - 1 + at]", "where[len(ids) - 2]", ALONE),
    Mutant(
        TUNING,
        "return torch.cat([self.conv_states[state_idx], conv_states], -1)",
        "return conv_states.flip(-1)",
        PLACES,
    ),
    Mutant(TUNING, "(share := losses.sum() / len(rows)).backward()", "(share := losses.sum()).backward()", SLOPE),
    Mutant(TUNING, "only[:, self.heads] = slope[:, self.heads]", "only = slope", PLACES),
    Mutant(TUNING, "slope + 2 * decay * state", "slope", PLACES),
    Mutant(TUNING, "kept = state if others else moved", "kept = moved", STOPS),
    Mutant(TUNING, "if fit.done > rested:", "if False:", KILLED),
    Mutant(KEPT, 'if facts.get("request") != self.request:', "if False:", OTHER),
    Mutant(TUNING, "any(n == other for n, other in enumerate(order))", "order == sorted(order)", EXCHANGED),
    Mutant(TUNING, "layers, heads = sorted(set(layers)),", "layers, heads = list(layers),", TWICE),
]
