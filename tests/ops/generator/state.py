"""Ops on state, and the two that only name a value: read_state, write_state, identity, const.

coremltools has no write_state (it is written by the decomposition of coreml_update_state on export), and a
const takes no operand, so these functions are put together here; the types are those of coremltools'
read_state, identity and const.
"""

import numpy as np
import coremltools as ct
from coremltools.converters.mil.mil import Builder as mb
from coremltools.converters.mil.mil import Function, types

from .case import Case, draw, mil_type, special_values, tensor_json
from .text import mil_dtype


class StateCase:
    """A function over one state `s` and perhaps an input `x`. `lines(printer, tensor)` gives its
    statements, `tensor` being the printed type of the state's content; the results are named tensors, and
    `after` is what the state holds in the end."""

    def __init__(self, name, before, after, inputs, outputs, lines, dtype=types.fp16):
        self.name, self.opset, self.lines = name, "ios18", lines
        self.before, self.after, self.inputs, self.outputs = before, after, inputs, outputs
        state = mb.state_tensor_placeholder(before.shape, dtype)
        with Function({"s": state}, opset_version=ct.target.iOS18) as function:
            self.type = mil_type(mb.read_state(input=function.inputs["s"]))
        assert self.type == (mil_dtype(before.dtype), before.shape)

    def mil(self, printer):
        tensor = printer.type(*self.type)
        inputs = [(f"state<{tensor}>", "s")] + [(printer.type_of(v), k) for k, v in self.inputs.items()]
        lines = self.lines(printer, tensor)
        return printer.function(self.name, self.opset, inputs, lines, list(self.outputs))

    def values(self):
        def tensor(value, source=None):
            return tensor_json(value, mil_dtype(np.asarray(value).dtype), source=source)

        return {
            "inputs": {key: tensor(value) for key, value in self.inputs.items()},
            "outputs": {key: tensor(value, "copied") for key, value in self.outputs.items()},
            "states": {"s": {"before": tensor(self.before), "after": tensor(self.after)}},
        }


def _read(printer, tensor, name):
    return printer.statement([(tensor, name)], "read_state", {"input": "s"}, {"name": printer.literal(name)})


def _write(printer, value, name):
    return printer.statement([], "write_state", {"data": value, "input": "s"},
                             {"name": printer.literal(name)})


def _identity(printer, x, name):
    return printer.statement([(printer.type_of(x), name)], "identity", {"x": "x"},
                             {"name": printer.literal(name)})


def _read_cases():
    def read(printer, tensor):
        return [_read(printer, tensor, "y")]

    def twice(printer, tensor):
        return [_read(printer, tensor, "y_0"), _read(printer, tensor, "y_1")]

    def beside(printer, tensor):
        return [_read(printer, tensor, "y"), _identity(printer, x, "z")]

    cases = []
    for name, shape in (("rank_1", [5]), ("rank_2", [2, 3]), ("rank_4", [1, 2, 1, 3])):
        s = draw(f"read_state_{name}", shape)
        cases.append(StateCase(f"read_state_{name}", s, s, {}, {"y": s}, read))
    s = special_values(np.float16)
    cases.append(StateCase("read_state_special", s, s, {}, {"y": s}, read))
    s = draw("read_state_twice", [2, 2])
    cases.append(StateCase("read_state_twice", s, s, {}, {"y_0": s, "y_1": s}, twice))
    s, x = draw("read_state_beside.s", [3]), draw("read_state_beside.x", [2, 2], np.float32)
    cases.append(StateCase("read_state_beside_an_input", s, s, {"x": x}, {"y": s, "z": x},
                           beside))
    return cases


