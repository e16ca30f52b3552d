import math

import numpy as np
import pytest

from hyperspy_fewshot.embedding.neighbours import scatter_within_classes
from hyperspy_fewshot.grids.chips import ChipGrid
from hyperspy_fewshot.grids.positions import PositionGrid


def two_classes(shape=(40, 50), d=24, noise=0.1, seed=0):
    """Embeddings of a map whose left and right halves are of two classes."""
    rng = np.random.default_rng(seed)
    means = np.linalg.qr(rng.normal(size=(d, 2)))[0].T
    label = (np.arange(shape[1]) >= shape[1] // 2).astype(int)
    return (means[label] + noise * rng.normal(size=(*shape, d))).astype(np.float32), means


def cosines_to(embeddings, direction, centre):
    centred = embeddings.reshape(-1, embeddings.shape[-1]) - centre
    return centred @ direction / np.linalg.norm(centred, axis=1) / np.linalg.norm(direction)


def angle_of(*given):
    return math.acos(scatter_within_classes(*given)[0])


SCAN = PositionGrid((40, 50), (100,))


@pytest.mark.parametrize("noise", [0.02, 0.05, 0.1])
def test_it_holds_one_class_and_leaves_the_other_out(noise):
    embeddings, _ = two_classes(noise=noise)
    centre = embeddings.mean(axis=(0, 1))
    least, distance = scatter_within_classes([embeddings], centre, SCAN)
    shot = embeddings[20, 5] - centre
    assert (cosines_to(embeddings[:, :25], shot, centre) > least).mean() > 0.99
    assert (cosines_to(embeddings[:, 25:], shot, centre) < least).all()
    distances = np.linalg.norm(embeddings - embeddings[20, 5], axis=-1)
    assert (distances[:, :25] < distance).mean() > 0.99
    assert (distances[:, 25:] > distance).mean() > 0.99


def test_pieces_give_nearly_the_same_as_all():
    embeddings, _ = two_classes()
    centre = embeddings.mean(axis=(0, 1))
    pieces = [embeddings[y : y + 8, x : x + 8] for y in (0, 16, 30) for x in (0, 12, 24, 36)]
    whole = angle_of([embeddings], centre, SCAN)
    assert angle_of(pieces, centre, SCAN) == pytest.approx(whole, rel=0.1)


def test_neighbours_share_no_data_where_the_blocks_are_large_enough():
    # Cells a quarter of a chip apart are copies of each other in groups of four.
    grid = ChipGrid((), (160, 200), 16, 4)
    embeddings, _ = two_classes((10, 13))
    blown = embeddings.repeat(4, axis=0).repeat(4, axis=1)[:40, :50]
    centre = embeddings.mean(axis=(0, 1))
    apart = angle_of([embeddings], centre, PositionGrid((10, 13), (100,)))
    assert angle_of([blown], centre, grid) == pytest.approx(apart, rel=0.15)


def test_what_neighbours_share_is_taken_into_account():
    rng = np.random.default_rng(0)
    mean = np.zeros(24)
    mean[0] = 1
    noise = rng.normal(size=(60, 68, 24))
    # Means over 5 x 5 positions, and blocks of 4 x 4 in which neighbours share two fifths.
    pooled = sum(noise[i : i + 56, j : j + 64] for i in range(5) for j in range(5)) / 25
    embeddings = mean + 0.2 * pooled
    grid = PositionGrid((56, 64), (100,), context=5)
    blocks = [embeddings[y : y + 4, x : x + 4] for y in range(0, 56, 4) for x in range(0, 64, 4)]
    centre = np.zeros(24)
    whole = angle_of([embeddings], centre, grid)
    assert angle_of(blocks, centre, grid) == pytest.approx(whole, rel=0.15)


def test_too_few_or_no_neighbours_say_nothing():
    embeddings, _ = two_classes((3, 4))
    centre = embeddings.mean(axis=(0, 1))
    assert scatter_within_classes([embeddings], centre, SCAN) == (-1, 0)
    assert scatter_within_classes([embeddings[..., :0]], centre, SCAN) == (-1, 0)
    alike = ChipGrid((), (400, 400), 64, 1)
    assert scatter_within_classes([two_classes((8, 8))[0]] * 9, centre, alike) == (-1, 0)


def test_masked_and_constant_embeddings():
    embeddings, _ = two_classes()
    centre = embeddings.mean(axis=(0, 1))
    whole = angle_of([embeddings], centre, SCAN)
    embeddings[:, 10] = np.nan
    assert angle_of([embeddings], centre, SCAN) == pytest.approx(whole, rel=0.05)
    constant = np.ones((20, 20, 3), np.float32)
    assert scatter_within_classes([constant], np.ones(3), SCAN) == (-1, 0)


def test_a_line():
    embeddings, _ = two_classes((1, 900))
    centre = embeddings.mean(axis=(0, 1))
    least, distance = scatter_within_classes([embeddings[0]], centre, PositionGrid((900,), (100,)))
    assert 0 < least < 0.99
    assert 0.1 * math.sqrt(2 * 24) < distance < 0.2 * math.sqrt(2 * 24)
