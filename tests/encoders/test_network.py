import numpy as np
import torch

from hyperspy_fewshot.encoders.network import EMBEDDING, StemNetwork


def test_chips_equal_pooled_cells():
    torch.manual_seed(0)
    network, images = StemNetwork().eval(), torch.randn(2, 80, 80)
    with torch.no_grad():
        found = network.chips(images)
        cells = network.cells(images)
        half = cells.shape[1] // 2
        parts = [cells[:, :half, a : 10 - a, a : 10 - a].mean((2, 3)) for a in (1, 3, 4)]
        squares = cells[:, half:, 1:9, 1:9].mean((2, 3))
        expected = network.embed_pooled(torch.cat([*parts, squares], dim=1))
    np.testing.assert_allclose(found.numpy(), expected.numpy(), atol=1e-6)
    np.testing.assert_allclose(found.norm(dim=1), 1, atol=1e-5)


def test_gradients_are_finite():
    network = StemNetwork()
    embedded = network.chips(torch.randn(4, 80, 80))
    assert embedded.shape == (4, EMBEDDING)
    embedded[:, :3].sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in network.parameters())
