"""A signal with known truth, and what can be derived from it: support examples and accuracy."""

from dataclasses import dataclass

import numpy as np
from hyperspy.signals import BaseSignal
from numpy.typing import ArrayLike
from scipy import ndimage


@dataclass(frozen=True, eq=False)
class Specimen:
    """A signal whose truth is known.

    Attributes
    ----------
    signal
        The simulated data.
    truth
        Class of each position, 0 to K-1 in the order of ``class_names``, or -1 where it is not
        defined, as on a boundary: (rows, columns) of an image or a scan, (frames, rows, columns) of
        a stack.
    class_names
        Names of the K classes.
    """

    signal: BaseSignal
    truth: np.ndarray
    class_names: tuple[str, ...]

    def support(
        self, shots: int = 5, seed: int = 0, margin: int = 1
    ) -> dict[str, list[tuple[int, ...]]]:
        """Draw support examples inside the classes, spread out as a user would click them.

        Parameters
        ----------
        shots
            Number of examples per class.
        seed
            Seed of the draw.
        margin
            Least distance [px] from other classes and from the edge. With half a chip size all
            chips hold one class only.

        Returns
        -------
        dict
            Maps the class names to positions, (x, y) or (frame, x, y), ready for
            ``fewshot_classify(support=...)``.

        Raises
        ------
        ValueError
            If a class is too small for that many examples with that margin.
        """
        rng = np.random.default_rng(seed)
        chosen = {}
        for label, name in enumerate(self.class_names):
            size = (1,) * (self.truth.ndim - 2) + (2 * margin + 1,) * 2
            inner = ndimage.minimum_filter(self.truth == label, size, mode="constant", cval=False)
            candidates = np.argwhere(inner)
            if len(candidates) < shots:
                raise ValueError(
                    f"{name!r} has {len(candidates)} positions at least {margin} px from other classes and from the "
                    f"edge, but {shots} shots were asked for; use a smaller margin or fewer shots."
                )
            positions = _spread(candidates, shots, rng)
            chosen[name] = [(*map(int, p[:-2]), int(p[-1]), int(p[-2])) for p in positions]
        return chosen

    def accuracy(self, labels: ArrayLike) -> float:
        """Compute the balanced accuracy of labels: the mean recall of the classes.

        Parameters
        ----------
        labels
            Integers in the shape of ``truth``. Negative labels (rejected or masked) count as wrong.
            Where the truth is not defined, labels do not count. For an image pass the labels at its
            pixels, not those of its chips.

        Raises
        ------
        ValueError
            If the shapes differ.
        """
        labels = np.asarray(labels)
        if labels.shape != self.truth.shape:
            raise ValueError(
                f"The labels have shape {labels.shape}, the truth {self.truth.shape}; both must be on one grid (for an "
                "image use result.labels_at_pixels().data)."
            )
        present = np.unique(self.truth[self.truth >= 0])
        return float(np.mean([(labels[self.truth == label] == label).mean() for label in present]))


def _spread(candidates: np.ndarray, number: int, rng: np.random.Generator) -> np.ndarray:
    """Choose `number` of the candidates (n, ndim).

    Each is the one of a few random candidates that is farthest from all chosen before.
    """
    left = rng.permutation(candidates)
    chosen, left = [left[0]], left[1:]
    while len(chosen) < number:
        few = rng.choice(len(left), min(12, len(left)), replace=False)
        distance = np.abs(left[few, np.newaxis] - np.stack(chosen)).max(axis=-1).min(axis=1)
        best = few[distance.argmax()]
        chosen.append(left[best])
        left = np.delete(left, best, axis=0)
    return np.stack(chosen)
