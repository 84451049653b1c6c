"""A report: every section true of its numbers, kept, resumed, skipped with a reason, inert, and whole in a browser."""

import errno
import json
import math
import os
import pathlib
import re

import numpy as np
import pytest
import siblings
import tiny
from browsing import WIDTHS, unreadable

import labkit
from labkit import errors, export, report, thinking
from labkit.__main__ import main
from labkit.plan import card
from labkit.report import asked, making, section
from labkit.report.sections import PROBES, sections, states, words
from labkit.report.task import Task

PROMPT = " fox red. whale blue. crow green. fox white. bear black. fox"
HOSTILE = " <script>document.title = 'hacked'</script><img src=x onerror=alert(1)> $x$ %{y} </blockquote> \u202e fox"
FAST = ["answer", "memory", "cache"]
NOT_NANO = {"schemes", "timeline", "experts"}


@pytest.fixture(scope="module")
def lab():
    return labkit.load("nano")


@pytest.fixture(scope="module")
def made(lab, tmp_path_factory):
    """(folder, Report) of nano on a prompt of sentences."""
    folder = tmp_path_factory.mktemp("report") / "nano"
    return folder, report.make(lab, PROMPT, out=folder)


def states_of(made):
    return {entry.section.name: entry.state for entry in made.entries}


# ------------------------------------------------------------------------------------------------- what is in it


def test_sections_have_places_and_names_of_files():
    assert len(set(report.names())) == len(report.names()) > 15
    for one in sections():
        assert one.probe in PROBES and re.fullmatch("[a-z]+", one.name)
        assert one.title.endswith("?") and one.how.endswith(".")


def test_every_section_that_applies_has_figure_numbers_and_a_statement(made):
    folder, result = made
    assert set(states_of(result).values()) == {making.DONE, making.OUT}
    assert {name for name, state in states_of(result).items() if state == making.OUT} == NOT_NANO
    page = (folder / "index.html").read_text("utf-8")
    for entry in result.entries:
        name = entry.section.name
        assert f'href="#{name}"' in page and f'id="{name}"' in page
        if entry.state == making.DONE:
            assert f'numbers/{name}.csv"' in page and f'numbers/{name}.nc"' in page
            ds = export.open_netcdf(folder / "numbers" / f"{name}.nc")
            assert ds.attrs["model"] == "nano" and ds.attrs["sample"] and ds.attrs["section"] == name
            assert (folder / "numbers" / f"{name}.csv").read_text("utf-8").count("\n") > 1
    assert "one prompt of 16 tokens" in page and re.search("https?://", page) is None


def test_sentences_are_true_of_the_readings(lab, made):
    folder, _ = made
    run = lab.trace(PROMPT)
    keep = labkit.deltanet.memory(run, layer=list(lab.spec.deltanet_layers)).keep.mean("token")
    ds = export.open_netcdf(folder / "numbers" / "memory.nc")
    np.testing.assert_allclose(ds.keep, keep, rtol=1e-5)
    said = states.SECTIONS[0].said(ds)
    assert f"{float(keep.min()):.3f}" in said and f"{float(keep.max()):.3f}" in said
    answer = lab.tokenizer.decode([int(run.logits[-1].argmax())])
    assert f"{answer!r} ({float(run.logits[-1].softmax(-1).max()):.2f})" in words.SECTIONS[0].said(
        export.open_netcdf(folder / "numbers" / "answer.nc")
    )
    left = [labkit.deltanet.survival(run, layer=n, token=-1).survival.mean() for n in lab.spec.deltanet_layers]
    ds = export.open_netcdf(folder / "numbers" / "survival.nc")
    assert math.isclose(float(ds.survival.mean()), float(np.mean(left)), rel_tol=1e-5)


def test_sentences_speak_of_tokens_not_of_blocks():
    """Of a long prompt the pictures show blocks; what is said of a token is read before they are made."""
    lab = tiny.make_lab(tiny.model())
    task = Task(lab, tiny.ids(300).tolist())
    run, layers = lab.trace(task.ids), list(lab.spec.deltanet_layers)
    by_name = {one.name: one for one in states.SECTIONS}
    row = labkit.deltanet.implied_row(run, layer=layers).weight.isel(source=slice(-1))
    ds = by_name["implied"].data(task)
    assert ds.sizes["source"] == 100 and ds.attrs["blocks"] == 3
    assert ds.attrs["most"] == pytest.approx(float(row.max())) and f"{float(row.max()):.2f}" in by_name["implied"].said(
        ds
    )
    at = row.argmax(...)
    assert ds.attrs["where"].startswith(
        f"layer {layers[int(at['layer'])]}, head {int(at['head'])}, source {int(at['source'])}"
    )
    ds = by_name["surprise"].data(task)
    off = labkit.deltanet.memory(run, layer=layers).surprise.mean("head")
    assert ds.sizes["token"] == 150 and ds.attrs["most"] == pytest.approx(float(off.max()))
    ds = by_name["survival"].data(task)
    left = [labkit.deltanet.survival(run, layer=n).survival.mean() for n in layers]
    assert ds.attrs["left"] == pytest.approx(float(np.mean(left)))


