"""A report, section by section: what is there already is kept, what does not fit is skipped, an interrupt costs one.

In the folder lie `index.html`, `plotly.min.js`, `report.json` and `numbers/`, with a netCDF and a CSV file for every
section. `report.json`, signed, says for each section what came of it, under a digest of all that its numbers depend on:
the model's weights, kernels, edits and scaling, the prompt, and the code of the section. What has another digest, or
whose file is damaged, is computed again.
"""

import contextlib
import dataclasses
import inspect
import os
import pathlib
import textwrap
from collections.abc import Sequence

from labkit import export, folders
from labkit.errors import BudgetError, CheckpointError, InputError, LabError, LayerError
from labkit.identity import lasting
from labkit.lab import Lab
from labkit.progress import counter
from labkit.report import section as shared
from labkit.report import sections as registry
from labkit.report import task as tasks
from labkit.report.page import VERSION, Entry, write
from labkit.report.section import Section
from labkit.report.task import Task
from labkit.signs import inert
from labkit.tables import WIDTH, Table
from labkit.thinking import Session

FORM = 1
BOOK, LOCK, NUMBERS, PAGE = "report.json", "report.lock", "numbers", "index.html"
DONE, SKIPPED, OUT, FAILED, OPEN = "done", "skipped", "does not apply", "failed", "not computed yet"


@dataclasses.dataclass(frozen=True, repr=False)
class Report(Table):
    """What came of a report.

    Attributes:
        path: of the page. entries: one for each section, in their order. kept: names of sections that were there.
    """

    path: pathlib.Path
    entries: tuple[Entry, ...]
    kept: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """Where it lies."""
        return f"report in {self.path}"

    def facts(self) -> list[tuple[str, str, str]]:
        """Rows (probe, section, what came of it)."""
        rows = []
        for entry in self.entries:
            word = f"{entry.state}, as it was" if entry.section.name in self.kept else entry.state
            line = " ".join((entry.said if entry.state == DONE else entry.reason).split())
            rows.append((registry.PROBES[entry.section.probe], entry.section.name, f"{word}: {line}" if line else word))
        return rows

    def __repr__(self):
        lines, last = [self.title], ""
        for probe, name, line in self.facts():
            lines += [probe] if probe != last else []
            last = probe
            first = f"  {name:<14}"
            lines += textwrap.wrap(inert(line), WIDTH, initial_indent=first, subsequent_indent=" " * len(first))
        return "\n".join(lines)

    @property
    def failed(self) -> tuple[str, ...]:
        """Names of sections whose numbers could not be had although they fit and apply."""
        return tuple(entry.section.name for entry in self.entries if entry.state == FAILED)


def make(
    lab: Lab,
    prompt: str | Sequence[int],
    *,
    out: str | os.PathLike,
    session: Session | None = None,
    sections: Sequence[str] | None = None,
    fresh: bool = False,
    progress: bool = False,
) -> Report:
    """The standard probes of a model on a prompt, as a folder with a page that any browser opens offline.

    Args:
        lab: any supported model.
        prompt: a text or token ids, within the window; with a session that of its last call, say, and any length.
        out: the folder; what it holds of the same model and prompt is kept, numbers of others go.
        session: a recorded session (`thinking.read_session`), whose reuse is counted as well.
        sections: names of `report.names()`; None for all.
        fresh: compute what is there as well.
        progress: show a bar of sections.

    Returns:
        `Report`; its `path` is the page. A section that would not fit into memory is skipped, with the reason there.

    Raises:
        InputError: a prompt longer than the window (without a session), an unknown section, a folder of something else.
        CheckpointError: a folder that cannot be written. An interrupt leaves the page with what was finished.
    """
    folder = pathlib.Path(out)
    chosen = _chosen(sections)
    job = Task(lab, prompt, session)
    if session is None:
        lab.check_room(len(job))
    _check_folder(folder)
    with folders.lock(folder / LOCK):
        folders.check_room(folder / NUMBERS, 0)
        return _made(job, folder, chosen, fresh, progress)


