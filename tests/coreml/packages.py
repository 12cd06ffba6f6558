#!/usr/bin/env python3
"""Core ML models of every kind that is read here, made with coremltools, and what becomes of them on the way round.

    pip install coremltools==9.0 "numpy<2.3"
    python tests/coreml/packages.py make                     # rewrite the models beside this file
    python tests/coreml/packages.py round target/debug/anemone   # convert each through all forms, and compare

`make` writes small models (random weights from a seed), which the tests of `crates/coreml` read without Python.
`round` converts each by the command: package to text and back, to a compiled model and back, to a single file and
back; coremltools loads what comes out, and its messages are compared with those of the original, maps without order,
descriptions to the byte.
"""

import argparse
import pathlib
import shutil
import subprocess
import sys
import tempfile

import coremltools as ct
import numpy as np
from coremltools.converters.mil import Builder as mb
from coremltools.converters.mil.mil import types

HERE = pathlib.Path(__file__).parent
RANDOM = np.random.RandomState(14)
TARGETS = ct.target


def weights(*shape):
    return RANDOM.randn(*shape).astype(np.float32)


def convert(program, target, **arguments):
    return ct.convert(
        program,
        convert_to="mlprogram",
        minimum_deployment_target=target,
        skip_model_load=True,
        **arguments,
    )


def conv_relu(target=TARGETS.iOS15):
    """Weights in a blob file, fp16 within, fp32 outside."""
    weight = weights(8, 3, 3, 3)

    @mb.program(input_specs=[mb.TensorSpec(shape=(1, 3, 8, 8))], opset_version=target)
    def program(x):
        return mb.relu(x=mb.conv(x=x, weight=weight, pad_type="same"), name="y")

    return convert(program, target)


def conv_relu_ios18():
    return conv_relu(TARGETS.iOS18)


def flexible(shape):
    """An input whose shape is told when the model runs."""
    weight = weights(4, 6)

    @mb.program(
        input_specs=[mb.TensorSpec(shape=(ct.converters.mil.mil.get_new_symbol(), 6))], opset_version=TARGETS.iOS16
    )
    def program(x):
        return mb.softmax(x=mb.linear(x=x, weight=weight), axis=-1, name="y")

    return convert(program, TARGETS.iOS16, inputs=[ct.TensorType(name="x", shape=shape)])


def ranged():
    return flexible(ct.Shape((ct.RangeDim(1, 16, default=2), 6)))


def enumerated():
    return flexible(ct.EnumeratedShapes([(1, 6), (4, 6), (9, 6)], default=(4, 6)))


def image():
    """An image in, an image out."""

    @mb.program(input_specs=[mb.TensorSpec(shape=(1, 3, 10, 12))], opset_version=TARGETS.iOS16)
    def program(picture):
        return mb.clip(x=mb.mul(x=picture, y=np.float32(0.5)), alpha=np.float32(0), beta=np.float32(255), name="dark")

    return convert(
        program,
        TARGETS.iOS16,
        inputs=[ct.ImageType(name="picture", shape=(1, 3, 10, 12), color_layout=ct.colorlayout.RGB, scale=1 / 255)],
        outputs=[ct.ImageType(name="dark", color_layout=ct.colorlayout.RGB)],
    )


def state():
    """What is kept between runs."""

    @mb.program(
        input_specs=[mb.TensorSpec(shape=(1, 4), dtype=types.fp16), mb.StateTensorSpec((1, 4), dtype=types.fp16)],
        opset_version=TARGETS.iOS18,
    )
    def program(x, kept):
        sum = mb.add(x=mb.read_state(input=kept), y=x)
        return mb.identity(x=mb.coreml_update_state(state=kept, value=sum), name="y")

    return convert(program, TARGETS.iOS18)


def classifier():
    """Labels and probabilities."""
    weight = weights(3, 5)

    @mb.program(input_specs=[mb.TensorSpec(shape=(1, 5))], opset_version=TARGETS.iOS15)
    def program(x):
        return mb.softmax(x=mb.linear(x=x, weight=weight), axis=-1, name="probabilities")

    return convert(program, TARGETS.iOS15, classifier_config=ct.ClassifierConfig(["ant", 'b"ee', "cat \\ dog"]))


def blocks():
    """Nested blocks: a loop, and in it a condition."""

    @mb.program(input_specs=[mb.TensorSpec(shape=(3,))], opset_version=TARGETS.iOS17)
    def program(x):
        def goes_on(i, carried):
            return mb.less(x=i, y=np.int32(5))

        def body(i, carried):
            small = mb.less(x=i, y=np.int32(2))
            carried = mb.cond(
                pred=small,
                _true_fn=lambda: mb.add(x=carried, y=np.float32(1)),
                _false_fn=lambda: mb.mul(x=carried, y=np.float32(2)),
            )
            return mb.add(x=i, y=np.int32(1)), carried

        _, y = mb.while_loop(_cond=goes_on, _body=body, loop_vars=(np.int32(0), x))
        return mb.identity(x=y, name="y")

    return convert(program, TARGETS.iOS17, compute_precision=ct.precision.FLOAT32)


