"""Claims of stored notebooks: printed with the numbers that carry them and with a control that does not.

What a cell shows is read back and every comparison is made again from the printed numbers, so that a sentence whose
numbers say the opposite cannot lie in the folder, whoever stored it.
"""

import ast
import copy
import dataclasses
import math
import operator
import pathlib
import re

import nbformat
import pytest

from labkit.claims import HOLDING, SIGNS, Part, proven

NOTEBOOKS = sorted((pathlib.Path(__file__).parent.parent / "notebooks" / "solutions").glob("*.ipynb"))
LITERATURE = "## Beside the literature"
NUMBER = r"-?\d[\d,]*(?:\.\d+)?(?:e[+-]\d+)?|no number|infinite"
COMPARED = re.compile(
    rf"  (?P<what>.+): (?P<got>{NUMBER})(?: \[(?P<low>{NUMBER}) to (?P<high>{NUMBER})\])?"
    rf" (?P<sign>[>≥<≤=∋]) (?P<than>{NUMBER})(?: \((?P<against>.*)\))?(?P<false> is false)?"
)
CONTROL = re.compile(r"control, (?P<name>.+): does not hold")
BOOLEAN = re.compile(r"(?:[^:]*: *)?[\s\[\](){},]*(?:(?:True|False)[\s\[\](){},]*)+")
DRESS = re.compile(r"\b(?:np|numpy|torch|tensor|array|dtype=(?:torch\.)?bool)\b\.?|(?<=True)_|(?<=False)_")
NOTHING = re.compile(
    r"\b(?:arXiv:? ?)?\d{4}\.\d{4,5}\b|\b(?:sections?|tables?|figures?|eq\.|appendix) [A-Z]?[\d.]*", re.I
)
SOURCE = re.compile(r"\b\d{4}\.\d{4,5}\b|https?://|[\w-]+/[\w.-]+ issue \d+")  # a paper, a page, an issue
VERDICT = re.compile(r"\b(?:agrees?|disagrees?|cannot tell)\b", re.I)
EXACT = {**SIGNS, "=": operator.eq}
OTHER = {">": "<", "<": ">", "≥": "<", "≤": ">"}

every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=[path.name for path in NOTEBOOKS])


@every_notebook
def test_what_a_notebook_claims_is_carried_by_the_numbers_it_prints(path):
    assert faults(nbformat.read(path, 4)) == []


@dataclasses.dataclass
class Shown:
    """A claim as a cell shows it: its sentence, its lines, and the lines of each control."""

    sentence: str
    parts: list[str]
    controls: dict[str, list[str]]


def faults(notebook):
    """What is wrong with the claims of a stored notebook, one line each."""
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    wrong, blocks, before = [], [], []
    for number, cell in enumerate(code, 1):
        shown = [block for text in texts(cell) for block in claims(text)]
        wrong += [f"cell {number}: {line}" for line in cell_faults(cell, shown, before)]
        blocks, before = blocks + shown, before + compared(cell.source)
    wrong += [] if blocks else ["claims nothing"]
    wrong += [] if any(block.controls for block in blocks) else ["has no control"]
    return wrong + literature_faults(notebook)


def cell_faults(cell, shown, before):
    """What is wrong with one code cell, of which these claims are shown."""
    wrong = [f"shows {line.strip()!r} alone" for text in texts(cell) for line in text.splitlines() if boolean(line)]
    calls = made(cell.source)
    wrong += [f"{calls} claims and {len(shown)} shown"] if calls > len(shown) else []
    ignored = "NBVAL" in cell.source or any("nbval" in tag for tag in cell.metadata.get("tags", []))
    wrong += ["a claim that is not compared"] if calls and ignored else []
    for block in shown:
        wrong += [] if block.parts else [f"no number carries {block.sentence!r}"]
        wrong += [line for part in block.parts for line in part_faults(part, True)]
        for name, parts in block.controls.items():
            wrong += [] if parts else [f"nothing fails on the control {name!r}"]
            wrong += [line for part in parts for line in part_faults(part, False)]
            wrong += [f"the control {name!r} compares a number with itself"] if parts and all(map(tied, parts)) else []
        every = [*block.parts, *(part for parts in block.controls.values() for part in parts)]
        wrong += [line for part in every for line in source_faults(part, compared(cell.source) or before, before)]
    return wrong


