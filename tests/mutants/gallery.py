"""Mutants of the gallery: verdicts, kept data, processes, pages."""

from tests.mutants import Mutant

BUILD, DATA, WORKERS = "figures/_build.py", "figures/_data.py", "figures/_workers.py"
GALLERY, PICTURES, COMMAND = "figures/_gallery.py", "figures/_pictures.py", "figures/__main__.py"


def _test(name):
    return f"tests/test_gallery.py::test_{name}"


CHANGES = _test("the_digest_changes_with_all_that_could_change_the_numbers")
INTERRUPT = _test("an_interrupt_ends_cleanly_and_keeps_what_is_finished")
MUTANTS = [
    Mutant(
        BUILD, "    if fault:\n", "    if False:\n", _test("a_claim_that_is_false_of_nano_stops_the_build_and_says_why")
    ),
    Mutant(
        BUILD,
        'if model != "nano":',
        "if False:",
        _test("a_claim_that_is_false_of_another_model_is_shown_as_such_and_no_failure"),
    ),
    Mutant(BUILD, "if not self.job.fresh and", "if", _test("what_did_not_change_is_not_computed_again")),
    Mutant(DATA, 'if head == f"{digest} {_sha(body)}".encode()', "if body", _test("damaged_data_is_computed_again")),
    Mutant(DATA, "packages, settings, _machine()", "packages, settings", CHANGES),
    Mutant(DATA, "packages, settings, _machine()", "settings, _machine()", CHANGES),
    Mutant(DATA, "_tree(pathlib.Path(labkit.__file__).parent), ", "", CHANGES),
    Mutant(
        DATA, "waiting += _named(ast.parse(source))", "pass", _test("a_figure_depends_on_the_modules_that_it_names")
    ),
    Mutant(WORKERS, "with _unheard():  # an", "with contextlib.nullcontext():  # an", INTERRUPT),
    Mutant(WORKERS, "signal.signal(signal.SIGTERM", "(lambda *_: 0)(signal.SIGTERM", INTERRUPT),
    Mutant(
        WORKERS,
        "pipe = _start(job, processes) if waiting else None",
        "pass",
        _test("a_process_that_dies_costs_one_figure"),
    ),
    Mutant(
        COMMAND,
        "for name in names if name not in new",
        "for name in names",
        _test("two_processes_give_the_same_pages_and_numbers_as_one"),
    ),
    Mutant(GALLERY, "control.parts[n]", "part", _test("a_page_shows_the_comparisons_here_and_under_each_control")),
    Mutant(GALLERY, "if card.fault is not None:", "if False:", _test("a_control_that_refutes_nothing_stops_the_build")),
    Mutant(GALLERY, "cards[:1]", "cards[-1:]", _test("the_gallery_follows_the_probes_and_links_every_page")),
    Mutant(PICTURES, "else z[::-1]", "else z", _test("a_small_map_keeps_its_rows_its_colours_and_its_holes")),
    Mutant(PICTURES, "argmax(-1)", "argmin(-1)", _test("a_small_map_keeps_its_rows_its_colours_and_its_holes")),
]
