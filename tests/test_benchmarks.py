"""The card's own book: every check runs dry on the CPU, leaves its line, and README says what the lines say."""

import json
import types

import pytest

from labkit import spec
from labkit.plan.contexts import stream_peak
from tests.benchmarks.card import LIMIT, Goal, Skip, book, check, checks, laws, passes, table
from tests.benchmarks.card.bench import Bench, flat

DECODED = dict(none=0.25, all=0.375, resid_post=0.4, eager=0.5, eager_all=1.0)  # seconds of a step
KNOWN = {one.name: one for one in checks()}


@pytest.fixture(scope="module")
def bench():
    """A bench whose tiny models all checks of the file share, as those of a process do."""
    return Bench("cpu", dry=True)


def made(call, **facts):
    return check(**dict(seconds=1, room=0) | facts)(call)


@pytest.mark.filterwarnings("ignore")  # of tools that are looked at
@pytest.mark.parametrize("name", KNOWN)
def test_every_check_runs_dry(name, bench):
    line = book.asked(KNOWN[name], bench, dry=True)
    assert "error" not in line, line["error"]
    if "skipped" not in line:
        found = flat(line["numbers"])
        assert found and all(isinstance(value, float | int) for value in found.values())
        unmeasured = {goal.number for goal in KNOWN[name].goals} - found.keys()
        assert unmeasured <= {"peak_GiB"}, "a goal that its check does not measure"
        assert json.loads(json.dumps(line)) == line
    assert len(KNOWN[name].about) <= 120 and KNOWN[name].asked == (KNOWN[name].seconds > LIMIT)


def test_the_checks_of_the_issue_are_there_shortest_first():
    seconds = [one.seconds for one in checks()]
    assert seconds == sorted(seconds)
    assert {"laws", "trace", "trace_host", "spectrum", "summary_262k", "probes", "prefill_262k", "decode"} <= set(KNOWN)
    assert [one.name for one in checks() if one.asked] == ["half_a_million", "million"]


def test_a_check_that_fails_is_a_line_and_the_next_goes_on(tmp_path, capsys):
    def broken(bench):
        """Breaks."""
        raise RuntimeError("no memory\nsecond line")

    def works(bench):
        """Works."""
        return {"ratio": bench.spread([1.0, 2.0, 4.0]), "peak_GiB": None}, {"tokens": 7}

    def unable(bench):
        """Is skipped."""
        raise Skip("not here")

    chosen = [made(broken), made(works, goals=(Goal("ratio", 1.5),)), made(unable)]
    assert book.run(chosen, "cpu", tmp_path, dry=True) == 1
    broken, works = book.read(tmp_path / "dry.jsonl")
    assert broken["error"] == "RuntimeError: no memory" and "numbers" not in broken
    assert works["numbers"] == {"ratio": {"median": 2.0, "low": 1.5, "high": 3.0, "rounds": 3}}
    assert works["sizes"] == {"tokens": 7} and works["versions"]["torch"] and works["date"] and works["labkit"]
    shown = capsys.readouterr().out
    assert "works            ratio=2 (1.5 to 3)  ratio at most 1.5: missed" in shown
    assert "unable           skipped: not here" in shown and "broken           error: RuntimeError: no memory" in shown


def test_a_line_is_written_before_the_next_check_begins(tmp_path):
    def first(bench):
        """Measures."""
        return {"ratio": 1.25}, {}

    def stopped(bench):
        """Is stopped by hand."""
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        book.run([made(first), made(stopped)], "cpu", tmp_path, dry=True)
    (line,) = book.read(tmp_path / "dry.jsonl")
    assert line["check"] == "first" and line["numbers"] == {"ratio": 1.25}


def test_the_budget_counts_models_that_must_be_built(tmp_path, capsys, monkeypatch):
    def short(bench):
        """Short."""
        return {"ratio": 1.0}, {}

    def long(bench):
        """Long."""
        return {"ratio": 1.0}, {}

    monkeypatch.setattr(Bench, "lab", lambda self, of: None)
    chosen = [made(short, seconds=3), made(long, seconds=20, of="27B")]
    book.run(chosen, "cpu", tmp_path, budget=40)
    assert "no time left for long" in capsys.readouterr().out
    book.run(chosen, "cpu", tmp_path, budget=70)
    assert [line["check"] for line in book.read(tmp_path / "cpu.jsonl")] == ["short", "short", "long"]


