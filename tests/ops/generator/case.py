"""One case: a function of one op, its types as coremltools infers them, its inputs and its exact results."""

import json
import zlib
from dataclasses import dataclass
from random import Random

import numpy as np
import coremltools as ct
from coremltools.converters.mil.mil import Builder as mb
from coremltools.converters.mil.mil import Function, types

from .text import NUMPY_DTYPES, Printer, mil_dtype

TARGETS = {
    "ios15": ct.target.iOS15,
    "ios16": ct.target.iOS16,
    "ios17": ct.target.iOS17,
    "ios18": ct.target.iOS18,
}
BUILD_INFO = {"coremltools-version": ct.__version__}


@dataclass
class Ref:
    """An operand that names a function input."""

    name: str


@dataclass
class Inline:
    """An operand that is a literal standing in the argument itself, not a named const."""

    value: object


def as_constant(value):
    """Python's bool, int and lists of them become MIL's bool and int32; floats must come with a dtype."""
    if isinstance(value, (str, np.generic, np.ndarray)):
        return value
    if isinstance(value, bool):
        return np.bool_(value)
    if isinstance(value, int):
        return np.int32(value)
    if isinstance(value, list) and value:
        return np.array(value, np.bool_ if isinstance(value[0], bool) else np.int32)
    raise TypeError(f"give {value!r} a dtype")


def draw(name, shape, dtype=np.float16, low=-4.0, high=4.0, integers=False):
    """Seeded values with as many significant bits as the dtype has, exactly representable in it.

    Only random.Random.random is used: the one generator Python promises never to change.
    """
    dtype = np.dtype(dtype)
    random = Random(zlib.crc32(name.encode()))
    uniform = np.array([random.random() for _ in range(int(np.prod(shape)))]).reshape(shape)
    if dtype == np.bool_:
        return uniform < 0.5
    if np.issubdtype(dtype, np.integer) or integers:
        return np.floor(low + uniform * (high - low + 1)).astype(dtype)
    return (low + uniform * (high - low)).astype(dtype)


def special_values(dtype):
    """±0, the smallest and largest subnormal and normal numbers, ±1, ±inf and nan."""
    info = np.finfo(dtype)
    small, normal, large = float(info.smallest_subnormal), float(info.smallest_normal), float(info.max)
    finite = [0.0, -0.0, small, -small, normal - small, normal, 1.0, -1.0, large, -large]
    return np.array(finite + [np.inf, -np.inf, np.nan], dtype)


def finite_special_values(dtype):
    return special_values(dtype)[:-3]


def mil_type(var):
    """(MIL dtype, shape) of a coremltools variable; a scalar has the empty shape."""
    shape = var.shape if types.is_tensor(var.sym_type) else ()
    return types.builtin_to_string(var.dtype), tuple(int(d) for d in shape)


