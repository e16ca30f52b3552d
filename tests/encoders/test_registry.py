import numpy as np
import pytest
import torch

from hyperspy_fewshot import get_encoder, list_encoders
from hyperspy_fewshot.encoders import default_encoder
from hyperspy_fewshot.encoders.fourier import FourierEncoder
from hyperspy_fewshot.encoders.pca import PCAEncoder


def test_bundled_encoders():
    assert list_encoders() == ["stem", "pattern", "spectrum", "fourier", "pca"]
    assert list_encoders("image") == ["stem", "fourier", "pca"]
    assert list_encoders("pattern") == ["pattern", "fourier", "pca"]
    assert list_encoders("spectrum") == ["spectrum", "pca"]
    defaults = {kind: default_encoder(kind).name for kind in ("image", "pattern", "spectrum")}
    assert defaults == {"image": "stem", "pattern": "pattern", "spectrum": "spectrum"}
    for kind, name in defaults.items():
        assert name in list_encoders(kind)
    assert isinstance(get_encoder("pca"), PCAEncoder)


def test_encoders_are_returned_unchanged():
    encoder = FourierEncoder(name="mine", max_frequency=8)
    assert get_encoder(encoder) is encoder


@pytest.mark.parametrize(
    "encoder, error, message",
    [
        (
            "furier",
            ValueError,
            "no encoder 'furier'. Bundled: 'stem', 'pattern', 'spectrum', 'fourier', 'pca'",
        ),
        (3, TypeError, "encoder is int; a name, an Encoder, a torch module"),
        (np.ones(3), TypeError, "encoder is ndarray; a name, an Encoder"),
        (FourierEncoder, TypeError, r"encoder is the class FourierEncoder; pass FourierEncoder\("),
        (torch.nn.Flatten, TypeError, r"encoder is the class Flatten; pass Flatten\("),
        ("model.onnx", FileNotFoundError, "There is no encoder file 'model.onnx'"),
    ],
)
def test_wrong_encoders_are_refused(encoder, error, message):
    with pytest.raises(error, match=message):
        get_encoder(encoder)


def test_options_that_would_be_ignored_are_refused():
    for encoder in ("pca", "spectrum", FourierEncoder(name="mine"), np.real):
        with pytest.raises(ValueError, match="input_size='64' is for torch modules and files; enc"):
            get_encoder(encoder, input_size=64)
        with pytest.raises(ValueError, match="weights='a.pt' is for torch modules and 'stem'; enc"):
            get_encoder(encoder, weights="a.pt")
    with pytest.raises(ValueError, match="encoder='spectrum' takes none"):
        get_encoder("spectrum", weights="spectrum.safetensors")
    with pytest.raises(ValueError, match="input_size='64' .* encoder='stem' takes none"):
        get_encoder("stem", weights="stem.safetensors", input_size=64)
