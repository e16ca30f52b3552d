"""Modules, files and functions of the user."""

import os
import pickle
import sys
import threading
import types
import warnings

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from hyperspy_fewshot import get_encoder
from hyperspy_fewshot.encoders import foreign

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")


def first_three(batch):
    """Return the first three channels."""
    return batch[:, :3]


def test_digest_of_functions():
    def channels(k):
        return lambda batch: batch[:, :k]

    assert get_encoder(first_three) == get_encoder(first_three)
    assert get_encoder(first_three) != get_encoder(np.fft.rfft)
    assert get_encoder(channels(3)) == get_encoder(channels(3))
    assert get_encoder(channels(3)) != get_encoder(channels(4))
    assert get_encoder(first_three).name == "first_three"
    assert get_encoder(first_three).batch_size == 256


def test_functions_of_a_module_can_be_pickled(rng):
    encoder = get_encoder(np.real)
    again = pickle.loads(pickle.dumps(encoder))
    assert again == encoder
    batch = rng.random((4, 5))
    np.testing.assert_array_equal(again.encode(batch), batch)


class Scale(torch.nn.Module):
    """Mean over the item, times a factor that is not a parameter."""

    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, items):
        return self.factor * items.flatten(1).mean(1, keepdim=True)


def small_network(channels=1, seed=0):
    """A network whose output differs in training mode."""
    torch.manual_seed(seed)
    return torch.nn.Sequential(
        torch.nn.Conv2d(channels, 4, 3),
        torch.nn.BatchNorm2d(4),
        torch.nn.ReLU(),
        torch.nn.Dropout(0.5),
    )


def test_modules_run_in_evaluation_mode_and_are_not_changed(rng):
    chips = rng.random((6, 10, 10)).astype(np.float32)
    module = small_network()
    before = {key: value.clone() for key, value in module.state_dict().items()}
    encoder = get_encoder(module)
    found = encoder.encode(chips)
    assert module.training and module[3].training
    for key, value in module.state_dict().items():
        assert torch.equal(value, before[key])
    with torch.no_grad():
        expected = module.eval()(torch.as_tensor(chips)[:, None]).mean((2, 3)).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert found.shape == (6, 4)


def test_training_the_module_does_not_change_the_encoder(rng):
    chips = rng.random((6, 10, 10)).astype(np.float32)
    module = small_network()
    encoder = get_encoder(module)
    expected, digest = encoder.encode(chips), encoder.sha256
    with torch.no_grad():
        module[0].weight.mul_(3)
    np.testing.assert_array_equal(encoder.encode(chips), expected)
    assert get_encoder(module).sha256 != digest


def test_modules_with_different_attributes_differ(rng):
    items = rng.random((3, 5)).astype(np.float32)
    one, three = get_encoder(Scale(1)), get_encoder(Scale(3))
    np.testing.assert_allclose(three.encode(items), 3 * one.encode(items), rtol=1e-6)
    assert one != three
    assert one == get_encoder(Scale(1))


def test_channels_are_repeated(rng):
    chips = rng.random((5, 10, 10)).astype(np.float32)
    module = small_network(channels=3).eval()
    with torch.no_grad():
        colour = torch.as_tensor(chips)[:, None].expand(-1, 3, -1, -1)
        expected = module(colour).mean((2, 3)).numpy()
    np.testing.assert_allclose(get_encoder(module).encode(chips), expected, rtol=1e-5)
    grouped = torch.nn.Conv2d(3, 3, 3, groups=3)
    assert get_encoder(grouped).encode(chips).shape == (5, 3)


def test_channels_are_those_of_the_first_convolution(rng):
    class Tokens(torch.nn.Module):
        """A vision transformer, whose first parameter has three axes."""

        def __init__(self):
            super().__init__()
            self.position = torch.nn.Parameter(torch.ones(1, 9, 4))
            self.embed = torch.nn.Conv2d(1, 4, 4, stride=4)

        def forward(self, items):
            return (self.embed(items).flatten(2).mT + self.position).mean(1)

    chips = rng.random((5, 12, 12)).astype(np.float32)
    assert get_encoder(Tokens()).encode(chips).shape == (5, 4)


def test_normalisation_and_resampling(rng):
    chips = (50 + 10 * rng.random((40, 20, 20))).astype(np.float32)
    encoder = get_encoder(torch.nn.Flatten(), input_size=5).fit(chips, kind="image")
    found = encoder.encode(chips)
    assert found.shape == (40, 25)
    assert abs(np.median(found)) < 0.05
    assert 0.1 < np.ptp(found) < 1
    ramp = np.broadcast_to(np.arange(20.0), (1, 20, 20))
    steps = np.diff(
        get_encoder(torch.nn.Flatten(), input_size=5).encode(ramp).reshape(5, 5), axis=1
    )
    np.testing.assert_allclose(steps[:, 1:-1], 4, rtol=1e-5)


