"""What speed.py measures: each function runs in a process of its own, on a file of speed_data."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dask
import hyperspy.api as hs
import numpy as np
import torch
from dask.distributed import Client, LocalCluster
from measure import CORES, Peak, on_all_cores, timed, torch_threads
from resnet import resnet101
from speed_data import right, support, support_of
from torch.utils.flop_counter import FlopCounterMode

from hyperspy_fewshot import FewShotResult
from hyperspy_fewshot.encoders import Encoder

CHIP = 64
_RESNET_SIDE = 224
# Positions of a block, and numbers of an embedding, of the least that spectra cost.
_BLOCK, _COMPONENTS = 256, 64

Timed = dict[str, Any]


def classified(path: Path, **options: Any) -> FewShotResult:
    """Classify a file lazily, all that a user waits for."""
    signal = hs.load(path, lazy=True)
    return _lazily(signal, **options).compute(show_progressbar=False)


def classification(path: Path, lazy: bool = True, calls: int = 1, **options: Any) -> Timed:
    """Times of the first call and of the fastest after it, peak memory, labels.

    Data in memory are loaded before; neither time nor memory counts that.
    """
    signal = hs.load(path, lazy=lazy)
    examples, peak = support_of(signal), Peak()

    def call() -> FewShotResult:
        data = hs.load(path, lazy=True) if lazy else signal
        result = data.fewshot_classify(examples, show_progressbar=False, **options)
        return result.compute(show_progressbar=False)

    seconds, results = zip(*(timed(call) for _ in range(calls)), strict=True)
    labels = results[-1].labels.data
    return {
        "first": seconds[0],
        "seconds": min(seconds[1:] or seconds),
        "peak": peak.above(),
        "labels": labels,
        "right": right(labels),
        "context": results[-1].classifier.setup.context,
    }


def patterns(path: Path, rounds: int) -> Timed:
    """Times of reading, of encoding and of both, the fastest of some rounds."""
    _read(path)
    first, result = timed(classified, path, context=1)
    data = hs.load(path).data
    items, encoder = data.reshape(-1, *data.shape[2:]), _encoder(result)
    times = [
        (
            timed(_read, path)[0],
            timed(encode_all, encoder, items)[0],
            timed(classified, path, context=1)[0],
            timed(classified, path)[0],
        )
        for _ in range(rounds)
    ]
    names = ("reading", "encoding", "seconds", "default")
    return {"first": first, **dict(zip(names, np.min(times, axis=0).tolist(), strict=True))}


def _read(path: Path) -> None:
    """Read and decompress a file, chunk by chunk, and keep one number of each."""
    data = hs.load(path, lazy=True).data
    data.map_blocks(_last, dtype=data.dtype, chunks=(1,) * data.ndim).compute()


def _last(chunk: np.ndarray) -> np.ndarray:
    return chunk[(slice(-1, None),) * chunk.ndim].copy()


def encode_all(encoder: Encoder, items: np.ndarray) -> None:
    """Encode items in memory on all cores, in batches of the encoder's own size."""
    size = min(encoder.batch_of(items.shape[1:]), -(-len(items) // CORES))
    on_all_cores(encoder.encode, np.split(items, range(size, len(items), size)))


def plain_map(path: Path, rows: int, threads: int | None) -> float:
    """Time [s] of ``map`` with the encoder for the first rows of a scan.

    Parameters
    ----------
    path, rows
        The scan, and what of it is embedded.
    threads
        Of torch; None: as torch chooses.
    """
    signal = hs.load(path, lazy=True)
    encoder = _encoder(_lazily(signal, context=1))
    size = encoder.encode(signal.inav[0, 0].data.compute()[np.newaxis]).shape[1]

    def embed(pattern: np.ndarray) -> np.ndarray:
        return encoder.encode(pattern[np.newaxis])[0]

    def call() -> None:
        part = signal.inav[:, :rows]
        embedded = part.map(
            embed, inplace=False, ragged=False, output_signal_size=(size,),
            output_dtype=np.float32, show_progressbar=False,
        )  # fmt: skip
        embedded.compute(show_progressbar=False)

    with torch_threads(threads):
        return timed(call)[0]


def chips_alone(path: Path, count: int) -> float:
    """Time [s] of a chip that the encoder of an image embeds on its own."""
    signal = hs.load(path)
    encoder = _encoder(_lazily(signal, chip_size=CHIP, stride=CHIP))
    image, rng = signal.data, np.random.default_rng(0)
    starts = rng.integers(image.shape[0] - CHIP, size=(count, 2))
    chips = np.stack([image[y : y + CHIP, x : x + CHIP] for y, x in starts])
    encode_all(encoder, chips[: 2 * CORES])
    return timed(encode_all, encoder, chips)[0] / count


def resnet_chips(count: int) -> float:
    """Time [s] of a chip in ResNet-101, from a batch of some on all cores."""
    network = resnet101()
    chips = torch.rand(count, 3, _RESNET_SIDE, _RESNET_SIDE)
    chips = chips.to(memory_format=torch.channels_last)
    with torch.inference_mode():
        network(chips)
        return timed(network, chips)[0] / count


def image_flops(path: Path, side: int) -> float:
    """Operations of the encoder for a pixel of an image at a stride of 8, from a part of it."""
    part = hs.load(path).isig[:side, :side]
    result = _lazily(part, chip_size=CHIP, stride=8)
    # What is counted has to run in this thread.
    with dask.config.set(scheduler="synchronous"), FlopCounterMode(display=False) as counter:
        result.embeddings.data.compute()
    return counter.get_total_flops() / part.data.size


def pattern_flops(path: Path) -> float:
    """Operations of the encoder for a pattern, from those of the first row."""
    signal = hs.load(path, lazy=True)
    encoder, items = _encoder(_lazily(signal, context=1)), signal.data[0].compute()
    with FlopCounterMode(display=False) as counter:
        encoder.encode(items)
    return counter.get_total_flops() / len(items)


def least_for_spectra(path: Path) -> float:
    """Time [s] to normalise spectra in memory, take the root and project it, on all cores."""
    data = hs.load(path).data
    spectra = data.reshape(-1, data.shape[-1])
    components = np.random.default_rng(0).random((spectra.shape[1], _COMPONENTS), np.float32)

    def project(start: int) -> torch.Tensor:
        block = torch.as_tensor(spectra[start : start + _BLOCK]).float()
        block /= block.sum(1, keepdim=True)
        return (block + 1e-20).sqrt_() @ torch.as_tensor(components)

    return timed(on_all_cores, project, range(0, len(spectra), _BLOCK))[0]


def on_threads(path: Path, count: int) -> Timed:
    """Classify patterns on so many threads."""
    with dask.config.set(scheduler="threads", num_workers=count):
        return classification(path, calls=2, context=1)


def on_workers(path: Path, count: int) -> Timed:
    """Classify patterns on so many workers of ``dask.distributed``, one thread each."""
    cluster = LocalCluster(
        n_workers=count, threads_per_worker=1, processes=True, dashboard_address=":0"
    )
    with cluster, Client(cluster):
        return classification(path, calls=2, context=1)


def cold_start(path: Path, shape: Sequence[int]) -> float:
    """Time [s] of a program that loads and classifies an image, from its start to its end."""
    examples = support(*shape[::-1])
    program = (
        f"import hyperspy.api as hs; s = hs.load({str(path)!r}); "
        f"s.fewshot_classify({examples!r}, show_progressbar=False)"
    )
    return timed(subprocess.run, [sys.executable, "-c", program], check=True)[0]


def _lazily(signal: hs.signals.BaseSignal, **options: Any) -> FewShotResult:
    return signal.fewshot_classify(
        support_of(signal), lazy_output=True, show_progressbar=False, **options
    )


def _encoder(result: FewShotResult) -> Encoder:
    """The encoder as it was fitted."""
    return result.classifier.setup.encoder
