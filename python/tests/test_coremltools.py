"""The tests that people write for ``MLModel.predict``, on models that coremltools makes, against NumPy.

    python python/tests/test_coremltools.py

Needs coremltools and Pillow. ``ANEMONE_TESTS_ON_CORE_ML=1`` runs the same on a Mac by Core ML itself.
"""

import os
import shutil
import sys
import tempfile
import unittest

import coremltools as ct
import numpy as np
from coremltools.converters.mil import Builder as mb
from coremltools.converters.mil.mil import types
from PIL import Image

import anemone

ON_CORE_ML = os.environ.get("ANEMONE_TESTS_ON_CORE_ML") == "1"
MLModel = ct.models.MLModel if ON_CORE_ML else anemone.MLModel
RANDOM = np.random.default_rng(18)


def normal(*shape):
    return RANDOM.normal(size=shape).astype(np.float32)


def convert(program, target=ct.target.iOS16, precision=ct.precision.FLOAT16, **arguments):
    return ct.convert(
        program,
        convert_to="mlprogram",
        minimum_deployment_target=target,
        compute_precision=precision,
        skip_model_load=True,
        **arguments,
    )


class Case(unittest.TestCase):
    def opened(self, model, **arguments):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        path = os.path.join(directory.name, "model.mlpackage")
        model.save(path)
        return MLModel(path, **arguments)


def image_output(model, name, width, height, color_space):
    """The model with an output that is an image."""
    spec = model.get_spec()
    (output,) = [output for output in spec.description.output if output.name == name]
    image = output.type.imageType
    image.width, image.height = width, height
    image.colorSpace = getattr(ct.proto.FeatureTypes_pb2.ImageFeatureType, color_space)
    return ct.models.MLModel(spec, weights_dir=model.weights_dir, skip_model_load=True)


class Arrays(Case):
    def test_fp32(self):
        weight, bias = normal(7, 40), normal(7)

        @mb.program(input_specs=[mb.TensorSpec(shape=(3, 40))], opset_version=ct.target.iOS16)
        def program(x):
            return mb.tanh(x=mb.linear(x=x, weight=weight, bias=bias), name="y")

        x = normal(3, 40)
        y = self.opened(convert(program, precision=ct.precision.FLOAT32)).predict({"x": x})["y"]
        self.assertEqual(y.dtype, np.float32)
        expected = np.tanh(np.float64(x) @ np.float64(weight).T + bias)
        np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)

    def test_fp16_model_with_fp32_input(self):
        weight = normal(7, 40)

        @mb.program(input_specs=[mb.TensorSpec(shape=(3, 40), dtype=types.fp16)], opset_version=ct.target.iOS16)
        def program(x):
            return mb.linear(x=x, weight=np.float16(weight), name="y")

        model = self.opened(convert(program, outputs=[ct.TensorType(dtype=np.float16)]))
        x = normal(3, 40)
        y = model.predict({"x": x})["y"]
        self.assertEqual(y.dtype, np.float32 if ON_CORE_ML else np.float16)
        expected = np.float64(np.float16(x)) @ np.float64(np.float16(weight)).T
        np.testing.assert_allclose(y, expected, rtol=2e-3, atol=2e-2)

    def test_integers(self):
        table = normal(11, 5)

        @mb.program(input_specs=[mb.TensorSpec(shape=(4,), dtype=types.int32)], opset_version=ct.target.iOS16)
        def program(ids):
            return mb.gather(x=table, indices=ids, axis=0, name="rows")

        model = self.opened(convert(program, precision=ct.precision.FLOAT32))
        for ids in [[1, 10, 0, 3], np.int64([1, 10, 0, 3]), np.float32([1, 10, 0, 3])]:
            np.testing.assert_array_equal(model.predict({"ids": np.array(ids)})["rows"], table[[1, 10, 0, 3]])
        if not ON_CORE_ML:
            with self.assertRaisesRegex(ValueError, "0.5 at index 2"):
                model.predict({"ids": [1, 0, 0.5, 3]})

    def test_flexible_shapes(self):
        weight = normal(4, 6)
        symbol = ct.converters.mil.mil.get_new_symbol()

        @mb.program(input_specs=[mb.TensorSpec(shape=(symbol, 6))], opset_version=ct.target.iOS16)
        def program(x):
            return mb.linear(x=x, weight=weight, name="y")

        for shape, taken, refused in [
            (ct.Shape((ct.RangeDim(2, 16, default=3), 6)), [2, 3, 16], [1, 17]),
            (ct.EnumeratedShapes([(1, 6), (4, 6)], default=(4, 6)), [1, 4], [2]),
        ]:
            model = self.opened(
                convert(program, precision=ct.precision.FLOAT32, inputs=[ct.TensorType(name="x", shape=shape)])
            )
            for rows in taken:
                x = normal(rows, 6)
                expected = np.float64(x) @ np.float64(weight).T
                np.testing.assert_allclose(model.predict({"x": x})["y"], expected, rtol=1e-5, atol=1e-5)
            for rows in refused:
                with self.assertRaises(RuntimeError):
                    model.predict({"x": normal(rows, 6)})

    def optional(self):
        @mb.program(
            input_specs=[mb.TensorSpec(shape=(2, 3)), mb.TensorSpec(shape=(2, 3))], opset_version=ct.target.iOS16
        )
        def program(x, bias):
            return mb.add(x=x, y=bias, name="y")

        bias = ct.TensorType(name="bias", shape=(2, 3), default_value=np.full((2, 3), 1.5, np.float32))
        inputs = [ct.TensorType(name="x", shape=(2, 3)), bias]
        return self.opened(convert(program, precision=ct.precision.FLOAT32, inputs=inputs))

    def test_optional_input_with_default(self):
        model, x = self.optional(), normal(2, 3)
        np.testing.assert_array_equal(model.predict({"x": x})["y"], x + np.float32(1.5))
        np.testing.assert_array_equal(model.predict({"x": x, "bias": -x})["y"], 0 * x)

    def test_missing_input(self):
        with self.assertRaises(RuntimeError):
            self.optional().predict({"bias": normal(2, 3)})

    def test_unknown_input(self):
        with self.assertRaises(KeyError):
            self.optional().predict({"x": normal(2, 3), "y": normal(2, 3)})

    def test_wrong_shape(self):
        for shape in [(3, 2), (6,), (1, 2, 3)]:
            with self.assertRaises(RuntimeError):
                self.optional().predict({"x": normal(*shape)})

    def test_wrong_type(self):
        with self.assertRaises((TypeError, RuntimeError)):
            self.optional().predict({"x": np.full((2, 3), "word")})
        with self.assertRaises(TypeError):
            self.optional().predict([normal(2, 3)])