def _made(job, folder, chosen, fresh, progress):
    base = {"identity": lasting(job.lab), "scaling": str(job.lab.scaling), "name": job.lab.name}
    base |= {"ids": job.ids.tolist(), "text": job.text}
    base |= {"session": None if job.session is None else folders.mark(repr(job.session.calls))}
    base = folders.mark(base)
    book, kept, entries = _cleared(folder, {} if fresh else _book(folder), base), [], {}

    def page():
        every = [entries.get(one.name) or Entry(one, OPEN, reason="the report was interrupted") for one in chosen]
        write(folder / PAGE, job, every, folder / NUMBERS)
        return Report(folder / PAGE, tuple(every), tuple(kept))

    try:
        with counter(total=len(chosen), show=progress, unit="section", title="report") as bar:
            for one in chosen:
                bar.set_postfix_str(one.name)
                key = folders.mark([base, _code(one)])
                entry = _known(one, book.get(one.name), key, folder)
                if entry is None:
                    entry = _computed(one, job, folder)
                    book[one.name] = {"key": key, "state": entry.state, "reason": entry.reason}
                    with folders.told("the report cannot be written", folder):
                        folders.write_text(folder / BOOK, folders.signed({"format": FORM, "sections": book}))
                else:
                    kept.append(one.name)
                entries[one.name] = entry
                bar.update()
    except BaseException:
        with contextlib.suppress(LabError, OSError):
            page()
        raise
    return page()


def _computed(one, job, folder):
    """The `Entry` of a section; its numbers are on disk when it comes back."""
    if reason := one.applies(job):
        return Entry(one, OUT, reason=reason)
    try:
        ds = one.data(job)
    except BudgetError as error:
        return Entry(one, SKIPPED, reason=str(error))
    except LayerError as error:  # no question for layers of this kind
        return Entry(one, OUT, reason=str(error))
    except LabError as error:
        return Entry(one, FAILED, reason=str(error))
    facts = {"model": job.lab.name, "vocabulary": f"{job.lab.name}, {job.spec.vocab:,}", "section": one.name}
    ds = ds.assign_attrs(facts | ({} if "sample" in ds.attrs else {"sample": job.sample}))
    export.to_netcdf(ds, folder / NUMBERS / f"{one.name}.nc")
    export.to_csv(ds, folder / NUMBERS / f"{one.name}.csv")
    return _shown(one, ds)


def _shown(one, ds):
    claim = None if one.claim is None else one.claim(ds)
    said = one.said(ds)
    figure = one.draw(ds, said)
    return Entry(one, DONE, said=said, claim=claim, figure=figure.to_json(), facts=dict(ds.attrs))


def _known(one, told, key, folder):
    """The `Entry` of what the folder holds under this digest, or None."""
    if not isinstance(told, dict) or told.get("key") != key or told.get("state") not in (DONE, OUT):
        return None  # what did not fit or failed is tried again
    if told["state"] == OUT:
        return Entry(one, OUT, reason=str(told.get("reason")))
    if not (folder / NUMBERS / f"{one.name}.csv").exists():
        return None
    try:
        return _shown(one, export.open_netcdf(folder / NUMBERS / f"{one.name}.nc"))
    except LabError:
        return None


def _book(folder):
    """What `report.json` says of each section; nothing where it is damaged, or of another version."""
    if not (folder / BOOK).exists():
        return {}
    try:
        facts = folders.read_signed(folder / BOOK, FORM, "the book of this report")
    except (CheckpointError, InputError):
        return {}
    return facts["sections"] if isinstance(facts.get("sections"), dict) else {}


def _cleared(folder, book, base):
    """The book without what is of another model, prompt or code; its numbers go, which nothing tells from others."""
    mine = {}
    for one in registry.sections():
        told = book.get(one.name)
        if isinstance(told, dict) and told.get("key") == folders.mark([base, _code(one)]):
            mine[one.name] = told
            continue
        for end in ("nc", "csv"):
            with folders.told("the report cannot be written", folder):
                (folder / NUMBERS / f"{one.name}.{end}").unlink(missing_ok=True)
    return mine


def _check_folder(folder):
    """A report goes into an empty folder, or into one of a report."""
    if folder.is_file():
        raise InputError("a report is a folder", got=f"the file {folder}", expected="a folder")
    if folder.is_dir() and not (folder / BOOK).exists() and not (folder / LOCK).exists() and any(folder.iterdir()):
        hint = "give another folder; a report would write index.html into this one"
        raise InputError("this folder holds something else", got=str(folder), expected="a report or nothing", hint=hint)


def _chosen(names) -> list[Section]:
    every = registry.sections()
    if names is None:
        return every
    names = [names] if isinstance(names, str) else list(names)
    if unknown := [name for name in names if name not in registry.names()]:
        raise InputError("no such section", got=", ".join(map(str, unknown)), expected=", ".join(registry.names()))
    if not names:
        raise InputError("a report without sections", got="none", expected=", ".join(registry.names()))
    return [one for one in every if one.name in names]


def _code(one) -> list[str]:
    """What the numbers of a section are computed by: the version, and the source of its file and of those it shares."""
    modules = (inspect.getmodule(one.data), shared, tasks)
    return [VERSION, one.name, *(inspect.getsource(module) for module in modules)]
