"""Installing the package is enough: importing hyperspy.api gives every signal the methods."""

import ast
import inspect
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import textwrap
import tomllib
import venv
from pathlib import Path

import dask
import hyperspy.api as hs
import hyperspy.signal
import pytest

import hyperspy_fewshot
from hyperspy_fewshot import _autoload

CHECKOUT = Path(__file__).resolve().parents[1]
CHECK = Path(__file__).with_name("check_installed.py")
PACKAGE = Path(hyperspy_fewshot.__file__).parent
BaseSignal = hyperspy.signal.BaseSignal

PUBLIC_NAMES = {
    "EmbeddingMap",
    "Encoder",
    "FewShotClassifier",
    "FewShotResult",
    "Audit",
    "SupportSet",
    "__version__",
    "classify",
    "data",
    "embed",
    "get_encoder",
    "list_encoders",
    "signals",
}


def run_python(*arguments, folder, python=sys.executable, **environment):
    """Run a fresh interpreter in a folder and return its output and warnings."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    done = subprocess.run(
        [python, *map(str, arguments)],
        cwd=folder,
        env=inherited | environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip(), done.stderr


@pytest.fixture
def watching():
    """Signal finders that wait for hyperspy.signal; the test's own are removed after it."""

    def finders():
        return [f for f in sys.meta_path if isinstance(f, _autoload._SignalFinder)]

    before = sys.meta_path
    sys.meta_path = list(before)
    yield finders
    sys.meta_path = before


# The extension files


def test_the_two_extension_files_are_identical():
    twin = CHECKOUT / "hyperspy_extension.yaml"
    assert twin.read_bytes() == (PACKAGE / "hyperspy_extension.yaml").read_bytes()
    assert twin.read_text(encoding="ascii")


def test_label_maps_are_registered():
    from hyperspy.extensions import ALL_EXTENSIONS

    expected = {
        "LabelMap": (2, False),
        "LazyLabelMap": (2, True),
        "LabelMap1D": (1, False),
        "LazyLabelMap1D": (1, True),
    }
    for name, (dimension, lazy) in expected.items():
        assert ALL_EXTENSIONS["signals"][name] == {
            "signal_type": "LabelMap",
            "signal_dimension": dimension,
            "dtype": "real",
            "lazy": lazy,
            "module": "hyperspy_fewshot.signals",
        }


# The public names


def test_public_names():
    assert set(dir(hyperspy_fewshot)) == PUBLIC_NAMES
    assert set(hyperspy_fewshot.__all__) == PUBLIC_NAMES


def test_stub_says_the_same_as_the_module():
    stub = ast.parse((PACKAGE / "__init__.pyi").read_text())
    homes, submodules = {}, set()
    for node in stub.body:
        if isinstance(node, ast.ImportFrom):
            names = {alias.name for alias in node.names}
            if node.module is None:
                submodules |= names
            else:
                homes |= dict.fromkeys(names, node.module)
        elif isinstance(node, ast.Assign):
            assert set(ast.literal_eval(node.value)) == PUBLIC_NAMES
    assert homes == hyperspy_fewshot._HOMES
    assert submodules == set(hyperspy_fewshot._SUBMODULES)


@pytest.mark.parametrize("name", sorted(PUBLIC_NAMES))
def test_every_public_name_can_be_imported(name):
    value = getattr(hyperspy_fewshot, name)
    assert getattr(hyperspy_fewshot, name) is value


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'hyperspy_fewshot' has no attribute 'nonsense'"):
        _ = hyperspy_fewshot.nonsense


# The methods

METHODS = {"fewshot_classify": "classify", "fewshot_embed": "embed"}


@pytest.mark.parametrize(("method", "function"), METHODS.items())
def test_method_has_the_signature_of_its_function(method, function):
    def arguments(function):
        parameters = list(inspect.signature(function).parameters.values())[1:]
        return [(p.name, p.kind, p.default) for p in parameters]

    assert arguments(getattr(BaseSignal, method)) == arguments(getattr(hyperspy_fewshot, function))


@pytest.mark.parametrize(("method", "function"), METHODS.items())
def test_method_calls_its_function_with_all_arguments(method, function, monkeypatch):
    from hyperspy_fewshot import classification

    calls = []
    monkeypatch.setattr(classification, function, lambda *a, **k: calls.append((a, k)))
    signal = hs.signals.Signal2D([[1.0, 2.0]])
    parameters = inspect.signature(getattr(signal, method)).parameters
    given = {name: object() for name in parameters if name != "support"}
    support = [object()] if "support" in parameters else []

    getattr(signal, method)(*support, **given)

    assert calls == [((signal, *support), given)]


