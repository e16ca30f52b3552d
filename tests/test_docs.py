"""The examples run, and so does the code on the pages of the documentation."""

import re
import runpy
import textwrap
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[1]
_BLOCK = re.compile(
    r"^\.\. (plot|printed)::\n((?:   :.*\n)*)\n((?:(?:   .*)?\n)+)", flags=re.MULTILINE
)


def blocks(page):
    """Code of a page that is run when the documentation is built."""
    text = (CHECKOUT / "docs" / page).read_text(encoding="utf-8")
    return [(kind, textwrap.dedent(code)) for kind, _, code in _BLOCK.findall(text)]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["diffraction_scan", "image", "spectrum_image"])
def test_example_writes_a_picture_and_prints_statistics(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    path = CHECKOUT / "examples" / f"{name}.py"
    runpy.run_path(str(path))
    assert (tmp_path / f"{name}_labels.png").stat().st_size > 10_000
    assert "95 % interval" in capsys.readouterr().out
    assert len(path.read_text(encoding="utf-8").splitlines()) < 50


@pytest.mark.slow
@pytest.mark.parametrize(("page", "least"), [("first_label_map.rst", 15), ("encoders.rst", 5)])
def test_code_of_a_page_runs_in_order(page, least, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    found = blocks(page)
    assert len(found) >= least
    names = {}
    for kind, code in found:
        exec(compile(code, page, "exec"), names)
        printed = capsys.readouterr().out
        assert printed or kind == "plot"


def test_readme_and_front_page_show_the_same_call():
    readme = (CHECKOUT / "README.md").read_text(encoding="utf-8")
    front = (CHECKOUT / "docs" / "index.rst").read_text(encoding="utf-8")
    snippet = readme.split("```python\n")[1].split("```")[0]
    assert textwrap.indent(snippet, "   ", lambda line: line.strip()) in front
