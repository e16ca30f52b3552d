"""benchmarks/speed.py measures what it says, on data whose labels are right; no time is asserted."""

import os
import sys
from pathlib import Path

import hyperspy.api as hs
import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import measure  # noqa: E402
import resnet  # noqa: E402
import speed  # noqa: E402
import speed_data  # noqa: E402
import speed_lines  # noqa: E402
import speed_parts  # noqa: E402
import speed_tasks  # noqa: E402

pytestmark = [
    pytest.mark.filterwarnings("ignore:The NestedDirectoryStore is deprecated"),
    pytest.mark.filterwarnings("ignore:With one example"),
]


def command(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["speed.py", *map(str, arguments)])
    speed.main()


@pytest.mark.parametrize(
    ("kind", "shape"), [("patterns", (6, 9, 24, 20)), ("spectra", (6, 9, 64)), ("image", (60, 90))]
)
def test_specimens_are_the_same_again_and_differ_by_band(kind, shape):
    signal = speed_data.signal(kind, shape)
    assert signal.data.shape == shape
    assert signal.data.dtype == np.uint16
    np.testing.assert_array_equal(signal.data, speed_data.signal(kind, shape).data)
    thirds = np.split(signal.data.astype(float), 3, axis=1)
    left, middle, right = (abs(np.fft.fft2(third, axes=(0, 1))).mean() for third in thirds)
    assert len({left, middle, right}) == 3


def test_examples_lie_in_their_bands():
    classes = speed_data.bands(9)
    np.testing.assert_array_equal(classes, [0, 0, 0, 1, 1, 1, 2, 2, 2])
    examples = speed_data.support(9, 6)
    assert [{classes[x] for x, _ in places} for places in examples.values()] == [{0}, {1}, {2}]
    assert {y for _, y in examples["left"]} == {0, 1, 3, 4, 5}


def test_labels_are_judged_away_from_boundaries():
    labels = np.broadcast_to(speed_data.bands(60), (2, 60)).copy()
    labels[:, [17, 20, 22, 39]] = -1
    assert speed_data.right(labels) == (1, 0)
    labels[0, 30] = 0
    assert speed_data.right(labels) == (1 - 1 / (2 * 48), 0)
    labels[1, 31] = -1
    assert speed_data.right(labels) == (pytest.approx(1 - 1 / 95), pytest.approx(1 / 96))


def test_specimen_is_written_once(tmp_path):
    path = speed_data.written(tmp_path, "spectra", (4, 6, 16), "hspy")
    before = path.stat().st_mtime_ns
    assert speed_data.written(tmp_path, "spectra", (4, 6, 16), "hspy") == path
    assert path.stat().st_mtime_ns == before
    np.testing.assert_array_equal(hs.load(path).data, speed_data.signal("spectra", (4, 6, 16)).data)


def test_resnet_costs_what_was_published():
    network = resnet.resnet101()
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        assert network(torch.zeros(1, 3, 224, 224)).shape == (1, 2048)
    assert counter.get_total_flops() / 2 == pytest.approx(7.8e9, rel=0.001)
    # Those of torchvision without its classifier, and one number for two of each batch norm.
    assert sum(p.numel() for p in network.parameters()) == 44_549_160 - 2_049_000 - 52_672


def test_fresh_process_has_its_own_threads(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert measure.here(os.getpid) == os.getpid() != measure.fresh(os.getpid)
    assert measure.fresh(os.getenv, "OMP_NUM_THREADS") is None


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux forgets a peak")
def test_peak_is_that_since_its_start():
    np.ones(2**26).sum()
    peak = measure.Peak()
    assert peak.above() < 2**27
    np.ones(2**25).sum()
    assert peak.above() == pytest.approx(2**28, rel=0.1)


def test_rows_show_a_bar_that_is_missed():
    late = speed_lines.at_most("p", "w", 2.2, "half", 1.1, 1.5)
    assert late.cells == ["p", "w", "2.20 s", "half", "2.00", "at most 1.5", "**missed**"]
    soon = speed_lines.faster("p", "w", 0.5, "plain", 210.0, 4)
    assert soon.cells == ["p", "w", "0.50 s", "plain", "420", "at least 4", "yes"]
    assert speed_lines.faster("p", "w", 0.5, "plain", 2.0).met is None


def test_growth_is_a_slope_of_logarithms():
    assert speed_parts._power([1, 10, 100], [3.0, 30.0, 300.0]) == pytest.approx(1)
    assert speed_parts._power([4, 16], [5.0, 10.0]) == pytest.approx(0.5)


def test_small_benchmark_has_the_labels_of_data_in_memory(monkeypatch, tmp_path, capsys):
    out = tmp_path / "table.md"
    parts = "patterns,images,spectra,growth"
    command(monkeypatch, "--small", "--only", parts, "--folder", tmp_path / "data", "--out", out)
    table = out.read_text(encoding="utf-8")
    assert table in capsys.readouterr().out
    lines = table.splitlines()
    assert {line.count("|") for line in lines} == {8}
    assert "missed" not in table
    differ = [line for line in lines if "that differ from" in line]
    assert len(differ) == 9
    assert all("| 0 | of " in line and line.endswith("| 0 | yes |") for line in differ)


def test_labels_are_those_of_data_in_memory_on_workers_and_threads(tmp_path):
    path = speed_data.written(tmp_path, "patterns", (6, 9, 20, 16))
    eager = speed_tasks.classification(path, False, context=1)
    assert eager["right"] == (1, 0)
    for found in (speed_tasks.on_threads(path, 2), speed_tasks.on_workers(path, 1)):
        np.testing.assert_array_equal(found["labels"], eager["labels"])


def test_command_fails_where_labels_differ(monkeypatch, capsys):
    def wrong(bench):
        found, eager = ({"labels": np.array(labels)} for labels in ([0, 1, -1], [0, 2, 1]))
        yield speed_lines.same("p", "lazy", found, eager)

    monkeypatch.setitem(speed.PARTS, "images", wrong)
    with pytest.raises(SystemExit, match="Labels differ .*: lazy"):
        command(monkeypatch, "--small", "--only", "images")
    assert "| 2 | of 3 |  | 0 | **missed** |" in capsys.readouterr().out


def test_unknown_part_is_refused(monkeypatch, capsys):
    with pytest.raises(SystemExit):
        command(monkeypatch, "--only", "images,pattern")
    assert "not pattern" in capsys.readouterr().err
