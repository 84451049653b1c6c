"""Mutants that still are ones: each finds its text, once, and its test exists. `make mutants` runs them."""

import ast
import re

from tests.mutants import ROOT, collected


def test_every_mutant_finds_its_text_once():
    for mutant in collected():
        assert mutant.applied((ROOT / mutant.file).read_text(encoding="utf-8")), mutant


def test_every_mutant_names_a_test_that_is_there():
    known = {}
    for mutant in collected():
        file, *names = re.sub(r"\[.*", "", mutant.test).split("::")
        tree = known.setdefault(file, ast.parse((ROOT / file).read_text(encoding="utf-8")))
        defined = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)}
        assert set(names) <= defined, mutant.test
