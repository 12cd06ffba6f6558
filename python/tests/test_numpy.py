"""What the package does where nothing but NumPy is installed, on the models of ``tests/coreml``.

    python python/tests/test_numpy.py
"""

import doctest
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import unittest

import numpy as np

import anemone

ROOT = pathlib.Path(__file__).resolve().parents[2]
MODELS = ROOT / "tests" / "coreml"


def model(name, **arguments):
    return anemone.MLModel(str(MODELS / f"{name}.mlpackage"), **arguments)


class Predictions(unittest.TestCase):
    def test_arrays(self):
        x = np.arange(6, dtype=np.float32).reshape(2, 3)
        y = model("optional").predict({"x": x, "bias": np.float32([2])})["y"]
        self.assertEqual((y.dtype, y.shape), (np.float32, (2, 3)))
        np.testing.assert_array_equal(y, x + 2)

    def test_every_kind_of_numbers_is_taken(self):
        opened = model("optional")
        values = [[0, 1, 0], [1, 1, 0]]
        kinds = ["?", "b", "B", "h", "H", "i", "I", "q", "Q", "e", "f", "d", "g", ">f4", ">i8"]
        for given in [values, tuple(values), *(np.array(values, kind) for kind in kinds)]:
            y = opened.predict({"x": given})["y"]
            np.testing.assert_array_equal(y, np.float32(values) + np.float32(0.5))

    def test_arrays_that_lie_otherwise_in_memory(self):
        whole = np.arange(24, dtype=np.float32).reshape(4, 6)
        for x in [whole[::2, ::2], np.asfortranarray(whole[:2, :3]), whole.T[:2, :3], whole[1::-1, 2::-1]]:
            with self.subTest(strides=x.strides):
                np.testing.assert_array_equal(model("optional").predict({"x": x})["y"], x + np.float32(0.5))

    def test_weights_are_read(self):
        x = np.random.default_rng(4).normal(size=(1, 3, 8, 8)).astype(np.float32)
        answers = [model("conv_relu", runtime=runtime).predict({"x": x})["y"] for runtime in ("cpu", "eval")]
        self.assertGreater(np.abs(answers[0]).max(), 1)
        np.testing.assert_allclose(*answers, rtol=4e-3, atol=4e-3)

    def test_the_engine_is_simulated(self):
        x = np.random.default_rng(5).normal(size=(1, 3, 8, 8)).astype(np.float32)
        exact = model("conv_relu", runtime="eval").predict({"x": x})["y"]
        near = model("conv_relu", runtime="ane-sim", chip="m4").predict({"x": x})["y"]
        np.testing.assert_allclose(near, exact, rtol=2e-2, atol=2e-2)
        for arguments in [
            {"runtime": "ane-sim"},
            {"chip": "m4"},
            {"runtime": "gpu"},
            {"runtime": "ane-sim", "chip": "m99"},
        ]:
            with self.subTest(arguments), self.assertRaises(anemone.InputError):
                model("conv_relu", **arguments)

    def test_batches(self):
        opened, x = model("optional"), np.ones((2, 3), np.float32)
        answers = opened.predict([{"x": x}, {"x": 2 * x}])
        self.assertEqual([answer["y"][0, 0] for answer in answers], [1.5, 2.5])
        self.assertEqual(opened.predict([]), [])

    def test_flexible_shapes(self):
        for name, taken, refused in [("ranged", (1, 7, 16), (17,)), ("enumerated", (1, 4, 9), (2, 16))]:
            opened = model(name)
            for rows in taken:
                y = opened.predict({"x": np.zeros((rows, 6))})["y"]
                np.testing.assert_array_equal(y, np.full((rows, 4), 0.25))
            for rows in refused:
                with self.assertRaisesRegex(ValueError, rf"\[{rows}, 6\]"):
                    opened.predict({"x": np.zeros((rows, 6))})

    def test_functions(self):
        x = np.random.default_rng(6).normal(size=(1, 16))
        squashed = model("two_functions")
        self.assertEqual(squashed.function_name, "squashed")
        rectified = model("two_functions", function_name="rectified").predict({"x": x})["y"]
        np.testing.assert_allclose(np.maximum(squashed.predict({"x": x})["y"], 0), np.tanh(rectified), atol=2e-3)
        with self.assertRaisesRegex(ValueError, "third"):
            model("two_functions", function_name="third")

    def test_classifiers(self):
        answer = model("classifier").predict({"x": np.float32([[3, -1, 2, 0.5, -4]])})
        label, all_of_them = answer["classLabel"], answer["classLabel_probs"]
        self.assertEqual(list(all_of_them), ["ant", 'b"ee', "cat \\ dog"])
        self.assertEqual(label, max(all_of_them, key=all_of_them.get))
        self.assertTrue(all(type(probability) is float for probability in all_of_them.values()))
        self.assertAlmostEqual(sum(all_of_them.values()), 1, places=2)

    def test_compiled_models(self):
        shapes = {
            "flexible-multifunction": (2,),
            "flexible-range": (4,),
            "flexible-weighted-legacy": (1, 4),
            "quantized-constexpr": (4,),
        }
        for name, shape in shapes.items():
            path = MODELS / "compiled" / name
            compiled = anemone.CompiledMLModel(str(path / "compiled.mlmodelc"))
            given = {"input": np.random.default_rng(8).normal(size=shape)}
            with self.subTest(name):
                one = compiled.predict(given)["output"]
                other = anemone.MLModel(path / "model.mlmodel").predict(given)["output"]
                np.testing.assert_array_equal(one, other)

    def test_models_that_are_no_programs(self):
        with self.assertRaises(NotImplementedError):
            anemone.MLModel(MODELS / "neural_network.mlmodel")

    def test_pipelines(self):
        a = np.float32([[-1, 2, -3, 4]])
        np.testing.assert_array_equal(model("pipeline").predict({"a": a})["c"], np.maximum(a, 0))
        compiled = anemone.CompiledMLModel(MODELS / "compiled-pipelines" / "weighted" / "compiled.mlmodelc")
        x, weights = np.float32([1, 2, 3, 4]), np.float32([0.25, -0.25, 0.5, -0.5])
        outputs = compiled.predict({"input": x})
        self.assertEqual(list(outputs), ["rounded", "result"])
        np.testing.assert_array_equal(outputs["rounded"], np.float16(x + weights))
        np.testing.assert_array_equal(outputs["result"], x + 2 * weights)
        self.assertEqual(anemone.check(MODELS / "pipeline.mlpackage"), [])
        with self.assertRaises(ValueError):
            compiled.predict({"input": x[:3]})