def test_a_prompt_of_one_token(lab, tmp_path):
    made = report.make(lab, " fox", out=tmp_path)
    assert set(states_of(made).values()) == {making.DONE, making.OUT}
    said = {entry.section.name: entry.said for entry in made.entries}
    assert said["implied"] == "A prompt of one token has no earlier one to read"
    page = (tmp_path / "index.html").read_text("utf-8")
    assert "one prompt of 1 token" in page and "1 tokens" not in page


def test_the_layer_from_which_the_answer_comes_first(lab):
    import xarray

    said = lambda ranks: words.SECTIONS[0].said(  # noqa: E731
        xarray.Dataset(
            {"answer_rank": ("layer", ranks), "answer_probability": ("layer", [0.1, 0.2, 0.3, 0.4])},
            coords={"layer": [0, 1, 2, 3]},
            attrs={"answer": " red"},
        )
    )
    assert said([0, 3, 0, 0]).endswith("first from layer 2 on")
    assert said([0, 0, 0, 0]).endswith("first from layer 0 on")
    assert said([2, 1, 0, 4]).endswith("first never")
    assert said([2, 0, 1, 0]).endswith("first from layer 3 on"), "the second place is not the first"
    assert said([0, 0, 0, 1]).endswith("first never")


def test_claims_are_comparisons_that_say_when_they_fail(made):
    folder, result = made
    claims = {entry.section.name: entry.claim for entry in result.entries if entry.claim is not None}
    assert claims.keys() == {"contributions", "spectrum", "heads"}
    page = (folder / "index.html").read_text("utf-8")
    assert page.count(">Holds<") + page.count(">Does not hold<") == 3
    ds = export.open_netcdf(folder / "numbers" / "heads.nc")
    assert ds.attrs["even"] == pytest.approx(np.mean([t / 2 for t in range(16)]))  # a row of even weights, row by row


def test_long_prompts_are_pooled_in_blocks_that_lose_nothing():
    import xarray

    ds = xarray.Dataset(
        {"mass": (("head", "source"), np.arange(26.0).reshape(2, 13)), "mean": ("source", np.arange(13.0))},
        coords={"source": np.arange(4, 17)},
    )
    made = section.pooled(ds, "source", total=("mass",), most=4)
    assert made.sizes == {"head": 2, "source": 4} and made.attrs["blocks"] == 4
    np.testing.assert_allclose(made.mass.sum("source"), ds.mass.sum("source"))
    np.testing.assert_allclose(made["mean"], [1.5, 5.5, 9.5, 12])
    assert made.source.values.tolist() == [4, 8, 12, 16]
    assert made.source_text.values.tolist() == ["4–7", "8–11", "12–15", "16–16"]
    assert section.pooled(ds, "source", most=13) is ds


# --------------------------------------------------------------------------------------- other models and sessions


