"""The default encoder against the best of the others, over groups of tasks."""

from collections.abc import Callable, Iterator, Mapping

import numpy as np
from scipy import stats

from hyperspy_fewshot.encoders import KINDS, default_encoder

# Balanced accuracy by the name of the method, shape (draws, numbers of shots), of one task.
Figures = Mapping[str, np.ndarray]

RIVALS = ("fourier", "pca", "intensity", "sqrt spectrum", "raw pixels")
# Difference of balanced accuracy that counts, by the number of shots.
MARGINS = {1: 0.03, 5: 0.01}
_GROUPS: dict[str, Callable[[str, str], bool]] = {
    "images": lambda kind, name: kind == "image",
    "superalloys": lambda kind, name: name.startswith("nasa_superalloy/"),
    "patterns": lambda kind, name: kind == "pattern",
    "spectra": lambda kind, name: kind == "spectrum",
}


def paired_interval(differences: np.ndarray) -> tuple[float, float, float]:
    """Mean of paired differences and its 95 % interval (Student's t); NaN for a single one."""
    n, mean = len(differences), float(differences.mean())
    if n < 2:
        return mean, np.nan, np.nan
    half = stats.t.ppf(0.975, n - 1) * differences.std(ddof=1) / np.sqrt(n)
    return mean, float(mean - half), float(mean + half)


def behind(figures: Figures, default: str, index: int, margin: float) -> str | None:
    """Say by how much the default lies behind the best of the others; None if it does not.

    It does if the 95 % interval of the difference lies wholly beyond the margin.

    Parameters
    ----------
    figures
        Of one task.
    default
        Name of the default encoder.
    index
        Of the number of shots.
    margin
        Of the balanced accuracy.
    """
    others = {name: figures[name][:, index] for name in RIVALS if name in figures}
    best = max(others, key=lambda name: others[name].mean())
    mean, low, high = paired_interval(figures[default][:, index] - others[best])
    if not high < -margin:
        return None
    return f"{100 * mean:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}] {best}"


def rows(trials: Mapping[tuple[str, str], Figures], shots: list[int]) -> Iterator[list[str]]:
    """Yield the lines of the table.

    Parameters
    ----------
    trials
        Figures of every task, by its kind and name.
    shots
        Numbers of shots.
    """
    yield ["shots", "tasks", "default", "mean", "mean of the others", "behind the best of them"]
    defaults = {kind: default_encoder(kind).name for kind in KINDS}
    for count in (n for n in shots if n in MARGINS):
        for group, belongs in _GROUPS.items():
            chosen = {
                name: (defaults[kind], figures)
                for (kind, name), figures in trials.items()
                if belongs(kind, name) and defaults[kind] in figures and set(figures) & set(RIVALS)
            }
            if chosen:
                yield [str(count), f"{len(chosen)} {group}", *_line(chosen, shots, count)]


def _line(chosen: Mapping[str, tuple[str, Figures]], shots: list[int], count: int) -> Iterator[str]:
    """Yield the cells that follow the group."""
    index, margin = shots.index(count), MARGINS[count]
    (default,) = {name for name, _ in chosen.values()}
    means = {}
    for name in (default, *RIVALS):
        found = [
            figures[name][:, index].mean() for _, figures in chosen.values() if name in figures
        ]
        if len(found) == len(chosen):
            means[name] = f"{np.mean(found):.3f}"
    yield default
    yield means.pop(default)
    yield ", ".join(f"{name} {mean}" for name, mean in means.items())
    said = {task: behind(figures, default, index, margin) for task, (_, figures) in chosen.items()}
    said = {task: text for task, text in said.items() if text}
    named = "; ".join(f"{task} {text}" for task, text in said.items())
    points = f"{100 * margin:g} point{'s' * (margin > 0.01)}"
    yield f"{len(said)} by more than {points}{': ' * bool(said)}{named}"