class States(unittest.TestCase):
    def test_a_state_goes_on(self):
        opened, x = model("state"), np.float32([[1, 2, 3, 4]])
        first, second = opened.make_state(), opened.make_state()
        for times in (1, 2, 3):
            y = opened.predict({"x": x}, first)["y"]
            self.assertEqual(y.dtype, np.float16)
            np.testing.assert_array_equal(y, times * x)
        np.testing.assert_array_equal(opened.predict({"x": x}, state=second)["y"], x)
        np.testing.assert_array_equal(first.read_state("kept"), 3 * x)
        first.write_state("kept", np.full((1, 4), 10))
        np.testing.assert_array_equal(opened.predict({"x": x}, first)["y"], 10 + x)

    def test_wrong_states(self):
        opened, x = model("state"), np.zeros((1, 4))
        state = opened.make_state()
        for given in [None, model("optional").make_state()]:
            with self.assertRaisesRegex(ValueError, "state"):
                opened.predict({"x": x}, given)
        with self.assertRaises(TypeError):
            opened.predict({"x": x}, {"kept": x})
        with self.assertRaises(ValueError):
            opened.predict([{"x": x}], state)
        with self.assertRaisesRegex(ValueError, "lost"):
            state.read_state("lost")
        with self.assertRaisesRegex(ValueError, "shape"):
            state.write_state("kept", np.zeros(4))
        np.testing.assert_array_equal(state.read_state("kept"), x)


