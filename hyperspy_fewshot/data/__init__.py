"""Synthetic specimens with known truth, to try, test and measure the classification.

Every function returns a :class:`Specimen`: a calibrated HyperSpy signal of Poisson counts, and the
class of each of its positions. Sizes are given in array order, (rows, columns); positions are in
HyperSpy's order, (x, y). The same ``seed`` gives the same specimen. An invalid size or number
raises a ``ValueError``.
"""

from hyperspy_fewshot.data.specimen import Specimen
from hyperspy_fewshot.data.specimens import (
    diffraction_scan,
    eds_spectrum_image,
    heterostructure,
    image_stack,
    polycrystal,
)

__all__ = [
    "Specimen",
    "diffraction_scan",
    "eds_spectrum_image",
    "heterostructure",
    "image_stack",
    "polycrystal",
]
