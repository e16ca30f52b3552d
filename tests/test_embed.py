"""Blocks, batches, threads and schedulers make no difference to an embedding."""

import pickle
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import dask
import dask.array as da
import numpy as np
import pytest
import torch

from hyperspy_fewshot import embed, encoding, queries, regions, sampling
from hyperspy_fewshot.chips import ChipGrid
from hyperspy_fewshot.context import choose_context
from hyperspy_fewshot.encoders import Encoder, base, get_encoder
from hyperspy_fewshot.encoders.threads import one_thread
from hyperspy_fewshot.positions import PositionGrid
from hyperspy_fewshot.prototypes import FewShotClassifier


class Store:
    """An array on a disk, so to speak, which remembers what is read of it."""

    def __init__(self, data):
        self.data, self.shape, self.dtype, self.ndim = data, data.shape, data.dtype, data.ndim
        self.reads = Counter()
        self._lock = threading.Lock()

    def __getitem__(self, where):
        part = self.data[where]
        if part.size:
            with self._lock:
                self.reads[tuple((s.start, s.stop) for s in where)] += 1
        return part

    def chunked(self, chunks):
        return da.from_array(self, chunks=chunks)


@dataclass(frozen=True, eq=False)
class Moments(Encoder):
    """Mean, spread and first value of every item, and a log of the calls."""

    name: str = "moments"
    calls: list = field(default_factory=list)

    def encode(self, batch, device="cpu"):
        self.calls.append((len(batch), torch.get_num_threads()))
        flat = batch.reshape(len(batch), -1).astype(float)
        return np.stack([flat.mean(1), flat.std(1), flat[:, 0]], axis=1)

    @property
    def n_items(self):
        return sum(n for n, _ in self.calls)


# Data of all-different dimensions with their grid and the most uneven chunks.
CASES = {
    "patterns": ((2, 3, 40, 56), PositionGrid((2, 3), (40, 56)), (1, (1, 2), (17, 23), (30, 26))),
    "pooled patterns": ((2, 3, 40, 56), PositionGrid((2, 3), (40, 56), 3), (2, 1, 40, (5, 51))),
    "pooled spectra": (
        (11, 14, 20),
        PositionGrid((11, 14), (20,), 5),
        ((1, 7, 3), (9, 5), (13, 7)),
    ),
    "series": ((2, 11, 14, 6), PositionGrid((2, 11, 14), (6,), 3), (1, (6, 5), 14, 6)),
    "line": ((37, 20), PositionGrid((37,), (20,), 3), ((1, 30, 6), 20)),
    "image": ((40, 56), ChipGrid((), (40, 56), 16, 5), ((17, 23), (1, 30, 25))),
    "stack": ((2, 3, 40, 56), ChipGrid((2, 3), (40, 56), 13, 4), (2, (1, 2), (17, 23), (30, 26))),
}


