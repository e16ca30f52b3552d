"""Wrong examples are named; suggestions and detections of a result."""

import warnings

import hyperspy.api as hs
import numpy as np
import pytest
from matplotlib.colors import to_rgb

from hyperspy_fewshot import FewShotResult, data
from hyperspy_fewshot.results.examples import Examples

CHIPS = {"chip_size": 24, "stride": 6, "show_progressbar": False}


@pytest.fixture(scope="module")
def specimen():
    return data.heterostructure((192, 216))


@pytest.fixture(scope="module")
def support(specimen):
    return specimen.support(5, margin=12)


@pytest.fixture(scope="module")
def result(specimen, support):
    return specimen.signal.fewshot_classify(support, **CHIPS)


@pytest.fixture(scope="module")
def spoilt(specimen, support):
    """One of the examples of "amorphous" lies in Ge."""
    wrong = {name: list(examples) for name, examples in support.items()}
    wrong["amorphous"][2] = specimen.support(5, seed=7, margin=12)["Ge"][0]
    with pytest.warns(UserWarning, match="Example 2 of class 'amorphous' resembles 'Ge'") as caught:
        found = specimen.signal.fewshot_classify(wrong, **CHIPS)
    assert "result.update(remove={'amorphous': 2})" in str(caught[0].message)
    return found


class TestExamples:
    def test_every_example_has_a_row(self, result, support):
        rows = [(row["class"], row["example"]) for row in result.examples.rows]
        assert rows == [(name, i) for name, given in support.items() for i in range(len(given))]
        right = [row["left_out"] == row["class"] for row in result.examples.rows]
        assert np.mean(right) == result.classifier.leave_one_out
        assert result.examples.contradicted == []
        assert "Probably wrong" not in repr(result)

    def test_a_wrong_one_is_named(self, spoilt):
        (row,) = spoilt.examples.contradicted
        assert (row["class"], row["example"], row["left_out"]) == ("amorphous", 2, "Ge")
        assert row["margin"] < 0
        assert "Probably wrong examples:" in repr(spoilt)
        assert repr(spoilt).splitlines()[-1].split() == [
            "amorphous",
            "2",
            "Ge",
            f"{row['margin']:.2f}",
            "contradicted",
        ]
        assert len(spoilt.examples.to_dataframe()) == 15
        assert spoilt.examples._repr_html_().count("contradicted") == 1

    def test_it_has_a_red_rim(self, spoilt):
        ax = spoilt.plot()
        red = [p for p in ax.patches if np.allclose(p.get_edgecolor()[:3], to_rgb("red"))]
        assert len(red) == 1
        x, y = spoilt.support.examples["amorphous"][2]
        scale = spoilt.signal.axes_manager[0].scale
        (left, top), (width, height) = red[0].get_xy(), (red[0].get_width(), red[0].get_height())
        assert left < x * scale < left + width
        assert top < y * scale < top + height

    def test_without_it_all_is_well(self, spoilt):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            better = spoilt.update(remove={"amorphous": 2})
        assert better.examples.contradicted == []

    @pytest.mark.parametrize("suffix", [".hspy", ".zspy"])
    def test_they_are_saved(self, spoilt, suffix, tmp_path):
        spoilt.save(tmp_path / f"result{suffix}")
        loaded = FewShotResult.load(tmp_path / f"result{suffix}")
        assert loaded.examples.rows == spoilt.examples.rows

    @pytest.mark.parametrize(
        "change",
        [
            {"class": "x"},
            {"example": 1.5},
            {"left_out": 3},
            {"margin": "a"},
            {"contradicted": 1},
            {"z": 1},
        ],
    )
    def test_damaged_rows(self, result, change):
        rows = ({**result.examples.rows[0], **change},)
        with pytest.raises(ValueError, match="the examples are damaged"):
            Examples.checked(rows, result.class_names)

    def test_rows_are_needed(self, result):
        with pytest.raises(ValueError, match="the examples are damaged"):
            Examples.checked("abc", result.class_names)

    def test_examples_that_share_their_data_have_one_row(self, specimen, support):
        first = support["Ge"][0]
        more = {**support, "Ge": [first, (first[0] + 1, first[1]), *support["Ge"][1:]]}
        found = specimen.signal.fewshot_classify(more, **CHIPS)
        indices = [row["example"] for row in found.examples.rows if row["class"] == "Ge"]
        assert indices == [0, 2, 3, 4, 5]

    def test_a_result_of_other_data_has_none(self, specimen, result):
        assert specimen.signal.fewshot_classify(result, show_progressbar=False).examples is None

    def test_an_example_of_two_classes(self, specimen, support):
        both = {**support, "Ge": [*support["Ge"], support["SrTiO3"][1]]}
        with pytest.warns(
            UserWarning,
            match=r"class 'Ge' is also one of class 'SrTiO3'|of class 'SrTiO3' is also one of class 'Ge'",
        ):
            specimen.signal.fewshot_classify(both, **CHIPS)

    def test_no_better_than_chance(self):
        rng = np.random.default_rng(0)
        noise = hs.signals.Signal1D(rng.poisson(5.0, (12, 14, 8)))
        places = rng.permutation([(x, y) for x in range(14) for y in range(12)])[:16].tolist()
        places = [tuple(place) for place in places]
        support = {"a": places[:8], "b": places[8:]}
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            found = noise.fewshot_classify(support, context=1, show_progressbar=False)
        right = sum(row["left_out"] == row["class"] for row in found.examples.rows)
        warned = any("no more than by chance" in str(w.message) for w in caught)
        assert warned == (right <= 8)


