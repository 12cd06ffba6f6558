"""Elementwise ops of two operands (and select): arithmetic, comparisons and logic, with broadcasting."""

import numpy as np

from .case import Case, Inline, Ref, draw, special_values
from .reference import f64, power

BROADCAST_SHAPES = {
    "broadcast_trailing": ([2, 3, 1], [4]),
    "broadcast_both": ([3, 1, 2], [1, 5, 1]),
    "rank_5": ([1, 2, 1, 3, 2], [2, 1, 2, 1, 2]),
}


def _pairs(op, name, dtype, function, *, low=-4.0, high=4.0, opset="ios18", **keywords):
    """One case with equal shapes, then those of BROADCAST_SHAPES."""
    cases = []
    shapes = {"": ([3, 5], [3, 5]), **BROADCAST_SHAPES} if name == "fp16" else {"": ([7], [7])}
    for kind, (shape_x, shape_y) in shapes.items():
        case_name = "_".join(filter(None, [op, name, kind]))
        x = draw(case_name + ".x", shape_x, dtype, low, high)
        y = draw(case_name + ".y", shape_y, dtype, low, high)
        cases.append(Case(op, case_name, {"x": x, "y": y}, {}, function(x, y), opset=opset, **keywords))
    return cases


def _grid(dtype, values):
    """Every pair of special values, as two flat arrays."""
    x, y = np.meshgrid(values, values, indexing="ij")
    return x.ravel().astype(dtype), y.ravel().astype(dtype)


def _integers(op, function, low=-100, high=100, **keywords):
    x = draw(f"{op}_int32.x", [2, 4], np.int32, low, high)
    y = draw(f"{op}_int32.y", [2, 1], np.int32, low, high)
    return Case(op, f"{op}_int32", {"x": x, "y": y}, {}, function(x, y), **keywords)


def _constants(op, function):
    """A scalar operand: a named const on the right, a literal on the left."""
    x = draw(f"{op}_scalar.x", [2, 3])
    right, left = np.float16(0.333251953125), np.float16(-1.5)
    return [
        Case(op, f"{op}_scalar_const", {"x": x}, {"y": right}, function(x, right)),
        Case(op, f"{op}_scalar_literal", {"y": x}, {"x": Inline(left)}, function(left, x)),
        Case(op, f"{op}_ios15", {"x": x}, {"y": right}, function(x, right), opset="ios15"),
    ]


def _in_f64(function):
    def apply(x, y):
        with np.errstate(all="ignore"):
            return function(f64(x), f64(y))

    return apply


SPECIAL = [0.0, -0.0, 1.0, -2.0, np.inf, -np.inf, np.nan]


def _arithmetic(op, function, *, integers=True):
    exact = _in_f64(function)
    cases = _pairs(op, "fp16", np.float16, exact) + _pairs(op, "fp32", np.float32, exact)
    cases += _constants(op, exact)
    for name, dtype in (("fp16", np.float16), ("fp32", np.float32)):
        info = np.finfo(dtype)
        edges = [float(info.max), -float(info.max), float(info.smallest_subnormal),
                 float(info.smallest_normal), 1.0, -0.75]
        x, y = _grid(dtype, edges)
        cases.append(Case(op, f"{op}_{name}_extremes", {"x": x, "y": y}, {}, exact(x, y)))
    x, y = _grid(np.float16, SPECIAL)
    cases.append(Case(op, f"{op}_fp16_special", {"x": x, "y": y}, {}, exact(x, y)))
    if integers:
        cases.append(_integers(op, function))
    return cases


def _real_div():
    exact = _in_f64(np.divide)
    cases = _arithmetic("real_div", np.divide, integers=False)
    # An int32 quotient that is not whole has no agreed meaning, so every one of these is.
    x, y = np.array([6, -6, 0, 35, -2147483647], np.int32), np.array([3, 2, 5, -7, 1], np.int32)
    cases.append(Case("real_div", "real_div_int32_whole", {"x": x, "y": y}, {}, exact(x, y).astype(np.int64)))
    return cases


