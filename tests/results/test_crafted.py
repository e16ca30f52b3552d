"""Files that were changed by hand: no code in them runs, and each is refused with its name."""

import hashlib
import json
import os
import pickle
import shutil
import warnings
from pathlib import Path

import h5py
import hyperspy.api as hs
import numcodecs
import numpy as np
import pytest
import zarr

from hyperspy_fewshot import EmbeddingMap, FewShotResult
from hyperspy_fewshot.output import limits

SAVED = "metadata/FewShot/_saved"


@pytest.fixture(scope="module")
def originals(scenes, tmp_path_factory):
    """One file of each kind, which tests copy."""
    folder = tmp_path_factory.mktemp("originals")
    for kind in ("image", "spectra", "patterns"):
        for suffix in (".hspy", ".zspy"):
            scenes.made(kind).save(folder / f"{kind}{suffix}")
        scenes.made(kind).embedding_map.save(folder / f"{kind}-map.zspy")
    return folder


@pytest.fixture(scope="module")
def moving_patterns():
    """Result of a scan whose patterns have to be aligned."""
    y, x = np.ogrid[:20, :24]
    data = np.zeros((9, 11, 20, 24), np.float32)
    for i, j in np.ndindex(9, 11):
        beam = np.hypot(y - 9 - 0.3 * (i - 4), x - 11 - 0.3 * (j - 5))
        data[i, j] = np.exp(-(beam**2) / 6) + 0.2 * np.exp(-((beam - 5 - (j > 5)) ** 2))
    result = hs.signals.Signal2D(data).fewshot_classify(
        {"a": [(1, 2), (3, 7)], "b": [(8, 1), (9, 6)]}, encoder="pattern", context=1
    )
    assert result.classifier.recipe.parts[0].encoder.reference is not None
    return result


@pytest.fixture
def copy(originals, tmp_path):
    def copy(name):
        source, path = originals / name, tmp_path / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, path)
        return path

    return copy


@pytest.fixture(params=[".hspy", ".zspy"])
def path(request, copy):
    """File of a result of an image."""
    return copy(f"image{request.param}")


class Opened:
    """The experiment in a file, to be changed in place."""

    def __init__(self, path):
        self.path = path

    def __enter__(self):
        if self.path.suffix == ".hspy":
            self.file = h5py.File(self.path, "r+")
        else:
            self.file = zarr.open_group(str(self.path), mode="r+")
        (self.group,) = self.file["Experiments"].values()
        return self.group

    def __exit__(self, *error):
        if self.path.suffix == ".hspy":
            self.file.close()
        else:
            (self.path / ".zmetadata").unlink(missing_ok=True)


def replaced(group, name, data, **options):
    """Replace an array in a group."""
    if name in group:
        del group[name]
    data = np.asarray(data)
    if isinstance(group, h5py.Group):
        group.create_dataset(name, data=data, **options)
    else:
        group.create_dataset(name, data=data, compressor=numcodecs.Blosc("zstd", 1, 1), **options)


def edit(path, change):
    """Change the state in a file, a dictionary, in place."""
    with Opened(path) as group:
        saved = group[SAVED]
        state = json.loads(saved.attrs["state"])
        (content,) = state["items"].values()
        change(content["items"])
        saved.attrs["state"] = json.dumps(state)
        saved.attrs["sha256"] = hashlib.sha256(saved.attrs["state"].encode()).hexdigest()


def refused(path, match, load=FewShotResult.load):
    with pytest.raises(ValueError, match=match) as caught:
        load(path)
    assert f"{path.name!r}" in str(caught.value)
    return caught.value


def classifier(content):
    return content["classifier"]["state"]


def recipe(content):
    return (content["recipe"] if "recipe" in content else classifier(content)["recipe"])["state"]


def part(content):
    return recipe(content)["parts"][0]["state"]


def grid(content):
    return part(content)["grid"]["state"]


def encoder(content):
    return part(content)["encoder"]["state"]


def expression(marker):
    """An expression of an axis that leaves a file when SymPy evaluates it."""
    return f"x + 0*open({str(marker)!r}, 'w').write('ran')"


