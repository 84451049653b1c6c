"""Build the pages of documentation from docstrings, executed notebooks and the texts of the checkout.

    python notebooks/docs/build.py [--out build/docs] [--repository OWNER/NAME] [--ref main]

The pages lie in OUT/html and open from disk, with search and figures, without a network. A repository adds to every
notebook the links that open it on Binder and Colab. Building runs no notebook; a warning of Sphinx is a failure.
"""

import argparse
import inspect
import json
import pathlib
import re
import shutil
import sys
import types

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path[:0] = [str(ROOT), str(HERE)]

import docstrings  # noqa: E402
import nbformat  # noqa: E402

import labkit  # noqa: E402
from labkit.draw.pages import embed  # noqa: E402

PLOTLY = "application/vnd.plotly.v1+json"
LINK = re.compile(r"(?<!!)\[([^\]\[]*)\]\((?!\w+:|#|/)([^)\s#]*)(#[^)\s]*)?\)")
INSTALL = "%pip install -q 'labkit-hybrid @ git+https://github.com/{repository}@{ref}'"


def main(arguments=None):
    """Gather the sources and run Sphinx; returns its status."""
    parser = argparse.ArgumentParser(description="Build the documentation.")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "build" / "docs", help="default: build/docs")
    parser.add_argument("--repository", metavar="OWNER/NAME", help="on GitHub: adds links to Binder and Colab")
    parser.add_argument("--ref", default="main", help="branch or tag of the repository; default: main")
    options = parser.parse_args(arguments)
    source = options.out / "source"
    shutil.rmtree(source, ignore_errors=True)
    gather(source, options.repository, options.ref)
    from sphinx.cmd.build import main as sphinx

    styled = ["-D", f"html_static_path={source / '_static'}"]
    words = [*styled, "-b", "html", "-W", "--keep-going", "-q", "-c", str(HERE), "-d", str(options.out / "doctrees")]
    status = sphinx([*words, str(source), str(options.out / "html")])
    if status == 0:
        print(f"{options.out / 'html' / 'index.html'}")
    return status


def gather(source, repository=None, ref="main"):
    """Write everything that Sphinx reads into one folder."""
    (source / "api").mkdir(parents=True)
    (source / "notebooks").mkdir()
    static(source / "_static")
    notebooks = sorted((ROOT / "notebooks" / "solutions").glob("*.ipynb"))
    places = {path.resolve(): f"notebooks/{path.stem}" for path in notebooks}
    texts = {ROOT / "notebooks" / "README.md": "course", ROOT / "labkit" / "nano" / "README.md": "nano"}
    texts |= {ROOT / "CONTRIBUTING.md": "contributing", ROOT / "CHANGELOG.md": "changelog"}
    places |= {path.resolve(): name for path, name in texts.items() if path.exists()}
    # The reader's notebooks are linked from the course; here they lead to the executed ones.
    places |= {(ROOT / "notebooks" / path.name).resolve(): f"notebooks/{path.stem}" for path in notebooks}
    for path, name in texts.items():
        if path.exists():
            words = relinked(path.read_text("utf-8"), path, name, places)
            (source / f"{name}.md").write_text(words, "utf-8")
    for path in notebooks:
        made = drawn(nbformat.read(path, 4), path.stem)
        for cell in made.cells:
            if cell.cell_type == "markdown":
                cell.source = relinked(cell.source, path, f"notebooks/{path.stem}", places)
        if repository:
            made.cells.insert(1, nbformat.v4.new_markdown_cell(opened(path.name, repository, ref)))
        nbformat.write(made, source / "notebooks" / path.name)
    names = [name for name in labkit.__all__ if isinstance(getattr(labkit, name), types.ModuleType)]
    for name in names:
        (source / "api" / f"{name}.md").write_text(api(f"labkit.{name}", getattr(labkit, name)), "utf-8")
    (source / "api" / "labkit.md").write_text(api("labkit", labkit), "utf-8")
    listed = [place.rpartition("/")[2] for place in places.values() if place.startswith("notebooks/")]
    index = (HERE / "index.md").read_text("utf-8")
    index = index.replace("NOTEBOOKS", "\n".join(f"notebooks/{name}" for name in sorted(set(listed))))
    (source / "index.md").write_text(index.replace("MODULES", "\n".join(f"api/{name}" for name in ["labkit", *names])))