@pytest.fixture(params=CASES)
def case(request):
    shape, grid, chunks = CASES[request.param]
    rng = np.random.default_rng(len(request.param))
    return rng.integers(0, 4000, shape).astype(np.uint16), grid, chunks


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks so small that every case has several."""
    monkeypatch.setattr(embed, "_BLOCK_SIDE", 16)
    monkeypatch.setattr(embed, "_BLOCK_BYTES", 1000)


def everything(grid):
    return tuple(slice(0, n) for n in grid.shape)


def naive_embeddings(data, grid, encoder, mask=None):
    """Embeddings of all queries, from the whole of the data at once."""
    result = np.full((*grid.shape, 3), np.nan, np.float32)
    flat = result.reshape(-1, 3)
    block = everything(grid)
    for index, items in grid.batches(data[grid.region(block)], block, mask, 10**6):
        flat[index] = encoder.encode(items)
    return result


# Equality.


@pytest.mark.parametrize("chunking", ["whole", "small", "uneven"])
def test_lazy_equals_eager_to_the_bit(case, chunking, small_blocks):
    data, grid, uneven = case
    small = tuple(-(-n // 4) for n in data.shape)
    chunks = {"whole": -1, "small": small, "uneven": uneven}[chunking]
    lazy = embed.embeddings(da.from_array(data, chunks=chunks), grid, None, Moments(), 3, "cpu")
    assert lazy.shape == (*grid.shape, 3)
    assert lazy.dtype == lazy._meta.dtype == np.float32
    assert lazy.npartitions > 1
    np.testing.assert_array_equal(lazy.compute(), naive_embeddings(data, grid, Moments()))
    last = tuple(n - 1 for n in grid.shape)
    np.testing.assert_array_equal(lazy[last].compute(), lazy.compute()[last])


@pytest.mark.parametrize("name", ["image", "pooled patterns", "pooled spectra"])
def test_bundled_encoders_do_not_depend_on_blocks(name, monkeypatch):
    shape, grid, chunks = CASES[name]
    data = np.random.default_rng(5).poisson(20, shape).astype(np.uint16)
    kind = {2: "image", 4: "pattern", 3: "spectrum"}[len(shape)]
    block = everything(grid)
    ((_, sample),) = grid.batches(data, block, None, 10**6)
    sample = sample.astype(np.float32)
    encoder = get_encoder("fourier" if kind == "image" else "pca").fit(sample, kind=kind)
    whole = encoding.encode(encoder, sample, "cpu")
    monkeypatch.setattr(embed, "_BLOCK_SIDE", 16)
    monkeypatch.setattr(embed, "_BLOCK_BYTES", 4000)
    lazy = da.from_array(data, chunks=chunks)
    blocks = embed.embeddings(lazy, grid, None, encoder, whole.shape[1], "cpu").compute()
    np.testing.assert_allclose(blocks.reshape(whole.shape), whole, atol=2e-5 * np.abs(whole).max())


@pytest.mark.parametrize("dtype", ["u1", ">u2", "i4", "f8", ">f4", "?"])
def test_any_type_of_number(dtype):
    data = np.random.default_rng(0).integers(0, 2, (4, 5, 7)).astype(dtype)
    encoder = get_encoder("pca").fit(data.reshape(20, 7).astype(np.float32), kind="spectrum")
    grid = PositionGrid((4, 5), (7,), 3)
    size = encoder.components.shape[1]
    found = embed.embeddings(
        da.from_array(data, chunks=(3, 2, 7)), grid, None, encoder, size, "cpu"
    )
    pooled = grid.pool(data, None).reshape(20, 7)
    np.testing.assert_allclose(found.compute().reshape(20, size), encoder.encode(pooled), atol=1e-6)


# What is masked or not finite.


def test_masked_queries_are_not_encoded(case, small_blocks):
    data, grid, chunks = case
    mask = np.random.default_rng(1).random(grid.shape) < 0.3
    encoder = Moments()
    lazy = embed.embeddings(da.from_array(data, chunks=chunks), grid, mask, encoder, 3, "cpu")
    found = lazy.compute()
    np.testing.assert_array_equal(found, naive_embeddings(data, grid, Moments(), mask))
    np.testing.assert_array_equal(np.isnan(found).all(axis=-1), mask)
    assert encoder.n_items == (~mask).sum()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_queries_that_are_not_finite_have_no_embedding(case, bad, small_blocks):
    data, grid, chunks = case
    data = data.astype(np.float32)
    data[(1,) * data.ndim] = bad
    if isinstance(grid, ChipGrid):
        whole = everything(grid)
        ((_, chips),) = grid.batches(data, whole, None, 10**6)
        dead = ~np.isfinite(chips).all(axis=(1, 2)).reshape(grid.shape)
    else:
        dead = np.zeros(grid.shape, bool)
        dead[(1,) * dead.ndim] = True
    encoder = Moments()
    found = embed.embeddings(da.from_array(data, chunks=chunks), grid, None, encoder, 3, "cpu")
    np.testing.assert_array_equal(np.isnan(found.compute()).all(axis=-1), dead)
    assert 0 < encoder.n_items == (~dead).sum()


def test_nothing_but_masked_queries_calls_no_encoder():
    grid = PositionGrid((4, 5), (7,), 3)
    data = da.from_array(np.full((4, 5, 7), np.nan), chunks=2)
    encoder = Moments()
    assert np.isnan(embed.embeddings(data, grid, None, encoder, 3, "cpu").compute()).all()
    assert encoder.calls == []


@pytest.mark.parametrize("name", ["pca", "spectrum", "stem"])
@pytest.mark.parametrize("sum_normalise", [False, True])
def test_pooling_after_the_linear_step_equals_pooling_before(name, sum_normalise, monkeypatch):
    kind = "pattern" if name == "stem" else "spectrum"
    signal_shape = {"pattern": (70, 66), "spectrum": (40,)}[kind]
    rng = np.random.default_rng(1)
    data = rng.poisson(rng.uniform(1, 9, (9, 11, *signal_shape))).astype(np.uint16)
    data[:, 5:] *= 2
    mask = rng.random((9, 11)) < 0.1
    block = everything(PositionGrid((9, 11), signal_shape))
    _, smoothing = choose_context([data], [block], 2, sum_normalise=sum_normalise, contexts=(5,))
    grid = PositionGrid((9, 11), signal_shape, 5, smoothing=smoothing)
    pooled = grid.pool(data, mask)[~mask]
    encoder = get_encoder(name).fit(pooled, kind=kind, sum_normalise=sum_normalise)
    expected = encoder.encode(pooled)
    monkeypatch.setattr(embed, "_BLOCK_BYTES", 20 * data[0, 0].nbytes)
    lazy = da.from_array(data, chunks=(4, 5, *signal_shape))
    found = embed.embeddings(lazy, grid, mask, encoder, expected.shape[1], "cpu").compute()
    assert np.isnan(found[mask]).all()
    np.testing.assert_allclose(found[~mask], expected, atol=3e-4 * np.abs(expected).max())


def test_a_block_is_embedded_where_it_is_finite_and_not_masked():
    data = np.arange(40.0).reshape(4, 5, 2)
    data[1, 2, 0] = np.nan
    mask = np.zeros((4, 5), bool)
    mask[1, 0] = True
    block, encoder = (slice(1, 3), slice(0, 3)), Moments()
    for context in (1, 3):
        grid = PositionGrid((4, 5), (2,), context)
        region = data[grid.region(block)]
        index, found = queries.embed_block(encoder, grid, region, block, mask, "cpu")
        assert index.tolist() == [1, 3, 4, 5]
        whole = grid.pool(data, mask)
        expected = encoder.encode(whole[[1, 2, 2, 2], [1, 0, 1, 2]])
        np.testing.assert_allclose(found, expected, rtol=1e-6)
        nothing = queries.embed_block(encoder, grid, region, block, np.ones_like(mask), "cpu")
        assert len(nothing[0]) == len(nothing[1]) == 0


# What is read, and when.


def test_nothing_is_read_or_encoded_before_compute(case):
    data, grid, chunks = case
    store, encoder = Store(data), Moments()
    embed.embeddings(store.chunked(chunks), grid, None, encoder, 3, "cpu")
    assert (sum(store.reads.values()), encoder.calls) == (0, [])


def test_one_pass_reads_every_chunk_once(case, small_blocks):
    data, grid, chunks = case
    store, encoder = Store(data), Moments()
    stored = store.chunked(chunks)
    lazy = embed.embeddings(stored, grid, None, encoder, 3, "cpu")
    classifier = FewShotClassifier(
        ("a", "b"), np.zeros(3, np.float32), np.eye(2, 3, dtype=np.float32), 0.1, np.zeros(2), 1.0
    )
    packed = lazy.map_blocks(
        classifier.predict, chunks=(*lazy.chunks[:-1], (4,)), dtype=np.float32, meta=lazy._meta
    )
    probabilities, labels, confidence = dask.compute(
        packed[..., :2], packed[..., 2].astype(np.int16), packed[..., 3]
    )
    assert len(store.reads) == stored.npartitions
    assert set(store.reads.values()) == {1}
    assert encoder.n_items == np.prod(grid.shape)
    np.testing.assert_allclose(probabilities.sum(axis=-1), 1, rtol=1e-5)
    np.testing.assert_array_equal(labels, probabilities.argmax(axis=-1))
    np.testing.assert_array_equal(confidence, probabilities.max(axis=-1))


def test_blocks_of_a_slice_read_what_they_need(small_blocks):
    store = Store(np.zeros((11, 14, 20), np.float32))
    grid = PositionGrid((11, 14), (20,), 3)
    lazy = embed.embeddings(store.chunked((4, 4, 20)), grid, None, Moments(), 3, "cpu")
    lazy[:2, :2].compute()
    assert 0 < len(store.reads) <= 4


def test_read_reads_every_chunk_once():
    data = np.random.default_rng(0).random((9, 11, 6))
    store = Store(data)
    wanted = [
        (slice(0, 5), slice(2, 9)),
        (slice(3, 9), slice(0, 11)),
        (slice(4, 5), slice(4, 5), slice(0, 6)),
    ]
    parts = sampling.read(store.chunked((4, 3, 6)), wanted, False, "Reading")
    for part, region in zip(parts, wanted, strict=True):
        assert type(part) is np.ndarray
        np.testing.assert_array_equal(part, data[region])
    assert set(store.reads.values()) == {1}
    assert len(store.reads) == 3 * 4


def test_read_of_a_chunk_that_no_other_region_needs_reads_the_region():
    data = np.arange(720.0).reshape(10, 12, 6)
    store = Store(data)
    wanted = [(slice(1, 2), slice(3, 5)), (slice(9, 10), slice(0, 2))]
    parts = sampling.read(store.chunked((5, 6, 6)), wanted, False, "Reading")
    for part, where in zip(parts, wanted, strict=True):
        np.testing.assert_array_equal(part, data[where])
    assert set(store.reads) == {((1, 2), (3, 5), (0, 6)), ((9, 10), (0, 2), (0, 6))}


def test_read_keeps_the_order_of_regions_of_both_kinds():
    data = np.random.default_rng(0).random((20, 30, 6))
    # The second and the fourth share a chunk, the others have theirs alone.
    wanted = [
        (slice(0, 2), slice(0, 3)),
        (slice(11, 13), slice(11, 16)),
        (slice(16, 19), slice(1, 2)),
        (slice(12, 14), slice(8, 14)),
        (slice(6, 7), slice(20, 29)),
    ]
    parts = sampling.read(da.from_array(data, chunks=(5, 5, 6)), wanted, False, "Reading")
    for part, where in zip(parts, wanted, strict=True):
        np.testing.assert_array_equal(part, data[where])


def test_crop_cuts_a_smaller_region_out():
    data = np.arange(63.0).reshape(7, 9)
    have, want = (slice(1, 6), slice(2, 9)), (slice(2, 4), slice(2, 5))
    np.testing.assert_array_equal(sampling.crop(data[have], have, want), data[want])


def test_pieces_join_to_the_region():
    data = np.arange(210).reshape(5, 6, 7)
    lazy = da.from_array(data, chunks=((1, 4), (2, 3, 1), 4))
    for region in [
        (slice(0, 5),),
        (slice(1, 2), slice(1, 6)),
        (slice(0, 4), slice(2, 5), slice(3, 5)),
    ]:
        layer = {}
        pieces = regions.pieces_of(lazy, region, layer, "piece")
        graph = {**dict(lazy.__dask_graph__()), **layer, "whole": (regions.join, pieces)}
        np.testing.assert_array_equal(dask.get(graph, "whole"), data[region])
        # A chunk that lies inside the region as a whole is not copied.
        assert all(data[region].size > 0 and key[0] == "piece" for key in layer)
    assert regions.pieces_of(lazy, (slice(0, 1), slice(0, 2), slice(0, 4)), layer, "x") == [
        [[(lazy.name, 0, 0, 0)]]
    ]


# The sample.


def covered(blocks, shape):
    count = np.zeros(shape, int)
    for block in blocks:
        count[block] += 1
    return count


@pytest.mark.parametrize(
    "grid",
    [
        PositionGrid((300, 401), (2048,)),
        PositionGrid((3, 300, 401), (16, 16)),
        PositionGrid((200_000,), (512,)),
        PositionGrid((300, 401), (512, 512)),
        ChipGrid((), (2000, 1501), 64, 16),
        ChipGrid((5,), (700, 1501), 32, 8),
    ],
)
def test_sample_is_seeded_inside_and_as_large_as_it_should_be(grid):
    blocks = sampling.sample_blocks(grid)
    assert blocks == sampling.sample_blocks(grid)
    count = covered(blocks, grid.shape)
    assert count.max() == 1, "no item is sampled twice"
    most = sampling._MOST_SAMPLED[type(grid)]
    fitting = 64 * 2**20 / 4 / np.prod(grid.item_shape)
    assert 0.8 * min(most, fitting) < count.sum() <= min(most, max(fitting, 256))
    for block in blocks:
        assert all(0 <= s.start < s.stop <= n for s, n in zip(block, grid.shape, strict=True))
    # All parts of the data are represented.
    half = tuple(slice(0, n // 2) for n in grid.shape)
    share = count[half].sum() / count.sum()
    assert 0.5 * 0.5 ** len(grid.shape) < share < 2 * 0.5 ** len(grid.shape)


def test_small_data_are_sampled_whole():
    for grid in (PositionGrid((9, 8), (20,), 5), ChipGrid((2,), (40, 56), 16, 4)):
        assert sampling.sample_blocks(grid) == [everything(grid)]


def test_sample_does_not_depend_on_context_or_mask():
    blocks = sampling.sample_blocks(PositionGrid((300, 401), (512,), 1))
    assert blocks == sampling.sample_blocks(PositionGrid((300, 401), (512,), 9))


# Batches, memory and threads.


@dataclass(frozen=True, eq=False)
class Greedy(Moments):
    """Runs out of memory above a number of items."""

    most: int = 3

    def encode(self, batch, device="cpu"):
        if len(batch) > self.most:
            raise torch.OutOfMemoryError("out of memory")
        return super().encode(batch, device)


def test_batches_are_halved_until_they_fit():
    items = np.random.default_rng(0).random((50, 6))
    encoder = Greedy(batch_size=16)
    np.testing.assert_array_equal(
        encoding.encode(encoder, items, "cpu"), Moments().encode(items).astype(np.float32)
    )
    assert {n for n, _ in encoder.calls} == {2}
    assert len(encoder.calls) == 25
    with pytest.raises(torch.OutOfMemoryError, match="out of memory"):
        encoding.encode(Greedy(most=0), items, "cpu")


def test_batches_of_large_items_are_smaller(monkeypatch):
    monkeypatch.setattr(base, "_BATCH_BYTES", 1000)
    encoder = Moments()
    encoding.encode(encoder, np.zeros((50, 5, 6)), "cpu")
    assert {n for n, _ in encoder.calls} == {8, 2}
    assert encoder.batch_of((100, 100)) == 1


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("no memory"),
        # What torch raises where the machine's memory is short.
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory"
        ),
    ],
)
def test_memory_errors_of_the_machine_halve_batches_too(error):
    def greedy(batch):
        if len(batch) > 3:
            raise error
        return batch

    items = np.random.default_rng(0).random((10, 6))
    found = encoding.encode(get_encoder(greedy), items, "cpu")
    np.testing.assert_allclose(found, items, rtol=1e-6)


def test_what_fitted_is_remembered():
    encoder = Greedy(batch_size=16, most=5)
    items = np.random.default_rng(0).random((50, 7))
    for _ in range(2):
        encoding.encode(encoder, items, "cpu")
    assert [n for n, _ in encoder.calls[:13]] == [4] * 12 + [2]
    tried = []
    encoding.encode(get_encoder(lambda batch: tried.append(len(batch)) or batch), items, "cpu")
    assert tried == [50]


def test_other_errors_are_not_taken_for_a_lack_of_memory():
    def broken(batch):
        raise RuntimeError("sizes do not match")

    with pytest.raises(RuntimeError, match="sizes do not match"):
        encoding.encode(get_encoder(broken), np.ones((8, 3)), "cpu")


def test_batches_are_no_larger_than_asked_for():
    encoder = Moments(batch_size=7)
    data = da.zeros((5, 6, 4), chunks=-1)
    embed.embeddings(data, PositionGrid((5, 6), (4,)), None, encoder, 3, "cpu").compute()
    assert [n for n, _ in encoder.calls] == [7, 7, 7, 7, 2]


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def threads_of_a_new_thread():
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(torch.get_num_threads).result()


@pytest.mark.parametrize("scheduler", ["synchronous", "threads"])
def test_one_torch_thread_inside_and_the_users_own_outside(scheduler, two_threads, small_blocks):
    encoder = Moments()
    data = da.zeros((11, 14, 20), chunks=(4, 4, 20))
    lazy = embed.embeddings(data, PositionGrid((11, 14), (20,), 3), None, encoder, 3, "cpu")
    lazy.compute(scheduler=scheduler, num_workers=4)
    assert {threads for _, threads in encoder.calls} == {1}
    assert torch.get_num_threads() == 2
    assert threads_of_a_new_thread() == 2


def test_threads_that_overlap_restore_the_users_own(two_threads):
    entered, leave, seen = threading.Event(), threading.Event(), []

    def early():
        with one_thread():
            entered.set()
            leave.wait(5)
        seen.append(torch.get_num_threads())

    def late():
        entered.wait(5)
        with one_thread():
            leave.set()
            first.join(5)
            # The one that has left has not changed what holds here.
            seen.append(torch.get_num_threads())
        seen.append(torch.get_num_threads())

    first, second = threading.Thread(target=early), threading.Thread(target=late)
    first.start(), second.start()
    second.join(5)
    assert seen == [2, 1, 2]
    assert torch.get_num_threads() == threads_of_a_new_thread() == 2


def test_threads_inside_one_another(two_threads):
    with one_thread():
        with one_thread():
            pass
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 2


def test_threads_are_restored_after_an_error(two_threads):
    with pytest.raises(ValueError, match="moments"), one_thread():
        raise ValueError("moments")
    assert torch.get_num_threads() == threads_of_a_new_thread() == 2


# Schedulers.


@pytest.fixture(scope="module")
def wired():
    """A lazy result with a bundled encoder, and its values."""
    rng = np.random.default_rng(0)
    data = rng.poisson(30, (9, 10, 16)).astype(np.uint16)
    grid = PositionGrid((9, 10), (16,), 3)
    encoder = get_encoder("pca").fit(data.reshape(90, 16).astype(np.float32), kind="spectrum")
    size = encoder.components.shape[1]
    lazy = embed.embeddings(da.from_array(data, chunks=(4, 5, 9)), grid, None, encoder, size, "cpu")
    return lazy, lazy.compute(scheduler="synchronous")


@pytest.mark.parametrize("scheduler", ["threads", "processes"])
def test_schedulers_give_the_same(wired, scheduler):
    lazy, expected = wired
    np.testing.assert_array_equal(lazy.compute(scheduler=scheduler, num_workers=1), expected)


def test_results_pickle(wired):
    lazy, expected = wired
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(lazy)).compute(), expected)


def test_the_graph_holds_what_blocks_share_once(small_blocks):
    # Weights of 4 MB in many blocks: a graph that repeated them would show.
    encoder = Moments(offset=0.0)
    object.__setattr__(encoder, "weights", np.random.default_rng(0).random(2**19))
    lazy = embed.embeddings(
        da.zeros((40, 50, 16), chunks=(5, 8, 16)),
        PositionGrid((40, 50), (16,), 3),
        None,
        encoder,
        3,
        "cpu",
    )
    assert lazy.npartitions > 20
    assert len(pickle.dumps(lazy)) < 6 * 2**20


# Devices and bad encoders.


def test_blocks_take_turns_on_a_device():
    with encoding.using("cuda"):
        assert encoding._lock("cuda", 0).locked()
        assert not encoding._lock("cuda", 1).locked()
    assert not encoding._lock("cuda", 0).locked()


def test_without_a_device_the_process_that_embeds_takes_its_best(monkeypatch):
    asked = []
    best = lambda device: asked.append(device) or "cpu"  # noqa: E731
    monkeypatch.setattr(queries, "choose_device", best)
    data = np.random.default_rng(0).random((4, 5, 6))
    lazy = embed.embeddings(
        da.from_array(data), PositionGrid((4, 5), (6,)), None, Moments(), 3, None
    )
    assert asked == []
    assert lazy.compute().shape == (4, 5, 3) and asked == [None]


def test_choose_device():
    assert encoding.choose_device("cpu") == encoding.choose_device(torch.device("cpu")) == "cpu"
    expected = "cuda" if torch.cuda.is_available() else None
    if torch.backends.mps.is_available():
        expected = expected or "mps"
    assert encoding.choose_device(None) == (expected or "cpu")
    items = np.ones((3, 4))
    np.testing.assert_array_equal(
        encoding.encode(Moments(), items, "cpu:0"), encoding.encode(Moments(), items, "cpu")
    )


@pytest.mark.parametrize("device", ["tpu", "cuda:99", "meta", "graphics card", 1.5, ""])
def test_devices_that_are_not_there(device):
    with pytest.raises(ValueError, match=r"cannot be used here .*'cpu' is always there"):
        encoding.choose_device(device)


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
        encoding.encode(get_encoder(function), np.ones((4, 5, 6)), "cpu")


def test_length_of_an_embedding_must_not_change():
    encoder = get_encoder(lambda batch: np.ones((len(batch), 1)))
    lazy = embed.embeddings(da.ones((4, 5, 7)), PositionGrid((4, 5), (7,)), None, encoder, 3, "cpu")
    with pytest.raises(ValueError, match="gave 1 numbers an item, 3 before"):
        lazy.compute()


def test_integer_and_tensor_embeddings_are_fine():
    items = np.arange(12).reshape(3, 4)
    for function in (lambda batch: batch, lambda batch: torch.as_tensor(batch), np.ndarray.tolist):
        found = encoding.encode(get_encoder(function), items, "cpu")
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, items)
