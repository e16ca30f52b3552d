"""A file is whole or not there, and an interrupted save goes on where it stopped."""

import json
import os
import shutil
import signal as signals_of_the_system
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import dask
import hyperspy.api as hs
import numpy as np
import pytest

from hyperspy_fewshot import EmbeddingMap, FewShotResult, SupportSet, embed
from hyperspy_fewshot.output import files, partial
from hyperspy_fewshot.results import embedding_map, storage

pytestmark = pytest.mark.filterwarnings("ignore:With one example a class:UserWarning")

SUPPORT = {"a": [(0, 0), (2, 5), (1, 3)], "b": [(6, 1), (5, 4), (6, 5)]}
NAMES = ("labels", "probabilities", "confidence")


@pytest.fixture
def classify(scenes):
    def classify(signal=None, **options):
        signal = scenes.spectra() if signal is None else signal
        options = {"encoder": "pca", "context": 1, "lazy_output": True, **options}
        return signal.fewshot_classify(options.pop("support", SUPPORT), **options)

    return classify


def assert_same(one, other):
    for name in NAMES:
        np.testing.assert_array_equal(getattr(one, name).data, getattr(other, name).data)
    assert str(one.statistics) == str(other.statistics)


@pytest.fixture
def expected(classify, in_pieces):
    return classify().compute()


@pytest.fixture(params=[".hspy", ".zspy"])
def path(request, tmp_path):
    return tmp_path / f"result{request.param}"


@pytest.fixture
def failing(monkeypatch):
    """Has the n-th block that is written fail, as on a full disk."""
    store = partial._store

    def fail_at(n, error=None):
        written = []

        def fail(*arguments):
            written.append(arguments)
            if len(written) == n:
                raise error or OSError(28, "No space left on device")
            return store(*arguments)

        monkeypatch.setattr(partial, "_store", fail)
        return written

    # Other threads would still finish what they have begun.
    with dask.config.set(scheduler="synchronous"):
        yield fail_at


@pytest.fixture
def free_space(monkeypatch):
    """Sets how much is free on the disk [bytes]."""

    def set_free(size):
        usage = SimpleNamespace(total=2**40, used=2**40 - size, free=size)
        monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)

    return set_free