class TestSuggestions:
    def test_they_help_where_a_class_is_missing(self, specimen, support):
        few = {name: support[name][:2] for name in ("amorphous", "SrTiO3")}
        found = specimen.signal.fewshot_classify(few, **CHIPS)
        suggested = found.suggest(3)
        assert len(set(suggested)) == 3
        kinds = [specimen.truth[y, x] for x, y in suggested]
        assert specimen.class_names.index("Ge") in kinds

    def test_they_avoid_examples_and_audit(self, result):
        audit = result.audit(60)
        cells = {cell for _, cell in audit.design.places}
        grid, labels = result.domain.grid, result.labels.data
        suggested = result.suggest(12)
        for x, y in suggested:
            cell = grid.cell_at((y, x))
            assert int(np.ravel_multi_index(cell, labels.shape)) not in cells
            near = labels[max(0, cell[0] - 1) : cell[0] + 2, cell[1]]
            assert len(set(near)) == 1
        assert result.suggest(12) == suggested

    def test_they_can_be_used(self, result):
        (x, y), *_ = result.suggest(1)
        better = result.update({"Ge": [(x, y)]})
        assert better.support.shots["Ge"] == 6

    def test_a_loaded_result_has_none(self, result, tmp_path):
        result.save(tmp_path / "result.hspy")
        with pytest.raises(ValueError, match="does not hold its embeddings"):
            FewShotResult.load(tmp_path / "result.hspy").suggest()

    @pytest.mark.parametrize("shots", [2, 5])
    def test_of_lazy_data(self, specimen, support, shots):
        few = {name: examples[:shots] for name, examples in support.items()}
        eager = specimen.signal.fewshot_classify(few, **CHIPS)
        lazy = specimen.signal.as_lazy().fewshot_classify(few, **CHIPS)
        assert lazy.suggest(4) == eager.suggest(4)


class TestDetections:
    @pytest.fixture(scope="class")
    @classmethod
    def particles(cls):
        """A spectrum map with five particles, its result and their centres (x, y)."""
        rng = np.random.default_rng(0)
        places = [(8, 6), (30, 8), (18, 20), (36, 24), (6, 26)]
        rows, columns = np.indices((32, 44))
        inside = np.max([np.hypot(rows - y, columns - x) <= 1.5 for x, y in places], axis=0)
        spectra = np.array([[9.0, 1, 1, 5, 2, 2], [1, 9, 5, 1, 2, 2]])[inside.astype(int)]
        signal = hs.signals.Signal1D(rng.poisson(30 * spectra))
        for axis in signal.axes_manager.navigation_axes:
            axis.scale, axis.units, axis.offset = 0.5, "nm", 3.0
        support = {"film": [(2, 2), (40, 2), (25, 28)], "particle": places[:3]}
        return signal.fewshot_classify(support, show_progressbar=False), np.array(places)

    def test_every_particle_is_found_once(self, particles):
        result, places = particles
        found = result.detections("particle")
        assert len(found) == found.count[0] == 5
        assert found.count[1] <= 5 <= found.count[2]
        positions = np.array([[row["x [nm]"], row["y [nm]"]] for row in found.rows])
        for x, y in places:
            distances = np.linalg.norm(positions - [3 + 0.5 * x, 3 + 0.5 * y], axis=1)
            assert distances.min() <= 1.0
        assert all(0.5 <= row["score"] <= 1 for row in found.rows)

    def test_they_are_shown(self, particles):
        found = particles[0].detections("particle")
        head = str(found).splitlines()[0]
        assert head.startswith("particle: 5 instances, 95 % interval")
        assert list(found.to_dataframe().columns) == ["x [nm]", "y [nm]", "score"]
        ax = found.plot()
        (line,) = [line for line in ax.lines if line.get_marker() == "o"]
        assert len(line.get_xdata()) == 5

    def test_no_such_class(self, particles):
        with pytest.raises(ValueError, match="There is no class 'dirt'"):
            particles[0].detections("dirt")

    def test_frames_of_a_stack(self, scenes):
        result = scenes.made("stack")
        name = result.class_names[0]
        found = result.detections(name)
        assert {row["frame"] for row in found.rows} <= set(range(result.labels.data.shape[0]))
        for frame in (0, 1):
            shown = [row for row in found.rows if row["frame"] == frame]
            for options in ({"frame": frame}, *[{}] * (frame == 0)):
                (line,) = [x for x in found.plot(**options).lines if x.get_marker() == "o"]
                assert len(line.get_xdata()) == len(shown)