class Images(Case):
    def pictures(self, color_layout, channels, mode, **scaling):
        @mb.program(input_specs=[mb.TensorSpec(shape=(1, channels, 10, 12))], opset_version=ct.target.iOS16)
        def program(picture):
            return mb.identity(x=picture, name="y")

        picture = ct.ImageType(name="picture", shape=(1, channels, 10, 12), color_layout=color_layout, **scaling)
        model = self.opened(convert(program, precision=ct.precision.FLOAT32, inputs=[picture]))
        pixels = RANDOM.integers(256, size=(10, 12, channels), dtype=np.uint8)
        image = Image.fromarray(pixels.squeeze(-1) if channels == 1 else pixels)
        self.assertEqual(image.mode, mode)
        return model, image, pixels.transpose(2, 0, 1)[None].astype(np.float64)

    def test_rgb(self):
        model, image, pixels = self.pictures(ct.colorlayout.RGB, 3, "RGB", scale=1 / 127.5, bias=[-1, -1.1, -1.2])
        y = model.predict({"picture": image})["y"]
        expected = pixels / 127.5 + np.array([-1, -1.1, -1.2]).reshape(1, 3, 1, 1)
        np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)

    def test_bgr(self):
        model, image, pixels = self.pictures(ct.colorlayout.BGR, 3, "RGB")
        np.testing.assert_array_equal(model.predict({"picture": image})["y"], pixels[:, ::-1])

    def test_grey(self):
        model, image, pixels = self.pictures(ct.colorlayout.GRAYSCALE, 1, "L", scale=1 / 255)
        np.testing.assert_allclose(model.predict({"picture": image})["y"], pixels / 255, rtol=1e-5)

    def test_grey_fp16(self):
        @mb.program(input_specs=[mb.TensorSpec(shape=(1, 1, 10, 12), dtype=types.fp16)], opset_version=ct.target.iOS16)
        def program(picture):
            return mb.mul(x=picture, y=np.float16(2), name="y")

        grey = ct.colorlayout.GRAYSCALE_FLOAT16
        picture = ct.ImageType(name="picture", shape=(1, 1, 10, 12), color_layout=grey)
        converted = convert(program, inputs=[picture], outputs=[ct.TensorType(dtype=np.float16)])
        model = self.opened(image_output(converted, "y", 12, 10, "GRAYSCALE_FLOAT16"))
        pixels = normal(10, 12)
        y = model.predict({"picture": Image.fromarray(pixels)})["y"]
        self.assertEqual((y.mode, y.size), ("F", (12, 10)))
        np.testing.assert_array_equal(np.asarray(y), np.float32(2 * np.float16(pixels)))

    def test_image_outputs(self):
        @mb.program(input_specs=[mb.TensorSpec(shape=(1, 3, 10, 12))], opset_version=ct.target.iOS16)
        def program(picture):
            return mb.mul(x=picture, y=np.float32(1.5), name="bright")

        picture = ct.ImageType(name="picture", shape=(1, 3, 10, 12), color_layout=ct.colorlayout.RGB)
        converted = convert(program, precision=ct.precision.FLOAT32, inputs=[picture])
        for colors, order in [("RGB", 1), ("BGR", -1)]:
            model = self.opened(image_output(converted, "bright", 12, 10, colors))
            pixels = 2 * RANDOM.integers(128, size=(10, 12, 3), dtype=np.uint8)
            bright = model.predict({"picture": Image.fromarray(pixels)})["bright"]
            self.assertEqual((bright.mode, bright.size), ("RGBA", (12, 10)))
            expected = np.minimum(pixels * 1.5, 255)[:, :, ::order]
            np.testing.assert_array_equal(np.asarray(bright)[:, :, :3], expected)
            self.assertTrue((np.asarray(bright)[:, :, 3] == 255).all())

    def test_flexible_sizes(self):
        symbols = [ct.converters.mil.mil.get_new_symbol() for _ in range(2)]

        @mb.program(input_specs=[mb.TensorSpec(shape=(1, 1, *symbols))], opset_version=ct.target.iOS16)
        def program(picture):
            return mb.add(x=picture, y=np.float32(1), name="y")

        for shape, taken, refused in [
            (ct.Shape((1, 1, ct.RangeDim(4, 8, default=6), ct.RangeDim(5, 9, default=7))), [(4, 9), (6, 7)], [(3, 5)]),
            (ct.EnumeratedShapes([(1, 1, 4, 5), (1, 1, 8, 9)], default=(1, 1, 4, 5)), [(4, 5), (8, 9)], [(4, 9)]),
        ]:
            picture = ct.ImageType(name="picture", shape=shape, color_layout=ct.colorlayout.GRAYSCALE)
            model = self.opened(convert(program, precision=ct.precision.FLOAT32, inputs=[picture]))
            for height, width in taken:
                pixels = RANDOM.integers(256, size=(height, width), dtype=np.uint8)
                y = model.predict({"picture": Image.fromarray(pixels)})["y"]
                np.testing.assert_array_equal(y, pixels[None, None] + np.float32(1))
            for height, width in refused:
                with self.assertRaises(RuntimeError):
                    model.predict({"picture": Image.new("L", (width, height))})

    def test_wrong_images(self):
        model, image, _ = self.pictures(ct.colorlayout.RGB, 3, "RGB")
        for wrong in [image.convert("L"), image.convert("RGBA"), np.asarray(image), None]:
            with self.assertRaises(TypeError):
                model.predict({"picture": wrong})
        with self.assertRaises(RuntimeError):
            model.predict({"picture": image.resize((11, 10))})


