"""Ops that read at indices, one_hot and cumsum: gather, gather_along_axis, gather_nd, one_hot, cumsum.

From ios17 on an index may not be negative, so the cases with negative ones are ios15 and ios16."""

import numpy as np

from .case import Case, Inline, draw
from .reference import f64

SMALL = {"int8": np.int8, "uint8": np.uint8, "int16": np.int16, "uint16": np.uint16}


def integers(name, shape, dtype=np.float16):
    low = 0 if np.dtype(dtype).kind == "u" else -100
    return draw(name, shape, dtype, low, 100) if np.dtype(dtype).kind in "iu" else draw(name, shape, dtype)


def _gather(label, shape, indices, axis=None, *, dtype=np.float16, index=np.int32, opset="ios18",
            batch_dims=None, validate=None, constant=False):
    name = f"gather_{label}"
    x, indices = integers(name, shape, dtype), np.array(indices, index)
    along = 0 if axis is None else axis
    if batch_dims:
        want = np.stack([np.take(a, b, along - batch_dims) for a, b in zip(x, indices)])
    else:
        want = np.take(x, indices, along)
    args = {key: value for key, value in (("axis", axis), ("batch_dims", batch_dims),
                                          ("validate_indices", validate)) if value is not None}
    inputs = {"x": x, "indices": indices}
    if constant or indices.ndim == 0:
        args["indices"] = inputs.pop("indices")[()]
    return Case("gather", name, inputs, args, want, opset=opset, source="copied")


def _gather_cases():
    return [
        _gather("axis_0", [4, 3], [2, 0, 3, 2]),
        _gather("axis_1", [2, 5], [4, 1], 1),
        _gather("axis_negative", [2, 2, 4], [3, 0, 1], -1),
        _gather("scalar_index", [4, 3], 2, 0),
        _gather("scalar_index_middle", [2, 4, 3], 1, 1),
        _gather("to_scalar", [5], 3, 0),
        _gather("matrix_of_indices", [4, 3], [[0, 2], [3, 1]], 0),
        _gather("matrix_of_indices_axis_1", [2, 4, 2], [[0, 3, 1], [2, 2, 0]], 1),
        _gather("const_indices", [3, 2], [2, 1], 0, constant=True),
        _gather("batch_dims", [2, 4, 3], [[0, 3], [1, 1]], 1, batch_dims=1),
        _gather("batch_dims_axis_2", [2, 2, 4], [[0, 3], [1, 2]], 2, batch_dims=1, opset="ios16"),
        _gather("validated", [4], [3, 1], 0, validate=True),
        _gather("embedding", [7, 3], [[1, 6, 0]], 0, batch_dims=0, validate=False),
        _gather("rank_5", [1, 2, 3, 1, 2], [2, 0], 2),
        _gather("fp32", [3, 2], [1, 1], 0, dtype=np.float32),
        _gather("int32", [4], [3, 0, 0], 0, dtype=np.int32),
        *[_gather(name, [4, 2], [3, 0], 0, dtype=dtype) for name, dtype in SMALL.items()],
        *[_gather(f"{name}_indices", [4, 2], [3, 0, 1], 0, index=dtype) for name, dtype in SMALL.items()],
        _gather("int16_indices_ios16", [4, 2], [3, 0], 0, index=np.int16, opset="ios16"),
        _gather("negative_indices_ios15", [4, 3], [-1, 0, -4], 0, opset="ios15"),
        _gather("negative_indices_ios16", [2, 5], [-2, 4], 1, opset="ios16"),
    ]


def _along(label, shape, indices, axis=None, *, dtype=np.float16, index=np.int32, opset="ios18",
           validate=None):
    name = f"gather_along_axis_{label}"
    x, indices = integers(name, shape, dtype), np.array(indices, index)
    want = np.take_along_axis(x, indices.astype(np.int64), 0 if axis is None else axis)
    args = {key: value for key, value in (("axis", axis), ("validate_indices", validate))
            if value is not None}
    return Case("gather_along_axis", name, {"x": x, "indices": indices}, args, want, opset=opset,
                source="copied")


