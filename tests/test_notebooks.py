"""Notebooks are stored executed and clean, nbval compares them, finishing twice changes no byte."""

import ast
import copy
import importlib.util
import json
import pathlib
import re
import statistics
import subprocess
import sys

import nbformat
import plotly.graph_objects as go
import pytest

pytest_plugins = ["pytester"]

ROOT = pathlib.Path(__file__).parent.parent
NOTEBOOKS = sorted(ROOT.glob("notebooks/solutions/*.ipynb"))
PLOTLY = "application/vnd.plotly.v1+json"
WIDGET = "application/vnd.jupyter.widget-view+json"
CELLS, LINES, MEDIAN, DEF_LINES, SIZE = 40, 15, 5, 8, 500_000
SILENCED = re.compile(r"#\s*NBVAL_(?:IGNORE_OUTPUT|SKIP)\b[ :]*(.*)")
SILENT_TAGS = {"nbval-ignore-output", "nbval-skip"}
ABSOLUTE = re.compile(r"(?<![\w/.:<])/[A-Za-z_][\w.-]*/[\w.-]|\b[A-Z]:\\\w")

every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=[path.name for path in NOTEBOOKS])


@pytest.fixture(scope="module")
def finisher():
    """The module .ci/finish_notebooks.py."""
    place = importlib.util.spec_from_file_location("finish_notebooks", ROOT / ".ci" / "finish_notebooks.py")
    module = importlib.util.module_from_spec(place)
    place.loader.exec_module(module)
    return module


def test_the_first_notebook_is_there():
    assert "00_read_the_model.ipynb" in {path.name for path in NOTEBOOKS}


@every_notebook
def test_notebook_is_in_order(path, finisher):
    assert faults(nbformat.read(path, 4)) == []
    assert finisher.check(path) == (True, "finished")
    assert path.stat().st_size <= SIZE
    assert re.fullmatch(r"\d\d_[a-z0-9_]+", path.stem)


def faults(notebook):
    """What is wrong with a stored notebook, one line each."""
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    title = notebook.cells[0].source.partition("\n")[0] if notebook.cells else ""
    wrong = [] if re.fullmatch(r"# .+\?", title) else [f"the title is no question: {title!r}"]
    kernel = notebook.metadata.get("kernelspec", {}).get("name")
    wrong += [] if kernel == "python3" else ["kernel is not python3"]
    wrong += ["widget state"] if "widgets" in notebook.metadata else []
    counts = [cell.execution_count for cell in code]
    wrong += [] if counts == list(range(1, len(code) + 1)) else [f"execution counts {counts}"]
    wrong += [f"{len(code)} code cells"] if len(code) > CELLS else []
    lengths = [len(cell.source.splitlines()) for cell in code]
    median = statistics.median(lengths) if code else 0
    wrong += [f"median of {median} lines"] if median > MEDIAN else []
    wrong += [] if any(cell.outputs and not silenced(cell) for cell in code) else ["no output is compared"]
    for number, cell in enumerate(code, 1):
        wrong += [f"cell {number}: {line}" for line in cell_faults(cell)]
    return wrong


def cell_faults(cell):
    """What is wrong with one code cell."""
    lines, told = cell.source.splitlines(), undone(cell)
    wrong = [f"{len(lines) - told} lines"] if len(lines) - told > LINES else []
    wrong += ["is silenced without a reason"] if silenced(cell) and not reason(cell) else []
    shown = [cell.source, *texts(cell)]
    wrong += [f"absolute path in {text[:80]!r}" for text in shown if ABSOLUTE.search(text)]
    long = [node.name for node in definitions(cell) if node.end_lineno - node.lineno - told >= DEF_LINES]
    wrong += [f"def {name} is too long" for name in long]
    for output in cell.outputs:
        wrong += [f"raised {output.ename}"] if output.output_type == "error" else []
        wrong += ["wrote to stderr"] if output.get("name") == "stderr" else []
        wrong += ["stores a live widget"] if WIDGET in output.get("data", {}) else []
        config = output.get("data", {}).get(PLOTLY, {"config": {"showSendToCloud": False}}).get("config", {})
        wrong += ["figure with a share button"] if config.get("showSendToCloud", True) else []
    return wrong