class TestRoundTrip:
    @pytest.fixture(params=["image", "spectra", "stack", "line scan"])
    def made(self, request, scenes):
        return scenes.made(request.param)

    @pytest.mark.parametrize("suffix", [".hspy", ".zspy"])
    def test_of_every_kind(self, made, suffix, tmp_path):
        path = tmp_path / f"a result [1]{suffix}"
        made.save(path)
        loaded = FewShotResult.load(str(path))
        assert_same(loaded, made)
        for name in ("probabilities", "confidence"):
            one, other = getattr(loaded, name), getattr(made, name)
            assert one.axes_manager.shape == other.axes_manager.shape
        assert type(loaded.labels) is type(made.labels)
        assert loaded.class_names == made.class_names
        assert loaded.support.describe() == made.support.describe()
        assert loaded.labels.metadata.General.title == made.labels.metadata.General.title
        # The image, whose edges the boundaries follow, is not saved.
        found, expected = (one.labels_at_pixels().data for one in (loaded, made))
        assert found.shape == expected.shape
        assert (found != expected).mean() < (0.05 if made.domain.is_image else 1e-9)
        assert (loaded.embedding_map, loaded.signal) == (None, None)
        if made.labels.axes_manager.navigation_dimension:
            np.testing.assert_array_equal(loaded.fractions_signal.data, made.fractions_signal.data)

    def test_a_loaded_result_can_be_saved_again(self, scenes, tmp_path):
        made = scenes.made("image")
        made.save(tmp_path / "one.hspy")
        FewShotResult.load(tmp_path / "one.hspy").save(tmp_path / "two.zspy")
        twice = FewShotResult.load(tmp_path / "two.zspy")
        again = scenes.image().fewshot_classify(twice)
        np.testing.assert_array_equal(again.labels.data, made.labels.data)

    def test_ready_examples_are_saved_with_their_data(self, classify, scenes, tmp_path):
        signal = scenes.spectra()
        support = {"a": [signal.data[0, 0], (2, 5)], "b": signal.inav[5:, 2]}
        made = classify(support=support)
        made.save(tmp_path / "ready.hspy")
        again = classify(support=FewShotResult.load(tmp_path / "ready.hspy").support)
        np.testing.assert_array_equal(again.compute().labels.data, made.labels.data)

    def test_non_uniform_axes_and_numpy_arguments(self, scenes, tmp_path):
        signal = scenes.image()
        signal.axes_manager[0].convert_to_non_uniform_axis()
        support = {"dark": [(8, 8), (12, 30), (6, 20)], "bright": [(45, 10), (40, 30), (46, 22)]}
        made = signal.fewshot_classify(
            support,
            chip_size=np.int64(8),
            stride=np.uint8(3),
            reject=np.float32(0.3),
            encoder="pca",
        )
        made.save(tmp_path / "odd.hspy")
        loaded = FewShotResult.load(tmp_path / "odd.hspy")
        np.testing.assert_array_equal(
            loaded.labels_at_pixels().axes_manager[0].axis, signal.axes_manager[0].axis
        )
        assert loaded.classifier.recipe.grid.stride == 3

    @pytest.mark.parametrize("suffix", [".hspy", ".zspy"])
    @pytest.mark.parametrize("lazy", [False, True])
    def test_hyperspy_loads_the_label_map(self, made, suffix, lazy, tmp_path):
        made.save(tmp_path / f"result{suffix}")
        labels = hs.load(tmp_path / f"result{suffix}", lazy=lazy)
        one = made.labels.axes_manager.signal_dimension == 1
        names = {
            (False, False): "LabelMap", (False, True): "LazyLabelMap",
            (True, False): "LabelMap1D", (True, True): "LazyLabelMap1D",
        }  # fmt: skip
        assert type(labels).__name__ == names[one, lazy]
        assert labels.class_names == made.class_names
        np.testing.assert_array_equal(np.asarray(labels.data), made.labels.data)
        for ours, theirs in zip(
            labels.axes_manager._axes, made.labels.axes_manager._axes, strict=True
        ):
            assert ours.get_axis_dictionary() == theirs.get_axis_dictionary()


class TestWhole:
    def test_a_lazy_result_is_saved_and_computed(self, path, classify, expected):
        result = classify()
        assert result.packed.npartitions > 4
        result.save(path)
        assert not any(getattr(result, name)._lazy for name in NAMES)
        assert [getattr(result, n).data.dtype for n in NAMES] == [np.int16, np.float32, np.float32]
        assert_same(result, expected)
        assert_same(FewShotResult.load(path), expected)
        assert os.listdir(path.parent) == [path.name]

    @pytest.mark.parametrize("lazy", [False, True])
    def test_a_full_disk(self, path, lazy, free_space, classify, scenes, expected):
        classify(scenes.spectra(seed=1), lazy_output=False).save(path)
        before = FewShotResult.load(path)
        result = classify(lazy_output=lazy)
        free_space(1000)
        with pytest.raises(OSError, match="No space left on device: 0 MB are needed"):
            result.save(path, overwrite=True)
        free_space(2**30)
        assert_same(FewShotResult.load(path), before)
        assert sorted(os.listdir(path.parent)) == [path.name] + [f"{path.name}.partial"] * lazy
        result.save(path, overwrite=True)
        assert_same(FewShotResult.load(path), expected)
        assert os.listdir(path.parent) == [path.name]

    @pytest.mark.parametrize("lazy", [False, True])
    def test_overwrite(self, path, lazy, monkeypatch, classify, scenes, expected):
        expected.save(path)
        result = classify(scenes.spectra(seed=1), lazy_output=lazy)
        result.save(path, overwrite=False)
        monkeypatch.setattr("builtins.input", lambda question: "n")
        result.save(path)
        assert result.labels._lazy == lazy
        assert_same(FewShotResult.load(path), expected)
        monkeypatch.setattr("builtins.input", lambda question: "y")
        result.save(path)
        assert_same(FewShotResult.load(path), result)
        with pytest.raises(ValueError, match="overwrite='yes' must be True, False or None"):
            result.save(path, overwrite="yes")


