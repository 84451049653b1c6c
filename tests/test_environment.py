"""The set-up says one thing: environment.yml, pyproject.toml, constraints, Makefile, README and .ci agree."""

import importlib.metadata
import importlib.util
import pathlib
import re
import shutil
import subprocess
import sys
import tomllib

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = pathlib.Path(__file__).parent.parent
SIX = ("jupyterlab", "transformers", "torch", "plotly", "ipywidgets", "nbval")
EXTRAS = ("lab", "gpu", "quant", "qwen", "cluster", "export", "probes", "docs", "dev")
PLATFORM = re.compile("sys_platform|platform_")
TARGETS = (
    "help",
    "env",
    "figures",
    "notebooks",
    "docs",
    "test",
    "lint",
    "lab",
    "bench",
    "mutants",
    "attack",
    "doctor",
    "clean",
)
PARTS = {"labkit", "figures", "notebooks", "tests", "environment.yml", "README.md"}
BUILD = {".ci", ".gitignore", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "Makefile", "conftest.py"}
BUILD |= {"constraints.txt", "pyproject.toml", "AGENTS.md", "CITATION.cff", ".binder", ".devcontainer"}
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
    assert section[-1] == "-e .[dev,lab]"
    assert sorted(section[1:-1]) == sorted(SIX)


@pytest.mark.parametrize("name", SIX)
def test_the_six_are_installed_in_the_tested_version(name):
    assert importlib.metadata.version(name).partition("+")[0] == PINS[name]


@pytest.mark.parametrize("requirement", required(*EXTRAS), ids=str)
def test_requirements_are_ranges_and_hold_the_tested_version(requirement):
    assert {bound.operator for bound in requirement.specifier} in ({">="}, {">=", "<"})
    assert requirement.specifier.contains(PINS[canonicalize_name(requirement.name)])


def test_the_tested_transformers_is_the_lowest_allowed_and_ci_takes_the_newest():
    (wanted,) = (r for r in required() if r.name == "transformers")
    lowest = {bound.operator: bound.version for bound in wanted.specifier}[">="]
    assert PINS["transformers"] == f"{lowest}.0"
    assert "install.py --newest transformers" in text(".ci/run")


def test_the_library_alone_brings_no_jupyterlab_and_no_test_tools():
    seen = closure(required())
    tools = {r.name for r in required("dev", "lab")} - {r.name for r in required()}
    assert "jupyterlab" in tools and "nbval" in tools
    # ipywidgets shows in a kernel that the user brings; PyYAML comes with transformers.
    assert {canonicalize_name(name) for name in tools} & seen == {"pyyaml"}


def test_the_package_imports_what_it_requires_and_no_more():
    lines = [line for path in (ROOT / "labkit").rglob("*.py") for line in path.read_text("utf-8").splitlines()]
    found = {
        match[1] for line in lines if (match := re.match(r"\s*(?:import|from) ([a-z_]+)[\w. ]*(?:import|as|,|$)", line))
    }
    packages = importlib.metadata.packages_distributions()
    outside = found - sys.stdlib_module_names - {"labkit"}
    named = {canonicalize_name(name) for module in outside for name in packages.get(module, ())}
    assert "torch" in named
    theirs = {"tokenizers", "huggingface-hub", "triton", "peft", "choreographer"}  # of transformers, torch, kaleido
    assert named <= closure(required("quant", "cluster", "export", "probes"), deep=False) | theirs


def test_the_distribution_is_not_the_labkit_of_the_index():
    from labkit import errors

    assert PROJECT["name"] == errors.DISTRIBUTION != "labkit"
    assert PROJECT["scripts"] == {"labkit": "labkit.__main__:main"}


@pytest.mark.parametrize("extra", EXTRAS)
def test_the_hint_for_an_extra_is_right_here_elsewhere_and_without_a_checkout(extra, tmp_path, monkeypatch):
    from labkit import errors

    monkeypatch.chdir(ROOT)
    assert errors.install_hint(extra) == f'pip install -e ".[{extra}]"'
    monkeypatch.chdir(tmp_path)
    assert errors.install_hint(extra) == f'pip install -e "{ROOT}[{extra}]"'
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "another"\n')
    monkeypatch.setattr(errors, "__file__", str(tmp_path / "labkit" / "errors.py"))
    assert errors.install_hint(extra) == f'pip install "{PROJECT["name"]}[{extra}]"'


