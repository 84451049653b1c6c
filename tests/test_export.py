"""Out into the world: pictures for print, chosen renderers, converted notebooks, pages, and numbers as files."""

import base64
import csv
import io
import json
import os
import pathlib
import re
import socket
import struct
import subprocess
import sys
import threading

import numpy as np
import pytest
import xarray
from browsing import DRAWN, MEASURE

import figures
import labkit
from figures import _golden
from labkit import draw, errors, export
from labkit.draw import images, printed, shown
from labkit.draw.pages import PLOTLY

ROOT = pathlib.Path(__file__).parent.parent
TOKENS = [
    ' "quoted"',
    "line\nbreak\r\n",
    " 🦊 é",
    "nul\0in",
    "=1+1",
    "+2",
    "-3",
    "@x",
    "\ttab",
    "'kept",
    "",
    "\u202eback",
    " x",
]


def some(heads=3, tokens=5):
    """weight (head, token, source), every size another."""
    rng, sources = np.random.default_rng(0), len(TOKENS)
    attrs = {"symbol": "A", "units": "nat", "scale": "positive"}
    values = rng.random((heads, tokens, sources), dtype=np.float32)
    coords = {"head": range(heads), "source_text": ("source", TOKENS)}
    return xarray.Dataset({"weight": (("head", "token", "source"), values, attrs)}, coords=coords)


def rich():
    """Every kind of value and attribute that a file must keep."""
    odd = {"flag": True, "none": None, "pair": (1, "a", None, 2.5), "empty": np.zeros((0, 3)), "nan": float("nan")}
    odd |= {
        "scalar": np.float32(0.1),
        "big": 2**70,
        "inner": {"a": [1, (2,)], 3: b"\xff"},
        "no text": "",
        "lone": "\ud83d",
    }
    ds = some()
    ds["weight"].attrs |= odd
    more = {
        "half": ("token", np.arange(5, dtype=np.float16)),
        "yes": ("head", np.array([True, False, True])),
        "far": ("head", np.array([2**60 + 1, -1, 3])),
        "exact": ("head", np.array([2**40, 1, 2])),
        "between": ("head", np.array([2**32, 1, 2])),
        "small": ("token", np.arange(5, dtype=np.uint8)),
        "wide": ("token", np.array([1.0, np.nan, np.inf, -0.0, 1e-300])),
        "nothing": (("row", "head"), np.zeros((0, 3))),
        "alone": ((), 3.5),
        "word": ((), "a word"),
        "facts after": ("facts after", np.arange(4.0)),
    }
    coords = {
        "kind": ("head", np.array(["a", "bc ", ""], dtype="U7")),
        "cut": ("head", np.array(["\ud83d", "x", ""], object)),
    }
    coords |= {"tail": ("head", np.array(["end\0", "x", ""], object))}
    attrs = {"model": "nano", "layers": [1, 2], "seams": ("a", "b"), "labkit": "mine", "parity": 1e-7}
    return ds.assign(more).assign_coords(coords).assign_attrs(attrs)


def same(one, other):
    """Whether two datasets are equal in values, bit by bit, in types, order, and attributes with their types."""
    xarray.testing.assert_identical(one, other)
    assert list(one.variables) == list(other.variables) and list(one.coords) == list(other.coords)
    for name in one.variables:
        assert one[name].dtype == other[name].dtype, name
        if one[name].dtype.kind == "f":
            assert one[name].values.tobytes() == other[name].values.tobytes()
    for before, now in [(one.attrs, other.attrs), *((one[name].attrs, other[name].attrs) for name in one.variables)]:
        assert list(before) == list(now) and [type(each) for each in before.values()] == [type(x) for x in now.values()]


# ---------------------------------------------------------------------------------------------------------- netCDF


def test_netcdf_opens_again_equal(tmp_path):
    ds = rich()
    before = ds.copy(deep=True)
    path = export.to_netcdf(ds, tmp_path / "new" / "a.nc")
    same(export.open_netcdf(path), ds)
    same(ds, before)
    same(export.open_netcdf(export.to_netcdf(export.open_netcdf(path), path)), ds)


