"""With a client active everything runs on its workers, and comes out as on threads."""

import re
import warnings

import dask
import hyperspy.api as hs
import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from hyperspy_fewshot import EmbeddingMap, FewShotResult, data, get_encoder
from hyperspy_fewshot.encoders import weights
from hyperspy_fewshot.grids import chips, positions

distributed = pytest.importorskip("distributed", reason="dask.distributed is not installed")

# Specimen, chunks in the file (rows and columns of the image or scan), arguments.
CASES = {
    "image": (lambda: data.heterostructure((128, 160)), (64, 50), {"chip_size": 32, "stride": 12}),
    "patterns": (lambda: data.diffraction_scan((8, 11)), (3, 8), {"encoder": "pca"}),
    "spectra": (lambda: data.eds_spectrum_image((20, 38)), (7, 15), {"context": 3}),
}


@pytest.fixture(scope="module", autouse=True)
def small_blocks():
    """Several blocks, and a sample that is a part, of what is small."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chips, "_BLOCK_CHIPS", 2)
        patch.setattr(positions, "_BLOCK_BYTES", 200_000)
        patch.setattr(chips.ChipGrid, "sample_size", 64)
        patch.setattr(positions.PositionGrid, "sample_size", 64)
        yield


@pytest.fixture(scope="module")
def client():
    """Two workers, each a process of one thread."""
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0"
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def supports():
    return {
        name: make().support(2, margin=8 if name == "image" else 1)
        for name, (make, _, _) in CASES.items()
    }


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A folder with every specimen, in both formats."""
    folder = tmp_path_factory.mktemp("files")
    for name, (make, chunks, _) in CASES.items():
        specimen = make().signal
        for suffix in ("zspy", "hspy"):
            path = folder / f"{name}.{suffix}"
            specimen.save(path, chunks=(*chunks, *specimen.data.shape[2:]))
    return folder


@pytest.fixture(scope="module")
def expected(files, supports):
    """What threads make of every specimen."""
    with dask.config.set(scheduler="threads"):
        return {
            name: hs.load(files / f"{name}.zspy", lazy=True)
            .fewshot_classify(supports[name], **kwargs)
            .compute()
            for name, (_, _, kwargs) in CASES.items()
        }


def assert_same(result, expected):
    for name in ("labels", "probabilities", "confidence"):
        found, wanted = (getattr(each, name).data for each in (result, expected))
        assert type(found) is np.ndarray
        np.testing.assert_allclose(found, wanted, rtol=0, atol=0 if name == "labels" else 1e-5)


def warned_of_graphs_over(size):
    return dask.config.set({"distributed.admin.large-graph-warning-threshold": size})


@pytest.mark.parametrize(
    ("name", "suffix", "show"),
    [
        ("image", "zspy", True),
        ("patterns", "hspy", True),
        ("spectra", "zspy", True),
        ("spectra", "hspy", False),
    ],
)
def test_results_are_those_of_threads(client, files, supports, expected, name, suffix, show):
    lazy = hs.load(files / f"{name}.{suffix}", lazy=True)
    options = {**CASES[name][2], "show_progressbar": show}
    result = lazy.fewshot_classify(supports[name], **options)
    assert result.labels.data.npartitions > 3
    assert_same(result.compute(show_progressbar=show), expected[name])
    assert len(np.unique(result.labels.data)) > 1


def test_the_bar_of_the_cluster_is_shown_if_one_is_asked_for(client, files, expected, capfd):
    for show in (False, True):
        capfd.readouterr()
        lazy = hs.load(files / "spectra.zspy", lazy=True)
        result = lazy.fewshot_classify(expected["spectra"], show_progressbar=False)
        result.compute(show_progressbar=show)
        assert ("Classifying: 100%" in capfd.readouterr().err) is show
        assert_same(result, expected["spectra"])


