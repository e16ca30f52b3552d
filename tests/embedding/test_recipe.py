"""What decides the embeddings is in the digest of a recipe, and nothing else."""

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest

from hyperspy_fewshot.embedding.recipe import Part, Recipe
from hyperspy_fewshot.encoders import Encoder, get_encoder
from hyperspy_fewshot.grids.chips import ChipGrid
from hyperspy_fewshot.grids.positions import PositionGrid


@dataclass(frozen=True, eq=False)
class Joined(Encoder):
    """An encoder whose embeddings join two groups of numbers."""

    name: str = "joined"
    feature_groups: ClassVar[tuple[int, ...]] = (4, 2)


@pytest.fixture
def recipe():
    encoder = get_encoder("fourier")
    grids = [ChipGrid((), (40, 57), size, 5) for size in (9, 16)]
    parts = (
        Part(encoder, grids[0], 3, origin="a"),
        Part(Joined(), grids[1], 6, 0.5, origin="b"),
    )
    return Recipe(parts, np.arange(9.0), (0.1, "nm"))


def test_what_a_recipe_says_of_its_parts(recipe):
    assert recipe.grid is recipe.parts[0].grid
    assert (recipe.size, recipe.side) == (9, 16)
    assert recipe.feature_groups == (3, 4, 2)
    assert recipe.complete
    missing = replace(recipe, parts=(replace(recipe.parts[0], encoder=None), recipe.parts[1]))
    assert not missing.complete
    assert missing.feature_groups == (3, 4, 2)


@pytest.mark.parametrize(
    "change",
    [
        {"encoder": get_encoder("pca")},
        {"encoder": replace(get_encoder("fourier"), offset=1.0)},
        {"grid": ChipGrid((), (40, 57), 8, 5)},
        {"size": 4},
        {"scale": 2.0},
    ],
    ids=["encoder", "fitted encoder", "chip size", "size", "scale"],
)
def test_the_digest_changes_with_each_part(recipe, change):
    other = replace(recipe, parts=(replace(recipe.parts[0], **change), recipe.parts[1]))
    assert other.sha256 != recipe.sha256
    swapped = replace(recipe, parts=recipe.parts[::-1])
    assert swapped.sha256 != recipe.sha256


def test_the_digest_changes_with_centre_and_signal_axis(recipe):
    others = (replace(recipe, centre=recipe.centre + 1e-9), replace(recipe, signal_axis=(1, "nm")))
    assert len({recipe.sha256, *(other.sha256 for other in others)}) == 3


@pytest.mark.parametrize(
    "grid",
    [
        PositionGrid((4, 5), (7,), 5),
        PositionGrid((4, 5), (7,), 3, np.arange(7) == 2),
        PositionGrid((4, 5), (7,), 3, np.arange(7) == 3),
    ],
    ids=["context", "signal mask", "another signal mask"],
)
def test_the_digest_changes_with_context_and_signal_mask(grid, tools):
    encoder = tools.Moments()
    recipe = tools.recipe_of(encoder, PositionGrid((4, 5), (7,), 3))
    assert tools.recipe_of(encoder, grid).sha256 != recipe.sha256
    again = tools.recipe_of(encoder, replace(grid))
    assert again.sha256 == tools.recipe_of(encoder, grid).sha256


def test_the_digest_does_not_depend_on_the_data_set(recipe):
    other = recipe.on(ChipGrid((3,), (80, 90), 9, 4))
    assert other.sha256 == recipe.sha256
    assert [part.grid.shape for part in other.parts] == [(3, 20, 23)] * 2
    assert [part.grid.chip_size for part in other.parts] == [9, 16]
    assert [part.grid.shape for part in recipe.parts] == [(8, 12)] * 2


def test_the_description_does_not_depend_on_what_was_learnt(recipe):
    encoder = replace(recipe.parts[0].encoder, offset=1e-7)
    parts = (replace(recipe.parts[0], encoder=encoder), recipe.parts[1])
    other = replace(recipe, parts=parts, centre=recipe.centre + 1e-9)
    assert other.description == recipe.description
    other = replace(recipe, parts=(replace(parts[0], origin="c"), parts[1]))
    assert other.description != recipe.description


def test_the_window_holds_those_of_all_parts(recipe):
    block = (slice(2, 4), slice(3, 4))
    assert (
        recipe.window(block) == recipe.parts[1].grid.window(block) == (slice(4, 25), slice(9, 25))
    )
    assert recipe.window_at((20, 30)) == recipe.parts[1].grid.window_at((20, 30))
    smaller = replace(recipe, parts=recipe.parts[:1])
    assert smaller.window(block) == recipe.parts[0].grid.window(block)


@pytest.mark.parametrize("encoder, dense", [("stem", True), ("fourier", False)])
def test_only_chips_of_images_are_embedded_densely(encoder, dense):
    encoder = get_encoder(encoder)
    assert Part(encoder, ChipGrid((), (40, 57), 9, 5)).dense is dense
    assert not Part(encoder, PositionGrid((4, 5), (40, 57))).dense
