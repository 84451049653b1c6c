"""In a real headless Chromium: JupyterLab and the gallery draw, react, and ask nothing of any other host."""

import dataclasses
import html
import pathlib
import types

import nbformat
import pytest
from browsing import DRAWN, MEASURE, WIDTHS, without
from serving import CELLS, run_all, served

import figures
from figures import _golden
from figures.__main__ import main

pytestmark = pytest.mark.browser

ROOT = pathlib.Path(__file__).parent.parent
NOTEBOOK = ROOT / "notebooks" / "solutions" / "00_read_the_model.ipynb"

PLOTLY = "application/vnd.plotly.v1+json"
DATA = """() => JSON.stringify([...document.querySelectorAll('.js-plotly-plot')].map(
  plot => plot.data.map(trace => [trace.x, trace.y, trace.z])))"""
BUTTONS = """() => [...document.querySelectorAll('.modebar-btn')].map(
  button => button.dataset.title + ' ' + button.dataset.attr)"""


def outside(page, *homes):
    """Addresses the page asked for that begin with none of `homes`; what lies in the page itself is free."""
    return [url for url in page.asked if not url.startswith((*homes, "data:", "blob:", "about:"))]


def no_upload(page):
    """Plotly's buttons are there, the one that uploads a figure is not."""
    buttons = [button.lower() for button in page.evaluate(BUTTONS)]
    assert any("zoom" in button for button in buttons)
    assert [button for button in buttons if "share" in button or "cloud" in button] == []


def test_a_missing_browser_is_a_skip_here_and_a_failure_under_ci(monkeypatch):
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no browser test: it is not there"):
        without("it is not there")
    monkeypatch.setenv("CI", "1")
    with pytest.raises(pytest.fail.Exception, match="no browser test: it is not there"):
        without("it is not there")


# JupyterLab ----------------------------------------

SMALL = [
    "import numpy, ipywidgets, plotly.graph_objects as go, plotly.io as pio\n"
    "z, quiet = numpy.arange(24.0).reshape(2, 3, 4), dict(showSendToCloud=False)\n"
    "pio.renderers['plotly_mimetype'].config = quiet",
    "go.Figure(go.Heatmap(z=z[0]), layout=dict(title='still'))",
    "live = go.FigureWidget(go.Heatmap(z=z[0]), layout=dict(title='live'))\n"
    "live._config = live._config | quiet\n"
    "slider = ipywidgets.IntSlider(max=1)\n"
    "slider.observe(lambda change: live.data[0].update(z=z[change.new]), 'value')\n"
    "ipywidgets.VBox([slider, live])",
]


def made(sources):
    """A notebook of these cells."""
    spec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    return nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": spec})


def uncovered():
    """The first notebook with its outputs cleared, or a small one of the same kind while there is none."""
    if not NOTEBOOK.exists():
        return made(SMALL), 2
    notebook = nbformat.read(NOTEBOOK, 4)
    outputs = [output.get("data", {}) for cell in notebook.cells for output in cell.get("outputs", [])]
    count = sum(PLOTLY in data or str(data.get("text/plain", "")).startswith("Panel(") for data in outputs)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    return notebook, count


ZOOM = """import numpy, xarray
from labkit import draw
def shown(x, y):
    cells = xarray.Dataset({"weight": (("row", "column"), numpy.add.outer(range(*y, 50), range(*x, 50)) / 1.0)})
    return draw.heatmap(cells, title=f"from {x[0]} to {x[1]}")
draw.zoom(shown, x=1000, y=1000)"""


def closer():
    """A notebook whose only figure is computed anew for what one zooms into."""
    return made([ZOOM])


PANEL = """import numpy, xarray
from labkit import draw
def shown(layer, head, kind):
    cells = xarray.Dataset({"weight": (("token", "source"), numpy.add.outer(range(24), range(24)) / (layer + head))})
    return draw.heatmap(cells, title=f"Layer {layer}, head {head}, {kind}: a title longer than a narrow window is wide")
draw.panel(shown, layer=range(1, 4), head=range(6), kind=["one kind", "a kind with a longer name"])"""


