"""The properties that all encoders share."""

import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch

from hyperspy_fewshot import Encoder, get_encoder
from hyperspy_fewshot.encoders.base import to_tensor
from hyperspy_fewshot.encoders.pca import PCAEncoder


@pytest.mark.parametrize(
    "dtype", ["u1", "u2", "u4", "u8", "i2", "i4", "f2", "f8", ">u2", ">f4", "?"]
)
def test_to_tensor_converts_any_dtype_to_float32(dtype):
    batch = (np.arange(12).reshape(2, 2, 3) % 2).astype(dtype)
    tensor = to_tensor(batch, "cpu")
    assert tensor.dtype == torch.float32
    np.testing.assert_array_equal(tensor.numpy(), batch.astype(float))


@pytest.mark.filterwarnings("error")
def test_to_tensor_accepts_views_and_read_only_arrays():
    batch = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    batch.flags.writeable = False
    np.testing.assert_array_equal(
        to_tensor(batch[:, ::-1, ::2], "cpu").numpy(), batch[:, ::-1, ::2]
    )
    to_tensor(batch, "cpu").zero_()
    assert batch[1, 2, 3] == 23


def test_normalisation_is_robust_and_global(rng):
    sample = rng.normal(100, 10, (500, 16, 16)).astype(np.float32)
    sample[3, 2, 1] = 1e9
    fitted = Encoder(name="plain").fit(sample, kind="image")
    assert fitted.offset == pytest.approx(100, abs=0.3)
    assert fitted.scale == pytest.approx(2 * 2.326 * 10, rel=0.02)
    constant = Encoder(name="plain").fit(np.full((4, 3, 3), -7.0, np.float32), kind="image")
    assert (constant.offset, constant.scale) == (-7, 7)
    zero = Encoder(name="plain").fit(np.zeros((4, 3, 3), np.float32), kind="image")
    assert (zero.offset, zero.scale) == (0, 1)


@pytest.mark.parametrize("side", [64, 63, 60])
def test_normalisation_samples_all_columns(side):
    # Every n-th value of a periodic image could always fall on the same column.
    chip = np.where(np.arange(side) % 8 == 0, 100.0, 0.0) + np.zeros((side, 1))
    sample = np.broadcast_to(chip, (2000, side, side)).astype(np.float32)
    fitted = Encoder(name="plain").fit(sample, kind="image")
    assert fitted.offset == 0
    assert fitted.scale == 100


@pytest.mark.parametrize("dtype", ["u1", "u2", "i4", "f8", ">u2", ">f8"])
@pytest.mark.parametrize("name", ["fourier", "pca"])
def test_embeddings_do_not_depend_on_the_dtype(name, dtype, rng):
    chips = rng.integers(0, 200, (30, 16, 16))
    encoder = get_encoder(name).fit(chips.astype(np.float32), kind="image")
    expected = encoder.encode(chips.astype(np.float32))
    np.testing.assert_array_equal(encoder.encode(chips.astype(dtype)), expected)


@pytest.mark.parametrize("name", ["fourier", "pca"])
def test_embeddings_do_not_depend_on_the_batch(name, rng):
    chips = rng.poisson(20, (30, 16, 16)).astype(np.float32)
    encoder = get_encoder(name).fit(chips, kind="image")
    one_by_one = np.concatenate([encoder.encode(chip[np.newaxis]) for chip in chips])
    np.testing.assert_allclose(encoder.encode(chips), one_by_one, atol=1e-4)


@pytest.mark.parametrize("name", ["fourier", "pca"])
def test_fit_changes_neither_encoder_nor_sample(name, rng):
    chips = rng.poisson(20, (30, 16, 16)).astype(np.float32)
    before, encoder = chips.copy(), get_encoder(name)
    state = encoder.state()
    fitted = encoder.fit(chips, kind="image")
    np.testing.assert_array_equal(chips, before)
    assert encoder.state() == state
    assert fitted is not encoder
    assert pickle.loads(pickle.dumps(fitted)) == fitted
    np.testing.assert_array_equal(
        pickle.loads(pickle.dumps(fitted)).encode(chips), fitted.encode(chips)
    )


_PRINT_DIGESTS = """
import numpy as np, torch
from hyperspy_fewshot import get_encoder
sample = np.random.default_rng(0).poisson(9, (40, 12)).astype("f4")
torch.manual_seed(0)
module = torch.nn.Sequential(torch.nn.Conv1d(1, 3, 5), torch.nn.ReLU(), torch.nn.Dropout(0.2))
for encoder in ("pca", module, np.fft.rfft, lambda batch: batch[:, :3] + 2):
    print(get_encoder(encoder).fit(sample, kind="spectrum").sha256)
"""


def test_digests_are_equal_in_all_processes():
    command = [sys.executable, "-c", _PRINT_DIGESTS]
    started = [
        subprocess.Popen(
            command, env={**os.environ, "PYTHONHASHSEED": seed}, stdout=subprocess.PIPE, text=True
        )
        for seed in ("1", "2")
    ]
    found = [process.communicate(timeout=120)[0].split() for process in started]
    assert len(set(found[0])) == 4
    assert found[0] == found[1]


def test_digests_of_different_fits_differ(rng):
    spectra = rng.poisson(9, (40, 12)).astype(np.float32)
    one, same, other = (
        get_encoder("pca").fit(x, kind="spectrum") for x in (spectra, spectra.copy(), spectra[1:])
    )
    assert one == same
    assert hash(one) == hash(same)
    assert one != other
    assert one != get_encoder("pca")
    assert repr(one) == f"<PCAEncoder 'pca', sha256 {one.sha256[:8]}>"


def test_digest_covers_the_class():
    mine = type("PCAEncoder", (PCAEncoder,), {"__module__": "elsewhere"})
    assert mine.__qualname__ == PCAEncoder.__qualname__
    assert mine(name="pca").sha256 != PCAEncoder(name="pca").sha256
    assert mine(name="pca") != PCAEncoder(name="pca")
    nested = type("PCAEncoder", (PCAEncoder,), {"__module__": PCAEncoder.__module__})
    nested.__qualname__ = "Outer.PCAEncoder"
    assert nested(name="pca").sha256 != PCAEncoder(name="pca").sha256


def test_digest_ignores_what_does_not_change_embeddings():
    encoder = Encoder(name="plain")
    same = Encoder(name="plain", kinds=("image",), batch_size=3)
    assert encoder == same and hash(encoder) == hash(same)
    for changed in ({"offset": 1.0}, {"scale": 2.0}, {"dihedral": True}, {"name": "other"}):
        assert Encoder(**{"name": "plain", **changed}) != encoder


def test_dihedral_stays_as_it_is():
    fitted = Encoder(name="plain", dihedral=True).fit(np.ones((4, 3, 5), np.float32), kind="image")
    assert fitted.dihedral


@pytest.mark.parametrize("shape, expected", [((2,), 256), ((2048, 1024), 8), ((9000, 9000), 1)])
def test_batches_of_large_items_are_small(shape, expected):
    assert Encoder(name="plain").batch_of(shape) == expected


def test_encode_has_to_be_defined():
    with pytest.raises(NotImplementedError, match="Encoder does not define encode"):
        Encoder(name="nothing").encode(np.ones((2, 3)))
    batch = np.ones((2, 3))
    assert Encoder(name="nothing").reduce(batch) is batch