def _floor_div():
    op = "floor_div"
    exact = _in_f64(np.floor_divide)
    cases = []
    for name, dtype in (("fp16", np.float16), ("fp32", np.float32)):
        x = draw(f"{op}_{name}.x", [3, 5], dtype, -20, 20)
        y = np.abs(draw(f"{op}_{name}.y", [3, 5], dtype, 0.5, 4)) * np.where(np.arange(5) % 2, -1, 1)
        y = y.astype(dtype)
        cases.append(Case(op, f"{op}_{name}", {"x": x, "y": y}, {}, exact(x, y)))
        x = np.array([7, -7, 7, -7, 6, -6, 0.5, -0.5], dtype)
        y = np.array([2, 2, -2, -2, 3, 3, 1, 1], dtype)
        cases.append(Case(op, f"{op}_{name}_signs", {"x": x, "y": y}, {}, exact(x, y)))
    x = draw(f"{op}_broadcast.x", [2, 1, 3], np.float16, -20, 20)
    y = draw(f"{op}_broadcast.y", [4, 1], np.float16, 0.5, 4)
    cases.append(Case(op, f"{op}_broadcast", {"x": x, "y": y}, {}, exact(x, y)))
    cases.append(Case(op, f"{op}_scalar_const", {"x": x}, {"y": np.float16(-0.75)}, exact(x, -0.75)))
    # Infinite operands are left out: numpy's remainder-based quotient and floor(x / y) disagree on them.
    x, y = np.array([1, -1, 0, 3], np.float16), np.array([0, 0, 0, 3], np.float16)
    cases.append(Case(op, f"{op}_by_zero", {"x": x, "y": y}, {}, exact(x, y)))
    x, y = np.array([7, -7, 7, -7, 6, -6, 0], np.int32), np.array([2, 2, -2, -2, 3, 3, 5], np.int32)
    cases.append(Case(op, f"{op}_int32_toward_minus_infinity", {"x": x, "y": y}, {}, x // y))
    x = np.array([2147483647, -2147483648], np.int32)
    cases.append(Case(op, f"{op}_int32_large", {"x": x}, {"y": Inline(np.int32(3))}, x.astype(np.int64) // 3))
    return cases


def _mod():
    """In f64 numpy's remainder is exact, and its sum with the divisor rounded once."""
    op, exact = "mod", _in_f64(np.mod)
    cases = _constants(op, exact)
    for name, dtype in (("fp16", np.float16), ("fp32", np.float32)):
        cases += _pairs(op, name, dtype, exact, low=-20, high=20)
        values = np.array([7, -7, 7, -7, 6, -6, 0.5, -0.5, 0, 0], dtype)
        divisors = np.array([2, 2, -2, -2, 3, -3, 1, 1, 2, -2], dtype)
        cases.append(Case(op, f"{op}_{name}_signs", {"x": values, "y": divisors}, {}, exact(values, divisors)))
        info = np.finfo(dtype)
        edges = [float(info.max), -float(info.max), float(info.smallest_subnormal), 1.0, -0.75]
        x, y = _grid(dtype, edges)
        cases.append(Case(op, f"{op}_{name}_extremes", {"x": x, "y": y}, {}, exact(x, y)))
    x, y = _grid(np.float16, SPECIAL)
    cases.append(Case(op, f"{op}_fp16_special", {"x": x, "y": y}, {}, exact(x, y)))
    x = np.array([7, -7, 7, -7, 6, -6, 0, 2147483647, -2147483648], np.int32)
    y = np.array([2, 2, -2, -2, 3, -3, 5, -2147483648, 3], np.int32)
    cases.append(Case(op, f"{op}_int32", {"x": x, "y": y}, {}, np.mod(x.astype(np.int64), y.astype(np.int64))))
    return cases


def _extremum(op, function):
    exact = _in_f64(function)
    cases = _pairs(op, "fp16", np.float16, exact) + _pairs(op, "fp32", np.float32, exact)
    cases += _constants(op, exact) + [_integers(op, function)]
    # Zeros of different sign are left out: either may be returned.
    for name, dtype in (("fp16", np.float16), ("fp32", np.float32)):
        info = np.finfo(dtype)
        x, y = _grid(dtype, [0.0, float(info.max), float(info.smallest_subnormal), -1.0, np.inf, -np.inf])
        cases.append(Case(op, f"{op}_{name}_special", {"x": x, "y": y}, {}, exact(x, y)))
    x = np.array([np.nan, 1, np.nan, np.nan], np.float16)
    y = np.array([1, np.nan, np.inf, np.nan], np.float16)
    cases.append(Case(op, f"{op}_nan_propagates", {"x": x, "y": y}, {}, exact(x, y)))
    return cases


def _pow():
    op = "pow"
    cases = []
    for name, dtype, shape in (("fp16", np.float16, [3, 5]), ("fp32", np.float32, [7])):
        x = draw(f"{op}_{name}.x", shape, dtype, 0.05, 5)
        y = draw(f"{op}_{name}.y", shape, dtype, -3, 3)
        cases.append(Case(op, f"{op}_{name}", {"x": x, "y": y}, {}, power(x, y), source="mpmath"))
        x = draw(f"{op}_{name}_half.x", [6], dtype, 0.01, 60)
        for exponent, label in ((-0.5, "minus_half"), (0.5, "half"), (2.0, "two"), (3.0, "three")):
            cases.append(Case(op, f"{op}_{name}_exponent_{label}", {"x": x}, {"y": dtype(exponent)},
                              power(x, exponent), source="mpmath"))
        x = np.array([-2, -2, -2, -0.5, -2, -1], dtype)
        y = np.array([2, 3, -1, -3, 0.5, 0], dtype)
        cases.append(Case(op, f"{op}_{name}_negative_base", {"x": x, "y": y}, {}, power(x, y),
                          source="mpmath"))
    x, y = _grid(np.float16, SPECIAL)
    cases.append(Case(op, f"{op}_fp16_special", {"x": x, "y": y}, {}, power(x, y), source="IEEE 754 pow"))
    x = draw(f"{op}_broadcast.x", [2, 1, 3], np.float16, 0.2, 3)
    y = draw(f"{op}_broadcast.y", [4, 1], np.float16, -2, 2)
    cases.append(Case(op, f"{op}_broadcast", {"x": x, "y": y}, {}, power(x, y), source="mpmath"))
    x, y = np.array([2, -3, 5, 0, -1], np.int32), np.array([10, 3, 0, 0, 7], np.int32)
    cases.append(Case(op, f"{op}_int32", {"x": x, "y": y}, {}, x.astype(np.int64) ** y))
    return cases


def _comparison(op, function):
    cases = []
    for name, dtype in (("fp16", np.float16), ("fp32", np.float32), ("int32", np.int32)):
        x = draw(f"{op}_{name}.x", [3, 5], dtype, -2, 2, integers=True)
        y = draw(f"{op}_{name}.y", [3, 5], dtype, -2, 2, integers=True)
        cases.append(Case(op, f"{op}_{name}", {"x": x, "y": y}, {}, function(x, y)))
    for kind, (shape_x, shape_y) in BROADCAST_SHAPES.items():
        x = draw(f"{op}_{kind}.x", shape_x, np.float16, -1, 1, integers=True)
        y = draw(f"{op}_{kind}.y", shape_y, np.float16, -1, 1, integers=True)
        cases.append(Case(op, f"{op}_{kind}", {"x": x, "y": y}, {}, function(x, y)))
    for name, dtype in (("fp16", np.float16), ("fp32", np.float32)):
        info = np.finfo(dtype)
        next_up = np.nextafter(dtype(1), dtype(2))
        x, y = _grid(dtype, [0.0, -0.0, 1.0, next_up, float(info.smallest_subnormal), np.inf, np.nan])
        cases.append(Case(op, f"{op}_{name}_special", {"x": x, "y": y}, {}, function(x, y)))
    x = np.array([16777216, 16777217, 2147483647], np.int32)
    y = np.array([16777217, 16777216, 2147483646], np.int32)
    cases.append(Case(op, f"{op}_int32_beyond_fp32", {"x": x, "y": y}, {}, function(x, y)))
    x = draw(f"{op}_scalar.x", [2, 3], np.float16, -1, 1, integers=True)
    cases.append(Case(op, f"{op}_scalar_const", {"x": x}, {"y": np.float16(0)}, function(x, np.float16(0)),
                      opset="ios16"))
    return cases


def _logical(op, function):
    x, y = np.array([False, False, True, True]), np.array([False, True, False, True])
    cases = [Case(op, f"{op}_truth_table", {"x": x, "y": y}, {}, function(x, y))]
    for kind, (shape_x, shape_y) in BROADCAST_SHAPES.items():
        x, y = draw(f"{op}_{kind}.x", shape_x, np.bool_), draw(f"{op}_{kind}.y", shape_y, np.bool_)
        cases.append(Case(op, f"{op}_{kind}", {"x": x, "y": y}, {}, function(x, y)))
    for value in (False, True):
        x = draw(f"{op}_scalar.x", [5], np.bool_)
        cases.append(Case(op, f"{op}_scalar_{str(value).lower()}", {"x": x}, {"y": value}, function(x, value),
                          opset="ios15"))
    return cases


def _select():
    op, cases = "select", []
    for name, dtype in (("fp16", np.float16), ("fp32", np.float32), ("int32", np.int32), ("bool", np.bool_)):
        condition = draw(f"{op}_{name}.cond", [2, 3], np.bool_)
        a, b = draw(f"{op}_{name}.a", [2, 3], dtype), draw(f"{op}_{name}.b", [2, 3], dtype)
        cases.append(Case(op, f"{op}_{name}", {"cond": condition, "a": a, "b": b}, {},
                          np.where(condition, a, b)))
    condition = draw(f"{op}_broadcast.cond", [2, 1, 3], np.bool_)
    a, b = draw(f"{op}_broadcast.a", [2, 4, 3]), draw(f"{op}_broadcast.b", [4, 1])
    cases.append(Case(op, f"{op}_broadcast", {"cond": condition, "a": a, "b": b}, {},
                      np.where(condition, a, b)))
    values = special_values(np.float16)
    condition = np.arange(len(values)) % 2 == 0
    cases.append(Case(op, f"{op}_fp16_special", {"cond": condition, "a": values, "b": values[::-1]}, {},
                      np.where(condition, values, values[::-1])))
    masked = np.float16(-np.inf)
    condition, a = draw(f"{op}_mask.cond", [2, 3], np.bool_), draw(f"{op}_mask.a", [2, 3])
    cases.append(Case(op, f"{op}_scalar_operand", {"cond": condition, "a": a}, {"b": masked},
                      np.where(condition, a, masked), opset="ios15"))
    for value in (True, False):
        a, b = draw(f"{op}_const.a", [2, 2]), draw(f"{op}_const.b", [2, 2])
        cases.append(Case(op, f"{op}_scalar_condition_{str(value).lower()}", {"a": a, "b": b},
                          {"cond": value}, np.where(value, a, b)))
    return cases


def _add_1_0():
    x, y = draw("add_1_0.x", [2, 3]), draw("add_1_0.y", [3])
    scalar = np.float16(0.1)
    return [
        Case("add", "add_broadcast", {"x": x, "y": y}, {}, f64(x) + f64(y), opset="ios16"),
        Case("add", "add_scalar_const", {"x": x}, {"y": scalar}, f64(x) + f64(scalar), opset="ios16"),
        Case("add", "add_x_plus_x", {"x": x}, {"y": Ref("x"), "x": Ref("x")}, f64(x) * 2, opset="ios15"),
        Case("add", "add_int32", {"x": np.array([1, -2], np.int32)}, {"y": 2147483645},
             np.array([2147483646, 2147483643]), opset="ios17"),
    ]


def files():
    yield "add", "1.3", _arithmetic("add", np.add)
    yield "add_1_0", "1.0", _add_1_0()
    yield "sub", "1.3", _arithmetic("sub", np.subtract)
    yield "mul", "1.3", _arithmetic("mul", np.multiply)
    yield "real_div", "1.3", _real_div()
    yield "floor_div", "1.3", _floor_div()
    yield "mod", "1.3", _mod()
    yield "maximum", "1.3", _extremum("maximum", np.maximum)
    yield "minimum", "1.3", _extremum("minimum", np.minimum)
    yield "pow", "1.3", _pow()
    for op, function in (("equal", np.equal), ("not_equal", np.not_equal), ("less", np.less),
                         ("less_equal", np.less_equal), ("greater", np.greater),
                         ("greater_equal", np.greater_equal)):
        yield op, "1.3", _comparison(op, function)
    for op, function in (("logical_and", np.logical_and), ("logical_or", np.logical_or),
                         ("logical_xor", np.logical_xor)):
        yield op, "1.3", _logical(op, function)
    yield "select", "1.3", _select()
