"""Label maps as HyperSpy signals of the type "LabelMap"."""

from hyperspy_fewshot.output.label_maps import LabelMap, LabelMap1D, LazyLabelMap, LazyLabelMap1D

__all__ = ["LabelMap", "LabelMap1D", "LazyLabelMap", "LazyLabelMap1D"]
