"""A lazy 4D-STEM scan: classify each pattern, average the patterns of each class.

Runs in seconds, offline; writes diffraction_scan_labels.png and diffraction_scan_patterns.png.
"""

import hyperspy.api as hs
import matplotlib.pyplot as plt
import numpy as np

from hyperspy_fewshot import data

# Your own: s = hs.load("my_scan.zspy", lazy=True)
specimen = data.diffraction_scan()
s = specimen.signal.as_lazy()

# Leave the direct beam out: True is masked, in HyperSpy's order (kx, ky).
beam = np.zeros((48, 44), dtype=bool)
beam[20:28, 18:26] = True

# Four positions a class, which the known truth vouches for; yours come from looking.
support = specimen.support(shots=4)
result = s.fewshot_classify(support, signal_mask=beam)
print(f"Only examples and a sample have been read: {result}\n")

result.compute()
print(result.statistics)
print(f"\nBalanced accuracy against the truth: {specimen.accuracy(result.labels.data):.3f}")

ax = result.plot(image=specimen.signal.sum(axis=(-2, -1)).data)
ax.figure.savefig("diffraction_scan_labels.png", dpi=150)

patterns = np.sqrt(result.class_signals("mean"))
names = list(result.class_names)
hs.plot.plot_images(patterns, label=names, aspect="equal", axes_decor="off", colorbar=None)
plt.savefig("diffraction_scan_patterns.png", dpi=150)
