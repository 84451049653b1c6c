"""Mutants of decode steps: places and pads on fixed shapes, what a recording is bound to, which row chooses what."""

from tests.mutants import Mutant

FIXED, CHOICE, CAPTURE = "labkit/steps/fixed.py", "labkit/steps/choice.py", "labkit/steps/capture.py"
SAME = "tests/test_steps.py::test_a_recorded_step_gives_the_numbers_of_ordinary_passes"
ALONE = "tests/test_steps.py::test_several_prompts_give_what_each_gives_alone"
ENDS = "tests/test_steps.py::test_a_row_ends_at_its_own_stop"
ANEW = "tests/test_steps.py::test_a_recording_is_made_anew_when_what_it_is_bound_to_changes"
STATES = "tests/test_steps.py::test_states_are_kept_after_every_step_and_prove_what_is_recomputed"

MUTANTS = [
    Mutant(FIXED, "(at > self.place)", "(at >= self.place)", SAME),
    Mutant(FIXED, "| (at < self.pads[:, None])", "| (at < 0 * self.pads[:, None])", SAME),
    Mutant(
        FIXED, "position_ids=self.place - self.pads[:, None]", "position_ids=self.place + 0 * self.pads[:, None]", SAME
    ),
    Mutant(FIXED, "self.row.fill_(self.kept % self.asked.most)", "self.row.fill_(0)", SAME),
    Mutant(FIXED, "layer.advance(1)", "layer.advance(0)", SAME),
    Mutant(
        FIXED,
        "cache.reads.update({at: before.get(at, 0) + 1 - cache.reads[at] for at in range(len(cache.layers))})",
        "pass",
        SAME,
    ),
    Mutant(FIXED, "[self.lab.scopes.seen, turn, *tensors]", "[self.lab.scopes.seen, turn]", ANEW),
    Mutant(
        FIXED,
        "return self.lab.scaling, [self.lab.scopes.seen, turn, *tensors]",
        "return None, tensors",
        "tests/test_steps.py::test_a_recording_is_bound_to_the_frequencies",
    ),
    Mutant(
        FIXED,
        "finally:\n            for layer in layers:\n                layer.place = None",
        "finally:\n            pass",
        "tests/test_steps.py::test_an_interrupted_step_leaves_a_cache_that_is_refused",
    ),
    Mutant(CHOICE, "torch.where(going[:, None], logits, self.answers)", "logits", ENDS),
    Mutant(
        CHOICE, "for count, alive in zip(self.counts, living", "for count, alive in zip(self.counts, [True] * 9", ENDS
    ),
    Mutant(CHOICE, "generator=draw", "generator=self.draws[0]", ALONE),
    Mutant(
        CAPTURE,
        "if scopes.edits:",
        "if False:",
        "tests/test_steps.py::test_edits_are_honoured_by_ordinary_passes_where_they_are_open",
    ),
    Mutant(
        "labkit/steps/single.py",
        " and held.lab is lab",
        "",
        "tests/test_steps.py::test_a_cache_is_stepped_by_its_own_lab",
    ),
    Mutant(
        FIXED,
        "[*lab.scopes.edits, *lab.scopes.watched.hooks()]",
        "[]",
        "tests/test_steps.py::test_an_edit_that_comes_while_steps_are_recorded_is_refused",
    ),
    Mutant(
        "labkit/watched.py",
        "read(facts) != numbers for",
        "False for",
        "tests/test_steps.py::test_numbers_of_modules_are_part_of_what_computes",
    ),
    Mutant("labkit/deltanet/recompute.py", "if reads and layer in run.states:", "if False:", STATES),
    Mutant(
        "labkit/steps/plain.py",
        "self.cache.layers[layer].recurrent_states[0].clone()",
        "self.cache.layers[layer].recurrent_states[0]",
        STATES,
    ),
]
