"""Mutants of folders: what makes a file whole, what notices damage, who may write."""

from tests.mutants import Mutant

FOLDERS, STORE, POINTS = "labkit/folders.py", "labkit/stream/store.py", "labkit/stream/points.py"
FEED, ANSWERS, SAVED = "labkit/stream/feed.py", "labkit/yarn/answers.py", "labkit/trace/saved.py"
LAWS = "tests/test_folders.py::test_"
WHOLE = LAWS + "a_file_or_folder_is_replaced_whole_or_not_at_all"
SIGNED = LAWS + "a_signed_file_that_was_changed_is_refused"
DAMAGE = LAWS + "damage_is_named_and_the_stream_goes_on_before_it"
LENGTHS = LAWS + "lengths_that_do_not_add_up_are_named"
FULL = LAWS + "a_full_disk_hands_over_what_is_finished_and_the_folder_goes_on"
LINE = LAWS + "a_damaged_line_costs_that_line"
FACTS = LAWS + "facts_of_a_saved_run_agree_with_each_other_and_with_its_tensors"
TENSORS = LAWS + "tensors_of_a_saved_run_are_those_of_its_spec"
ROOM = LAWS + "room_and_permission_are_tried"
SECOND = LAWS + "a_second_writer_is_told_who_the_first_is"
LEFT = LAWS + "what_an_interrupted_call_left_locked_is_taken_by_the_next_of_its_thread"
BY_NAME = LAWS + "where_the_file_system_knows_no_locks_the_file_itself_is_one"
BEFORE = LAWS + "room_for_keys_values_and_states_is_tried_before_the_first_pass"
SWEPT = LAWS + "pieces_that_nobody_names_are_swept_and_other_files_are_not"
KEPT = LAWS + "states_are_kept_the_denser_the_newer"
BOOK = LAWS + "a_book_that_contradicts_itself_is_damaged"
ROWS = LAWS + "rows_of_a_chunk_that_is_not_counted_yet_are_not_kept"
OTHERS = LAWS + "answers_of_another_lab_are_refused_even_without_their_first_line"

MUTANTS = [
    Mutant(FOLDERS, "draft.unlink(missing_ok=True)\n        raise", "None\n        raise", WHOLE),
    Mutant(FOLDERS, "if known != mark(facts) and", "if False and", SIGNED),
    Mutant(FOLDERS, '(known is not None or facts.get("format") == form)', "known is not None", SIGNED),
    Mutant(FOLDERS, "if digest(path) != known:", "if False:", DAMAGE),
    Mutant(FOLDERS, "if free < needed + SPARE:", "if free < needed - 2**61:", ROOM),
    Mutant(
        FOLDERS,
        "fcntl.LOCK_EX | fcntl.LOCK_NB",
        "fcntl.LOCK_SH | fcntl.LOCK_NB",
        SECOND,
    ),
    Mutant(
        FOLDERS,
        "HELD.pop(key)[1].close()",
        "pass",
        LEFT,
    ),
    Mutant(
        FOLDERS,
        "or psutil.pid_exists(pid)",
        "or True",
        BY_NAME,
    ),
    Mutant(STORE, "damage.append(error)\n                break", "break", DAMAGE),
    Mutant(STORE, "fit(path, held, self._state_shapes(point))", "pass", LENGTHS),
    Mutant(STORE, "if dict(rows) != point.rows:", "if False:", LENGTHS),
    Mutant(
        STORE,
        "folders.check_room(self.folder, self._to_come())",
        "pass",
        BEFORE,
    ),
    Mutant(STORE, "folders.write_text(self.folder / BEFORE, self._text(before))", "pass", DAMAGE),
    Mutant(
        STORE,
        "            self._sweep()",
        "            pass",
        SWEPT,
    ),
    Mutant(POINTS, "for back in range(4)", "for back in range(2)", KEPT),
    Mutant(POINTS, "not done < point.done <= tokens", "False", BOOK),
    Mutant(FEED, "probe.cut(rows)", "pass", ROWS),
    Mutant(FEED, "dataset=_merged(lab, probes, None, kept[0])) from error", "dataset=None) from error", FULL),
    Mutant(ANSWERS, "return value[-1] == folders.mark(value[:-1])[:SHORT]", "return True", LINE),
    Mutant(
        ANSWERS,
        'if value[-2] != head["sha256"][:SHORT]:',
        "if False:",
        OTHERS,
    ),
    Mutant(SAVED, "_agree(shape in (None, tuple(value.shape)),", "_agree(True,", TENSORS),
    Mutant(SAVED, "_agree(value.dtype in kinds,", "_agree(True,", TENSORS),
    Mutant(SAVED, "_agree(0 < given <= length,", "_agree(True,", FACTS),
    Mutant(SAVED, "_agree(not lost,", "_agree(True,", TENSORS),
]
