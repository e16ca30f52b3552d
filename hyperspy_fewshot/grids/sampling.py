"""How many items of a data set can be sampled."""

import math
from collections.abc import Sequence

# Memory of the sample as float32 [bytes]. Of large items more are taken than fit: fewer than
# 256 do not show how a data set varies, and four times the memory is no harm.
_SAMPLE_BYTES = 64 * 2**20
_WANTED, _NEEDED = 256, 16


def affordable(item_shape: Sequence[int], most: int) -> int:
    """Number of items of a shape, at most `most`, that a sample may hold."""
    fitting = _SAMPLE_BYTES // (4 * math.prod(item_shape))
    return min(most, max(fitting, min(_WANTED, 4 * fitting), _NEEDED))
