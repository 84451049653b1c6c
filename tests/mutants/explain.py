"""Mutants of the page in which nano explains itself: its tokens, what it says, and when it is written."""

from tests.mutants import Mutant

BUILD, FACTS, JS = "figures/_explain/__init__.py", "figures/_explain/facts.py", "figures/_explain/js"


def _model(name):
    return f"tests/test_explain.py::test_{name}"


def _page(name):
    return f"tests/test_explain_page.py::test_{name}"


TOKENS, SIGNS = _model("token_ids_are_those_of_the_tokenizer"), _model("every_sign_is_cut_as_the_tokenizer_does_it")
INERT, CHANGED = _page("what_is_typed_is_shown_and_inert"), _page("the_page_is_written_when_what_it_is_made_of_changed")
DROPPED = _page("dropped_thinking_is_computed_again_as_the_library_counts_it")
MUTANTS = [
    Mutant(f"{JS}/tokenizer.js", "best = Math.min(best,", "best = Math.max(best === Infinity ? -1 : best,", TOKENS),
    Mutant(f"{JS}/tokenizer.js", "[rR][eE]|", "", TOKENS),
    Mutant(f"{JS}/tokenizer.js", "moves && !within(this.known", "false && !within(this.known", SIGNS),
    Mutant(f"{JS}/data.js", "ranges[middle][1] < point", "ranges[middle][1] <= point", SIGNS),
    Mutant(
        f"{JS}/model.js",
        "state[at] += k[i] * write[h]",
        "state[at] += k[i]",
        _model("states_gates_and_attention_are_those_of_the_lab"),
    ),
    Mutant(
        f"{JS}/model.js",
        "this.records.slice(0, count)",
        "this.records",
        _model("going_back_is_as_if_nothing_had_been_read"),
    ),
    Mutant(f"{JS}/words.js", "\\p{Cf}", "", INERT),
    Mutant(f"{JS}/thinking.js", "token < same ? 'lost' : 'again'", "token > same ? 'lost' : 'again'", DROPPED),
    Mutant(f"{JS}/thinking.js", "saved => shares(saved, prompt) === saved.length", "saved => saved.length", DROPPED),
    Mutant(
        f"{JS}/overwrite.js",
        "tokens.has(token) && layers.has(layer)",
        "tokens.has(token)",
        _page("an_overwritten_memory_answers_as_under_the_lab_s_edit"),
    ),
    Mutant(
        f"{JS}/parts.js",
        "'aria-disabled') === 'true' || run()",
        "'disabled') === 'true' || run()",
        _page("a_button_that_can_do_nothing_says_so_and_does_nothing"),
    ),
    Mutant(FACTS, "found | set(filter(sorts, marks))", "found", SIGNS),
    Mutant(BUILD, "if not fresh and _of(path) == now", "if not fresh and _of(path)", CHANGED),
    Mutant(BUILD, "for home in (HERE, pathlib.Path(labkit.__file__).parent)", "for home in ()", CHANGED),
]
