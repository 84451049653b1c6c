"""Mutants of what is checked in files from elsewhere before a weight is read."""

from tests.mutants import Mutant

REFUSED = "tests/test_zoo.py::test_a_broken_checkpoint_is_refused_before_its_weights_are_read"
WRONG = "tests/test_spec.py::test_configurations_that_are_refused"
BOUNDS = "tests/test_spec.py::test_json_beyond_the_bounds_is_no_configuration"
WALKED = "tests/test_zoo.py::test_a_gguf_file_is_walked_before_a_library_touches_it"
ZOO, MEMORY, NAMES = "tests/test_zoo.py", "tests/test_zoo_memory.py", "labkit/zoo/names.py"
BOUNDED, FILES, MATCHING = "labkit/bounded.py", "labkit/zoo/files.py", "labkit/zoo/matching.py"
SETTINGS, GGUF, HEADER = "labkit/zoo/settings.py", "labkit/zoo/gguf.py", "labkit/zoo/gguf_header.py"
HELD, MTP = "labkit/zoo/held.py", "labkit/mtp/loading.py"
UNPACKING, PACKINGS, WORDS = "labkit/zoo/unpacking.py", "labkit/zoo/packings.py", "labkit/zoo/words.py"
LEAVES, SCALINGS = "labkit/zoo/gguf_weights.py", "labkit/zoo/gguf_settings.py"
UNPACKED = "tests/test_zoo_unpacking.py::test_a_packed_checkpoint_computes_with_the_numbers_it_stands_for"
FAMILIES = "tests/test_zoo_unpacking.py::test_every_family_is_unpacked"
MACHINES = "tests/test_zoo_unpacking.py::test_every_machine_decides_what_it_multiplies_packed[fp8]"
HEADS = "tests/test_mtp.py::test_a_packed_head_is_the_head_of_the_numbers_that_it_stands_for"
APART = "tests/test_zoo_unpacking.py::test_parts_that_do_not_belong_together_are_refused"
FORMS = "tests/test_zoo_unpacking.py::test_other_forms_of_a_method_are_refused_by_name"
ROTARY = "tests/test_zoo_gguf.py::test_a_rotary_scaling_of_the_settings_is_computed"
OTHERS = "tests/test_zoo_gguf.py::test_other_scalings_are_refused_by_name"
READ = "tests/test_zoo_gguf.py::test_a_file_is_read_without_a_package"
DAMAGED = "tests/test_zoo_damaged.py"

