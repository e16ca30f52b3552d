"""Check an installed hyperspy_fewshot from outside: import hyperspy.api and nothing else of it.

Run by a fresh interpreter as ``python -I check_installed.py [folder]``; with a folder, the
package must come from inside it.
"""

import sys
from importlib.metadata import distribution
from importlib.resources import files
from pathlib import Path

import hyperspy.api as hs
import numpy as np

METHODS = ("fewshot_classify", "fewshot_embed")
CORE = ["BaseSignal", "Signal1D", "Signal2D", "ComplexSignal1D", "ComplexSignal2D"]
EXSPY = {
    "EELS": "EELSSpectrum",
    "EDS_TEM": "EDSTEMSpectrum",
    "EDS_SEM": "EDSSEMSpectrum",
}
LABEL_MAPS = {"LabelMap", "LazyLabelMap", "LabelMap1D", "LazyLabelMap1D"}


def check_classes():
    for method in METHODS:
        assert callable(getattr(hs.signals.BaseSignal, method))
        assert callable(getattr(hs.signals.Signal2D, method))
    signals = [getattr(hs.signals, name)(np.zeros((2, 3, 4))) for name in CORE]
    for signal_type, name in EXSPY.items():
        signal = hs.signals.Signal1D(np.zeros((2, 3, 4)))
        signal.set_signal_type(signal_type)
        assert type(signal).__name__ == name, type(signal)
        signals.append(signal)
    for signal in signals:
        for variant in (signal, signal.as_lazy(), signal.T, signal.deepcopy()):
            for method in METHODS:
                assert callable(getattr(variant, method)), type(variant)
                assert "encoder" in getattr(variant, method).__doc__, type(variant)
                assert method in dir(variant), type(variant)


def check_package():
    from hyperspy.extensions import ALL_EXTENSIONS

    import hyperspy_fewshot

    folder = Path(hyperspy_fewshot.__file__).resolve().parent
    if len(sys.argv) > 1:
        assert folder.is_relative_to(Path(sys.argv[1]).resolve()), folder
    assert (files(hyperspy_fewshot) / "hyperspy_extension.yaml").is_file()
    assert LABEL_MAPS <= set(ALL_EXTENSIONS["signals"]), "hyperspy_extension.yaml was not read"
    assert distribution("hyperspy_fewshot").version == hyperspy_fewshot.__version__
    return folder


check_classes()
location = check_package()
assert "torch" not in sys.modules, "torch was imported"
print(f"{' and '.join(METHODS)} are on every signal, from {location}")