def part_faults(line, holds):
    """What is wrong with a printed comparison that ought to hold, or not to."""
    found = COMPARED.fullmatch(line)
    if found is None:
        return [f"no comparison: {line.strip()!r}"]
    wrong = [] if reads(found) == holds else [f"{'not so' if holds else 'so after all'}: {line.strip()!r}"]
    return wrong + ([] if bool(found["false"]) != holds else [f"is told to be {'false' if holds else 'true'}: {line}"])


def tied(line):
    """Whether a comparison fails since a number is put in its own place: such a control fails whatever is so."""
    found = COMPARED.fullmatch(line)
    return bool(found) and found["got"] == found["than"] and value(found["got"]) != 0


def source_faults(line, here, before):
    """Whether the source compares so: the signs of the calls of `Part` that name what is printed."""
    found = COMPARED.fullmatch(line)
    for calls in (here, before):
        named = [(pattern, sign) for pattern, sign in calls if found and re.fullmatch(pattern, found["what"])]
        if named:
            nearest = max(len(pattern) for pattern, _ in named)
            signs = {sign for pattern, sign in named if len(pattern) == nearest}
            return [] if signs & {None, found["sign"]} else [f"the source compares otherwise: {line.strip()!r}"]
    return [f"of no call of Part: {line.strip()!r}"] if found else []


def reads(found):
    """Whether a comparison is true of the numbers as they stand there."""
    names = ("got", "low", "high", "than")
    got, low, high, than = (None if found[name] is None else value(found[name]) for name in names)
    ends = [end for end in (low, high) if end is not None]
    if any(not math.isfinite(one) for one in (got, than, *ends)):
        return False
    if found["sign"] == "∋":
        return bool(ends) and low <= than <= high
    return all(EXACT[found["sign"]](one, than) for one in (got, *ends))


def value(text):
    """A number as it is printed; NaN for what is none."""
    return float(text.replace(",", "")) if text[-1].isdigit() else math.nan


def claims(text):
    """The claims in what a cell printed, in order."""
    found, lines = [], None
    for line in text.splitlines():
        if line.startswith("holds: "):
            found.append(Shown(line.removeprefix("holds: "), lines := [], {}))
        elif found and (control := CONTROL.fullmatch(line)):
            lines = found[-1].controls.setdefault(control["name"], [])
        elif lines is not None and line.startswith("  "):
            lines.append(line)
        else:
            lines = None
    return found


def texts(cell):
    """Plain text that a code cell shows, output by output."""
    for output in cell.outputs:
        yield output.get("text", "") or output.get("data", {}).get("text/plain", "")


def boolean(line):
    """Whether a line says True or False and nothing else, in brackets or behind a label."""
    return bool(BOOLEAN.fullmatch(DRESS.sub("", line)))


def parsed(source):
    plain = "\n".join("pass" if line.startswith(("%", "!")) else line for line in source.splitlines())
    return ast.parse(plain)


def called(node, name):
    return isinstance(node, ast.Call) and name in (getattr(node.func, "id", None), getattr(node.func, "attr", None))


def made(source):
    """How many claims a cell makes, those inside of its functions apart."""
    tree = parsed(source)
    inner = {id(n) for f in ast.walk(tree) if isinstance(f, ast.FunctionDef | ast.Lambda) for n in ast.walk(f)}
    return sum(called(node, "proven") and id(node) not in inner for node in ast.walk(tree))


def compared(source):
    """(pattern of what is compared, sign) of calls of `Part`, or of a function of the notebook's own that makes one.

    The sign is None if it is no literal of a call of `Part`.
    """
    found = []
    for call in (node for node in ast.walk(parsed(source)) if isinstance(node, ast.Call)):
        sign = literal(argument(call, 2, "sign")) if argument(call, 2, "sign") else None
        if called(call, "Part") or sign in (*SIGNS, HOLDING):
            found.append((pattern(argument(call, 0, "what")), sign))
    return found


def argument(call, place, name):
    given = {keyword.arg: keyword.value for keyword in call.keywords}
    return call.args[place] if place < len(call.args) else given.get(name)