@pytest.fixture
def jupyter(tmp_path):
    """JupyterLab on a copy of the notebook, with settings of its own: (address, token, number of figures)."""
    notebook, count = uncovered()
    notebooks = {"one": notebook, "closer": closer(), "both": made([PANEL, ZOOM])}
    with served(tmp_path, notebooks) as (address, token):
        yield address, token, count


def test_the_notebook_in_jupyterlab(page, jupyter):
    address, token, count = jupyter
    run_all(page, address, token, "one.ipynb")
    cells = [cell for cell in page.evaluate(CELLS) if cell["cell_type"] == "code"]
    assert [output for cell in cells for output in cell["outputs"] if output["output_type"] == "error"] == []
    assert None not in [cell["execution_count"] for cell in cells if cell["source"]]
    page.wait_for_function(DRAWN, arg=count)
    before = page.evaluate(DATA)
    handle = page.locator(".widget-slider .noUi-handle").first
    handle.scroll_into_view_if_needed()
    handle.focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function(f"before => ({DATA})() !== before", arg=before)
    assert outside(page, f"{address}/", address.replace("http", "ws") + "/") == []
    no_upload(page)


TITLE = "() => document.querySelector('.widget-html-content div').textContent"

# Whether the map holds what is wanted: its first value, rows, columns. The words above it arrive on their own.
FIRST = """wanted => {
  const cells = document.querySelector('.js-plotly-plot')?.data?.[0]?.z;
  return cells && `${[cells[0][0], cells.length, cells[0].length]}` === `${wanted}`;
}"""


def still(page, plot):
    """The box of a plot that has come to rest: words above it arrive later and push it down."""
    box, before = plot.bounding_box(), None
    while box != before:
        page.wait_for_timeout(1000)
        box, before = plot.bounding_box(), box
    return box


def test_a_dragged_box_is_computed_anew(page, jupyter):
    address, token, _ = jupyter
    run_all(page, address, token, "closer.ipynb")
    page.wait_for_function(DRAWN, arg=1)
    assert page.evaluate(TITLE) == "from 0 to 1000"
    plot = page.locator(".js-plotly-plot .nsewdrag").first
    plot.scroll_into_view_if_needed()
    box = still(page, plot)
    at = lambda share: (box["x"] + share * box["width"], box["y"] + share * box["height"])  # noqa: E731
    page.mouse.move(*at(0.26))
    page.mouse.down()
    page.mouse.move(*at(0.4), steps=5)
    page.mouse.move(*at(0.49), steps=5)
    page.mouse.up()
    page.wait_for_function(FIRST, arg=[500, 5, 5])
    page.wait_for_function(f"() => ({TITLE})() === 'from 250 to 500'")
    page.get_by_role("button", name="back").click()
    page.wait_for_function(FIRST, arg=[0, 20, 20])
    page.wait_for_function(f"() => ({TITLE})() === 'from 0 to 1000'")
    assert outside(page, f"{address}/", address.replace("http", "ws") + "/") == []


# Before a widget's figure there stands an empty one.
FULL = "count => [...document.querySelectorAll('.js-plotly-plot')].filter(plot => plot.data?.length).length === count"

# Words of the parts of a live figure that are not whole: cut by their own box or by the output's, or over each other.
CUT = """() => {
  const found = [], parts = '.widget-label, .widget-readout, .widget-html-content, .widget-dropdown, .widget-button';
  for (const output of document.querySelectorAll('.jp-OutputArea-output')) {
    const frame = output.getBoundingClientRect();
    const seen = [...output.querySelectorAll(parts + ', .js-plotly-plot')].filter(node => node.offsetWidth);
    const boxes = seen.map(node => [node, node.getBoundingClientRect()]);
    boxes.forEach(([node, box], i) => {
      const named = `${node.className.split(' ').pop()} ${node.textContent.slice(0, 30)}`;
      const end = Math.min(frame.right, innerWidth) + 1;
      if (box.left < frame.left - 1 || box.right > end) found.push(named + ': cut off');
      if (node.scrollWidth > node.clientWidth + 1) found.push(named + ': wider than its place');
      for (const [other, its] of boxes.slice(i + 1)) {
        const apart = box.right <= its.left + 1 || its.right <= box.left + 1 || box.bottom <= its.top + 1
          || its.bottom <= box.top + 1;
        if (!apart && !node.contains(other) && !other.contains(node)) found.push(named + ': under ' + other.className);
      }
    });
  }
  return found;
}"""


