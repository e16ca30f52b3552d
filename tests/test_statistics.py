"""Statistics of small maps, worked out by hand."""

import json

import numpy as np
import pytest

from hyperspy_fewshot.statistics import Statistics, label_statistics

NAMES = ("matrix", "phase", "void")
# Cells of 4 x 4 px on an image of 18 x 22: the last row and column are half cells.
LABELS = np.array(
    [
        [0, 0, 1, 1, 0, 0],
        [0, 1, 0, 0, 1, -1],
        [0, 0, 0, -1, 1, 1],
        [-2, 0, 1, 0, 0, 1],
        [-2, 1, 0, 0, 0, 1],
    ]
)
AREAS = np.outer([4, 4, 4, 4, 2], [4, 4, 4, 4, 4, 2])


def statistics(labels=LABELS, confidence=0.9, **options):
    """Statistics with one confidence everywhere."""
    values = np.where(labels < 0, np.nan, confidence).astype(np.float32)
    options = {"cell_areas": AREAS, "area_scale": 0.25, "units": "nm²", **options}
    return label_statistics(labels, values, NAMES, **options)


def test_counts_fractions_and_areas_of_cut_cells():
    rows = statistics().rows
    assert list(rows) == [*NAMES, "rejected", "masked"]
    counts = {name: row["count"] for name, row in rows.items()}
    assert counts == {"matrix": 16, "phase": 10, "void": 0, "rejected": 2, "masked": 2}
    pixels = {
        "matrix": 12 * 16 + 8 + 3 * 8,
        "phase": 6 * 16 + 2 * 8 + 8 + 4,
        "void": 0,
        "rejected": 16 + 8,
        "masked": 16 + 8,
    }
    assert sum(pixels.values()) == 18 * 22
    for name, row in rows.items():
        assert row["area"] == pytest.approx(pixels[name] * 0.25)
        if name != "masked":
            assert row["fraction"] == pytest.approx(pixels[name] / (18 * 22 - 24))
    assert np.isnan(rows["masked"]["fraction"])
    assert sum(row["fraction"] for name, row in rows.items() if name != "masked") == pytest.approx(
        1
    )


def test_regions_are_connected_over_edges_not_corners():
    rows = statistics().rows
    # Phase: top, left, two over a corner of each other on the right, two below.
    assert {name: row["regions"] for name, row in rows.items()} == {
        "matrix": 3,
        "phase": 5,
        "void": 0,
        "rejected": 2,
        "masked": 1,
    }
    assert rows["phase"]["region_area"] == pytest.approx(124 * 0.25 / 5)
    assert rows["void"]["region_area"] == 0
    diagonal = statistics(np.eye(5, dtype=int), cell_areas=np.ones((5, 5))).rows
    assert diagonal["phase"]["regions"] == 5
    assert diagonal["matrix"]["regions"] == 2


def test_confidence_is_the_mean_of_the_class():
    confidence = np.where(LABELS < 0, np.nan, 0.5 + LABELS / 4)
    confidence[0, 0] = 1.0
    rows = label_statistics(LABELS, confidence, NAMES, cell_areas=AREAS).rows
    assert rows["matrix"]["confidence"] == pytest.approx((15 * 0.5 + 1) / 16)
    assert rows["phase"]["confidence"] == pytest.approx(0.75)
    assert np.isnan([rows[name]["confidence"] for name in ("void", "rejected", "masked")]).all()


def test_interval_equals_its_formula():
    rng = np.random.default_rng(0)
    confidence = np.where(LABELS < 0, np.nan, rng.uniform(0.4, 1, LABELS.shape))
    rows = label_statistics(LABELS, confidence, NAMES, cell_areas=AREAS, overlap=16).rows
    total = AREAS[LABELS != -2].sum()
    for k, name in enumerate(NAMES):
        variance = 0.0
        for label, c, area in zip(LABELS.flat, confidence.flat, AREAS.flat, strict=True):
            if label >= 0:
                p = c if label == k else (1 - c) / 2
                variance += area**2 * p * (1 - p)
        half = 1.96 * np.sqrt(16 * variance) / total
        fraction = AREAS[LABELS == k].sum() / total
        assert rows[name]["fraction_low"] == pytest.approx(max(fraction - half, 0))
        assert rows[name]["fraction_high"] == pytest.approx(min(fraction + half, 1))
    assert rows["void"]["fraction_high"] > 0


def test_interval_covers_the_truth_of_calibrated_labels():
    rng = np.random.default_rng(0)
    covered = []
    for _ in range(300):
        first = rng.random((20, 15))
        # As many labels err one way as the other: counting them is not biased.
        first = np.concatenate([first, 1 - first], axis=1)
        truth = rng.random((20, 30)) > first
        labels, confidence = (first < 0.5).astype(int), np.maximum(first, 1 - first)
        options = {"cell_areas": np.ones((20, 30))}
        row = label_statistics(labels, confidence, ("a", "b"), **options).rows["a"]
        covered.append(row["fraction_low"] <= (~truth).mean() <= row["fraction_high"])
    assert 0.92 < np.mean(covered) < 0.98


def test_sure_labels_have_no_interval_and_doubt_widens_it():
    widths = {}
    for c in (1.0, 0.9, 0.6):
        row = statistics(confidence=c).rows["phase"]
        widths[c] = row["fraction_high"] - row["fraction_low"]
    assert widths[1.0] == 0
    assert 0 < widths[0.9] < widths[0.6]
    wide = statistics(overlap=4.0).rows["phase"]
    assert wide["fraction_high"] - wide["fraction"] == pytest.approx(2 * widths[0.9] / 2)


