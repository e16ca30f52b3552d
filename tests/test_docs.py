"""The examples run, and so does the code in README, in the documentation and in docstrings."""

import copy
import doctest
import importlib
import pkgutil
import re
import runpy
import shutil
import subprocess
import sys
import textwrap
import types
from pathlib import Path

import dask
import matplotlib.pyplot as plt
import pytest

import hyperspy_fewshot
from hyperspy_fewshot.encoders.weights import bundled_weights

CHECKOUT = Path(__file__).resolve().parents[1]
PAGES = sorted(path.name for path in (CHECKOUT / "docs").glob("*.rst"))
_BLOCK = re.compile(
    r"^\.\. (plot|printed|code-block)::( python)?\n((?:   :.*\n)*)\n((?:(?:   .*)?\n)+)",
    flags=re.MULTILINE,
)
# An hour of training, and what stands for it here.
REPLACED = {"Plan(minutes=60)": "Plan(steps=1, specimens=1, classes=2, shots=1, queries=1)"}


def blocks(page):
    """Kind and code of the Python blocks that a page shows, in order."""
    text = (CHECKOUT / "docs" / page).read_text(encoding="utf-8")
    return [
        (kind, textwrap.dedent(code))
        for kind, python, options, code in _BLOCK.findall(text)
        if (python or kind != "code-block") and ":include-source: False" not in options
    ]


@pytest.fixture
def in_a_folder(tmp_path, monkeypatch):
    """Run in an empty folder, with the weights that a training would write."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_encoder").mkdir()
    shutil.copy(bundled_weights("stem"), tmp_path / "my_encoder" / "stem.safetensors")
    yield tmp_path
    plt.close("all")


@pytest.fixture
def clusters(monkeypatch):
    """Clusters of one worker in this process in place of all others; settings of dask as before."""
    distributed = pytest.importorskip("distributed", reason="dask.distributed is not installed")
    opened = []

    class Cluster(distributed.LocalCluster):
        def __init__(self, **given):
            kept = {"processes": False, "n_workers": 1, "threads_per_worker": 1}
            super().__init__(**kept, resources={"GPU": 1}, dashboard_address=":0")
            opened.append(self)

        def scale(self, n=0, jobs=None):
            return super().scale(n) if jobs is None else None

    class Client(distributed.Client):
        def __init__(self, cluster=None, **given):
            super().__init__(cluster or Cluster())
            opened.append(self)

        def wait_for_workers(self, n):
            super().wait_for_workers(1, timeout=10)

    monkeypatch.setattr(distributed, "Client", Client)
    for module, name in (("dask_jobqueue", "SLURMCluster"), ("dask_cuda", "LocalCUDACluster")):
        stand_in = types.ModuleType(module)
        setattr(stand_in, name, Cluster)
        monkeypatch.setitem(sys.modules, module, stand_in)
    settings = copy.deepcopy(dask.config.config)
    yield
    dask.config.config.clear()
    dask.config.update(dask.config.config, settings)
    for one in reversed(opened):
        one.close()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["diffraction_scan", "embedding_map", "image", "spectrum_image"])
def test_example_writes_a_picture_and_prints_statistics(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    path = CHECKOUT / "examples" / f"{name}.py"
    runpy.run_path(str(path))
    assert (tmp_path / f"{name}_labels.png").stat().st_size > 10_000
    assert "95 % interval" in capsys.readouterr().out
    assert len(path.read_text(encoding="utf-8").splitlines()) < 50


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)])
def test_code_of_a_page_runs_in_order(page, in_a_folder, clusters, capsys):
    names = {"__name__": "__main__"}
    for kind, code in blocks(page):
        for long, short in REPLACED.items():
            code = code.replace(long, short)
        exec(compile(code, page, "exec"), names)
        printed = capsys.readouterr().out
        assert printed or kind != "printed"


def test_all_code_of_the_pages_is_found():
    for page in PAGES:
        text = (CHECKOUT / "docs" / page).read_text(encoding="utf-8")
        directives = re.findall(
            r"^ *\.\. (?:plot::(?!\n +:include-source: False)|printed::|code-block:: python)",
            text,
            re.MULTILINE,
        )
        assert len(blocks(page)) == len(directives)
        # Whatever else is set as code is a command line or a drawing.
        assert set(re.findall(r"code-block:: *(\w*)", text)) <= {"python", "sh", "none"}
        assert not re.search(r"^(?! *\.\. )[^\n]*::$", text, re.MULTILINE)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_code_of_the_readme_runs_in_order(in_a_folder):
    text = (CHECKOUT / "README.md").read_text(encoding="utf-8")
    found = re.findall(r"```(\w+)\n(.*?)```", text, re.DOTALL)
    assert {kind for kind, _ in found} == {"python", "sh"}
    names = {}
    for kind, code in found:
        if kind == "python":
            exec(compile(code, "README.md", "exec"), names)
    assert set(names["result"].class_names) == {"SrTiO3", "Ge", "cap"}
    assert (in_a_folder / "embeddings.zspy").is_dir()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_examples_in_docstrings_run(in_a_folder):
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    runner, finder, tried = doctest.DocTestRunner(optionflags=flags), doctest.DocTestFinder(), set()
    for found in pkgutil.walk_packages(hyperspy_fewshot.__path__, "hyperspy_fewshot."):
        if found.name.endswith("__main__"):
            continue
        for test in finder.find(importlib.import_module(found.name)):
            if test.examples:
                tried.add(test.name.removeprefix("hyperspy_fewshot."))
                assert runner.run(test).failed == 0, test.name
    assert tried >= {"_autoload.fewshot_classify", "_autoload.fewshot_embed"}


def test_imports_of_the_documentation_are_quiet():
    pytest.importorskip("sphinx")
    code = """
        import runpy
        runpy.run_path("docs/conf.py")
        import exspy.signals
        import hyperspy.utils.peakfinders2D
        import hyperspy.api as hs
        hs.signals.Signal1D([[1, 2]]).set_signal_type("EELS")
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_readme_and_front_page_show_the_same_call():
    readme = (CHECKOUT / "README.md").read_text(encoding="utf-8")
    front = (CHECKOUT / "docs" / "index.rst").read_text(encoding="utf-8")
    snippet = readme.split("```python\n")[1].split("```")[0]
    assert textwrap.indent(snippet, "   ", lambda line: line.strip()) in front
