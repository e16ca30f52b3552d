from . import data, signals
from .classification import classify, embed
from .decision.classifier import FewShotClassifier
from .encoders import Encoder, get_encoder, list_encoders
from .results.audit import Audit
from .results.embedding_map import EmbeddingMap
from .results.result import FewShotResult
from .support.support_set import SupportSet

__version__: str

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