class TestResumed:
    @pytest.mark.parametrize("kind", [OSError, KeyboardInterrupt])
    def test_only_the_missing_blocks_are_computed(self, path, kind, failing, classify, expected):
        result = classify()
        total = result.packed.npartitions
        failing(4, kind("stopped"))
        with pytest.raises(kind, match="stopped") as caught:
            result.save(path)
        (note,) = caught.value.__notes__
        assert f"3 of {total} blocks are kept in '{path}.partial'" in note
        assert result.labels._lazy and not path.exists()
        written = failing(0)
        again = classify()
        again.save(path)
        assert len(written) == total - 3
        assert_same(again, expected)
        assert_same(FewShotResult.load(path), expected)
        assert os.listdir(path.parent) == [path.name]

    @pytest.mark.parametrize(
        ("options", "part"),
        [
            ({"support": {**SUPPORT, "b": [(6, 1), (5, 4), (6, 4)]}}, "support"),
            ({"support": {"c": SUPPORT["a"], "b": SUPPORT["b"]}}, "support"),
            ({"context": 3}, "settings"),
            ({"reject": False}, "settings"),
            ({"encoder": "spectrum"}, "settings"),
            ({"signal_mask": np.arange(30) > 28}, "settings"),
            ({"navigation_mask": np.eye(7, 6) > 0}, "settings"),
        ],
    )
    def test_another_classification_is_refused(
        self, options, part, tmp_path, failing, classify, in_pieces
    ):
        failing(3)
        with pytest.raises(OSError, match="No space"):
            classify().save(tmp_path / "result.zspy")
        failing(0)
        folder = tmp_path / "result.zspy.partial"
        before = {file: file.stat().st_mtime_ns for file in folder.rglob("*")}
        with pytest.raises(ValueError, match=rf"zspy.partial' holds .* differs in its {part}.*del"):
            classify(**options).save(tmp_path / "result.zspy")
        assert {file: file.stat().st_mtime_ns for file in before} == before

    def test_of_other_data_is_refused(self, tmp_path, failing, classify, scenes, in_pieces):
        failing(3)
        with pytest.raises(OSError, match="No space"):
            classify().save(tmp_path / "result.zspy")
        with pytest.raises(ValueError, match="differs in its data"):
            classify(scenes.spectra(seed=1)).save(tmp_path / "result.zspy")

    def test_with_a_classifier_from_elsewhere_is_refused(
        self, tmp_path, failing, classify, in_pieces
    ):
        failing(3)
        with pytest.raises(OSError, match="No space"):
            classify().save(tmp_path / "result.zspy")
        again = classify(support=classify(), encoder=None, context=None)
        with pytest.raises(ValueError, match="differs in its support"):
            again.save(tmp_path / "result.zspy")

    def test_a_computed_result_takes_the_place_of_its_blocks(
        self, path, failing, classify, expected
    ):
        failing(3)
        with pytest.raises(OSError, match="No space"):
            classify().save(path)
        with pytest.raises(ValueError, match="differs in its settings"):
            classify(context=3).compute().save(path)
        expected.save(path)
        assert_same(FewShotResult.load(path), expected)
        assert os.listdir(path.parent) == [path.name]

    def test_two_at_a_time_are_refused(self, path, classify, in_pieces):
        with partial.partial_folder(path, {}):
            with pytest.raises(ValueError, match="Another process is writing to"):
                classify().save(path)

    @pytest.mark.parametrize(
        "make",
        [
            lambda scenes: scenes.spectra().fewshot_classify(SUPPORT, lazy_output=True),
            lambda scenes: scenes.image((2,)).fewshot_classify(
                SupportSet({"a": [(0, 9, 9), np.ones((8, 8))], "b": [(1, 40, 30), (0, 40, 30)]}),
                chip_size=8,
                encoder="fourier",
                lazy_output=True,
            ),
            lambda scenes: scenes.patterns().fewshot_classify(
                SUPPORT, encoder="pca", lazy_output=True
            ),
        ],
    )
    def test_digests_repeat(self, make, scenes, tmp_path, failing, in_pieces):
        manifests = []
        for name in ("one.hspy", "two.hspy"):
            failing(2)
            with pytest.raises(OSError, match="No space"):
                make(scenes).save(tmp_path / name)
            manifest = tmp_path / f"{name}.partial" / "manifest.json"
            manifests.append(json.loads(manifest.read_text()))
        assert manifests[0] == manifests[1]
        assert list(manifests[0]) == ["data", "support", "settings", "versions", "blocks"]