def literal(node):
    return node.value if isinstance(node, ast.Constant) else None


def pattern(node):
    """A regular expression for a string of the source; anything stands where it is computed."""
    if isinstance(node, ast.Constant):
        return re.escape(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(re.escape(one.value) if isinstance(one, ast.Constant) else ".*" for one in node.values)
    return ".*"


def literature_faults(notebook):
    """What the section beside the literature lacks: a source, a published number, nano's number, a verdict."""
    words, own, inside = "", [], False
    for cell in notebook.cells:
        if cell.cell_type == "code":
            own += texts(cell) if inside else []
            continue
        for piece in re.split(r"^(?=## )", cell.source, flags=re.M):
            inside = piece.startswith(LITERATURE) if piece.startswith("## ") else inside
            words += piece if inside else ""
    if not words:
        return [f"no section {LITERATURE!r}"]
    lacks = [] if SOURCE.search(words) else ["a public source"]
    lacks += [] if re.search(r"\d", NOTHING.sub("", words)) else ["a published number"]
    lacks += [] if any(re.search(r"\d", text) for text in own) else ["a number computed here"]
    lacks += [] if VERDICT.search(words) else ["agree, disagree or cannot tell"]
    return [f"{LITERATURE!r} lacks {', '.join(lacks)}"] if lacks else []


# the walk finds what it is for ----------------------------------------

FALSE = 'proven("six is more", Part("six", 6, ">", 5, "five"), controls={"four": [Part("four", 4, ">", 5)]})'
SECTION = f"{LITERATURE}\n\nTable 2 of arXiv 2412.06464 has 98.4 there. They agree."


def shown(source, text, count=1, **metadata):
    output = nbformat.v4.new_output("stream", name="stdout", text=text)
    return nbformat.v4.new_code_cell(source, outputs=[output], execution_count=count, metadata=metadata)


def book():
    """A notebook with one claim, one control and the section."""
    text = repr(eval(FALSE, {"proven": proven, "Part": Part}))
    cells = [shown(FALSE, text), nbformat.v4.new_markdown_cell(SECTION), shown("print(97.1)", "97.1", count=2)]
    return nbformat.v4.new_notebook(cells=cells)


def output(notebook, old, new):
    stored = notebook.cells[0].outputs[0]
    assert old in stored.text
    stored.text = stored.text.replace(old, new)


def words(notebook, old, new):
    assert old in notebook.cells[1].source
    notebook.cells[1].source = notebook.cells[1].source.replace(old, new)


FAULTS = {
    "cell 1: not so: 'six: 6 < 5": lambda nb: output(nb, "6 > 5", "6 < 5"),
    "cell 1: not so: 'six: 4 > 5": lambda nb: output(nb, "6 > 5", "4 > 5"),
    "cell 1: the source compares otherwise": lambda nb: nb.cells[0].update(source=FALSE.replace('6, ">"', '6, "<"')),
    "cell 1: of no call of Part": lambda nb: nb.cells[0].update(source=FALSE.replace('"six"', '"seven"')),
    "cell 1: so after all: 'four: 6 > 5": lambda nb: output(nb, "four: 4", "four: 6"),
    "cell 1: is told to be false": lambda nb: output(nb, "(five)", "(five) is false"),
    "cell 1: is told to be true": lambda nb: output(nb, " is false", ""),
    "cell 1: no comparison": lambda nb: output(nb, "6 > 5 (five)", "more"),
    "cell 1: no number carries": lambda nb: output(nb, "  six: 6 > 5 (five)\n", ""),
    "cell 1: the control 'four' compares a number with itself": lambda nb: output(nb, "four: 4", "four: 5"),
    "cell 1: nothing fails on the control": lambda nb: output(nb, "\n  four: 4 > 5 is false", ""),
    "cell 1: 1 claims and 0 shown": lambda nb: nb.cells[0].update(outputs=[]),
    "cell 1: a claim that is not compared": lambda nb: nb.cells[0].metadata.update(tags=["nbval-ignore-output"]),
    "cell 2: shows 'True' alone": lambda nb: nb.cells[2].outputs[0].update(text="True"),
    "claims nothing": lambda nb: nb.cells.pop(0),
    "has no control": lambda nb: output(nb, "control, four: does not hold\n  four: 4 > 5 is false", ""),
    "no section": lambda nb: nb.cells.pop(1),
    f"{LITERATURE!r} lacks a public source": lambda nb: words(nb, "arXiv 2412.06464", "a paper"),
    f"{LITERATURE!r} lacks a published number": lambda nb: words(nb, "98.4", "it"),
    f"{LITERATURE!r} lacks a number computed here": lambda nb: nb.cells.pop(2),
    f"{LITERATURE!r} lacks agree": lambda nb: words(nb, "They agree.", "See there."),
    f"{LITERATURE!r} lacks a number computed here, agree": lambda nb: words(
        nb, "They agree.", "\n\n## What we saw\n\nThey agree."
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found(fault):
    notebook = book()
    assert faults(notebook) == []
    FAULTS[fault](notebook)
    assert any(line.startswith(fault) for line in faults(notebook)), faults(notebook)


ALONE = ["True", "False", "[True, False]", "(True,)", "tensor(True)", "tensor([True, False])", "np.True_", "True True"]
ALONE += ["array([ True, False])", "the two agree: True", "and with yours: False"]
BESIDE = ["holds: True names are kept", "True of 3 heads", "3 > 2", "", "[]", "images=True", "nothing is True here"]


def test_a_bare_boolean_is_known_in_any_dress():
    assert [line for line in ALONE if not boolean(line)] == []
    assert [line for line in BESIDE if boolean(line)] == []


def test_what_claims_print_is_read_back():
    parts = [
        Part("a: b", 1234567.0, ">", 1.5e-7, "the least"),
        Part("of 3 heads [all]", -0.25, "<", 0.0, interval=(-0.5, -0.125)),
        Part("no difference", 0.5, "∋", 0.0, interval=(-1, 2)),
        Part("exact", 12, "=", 12),
        Part("close", 0.99996, "<", 1.0),
    ]
    controls = {"one, two": [Part("a", math.nan, ">", 1)], "three": [Part("b", 1, "∋", 0.0, interval=(0.5, 2))]}
    (block,) = claims(f"before\n{proven('so it is', *parts, controls=controls)}\nafter\n  indented")
    assert (block.sentence, len(block.parts), list(block.controls)) == ("so it is", len(parts), list(controls))
    assert [line for part in block.parts for line in part_faults(part, True)] == []
    assert [line for lines in block.controls.values() for line in lines if part_faults(line, False)] == []
    found = [COMPARED.fullmatch(part) for part in block.parts]
    assert [(one["what"], one["sign"], one["against"]) for one in found] == [
        (part.what, part.sign, part.against or None) for part in parts
    ]


def flips():
    """(name, notebook, cell, line) of three comparisons of the folder, from three notebooks where there are."""
    found = {}
    for path in NOTEBOOKS:
        notebook = nbformat.read(path, 4)
        for place, cell in enumerate(notebook.cells):
            lines = [line for text in (texts(cell) if cell.cell_type == "code" else ()) for line in text.splitlines()]
            signed = [line for line in lines if (one := COMPARED.fullmatch(line)) and one["sign"] in OTHER]
            if signed:
                found.setdefault(path.stem, (notebook, place, signed[0]))
    return [(name, *found[name]) for name in sorted(found)[:3]]


def test_a_flipped_sign_of_the_folder_is_found_in_output_and_source():
    flipped = flips()
    assert len(flipped) == min(3, len(NOTEBOOKS))
    for name, notebook, place, line in flipped:
        sign = COMPARED.fullmatch(line)["sign"]
        known, wrong = faults(notebook), copy.deepcopy(notebook)
        for one in wrong.cells[place].outputs:
            swap = line.replace(f" {sign} ", f" {OTHER[sign]} ")
            if "text" in one:
                one.text = one.text.replace(line, swap)
            elif "text/plain" in one.data:
                one.data["text/plain"] = one.data["text/plain"].replace(line, swap)
        assert len(faults(wrong)) > len(known), name
        wrong = copy.deepcopy(notebook)
        source = wrong.cells[place].source
        wrong.cells[place].source = source.replace(f'"{sign}"', f'"{OTHER[sign]}"')
        assert wrong.cells[place].source != source and len(faults(wrong)) > len(known), name
