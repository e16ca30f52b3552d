import numpy as np
import pytest
import torch


def _scenery(seed=0, shape=(150, 170)):
    """A smooth random image without noise."""
    noise = np.random.default_rng(seed).normal(size=shape)
    waves = np.fft.fft2(noise) * np.exp(-80 * np.hypot(*np.meshgrid(
        np.fft.fftfreq(shape[0]), np.fft.fftfreq(shape[1]), indexing="ij")))  # fmt: skip
    return np.fft.ifft2(waves).real.astype(np.float32)


@pytest.fixture(scope="session")
def scenery():
    """Function that draws an image."""
    return _scenery


@pytest.fixture(autouse=True, scope="session")
def one_torch_thread():
    """Small tensors are not faster with several threads, and slow when other programs run."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
