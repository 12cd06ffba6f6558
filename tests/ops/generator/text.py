"""Prints MIL text as Apple's compiler does: types, literals, statements and functions, in both dialects."""

import numpy as np
from coremltools.converters.mil.mil import types
from coremltools.converters.mil.mil.types.type_int import SUB_BYTE_DTYPE_METADATA_KEY

MIL_DTYPES = {
    np.dtype(np.float16): "fp16",
    np.dtype(np.float32): "fp32",
    np.dtype(np.int8): "int8",
    np.dtype(np.uint8): "uint8",
    np.dtype(np.int16): "int16",
    np.dtype(np.uint16): "uint16",
    np.dtype(np.int32): "int32",
    np.dtype(np.uint32): "uint32",
    np.dtype(np.bool_): "bool",
}
NUMPY_DTYPES = {mil: numpy for numpy, mil in MIL_DTYPES.items()}
# coremltools' numpy dtypes of integers smaller than a byte are those of bytes, with a mark in their metadata.
NUMPY_DTYPES |= {name: types.nptype_from_builtin(types.string_to_builtin(name))
                 for name in ("int4", "uint1", "uint2", "uint3", "uint4", "uint6")}


def mil_dtype(dtype):
    """The MIL name of a numpy dtype."""
    small = (dtype.metadata or {}).get(SUB_BYTE_DTYPE_METADATA_KEY)
    return types.builtin_to_string(small) if small else MIL_DTYPES[dtype]


def hex_float(value):
    """A float as C's %a prints it: 0x1.8p+1, -0x1p-149, 0x0p+0, inf, -inf, nan."""
    value = float(value)
    if not np.isfinite(value):
        return repr(value)
    if value == 0.0:
        return "-0x0p+0" if np.signbit(value) else "0x0p+0"
    mantissa, exponent = value.hex().split("p")
    if "." in mantissa:
        mantissa = mantissa.rstrip("0").rstrip(".")
    return f"{mantissa}p{exponent}"


class Printer:
    """Prints in one dialect: in 1.0 a scalar is a rank-0 tensor, from 1.3 on it is bare."""

    def __init__(self, dialect):
        self.dialect = dialect

    def type(self, dtype, shape):
        """`dtype` is a MIL name; a shape of rank 0 is a scalar; a dimension may be `?`."""
        if len(shape) == 0 and self.dialect != "1.0":
            return dtype
        return f"tensor<{dtype}, [{', '.join(str(d) for d in shape)}]>"

    def type_of(self, value):
        if isinstance(value, str):
            return self.type("string", ())
        value = np.asarray(value)
        return self.type(mil_dtype(value.dtype), value.shape)

    def literal(self, value):
        if isinstance(value, str):
            return f'{self.type_of(value)}("{value}")'
        return f"{self.type_of(value)}({self._nested(np.asarray(value))})"

    def _nested(self, value):
        if value.ndim:
            return f"[{', '.join(self._nested(v) for v in value)}]"
        if value.dtype == np.bool_:
            return "true" if value else "false"
        if np.issubdtype(value.dtype, np.floating):
            return hex_float(value)
        return str(int(value))

    def statement(self, bindings, op, args, attributes):
        """`bindings` are (type, name) pairs; `args` and `attributes` map names to printed operands."""
        bound = ", ".join(f"{type_} {name}" for type_, name in bindings)
        bound = f"{bound} = " if bound else ""
        return f"            {bound}{op}({self._assignments(args)})[{self._assignments(attributes)}];"

    def const(self, name, value):
        attributes = {"name": self.literal(name), "val": self.literal(value)}
        return self.statement([(self.type_of(value), name)], "const", {}, attributes)

    @staticmethod
    def _assignments(named):
        return ", ".join(f"{name} = {named[name]}" for name in sorted(named))

    def function(self, name, opset, inputs, statements, results):
        """`inputs` are (type, name) pairs."""
        parameters = ", ".join(f"{type_} {parameter}" for type_, parameter in inputs)
        head = f"    func {name}<{opset}>({parameters}) {{"
        return "\n".join([head, *statements, f"        }} -> ({', '.join(results)});"])

    @staticmethod
    def block(inputs, statements, results):
        """A block nested in a statement; `inputs` are (type, name) pairs."""
        parameters = ", ".join(f"{type_} {parameter}" for type_, parameter in inputs)
        inner = [f"        {line}" for statement in statements for line in statement.split("\n")]
        return "\n".join([f"                ({parameters}) {{", *inner, f"                }} -> ({', '.join(results)})"])

    def program(self, build_info, functions):
        string = self.type("string", ())
        entries = ", ".join(f'{{"{key}", "{value}"}}' for key, value in build_info.items())
        head = f"program({self.dialect})\n[buildInfo = dict<{string}, {string}>({{{entries}}})]\n{{\n"
        return head + "\n".join(functions) + "\n}\n"