def _write_cases():
    def write(printer, _):
        return [_write(printer, "x", "written"), _identity(printer, x, "y")]

    def write_read(printer, tensor):
        return [_write(printer, "x", "written"), _read(printer, tensor, "y")]

    def read_write_read(printer, tensor):
        return [_read(printer, tensor, "y_0"), _write(printer, "x", "written"), _read(printer, tensor, "y_1")]

    def accumulate(printer, tensor):
        total = printer.statement([(tensor, "y")], "add", {"x": "old", "y": "x"},
                                  {"name": printer.literal("y")})
        return [_read(printer, tensor, "old"), total, _write(printer, "y", "written")]

    s, x = draw("write_state.s", [2, 3]), draw("write_state.x", [2, 3])
    special = special_values(np.float16)
    whole = draw("write_state.whole", [2, 3], integers=True)
    step = draw("write_state.step", [2, 3], integers=True)
    constant = draw("write_state.constant", [2, 3])

    def write_const(printer, _):
        return [printer.const("c", constant), _write(printer, "c", "written"),
                _identity(printer, x, "y")]

    return [
        StateCase("write_state_only", s, x, {"x": x}, {"y": x}, write),
        StateCase("write_state_then_read", s, x, {"x": x}, {"y": x}, write_read),
        StateCase("write_state_between_reads", s, x, {"x": x}, {"y_0": s, "y_1": x}, read_write_read),
        StateCase("write_state_special", np.zeros_like(special), special, {"x": special}, {"y": special},
                  write_read),
        StateCase("write_state_accumulates", whole, whole + step, {"x": step}, {"y": whole + step},
                  accumulate),
        StateCase("write_state_const", s, constant, {"x": x}, {"y": x}, write_const),
    ]


class ConstCase:
    """A function whose result is a const."""

    def __init__(self, name, value, opset="ios18"):
        self.name, self.opset, self.value = name, opset, value
        with Function({}, opset_version=ct.target.iOS18):
            var = mb.const(val=value)
            assert mil_type(var) == (mil_dtype(np.asarray(value).dtype), np.shape(value)), name

    def mil(self, printer):
        return printer.function(self.name, self.opset, [], [printer.const("y", self.value)], ["y"])

    def values(self):
        dtype = mil_dtype(np.asarray(self.value).dtype)
        return {"inputs": {}, "outputs": {"y": tensor_json(self.value, dtype, source="copied")}}


def _const_cases(opset):
    names = {"fp16": np.float16, "fp32": np.float32, "int8": np.int8, "uint8": np.uint8, "int16": np.int16,
             "uint16": np.uint16, "int32": np.int32, "bool": np.bool_}
    cases = []
    for name, dtype in names.items():
        kind = np.dtype(dtype).kind
        low, high = (-4, 4) if kind == "f" else (0, 1) if kind == "b" else \
            (np.iinfo(dtype).min, np.iinfo(dtype).max)
        cases.append(ConstCase(f"const_{name}_scalar", draw(f"const_{name}_scalar", [], dtype, low, high)[()],
                               opset))
        cases.append(ConstCase(f"const_{name}", draw(f"const_{name}", [2, 3], dtype, low, high), opset))
    for name, dtype in (("fp16", np.float16), ("fp32", np.float32)):
        cases.append(ConstCase(f"const_{name}_special", special_values(dtype), opset))
    cases.append(ConstCase("const_rank_5", draw("const_rank_5", [1, 2, 1, 3, 2]), opset))
    cases.append(ConstCase("const_one_element", draw("const_one_element", [1, 1]), opset))
    cases.append(ConstCase("const_int32_limits", np.array([-2147483648, 2147483647], np.int32), opset))
    return cases


def _identity_cases():
    cases = []
    for name, dtype in (("fp16", np.float16), ("fp32", np.float32), ("int32", np.int32), ("bool", np.bool_)):
        x = draw(f"identity_{name}", [2, 3], dtype)
        cases.append(Case("identity", f"identity_{name}", {"x": x}, {}, x, source="copied"))
    x = special_values(np.float16)
    cases.append(Case("identity", "identity_fp16_special", {"x": x}, {}, x, source="copied"))
    x = draw("identity_rank_5", [1, 2, 1, 2, 3])
    cases.append(Case("identity", "identity_rank_5", {"x": x}, {}, x, opset="ios15", source="copied"))
    return cases


def files():
    yield "read_state", "1.3", _read_cases()
    yield "write_state", "1.3", _write_cases()
    yield "const", "1.3", _const_cases("ios18")
    yield "const_1_0", "1.0", _const_cases("ios17")
    yield "identity", "1.3", _identity_cases()
