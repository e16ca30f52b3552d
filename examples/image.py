"""A micrograph: mark examples, classify, read the statistics, add a missing class.

Runs offline in seconds; writes image_labels.png and image_labels.hspy.
"""

import hyperspy.api as hs

from hyperspy_fewshot import data

# For your own image: s = hs.load("my_image.dm4")
s = data.heterostructure().signal

# Each element of a list is one shot. ROIs and floating-point positions are in nm, x before y.
support = {
    "SrTiO3": [hs.roi.RectangularROI(1.0, 3.6, 2.3, 4.9), (5.0, 4.4), (8.9, 4.7)],
    "Ge": [hs.roi.RectangularROI(1.0, 7.4, 2.3, 8.7), (5.0, 8.0), (8.4, 8.2)],
}
result = s.fewshot_classify(support, stride=8)
print(f"Without the cap:\n{result.statistics}\n")

# The cap was rejected because it has no examples. The image is not encoded again.
result = result.update({"amorphous": [(1.0, 1.0), (5.0, 1.3), (9.0, 0.9)]})
print(f"With the cap:\n{result.statistics}\n")

# No other class is present, so every chip can be assigned to one.
result = result.update(reject=False)
print(f"Without rejection:\n{result.statistics}")

result.plot().figure.savefig("image_labels.png", dpi=150)
result.save("image_labels.hspy", overwrite=True)
