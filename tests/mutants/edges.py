"""Mutants of the edges: numbers that are given, options of generation, texts that others wrote, how a command ends."""

from tests.mutants import Mutant

ARGUMENTS, DECODING, PROBE = "labkit/arguments.py", "labkit/decoding.py", "labkit/stream/probe.py"
ATTACKED = "tests/test_attacks.py::test_an_attack_ends_in_a_clear_error_or_a_right_result"
DRAWN = f"{ATTACKED}[hostile texts in pages]"
NUMBERS = "tests/test_arguments.py::test_what_is_no_finite_number_is_refused"
SETTINGS = "tests/test_passes.py::test_generation_settings_of_a_checkpoint_count_for_nothing_but_the_ids_that_stop"
OPTIONS = "tests/test_stream.py::test_options_that_are_no_numbers_and_no_folder"
SIGNS = "tests/test_notation.py::test_tokens_are_readable"

MUTANTS = [
    Mutant(ARGUMENTS, "not abs(plain) <= sys.float_info.max", "abs(plain) > sys.float_info.max", NUMBERS),
    Mutant(ARGUMENTS, "if isinstance(value, bool) or getattr", "if getattr", OPTIONS),
    Mutant(DECODING, "return silent | fixed | decided | chosen", "return fixed | decided | chosen", SETTINGS),
    Mutant(
        PROBE,
        "[*super().signature(), self.seam, list(self.tokens)]",
        "[*super().signature(), self.seam, self.asked_tokens]",
        "tests/test_stream.py::test_probes_that_are_none_and_probes_twice_are_refused",
    ),
    Mutant("labkit/signs.py", '"Cc", "Cf", ', '"Cc", ', SIGNS),
    Mutant("labkit/draw/words.py", '.replace("%", "&#37;")', "", DRAWN),
    Mutant(
        "labkit/terminal.py",
        'stream.reconfigure(errors="replace")',
        "pass",
        "tests/test_command.py::test_signs_that_a_terminal_lacks_are_replaced",
    ),
]
