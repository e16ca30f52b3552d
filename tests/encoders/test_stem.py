"""The dense encoder equals a slow one, wherever a chip lies and however the image is read."""

import pickle
from dataclasses import replace
from pathlib import Path

import hyperspy.api as hs
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from hyperspy_fewshot import FewShotResult, get_encoder
from hyperspy_fewshot.encoders import stem
from hyperspy_fewshot.encoders.network import EMBEDDING, WINDOWS, StemNetwork
from hyperspy_fewshot.encoders.stem import StemEncoder
from hyperspy_fewshot.encoders.weights import bundled_weights
from hyperspy_fewshot.grids.chips import Field

# Side of the chip, stride and shape of the image: chips smaller and larger than the 64 px of the
# network, odd sizes, strides that do not divide the image, chips whose centre lies outside, strides
# of at least a chip, images hardly larger than a chip.
GRIDS = {
    "small": (24, 7, (46, 61)),
    "odd": (37, 10, (60, 91)),
    "as the network's": (64, 16, (97, 130)),
    "large": (95, 41, (130, 203)),
    "stride over a chip": (20, 33, (67, 45)),
    "as the image": (64, 20, (64, 81)),
    "tiny": (5, 3, (17, 13)),
}


def lattice_image(shape, seed=0, period=9.0, angle=0.3, split=None):
    """Noisy counts of a square lattice; from column `split` on it is rotated by 30 degrees."""
    y, x = np.indices(shape)
    turned = angle + np.deg2rad(30) * (x >= (shape[1] if split is None else split))
    along, across = (
        np.cos(2 * np.pi / period * (np.cos(a) * x + np.sin(a) * y))
        for a in (turned, turned + np.pi / 2)
    )
    expected = 40 + 12 * along + 12 * across + 0.1 * y
    return np.random.default_rng(seed).poisson(expected).astype(np.float32)


