"""quantize and dequantize, in exact rational numbers."""

from fractions import Fraction

import numpy as np

from .case import Case, draw

RANGES = {"int8": (-128, 127), "uint8": (0, 255)}
NUMPY = {"int8": np.int8, "uint8": np.uint8}


def _along(parameter, axis, shape):
    """One entry for each element: a parameter that is a scalar, or a vector along an axis."""
    if parameter is None:
        return np.zeros(shape, np.int64)
    parameter = np.asarray(parameter)
    if parameter.ndim:
        parameter = parameter.reshape([-1 if place == axis % len(shape) else 1 for place in range(len(shape))])
    return np.broadcast_to(parameter, shape)


def _fraction(value):
    return Fraction(float(value))


def _quantized(value, scale, zero_point, output_dtype):
    low, high = RANGES[output_dtype]
    if np.isinf(value):
        return high if (value > 0) == (scale > 0) else low
    # Python rounds a fraction half to even.
    return min(max(round(_fraction(value) / _fraction(scale)) + int(zero_point), low), high)


def _quantize(label, shape, scale, output_dtype, *, zero_point=None, axis=None, x=None, wide=4.0, **keywords):
    name = f"quantize_{label}"
    x = draw(name, shape, scale.dtype, -wide, wide) if x is None else x
    args = {"scale": scale, "output_dtype": output_dtype}
    if zero_point is not None:
        args["zero_point"] = zero_point
    if axis is not None:
        args["axis"] = axis
    entries = zip(x.ravel(), _along(scale, axis, x.shape).ravel(), _along(zero_point, axis, x.shape).ravel())
    want = np.array([_quantized(*entry, output_dtype) for entry in entries], np.int64).reshape(x.shape)
    return Case("quantize", name, {"input": x}, args, want, opset="ios17", source="exact fractions", **keywords)


def _quantize_cases():
    halves = np.array([0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 0.25, -0.75], np.float16)
    ends = np.array([np.inf, -np.inf, 60000, -60000, 127, -128, 128, -129], np.float16)
    several = np.array([0.05, 0.0625, 0.3], np.float32)
    return [
        _quantize("int8_fp16", [2, 3], np.float16(0.0625), "int8"),
        _quantize("uint8_fp16", [2, 3], np.float16(0.0625), "uint8", zero_point=np.uint8(128)),
        _quantize("int8_fp32", [2, 3, 2], np.float32(0.037), "int8", zero_point=np.int8(-5)),
        _quantize("clamped", [3, 4], np.float32(0.01), "uint8", zero_point=np.uint8(100)),
        _quantize("axis", [2, 3, 2], several, "int8", axis=1),
        _quantize("negative_axis", [2, 3], several, "uint8", axis=-1, zero_point=np.array([0, 128, 255], np.uint8)),
        _quantize("halves", None, np.float16(1), "int8", x=halves),
        _quantize("halves_before_the_zero_point", None, np.float16(1), "int8", x=halves, zero_point=np.int8(1)),
        _quantize("ends", None, np.float16(1), "int8", x=ends),
        _quantize("negative_scale", [5], np.float32(-0.25), "int8"),
    ]


def _dequantize(label, shape, scale, dtype, *, zero_point=None, axis=None):
    name = f"dequantize_{label}"
    low, high = RANGES[dtype]
    x = draw(name, shape, NUMPY[dtype], low, high)
    args = {"scale": scale}
    if zero_point is not None:
        args["zero_point"] = zero_point
    if axis is not None:
        args["axis"] = axis
    wide, zero_points = x.astype(np.int64), _along(zero_point, axis, x.shape).astype(np.int64)
    # The product of nine bits and 24 is exact.
    want = _along(scale, axis, x.shape).astype(np.float64) * (wide - zero_points)
    return Case("dequantize", name, {"input": x}, args, want, opset="ios17", source="exact in f64")


def _dequantize_cases():
    several = np.array([0.05, 0.0625, 0.3], np.float16)
    return [
        _dequantize("int8_fp16", [2, 3], np.float16(0.0625), "int8"),
        _dequantize("uint8_fp16", [2, 3], np.float16(0.1), "uint8", zero_point=np.uint8(128)),
        _dequantize("int8_fp32", [2, 3, 2], np.float32(0.037), "int8", zero_point=np.int8(-5)),
        _dequantize("uint8_fp32", [7], np.float32(-1.3), "uint8"),
        _dequantize("axis", [2, 3, 2], several, "int8", axis=1),
        _dequantize("negative_axis", [2, 3], several.astype(np.float32), "uint8", axis=-1,
                    zero_point=np.array([0, 128, 255], np.uint8)),
        _dequantize("overflow", [4], np.float16(1000), "uint8"),
    ]


def files():
    yield "quantize", "1.3", _quantize_cases()
    yield "dequantize", "1.3", _dequantize_cases()
