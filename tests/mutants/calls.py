"""Mutants of how calls are given: spelling, layers, lists of edits, comparisons, words, every head in turn."""

from tests.mutants import Mutant

CALLING, READING, SEAMS = "labkit/calling.py", "labkit/reading.py", "labkit/trace/seams.py"
BOUNDS, MERGING, RULES = (f"labkit/words/{name}.py" for name in ("bounds", "merging", "rules"))
ALONE, CELLS = "labkit/attribution/alone.py", "labkit/attribution/cells.py"


def _calls(name):
    return f"tests/test_calls.py::test_{name}"


def _words(name):
    return f"tests/test_words.py::test_{name}"


def _knocked(name):
    return f"tests/test_knockouts.py::test_{name}"


MAP = _words("a_map_is_summed_over_what_is_read_and_averaged_over_what_reads")
MUTANTS = [
    Mutant(
        CALLING,
        "if word in parameters or (anything and twin is None):",
        "if True:",
        _calls("a_call_that_is_spelled_otherwise_is_told_how"),
    ),
    Mutant(
        CALLING,
        'ends == "same" and int(one) != int(other)',
        "False",
        _calls("prompts_at_different_tokens_are_compared_when_asked"),
    ),
    Mutant(
        READING, "kept(run, read, more, chosen) or layers", "layers", _calls("no_layer_at_all_is_all_that_the_run_kept")
    ),
    Mutant(
        SEAMS,
        'chosen = select(chosen, spec.layers, "layer") if chosen else []',
        "chosen = list(chosen)",
        _calls("layers_and_heads_count_from_the_end_and_from_arrays"),
    ),
    Mutant(
        "labkit/edit/kinds.py", "yield from flat(item)", "yield from item", _calls("edits_come_one_by_one_or_in_lists")
    ),
    Mutant(RULES, '_ADDED = {"token": "mean", "source": "sum"}', '_ADDED = {"token": "sum", "source": "mean"}', MAP),
    Mutant(MERGING, "last = ds[axis].values, [some[-1] for", "last = ds[axis].values, [some[0] for", MAP),
    Mutant(BOUNDS, "while end - at < PIECES", "while end - at < PIECES - 1", _words("every_byte_by_itself")),
    Mutant(BOUNDS, "if before and both.startswith(first)", "if False", _words("vocabularies_that_drop_a_space")),
    Mutant(
        ALONE,
        "each for each in likeliest if each != rights[-1]",
        "each for each in likeliest[::-1] if each != rights[-1]",
        _knocked("answers_that_are_not_given_are_the_likeliest"),
    ),
    Mutant(CELLS, "if len(own) == 1:", "if True:", _knocked("parts_and_heads_count_from_the_end")),
]
