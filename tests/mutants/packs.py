"""Mutants of packs: what is stored, what an answer needs, what notices damage and lies."""

from tests.mutants import Mutant

CODEC, CONTAINER, LABELS = "labkit/packs/codec.py", "labkit/packs/container.py", "labkit/packs/labels.py"
REQUESTS, PACKED, OPENING = "labkit/packs/requests.py", "labkit/packs/packed.py", "labkit/packs/opening.py"
MAKING = "labkit/packs/making.py"
LAWS = "tests/test_packs.py::test_"
EVERY = LAWS + "every_reading_answers_as_the_run_did[deltanet.memory]"
ROUNDED = LAWS + "what_is_rounded_says_by_how_much[deltanet.memory-8]"
HELD = LAWS + "what_a_pack_does_not_hold_is_said_with_what_it_holds"
OTHER = LAWS + "another_run_is_known_by_what_it_is"
LIES = LAWS + "a_signed_pack_that_lies_is_refused"
LENGTH = LAWS + "compressed_bytes_are_of_the_length_that_is_known"
LESS = LAWS + "heads_and_layers_may_be_fewer_and_arguments_written_otherwise"
TWICE = LAWS + "a_pack_is_packed_again_smaller_and_errors_add_up"

MUTANTS = [
    Mutant(CODEC, "[np.rint(steps), STEPS + 1", "[np.floor(steps), STEPS + 1", ROUNDED),
    Mutant(
        CODEC,
        "min(15 - math.frexp(largest)[1], 900)",
        "min(25 - math.frexp(largest)[1], 900)",
        LAWS + "an_array_comes_back",
    ),
    Mutant(CODEC, "or not machine.eof or machine.unused_data", "", LENGTH),
    Mutant(CONTAINER, 'or facts.get("labkit") != writer', "", LAWS + "other_formats_are_refused_by_name"),
    Mutant(LABELS, "if not texts and", "if False and", LAWS + "without_texts_nothing_names_a_token[deltanet.memory]"),
    Mutant(LABELS, "part.attrs.get(ERROR, 0.0)", "0.0", TWICE),
    Mutant(
        LABELS,
        "array(part.stored).copy()",
        "array(part.stored)",
        LAWS + "an_answer_can_be_changed_and_the_next_is_as_before",
    ),
    Mutant(REQUESTS, "int(value) % len(run)", "int(value)", LESS),
    Mutant(REQUESTS, "start.length, parts, run.identity.to_json()", "run.identity.to_json()", OTHER),
    Mutant(REQUESTS, "start.length, parts, run.identity.to_json()", "start.length, parts", OTHER),
    Mutant(PACKED, "if usual | stored.others != usual | request.others:", "if False:", HELD),
    Mutant(PACKED, "[known.index(head) for head in heads]", "sorted(known.index(head) for head in heads)", EVERY),
    Mutant(
        PACKED,
        "if stored.owned and",
        "if False and",
        LAWS + "a_change_with_a_part_for_every_head_is_asked_for_as_it_was",
    ),
    Mutant(OPENING, "outlines.count(outlines[0]) == len(outlines)", "True", LIES),
    Mutant(OPENING, "stored.shape == shape and stored.kind", "stored.kind", LIES),
    Mutant(
        MAKING,
        "whole.size(bits, at_most).refuse(whole.cheaper(bits))",
        "None",
        LAWS + "a_pack_that_is_too_large_is_refused_before_anything_is_computed",
    ),
]