class Case:
    """`args` maps parameters to Ref, Inline, constants, or tuples of these; inputs of a parameter's own
    name are passed without being listed. `want` is the exact result (a list for several), in f64 for
    floats. `value_inference` is False, or says why coremltools' own value is not to be compared.
    `torch_value` is PyTorch's result in f64, to be compared.
    `declared` overrides coremltools' type inference with (dtype, shape), a list for several, for what it cannot express.
    """

    def __init__(self, op, name, inputs, args, want, *, opset="ios18", magnitude=None, source="numpy f64",
                 value_inference=True, declared=None, attributes_only=False, slack=4.0,
                 absolute=0.0, torch_value=None):
        self.op, self.name, self.opset, self.source = op, name, opset, source
        self.inputs = {key: np.asarray(value) for key, value in inputs.items()}
        listed = {arg.name for arg in _flatten(args.values()) if isinstance(arg, Ref)}
        self.args = {key: Ref(key) for key in inputs if key not in listed and key not in args}
        self.args.update({key: _normalize(arg) for key, arg in args.items()})
        self.attributes_only = attributes_only
        several = isinstance(want, list)
        wants = want if several else [want]
        magnitudes = magnitude if several and magnitude is not None else [magnitude] * len(wants)
        stem = "z" if "y" in self.inputs else "y"
        self.result_names = [f"{stem}_{i}" for i in range(len(wants))] if len(wants) > 1 else [stem]
        declared = [declared] if isinstance(declared, tuple) else declared
        self.types = declared or self._infer_types()
        assert len(self.types) == len(wants), f"{name}: {len(self.types)} results, expected {len(wants)}"
        self.outputs = {}
        for result, (dtype, shape), exact, bound in zip(self.result_names, self.types, wants, magnitudes):
            exact = np.asarray(exact)
            assert exact.shape == shape, f"{name}: reference {exact.shape}, coremltools {shape}"
            assert bound is None or np.shape(bound) == shape, f"{name}: magnitude {np.shape(bound)}"
            self.outputs[result] = (dtype, exact, None if bound is None else np.asarray(bound))
        if torch_value is not None:
            exact = self.outputs[self.result_names[0]][1]
            assert np.allclose(torch_value, exact, rtol=1e-12, atol=1e-12, equal_nan=True), f"{name}: torch"
            self.source += ", agrees with torch f64"
        if value_inference is True:
            self._compare_with_value_inference(slack, absolute)

    def _coremltools_arguments(self, lookup):
        def convert(arg):
            if isinstance(arg, tuple):
                return [convert(item) for item in arg]
            if isinstance(arg, Ref):
                return lookup(arg.name)
            value = arg.value if isinstance(arg, Inline) else arg
            return bool(value) if isinstance(value, np.bool_) else value

        return {key: convert(arg) for key, arg in self.args.items()}

    def _infer_types(self):
        placeholders = {
            key: mb.placeholder(value.shape, types.string_to_builtin(mil_dtype(value.dtype)))
            for key, value in self.inputs.items()
        }
        with Function(placeholders, opset_version=TARGETS[self.opset]) as function:
            result = getattr(mb, self.op)(**self._coremltools_arguments(function.inputs.__getitem__))
        return [mil_type(var) for var in (result if isinstance(result, (list, tuple)) else [result])]

    def _compare_with_value_inference(self, slack, absolute):
        """Evaluates the op on constants with coremltools, and asserts that it agrees within `slack` units
        of the result's precision, plus an `absolute` difference for what it computes less precisely."""
        with Function({}, opset_version=TARGETS[self.opset]):
            # Copies: some ops write into their operands.
            constants = {key: mb.const(val=value.copy() if value.ndim else value[()])
                         for key, value in self.inputs.items()}
            result = getattr(mb, self.op)(**self._coremltools_arguments(constants.__getitem__))
        results = result if isinstance(result, (list, tuple)) else [result]
        values = [self._value(var) for var in results]
        if any(value is None for value in values):
            return
        for value, (dtype, exact, bound) in zip(values, self.outputs.values()):
            assert np.shape(value) == exact.shape, f"{self.name}: value inference {np.shape(value)}"
            rounded, value = round_to(exact, dtype), np.asarray(value)
            if rounded.dtype.kind == "f":
                epsilon = float(np.finfo(rounded.dtype).eps)
                tiny = float(np.finfo(rounded.dtype).smallest_normal)
                scale = np.abs(rounded.astype(np.float64)) + (0.0 if bound is None else np.asarray(bound))
                allowed = slack * epsilon * scale + tiny + absolute
                with np.errstate(invalid="ignore"):
                    near = np.abs(value.astype(np.float64) - rounded) <= allowed
                good = near | (value == rounded) | (np.isnan(value) & np.isnan(rounded))
            else:
                good = value == rounded
            assert np.all(good), f"{self.name}: coremltools gives {value}, the reference {rounded}"
        if self.source != "coremltools value inference":
            self.source += ", agrees with coremltools value inference"

    @staticmethod
    def _value(var):
        if var.op.op_type.startswith("constexpr_"):
            value = var.op.materialized_val_inference()
            return value[var.op.outputs.index(var)] if isinstance(value, tuple) else value
        if var.op.op_type == "dequantize":
            return var.op.materialized_val_inference()
        return var.val

    def mil(self, printer):
        statements, operands = [], {}
        for parameter in sorted(self.args):
            operands[parameter] = self._operand(printer, statements, parameter, self.args[parameter])
        bindings = [(printer.type(*type_), name) for type_, name in zip(self.types, self.result_names)]
        attributes = {"name": printer.literal(self.name)}
        if self.attributes_only:
            attributes.update(operands)
            operands = {}
        statements.append(printer.statement(bindings, self.op, operands, attributes))
        inputs = [(printer.type_of(value), key) for key, value in self.inputs.items()]
        return printer.function(self.name, self.opset, inputs, statements, self.result_names)

    def _operand(self, printer, statements, parameter, arg):
        if isinstance(arg, tuple):
            parts = [self._operand(printer, statements, f"{parameter}_{i}", item)
                     for i, item in enumerate(arg)]
            return f"({', '.join(parts)})"
        if isinstance(arg, Ref):
            return arg.name
        if isinstance(arg, Inline) or self.attributes_only:
            return printer.literal(arg.value if isinstance(arg, Inline) else arg)
        name = f"{self.result_names[0]}_{parameter}_0"
        statements.append(printer.const(name, arg))
        return name

    def values(self):
        """The case's entry in the JSON file, as nested dicts whose leaves are already JSON text."""
        inputs = {key: tensor_json(value, mil_dtype(value.dtype)) for key, value in self.inputs.items()}
        outputs = {key: tensor_json(exact, dtype, bound, self.source)
                   for key, (dtype, exact, bound) in self.outputs.items()}
        return {"inputs": inputs, "outputs": outputs}


