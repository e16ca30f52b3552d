"""An EDS spectrum image: classify each spectrum, quantify each class with eXSpy.

Runs in seconds, offline; writes spectrum_image_labels.png.
"""

import hyperspy.api as hs

from hyperspy_fewshot import data

# Your own: s = hs.load("my_map.bcf"), with elements and X-ray lines set.
s = data.eds_spectrum_image().signal

# ROIs and floating point positions are in nm on the scan; integers count positions.
result = s.fewshot_classify(
    {
        "carbon film": [hs.roi.RectangularROI(114, 0, 128, 12), (16, 13), (60, 45)],
        "FePt": [hs.roi.CircleROI(16, 18, 5), (45, 29), (21, 44)],
        "iron oxide": [hs.roi.CircleROI(90, 20, 5), (27, 29), (9, 24)],
    }
)
print(result.statistics)
print(f"Pooled over {result.classifier.setup.context} x {result.classifier.setup.context}.\n")

# The sum spectrum of each class has the counts that a single one lacks.
particles = result.class_signals("sum").inav[1:]
windows = particles.estimate_background_windows(line_width=[5.0, 2.0])
intensities = particles.get_lines_intensity(background_windows=windows)
k_factors = [1.450226, 5.075602]  # Fe Ka and Pt La of the instrument
iron, platinum = particles.quantification(intensities, "CL", k_factors)
for i, name in enumerate(result.class_names[1:]):
    print(f"{name:12} Fe {iron.data.flat[i]:5.1f} at. %  Pt {platinum.data.flat[i]:5.1f} at. %")

result.plot().figure.savefig("spectrum_image_labels.png", dpi=150)