def optional():
    """An input that may be left out."""

    @mb.program(
        input_specs=[mb.TensorSpec(shape=(2, 3)), mb.TensorSpec(shape=(1,))], opset_version=TARGETS.iOS16
    )
    def program(x, bias):
        return mb.add(x=x, y=bias, name="y")

    return convert(
        program,
        TARGETS.iOS16,
        inputs=[ct.TensorType(name="x", shape=(2, 3)), ct.TensorType(name="bias", shape=(1,), default_value=np.array([0.5], np.float32))],
    )


def compressed(target):
    """Weights with fewer bits: attributes before iOS 18, arguments from then on."""
    weight = weights(32, 32)

    @mb.program(input_specs=[mb.TensorSpec(shape=(1, 32))], opset_version=target)
    def program(x):
        return mb.linear(x=x, weight=weight, name="y")

    from coremltools.optimize import coreml as optimize

    model = convert(program, target)
    palette = optimize.OpPalettizerConfig(mode="uniform", nbits=4, weight_threshold=16)
    return optimize.palettize_weights(model, optimize.OptimizationConfig(global_config=palette))


def palettized_ios16():
    return compressed(TARGETS.iOS16)


def palettized_ios18():
    return compressed(TARGETS.iOS18)


def int4():
    """Packed 4-bit integers, in a blob file and in the message."""
    weight = weights(32, 32)

    @mb.program(input_specs=[mb.TensorSpec(shape=(1, 32))], opset_version=TARGETS.iOS18)
    def program(x):
        return mb.linear(x=x, weight=weight, name="y")

    from coremltools.optimize import coreml as optimize

    config = optimize.OpLinearQuantizerConfig(mode="linear", dtype="int4", granularity="per_block", block_size=32, weight_threshold=16)
    return optimize.linear_quantize_weights(convert(program, TARGETS.iOS18), optimize.OptimizationConfig(global_config=config))


def two_functions(directory):
    """Two functions that share their weights."""
    weight = weights(6, 16)

    def one(name):
        @mb.program(input_specs=[mb.TensorSpec(shape=(1, 16))], opset_version=TARGETS.iOS18)
        def program(x):
            y = mb.linear(x=x, weight=weight)
            return mb.relu(x=y, name="y") if name == "rectified" else mb.tanh(x=y, name="y")

        path = directory / f"{name}.mlpackage"
        convert(program, TARGETS.iOS18).save(str(path))
        return str(path)

    description = ct.utils.MultiFunctionDescriptor()
    for name in ("rectified", "squashed"):
        description.add_function(one(name), src_function_name="main", target_function_name=name)
    description.default_function_name = "squashed"
    path = directory / "two_functions.mlpackage"
    ct.utils.save_multifunction(description, str(path))
    return path


def pipeline(directory):
    """Two programs, one after the other."""

    def one(source, target):
        @mb.program(input_specs=[mb.TensorSpec(shape=(1, 4))], opset_version=TARGETS.iOS15)
        def program(x):
            return mb.relu(x=x, name="y")

        model = convert(program, TARGETS.iOS15)
        spec = model.get_spec()
        ct.utils.rename_feature(spec, "x", source)
        ct.utils.rename_feature(spec, "y", target)
        return ct.models.MLModel(spec, weights_dir=model.weights_dir, skip_model_load=True)

    path = directory / "pipeline.mlpackage"
    model = ct.utils.make_pipeline(one("a", "b"), one("b", "c"))
    model.save(str(path))
    return path


def weighted_pipeline(directory):
    """Two programs with weights, a file each, the second of which also takes what the first takes."""

    first_weight, second_weight = weights(16, 4), weights(4, 16)

    @mb.program(input_specs=[mb.TensorSpec(shape=(1, 4))], opset_version=TARGETS.iOS16)
    def first(a):
        return mb.tanh(x=mb.linear(x=a, weight=first_weight), name="b")

    @mb.program(input_specs=[mb.TensorSpec(shape=(1, 4)), mb.TensorSpec(shape=(1, 16))], opset_version=TARGETS.iOS16)
    def second(a, b):
        return mb.add(x=mb.linear(x=b, weight=second_weight), y=a, name="c")

    path = directory / "weighted_pipeline.mlpackage"
    ct.utils.make_pipeline(convert(first, TARGETS.iOS16), convert(second, TARGETS.iOS16)).save(str(path))
    return path


def neural_network(directory):
    """A model that is no program."""
    from coremltools.models import datatypes
    from coremltools.models.neural_network import NeuralNetworkBuilder

    builder = NeuralNetworkBuilder([("x", datatypes.Array(4))], [("y", datatypes.Array(4))])
    builder.add_activation("relu", "RELU", "x", "y")
    path = directory / "neural_network.mlmodel"
    ct.utils.save_spec(builder.spec, str(path))
    return path