class Refusals(unittest.TestCase):
    def refused(self, error, words, data, name="optional"):
        with self.assertRaisesRegex(error, words) as caught:
            model(name).predict(data)
        self.assertIsInstance(caught.exception, anemone.Error)
        self.assertIsInstance(caught.exception, RuntimeError)

    def test_names(self):
        x = np.zeros((2, 3))
        self.refused(KeyError, "the input `x`", {})
        self.refused(KeyError, "the input `x`", {"bias": [1]})
        self.refused(KeyError, '"z".*x, bias', {"x": x, "z": x})

    def test_shapes(self):
        for shape in [(3, 2), (6,), (2, 3, 1), (), (0, 3)]:
            self.refused(ValueError, r"`x` is fp32 \[2, 3\]", {"x": np.zeros(shape)})

    def test_types(self):
        x = np.zeros((2, 3))
        for wrong in [np.full((2, 3), "word"), x + 1j, np.full((2, 3), None), [[1, 2], [3]], None, {"x": x}]:
            self.refused(TypeError, "'x' takes an array of numbers", {"x": wrong})
        for data in [None, "x", x, ({"x": x},), [x]]:
            self.refused(TypeError, "dict", data)
        self.refused(TypeError, "PIL.Image.Image", {"picture": np.zeros((1, 3, 10, 12))}, "image")

    def test_files(self):
        with self.assertRaises(OSError) as caught:
            anemone.MLModel("no/such.mlpackage")
        self.assertEqual(caught.exception.file, "no/such.mlpackage")
        with tempfile.TemporaryDirectory() as directory:
            with self.assertRaises(anemone.ReadError):
                anemone.MLModel(directory)
            opened = model("conv_relu", weights_dir=directory)
            with self.assertRaisesRegex(anemone.ReadError, "does not exist"):
                opened.predict({"x": np.zeros((1, 3, 8, 8))})
        with self.assertRaises(TypeError):
            anemone.MLModel(17)
        with self.assertRaises(TypeError):
            model("optional", compute_units="ALL")

    def test_a_model_that_was_not_loaded(self):
        opened = model("optional", skip_model_load=True, compute_units=anemone.ComputeUnit.CPU_ONLY)
        self.assertEqual(list(opened.input_description), ["x", "bias"])
        with self.assertRaisesRegex(anemone.Error, "skip_model_load"):
            opened.predict({"x": np.zeros((2, 3))})
        with self.assertRaisesRegex(anemone.Error, "skip_model_load"):
            opened.make_state()

    def test_what_needs_coremltools_says_so(self):
        with self.assertRaisesRegex(ImportError, "pip install coremltools"):
            model("optional").get_spec()


class Programs(unittest.TestCase):
    def setUp(self):
        self.directory = tempfile.TemporaryDirectory()
        self.addCleanup(self.directory.cleanup)

    def program(self, text):
        path = pathlib.Path(self.directory.name) / "program.mil"
        path.write_text(text)
        return path

    def test_findings_have_places(self):
        # Those about blobs are found only beside weight files.
        paths = (ROOT / "tests" / "verify").glob("[!b]*.mil")
        for path in sorted(paths):
            first, severity = path.read_text().splitlines()[0], "error"
            if first.startswith("// warning"):
                severity = "warning"
            found = anemone.check(path)
            with self.subTest(path.name):
                self.assertIn(severity, {finding.severity for finding in found})
                self.assertEqual({finding.file for finding in found}, {str(path)})

    def test_programs_that_are_no_text_of_one(self):
        path = self.program("program(1.3)\n{\n  func\n}\n")
        findings = anemone.check(path)
        self.assertEqual((findings[0].line, findings[0].severity), (4, "error"))
        for function in (anemone.fmt, lambda path: anemone.opt(path, "dead-code"), anemone.MLModel):
            with self.assertRaises(anemone.ProgramError) as caught:
                function(path)
            self.assertEqual((caught.exception.file, caught.exception.line), (str(path), 4))
            self.assertEqual(list(caught.exception.findings), findings)

    def test_chips(self):
        trips = ROOT / "tests" / "rules" / "r11_trips.mil"
        self.assertIn("R11", [finding.code for finding in anemone.check(trips, chip="all")])
        self.assertNotIn("R11", [finding.code for finding in anemone.check(trips)])
        with self.assertRaises(ValueError):
            anemone.check(trips, chip="m99")
        self.assertEqual([rule.rule for rule in anemone.rules()][:3], ["R1", "R2", "R3"])
        self.assertTrue(all("m1" in rule.chips for rule in anemone.rules("m1")))

    def test_text(self):
        text = anemone.fmt(MODELS / "optional.mlpackage")
        self.assertTrue(text.startswith("program("))
        self.assertEqual(anemone.fmt(self.program(text)), text)

    def test_passes(self):
        path = self.program(
            "program(1.3)\n{\n    func main<ios18>(tensor<fp32, [?, 3]> x, tensor<fp32, [3]> y) {\n"
            '        tensor<fp32, [?, 3]> z = add(x = x, y = y)[name = string("z")];\n    } -> (z);\n}\n'
        )
        inputs = {"x": "fp32[2,3]", "y": np.float64([1, 2, 3])}
        text = anemone.opt(path, ["specialize", "bake"], inputs=inputs)
        self.assertIn("func main<ios18>(tensor<fp32, [2, 3]> x)", text)
        baked = anemone.MLModel(self.program(text))
        np.testing.assert_array_equal(baked.predict({"x": np.ones((2, 3))})["z"], [[2, 3, 4]] * 2)
        for wrong in [
            {"passes": "dead"},
            {"passes": "specialize", "inputs": {"q": "fp32[1]"}},
            {"passes": "specialize", "inputs": {"x": "word"}},
        ]:
            with self.subTest(wrong), self.assertRaises(ValueError):
                anemone.opt(path, **wrong)

    def test_gradients(self):
        path = self.program(
            "program(1.3)\n{\n    func main<ios18>(tensor<fp32, [4]> x) {\n"
            '        tensor<fp32, [4]> y = tanh(x = x)[name = string("y")];\n    } -> (y);\n}\n'
        )
        gradient = anemone.grad(path, "x")
        x, d_y = np.float32([-1, 0, 0.5, 2]), np.float32([1, 2, 3, 4])
        forward = anemone.MLModel(self.program(gradient.forward)).predict({"x": x})
        np.testing.assert_allclose(forward["y"], np.tanh(x), rtol=1e-6)
        backward = anemone.MLModel(self.program(gradient.backward))
        given = {"x": x, "d_y": d_y, **forward}
        d_x = backward.predict({name: given[name] for name in backward.input_description})["d_x"]
        np.testing.assert_allclose(d_x, d_y * (1 - np.tanh(x) ** 2), rtol=1e-5)
        with self.assertRaisesRegex(ValueError, "q"):
            anemone.grad(path, "q")


