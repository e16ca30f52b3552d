"""How much of each class there is: counts, fractions and their intervals, areas, regions."""

from hyperspy_fewshot.statistics.fractions import label_statistics
from hyperspy_fewshot.statistics.table import Statistics

__all__ = ["Statistics", "label_statistics"]