MODELS = {
    "qwen3_next": (lambda: tiny.model(family="qwen3_next"), {"schemes", "timeline"}),
    "olmo": (siblings.olmo, NOT_NANO),
    "nope": (lambda: siblings.olmo(rope_theta=None), NOT_NANO | {"bands", "phases"}),
    "kimi": (
        siblings.kimi,
        NOT_NANO | {"bands", "phases", "heads", "distances", "pattern", "classes"},
    ),
    "deltanet alone": (
        lambda: tiny.model(layer_types=["linear_attention"] * 5),
        NOT_NANO | {"bands", "phases", "heads", "distances", "pattern", "classes"},
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_other_families_and_sizes(name, tmp_path):
    build, out = MODELS[name]
    result = report.make(tiny.make_lab(build()), tiny.ids(37).tolist(), out=tmp_path / "r")
    told = states_of(result)
    assert {each for each, state in told.items() if state == making.OUT} == out
    assert {each for each, state in told.items() if state == making.DONE} == told.keys() - out
    reasons = [entry.reason for entry in result.entries if entry.state == making.OUT]
    assert all(reasons) and not any("\n" in reason for reason in reasons), "sentences, no errors"


def test_a_session_counts_what_can_be_used_again(lab, tmp_path):
    session = thinking.read_session(thinking.examples()["bread"])
    text = thinking.render(list(session.calls[-1].sent))
    chosen = ["answer", "schemes", "timeline", "phases"]
    result = report.make(lab, text, out=tmp_path / "r", session=session, sections=chosen)
    assert states_of(result) == dict(answer="does not apply", schemes="done", timeline="done", phases="done")
    assert "longer than the window" in result.entries[0].reason
    with pytest.raises(errors.InputError, match="longer than the model's window"):
        report.make(lab, text, out=tmp_path / "other")


# ------------------------------------------------------------------------------------- kept, skipped, interrupted


def test_a_second_call_computes_nothing(lab, made, monkeypatch):
    folder, first = made
    before = {path: path.stat().st_mtime_ns for path in (folder / "numbers").iterdir()}
    monkeypatch.setattr(Task, "run", lambda *args, **options: pytest.fail("ran the model"))
    again = report.make(lab, PROMPT, out=folder)
    assert set(again.kept) == set(report.names())
    assert [entry.said for entry in again.entries] == [entry.said for entry in first.entries]
    assert {path: path.stat().st_mtime_ns for path in (folder / "numbers").iterdir()} == before


def test_another_prompt_or_edit_is_computed_anew(lab, tmp_path):
    make = lambda prompt, **more: report.make(lab, prompt, out=tmp_path, sections=FAST, **more).kept  # noqa: E731
    assert make(PROMPT) == ()
    assert make(PROMPT) == tuple(FAST)
    assert make(PROMPT, fresh=True) == ()
    assert make(PROMPT[:-4]) == ()
    with lab.edit(labkit.deltanet.never_forget(layer=0)):
        assert make(PROMPT[:-4]) == ()
    assert make(PROMPT[:-4]) == ()


def test_numbers_of_another_prompt_do_not_stay_beside_the_page(lab, tmp_path):
    report.make(lab, PROMPT, out=tmp_path, sections=["memory", "cache"])
    (tmp_path / "numbers" / "mine.csv").write_text("a,b")
    held = lambda: sorted(path.name for path in (tmp_path / "numbers").iterdir())  # noqa: E731
    report.make(lab, PROMPT, out=tmp_path, sections=["answer"])
    assert held() == sorted([*(f"{name}.{end}" for name in FAST for end in ("csv", "nc")), "mine.csv"])
    report.make(lab, PROMPT[:-4], out=tmp_path, sections=["cache"])
    assert held() == ["cache.csv", "cache.nc", "mine.csv"]
    assert json.loads((tmp_path / "report.json").read_text())["sections"].keys() == {"cache"}


def test_a_disk_that_is_full_when_the_page_is_written_leaves_no_draft(lab, tmp_path, monkeypatch):
    real = pathlib.Path.write_text

    def full(path, text, *args, **options):
        if "plotly" in path.name:
            real(path, text[:99])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(path, text, *args, **options)

    with monkeypatch.context() as patch, pytest.raises(errors.CheckpointError, match="(?s)No space left.*make room"):
        patch.setattr(pathlib.Path, "write_text", full)
        report.make(lab, PROMPT, out=tmp_path, sections=["cache"])
    assert {path.name for path in tmp_path.iterdir()} == {"numbers", "report.json", "report.lock"}
    assert report.make(lab, PROMPT, out=tmp_path, sections=["cache"]).kept == ("cache",)


def test_an_interrupt_keeps_what_was_finished_and_the_page_says_so(lab, tmp_path, monkeypatch):
    def stop(task):
        raise KeyboardInterrupt

    real = sections()[1]
    with monkeypatch.context() as patch:
        stopped = labkit.report.Section(**vars(real) | {"data": stop})
        patch.setattr("labkit.report.sections._ALL", [sections()[0], stopped])
        with pytest.raises(KeyboardInterrupt):
            report.make(lab, PROMPT, out=tmp_path)
    page = (tmp_path / "index.html").read_text("utf-8")
    assert 'id="answer-plot"' in page and "Not computed yet" in page
    again = report.make(lab, PROMPT, out=tmp_path, sections=["answer", "contributions"])
    assert again.kept == ("answer",) and set(states_of(again).values()) == {making.DONE}


def test_a_section_over_budget_is_skipped_with_its_bytes(lab, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(card.bounds, "host", lambda root="/": (10_000, "a small box"))
        made = report.make(lab, PROMPT, out=tmp_path, sections=["memory", "cache"])
    assert states_of(made) == {"memory": making.SKIPPED, "cache": making.DONE}
    assert "a small box" in made.entries[0].reason and "would not fit" in made.entries[0].reason
    page = (tmp_path / "index.html").read_text("utf-8")
    assert "Skipped" in page and "a small box" in page
    assert states_of(report.make(lab, PROMPT, out=tmp_path, sections=["memory"])) == {
        "memory": making.DONE
    }  # more room


@pytest.mark.parametrize("damage", ["numbers/memory.nc", "report.json", "numbers/memory.csv"])
def test_damage_is_computed_again(lab, tmp_path, damage):
    report.make(lab, PROMPT, out=tmp_path, sections=["memory"])
    path = tmp_path / damage
    raw = bytearray(path.read_bytes())
    raw[-9] ^= 64
    path.unlink() if path.suffix == ".csv" else path.write_bytes(raw)
    again = report.make(lab, PROMPT, out=tmp_path, sections=["memory"])
    assert again.kept == () and states_of(again) == {"memory": making.DONE}


def test_a_folder_of_something_else_is_left_alone(lab, tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(errors.InputError, match="holds something else"):
        report.make(lab, PROMPT, out=tmp_path)
    with pytest.raises(errors.InputError, match="a report is a folder"):
        report.make(lab, PROMPT, out=tmp_path / "thesis.tex")
    with pytest.raises(errors.InputError, match="(?s)no such section.*got: wishes.*expected: answer"):
        report.make(lab, PROMPT, out=tmp_path / "r", sections=["wishes"])
    with pytest.raises(errors.InputError, match="a report without sections"):
        report.make(lab, PROMPT, out=tmp_path / "r", sections=[])
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


# ------------------------------------------------------------------------------------------------ the command line


def run(*arguments):
    return main(["report", *map(str, arguments)])


def test_the_command(tmp_path, capsys):
    (tmp_path / "story.txt").write_text(f"{PROMPT}\n", encoding="utf-8")
    one = ["nano", "--prompt", tmp_path / "story.txt", "--out", tmp_path / "r"]
    one += ["--section", "answer", "--section", "cache"]
    assert run(*one) == 0
    said = capsys.readouterr().out
    assert "answer        done: The likeliest next token is" in said and "index.html" in said
    assert run(*one) == 0
    assert "done, as it was" in capsys.readouterr().out
    facts = json.loads((tmp_path / "r" / "report.json").read_text())
    assert facts["sections"].keys() == {"answer", "cache"}


def test_the_command_on_a_recorded_session(tmp_path, capsys):
    assert run("nano", "--prompt", "bread", "--out", tmp_path / "r", "--section", "timeline") == 0
    assert "tokens were read or written in 6 calls" in capsys.readouterr().out


def test_prompts_that_cannot_be_read(tmp_path, capsys):
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    (tmp_path / "empty.txt").write_bytes(b"")
    for name, reason in (("latin.txt", "not UTF-8"), ("none.txt", "No such file"), ("empty.txt", "empty")):
        assert run("nano", "--prompt", tmp_path / name, "--out", tmp_path / "r") == 1
        assert reason in capsys.readouterr().err
    assert not (tmp_path / "r").exists()


@pytest.fixture
def interrupted(tmp_path, monkeypatch):
    """The status of the command, interrupted in a function of this name."""

    def status(name):
        def stop(*args, **options):
            raise KeyboardInterrupt

        (tmp_path / "story.txt").write_text(PROMPT)
        monkeypatch.setattr(name, stop)
        return run("nano", "--prompt", tmp_path / "story.txt", "--out", tmp_path / "r")

    return status


def test_an_interrupt_while_the_model_is_loaded_shows_no_traceback(tmp_path, capsys, interrupted):
    assert interrupted("labkit.zoo.load") == 130
    assert capsys.readouterr().err == "interrupted\n" and not (tmp_path / "r").exists()


def test_a_file_with_a_byte_order_mark_is_the_text_behind_it(tmp_path):
    (tmp_path / "story.txt").write_bytes(b"\xef\xbb\xbf fox\n")
    assert asked.prompt(str(tmp_path / "story.txt")) == (" fox", None)


def test_the_command_says_how_to_go_on_after_an_interrupt(capsys, interrupted):
    assert interrupted("labkit.report.asked.make") == 130
    assert "the same command goes on from there" in capsys.readouterr().out


# ----------------------------------------------------------------------------------------------------- in a browser


@pytest.mark.browser
@pytest.mark.parametrize("width", WIDTHS)
def test_the_page_can_be_read(made, page, width):
    folder, result = made
    assert unreadable(page, folder / "index.html", width) == []
    done = sum(entry.state == making.DONE for entry in result.entries)
    assert page.locator(".js-plotly-plot").count() == done
    assert page.complaints == []
    assert all(url.startswith(folder.as_uri()) for url in page.asked if not url.startswith(("data:", "blob:")))


@pytest.mark.browser
def test_a_hostile_prompt_is_inert(lab, page, tmp_path):
    chosen = ["answer", "lens", "surprise", "pattern", "implied", "cache"]
    report.make(lab, HOSTILE, out=tmp_path, sections=chosen)
    page.goto((tmp_path / "index.html").as_uri())
    page.wait_for_function(f"() => document.querySelectorAll('.js-plotly-plot .main-svg').length >= {len(chosen)}")
    assert "hacked" not in page.title()
    assert page.complaints == [] and page.locator("img").count() == 0
    assert "<script>document.title" in page.locator("blockquote").text_content()
    assert "\\u202e" in page.locator("blockquote").text_content()