def silenced(cell):
    """Whether nbval leaves the cell's output uncompared."""
    return bool(SILENCED.search(cell.source) or SILENT_TAGS & set(cell.metadata.get("tags", [])))


def reason(cell):
    """Why: the words after the marker, or a comment in the first line of a tagged cell."""
    found = SILENCED.search(cell.source) or re.match(r"#\s*(.*)", cell.source)
    return found and found[1].strip()


def texts(cell):
    """Text that the cell's outputs show; figures without their packed arrays."""
    for output in cell.outputs:
        yield from [output.get("text", "")]
        for kind, value in output.get("data", {}).items():
            if not kind.startswith("image/"):
                yield value if isinstance(value, str) else re.sub(r'"bdata": "[^"]*"', "", json.dumps(value))


def undone(cell):
    """Lines of a cell that are no work: what a docstring says, and the marks around a solution."""
    marks = cell.source.count("### BEGIN SOLUTION") + cell.source.count("### END SOLUTION")
    texts = [node.body[0] for node in definitions(cell) if ast.get_docstring(node)]
    return marks + sum(text.end_lineno - text.lineno + 1 for text in texts)


def definitions(cell):
    plain = "\n".join("pass" if line.startswith(("%", "!")) else line for line in cell.source.splitlines())
    return [node for node in ast.walk(ast.parse(plain)) if isinstance(node, ast.FunctionDef | ast.ClassDef)]


# the hygiene test finds what it is for ----------------------------------------


def code(source, *outputs, count=1, **metadata):
    return nbformat.v4.new_code_cell(source, outputs=list(outputs), execution_count=count, metadata=metadata)


def book(*cells):
    """A notebook as the finisher leaves it."""
    title = nbformat.v4.new_markdown_cell("# What is one and one?")
    made = nbformat.v4.new_notebook(cells=[title, *cells])
    made.metadata.kernelspec = {
        "display_name": "Python 3 (ipykernel)",
        "language": "python",
        "name": "python3",
    }
    return made


def said(text, name="stdout"):
    return nbformat.v4.new_output("stream", name=name, text=text)


def plot(z=(0.25, 0.5), title="two bars", **config):
    figure = json.loads(go.Figure(go.Bar(y=list(z)), layout=dict(title=title, template="none")).to_json())
    return nbformat.v4.new_output("display_data", {PLOTLY: figure | ({"config": config} if config else {})})


FAULTS = {
    "the title is no question: '# One'": lambda nb: nb.cells[0].update(source="# One"),
    "kernel is not python3": lambda nb: nb.metadata.kernelspec.update(name="lab"),
    "widget state": lambda nb: nb.metadata.update(widgets={}),
    "execution counts [None]": lambda nb: nb.cells[1].update(execution_count=None),
    "execution counts [1, 3]": lambda nb: nb.cells.append(code("2", count=3)),
    "41 code cells": lambda nb: nb.cells.extend(code("2", count=n) for n in range(2, 42)),
    "median of 6 lines": lambda nb: nb.cells[1].update(source="\n".join("123456")),
    "cell 1: 16 lines": lambda nb: nb.cells[1].update(source="1\n" * 16),
    "no output is compared": lambda nb: nb.cells[1].update(outputs=[]),
    "cell 1: is silenced without a reason": lambda nb: nb.cells[1].update(source="# NBVAL_IGNORE_OUTPUT\n1"),
    "cell 2: is silenced without": lambda nb: nb.cells.append(code("2", count=2, tags=["nbval-skip"])),
    "cell 1: absolute path in 'at /srv/x": lambda nb: nb.cells[1].outputs.append(said("at /srv/x")),
    "cell 1: absolute path in \"open('/etc/hosts": lambda nb: nb.cells[1].update(source="open('/etc/hosts')"),
    "cell 1: def f is too long": lambda nb: nb.cells[1].update(source="def f():\n" + "    1\n" * 8),
    "cell 1: raised ValueError": lambda nb: nb.cells[1].outputs.append(
        nbformat.v4.new_output("error", ename="ValueError")
    ),
    "cell 1: wrote to stderr": lambda nb: nb.cells[1].outputs.append(said("warning", "stderr")),
    "cell 1: stores a live widget": lambda nb: nb.cells[1].outputs.append(
        nbformat.v4.new_output("display_data", {WIDGET: {"model_id": "1"}})
    ),
    "cell 1: figure with a share button": lambda nb: nb.cells[1].outputs.append(plot()),
}


