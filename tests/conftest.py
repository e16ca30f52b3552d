import os
from pathlib import Path

os.environ["MPLBACKEND"] = "agg"
# Beside dask's threads, and other programs, more BLAS threads only get in the way.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import hyperspy.api as hs  # noqa: E402
import matplotlib.pyplot as plt  # noqa: E402
import pytest  # noqa: E402

hs.preferences.General.show_progressbar = False

CHECKOUT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared_data():
    """Folder of real data, from HYPERSPY_FEWSHOT_DATA or beside the checkout."""
    default = CHECKOUT.parent / "shared" / "data"
    path = Path(os.environ.get("HYPERSPY_FEWSHOT_DATA", default))
    if not path.is_dir():
        pytest.skip(f"no real data at {path} (set HYPERSPY_FEWSHOT_DATA)")
    return path


@pytest.fixture(autouse=True)
def close_figures():
    """Close the figures that a test leaves open."""
    yield
    plt.close("all")