class TestNoCodeRuns:
    def test_in_an_axis_of_the_labels(self, path, tmp_path):
        with Opened(path) as group:
            axis = group["axis-0"].attrs
            for key in ("scale", "offset"):
                del axis[key]
            axis["_type"], axis["expression"] = "FunctionalDataAxis", expression(tmp_path / "ran")
        refused(path, "axis of type 'FunctionalDataAxis'; axes with an expression are not read")
        assert not (tmp_path / "ran").exists()

    def test_in_an_axis_of_the_data(self, path, tmp_path):
        def change(content):
            axis = content["axes"][0]["items"]
            axis["_type"], axis["expression"] = "FunctionalDataAxis", expression(tmp_path / "ran")
            del axis["scale"], axis["offset"]

        edit(path, change)
        refused(path, "axis of type 'FunctionalDataAxis'")
        assert not (tmp_path / "ran").exists()

    @pytest.mark.parametrize("node", ["metadata", "original_metadata", "metadata/General"])
    def test_in_a_signal_inside_the_metadata(self, node, path, tmp_path):
        with Opened(path) as group:
            inner = group[node].create_group("_sig_hidden")
            replaced(inner, "data", np.zeros(3))
            for name in ("metadata", "original_metadata"):
                inner.create_group(name)
            axis = inner.create_group("axis-0").attrs
            axis["_type"], axis["size"] = "FunctionalDataAxis", 3
            axis["expression"] = expression(tmp_path / "ran")
        try:
            found = FewShotResult.load(path)
            repr(found.labels.metadata)
            assert "hidden" not in found.labels.original_metadata
        except ValueError as error:
            assert path.name in str(error)
        assert not (tmp_path / "ran").exists()

    def test_of_a_module_that_is_named(self, path, tmp_path, monkeypatch):
        (tmp_path / "malice.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').write('ran')")
        monkeypatch.syspath_prepend(tmp_path)
        with Opened(path) as group:
            group.attrs["package"] = "malice"
        FewShotResult.load(path)
        assert not (tmp_path / "ran").exists()

    @pytest.mark.parametrize("name", ["array_0", "data"])
    def test_of_a_codec(self, name, copy, tmp_path):
        class Malice:
            def __reduce__(self):
                return (open, (str(tmp_path / "ran"), "w"))

        path = copy("image.zspy")
        (folder,) = path.glob(
            f"Experiments/*/{name if name == 'data' else f'{SAVED}/arrays/{name}'}"
        )
        described = json.loads((folder / ".zarray").read_text())
        described.update(dtype="|O", filters=[{"id": "pickle", "protocol": 5}], compressor=None)
        (folder / ".zarray").write_text(json.dumps(described))
        for chunk in folder.rglob("[0-9]*"):
            if chunk.is_file():
                chunk.write_bytes(pickle.dumps(np.array([Malice()], object)))
        refused(path, "holds objects|codec that is not accepted")
        assert not (tmp_path / "ran").exists()

    @pytest.mark.parametrize("attribute", ["learning_results", "_plot", "tmp_parameters"])
    def test_and_no_attribute_is_set(self, attribute, path):
        with Opened(path) as group:
            group["attributes"].attrs[attribute] = "set"
        assert getattr(FewShotResult.load(path).labels, attribute) != "set"


