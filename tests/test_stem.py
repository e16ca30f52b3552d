"""The dense encoder gives what a slow one would, wherever a chip lies and however it is read."""

import json
import pickle
from pathlib import Path

import dask.array as da
import hyperspy.api as hs
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from hyperspy_fewshot import FewShotResult, data, embed, get_encoder
from hyperspy_fewshot.chips import ChipGrid, Field
from hyperspy_fewshot.encoders import stem
from hyperspy_fewshot.encoders.network import EMBEDDING, WINDOWS, StemNetwork
from hyperspy_fewshot.encoders.pattern import StemPatternEncoder
from hyperspy_fewshot.encoders.stem import StemEncoder
from hyperspy_fewshot.encoders.weights import bundled_weights

ONE_SHOT = "ignore:With one example a class:UserWarning"

# Side of the chip, stride, shape of the image: chips smaller and larger than the
# network's 64 px, odd sizes, strides that divide nothing, cells whose centre lies
# outside, strides of a chip and of more, images hardly larger than a chip.
GRIDS = {
    "small": (24, 7, (46, 61)),
    "odd": (37, 10, (60, 91)),
    "as the network's": (64, 16, (97, 130)),
    "large": (95, 41, (130, 203)),
    "stride of a chip": (32, 32, (70, 52)),
    "stride over a chip": (20, 33, (67, 45)),
    "as the image": (64, 20, (64, 81)),
    "tiny": (5, 3, (17, 13)),
}


def lattice_image(shape, seed=0, period=9.0, angle=0.3, split=None):
    """Noisy counts of a square lattice; from column `split` on it is turned by 30 degrees."""
    y, x = np.indices(shape)
    turned = angle + np.deg2rad(30) * (x >= (shape[1] if split is None else split))
    along, across = (
        np.cos(2 * np.pi / period * (np.cos(a) * x + np.sin(a) * y))
        for a in (turned, turned + np.pi / 2)
    )
    expected = 40 + 12 * along + 12 * across + 0.1 * y
    return np.random.default_rng(seed).poisson(expected).astype(np.float32)


def everything(grid):
    return tuple(slice(0, n) for n in grid.shape)


def grid_of(encoder, shape, chip, stride, nav_shape=()):
    return ChipGrid(nav_shape, shape, chip, stride, encoder.margin(chip))


def fields_of(grid, image):
    block = everything(grid)
    return list(grid.fields(image[grid.region(block)], block))


def fit(grid, image, encoder=None):
    return (encoder or get_encoder("stem")).fit(fields_of(grid, image), kind="image")


@pytest.fixture(scope="module")
def encoder():
    return get_encoder("stem")


@pytest.fixture(scope="module")
def other_weights(tmp_path_factory):
    """Weights of a network that was never trained."""
    torch.manual_seed(3)
    path = tmp_path_factory.mktemp("weights") / "other.safetensors"
    save_file(StemNetwork().state_dict(), path)
    return path


@pytest.fixture(scope="module", params=GRIDS)
def case(request, encoder):
    """A grid, an image, the encoder fitted to it, and the embeddings of all of it at once."""
    chip, stride, shape = GRIDS[request.param]
    grid, image = grid_of(encoder, shape, chip, stride), lattice_image(shape, period=chip / 5)
    fitted = fit(grid, image)
    (field,) = fields_of(grid, image)
    return grid, image, fitted, fitted.encode_field(field)


def assert_close(found, expected, part=1e-5):
    """Equal to a part of the greatest value, and masked alike."""
    np.testing.assert_allclose(found, expected, rtol=0, atol=part * np.nanmax(abs(expected)))


# What a chip is embedded as, one chip at a time.