class TestWhatIsNotOurs:
    """Neither what another program wrote is replaced, nor what the data come from."""

    @pytest.fixture(params=["hspy", "zspy", "text", "folder", "folder of text", "empty folder"])
    def mine(self, request, tmp_path, scenes):
        """A file or folder of a user, and how to tell that it is still as it was."""
        kind = request.param
        path = tmp_path / (
            "result.zspy" if "folder of" in kind or kind == "zspy" else "result.hspy"
        )
        if kind in ("hspy", "zspy"):
            scenes.image().save(path)
        elif kind == "text":
            path.write_text("mine")
        else:
            path.mkdir()
            if kind != "empty folder":
                (path / "raw.dm4").write_text("mine")
        files = sorted(path.rglob("*")) if path.is_dir() else [path]
        before = {file: file.read_bytes() for file in files if file.is_file()}

        def is_untouched():
            return path.exists() and all(f.read_bytes() == held for f, held in before.items())

        return path, is_untouched

    @pytest.mark.parametrize("lazy", [False, True])
    @pytest.mark.parametrize("overwrite", [None, True])
    def test_it_is_not_replaced(self, mine, lazy, overwrite, classify, scenes, monkeypatch):
        path, is_untouched = mine
        monkeypatch.setattr("builtins.input", lambda question: "y")
        signal, counts = scenes.counting(scenes.spectra(), (3, 3, 30))
        result = classify(signal, lazy_output=lazy)
        counts.clear()
        with pytest.raises(
            ValueError, match=f"'{path.name}' exists and is no file of hyperspy_few"
        ):
            result.save(path, overwrite=overwrite)
        assert is_untouched() and not counts
        assert os.listdir(path.parent) == [path.name]
        result.save(path, overwrite=False)
        assert is_untouched() and result.labels._lazy == lazy

    def test_nor_when_it_was_put_there_while_the_result_was_computed(
        self, tmp_path, failing, classify
    ):
        path, result = tmp_path / "result.hspy", classify()
        compute, written = partial.compute_into, failing(0)

        def put(*arguments, **options):
            path.write_text("mine")
            return compute(*arguments, **options)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(storage, "compute_into", put)
            with pytest.raises(ValueError, match="exists and is no file of hyperspy_fewshot"):
                result.save(path)
        assert path.read_text() == "mine"
        path.unlink()
        blocks = len(written)
        result.save(path)
        assert len(written) == blocks

    def test_a_file_of_a_user_in_a_folder_of_ours(self, scenes, tmp_path):
        path = tmp_path / "result.zspy"
        scenes.made("spectra").save(path)
        (path / ".DS_Store").write_bytes(b"")
        scenes.made("spectra").save(path, overwrite=True)
        (path / "notes.txt").write_text("mine")
        with pytest.raises(ValueError, match="exists and is no file of hyperspy_fewshot"):
            scenes.made("spectra").save(path, overwrite=True)
        assert (path / "notes.txt").read_text() == "mine"

    @pytest.mark.parametrize("suffix", [".hspy", ".zspy"])
    @pytest.mark.parametrize("lazy", [False, True])
    def test_the_data_are_not_replaced(self, suffix, lazy, classify, scenes, tmp_path):
        path = tmp_path / f"scan{suffix}"
        scenes.spectra().save(path)
        signal = hs.load(path, lazy=lazy)
        result = classify(signal, lazy_output=None)
        (tmp_path / "link").symlink_to(tmp_path)
        for given in (path, tmp_path / "link" / path.name):
            with pytest.raises(
                ValueError, match=f"'{path.name}' is the file that the data come fr"
            ):
                result.save(given, overwrite=True)
        if suffix == ".zspy":
            with pytest.raises(
                ValueError, match=f"'{path.name}' is the file that the data come fr"
            ):
                result.embedding_map.save(path, overwrite=True)
        np.testing.assert_array_equal(hs.load(path).data, scenes.spectra().data)

    def test_a_loaded_result_replaces_its_own_file(self, path, scenes):
        scenes.made("spectra").save(path)
        FewShotResult.load(path).save(path, overwrite=True)
        assert_same(FewShotResult.load(path), scenes.made("spectra"))

    def test_a_folder_of_a_user_with_the_name_of_ours(self, classify, tmp_path):
        mine = tmp_path / "result.hspy.partial" / "notes.txt"
        mine.parent.mkdir()
        mine.write_text("mine")
        with pytest.raises(ValueError, match="partial' holds 'notes.txt', which is no part"):
            classify().save(tmp_path / "result.hspy")
        classify().compute().save(tmp_path / "result.hspy")
        assert mine.read_text() == "mine"


