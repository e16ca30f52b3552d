"""The demonstration: ``python -m hyperspy_fewshot demo`` classifies specimens and checks the result."""

import argparse
import json
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

# k-factors of Fe Ka and Pt La on the instrument that measured the FePt spectrum, from the
# documentation of eXSpy's quantification.
_K_FACTORS = [1.450226, 5.075602]
# Chip size of the synthetic images [px]: about three unit cells at 0.02 nm per pixel.
_CHIP_SIZE = 64


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m hyperspy_fewshot", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    demo = commands.add_parser("demo", help="classify synthetic specimens, nothing is downloaded")
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
        help="folder with the STO/Ge image, left out where absent (default: %(default)s)",
    )
    options = parser.parse_args(arguments)
    # What eXSpy does at import says nothing to who runs the demo.
    warnings.filterwarnings("ignore", message="Importing `Lazy", module="hyperspy")
    run_demo(options.out, options.data)
    return 0


def run_demo(out: Path, data_folder: Path) -> None:
    """Classify every specimen, print statistics and accuracy, and write the label maps.

    Parameters
    ----------
    out
        Folder for a PNG and an .hspy file of every label map; made where there is none.
    data_folder
        Folder with the STO/Ge image of Akers et al. (2021) and its support; without it that job is
        left out.
    """
    # They give their notices when they are imported: before the first table, not inside it.
    for module in ("hyperspy.api", "exspy.signals"):
        import_module(module)
    import matplotlib

    matplotlib.use("Agg")
    out.mkdir(parents=True, exist_ok=True)
    begin = time.perf_counter()
    with _job("HAADF of a heterostructure (synthetic, its truth is known)"):
        _classify_image("heterostructure", out)
    with _job("HAADF of a polycrystal with defects (synthetic, its truth is known)"):
        _classify_image("polycrystal", out)
    with _job("EDS of nanoparticles (measured FePt spectrum, Poisson counts, its truth is known)"):
        _classify_eds(out)
    image = data_folder / "files" / "sto_ge_haadf.jpg"
    if image.is_file():
        with _job(
            "HAADF of SrTiO3 on Ge (measured; Akers et al., npj Comput. Mater. 7, 187, 2021)"
        ):
            _classify_sto_ge(image, data_folder / "pychip" / "sto_ge", out)
    else:
        print(f"\nNo {image}: the STO/Ge image is left out.")
    print(
        f"\nAll of it took {time.perf_counter() - begin:.1f} s. Label maps are in {out.resolve()}"
    )


