"""The notebooks as a course: each says what it needs, asks for guesses, and has exercises that are checked."""

import importlib.util
import itertools
import pathlib
import re
import sys

import nbformat
import pytest

from labkit import check

ROOT = pathlib.Path(__file__).parent.parent
NOTEBOOKS = sorted(ROOT.glob("notebooks/solutions/*.ipynb"))
HEAD = ("**You need**: ", "**Minutes**: ", "**Afterwards you can**")
SEEN = re.compile(r"\b(\w+)\.see\(")
GUESS = re.compile(r"^(\w+) = check\.predict\(", re.MULTILINE)
SHORT = {"00_a_tour"}  # ten minutes: guesses, no exercises

every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=[path.name for path in NOTEBOOKS])


@pytest.fixture(scope="module")
def versions():
    """The module .ci/versions.py."""
    place = importlib.util.spec_from_file_location("versions", ROOT / ".ci" / "versions.py")
    module = sys.modules["versions"] = importlib.util.module_from_spec(place)
    place.loader.exec_module(module)
    return module


def cells(path, kind):
    return [(n, cell.source) for n, cell in enumerate(nbformat.read(path, 4).cells) if cell.cell_type == kind]


@every_notebook
def test_it_says_what_it_needs_and_gives(path):
    first = "\n\n".join(text for n, text in cells(path, "markdown") if n < 3)
    assert [words for words in HEAD if words not in first] == []
    assert re.search(r"\*\*Minutes\*\*: \d+\b", first)
    assert len(re.findall(r"^- ", first.partition(HEAD[2])[2], re.MULTILINE)) >= 2
    last = cells(path, "markdown")[-1][1]
    assert re.search(r"\*\*Next\*\*: \[", last), "the last cell names what follows"


@every_notebook
def test_guesses_come_before_their_answers(path):
    code = cells(path, "code")
    made = {name: n for n, text in code for name in GUESS.findall(text)}
    seen = {name: n for n, text in code for name in SEEN.findall(text)}
    assert len(made) >= 3
    assert [name for name in made if name not in seen or seen[name] <= made[name]] == []
    words = "\n".join(text for _, text in cells(path, "markdown"))
    assert re.findall(r"\*(?:Predict|Build)\b[^*]*", words) == []


@every_notebook
def test_exercises_have_a_stub_a_checker_and_a_solution(path, versions):
    all_cells = nbformat.read(path, 4).cells
    begins = [n for n, cell in enumerate(all_cells) if versions.EXERCISE.search(cell.source)]
    headings = [n for n, cell in enumerate(all_cells) if "Exercise:" in cell.source and cell.cell_type == "markdown"]
    assert begins == headings, "an exercise's heading is `### Exercise: name (★★☆, 10 minutes)`"
    assert len(begins) >= (0 if path.stem in SHORT else 2)
    for begin, end in itertools.pairwise([*begins, len(all_cells)]):
        code = [cell.source for cell in all_cells[begin:end] if cell.cell_type == "code"]
        solved = next(n for n, text in enumerate(code) if versions.BEGIN in text)
        names = [name for text in code[solved + 1 :] for name in versions.CHECKED.findall(text)]
        assert names and set(names) <= set(check.__all__)
        for text in code:
            assert text.count(versions.BEGIN) == text.count(versions.END) == len(versions.REGION.findall(text))


@every_notebook
def test_code_names_no_folder_beside_it(path):
    assert [text for _, text in cells(path, "code") if "../" in text] == [], "the two versions lie in two folders"


@every_notebook
def test_the_readers_version_shows_neither_solutions_nor_outputs(path, versions):
    reader = nbformat.read(path.parent.parent / path.name, 4)
    assert reader == versions.student(nbformat.read(path, 4))
    text = "\n".join(cell.source for cell in reader.cells)
    assert "SOLUTION" not in text
    above = re.findall(r"\]\((\.\./[^)#]*)", text)
    assert [link for link in above if not (ROOT / "notebooks" / link).exists()] == [], "a link leads beside"
    assert [cell for cell in reader.cells if cell.get("outputs") or cell.get("execution_count")] == []


@every_notebook
def test_the_graded_version_is_one_that_nbgrader_reads(path, versions):
    made = versions.graded(nbformat.read(path, 4))
    nbformat.validate(made)
    marked = [cell for cell in made.cells if "nbgrader" in cell.metadata]
    ids = [cell.metadata.nbgrader.grade_id for cell in marked]
    assert len(set(ids)) == len(ids)
    for cell in marked:
        about = cell.metadata.nbgrader
        assert about.solution != about.locked and about.grade == about.locked == ("points" in about)
        assert about.locked == cell.source.endswith(".must()") and about.solution == (versions.BEGIN in cell.source)
        if about.grade:
            assert 1 <= about.points <= 3
            compile(cell.source, "graded", "exec")


SOURCES = {
    'def f(x):\n    """Twice."""\n    ### BEGIN SOLUTION\n    y = x\n    return x + y\n    ### END SOLUTION': (
        'def f(x):\n    """Twice."""\n    ...  # yours'
    ),
    "### BEGIN SOLUTION\na = 2\nb = a\n### END SOLUTION\nprint(a)": "a = ...  # yours\nb = ...  # yours\nprint(a)",
    "### BEGIN SOLUTION\nprint(3)\n### END SOLUTION": "...  # yours",
    "x = 1": "x = 1",
}


@pytest.mark.parametrize("source", SOURCES)
def test_a_stub_takes_the_place_of_a_solution(source, versions):
    assert versions.stub(source) == SOURCES[source]


def test_a_graded_cell_raises_and_is_worth_its_stars(versions):
    one = nbformat.v4
    made = one.new_notebook(
        cells=[
            one.new_markdown_cell("### Exercise: one (★★☆, 10 minutes)"),
            one.new_code_cell("### BEGIN SOLUTION\na = 2\n### END SOLUTION", execution_count=3),
            one.new_code_cell("check.delta_rule(a)"),
            one.new_code_cell("verdict = check.delta_rule(a)\nverdict"),
            one.new_code_cell("guess = check.predict('which?', among=('a', 'b'))"),
        ]
    )
    cells = versions.graded(made).cells
    assert [cell.metadata.get("nbgrader", {}).get("points") for cell in cells] == [None, None, 2, 2, None]
    assert cells[2].source.endswith("\ncheck.delta_rule(a).must()")
    assert cells[3].source.endswith("\nverdict.must()")
    assert cells[1].execution_count is None and cells[4].metadata == {}
