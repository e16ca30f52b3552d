"""Items are encoded in batches that fit, on the device that was asked for."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch

from hyperspy_fewshot.embedding import batches
from hyperspy_fewshot.embedding.batches import (
    choose_device,
    encode_fields,
    encode_reduced,
    using,
)
from hyperspy_fewshot.encoders import Encoder, base, get_encoder
from hyperspy_fewshot.grids.field import Field


@dataclass(frozen=True, eq=False)
class Greedy(Encoder):
    """Mean and first value of each item; runs out of memory above a number of items or rows."""

    name: str = "greedy"
    most: int = 1000
    calls: list = field(default_factory=list)
    tried: list = field(default_factory=list)

    def encode(self, batch, device="cpu"):
        self.tried.append(len(batch))
        if len(batch) > self.most:
            raise torch.OutOfMemoryError("out of memory")
        self.calls.append(len(batch))
        flat = batch.reshape(len(batch), -1)
        return np.stack([flat.mean(1), flat[:, 0]], axis=1)

    def encode_field(self, part, device="cpu"):
        if len(part.rows) > self.most:
            raise torch.OutOfMemoryError("out of memory")
        self.calls.append(len(part.rows))
        rows, columns = part.rows - part.origin[0], part.columns - part.origin[1]
        return part.pixels[rows[:, np.newaxis], columns][..., np.newaxis]


# Batches


def test_batches_are_halved_until_they_fit():
    items = np.random.default_rng(0).random((50, 6))
    encoder = Greedy(most=3, batch_size=16)
    expected = Greedy().encode(items).astype(np.float32)
    np.testing.assert_array_equal(encode_reduced(encoder, items, "cpu"), expected)
    assert encoder.calls == [2] * 25
    with pytest.raises(torch.OutOfMemoryError, match="out of memory"):
        encode_reduced(Greedy(most=0), items, "cpu")


def test_batches_of_large_items_are_smaller(monkeypatch):
    monkeypatch.setattr(base, "_BATCH_BYTES", 1000)
    encoder = Greedy()
    encode_reduced(encoder, np.zeros((50, 5, 6)), "cpu")
    assert encoder.calls == [8] * 6 + [2]
    assert encoder.batch_of((100, 100)) == 1


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("no memory"),
        # What torch raises where the memory of the computer is short.
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory"
        ),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes."),
    ],
)
def test_errors_for_lack_of_memory_on_the_cpu_halve_batches_too(error):
    def greedy(batch):
        if len(batch) > 3:
            raise error
        return batch

    items = np.random.default_rng(0).random((10, 6))
    found = encode_reduced(get_encoder(greedy), items, "cpu")
    np.testing.assert_allclose(found, items, rtol=1e-6)


def test_the_size_that_fitted_is_remembered():
    encoder = Greedy(batch_size=16, most=5)
    items = np.random.default_rng(0).random((50, 7))
    for _ in range(2):
        encode_reduced(encoder, items, "cpu")
    assert encoder.calls == [*[4] * 12, 2] * 2
    assert encoder.tried == [16, 8, *encoder.calls]
    # Not for another encoder.
    other = Greedy(name="other")
    encode_reduced(other, items, "cpu")
    assert other.calls == [50]


def test_other_errors_are_not_taken_for_a_lack_of_memory():
    def broken(batch):
        raise RuntimeError("sizes do not match")

    with pytest.raises(RuntimeError, match="sizes do not match"):
        encode_reduced(get_encoder(broken), np.ones((8, 3)), "cpu")


@pytest.mark.parametrize("most", [1000, 3])
def test_rows_of_a_field_are_halved_until_they_fit(most):
    pixels = np.random.default_rng(0).random((20, 30))
    rows, columns = np.arange(0, 14, 2), np.arange(3, 27, 3)
    one = Field(pixels, (0, 0), rows, columns, 3, (20, 30))
    other = Field(pixels[5:], (5, 0), rows[4:5], columns[:2], 3, (20, 30))
    encoder = Greedy(most=most)
    found = encode_fields(encoder, [one, other], "cpu")
    expected = np.concatenate([pixels[rows][:, columns].ravel(), pixels[8, columns[:2]]])
    np.testing.assert_array_equal(found[:, 0], expected)
    assert encoder.calls == ([7, 1] if most > 7 else [3, 2, 2, 1])


def test_a_field_of_one_row_that_does_not_fit_raises():
    field = Field(np.ones((5, 5)), (0, 0), np.array([1]), np.array([1]), 3, (5, 5))
    with pytest.raises(torch.OutOfMemoryError, match="out of memory"):
        encode_fields(Greedy(most=0), [field], "cpu")


# What encoders return


@pytest.mark.parametrize(
    "function, shown",
    [
        (lambda batch: batch.mean(axis=(1, 2)), r"\(4,\) of type float64"),
        (lambda batch: batch, r"\(4, 5, 6\) of type float64"),
        (lambda batch: batch[:3, 0], r"\(3, 6\) of type float64"),
        (lambda batch: None, r"\(\) of type object"),
        (lambda batch: {"embedding": batch}, r"\(\) of type object"),
        (lambda batch: [["a", "b"]] * 4, r"\(4, 2\) of type <U1"),
        (lambda batch: batch[:, 0] * 1j, r"\(4, 6\) of type complex128"),
    ],
)
def test_bad_embeddings_are_named(function, shown):
    function.__name__ = "broken"
    message = rf"encoder 'broken' turned a batch of shape \(4, 5, 6\) into {shown}; .*\(4, d\)"
    with pytest.raises(ValueError, match=message):
        encode_reduced(get_encoder(function), np.ones((4, 5, 6)), "cpu")


@pytest.mark.parametrize(
    "function", [lambda batch: batch, lambda batch: torch.as_tensor(batch), np.ndarray.tolist]
)
def test_integer_and_tensor_embeddings_are_accepted(function):
    items = np.arange(12).reshape(3, 4)
    found = encode_reduced(get_encoder(function), items, "cpu")
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, items)


# Threads


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def threads_of_a_new_thread():
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(torch.get_num_threads).result()


def test_threads_that_overlap_restore_the_number_of_the_user(two_threads):
    entered, leave, seen = threading.Event(), threading.Event(), []

    def early():
        with using("cpu"):
            entered.set()
            leave.wait(5)
        seen.append(torch.get_num_threads())

    def late():
        entered.wait(5)
        with using("cpu"):
            leave.set()
            first.join(5)
            # The one that has left has not changed the number here.
            seen.append(torch.get_num_threads())
        seen.append(torch.get_num_threads())

    first, second = threading.Thread(target=early), threading.Thread(target=late)
    first.start(), second.start()
    second.join(5)
    assert seen == [2, 1, 2]
    assert torch.get_num_threads() == threads_of_a_new_thread() == 2


def test_one_thread_also_in_nested_use(two_threads):
    with using("cpu"):
        with using("cpu"):
            pass
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 2


def test_threads_are_restored_after_an_error(two_threads):
    with pytest.raises(ValueError, match="broken"), using("cpu"):
        raise ValueError("broken")
    assert torch.get_num_threads() == threads_of_a_new_thread() == 2


# Devices


def is_free(device):
    """Whether another thread can use a device at once."""
    entered = threading.Event()

    def enter():
        with using(device):
            entered.set()

    thread = threading.Thread(target=enter, daemon=True)
    thread.start()
    free = entered.wait(0.1)
    return free, thread


def test_blocks_take_turns_on_a_device_that_is_not_the_cpu():
    with using("cuda"):
        same, waiting = is_free("cuda:0")
        other, _ = is_free("cuda:1")
        cpu, _ = is_free("cpu")
    assert (same, other, cpu) == (False, True, True)
    waiting.join(5)
    assert not waiting.is_alive()
    assert is_free("cuda")[0]


def test_the_first_calls_at_the_same_time_get_one_lock(monkeypatch):
    class SlowLock(batches.Lock):
        """Both threads are inside before either of them has its lock."""

        def __init__(self):
            together.wait()
            super().__init__()

    together, inside, most = threading.Barrier(2, timeout=5), [], []

    def enter():
        with using("cuda:7"):
            inside.append(0)
            most.append(len(inside))
            time.sleep(0.05)
            inside.pop()

    monkeypatch.setattr(batches, "_LOCKS", {})
    monkeypatch.setattr(batches, "Lock", SlowLock)
    with ThreadPoolExecutor(2) as pool:
        for future in [pool.submit(enter) for _ in range(2)]:
            future.result()
    assert most == [1, 1]
    assert list(batches._LOCKS) == [("cuda", 7)]


def test_choose_device():
    assert choose_device("cpu") == choose_device(torch.device("cpu")) == "cpu"
    expected = "mps" if torch.backends.mps.is_available() else "cpu"
    assert choose_device(None) == ("cuda" if torch.cuda.is_available() else expected)
    assert choose_device("cpu:0") == "cpu:0"
    items = np.ones((3, 4))
    np.testing.assert_array_equal(
        encode_reduced(Greedy(), items, "cpu:0"), encode_reduced(Greedy(), items, "cpu")
    )


@pytest.mark.parametrize("device", ["tpu", "cuda:99", "meta", "graphics card", 1.5, ""])
def test_devices_that_are_not_available(device):
    with pytest.raises(ValueError, match=r"cannot be used here .*'cpu' is always available"):
        choose_device(device)
