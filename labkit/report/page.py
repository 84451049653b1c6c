"""The page of a report: contents, model and prompt, then every section with its figure, its numbers and what they are.

Words of users and models are escaped, what they would ask a browser to do is text.
"""

import dataclasses
import pathlib
import sys
from collections.abc import Mapping, Sequence

from labkit import folders
from labkit.claims import Claim
from labkit.draw.pages import escape, frame, library, plot
from labkit.report import sections as registry
from labkit.report.section import Section
from labkit.report.task import SHOWN, Task
from labkit.tables import as_text

VERSION = sys.modules["labkit"].__version__  # of the package that this module lies in: an import would point upwards
STYLE = """
h2 { font-size: 1.35rem; } h3 { font-size: 1.1rem; margin: 0.2rem 0; }
nav ol { columns: 2; column-gap: 2rem; padding-left: 1.2rem; }
nav li { break-inside: avoid; }
nav .source, .state { color: var(--quiet); }
.state { border-left: 3px solid #b35900; padding-left: 0.8rem; white-space: pre-wrap; overflow-wrap: anywhere; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 0.1rem 1rem; font-size: 0.9rem; }
dt { color: var(--quiet); } dd { margin: 0; overflow-wrap: anywhere; min-width: 0; }
blockquote { white-space: pre-wrap; overflow-wrap: anywhere; font-family: ui-monospace, monospace; font-size: 0.85rem;
  border-left: 3px solid var(--line); margin: 0.5rem 0; padding-left: 0.8rem; }
.holds { color: #1a7f37; } .fails { color: #b35900; }
@media (prefers-color-scheme: dark) { .holds { color: #4ac26b; } .fails { color: #f0883e; } }
@media (max-width: 640px) { nav ol { columns: 1; } dl { grid-template-columns: 1fr; } dt { margin-top: 0.3rem; } }
"""


@dataclasses.dataclass(frozen=True)
class Entry:
    """What came of a section.

    Attributes:
        section: the `Section`. state: "done", or why there is no figure. reason: the same in full.
        said: a sentence of its numbers. claim: a comparison, or None. figure: plotly's JSON. facts: of the numbers.
    """

    section: Section
    state: str
    reason: str = ""
    said: str = ""
    claim: Claim | None = None
    figure: str = ""
    facts: Mapping = dataclasses.field(default_factory=dict)


def write(path: pathlib.Path, job: Task, entries: Sequence[Entry], numbers: pathlib.Path) -> None:
    """Write the page, and plotly.js beside it.

    Raises:
        CheckpointError: a place that cannot be written to.
    """
    title = f"{job.lab.name}: a report on {job.sample}"
    parts = [f"<h1>{escape(title)}</h1>", _contents(entries), _about(job)]
    for probe, heading in registry.PROBES.items():
        own = [entry for entry in entries if entry.section.probe == probe]
        if own:
            parts.append(f'<section aria-labelledby="part-{probe}">\n<h2 id="part-{probe}">{escape(heading)}</h2>')
            parts += [_section(entry, numbers.name) for entry in own]
            parts.append("</section>")
    with folders.told("the report cannot be written", path):
        library(path.parent)
        footer = f"labkit {VERSION} · {job.lab.identity().versions}"
        folders.write_text(path, frame(title, "\n".join(parts), beside=True, footer=footer, style=STYLE))


def _contents(entries):
    lines = []
    for entry in entries:
        state = "" if entry.state == "done" else f' <span class="source">({escape(entry.state)})</span>'
        lines.append(f'<li><a href="#{entry.section.name}">{escape(entry.section.title)}</a>{state}</li>')
    listed = "\n".join(lines)
    return f'<nav aria-label="Contents">\n<ol>\n{listed}\n</ol>\n</nav>'


def _about(job):
    """The model's card, what computed, and the prompt."""
    lab = job.lab
    card = as_text(lab.spec.title, lab.spec.facts())
    made = lab.identity()
    facts = {"Model": lab.name, "Weights": made.weights, "Type": made.dtype, "Kernels": made.kernels}
    facts |= {
        "Scaling": made.scaling,
        "Edits": ", ".join(made.edits) or "none",
        "Prompt": job.sample.removeprefix("one prompt of "),
    }
    if job.session is not None:
        facts |= {"Session": str(job.session).splitlines()[0]}
    text = job.text
    if text is None and lab.tokenizer is not None:
        text = lab.tokenizer.decode(job.ids.tolist())
    shown = "token ids, no tokenizer" if text is None else text
    if len(shown) > 2 * SHOWN:
        left = len(shown) - 2 * SHOWN
        shown = f"{shown[:SHOWN]}\n… {left:,} characters …\n{shown[-SHOWN:]}"
    return f"""<section aria-labelledby="model">
<h2 id="model">Model and prompt</h2>
{_facts(facts)}
<blockquote>{escape(shown)}</blockquote>
<details><summary>Anatomy</summary><pre>{escape(card)}</pre></details>
</section>"""


def _section(entry, numbers):
    one = entry.section
    head = f'<article id="{one.name}">\n<h3>{escape(one.title)}</h3>\n<p>{escape(one.how)}</p>'
    if entry.state != "done":
        word = escape(entry.state.capitalize())
        return f'{head}\n<p class="state"><b>{word}</b>\n{escape(entry.reason)}</p>\n</article>'
    files = ", ".join(f'<a href="{numbers}/{one.name}.{end}" download>{one.name}.{end}</a>' for end in ("csv", "nc"))
    return f"""{head}
{plot(one.name, entry.figure, one.title)}
{_claimed(entry.claim)}
<p class="source">{escape(_told(entry.facts))} · {files}</p>
</article>"""


def _told(facts):
    """What the numbers are of, in one line."""
    told = [str(facts.get("model", "")), str(facts.get("sample", "")), str(facts.get("reading", ""))]
    layers = facts.get("layer")
    if layers is not None:
        several = isinstance(layers, list | tuple) or getattr(layers, "ndim", 0)
        told.append(f"layers {', '.join(map(str, layers))}" if several else f"layer {layers}")
    if "blocks" in facts:
        told.append(f"blocks of {facts['blocks']} tokens")
    if "rows" in facts:
        told.append(f"rows: {facts['rows']}")
    if "parity" in facts:
        told.append(f"recomputed within {float(facts['parity']):.1g}, refused above {float(facts['tolerance']):.1g}")
    return " · ".join(filter(None, told))


def _claimed(claim):
    if claim is None:
        return ""
    kind, word = ("holds", "Holds") if claim.holds else ("fails", "Does not hold")
    parts = "; ".join(str(part) for part in claim.parts)
    return f'<p>{escape(claim.sentence)}. <b class="{kind}">{word}</b>: {escape(parts)}.</p>'


def _facts(facts):
    rows = "\n".join(f"<dt>{escape(name)}</dt><dd>{escape(_plain(value))}</dd>" for name, value in facts.items())
    return f"<dl>\n{rows}\n</dl>"


def _plain(value):
    if isinstance(value, float):
        return f"{value:.2g}"
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