def test_readings_of_a_run_and_figures_open_again_equal(tmp_path):
    lab = labkit.load("nano")
    run = lab.trace(" fox red. whale blue. fox")
    read = [labkit.deltanet.memory(run, layer=[0, 4]), labkit.attention.summary(run, layer=3)]
    read += [labkit.residual.lens(run, lab), labkit.yarn.wavelengths(lab.spec)]
    for n, ds in enumerate([*read, *(_golden.read(entry.golden) for entry in figures.entries()[::4])]):
        same(export.open_netcdf(export.to_netcdf(ds, tmp_path / f"{n}.nc")), ds)


def test_other_programs_read_arrays_units_and_texts(tmp_path):
    path = export.to_netcdf(rich(), tmp_path / "a.nc")
    with xarray.open_dataset(path, engine="scipy") as opened:
        assert opened.weight.attrs["units"] == "nat" and opened.weight.dims == ("head", "token", "source")
        np.testing.assert_array_equal(opened.weight, rich().weight)
        assert opened.kind.values.tolist() == ["a", "bc ", ""]
        assert opened.attrs["model"] == "nano"


@pytest.mark.parametrize("at", [200, -40, "end"])
def test_damaged_numbers_are_told(tmp_path, at):
    path = export.to_netcdf(some(), tmp_path / "a.nc")
    raw = bytearray(path.read_bytes())
    raw = raw[:-100] if at == "end" else raw
    if at != "end":
        raw[at] ^= 1
    path.write_bytes(raw)
    with pytest.raises(errors.CheckpointError, match="(damaged|cannot be read|not of labkit)"):
        export.open_netcdf(path)


def test_files_of_others_are_told_apart(tmp_path):
    xarray.Dataset({"a": ("x", [1.0])}).to_netcdf(tmp_path / "b.nc", engine="scipy")
    with pytest.raises(errors.CheckpointError, match="not of labkit"):
        export.open_netcdf(tmp_path / "b.nc")
    (tmp_path / "c.nc").write_bytes(b"no netCDF")
    with pytest.raises(errors.CheckpointError, match="cannot be read"):
        export.open_netcdf(tmp_path / "c.nc")
    with pytest.raises(errors.CheckpointError, match="No such file"):
        export.open_netcdf(tmp_path / "d.nc")


@pytest.mark.parametrize(
    ("ds", "said"),
    [
        (xarray.Dataset({"z": ("x", [1j])}), "(?s)numbers, truth values and texts.*z of type complex128"),
        (xarray.Dataset({"z": ("x", np.array(["a", None], object))}), "(?s)numbers, truth.*z with a (NoneType|float)"),
        (xarray.Dataset({"z": ("x", [1.0])}, attrs={"f": print}), "(?s)attributes: no value of a file.*builtin"),
        (np.zeros(3), "(?s)labelled dataset.*got: ndarray.*try: export.to_netcdf"),
    ],
)
def test_what_no_file_can_hold_is_named(tmp_path, ds, said):
    with pytest.raises(errors.InputError, match=said):
        export.to_netcdf(ds, tmp_path / "a.nc")
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------------------------------------------------- CSV