def test_both_of_two_classes_have_the_same_interval():
    confidence = np.random.default_rng(0).uniform(0.5, 1, (6, 7))
    labels = np.random.default_rng(1).integers(0, 2, (6, 7))
    rows = label_statistics(labels, confidence, ("a", "b"), cell_areas=np.ones((6, 7))).rows
    widths = [rows[name]["fraction_high"] - rows[name]["fraction_low"] for name in "ab"]
    assert widths[0] == pytest.approx(widths[1])


def test_frames_are_counted_apart_and_never_connected():
    labels = np.array([[[0, 1], [0, 0]], [[0, 1], [1, -2]], [[0, 2], [0, -1]]])
    options = {"cell_areas": np.ones((2, 2)), "area_scale": 1.0}
    whole = statistics(labels, frames=1, **options)
    assert whole.rows["matrix"] == {**whole.rows["matrix"], "count": 6, "regions": 3, "area": 6.0}
    assert whole.rows["phase"]["regions"] == 3
    assert whole.rows["phase"]["region_area"] == 1
    assert list(whole.frames) == [(0,), (1,), (2,)]
    for index, frame in whole.frames.items():
        alone = statistics(labels[index], **options)
        # NaN is not equal to itself, but is written alike.
        assert json.dumps(frame.to_dict()) == json.dumps(alone.to_dict())
    assert whole.frames[1,].fractions == {"matrix": 1 / 3, "phase": 2 / 3, "void": 0}
    # As one space of three axes, what lies above another is connected.
    space = statistics(labels, frames=0, **options)
    assert space.rows["matrix"]["regions"] == 1
    assert space.frames == {}


def test_frames_of_two_axes():
    labels = np.zeros((2, 3, 2, 2), int)
    whole = statistics(labels, frames=2, cell_areas=np.ones((2, 2)))
    assert whole.rows["matrix"]["regions"] == 6
    assert list(whole.frames) == list(np.ndindex(2, 3))


def test_a_line_scan():
    rows = statistics(np.array([0, 0, 1, 0, -2, 0]), cell_areas=np.ones(6)).rows
    assert (rows["matrix"]["regions"], rows["phase"]["regions"]) == (3, 1)
    assert rows["matrix"]["fraction"] == pytest.approx(4 / 5)


@pytest.mark.filterwarnings("error")
def test_a_map_without_labels():
    rows = statistics(np.full((5, 6), -2)).rows
    assert rows["masked"]["count"] == 30
    assert rows["masked"]["area"] == pytest.approx(18 * 22 / 4)
    for name in NAMES:
        assert rows[name]["count"] == rows[name]["regions"] == rows[name]["area"] == 0
        assert np.isnan(
            [rows[name][key] for key in ("fraction", "fraction_low", "confidence")]
        ).all()
    assert "masked" in str(statistics(np.full((5, 6), -2)))


@pytest.mark.filterwarnings("error")
def test_a_map_of_rejected_labels():
    rows = statistics(np.full((5, 6), -1)).rows
    assert rows["rejected"]["fraction"] == 1
    assert rows["matrix"]["fraction"] == rows["matrix"]["fraction_high"] == 0


# What is shown and handed on.


def test_to_dict_holds_plain_numbers_and_is_a_copy():
    whole = statistics()
    table = whole.to_dict()
    for row in table.values():
        for key, value in row.items():
            assert type(value) is (int if key in ("count", "regions") else float), key
    json.dumps(table)
    table["matrix"]["count"] = -5
    assert whole.rows["matrix"]["count"] == 16
    assert whole.fractions == {name: whole.rows[name]["fraction"] for name in NAMES}


def test_to_dataframe():
    pytest.importorskip("pandas")
    frame = statistics().to_dataframe()
    assert list(frame.index) == [*NAMES, "rejected", "masked"]
    assert list(frame["count"]) == [16, 10, 0, 2, 2]
    assert frame.loc["phase", "area"] == pytest.approx(31)
    assert list(frame.columns[:5]) == ["count", "fraction", "fraction_low", "fraction_high", "area"]


def test_to_dataframe_without_pandas(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pandas", None)
    with pytest.raises(ImportError, match="needs pandas: pip install pandas"):
        statistics().to_dataframe()


def test_table_in_the_terminal():
    lines = str(statistics()).splitlines()
    assert lines[0].split("  ")[0] == "class"
    assert "area [nm²]" in lines[0]
    assert set(lines[1]) <= {"-", " "}
    phase = next(line for line in lines if line.startswith("phase"))
    assert phase.split() == [
        "phase",
        "10",
        "33.33",
        "%",
        *phase.split()[4:7],
        "%",
        "31",
        "5",
        "6.2",
        "0.900",
    ]
    assert [line.split()[0] for line in lines[2:]] == [*NAMES, "rejected", "masked"]
    assert len({len(line) for line in lines[:2]}) == 1
    assert repr(statistics()) == str(statistics())


def test_table_leaves_out_what_there_is_none_of():
    shown = str(statistics(np.abs(LABELS) % 2))
    assert "rejected" not in shown
    assert "masked" not in shown
    assert "void" in shown


def test_table_in_jupyter_escapes_names():
    labels = np.array([[0, 1], [1, 1]])
    made = label_statistics(
        labels, np.ones((2, 2)), ("<b>bold</b>", "a & b"), cell_areas=np.ones((2, 2))
    )
    html = made._repr_html_()
    assert "<b>" not in html
    assert "<td>&lt;b&gt;bold&lt;/b&gt;</td>" in html
    assert "<td>a &amp; b</td>" in html
    assert html.count("<tr>") == html.count("</tr>") == 3
    assert html.startswith("<table>") and html.endswith("</table>")


def test_statistics_are_what_they_are_made_of():
    row = {"count": 3, "fraction": 0.5}
    made = Statistics({"a": row, "rejected": row, "masked": row}, "px²")
    assert made.fractions == {"a": 0.5}
