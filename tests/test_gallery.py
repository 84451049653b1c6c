"""The command that builds the gallery: verdicts, pages, kept data, several processes, interrupts."""

import contextlib
import functools
import html.parser
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time
import types

import numpy as np
import plotly.graph_objects as go
import pytest

import figures
from figures import _build, _data, _gallery, _pictures, _workers
from figures.__main__ import LONGEST, _shared_out, main
from labkit.draw.pages import embed
from labkit.errors import InputError, LayerError

HOSTILE = ["<think>", "</script><script>", "a & b", "\u2028", "<img src=x onerror=alert(1)>"]
MODULE = '''"""{name} asks <b>something</b> & more?

Look at `weight`; a flat map would refute it.

Source: nobody.
"""
import os, pathlib, time
import numpy, plotly.graph_objects as go, xarray
from labkit.claims import Claim, Part
from labkit.errors import LayerError
PLACE = ({probe!r}, {number})
def data(lab):
    {body}
    facts = dict(model=lab.name, vocabulary="none", sample="3 <i>things</i>", interval="none")
    weight = lab.scale * numpy.eye(2, 3, dtype="float32")
    return xarray.Dataset({{"weight": (("token", "source"), weight)}}, attrs=facts)
def claim(ds):
    top = float(ds.weight.max())
    parts = [Part("largest <u>weight</u>", top, ">", 0.9, "a <s>bound</s>")]
    return Claim(f"{name} reaches {{top:g}} & <em>no</em> less", parts)
def controls(ds):
    return {{"all <q>zeros</q>": ds * {control}}}
def draw(ds):
    names = ["&lt;think&gt;", "</script>", "\\u2028"]
    return go.Figure(go.Heatmap(z=ds.weight.values, x=names), layout=dict(title={title}, template="none"))
'''


