"""An EDS spectrum image: classify each spectrum, quantify each class with eXSpy.

Runs offline in seconds; writes spectrum_image_labels.png.
"""

import hyperspy.api as hs

from hyperspy_fewshot import data

# For your own map: s = hs.load("my_map.bcf")[0], with elements and X-ray lines set.
s = data.eds_spectrum_image().signal

# ROIs are in nm on the scan. Positions of integers are indices, x before y.
result = s.fewshot_classify(
    {
        "carbon film": [hs.roi.RectangularROI(114, 0, 128, 12), (16, 13), (60, 45)],
        "FePt": [hs.roi.CircleROI(16, 18, 5), (45, 29), (21, 44)],
        "iron oxide": [hs.roi.CircleROI(90, 20, 5), (27, 29), (9, 24)],
    }
)
print(result.statistics)
context = result.classifier.recipe.grid.context
print(f"Each spectrum was averaged over up to {context} x {context} positions.\n")

# The sum spectrum of a class has enough counts for quantification.
k_factors = [1.450226, 5.075602]  # of Fe Ka and Pt La, for this instrument
spectra = result.class_signals("sum")
for name in ("FePt", "iron oxide"):
    windows = spectra[name].estimate_background_windows(line_width=[5.0, 2.0])
    intensities = spectra[name].get_lines_intensity(background_windows=windows)
    iron, platinum = spectra[name].quantification(intensities, "CL", k_factors)
    print(f"{name:12} Fe {iron.data.item():5.1f} at. %  Pt {platinum.data.item():5.1f} at. %")

result.plot().figure.savefig("spectrum_image_labels.png", dpi=150)