def table(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def test_csv_has_a_row_for_every_point_with_coords_and_units(tmp_path):
    ds = some()
    head, *rows = table(export.to_csv(ds, tmp_path / "a.csv"))
    assert head == ["head", "token", "source", "source_text", "weight [nat]"]
    assert len(rows) == 3 * 5 * len(TOKENS)
    for n in (0, 17, len(rows) - 1):
        head, token, source = np.unravel_index(n, (3, 5, len(TOKENS)))
        assert rows[n][:3] == [str(head), str(token), str(source)]
        assert np.float32(rows[n][4]) == ds.weight.values[head, token, source]  # nothing is lost in print


def test_variables_on_other_axes_have_rows_of_their_own(tmp_path):
    ds = some()[["weight"]].assign(norm=("source", np.arange(13.0)), total=((), 2))
    head, *rows = table(export.to_csv(ds, tmp_path / "a.csv"))
    assert head == ["head", "token", "source", "source_text", "weight [nat]", "norm", "total"]
    assert len(rows) == 195 + 13 + 1
    assert rows[195 + 4] == ["", "", "4", "'=1+1", "", "4.0", ""]
    assert rows[-1] == ["", "", "", "", "", "", "2"]


def test_axes_in_another_order_keep_their_points(tmp_path):
    ds = xarray.Dataset(
        {"a": (("x", "y"), [[1, 2, 3], [4, 5, 6]]), "b": (("y", "x"), [[1, 4], [2, 5], [3, 6]])},
        coords={"both": (("y", "x"), [["p", "q"], ["r", "s"], ["t", "u"]])},
    )
    _, *rows = table(export.to_csv(ds, tmp_path / "a.csv"))
    assert [row[2:] for row in rows] == [[t, n, n] for t, n in zip("prtqsu", "123456", strict=True)]


def test_no_cell_of_text_is_computed_by_a_spreadsheet(tmp_path):
    _, *rows = table(export.to_csv(some(), tmp_path / "a.csv"))
    texts = [row[3] for row in rows[: len(TOKENS)]]
    assert not [text for text in texts if text.startswith(("=", "+", "-", "@", "\t", "\r"))]
    back = [text.removeprefix("'") for text in texts]
    assert back == [token.replace("\0", "\\u0000") for token in TOKENS]
    negative = xarray.Dataset({"=bad": ("x", [-1.5, np.nan]), "t": ("x", [True, False])})
    assert table(export.to_csv(negative, tmp_path / "b.csv")) == [
        ["x", "'=bad", "t"],
        ["0", "-1.5", "True"],
        ["1", "", "False"],
    ]


def test_csv_refuses_what_it_cannot_hold(tmp_path):
    with pytest.raises(errors.InputError, match="(?s)no variable.*try: export.to_netcdf"):
        export.to_csv(xarray.Dataset(), tmp_path / "a.csv")
    many = xarray.Dataset({"a": (("x", "y"), np.broadcast_to(np.float32(0), (5000, 5000)))})
    with pytest.raises(errors.InputError, match="25,000,000 points"):
        export.to_csv(many, tmp_path / "a.csv")


def test_the_numbers_behind_a_figure(tmp_path):
    ds = some()
    figure = draw.heatmap(ds.isel(head=0))
    same(export.open_netcdf(export.to_netcdf(figure, tmp_path / "a.nc")), ds.isel(head=0))
    assert len(table(export.to_csv(figure, tmp_path / "a.csv"))) == 1 + 5 * len(TOKENS)
    two = draw.maps((ds.isel(head=0), "weight", "left"), (ds.isel(head=1), "weight", "right"))
    assert [int(one["head"]) for one in two.numbers] == [0, 1]
    with pytest.raises(errors.InputError, match=r"(?s)a figure of 2.*try: export.to_csv\(figure.numbers\[0\]"):
        export.to_csv(two, tmp_path / "b.csv")


def test_the_gallery_gives_the_numbers_of_its_figures(tmp_path, monkeypatch):
    import dataclasses
    import types

    from test_browser import golden_module

    from figures.__main__ import main

    (entry,) = figures.entries(only=["decay_and_write"])
    stored = [dataclasses.replace(entry, module=golden_module(entry))]
    monkeypatch.setattr(figures, "entries", lambda folder=None, only=None: stored)
    assert main(["--out", str(tmp_path), "--data"], load=lambda: types.SimpleNamespace(name="nano")) == 0
    page = (tmp_path / "decay_and_write.html").read_text("utf-8")
    assert 'href="decay_and_write.csv" download' in page and 'href="decay_and_write.nc" download' in page
    same(export.open_netcdf(tmp_path / "decay_and_write.nc"), _golden.read(entry.golden))


# ----------------------------------------------------------------------------------------------------------- pages


def test_a_page_as_large_as_its_data_with_plotly_beside(tmp_path):
    figure = draw.heatmap(some().isel(head=0))
    inside = draw.page(tmp_path / "one.html", [figure], title="t")
    beside = draw.page(tmp_path / "two" / "a.html", [figure], title="t", plotly="beside")
    script = beside.parent / PLOTLY
    assert beside.stat().st_size < 40_000
    assert abs(inside.stat().st_size - beside.stat().st_size - script.stat().st_size) < 1000
    stamp = script.stat().st_mtime_ns
    draw.page(tmp_path / "two" / "b.html", [figure], title="t", plotly="beside")
    assert script.stat().st_mtime_ns == stamp
    assert sorted(path.name for path in beside.parent.iterdir()) == ["a.html", "b.html", PLOTLY]
    with pytest.raises(errors.InputError, match="(?s)no such place for plotly.js.*'inside' or 'beside'"):
        draw.page(tmp_path / "c.html", [figure], title="t", plotly="cdn")


@pytest.mark.browser
@pytest.mark.parametrize("plotly", ["inside", "beside"])
def test_a_page_opens_from_disk(page, tmp_path, plotly):
    path = draw.page(tmp_path / "a.html", [draw.heatmap(some().isel(head=0))], title="t", plotly=plotly)
    page.goto(path.as_uri())
    page.wait_for_function(DRAWN, arg=1)
    assert page.complaints == []
    assert all(url.startswith((tmp_path.as_uri(), "data:", "blob:")) for url in page.asked)


# ----------------------------------------------------------------------------------------------- pictures for print


def test_a_sheet_is_black_on_white_and_stands_at_a_step():
    ds = some()
    figure = draw.frames(ds, along="head", title="What it says")
    before = figure.to_json()
    sheet = printed.sheet(figure, step=2, title=True)
    assert figure.to_json() == before
    text = json.dumps(sheet.figure)
    assert "sliders" not in sheet.figure["layout"] and "frames" not in sheet.figure
    assert "#767c86" not in text and "#858b95" not in text and sheet.figure["layout"]["paper_bgcolor"] == "white"
    assert sheet.figure["layout"]["meta"]["words"] == "What it says · head 2"
    packed = sheet.figure["data"][0]["z"]
    shown = np.frombuffer(base64.b64decode(packed["bdata"]), "f4")
    np.testing.assert_array_equal(shown, ds.weight.values[2].ravel())
    assert printed.sheet(figure).figure["layout"]["meta"]["words"] == "head 0"


def test_letters_have_their_points():
    figure = draw.heatmap(some().isel(head=0))
    for width, font in (("single", 8), ("double", 8), (120, 6.5)):
        sheet = printed.sheet(figure, width=width, font=font)
        points = printed.BASE * sheet.scale * 72 / 96
        assert points == pytest.approx(font, rel=0.01)
        assert sheet.across * sheet.scale * 25.4 / 96 == pytest.approx(sheet.width)
    assert printed.sheet(figure, width="single").width == 85 and printed.sheet(figure, width="double").width == 178


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"width": "triple"}, '(?s)no such width.*"single" \\(85 mm\\), "double" \\(178 mm\\)'),
        ({"width": 10}, "(?s)width out of range.*40.0 to 600.0"),
        ({"font": 3}, "(?s)font out of range.*5.0 to 14.0"),
        ({"step": 1}, "(?s)no slider.*step=1"),
    ],
)
def test_prints_that_make_no_sense(options, said):
    with pytest.raises(errors.InputError, match=said):
        printed.sheet(draw.heatmap(some().isel(head=0)), **options)


