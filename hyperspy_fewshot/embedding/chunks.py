"""Whether the chunks of a file suit the pass over its data."""

import math
import warnings

import dask.array as da

# What has to be in memory at once, and what is read with little overhead [bytes].
_MOST_AT_ONCE = 2**30
_GOOD_CHUNK = 64 * 2**20
# Dask spends more time on chunks that are smaller and more than this than reading them takes.
_SMALL_CHUNK = 100_000
_MANY_CHUNKS = 10_000


def check_chunks(data: da.Array, n_whole: int) -> None:
    """Warn of chunks that are slow to read, or need more memory than they should.

    The last `n_whole` axes are needed whole: those of spectra and patterns, none of images.
    """
    sizes = list(data.chunksize)
    if n_whole:
        # A block waits for all chunks that its spectra are cut into.
        sizes[-n_whole:] = data.shape[-n_whole:]
    at_once = math.prod(sizes) * data.dtype.itemsize
    mean = data.nbytes / max(1, data.npartitions)
    if at_once > _MOST_AT_ONCE:
        cut = any(n > 1 for n in data.numblocks[data.ndim - n_whole :])
        problem = f"chunks of shape {data.chunksize}" + " cut the signal axes, and" * cut
        problem = f"Its {problem} need {at_once / 2**30:.1f} GB of memory at once"
    elif data.npartitions > _MANY_CHUNKS and mean < _SMALL_CHUNK:
        problem = f"Its {data.npartitions} chunks of {mean / 1000:.3g} kB each are slow to read"
    else:
        return
    better = _better_chunks(data, n_whole)
    warnings.warn(
        f"{problem}; chunks of shape {better} are better. Saving the signal once with "
        f"s.save('rechunked.zspy', chunks={better}), and loading that file, makes it faster.",
        stacklevel=5,
    )


def _better_chunks(data: da.Array, n_whole: int) -> tuple[int, ...]:
    wanted = ("auto",) * (data.ndim - n_whole) + (-1,) * n_whole
    chunks = da.core.normalize_chunks(wanted, data.shape, limit=_GOOD_CHUNK, dtype=data.dtype)
    return tuple(sizes[0] for sizes in chunks)