@every_notebook
def test_formulas_have_single_backslashes(path):
    """Two of them are a line break in a formula, and its names stand there as text."""
    cells = nbformat.read(path, 4).cells
    formulas = [f for cell in cells if cell.cell_type == "markdown" for f in re.findall(r"\$[^$]+\$", cell.source)]
    assert [formula for formula in formulas if "\\\\" in formula] == []


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found(fault):
    notebook = book(code("1 + 1", said("2"), plot(showSendToCloud=False)))
    assert faults(notebook) == []
    FAULTS[fault](notebook)
    assert any(line.startswith(fault) for line in faults(notebook)), faults(notebook)


def test_ordinary_text_is_no_path():
    fine = [
        "a/b/c",
        "https://example.org/a/b",
        "<b>x</b>/<i>y</i>",
        "1 / 2 / 3",
        "application/json",
        "../data/x",
    ]
    assert [text for text in fine if ABSOLUTE.search(text)] == []


# nbval, made tolerant ----------------------------------------


@pytest.fixture
def tolerant(request):
    """The conftest beside the tests' folder."""
    return request.config.pluginmanager.get_plugin(str(ROOT / "conftest.py"))


def figure(y=(0.25, 3.0), uid="a", count=7, **layout):
    import numpy

    trace = go.Bar(y=numpy.array(y), uid=uid, customdata=[count])
    return json.loads(go.Figure(trace, layout=layout).to_json())


def test_figures_are_compared_by_their_numbers(tolerant):
    stored = figure(title="a")
    assert "bdata" in json.dumps(stored)
    same = [
        figure((0.25, 3.0 + 1e-6), title="a"),
        figure(uid="b", title="a"),
        figure(title="a", template="none"),
    ]
    assert [tolerant.figure_differences(stored, new) for new in same] == [[], [], []]
    assert tolerant.Figure(stored) == tolerant.Figure(same[0])
    changed = figure((0.25, 3.1), title="a")
    assert tolerant.figure_differences(stored, changed) == ["figure.data[0].y[1]: 3.0 became 3.1"]
    assert tolerant.Figure(stored) != tolerant.Figure(changed)
    others = [
        figure(title="b"),
        figure(title="a", height=99),
        figure((0.25,), title="a"),
        figure(count=8, title="a"),
    ]
    assert [len(tolerant.figure_differences(stored, new)) for new in others] == [1, 1, 1, 1]
    assert tolerant.figure_differences({"z": [None]}, {"z": [2.0]}) == ["figure.z[0]: None became 2.0"]
    assert tolerant.figure_differences({"z": True}, {"z": 1}) == ["figure.z: True became 1"]


@pytest.mark.parametrize(
    ("stored", "new", "lines"),
    [
        ("keep 0.93125 of 12", "keep 0.93126 of 12", []),
        ("keep 0.93", "keep 0.94", ["0.93 became 0.94"]),
        ("12 heads", "13 heads", ["12 became 13"]),
        ("keep 0.731", "keep 0.732", []),
        ("keep 0.731", "keep 0.733", ["0.731 became 0.733"]),
        ("1.21e-07 off", "1.22e-07 off", []),
        ("1e-8 parity", "3e-8 parity", []),
        ("keep 0.93", "write 0.93", ["the words differ: 'keep 0.93' became 'write 0.93'"]),
        ("0.5 0.5", "0.5", ["the words differ: '0.5 0.5' became '0.5'"]),
        ("-0.5", "0.5", ["-0.5 became 0.5"]),
        ("{'uid': '1a-2b'}", "{'uid': '3c-4d'}", []),
        ("nan", "0.5", ["the words differ: 'nan' became '0.5'"]),
    ],
)
def test_text_is_compared_by_words_and_numbers(tolerant, stored, new, lines):
    assert tolerant.text_differences(stored, new) == lines
    assert (tolerant.Text(stored) == tolerant.Text(new)) is (lines == [])
    assert (tolerant.Text(stored) != tolerant.Text(new)) is (lines != [])


