"""Reductions over axes, reduce_argmax and softmax."""

from fractions import Fraction

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
    """Calls function(x, axes, keep_dims) with MIL's defaults: all axes, removed."""
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


def _l1_norm(x, axes, keep_dims):
    total = reference.exact_sum(np.abs(f64(x)), axes, keep_dims)
    return total, total


def _l2_norm(x, axes, keep_dims):
    return reference.sqrt(_sum_square(x, axes, keep_dims)[0]), None


def _log_sum(x, axes, keep_dims):
    """An error of the sum, relative to Σ|x|, is one of the logarithm, relative to Σ|x| / Σx."""
    total, terms = _sum(x, axes, keep_dims)
    logarithm = reference.log(total)
    return logarithm, terms / np.abs(total) + np.abs(logarithm)


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
    want, magnitude = _sum(x, [0], True)
    cases.append(Case("reduce_sum", "reduce_sum_fp16_cancels_beyond_range", {"x": x},
                      {"axes": [0], "keep_dims": True}, want, magnitude=magnitude, source="exact sum",
                      value_inference="numpy's partial sums overflow fp16"))
    x = np.array([[65504, 65504], [1, np.inf]], np.float16)
    want = np.array([131008, np.inf])
    cases.append(Case("reduce_sum", "reduce_sum_fp16_overflow", {"x": x}, {"axes": Inline([1])}, want,
                      magnitude=want, source="exact sum"))
    return cases


def _product(x, axes, keep_dims):
    exact = np.vectorize(Fraction, otypes=[object])(f64(x))
    axis = None if axes is None else tuple(axes)
    return f64(np.asarray(np.multiply.reduce(exact, axis=axis, keepdims=keep_dims))), None


def _reduce_prod():
    cases = _reduction("reduce_prod", _product, low=0.4, high=1.9, source="exact product")
    x = np.array([[-2, 0.5, 3], [-1.5, -1, 0]], np.float16)
    cases.append(Case("reduce_prod", "reduce_prod_signs_and_zero", {"x": x}, {"axes": [1]},
                      f64([-3, 0]), source="exact product"))
    x = np.full([3, 4], 300, np.float16)
    x[1] = 2**-7
    cases.append(Case("reduce_prod", "reduce_prod_fp16_over_and_underflow", {"x": x}, {"axes": [1]},
                      f64([300.0**4, 2.0**-28, 300.0**4]), source="exact product"))
    return cases


def _extreme(op, function):
    cases = _reduction(op, _numpy(function), source="numpy f64")
    for name, dtype in (("fp16", np.float16), ("fp32", np.float32)):
        x = np.array([[np.inf, 1, -np.inf], [-np.inf, -np.inf, -np.inf], [np.finfo(dtype).max, 0, -1],
                      [-1, -np.finfo(dtype).smallest_subnormal, -2]], dtype)
        cases.append(Case(op, f"{op}_{name}_infinities", {"x": x}, {"axes": [1]}, function(f64(x), axis=1)))
    x = np.array([[np.nan, 1, 2], [1, np.nan, np.inf]], np.float16)
    cases.append(Case(op, f"{op}_nan_propagates", {"x": x}, {"axes": [-1]}, function(f64(x), axis=-1)))
    x = np.array([16777217, 16777216, -5], np.int32)
    cases.append(Case(op, f"{op}_int32_beyond_fp32", {"x": x}, {"axes": [0]}, function(x)))
    return cases


def _reduce_mean():
    cases = _reduction("reduce_mean", _mean, integers=False)
    # coremltools takes the mean in f64 and converts it to int32, toward zero.
    x = np.array([[1, 2, 4], [-1, -2, -4], [3, 6, 9]], np.int32)
    cases.append(Case("reduce_mean", "reduce_mean_int32_toward_zero", {"x": x}, {"axes": [1]},
                      np.array([2, -2, 6])))
    x = np.full([2, 6], 60000, np.float16)
    cases.append(Case("reduce_mean", "reduce_mean_fp16_sum_beyond_range", {"x": x}, {"axes": [1]},
                      f64([60000, 60000]), magnitude=f64([60000, 60000]), source="exact sum"))
    return cases


def _reduce_sum_square():
    cases = _reduction("reduce_sum_square", _sum_square)
    x = np.array([[200, 150], [300, 1]], np.float16)
    want = f64([62500, 90001])
    cases.append(Case("reduce_sum_square", "reduce_sum_square_fp16_overflow", {"x": x}, {"axes": [1]}, want,
                      magnitude=want, source="exact sum"))
    return cases


def _reduce_log_sum_exp():
    op = "reduce_log_sum_exp"
    cases = _reduction(op, reference.log_sum_exp, source="mpmath", integers=False)
    rows = {"large": [[65504, 65504, -65504], [60000, 0, 1], [-65504, -65504, -65504]],
            "masked": [[-np.inf, 1, 2], [0, -np.inf, -np.inf], [-np.inf, -3, 4]]}
    for label, values in rows.items():
        x = np.array(values, np.float16)
        want, magnitude = reference.log_sum_exp(x, [1])
        cases.append(Case(op, f"{op}_fp16_{label}", {"x": x}, {"axes": [1]}, want, magnitude=magnitude,
                          source="mpmath"))
    return cases