class TestAxesWithExpressions:
    """HyperSpy evaluates the expression of an axis: files hold its values instead."""

    @pytest.fixture
    def signal(self, scenes):
        signal = scenes.spectra()
        x = {"expression": "a * x ** 2 + 3", "a": 0.5, "size": 7, "navigate": True, "units": "nm"}
        y = {"size": 6, "scale": 2.0, "navigate": True, "units": "nm"}
        energy = {"expression": "b / (x + 2)", "b": 90.0, "size": 30, "units": "eV"}
        # Array order is (y, x, energy); the scene has (6, 7, 30).
        return hs.signals.Signal1D(signal.data, axes=[y, x, {**energy, "navigate": False}])

    def test_results_and_maps_are_saved_with_values(self, signal, path, classify, tmp_path):
        result = classify(signal, lazy_output=False)
        result.save(path)
        result.embedding_map.save(tmp_path / "map.zspy")
        loaded = FewShotResult.load(path)
        again = EmbeddingMap.load(tmp_path / "map.zspy", signal=signal).classify(SUPPORT)
        for found in (loaded, again):
            assert_same(found, result)
        expected = signal.axes_manager.navigation_axes[0].axis
        for labels in (loaded.labels, hs.load(path), loaded.labels_at_pixels()):
            axis = labels.axes_manager[0]
            assert (type(axis).__name__, axis.units) == ("DataAxis", "nm")
            np.testing.assert_array_equal(axis.axis, expected)
        np.testing.assert_array_equal(
            loaded.domain.signal_axes[0].axis, signal.axes_manager[-1].axis
        )
        np.testing.assert_array_equal(
            classify(signal, support=loaded, encoder=None, context=None).compute().labels.data,
            result.labels.data,
        )

    def test_of_an_image(self, scenes, path):
        image = scenes.image()
        axes = [
            {"expression": "x ** 2 / 9", "size": size, "navigate": False, "units": "nm"}
            for size in image.data.shape
        ]
        signal = hs.signals.Signal2D(image.data, axes=axes)
        made = signal.fewshot_classify(scenes.image_support, **scenes.image_settings)
        made.save(path)
        assert_same(FewShotResult.load(path), made)