def test_spectra_have_a_channel_axis_only_for_convolutions(rng):
    spectra = rng.random((7, 30)).astype(np.float32)
    torch.manual_seed(0)
    linear = torch.nn.Sequential(torch.nn.Linear(30, 6), torch.nn.ReLU())
    with torch.no_grad():
        expected = linear(torch.as_tensor(spectra)).numpy()
    np.testing.assert_allclose(get_encoder(linear).encode(spectra), expected, rtol=1e-5)
    convolution = torch.nn.Conv1d(1, 5, 7)
    with torch.no_grad():
        expected = convolution(torch.as_tensor(spectra)[:, None]).mean(2).numpy()
    np.testing.assert_allclose(get_encoder(convolution).encode(spectra), expected, rtol=1e-5)


def test_half_precision_is_converted_to_float32(rng):
    class Half(torch.nn.Module):
        def forward(self, items):
            return items.flatten(1).to(torch.bfloat16)

    found = get_encoder(Half()).encode(np.ones((2, 3, 4)))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, np.ones((2, 12)))


def test_modules_have_to_return_a_tensor():
    class Pair(torch.nn.Module):
        def forward(self, items):
            return items, items

    with pytest.raises(TypeError, match="'Pair' returned tuple; a tensor of shape"):
        get_encoder(Pair()).encode(np.ones((2, 3, 4)))


def test_module_encoders_can_be_pickled(rng):
    chips = rng.random((6, 10, 10)).astype(np.float32)
    encoder = get_encoder(small_network()).fit(chips, kind="image")
    again = pickle.loads(pickle.dumps(encoder))
    assert again == encoder
    np.testing.assert_array_equal(again.encode(chips), encoder.encode(chips))


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".pth"])
def test_weights_are_loaded_into_a_copy(suffix, tmp_path, rng):
    chips = rng.random((6, 10, 10)).astype(np.float32)
    trained, path = small_network(seed=1), tmp_path / f"weights{suffix}"
    (save_file if suffix == ".safetensors" else torch.save)(trained.state_dict(), path)
    module = small_network(seed=2)
    before = module[0].weight.clone()
    encoder = get_encoder(module, weights=path)
    assert torch.equal(module[0].weight, before)
    np.testing.assert_array_equal(encoder.encode(chips), get_encoder(trained).encode(chips))
    assert encoder == get_encoder(trained)


class Bomb:
    """A malicious pickle."""

    def __reduce__(self):
        return os.system, ("touch exploded",)