@pytest.mark.parametrize("width", WIDTHS)
def test_live_figures_are_whole_when_they_are_first_shown(page, jupyter, width):
    address, token, _ = jupyter
    page.set_viewport_size({"width": width, "height": 1400})
    run_all(page, address, token, "both.ipynb")
    page.wait_for_function(FULL, arg=2)
    for plot in page.locator(".js-plotly-plot").all():
        still(page, plot.locator(".main-svg").first)
    assert page.locator(".widget-slider").count() == 2 and page.locator(".widget-dropdown").count() == 1
    assert (page.evaluate(CUT), page.evaluate(MEASURE, ".jp-OutputArea")) == ([], [])


# the gallery from disk ----------------------------------------

HOSTILE = ["<think>", "<script>document.title = 'hacked'</script>", "a & b", "<img src=x onerror=alert(1)>"]
PLANTED = f'''"""Question with <think> and <script>alert(1)</script> in it?

How to read `<b>it</b>`.

Source: nobody.
"""
import numpy, plotly.graph_objects as go, xarray
from labkit.claims import Claim, Part
PLACE = ("states", 10)
TOKENS = {[html.escape(token) for token in HOSTILE]!r}
def data(lab):
    z = numpy.arange(32, dtype="float32").reshape(2, 4, 4)
    return xarray.Dataset({{"weight": (("head", "token", "source"), z)}})
def claim(ds):
    return Claim("<img src=x onerror=alert(2)> holds", [Part("<b>largest</b>", ds.weight.max(), ">", 5, "<i>five</i>")])
def controls(ds):
    return {{"<script>alert(3)</script>": ds * 0}}
def draw(ds):
    frames = [go.Frame(data=[go.Heatmap(z=ds.weight.values[head])], name=str(head)) for head in range(2)]
    steps = [dict(method="animate", label=str(h), args=[[str(h)], dict(mode="immediate")]) for h in range(2)]
    ticks = dict(tickvals=[0, 1, 2, 3], ticktext=TOKENS)
    layout = dict(title="claim", sliders=[dict(steps=steps)], xaxis=ticks, yaxis=ticks)
    return go.Figure(go.Heatmap(z=ds.weight.values[0], customdata=[TOKENS] * 4, showscale=False,
                     hovertemplate="%{{customdata}}<extra></extra>"), layout=layout, frames=frames)
'''


QUESTION = "Question with <think> and <script>alert(1)</script> in it?"


@pytest.fixture
def planted(tmp_path):
    """A gallery of two figures with tokens that would like to be markup."""
    for name in ("one", "two"):
        (tmp_path / f"{name}.py").write_text(PLANTED)
    load = lambda: types.SimpleNamespace(name="nano")  # noqa: E731
    assert main(["--update"], folder=tmp_path, load=load) == 0
    return tmp_path


def open_from_disk(page, path, count):
    page.goto(path.as_uri())
    page.wait_for_function(DRAWN, arg=count)
    assert page.locator(".js-plotly-plot").count() == count


def sound(page, folder):
    """The page asked only for files of its folder, complained about nothing and offers no upload."""
    assert outside(page, folder.as_uri() + "/") == []
    assert page.complaints == []
    no_upload(page)


def test_the_gallery_draws_from_disk_and_tokens_are_inert(planted, page):
    open_from_disk(page, planted / "index.html", 1)
    ticks = page.locator("#one-plot .xtick").all_text_contents()
    assert ticks == HOSTILE
    assert page.locator("#one-question").text_content() == QUESTION
    assert page.locator("#two b").text_content() == QUESTION
    assert page.title() == "Inside a hybrid language model"
    page.locator("#one-plot .nsewdrag").first.hover()
    page.wait_for_selector("#one-plot .hoverlayer .hovertext")
    hover = page.locator("#one-plot .hoverlayer .hovertext").text_content()
    assert hover in HOSTILE
    sound(page, planted)