class TestMetadata:
    def test_hyperspy_and_we_load_the_same(self, path, classify, scenes):
        signal = scenes.spectra()
        signal.original_metadata.add_dictionary(
            {
                "list": [1, "a", None],
                "words": ["a", "Größe"],
                "empty": [],
                "numbers": np.arange(3),
                "flag": True,
                "nested": {"deep": {"er": (1.5, 2.5)}},
                "nothing": None,
            }
        )
        classify(signal).save(path)
        ours, theirs = FewShotResult.load(path).labels, hs.load(path)
        found, expected = (s.original_metadata.as_dictionary() for s in (ours, theirs))
        np.testing.assert_equal(found, expected)
        found, expected = (s.metadata.as_dictionary() for s in (ours, theirs))
        del expected["FewShot"]["_saved"]
        # HyperSpy notes that it has loaded the file.
        del found["General"]["FileIO"], expected["General"]["FileIO"]
        np.testing.assert_equal(found, expected)
        for name in ("folder", "filename", "extension"):
            one, other = (s.tmp_parameters.get_item(name) for s in (ours, theirs))
            assert one == other

    def test_objects_are_left_out(self, path, classify, scenes):
        signal = scenes.spectra()
        ragged = np.empty(2, object)
        ragged[:] = [np.arange(2), np.arange(3)]
        for name, value in (("signal", scenes.image()), ("ragged", ragged), ("kept", "text")):
            signal.original_metadata.set_item(f"node.{name}", value)
            signal.metadata.set_item(f"Sample.{name}", value)
        signal.original_metadata.set_item("_datetime_date", "datetime.date(2000, 1, 1)")
        result = classify(signal)
        result.save(path)
        loaded = FewShotResult.load(path).labels
        assert loaded.original_metadata.as_dictionary() == {"node": {"kept": "text"}}
        assert loaded.metadata.Sample.as_dictionary() == {"kept": "text"}
        assert isinstance(result.labels.original_metadata.node.signal, hs.signals.BaseSignal)


