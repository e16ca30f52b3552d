"""The speed benchmark measures what it says; no time is asserted."""

import subprocess
import sys
from pathlib import Path

import hyperspy.api as hs
import measurements
import numpy as np
import pytest
import speed

CHECKOUT = Path(__file__).resolve().parents[2]

pytestmark = [
    pytest.mark.filterwarnings("ignore:The NestedDirectoryStore is deprecated"),
    pytest.mark.filterwarnings("ignore:With one example"),
]


def command(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["speed.py", *map(str, arguments)])
    speed.main()


@pytest.mark.parametrize("shape", [(6, 9, 24, 20), (6, 9, 64), (60, 90)])
def test_specimens_are_reproducible_and_their_bands_differ(tmp_path, shape):
    paths = [tmp_path / f"{name}.hspy" for name in "ab"]
    for path in paths:
        measurements.write(path, shape)
    first, second = (hs.load(path).data for path in paths)
    assert first.shape == shape
    assert first.dtype == np.uint16
    np.testing.assert_array_equal(first, second)
    thirds = np.split(first.astype(float), 3, axis=1)
    left, middle, right = (abs(np.fft.fft2(third, axes=(0, 1))).mean() for third in thirds)
    assert len({left, middle, right}) == 3


def test_examples_lie_in_their_bands():
    classes = measurements.bands(9)
    np.testing.assert_array_equal(classes, [0, 0, 0, 1, 1, 1, 2, 2, 2])
    examples = measurements.examples(hs.signals.Signal1D(np.zeros((6, 9, 4))))
    assert [{classes[x] for x, _ in places} for places in examples.values()] == [{0}, {1}, {2}]
    assert {y for _, y in examples["left"]} == {0, 1, 3, 4, 5}


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is measured on Linux only")
def test_peak_memory_is_that_of_the_system():
    import resource

    # The system counts in KiB.
    expected = 1.024e-3 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert measurements._peak_memory() == pytest.approx(expected, rel=0.05)


def test_small_run_writes_a_table_with_equal_labels(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(speed, "_CALLS", 2)
    # The spectra are the fastest to classify.
    monkeypatch.setattr(speed, "SIZES", {"spectra": speed.SIZES["spectra"]})
    monkeypatch.setattr(speed, "CASES", {"spectra": speed.CASES["spectra"][:2]})
    out = tmp_path / "table.md"
    parts = ["spectra", "growth", "iteration"]
    command(monkeypatch, "--small", "--folder", tmp_path, "--out", out, "--only", *parts)
    table = out.read_text(encoding="utf-8")
    assert table == capsys.readouterr().out
    lines = table.splitlines()
    assert {line.count("|") for line in lines} == {6}
    assert len(lines) == 3 + 2 * 5 + 2 + 2 * 4
    same = [line for line in lines if "labels that differ" in line]
    assert len(same) == 4
    assert all("| 0 | " in line for line in same)


def test_patterns_and_images_are_compared_with_simpler_ways(monkeypatch, tmp_path):
    # One call of each is enough to see that they run.
    monkeypatch.setattr(speed, "_CALLS", 1)
    cases = {"patterns": speed.CASES["patterns"][:1], "images": speed.CASES["images"]}
    monkeypatch.setattr(speed, "CASES", cases)
    bench = speed.Bench(tmp_path, small=True)
    rows = [row for part in (speed.patterns, speed.images) for row in part(bench)]
    assert [row[2] for row in rows if row[1].endswith("labels that differ")] == ["0"] * 3
    compared = " ".join(against for *_, against, _ in rows)
    for name in ("reading", "encoding", "plain map", "stride=64", "every chip alone"):
        assert name in compared


def test_command_fails_where_labels_differ(monkeypatch, capsys):
    rows = [("data", f"{name}: labels that differ", n, "", "") for name, n in ("a0", "b2")]
    monkeypatch.setitem(speed.PARTS, "images", lambda bench: rows)
    with pytest.raises(SystemExit, match="^data, b: labels that differ$"):
        command(monkeypatch, "--small", "--only", "images")
    assert "| data | b: labels that differ | 2 |  |  |" in capsys.readouterr().out


def test_checkouts_are_measured_alternately(monkeypatch, tmp_path):
    used = []

    def run(self, name, path, checkout=None, **options):
        used.append(checkout)
        return {"seconds": len(used) if checkout == CHECKOUT else 100.0}

    monkeypatch.setattr(speed.Bench, "run", run)
    monkeypatch.setattr(speed, "CASES", {"spectra": speed.CASES["spectra"][:1]})
    rows = list(speed.against_base(speed.Bench(tmp_path), "spectra", tmp_path))
    # The first writes the file.
    assert used == [None, *[CHECKOUT, tmp_path] * 6]
    assert [row[1:] for row in rows] == [
        ("encoder=pca, context=1, in memory", "2.00 s", "base: 100.00 s", "0.02"),
        ("encoder=pca, context=1, lazy", "8.00 s", "base: 100.00 s", "0.08"),
    ]


def test_measurement_runs_in_a_process_of_its_own_with_the_given_checkout(tmp_path, capfd):
    other = tmp_path / "hyperspy_fewshot"
    other.mkdir()
    (other / "__init__.py").write_text("")
    bench, path = speed.Bench(tmp_path, small=True), tmp_path / "spectra.hspy"
    assert bench.run("write", path, CHECKOUT, shape=(4, 6, 16)) is None
    assert hs.load(path).data.shape == (4, 6, 16)
    with pytest.raises(subprocess.CalledProcessError):
        bench.run("write", path, tmp_path, shape=(4, 6, 16))
    assert str(other) in capfd.readouterr().err
