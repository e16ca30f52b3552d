"""Give every HyperSpy signal the methods ``fewshot_classify`` and ``fewshot_embed``.

HyperSpy has no way to register a method for all signals, and it reads its extensions while
``hyperspy.api`` is being imported, before ``hyperspy.signal`` exists. The second entry point
of this package has a dotted name, which makes Python import the package at that moment, and
:func:`install` then waits for ``hyperspy.signal``: a finder at the head of ``sys.meta_path``
lets the other finders find that module and attaches the methods once it has been executed.
"""

from __future__ import annotations

import os
import sys
import warnings
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy as np
    import torch
    from hyperspy.signal import BaseSignal

    from hyperspy_fewshot.decision.classifier import FewShotClassifier
    from hyperspy_fewshot.embedding.recipe import Recipe
    from hyperspy_fewshot.encoders import Encoder
    from hyperspy_fewshot.results.embedding_map import EmbeddingMap
    from hyperspy_fewshot.results.result import FewShotResult
    from hyperspy_fewshot.support.support_set import SupportSet

_TARGET = "hyperspy.signal"
_DISABLE = "HYPERSPY_FEWSHOT_DISABLE"


def install() -> None:
    """Attach the methods to the HyperSpy signals, now or as soon as they exist.

    The environment variable ``HYPERSPY_FEWSHOT_DISABLE=1`` prevents it.
    """
    if os.environ.get(_DISABLE, "0") not in ("", "0"):
        return
    if _base_signal() is not None:
        _attach()
    elif not any(isinstance(finder, _SignalFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _SignalFinder())


class _SignalFinder:
    """Finder that finds nothing itself and attaches the methods after ``hyperspy.signal``.

    If ``hyperspy.signal`` was already being executed when the finder was put in place, the
    next import of any other module attaches the methods.
    """

    def find_spec(self, fullname, path=None, target=None):
        """Return the spec of ``hyperspy.signal`` with a loader that attaches the methods."""
        if fullname == _TARGET:
            return _attaching(self._find_elsewhere(fullname, path, target))
        if _base_signal() is not None:
            _attach()
        return None

    def _find_elsewhere(self, fullname, path, target):
        """Return what the other finders find."""
        for finder in sys.meta_path:
            if finder is not self and hasattr(finder, "find_spec"):
                spec = finder.find_spec(fullname, path, target)
                if spec is not None:
                    return spec
        return None


def _attaching(spec):
    """Make the loader of a spec attach the methods the next time that it executes a module."""
    loader = getattr(spec, "loader", None)
    execute = getattr(loader, "exec_module", None)
    if execute is None:
        return spec

    def exec_module(module):
        del loader.exec_module
        execute(module)
        _attach()

    # A loader without a __dict__ stays as it is: then the next import attaches.
    with suppress(AttributeError):
        loader.exec_module = exec_module
    return spec


def _base_signal() -> type | None:
    """Return HyperSpy's ``BaseSignal`` if ``hyperspy.signal`` has come far enough."""
    return getattr(sys.modules.get(_TARGET), "BaseSignal", None)


def _attach() -> None:
    """Set the methods on ``BaseSignal``, unless somebody else has attributes of these names."""
    # A new list: removing from the old one would make an import that walks it skip a finder.
    sys.meta_path = [finder for finder in sys.meta_path if not isinstance(finder, _SignalFinder)]
    base_signal = _base_signal()
    for method in (fewshot_classify, fewshot_embed):
        name = method.__name__
        existing = getattr(base_signal, name, None)
        if existing is not None and getattr(existing, "__module__", None) != __name__:
            _warn(f"HyperSpy signals already have an attribute {name!r}, which is left as it is")
            continue
        try:
            setattr(base_signal, name, method)
        except Exception as error:  # an exception here would break ``import hyperspy.api``
            _warn(f"{name!r} could not be added ({type(error).__name__}: {error})")


def _warn(reason: str) -> None:
    """Warn that the signals lack a method, and name the functions to use instead."""
    warnings.warn(
        f"hyperspy_fewshot: {reason}; use hyperspy_fewshot.classify(signal, support, ...) and "
        "hyperspy_fewshot.embed(signal, ...).",
        RuntimeWarning,
        stacklevel=2,
    )


def fewshot_classify(
    self: BaseSignal,
    support: Mapping | SupportSet | FewShotClassifier | FewShotResult,
    *,
    encoder: str | os.PathLike | Encoder | torch.nn.Module | Callable | None = None,
    chip_size: int | None = None,
    stride: int | None = None,
    context: int | None = None,
    reject: bool | float = True,
    navigation_mask: BaseSignal | np.ndarray | None = None,
    signal_mask: BaseSignal | np.ndarray | None = None,
    device: str | torch.device | None = None,
    lazy_output: bool | None = None,
    show_progressbar: bool | None = None,
    standardise: bool | None = None,
) -> FewShotResult:
    """Classify the signal from a handful of labelled examples of each class.

    What is classified follows from the signal. Of an image, every chip (a square window); of
    a 4D-STEM or EBSD data set, the pattern at each navigation position; of a stack of images
    with ``chip_size`` given, every chip of every frame; of a spectrum image or line scan, the
    spectrum at each navigation position. The signal itself is not changed.

    Parameters
    ----------
    support
        The labelled examples of all classes. A dictionary has the class names as keys and as
        values one example or a list of examples, mixed freely:

        - a HyperSpy ROI: everything inside it;
        - a position in the order (x, y), for a stack ``(*navigation, x, y)``: integers are
          pixel indices, floating point numbers are calibrated values;
        - for a stack, ``(navigation index, ROI)``;
        - an array (n, 2) of positions, each an example;
        - a signal or an array of ready examples (chips, patterns or spectra), also from
          another data set.

        The name ``"rejected"`` holds negative examples, which belong to no class.

        A :class:`~hyperspy_fewshot.SupportSet` holds the same, or painted examples. A
        :class:`~hyperspy_fewshot.FewShotResult` or
        :class:`~hyperspy_fewshot.FewShotClassifier` from other data of the same kind is used
        again with all its settings; an argument that contradicts these settings is an error.
    encoder
        What turns a chip, pattern or spectrum into an embedding: a name from
        :func:`~hyperspy_fewshot.list_encoders`, an :class:`~hyperspy_fewshot.Encoder`, a
        PyTorch module, the path of a model file, or a function of NumPy batches. By default
        the bundled encoder for this kind of signal.
    chip_size
        Side of the chips in pixels. By default it is chosen for an image: the side of ready
        chips, else the median side of the area ROIs, else five periods of the lattice that the
        image shows (at least 56 pixels), else 128 pixels, or 64 with another encoder than the
        default one. Unless ready chips decide, it is at most a quarter of the image, and at
        least 16 pixels. The default encoder also sees smaller scales; what is unknown and
        smaller than a chip cannot be rejected. The frames of a stack are by default not cut into
        chips. It has no meaning for spectra.
    stride
        Distance between neighbouring chips in pixels, by default 4, or 8, 16, ... for more than
        262 144 chips; with another encoder than the default one a quarter of the chip size. More
        than two million chips are announced in a warning before they are computed.
    context
        For spectra and patterns, the side in navigation positions of the neighbourhood whose
        data inform each label, odd and not wider than the scan; 1 is the position alone. By
        default it is chosen from how well neighbours predict each other.
    reject
        Whether queries that resemble no class are rejected (label -1) rather than given a
        class. A float is the significance level of the rejection. It cannot be False if there
        are negative examples.
    navigation_mask
        What to leave out (label -2): True where masked, as everywhere in HyperSpy. A signal,
        or an array in HyperSpy's order (x, y). For an image, a mask of the image itself.
    signal_mask
        For spectra and patterns, the channels or detector pixels to leave out, such as a zero
        peak or a beam stop: True where masked.
    device
        Where the encoder runs, such as ``"cpu"`` or ``"cuda:1"``. By default on a CUDA device
        if there is one, else on an Apple GPU, else on the CPU.
    lazy_output
        Whether the result is lazy. By default it is if the signal is. Of a signal in memory, a
        lazy result keeps a copy of the data, so that it can be computed after they have changed.
    show_progressbar
        Whether to show a progress bar. By default as set in HyperSpy's preferences.
    standardise
        Of an image that is classified with the result or classifier of another one: whether its
        grey levels are brought to the median and the range (1st to 99th percentile) of that one,
        measured in a sample. By default they are, with a warning, if the ranges of both have
        less than a twentieth of their joint extent in common, as those of other detectors and
        bit depths; below three fifths a warning asks you to choose. True without a
        result to use again, or for other signals, is an error.

    Returns
    -------
    FewShotResult
        The label map in ``labels``, with ``probabilities``, ``confidence`` and
        ``statistics``. More examples are added with its method ``update``, which takes a
        fraction of a second.

    See Also
    --------
    fewshot_embed : The first of the two stages alone, without labels.
    hyperspy_fewshot.classify : The same as a function.

    Examples
    --------
    The specimen takes the place of ``hs.load("my_image.dm4", lazy=True)``.

    >>> import hyperspy.api as hs
    >>> from hyperspy_fewshot import data
    >>> s = data.heterostructure((256, 256)).signal
    >>> result = s.fewshot_classify(
    ...     support={
    ...         "SrTiO3": [hs.roi.RectangularROI(0.5, 1.7, 1.1, 2.3), (4.0, 2.2)],
    ...         "Ge": [(60, 210), (200, 215)],
    ...         "cap": [hs.roi.CircleROI(2.5, 0.5, 0.3), (220, 20)],
    ...     }
    ... )
    >>> result.labels
    <LabelMap, title: Few-shot labels of Synthetic HAADF of SrTiO3 on Ge, dimensions: (|64, 64)>
    >>> statistics = result.statistics  # class, count, fraction with its interval, area, regions
    >>> axes = result.plot()
    """
    from hyperspy_fewshot.classification import classify

    return classify(
        self,
        support,
        encoder=encoder,
        chip_size=chip_size,
        stride=stride,
        context=context,
        reject=reject,
        navigation_mask=navigation_mask,
        signal_mask=signal_mask,
        device=device,
        lazy_output=lazy_output,
        show_progressbar=show_progressbar,
        standardise=standardise,
    )


def fewshot_embed(
    self: BaseSignal,
    *,
    encoder: str | os.PathLike | Encoder | torch.nn.Module | Callable | None = None,
    chip_size: int | None = None,
    stride: int | None = None,
    context: int | None = None,
    navigation_mask: BaseSignal | np.ndarray | None = None,
    signal_mask: BaseSignal | np.ndarray | None = None,
    device: str | torch.device | None = None,
    lazy_output: bool | None = None,
    show_progressbar: bool | None = None,
    recipe: Recipe | None = None,
    standardise: bool | None = None,
) -> EmbeddingMap:
    """Embed every query of the signal, without labels.

    This is the slow stage of :meth:`fewshot_classify`. Its result can be classified as often
    as wanted, each time in a fraction of a second, and it can be saved. The signal itself is
    not changed.

    Parameters
    ----------
    encoder, stride, context, navigation_mask, signal_mask, device
        As in :meth:`fewshot_classify`.
    chip_size
        Side of the chips in pixels. By default it is chosen for an image: five periods of the
        lattice that the image shows (at least 56 pixels), else 128 pixels, or 64 with another
        encoder than the default one, at most a quarter of the image, and at least 16 pixels. The
        frames of a stack are by default not cut into chips.
    lazy_output
        Whether the embeddings are lazy. By default they are if the signal is. Of a signal in
        memory, lazy embeddings keep a copy of the data.
    show_progressbar
        Whether to show a progress bar. By default as set in HyperSpy's preferences.
    recipe
        The ``recipe`` of an embedding map of other data of the same kind, to embed these data
        in the same way. By default it is learnt from a sample of these data.
    standardise
        As in :meth:`fewshot_classify`, with `recipe` in place of the result.

    Returns
    -------
    EmbeddingMap
        The embeddings, with the method ``classify``.

    See Also
    --------
    fewshot_classify : Both stages in one pass over the data.
    hyperspy_fewshot.embed : The same as a function.

    Examples
    --------
    The specimen takes the place of ``hs.load("my_scan.zspy", lazy=True)``.

    >>> from hyperspy_fewshot import data
    >>> s = data.diffraction_scan().signal
    >>> embedding_map = s.fewshot_embed()
    >>> embedding_map.save("embeddings.zspy")
    >>> result = embedding_map.classify({"left": [(1, 1), (2, 9)], "right": [(22, 15), (21, 8)]})
    >>> result.labels
    <LabelMap, title: Few-shot labels of Synthetic 4D-STEM scan of domains, dimensions: (|24, 20)>
    """
    from hyperspy_fewshot.classification import embed

    return embed(
        self,
        encoder=encoder,
        chip_size=chip_size,
        stride=stride,
        context=context,
        navigation_mask=navigation_mask,
        signal_mask=signal_mask,
        device=device,
        lazy_output=lazy_output,
        show_progressbar=show_progressbar,
        recipe=recipe,
        standardise=standardise,
    )
