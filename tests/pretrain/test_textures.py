import numpy as np
import pytest

from hyperspy_fewshot.pretrain.textures import FAMILIES


@pytest.mark.parametrize("family", [family for family, _ in FAMILIES])
def test_varied_textures_keep_their_family(family):
    for seed in range(12):
        rng = np.random.default_rng(seed)
        texture = family.draw(rng)
        other = texture.vary(rng)
        assert type(other) is family and other is not texture
        images = [each.render(np.random.default_rng(9), 2, 24) for each in (texture, other)]
        assert all(i.shape == (2, 24, 24) and i.dtype == np.float32 for i in images)
        assert np.isfinite(images).all()
