"""Run the notebooks in order and store them in the one form that is committed.

    python .ci/finish_notebooks.py [--check] [--graded FOLDER] [NOTEBOOK ...]

Each notebook runs from top to bottom in a fresh kernel. Stored are sources, outputs and execution counts;
widget state, times and the kernel's details are left out and cell ids are counted, so that running this
again changes no byte when nothing changed. A notebook that raised or wrote to stderr is not stored.
The source of a notebook is the solved one, in notebooks/solutions; the reader's, in notebooks, is made from it.
`--check` runs nothing and names the notebooks that are not in that form. `--graded FOLDER` runs nothing and writes the
versions for nbgrader into FOLDER (source/NAME/NAME.ipynb, as `nbgrader generate_assignment NAME` reads them).
"""

import argparse
import os
import pathlib
import re
import sys
import time

import nbformat

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import versions  # noqa: E402

FOLDER = pathlib.Path(__file__).parent.parent / "notebooks" / "solutions"
KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
WIDGET = "application/vnd.jupyter.widget-view+json"
UID = re.compile(r"(?<='uid': ')[0-9a-f-]+")
CELL_METADATA = ("tags",)
TIMEOUT = 600


def main(arguments=None):
    """Run the command; returns the exit status: 1 if a notebook failed or is not finished."""
    parser = argparse.ArgumentParser(description="Execute and clean the notebooks.")
    parser.add_argument("--check", action="store_true", help="run nothing; name unfinished notebooks")
    parser.add_argument("--graded", metavar="FOLDER", type=pathlib.Path, help="write the versions for nbgrader")
    parser.add_argument("notebooks", nargs="*", type=pathlib.Path, help="default: notebooks/solutions, in order")
    options = parser.parse_args(arguments)
    status = 0
    for path in options.notebooks or sorted(FOLDER.glob("*.ipynb")):
        if options.graded:
            good, verdict = grade(path, options.graded)
        else:
            good, verdict = check(path) if options.check else finish(path)
        status |= not good
        print(f"{path.name:<32} {verdict}", flush=True)
    return int(status)


def finish(path):
    """Execute and store one notebook; (good, one line). A failed one stays as it was."""
    before, begin = path.read_text(encoding="utf-8"), time.perf_counter()
    notebook = execute(nbformat.reads(before, 4), path.parent)
    seconds = f"{time.perf_counter() - begin:5.1f} s"
    if reasons := troubles(notebook):
        return False, f"{seconds}   NOT STORED\n    " + "\n    ".join(reasons)
    after = text(clean(notebook))
    for place, words in readers(path, notebook).items():
        place.write_text(words, encoding="utf-8")
    if after == before:
        return True, f"{seconds}   unchanged"
    path.write_text(after, encoding="utf-8")
    return True, f"{seconds}   stored, {len(after.encode()) / 1000:.0f} KB"


def check(path):
    """(good, one line): whether a notebook is executed, in order, and stored in the clean form."""
    stored = path.read_text(encoding="utf-8")
    notebook = nbformat.reads(stored, 4)
    counts = [cell.execution_count for cell in notebook.cells if cell.cell_type == "code"]
    reasons = troubles(notebook)
    if counts != list(range(1, len(counts) + 1)):
        reasons.append(f"execution counts are {counts}")
    if text(clean(notebook)) != stored:
        reasons.append("not in the stored form")
    for place, words in readers(path, notebook).items():
        if not place.exists() or place.read_text(encoding="utf-8") != words:
            reasons.append("the reader's version is another")
    return not reasons, "; ".join(["NOT FINISHED", *reasons]) if reasons else "finished"


def readers(path, notebook):
    """{place: text} of the reader's version of a notebook in a folder `solutions`; of any other there is none."""
    return {path.parent.parent / path.name: text(versions.student(notebook))} if path.parent.name == "solutions" else {}


def grade(path, folder):
    """(True, one line): writes the version for nbgrader."""
    place = folder / "source" / path.stem / path.name
    place.parent.mkdir(parents=True, exist_ok=True)
    notebook = versions.graded(clean(nbformat.read(path, 4)))
    place.write_text(text(notebook), encoding="utf-8")
    count = sum("points" in cell.metadata.get("nbgrader", {}) for cell in notebook.cells)
    return True, f"{count} graded exercises in {place}"


def execute(notebook, folder):
    """Run all cells in a fresh `python3` kernel; goes on after an error, so that all are reported."""
    import nbclient

    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    place = {"metadata": {"path": str(folder)}}
    options = dict(timeout=TIMEOUT, kernel_name="python3", resources=place, allow_errors=True)
    return nbclient.NotebookClient(notebook, **options).execute()


def troubles(notebook):
    """Why a notebook must not be stored: errors and text on stderr, one line each."""
    lines = []
    for number, cell in enumerate(notebook.cells):
        for output in cell.get("outputs", []):
            if output.output_type == "error":
                lines.append(f"cell {number}: {output.ename}: {output.evalue}")
            elif output.get("name") == "stderr":
                lines.append(f"cell {number} wrote to stderr: {output.text.strip()[:200]}")
    return lines


def clean(notebook):
    """The form that is committed (changes the notebook it is given)."""
    notebook.metadata = nbformat.from_dict({"kernelspec": KERNEL, "language_info": {"name": "python"}})
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number:02d}"
        kept = {key: cell.metadata[key] for key in CELL_METADATA if key in cell.metadata}
        cell.metadata = nbformat.from_dict(kept)
        if cell.cell_type == "code":
            cell.outputs = _joined([output for output in map(_bare, cell.outputs) if output])
    return notebook


def text(notebook):
    """The bytes of a notebook's file as text."""
    return nbformat.writes(notebook) + "\n"


def _bare(output):
    """An output without its live widget; None if nothing else was in it."""
    if "data" not in output:
        return output
    if output.data.pop(WIDGET, None) and "text/plain" in output.data:
        output.data["text/plain"] = UID.sub("any", output.data["text/plain"])
    output.metadata = nbformat.from_dict({})
    return output if output.data else None


def _joined(outputs):
    """Streams arrive in pieces that depend on timing: one output for each run of the same name."""
    joined = []
    for output in outputs:
        if joined and output.output_type == "stream" and output.name == joined[-1].get("name"):
            joined[-1].text += output.text
        else:
            joined.append(output)
    return joined


if __name__ == "__main__":
    os.environ["OMP_NUM_THREADS"] = "1"
    sys.exit(main())