@pytest.mark.parametrize("method", METHODS)
def test_method_documents_every_parameter(method):
    documentation = inspect.getdoc(getattr(BaseSignal, method)).splitlines()
    names = set(list(inspect.signature(getattr(BaseSignal, method)).parameters)[1:])
    found = [name for line in documentation for name in line.split(", ") if names & {name}]
    assert sorted(found) == sorted(names)


def test_import_of_hyperspy_alone_gives_the_methods_and_not_torch(tmp_path):
    output, _ = run_python("-I", CHECK, folder=tmp_path)
    assert "fewshot_classify and fewshot_embed are on every signal" in output


@pytest.mark.parametrize(
    "first",
    [
        "import hyperspy_fewshot",
        "import exspy; exspy.signals.EELSSpectrum",
        "from hyperspy.signal import BaseSignal",
        "from hyperspy._signals.signal2d import Signal2D",
        "import hyperspy.extensions, hyperspy.io",
    ],
)
def test_any_order_of_imports_gives_the_methods(first, tmp_path):
    code = (
        f"{first}; import hyperspy.api as hs; s = hs.signals.Signal2D([[1]]);"
        "s.fewshot_classify; s.fewshot_embed"
    )
    _, warning = run_python("-c", code, folder=tmp_path)
    assert "RuntimeWarning" not in warning


def test_signals_in_a_worker_process_have_the_methods():
    def in_worker():
        import hyperspy.api as hs

        signal = hs.signals.Signal2D([[1.0, 2.0]])
        return callable(signal.fewshot_classify) and callable(signal.fewshot_embed)

    assert dask.delayed(in_worker)().compute(scheduler="processes", num_workers=1)


def test_eager_import_of_lazy_modules_does_not_break_hyperspy(tmp_path):
    code = "import hyperspy.api as hs; hs.signals.Signal2D.fewshot_classify"
    run_python("-c", code, folder=tmp_path, EAGER_IMPORT="1")


@pytest.mark.parametrize(("value", "attached"), [("1", False), ("0", True), ("", True)])
def test_opt_out_variable(value, attached, tmp_path):
    code = (
        "import hyperspy.api as hs, hyperspy_fewshot;"
        "print({hasattr(hs.signals.BaseSignal, f'fewshot_{n}') for n in ('classify', 'embed')})"
    )
    output, _ = run_python("-c", code, folder=tmp_path, HYPERSPY_FEWSHOT_DISABLE=value)
    assert output == str({attached})


def test_broken_extension_only_warns(tmp_path):
    broken = tmp_path / PACKAGE.name
    shutil.copytree(PACKAGE, broken, ignore=shutil.ignore_patterns("__pycache__", "*.safetensors"))
    (broken / "_autoload.py").write_text("raise RuntimeError('on purpose')")
    code = "import hyperspy.api as hs; print(hs.signals.Signal2D([[1]]).data)"

    output, warning = run_python("-c", code, folder=tmp_path, PYTHONPATH=str(tmp_path))

    assert output == "[[1]]"
    assert "RuntimeWarning: hyperspy_fewshot could not add its methods" in warning
    assert "RuntimeError: on purpose" in warning


def test_a_checkout_that_is_not_installed_classifies(tmp_path):
    folder = tmp_path / "checkout"
    shutil.copytree(PACKAGE, folder / PACKAGE.name, ignore=shutil.ignore_patterns("__pycache__"))
    # As in a fresh interpreter that finds the checkout but no metadata of an installation.
    code = """
        import importlib.metadata as metadata, json
        found = metadata.Distribution.from_name

        def from_name(name):
            if name.replace("-", "_") == "hyperspy_fewshot":
                raise metadata.PackageNotFoundError(name)
            return found(name)

        metadata.Distribution.from_name = from_name
        import hyperspy.api as hs, numpy as np, hyperspy_fewshot
        values = np.zeros((4, 6, 20))
        values[:, 3:, 5] = 9
        signal = hs.signals.Signal1D(values + np.random.default_rng(0).random(values.shape))
        support = {"a": [(0, 0), (1, 2)], "b": [(5, 0), (4, 3)]}
        result = hyperspy_fewshot.classify(signal, support, encoder="pca", context=1)
        print(result.labels.metadata.FewShot.versions)
        print(hyperspy_fewshot.__file__)
    """
    path = {"PYTHONPATH": str(folder)}
    output, _ = run_python("-c", textwrap.dedent(code), folder=tmp_path, **path)
    versions, location = output.splitlines()[-2:]
    assert json.loads(versions)["hyperspy_fewshot"] == "unknown"
    assert Path(location).is_relative_to(folder)


# The hook


