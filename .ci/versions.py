"""The versions of a notebook: the solved one is the source, the reader's and the graded one are made from it.

A solution stands between two comments in a code cell of notebooks/solutions; what is above them (a def with its
docstring) is the stub that a reader gets:

    def write(S, k, v):
        \"\"\"The state after one write, (key, value).\"\"\"
        ### BEGIN SOLUTION
        return S + torch.outer(k, v - S.T @ k)
        ### END SOLUTION

In the reader's version `...` stands in its place, `name = ...` for each name that a solution at the margin assigns, and
there are no outputs. The graded one has nbgrader's metadata (schema 3): the cell with the solution is the answer, the
cell with its `check.` call is locked, worth the stars of its exercise, and raises if a law is broken.
"""

import ast
import copy
import re

import nbformat

BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"
REGION = re.compile(rf"^([ ]*){BEGIN}\n(.*?)^[ ]*{END}[ ]*$\n?", re.DOTALL | re.MULTILINE)
HEADING = r"^### Exercise: (?P<name>.+?) \((?P<stars>★{1,3})☆{0,2}, (?P<minutes>\d+) minutes\)$"
EXERCISE = re.compile(HEADING, re.MULTILINE)
CHECKED = re.compile(r"\bcheck\.(?!predict\b)(\w+)\(")


def student(notebook):
    """The reader's version: stubs for solutions, no outputs, links from the folder above."""
    made = copy.deepcopy(notebook)
    for cell in made.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
            cell.source = stub(cell.source)
        else:
            cell.source = cell.source.replace("](../", "](")
    return made


def stub(source):
    """A cell's source with `...` in the place of every solution."""
    return REGION.sub(_left, source).rstrip("\n")


def graded(notebook):
    """The version for nbgrader: solutions still inside, which `nbgrader generate_assignment` takes out."""
    made, stars = copy.deepcopy(notebook), 1
    for number, cell in enumerate(made.cells):
        cell.metadata = nbformat.from_dict({})
        if cell.cell_type == "markdown":
            cell.source = cell.source.replace("](../", "](")
            stars = next((len(found["stars"]) for found in EXERCISE.finditer(cell.source)), stars)
            continue
        cell.outputs, cell.execution_count = [], None
        solution, checked = BEGIN in cell.source, CHECKED.search(cell.source)
        if not solution and not checked:
            continue
        about = {"grade": bool(checked and not solution), "solution": solution, "locked": not solution, "task": False}
        about |= {"schema_version": 3, "grade_id": f"cell-{number:02d}"}
        if about["grade"]:
            about["points"] = stars
            cell.source += f"\n{_last(cell.source)}.must()"
        cell.metadata["nbgrader"] = about
    return made


def _left(found):
    indent, body = found[1], found[2]
    if indent:
        return f"{indent}...  # yours\n"
    names = [target.id for node in ast.parse(body).body if isinstance(node, ast.Assign) for target in node.targets]
    return "".join(f"{name} = ...  # yours\n" for name in names) or "...  # yours\n"


def _last(source):
    """The call of the checker as it stands, or the name that it was given."""
    node = next(node for node in ast.parse(source).body if CHECKED.search(ast.unparse(node)))
    return node.targets[0].id if isinstance(node, ast.Assign) else ast.unparse(node.value)
