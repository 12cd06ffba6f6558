"""A case built with coremltools' own builder, whatever ops and nested blocks it takes, and printed from what was built."""

import numpy as np
from coremltools.converters.mil.mil import Builder as mb
from coremltools.converters.mil.mil import Function, get_new_symbol, types
from coremltools.converters.mil.mil.types.symbolic import is_symbolic

from .case import TARGETS, tensor_json
from .text import mil_dtype


class BuiltCase:
    """`build` is called with the inputs by name, gives the function's results, and `want` their values, in f64 for
    floats. `open_dims` says which dimensions of an input are declared as `?`.
    """

    def __init__(self, name, inputs, build, want, *, opset="ios18", open_dims=None, source="Python"):
        self.name, self.opset, self.source = name, opset, source
        self.inputs = {key: np.asarray(value) for key, value in inputs.items()}
        placeholders = {key: self._placeholder(value, (open_dims or {}).get(key, ()))
                        for key, value in self.inputs.items()}
        with Function(placeholders, opset_version=TARGETS[opset]) as self.function:
            results = build(**self.function.inputs)
            results = list(results) if isinstance(results, (list, tuple)) else [results]
            self.function.set_outputs(results)
        wants = want if isinstance(want, list) else [want]
        assert len(results) == len(wants), f"{name}: {len(results)} results, expected {len(wants)}"
        self._name_values(results)
        self.outputs = {}
        for var, exact in zip(results, wants):
            exact, shape = np.asarray(exact), _shape(var)
            fits = len(shape) == exact.ndim and all(d in ("?", n) for d, n in zip(shape, exact.shape))
            assert fits, f"{name}: reference {exact.shape}, coremltools {shape}"
            self.outputs[var.name] = (types.builtin_to_string(var.dtype), exact)
        assert len(self.outputs) == len(wants), f"{name}: one value is several results"

    def _name_values(self, results):
        """Names that do not depend on what was built before: results are y, other values named by their ops."""
        counts, named = {}, set()

        def name_of(kind):
            counts[kind] = counts.get(kind, -1) + 1
            return f"{kind}_{counts[kind]}"

        def visit(operations):
            for op in operations:
                for var in op.outputs:
                    var.name = name_of(op.op_type)
                op.name = op.outputs[0].name
                for block in op.blocks:
                    # A loop's two blocks have the same parameters.
                    for var in (var for var in block.inputs if id(var) not in named):
                        var.name = name_of("carried")
                        named.add(id(var))
                    visit(block.operations)

        visit(self.function.operations)
        for i, var in enumerate(results):
            var.name = "y" if len(results) == 1 else f"y_{i}"

    @staticmethod
    def _placeholder(value, open_dims):
        shape = [get_new_symbol() if i in open_dims else d for i, d in enumerate(value.shape)]
        dtype = types.string_to_builtin(mil_dtype(value.dtype))
        return mb.placeholder(shape, dtype, allow_rank0_input=True)

    def mil(self, printer):
        function = self.function
        inputs = [(_type(printer, var), key) for key, var in function.inputs.items()]
        results = [var.name for var in function.outputs]
        return printer.function(self.name, self.opset, inputs, _statements(printer, function.operations), results)

    def values(self):
        return {
            "inputs": {key: tensor_json(value, mil_dtype(value.dtype)) for key, value in self.inputs.items()},
            "outputs": {key: tensor_json(exact, dtype, source=self.source)
                        for key, (dtype, exact) in self.outputs.items()},
        }


def _dims(shape):
    return tuple("?" if is_symbolic(d) else int(d) for d in shape)


def _shape(var):
    return _dims(var.shape) if types.is_tensor(var.sym_type) else ()


def _type(printer, var):
    """The type that coremltools infers, printed."""
    if types.is_list(var.sym_type):
        element = printer.type(types.builtin_to_string(var.elem_type.get_primitive()),
                               _dims(var.elem_type.get_shape()))
        return f"list<{element}, {'?' if var.dynamic_length else int(var.init_length)}>"
    return printer.type(types.builtin_to_string(var.dtype), _shape(var))


def _statements(printer, operations):
    return [_statement(printer, op) for op in operations]


def _statement(printer, op):
    if op.op_type == "const":
        return printer.const(op.outputs[0].name, op.outputs[0].val)
    args = {key: f"({', '.join(v.name for v in value)})" if isinstance(value, (list, tuple)) else value.name
            for key, value in op.inputs.items() if value is not None}
    bindings = [(_type(printer, var), var.name) for var in op.outputs]
    line = printer.statement(bindings, op.op_type, args, {"name": printer.literal(op.name)})
    blocks = [_block(printer, block) for block in op.blocks]
    return "\n".join([line.removesuffix(";"), *blocks]) + ";" if blocks else line


def _block(printer, block):
    inputs = [(_type(printer, var), var.name) for var in block.inputs]
    statements = _statements(printer, block.operations)
    return printer.block(inputs, statements, [var.name for var in block.outputs])