def test_save_says_what_it_takes(tmp_path):
    figure = draw.heatmap(some().isel(head=0))
    with pytest.raises(errors.InputError, match=r"(?s)one of three kinds.*got: a.gif.*\.pdf, \.png, \.svg"):
        draw.save(figure, tmp_path / "a.gif")
    with pytest.raises(errors.InputError, match=r'(?s)got: a.html.*try: draw.page\("path.html"'):
        draw.save(figure, tmp_path / "a.html")
    with pytest.raises(errors.InputError, match=r"(?s)what is saved is a figure.*got: Dataset.*try: draw.heatmap"):
        draw.save(some(), tmp_path / "a.pdf")
    with pytest.raises(errors.InputError, match="(?s)dpi out of range"):
        draw.save(figure, tmp_path / "a.png", dpi=5)


def test_a_missing_package_or_browser_names_the_one_command(tmp_path, monkeypatch):
    figure = draw.heatmap(some().isel(head=0))
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "kaleido", None)
        with pytest.raises(errors.BackendError, match=r"(?s)needs kaleido.*try: pip install .*\[export\]"):
            draw.save(figure, tmp_path / "a.pdf")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("BROWSER_PATH", str(tmp_path / "none"))
    monkeypatch.setattr(images, "_elsewhere", lambda: None)
    with pytest.raises(
        errors.BackendError, match=r"(?s)needs Chromium or Chrome.*none, which cannot.*try: kaleido_get_chrome"
    ):
        draw.save(figure, tmp_path / "a.pdf")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def kaleido():
    """kaleido and a browser that it can drive."""
    from browsing import without

    pytest.importorskip("kaleido")
    try:
        images.find_browser()
    except errors.BackendError as error:
        without(error.what)


