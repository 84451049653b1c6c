"""The set-up says one thing: environment.yml, pyproject.toml, constraints, Makefile, README and .ci agree."""

import importlib.metadata
import importlib.util
import pathlib
import re
import shutil
import subprocess
import tomllib

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = pathlib.Path(__file__).parent.parent
SIX = ("jupyterlab", "transformers", "torch", "plotly", "ipywidgets", "nbval")
TARGETS = ("help", "env", "figures", "notebooks", "test", "lint", "lab", "bench", "doctor", "clean")
PARTS = {"labkit", "figures", "notebooks", "tests", "environment.yml", "README.md"}
BUILD = {".ci", ".gitignore", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "Makefile", "conftest.py"}
BUILD |= {"constraints.txt", "pyproject.toml"}
COMMENTED = """
dependencies:
  # - pip:
  - pip
  - pip:
    # a reason
    - 'a>=1'  # why

    - -e .[dev]
  - b
"""


def text(name):
    return (ROOT / name).read_text("utf-8")


PROJECT = tomllib.loads(text("pyproject.toml"))["project"]
PINS = {
    canonicalize_name(name): version
    for name, version in re.findall(r"^([A-Za-z0-9._-]+)==(\S+)$", text("constraints.txt"), re.MULTILINE)
}


def required(*extras):
    """Requirements of the package, with those of some extras."""
    lists = [PROJECT["dependencies"], *(PROJECT["optional-dependencies"][extra] for extra in extras)]
    return [Requirement(line) for lines in lists for line in lines]


@pytest.fixture(scope="module")
def install():
    """The module .ci/install.py."""
    place = importlib.util.spec_from_file_location("install", ROOT / ".ci" / "install.py")
    module = importlib.util.module_from_spec(place)
    place.loader.exec_module(module)
    return module


# ---------------------------------------------------------------------------------------------- versions


def pip_section():
    dependencies = yaml.safe_load(text("environment.yml"))["dependencies"]
    (section,) = (entry["pip"] for entry in dependencies if isinstance(entry, dict))
    return section


def test_environment_names_the_six_the_constraints_and_the_package():
    section = pip_section()
    assert section[0] == "-c constraints.txt"
    assert section[-1] == "-e .[dev]"
    assert sorted(Requirement(line).name for line in section[1:-1]) == sorted(SIX)


def test_the_six_have_one_version_everywhere():
    pinned = {r.name: str(r.specifier) for r in required() if r.name in SIX}
    assert pinned == {name: f"=={PINS[name]}" for name in SIX}
    for line in pip_section()[1:-1]:
        wanted = Requirement(line)
        assert wanted.specifier.contains(PINS[wanted.name])


@pytest.mark.parametrize("name", SIX)
def test_the_six_are_installed_in_the_tested_version(name):
    assert importlib.metadata.version(name).partition("+")[0] == PINS[name]


def test_environment_python_is_one_that_the_package_accepts():
    (python,) = (e for e in yaml.safe_load(text("environment.yml"))["dependencies"] if str(e).startswith("python="))
    assert Requirement(f"python{PROJECT['requires-python']}").specifier.contains(python.partition("=")[2])


@pytest.mark.parametrize("requirement", required("dev", "quant", "qwen"), ids=str)
def test_constraints_satisfy_the_package(requirement):
    assert requirement.specifier.contains(PINS[canonicalize_name(requirement.name)])


def test_constraints_hold_every_package_that_comes_along():
    seen, queue = set(), [(r.name, frozenset(r.extras)) for r in required("dev")]
    while queue:
        name, extras = queue.pop()
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        queue += needs(name, extras)
    assert len(seen) > 100
    assert {canonicalize_name(name) for name, _ in seen} <= PINS.keys()


def needs(name, extras):
    """(name, extras) of what an installed package requires here, leaving out what is bound to a platform."""
    for line in importlib.metadata.requires(name) or ():
        wanted = Requirement(line)
        marker = str(wanted.marker or "")
        if re.search("sys_platform|platform_", marker):
            continue
        if not marker or any(wanted.marker.evaluate({"extra": extra}) for extra in (extras or {""})):
            yield wanted.name, frozenset(wanted.extras)


def test_constraints_are_portable():
    lines = [line for line in text("constraints.txt").splitlines() if not line.startswith("#")]
    assert [line for line in lines if not re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.]*", line)] == []
    assert [line for line in lines if re.match("nvidia|cuda|triton|labkit", line)] == []
    assert len(PINS) == len(lines)


