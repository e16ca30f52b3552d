"""The demonstration: ``python -m hyperspy_fewshot demo`` classifies specimens and checks the labels."""

import argparse
import json
import logging
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hyperspy.signal import BaseSignal

    from hyperspy_fewshot.data import Specimen
    from hyperspy_fewshot.results.result import FewShotResult

# Chip size of the synthetic images [px]: about three unit cells at 0.02 nm per pixel.
_CHIP_SIZE = 64
# k-factors of Fe Ka and Pt La for the instrument that measured the FePt spectrum, from the
# documentation of eXSpy.
_K_FACTORS = [1.450226, 5.075602]
# The classes of the STO/Ge image by their published names.
_STO_GE_NAMES = {"other": "amorphous", "dots": "SrTiO3", "snowmen": "Ge"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m hyperspy_fewshot", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    demo = commands.add_parser("demo", help="classify synthetic specimens; nothing is downloaded")
    demo.add_argument(
        "--out",
        type=Path,
        default=Path("demo_output"),
        help="folder for the label maps (default: %(default)s)",
    )
    demo.add_argument(
        "--data",
        type=Path,
        default=Path("../shared/data"),
        help="folder with the STO/Ge image, which is skipped if missing (default: %(default)s)",
    )
    options = parser.parse_args(arguments)
    with _quiet_imports():
        run_demo(options.out, options.data)
    return 0


@contextmanager
def _quiet_imports() -> Iterator[None]:
    """Hide what HyperSpy and eXSpy say at import, on which users of the demonstration cannot act."""
    # HyperSpy tells for every function in turn that numba is not installed.
    logger = logging.getLogger("hyperspy.decorators")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Importing `Lazy")
            yield
    finally:
        logger.setLevel(level)


def run_demo(out: Path, data_folder: Path) -> None:
    """Classify every specimen, print statistics and accuracy, and write the label maps.

    Parameters
    ----------
    out
        Folder for a PNG file and an .hspy file of each label map. It is created if necessary.
    data_folder
        Folder with the STO/Ge image of Akers et al. (2021) and its support set. If it is missing,
        this image is skipped.
    """
    from hyperspy_fewshot import data

    out.mkdir(parents=True, exist_ok=True)
    begin = time.perf_counter()
    for name, title in (
        ("heterostructure", "HAADF image of a heterostructure (synthetic)"),
        ("polycrystal", "HAADF image of a polycrystal with defects (synthetic)"),
    ):
        specimen = getattr(data, name)()
        support = specimen.support(shots=5, margin=_CHIP_SIZE // 2)
        _classify(title, specimen, support, out / name, chip_size=_CHIP_SIZE)
    specimen = data.eds_spectrum_image()
    title = "EDS map of nanoparticles (measured FePt spectrum, Poisson counts)"
    result = _classify(title, specimen, specimen.support(shots=5), out / "eds")
    _quantify(result)
    if (data_folder / "files" / "sto_ge_haadf.jpg").is_file():
        title = "HAADF image of SrTiO3 on Ge (Akers et al. 2021; truth drawn by hand)"
        specimen, support, chip_size = _sto_ge(data_folder)
        _classify(title, specimen, support, out / "sto_ge", chip_size=chip_size)
    else:
        print(f"\nThe STO/Ge image is skipped: it is not in {data_folder}.")
    print(f"\nTotal time: {time.perf_counter() - begin:.1f} s. Label maps: {out.resolve()}")


def _classify(
    title: str, specimen: "Specimen", support: Mapping[str, list], path: Path, **settings: Any
) -> "FewShotResult":
    """Classify a specimen, print statistics and accuracy, and write a picture and a file."""
    from matplotlib.figure import Figure

    print(f"\n{title}\n{'=' * len(title)}\n{specimen.signal}")
    begin = time.perf_counter()
    result = specimen.signal.fewshot_classify(support, **settings)
    print(f"Classified in {time.perf_counter() - begin:.1f} s.\n\n{result.statistics}\n")
    _print_fractions(specimen, result)
    _print_accuracy(specimen, result.labels_at_pixels().data)
    figure = Figure(figsize=(7.5, 5.5), layout="constrained")
    result.plot(figure.add_subplot())
    figure.savefig(path.with_suffix(".png"), dpi=150, bbox_inches="tight")
    result.save(path.with_suffix(".hspy"), overwrite=True)
    print(f"Written: {path}.png and {path}.hspy")
    return result


def _print_fractions(specimen: "Specimen", result: "FewShotResult") -> None:
    """Compare fractions and intervals with the truth of a specimen where it is known."""
    known = (specimen.truth >= 0).sum()
    rows = result.statistics.to_dict()
    print("True fractions, where the truth is known, and the intervals found:")
    for k, name in enumerate(specimen.class_names):
        truth = (specimen.truth == k).sum() / known
        low, high = rows[name]["fraction_low"], rows[name]["fraction_high"]
        holds = "inside" if low <= truth <= high else "outside"
        print(f"  {name:16}{100 * truth:6.1f} %, {holds} {100 * low:.1f} - {100 * high:.1f} %")


def _print_accuracy(specimen: "Specimen", labels) -> None:
    """Compare labels, in array order, with the truth of a specimen where it is known."""
    known = specimen.truth >= 0
    correct = labels[known] == specimen.truth[known]
    rejected = labels[known] < 0
    print(
        f"Compared with the truth at {known.sum()} positions: {100 * correct.mean():.2f} % are "
        f"correct, {100 * rejected.mean():.2f} % are rejected, "
        f"{100 * (~correct & ~rejected).mean():.2f} % are wrong.\n"
        f"Balanced accuracy, rejected counted as wrong: {specimen.accuracy(labels):.4f}."
    )


def _quantify(result: "FewShotResult") -> None:
    """Print the composition of the sum spectrum of each class, and of the spectrum as measured."""
    import exspy

    measured = exspy.data.EDS_TEM_FePt_nanoparticles()
    measured.metadata.Sample.xray_lines = ["Fe_Ka", "Pt_La"]
    print("\nSum spectrum of each class, quantified (eXSpy, Cliff-Lorimer):")
    print(f"{'':22}{'Fe Ka':>10}{'Pt La':>10}{'Fe [at.%]':>12}{'Pt [at.%]':>12}")
    for name, spectrum in (result.class_signals("sum") | {"FePt as measured": measured}).items():
        _print_composition(name, spectrum)


def _print_composition(name: str, spectrum: "BaseSignal") -> None:
    """Print net counts of both lines and the composition of a spectrum."""
    windows = spectrum.estimate_background_windows(line_width=[5.0, 2.0])
    net = spectrum.get_lines_intensity(background_windows=windows)
    gross = spectrum.get_lines_intensity()
    counts = [line.data.item() for line in net]
    # Adding 0 avoids "-0".
    text = "".join(f"{round(count) + 0:10d}" for count in counts)
    # Counts in a window and the background subtracted from them both have Poisson noise.
    variance = sum(2 * line.data.item() for line in gross) - sum(counts)
    if sum(counts) > 3 * variance**0.5:
        atoms = spectrum.quantification(net, "CL", _K_FACTORS)
        text += "".join(f"{element.data.item():12.1f}" for element in atoms)
    else:
        text += f"{'not found':>12}" * 2
    print(f"{name:22}{text}")


def _sto_ge(folder: Path) -> tuple["Specimen", dict[str, list], int]:
    """Load the image of the published method, its fifteen support chips, and its chip size [px].

    Outlines drawn by hand serve as the truth.
    """
    import hyperspy.api as hs
    import numpy as np

    from hyperspy_fewshot import data

    task = folder / "pychip" / "sto_ge"
    published = json.loads((task / "published.json").read_text())
    size = published["chip_px"]
    support = {
        name: [
            (size * column + size // 2, size * row + size // 2)
            for row, column in published["support_row_col"][published_name]
        ]
        for published_name, name in _STO_GE_NAMES.items()
    }
    signal = hs.load(folder / "files" / "sto_ge_haadf.jpg")
    signal.metadata.General.title = "HAADF of SrTiO3 on Ge"
    # In the file, 0 is undefined and classes start at 1.
    truth = np.load(task / "labels.npy").astype(int) - 1
    return data.Specimen(signal, truth, tuple(support)), support, size


if __name__ == "__main__":
    raise SystemExit(main())