def _norms():
    l1, l2 = _reduction("reduce_l1_norm", _l1_norm), _reduction("reduce_l2_norm", _l2_norm, source="mpmath", integers=False)
    x = np.array([[60000, -60000], [0, -0.0]], np.float16)
    l1.append(Case("reduce_l1_norm", "reduce_l1_norm_fp16_overflow", {"x": x}, {"axes": [1]}, f64([120000, 0]),
                   magnitude=f64([120000, 0]), source="exact sum"))
    x = np.array([[30000, -40000], [0, 0]], np.float16)
    l2.append(Case("reduce_l2_norm", "reduce_l2_norm_fp16_squares_overflow", {"x": x}, {"axes": [1]},
                   f64([50000, 0]), source="exact", value_inference="numpy's squares overflow fp16"))
    x = np.array([[3, -4], [1, 1], [2, 2]], np.int32)
    l2.append(Case("reduce_l2_norm", "reduce_l2_norm_int32_toward_zero", {"x": x}, {"axes": [1]},
                   np.array([5, 1, 2]), source="numpy"))
    return l1, l2


def _reduce_log_sum():
    cases = _reduction("reduce_log_sum", _log_sum, low=0.25, high=4.0, source="mpmath", integers=False)
    x = np.array([[1, 0, 0], [5, 3, 12], [400, 3, 0]], np.int32)
    cases.append(Case("reduce_log_sum", "reduce_log_sum_int32_toward_zero", {"x": x}, {"axes": [1]},
                      np.array([0, 2, 5]), source="numpy"))
    x = np.array([[1, -1], [-2, 1], [np.inf, 1]], np.float16)
    cases.append(Case("reduce_log_sum", "reduce_log_sum_fp16_special", {"x": x}, {"axes": [1]},
                      f64([-np.inf, np.nan, np.inf]), source="numpy"))
    return cases


def _argmin_cases():
    infinite = np.array([[1, -np.inf, 2], [np.inf, 65504, np.inf]], np.float16)
    return [
        _argmax("default_axis", [3, 5], op="reduce_argmin"),
        _argmax("axis_0", [4, 3], 0, keep_dims=False, op="reduce_argmin"),
        _argmax("axis_1_keep_dims", [1, 6, 1, 3], 1, keep_dims=True, op="reduce_argmin"),
        _argmax("axis_negative", [2, 4, 3], -2, op="reduce_argmin"),
        _argmax("fp32", [3, 5], 1, dtype=np.float32, op="reduce_argmin"),
        _argmax("int32", [3, 5], 1, dtype=np.int32, op="reduce_argmin"),
        _argmax("output_uint16", [3, 5], 1, output="uint16", op="reduce_argmin"),
        _argmax("ios15", [3, 4], 1, keep_dims=True, opset="ios15", op="reduce_argmin"),
        Case("reduce_argmin", "reduce_argmin_infinities", {"x": infinite}, {"axis": 1}, np.array([1, 1]),
             source="numpy"),
    ]


def _argmax(label, shape, axis=None, *, keep_dims=None, dtype=np.float16, output=None, opset="ios18",
            op="reduce_argmax"):
    """Without ties: which of them is returned is not defined."""
    name = f"{op}_{label}"
    order = np.argsort(draw(name, [int(np.prod(shape))], np.float32)).reshape(shape)
    x = ((order - order.size // 2) * (1 if dtype is np.int32 else 0.75)).astype(dtype)
    args = {key: value for key, value in (("axis", axis), ("keep_dims", keep_dims), ("output_dtype", output))
            if value is not None}
    find = np.argmin if op == "reduce_argmin" else np.argmax
    want = find(x, -1 if axis is None else axis, keepdims=bool(keep_dims))
    return Case(op, name, {"x": x}, args, want, opset=opset, source="numpy")


def _argmax_cases():
    infinite = np.array([[1, np.inf, 2], [-np.inf, -65504, -np.inf]], np.float16)
    return [
        _argmax("default_axis", [3, 5]),
        _argmax("axis_0", [4, 3], 0, keep_dims=False),
        _argmax("axis_1_keep_dims", [1, 6, 1, 3], 1, keep_dims=True),
        _argmax("axis_negative", [2, 4, 3], -2),
        _argmax("rank_1", [7], 0, keep_dims=True),
        _argmax("rank_5", [1, 2, 3, 1, 2], 2),
        _argmax("size_1_axis", [3, 1], 1),
        _argmax("fp32", [3, 5], 1, dtype=np.float32),
        _argmax("int32", [3, 5], 1, dtype=np.int32),
        _argmax("output_uint16", [3, 5], 1, output="uint16"),
        _argmax("output_int32_ios17", [3, 5], 0, output="int32", opset="ios17"),
        _argmax("ios15", [3, 4], 1, keep_dims=True, opset="ios15"),
        Case("reduce_argmax", "reduce_argmax_infinities", {"x": infinite}, {"axis": 1}, np.array([1, 1]),
             source="numpy"),
    ]


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
    yield "reduce_mean", "1.3", _reduce_mean()
    yield "reduce_max", "1.3", _extreme("reduce_max", np.max)
    yield "reduce_min", "1.3", _extreme("reduce_min", np.min)
    yield "reduce_prod", "1.3", _reduce_prod()
    yield "reduce_log_sum_exp", "1.3", _reduce_log_sum_exp()
    yield "reduce_sum_square", "1.3", _reduce_sum_square()
    l1, l2 = _norms()
    yield "reduce_l1_norm", "1.3", l1
    yield "reduce_l2_norm", "1.3", l2
    yield "reduce_log_sum", "1.3", _reduce_log_sum()
    yield "reduce_argmax", "1.3", _argmax_cases()
    yield "reduce_argmin", "1.3", _argmin_cases()
    yield "softmax", "1.3", _softmax_cases()
    yield "softmax_1_0", "1.0", _softmax_1_0()
