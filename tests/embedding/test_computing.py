"""Collections are computed where dask would compute them, with or without a progress bar."""

import copy
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import dask
import dask.array as da
import numpy as np
import pytest

from hyperspy_fewshot.embedding.computing import compute

distributed = pytest.importorskip("distributed", reason="dask.distributed is not installed")


@pytest.fixture(scope="module")
def cluster():
    """A scheduler and one worker in this process."""
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=2, processes=False, dashboard_address=":0"
    ) as cluster:
        yield cluster


@pytest.fixture
def client(cluster):
    with distributed.Client(cluster) as client:
        yield client


def on_a_worker(block):
    """Whether a task runs on a worker, in the shape of its block."""
    try:
        distributed.get_worker()
    except ValueError:
        return np.zeros_like(block)
    return np.ones_like(block)


@pytest.mark.parametrize("show", [False, True])
@pytest.mark.parametrize("where", ["threads", "client"])
def test_several_collections(where, show, request, capfd):
    if where == "client":
        request.getfixturevalue("client")
    data = np.arange(77.0).reshape(7, 11)
    array = da.from_array(data, chunks=((1, 4, 2), (8, 3)))
    # Twice the same, a part of it, a scalar and what is no array.
    collections = array, array, array[2:3, 4:], array.sum(), dask.delayed(len)("four")
    found = compute(*collections, show_progressbar=show, what="Testing")
    for value, expected in zip(found, (data, data, data[2:3, 4:], data.sum()), strict=False):
        np.testing.assert_array_equal(value, expected)
        assert type(value) is type(expected)
    assert found[4] == 4
    shown = capfd.readouterr()
    assert ("Completed" in shown.out or "Testing" in shown.err) is show


def test_an_array_without_elements(client):
    for show in (False, True):
        (found,) = compute(da.zeros((0, 3)), show_progressbar=show, what="Testing")
        assert found.shape == (0, 3)


def test_the_bar_counts_what_is_computed_on_threads(capfd):
    compute(da.zeros(6, chunks=2), show_progressbar=True, what="Testing")
    shown = capfd.readouterr().err
    assert "Testing" in shown and "100%" in shown


@pytest.mark.parametrize("show", [False, True])
def test_computes_where_dask_would(client, show):
    array = da.zeros(6, chunks=2).map_blocks(on_a_worker, meta=np.empty(0))
    assert compute(array, show_progressbar=show, what="Testing")[0].all()
    for scheduler in ("threads", "synchronous"):
        with dask.config.set(scheduler=scheduler):
            assert not compute(array, show_progressbar=show, what="Testing")[0].any()
    with dask.config.set(scheduler="distributed"):
        assert compute(array, show_progressbar=show, what="Testing")[0].all()


def test_a_scheduler_that_is_given_counts(client):
    array = da.zeros(6, chunks=2).map_blocks(on_a_worker, meta=np.empty(0))
    for show in (False, True):
        found = compute(array, show_progressbar=show, what="Testing", scheduler="threads")
        assert not found[0].any()


def test_without_a_client_threads_compute():
    array = da.zeros(6, chunks=2).map_blocks(on_a_worker, meta=np.empty(0))
    for show in (False, True):
        assert not compute(array, show_progressbar=show, what="Testing")[0].any()


@pytest.mark.parametrize("show", [False, True])
def test_inside_a_task_the_worker_is_not_blocked(client, show):
    def task():
        # More of them than the worker has threads.
        array = da.ones((4, 6), chunks=2)
        return float(compute(array, show_progressbar=show, what="Testing")[0].sum())

    futures = [client.submit(task, pure=False) for _ in range(4)]
    assert client.gather(futures) == [24.0] * 4


@pytest.mark.parametrize("show", [False, True])
@pytest.mark.parametrize("where", ["threads", "client"])
def test_the_error_of_a_task_is_raised(where, show, request):
    if where == "client":
        request.getfixturevalue("client")

    def broken(block, block_info=None):
        if block_info[0]["chunk-location"][0] == 1:
            raise ValueError("this chunk is broken")
        return block

    array = da.zeros(8, chunks=2).map_blocks(broken, dtype=float)
    with pytest.raises(ValueError, match="this chunk is broken"):
        compute(array, show_progressbar=show, what="Testing")


@pytest.mark.parametrize("show", [False, True])
def test_what_the_user_keeps_on_the_cluster_stays(client, show):
    kept = da.arange(8, chunks=2).persist()
    distributed.wait(kept)
    for _ in range(2):
        found, more = compute(kept, kept + 1, show_progressbar=show, what="Testing")
        np.testing.assert_array_equal(found, np.arange(8))
        np.testing.assert_array_equal(more, np.arange(1, 9))
    assert all(future.status == "finished" for future in distributed.futures_of(kept))


def tasks_known_to(client):
    return client.run_on_scheduler(lambda dask_scheduler: len(dask_scheduler.tasks))


def wait_until(condition):
    """Wait less than it takes to compute everything."""
    start = time.monotonic()
    while not condition():
        assert time.monotonic() - start < 10
        time.sleep(0.01)


def test_an_interruption_stops_the_cluster_although_the_traceback_is_kept(client, monkeypatch):
    def slow(block):
        time.sleep(0.1)
        return block

    def interrupted(futures):
        wait_until(lambda: tasks_known_to(client) > 0)
        raise KeyboardInterrupt

    monkeypatch.setattr(distributed, "as_completed", interrupted)
    kept = da.arange(8, chunks=2).persist()
    distributed.wait(kept)
    array = da.zeros(800, chunks=2).map_blocks(slow, dtype=float)
    with pytest.raises(KeyboardInterrupt) as caught:
        compute(array, kept, show_progressbar=True, what="Testing")
    # As it is in a notebook.
    assert caught.tb is not None
    wait_until(lambda: tasks_known_to(client) <= 4)
    # What the user keeps there stays.
    np.testing.assert_array_equal(kept.compute(), np.arange(8))


# Settings of the user


def test_calls_that_overlap_leave_the_settings_of_dask(scenes):
    """A client that is made afterwards is used."""
    before = copy.deepcopy(dask.config.config)
    together = threading.Barrier(2, timeout=30)

    class Waiting(scenes.CountingEncoder):
        """Both calls are inside dask at the same time, and the first one ends first."""

        def __init__(self, delay):
            super().__init__()
            self.delay = delay

        def __call__(self, items):
            if not self.count:
                together.wait()
                time.sleep(self.delay)
            return super().__call__(items)

    def call(delay):
        encoder = Waiting(delay)
        signal = scenes.spectra().as_lazy()
        result = signal.fewshot_classify(scenes.scan_support, encoder=encoder, context=1)
        result.compute()
        assert encoder.count

    with ThreadPoolExecutor(2) as pool:
        for future in [pool.submit(call, delay) for delay in (0.0, 0.2)]:
            future.result()
    assert dask.config.config == before
    with distributed.Client(n_workers=1, processes=False, dashboard_address=":0"):
        array = da.zeros(6, chunks=2).map_blocks(on_a_worker, meta=np.empty(0))
        assert compute(array, show_progressbar=False, what="Testing")[0].all()