@pytest.mark.browser
def test_files_are_as_large_as_they_say(kaleido, tmp_path):
    figure = draw.frames(some(), along="head", title="A claim that stands in the caption")
    png = draw.save(figure, tmp_path / "deep" / "a.png", dpi=200).read_bytes()
    wide, high = struct.unpack(">II", png[16:24])
    assert png.startswith(b"\x89PNG") and abs(wide - 85 / 25.4 * 200) <= 1 and high > 300
    assert struct.unpack(">II", png[png.index(b"pHYs") + 4 :][:8]) == (7874, 7874)
    pdf = draw.save(figure, tmp_path / "a.pdf").read_bytes()
    left, low, right, top = map(float, re.search(rb"/MediaBox \[([\d. ]+)\]", pdf)[1].split())
    assert pdf.startswith(b"%PDF") and right - left == pytest.approx(85 / 25.4 * 72, abs=0.8)
    assert (top - low) / (right - left) == pytest.approx(high / wide, rel=0.02)
    assert pdf.count(b"/Type /Page\n") + pdf.count(b"/Type /Page ") <= 1 and b"/Font" in pdf  # one page, real letters
    svg = draw.save(figure, tmp_path / "a.svg", width=100).read_text("utf-8")
    assert re.match(r'<svg[^>]* width="100mm" height="[\d.]+mm" viewBox="0 0 425 \d+"', svg)
    assert "head 0" in svg and "A claim" not in svg


INKS = "() => [...document.querySelectorAll('svg text')].map(node => getComputedStyle(node).fill)"
STROKES = "() => [...document.querySelectorAll('.scatterlayer .js-line')].map(l => l.style.strokeDasharray)"
MANY = ["head_classes", "implied_beside_softmax", "margin_by_depth", "state_over_tokens", "why_prompts_part"]


@pytest.mark.browser
@pytest.mark.parametrize("width", ["single", "double"])
def test_no_text_is_cut_or_covered_in_print(kaleido, page, tmp_path, width):
    for entry in figures.entries(only=MANY):
        svg = draw.save(entry.module.draw(_golden.read(entry.golden)), tmp_path / "a.svg", width=width, title=True)
        page.set_content(f'<div class="js-plotly-plot" style="display: inline-block">{svg.read_text("utf-8")}</div>')
        assert page.evaluate(MEASURE, "body") == [], entry.name
        inks = page.evaluate(
            "() => [...document.querySelectorAll('svg text')].map(node => getComputedStyle(node).fill)"
        )
        greys = [ink for ink in inks if ink not in ("rgb(0, 0, 0)", "rgb(68, 68, 68)", "rgb(255, 255, 255)")]
        assert greys == [], entry.name


@pytest.mark.browser
def test_lines_of_a_print_differ_without_colour(kaleido, page, tmp_path):
    ds = xarray.Dataset({"a": (("head", "token"), np.random.default_rng(1).random((7, 30)))})
    svg = draw.save(draw.lines(ds, "a", color="head"), tmp_path / "a.svg").read_text("utf-8")
    page.set_content(svg)
    dashes = page.evaluate(
        "() => [...document.querySelectorAll('.scatterlayer .js-line')].map(l => l.style.strokeDasharray)"
    )
    assert len(dashes) == 7 == len(set(dashes))


