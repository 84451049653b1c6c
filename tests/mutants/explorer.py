"""Mutants of the explorer: another place than was chosen, another change than was switched, code of another call."""

from tests.mutants import Mutant

VIEWS, CHOICES, TOGGLES = "labkit/explore/views.py", "labkit/explore/choices.py", "labkit/explore/toggles.py"
EXPLORER, RUNS, KEPT = "labkit/explore/explorer.py", "labkit/explore/runs.py", "labkit/explore/kept.py"
PLACE = "tests/test_explore.py::test_views_are_the_readings_of_the_chosen_place"
CODE = "tests/test_explore.py::test_the_code_of_a_view_runs_as_it_stands_and_makes_its_data"
EDITS = "tests/test_explore.py::test_every_edit_acts_and_its_own_layer_can_still_be_read"
CHANGE = "tests/test_explore.py::test_before_after_and_difference"
PAIR = "tests/test_explore.py::test_a_block_is_a_pair"
ANEW = "tests/test_explore.py::test_what_the_cell_gives_anew_wins"
BOUNDED = "tests/test_explore.py::test_long_prompts_stay_bounded"
HEARD = "tests/test_explore.py::test_an_interrupt_is_heard_on_another_thread_than_the_main_one"
LATENT = "tests/test_explore.py::test_latent_attention_shows_what_its_heads_hand_on"
PARTS = "tests/test_explore.py::test_large_runs_are_made_in_parts"

MUTANTS = [
    Mutant(VIEWS, '"heads": at.choice.query_head, "rows": at', '"heads": at.choice.head, "rows": at', PLACE),
    Mutant(VIEWS, "_memory(True, ", "_memory(False, ", PLACE),
    Mutant(VIEWS, '"layers": at.spec.layers - 1', '"layers": 0', PLACE),
    Mutant(CHOICES, "if a > self.layer), None)", "if a < self.layer), None)", PAIR),
    Mutant(CHOICES, "last = block[-1]", "last = block[0]", PAIR),
    Mutant(CHOICES, "self.beside if self.beside in block else last", "last", PAIR),
    Mutant(CHOICES, "made.token not in made.window(length)", "True", BOUNDED),
    Mutant(
        TOGGLES, '"seam": seam, "layer": on.layer, "factor": 0}', '"seam": seam, "layer": on.layer, "factor": 1}', EDITS
    ),
    Mutant(TOGGLES, '"value": OFF', '"value": -OFF', EDITS),
    Mutant(TOGGLES, 'tokens = {} if on.token is None else {"tokens": on.token}', "tokens = {}", EDITS),
    Mutant(EXPLORER, "ask, toggles) - self._call(view, ask, ())", "ask, ()) - self._call(view, ask, toggles)", CHANGE),
    Mutant(EXPLORER, "key = (ask.text, show, toggles)", "key = (ask.text, toggles)", CHANGE),
    Mutant("labkit/explore/asks.py", "ds = read(after) - read(before)", "ds = read(before) - read(after)", CODE),
    Mutant(RUNS, '{"layers": sorted(layers)} if part == "mixer"', '{"layers": [0]} if part == "mixer"', PARTS),
    Mutant(RUNS, "key = (repr(sorted(options.items())), toggles)", "key = (repr(sorted(options.items())),)", CHANGE),
    Mutant("labkit/explore/stopping.py", "heard.set()", "heard.clear()", HEARD),
    Mutant(VIEWS, '{"heads": at.choice.query_head}', '{"heads": at.choice.head}', LATENT),
    Mutant(KEPT, 'given == facts.get("given")', "True", ANEW),
    Mutant(
        "labkit/explore/pictures.js",
        'node.setAttribute("data-lm-suppress-shortcuts", "true")',
        "node.lang",
        "tests/test_browser_explore.py::test_clicks_keys_code_and_a_restart",
    ),
]
