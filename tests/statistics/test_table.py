"""The table of statistics: text, HTML, dict and data frame."""

import json
import sys

import numpy as np
import pytest

from hyperspy_fewshot.statistics import Statistics


def row(count, fraction, low=np.nan, high=np.nan, confidence=np.nan):
    return {
        "count": count,
        "fraction": fraction,
        "fraction_low": low,
        "fraction_high": high,
        "area": 3.1 * count,
        "regions": 5,
        "region_area": 0.62 * count,
        "confidence": confidence,
        "shots": 3,
    }


@pytest.fixture
def table():
    rows = {
        "matrix": row(16, 0.6042, 0.551, 0.6578, 0.95),
        "<b>a & b</b>": row(10, 0.3333, 0.28, 0.3866, 0.9),
        "void": row(0, 0.0, 0.0, 0.021),
        "rejected": row(2, 0.0625),
        "masked": row(3, np.nan),
    }
    return Statistics(rows, "nm²")


def cells(line):
    return [cell.strip() for cell in line.split("  ") if cell.strip()]


def test_text(table):
    lines = str(table).splitlines()
    assert cells(lines[0]) == [
        "class", "count", "fraction", "95 % interval", "area [nm²]", "regions",
        "mean region [nm²]", "confidence",
    ]  # fmt: skip
    assert set(lines[1]) == {"-"}
    assert cells(lines[3]) == [
        "<b>a & b</b>", "10", "33.33 %", "28.0 - 38.7 %", "31", "5", "6.2", "0.900",
    ]  # fmt: skip
    assert cells(lines[5]) == ["rejected", "2", "6.25 %", "6.2", "5", "1.24"]
    assert cells(lines[6]) == ["masked", "3", "9.3", "5", "1.86"]
    assert len({len(line) for line in lines}) == 1
    assert repr(table) == str(table)


def test_a_class_of_one_shot_says_so(table):
    table.rows["matrix"]["shots"] = 1
    assert "55.1 - 65.8 %, one shot" in str(table).splitlines()[2]
    assert "one shot" not in str(table).splitlines()[3]


def test_explanation():
    parts = {
        "matrix": {"fraction": 0.604, "of_labels": 0.0123},
        "void": {"fraction": 0.0, "of_labels": 0.1},
    }
    explained = Statistics({}, "px²", parts=parts).explain()
    lines = str(explained).splitlines()
    assert cells(lines[0]) == ["[%]", "fraction", "of labels"]
    assert cells(lines[2]) == ["matrix", "60.40", "1.23"]
    assert cells(lines[3]) == ["void", "0.00", "10.00"]
    assert repr(explained) == str(explained)
    assert explained._repr_html_().count("<tr>") == 3
    explained.to_dict()["matrix"]["fraction"] = 5
    assert explained.to_dict() == parts


def test_long_names_are_not_truncated():
    name = "a very long name of a class " * 20
    assert name.strip() in str(Statistics({name.strip(): row(1, 1.0, 1.0, 1.0)}, "px²"))


def test_rejected_and_masked_are_left_out_where_there_are_none():
    rows = {"void": row(0, 0.0), "rejected": row(0, 0.0), "masked": row(0, np.nan)}
    shown = str(Statistics(rows, "px²"))
    assert "rejected" not in shown
    assert "masked" not in shown
    assert "void" in shown


def test_html_escapes_names(table):
    html = table._repr_html_()
    assert "<b>" not in html
    assert "<td>&lt;b&gt;a &amp; b&lt;/b&gt;</td>" in html
    assert html.count("<tr>") == html.count("</tr>") == 6
    assert html.startswith("<table>")
    assert html.endswith("</table>")


def test_to_dict_is_a_copy(table):
    copy = table.to_dict()
    assert json.dumps(copy) == json.dumps(table.rows)
    copy["matrix"]["count"] = -5
    assert table.rows["matrix"]["count"] == 16


def test_fractions_are_those_of_the_classes(table):
    assert table.fractions == {"matrix": 0.6042, "<b>a & b</b>": 0.3333, "void": 0.0}


def test_to_dataframe(table):
    pytest.importorskip("pandas")
    frame = table.to_dataframe()
    assert list(frame.index) == list(table.rows)
    assert list(frame.columns) == list(row(0, 0.0))
    assert list(frame["count"]) == [16, 10, 0, 2, 3]


def test_to_dataframe_without_pandas(monkeypatch, table):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match="needs pandas: pip install pandas"):
        table.to_dataframe()