def test_environment_python_is_one_that_the_package_accepts():
    (python,) = (e for e in yaml.safe_load(text("environment.yml"))["dependencies"] if str(e).startswith("python="))
    assert Requirement(f"python{PROJECT['requires-python']}").specifier.contains(python.partition("=")[2])


def test_constraints_hold_every_package_that_comes_along():
    seen = closure(required("dev", "lab"))
    assert len(seen) > 100
    assert seen <= PINS.keys()


def closure(requirements, deep=True):
    """Canonical names of these packages and, if deep, of what they require here, but for what a platform decides."""
    seen, queue = set(), [(r.name, frozenset(r.extras)) for r in requirements if not PLATFORM.search(str(r.marker))]
    while queue:
        name, extras = queue.pop()
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        queue += needs(name, extras) if deep else ()
    return {canonicalize_name(name) for name, _ in seen}


def needs(name, extras):
    """(name, extras) of what an installed package requires here, leaving out what is bound to a platform."""
    for line in importlib.metadata.requires(name) or ():
        wanted = Requirement(line)
        marker = str(wanted.marker or "")
        if PLATFORM.search(marker):
            continue
        if not marker or any(wanted.marker.evaluate({"extra": extra}) for extra in (extras or {""})):
            yield wanted.name, frozenset(wanted.extras)


def test_constraints_are_portable():
    lines = [line for line in text("constraints.txt").splitlines() if not line.startswith("#")]
    assert [line for line in lines if not re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.]*", line)] == []
    assert [line for line in lines if re.match("nvidia|cuda|labkit", line)] == []
    assert len(PINS) == len(lines)


# ---------------------------------------------------------------------------------------------- commands


def test_installer_reads_what_conda_reads(install):
    assert install.requirements(text("environment.yml")) == pip_section()


def test_installer_reads_comments_quotes_and_the_end_of_the_section(install):
    assert install.requirements(COMMENTED) == ["a>=1", "-e .[dev]"]
    assert install.requirements("dependencies:\n  - pip\n") == []


def test_installer_settles_jupyter(install, tmp_path):
    install.settled(tmp_path)
    (kept,) = (tmp_path / "etc" / "jupyter").iterdir()
    assert kept.name == "jupyter_nbconvert_config.json" and "labkit.draw.converted.Offline" in kept.read_text("utf-8")
    quiet = (tmp_path / "share" / "jupyter" / "lab" / "settings" / "overrides.json").read_text("utf-8")
    assert '"checkForUpdates": false' in quiet


def test_installer_leaves_out_the_line_of_one_package(install):
    assert install.without("a==1\naa==2\n# a==\n", "a") == "aa==2\n# a==\n"
    with pytest.raises(ValueError, match="no b=="):
        install.without("a==1\n", "b")
    assert (
        install.without(text("constraints.txt"), "transformers").count("\n") == text("constraints.txt").count("\n") - 1
    )


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


def test_the_suite_uses_two_processes_and_keeps_a_notebook_in_one():
    assert re.search(r"^BOTH := -n 2 --dist loadfile --no-loadscope-reorder$", text("Makefile"), re.MULTILINE)
    assert re.search(r"-m pytest \$\(BOTH\) --nbval\b", text("Makefile"))


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


def test_readme_code_prints_what_it_says_and_ends_in_a_figure(capsys):
    import plotly.graph_objects as go

    (code,) = re.findall(r"^```python\n(.*?)^```", text("README.md"), re.MULTILINE | re.DOTALL)
    *before, last = code.strip().splitlines()
    names = {}
    exec("\n".join(before), names)
    (said,) = re.findall(r"^print\(.*# (.+)$", code, re.MULTILINE)
    assert capsys.readouterr().out.strip() == said
    assert isinstance(eval(last, names), go.Figure)


def test_licence_is_apache_2():
    words = " ".join(text("LICENSE").split())
    assert words.startswith("Apache License Version 2.0, January 2004")
    assert "END OF TERMS AND CONDITIONS" in words
    assert words.endswith("governing permissions and limitations under the License.")
    assert PROJECT["license"] == "Apache-2.0"


def test_changelog_begins_with_this_version():
    import labkit

    assert re.search(r"^## (\S+)", text("CHANGELOG.md"), re.MULTILINE)[1] == labkit.__version__
    assert yaml.safe_load(text("CITATION.cff"))["version"] == labkit.__version__


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