class TestWhatIsBuilt:
    @pytest.mark.parametrize(
        ("change", "match"),
        [
            (
                lambda c: part(c)["encoder"].update({"class": "FooEncoder"}),
                "an encoder 'FooEncoder'",
            ),
            (lambda c: part(c)["encoder"].update({"class": "Popen"}), "an object 'Popen'"),
            (lambda c: classifier(c).update(temperature=0.0), "temperature is 0"),
            (lambda c: classifier(c).update(temperature=-1.0), "temperature is -1"),
            (lambda c: classifier(c).update(temperature=float("nan")), "temperature is nan"),
            (lambda c: classifier(c).update(temperature=float("inf")), "temperature is inf"),
            (lambda c: classifier(c).update(temperature=True), "temperature of FewShotClassifier"),
            (lambda c: classifier(c).update(class_names=["a", "a"]), "class names are"),
            (lambda c: classifier(c).update(class_names=["a"]), "class names are"),
            (lambda c: classifier(c).update(class_names=["a", 1]), "class_names of FewShotClass"),
            (lambda c: classifier(c).update(class_names=["a", "b", "c"]), "prototypes"),
            (lambda c: classifier(c).update(class_names=["a", "b"]), "the support set is another"),
            (lambda c: classifier(c).update(recipe=None), "no recipe"),
            (lambda c: classifier(c).update(reject=7.0), "reject=7.0 must be"),
            (lambda c: classifier(c).update(bias=float("nan")), "the bias is nan"),
            (lambda c: classifier(c).update(leave_one_out=2), "leave_one_out is 2"),
            (
                lambda c: classifier(c).update(centre=None),
                "centre of FewShotClassifier is NoneType",
            ),
            (lambda c: classifier(c).pop("bias"), "FewShotClassifier differs in bias"),
            (lambda c: classifier(c).update(evil=1), "FewShotClassifier differs in evil"),
            (lambda c: recipe(c).update(parts=[]), "no recipe"),
            (lambda c: recipe(c).update(signal_axis=["nm"]), "signal_axis is"),
            (lambda c: recipe(c).update(levels=[1.0, 2.0]), "the grey levels are"),
            (lambda c: recipe(c).update(levels=[3.0, 2.0, 1.0]), "the grey levels are"),
            (lambda c: recipe(c).update(levels=["a"]), "levels of Recipe is"),
            (lambda c: recipe(c).update(scaling=[0.0, 0.0, 0.0]), "the grey levels are scaled by"),
            (lambda c: recipe(c).update(scaling=[0.0, 1.0]), "scaling of Recipe is"),
            (lambda c: part(c).update(size=7), "array|centre"),
            (lambda c: part(c).update(scale=float("inf")), "the scale of embeddings is inf"),
            (lambda c: part(c).update(groups=[1]), "feature groups are"),
            (lambda c: grid(c).update(signal_shape=[10**9, 10**9]), "the shape of the data is"),
            (lambda c: grid(c).update(signal_shape=[41]), "signal_shape of ChipGrid is tuple"),
            (lambda c: grid(c).update(signal_shape=[0, 53]), "the shape of the data is"),
            (lambda c: grid(c).update(signal_shape=[41, 530]), "axes have the shapes"),
            (lambda c: grid(c).update(nav_shape=[10**9]), "the shape of the data is"),
            (lambda c: grid(c).update(stride=0), "sizes are"),
            (lambda c: grid(c).update(stride=1), "axes|label map"),
            (lambda c: grid(c).update(chip_size=-3), "sizes are"),
            (lambda c: grid(c).update(chip_size=10**12), "sizes are"),
            (lambda c: grid(c).update(margin=10**12), "the margin is not that"),
            (lambda c: encoder(c).update(components=None), "components of the encoder is no array"),
            (lambda c: encoder(c).update(scale=0.0), "it normalises by"),
            (lambda c: encoder(c).update(kinds=["spectrum"]), "PCAEncoder is not for image"),
            (lambda c: encoder(c).update(batch_size=0), "batch_size is 0"),
            (lambda c: c.update(transferred=3), "the support set is another one"),
            (lambda c: c.update(axes=[]), "axes have the shapes"),
            (lambda c: c.update(axes=None), "it holds no axes"),
            (lambda c: c.pop("support"), "it holds"),
            (lambda c: c.update(support="[]"), "cannot be read: The support set is damaged"),
            (lambda c: c.update(support="{"), "cannot be read"),
            (lambda c: c.update(confidence=c["probabilities"]), "confidence is float32"),
            (lambda c: c.update(probabilities=0.5), "probabilities is no array"),
        ],
    )
    def test_of_a_result(self, change, match, copy):
        path = copy("image.hspy")
        edit(path, change)
        refused(path, match)

    @pytest.mark.parametrize(
        ("kind", "change", "match"),
        [
            ("spectra", lambda c: grid(c).update(context=10**9 + 1), "context is 1000000001"),
            ("spectra", lambda c: grid(c).update(context=1003), "context is 1003"),
            ("spectra", lambda c: grid(c).update(context=2), "context is 2"),
            ("patterns", lambda c: grid(c).update(nav_shape=[3, 14]), "axes have the shapes"),
            ("spectra", lambda c: grid(c).update(nav_shape=[3, 14]), "lie on different grids"),
            ("spectra", lambda c: grid(c).update(signal_shape=[31]), "axes|matrices|mat1|shape"),
            ("patterns", lambda c: grid(c).update(signal_shape=[30]), "signal_axis|axes|not for"),
            ("patterns", lambda c: grid(c).update(signal_shape=[6, 6]), "axes|mat1|shape|length"),
        ],
    )
    def test_of_a_scan(self, kind, change, match, copy):
        path = copy(f"{kind}.hspy")
        edit(path, change)
        refused(path, match)

    @pytest.mark.parametrize(
        ("change", "match"),
        [
            ({"components": None}, "components of the encoder is no array"),
            ({"polar_components": None}, "polar_components of the encoder is no array"),
            ({"fixed_components": None}, "a group is missing"),
            ({"reference": None}, "a group is missing"),
            ({"middle": [1.0]}, "spread, moment_scale and middle of the encoder"),
            ({"middle": [1.0, float("inf")]}, "spread, moment_scale and middle of the encoder"),
            ({"spread": 0.0}, "spread, moment_scale and middle of the encoder"),
            ({"moment_scale": float("nan")}, "spread, moment_scale and middle of the encoder"),
            ({"kinds": ["image"]}, "PatternEncoder is not for pattern"),
            ({"scale": 0.0}, "it normalises by"),
        ],
    )
    def test_of_the_encoder_of_patterns(self, change, match, moving_patterns, tmp_path):
        path = tmp_path / "patterns.hspy"
        moving_patterns.save(path)
        assert FewShotResult.load(path).classifier.recipe.sha256
        edit(path, lambda content: encoder(content).update(change))
        refused(path, match)

    @pytest.mark.parametrize(
        ("axis", "match"),
        [
            ({"size": 10**9}, "points|shapes"),
            ({"size": -1}, "size of an axis is -1"),
            ({"size": "41"}, "size of an axis is '41'"),
            ({"scale": float("nan")}, "scale of an axis is nan"),
            ({"scale": 0.0}, "scale of an axis is 0.0"),
            ({"offset": 1e200}, "offset of an axis is 1e\\+200"),
            ({"scale": "1"}, "scale of an axis is '1'"),
            ({"offset": float("inf")}, "offset of an axis is inf"),
            ({"units": 3}, "units of an axis is 3"),
            ({"navigate": "yes"}, "navigate of an axis is 'yes'"),
            ({"navigate": True}, "axes have the shapes"),
            ({"_type": "DataAxis"}, "an axis has no values"),
            ({"_type": "Popen"}, "axis of type 'Popen'"),
        ],
    )
    def test_of_an_axis_of_the_data(self, axis, match, copy):
        path = copy("image.hspy")
        edit(path, lambda content: content["axes"][0]["items"].update(axis))
        refused(path, match)

    @pytest.mark.parametrize(
        "roi",
        [
            {"roi": "BaseROI", "parameters": {}},
            {"roi": "get_central_half_limits_of_axis", "parameters": {"ax": 1}},
            {"roi": "__import__", "parameters": {"name": "os"}},
            {"roi": "PolygonROI", "parameters": {"vertices": "os"}},
            {"roi": "Point2DROI", "parameters": {"x": 1.0}},
            {"roi": "Point2DROI", "parameters": {"x": 1.0, "y": "2"}},
            {"roi": "Point2DROI", "parameters": {"x": 1.0, "y": float("nan")}},
            {"roi": "Point2DROI", "parameters": {"x": 1.0, "y": 1.0, "z": 1}},
            {"roi": ["Point2DROI"], "parameters": {}},
            {"runs": [[0, 10**18]], "shape": [10**9, 10**9]},
            {"runs": [[0, 2**31]], "shape": [2**20, 2**20]},
            {"runs": [[5, 3]], "shape": [9, 9]},
            {"runs": [[0, 3], [2, 5]], "shape": [9, 9]},
            {"runs": [[-4, 3]], "shape": [9, 9]},
            {"runs": [[0, 81]], "shape": [9, 9]},
            {"runs": [], "shape": [9, 9]},
            {"runs": [[0, 1]], "shape": ["9"]},
            {"array": "array_0", "shape": [1], "dtype": "float32"},
            {"array": "missing", "shape": [1], "dtype": "float32"},
            {"shape": 3},
            {},
            [],
            ["a", "b"],
            [[1, 2], [3, 4]],
            [float("inf"), 1],
            None,
            "a",
            True,
        ],
    )
    def test_of_a_support_example(self, roi, copy):
        path = copy("image.hspy")

        def change(content):
            support = json.loads(content["support"])
            support["dark"].append(roi)
            content["support"] = json.dumps(support)

        edit(path, change)
        refused(path, "cannot be read")

    @pytest.mark.parametrize(
        ("label", "match"), [(2, "from .* to 2"), (-3, "labels go from -3"), (30000, "to 30000")]
    )
    def test_of_labels(self, label, match, path):
        with Opened(path) as group:
            data = group["data"][:]
            data[2, 2] = label
            replaced(group, "data", data)
        refused(path, match)

    @pytest.mark.parametrize(
        "data", [np.zeros((14, 18)), np.zeros((18, 14), int), np.zeros(3, int)]
    )
    def test_of_other_labels(self, data, path):
        with Opened(path) as group:
            replaced(group, "data", data)
        refused(path, "points|label map|axes")

    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_of_numbers_that_are_not_finite(self, value, copy):
        def names(content):
            state = classifier(content)
            listed = ("centre", "prototypes", "landmarks", "coefficients", "thresholds")
            yield from (state[name]["array"] for name in listed)
            yield encoder(content)["components"]["array"]

        original = copy("image.hspy")
        found = []
        edit(original, lambda content: found.extend(names(content)))
        for name in found:
            path = Path(shutil.copy(original, original.with_stem(name)))
            with Opened(path) as group:
                group[f"{SAVED}/arrays/{name}"][(0,) * group[f"{SAVED}/arrays/{name}"].ndim] = value
            refused(path, "is not finite|is not a number")

    def test_of_arrays_of_another_shape(self, copy):
        """Any array that is cut is noticed."""
        original = copy("patterns.hspy")
        with h5py.File(original) as file:
            (group,) = file["Experiments"].values()
            names = list(group[f"{SAVED}/arrays"])
        for name in names:
            path = Path(shutil.copy(original, original.with_stem(name)))
            with Opened(path) as group:
                array = group[f"{SAVED}/arrays/{name}"][...]
                if array.shape == (0,):
                    continue
                replaced(group[f"{SAVED}/arrays"], name, array[..., :-1])
            refused(path, "is damaged|cannot be read")

    @pytest.mark.parametrize(
        ("change", "match"),
        [
            (lambda c: c.update(known={"items": {"a": [1]}}), "support example"),
            (lambda c: c.update(known=3), "no support examples"),
            (lambda c: c.update(sample=c["guide"]), "the sample is"),
            (lambda c: c.update(guide=None), "the guide image is no array"),
            (lambda c: c.update(guide=c["sample"]), "the guide image is"),
            (lambda c: c.update(mask=c["guide"]), "the mask is"),
            (lambda c: c.update(fingerprint=3), "no fingerprint"),
            (lambda c: c.update(recipe=None), "no recipe"),
            (lambda c: grid(c).update(signal_shape=[10**9, 10**9]), "the shape of the data is"),
        ],
    )
    @pytest.mark.parametrize("lazy", [False, True])
    def test_of_an_embedding_map(self, change, match, lazy, copy):
        path = copy("image-map.zspy")
        edit(path, change)
        refused(path, match, lambda path: EmbeddingMap.load(path, lazy=lazy))

    def test_of_embeddings_of_another_length(self, copy):
        path = copy("spectra-map.zspy")
        with Opened(path) as group:
            data = group["data"][..., :-1]
            replaced(group, "data", data)
            group[f"axis-{data.ndim - 1}"].attrs["size"] = data.shape[-1]
        refused(path, "the embeddings are", EmbeddingMap.load)
        refused(path, "the embeddings are", lambda path: EmbeddingMap.load(path, lazy=True))