def _flatten(args):
    for arg in args:
        if isinstance(arg, tuple):
            yield from _flatten(arg)
        else:
            yield arg


def _normalize(arg):
    if isinstance(arg, tuple):
        return tuple(_normalize(item) for item in arg)
    if isinstance(arg, Ref):
        return arg
    return Inline(as_constant(arg.value)) if isinstance(arg, Inline) else as_constant(arg)


def round_to(exact, dtype):
    """The exact result rounded once, to nearest even, to a MIL dtype."""
    with np.errstate(over="ignore"):
        return exact.astype(NUMPY_DTYPES[dtype])


def tensor_json(value, dtype, magnitude=None, source=None):
    """A tensor on one line. Floats print with all their digits; nan and the infinities are strings."""
    parts = [f'"dtype": "{dtype}"', f'"shape": {json.dumps(list(np.shape(value)))}',
             f'"data": {numbers_json(value)}']
    if magnitude is not None:
        parts.append(f'"magnitude": {numbers_json(magnitude)}')
    if source is not None:
        parts.append(f'"source": "{source}"')
    return "{" + ", ".join(parts) + "}"


def numbers_json(values):
    def number(value):
        if isinstance(value, float) and not np.isfinite(value):
            return f'"{value!r}"'
        return json.dumps(value)

    return f"[{', '.join(number(value) for value in np.asarray(values).ravel().tolist())}]"


def nested_json(node, indent=0):
    if isinstance(node, str):
        return node
    pad = "  " * (indent + 1)
    entries = [f'{pad}"{key}": {nested_json(value, indent + 1)}' for key, value in node.items()]
    return "{\n" + ",\n".join(entries) + "\n" + "  " * indent + "}" if entries else "{}"


def render(cases, dialect):
    """(MIL text, JSON text) of the cases of one file."""
    names = [case.name for case in cases]
    assert len(set(names)) == len(names), f"two cases share a name: {sorted(names)}"
    printer = Printer(dialect)
    mil = printer.program(BUILD_INFO, [case.mil(printer) for case in cases])
    return mil, nested_json({case.name: case.values() for case in cases}) + "\n"