class TestEmbeddingMap:
    SETTINGS = {"encoder": "pca", "context": 1}

    def test_a_lazy_one_is_saved_and_computed(self, scenes, in_pieces, tmp_path):
        expected = embed(scenes.image(), **scenes.image_settings)
        lazy = embed(scenes.lazily(scenes.image()), **scenes.image_settings)
        assert lazy.embeddings.data.npartitions > 4
        lazy.save(tmp_path / "map.zspy")
        assert os.listdir(tmp_path) == ["map.zspy"]
        loaded = EmbeddingMap.load(tmp_path / "map.zspy")
        for found in (lazy, loaded):
            assert not found.embeddings._lazy and not found.guide._lazy
            np.testing.assert_allclose(found.embeddings.data, expected.embeddings.data, atol=1e-4)
            np.testing.assert_array_equal(found.guide.data, expected.guide.data)
            assert type(found.embeddings) is type(expected.embeddings)

    def test_a_large_one_stays_on_disk(self, scenes, in_pieces, tmp_path, monkeypatch):
        monkeypatch.setattr(embedding_map, "_MOST_KEPT", 100)
        expected = embed(scenes.spectra(), **self.SETTINGS).classify(SUPPORT)
        lazy, counts = scenes.counting(scenes.spectra(), (2, 3, 30))
        found = embed(lazy, **self.SETTINGS)
        found.save(tmp_path / "map.zspy")
        assert found.embeddings._lazy
        counts.clear()
        result = found.classify(SUPPORT).compute()
        np.testing.assert_array_equal(result.labels.data, expected.labels.data)
        # Only the chunks of the six examples.
        assert len(counts) <= 6
        with pytest.raises(ValueError, match="'map.zspy' is the file that the data come from"):
            found.save(tmp_path / "map.zspy", overwrite=True)

    def test_only_the_missing_blocks_are_computed(self, scenes, in_pieces, tmp_path, failing):
        path, signal = tmp_path / "map.zspy", scenes.lazily(scenes.image((2,)))
        settings = scenes.image_settings
        lazy = embed(signal, **settings)
        total = lazy.embeddings.data.npartitions
        failing(6)
        with pytest.raises(OSError, match="No space") as caught:
            lazy.save(path)
        assert f"5 of {total} blocks are kept" in caught.value.__notes__[-1]
        assert lazy.embeddings._lazy and not path.exists()
        written = failing(0)
        embed(signal, **settings).save(path)
        assert len(written) == total - 5
        expected = embed(signal, **settings).compute()
        loaded = EmbeddingMap.load(path)
        np.testing.assert_array_equal(loaded.embeddings.data, expected.embeddings.data)
        np.testing.assert_array_equal(loaded.guide.data, expected.guide.data)
        assert os.listdir(tmp_path) == ["map.zspy"]

    @pytest.mark.parametrize(
        "options",
        [
            {"context": 3},
            {"encoder": "spectrum"},
            {"signal_mask": np.arange(30) > 28},
            {"navigation_mask": np.eye(7, 6) > 0},
        ],
    )
    def test_another_one_is_refused(self, options, scenes, in_pieces, tmp_path, failing):
        failing(3)
        with pytest.raises(OSError, match="No space"):
            embed(scenes.spectra().as_lazy(), **self.SETTINGS).save(tmp_path / "map.zspy")
        other = embed(scenes.spectra().as_lazy(), **{**self.SETTINGS, **options})
        with pytest.raises(ValueError, match=r"map.zspy.partial' holds .* differs in its settings"):
            other.save(tmp_path / "map.zspy")

    def test_of_other_blocks_is_refused(self, scenes, in_pieces, tmp_path, failing):
        failing(3)
        lazy, _ = scenes.counting(scenes.spectra(), (1, 4, 30))
        with pytest.raises(OSError, match="No space"):
            embed(lazy, **self.SETTINGS).save(tmp_path / "map.zspy")
        failing(0)
        lazy, _ = scenes.counting(scenes.spectra(), (4, 1, 30))
        with pytest.raises(ValueError, match="differs in its blocks"):
            embed(lazy, **self.SETTINGS).save(tmp_path / "map.zspy")
        computed = embed(scenes.spectra(), **self.SETTINGS)
        computed.save(tmp_path / "map.zspy")
        assert os.listdir(tmp_path) == ["map.zspy"]

    def test_overwrite_and_suffix(self, scenes, tmp_path):
        found = scenes.made("spectra").embedding_map
        with pytest.raises(ValueError, match="'map.hspy' must end in .zspy"):
            found.save(tmp_path / "map.hspy")
        found.save(tmp_path / "map.zspy")
        other = embed(scenes.spectra(), **self.SETTINGS)
        other.save(tmp_path / "map.zspy", overwrite=False)
        assert EmbeddingMap.load(tmp_path / "map.zspy").recipe.sha256 == found.recipe.sha256
        other.save(tmp_path / "map.zspy", overwrite=True)
        assert EmbeddingMap.load(tmp_path / "map.zspy").recipe.sha256 == other.recipe.sha256

    def test_a_lazily_loaded_one_does_not_replace_its_own_file(self, scenes, tmp_path):
        found = scenes.made("image").embedding_map
        found.save(tmp_path / "map.zspy")
        lazy = EmbeddingMap.load(tmp_path / "map.zspy", lazy=True)
        result = lazy.classify(scenes.image_support)
        for one in (lazy, result):
            with pytest.raises(ValueError, match="'map.zspy' is the file that the data come from"):
                one.save(tmp_path / "map.zspy", overwrite=True)
        lazy.save(tmp_path / "other.zspy")
        for name in ("map.zspy", "other.zspy"):
            again = EmbeddingMap.load(tmp_path / name)
            np.testing.assert_array_equal(again.embeddings.data, found.embeddings.data)
            np.testing.assert_array_equal(again.guide.data, found.guide.data)
        again.save(tmp_path / "other.zspy", overwrite=True)

    def test_a_result_is_no_map_and_a_map_is_no_result(self, scenes, tmp_path):
        scenes.made("spectra").save(tmp_path / "result.zspy")
        scenes.made("spectra").embedding_map.save(tmp_path / "map.zspy")
        with pytest.raises(ValueError, match="'result.zspy' holds no embedding map"):
            EmbeddingMap.load(tmp_path / "result.zspy")
        with pytest.raises(ValueError, match="'map.zspy' holds no few-shot result"):
            FewShotResult.load(tmp_path / "map.zspy")

    def test_an_old_format_is_refused(self, scenes, tmp_path, monkeypatch):
        monkeypatch.setattr(files, "FORMAT", 1)
        scenes.made("spectra").save(tmp_path / "result.hspy")
        scenes.made("spectra").embedding_map.save(tmp_path / "map.zspy")
        monkeypatch.undo()
        for load, name in ((FewShotResult.load, "result.hspy"), (EmbeddingMap.load, "map.zspy")):
            with pytest.raises(ValueError, match=f"'{name}' has format 1 .* reads format 5"):
                load(tmp_path / name)

    def test_another_process_classifies_it(self, scenes, tmp_path):
        make, _, settings = scenes.kinds["image"]
        make().save(tmp_path / "image.zspy")
        embed(make(), **settings).save(tmp_path / "map.zspy")
        script = f"""
import hyperspy.api as hs, numpy as np
from hyperspy_fewshot import EmbeddingMap
hs.preferences.General.show_progressbar = False
signal = hs.load("image.zspy", lazy=True)
result = EmbeddingMap.load("map.zspy", signal=signal).classify({scenes.image_support})
np.save("labels.npy", result.update({{"dark": (20, 20)}}).labels.data)
"""
        subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True)
        expected = scenes.made("image").update({"dark": (20, 20)})
        np.testing.assert_array_equal(np.load(tmp_path / "labels.npy"), expected.labels.data)


