"""help() of a module begins with what it is, and its example runs."""

import contextlib
import importlib
import inspect
import io
import pydoc
import re
import textwrap

import pytest
import tiny

import labkit

MODULES = labkit._MODULES
FAR = ("features", "pictures", "replicate", "doctor")  # their examples need files, or minutes
PROMPT = " fox red. whale blue. crow green. fox"


def example(module):
    """The code that follows the first sentence of a module's docstring."""
    _, _, rest = inspect.getdoc(module).partition("\n\n")
    lines = rest.splitlines()
    end = next((n for n, line in enumerate(lines) if line and not line.startswith("    ")), len(lines))
    blocks = textwrap.dedent("\n".join(lines[:end])).strip().split("\n\n")
    while blocks:  # what follows an example may be a table
        with contextlib.suppress(SyntaxError):
            return "\n\n".join(blocks), compile("\n\n".join(blocks), "<docstring>", "exec")
        blocks.pop()
    return "", None


@pytest.mark.parametrize("name", MODULES)
def test_help_begins_with_what_the_module_is(name):
    module = importlib.import_module(f"labkit.{name}")
    first, _, rest = inspect.getdoc(module).partition("\n")
    assert 30 < len(first) <= 120 and first[0].isupper() and first[-1] in ".:" and rest.startswith("\n"), first
    page = pydoc.plain(pydoc.render_doc(module, title="Help on %s:"))
    head = [line.strip() for line in page.splitlines() if line.strip()][:3]
    assert head[1] == "NAME" and head[2].startswith(f"labkit.{name} - {first[:40]}")
    code, compiled = example(module)
    assert compiled is not None, "an example follows the first sentence"
    known = "lab|labkit|lk|" + name
    assert re.search(rf"\b({known})\b", code), code


@pytest.fixture(scope="module")
def space():
    """What an example has at hand."""
    lab = labkit.load("nano")
    modules = {name: getattr(labkit, name) for name in MODULES}
    run = lab.trace(PROMPT, logits="all")
    facts = dict(labkit=labkit, lk=labkit, lab=lab, run=run, prompt=PROMPT, ds=labkit.deltanet.memory(run, layer=0))
    return modules | facts


@pytest.mark.parametrize("name", [name for name in MODULES if name not in FAR])
def test_the_example_of_a_module_runs(name, space, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    own = dict(space) | ({"lab": tiny.make_lab(tiny.model(experts=True))} if name == "experts" else {})
    if name == "experts":
        own["lab"].tokenizer = space["lab"].tokenizer
        own["lab"].trace, trace = lambda prompt: trace(tiny.ids(9)), own["lab"].trace
    _, compiled = example(getattr(labkit, name))
    with contextlib.redirect_stdout(io.StringIO()):
        exec(compiled, own)


def test_help_of_draw_shows_its_functions_and_not_those_of_plotly():
    page = pydoc.plain(pydoc.render_doc(labkit.draw))
    lines = page.splitlines()
    assert next(line for line in lines if "labkit.draw - " in line).strip().startswith("labkit.draw - Drawing:")
    place = next(n for n, line in enumerate(lines) if "heatmap(" in line)
    assert place < 20 and len(lines) < 600
    assert re.search(r"^    heatmap\($|^    heatmap\(ds", page, re.MULTILINE), "and its signature"
    assert labkit.draw.Figure is not None