def test_the_network_is_built_once_in_every_worker(client, files, expected):
    hs.load(files / "image.zspy", lazy=True).fewshot_classify(expected["image"]).compute()
    built = client.run(lambda: weights._built.cache_info()).values()
    assert [info.misses for info in built] == [1, 1]
    # Both have worked with it.
    assert all(info.hits > 0 for info in built)


@pytest.mark.parametrize(
    ("name", "limit", "left_out"),
    [
        ("spectra", 300_000, lambda: CASES["spectra"][0]().signal.data.nbytes),
        ("image", 850_000, lambda: weights.bundled_weights("stem").stat().st_size),
    ],
    ids=["no data", "no weights"],
)
def test_nothing_large_is_in_the_graph(client, files, expected, name, limit, left_out):
    assert left_out() > 2 * limit
    with warned_of_graphs_over(limit), warnings.catch_warnings():
        warnings.filterwarnings("error", message="Sending large graph")
        hs.load(files / f"{name}.zspy", lazy=True).fewshot_classify(expected[name]).compute()


def test_data_in_memory_are_classified_too(client, files, expected):
    loaded = hs.load(files / "spectra.zspy")
    assert_same(loaded.fewshot_classify(expected["spectra"]), expected["spectra"])


def test_results_are_saved_and_loaded_and_spectra_averaged(client, files, expected, tmp_path):
    lazy = hs.load(files / "spectra.zspy", lazy=True)
    result = lazy.fewshot_classify(expected["spectra"])
    result.save(tmp_path / "labels.zspy")
    assert_same(FewShotResult.load(tmp_path / "labels.zspy"), expected["spectra"])
    values = lazy.data.compute(scheduler="threads")
    for name, mean in result.class_signals().items():
        np.testing.assert_allclose(mean.data, values[result.mask(name).data].mean(axis=0))


def test_embedding_maps_are_saved_loaded_and_classified(
    client, files, supports, expected, tmp_path
):
    lazy = hs.load(files / "spectra.zspy", lazy=True)
    lazy.fewshot_embed(context=3).save(tmp_path / "map.zspy")
    loaded = EmbeddingMap.load(tmp_path / "map.zspy", signal=lazy, lazy=True)
    result = loaded.classify(supports["spectra"]).compute()
    assert (result.labels.data == expected["spectra"].labels.data).mean() >= 0.99


def test_one_more_example_gives_the_same_as_on_threads(client, files, expected):
    lazy = hs.load(files / "spectra.hspy", lazy=True)
    result = lazy.fewshot_classify(expected["spectra"].support, context=3).compute()
    name = result.class_names[0]
    more = {name: [(37, 19)]}
    with dask.config.set(scheduler="threads"):
        wanted = expected["spectra"].update(more)
    assert_same(result.update(more), wanted)


def test_files_are_classified_inside_tasks(client, files, expected, tmp_path):
    classifier = expected["spectra"].classifier

    def classify_file(path):
        result = hs.load(path, lazy=True).fewshot_classify(classifier, show_progressbar=True)
        result.save(tmp_path / f"{path.name}.zspy", overwrite=True)

    # As many as there are workers, each of which waits for blocks.
    paths = [files / "spectra.zspy", files / "spectra.hspy"]
    client.gather(client.map(classify_file, paths, pure=False))
    for path in paths:
        assert_same(FewShotResult.load(tmp_path / f"{path.name}.zspy"), expected["spectra"])


def test_own_weights_that_a_worker_does_not_see(client, files, supports, tmp_path):
    path = tmp_path / "mine.safetensors"
    state = load_file(weights.bundled_weights("stem"))
    save_file({name: values * 1.001 for name, values in state.items()}, path)
    lazy = hs.load(files / "image.zspy", lazy=True)
    encoder = get_encoder("stem", weights=path)
    result = lazy.fewshot_classify(supports["image"], **CASES["image"][2], encoder=encoder)
    path.unlink()
    message = rf"no weights at '{re.escape(str(path.resolve()))}' on .* Every dask worker"
    with pytest.raises(FileNotFoundError, match=message):
        result.compute()
