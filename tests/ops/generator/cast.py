"""cast. Values outside an integer target's range are left out: no source defines them."""

import numpy as np

from .case import Case, Inline, draw, special_values
from .text import NUMPY_DTYPES


def _exact(x, target):
    """Truncation toward zero for integers, "not zero" for bool, the value itself for floats."""
    if target == "bool":
        return x != 0
    if target in ("fp16", "fp32"):
        return x.astype(np.float64)
    return np.trunc(x).astype(np.int64) if x.dtype.kind == "f" else x.astype(np.int64)


def _cast(name, x, target, opset="ios18", literal=False):
    value = Inline(target) if literal else target
    return Case("cast", name, {"x": x}, {"dtype": value}, _exact(x, target), opset=opset,
                source="exact" if target in ("fp16", "fp32") else "numpy")


def _between(source, target):
    """Values that both dtypes hold."""
    name = f"cast_{source}_to_{target}"
    if "bool" in (source, target):
        x = draw(name, [2, 3], NUMPY_DTYPES[source], -1, 1, integers=True) if source[0] != "u" else \
            draw(name, [2, 3], NUMPY_DTYPES[source], 0, 1)
        return _cast(name, x, target)
    integers = [np.iinfo(NUMPY_DTYPES[dtype]) for dtype in (source, target) if "int" in dtype]
    floats = 3000 if source in ("fp16", "fp32") else 60000
    low = max([info.min for info in integers] + [-floats])
    high = min([info.max for info in integers] + [floats])
    return _cast(name, draw(name, [2, 3], NUMPY_DTYPES[source], low, high), target)


def _special_cases():
    halves = [0.5, -0.5, 1.5, -1.5, 2.5, 0.99951171875, -0.99951171875, -0.0]
    cases = []
    for source in ("fp16", "fp32"):
        x = np.array(halves, NUMPY_DTYPES[source])
        cases.append(_cast(f"cast_{source}_to_int32_truncates", x, "int32"))
        cases.append(_cast(f"cast_{source}_special_to_bool", special_values(NUMPY_DTYPES[source]), "bool"))
    cases.append(_cast("cast_fp16_special_to_fp32", special_values(np.float16), "fp32"))
    cases.append(_cast("cast_fp32_special_to_fp16", special_values(np.float32), "fp16"))
    # Halfway between fp16 neighbours, just past, the overflow threshold 65520, and subnormals.
    ties = [1 + 2**-11, 1 + 3 * 2**-11, 1 + 2**-11 + 2**-20, 65519.996, 65520, -65520, 2**-25, 3 * 2**-25,
            2**-24 * 1.5, 2**-14 - 2**-26, 1e-9]
    cases.append(_cast("cast_fp32_to_fp16_rounds_to_even", np.array(ties, np.float32), "fp16"))
    x = np.array([2049, 2050, 2051, -4097, 65519, 65520, 70000, 2147483647], np.int32)
    cases.append(_cast("cast_int32_to_fp16_rounds", x, "fp16"))
    x = np.array([16777217, 16777219, -33554435, 2147483647, -2147483648], np.int32)
    cases.append(_cast("cast_int32_to_fp32_rounds", x, "fp32"))
    x = np.array([2147483520, -2147483648, 16777216], np.float32)
    cases.append(_cast("cast_fp32_to_int32_large", x, "int32"))
    x = draw("cast_rank_5", [1, 2, 1, 3, 2], np.float32)
    cases.append(_cast("cast_rank_5", x, "fp16"))
    cases.append(_cast("cast_literal", x[0, 0, 0], "int32", literal=True))
    return cases


def files():
    old = ["fp16", "fp32", "int32", "bool"]
    new = ["int8", "uint8", "int16", "uint16"]
    pairs = [(a, b) for a in old + new for b in old + new if a != b]
    ios15 = _cast("cast_ios15", draw("cast_ios15", [4], np.float32), "fp16", opset="ios15")
    yield "cast", "1.3", [_between(*pair) for pair in pairs] + _special_cases() + [ios15]
    yield "cast_1_0", "1.0", [
        _cast("cast_fp32_to_fp16", draw("cast_1_0.a", [2, 2], np.float32), "fp16", opset="ios15"),
        _cast("cast_fp16_to_int32", draw("cast_1_0.b", [2, 2]), "int32", opset="ios16"),
        _cast("cast_fp16_to_int8", draw("cast_1_0.c", [3]), "int8", opset="ios17"),
        _cast("cast_literal", draw("cast_1_0.d", [3]), "bool", opset="ios17", literal=True),
    ]
