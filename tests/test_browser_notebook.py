"""The explorer and a guess in a real Notebook 7, whose page takes keys before what stands in it does."""

import importlib.util

import pytest
from browsing import without
from serving import CELLS, IDLE, NOTEBOOK, run_all, served
from test_browser import made, outside
from test_browser_course import AGAIN
from test_browser_explore import FAINT, SMALL, settled, state

pytestmark = pytest.mark.browser

GUESS = """from labkit import check
guess = check.predict("how many?", among=("one", "two"))
guess"""
OWN = "reading 'schema'"  # of every page of Notebook 7.6, an empty one too


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Notebook 7 on one notebook: (address, token)."""
    if importlib.util.find_spec("notebook") is None:
        without("notebook is not installed; make env brings it")
    home = tmp_path_factory.mktemp("notebook")
    with served(home, {"one": made([SMALL, GUESS, "guess.see('two')"])}, NOTEBOOK) as place:
        yield place


def test_the_explorer_and_a_guess_in_notebook_7(page, server):
    address, token = server
    run_all(page, address, token, "one.ipynb", NOTEBOOK)
    page.wait_for_selector(".lk-explore [data-card=deltanet] svg")
    panel = page.locator(".lk-explore")
    panel.get_by_role("radio", name="layer 4, Gated DeltaNet").click()
    settled(page)
    for key in ("ArrowRight", "ArrowRight", "Tab", "Home", "ArrowRight"):
        page.keyboard.press(key)
    settled(page)
    assert {"layers D6", "tokens  red"} <= set(state(page))
    for key in ("d", "d", "a", "x"):  # that delete, add and cut cells
        page.keyboard.press(key)
    assert len(page.evaluate(CELLS)) == 3
    page.locator(".widget-radio-box input").last.click()
    page.get_by_role("button", name="This is my guess").click()
    page.wait_for_selector("text=Now run the next cell.")
    page.evaluate(AGAIN)
    page.wait_for_selector("text=You guessed two: right")
    page.evaluate("() => window.jupyterapp.commands.execute('apputils:change-theme', {theme: 'JupyterLab Dark'})")
    page.wait_for_function("() => document.querySelector('.lk-explore').classList.contains('dark')")
    assert page.evaluate(FAINT) == []
    before = state(page)
    page.evaluate("() => { document.querySelector('.lk-explore').dataset.old = '1'; }")
    page.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.restartKernel().then(() => true)")
    page.wait_for_function(IDLE)
    page.evaluate("() => window.jupyterapp.commands.execute('notebook:run-all-cells')")
    page.wait_for_selector(".lk-explore:not([data-old]) [data-card=deltanet] svg")
    settled(page)
    assert state(page) == before
    assert outside(page, f"{address}/", address.replace("http", "ws") + "/") == []
    assert [text for text in page.complaints if "status of 404" not in text and OWN not in text] == []