class TestSizes:
    @pytest.mark.parametrize("name", ["data", f"{SAVED}/arrays/array_0", "original_metadata/much"])
    def test_of_an_array_that_is_only_declared(self, name, path):
        with Opened(path) as group:
            parent, _, name = name.rpartition("/")
            group = group[parent] if parent else group
            if name in group:
                del group[name]
            options = {"chunks": (1000, 1000), "dtype": "f8", "shape": (10**6, 10**6)}
            group.create_dataset(name, **options)
        refused(path, "declares more data, in '.*', than a file of its size can hold")

    def test_of_an_array_that_is_compressed(self, path):
        with Opened(path) as group:
            options = {"chunks": (2**20,), "dtype": "u1", "shape": (2**31,)}
            more = {"compression": "gzip", "compression_opts": 9}
            more = more if path.suffix == ".hspy" else {"write_empty_chunks": True}
            much = group["original_metadata"].create_dataset("much", **options, **more)
            if path.suffix == ".zspy":
                # All chunks are one file.
                much[: 2**20] = 1
                (folder,) = path.glob("Experiments/*/original_metadata/much")
                for i in range(1, 2**11):
                    os.link(folder / "0", folder / str(i))
            else:
                much[: 2**20] = 1
        refused(path, "declares more data|lacks a part")

    def test_of_strings(self, copy, monkeypatch):
        path = copy("image.hspy")
        with Opened(path) as group:
            much = group["original_metadata"].create_dataset("_list_a", (9,), h5py.string_dtype())
            much[:] = "x" * 2**10
        assert len(FewShotResult.load(path).labels.original_metadata.a[0]) == 2**10
        monkeypatch.setattr(limits, "_ALWAYS", 0)
        monkeypatch.setattr(limits, "_PER_BYTE", 0.1)
        refused(path, "declares more data")

    @pytest.mark.parametrize("suffix", [".hspy", ".zspy"])
    def test_of_what_compresses_well(self, suffix, scenes, tmp_path, monkeypatch):
        """A large map of which nearly all is masked."""
        monkeypatch.setattr(limits, "_ALWAYS", 0)
        signal, support = scenes.spectra((300, 400)), {"a": [(1, 1)], "b": [(50, 5)]}
        mask = np.ones((400, 300), bool)
        mask[:60, :10] = False
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = signal.fewshot_classify(support, encoder="pca", context=1, navigation_mask=mask)
        path = tmp_path / f"large{suffix}"
        made.save(path)
        loaded = FewShotResult.load(path)
        np.testing.assert_array_equal(loaded.labels.data, made.labels.data)

    def test_of_a_chunk_that_is_larger_than_declared(self, copy):
        path = copy("image.zspy")
        (folder,) = path.glob(f"Experiments/*/{SAVED}/arrays/array_0")
        bomb = numcodecs.Blosc("zstd", 9).encode(np.zeros(2**24, np.uint8))
        for chunk in folder.rglob("[0-9]*"):
            if chunk.is_file():
                chunk.write_bytes(bomb)
        refused(path, "holds 16777216 bytes")


