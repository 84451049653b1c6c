"""Makes `pytest --nbval` compare what a notebook says instead of its bytes.

Figures are compared by their decoded numbers, text by its words and numbers; whole numbers and words stay
exact. Other processors change the last digits of a forward pass; nbval alone would call that a failure.
"""

import base64
import math
import os
import re

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")

RTOL, ATOL = 1e-3, 1e-4
OUTPUT_TIMEOUT = 60
VOLATILE = {"uid", "template"}
UID = re.compile(r"(?<='uid': ')[0-9a-f-]+")
NUMBER = re.compile(r"[-+]?(?:\d+\.\d*|\.\d+|\d+)(?:[eE][-+]?\d+)?")
SHOWN = 8
# Of two processes neither should begin one of these when the other is done.
LONGEST = (
    "test_figures.py",
    "test_yarn.py",
    "07_stretch_the_context.ipynb",
    "02_forget.ipynb",
    "test_browser.py",
    "test_nano.py",
)
LONGEST += (
    "06_think_aloud.ipynb",
    "03_operate_on_memory.ipynb",
    "00_read_the_model.ipynb",
    "05_share_the_work.ipynb",
    "01_remember.ipynb",
    "test_notebooks.py",
)


class Text(str):
    """A string that equals another when the words agree and the numbers agree within tolerance."""

    __hash__ = str.__hash__

    def __eq__(self, other):
        return isinstance(other, str) and not text_differences(self, other)

    def __ne__(self, other):
        return not self == other


class Figure(dict):
    """A plotly figure's JSON that equals another when its numbers agree within tolerance."""

    __hash__ = None

    def __eq__(self, other):
        return not figure_differences(self, other)

    def __ne__(self, other):
        return not self == other

    def __repr__(self):
        return f"<plotly figure, {len(self.get('data', []))} traces>"


def text_differences(stored, new):
    """Readable differences of two texts, none if they say the same."""
    stored, new = (UID.sub("any", str(text)) for text in (stored, new))
    if stored == new:
        return []
    before, now = NUMBER.findall(stored), NUMBER.findall(new)
    if NUMBER.sub("#", stored) != NUMBER.sub("#", new):
        return [f"the words differ: {stored!r} became {new!r}"]
    pairs = [f"{a} became {b}" for a, b in zip(before, now, strict=True) if not _near(a, b)]
    return pairs[:SHOWN]


def figure_differences(stored, new):
    """Readable differences of two plotly figures as JSON, at most eight."""
    return _walk(decode(stored), decode(new), "figure")[:SHOWN]


def decode(part):
    """Plotly JSON as plain lists and numbers: packed arrays unpacked, ids and the look left out."""
    if isinstance(part, dict):
        if {"bdata", "dtype"} <= part.keys():
            import numpy

            array = numpy.frombuffer(base64.b64decode(part["bdata"]), "<" + part["dtype"])
            shape = [int(size) for size in str(part["shape"]).split(",")] if "shape" in part else [-1]
            return array.reshape(shape).tolist()
        return {key: decode(value) for key, value in part.items() if key not in VOLATILE}
    return [decode(value) for value in part] if isinstance(part, list) else part


def _walk(before, now, place):
    if isinstance(before, float) or isinstance(now, float):
        numbers = {type(before), type(now)} <= {int, float}
        if numbers and (_close(before, now) or (before != before and now != now)):
            return []
    elif isinstance(before, dict) and isinstance(now, dict):
        lines = [f"{place}.{key}: only in one of the two" for key in sorted(before.keys() ^ now.keys())]
        both = [key for key in before if key in now]
        return lines + [line for key in both for line in _walk(before[key], now[key], f"{place}.{key}")]
    elif isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        pairs = enumerate(zip(before, now, strict=True))
        return [line for step, (a, b) in pairs for line in _walk(a, b, f"{place}[{step}]")]
    elif before == now and isinstance(before, bool) == isinstance(now, bool):
        return []
    return [f"{place}: {_short(before)} became {_short(now)}"]


def _short(value):
    return f"a list of {len(value)}" if isinstance(value, list) else repr(value)


def _near(before, now):
    """Two numbers as written: whole ones exactly, others by tolerance, or by one in the last digit, which rounding may
    turn on another processor, where there are at least three."""
    if before == now:
        return True
    whole = all(re.fullmatch(r"[-+]?\d+", text) for text in (before, now))
    return not whole and (_close(float(before), float(now)) or abs(float(before) - float(now)) <= 1.01 * _last(before))


def _last(text):
    """One in the last digit of a number as written; 0 of one with fewer than three digits."""
    digits = text.lstrip("+-").partition("e")[0]
    if "e" in text.lower() or len(digits.replace(".", "").lstrip("0")) < 3 or "." not in digits:
        return 0.0
    return 10.0 ** -len(digits.partition(".")[2])


def _close(before, now):
    return math.isclose(before, now, rel_tol=RTOL, abs_tol=ATOL)


def pytest_ignore_collect(collection_path):
    """The reader's notebooks hold stubs and no outputs: what is compared are the solved ones."""
    if collection_path.suffix == ".ipynb" and collection_path.parent.name == "notebooks":
        return True
    return None


def pytest_configure(config):
    config.addinivalue_line("markers", "browser: needs an installed Chromium or Chrome")


@pytest.hookimpl(tryfirst=True)
def pytest_assertrepr_compare(op, left, right):
    """Say where two figures or texts differ."""
    if op == "==" and isinstance(left, Figure):
        return ["the figure differs", *figure_differences(left, right)]
    if op == "==" and isinstance(left, Text):
        return ["the text differs", *text_differences(left, right)]
    return None


def pytest_collection_modifyitems(items):
    """Begin with the longest files; give nbval's cells tolerant outputs and time enough on a busy machine."""
    last = len(LONGEST)
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else last)
    for item in items:
        if type(item).__name__ == "IPyNbCell":
            item.output_timeout = OUTPUT_TIMEOUT
            _soften(type(item))


def _soften(cell):
    if hasattr(cell, "exact"):
        return
    cell.exact = cell.sanitize

    def sanitize(self, output):
        output = self.exact(output)
        if isinstance(output, dict) and {"data", "layout"} <= output.keys():
            return Figure(output)
        return Text(output) if isinstance(output, str) else output

    cell.sanitize = sanitize