def test_what_a_card_has_no_room_for_is_skipped_by_name(tmp_path, capsys, monkeypatch):
    def large(bench):
        """Large."""
        return {"ratio": 1.0}, {}

    monkeypatch.setattr(Bench, "free", lambda self: 59.0)
    monkeypatch.setattr(Bench, "lab", lambda self, of: None)
    book.run([made(large, room=9, of="27B"), made(large, room=8, of="27B")], "cpu", tmp_path)
    assert capsys.readouterr().out.startswith("large            skipped: needs 59 GiB, 59 are free\nlarge   ")
    assert len(book.read(tmp_path / "cpu.jsonl")) == 1


@pytest.mark.parametrize(
    ("name", "tokens", "probes"),
    [
        ("probes", 32_768, lambda *which: passes.light(*which) + passes.watching(*which)),
        ("attentions", 65_536, lambda *which: []),
        ("prefill_262k", 262_144, passes.light),
        ("half_a_million", 524_288, passes.heavy),
        ("million", 1_010_000, passes.light),
    ],
)
def test_the_room_of_a_long_check_is_what_the_plan_asks_for(name, tokens, probes):
    big = spec.read("Qwen3.6-27B")
    made = probes(types.SimpleNamespace(block=4096), types.SimpleNamespace(spec=big))
    high, _ = stream_peak(big, tokens, [lambda block, probe=probe: probe for probe in made], chunk=8192)
    assert high / 0.9 / 2**30 <= KNOWN[name].room < high / 0.9 / 2**30 + 2


def test_a_cpu_keeps_ratios_alone(tmp_path):
    def timed(bench):
        """Times."""
        return {"ratio": 1.5, "plain_ms": 3.0, "seconds": 4.0, "peak_GiB": 5.0, "x_tokens_per_s": 6.0}, {}

    book.run([made(timed)], "cpu", tmp_path)
    (line,) = book.read(tmp_path / "cpu.jsonl")
    assert line["numbers"] == {"ratio": 1.5} and "CPU core" in line["card"]


def test_the_command_lists_names_and_refuses_others(capsys):
    assert book.main(["--list"]) == 0
    shown = capsys.readouterr().out
    assert all(f"\n{name} " in f"\n{shown}" for name in KNOWN)
    assert "million           720 s" in shown and "only when named" in shown
    with pytest.raises(SystemExit):
        book.main(["--only", "wishes"])
    assert "wishes" in capsys.readouterr().err