# ---------------------------------------------------------------------------------------------- commands


def test_installer_reads_what_conda_reads(install):
    assert install.requirements(text("environment.yml")) == pip_section()


def test_installer_reads_comments_quotes_and_the_end_of_the_section(install):
    assert install.requirements(COMMENTED) == ["a>=1", "-e .[dev]"]
    assert install.requirements("dependencies:\n  - pip\n") == []


def test_installer_hands_over_pip_settings_but_not_over_those_of_uv(install):
    settings = {"find-links": "one\ntwo", "index-url": "three", "timeout": "9"}
    assert install.uv_settings(settings, {}) == {"UV_FIND_LINKS": "one,two", "UV_DEFAULT_INDEX": "three"}
    assert install.uv_settings(settings, {"UV_FIND_LINKS": "mine", "UV_DEFAULT_INDEX": ""}) == {}


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_alone_lists_every_target():
    shown = subprocess.run(["make", "-s", "-C", str(ROOT)], capture_output=True, text=True, check=True).stdout
    assert tuple(re.findall(r"^ +make (\w+) {2,}\S", shown, re.MULTILINE)) == TARGETS


def test_every_target_that_runs_something_sets_up_the_environment():
    rules = dict(re.findall(r"^([a-z]+):([^#\n]*)##", text("Makefile"), re.MULTILINE))
    assert tuple(rules) == TARGETS
    direct = {name for name, before in rules.items() if "$(READY)" in before}
    assert set(rules) - direct == {"help", "clean", "test"}
    assert rules["test"].split() == ["lint"]


def test_ci_runs_the_test_command_that_the_readme_names():
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & 0o111 == 0o111
    assert re.search(r"^make test\b", script.read_text("utf-8"), re.MULTILINE)
    assert "export CI=true" in script.read_text("utf-8")


# ---------------------------------------------------------------------------------------------- documents


def test_readme_has_its_first_screen():
    readme = text("README.md")
    screen = "\n".join(readme.splitlines()[:50])
    assert "make figures" in screen
    assert "make test" in screen
    assert len(re.findall(r"^!\[.+\]\(.+\)$", screen, re.MULTILINE)) == 1
    code = re.findall(r"^```python\n(.*?)^```", screen, re.MULTILINE | re.DOTALL)
    assert [len(block.split("\n")) - 1 for block in code] == [8]
    assert re.search(r"^\| Question \| Notebook \| Figure \|$", screen, re.MULTILINE)


def test_readme_code_ends_in_a_figure():
    import plotly.graph_objects as go

    (code,) = re.findall(r"^```python\n(.*?)^```", text("README.md"), re.MULTILINE | re.DOTALL)
    *before, last = code.strip().splitlines()
    names = {}
    exec("\n".join(before), names)
    assert isinstance(eval(last, names), go.Figure)


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_links_lead_to_files(name):
    links = re.findall(r"\]\(([^)#\s]+)\)", text(name))
    assert links
    assert [link for link in links if not re.match("https?://", link) and not (ROOT / link).exists()] == []


def test_licence_is_apache_2():
    words = " ".join(text("LICENSE").split())
    assert words.startswith("Apache License Version 2.0, January 2004")
    assert "END OF TERMS AND CONDITIONS" in words
    assert words.endswith("governing permissions and limitations under the License.")
    assert PROJECT["license"] == "Apache-2.0"


def test_changelog_begins_with_this_version():
    import labkit

    assert re.search(r"^## (\S+)", text("CHANGELOG.md"), re.MULTILINE)[1] == labkit.__version__


def test_top_level_holds_the_five_parts_and_the_build_files():
    command = ["git", "-c", "safe.directory=*", "-C", str(ROOT), "ls-files"]
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    tracked = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert {line.partition("/")[0] for line in tracked.splitlines()} <= PARTS | BUILD


def test_every_kind_of_data_file_in_the_package_is_shipped():
    shipped = tomllib.loads(text("pyproject.toml"))["tool"]["setuptools"]["package-data"]["*"]
    files = [path for path in (ROOT / "labkit").rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    kinds = {f"*{path.suffix}" for path in files} - {"*.py", "*.pyc"}
    assert kinds <= set(shipped)
