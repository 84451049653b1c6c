"""Mutants of what is checked in files from elsewhere before a weight is read."""

from tests.mutants import Mutant

REFUSED = "tests/test_zoo.py::test_a_broken_checkpoint_is_refused_before_its_weights_are_read"
WRONG = "tests/test_spec.py::test_configurations_that_are_refused"
BOUNDS = "tests/test_spec.py::test_json_beyond_the_bounds_is_no_configuration"
WALKED = "tests/test_zoo.py::test_a_gguf_file_is_walked_before_a_library_touches_it"
BOUNDED, FILES, MATCHING = "labkit/bounded.py", "labkit/zoo/files.py", "labkit/zoo/matching.py"
SETTINGS, GGUF, HEADER = "labkit/zoo/settings.py", "labkit/zoo/gguf.py", "labkit/zoo/gguf_header.py"

MUTANTS = [
    Mutant(BOUNDED, "if len(made) < len(pairs):", "if not made and pairs:", BOUNDS),
    Mutant(BOUNDED, ", parse_constant=constant)", ")", BOUNDS),
    Mutant(FILES, "        if start != end:", "        if start < 0:", REFUSED),
    Mutant(FILES, "if (stop - start) * 8 != math.prod(shape) * BITS[dtype]:", "if stop < start:", REFUSED),
    Mutant(MATCHING, "named[name].dtype not in FLOATS]", 'named[name].dtype == "BOOL"]', REFUSED),
    Mutant(MATCHING, "all(left.read(size) == right.read(size) for size in sizes)", "True", REFUSED),
    Mutant(MATCHING, "if described > 2 * held:", "if described > 2000 * held:", REFUSED),
    Mutant(SETTINGS, "0 <= token < spec.vocab for token in ids", "0 <= token <= spec.vocab for token in ids", REFUSED),
    Mutant("labkit/spec/anatomy.py", "if not 0 < self.eps < 1:", "if not self.eps < 1:", WRONG),
    Mutant(GGUF, "if named != set(range(layers)):", "if not named >= set(range(layers - 1)):", WALKED),
    Mutant(
        HEADER, "        if entry.offset != -(-end // alignment) * alignment:", "        if entry.offset < 0:", WALKED
    ),
    Mutant(HEADER, "    if not math.isfinite(value):", "    if value == math.inf:", WALKED),
    Mutant(
        "labkit/zoo/loading.py",
        "(last := max(tokens.get_vocab().values(), default=0)) >= spec.vocab:",
        "(last := max(tokens.get_vocab().values(), default=0)) < 0:",
        "tests/test_zoo.py::test_an_id_without_an_embedding_is_refused",
    ),
]