class StatesAndLabels(Case):
    def test_state(self):
        @mb.program(
            input_specs=[
                mb.TensorSpec(shape=(1, 4), dtype=types.fp16),
                mb.StateTensorSpec((1, 4), dtype=types.fp16),
            ],
            opset_version=ct.target.iOS18,
        )
        def program(x, total):
            summed = mb.add(x=mb.read_state(input=total), y=x)
            return mb.mul(x=mb.coreml_update_state(state=total, value=summed), y=np.float16(2), name="y")

        model = self.opened(convert(program, ct.target.iOS18))
        first, second = model.make_state(), model.make_state()
        x = np.float32([[1, 2, 3, 4]])
        for times in (1, 2, 3):
            np.testing.assert_array_equal(model.predict({"x": x}, state=first)["y"], 2 * times * x)
        np.testing.assert_array_equal(model.predict({"x": x}, second)["y"], 2 * x)
        np.testing.assert_array_equal(first.read_state("total"), 3 * x)
        first.write_state("total", np.zeros((1, 4), np.float16))
        np.testing.assert_array_equal(model.predict({"x": x}, first)["y"], 2 * x)

    def test_classifier_labels(self):
        weight = normal(3, 5)
        for labels in [["ant", "bee", "cat"], [7, 8, 9]]:

            @mb.program(input_specs=[mb.TensorSpec(shape=(1, 5))], opset_version=ct.target.iOS16)
            def program(x):
                return mb.softmax(x=mb.linear(x=x, weight=weight), axis=-1, name="probabilities")

            config = ct.ClassifierConfig(labels)
            model = convert(program, precision=ct.precision.FLOAT32, classifier_config=config)
            description = model.get_spec().description
            x = normal(1, 5)
            answer = self.opened(model).predict({"x": x})
            logits = np.exp(np.float64(x) @ np.float64(weight).T)[0]
            self.assertEqual(answer[description.predictedFeatureName], labels[logits.argmax()])
            probabilities = answer[description.predictedProbabilitiesName]
            self.assertEqual(set(probabilities), set(labels))
            for label, expected in zip(labels, logits / logits.sum()):
                self.assertAlmostEqual(probabilities[label], expected, places=5)


