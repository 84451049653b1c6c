"""In a real JupyterLab: every reader's notebook is opened and run from top to bottom, unsolved; a guess is made."""

import json
import pathlib
import shutil

import nbformat
import pytest
from serving import CELLS, jupyterlab, run_all

pytestmark = pytest.mark.browser

ROOT = pathlib.Path(__file__).parent.parent
NOTEBOOKS = sorted(ROOT.glob("notebooks/*.ipynb"))
PLOTLY = "application/vnd.plotly.v1+json"
FIGURES = "() => [...document.querySelectorAll('.js-plotly-plot')].filter(plot => plot.data?.length).length"
HARMLESS = ("favicon",)


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    """JupyterLab on a copy of the course: (address, token)."""
    home = tmp_path_factory.mktemp("course")
    shutil.copytree(ROOT / "notebooks", home / "files", ignore=shutil.ignore_patterns("docs", ".ipynb_checkpoints"))
    with jupyterlab(home / "files", home) as (address, token):
        yield address, token


def told(page):
    """What the page complained of, without what JupyterLab itself says of every notebook."""
    return [line for line in page.complaints if not any(word in line for word in HARMLESS)]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=[path.stem for path in NOTEBOOKS])
def test_the_readers_notebook_runs_unsolved(page, course, path):
    address, token = course
    page.set_default_timeout(300_000)
    run_all(page, address, token, path.name)
    code = [cell for cell in page.evaluate(CELLS) if cell["cell_type"] == "code"]
    outputs = [output for cell in code for output in cell["outputs"]]
    assert [output["evalue"] for output in outputs if output["output_type"] == "error"] == []
    assert [output["text"] for output in outputs if output.get("name") == "stderr"] == []
    assert None not in [cell["execution_count"] for cell in code if cell["source"]]
    drawn = sum(PLOTLY in output.get("data", {}) for output in outputs)
    page.wait_for_function(f"count => ({FIGURES})() >= count", arg=drawn)
    solved = nbformat.read(path.parent / "solutions" / path.name, 4)
    stored = json.dumps([cell.get("outputs", []) for cell in solved.cells]).count(f'"{PLOTLY}"')
    assert drawn == stored
    places = [address + "/", address.replace("http", "ws") + "/", "data:", "blob:", "about:"]
    assert [url for url in page.asked if not url.startswith(tuple(places))] == []
    assert told(page) == []


def test_a_guess_is_pressed_and_then_shown_with_the_answer(page, course):
    address, token = course
    run_all(page, address, token, "01_remember.ipynb")
    page.wait_for_selector(".widget-radio-box input")
    assert page.locator("summary", has_text="No guess was kept").count() >= 1
    folded = page.locator("summary", has_text="No guess was kept").count()
    page.locator(".widget-radio-box input").first.focus()
    page.keyboard.press("Space")
    button = page.get_by_role("button", name="This is my guess").first
    button.focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("text=Now run the next cell.")
    page.evaluate(AGAIN)
    page.wait_for_selector("text=You guessed")
    assert page.locator("summary", has_text="No guess was kept").count() == folded - 1


# Runs the cell that shows the first answer again.
AGAIN = """async () => {
  const content = window.jupyterapp.shell.currentWidget.content;
  content.activeCellIndex = content.widgets.findIndex(cell => cell.model.sharedModel.source.includes('.see('));
  content.deselectAll();
  await window.jupyterapp.commands.execute('notebook:run-cell');
}"""