@pytest.fixture
def plant(tmp_path):
    """Writes figure modules into a folder and runs the command on it with a stand-in for the lab."""

    def module(name, body="pass", *, probe="states", number=10, control=0, title="claim(ds).title"):
        text = MODULE.format(name=name, body=body, probe=probe, number=number, control=control, title=title)
        (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")

    def run(*words, scale=1.0, model="nano", **options):
        load = functools.partial(types.SimpleNamespace, name=model, scale=scale)
        return main(list(words), folder=tmp_path, load=load, **options)

    return types.SimpleNamespace(module=module, run=run, folder=tmp_path)


# the command ----------------------------------------


def test_the_command_records_compares_and_reports(plant, capsys):
    plant.module("one")
    plant.module("two")
    plant.module("_helper")
    assert plant.run() == 1
    assert capsys.readouterr().out.count("NEW: no golden data") == 2
    assert plant.run("--update") == 0
    assert "recorded for the first time" in capsys.readouterr().out
    assert plant.run() == 0
    lines, page = capsys.readouterr().out.splitlines(), (plant.folder / "one.html").read_text()
    good = r"one +\d+\.\d s   largest change 0\.0e\+00, relative 0\.0e\+00, 0\.0% of tolerance   ok"
    assert re.fullmatch(good, lines[1])
    assert lines[-1].startswith("2 figures in ")
    assert plant.run(scale=1.5) == 1
    report = capsys.readouterr().out
    assert report.count("CHANGED") == 2
    assert "largest change 5.0e-01, relative 5.0e-01" in report
    assert "[token 1, source 1] golden 1.0, now 1.5" in report
    assert (plant.folder / "one.html").read_text() != page
    assert plant.run("--update", scale=1.5) == 0
    assert "CHANGED   recorded" in capsys.readouterr().out
    assert plant.run(scale=1.5) == 0


def test_one_figure_alone_and_another_folder(plant, capsys):
    plant.module("one")
    plant.module("two")
    plant.run("--update", "--only", "two", "--out", str(plant.folder / "pages"))
    assert {path.name for path in (plant.folder / "pages").iterdir()} == {"two.html", "plotly.min.js"}
    assert not (plant.folder / "golden" / "one.json").exists()
    assert plant.run("--only", "three") == 1
    assert capsys.readouterr().err == "no such figure\n  got: three\n  expected: one, two\n"


@pytest.mark.parametrize("fault", ["raise LayerError('layer 3 is attention', hint='attention.pattern')", "lab.wings"])
def test_a_failing_figure_does_not_stop_the_others(plant, capsys, fault):
    plant.module("one", fault)
    plant.module("two")
    assert plant.run("--update") == 1
    out = capsys.readouterr().out
    if fault.startswith("raise"):
        assert "FAILED\n    layer 3 is attention\n      try: attention.pattern" in out
        assert LayerError.__name__ not in out
    else:
        assert "FAILED\n    Traceback" in out and "has no attribute 'wings'" in out
    assert "1 figures in" in out


def test_golden_data_of_nano_is_not_held_against_another_model(plant, capsys):
    plant.module("one")
    plant.run("--update")
    stored = (plant.folder / "golden" / "one.json").read_bytes()
    assert plant.run("--update", scale=2.0, model="other") == 0
    assert "golden data not compared: it is of nano, not of other" in capsys.readouterr().out
    assert (plant.folder / "golden" / "one.json").read_bytes() == stored


def test_a_module_that_is_no_figure_is_refused(tmp_path):
    (tmp_path / "half.py").write_text("def data(lab): pass\n")
    message = r"half.py: a figure needs data\(lab\), claim\(ds\), controls\(ds\) and draw\(ds\)\n  got: no claim\n"
    with pytest.raises(InputError, match=message):
        figures.entries(tmp_path)


# verdicts ----------------------------------------


def test_a_claim_that_is_false_of_nano_stops_the_build_and_says_why(plant, capsys):
    plant.module("one")
    plant.module("two")
    assert plant.run("--update", scale=0.5) == 1
    out = capsys.readouterr().out
    assert "FALSE\n    the numbers do not carry the sentence" in out
    assert "largest <u>weight</u>: 0.5 > 0.9 (a <s>bound</s>) is false" in out
    assert not (plant.folder / "golden" / "one.json").exists()
    page, index = ((plant.folder / f"{name}.html").read_text() for name in ("one", "index"))
    assert 'class="fails">Does not hold</b>: 1 of 1 comparison false' in page
    assert "Not so here: one reaches 0.5" in page and "Not so here: two reaches 0.5" in index
    assert index.count(">does not hold</span>") == 2


def test_a_claim_that_is_false_of_another_model_is_shown_as_such_and_no_failure(plant, capsys):
    plant.module("one")
    assert plant.run(scale=0.5, model="other") == 0
    assert "is false" in capsys.readouterr().out
    assert "Not so here: one reaches 0.5" in (plant.folder / "one.html").read_text()


def test_a_control_that_refutes_nothing_stops_the_build(plant, capsys):
    plant.module("one", control=2)
    assert plant.run("--update") == 1
    assert "FALSE\n    the claim holds on its control too: all <q>zeros</q>" in capsys.readouterr().out
    assert not (plant.folder / "golden" / "one.json").exists()
    page = (plant.folder / "one.html").read_text()
    assert 'class="fails">Not shown</b>: the claim holds on its control too' in page


class Page(html.parser.HTMLParser):
    """Texts of a page by the tag that they stand in."""

    def __init__(self, text):
        super().__init__()
        self.open, self.texts = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        if tag not in ("meta", "br", "img", "link"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append((tuple(self.open[-3:]), data.strip()))


def test_a_page_shows_the_comparisons_here_and_under_each_control(plant):
    plant.module("one")
    plant.run()
    page = Page((plant.folder / "one.html").read_text())
    assert page.open == []
    cells = [text for place, text in page.texts if text and {"td", "th"} & set(place)]
    heads = ["What is compared", "Here", "Control: all <q>zeros</q>"]
    row = ["largest <u>weight</u>", "against a <s>bound</s>", "1 > 0.9", "true", "0 > 0.9", "false"]
    assert cells == heads + row
    facts = [text for place, text in page.texts if text and {"dt", "dd"} & set(place)]
    assert facts == ["Model", "nano", "Vocabulary", "none", "Sample", "3 <i>things</i>", "Interval", "none"]


# pages ----------------------------------------


def test_pages_are_offline_safe_and_repeatable(plant):
    plant.module("one", title="'1 is <b>largest</b>'")
    plant.module("two")
    plant.run("--update")
    pages = {path.name: path.read_bytes() for path in plant.folder.glob("*.html")}
    assert 'class="answer"' not in pages["two.html"].decode()  # the plot's title says it
    assert pages.keys() == {"one.html", "two.html", "index.html"}
    plant.run("--update")
    assert pages == {path.name: path.read_bytes() for path in plant.folder.glob("*.html")}
    for page in (pages["index.html"].decode(), pages["one.html"].decode()):
        assert re.search(r"https?://|src=\"//|@import|url\(", page) is None
        assert str(plant.folder) not in page
        assert page.count("<script") == page.count("</script>") == 4
        assert "\u2028" not in page
        assert re.search("<(b|i|u|s|q|em)>(something|things|weight|bound|zeros|no)<", page) is None
        assert "one asks &lt;b&gt;something&lt;/b&gt; &amp; more?" in page
        assert "one reaches 1 &amp; &lt;em&gt;no&lt;/em&gt; less" in page
        assert 'id="one"' in page
        assert '<html lang="en">' in page
        assert "prefers-color-scheme: dark" in page
        assert "default-src 'none'" in page
        assert '"showSendToCloud": false' in page
        assert '<footer class="facts">labkit ' in page
        assert page.count("<h1") == 1
        assert Page(page).open == []
    assert "Look at <code>weight</code>" in pages["one.html"].decode()
    assert (plant.folder / "plotly.min.js").stat().st_size > 1_000_000


def test_embedded_json_says_the_same():
    text = json.dumps({name: name for name in HOSTILE}, ensure_ascii=False)
    assert not set("<>&\u2028") & set(embed(text))
    assert json.loads(embed(text)) == json.loads(text)


def test_the_gallery_follows_the_probes_and_links_every_page(plant):
    plant.module("late", probe="yarn", number=1)
    plant.module("zebra", number=1)
    plant.module("ant", number=2)
    plant.module("mid", probe="attention", number=9)
    plant.run()
    index = (plant.folder / "index.html").read_text()
    order = ["zebra", "ant", "mid", "late"]
    assert re.findall(r'<li id="(\w+)"', index) == re.findall(r'<li [^>]*><a href="(\w+)\.html"', index) == order
    assert re.findall(r'<h2 id="(\w+)"', index) == ["states", "attention", "yarn"]  # an empty probe is left out
    assert re.findall(r'class="plot" id="([\w-]+)"', index) == ["zebra-plot"]
    assert index.index("zebra-plot") < index.index('<h2 id="states"')
    assert index.count("<svg") == index.count('aria-hidden="true"') == len(order)
    assert index.count(">holds</span> · 1 comparison, 1 control<") == len(order)
    for n, name in enumerate(order):
        page = (plant.folder / f"{name}.html").read_text()
        links = dict(re.findall(r'<a rel="(\w+)" href="(\w+)\.html"', page))
        around = {"prev": order[n - 1] if n else None, "next": order[n + 1] if n + 1 < len(order) else None}
        assert links == {rel: other for rel, other in around.items() if other}
        assert '<a href="index.html">' in page


def test_every_probe_has_its_sentence_and_the_longest_figures_exist():
    assert list(_gallery.SENTENCES) == list(figures.PROBES)
    assert set(LONGEST) <= {path.stem for path in figures.HERE.glob("*.py")}


# small pictures ----------------------------------------


def drawn(*traces, **layout):
    return _pictures.small(go.Figure(traces, layout=layout))


def test_a_small_picture_is_inert_and_small():
    picture = drawn(go.Heatmap(z=np.random.default_rng(0).normal(size=(300, 500)), name="<script>"))
    assert picture.startswith("<svg ") and picture.endswith("</svg>") and len(picture) < 12_000
    assert set(re.findall(r"<(\w+)", picture)) == {"svg", "rect", "g", "path"}
    assert Page(picture).texts == []


def test_a_small_map_keeps_its_rows_its_colours_and_its_holes():
    scale = [[0, "#000000"], [1, "#ffffff"]]
    z = [[0.0, 1.0, np.nan], [1.0, 1.0, 0.0]]
    upright = drawn(go.Heatmap(z=z, colorscale=scale), yaxis={"autorange": "reversed"})
    assert '<path fill="#000000" d="M0 0h1v1h-1zM2 1h1v1h-1z"/>' in upright
    assert '<path fill="#ffffff" d="M1 0h1v1h-1zM0 1h2v1h-2z"/>' in upright
    assert '<path fill="#000000" d="M2 0h1v1h-1zM0 1h1v1h-1z"/>' in drawn(go.Heatmap(z=z, colorscale=scale))
    spike = np.zeros((100, 100))
    spike[41, 7] = -3.0
    assert drawn(go.Heatmap(z=spike, zmin=-3, zmax=3)).count("<path") == 2  # thinning keeps what is largest


def test_small_lines_and_bars_go_where_the_numbers_say():
    line = drawn(go.Scatter(y=[0.0, 1.0, np.nan], line={"color": "#0072B2", "dash": "dot"}), yaxis={"range": [0, 1]})
    assert 'd="M4.0 100.0L84.0 4.0" fill="none" stroke="#0072B2"' in line and "stroke-dasharray" in line
    bars = drawn(go.Bar(x=["a", "b"], y=[1.0, 2.0]), go.Bar(x=["a", "b"], y=[3.0, 2.0]), barmode="stack")
    heights = [
        [float(n) for n in re.findall(r"M[\d.]+ ([\d.]+)V([\d.]+)", path)[0]] for path in bars.split("<path")[1:]
    ]
    assert heights == [[100.0, 76.0], [76.0, 4.0]]
    assert 'stroke="currentColor"' in drawn(go.Scatter(y=[1, 2], line={"color": "rgb(1,2,3)"}))
    assert "nan" not in drawn(go.Bar(x=["a"], y=[10.0]), yaxis={"type": "log", "range": [0, 2]})


# kept data ----------------------------------------

COUNTED = "with open(pathlib.Path({folder!r}) / (__name__ + '.log'), 'a') as f: f.write('x')"


@pytest.fixture
def counted(plant):
    """Plants figures that count how often they were computed; data is kept."""
    body = COUNTED.format(folder=str(plant.folder))
    plant.counts = lambda: {p.stem.partition(".")[2]: len(p.read_text()) for p in plant.folder.glob("*.log")}
    plant.counted = lambda name, more="", **place: plant.module(name, f"{body}\n    {more}", **place)
    plant.keep = lambda *words, kept="a", **options: plant.run(*words, kept=kept, **options)
    return plant


def test_what_did_not_change_is_not_computed_again(counted, capsys):
    counted.counted("one")
    counted.counted("two")
    assert counted.keep("--update") == 0
    pages = {path.name: path.read_bytes() for path in counted.folder.glob("*.html")}
    capsys.readouterr()
    assert counted.keep() == 0
    out = capsys.readouterr().out
    assert out.count("s   unchanged, not computed   largest change 0.0e+00") == 2
    assert "model" not in out  # nothing is loaded
    assert pages == {path.name: path.read_bytes() for path in counted.folder.glob("*.html")}
    assert counted.counts() == {"one": 1, "two": 1}
    assert counted.keep("--fresh") == 0
    assert counted.counts() == {"one": 2, "two": 2}


def test_another_lab_is_computed_and_nothing_is_kept_of_another_model(counted):
    counted.counted("one")
    counted.keep("--update")
    counted.keep(kept="b", scale=2.0)
    assert counted.counts() == {"one": 2}
    counted.run(model="other")
    counted.run(model="other")
    assert counted.counts() == {"one": 4}


def test_a_changed_module_is_computed_alone_with_those_that_name_it(counted):
    counted.counted("one")
    counted.counted("two", "source = 'one'")
    counted.counted("three")
    counted.keep("--update")
    counted.counted("one", "# a comment")
    counted.keep()
    assert counted.counts() == {"one": 2, "two": 2, "three": 1}


DAMAGE = {
    "a flipped digit": lambda text: text.replace("1.0", "1.5", 1),
    "cut short": lambda text: text[: len(text) // 2],
    "empty": lambda text: "",
    "no data": lambda text: text.partition("\n")[0],
    "something else": lambda text: "[]\n{}",
    "another digest": lambda text: ("0" if text[0] != "0" else "1") + text[1:],
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_data_is_computed_again(counted, damage):
    counted.counted("one")
    assert counted.keep("--update") == 0
    path = counted.folder / ".data" / "one.json"
    whole = path.read_text()
    path.write_text(DAMAGE[damage](whole))
    assert counted.keep() == 0
    assert counted.counts() == {"one": 2}
    assert path.read_text() == whole


def test_data_that_cannot_be_kept_is_drawn_and_the_reason_told(counted, capsys):
    counted.counted("one")
    (counted.folder / ".data").write_text("a file, not a folder")
    assert counted.keep("--update") == 0
    assert "not kept: data of a figure could not be kept" in capsys.readouterr().out
    assert (counted.folder / "one.html").exists()


@pytest.fixture
def library(tmp_path, monkeypatch):
    """A labkit to change: a folder with code and weights, taken for the real one."""
    for name, text in (("__init__.py", ""), ("deep/code.py", "x = 1"), ("nano/model.safetensors", "weights")):
        (tmp_path / "labkit" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "labkit" / name).write_text(text)
    import labkit

    monkeypatch.setattr(labkit, "__file__", str(tmp_path / "labkit" / "__init__.py"))
    return tmp_path / "labkit"


CAUSES = {
    "code of labkit": lambda library, patch: (library / "deep" / "code.py").write_text("x = 2"),
    "a new file of labkit": lambda library, patch: (library / "deep" / "more.py").write_text(""),
    "weights": lambda library, patch: (library / "nano" / "model.safetensors").write_text("other"),
    "a package": lambda library, patch: patch.setattr("importlib.metadata.distributions", list),
    "Python": lambda library, patch: patch.setattr("platform.python_version", lambda: "3.99.0"),
    "processor": lambda library, patch: patch.setattr("platform.machine", lambda: "abacus"),
    "what it can do": lambda library, patch: patch.setattr("torch.backends.cpu.get_cpu_capability", lambda: "none"),
    "a setting": lambda library, patch: patch.setenv("OMP_NUM_THREADS", "77"),
}


@pytest.mark.parametrize("cause", CAUSES)
def test_the_digest_changes_with_all_that_could_change_the_numbers(plant, library, monkeypatch, cause):
    plant.module("one")
    digest = lambda model="nano": _data.digests(plant.folder, ["one"], model)["one"]  # noqa: E731
    before = digest()
    (library / "__pycache__").mkdir()
    (library / "__pycache__" / "code.pyc").write_text("compiled")
    assert digest() == before != digest("another")
    CAUSES[cause](library, monkeypatch)
    assert digest() != before


@pytest.mark.parametrize(
    "text",
    [
        "from figures import two",
        "from figures.two import x",
        "import figures.two as t",
        "import figures\nfigures.two",
        "import importlib\nimportlib.import_module('figures.two')",
    ],
)
def test_a_figure_depends_on_the_modules_that_it_names(tmp_path, text):
    digest = lambda: _data.digests(tmp_path, ["one"], "nano")  # noqa: E731
    for name, source in (("one", text), ("two", "from figures.deep import x"), ("deep", "x = 1"), ("other", "x = 1")):
        (tmp_path / f"{name}.py").write_text(source)
    before = digest()
    (tmp_path / "other.py").write_text("x = 2")
    assert digest() == before
    (tmp_path / "deep.py").write_text("x = 2")
    assert digest() != before


# several processes ----------------------------------------


def plant_five(plant, body="pass"):
    for n, name in enumerate(("one", "two", "three", "four", "five")):
        plant.module(name, body, number=n)


def test_two_processes_give_the_same_pages_and_numbers_as_one(plant, capsys):
    plant_five(plant, f"pathlib.Path({str(plant.folder)!r}, __name__ + '.pid').write_text(str(os.getpid()))")
    assert plant.run("--update", scale=1.0 / 0.7) == 0
    pages = {path.name: path.read_bytes() for path in plant.folder.glob("*.html")}
    pids = lambda: [(plant.folder / f"figures.{name}.pid").read_text() for name in ("one", "two", "five")]  # noqa: E731
    assert set(pids()) == {str(os.getpid())}
    capsys.readouterr()
    assert plant.run(scale=1.0 / 0.7, workers=2) == 0
    assert capsys.readouterr().out.count("largest change 0.0e+00") == 5
    assert str(os.getpid()) not in pids()  # this process loads no lab of its own, which the first page would wait for
    assert pages == {path.name: path.read_bytes() for path in plant.folder.glob("*.html")}


def test_the_first_page_is_begun_first_then_the_longest_and_what_is_kept_is_drawn_here():
    names = ["opening", "kept", "short", LONGEST[1], "kept too", LONGEST[0]]
    job = types.SimpleNamespace(unchanged=lambda name: name.startswith("kept"))
    assert _shared_out(job, names, 2) == (["kept", "kept too"], ["opening", LONGEST[0], LONGEST[1], "short"])
    assert _shared_out(job, names, 1) == (names, [])
    assert _shared_out(job, names[:2], 2) == (names[:2], [])  # one figure needs no further process
    assert _shared_out(job, names[1:], 2) == (["kept", "kept too"], [LONGEST[0], LONGEST[1], "short"])


def test_results_are_there_while_this_process_draws(plant):
    """What others finished is handed on, and they get more, before everything kept is drawn."""
    plant_five(plant)
    job = _build.Job(
        plant.folder, plant.folder, functools.partial(types.SimpleNamespace, name="m", scale=1.0), {}, {}, ""
    )
    with _workers.started(job, ["one", "two", "three"], 1) as finished:
        seen, end = [], time.monotonic() + 120
        while len(seen) < 3:
            assert time.monotonic() < end
            seen += [result.name for result in finished(wait=False)]
            time.sleep(0.05)
    assert seen == ["one", "two", "three"] and list(finished(wait=False)) == []


@pytest.mark.skipif(not _workers.FORKED, reason="no process is forked here")
def test_what_is_imported_ahead_has_no_threads_that_a_fork_would_lose():
    count = "import os, sys, figures._ahead; print(len(os.listdir('/proc/self/task')), 'scipy.stats' in sys.modules)"
    root = str(pathlib.Path(figures.__file__).parent.parent)
    env = os.environ | {"PYTHONPATH": root, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", count], env=env, cwd=root, capture_output=True, text=True)
    assert done.stdout.split() == ["1", "True"], done.stderr


def test_kept_data_of_all_is_told_from_some(plant):
    plant_five(plant)
    assert not _data.all_there(plant.folder)
    plant.run(kept="a")
    assert _data.all_there(plant.folder)
    plant.module("six")
    assert not _data.all_there(plant.folder)


def test_a_process_that_dies_costs_one_figure(plant, capsys):
    plant_five(plant)
    plant.module("three", "os.kill(os.getpid(), 9)", number=2)
    assert plant.run("--update", workers=2) == 1
    out = capsys.readouterr().out
    assert re.search(r"three +0\.0 s   FAILED\n    its process ended: exit code -9", out)
    assert "4 figures in" in out and out.count("recorded for the first time") == 4


INTERRUPTED = """
import functools, signal, sys, types
from figures.__main__ import main
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell ignores it for what runs behind it
    load = functools.partial(types.SimpleNamespace, name="nano", scale=1.0)
    sys.exit(main(["--update"], folder=sys.argv[1], load=load, kept="a", workers=int(sys.argv[2])))
"""


@pytest.mark.parametrize("workers", [1, 2])
def test_an_interrupt_ends_cleanly_and_keeps_what_is_finished(counted, tmp_path_factory, workers):
    for n, name in enumerate(("one", "two", "three", "four")):
        counted.counted(name, "time.sleep(600)" if name in ("three", "four") else "pass", number=n)
    script = tmp_path_factory.mktemp("script") / "run.py"
    script.write_text(INTERRUPTED)
    root = str(pathlib.Path(figures.__file__).parent.parent)
    env = os.environ | {"PYTHONPATH": root}
    words = [sys.executable, str(script), str(counted.folder), str(workers)]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "start_new_session": True}
    with subprocess.Popen(words, env=env, **streams) as process:
        try:
            until(lambda: {"one", "three"} <= counted.counts().keys())
            until(lambda: (counted.folder / "golden" / "two.json").exists())  # after its page
            until(lambda: workers == 1 or "four" in counted.counts())
            os.killpg(process.pid, signal.SIGINT)
            out, err = process.communicate(timeout=60)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 130
    assert err == "interrupted: 2 figures are done and stay; the next run goes on from there\n"
    assert out.count("recorded for the first time") == 2
    assert {path.name for path in (counted.folder / ".data").iterdir()} == {"one.json", "two.json"}
    done = {path.name for path in counted.folder.glob("*.html")}
    assert done == {"one.html", "two.html"}
    for name in ("one", "two"):
        digest = _data.digests(counted.folder, [name], "a")[name]
        assert _data.known(counted.folder, name, digest)


def until(true, seconds=120):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_the_default_lab_can_be_made_in_another_process():
    assert _build.load.__module__ == "figures._build"
