"""Embed a scan once, save the embedding map, and label it in another session.

Runs offline in seconds; writes embedding_map.zspy, embedding_map_labels.png and scan.zspy.
"""

import hyperspy.api as hs

from hyperspy_fewshot import EmbeddingMap, data

specimen = data.diffraction_scan()
specimen.signal.save("scan.zspy", overwrite=True)

# The slow part needs no labels: run it overnight, for example.
s = hs.load("scan.zspy", lazy=True)
s.fewshot_embed().save("embedding_map.zspy", overwrite=True)

# Another session. New examples are read from the signal; the scan is not encoded again.
s = hs.load("scan.zspy", lazy=True)
embedding_map = EmbeddingMap.load("embedding_map.zspy", signal=s)
support = specimen.support(shots=4)
last = support.pop("domain 3")
result = embedding_map.classify(support)
print(f"Two classes:\n{result.statistics}\n")

# Add a class, remove the first example of another one.
result = result.update({"domain 3": last}, remove={"domain 1": 0})
print(f"Three classes:\n{result.statistics}\n")
print(f"Balanced accuracy: {specimen.accuracy(result.labels.data):.3f}")
result.plot().figure.savefig("embedding_map_labels.png", dpi=150)

# The recipe embeds another scan in the same way, here one of other domains.
other = data.diffraction_scan(seed=1)
other_map = other.signal.fewshot_embed(recipe=embedding_map.recipe)
labels = other_map.classify(other.support(shots=4)).labels
print(f"Balanced accuracy for another scan: {other.accuracy(labels.data):.3f}")
