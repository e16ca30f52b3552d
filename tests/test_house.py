"""The structure of the package holds: what may import what, and how large a module may be."""

import ast
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[1]
PACKAGE = CHECKOUT / "hyperspy_fewshot"
MODULES = {
    str(path.relative_to(PACKAGE).with_suffix("")): path for path in sorted(PACKAGE.rglob("*.py"))
}
ROOMS = sorted({name.split("/")[0] for name in MODULES if "/" in name})

# Where each heavy dependency may be imported.
TORCH = {"encoders", "embedding", "pretrain"}
WITHOUT_HYPERSPY = {"statistics", "decision", "grids", "encoders"}
# What rooms that compute need beside NumPy, SciPy and the standard library.
NUMERICAL = {"decision": set(), "grids": set(), "statistics": {"pandas", "prettytable"}}

MOST_MODULES_AT_THE_TOP = 8
MOST_LINES = 600


def running_code(node):
    """Nodes of a syntax tree, without what only type checkers see."""
    unseen = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
    yield node
    for child in node.orelse if unseen else ast.iter_child_nodes(node):
        yield from running_code(child)


def imported(path):
    """Packages that a module imports anywhere, also inside functions."""
    found = set()
    for node in running_code(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}, line {node.lineno}: imports are absolute"
            found.add(node.module)
    return {name.split(".")[0] for name in found}


def modules_of(rooms):
    return [name for name in MODULES if name.split("/")[0] in rooms]


def test_imports_run_down_the_house():
    if find_spec("importlinter") is None:
        pytest.skip("import-linter is not installed")
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


@pytest.mark.parametrize("name", [name for name in MODULES if name.split("/")[0] not in TORCH])
def test_torch_is_imported_where_embeddings_are_made_only(name):
    assert "torch" not in imported(MODULES[name])


@pytest.mark.parametrize("name", modules_of(WITHOUT_HYPERSPY))
def test_numerical_rooms_know_no_signals(name):
    assert not imported(MODULES[name]) & {"hyperspy", "exspy", "rsciio"}


@pytest.mark.parametrize("name", modules_of(NUMERICAL))
def test_numerical_rooms_need_numpy_and_scipy_only(name):
    known = {"numpy", "scipy", "hyperspy_fewshot", *sys.stdlib_module_names}
    known |= NUMERICAL[name.split("/")[0]]
    assert imported(MODULES[name]) <= known


def test_few_modules_lie_at_the_top():
    top = [name for name in MODULES if "/" not in name]
    assert len(top) <= MOST_MODULES_AT_THE_TOP, top


@pytest.mark.parametrize("name", MODULES)
def test_modules_are_short_and_say_what_they_are_for(name):
    text = MODULES[name].read_text()
    assert len(text.splitlines()) < MOST_LINES
    if not Path(name).name.startswith("_") or name.endswith("__init__"):
        assert ast.get_docstring(ast.parse(text)), f"{name} has no docstring"


@pytest.mark.parametrize("room", ROOMS)
def test_every_room_is_a_package(room):
    assert f"{room}/__init__" in MODULES