@pytest.mark.browser
def test_pictures_ask_no_network(kaleido, tmp_path, monkeypatch):
    """A proxy that listens hears nothing, although the figure itself names a picture elsewhere."""
    heard, listening = [], socket.socket()
    listening.bind(("127.0.0.1", 0))
    listening.listen()
    port = listening.getsockname()[1]

    def listen():
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            heard.append(connection.recv(200))
            connection.close()

    threading.Thread(target=listen, daemon=True).start()
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{port}")
    figure = draw.heatmap(some().isel(head=0), title="$x$")
    figure.add_layout_image(source=f"http://127.0.0.1:{port}/x.png", x=0, y=1, sizex=1, sizey=1)
    assert draw.save(figure, tmp_path / "a.svg", title=True).stat().st_size > 1000
    assert figure.to_image("svg").startswith(b"<svg")
    listening.close()
    assert heard == []


# ------------------------------------------------------------------------------------------------- chosen renderers


class Shown:
    """What a display hook was given."""

    def __init__(self, monkeypatch, default, on=True):
        import IPython.display
        import plotly.io as pio

        self.bundles = []
        monkeypatch.setattr(IPython.display, "display", lambda bundle, raw=False, **_: self.bundles.append(bundle))
        monkeypatch.setattr(
            "plotly.io._renderers.ipython_display.display", lambda b, raw=False, **_: self.bundles.append(b)
        )
        monkeypatch.setattr(pio.renderers, "_default_name", None)
        monkeypatch.setattr(pio.renderers, "_default_renderers", [])
        monkeypatch.setattr(pio.renderers, "_to_activate", [])
        monkeypatch.setattr(pio.renderers, "_render_on_display", on)
        pio.renderers.default = default


@pytest.mark.parametrize("default", [None, "plotly_mimetype", "jupyterlab", "vscode", "plotly_mimetype+nteract"])
def test_without_a_choice_the_page_draws_the_figure(monkeypatch, default):
    hook = Shown(monkeypatch, default)
    draw.heatmap(some().isel(head=0))._ipython_display_()
    (bundle,) = hook.bundles
    assert bundle.keys() == {"application/vnd.plotly.v1+json"}
    assert bundle["application/vnd.plotly.v1+json"]["config"]["showSendToCloud"] is False


def test_a_chosen_renderer_is_honoured(monkeypatch):
    hook = Shown(monkeypatch, "json")
    draw.heatmap(some().isel(head=0))._ipython_display_()
    assert [list(bundle) for bundle in hook.bundles] == [["application/json"]]
    hook = Shown(monkeypatch, "notebook")
    draw.heatmap(some().isel(head=0))._ipython_display_()
    html = hook.bundles[-1]["text/html"]
    assert '"showSendToCloud": false' in html and "Plotly.newPlot" in html
    seen = []
    monkeypatch.setattr("plotly.io._renderers.BrowserRenderer.render", lambda self, fig: seen.append(fig))
    hook = Shown(monkeypatch, "browser")
    draw.heatmap(some().isel(head=0))._ipython_display_()
    assert len(seen) == 1 and hook.bundles == []


def test_no_renderer_at_all_is_a_line_of_text(monkeypatch):
    hook = Shown(monkeypatch, "plotly_mimetype", on=False)
    draw.heatmap(some().isel(head=0))._ipython_display_()
    assert [list(bundle) for bundle in hook.bundles] == [["text/plain"]]


def test_still_pictures_are_made_here(monkeypatch):
    made = []
    monkeypatch.setattr(shown, "image", lambda figure, kind, **size: made.append((kind, size)) or b"<svg")
    hook = Shown(monkeypatch, "png+json")
    figure = draw.heatmap(some().isel(head=0))
    figure._ipython_display_()
    assert hook.bundles[0] == {"image/png": base64.b64encode(b"<svg").decode()}
    assert list(hook.bundles[1]) == ["application/json"]
    figure.show("svg", width=300)
    assert [(kind, size["width"]) for kind, size in made] == [("png", made[0][1]["width"]), ("svg", 300)]