class Naive:
    """The whole image on the lattice, through the network as it was saved, with loops."""

    around = 112

    def __init__(self, image, chip, encoder):
        self.encoder, self.step = encoder, chip / 64
        self.ends = [n / self.step for n in image.shape]
        rows, columns = (self.weights(n) for n in image.shape)
        self.image = rows @ ((image - encoder.offset) / encoder.scale) @ columns.T
        self.network = StemNetwork().eval()
        self.network.load_state_dict(load_file(bundled_weights("stem")))
        with torch.no_grad():
            pixels = torch.as_tensor(self.image[None], dtype=torch.float32)
            self.cells = self.network.cells(pixels)[0].double().numpy()

    def weights(self, size):
        """Of the pixels of a line in those of the lattice, far beyond both ends."""
        last = -(-size / self.step // 16) * 16 + self.around
        reflected, rows = np.pad(np.arange(size), 3 * size, mode="reflect"), []
        for place in np.arange(-self.around, last):
            centre, row = (place + 0.5) * self.step, np.zeros(size)
            reach = max(self.step, 1.0)
            for pixel in range(int(centre - reach) - 2, int(centre + reach) + 3):
                inside = reflected[pixel + 3 * size]
                row[inside] += max(0.0, 1 - abs(centre - pixel - 0.5) / reach)
            rows.append(row / row.sum())
        return np.array(rows)

    def mean(self, values, start, part):
        """Mean of cells inside a central window of the chip, where there is an image."""
        spans = []
        for first, end in zip(start, self.ends, strict=True):
            low = first + 32 * (1 - part)
            spans.append((min(max(low, 0), end - 8), min(max(low + 64 * part, 8), end)))
        total = area = 0
        for row in range(values.shape[1]):
            for column in range(values.shape[2]):
                share = 1.0
                for cell, (low, high) in zip((row, column), spans, strict=True):
                    first = 8 * cell - self.around
                    share *= max(0.0, min(first + 8, high) - max(first, low))
                if share:
                    total, area = total + share * values[:, row, column], area + share
        return total / area

    def spectrum(self, top, left):
        """Log power spectrum of a window, as components."""
        top, left = top + self.around, left + self.around
        window = self.image[top : top + 64, left : left + 64]
        hann = np.sin(np.pi * np.arange(1, 65) / 65) ** 2
        hann = hann[:, None] * hann
        power = abs(np.fft.rfft2((window - window.mean()) * hann)) ** 2
        power = power.ravel() / 64**2 / (hann**2).mean()
        logarithm = np.log(power + stem._FLOOR * self.encoder.power)
        return (logarithm - self.encoder.mean) @ self.encoder.components

    def spectra(self, start):
        """Between the windows on the lattice, every 16 px inside the image."""
        lasts = [int(end - 64 + 1e-6) // 16 * 16 for end in self.ends]
        near = [min(max(s, 0), last) for s, last in zip(start, lasts, strict=True)]
        total = 0
        for top in range(0, lasts[0] + 1, 16):
            for left in range(0, lasts[1] + 1, 16):
                share = max(0, 1 - abs(near[0] - top) / 16) * max(0, 1 - abs(near[1] - left) / 16)
                total = total + (share * self.spectrum(top, left) if share else 0)
        return total

    def embed(self, first):
        """Embedding of the chip whose first pixel is given."""
        start = [n / self.step for n in first]
        half = len(self.cells) // 2
        means = [self.mean(self.cells[:half], start, part) for part in WINDOWS]
        square = self.mean(self.cells[half:], start, 1.0)
        with torch.no_grad():
            pooled = torch.as_tensor(np.concatenate([*means, square])[None], dtype=torch.float32)
            learnt = self.network.embed_pooled(pooled)[0].numpy()
        spread = np.sqrt(square[0] - means[0][0] ** 2)
        moments = np.array([means[0][0], means[-1][0], np.log(spread + 0.01)])
        parts = zip((learnt, self.spectra(start), moments), self.encoder.part_scales, strict=True)
        return np.concatenate([part * scale for part, scale in parts])


def test_dense_equals_a_naive_loop(case):
    grid, image, fitted, found = case
    naive = Naive(image, grid.chip_size, fitted)
    (field,) = fields_of(grid, image)
    rows, columns = grid.shape
    cells = {(0, 0), (rows - 1, columns - 1), (0, columns - 1), (rows // 2, columns // 3)}
    for row, column in cells:
        expected = naive.embed((field.rows[row], field.columns[column]))
        assert_close(found[row, column], expected)
        # Every part on its own, since one is much larger than another.
        for part in np.split(np.arange(len(expected)), np.cumsum(fitted.blocks)[:-1]):
            assert_close(found[row, column, part], expected[part], 1e-4)


def test_length_of_an_embedding_is_that_of_its_blocks(case):
    grid, _, fitted, found = case
    assert found.shape == (*grid.shape, sum(fitted.blocks)) and found.dtype == np.float32
    assert fitted.blocks[0] == EMBEDDING and np.isfinite(found).all()


@pytest.mark.parametrize("chunks, chips", [("small", 1), ("uneven", 2), ("whole", 3)])
def test_blocks_and_chunks_make_no_difference(case, chunks, chips, monkeypatch):
    grid, image, fitted, expected = case
    monkeypatch.setattr(embed, "_BLOCK_CHIPS", chips)
    height, width = image.shape
    sizes = {
        "whole": -1,
        "small": (-(-height // 3), -(-width // 4)),
        "uneven": ((1, height - 6, 5), (width - 3, 2, 1)),
    }[chunks]
    lazy = embed.embeddings(
        da.from_array(image, chunks=sizes), grid, None, fitted, expected.shape[-1], "cpu"
    )
    assert_close(lazy.compute(), expected)


def test_a_support_chip_equals_that_of_the_grid(case):
    grid, image, fitted, expected = case
    places = [grid.centre_pixels(axis) for axis in (0, 1)]
    for row in (0, grid.shape[0] // 2, grid.shape[0] - 1):
        for column in (0, grid.shape[1] - 1):
            place = (int(places[0][row]), int(places[1][column]))
            field = grid.field_at(image[grid.region_at(place)], place)
            assert_close(fitted.encode_field(field)[0, 0], expected[row, column])


def test_chips_beyond_the_image_take_no_part(encoder):
    # Whatever a reflection would bring in, a chip that hangs over shows the image alone.
    image = np.full((80, 80), 10.0, np.float32)
    image[:, :40] = 5.0
    grid = grid_of(encoder, image.shape, 32, 16)
    found = fit(grid, image).encode_field(fields_of(grid, image)[0])
    moments = found[..., -3:]
    np.testing.assert_allclose(moments[0, 0], moments[2, 0], atol=1e-4)
    np.testing.assert_allclose(moments[0, -1], moments[2, -1], atol=1e-4)


def test_a_stack_is_embedded_frame_by_frame(encoder):
    shape = (48, 70)
    stack = np.reshape([lattice_image(shape, seed) for seed in range(6)], (2, 3, *shape))
    grid = grid_of(encoder, shape, 30, 11, (2, 3))
    fitted = fit(grid, stack)
    lazy = da.from_array(stack, chunks=(2, (1, 2), (17, 31), (30, 40)))
    found = embed.embeddings(lazy, grid, None, fitted, sum(fitted.blocks), "cpu").compute()
    assert found.shape == (2, 3, 5, 7, sum(fitted.blocks))
    alone = grid_of(encoder, shape, 30, 11)
    for index in [(0, 0), (1, 2)]:
        (field,) = fields_of(alone, stack[index])
        assert_close(found[index], fitted.encode_field(field))


@pytest.mark.parametrize("dtype", ["u1", "u2", ">u2", "i4", "u4", "f8", "f2"])
def test_any_type_of_number(dtype, encoder):
    image = lattice_image((35, 41))
    grid = grid_of(encoder, image.shape, 24, 12)
    fitted = fit(grid, image)
    given = image.astype(dtype)
    given.flags.writeable = False
    assert fit(grid, given) == fitted
    (expected,), (field,) = (fields_of(grid, each) for each in (image, given))
    np.testing.assert_array_equal(fitted.encode_field(field), fitted.encode_field(expected))


# What is masked or not finite.


@pytest.mark.parametrize("bad", [np.nan, -np.inf])
def test_bad_pixels_mask_the_chips_that_hold_them_and_no_others(encoder, bad):
    image = lattice_image((75, 98))
    grid = grid_of(encoder, image.shape, 25, 9)
    fitted = fit(grid, image)
    holes = image.copy()
    holes[40, 50] = holes[2, 95] = bad
    rows, columns = (
        [(max(0, first), first + 25) for first in field]
        for field in (fields_of(grid, image)[0].rows, fields_of(grid, image)[0].columns)
    )
    dead = np.array(
        [[not np.isfinite(holes[slice(*r), slice(*c)]).all() for c in columns] for r in rows]
    )
    found = fitted.encode_field(fields_of(grid, holes)[0])
    np.testing.assert_array_equal(np.isnan(found).all(axis=-1), dead)
    np.testing.assert_array_equal(np.isnan(found).any(axis=-1), dead)
    # What is far from a bad pixel does not change at all.
    whole = fitted.encode_field(fields_of(grid, image)[0])
    np.testing.assert_allclose(found[-1, :2], whole[-1, :2], atol=1e-5)
    assert np.isfinite(fit(grid, holes).encode_field(fields_of(grid, image)[0])).all()


def test_bad_pixels_are_counted_and_masked(encoder):
    image = lattice_image((60, 90), split=45)
    image[30, 20] = np.nan
    signal = hs.signals.Signal2D(image)
    support = {"left": [(10, 10), (12, 45)], "right": [(70, 12), (75, 40)]}
    with pytest.warns(UserWarning, match="9 of 96 queries hold NaN or infinite data"):
        result = signal.fewshot_classify(support, encoder="stem", chip_size=24, stride=8)
    dead = result.labels.data == -2
    assert dead.sum() == 9
    rows, columns = np.nonzero(dead)
    assert (abs(8 * rows + 3.5 - 30) <= 12).all() and (abs(8 * columns + 3.5 - 20) <= 12).all()
    np.testing.assert_array_equal(np.isnan(result.confidence.data[dead]), True)
    support["right"].append((20, 30))
    with pytest.raises(ValueError, match="An example of class 'right' lies on NaN"):
        signal.fewshot_classify(support, encoder="stem", chip_size=24, stride=8)


def test_nothing_finite_is_refused():
    signal = hs.signals.Signal2D(np.full((40, 50), np.nan))
    chips = {"a": [lattice_image((16, 16))] * 2, "b": [lattice_image((16, 16), period=4)] * 2}
    with pytest.raises(ValueError, match="Nothing is left to classify"):
        signal.fewshot_classify(chips, encoder="stem")


def test_navigation_mask_leaves_chips_out():
    signal = hs.signals.Signal2D(lattice_image((60, 90), split=45))
    support = {"left": [(10, 10), (12, 45)], "right": [(70, 12), (75, 40)]}
    mask = np.zeros((60, 90), bool)
    mask[:20, 30:] = True
    options = {"encoder": "stem", "chip_size": 24, "stride": 10}
    result = signal.fewshot_classify(support, navigation_mask=mask.T, **options)
    expected = np.zeros((6, 9), bool)
    expected[:2, 3:] = True
    np.testing.assert_array_equal(result.labels.data == -2, expected)
    lazy = signal.as_lazy()
    lazy.data = lazy.data.rechunk((17, 31))
    again = lazy.fewshot_classify(support, navigation_mask=mask.T, **options)
    np.testing.assert_array_equal(again.labels.data, result.labels.data)


# A whole classification.


@pytest.fixture(scope="module")
def turned():
    """A lattice and the same one turned, side by side, with examples and a result."""
    signal = hs.signals.Signal2D(lattice_image((96, 140), split=70).astype(">u2"))
    support = {"left": [(20, 20), (45, 70)], "right": [(95, 30), (120, 75)]}
    options = {"encoder": "stem", "chip_size": 32, "stride": 8, "reject": False}
    return signal, support, options, signal.fewshot_classify(support, **options)


def test_orientation_of_one_lattice_is_told_apart(turned):
    _, _, _, result = turned
    labels = result.labels.data
    assert (labels[:, :7] == 0).mean() > 0.9 and (labels[:, -7:] == 1).mean() > 0.9


def test_lazy_equals_eager(turned, monkeypatch):
    signal, support, options, expected = turned
    monkeypatch.setattr(embed, "_BLOCK_CHIPS", 2)
    lazy = signal.as_lazy()
    lazy.data = lazy.data.rechunk(((1, 50, 45), (90, 50)))
    result = lazy.fewshot_classify(support, **options)
    assert result.labels._lazy
    result.compute()
    np.testing.assert_array_equal(result.labels.data, expected.labels.data)
    np.testing.assert_allclose(
        result.probabilities.data, expected.probabilities.data, rtol=0, atol=1e-4
    )


def test_mean_intensity_is_not_lost():
    image = lattice_image((80, 120))
    image[:, 60:] += 25
    signal = hs.signals.Signal2D(image)
    support = {"dark": [(20, 20), (25, 60)], "bright": [(90, 20), (95, 60)]}
    labels = signal.fewshot_classify(
        support, encoder="stem", chip_size=24, stride=8, reject=False
    ).labels.data
    assert (labels[:, :6] == 0).mean() > 0.9 and (labels[:, -6:] == 1).mean() > 0.9


def test_ready_chips_are_examples(turned):
    signal, _, options, expected = turned
    image = signal.data
    ready = {
        "left": [image[10:42, 10:42], hs.signals.Signal2D(image[50:82, 20:52])],
        "right": np.stack([image[10:42, 90:122], image[50:82, 100:132]]),
    }
    options = {key: value for key, value in options.items() if key != "chip_size"}
    result = signal.fewshot_classify(ready, **options)
    assert result.classifier.setup.chip_size == 32
    assert (result.labels.data == expected.labels.data).mean() > 0.8


def test_a_lone_chip_is_reflected(encoder):
    image = lattice_image((70, 70))
    grid = grid_of(encoder, image.shape, 30, 15)
    fitted = fit(grid, image)
    chips = np.stack([image[:30, :30], image[20:50, 25:55]])
    found = fitted.encode(chips)
    assert found.shape == (2, sum(fitted.blocks))
    for chip, embedding in zip(chips, found, strict=True):
        alone = grid_of(encoder, (30, 30), 30, 30)
        (field,) = fields_of(alone, chip)
        assert_close(embedding, fitted.encode_field(field)[0, 0])


@pytest.mark.parametrize("value", [0.0, -1e6])
def test_a_constant_image_does_not_crash(encoder, value):
    image = np.full((40, 56), value, np.float32)
    grid = grid_of(encoder, image.shape, 16, 8)
    found = fit(grid, image).encode_field(fields_of(grid, image)[0])
    assert np.isfinite(found).all()
    signal = hs.signals.Signal2D(image)
    support = {"a": [(10, 10), (12, 30)], "b": [(40, 10), (40, 30)]}
    assert np.isfinite(
        signal.fewshot_classify(support, encoder="stem", chip_size=16).confidence.data
    ).any()


@pytest.mark.filterwarnings(ONE_SHOT)
def test_stack_with_chip_size():
    specimen = data.image_stack(frames=2, shape=(128, 112))
    support = specimen.support(1, margin=12)
    options = {"encoder": "stem", "chip_size": 24, "stride": 12, "reject": False}
    result = specimen.signal.fewshot_classify(support, **options)
    assert result.labels.data.shape == (2, 11, 10)
    assert specimen.accuracy(result.labels_at_pixels().data) > 0.6
    lazy = specimen.signal.as_lazy().fewshot_classify(support, **options).compute()
    np.testing.assert_array_equal(lazy.labels.data, result.labels.data)


def test_a_chip_with_its_surroundings_is_what_it_is_in_the_image(shared_data, encoder):
    image = np.load(shared_data / "ai4stem" / "fe_bcc_gb" / "image.npy")
    image = image[:220, :200].astype(np.float32)
    chip = 32
    grid = grid_of(encoder, image.shape, chip, 16)
    fitted, cosines = fit(grid, image), []
    for y, x in [(60, 61), (120, 123), (100, 130), (150, 84)]:
        inside = fitted.encode_field(grid.field_at(image[grid.region_at((y, x))], (y, x)))[0, 0]
        margin = chip // 2 + grid.margin
        piece = image[y - margin : y + margin, x - margin : x + margin]
        alone = grid_of(encoder, piece.shape, chip, 16)
        place = (margin, margin)
        cut = fitted.encode_field(alone.field_at(piece[alone.region_at(place)], place))[0, 0]
        first, second = inside[:EMBEDDING], cut[:EMBEDDING]
        cosines.append(first @ second / np.linalg.norm(first) / np.linalg.norm(second))
    assert min(cosines) > 0.99


# Weights, digests and files.


def test_is_bundled_and_needs_no_path(encoder):
    assert encoder.path == "" and encoder.kinds == ("image", "pattern") and encoder.dense
    assert bundled_weights("stem").stat().st_size < 8 * 2**20
    assert get_encoder("stem", weights=bundled_weights("stem")) == encoder
    assert get_encoder("stem", weights=str(bundled_weights("stem"))).path == ""


def test_pickles_small_and_equal(case):
    grid, image, fitted, expected = case
    packed = pickle.dumps(fitted)
    assert len(packed) < 2**20
    again = pickle.loads(packed)
    assert again == fitted and again.sha256 == fitted.sha256
    (field,) = fields_of(grid, image)
    np.testing.assert_array_equal(again.encode_field(field), expected)


def test_fitting_leaves_encoder_and_image_as_they_are(encoder):
    image = lattice_image((50, 60))
    before = image.copy()
    grid = grid_of(encoder, image.shape, 24, 8)
    assert fit(grid, image, encoder) == fit(grid, image, encoder) != encoder
    assert encoder.components is None
    np.testing.assert_array_equal(image, before)


def test_other_weights_are_another_encoder(encoder, other_weights, tmp_path):
    other = get_encoder("stem", weights=other_weights)
    assert other.sha256 != encoder.sha256 and other.digest != encoder.digest
    assert Path(other.path) == other_weights.resolve()
    # Where a file lies does not count, what it holds does.
    moved = tmp_path / "moved.safetensors"
    moved.write_bytes(other_weights.read_bytes())
    assert get_encoder("stem", weights=str(moved)) == other
    image = lattice_image((50, 60))
    grid = grid_of(encoder, image.shape, 24, 8)
    fitted, others = fit(grid, image), fit(grid, image, other)
    assert fitted.sha256 != others.sha256
    (field,) = fields_of(grid, image)
    found, theirs = fitted.encode_field(field), others.encode_field(field)
    assert abs(found[..., :EMBEDDING] - theirs[..., :EMBEDDING]).max() > 0.01
    changed = StemEncoder(**{**other.state(), "path": str(bundled_weights("stem"))})
    with pytest.raises(ValueError, match="The weights in 'stem.safetensors' have changed"):
        fit(grid, image, changed)


def test_wrong_weights_are_refused_at_once(tmp_path):
    path = tmp_path / "wrong.safetensors"
    save_file({"stages.0.0.0.weight": torch.zeros(3)}, path)
    with pytest.raises(ValueError, match="'wrong.safetensors' does not hold weights of StemNet"):
        get_encoder("stem", weights=path)
    path.write_bytes(b"no weights at all")
    with pytest.raises(ValueError, match="'wrong.safetensors' does not hold weights of StemNet"):
        get_encoder("stem", weights=path)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        get_encoder("stem", weights=tmp_path / "nowhere.safetensors")


def test_a_saved_result_is_used_again(turned, tmp_path):
    signal, _, _, result = turned
    result.save(tmp_path / "result.hspy")
    loaded = FewShotResult.load(tmp_path / "result.hspy")
    ours, theirs = (each.classifier.setup.encoder for each in (result, loaded))
    assert type(theirs) is StemEncoder and theirs == ours and theirs.sha256 == ours.sha256
    assert theirs.state().keys() == ours.state().keys() and theirs.path == ""
    assert theirs.blocks == ours.blocks
    other = hs.signals.Signal2D(signal.data[::-1, 10:].copy())
    expected, found = (other.fewshot_classify(each) for each in (result, loaded))
    np.testing.assert_array_equal(found.labels.data, expected.labels.data)
    np.testing.assert_array_equal(found.probabilities.data, expected.probabilities.data)


def test_a_saved_result_holds_no_path_of_the_machine(turned, tmp_path):
    _, _, _, result = turned
    result.save(tmp_path / "result.hspy")
    node = hs.load(tmp_path / "result.hspy").metadata.FewShot._saved
    package = str(bundled_weights("stem").parent)
    assert package not in node.plain and json.loads(node.plain)["encoder"]["state"]["path"] == ""


def test_a_saved_result_with_own_weights_finds_them(turned, other_weights, tmp_path):
    signal, support, options, _ = turned
    own = tmp_path / "own.safetensors"
    own.write_bytes(other_weights.read_bytes())
    options = {**options, "encoder": get_encoder("stem", weights=own)}
    result = signal.fewshot_classify(support, **options)
    result.save(tmp_path / "result.hspy")
    loaded = FewShotResult.load(tmp_path / "result.hspy")
    assert loaded.classifier.setup.encoder.path == str(own.resolve())
    again = signal.fewshot_classify(loaded)
    np.testing.assert_array_equal(again.labels.data, result.labels.data)


# Patterns.


@pytest.mark.parametrize("shape", [(48, 52), (7, 9), (64, 64), (100, 33)])
def test_patterns_of_any_shape(encoder, shape):
    patterns = np.random.default_rng(0).poisson(20, (30, *shape)).astype(np.uint16)
    fitted = encoder.fit(patterns.astype(np.float32), kind="pattern")
    assert type(fitted) is StemPatternEncoder and not fitted.dense
    found = fitted.encode(patterns)
    assert found.shape == (30, sum(fitted.blocks)) and np.isfinite(found).all()
    assert_close(fitted.encode(patterns[5:7]), found[5:7])
    assert_close(fitted.encode(patterns.astype(">f8")), found)
    again = pickle.loads(pickle.dumps(fitted))
    assert again == fitted and again != encoder


def test_patterns_alone_or_all_equal_stay_finite(encoder):
    for patterns in (np.ones((1, 8, 8), np.float32), np.full((5, 8, 8), 3, np.float32)):
        assert np.isfinite(encoder.fit(patterns, kind="pattern").encode(patterns)).all()


def test_patterns_are_classified_saved_and_used_again(tmp_path):
    specimen = data.diffraction_scan((8, 9), (24, 28), domains=2, seed=1)
    result = specimen.signal.fewshot_classify(specimen.support(3), encoder="stem", context=1)
    assert type(result.classifier.setup.encoder) is StemPatternEncoder
    assert specimen.accuracy(result.labels.data) > 0.8
    lazy = specimen.signal.as_lazy()
    lazy.data = lazy.data.rechunk((3, 8, 20, 28))
    again = lazy.fewshot_classify(specimen.support(3), encoder="stem", context=1).compute()
    np.testing.assert_array_equal(again.labels.data, result.labels.data)
    result.save(tmp_path / "patterns.hspy")
    loaded = FewShotResult.load(tmp_path / "patterns.hspy")
    encoder = result.classifier.setup.encoder
    assert loaded.classifier.setup.encoder == encoder and encoder.path == ""
    found = specimen.signal.fewshot_classify(loaded)
    np.testing.assert_array_equal(found.labels.data, result.labels.data)


# The lattice.


def test_pieces_of_one_image_lie_on_one_lattice(encoder):
    image = lattice_image((90, 110))
    grid = grid_of(encoder, image.shape, 37, 6)
    whole = stem.resample(fields_of(grid, image)[0], 3.0, 2.0, "cpu")
    block = (slice(4, 9), slice(7, 11))
    (field,) = grid.fields(image[grid.region(block)], block)
    piece = stem.resample(field, 3.0, 2.0, "cpu")
    offset = [p - w for p, w in zip(piece.start, whole.start, strict=True)]
    assert all(shift >= 0 and shift % 16 == 0 for shift in offset)
    window = tuple(
        slice(shift, shift + n) for shift, n in zip(offset, piece.pixels.shape, strict=True)
    )
    assert_close(piece.pixels.numpy(), whole.pixels[window].numpy())


def test_a_lone_chip_is_a_field_of_its_own():
    chip = np.arange(16.0).reshape(4, 4)
    field = Field.of_chip(chip, 5)
    assert field.origin == (-5, -5) and field.image_shape == (4, 4) and field.chip_size == 4
    np.testing.assert_array_equal(field.pixels, np.pad(chip, 5, mode="reflect"))