def _along_cases():
    return [
        _along("axis_0", [3, 2], [[2, 0], [1, 1]]),
        _along("axis_1", [2, 4], [[3, 0, 0], [1, 2, 3]], 1),
        _along("axis_negative", [2, 1, 3], [[[2, 1]], [[0, 0]]], -1),
        _along("longer_than_x", [2, 2], [[0, 1], [1, 0], [1, 1]], 0),
        _along("rank_1", [5], [4, 0, 2], 0),
        _along("targets", [1, 5, 1, 3], [[[[4, 0, 2]]]], 1),
        _along("rank_5", [1, 2, 3, 1, 1], [[[[[2]]], [[[0]]]]], 2),
        _along("validated", [3, 2], [[0, 2]], 0, validate=True),
        _along("fp32", [3, 2], [[1, 2]], 0, dtype=np.float32),
        _along("int32", [3, 2], [[1, 2]], 0, dtype=np.int32),
        *[_along(name, [3, 2], [[1, 2]], 0, dtype=dtype) for name, dtype in SMALL.items()],
        _along("uint16_indices", [3, 2], [[1, 2]], 0, index=np.uint16),
        _along("int8_indices", [3, 2], [[1, 2]], 0, index=np.int8),
        _along("negative_indices_ios15", [4, 2], [[-1, 0], [-4, 3]], 0, opset="ios15"),
        _along("int16_indices_ios16", [3, 2], [[1, 2]], 0, index=np.int16, opset="ios16"),
    ]


def _gather_nd(label, shape, indices, *, dtype=np.float16, index=np.int32, opset="ios18", batch_dims=None,
               validate=None, constant=False):
    name = f"gather_nd_{label}"
    x, indices = integers(name, shape, dtype), np.array(indices, index)

    def slices(x, indices, batch):
        if batch:
            return np.stack([slices(a, b, batch - 1) for a, b in zip(x, indices)])
        return x[tuple(np.moveaxis(indices.astype(np.int64), -1, 0))]

    args = {key: value for key, value in (("batch_dims", batch_dims), ("validate_indices", validate))
            if value is not None}
    inputs = {"x": x, "indices": indices}
    if constant:
        args["indices"] = inputs.pop("indices")
    return Case("gather_nd", name, inputs, args, slices(x, indices, batch_dims or 0), opset=opset, source="copied")


def _gather_nd_cases():
    return [
        _gather_nd("elements", [3, 4], [[2, 0], [1, 3], [2, 0]]),
        _gather_nd("rows", [3, 4], [[2], [0]]),
        _gather_nd("matrix_of_vectors", [2, 3, 2], [[[1, 0], [0, 2]], [[0, 0], [1, 1]]]),
        _gather_nd("one_vector", [3, 4], [1, 2]),
        _gather_nd("const_indices", [3, 2], [[2, 1]], constant=True),
        _gather_nd("batch_dims", [2, 3, 2], [[[1], [0]], [[2], [2]]], batch_dims=1),
        _gather_nd("batch_dims_2", [2, 2, 3], [[[2], [0]], [[1], [1]]], batch_dims=2, opset="ios16"),
        _gather_nd("validated", [4, 2], [[3, 1]], validate=True, constant=True),
        _gather_nd("rank_5", [1, 2, 2, 1, 3], [[0, 1, 1], [0, 0, 1]]),
        _gather_nd("fp32", [3, 2], [[1, 1]], dtype=np.float32),
        _gather_nd("int32", [4], [[3], [0]], dtype=np.int32),
        *[_gather_nd(name, [4, 2], [[3], [0]], dtype=dtype) for name, dtype in SMALL.items()],
        *[_gather_nd(f"{name}_indices", [4, 2], [[3, 0]], index=dtype) for name, dtype in SMALL.items()],
        _gather_nd("ios15", [3, 2], [[2, 0], [0, 1]], opset="ios15"),
    ]


def _one_hot(label, indices, size, axis=None, on=None, off=None, *, opset="ios18", literal=False):
    indices = np.array(indices, np.int32)
    used = -1 if axis is None else axis
    hot = np.moveaxis(indices[..., None] == np.arange(size), -1, used)
    want = np.where(hot, 1 if on is None else on, 0 if off is None else off)
    if want.dtype.kind == "f":
        want = f64(want)
    args = {"one_hot_vector_size": Inline(size) if literal else size}
    args.update({key: value for key, value in (("axis", axis), ("on_value", on), ("off_value", off))
                 if value is not None})
    return Case("one_hot", f"one_hot_{label}", {"indices": indices}, args, want, opset=opset, source="numpy")