def test_the_slider_of_a_page_changes_the_figure(planted, page):
    open_from_disk(page, planted / "one.html", 1)
    before = page.evaluate(DATA)
    slide(page)
    page.wait_for_function(f"before => ({DATA})() !== before", arg=before)
    sound(page, planted)


def slide(page, share=1.0):
    """Drag the first plotly slider to a share of its length."""
    rail = page.locator(".slider-rail-touch-rect").first.bounding_box()
    page.mouse.click(rail["x"] + share * (rail["width"] - 3), rail["y"] + rail["height"] / 2)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_figures_are_legible_on_either_ground(planted, page, scheme):
    page.emulate_media(color_scheme=scheme)
    open_from_disk(page, planted / "index.html", 1)
    page.emulate_media(color_scheme="dark" if scheme == "light" else "light")
    page.emulate_media(color_scheme=scheme)
    ground = page.evaluate("() => getComputedStyle(document.body).backgroundColor")
    page.wait_for_timeout(1000)  # the figures follow the last of the changes
    ink = page.evaluate("() => getComputedStyle(document.querySelector('#one-plot .xtick text')).fill")
    word = page.evaluate("() => getComputedStyle(document.querySelector('#two .holds')).color")
    dark = scheme == "dark"
    assert (brightness(ground) < 60, brightness(ink) > 180, brightness(word) > 110) == (dark, dark, dark)
    sound(page, planted)


def brightness(colour):
    red, green, blue = [int(part) for part in colour.strip("rgb()").split(",")]
    return (red + green + blue) / 3


def golden_module(entry):
    """The module of a figure whose data is what is recorded of it."""
    return types.SimpleNamespace(**vars(entry.module) | {"data": lambda lab: _golden.read(entry.golden)})


INJECT = """() => { const script = document.createElement('script');
  script.text = 'window.ran = 1'; document.body.append(script); }"""


def test_the_policy_of_the_page_stops_scripts_and_connections(planted, page):
    open_from_disk(page, planted / "one.html", 1)
    page.evaluate(INJECT)
    assert page.evaluate("() => window.ran") is None
    refused = page.evaluate("() => fetch('http://127.0.0.1:9/x').then(() => 'went', () => 'refused')")
    assert refused == "refused"
    assert any("Content Security Policy" in complaint for complaint in page.complaints)


def test_a_picture_of_a_page(planted, browser):
    load = lambda: types.SimpleNamespace(name="nano")  # noqa: E731
    assert main(["--only", "one", "--png"], folder=planted, load=load) == 0
    assert (planted / "one.png").read_bytes().startswith(b"\x89PNG")
    assert (planted / "one.png").stat().st_size > 10_000


def test_the_real_gallery(tmp_path, page, monkeypatch):
    """The pages of the golden data, which `tests/test_figures.py` holds against nano."""
    entries = figures.entries()
    stored = [dataclasses.replace(entry, module=golden_module(entry)) for entry in entries]
    monkeypatch.setattr(figures, "entries", lambda folder=None, only=None: stored)
    assert main(["--out", str(tmp_path)], load=lambda: types.SimpleNamespace(name="nano")) == 0
    open_from_disk(page, tmp_path / "index.html", 1)
    assert page.locator("#picture > section:not(.words) h2").text_content() == stored[0].question
    for entry in stored:
        row = page.locator(f"#{entry.name}").text_content()
        assert entry.question in row and entry.module.claim(_golden.read(entry.golden)).title in row
        small = page.locator(f"#{entry.name} svg").bounding_box()
        assert small["width"] > 100 and small["height"] > 60
    sound(page, tmp_path)
    for entry in stored:
        open_from_disk(page, tmp_path / f"{entry.name}.html", 1)
        assert page.locator("h1").text_content() == entry.question
        shown = "".join(page.locator(".xtick, .ytick").all_text_contents())
        assert "&lt;" not in shown
        if page.locator(".slider-rail-touch-rect").count():
            before = page.evaluate(DATA)
            page.locator(".slider-rail-touch-rect").first.scroll_into_view_if_needed()
            slide(page, share=0.4)  # a slider may start at either end
            page.wait_for_function(f"before => ({DATA})() !== before", arg=before)
        sound(page, tmp_path)
