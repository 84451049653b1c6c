"""Install the pip section of environment.yml into the Python that runs this; standard library only.

    .venv/bin/python .ci/install.py [--newest NAME] [REQUIREMENT ...]

Further requirements, such as `-e .[quant]`, come on top. `--newest transformers` takes the newest transformers that
pyproject.toml allows instead of the one in constraints.txt. uv does it in a fraction of pip's time and is tried first;
where it cannot be had, or fails, pip does the same. uv does not read pip's configuration, so links, index and
certificates that are set for pip are handed over.
"""

import argparse
import ast
import json
import os
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
CONVERTED = ROOT / "labkit" / "draw" / "jupyter_nbconvert_config.json"
QUIET_LAB = {
    "@jupyterlab/apputils-extension:notification": {
        "fetchNews": "false",
        "checkForUpdates": False,
        "doNotDisturbMode": True,
    }
}


def main():
    """Install and make JupyterLab quiet; returns the exit status."""
    parser = argparse.ArgumentParser(description="Install the pip section of environment.yml.")
    parser.add_argument("--newest", metavar="NAME", help="a package that constraints.txt shall not hold")
    options, further = parser.parse_known_args()
    words = [word for line in requirements((ROOT / "environment.yml").read_text("utf-8")) for word in shlex.split(line)]
    words += further
    if options.newest:
        loose = pathlib.Path(tempfile.mkdtemp(), "constraints.txt")
        loose.write_text(without((ROOT / "constraints.txt").read_text("utf-8"), options.newest), "utf-8")
        words[words.index("constraints.txt")] = str(loose)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    good = _run([*pip, "install", "-q", "-c", "constraints.txt", "uv"])
    if good:
        uv = [sys.executable, "-m", "uv", "pip", "install", "--python", sys.executable]
        good = _run([*uv, *words], uv_settings(_pip_settings(pip), os.environ))
    if not good:
        print("uv did not do it; pip does.", flush=True)
        good = _run([*pip, "install", *words])
    if good:
        settled(pathlib.Path(sys.prefix))
        compiled()
    return int(not good)


def settled(prefix):
    """JupyterLab is quiet, and pages that `jupyter nbconvert` makes keep their figures: an editable install brings none
    of a package's data files."""
    settings, own = prefix / "share" / "jupyter" / "lab" / "settings", prefix / "etc" / "jupyter"
    for folder in (settings, own):
        folder.mkdir(parents=True, exist_ok=True)
    (settings / "overrides.json").write_text(json.dumps(QUIET_LAB, indent=2), "utf-8")
    (own / CONVERTED.name).write_text(CONVERTED.read_text("utf-8"), "utf-8")


def requirements(text):
    """Lines of the pip section of a conda environment file."""
    section = re.search(r"^( *)- pip:[ ]*\n((?:\1 +- .*\n?|[ ]*#.*\n?|[ ]*\n)+)", text, re.MULTILINE)
    lines = section[2].splitlines() if section else []
    return [re.sub(r"\s+#.*", "", line.strip()[2:]).strip("'\"") for line in lines if line.strip().startswith("- ")]


def without(constraints, name):
    """A constraints file's text without the line of one package.

    Raises:
        ValueError: it has no such line.
    """
    lines = constraints.splitlines(keepends=True)
    rest = [line for line in lines if not line.startswith(f"{name}==")]
    if len(rest) == len(lines):
        raise ValueError(f"constraints.txt has no {name}==")
    return "".join(rest)


def compiled():
    """Compile what every process imports: uv leaves that to the first of them, and some are told not to keep it."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    subprocess.run([sys.executable, "-c", "import figures._ahead"], cwd=ROOT, env=environment, capture_output=True)


def uv_settings(settings, environment):
    """What uv must be told that pip already knows: `{variable: value}`; what the environment sets for uv stays."""
    known = {
        "UV_FIND_LINKS": ",".join(settings.get("find-links", "").split()),
        "UV_DEFAULT_INDEX": settings.get("index-url", ""),
        "SSL_CERT_FILE": settings.get("cert", ""),
    }
    return {name: value for name, value in known.items() if value and name not in environment}


def _pip_settings(pip):
    """pip's settings from its files and then from the environment: `{"find-links": "..."}`."""
    listed = subprocess.run([*pip, "config", "list"], capture_output=True, text=True).stdout
    lines = [line for line in listed.splitlines() if "=" in line]
    pairs = (line.partition("=") for line in sorted(lines, key=lambda line: line.startswith(":env:")))
    return {name.rpartition(".")[2]: str(ast.literal_eval(value)) for name, _, value in pairs}


def _run(command, settings=None):
    status = subprocess.run(command, cwd=ROOT, env=os.environ | (settings or {})).returncode
    if status:
        print(f"{' '.join(map(str, command[:4]))} ... ended with status {status}", file=sys.stderr)
    return status == 0


if __name__ == "__main__":
    sys.exit(main())
