"""Mutants of OLMo Hybrid and Kimi Linear: writes up to 2, decay per channel, normed branches, layouts on disk."""

from tests.mutants import Mutant

RECOMPUTE, REMAINS = "labkit/deltanet/recompute.py", "labkit/deltanet/remains.py"
RECORD, SPEC, MEMORY = "labkit/families/record.py", "labkit/spec/anatomy.py", "labkit/spec/memory.py"
READ = "tests/test_families_lin.py::test_readings_agree_with_the_model_cold_and_warm"
TURNED = "tests/test_families_lin.py::test_writes_reach_beyond_one_and_turn_a_memory_around"
CONTROL = "tests/test_families_lin.py::test_survival_and_its_control_with_decay_per_channel"
LOOP = "tests/test_families_lin.py::test_every_number_of_memory_is_that_of_the_loop_with_decay_per_channel"
HALF = "tests/test_families_lin.py::test_half_lives_of_channels_that_decay_alike_are_those_of_the_head"
STRENGTH = "tests/test_families_lin.py::test_the_strength_of_a_write_is_set_on_the_models_own_scale"
PARTS = "tests/test_families_lin.py::test_contributions_of_a_normed_branch_are_those_of_its_parts"
HALVES = "tests/test_families_lin.py::test_readings_in_bfloat16_stay_within_the_bound"
FOLDER = "tests/test_families_lin.py::test_a_folder_opens"
SETTINGS = "tests/test_families_lin.py::test_configurations"
ROTARY = "tests/test_families_lin.py::test_what_needs_a_rotary_part_is_refused_without_one"
MAPS = "tests/test_families_lin.py::test_latent_attention_says_by_name_that_it_has_no_maps"
LATENT = "tests/test_families_lin.py::test_every_way_to_read_a_prompt_gives_the_same_with_a_latent_cache"
COUNTS = "tests/test_families_lin.py::test_the_record_of_kimi_says_what_transformers_has"
KIMI = "tests/test_families_lin.py::test_configurations_of_kimi_as_published_and_as_saved"

MUTANTS = [
    Mutant(RECOMPUTE, "b.sigmoid().float() * run.spec.most_write", "b.sigmoid().float()", READ),
    Mutant(RECOMPUTE, "known if spec.most_write == 1 else", "known if True else", TURNED),
    Mutant(
        RECOMPUTE,
        "((1 - keep).square() * earlier).sum(-1).sqrt()",
        "(1 - keep).mean(-1) * earlier.sum(-1).sqrt()",
        LOOP,
    ),
    Mutant(RECOMPUTE, "rows if channels > 1 else rows.sum", "rows.flip(-1) if channels > 1 else rows.sum", LOOP),
    Mutant(REMAINS, "own / size.square()\n", "own.abs() / size.square()\n", TURNED),
    Mutant(REMAINS, "own / (strength * size.square())", "own.abs() / (strength * size.square())", CONTROL),
    Mutant(REMAINS, "(left * key).norm(dim=-1) / key.norm(dim=-1)", "left.mean(-1)", CONTROL),
    Mutant(REMAINS, "alone = [_crossing(line) for line in", "alone = [2 * _crossing(line) for line in", HALF),
    Mutant("labkit/deltanet/operate.py", "(spec.most_write - number(", "(1 - number(", STRENGTH),
    Mutant("labkit/attention/readings.py", ".sqrt() / rms[n]", ".sqrt()", PARTS),
    Mutant("labkit/attention/readings.py", ".to(x.v.device) * scale", ".to(x.v.device)", PARTS),
    Mutant("labkit/rotary.py", ").to(x.dtype)  # some models' angles", ")  # some models' angles", HALVES),
    Mutant("labkit/calls.py", "check_rotated(lab.spec.rotary_dim)", "pass", ROTARY),
    Mutant(RECORD, "stored = stored.replace(theirs, ours)", "pass", FOLDER),
    Mutant(RECORD, "sum(piece[0] for piece in cut) == shape[0]", "False", FOLDER),
    Mutant("labkit/spec/config.py", 'return 0.0, 0.0, text["max_position_embeddings"]', "pass", SETTINGS),
    Mutant("labkit/trace/seams.py", "all(layer in fitting for layer in chosen)", "False", MAPS),
    Mutant(SPEC, "((1, self.latent), (1, self.shared))", "((1, self.shared), (1, self.latent))", LATENT),
    Mutant(MEMORY, "(spec.layers - spec.dense_layers) * sum(", "spec.layers * sum(", COUNTS),
    Mutant("labkit/families/kimi_linear.py", "places[layer + 1] for layer", "places[count - layer] for layer", KIMI),
]
