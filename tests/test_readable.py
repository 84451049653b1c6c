"""In a real Chromium, wide and narrow: no text of a figure lies outside its frame or over other text."""

import importlib

import numpy as np
import pytest
from browsing import WIDTHS, unreadable

import figures
from figures import _golden
from labkit import draw
from labkit.notation import Quantity, label, together

pytestmark = pytest.mark.browser

LONG = (
    "A sentence that a figure carries as its title, with its numbers 0.998 and 0.187 in it, longer than any line of it"
)
HOSTILE = [
    "<think>",
    " fox",
    "<script>alert(1)</script>",
    "a&b $x^2$",
    "日本語のトークン",
    " ",
    "\n\n",
    "unbelievably-long-token",
]
WORDY = Quantity(
    "share of what was stored and is still there", "a long name", "share of the whole", "positive", "a test"
)
PROVEN = {"model": "nano", "layer": 2, "reading": "deltanet.memory", "parity": 3e-7, "tolerance": 1e-4}


def readings(heads=8, count=24):
    """weight (head, token, source), keep, low and high (head, token), effect (policy, gap), one of each kind."""
    r = np.random.default_rng(0)
    texts = (HOSTILE * count)[:count]
    keep = r.random((heads, count))
    variables = {
        "weight": (("head", "token", "source"), r.standard_normal((heads, count, count)), "weight"),
        "keep": (("head", "token"), keep, "keep"),
        "low": (("head", "token"), keep - 0.1, "keep"),
        "high": (("head", "token"), keep + 0.1, "keep"),
        "wordy": (("head", "token"), 5 * keep, WORDY),
        "effect": (("policy", "gap"), r.standard_normal((5, 3)), "effect"),
        "least": (("policy", "gap"), r.standard_normal((5, 3)) - 4, "effect"),
        "most": (("policy", "gap"), r.standard_normal((5, 3)) + 4, "effect"),
    }
    coords = {"head": range(heads), "token": range(count), "source": range(count), "gap": [16, 96, 496]}
    coords |= {"token_text": ("token", texts), "source_text": ("source", texts)}
    coords["policy"] = [
        "thinking kept",
        "thinking dropped at every call",
        "end+before_think",
        "live",
        "a reasoner's own",
    ]
    return label(variables, coords=coords, attrs=PROVEN)


def pictures():
    """`{what it is: figure}`, at least one of every function that draws, with the longest words."""
    ds = readings()
    one, few, levels = ds.isel(head=0), ds.isel(head=[0, 1, 2]), {"what an even head would give": 0.4, "chance": 0.1}
    at = {"the token that comes back": 7, "the end of the window": 30}
    sentences = [f"head {n}: a heading that says in many words what this map shows" for n in range(3)]
    wordy = ds.assign_coords(head=sentences + [f"another head, number {n}" for n in range(5)])
    parts = together({"decayed, on average": ds.keep, "erased": ds.wordy, "written": ds.low}).to_dataset(name="norms")
    return {
        "one map": draw.heatmap(one, title=LONG),
        "eight small maps": draw.heatmap(ds, title=LONG),
        "three small maps": draw.heatmap(few),
        "small maps with long headings": draw.heatmap(wordy.isel(head=[0, 1, 2]), facet="head", title=LONG),
        "a map with intervals": draw.heatmap(ds, "effect", interval=("least", "most"), title=LONG),
        "a slider over heads": draw.frames(ds, along="head", title=LONG),
        "a slider over tokens": draw.frames(ds.isel(head=[0, 1]), along="token", y="head"),
        "maps side by side": draw.maps((one, "weight", LONG), (few, "keep", "short"), (ds, "wordy", LONG), title=LONG),
        "maps with a slider": draw.maps((ds, "weight", "left"), (one, "weight", "still"), slider="head", title=LONG),
        "eight lines": draw.lines(ds, "keep", title=LONG, levels=levels, at=at, interval=("low", "high")),
        "one line": draw.lines(one, "wordy", title=LONG, at=at),
        "lines to scale": draw.lines(ds, "effect", x="gap", color="policy", levels={"nothing": 0.0}),
        "lines in eight panels": draw.lines(ds, "wordy", facet="head", title=LONG, levels=levels, at=at),
        "lines of terms": draw.lines(parts, "norms", color="term", facet="head"),
        "bars": draw.bars(ds, "effect", x="policy", color="gap", levels=levels, title=LONG),
        "bars to scale": draw.bars(ds, "effect", x="gap", color="policy", interval=("least", "most")),
        "eight stacked bars": draw.bars(ds, "keep", x="token", color="head", stacked=True, title=LONG),
        "the prompt": draw.tokens(one, "keep", title=LONG),
    }


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """A page of all pictures."""
    made = pictures()
    kinds = [(figure, name) for name, figure in made.items()]
    return draw.page(tmp_path_factory.mktemp("readable") / "page.html", kinds, title=LONG), list(made)


@pytest.mark.parametrize("width", WIDTHS)
def test_every_kind_of_figure_can_be_read(drawn, page, width):
    path, names = drawn
    found = unreadable(page, path, width)
    assert not found, (
        "\n".join(f"{names[int(line.split('-')[1])]}: {line}" for line in found if "figure-" in line) or found
    )
    assert page.complaints == []


@pytest.mark.parametrize("width", WIDTHS)
def test_every_figure_can_be_read(tmp_path, page, width):
    """From golden data, each with what its module draws."""
    shown = []
    for path in sorted(figures.HERE.glob("golden/*.json")):
        module = importlib.import_module(f"figures.{path.stem}")
        shown.append((module.draw(_golden.read(path)), path.stem))
    found = unreadable(page, draw.page(tmp_path / "page.html", shown, title="all"), width)
    names = [name for _, name in shown]
    assert not found, (
        "\n".join(f"{names[int(line.split('-')[1])]}: {line}" for line in found if "figure-" in line) or found
    )


def spoiled(figure, **layout):
    figure.update_layout(meta=None, **layout)
    return figure


NOTES = [dict(text=text, x=2, y=0, showarrow=False) for text in ("one note", "another")]


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda: spoiled(draw.heatmap(readings(), facet="head"), title=LONG), "over each other: "),
        (lambda: draw.bars(readings(), "effect", x="policy").add_annotation(text=LONG, x=4, y=0), "outside its frame"),
        (lambda: draw.bars(readings(), "effect", x="policy").update_layout(annotations=NOTES), "over each other"),
    ],
)
def test_what_cannot_be_read_is_found(tmp_path, page, spoil, said):
    """A grid that is not laid out anew, a note that leaves the picture, labels that run into each other."""
    path = draw.page(tmp_path / "page.html", [spoil()], title="short")
    assert any(said in line for line in unreadable(page, path, WIDTHS[-1]))


def test_a_figure_is_laid_out_again_when_the_window_changes(drawn, page):
    path, _ = drawn
    assert not unreadable(page, path, WIDTHS[0])
    for width in (WIDTHS[-1], 800, WIDTHS[0]):
        page.set_viewport_size({"width": width, "height": 1000})
        page.wait_for_timeout(1500)
        high = page.evaluate("() => [...document.querySelectorAll('.plot')].map(plot => plot._fullLayout.height)")
        if width == WIDTHS[-1]:
            narrow = high
    assert narrow != high and narrow[1] > 2 * high[1] / 3 and page.complaints == []
