"""Computing on threads or on whatever client is active, with a bar, and stopping when asked to."""

import time

import dask
import dask.array as da
import numpy as np
import pytest

from hyperspy_fewshot import computing
from hyperspy_fewshot.computing import compute

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


def quietly(*collections):
    return compute(*collections, show_progressbar=False, what="Testing")


def on_a_worker(block):
    """Whether a task runs on a worker, in the shape of its block."""
    try:
        distributed.get_worker()
    except ValueError:
        return np.zeros_like(block)
    return np.ones_like(block)


def tasks_known_to(client):
    return client.run_on_scheduler(lambda dask_scheduler: len(dask_scheduler.tasks))


def wait_until(condition):
    """Wait less than it takes to compute everything."""
    start = time.monotonic()
    while not condition():
        assert time.monotonic() - start < 10
        time.sleep(0.01)


@pytest.mark.parametrize("where", ["threads", "client"])
def test_several_collections(where, request):
    if where == "client":
        request.getfixturevalue("client")
    data = np.arange(77.0).reshape(7, 11)
    array = da.from_array(data, chunks=((1, 4, 2), (8, 3)))
    # Twice the same, a part of it, a scalar and what is no array.
    found = quietly(array, array, array[2:3, 4:], array.sum(), dask.delayed(len)("four"))
    for value, expected in zip(found, (data, data, data[2:3, 4:], data.sum()), strict=False):
        np.testing.assert_array_equal(value, expected)
        assert type(value) is type(expected)
    assert found[4] == 4


def test_an_array_without_anything(client):
    (found,) = quietly(da.zeros((0, 3)))
    assert found.shape == (0, 3)


@pytest.mark.parametrize("show", [True, False])
def test_bar(client, show, capfd):
    compute(da.zeros(6, chunks=2), show_progressbar=show, what="Testing")
    shown = capfd.readouterr().err
    assert ("Testing" in shown and "3/3" in shown) is show


def test_computes_where_dask_would(client):
    array = da.zeros(6, chunks=2).map_blocks(on_a_worker, meta=np.empty(0))
    assert quietly(array)[0].all()
    for scheduler in ("threads", "synchronous"):
        with dask.config.set(scheduler=scheduler):
            assert not quietly(array)[0].any()
    with dask.config.set(scheduler="distributed"):
        assert quietly(array)[0].all()


def test_without_a_client_threads_compute():
    array = da.zeros(6, chunks=2).map_blocks(on_a_worker, meta=np.empty(0))
    assert computing._active_client() is None
    assert not quietly(array)[0].any()


def test_resources_asked_for_around_the_computation_hold():
    options = [{"nthreads": 1}, {"nthreads": 1, "resources": {"GPU": 1}}]
    workers = {i: {"cls": distributed.Worker, "options": given} for i, given in enumerate(options)}
    scheduler = {"cls": distributed.Scheduler, "options": {"dashboard_address": ":0"}}
    with (
        distributed.SpecCluster(workers, scheduler) as cluster,
        distributed.Client(cluster),
    ):
        array = da.zeros(20, chunks=1).map_blocks(
            lambda block: np.full_like(block, distributed.get_worker().name), meta=np.empty(0)
        )
        with dask.annotate(resources={"GPU": 1}):
            (names,) = quietly(array + 0)
    assert set(names) == {1}


def test_inside_a_task_the_worker_is_not_blocked(client):
    def task():
        # More of them than the worker has threads.
        array = da.ones((4, 6), chunks=2)
        return float(compute(array, show_progressbar=True, what="Testing")[0].sum())

    futures = [client.submit(task, pure=False) for _ in range(4)]
    assert client.gather(futures) == [24.0] * 4


def test_the_error_of_a_task_is_raised_and_the_rest_given_up(client):
    def broken(block, block_info=None):
        if block_info[0]["chunk-location"][0] % 10 == 1:
            raise ValueError("this chunk is broken")
        time.sleep(0.1)
        return block

    array = da.zeros(800, chunks=2).map_blocks(broken, dtype=float)
    with pytest.raises(ValueError, match="this chunk is broken") as caught:
        quietly(array)
    # The traceback is still held, as it is in a notebook.
    assert caught.tb is not None
    wait_until(lambda: tasks_known_to(client) == 0)


def test_an_interruption_stops_the_cluster(client, monkeypatch):
    def slow(block):
        time.sleep(0.1)
        return block

    def interrupted(self):
        wait_until(lambda: tasks_known_to(client) > 0)
        raise KeyboardInterrupt

    monkeypatch.setattr(distributed.as_completed, "__next__", interrupted)
    array = da.zeros(800, chunks=2).map_blocks(slow, dtype=float)
    with pytest.raises(KeyboardInterrupt) as caught:
        quietly(array)
    assert caught.tb is not None
    wait_until(lambda: tasks_known_to(client) == 0)


def test_what_the_user_keeps_on_the_cluster_stays(client):
    kept = da.arange(8, chunks=2).persist()
    distributed.wait(kept)
    for _ in range(2):
        found, more = quietly(kept, kept + 1)
        np.testing.assert_array_equal(found, np.arange(8))
        np.testing.assert_array_equal(more, np.arange(1, 9))
    time.sleep(0.1)
    assert all(future.status == "finished" for future in distributed.futures_of(kept))