class Threads(unittest.TestCase):
    def test_predictions_from_many_threads(self):
        opened, wrong = model("conv_relu"), []
        x = np.random.default_rng(7).normal(size=(8, 1, 3, 8, 8)).astype(np.float32)
        expected = [opened.predict({"x": one})["y"] for one in x]

        def work(seed):
            for index in np.random.default_rng(seed).integers(8, size=50):
                if not np.array_equal(opened.predict({"x": x[index]})["y"], expected[index]):
                    wrong.append(index)

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(wrong, [])

    def test_the_interpreter_goes_on_meanwhile(self):
        with tempfile.TemporaryDirectory() as directory:
            path = pathlib.Path(directory) / "slow.mil"
            path.write_text(
                "program(1.3)\n{\n    func main<ios18>(tensor<fp32, [384, 384]> x) {\n"
                "        tensor<fp32, [384, 384]> y = matmul(transpose_x = bool(false), transpose_y = bool(false), "
                'x = x, y = x)[name = string("y")];\n    } -> (y);\n}\n'
            )
            opened = anemone.MLModel(path, runtime="eval")
        thread = threading.Thread(target=opened.predict, args=({"x": np.eye(384)},))
        steps = 0
        thread.start()
        while thread.is_alive():
            steps += 1
            time.sleep(0.001)
        # Had it waited for the prediction there would have been a step or two.
        self.assertGreater(steps, 10)


class Package(unittest.TestCase):
    def test_nothing_else_is_imported(self):
        code = "import sys, anemone; print({'PIL', 'torch', 'coremltools'} & set(sys.modules))"
        out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        self.assertEqual(out.strip(), "set()")

    def test_it_says_that_it_is_typed(self):
        directory = pathlib.Path(anemone.__file__).parent
        self.assertTrue((directory / "py.typed").is_file() and (directory / "_native.pyi").is_file())

    def test_the_examples_of_the_readme(self):
        with tempfile.TemporaryDirectory() as directory:
            for package in MODELS.glob("*.mlpackage"):
                shutil.copytree(package, pathlib.Path(directory) / package.name)
            before = os.getcwd()
            os.chdir(directory)
            try:
                failed, tried = doctest.testfile(str(ROOT / "python" / "README.md"), module_relative=False)
            finally:
                os.chdir(before)
        self.assertGreater(tried, 20)
        self.assertEqual(failed, 0)


if __name__ == "__main__":
    unittest.main()
