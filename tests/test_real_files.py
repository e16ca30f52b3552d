"""Real files of every kind load and are classified; real tasks reach what is promised of them."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import hyperspy.api as hs
import numpy as np
import pytest

pytestmark = pytest.mark.filterwarnings("ignore:With one example a class:UserWarning")

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"

# What is in each file: the signals by number, their kind, and the units of areas.
FILES = {
    "LSMO_STO_linescan.hspy": [("spectrum", (10,), "nm")],
    "LSMO_STO_linescan_low_loss.hspy": [("spectrum", (10,), "nm")],
    "abf_image_stack.hspy": [("image", (5, 512, 512), "nm²")],
    "au_nanoparticle_velox.emd": [("image", (2048, 2048), "nm²")],
    "cuzn_eels.hspy": [("spectrum", (50, 40), "nm²")],
    "cuzn_haadf.hspy": [("image", (50, 40), "nm²")],
    "fept_bare_core_eds.hspy": [("spectrum", (84, 84), "nm²")],
    "fept_core_shell_eds.hspy": [("spectrum", (64, 64), "nm²")],
    "hrstem_interface.dm3": [("image", (512, 512), "nm²")],
    "jeol_haadf.dm4": [("image", (112, 112), "µm²")],
    "moo3_16bit.tiff": [("image", (512, 512), "px²"), ("image", (256, 256), "px²")],
    "mos2_se_implanted.dm3": [("image", (1024, 1024), "nm²")],
    "p45_rock_eds.bcf": [("image", (75, 100), "µm²")] * 2 + [("spectrum", (75, 100), "µm²")],
    "sto_ge_haadf.jpg": [("image", (3044, 3042), "px²")],
    "test1.blo": [("pattern", (3, 2), "nm²")],
    "test_TEM.bcf": [("image", (64, 64), "µm²"), ("spectrum", (64, 64), "µm²")],
}
# Parts of the way along x and y of two examples each of two kinds of region that one can see.
PLACES = {
    "cuzn_eels.hspy": [(0.1, 0.1), (0.2, 0.2), (0.3, 0.6), (0.5, 0.6)],
    "fept_bare_core_eds.hspy": [(0.1, 0.1), (0.2, 0.2), (0.57, 0.24), (0.43, 0.52)],
    "fept_core_shell_eds.hspy": [(0.1, 0.1), (0.2, 0.2), (0.36, 0.42), (0.13, 0.6)],
}
SIGNALS = [(name, i) for name, signals in FILES.items() for i in range(len(signals))]


def load(path, lazy=False):
    """All signals of a file, as a list."""
    loaded = hs.load(path, lazy=lazy)
    return loaded if isinstance(loaded, list) else [loaded]


def support_of(name, shape):
    """Two positions of each of two regions, x first; towards opposite corners if not known."""
    sizes = (*shape[:-2], *shape[-2:][::-1])
    parts = PLACES.get(name, [(part,) * len(sizes) for part in (0.1, 0.2, 0.7, 0.85)])
    places = [tuple(int(p * n) for p, n in zip(part, sizes, strict=True)) for part in parts]
    return {"first": places[:2], "last": places[2:]}


class TestFiles:
    @pytest.mark.parametrize(("name", "index"), SIGNALS)
    def test_eager_and_lazy(self, shared_data, name, index):
        kind, shape, units = FILES[name][index]
        options = {"support": support_of(name, shape), "reject": False}
        if kind == "image":
            # A stride of a chip, and no context for the larger maps, keep the test short, as the
            # cheaper encoder does.
            options["chip_size"] = options["stride"] = min(64, shape[-1] // 4)
            options["encoder"] = "fourier"
        elif np.prod(shape) > 4000 and "core_shell" not in name:
            options["context"] = 1
        results = []
        # RosettaSciIO cannot read JPEG lazily.
        for lazy in (False,) if name.endswith(".jpg") else (False, True):
            signals = load(shared_data / "files" / name, lazy)
            assert len(signals) == len(FILES[name])
            result = signals[index].fewshot_classify(**options)
            assert result.labels._lazy is lazy
            results.append(result.compute())
        first = results[0]
        np.testing.assert_array_equal(results[-1].labels.data, first.labels.data)
        assert first.classifier.recipe.grid.kind == kind
        assert first.statistics.units == units
        np.testing.assert_allclose(sum(first.fractions.values()), 1)
        whole = first.labels_at_pixels()
        assert whole.data.shape == shape
        if kind != "image" and "test_TEM" not in name:
            for k, places in enumerate(options["support"].values()):
                assert [whole.data[place[::-1]] for place in places] == [k, k]
        assert [text.get_text() for text in first.plot().get_legend().get_texts()][:2] == [
            "first",
            "last",
        ]

    @pytest.mark.parametrize("lazy", [False, True])
    def test_single_spectra_are_refused(self, shared_data, lazy):
        signals = load(shared_data / "files" / "EDS-STO.emd", lazy)
        assert len(signals) == 5
        for signal in signals:
            with pytest.raises(ValueError, match=r"A single spectrum .* hs.stack\(\["):
                signal.fewshot_classify({"a": (1,), "b": (2,)})

    def test_what_the_message_says_works(self, shared_data):
        joined = hs.stack(load(shared_data / "files" / "EDS-STO.emd"))
        result = joined.fewshot_classify({"a": [0, 1], "b": [3, 4]}, context=1)
        assert result.labels.data.shape == (5,)


class TestStrontiumTitanateOnGermanium:
    """The published case, with the paper's own fifteen support chips of 95 px."""

    chip = 95

    @pytest.fixture(scope="class")
    @classmethod
    def task(cls, shared_data):
        """Signal, support, and the class of every published chip, -1 where unknown."""
        folder = shared_data / "pychip" / "sto_ge"
        published = json.loads((folder / "published.json").read_text())
        pixels = np.load(folder / "labels.npy")
        places = published["support_row_col"]
        half = cls.chip // 2
        support = {
            name: [(cls.chip * column + half, cls.chip * row + half) for row, column in cells]
            for name, cells in places.items()
        }
        values = {"dots": 2, "other": 1, "snowmen": 3}
        truth = np.full((32, 32), -1)
        for row, column in np.ndindex(truth.shape):
            chip = pixels[row * cls.chip :, column * cls.chip :][: cls.chip, : cls.chip]
            for k, name in enumerate(support):
                if (chip == values[name]).sum() > cls.chip**2 / 2:
                    truth[row, column] = k
        for cells in places.values():
            truth[tuple(np.transpose(cells))] = -1
        return hs.signals.Signal2D(np.load(folder / "image.npy")), support, truth

    def test_leave_one_out_and_accuracy(self, task):
        signal, support, truth = task
        result = signal.fewshot_classify(
            support, chip_size=self.chip, stride=self.chip, encoder="fourier", reject=False
        )
        assert result.classifier.leave_one_out == 1.0
        labels = result.labels.data[:32, :32]
        assert (labels == truth)[truth >= 0].mean() >= 0.95

    @pytest.fixture(scope="class")
    @classmethod
    def embedding_map(cls, task):
        """Every fifth cell lies where a published chip does."""
        return task[0].fewshot_embed(chip_size=cls.chip, stride=cls.chip // 5)

    def test_a_map_five_times_finer(self, task, embedding_map):
        _, support, truth = task
        result = embedding_map.classify(support, reject=False)
        assert min(result.labels.data.shape) >= 5 * 32
        centres = self.chip * np.arange(32) + self.chip // 2
        labels = result.labels_at_pixels().data[np.ix_(centres, centres)]
        assert (labels == truth)[truth >= 0].mean() >= 0.95

    @pytest.mark.parametrize("left_out", [None, "other", "dots", "snowmen"])
    def test_rejection(self, task, embedding_map, left_out):
        _, support, truth = task
        kept = {name: places for name, places in support.items() if name != left_out}
        result = embedding_map.classify(kept)
        rejected = result.labels.data[2::5, 2::5][:32, :32] == -1
        out = truth == (list(support).index(left_out) if left_out else -2)
        assert rejected[(truth >= 0) & ~out].mean() <= 0.05
        if left_out:
            assert rejected[out].mean() >= 0.80


class TestBalancedAccuracy:
    """Five shots and the context that is chosen, by the protocol of the benchmark."""

    @pytest.fixture(scope="class")
    @classmethod
    def benchmark(cls):
        sys.path.insert(0, str(BENCHMARKS))
        import tasks
        import trials

        sys.path.remove(str(BENCHMARKS))
        return SimpleNamespace(tasks=tasks, trials=trials)

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("folder", "encoder", "least"),
        [
            ("p45_eds/dose122", "pca", 0.96),
            ("p45_eds/dose22", "pca", 0.92),
            ("fept_eds/bare_core", "pca", 0.94),
            ("fept_eds/core_shell", "pca", 0.94),
            ("ni_ebsd/ni", "pca", 0.90),
            ("p45_eds/dose9", "pca", 0.80),
            ("p45_eds/dose9", "spectrum", 0.80),
            ("cuzn_eels/cuzn", "spectrum", 0.90),
            ("ai4stem/fe_bcc_gb", "stem", 0.95),
            ("nasa_superalloy/spot3_180d_2", "stem", 0.80),
        ],
    )
    def test_five_shots(self, shared_data, benchmark, folder, encoder, least):
        task = benchmark.tasks.Task.load(shared_data / folder)
        embedded = benchmark.tasks.Embedded.of(task, encoder)
        figures = benchmark.trials.trial([embedded], [embedded], shots=[5], n=10)
        assert figures[:, 0, 0].mean() >= least

    def test_a_lazy_diffraction_scan_in_a_zarr_store(self, shared_data, benchmark, tmp_path):
        task = benchmark.tasks.Task.load(shared_data / "ni_ebsd" / "ni")
        task.signal.save(tmp_path / "scan.zspy", chunks=(16, 20, 48, 48))
        signal = hs.load(tmp_path / "scan.zspy", lazy=True)
        numbers = [
            k for k in np.unique(task.labels[task.labels > 0]) if (task.labels == k).sum() > 41
        ]
        truth = np.array(
            [numbers.index(k) if k in numbers else -1 for k in range(task.labels.max() + 1)]
        )
        truth = truth[task.labels]
        support = benchmark.trials.draw(truth, len(numbers), shots=5, seed=0)
        named = {
            str(k): [(int(column), int(row)) for row, column in places]
            for k, places in zip(numbers, support, strict=True)
        }
        result = signal.fewshot_classify(named, reject=False)
        assert result.labels._lazy
        labels = result.compute().labels.data
        crop = (slice(0, 24), slice(0, 18))
        lazy, eager = (one.inav[crop].fewshot_classify(result) for one in (signal, task.signal))
        np.testing.assert_array_equal(lazy.compute().labels.data, eager.labels.data)
        reach = result.classifier.recipe.grid.context // 2
        kept = benchmark.trials.queries(truth.shape, np.concatenate(support), reach)
        right = [(labels == i)[kept & (truth == i)].mean() for i in range(len(numbers))]
        assert np.mean(right) >= 0.90
