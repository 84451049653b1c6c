"""The `labkit` command: it answers without the heavy packages, says what a model costs, and fails in one sentence."""

import importlib.metadata
import json
import os
import pathlib
import re
import subprocess
import sys
import tomllib
import types

import pytest

import labkit
from labkit.__main__ import main

ROOT = pathlib.Path(__file__).parent.parent
CONFIG = ROOT / "labkit" / "spec" / "published" / "Qwen3.6-27B.json"
HEAVY = ("torch", "transformers", "xarray", "plotly", "numpy", "pandas", "ipywidgets", "anywidget", "IPython")
BEGIN = "from labkit.__main__ import main"


@pytest.mark.parametrize(
    "code",
    [
        "import labkit, labkit.errors, labkit.notation; dir(labkit)",
        f"{BEGIN}\ntry: main(['--help'])\nexcept SystemExit: pass",
        f"{BEGIN}\ntry: main(['plan', '--help'])\nexcept SystemExit: pass",
        f"{BEGIN}\ntry: main(['fit', '--help'])\nexcept SystemExit: pass",
        f"{BEGIN}\nassert main(['plan', {str(CONFIG)!r}, '--tokens', '1000']) == 0",
    ],
    ids=["import labkit", "--help", "plan --help", "fit --help", "plan"],
)
def test_nothing_heavy_is_imported(code):
    code += f"\nimport json, sys\nprint(json.dumps([name for name in {HEAVY} if name in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert json.loads(done.stdout.splitlines()[-1]) == []


def test_widgets_are_imported_with_the_first_live_figure():
    code = """
import sys
from labkit import draw
assert {*draw.__all__} <= {*dir(draw)} and not {"ipywidgets", "IPython", "nbformat"} & {*sys.modules}
assert draw.panel.__module__ == "labkit.draw.live" and "ipywidgets" in sys.modules"""
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_module_and_installed_command_are_the_same():
    done = subprocess.run([sys.executable, "-m", "labkit", "--version"], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stdout) == (0, f"labkit {labkit.__version__}\n")
    target = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["scripts"]["labkit"]
    assert importlib.metadata.EntryPoint("labkit", target, "console_scripts").load() is main


def test_plan_prints_anatomy_and_cost(capsys):
    assert main(["plan", str(CONFIG), "--tokens", "262144", "--gpu", "H100", "--quantize", "nf4"]) == 0
    shown = capsys.readouterr().out
    assert "48 D (Gated DeltaNet) + 16 A (gated attention)" in shown
    assert re.search(r"262,144 tokens .*nf4.*H100", shown)
    assert "64.00 KiB a token" in shown


def test_plan_without_tokens_takes_the_window(capsys):
    main(["plan", str(CONFIG)])
    window = capsys.readouterr().out
    main(["plan", str(CONFIG), "--tokens", "262144"])
    assert capsys.readouterr().out == window


def test_plan_without_a_name_takes_the_model_of_the_environment(capsys, monkeypatch):
    monkeypatch.setenv("LABKIT_MODEL", str(CONFIG))
    assert main(["plan"]) == 0
    assert "Qwen3.6-27B" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["plan", "no/such/model"], r"no configuration there\n  got: no.such.model.*\n  expected: .*\n  try: "),
        (["plan", str(CONFIG), "--gpu", "abacus"], r"unknown GPU\n  got: abacus\n  expected: H200"),
        (["plan", str(CONFIG), "--tokens", "0"], r"tokens out of range\n  got: tokens=0\n  expected: 1 or more"),
        (["plan", str(CONFIG), "--quantize", "half"], r"\n  got: half\n  expected: "),
    ],
    ids=["model", "gpu", "tokens", "quantize"],
)
def test_what_makes_no_sense_is_said_on_stderr(words, message, capsys):
    assert main(words) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert re.search(message, shown.err)


