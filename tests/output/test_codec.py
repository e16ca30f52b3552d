"""What a file may hold, and nothing else, is built again from it."""

import re
from dataclasses import dataclass

import numpy as np
import pytest

from hyperspy_fewshot import Encoder, get_encoder
from hyperspy_fewshot.encoders.pca import PCAEncoder
from hyperspy_fewshot.output.codec import decode, encode


def round_trip(value):
    arrays = {}
    return decode(encode(value, arrays), arrays)


class TestRoundTrip:
    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            (None, None),
            (True, True),
            (3, 3),
            (np.float32(0.5), 0.5),
            ("Größe", "Größe"),
            ([1, (2.5, "a")], (1, (2.5, "a"))),
            ({"a/b": (1, None), "": {"c": False}}, {"a/b": (1, None), "": {"c": False}}),
        ],
    )
    def test_of_plain_values(self, value, expected):
        assert round_trip(value) == expected

    @pytest.mark.parametrize("dtype", ["?", "u1", ">i4", "f4", "f8"])
    def test_of_arrays(self, dtype):
        array = (np.arange(6).reshape(2, 3) % 2).astype(dtype)
        found = round_trip({"array": array})["array"]
        np.testing.assert_array_equal(found, array)
        assert found.dtype == array.dtype

    @pytest.mark.parametrize("kind", ["image", "stack", "patterns", "spectra", "line scan"])
    def test_of_a_classifier_with_its_recipe(self, kind, scenes):
        classifier = scenes.made(kind).classifier
        found = round_trip(classifier)
        assert found.recipe.sha256 == classifier.recipe.sha256
        assert found.recipe.grid.settings() == classifier.recipe.grid.settings()
        embeddings = scenes.made(kind).embedding_map.embeddings.data
        np.testing.assert_array_equal(found.predict(embeddings), classifier.predict(embeddings))

    @pytest.mark.parametrize("name", ["stem", "pattern", "spectrum", "fourier", "pca"])
    def test_of_bundled_encoders(self, name):
        assert round_trip(get_encoder(name)) == get_encoder(name)


class TestRefused:
    @pytest.mark.parametrize("value", [object(), {1, 2}, 1j, np.float32])
    def test_values_of_other_types(self, value):
        with pytest.raises(TypeError, match="cannot be saved"):
            encode(value, {})

    @pytest.mark.parametrize("name", ["Popen", "FooEncoder", "os.system", None, ["PCAEncoder"]])
    def test_classes_that_are_not_listed(self, name):
        with pytest.raises(ValueError, match=f"{re.escape(repr(name))} that this version does not"):
            decode({"class": name, "state": {}}, {})

    def test_arrays_that_are_missing(self):
        with pytest.raises(ValueError, match="array_0"):
            decode({"array": "array_0", "dtype": "float32"}, {})

    def test_arrays_of_another_type_than_is_declared(self):
        # Each reference would be converted, and so copied.
        with pytest.raises(ValueError, match="'array_0' is float64, 'float32' is declared"):
            decode({"array": "array_0", "dtype": "float32"}, {"array_0": np.zeros(3)})

    @pytest.mark.parametrize(
        "plain", [{}, {"items": 1}, {"class": "Part"}, {"a": 1}, {"state": {}}]
    )
    def test_other_dictionaries(self, plain):
        with pytest.raises(ValueError, match="is damaged"):
            decode(plain, {})

    @pytest.mark.parametrize(
        ("change", "match"),
        [
            ({"more": 1}, "PCAEncoder differs in more"),
            ({"scale": ...}, "PCAEncoder differs in scale"),
            ({"scale": "1"}, "scale of PCAEncoder is str"),
            ({"name": None}, "name of PCAEncoder is NoneType"),
            ({"batch_size": True}, "batch_size of PCAEncoder is bool"),
            ({"batch_size": 2.0}, "batch_size of PCAEncoder is float"),
            ({"kinds": [1]}, "kinds of PCAEncoder is tuple"),
            ({"components": [1, 2]}, "components of PCAEncoder is tuple"),
        ],
    )
    def test_fields_that_are_missing_unknown_or_of_another_type(self, change, match):
        plain = encode(get_encoder("pca"), {})
        state = {**plain["state"], **change}
        plain["state"] = {key: value for key, value in state.items() if value is not ...}
        with pytest.raises(ValueError, match=match):
            decode(plain, {})


class TestForeignEncoders:
    def test_are_left_out(self):
        assert round_trip(get_encoder(lambda items: items)) is None

    def test_a_class_with_the_name_of_a_bundled_one_is_not_taken_for_it(self):
        @dataclass(frozen=True, eq=False, repr=False)
        class PCAEncoder(Encoder):
            name: str = "pca"

        assert round_trip(PCAEncoder()) is None

    def test_a_subclass_of_a_bundled_one_is_not_taken_for_it(self):
        @dataclass(frozen=True, eq=False, repr=False)
        class Mine(PCAEncoder):
            name: str = "pca"

        assert round_trip(Mine()) is None

    def test_of_a_result_that_was_saved(self, scenes, tmp_path):
        @dataclass(frozen=True, eq=False, repr=False)
        class PCAEncoder(Encoder):
            name: str = "pca"

            def encode(self, batch, device="cpu"):
                return batch.reshape(len(batch), -1)[:, ::7]

        signal = scenes.spectra()
        result = signal.fewshot_classify(scenes.scan_support, encoder=PCAEncoder(), context=1)
        result.save(tmp_path / "result.hspy")
        loaded = type(result).load(tmp_path / "result.hspy")
        np.testing.assert_array_equal(loaded.labels.data, result.labels.data)
        with pytest.raises(ValueError, match="encoder is missing"):
            signal.fewshot_classify(loaded)