def starts_of(size, chip, stride):
    """First pixels of the chips along an axis; their centres are inside the image."""
    starts = (stride - chip) // 2 + stride * np.arange(-(-size // stride))
    return np.minimum(starts, size - 1 - chip // 2)


def field_of(encoder, image, chip, stride, rows=slice(None), columns=slice(None)):
    """The field of some of the chips of an image, with its margin, reflected at the edges."""
    margin, starts, index = encoder.margin(chip), [], []
    for size, part in zip(image.shape, (rows, columns), strict=True):
        first = starts_of(size, chip, stride)[part]
        wide = chip + stride + margin
        reflected = np.pad(np.arange(size), wide, mode="reflect")
        starts.append(first)
        index.append(reflected[wide + first[0] - margin : wide + first[-1] + chip + margin])
    origin = tuple(int(first[0]) - margin for first in starts)
    return Field(image[np.ix_(*index)], origin, *starts, chip, image.shape)


def fit(image, chip, stride, encoder=None):
    encoder = encoder or get_encoder("stem")
    return encoder.fit([field_of(encoder, image, chip, stride)], kind="image")


@pytest.fixture(scope="module")
def encoder():
    return get_encoder("stem")


@pytest.fixture(scope="module")
def other_weights(tmp_path_factory):
    """Weights of an untrained network."""
    torch.manual_seed(3)
    path = tmp_path_factory.mktemp("weights") / "other.safetensors"
    save_file(StemNetwork().state_dict(), path)
    return path


@pytest.fixture(scope="module", params=GRIDS)
def case(request):
    """An image, a chip, a stride, the fitted encoder, and the embeddings of all chips at once."""
    chip, stride, shape = GRIDS[request.param]
    image = lattice_image(shape, period=chip / 5)
    fitted = fit(image, chip, stride)
    return image, chip, stride, fitted, fitted.encode_field(field_of(fitted, image, chip, stride))


def assert_close(found, expected, part=1e-5):
    """Equal to a fraction of the largest value, with NaN in the same places."""
    np.testing.assert_allclose(found, expected, rtol=0, atol=part * np.nanmax(abs(expected)))


class Naive:
    """The whole resampled image through the network as it was saved, with loops."""

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
        """Weights of the pixels of an axis in the resampled pixels, far beyond both ends."""
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
        """Mean of cells over a central window of the chip, inside the image."""
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
        logarithm = np.log(power + stem.FLOOR * self.encoder.power)
        return (logarithm - self.encoder.mean) @ self.encoder.components

    def spectra(self, start):
        """Linear interpolation between windows every 16 px inside the image."""
        lasts = [int(end - 64 + 1e-6) // 16 * 16 for end in self.ends]
        near = [min(max(s, 0), last) for s, last in zip(start, lasts, strict=True)]
        total = 0
        for top in range(0, lasts[0] + 1, 16):
            for left in range(0, lasts[1] + 1, 16):
                share = max(0, 1 - abs(near[0] - top) / 16) * max(0, 1 - abs(near[1] - left) / 16)
                total = total + (share * self.spectrum(top, left) if share else 0)
        return total

    def interpolated(self, first):
        """Embedding of a chip, linearly interpolated between those at whole cells."""
        places = [n / (8 * self.step) for n in first]
        total = 0
        for row, column in np.ndindex(2, 2):
            at = [np.floor(p) + i for p, i in zip(places, (row, column), strict=True)]
            share = np.prod([1 - abs(p - a) for p, a in zip(places, at, strict=True)])
            if share > 0:
                total = total + share * self.embed([8 * self.step * a for a in at])
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
        middle = self.mean(self.cells[half:], start, 0.5)
        inner = np.concatenate([means[1], np.sqrt(np.maximum(middle - means[1] ** 2, 0))])
        texture = (inner - self.encoder.inner_mean) @ self.encoder.inner_components
        groups = (learnt, self.spectra(start), moments, texture)
        parts = zip(groups, self.encoder.part_scales, strict=True)
        return np.concatenate([part * scale for part, scale in parts])


def test_dense_equals_a_naive_loop(case):
    image, chip, stride, fitted, found = case
    naive = Naive(image, chip, fitted)
    rows, columns = (starts_of(size, chip, stride) for size in image.shape)
    last = len(rows) - 1, len(columns) - 1
    for row, column in {(0, 0), last, (0, last[1]), (len(rows) // 2, len(columns) // 3)}:
        expected = naive.interpolated((rows[row], columns[column]))
        assert_close(found[row, column], expected)
        # Every group by itself, since one is much larger than another.
        edges = np.cumsum(fitted.feature_groups)[:-1]
        for group in np.split(np.arange(len(expected)), edges):
            assert_close(found[row, column, group], expected[group], 1e-4)


def test_shape_of_the_embeddings(case):
    image, chip, stride, fitted, found = case
    counts = [-(-size // stride) for size in image.shape]
    assert found.shape == (*counts, sum(fitted.feature_groups)) and found.dtype == np.float32
    assert fitted.feature_groups[0] == EMBEDDING and np.isfinite(found).all()


def test_fields_agree_with_the_whole_image(case):
    image, chip, stride, fitted, expected = case
    rows, columns = expected.shape[:2]
    for parts in [
        (slice(rows // 2, rows), slice(columns // 3, 2 * columns // 3 + 1)),
        (slice(0, 1), slice(columns - 1, columns)),
    ]:
        found = fitted.encode_field(field_of(fitted, image, chip, stride, *parts))
        assert_close(found, expected[parts])


def test_only_pixels_inside_the_image_count(encoder):
    image = np.full((80, 80), 10.0, np.float32)
    image[:, :40] = 5.0
    fitted = fit(image, 32, 16)
    moments = fitted.encode_field(field_of(encoder, image, 32, 16))[..., -3:]
    # Reflected pixels would change the moments of the chips at the corners.
    np.testing.assert_allclose(moments[0, 0], moments[2, 0], atol=1e-4)
    np.testing.assert_allclose(moments[0, -1], moments[2, -1], atol=1e-4)


@pytest.mark.parametrize("dtype", ["u1", ">u2", "f8", "f2"])
def test_any_dtype(dtype):
    image = lattice_image((35, 41))
    fitted, given = fit(image, 24, 12), image.astype(dtype)
    given.flags.writeable = False
    assert fit(given, 24, 12) == fitted
    found, expected = (
        fitted.encode_field(field_of(fitted, each, 24, 12)) for each in (given, image)
    )
    np.testing.assert_array_equal(found, expected)


def test_chips_with_bad_pixels_are_nan():
    image = lattice_image((75, 98))
    fitted, holes = fit(image, 25, 9), image.copy()
    holes[40, 50], holes[2, 95] = np.nan, -np.inf
    rows, columns = (
        [slice(max(0, first), first + 25) for first in starts_of(size, 25, 9)]
        for size in image.shape
    )
    dead = np.array([[not np.isfinite(holes[r, c]).all() for c in columns] for r in rows])
    found = fitted.encode_field(field_of(fitted, holes, 25, 9))
    np.testing.assert_array_equal(np.isnan(found).all(axis=-1), dead)
    np.testing.assert_array_equal(np.isnan(found).any(axis=-1), dead)
    # Chips far from a bad pixel do not change.
    whole = fitted.encode_field(field_of(fitted, image, 25, 9))
    np.testing.assert_allclose(found[-1, :2], whole[-1, :2], atol=1e-5)
    assert np.isfinite(fit(holes, 25, 9).encode_field(field_of(fitted, image, 25, 9))).all()


@pytest.mark.parametrize("value", [0.0, -1e6])
def test_constant_images_stay_finite(value):
    image = np.full((40, 56), value, np.float32)
    fitted = fit(image, 16, 8)
    assert np.isfinite(fitted.encode_field(field_of(fitted, image, 16, 8))).all()


def test_orientation_of_a_crystal_lattice_is_distinguished():
    image = lattice_image((96, 140), split=70)
    fitted = fit(image, 32, 8)
    found = fitted.encode_field(field_of(fitted, image, 32, 8))
    left, right = (
        found[:, :6].reshape(-1, found.shape[-1]),
        found[:, -6:].reshape(-1, found.shape[-1]),
    )
    between = np.linalg.norm(left.mean(axis=0) - right.mean(axis=0))
    for inside in (left, right):
        distances = np.linalg.norm(inside - inside.mean(axis=0), axis=1)
        assert np.median(distances) < between / 2


def test_mean_intensity_is_kept():
    image = lattice_image((80, 120))
    image[:, 60:] += 25
    fitted = fit(image, 24, 8)
    moments = fitted.encode_field(field_of(fitted, image, 24, 8))[
        ..., sum(fitted.feature_groups[:2])
    ]
    assert moments[:, :6].max() < moments[:, -6:].min()


def test_single_chips_are_reflected():
    image = lattice_image((70, 70))
    fitted = fit(image, 30, 15)
    chips = np.stack([image[:30, :30], image[20:50, 25:55]])
    found = fitted.encode(chips)
    assert found.shape == (2, sum(fitted.feature_groups))
    for chip, embedding in zip(chips, found, strict=True):
        padded = np.pad(chip, fitted.margin(30), mode="reflect")
        corner, zero = (-fitted.margin(30),) * 2, np.zeros(1, int)
        field = Field(padded, corner, zero, zero, 30, (30, 30))
        assert_close(embedding, fitted.encode_field(field)[0, 0])


def test_surroundings_beyond_the_margin_do_not_matter():
    image = lattice_image((160, 150), period=11.0, split=75)
    chip = 32
    fitted = fit(image, chip, 16)
    margin = fitted.margin(chip)
    for y, x in [(62, 60)]:
        first = [np.array([y]), np.array([x])]
        pixels = image[y - margin : y + chip + margin, x - margin : x + chip + margin]
        inside = Field(pixels, (y - margin, x - margin), *first, chip, image.shape)
        changed = image + 100
        changed[y - margin : y + chip + margin, x - margin : x + chip + margin] = pixels
        wide = Field(changed, (0, 0), *first, chip, image.shape)
        assert_close(fitted.encode_field(wide), fitted.encode_field(inside))


def test_augmented_copies_of_chips_are_refused(encoder):
    turning = replace(encoder, dihedral=True)
    message = "'stem' encoder embeds chips inside the image, where rot.* False for images"
    with pytest.raises(ValueError, match=message):
        turning.fit([], kind="image")
    signal = hs.signals.Signal2D(np.zeros((90, 80))).as_lazy()
    signal.data = signal.data.map_blocks(lambda block: 1 / 0, dtype=float, meta=np.empty((0, 0)))
    with pytest.raises(ValueError, match=message):
        signal.fewshot_classify({"a": (10, 10), "b": (60, 60)}, encoder=turning)
    with pytest.raises(ValueError, match=message):
        signal.fewshot_embed(encoder=turning, chip_size=20)


# Weights and digests.


def test_is_bundled_without_a_path(encoder):
    assert encoder.path == "" and encoder.kinds == ("image",) and encoder.dense
    assert bundled_weights("stem").stat().st_size < 8 * 2**20
    assert get_encoder("stem", weights=bundled_weights("stem")) == encoder
    assert get_encoder("stem", weights=str(bundled_weights("stem"))).path == ""


def test_pickle_is_small_and_equal():
    image = lattice_image((60, 50))
    fitted = fit(image, 24, 10)
    packed = pickle.dumps(fitted)
    assert len(packed) < 2**20
    again = pickle.loads(packed)
    assert again == fitted and again.sha256 == fitted.sha256
    # Files of results hold the fields.
    assert StemEncoder(**fitted.state()) == fitted
    field = field_of(fitted, image, 24, 10)
    np.testing.assert_array_equal(again.encode_field(field), fitted.encode_field(field))


def test_fit_changes_neither_encoder_nor_image(encoder):
    image = lattice_image((50, 60))
    before = image.copy()
    assert fit(image, 24, 8, encoder) == fit(image, 24, 8, encoder) != encoder
    assert encoder.components is None
    np.testing.assert_array_equal(image, before)


def test_other_weights_make_another_encoder(encoder, other_weights, tmp_path):
    other = get_encoder("stem", weights=other_weights)
    assert other.sha256 != encoder.sha256 and other.digest != encoder.digest
    assert Path(other.path) == other_weights.resolve()
    # The digest covers the content of the file, not its path.
    moved = tmp_path / "moved.safetensors"
    moved.write_bytes(other_weights.read_bytes())
    assert get_encoder("stem", weights=str(moved)) == other
    image = lattice_image((50, 60))
    fitted, others = fit(image, 24, 8), fit(image, 24, 8, other)
    assert fitted.sha256 != others.sha256
    found, theirs = (each.encode_field(field_of(each, image, 24, 8)) for each in (fitted, others))
    assert abs(found[..., :EMBEDDING] - theirs[..., :EMBEDDING]).max() > 0.01
    changed = StemEncoder(**{**other.state(), "path": str(bundled_weights("stem"))})
    with pytest.raises(ValueError, match="The weights in 'stem.safetensors' have changed"):
        fit(image, 24, 8, changed)


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


# Resampling.


def test_fields_of_one_image_have_the_same_grid():
    image, encoder = lattice_image((90, 110)), get_encoder("stem")
    parts = (slice(4, 9), slice(7, 11))
    whole, piece = (
        stem.resample(field_of(encoder, image, 37, 6, *each), 3.0, 2.0, "cpu")
        for each in ((), parts)
    )
    offset = [p - w for p, w in zip(piece.start, whole.start, strict=True)]
    assert all(shift >= 0 and shift % 16 == 0 for shift in offset)
    window = tuple(
        slice(shift, shift + n) for shift, n in zip(offset, piece.pixels.shape, strict=True)
    )
    assert_close(piece.pixels.numpy(), whole.pixels[window].numpy())


# Whole classifications.


@pytest.fixture(scope="module")
def rotated():
    """Two orientations of a crystal lattice side by side, with examples and settings."""
    signal = hs.signals.Signal2D(lattice_image((96, 140), split=70).astype(">u2"))
    support = {"left": [(20, 20), (45, 70)], "right": [(95, 30), (120, 75)]}
    return signal, support, {"encoder": "stem", "chip_size": 32, "stride": 8, "reject": False}


def test_lazy_and_eager_classifications_are_equal(rotated):
    signal, support, options = rotated
    expected = signal.fewshot_classify(support, **options)
    labels = expected.labels.data
    assert (labels[:, :7] == 0).mean() > 0.9 and (labels[:, -7:] == 1).mean() > 0.9
    lazy = signal.as_lazy()
    lazy.data = lazy.data.rechunk(((1, 50, 45), (90, 50)))
    result = lazy.fewshot_classify(support, **options).compute()
    np.testing.assert_array_equal(result.labels.data, labels)
    np.testing.assert_allclose(result.probabilities.data, expected.probabilities.data, atol=1e-4)


def test_bad_and_masked_chips_are_left_out(rotated):
    signal, support, options = rotated
    image = signal.data.astype(np.float32)
    image[50, 5] = np.nan
    mask = np.zeros(image.shape, bool)
    mask[:16, 100:] = True
    with pytest.warns(UserWarning, match="queries hold NaN, infinite or masked data"):
        result = hs.signals.Signal2D(image).fewshot_classify(
            support, navigation_mask=mask.T, **options
        )
    dead = result.labels.data == -2
    assert dead[:2, 13:].all() and dead[6, 0]
    rows, columns = np.nonzero(dead)
    near = (abs(8 * rows + 3.5 - 50) <= 16) & (abs(8 * columns + 3.5 - 5) <= 16)
    assert (near | ((rows < 2) & (columns >= 12))).all()


def test_saved_results_find_their_weights(rotated, other_weights, tmp_path):
    signal, support, options = rotated
    for weights in (None, other_weights):
        encoder = get_encoder("stem", weights=weights)
        result = signal.fewshot_classify(support, **{**options, "encoder": encoder})
        path = tmp_path / f"{weights is None}.hspy"
        result.save(path)
        assert str(bundled_weights("stem").parent).encode() not in path.read_bytes()
        found = signal.fewshot_classify(FewShotResult.load(path))
        np.testing.assert_array_equal(found.labels.data, result.labels.data)
