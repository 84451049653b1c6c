"""Documentation: every link leads somewhere, the pages build without a warning, and open without a network."""

import importlib.util
import json
import pathlib
import re
import stat
import subprocess
import sys

import nbformat
import pytest
import yaml
from docutils.utils.math import latex2mathml

import labkit

ROOT = pathlib.Path(__file__).parent.parent
TEXTS = ["README.md", "CONTRIBUTING.md", "AGENTS.md", "CHANGELOG.md", "notebooks/README.md", "labkit/nano/README.md"]
NOTEBOOKS = sorted(ROOT.glob("notebooks/**/*.ipynb"))
LINK = re.compile(r"(?<!\\)\]\(([^)\s]+)\)")
CODE = re.compile(r"^```.*?^```|`[^`\n]*`", re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def build():
    """The module notebooks/docs/build.py."""
    place = importlib.util.spec_from_file_location("build", ROOT / "notebooks" / "docs" / "build.py")
    module = importlib.util.module_from_spec(place)
    place.loader.exec_module(module)
    yield module
    for folder in (str(ROOT / "notebooks" / "docs"), str(ROOT)):
        sys.path.remove(folder)


# links ----------------------------------------


def words(path):
    """The text of a page or of a notebook's cells, without its code."""
    if path.suffix == ".ipynb":
        cells = nbformat.read(path, 4).cells
        return "\n\n".join(CODE.sub("", cell.source) for cell in cells if cell.cell_type == "markdown")
    return CODE.sub("", path.read_text("utf-8"))


def anchors(path):
    """What a link into a page may name: its headings as GitHub spells them."""
    headings = re.findall(r"^#+ +(.+?)\s*$", words(path), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", [*(ROOT / name for name in TEXTS), *NOTEBOOKS], ids=lambda path: str(path.name))
def test_every_link_leads_somewhere(path):
    broken = []
    for link in LINK.findall(words(path)):
        if re.match(r"https?://[\w.-]+\.\w+(/|$)", link):
            continue
        file, _, anchor = link.partition("#")
        target = (path.parent / file).resolve() if file else path
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


def test_the_syllabus_names_every_notebook_with_its_minutes():
    text = (ROOT / "notebooks" / "README.md").read_text("utf-8")
    rows = dict(re.findall(r"^\| \[\w+\]\((\w+)\.ipynb\) \|.*?\| (\d+) \|", text, re.MULTILINE))
    told = {}
    for path in sorted(ROOT.glob("notebooks/*.ipynb")):
        found = re.search(r"\*\*Minutes\*\*: (\d+)", words(path))
        told[path.stem] = found and found[1]
    assert rows == told


def test_symbols_are_those_of_the_notation():
    rows = lambda text: [
        [cell.strip(" `") for cell in row.split("|")[1:-1]] for row in re.findall(r"^\|.*\|$", text, re.M)
    ]
    of = lambda cells: re.sub(r"[`\s]|\(key,value\)", "", "|".join(cells)).replace("–", "-")
    told = {of(row) for row in rows((ROOT / "notebooks" / "README.md").read_text("utf-8").partition("## Symbols")[2])}
    known = {of(row) for row in rows(labkit.notation.__doc__) if not row[0].startswith(("labkit", "--"))}
    assert len(known) > 9 and known <= told


# files for other places ----------------------------------------


def test_the_container_and_binder_install_what_make_installs():
    made = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text("utf-8"))
    assert made["postCreateCommand"].startswith("make env ") and "-c constraints.txt" in made["postCreateCommand"]
    assert made["hostRequirements"] == {"gpu": "optional"}
    after = ROOT / ".binder" / "postBuild"
    assert after.stat().st_mode & stat.S_IXUSR and "python .ci/install.py" in after.read_text("utf-8")
    python = (ROOT / ".binder" / "runtime.txt").read_text("utf-8").strip().replace("-", "=")
    assert python in yaml.safe_load((ROOT / "environment.yml").read_text("utf-8"))["dependencies"]


def test_the_citation_says_what_it_is_a_citation_of():
    made = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert {"cff-version", "message", "title", "authors", "version", "license"} <= set(made)
    assert (made["version"], made["license"]) == (labkit.__version__, "Apache-2.0")


def test_assistants_are_told_commands_and_files_that_exist():
    text = (ROOT / "AGENTS.md").read_text("utf-8")
    targets = re.findall(r"^([a-z]+):.*##", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    named = re.findall(r"^make (\w+)", text, re.MULTILINE)
    assert len(named) >= 5 and set(named) <= set(targets)
    files = re.findall(r"`((?:labkit|figures|tests|notebooks)/[\w/.]+)`", text)
    assert files and [name for name in files if not (ROOT / name).exists()] == []


# pages ----------------------------------------

TURNED = {
    "`a` and `b`s": "``a`` and ``b``\\ s",
    "S ← S - k(kᵀS) *where* |x|": "S ← S - k(kᵀS) \\*where\\* \\|x\\|",
    "``there`` already": "``there`` already",
    "`over\n    two lines` it goes": "``over two lines`` it goes",
}


@pytest.mark.parametrize("text", TURNED)
def test_docstrings_are_turned_into_what_sphinx_reads(text, build):
    assert build.docstrings.marked(text) == TURNED[text]


def test_an_indented_example_is_code_and_arguments_are_not(build):
    lines = ["Do this:", "", "    a * b | c", "", "Args:", "    x: one", "", "    y: two"]
    assert build.docstrings.examples(lines) == [
        *("Do this:", "", "::", "", "    a * b | c", "", "Args:", "    x: one", "", "    y: two"),
    ]


def test_a_link_leads_to_a_page_or_names_its_file(build):
    path = ROOT / "notebooks" / "solutions" / "01_remember.ipynb"
    places = {path.resolve(): "notebooks/01_remember", (ROOT / "notebooks" / "README.md").resolve(): "course"}
    turn = lambda text: build.relinked(text, path, "notebooks/00", places)
    assert turn("[seam](../README.md#seam)") == "[seam](../course.md#seam)"
    assert turn("[next](01_remember.ipynb)") == "[next](../notebooks/01_remember.ipynb)"
    assert turn("[the figure](../../figures/distances.py)") == "the figure (`figures/distances.py`)"
    assert turn("[`distances.py`](../../figures/distances.py)") == "`figures/distances.py`"
    assert turn("[paper](https://arxiv.org/abs/1)") == "[paper](https://arxiv.org/abs/1)"


def test_every_formula_of_a_notebook_can_be_drawn():
    formulas = [f for path in NOTEBOOKS for f in re.findall(r"(?<![\\$])\$([^$\n]+)\$", words(path))]
    assert len(formulas) > 20
    for formula in formulas:
        assert "<math" in latex2mathml.tex2mathml(formula)


def test_a_repository_adds_the_links_that_open_a_notebook_elsewhere(build):
    text = build.opened("01_remember.ipynb", "someone/labkit", "v1")
    assert "https://mybinder.org/v2/gh/someone/labkit/v1?labpath=notebooks%2F01_remember.ipynb" in text
    assert "https://colab.research.google.com/github/someone/labkit/blob/v1/notebooks/01_remember.ipynb" in text
    assert "git+https://github.com/someone/labkit@v1" in text


@pytest.mark.browser
def test_the_pages_build_and_open_from_disk(tmp_path, page):
    command = [sys.executable, str(ROOT / "notebooks" / "docs" / "build.py"), "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    home = tmp_path / "html"
    page.goto((home / "notebooks" / "01_remember.html").as_uri())
    page.wait_for_function("() => document.querySelectorAll('.plot .main-svg').length > 0")
    places, drawn = (
        page.evaluate(f"() => document.querySelectorAll('{one}').length")
        for one in (".plot", ".plot svg.main-svg:first-of-type")
    )
    assert drawn >= places > 1
    assert page.evaluate("() => document.querySelectorAll('math').length") > 3
    assert page.evaluate("() => document.body.innerText.includes('$')") is False
    page.goto((home / "search.html").as_uri() + "?q=half_life")
    page.wait_for_function("() => document.querySelectorAll('#search-results li a').length > 0")
    page.goto((home / "api" / "deltanet.html").as_uri())
    assert page.evaluate("() => document.querySelectorAll('dl.py').length") > 20
    page.goto((home / "course.html").as_uri() + "#seam")
    assert page.evaluate("() => !!document.getElementById('seam')")
    assert [url for url in page.asked if not url.startswith(("file:", "data:", "blob:"))] == []
    assert page.complaints == []