MUTANTS = [
    Mutant(UNPACKING, 'config.get("desc_act") and config.get("group_size") != -1', "None", DAMAGED),
    Mutant(UNPACKING, '["zero"] if all(each.get("symmetric") is False for each in weights) else []', "[]", DAMAGED),
    Mutant(UNPACKING, 'each.get("actorder") in ("group", "dynamic", True)', "False", DAMAGED),
    Mutant(PACKINGS, 'parts["absmax"].shape == (blocks,)', 'math.prod(parts["absmax"].shape) == blocks', DAMAGED),
    Mutant(WORDS, "(group >= 0).all() and ", "", DAMAGED),
    Mutant(
        "labkit/families/record.py",
        '    text_prefix: str = "model."',
        '    text_prefix: str = "model.language_model."',
        DAMAGED,
    ),
    Mutant("labkit/spec/config.py", '"num_expert_group", "topk_group")', '"topk_group")', DAMAGED),
    Mutant("labkit/zoo/adapters.py", 'len(re.findall("[*+?]", bare)) <= REPEATS and ', "", DAMAGED),
    Mutant("labkit/zoo/adapters.py", ' and not re.search(r"\\)[*+?]", bare)', "", DAMAGED),
    Mutant("labkit/zoo/finding.py", "except (OSError, RuntimeError):", "except OSError:", DAMAGED),
    Mutant(BOUNDED, "if len(made) < len(pairs):", "if not made and pairs:", BOUNDS),
    Mutant(BOUNDED, ", parse_constant=constant)", ")", BOUNDS),
    Mutant(FILES, "        if start != end:", "        if start < 0:", REFUSED),
    Mutant(FILES, "if (stop - start) * 8 != math.prod(shape) * BITS[dtype]:", "if stop < start:", REFUSED),
    Mutant(MATCHING, "named[name].dtype not in FLOATS]", 'named[name].dtype == "BOOL"]', REFUSED),
    Mutant(
        MATCHING,
        "all(left.read(size) == right.read(size) for size in sizes)",
        "True",
        f"{ZOO}::test_another_head_than_the_embedding_is_loaded_as_stored_and_said",
    ),
    Mutant(MATCHING, "if described > 2 * held:", "if described > 2000 * held:", REFUSED),
    Mutant(SETTINGS, "0 <= token < spec.vocab for token in ids", "0 <= token <= spec.vocab for token in ids", REFUSED),
    Mutant("labkit/spec/anatomy.py", "if not 0 < self.eps < 1:", "if not self.eps < 1:", WRONG),
    Mutant(GGUF, "if named != set(range(layers)):", "if not named >= set(range(layers - 1)):", WALKED),
    Mutant(
        HEADER, "        if entry.offset != -(-end // alignment) * alignment:", "        if entry.offset < 0:", WALKED
    ),
    Mutant(HEADER, "    if not math.isfinite(value):", "    if value == math.inf:", WALKED),
    Mutant(
        NAMES,
        "        if here != there:",
        "        if not there:",
        f"{ZOO}::test_experts_under_different_names_are_refused_since_they_would_change_places",
    ),
    Mutant(NAMES, "    if len(anchors) > 1:", "    if len(anchors) > 2:", REFUSED),
    Mutant(NAMES, "if new == name and new != HEAD and", "if name != name and", REFUSED),
    Mutant(
        NAMES,
        "if made.setdefault(new := renamed(name, rules), tensor) is not tensor:",
        "if not made.setdefault(new := renamed(name, rules), tensor):",
        REFUSED,
    ),
    Mutant("labkit/spec/config.py", "if stated.get(name) != value]:", "if stated.get(name) is None]:", REFUSED),
    Mutant(
        "labkit/spec/config.py",
        "        return beside | text",
        "        return text",
        f"{ZOO}::test_rope_settings_beside_the_text_part_are_read",
    ),
    Mutant(
        "labkit/zoo/routes.py",
        "spec = dataclasses.replace(spec, tied=False)",
        "spec = dataclasses.replace(spec, tied=True)",
        f"{ZOO}::test_another_head_than_the_embedding_is_loaded_as_stored_and_said",
    ),
    Mutant(
        "labkit/zoo/loading.py",
        "    ready.notes.extend(dict",
        "    [].extend(dict",
        f"{ZOO}::test_what_transformers_warns_about_reaches_the_user",
    ),
    Mutant(
        "labkit/turning.py",
        "            if off < ROUNDED:",
        "            if off < 1:",
        f"{MEMORY}::test_rounded_rotary_frequencies_are_refused_and_put_back",
    ),
    Mutant(
        "labkit/passes.py",
        "    lab.scopes.rotation.check()\n",
        "",
        f"{MEMORY}::test_rounded_rotary_frequencies_are_refused_and_put_back",
    ),
    Mutant(
        "labkit/zoo/wrapping.py",
        '        warnings.warn(f"{lab.name}: {notes[-1]}", stacklevel=2)\n',
        "",
        f"{MEMORY}::test_hooks_of_others_are_told",
    ),
    Mutant(
        "labkit/doctor/folder.py",
        "    tokens.of_ready(ready, None)\n    if ready",
        "    if ready",
        "tests/test_doctor_folder.py::test_each_fault_has_its_line",
    ),
    Mutant(
        "labkit/zoo/loading.py",
        "(last := max(tokens.get_vocab().values(), default=0)) >= spec.vocab:",
        "(last := max(tokens.get_vocab().values(), default=0)) < 0:",
        "tests/test_zoo.py::test_an_id_without_an_embedding_is_refused",
    ),
    Mutant(PACKINGS, "for axis in (-2, -1):", "for axis in (-1,):", UNPACKED + "[fp8, scales in float32-float32]"),
    Mutant(PACKINGS, "packed >> 4, packed & 15", "packed & 15, packed >> 4", UNPACKED + "[nf4 once-float32]"),
    Mutant(PACKINGS, '+ state.get("nested_offset", 0.0)', "+ 0.0", UNPACKED + "[nf4 twice-float32]"),
    Mutant(PACKINGS, "agree(tuple(scale.shape) == expected,", "agree(len(scale.shape) == len(expected),", APART),
    Mutant(
        WORDS,
        "AWQ_ORDER = (0, 4, 1, 5, 2, 6, 3, 7)",
        "AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)",
        UNPACKED + "[awq-float32]",
    ),
    Mutant(WORDS, '+ settings["plus"]) &', ") &", UNPACKED + "[gptq-float32]"),
    Mutant(
        WORDS,
        'parts["order"].long() if "order" in parts',
        'parts["order"].long() if "other" in parts',
        UNPACKED + "[gptq-float32]",
    ),
    Mutant(UNPACKING, "lambda w: w.float() - 1", "lambda w: w.float()", UNPACKED + "[mlx-float32]"),
    Mutant(
        UNPACKING,
        "lambda g, u: torch.cat((g, u), 1)",
        "lambda g, u: torch.cat((u, g), 1)",
        FAMILIES + "[qwen3_5_moe-mlx]",
    ),
    Mutant(UNPACKING, 'not config.get("transform_config")', "True", FORMS),
    Mutant(UNPACKING, '".q_norm.weight", ".k_norm.weight")', '".q_norm.weight",)', FAMILIES + "[qwen3_next-mlx]"),
    Mutant(HELD, "return there and card and _fp8_kernel()", "return there and card", MACHINES),
    Mutant(HELD, "return there and card and", "return card and", MACHINES),
    Mutant("labkit/zoo/precision.py", "E4M3_FROM = (8, 9)", "E4M3_FROM = (8, 0)", MACHINES),
    Mutant(
        HELD,
        "constants.HF_HUB_OFFLINE, True",
        "constants.HF_HUB_OFFLINE, False",
        "tests/test_zoo_unpacking.py::test_the_kernel_is_looked_for_without_the_network",
    ),
    Mutant(
        HELD,
        'if name != "mlx" or family.mlx]',
        "if name]",
        "tests/test_zoo_unpacking.py::test_mlx_is_read_where_its_layout_is_known[olmo_hybrid]",
    ),
    Mutant(MTP, "found = unpacking.gathered(found, packed)", "pass", HEADS + "[awq-False-float32]"),
    Mutant(
        MTP,
        '== "mlx" and any(',
        '== "" and any(',
        "tests/test_mtp.py::test_norms_of_a_head_in_mlx_files_are_not_guessed",
    ),
    Mutant(LEAVES, "sorts.transpose(0, 1)", "sorts", READ),
    Mutant(SCALINGS, "} | _scaling(found, prefix, demand)", "}", ROTARY),
    Mutant(SCALINGS, "NEUTRAL[field] in (None, value)", "True", OTHERS),
    Mutant(
        "labkit/zoo/tokens.py",
        "ready.vocabulary if ready.gguf",
        "True if ready.gguf",
        ZOO + "::test_a_gguf_file_without_vocabulary_is_as_a_folder_without_tokenizer",
    ),
]
