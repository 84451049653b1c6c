"""Mutants of multi-token prediction: which token a guess is of, what a chain sees, what verification keeps."""

from tests.mutants import Mutant

READINGS, GROUPS, VERIFY = "labkit/mtp/readings.py", "labkit/mtp/groups.py", "labkit/mtp/verify.py"
ALIGNED = "tests/test_mtp.py::test_guesses_are_of_the_token_after_next_and_chains_read_their_own_guesses"
CONTROL = "tests/test_mtp.py::test_the_control_is_the_model_itself_one_token_before"
EXACT = "tests/test_mtp.py::test_whatever_is_guessed_the_tokens_are_the_same"
ROUNDS = "tests/test_mtp.py::test_the_rounds_accept_what_the_reading_says"
STOP = "tests/test_mtp.py::test_a_stop_id_ends_it_where_it_ends_lab_generate"
COST = "tests/test_mtp.py::test_without_waiting_a_false_guess_costs_a_pass_and_the_true_tokens_again"
PAIRS = "tests/test_mtp.py::test_pairs_count_what_followed_up_to_the_last_token_seen"
ACCEPTED = "tests/test_mtp.py::test_accepted_is_how_many_came_true_before_one_did_not"

MUTANTS = [
    Mutant(READINGS, "np.array(drafts)[:, None] + 1", "np.array(drafts)[:, None]", ALIGNED),
    Mutant(READINGS, "target = (at + draft + 1)", "target = (at + draft)", ALIGNED),
    Mutant(READINGS, "hidden[:-1], run.ids[1:], places[1:]", "hidden[:-1], run.ids[:-1], places[1:]", ALIGNED),
    Mutant(READINGS, "hidden[:-1], run.ids[1:], places[1:]", "hidden[1:], run.ids[1:], places[1:]", ALIGNED),
    Mutant(READINGS, "torch.arange(length - 1) <= at[:, None]", "torch.arange(length - 1) < at[:, None]", ALIGNED),
    Mutant(READINGS, "torch.eye(len(at), dtype=torch.bool)", "torch.ones(len(at), len(at)).bool()", ALIGNED),
    Mutant(READINGS, "places[at + 1] + draft", "places[at + 1] + draft - 1", ALIGNED),
    Mutant(READINGS, "own[2].numpy()[place - 1]", "own[2].numpy()[place - 2]", CONTROL),
    Mutant(READINGS, "~wrong & (right == 1)", "right == 1", ACCEPTED),
    Mutant(GROUPS, "if after[token] >= after[", "if after[token] > after[", PAIRS),
    Mutant(GROUPS, "if n - 1 in wanted", "if n - 2 in wanted", PAIRS),
    Mutant(VERIFY, "self.cache = self.lab.restore(self.snap)", "pass", EXACT),
    Mutant(VERIFY, "[*self.waiting, token, *guesses[:accepted]]", "[token, *guesses[:accepted]]", EXACT),
    Mutant(VERIFY, "if guesses and not again:", "if guesses:", COST),
    Mutant(VERIFY, "part[: accepted + 1] for part", "part[: accepted + 2] for part", EXACT),
    Mutant(VERIFY, "self.pairs.crop(-guessed)", "pass", ROUNDS),
    Mutant(VERIFY, "(n + 1 for n, token", "(n + 2 for n, token", STOP),
    Mutant(VERIFY, "1 + (read > len(asked))", "1", COST),
]
