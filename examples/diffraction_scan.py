"""A lazy 4D-STEM scan: classify each pattern, average the patterns of each class.

Runs offline in seconds; writes diffraction_scan_labels.png and diffraction_scan_patterns.png.
"""

import hyperspy.api as hs
import matplotlib.pyplot as plt
import numpy as np

from hyperspy_fewshot import data

# For your own scan: s = hs.load("my_scan.zspy", lazy=True)
specimen = data.diffraction_scan()
s = specimen.signal.as_lazy()

# Leave out the direct beam. The mask is True there, in HyperSpy's order (kx, ky).
beam = np.zeros((48, 44), dtype=bool)
beam[20:28, 18:26] = True

# Four positions of each class, chosen from the known truth. In your own data, choose by eye.
support = specimen.support(shots=4)
result = s.fewshot_classify(support, signal_mask=beam)
print(f"Only the examples and a sample have been read: {result}\n")

result.compute()
print(result.statistics)
print(f"\nBalanced accuracy: {specimen.accuracy(result.labels.data):.3f}")

ax = result.plot(image=specimen.signal.sum(axis=(-2, -1)).data)
ax.figure.savefig("diffraction_scan_labels.png", dpi=150)

patterns = [np.sqrt(pattern) for pattern in result.class_signals("mean").values()]
names = list(result.class_names)
hs.plot.plot_images(patterns, label=names, aspect="equal", axes_decor="off", colorbar=None)
plt.savefig("diffraction_scan_patterns.png", dpi=150)
