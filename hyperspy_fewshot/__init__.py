"""Few-shot classification of electron microscopy data with HyperSpy.

Mark a handful of examples of each kind of region, and get a calibrated label map with
statistics, from any HyperSpy signal, in memory or lazy. Installing the package is enough:
every signal then has the methods ``fewshot_classify`` and ``fewshot_embed``.

HyperSpy imports this module while ``hyperspy.api`` itself is being imported. Therefore only
the standard library is used here, and each public name is imported when it is first asked
for; ``__init__.pyi`` says the same to editors and type checkers.
"""

import importlib
import warnings

__version__ = "0.1.dev0"

_HOMES = {
    "Audit": "results.audit",
    "Encoder": "encoders",
    "EmbeddingMap": "results.embedding_map",
    "FewShotClassifier": "decision.classifier",
    "FewShotResult": "results.result",
    "SupportSet": "support.support_set",
    "classify": "classification",
    "embed": "classification",
    "get_encoder": "encoders",
    "list_encoders": "encoders",
}
_SUBMODULES = ("data", "signals")

__all__ = [
    "Audit",
    "EmbeddingMap",
    "Encoder",
    "FewShotClassifier",
    "FewShotResult",
    "SupportSet",
    "__version__",
    "classify",
    "data",
    "embed",
    "get_encoder",
    "list_encoders",
    "signals",
]


def __getattr__(name):
    """Import the public name when it is first used (PEP 562)."""
    if name in _SUBMODULES:
        return importlib.import_module(f"{__name__}.{name}")
    if name in _HOMES:
        value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    """List the public names."""
    return list(__all__)


try:
    from hyperspy_fewshot import _autoload

    _autoload.install()
except Exception as error:  # an exception here would break ``import hyperspy.api``
    warnings.warn(
        "hyperspy_fewshot could not add its methods to the HyperSpy signals "
        f"({type(error).__name__}: {error}); use hyperspy_fewshot.classify(signal, ...).",
        RuntimeWarning,
        stacklevel=2,
    )