MODELS = [
    conv_relu, conv_relu_ios18, ranged, enumerated, image, state, classifier, blocks, optional,
    palettized_ios16, palettized_ios18, int4,
]
IN_DIRECTORY = [two_functions, pipeline, neural_network, weighted_pipeline]


def remove(path):
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def make(directory):
    """All models; a path each."""
    RANDOM.seed(14)
    paths = []
    for function in MODELS:
        path = directory / f"{function.__name__}.mlpackage"
        remove(path)
        function().save(str(path))
        paths.append(path)
    with tempfile.TemporaryDirectory() as temporary:
        for function in IN_DIRECTORY:
            made = function(pathlib.Path(temporary))
            path = directory / made.name
            remove(path)
            shutil.move(made, path)
            paths.append(path)
    return paths


def message(path):
    """A model's message; of a package that of its model."""
    return ct.utils.load_spec(str(path))


def description(path):
    """The bytes of the description in a package or a file."""
    if path.is_dir():
        path = path / "Data/com.apple.CoreML/model.mlmodel"
    return fields(path.read_bytes()).get(2)


def fields(data):
    """The last value of each field of a message that is bytes."""
    found, at = {}, 0

    def number():
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(data):
        key = number()
        if key & 7 == 0:
            number()
        elif key & 7 == 2:
            size = number()
            found[key >> 3] = data[at : at + size]
            at += size
        else:
            raise ValueError(f"wire type {key & 7}")
    return found


def weights_of(path):
    directory = path / "Data/com.apple.CoreML/weights" if path.suffix == ".mlpackage" else path / "weights"
    return {file.name: file.read_bytes() for file in directory.iterdir()} if directory.is_dir() else {}


def operations(blocks):
    """Every operation of some blocks, those nested in others included."""
    for block in blocks:
        for operation in block.operations:
            yield operation
            yield from operations(operation.blocks)


def without_values(spec):
    """A model's message without its constants' values, wherever they are kept."""
    for model in spec.pipeline.models:
        without_values(model)
    for function in spec.mlProgram.functions.values():
        for operation in operations(function.block_specializations.values()):
            for value in operation.attributes.values():
                value.ClearField("value")
            for argument in operation.inputs.values():
                for binding in argument.arguments:
                    if binding.HasField("value"):
                        binding.value.ClearField("value")
    return spec


def round_trip(anemone, path, directory):
    """Converts a package through all forms, and gives what went wrong."""

    def run(source, target):
        done = subprocess.run([anemone, "convert", source, target], capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"{source} -> {target}: {done.stderr}")

    original = message(path)
    faults = []

    def same(back, by):
        if message(back) != original:
            faults.append(f"{by}: the message differs")
        if description(back) != description(path):
            faults.append(f"{by}: the description differs")
        if weights_of(back) != weights_of(path):
            faults.append(f"{by}: the weights differ")
        ct.models.MLModel(str(back), skip_model_load=True)

    text, compiled, single = directory / "text/model.mil", directory / "a.mlmodelc", directory / "a.mlmodel"
    text.parent.mkdir()
    is_pipeline = original.WhichOneof("Type") == "pipeline"
    for form in (compiled,) if is_pipeline else (text, compiled):
        run(path, form)
        back = form.with_suffix(".back.mlpackage")
        run(form, back)
        same(back, form.suffix)
    if not is_pipeline:
        # Text and compiled model into each other.
        run(compiled, directory / "text/again.mil")
        run(directory / "text/again.mil", directory / "again.mlpackage")
        same(directory / "again.mlpackage", ".mlmodelc -> .mil")
    # One file: the values that were in blob files are in the message, and everything else is as it was.
    run(path, single)
    if description(single) != description(path):
        faults.append(".mlmodel: the description differs")
    if without_values(message(single)) != without_values(original):
        faults.append(".mlmodel: the message differs in more than values")
    return faults


def round_all(anemone):
    failed = 0
    for path in sorted(HERE.glob("*.mlpackage")):
        # Empty, where a model has no weights, so that a checkout of the repository is without it.
        (path / "Data/com.apple.CoreML/weights").mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory() as directory:
            try:
                faults = round_trip(anemone, path, pathlib.Path(directory))
            except RuntimeError as error:
                faults = [str(error)]
        print(f"{path.name}: {'; '.join(faults) or 'ok'}")
        failed += bool(faults)
    return 1 if failed else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True, dest="command")
    commands.add_parser("make")
    commands.add_parser("round").add_argument("anemone")
    arguments = parser.parse_args()
    if arguments.command == "make":
        for path in make(HERE):
            print(path)
        return 0
    return round_all(arguments.anemone)


if __name__ == "__main__":
    sys.exit(main())
