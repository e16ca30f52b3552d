"""A process that is forked after use computes too, or says at once why not."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="fork is common on Linux only"
)

# What every script begins with: a child runs a function, and returns its value or its error.
HEAD = """
import multiprocessing
import conftest
import dask
import hyperspy.api as hs
import numpy as np
import torch
from hyperspy_fewshot import EmbeddingMap, FewShotResult

torch.set_num_threads(2)
hs.preferences.General.show_progressbar = False
context = multiprocessing.get_context("fork")

def run(function, queue):
    try:
        queue.put(function())
    except Exception as error:
        queue.put(f"{type(error).__name__}: {error}")

def in_a_child(function):
    queue = context.Queue()
    process = context.Process(target=run, args=(function, queue), daemon=True)
    process.start()
    found = queue.get(timeout=60)
    process.join(10)
    return found
"""


def run_script(script, folder):
    """Run a script in a new interpreter, since pytest has threads of its own."""
    path = folder / "script.py"
    path.write_text(HEAD + textwrap.dedent(script))
    command = [sys.executable, "-W", "ignore", str(path)]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_all_kinds_of_data_are_classified_in_a_child(tmp_path):
    script = """
    # Large enough for several threads to copy it.
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16 * 16, 140))
    calls = [
        (conftest.image(), conftest.IMAGE_SUPPORT, {"chip_size": 16}),
        (conftest.image(), conftest.IMAGE_SUPPORT, {"chip_size": 16, "encoder": module}),
        (conftest.patterns(), conftest.SCAN_SUPPORT, {}),
        (conftest.spectra(), conftest.SCAN_SUPPORT, {}),
    ]

    def labels():
        found = []
        for signal, support, settings in calls:
            for one in (signal, conftest.lazily(signal)):
                found.append(one.fewshot_classify(support, **settings).compute().labels.data)
        assert torch.get_num_threads() == 2
        return found

    def saved(name):
        signal = conftest.lazily(conftest.patterns())
        embedding_map = signal.fewshot_embed(encoder="pca")
        embedding_map.save(f"{name}_map.zspy")
        loaded = EmbeddingMap.load(f"{name}_map.zspy", signal=signal)
        result = loaded.classify(conftest.SCAN_SUPPORT).update({"a": [(1, 1)]})
        result.save(f"{name}.hspy")
        means = [mean.data for mean in result.class_signals().values()]
        return [FewShotResult.load(f"{name}.hspy").labels.data, *means]

    for here, there in (
        (labels(), in_a_child(labels)),
        (saved("here"), in_a_child(lambda: saved("there"))),
    ):
        for one, other in zip(here, there, strict=True):
            np.testing.assert_array_equal(one, other)
    with dask.config.set(num_workers=1):
        in_a_child(lambda: saved("again"))
    print("done")
    """
    assert "done" in run_script(script, tmp_path)


@pytest.mark.slow
def test_a_lock_that_another_thread_holds_is_open_in_a_child(tmp_path):
    script = """
    import threading
    from hyperspy_fewshot.embedding.batches import using
    from hyperspy_fewshot.encoders.threads import one_thread
    from hyperspy_fewshot.encoders.weights import BUILD_LOCK

    held, leave = threading.Event(), threading.Event()

    def hold():
        with BUILD_LOCK, using("cuda"), one_thread():
            held.set()
            leave.wait(60)

    def enter():
        with BUILD_LOCK, using("cuda"), one_thread():
            inside = torch.get_num_threads()
        return inside, torch.get_num_threads()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(60)
    found = in_a_child(enter)
    leave.set()
    thread.join()
    assert found == (1, 2), found
    print("done")
    """
    assert "done" in run_script(script, tmp_path)


@pytest.mark.slow
def test_what_does_not_work_in_a_child_is_refused(tmp_path):
    pytest.importorskip("distributed", reason="dask.distributed is not installed")
    script = """
    from concurrent.futures import ThreadPoolExecutor
    from distributed import Client, LocalCluster

    lazy = conftest.patterns().as_lazy()

    def classify():
        result = lazy.fewshot_classify(conftest.SCAN_SUPPORT, encoder="pca")
        return result.compute().labels.data.shape

    def classify_with_new_pool():
        with ThreadPoolExecutor(2) as pool, dask.config.set(pool=pool):
            return classify()

    def classify_with_threads():
        with dask.config.set(scheduler="threads"):
            return classify()

    pool = ThreadPoolExecutor(2)
    for name in ("pool", "scheduler"):
        with dask.config.set({name: pool}):
            assert classify() == (6, 7)
            print(in_a_child(classify))
    with dask.config.set(pool=pool):
        assert in_a_child(classify_with_new_pool) == (6, 7)
    with LocalCluster(n_workers=1, processes=False, dashboard_address=":0") as cluster:
        with Client(cluster):
            print(in_a_child(classify))
            assert in_a_child(classify_with_threads) == (6, 7)
    assert in_a_child(classify) == (6, 7)
    """
    lines = run_script(script, tmp_path).splitlines()
    refused = [line for line in lines if line.startswith("RuntimeError: dask would compute with")]
    assert len(refused) == 3
    for line, name in zip(
        refused, ("ThreadPoolExecutor", "ThreadPoolExecutor", "Client"), strict=True
    ):
        assert name in line
        assert "multiprocessing.get_context('spawn')" in line
