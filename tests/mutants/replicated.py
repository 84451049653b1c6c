"""Mutants of published claims: when a verdict is said, what is taken away, what is counted."""

from tests.mutants import Mutant

RULE, RECORD, ASKING = (f"labkit/replicate/{name}.py" for name in ("rule", "record", "asking"))
KINDS, SHARE, WRITE, GATHER, BEYOND, RANK = (
    f"labkit/replicate/published/{name}.py"
    for name in (
        "kinds_of_layers",
        "share_of_heads",
        "write_edit",
        "gather_head",
        "beyond_training",
        "rank_of_states",
    )
)
TESTS = "tests/test_replicate.py::test_"
EVERY = f"{TESTS}every_number_can_be_agreed_with_and_disagreed_with"
ONE = f"{TESTS}one_number_that_disagrees_is_enough_and_one_that_was_not_measured_is_left_out"
REFUSED = f"{TESTS}a_number_that_could_never_be_disagreed_with_is_refused"
ORDER = f"{TESTS}pieces_of_own_text_are_read_in_order"
SILENT = f"{TESTS}heads_that_are_taken_away_add_nothing"
WHOLE = f"{TESTS}layers_left_out_are_left_out_whole"
LOOK = f"{TESTS}heads_kept_are_those_that_look_at_the_fact"
CLOSED = f"{TESTS}the_closed_form_is_exact_where_the_key_is_orthogonal_to_later_ones"
ROUNDED = f"{TESTS}changes_below_the_rounding_of_logits_are_not_judged"
COSTS = f"{TESTS}the_head_that_costs_most_is_chosen_by_what_the_answer_loses"
WITHIN = f"{TESTS}within_the_training_length_nothing_is_said_beyond_it"
UNABLE = f"{TESTS}a_model_that_cannot_answer_cannot_lose"
RANKED = f"{TESTS}heads_are_ordered_by_the_effective_rank_of_their_states"
RIGHT = f"{TESTS}right_is_the_most_likely_next_token"

MUTANTS = [
    Mutant(RULE, "if high < least or low > most:", "if high < least and low > most:", EVERY),
    Mutant(RULE, "if low < least or high > most:", "if low < least and high > most:", EVERY),
    Mutant(RULE, "below <= high and above >= low", "below < high and above > low", EVERY),
    Mutant(RULE, "math.isnan(below) or math.isnan(above)", "math.isnan(below) and math.isnan(above)", EVERY),
    Mutant(RULE, "if DISAGREE in words:", "if words == {DISAGREE}:", ONE),
    Mutant(RULE, "if was}", "}", ONE),
    Mutant(RECORD, "self.value < low or ", "", REFUSED),
    Mutant(ASKING, "return pieces[:samples]", "return pieces[-samples:]", ORDER),
    Mutant(ASKING, "heads=heads, factor=0)", "heads=heads[:1], factor=0)", SILENT),
    Mutant(ASKING, "asked[first : first + BATCH]", "asked[first : first + BATCH - 1]", RIGHT),
    Mutant(ASKING, "few = len(known) < max(2, ABLE * len(asked))", "few = False", UNABLE),
    Mutant(KINDS, 'seams = ("mixer_out", "mlp_out")', 'seams = ("mixer_out",)', WHOLE),
    Mutant(SHARE, "np.argsort(-total", "np.argsort(total", LOOK),
    Mutant(WRITE, ".cumsum(0).exp()", ".exp()", CLOSED),
    Mutant(WRITE, "if size >= STEPS * step:", "if size >= step:", ROUNDED),
    Mutant(GATHER, "(whole - asking.answered(lab, asked)[1])", "(asking.answered(lab, asked)[1] - whole)", COSTS),
    Mutant(BEYOND, "if longest <= window:", "if longest < window:", WITHIN),
    Mutant(RANK, "tokens=[-1]", "tokens=[0]", RANKED),
]