def _one_hot_cases():
    half, single = np.float16, np.float32
    return [
        _one_hot("defaults", [2, 0, 1], 3),
        _one_hot("larger_size", [1, 3], 5, -1),
        _one_hot("axis_0", [2, 0, 1, 1], 3, 0),
        _one_hot("axis_negative_2", [2, 0], 3, -2),
        _one_hot("rank_2", [[0, 1], [2, 2]], 3, -1),
        _one_hot("rank_2_axis_1", [[0, 1], [2, 2]], 3, 1),
        _one_hot("fp16", [1, 0], 2, -1, half(1), half(0)),
        _one_hot("fp16_values", [1, 0, 2], 4, 0, half(0.9), half(0.025)),
        _one_hot("fp32", [3], 4, -1, single(-2.5), single(0.1)),
        _one_hot("int32_values", [1, 0], 2, -1, np.int32(7), np.int32(-3)),
        _one_hot("bool", [1, 0], 2, -1, np.bool_(True), np.bool_(False)),
        _one_hot("size_literal", [1], 2, literal=True),
        _one_hot("ios15", [0, 1], 2, -1, half(1), half(0), opset="ios15"),
    ]


def _cumsum(label, shape, axis=None, *, dtype=np.float16, exclusive=None, reverse=None, opset="ios18"):
    name = f"cumsum_{label}"
    x = integers(name, shape, dtype)
    used = 0 if axis is None else axis

    def scan(values):
        # At most 60 values of 24 bits and near exponents: exact in f64.
        values = np.flip(values, used) if reverse else values
        total = np.cumsum(values, used)
        total = total - values if exclusive else total
        return np.flip(total, used) if reverse else total

    wide = x.astype(np.int64) if np.dtype(dtype).kind == "i" else f64(x)
    args = {key: value for key, value in (("axis", axis), ("exclusive", exclusive), ("reverse", reverse))
            if value is not None}
    return Case("cumsum", name, {"x": x}, args, scan(wide), opset=opset, slack=16.0,
                magnitude=scan(np.abs(wide)) if wide.dtype.kind == "f" else None,
                value_inference="fails to concatenate" if exclusive else True)


def _cumsum_cases():
    return [
        _cumsum("defaults", [4, 3]),
        _cumsum("axis_1", [2, 5], 1, exclusive=False, reverse=False),
        _cumsum("axis_last", [2, 2, 4], -1),
        _cumsum("exclusive", [2, 5], 1, exclusive=True),
        _cumsum("reverse", [2, 5], 1, reverse=True),
        _cumsum("exclusive_reverse", [5, 2], 0, exclusive=True, reverse=True),
        _cumsum("fp32", [7], 0, dtype=np.float32),
        _cumsum("fp32_exclusive", [2, 4], 1, dtype=np.float32, exclusive=True),
        _cumsum("int32", [3, 3], 0, dtype=np.int32),
        _cumsum("int32_reverse", [5], 0, dtype=np.int32, reverse=True),
        _cumsum("size_1_axis", [3, 1], 1),
        _cumsum("rank_5", [1, 2, 3, 1, 2], 2),
        _cumsum("ios15", [3, 2], 1, opset="ios15"),
    ]


def files():
    yield "gather", "1.3", _gather_cases()
    yield "gather_1_0", "1.0", [
        _gather("scalar_index", [4, 3], 2, 0, opset="ios16"),
        _gather("negative_indices", [4, 3], [-1, 0], 0, opset="ios16"),
        _gather("batch_dims", [2, 4], [[0, 3], [1, 1]], 1, batch_dims=1, opset="ios17"),
    ]
    yield "gather_along_axis", "1.3", _along_cases()
    yield "gather_nd", "1.3", _gather_nd_cases()
    yield "one_hot", "1.3", _one_hot_cases()
    yield "cumsum", "1.3", _cumsum_cases()
