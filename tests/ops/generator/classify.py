"""classify, which gives a class and a dictionary. Its results are computed here; their types are coremltools'."""

import json

import numpy as np
from coremltools.converters.mil.mil import Builder as mb
from coremltools.converters.mil.mil import Function, mil_list, types

from .case import TARGETS, tensor_json
from .text import mil_dtype


class ClassifyCase:
    """The class of the largest of `probabilities`, and all of them by their classes."""

    def __init__(self, name, probabilities, classes, opset):
        self.name, self.opset, self.classes = name, opset, classes
        self.probabilities = np.asarray(probabilities, np.float32)
        # The first of several; a NaN is larger than nothing, and nothing is larger than a NaN.
        flat, self.likeliest = self.probabilities.ravel(), 0
        for index, value in enumerate(flat):
            if value > flat[self.likeliest]:
                self.likeliest = index
        self.dtype = "string" if isinstance(classes[0], str) else "int64"
        self._check_types()

    def _check_types(self):
        placeholder = mb.placeholder(self.probabilities.shape, types.fp32)
        with Function({"x": placeholder}, opset_version=TARGETS[self.opset]) as function:
            classes = self.classes if self.dtype == "string" else [np.int64(value) for value in self.classes]
            label, all_of = mb.classify(probabilities=function.inputs["x"], classes=mb.const(val=mil_list(classes)))
        key, value = (types.builtin_to_string(part) for part in all_of.sym_type.T)
        found = (types.builtin_to_string(label.sym_type), key, value)
        assert found == (self.dtype, self.dtype, "fp64"), found

    def mil(self, printer):
        scalar, x = printer.type(self.dtype, ()), printer.type("fp32", self.probabilities.shape)
        listed = ", ".join(json.dumps(value) for value in self.classes)
        classes = f"list<{scalar}, {len(self.classes)}>([{listed}])"
        bindings = [(scalar, "label"), (f"dict<{scalar}, {printer.type('fp64', ())}>", "all")]
        arguments = {"classes": classes, "probabilities": "x"}
        statement = printer.statement(bindings, "classify", arguments, {"name": printer.literal("label")})
        return printer.function(self.name, self.opset, [(x, "x")], [statement], ["label", "all"])

    def values(self):
        label = self.classes[self.likeliest]
        source = "Python"
        words = f'{{"dtype": "string", "shape": [], "data": [{json.dumps(label)}], "source": "{source}"}}'
        numbers = self.probabilities.astype(np.float64).ravel()
        return {
            "inputs": {"x": tensor_json(self.probabilities, mil_dtype(self.probabilities.dtype))},
            "outputs": {
                "label": words if self.dtype == "string" else tensor_json(np.int64(label), "int64", source=source),
                "all": tensor_json(numbers, "fp64", source=source),
            },
        }


def _cases(opset):
    def one(name, probabilities, classes):
        return ClassifyCase(f"classify_{name}", probabilities, classes, opset)

    return [
        one("words", [[0.25, 0.625, 0.125]], ["ant", "bee", "cat"]),
        one("numbers", [0.5, 0.125, 0.375], [7, -2, 1 << 40]),
        one("first_of_several", [0.25, 0.375, 0.375], ["a", "b", "c"]),
        one("two_dimensions", [[0.125, 0.125], [0.25, 0.5]], ["a", "b", "c", "d"]),
        one("one_class", [[1.0]], ["only"]),
        one("nan_first", [np.nan, 0.5], ["a", "b"]),
        one("nan_last", [0.5, np.nan], ["a", "b"]),
        one("infinities", [-np.inf, np.inf, 0.0], [0, 1, 2]),
    ]


def files():
    yield "classify", "1.3", _cases("ios18")
    yield "classify_1_0", "1.0", _cases("ios15")
