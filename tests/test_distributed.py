"""With a client active everything runs on its workers, and comes out as on threads."""

import os
import platform
import re
import signal
import time
import warnings
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import dask
import hyperspy.api as hs
import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from hyperspy_fewshot import FewShotResult, data, embed, get_encoder
from hyperspy_fewshot.encoders import threads, weights

distributed = pytest.importorskip("distributed", reason="dask.distributed is not installed")

# Specimen, chunks in the file (rows and columns of the image or scan), arguments.
CASES = {
    "image": (lambda: data.heterostructure((160, 192)), (64, 50), {"chip_size": 32, "stride": 8}),
    "patterns": (lambda: data.diffraction_scan((8, 11)), (3, 8), {}),
    "spectra": (lambda: data.eds_spectrum_image((20, 38)), (7, 15), {"context": 3}),
}


@pytest.fixture(scope="module", autouse=True)
def small_blocks():
    """Several blocks of what is small."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(embed, "_BLOCK_BYTES", 100_000)
        patch.setattr(embed, "_BLOCK_CHIPS", 2)
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
def files(tmp_path_factory):
    """A folder with every specimen, in both formats."""
    folder = tmp_path_factory.mktemp("files")
    for name, (make, chunks, _) in CASES.items():
        specimen = make().signal
        for suffix in ("zspy", "hspy"):
            path = folder / f"{name}.{suffix}"
            specimen.save(path, chunks=(*chunks, *specimen.data.shape[2:]))
    return folder


def support_of(name):
    return CASES[name][0]().support(2, margin=8 if name == "image" else 1)


@pytest.fixture(scope="module")
def expected(files):
    """What threads make of every specimen."""
    with dask.config.set(scheduler="threads"):
        return {
            name: hs.load(files / f"{name}.zspy", lazy=True)
            .fewshot_classify(support_of(name), **kwargs)
            .compute()
            for name, (_, _, kwargs) in CASES.items()
        }


def assert_same(result, expected):
    for name in ("labels", "probabilities", "confidence"):
        found, wanted = (getattr(each, name).data for each in (result, expected))
        assert type(found) is np.ndarray
        np.testing.assert_allclose(found, wanted, rtol=0, atol=0 if name == "labels" else 1e-6)


def warned_of_graphs_over(size):
    return dask.config.set({"distributed.admin.large-graph-warning-threshold": size})


@pytest.mark.parametrize("suffix", ["zspy", "hspy"])
@pytest.mark.parametrize("name", CASES)
def test_results_are_those_of_threads(client, files, expected, name, suffix):
    result = hs.load(files / f"{name}.{suffix}", lazy=True).fewshot_classify(expected[name])
    assert result.labels.data.npartitions > 3
    assert_same(result.compute(), expected[name])
    assert len(np.unique(result.labels.data)) > 1


def test_learning_reads_on_the_workers(client, files, expected):
    lazy = hs.load(files / "spectra.hspy", lazy=True)
    result = lazy.fewshot_classify(support_of("spectra"), context=3).compute()
    assert_same(result, expected["spectra"])


def test_the_network_is_built_once_in_every_worker(client, files, expected):
    for _ in range(2):
        hs.load(files / "image.zspy", lazy=True).fewshot_classify(expected["image"]).compute()
    built = client.run(lambda: weights._built.cache_info()).values()
    assert [info.misses for info in built] == [1, 1]
    # Both have worked with it.
    assert all(info.hits > 1 for info in built)


@pytest.mark.parametrize(
    ("name", "limit", "left_out"),
    [
        ("spectra", 300_000, lambda: CASES["spectra"][0]().signal.data.nbytes),
        ("image", 900_000, lambda: weights.bundled_weights("stem").stat().st_size),
    ],
    ids=["no data", "no weights"],
)
def test_nothing_large_is_in_the_graph(client, files, expected, name, limit, left_out):
    assert left_out() > 2 * limit
    with warned_of_graphs_over(limit), warnings.catch_warnings():
        warnings.filterwarnings("error", message="Sending large graph")
        hs.load(files / f"{name}.zspy", lazy=True).fewshot_classify(expected[name]).compute()


def test_data_in_memory_are_sent(client, files, expected):
    loaded = hs.load(files / "spectra.zspy")
    with warned_of_graphs_over(300_000), pytest.warns(UserWarning, match="Sending large graph"):
        result = loaded.fewshot_classify(expected["spectra"])
    assert_same(result, expected["spectra"])


def test_results_save_and_load(client, files, expected, tmp_path):
    lazy = hs.load(files / "spectra.zspy", lazy=True)
    lazy.fewshot_classify(expected["spectra"]).save(tmp_path / "labels.zspy")
    assert_same(FewShotResult.load(tmp_path / "labels.zspy"), expected["spectra"])


def test_files_are_classified_inside_tasks(client, files, expected, tmp_path):
    classifier = expected["spectra"].classifier

    def classify_file(path):
        result = hs.load(path, lazy=True).fewshot_classify(classifier)
        result.save(tmp_path / f"{path.name}.zspy", overwrite=True)

    # As many as there are workers, each of which waits for blocks.
    paths = [files / "spectra.zspy", files / "spectra.hspy"]
    client.gather(client.map(classify_file, paths, pure=False))
    for path in paths:
        assert_same(FewShotResult.load(tmp_path / f"{path.name}.zspy"), expected["spectra"])


def test_class_signals_and_embeddings(client, files, expected):
    lazy = hs.load(files / "spectra.hspy", lazy=True)
    result = lazy.fewshot_classify(expected["spectra"])
    embeddings = expected["spectra"].embeddings.data.compute(scheduler="threads")
    result.embeddings.compute()
    np.testing.assert_allclose(result.embeddings.data, embeddings, atol=1e-6)
    means = result.class_signals().data
    for mean, name in zip(means, result.class_names, strict=True):
        mask = result.mask(name).data
        np.testing.assert_allclose(mean, hs.load(files / "spectra.hspy").data[mask].mean(axis=0))


def test_workers_keep_freed_memory_and_this_process_is_left_alone(client, files, expected):
    hs.load(files / "image.zspy", lazy=True).fewshot_classify(expected["image"]).compute()
    asked = client.run(lambda: threads.keep_freed_memory.cache_info().misses)
    assert set(asked.values()) == {1}
    kept = client.run(lambda: threads.keep_freed_memory())
    assert set(kept.values()) == {platform.libc_ver()[0] == "glibc"}
    assert not threads.keep_freed_memory()


def test_own_weights_that_a_worker_does_not_see(client, files, tmp_path):
    path = tmp_path / "mine.safetensors"
    state = load_file(weights.bundled_weights("stem"))
    save_file({name: values * 1.001 for name, values in state.items()}, path)
    lazy = hs.load(files / "patterns.zspy", lazy=True)
    encoder = get_encoder("stem", weights=path)
    result = lazy.fewshot_classify(support_of("patterns"), encoder=encoder)
    path.unlink()
    message = rf"no weights at '{re.escape(str(path.resolve()))}' on .* Every dask worker"
    with pytest.raises(FileNotFoundError, match=message):
        result.compute()


def test_a_client_in_this_process(files, expected):
    with (
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=2, processes=False, dashboard_address=":0"
        ) as cluster,
        distributed.Client(cluster),
    ):
        result = hs.load(files / "image.hspy", lazy=True).fewshot_classify(expected["image"])
        assert_same(result.compute(), expected["image"])


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="processes cannot be killed this way")
def test_a_killed_worker_costs_a_retry(client, files, expected, tmp_path):
    def read(block, block_info=None):
        # Every reading leaves a file that tells what was read, and by whom.
        chunk = "-".join(map(str, block_info[0]["chunk-location"]))
        (tmp_path / f"{chunk}.{os.getpid()}.{time.monotonic_ns()}").touch()
        time.sleep(0.05)
        return block

    lazy = hs.load(files / "spectra.zspy", lazy=True)
    lazy.data = lazy.data.rechunk((3, 7, -1)).map_blocks(
        read, dtype=lazy.data.dtype, meta=np.empty((0, 0, 0), lazy.data.dtype)
    )
    result = lazy.fewshot_classify(expected["spectra"])
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(result.compute)
        while len(readings := os.listdir(tmp_path)) < 10:
            assert not running.done()
            time.sleep(0.01)
        victim = int(max(readings, key=lambda name: int(name.split(".")[2])).split(".")[1])
        os.kill(victim, signal.SIGKILL)
        running.result(timeout=60)
    assert_same(result, expected["spectra"])
    read = [name.split(".") for name in os.listdir(tmp_path)]
    chunks = Counter(chunk for chunk, *_ in read)
    assert len(chunks) == 7 * 6
    assert len({pid for _, pid, _ in read}) > 1
    # What had come back is not read again.
    assert len(chunks) < chunks.total() < 1.5 * len(chunks)