def test_weights_that_could_run_code_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"weight": Bomb()}, "bomb.pt")
    with pytest.raises(ValueError, match="'bomb.pt' holds more than weights, which could run code"):
        get_encoder(small_network(), weights="bomb.pt")
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("name", ["weights.safetensors", "weights.pth"])
def test_damaged_weights_are_refused(name, tmp_path):
    path, state = tmp_path / name, small_network().state_dict()
    (save_file if path.suffix == ".safetensors" else torch.save)(state, path)
    whole = path.read_bytes()
    damaged = whole[:20] + b"\xff" * 30 + whole[50:]
    for content in (b"", b"garbage" * 20, whole[: len(whole) // 2], bytes(len(whole)), damaged):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=f"'{name}' holds (no weights|more than weights)"):
            get_encoder(small_network(), weights=path)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=f"There is no file of weights .*{name}"):
        get_encoder(small_network(), weights=path)


def test_a_file_of_something_else_is_refused(tmp_path):
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(ValueError, match="'list.pth' holds list; a state dict is needed"):
        get_encoder(small_network(), weights=tmp_path / "list.pth")


def test_weights_have_to_fit_the_module(tmp_path):
    save_file(small_network(channels=3).state_dict(), tmp_path / "three.safetensors")
    with pytest.raises(RuntimeError, match="size mismatch for 0.weight"):
        get_encoder(small_network(), weights=tmp_path / "three.safetensors")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """One network as TorchScript and as exported program."""
    folder, module = tmp_path_factory.mktemp("files"), small_network(channels=3).eval()
    example = torch.zeros(2, 3, 10, 10)
    with warnings.catch_warnings():
        # Recent versions of torch warn of TorchScript.
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.script(module).save(folder / "scripted.pt")
        torch.jit.trace(module, example).save(folder / "traced.pt")
    any_batch = ({0: torch.export.Dim("n")},)
    exported = torch.export.export(module, (example,), dynamic_shapes=any_batch)
    torch.export.save(exported, folder / "exported.pt2")
    torch.export.save(torch.export.export(module, (example,)), folder / "fixed.pt2")
    torch.save(module.state_dict(), folder / "weights.pt")
    return folder, module


@pytest.mark.parametrize("name", ["scripted.pt", "traced.pt", "exported.pt2"])
def test_files_give_the_embeddings_of_their_module(files, name, rng):
    folder, module = files
    chips = rng.random((7, 10, 10)).astype(np.float32)
    encoder = get_encoder(folder / name, trusted=True)
    assert encoder.name == name
    expected = get_encoder(module).encode(chips)
    np.testing.assert_allclose(encoder.encode(chips), expected, atol=1e-5)
    again = pickle.loads(pickle.dumps(encoder))
    assert len(pickle.dumps(encoder)) < 2000
    np.testing.assert_array_equal(again.encode(chips), encoder.encode(chips))
    assert get_encoder(str(folder / name), trusted=True) == encoder


def test_files_must_be_trusted(files, monkeypatch):
    folder, _ = files
    monkeypatch.setattr(torch.jit, "load", lambda *_, **__: pytest.fail("the file was opened"))
    for name in ("scripted.pt", "exported.pt2"):
        with pytest.raises(
            ValueError, match=rf"'{name}' can run code. If .*'{name}', trusted=True"
        ):
            get_encoder(folder / name)


def test_wrong_files_are_refused(files, tmp_path):
    folder, _ = files
    with pytest.raises(FileNotFoundError, match="There is no encoder file .*none.pt"):
        get_encoder(tmp_path / "none.pt", trusted=True)
    (tmp_path / "weights.safetensors").touch()
    with pytest.raises(ValueError, match="neither TorchScript .* nor an exported program"):
        get_encoder(tmp_path / "weights.safetensors", trusted=True)
    chips = np.ones((3, 10, 10), np.float32)
    weights = get_encoder(folder / "weights.pt", trusted=True)
    with pytest.raises(ValueError, match=r"weights.pt' is not TorchScript. .*weights="):
        weights.encode(chips)
    (tmp_path / "text.pt2").write_text("no program")
    with pytest.raises(ValueError, match=r"text.pt2' is not an exported program"):
        get_encoder(tmp_path / "text.pt2", trusted=True).encode(chips)
    with pytest.raises(ValueError, match=r"does not take a batch of shape \(3, 3, 10, 10\) .*Dim"):
        get_encoder(folder / "fixed.pt2", trusted=True).encode(chips)


def test_changed_files_are_refused(files, tmp_path):
    path = tmp_path / "network.pt"
    path.write_bytes((files[0] / "scripted.pt").read_bytes())
    encoder = get_encoder(path, trusted=True)
    path.write_bytes((files[0] / "traced.pt").read_bytes())
    foreign._loaded.cache_clear()
    with pytest.raises(ValueError, match="network.pt' has changed since it was chosen"):
        encoder.encode(np.ones((3, 10, 10), np.float32))


def test_a_file_is_loaded_once_for_all_threads(files, monkeypatch):
    loads, load = [], torch.jit.load

    def slow_load(*args, **options):
        loads.append(threading.get_ident())
        threading.Event().wait(0.1)
        return load(*args, **options)

    monkeypatch.setattr(torch.jit, "load", slow_load)
    foreign._loaded.cache_clear()
    encoder = get_encoder(files[0] / "scripted.pt", trusted=True)
    chips = np.ones((3, 10, 10), np.float32)
    threads = [threading.Thread(target=encoder.encode, args=(chips,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(loads) == 1


# A stand-in for the optional package timm.


@pytest.fixture
def timm(monkeypatch):
    stand_in = types.ModuleType("timm")
    stand_in.asked = []

    def create_model(name, **options):
        stand_in.asked.append((name, options))
        return small_network()

    stand_in.create_model = create_model
    monkeypatch.setitem(sys.modules, "timm", stand_in)
    return stand_in


def test_timm_models_by_name(timm, rng):
    encoder = get_encoder("timm:resnet18.a1_in1k", input_size=32)
    assert timm.asked == [
        ("resnet18.a1_in1k", {"pretrained": True, "num_classes": 0, "in_chans": 1})
    ]
    assert encoder.name == "timm:resnet18.a1_in1k"
    chips = rng.random((3, 10, 10)).astype(np.float32)
    np.testing.assert_array_equal(
        encoder.encode(chips), get_encoder(small_network(), input_size=32).encode(chips)
    )


def test_timm_has_to_be_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ImportError, match="'timm:vit_tiny' needs the package timm: pip install"):
        get_encoder("timm:vit_tiny")