def test_nbval_fails_on_a_change_and_passes_on_noise(pytester, tolerant):
    pytester.makeconftest((ROOT / "conftest.py").read_text(encoding="utf-8"))
    draw = "go.Figure(go.Bar(y=[0.25, 0.5]), layout=dict(title='two bars', template='none'))"
    cells = [
        code("import plotly.graph_objects as go", count=1),
        code(draw, plot((0.25, 0.5 + 1e-7)), count=2),
        code(draw, plot((0.25, 0.6)), count=3),
        code(draw, plot(title="three bars"), count=4),
        code("print('mean', 0.3751)", said("mean 0.3752\n"), count=5),
        code("print('mean', 0.3751)", said("mode 0.3751\n"), count=6),
        code("print('mean', 0.3751)", said("mean 0.3851\n"), count=7),
    ]
    nbformat.write(book(*cells), pytester.path / "one.ipynb")
    result = pytester.runpytest_subprocess("--nbval", "--nbval-cell-timeout=120", "-v")
    verdicts = re.findall(r"::Cell (\d) (PASSED|FAILED)", result.stdout.str())
    passed = {int(cell) for cell, verdict in verdicts if verdict == "PASSED"}
    assert (len(verdicts), passed) == (7, {0, 1, 4})
    result.stdout.fnmatch_lines(["*figure.data[[]0].y[[]1]: 0.6 became 0.5*", "*0.3851 became 0.3751*"])


# the finisher ----------------------------------------

LIVE = """import ipywidgets, plotly.graph_objects as go
live = go.FigureWidget(go.Bar(y=[1.5]))
ipywidgets.VBox([ipywidgets.IntSlider(), live])"""


def test_finishing_twice_changes_no_byte(tmp_path, finisher, capsys):
    path = tmp_path / "00_one.ipynb"
    raw = book(code(LIVE, count=9), code("print(1)\nprint(2)", count=None), code("go.Figure(go.Bar(y=[1]))"))
    raw.metadata.update(authors=["someone"])
    raw.cells[2].metadata.update(tags=["kept"], collapsed=False)
    nbformat.write(raw, path)
    assert finisher.main(["--check", str(path)]) == 1
    verdict = "NOT FINISHED; execution counts are [9, None, 1]; not in the stored form"
    assert verdict in capsys.readouterr().out
    assert finisher.main([str(path)]) == 0
    stored = path.read_bytes()
    assert finisher.main([str(path)]) == 0
    assert path.read_bytes().decode() == stored.decode()
    assert re.search(r"stored, \d+ KB\n.*unchanged", capsys.readouterr().out)
    assert finisher.main(["--check", str(path)]) == 0
    notebook = nbformat.reads(stored.decode(), 4)
    nbformat.validate(notebook)
    assert notebook.metadata.keys() == {"kernelspec", "language_info"}
    assert [cell.id for cell in notebook.cells] == ["cell-00", "cell-01", "cell-02", "cell-03"]
    assert [cell.metadata for cell in notebook.cells] == [{}, {}, {"tags": ["kept"]}, {}]
    assert notebook.cells[2].outputs == [said("1\n2\n")]
    assert notebook.cells[1].outputs[0].data.keys() == {"text/plain"}
    assert PLOTLY in notebook.cells[3].outputs[0].data
    assert len(stored) < 50_000


def test_a_notebook_that_fails_is_not_stored(tmp_path, finisher, capsys):
    path = tmp_path / "00_one.ipynb"
    loud = "import sys; print('careful', file=sys.stderr)"
    nbformat.write(book(code("1 / 0"), code(loud), code("3")), path)
    before = path.read_bytes()
    assert finisher.main([str(path)]) == 1
    assert path.read_bytes() == before
    _, *reasons = capsys.readouterr().out.splitlines()
    assert reasons[0] == "    cell 1: ZeroDivisionError: division by zero"
    assert reasons[1:] == ["    cell 2 wrote to stderr: careful"]


def test_cleaning_joins_streams_and_keeps_their_order(finisher):
    pieces = [said("a"), said("b"), said("c", "stderr"), said("d")]
    cleaned = finisher.clean(copy.deepcopy(book(code("1", *pieces))))
    assert [(output.name, output.text) for output in cleaned.cells[1].outputs] == [
        ("stdout", "ab"),
        ("stderr", "c"),
        ("stdout", "d"),
    ]


def test_the_finisher_explains_itself():
    words = [sys.executable, str(ROOT / ".ci" / "finish_notebooks.py"), "--help"]
    shown = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    assert "--check" in shown