SCRIPT = """
import signal, sys, time
import dask, hyperspy.api as hs
from hyperspy_fewshot.grids import positions
from hyperspy_fewshot.output import partial

# What runs in the background of a shell ignores it otherwise.
signal.signal(signal.SIGINT, signal.default_int_handler)
hs.preferences.General.show_progressbar = False
dask.config.set(num_workers=int(sys.argv[1]))
positions._BLOCK_BYTES = 1000
positions._SAMPLE_SIDE = 2
positions.PositionGrid.sample_size = 16
store = partial._store

def slowly(*arguments):
    time.sleep(0.15)
    store(*arguments)

partial._store = slowly
data = hs.load("scan.zspy", lazy=True)
data.fewshot_classify({support}, encoder="pca", context=1).save("result.zspy")
"""


@pytest.mark.slow
def test_processes_that_were_killed_and_interrupted(tmp_path, classify, failing, scenes, expected):
    scenes.spectra().save(tmp_path / "scan.zspy")
    (tmp_path / "script.py").write_text(SCRIPT.replace("{support}", repr(SUPPORT)))
    folder = tmp_path / "result.zspy.partial"

    def count():
        return sum(file.suffix == "" for file in folder.glob("block-*"))

    for kill, threads in ((signals_of_the_system.SIGKILL, 1), (signals_of_the_system.SIGINT, 2)):
        process = subprocess.Popen(
            [sys.executable, "script.py", str(threads)],
            cwd=tmp_path,
            stderr=subprocess.PIPE,
            text=True,
        )
        before = count()
        while count() < before + 2 and process.poll() is None:
            time.sleep(0.02)
        process.send_signal(kill)
        _, errors = process.communicate(timeout=60)
        assert process.returncode != 0
        assert not (tmp_path / "result.zspy").exists()
    assert "KeyboardInterrupt" in errors and "blocks are kept in" in errors
    assert count() >= 4
    kept, written = count(), failing(0)
    again = classify(hs.load(tmp_path / "scan.zspy", lazy=True))
    total = again.packed.npartitions
    again.save(tmp_path / "result.zspy")
    assert len(written) == total - kept
    assert_same(FewShotResult.load(tmp_path / "result.zspy"), expected)


def test_the_data_in_a_file_are_recognised_by_what_they_hold(
    tmp_path, classify, scenes, failing, in_pieces
):
    scenes.spectra().save(tmp_path / "scan.zspy")
    failing(3)
    with pytest.raises(OSError, match="No space"):
        classify(hs.load(tmp_path / "scan.zspy", lazy=True)).save(tmp_path / "result.zspy")
    failing(0)
    # A copy elsewhere holds the same.
    Path(tmp_path / "scan.zspy").rename(tmp_path / "moved.zspy")
    classify(hs.load(tmp_path / "moved.zspy", lazy=True)).save(tmp_path / "result.zspy")
    assert (tmp_path / "result.zspy").exists()