def test_the_environment_chooses_too():
    code = "import plotly.io as pio; from labkit.draw import shown; print([type(r).__name__ for r in shown.chosen()])"
    env = os.environ | {"PLOTLY_RENDERER": "svg+browser", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['SvgRenderer', 'BrowserRenderer']"


# ----------------------------------------------------------------------------------------------- converted notebooks


def notebook():
    """A notebook that was run: a still figure, one with a slider, a panel, a formula, text and another's figure."""
    import nbformat

    ds = some()
    panel = draw.panel(lambda head: draw.heatmap(ds.isel(head=head), title=f"Panel, head {head}"), head=range(3))
    bundles = [draw.heatmap(ds.isel(head=1), title="A still one")._repr_mimebundle_()]
    bundles += [draw.frames(ds, along="head", title="One with a slider")._repr_mimebundle_(), panel._repr_mimebundle_()]
    plain = json.loads(json.dumps(bundles))
    cells = [nbformat.v4.new_markdown_cell("# Title\n\nA formula: $S_t = \\alpha S$.")]
    cells += [nbformat.v4.new_code_cell("x", outputs=[nbformat.v4.new_output("display_data", b)]) for b in plain]
    return nbformat.v4.new_notebook(
        cells=cells, metadata={"widgets": {"application/vnd.jupyter.widget-state+json": {}}}
    )


def convert(folder, made, *words):
    """The page that `jupyter nbconvert --to html` makes, with the settings that an installed labkit brings."""
    import nbformat

    nbformat.write(made, folder / "a.ipynb")
    env = os.environ | {"PYTHONPATH": str(ROOT), "JUPYTER_CONFIG_PATH": str(ROOT / "labkit" / "draw")}
    env |= {"JUPYTER_CONFIG_DIR": str(folder / "none"), "PYTHONWARNINGS": "ignore"}
    words = [sys.executable, "-m", "nbconvert", "--to", "html", *words, str(folder / "a.ipynb")]
    done = subprocess.run(words, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder / "a.html"


def test_the_settings_that_are_installed_name_what_exists():
    from nbconvert.preprocessors import Preprocessor

    from labkit.draw import converted

    settings = json.loads((ROOT / "labkit" / "draw" / "jupyter_nbconvert_config.json").read_text())
    assert settings == {"HTMLExporter": {"preprocessors": ["labkit.draw.converted.Offline"]}}
    assert issubclass(converted.Offline, Preprocessor)
    assert "draw/jupyter_nbconvert_config.json" in (ROOT / "pyproject.toml").read_text()


@pytest.mark.browser
def test_figures_survive_nbconvert_and_ask_no_network(page, tmp_path):
    path = convert(tmp_path, notebook())
    assert path.stat().st_size < 6_000_000  # plotly.js once
    page.goto(path.as_uri())
    page.wait_for_function(DRAWN, arg=3)
    assert page.locator("p.claim").all_text_contents() == ["A still one", "One with a slider", "Panel, head 0"]
    ticks = page.locator("#figure-0-plot .xtick").all_text_contents()
    assert any('"quoted"' in tick for tick in ticks)
    assert "$S_t" in page.locator("body").text_content()
    before = page.evaluate("() => JSON.stringify(document.getElementById('figure-1-plot').data[0].z)")
    rail = page.locator("#figure-1-plot .slider-rail-touch-rect")
    rail.scroll_into_view_if_needed()
    box = rail.bounding_box()
    page.mouse.click(box["x"] + box["width"] - 3, box["y"] + box["height"] / 2)
    moved = "before => JSON.stringify(document.getElementById('figure-1-plot').data[0].z) !== before"
    page.wait_for_function(moved, arg=before)
    assert [url for url in page.asked if not url.startswith(("file:", "data:", "blob:"))] == []
    assert page.complaints == []


def test_notebooks_of_others_are_left_as_they_are():
    import nbformat

    from labkit.draw.converted import Offline

    figure = {"application/vnd.plotly.v1+json": {"data": [], "layout": {}}}
    cell = nbformat.v4.new_code_cell("x", outputs=[nbformat.v4.new_output("display_data", figure)])
    made = nbformat.v4.new_notebook(cells=[cell], metadata={"widgets": {}})
    resources = {"mathjax_url": "https://cdn.example/mathjax.js"}
    before = io.StringIO(nbformat.writes(made)).getvalue(), dict(resources)
    Offline().preprocess(made, resources)
    assert (nbformat.writes(made), resources) == before
    _, kept = Offline().preprocess(notebook(), {"mathjax_url": "file:///mathjax.js", "require_js_url": "https://x"})
    assert kept == {"mathjax_url": "file:///mathjax.js", "require_js_url": "data:text/javascript,"}