def static(folder):
    """Style, plotly.js and the lines that draw a page's figures."""
    from plotly.offline import get_plotlyjs

    folder.mkdir()
    (folder / "plotly.min.js").write_text(get_plotlyjs(), "utf-8")
    for name in ("labkit.css", "figures.js"):
        shutil.copy(HERE / name, folder / name)


def drawn(notebook, stem):
    """A notebook whose figures are HTML: a place, and their JSON, which the page's script draws."""
    count = 0
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if PLOTLY in data:
                count += 1
                figure = json.dumps(data.pop(PLOTLY), separators=(",", ":"))
                height = json.loads(figure).get("layout", {}).get("height", 450)
                label = f"figure {count}"
                data["text/html"] = (
                    f'<div class="plot" role="group" aria-label="{label}" style="height:{int(height)}px"></div>'
                    f'<script type="application/json" class="plot-json">{embed(figure)}</script>'
                )
                data.pop("text/plain", None)
    return notebook


def relinked(text, path, name, places):
    """A text whose links to files of the checkout lead to their pages; a file that has none is named."""

    def link(found):
        words, target = found[1], (path.parent / found[2]).resolve() if found[2] else path.resolve()
        if target in places:
            suffix = ".ipynb" if places[target].startswith("notebooks/") else ".md"
            return f"[{words}]({'../' * name.count('/')}{places[target]}{suffix}{found[3] or ''})"
        file = found[2].replace("../", "")
        return f"`{file}`" if words.strip("`") in file else f"{words} (`{file}`)"

    return LINK.sub(link, text)


def opened(name, repository, ref):
    """Links that open a reader's notebook elsewhere."""
    binder = f"https://mybinder.org/v2/gh/{repository}/{ref}?labpath=notebooks%2F{name}"
    colab = f"https://colab.research.google.com/github/{repository}/blob/{ref}/notebooks/{name}"
    first = INSTALL.format(repository=repository, ref=ref)
    return f"[Open on Binder]({binder}) · [Open on Colab]({colab}) (there run first: `{first}`)"


def api(name, module):
    """A page of a module: what it says of itself, then everything that it offers."""
    lines = [f"# {name}", "", "```{eval-rst}", f".. automodule:: {name}", "```", ""]
    for entry in getattr(module, "__all__", None) or _own(module):
        value = getattr(module, entry)
        if isinstance(value, types.ModuleType):
            continue
        lines += ["```{eval-rst}"]
        if inspect.isclass(value) or callable(value):
            kind = "class" if inspect.isclass(value) else "function"
            lines += [f".. auto{kind}:: {name}.{entry}", "   :members:" if kind == "class" else ""]
            elsewhere = not f"{value.__module__}.".startswith(f"{name}.")  # there it has its entry
            lines += ["   :no-index:"] if name == "labkit" or elsewhere else []
        else:
            lines += [f".. py:data:: {name}.{entry}", "", f"   {said(module, entry)}"]
        lines += ["```", ""]
    return "\n".join(lines)


def said(module, entry):
    """The comment beside a constant where it is set, or what kind of thing it is."""
    folder = pathlib.Path(module.__file__)
    files = folder.parent.rglob("*.py") if folder.name == "__init__.py" else [folder]
    for path in files:
        found = re.search(rf"^{entry}\b[^#\n]*=[^#\n]*#\s*(.+)$", path.read_text("utf-8"), re.MULTILINE)
        if found:
            return docstrings.marked(found[1])
    return f"A {type(getattr(module, entry)).__name__}."


def _own(module):
    """Public names that a module defines itself."""
    values = vars(module).items()
    return [name for name, value in values if not name.startswith("_") and _home(value) == module.__name__]


def _home(value):
    return getattr(value, "__module__", None) if inspect.isclass(value) or callable(value) else None


if __name__ == "__main__":
    sys.exit(main())