def test_without_a_card_its_checks_are_named_and_left_out(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert book.main(["--only", "trace", "--only", "spectrum", "--results", str(tmp_path)]) == 0
    assert capsys.readouterr().out == (
        "no CUDA device; skipped: spectrum, trace (--dry runs them at tiny sizes)\nno results\n"
    )


def test_rivals_take_turns_after_a_warm_up_and_ratios_are_paired(monkeypatch):
    bench, order = Bench("cpu"), []
    clock = {"a": iter([2.0, 4.0, 9.0]), "b": iter([1.0, 4.0, 3.0])}

    def seconds(self, call):
        call()
        return next(clock[order[-1]])

    monkeypatch.setattr(Bench, "seconds", seconds)
    times = bench.rivals(3, a=lambda: order.append("a"), b=lambda: order.append("b"))
    assert order == ["a", "b", "b", "a", "a", "b", "b", "a"] and times == {"a": [2.0, 4.0, 9.0], "b": [1.0, 4.0, 3.0]}
    assert bench.ratio(times["a"], times["b"]) == {"median": 2.0, "low": 1.5, "high": 2.5, "rounds": 3}
    assert bench.spread([7.0]) == {"median": 7.0, "low": 7.0, "high": 7.0, "rounds": 1}


TIMED = {  # seconds of the rivals of a check, and what it must make of them
    "trace": (dict(traced=3.0, plain=2.0), dict(ratio=1.5, traced_ms=3000.0)),
    "trace_deep": (dict(traced=3.0, plain=2.0), dict(ratio=1.5)),
    "trace_few": (dict(plain=2.0, resid_post=3.0, one_seam=5.0), dict(resid_post=1.5, one_seam=2.5)),
    "probes": (dict(plain=2.0, light=3.0, watched=5.0), dict(ratio=1.5, watched=2.5, light_tokens_per_s=32 / 3)),
    "kv_host": (dict(host=3.0, card=2.0), dict(ratio=1.5, host_tokens_per_s=32 / 3)),
    "summary_32k": (dict(summary=3.0, full=5.0, own=2.0), dict(ratio=1.5, full=2.5)),
    "watch_262k": (dict(watched=9.0, plain=3.0, own=4.0), dict(ratio=1.5, own_s=4.0)),
    "decode": (
        {f"{name} {new}": 1.0 + new * each for name, each in DECODED.items() for new in (8, 12)},
        dict(ratio=1.5, eager_ratio=2.0, none_tokens_per_s=4.0, all_tokens_per_s=8 / 3, resid_post_tokens_per_s=2.5),
    ),
    "step": (dict(none=2.0, all=3.0), dict(ratio=1.5, none_tokens_per_s=2.0)),
}


@pytest.mark.parametrize("name", TIMED)
def test_a_check_compares_the_right_rivals(name, bench, monkeypatch):
    times, expected = TIMED[name]

    def rivals(self, rounds, **calls):
        assert calls.keys() == times.keys()
        return {name: [times[name]] * 2 for name in calls}

    monkeypatch.setattr(Bench, "rivals", rivals)
    found = flat(KNOWN[name].call(bench)[0])
    assert {number: found[number] for number in expected} == pytest.approx(expected)


def test_a_goal_is_a_bound_from_above_or_below():
    most, least = Goal("ratio", 1.5), Goal("speed", 45, least=True)
    assert (most.met(1.5), most.met(1.6), least.met(45), least.met(44)) == (True, False, True, False)
    assert (str(most), str(least)) == ("ratio at most 1.5", "speed at least 45")


def test_laws_are_counted_from_what_pytest_says():
    said = "F...\nSKIPPED [1] x\n1 failed, 26 passed, 3 skipped, 1 error in 4.2s\n"
    assert laws.counted(said) == {"passed": 26, "skipped": 3, "failed": 2}
    with pytest.raises(RuntimeError, match="ImportError"):
        laws.counted("ImportError: no module\n")


# ------------------------------------------------------------------------------------------------------ the table


def test_readme_holds_the_table_of_the_results():
    text = table.README.read_text("utf-8")
    assert table.placed(text, table.rendered()) == text, "python -m tests.benchmarks.card table"


def line(version, name, numbers, **more):
    facts = dict(
        card="some card", date="2026-01-02", labkit=version, versions={"torch": "9", "fla": None}, numbers=numbers
    )
    return {"check": name, **facts, **more}


def test_a_row_holds_what_each_version_measured_and_no_more():
    lines = [
        line("0.8", "trace", {"ratio": 3.0}),
        line("0.8", "trace", {"ratio": {"median": 1.234, "low": 1.2, "high": 1.3}}),
        line("0.8", "decode", {"ratio": 1.5, "all_tokens_per_s": 40.25, "none_tokens_per_s": 60.0}),
        line("0.8", "laws", {"passed": 3, "skipped": 1, "failed": 2}),
        line("0.8", "watch_262k", {"ratio": {"median": 20.0, "above": True}}),
        {**line("0.8", "spectrum", {}), "error": "OutOfMemoryError: x"},
    ]
    del lines[-1]["numbers"]
    made = table.card_table(lines, [one for one in checks() if one.goals], "0.9", "small").splitlines()
    rows = {row.split(" | ")[0].strip("| "): row.split(" | ")[1:] for row in made if row.startswith("|")}
    at = lambda name: rows[KNOWN[name].about.rstrip(".")]  # noqa: E731
    assert made[0] == "| some card, small | labkit 0.8, 2026-01-02 | labkit 0.9 | goal |"
    assert at("trace") == ["1.23", "not measured", "≤ 1.05 |"]
    assert at("decode") == ["1.5, all 40.2 tokens/s", "not measured", "≤ 1.1, all ≥ 45 tokens/s |"]
    assert at("laws") == ["3 of 5", "not measured", "all |"]
    assert at("watch_262k")[0] == "> 20" and at("spectrum")[0] == "failed" and at("probes")[0] == "not measured"
    assert made[-1] == "Measured with labkit 0.8: torch 9."


def test_tools_stand_beside_each_other_with_what_they_refuse():
    assert table.peers_table([]) == []
    sizes = {"layers": 24, "tokens": 64, "tools": {"nnsight": "0.8.1"}, "refused": {"another": "KeyError: 'gate'"}}
    spread = {"median": 1.5, "low": 1.25, "high": 2.0}
    (shown,) = table.peers_table([line("0.9", "peers", {"labkit": spread, "nnsight": spread}, sizes=sizes)])
    assert "| labkit 0.9 | 1.50 | 1.25 to 2.00 |" in shown and "| nnsight 0.8.1 | 1.50 |" in shown
    assert "| another | does not run: KeyError: 'gate' |" in shown