def _classify_image(name: str, out: Path) -> None:
    """Classify the chips of a synthetic image from five examples a class."""
    from . import data

    specimen = getattr(data, name)()
    support = specimen.support(shots=5, margin=_CHIP_SIZE // 2)
    result = _timed(lambda: specimen.signal.fewshot_classify(support=support, chip_size=_CHIP_SIZE))
    print(result.statistics)
    _report(specimen, result.labels_at_pixels().data)
    _write(result, out, name)


def _classify_eds(out: Path) -> None:
    """Classify the spectra of a synthetic map from five examples a class, and quantify the classes."""
    import exspy

    from . import data

    specimen = data.eds_spectrum_image()
    counts = specimen.signal.data.sum(axis=-1).mean()
    print(f"{specimen.signal}, {counts:.0f} counts per spectrum")
    support = specimen.support(shots=5)
    result = _timed(lambda: specimen.signal.fewshot_classify(support=support))
    print(result.statistics)
    _report(specimen, result.labels_at_pixels().data)
    reference = exspy.data.EDS_TEM_FePt_nanoparticles()
    reference.metadata.Sample.xray_lines = ["Fe_Ka", "Pt_La"]
    print("\nSum spectrum of each class, quantified (eXSpy, Cliff-Lorimer):")
    print(f"{'':22}{'Fe Ka':>10}{'Pt La':>10}{'Fe [at.%]':>12}{'Pt [at.%]':>12}")
    _print_composition(result.class_names, result.class_signals("sum"))
    _print_composition(["FePt as measured"], reference)
    _write(result, out, "eds")


def _classify_sto_ge(image: Path, task: Path, out: Path) -> None:
    """Classify the image of the published method from its own fifteen support chips."""
    import hyperspy.api as hs
    import numpy as np

    from . import data

    published = json.loads((task / "published.json").read_text())
    chip_size = published["chip_px"]
    names = {"other": "amorphous", "dots": "SrTiO3", "snowmen": "Ge"}
    support = {
        name: [
            (chip_size * column + chip_size // 2, chip_size * row + chip_size // 2)
            for row, column in published["support_row_col"][published_name]
        ]
        for published_name, name in names.items()
    }
    signal = hs.load(image)
    signal.metadata.General.title = "HAADF of SrTiO3 on Ge"
    result = _timed(lambda: signal.fewshot_classify(support=support, chip_size=chip_size))
    print(result.statistics)
    rows, columns = result.labels.data.shape
    print(f"{rows} x {columns} labels; published: {published['grid'][0]} x {published['grid'][1]}")
    # The outlines drawn by hand stand in for a truth: 0 where nobody can tell, then 1 to 3.
    drawn = np.load(task / "labels.npy").astype(int) - 1
    specimen = data.Specimen(signal, drawn, tuple(names.values()))
    _report(specimen, result.labels_at_pixels().data, "outlines drawn by hand")
    _write(result, out, "sto_ge")


@contextmanager
def _job(title: str):
    """Print the title of a job, and afterwards how long it took in all."""
    print(f"\n{title}\n{'=' * len(title)}")
    begin = time.perf_counter()
    yield
    print(f"This job took {time.perf_counter() - begin:.1f} s.")


def _timed(classify: Callable):
    """Classify, print how long it took, and return the result."""
    begin = time.perf_counter()
    result = classify()
    print(f"Classified in {time.perf_counter() - begin:.1f} s.\n")
    return result


def _report(specimen, labels, truth: str = "truth") -> None:
    """Print how right labels, in array order, are against what `truth` says a specimen knows."""
    known = specimen.truth >= 0
    right = labels[known] == specimen.truth[known]
    rejected = labels[known] < 0
    print(
        f"\nAgainst the {truth}: {100 * right.mean():.2f} % of the {known.sum()} positions where it "
        f"is known are right, {100 * rejected.mean():.2f} % are rejected,\n"
        f"{100 * (~right & ~rejected).mean():.2f} % are wrong. Of what got a class "
        f"{100 * right[~rejected].mean():.2f} % are right.\n"
        f"Balanced accuracy, rejected counted as wrong: {specimen.accuracy(labels):.4f}."
    )


def _print_composition(names: Sequence[str], spectra) -> None:
    """Print net counts of both lines and the composition of spectra, one to a name."""
    import exspy
    import numpy as np

    windows = spectra.estimate_background_windows(line_width=[5.0, 2.0])
    net = spectra.get_lines_intensity(background_windows=windows)
    gross = spectra.get_lines_intensity()
    # Both what is counted in a window and the background taken off it fluctuate.
    error = np.sqrt(sum(2 * g.data - n.data for g, n in zip(gross, net, strict=True))).ravel()
    weights = spectra.quantification(net, "CL", _K_FACTORS, composition_units="weight")
    # The film has neither line: its composition is undefined, and not printed.
    with np.errstate(invalid="ignore"):
        atoms = exspy.material.weight_to_atomic([w.data.ravel() for w in weights], ["Fe", "Pt"])
    counts = [signal.data.ravel() for signal in net]
    rows = zip(names, error, zip(*counts, strict=True), zip(*atoms, strict=True), strict=True)
    for name, one_error, pair, composition in rows:
        # Rounding to zero must not print "-0".
        line = f"{name:22}" + "".join(f"{round(count) + 0:10d}" for count in pair)
        seen = sum(pair) > 3 * one_error
        line += "".join(f"{value:12.1f}" if seen else f"{'none seen':>12}" for value in composition)
        print(line)


def _write(result, out: Path, name: str) -> None:
    """Write the label map as a picture and as a HyperSpy file."""
    from matplotlib import pyplot as plt

    ax = result.plot()
    ax.figure.savefig(out / f"{name}.png", dpi=150, bbox_inches="tight")
    plt.close(ax.figure)
    result.save(out / f"{name}.hspy", overwrite=True)
    print(f"\nWritten: {out / name}.png and .hspy")


if __name__ == "__main__":
    raise SystemExit(main())
