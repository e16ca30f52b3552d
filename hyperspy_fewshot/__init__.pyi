from . import data, signals
from .classification import classify
from .encoders import Encoder, get_encoder, list_encoders
from .prototypes import FewShotClassifier
from .result import FewShotResult
from .support import SupportSet

__version__: str

__all__ = [
    "Encoder",
    "FewShotClassifier",
    "FewShotResult",
    "SupportSet",
    "__version__",
    "classify",
    "data",
    "get_encoder",
    "list_encoders",
    "signals",
]
