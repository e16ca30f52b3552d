"""The benchmark of audits, wrong examples, suggestions and detections."""

import sys

import guidance
import numpy as np
import pytest


@pytest.mark.parametrize(("n", "half_width"), [(50, 0.1), (200, 0.05)])
def test_intervals_of_simulated_audits_cover(n, half_width):
    rng, hold, errors, widths = np.random.default_rng(0), [], [], []
    for _ in range(100):
        estimates, low, high, truth = guidance.simulated_audit(rng, n)
        hold.append((low <= truth) & (truth <= high))
        errors.append((estimates - truth)[0])
        widths.append((high - low)[0] / 2)
    # 100 audits of two to four classes: 0.96 covers with a standard deviation of 0.011.
    assert np.concatenate(hold).mean() > 0.93
    assert abs(np.mean(errors)) < 3 * np.std(errors) / np.sqrt(100)
    assert np.median(widths) < half_width


def test_matches_are_pairs():
    places = np.array([[10.0, 10.0], [30.0, 30.0], [50.0, 12.0]])
    found = np.array([[11.0, 10.0], [10.0, 12.0], [31.0, 29.0], [90.0, 90.0]])
    assert guidance._matches(found, places, 5) == 2
    assert guidance._matches(found[:0], places, 5) == 0


@pytest.mark.parametrize("kind", guidance._KINDS)
def test_defects_lie_where_the_image_differs(kind):
    image, places = guidance.lattice(kind, 0.01, 0, side=200)
    assert len(places) >= 6
    rows, columns = np.round(places).astype(int).T
    near = [image[r - 3 : r + 4, c - 3 : c + 4].mean() for r, c in zip(rows, columns, strict=True)]
    period = [
        image[r - 3 : r + 4, c - 13 : c - 6].mean() for r, c in zip(rows, columns, strict=True)
    ]
    assert abs(np.mean(near) - np.mean(period)) > 0.05


def test_small_run_writes_the_table(tmp_path, monkeypatch, capsys):
    out = tmp_path / "table.md"
    command = f"guidance.py --small --draws 1 --only audits detections --out {out}"
    monkeypatch.setattr(sys, "argv", command.split())
    guidance.main()
    table = out.read_text()
    assert table in capsys.readouterr().out
    assert "| audit | 50 places, 20 maps | coverage | " in table
    assert "| detections, lattice, 1 % | all | " in table
    assert "| detections, EDS map, 1 % | 40 counts | " in table
