"""The demonstration runs, and prints nothing that its users cannot act on."""

import subprocess
import sys

import pytest

# The demonstration with specimens that are quick to classify, in a fresh interpreter.
DEMO = """
import logging, warnings
from functools import partial
from hyperspy_fewshot import __main__, data

data.heterostructure = partial(data.heterostructure, (256, 288))
data.polycrystal = partial(data.polycrystal, (256, 288))
data.eds_spectrum_image = partial(data.eds_spectrum_image, (36, 36))
__main__._CHIP_SIZE = 32
level = logging.getLogger("hyperspy.decorators").level
with warnings.catch_warnings():
    assert __main__.main(["demo", "--out", "out", "--data", "nowhere"]) == 0
    assert [one for one in warnings.filters if "Lazy" in str(one[1])] == []
assert logging.getLogger("hyperspy.decorators").level == level
"""


@pytest.mark.slow
def test_the_demonstration(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", DEMO], cwd=tmp_path, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr
    for text in (done.stdout.lower(), done.stderr.lower()):
        assert "numba" not in text
        assert "deprecat" not in text
        assert "warn" not in text
    for name in ("heterostructure", "polycrystal", "eds"):
        assert (tmp_path / "out" / f"{name}.png").stat().st_size > 10_000
        assert (tmp_path / "out" / f"{name}.hspy").is_file()
    lines = done.stdout.splitlines()
    table = lines[
        lines.index("Sum spectrum of each class, quantified (eXSpy, Cliff-Lorimer):") + 2 :
    ]
    rows = {line[:22].strip(): line[22:].split() for line in table[:4]}
    assert list(rows) == ["carbon film", "FePt", "iron oxide", "FePt as measured"]
    iron = {name: float(row[2]) for name, row in rows.items() if name != "carbon film"}
    assert iron["FePt"] == pytest.approx(iron["FePt as measured"], abs=5)
    assert iron["iron oxide"] > 95