def test_install_attaches_at_once_to_a_loaded_hyperspy(monkeypatch, watching):
    for method in METHODS:
        monkeypatch.delattr(BaseSignal, method)
    _autoload.install()
    assert BaseSignal.fewshot_classify is _autoload.fewshot_classify
    assert BaseSignal.fewshot_embed is _autoload.fewshot_embed
    assert watching() == []


def test_install_twice_changes_nothing(recwarn):
    before = [getattr(BaseSignal, method) for method in METHODS]
    _autoload.install()
    assert [getattr(BaseSignal, method) for method in METHODS] == before
    assert len(recwarn) == 0


@pytest.mark.parametrize("method", METHODS)
def test_foreign_attribute_is_kept(method, monkeypatch):
    def foreign(self):
        return "foreign"

    (other,) = METHODS.keys() - {method}
    monkeypatch.delattr(BaseSignal, other)
    monkeypatch.setattr(BaseSignal, method, foreign)
    with pytest.warns(RuntimeWarning, match=f"already have an attribute '{method}'"):
        _autoload.install()
    assert getattr(BaseSignal, method) is foreign
    assert getattr(BaseSignal, other) is getattr(_autoload, other)


def test_failure_to_attach_only_warns(monkeypatch, watching):
    monkeypatch.setattr(_autoload, "_base_signal", lambda: int)
    with pytest.warns(RuntimeWarning, match="could not be added .TypeError"):
        _autoload.install()


def test_finder_waits_once_and_survives_a_failed_import(monkeypatch, watching, tmp_path):
    module = tmp_path / "late_signals.py"
    monkeypatch.setattr(_autoload, "_TARGET", module.stem)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    _autoload.install()
    _autoload.install()
    assert len(watching()) == 1

    module.write_text("raise ImportError('not yet')")
    with pytest.raises(ImportError, match="not yet"):
        __import__(module.stem)
    assert len(watching()) == 1

    module.write_text("class BaseSignal: pass\n")
    imported = __import__(module.stem)
    monkeypatch.delitem(sys.modules, module.stem)
    assert imported.BaseSignal.fewshot_classify is _autoload.fewshot_classify
    assert imported.BaseSignal.fewshot_embed is _autoload.fewshot_embed
    assert watching() == []


# The wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Wheel of the checkout, built without network."""
    pytest.importorskip("build")
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("wheel")
    arguments = ["--wheel", "--no-isolation", "--outdir", folder, CHECKOUT]
    run_python("-m", "build", *arguments, folder=folder)
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def wheel_environment(wheel, tmp_path_factory):
    """Environment with the wheel, and behind it the packages installed for this interpreter.

    They come through a .pth file: it adds their folder without running the .pth files in it,
    so that an editable install of the checkout is out of reach.
    """
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False, symlinks=os.name != "nt")
    scheme = {"base": str(folder), "platbase": str(folder)}
    site_packages = Path(sysconfig.get_path("purelib", "venv", scheme))
    behind = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (site_packages / "behind.pth").write_text("\n".join(sorted(behind)))
    python = Path(sysconfig.get_path("scripts", "venv", scheme)) / Path(sys.executable).name
    arguments = ["--no-deps", "--no-index", "--target", site_packages, wheel]
    run_python("-m", "pip", "install", *arguments, folder=folder)
    return folder, python


def test_wheel_gives_the_methods(wheel_environment):
    folder, python = wheel_environment
    output, _ = run_python("-I", CHECK, folder, python=python, folder=folder)
    assert str(folder) in output


def test_wheel_holds_all_files_of_the_package(wheel_environment):
    folder, _ = wheel_environment
    (installed,) = folder.rglob("hyperspy_fewshot/hyperspy_extension.yaml")

    def names(root):
        paths = (path.relative_to(root) for path in root.rglob("*") if path.is_file())
        return {path for path in paths if "__pycache__" not in path.parts}

    assert names(installed.parent) == names(CHECKOUT / "hyperspy_fewshot")


# The declared versions


def requirements(*extras):
    """Name and lower bound of the direct dependencies, from pyproject.toml."""
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    lines = list(project["dependencies"])
    for extra in extras:
        lines += project["optional-dependencies"][extra]
    found = (re.fullmatch(r"([\w-]+)(?:\[.*\])?>=([\d.]+)", line) for line in lines)
    return {match[1]: match[2] for match in found}


def pins(name):
    """Name and version of what a file of constraints pins."""
    lines = (CHECKOUT / name).read_text().splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def test_the_lowest_versions_are_pinned_as_declared():
    lowest, declared = pins("constraints-oldest.txt"), requirements("tests")
    tested = pins("constraints.txt")
    assert lowest.pop("torch") == tested["torch"] and declared.pop("torch")
    assert lowest == declared
