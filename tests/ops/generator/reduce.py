"""Reductions over axes, reduce_argmax and softmax."""

import numpy as np

from . import reference
from .case import Case, Inline, draw
from .reference import f64

LAYOUTS = {
    "": ([3, 5], {"axes": [1], "keep_dims": False}),
    "keep_dims": ([3, 5], {"axes": [0], "keep_dims": True}),
    "all_axes": ([2, 3, 2], {}),
    "all_axes_keep_dims": ([2, 3], {"keep_dims": True}),
    "negative_axes": ([2, 3, 4], {"axes": [-1, 0]}),
    "rank_1_to_scalar": ([7], {"axes": [0]}),
    "channels_of_rank_4": ([1, 6, 1, 3], {"axes": [1], "keep_dims": True}),
    "size_1_axis": ([3, 1, 2], {"axes": [1]}),
    "rank_5": ([2, 1, 3, 2, 2], {"axes": [0, 2, 4], "keep_dims": False}),
}


def _apply(function, x, parameters):
    """A sequence axis by axis function (numpy's signature) with MIL's defaults."""
    return function(x, parameters.get("axes"), parameters.get("keep_dims", False))


def _sum(x, axes, keep_dims):
    return reference.exact_sum(x, axes, keep_dims), reference.exact_sum(np.abs(f64(x)), axes, keep_dims)


def _mean(x, axes, keep_dims):
    total, magnitude = _sum(x, axes, keep_dims)
    count = x.size / total.size
    return total / count, magnitude / count


def _sum_square(x, axes, keep_dims):
    total = reference.exact_sum(f64(x) ** 2, axes, keep_dims)
    return total, total


def _numpy(function):
    def apply(x, axes, keep_dims):
        axis = None if axes is None else tuple(axes)
        return np.asarray(function(f64(x), axis=axis, keepdims=keep_dims)), None

    return apply


def _reduction(op, function, *, low=-4.0, high=4.0, source="exact sum", integers=True, slack=8.0):
    cases = []

    def add(name, x, parameters, **keywords):
        want, magnitude = _apply(function, x, parameters)
        if x.dtype.kind == "i":
            want, magnitude = np.trunc(want).astype(np.int64), None
        parameters = {key: value for key, value in parameters.items()}
        cases.append(Case(op, name, {"x": x}, parameters, want, magnitude=magnitude, source=source,
                          slack=slack, **keywords))

    for layout, (shape, parameters) in LAYOUTS.items():
        name = "_".join(filter(None, [op, "fp16", layout]))
        add(name, draw(name, shape, np.float16, low, high), parameters)
    for layout in ("", "all_axes", "channels_of_rank_4"):
        shape, parameters = LAYOUTS[layout]
        name = "_".join(filter(None, [op, "fp32", layout]))
        add(name, draw(name, shape, np.float32, low, high), parameters)
    add(f"{op}_ios15", draw(f"{op}_ios15", [2, 3], np.float16, low, high), {"axes": [1]}, opset="ios15")
    if integers:
        add(f"{op}_int32", draw(f"{op}_int32", [3, 4], np.int32, -4, 4), {"axes": [0], "keep_dims": True})
    return cases


def _reduce_sum():
    cases = _reduction("reduce_sum", _sum)
    x = np.full([40], 60000, np.float16)
    x[1::2] = -60000
    x[0] = 0.5
    for op, function in (("reduce_sum", _sum),):
        want, magnitude = function(x, [0], True)
        cases.append(Case(op, f"{op}_fp16_cancels_beyond_range", {"x": x}, {"axes": [0], "keep_dims": True},
                          want, magnitude=magnitude, source="exact sum",
                          value_inference="numpy's partial sums overflow fp16"))
    x = np.array([[65504, 65504], [1, np.inf]], np.float16)
    want = np.array([131008, np.inf])
    cases.append(Case("reduce_sum", "reduce_sum_fp16_overflow", {"x": x}, {"axes": Inline([1])}, want,
                      magnitude=want, source="exact sum"))
    return cases


def _reduce_sum_1_0():
    x = draw("reduce_sum_1_0", [2, 3])
    return [
        Case("reduce_sum", "reduce_sum_to_scalar", {"x": x}, {"keep_dims": False}, _sum(x, None, False)[0],
             magnitude=_sum(x, None, False)[1], opset="ios16", source="exact sum"),
        Case("reduce_sum", "reduce_sum_keep_dims", {"x": x}, {"axes": [1], "keep_dims": True},
             _sum(x, [1], True)[0], magnitude=_sum(x, [1], True)[1], opset="ios17", source="exact sum"),
    ]


def _softmax(name, x, axis=None, opset="ios18", literal=False):
    args = {} if axis is None else {"axis": Inline(axis) if literal else axis}
    want = reference.softmax(x, -1 if axis is None else axis)
    return Case("softmax", name, {"x": x}, args, want, opset=opset, source="mpmath", slack=16.0)


def _softmax_cases():
    large = np.array([[65504, 65504, -65504], [60000, 59968, 0]], np.float16)
    masked = np.array([[1, -np.inf, 2, -np.inf], [-np.inf, -np.inf, -np.inf, 0]], np.float16)
    return [
        _softmax("softmax_default_axis", draw("softmax_default_axis", [2, 5])),
        _softmax("softmax_axis_0", draw("softmax_axis_0", [3, 4]), 0),
        _softmax("softmax_axis_1_channels", draw("softmax_axis_1_channels", [1, 7, 1, 3], low=-9, high=9), 1),
        _softmax("softmax_axis_negative", draw("softmax_axis_negative", [2, 3, 2]), -2),
        _softmax("softmax_fp32", draw("softmax_fp32", [3, 5], np.float32, -20, 20), -1),
        _softmax("softmax_rank_1", draw("softmax_rank_1", [9]), 0, literal=True),
        _softmax("softmax_rank_5", draw("softmax_rank_5", [2, 1, 3, 1, 2]), 2),
        _softmax("softmax_size_1", draw("softmax_size_1", [3, 1]), 1),
        _softmax("softmax_largest_finite", large, 1),
        _softmax("softmax_fp32_largest_finite", np.array([[3.4e38, 3.4e38, -3.4e38]], np.float32), 1),
        _softmax("softmax_masked", masked, 1),
        _softmax("softmax_spread_underflows", np.array([0, -12, -17, -18, -30], np.float16), 0),
        _softmax("softmax_axis_0_ios15", draw("softmax_axis_0_ios15", [2, 3]), 0, opset="ios15"),
    ]


def _softmax_1_0():
    return [_softmax("softmax_axis_1", draw("softmax_1_0", [1, 4, 1, 2]), 1, opset="ios16"),
            _softmax("softmax_default_axis", draw("softmax_1_0.b", [3], np.float32), opset="ios17")]


def files():
    yield "reduce_sum", "1.3", _reduce_sum()
    yield "reduce_sum_1_0", "1.0", _reduce_sum_1_0()
    yield "softmax", "1.3", _softmax_cases()
    yield "softmax_1_0", "1.0", _softmax_1_0()