@unittest.skipIf(ON_CORE_ML, "this is about anemone's own parameters")
class ModelsOfCoremltools(Case):
    def setUp(self):
        self.weight = normal(300, 40)

        @mb.program(input_specs=[mb.TensorSpec(shape=(3, 40))], opset_version=ct.target.iOS16)
        def program(x):
            return mb.linear(x=x, weight=self.weight, name="y")

        self.model = convert(program, precision=ct.precision.FLOAT32)
        self.x = normal(3, 40)
        self.expected = np.float64(self.x) @ np.float64(self.weight).T

    def check(self, model, name="x"):
        np.testing.assert_allclose(model.predict({name: self.x})["y"], self.expected, rtol=1e-5, atol=1e-5)

    def test_what_convert_returns(self):
        self.check(anemone.MLModel(self.model))
        self.check(anemone.MLModel(self.model, compute_units=ct.ComputeUnit.CPU_ONLY))

    def test_messages_with_their_weights(self):
        spec = self.model.get_spec()
        self.check(anemone.MLModel(spec, weights_dir=self.model.weights_dir))
        with tempfile.TemporaryDirectory() as directory:
            other = os.path.join(directory, "other")
            shutil.copytree(self.model.weights_dir, other)
            self.check(anemone.MLModel(spec, weights_dir=other))
        with self.assertRaises(anemone.Error):
            anemone.MLModel(spec).predict({"x": self.x})

    def test_what_was_changed_in_memory_counts(self):
        spec = self.model.get_spec()
        ct.utils.rename_feature(spec, "x", "renamed")
        self.check(anemone.MLModel(ct.models.MLModel(spec, weights_dir=self.model.weights_dir)), "renamed")

    def test_messages_are_those_of_coremltools(self):
        spec = self.model.get_spec()
        opened = self.opened(self.model)
        for model in (opened, anemone.MLModel(self.model), anemone.MLModel(spec, weights_dir=self.model.weights_dir)):
            self.assertEqual(model.get_spec(), spec)

    def test_metadata(self):
        self.model.author, self.model.short_description = "Ann", "a product"
        self.model.license, self.model.version = "MIT", "2"
        self.model.user_defined_metadata["key"] = "value"
        self.model.input_description["x"], self.model.output_description["y"] = "factors", "products"
        for model in (self.opened(self.model), anemone.MLModel(self.model)):
            self.assertEqual((model.author, model.short_description), ("Ann", "a product"))
            self.assertEqual((model.license, model.version), ("MIT", "2"))
            self.assertEqual(model.user_defined_metadata["key"], "value")
            self.assertEqual(model.input_description["x"], "factors")
            self.assertEqual(model.output_description["y"], "products")
            self.assertEqual(list(model.input_description), list(self.model.input_description))
            with self.assertRaises(KeyError):
                model.input_description["y"]

    @unittest.skipIf(sys.platform == "darwin", "Core ML predicts there")
    def test_one_import_lets_coremltools_predict(self):
        import anemone.coremltools  # noqa: F401

        self.check(self.model)
        with self.assertRaises(KeyError):
            self.model.predict({"z": self.x})

    def test_pipelines(self):
        weight = normal(40, self.expected.shape[1])
        specs = [mb.TensorSpec(shape=shape) for shape in (self.expected.shape, (3, 40))]

        @mb.program(input_specs=specs, opset_version=ct.target.iOS16)
        def program(y, x):
            return mb.add(x=mb.linear(x=y, weight=weight), y=x, name="z")

        second = convert(program, precision=ct.precision.FLOAT32)
        pipeline = ct.utils.make_pipeline(self.model, second)
        expected = self.expected @ np.float64(weight).T + self.x
        for model in (self.opened(pipeline), anemone.MLModel(pipeline)):
            self.assertEqual(list(model.input_description), ["x"])
            self.assertEqual(list(model.output_description), ["z"])
            outputs = model.predict({"x": self.x})
            self.assertEqual(list(outputs), ["z"])
            np.testing.assert_allclose(outputs["z"], expected, rtol=1e-5, atol=1e-4)
            with self.assertRaises(KeyError):
                model.predict({"y": self.x})
            with self.assertRaises(ValueError):
                model.predict({"x": normal(4, 40)})


if __name__ == "__main__":
    unittest.main()
