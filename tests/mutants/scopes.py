"""Mutants of what is open on a model and of what everything was made with: identities, fingerprints, scopes, hooks."""

from tests.mutants import Mutant

WATCHED, PRINT, BOOK, SCOPES, RECORD = (
    "labkit/watched.py",
    "labkit/fingerprint.py",
    "labkit/cache/book.py",
    "labkit/scopes.py",
    "labkit/trace/record.py",
)
IDENTITY, OPEN = "tests/test_identity.py::test_", "tests/test_scopes.py::test_"
OWN = OPEN + "a_recording_is_of_its_own_passes_alone"
EDITS = IDENTITY + "a_beginning_read_under_other_edits_is_not_continued"
ATTACKED = "tests/test_attacks.py::test_an_attack_ends_in_a_clear_error_or_a_right_result"
BARE = "tests/test_cache.py::test_a_bare_pass_"

MUTANTS = [
    Mutant(
        "labkit/weights.py",
        "if changed and step > 1:",
        "if step < 0:",
        IDENTITY + "a_weight_changed_in_place_is_seen_wherever_it_lies",
    ),
    Mutant(
        WATCHED,
        "[each._version for each in weights] != versions or ",
        "",
        IDENTITY + "weights_are_hashed_when_they_change_alone",
    ),
    Mutant(
        WATCHED,
        "active = () if each.disable_adapters else tuple(each.active_adapters)",
        "active = tuple(each.active_adapters)",
        IDENTITY + "an_exchanged_module_an_adapter_and_a_hook_are_seen",
    ),
    Mutant(
        PRINT,
        "for cell in function.__closure__ or ():",
        "for cell in ():",
        IDENTITY + "functions_are_told_apart_by_what_they_do",
    ),
    Mutant(
        PRINT,
        "for name in sorted(_globals(code)):",
        "for name in ():",
        IDENTITY + "constants_defaults_names_and_code_count",
    ),
    Mutant(BOOK, "if did != would:", "if False:", EDITS),
    Mutant(BOOK, "item.acts_on(first, min(last, length))", "item.acts_on(first, length + 9)", EDITS),
    Mutant(BOOK, "*(part for part in book.edits if part[0] < length), (length, edits)", "(length, edits)", EDITS),
    Mutant(
        BOOK,
        "if book.identity is not None and book.identity is not lab.scopes.seen:",
        "if False:",
        IDENTITY + "a_snapshot_of_one_model_does_not_go_on_in_another",
    ),
    Mutant(
        SCOPES,
        "return bool(exits) and exits[-1]() is None and all(bound() is None for bound in exits)",
        "return False",
        OPEN + "every_line_between_the_block_and_its_end",
    ),
    Mutant(
        SCOPES,
        "return self in _OPEN.get() and not self.over",
        "return not self.over",
        OPEN + "an_edit_belongs_to_the_thread_that_opened_it",
    ),
    Mutant(SCOPES, "            time.sleep(WAIT)", "            break", OPEN + "a_second_thread_waits"),
    Mutant(
        SCOPES, "                if self.inside:", "                if True:", OPEN + "a_call_within_a_call_is_refused"
    ),
    Mutant(
        SCOPES,
        "            self.put_back()\n        if self.clean",
        "            pass\n        if self.clean",
        OPEN + "what_an_image_left_behind_comes_back_after_an_interrupt",
    ),
    Mutant(
        RECORD,
        "self.came != (id(tensor), writes(tensor))",
        "self.came[0] != id(tensor)",
        OPEN + "a_hook_that_changes_a_watched_tensor_is_refused_by_name",
    ),
    Mutant(
        RECORD,
        "return sum(map(writes, pieces)) != sum([keep.version for keep in self.keeps])",
        "return False",
        OPEN + "a_tensor_written_into_after_it_was_recorded_is_an_error",
    ),
    Mutant(
        RECORD, "        if recorder.over:\n", "        if False:\n", OPEN + "a_recording_is_of_its_own_passes_alone"
    ),
    Mutant(
        RECORD,
        "        elif recorder.acts:",
        "        else:",
        OPEN + "a_recording_is_of_its_own_passes_alone",
    ),
    Mutant(
        RECORD,
        "        recorder = self.owner\n        if recorder.inside == get_ident():",
        "        recorder = self.owner\n        if recorder.inside:",
        OPEN + "a_recording_is_of_its_own_passes_alone",
    ),
    Mutant(
        "labkit/edit/hooks.py",
        "        if missed:",
        "        if False:",
        OPEN + "an_exchanged_layer_is_an_error_in_the_pass",
    ),
    Mutant("labkit/yarn/scope.py", "turn, everywhere=True", "turn", ATTACKED + "[tasks]"),
    Mutant(
        "labkit/turning.py",
        'config.max_position_embeddings = self.native["reach"]',
        "pass",
        OPEN + "two_labs_of_a_model_share_its_scopes",
    ),
    Mutant(
        "labkit/stream/store.py",
        '"identity": lasting(lab),',
        '"identity": {},',
        IDENTITY + "folders_of_one_name_are_of_different_models",
    ),
    Mutant(BOOK, "self.layers[layer_idx].place = None", "pass", BARE + "after_an_interrupted_step_is_right_or_refused"),
    Mutant(BOOK, "check_whole(self, read=layer_idx)", "pass", BARE + "that_did_not_end_leaves_a_torn_cache"),
]