@pytest.mark.parametrize("words", [[], ["dance"], ["plan", str(CONFIG), "--tokens", "many"]])
def test_wrong_usage_ends_with_two(words, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(words)
    assert capsys.readouterr().err.startswith("usage: labkit")


def test_doctor_gets_the_words_and_gives_the_status(monkeypatch):
    heard = []
    doctor = types.ModuleType("labkit.doctor")
    doctor.main = lambda arguments: heard.append(arguments) or 3
    monkeypatch.setitem(sys.modules, "labkit.doctor", doctor)
    monkeypatch.setattr(labkit, "doctor", doctor, raising=False)
    assert main(["doctor"]) == 3
    assert main(["doctor", "--verbose", "x"]) == 3
    assert heard == [[], ["--verbose", "x"]]


def test_doctor_looks_at_a_folder(capsys, tmp_path):
    from labkit.zoo.finding import NANO

    assert main(["doctor", str(NANO), "--device", "cpu"]) == 0
    shown = capsys.readouterr().out
    assert shown.splitlines()[0].startswith("ok    configuration: Qwen3.5, 3.6 and 3.8, dense; 8 layers")
    assert "loads: labkit.load takes it" in shown and " 0 fail" in shown
    assert main(["doctor", str(tmp_path)]) == 1
    shown = capsys.readouterr()
    assert shown.err == "" and "fail  configuration: no config.json there; " in shown.out
    assert main(["doctor", str(tmp_path / "none")]) == 1
    assert "no such model" in capsys.readouterr().err


def test_reuse_prints_both_policies_and_the_causes(capsys, tmp_path, monkeypatch):
    from labkit import reuse, thinking

    def absent(name):
        raise labkit.errors.BackendError("not installed", hint=labkit.errors.install_hint("qwen"))

    monkeypatch.setattr(thinking, "tokenizer", absent)
    path = tmp_path / "session.json"
    session = reuse.drawn(2, turns=3, calls=1, thinking=30, result=30)
    path.write_text(json.dumps(session))
    page = tmp_path / "page.html"
    assert main(["reuse", str(path), "--gpu", "H100", "--page", str(page)]) == 0
    shown = capsys.readouterr().out
    calls = sum(message["role"] == "assistant" for message in session)
    assert (
        f"{calls} calls, {len(session)} messages in the last (openai)" in shown
        and "small vocabulary of nano: pip" in shown
    )
    ds = reuse.replay(session, snapshots="end", spec=labkit.spec.read("Qwen3.6-27B"), gpu="H100")
    assert re.search(rf"strip +end +{int(ds.prompt.sum()):,} +{int(ds.recomputed.sum()):,} ", shown)
    assert re.search(r"strip: between one call and the next, .*2 thinking stripped", shown)
    assert re.search(rf"preserve: between one call and the next, {calls - 1} none", shown)
    html = page.read_text(encoding="utf-8")
    assert html.count('<div class="plot"') == 6 and "what can be reused" in html
    assert "recomputed" in html and not re.search(r'<(script|link)[^>]+(src|href)="?http', html)


def test_reuse_of_an_example(capsys):
    assert main(["reuse", "garden"]) == 0
    shown = capsys.readouterr()
    assert "9 calls, 18 messages in the last (claude-code)" in shown.out and "2 thinking stripped" in shown.out
    assert shown.err == "", "no bar where nobody looks"


def test_reuse_of_one_call_without_thinking(capsys, tmp_path):
    path, page = tmp_path / "one.json", tmp_path / "pages" / "one.html"
    path.write_text(json.dumps([{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]))
    assert main(["reuse", str(path), "--page", str(page)]) == 0
    shown = capsys.readouterr().out
    assert "no thinking was recorded" in shown and "thinking stripped" not in shown
    assert page.read_text(encoding="utf-8").count('<div class="plot"') == 5
    for where in (tmp_path, path / "below.html"):
        assert main(["reuse", str(path), "--page", str(where)]) == 1
        assert re.search("a page is a file|cannot be written", capsys.readouterr().err)


def test_reuse_of_what_is_no_session(capsys, tmp_path):
    assert main(["reuse", str(tmp_path / "none.jsonl")]) == 1
    assert "no such session" in capsys.readouterr().err


COMMANDS = {
    "labkit": ["-m", "labkit", "plan", str(CONFIG)],
    "help": ["-m", "labkit", "--help"],
    "labkit.nano": ["-m", "labkit.nano", "--help"],
    "figures": ["-m", "figures", "--help"],
    "benchmarks": ["-m", "tests.benchmarks", "--help"],
    "attacks": ["-m", "tests.attacks", "--help"],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_reader_that_has_left_is_no_error(name):
    """As of `labkit plan | head -1`: no traceback, and the status that shells give a tool that SIGPIPE ended."""
    held = {**os.environ, "PYTHONUNBUFFERED": ""}  # without a buffer argparse itself swallows the error
    beside = {"stderr": subprocess.PIPE, "text": True, "cwd": ROOT, "env": held}
    read, write = os.pipe()
    os.close(read)
    try:
        done = subprocess.run([sys.executable, *COMMANDS[name]], stdout=write, **beside)
    finally:
        os.close(write)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
def test_signs_that_a_terminal_lacks_are_replaced(encoding, tmp_path):
    path = tmp_path / "日本 Σ.json"
    path.write_text(CONFIG.read_text(encoding="utf-8"), encoding="utf-8")
    surroundings = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    plan = [sys.executable, "-m", "labkit", "plan", str(path)]
    done = subprocess.run(plan, capture_output=True, cwd=ROOT, env=surroundings)
    shown = done.stdout.decode(encoding)
    assert done.returncode == 0 and not done.stderr
    assert "?? ?" in shown and "64.00 KiB a token" in shown
    wrong = subprocess.run([*plan, "--gpu", "Σ∅"], capture_output=True, cwd=ROOT, env=surroundings)
    assert wrong.returncode == 1 and b"got: ??" in wrong.stderr and b"Traceback" not in wrong.stderr


def test_a_command_gives_back_what_its_main_function_gives():
    from labkit.terminal import command

    assert command(lambda words, *, more: (words, more))(3, more=5) == (3, 5)
    with pytest.raises(SystemExit, match="7"):
        command(lambda: sys.exit(7))()