class TestDamage:
    def test_cut_off_or_garbage(self, path):
        content = path.read_bytes() if path.is_file() else b""
        if path.is_dir():
            shutil.rmtree(path)
        for part in (content[: len(content) // 2], b"", b"garbage" * 100):
            path.write_bytes(part)
            error = refused(path, "cannot be read|holds no|no folder")
            assert error.__cause__ is not None

    def test_bytes_of_a_file(self, copy):
        original = copy("image.hspy").read_bytes()
        path = copy("spectra.hspy")
        rng = np.random.default_rng(0)
        for _ in range(40):
            content = bytearray(original)
            start = int(rng.integers(len(content)))
            content[start : start + 16] = rng.bytes(16)
            path.write_bytes(content)
            try:
                FewShotResult.load(path)
            except ValueError as error:
                assert path.name in str(error)

    def test_any_file_of_a_folder(self, copy):
        path, rng = copy("image.zspy"), np.random.default_rng(0)
        files = sorted(file for file in path.rglob("*") if file.is_file())
        for file in [files[i] for i in rng.permutation(len(files))[:15]]:
            content = file.read_bytes()
            for damaged in (None, b"", content[: len(content) // 2], bytes(len(content))):
                if damaged is None:
                    file.unlink()
                else:
                    file.write_bytes(damaged)
                try:
                    FewShotResult.load(path)
                except ValueError as error:
                    assert path.name in str(error)
                else:
                    assert file.name != "0" and not file.name.isdigit()
                file.write_bytes(content)

    def test_the_state_has_a_digest(self, path):
        with Opened(path) as group:
            state = group[SAVED].attrs["state"]
            group[SAVED].attrs["state"] = state.replace('"temperature": 0.', '"temperature": 0.1')
        refused(path, "the digest of its state is another one")
        with Opened(path) as group:
            # As in files that were written before there was one.
            group[SAVED].attrs["state"] = state
            del group[SAVED].attrs["sha256"]
        FewShotResult.load(path)

    @pytest.mark.parametrize("name", ["image.hspy", "image.zspy", "image-map.zspy"])
    def test_arrays_have_checksums(self, name, copy):
        """Any byte of them is covered: none of what is loaded differs."""
        path, rng = copy(name), np.random.default_rng(0)
        is_map = "map" in name
        load = EmbeddingMap.load if is_map else FewShotResult.load
        file = path
        if path.is_dir():
            (file,) = path.glob("Experiments/*/data/0/0" + "/0" * is_map)
        content = file.read_bytes()
        at = content.index(b"\x78") if path.is_file() else 16
        for position in rng.integers(at, len(content), 12):
            damaged = bytearray(content)
            damaged[position] ^= 4
            file.write_bytes(damaged)
            try:
                found = load(path)
            except ValueError as error:
                assert path.name in str(error)
            else:
                file.write_bytes(content)
                expected = load(path)
                names = ["embeddings"] if is_map else ["labels", "probabilities", "confidence"]
                for name in names:
                    one, other = (getattr(each, name).data for each in (found, expected))
                    np.testing.assert_array_equal(one, other)

    def test_a_chunk_that_is_read_later(self, copy, scenes):
        path = copy("image-map.zspy")
        lazy = EmbeddingMap.load(path, lazy=True)
        (chunk,) = path.glob("Experiments/*/data/0/0/0")
        chunk.write_bytes(chunk.read_bytes()[:-4] + bytes(4))
        with pytest.raises(RuntimeError) as caught:
            lazy.compute()
        assert f"Chunk (0, 0, 0) of '{path}' cannot be read" in caught.value.__notes__[0]

    @pytest.mark.parametrize("kind", ["link", "pipe", "loop"])
    def test_what_is_no_file_in_a_folder(self, kind, copy):
        path = copy("image.zspy")
        (chunk,) = (
            f for f in path.glob(f"Experiments/*/{SAVED}/arrays/array_0/**/0") if f.is_file()
        )
        chunk.unlink()
        if kind == "link":
            chunk.symlink_to("/dev/zero")
        elif kind == "pipe":
            os.mkfifo(chunk)
        else:
            chunk.symlink_to(path)
        refused(path, "which is no file")

    @pytest.mark.parametrize("kind", ["soft", "external", "hard", "loop", "virtual", "raw"])
    def test_links_in_a_file(self, kind, copy, tmp_path):
        path = copy("image.hspy")
        other = copy("spectra.hspy")
        with Opened(path) as group:
            node = group["original_metadata"]
            if kind == "soft":
                node["a"] = h5py.SoftLink("/Experiments")
            elif kind == "external":
                node["a"] = h5py.ExternalLink(str(other), "/")
            elif kind == "hard":
                node["a"] = group["data"]
            elif kind == "loop":
                node["a"] = group
            elif kind == "virtual":
                layout = h5py.VirtualLayout((4,), "i4")
                layout[:] = h5py.VirtualSource(str(other), "a", (4,))
                node.create_virtual_dataset("a", layout)
            else:
                node.create_dataset("a", (4,), "u1", external=[(str(other), 0, 4)])
        refused(path, "links to 'a'|in two places|from another file")

    @pytest.mark.parametrize(
        "name", ["as_dictionary", "__class__", "_lazy_attributes", "_sig_", "a"]
    )
    def test_names_in_the_metadata(self, name, path):
        with Opened(path) as group:
            for node in ("metadata/General", "metadata/FewShot", "original_metadata"):
                group[node].attrs[name] = "text"
        loaded = FewShotResult.load(path)
        for found in (loaded, loaded.labels_at_pixels()):
            repr(found)
        loaded.plot()
        assert loaded.labels.class_names == loaded.class_names

    @pytest.mark.parametrize("value", [3, "text", [1, 2]])
    def test_class_names_in_the_metadata(self, value, copy):
        path = copy("image.hspy")
        with Opened(path) as group:
            del group["metadata/FewShot/_list_class_names"]
            group["metadata/FewShot"].attrs["class_names"] = value
        assert FewShotResult.load(path).labels.class_names == ("dark", "bright")

    def test_what_a_file_browser_leaves(self, copy):
        path = copy("image.zspy")
        (path / ".DS_Store").write_bytes(b"")
        (path / "notes.txt").write_text("mine")
        FewShotResult.load(path)

    @pytest.mark.parametrize("state", ["[" * 10**5, '{"items": 1}', "1" * 10**4, "", "null", "[]"])
    def test_of_the_state(self, state, path):
        with Opened(path) as group:
            group[SAVED].attrs["state"] = state
            group[SAVED].attrs["sha256"] = hashlib.sha256(state.encode()).hexdigest()
        refused(path, "cannot be read|holds no")
