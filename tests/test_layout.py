"""The shape of the house: imports point one way, heavy packages stay out of start-up, modules stay small."""

import ast
import importlib
import pathlib
import pkgutil
import re
import types

import pytest

ROOT = pathlib.Path(__file__).parent.parent
PACKAGE = ROOT / "labkit"
# A module may import modules of lower rank only; those of one rank are siblings, unless they lie in one folder.
RANKS = [
    ("errors",),
    ("arguments", "bounded", "calling", "claims", "quantities", "signs"),
    ("notation",),
    ("decoding", "folders", "orders", "progress", "prompts", "rotary", "stats", "tables", "terminal", "words"),
    ("turning", "families", "export"),
    ("kernels",),
    ("nano",),
    ("spec", "thinking", "fingerprint", "identity", "hooks"),
    ("weights",),
    ("watched",),
    ("scopes",),
    ("trace",),
    ("cache",),
    ("edit", "plan"),
    ("reading", "pictures"),
    ("passes", "packs"),
    ("steps",),
    ("calls",),
    ("stream",),
    ("wrapped",),
    ("lab",),
    ("sweeps",),
    ("zoo",),
    ("deltanet", "attention", "experts", "mtp", "residual", "reuse", "yarn", "doctor", "features"),
    ("attribution", "steering"),
    ("draw",),
    ("explore",),
    ("replicate", "check"),
    ("report",),
    ("__init__",),
    ("__main__",),
]
RANK = {name: rank for rank, names in enumerate(RANKS) for name in names}
MODULES = sorted(PACKAGE.rglob("*.py"))


def part(path):
    """The mechanism that a file belongs to: its folder below labkit, or its own name."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path):
    """(names of labkit parts, names of other packages) that a file imports anywhere."""
    ours, others = set(), set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            head, *rest = name.split(".")
            if head == "labkit":
                ours.add(rest[0] if rest else "__init__")
            else:
                others.add(head)
    return ours, others


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_one_way(path):
    me = part(path)
    assert me in RANK, f"{me} has no rank: give it one in this test"
    for name in imported(path)[0] - {me}:
        assert RANK[name] < RANK[me], f"{me} imports {name}"


@pytest.mark.parametrize("path", sorted((PACKAGE / "draw").rglob("*.py")), ids=lambda p: p.name)
def test_drawing_knows_labels_alone(path):
    ours, others = imported(path)
    assert ours <= {"draw", "notation", "errors", "arguments", "calling", "orders", "signs"}, ours
    assert not others & {"torch", "transformers"}


@pytest.mark.parametrize("path", [p for p in MODULES if part(p) != "draw"], ids=lambda p: str(p.relative_to(PACKAGE)))
def test_computing_draws_nothing(path):
    if part(path) != "doctor":  # the doctor looks at what plotly would put into a figure's toolbar
        assert "plotly" not in imported(path)[1]
    if part(path) not in ("doctor", "check", "explore"):  # these ask, and are answered by hand
        assert "ipywidgets" not in imported(path)[1]


def test_no_name_hides_a_module():
    """`labkit.deltanet.recall` is one thing: the function; no file of the folder has that name."""
    for module in pkgutil.walk_packages([str(PACKAGE)], "labkit."):
        if module.ispkg:
            package = importlib.import_module(module.name)
            files = {inner.name for inner in pkgutil.iter_modules(package.__path__)}
            hidden = {name for name in files if not isinstance(getattr(package, name, package), types.ModuleType)}
            assert not hidden, f"{module.name}: {hidden}"
            promised = {name for name in getattr(package, "__all__", ()) if name in files}  # the file would win
            assert not promised, f"{module.name}: {promised}"


def test_nobody_reaches_into_anothers_private_names():
    """Private attributes of labkit's own objects are used in the file that defines them alone."""
    defined, used = {}, {}
    for path in MODULES:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and re.fullmatch("_[a-z]\\w*", node.attr):
                own = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
                (defined if own else used).setdefault(node.attr, set()).add(path)
            elif isinstance(node, ast.FunctionDef) and re.fullmatch("_[a-z]\\w*", node.name):
                defined.setdefault(node.name, set()).add(path)
    used.pop("_version")  # of a tensor
    reached = {name: paths - defined[name] for name, paths in used.items() if name in defined}
    assert not {name: paths for name, paths in reached.items() if paths}


def test_figures_and_notebooks_stand_on_top():
    for path in MODULES:
        assert not imported(path)[1] & {"figures", "tests"}, path


def test_every_public_name_exists_and_is_listed_once():
    import labkit

    assert len(labkit.__all__) == len(set(labkit.__all__))
    for name in labkit.__all__:
        assert getattr(labkit, name) is not None, name
    assert set(labkit.__all__) <= set(dir(labkit))
    with pytest.raises(AttributeError, match="no attribute 'wishes'"):
        labkit.wishes  # noqa: B018
