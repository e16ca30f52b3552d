"""One small specimen of each kind."""

import pytest

from hyperspy_fewshot import data

KINDS = {
    "heterostructure": lambda **options: data.heterostructure((208, 240), **options),
    "image_stack": lambda **options: data.image_stack(3, (160, 176), **options),
    "polycrystal": lambda **options: data.polycrystal((272, 304), **options),
    "eds_spectrum_image": lambda **options: data.eds_spectrum_image(
        (28, 42), spacing=13, **options
    ),
    "diffraction_scan": lambda **options: data.diffraction_scan((14, 18), (32, 38), **options),
}


@pytest.fixture(scope="session")
def simulate():
    """Simulate a specimen of a kind, with options."""
    return lambda kind, **options: KINDS[kind](**options)


@pytest.fixture(scope="session")
def specimens():
    return {kind: make() for kind, make in KINDS.items()}


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.fixture
def specimen(kind, specimens):
    return specimens[kind]
