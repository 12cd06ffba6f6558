"""Ops that write at indices: scatter, scatter_along_axis, scatter_nd.

Updates apply one after the other."""

import numpy as np

from .case import Case, Inline, draw
from .indexing import integers

COMBINE = {"update": lambda a, b: b, "add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide,
           "max": np.maximum, "min": np.minimum}


def _case(op, label, shape, indices, update_shape, places, mode, *, dtype=np.float16, opset="ios18", axis=None,
          validate=None, literal=False, constant=False):
    """`places` lists, for every update in order, the index of it and of the part of `data` that it meets."""
    name = f"{op}_{label}"
    data = integers(name + ".data", shape, dtype)
    updates = integers(name + ".updates", update_shape, dtype)
    if mode == "div":
        updates = draw(name + ".updates", update_shape, dtype, 0.5, 4)
    wide = np.int64 if np.dtype(dtype).kind == "i" else np.float64
    want = data.astype(wide)
    magnitude = np.abs(want)
    for update, place in places:
        want[place] = COMBINE[mode](want[place], updates[update].astype(wide))
        magnitude[place] += np.abs(updates[update].astype(wide))
    args = {"mode": Inline(mode) if literal else mode}
    args.update({key: value for key, value in (("axis", axis), ("validate_indices", validate))
                 if value is not None})
    inputs = {"data": data, "indices": np.array(indices, np.int32), "updates": updates}
    if constant:
        args["indices"] = inputs.pop("indices")
    sums = mode in ("add", "sub") and wide is np.float64
    # The one value inference there is, of scatter_along_axis, ignores the mode.
    return Case(op, name, inputs, args, want, opset=opset, magnitude=magnitude if sums else None,
                value_inference=True if mode == "update" else "ignores the mode")


def _scatter(label, shape, indices, axis=None, mode="update", **keywords):
    used = (0 if axis is None else axis) % len(shape)
    update_shape = [len(indices) if i == used else length for i, length in enumerate(shape)]
    before = (slice(None),) * used
    places = [((*before, i), (*before, index)) for i, index in enumerate(indices)]
    return _case("scatter", label, shape, indices, update_shape, places, mode, axis=axis, **keywords)


def _scatter_cases():
    return [
        _scatter("update", [4, 3], [2, 0]),
        _scatter("update_axis_1", [2, 4], [3, 1], 1),
        _scatter("update_axis_negative", [2, 2, 3], [0, 2], -1),
        _scatter("add", [4, 3], [1, 3], 0, "add"),
        _scatter("add_repeated_index", [3, 2], [1, 1, 0, 1], 0, "add"),
        _scatter("sub", [4, 2], [0, 2], 0, "sub"),
        _scatter("sub_repeated_index", [3], [2, 2], 0, "sub"),
        _scatter("mul", [3, 2], [2, 0], 0, "mul"),
        _scatter("div", [3, 2], [1, 0], 0, "div"),
        _scatter("max", [3, 2], [1, 2], 0, "max"),
        _scatter("min_repeated_index", [3, 2], [1, 1, 0], 0, "min"),
        _scatter("fp32_add", [3, 2], [2, 0], 0, "add", dtype=np.float32),
        _scatter("int32_add", [4], [3, 3, 0], 0, "add", dtype=np.int32),
        _scatter("int32_update", [2, 3], [1], 1, dtype=np.int32),
        _scatter("rank_4", [1, 4, 1, 2], [3, 0], 1, "add"),
        _scatter("validated", [3, 2], [0, 2], 0, validate=True),
        _scatter("mode_literal", [3], [1], 0, "add", literal=True),
        _scatter("add_ios15", [3, 2], [2, 1], 0, "add", opset="ios15"),
    ]


def _along(label, shape, indices, axis=None, mode="update", **keywords):
    used = (0 if axis is None else axis) % len(shape)
    array = np.array(indices)
    places = [(at, (*at[:used], array[at], *at[used + 1:])) for at in np.ndindex(array.shape)]
    return _case("scatter_along_axis", label, shape, indices, array.shape, places, mode, axis=axis, **keywords)


def _along_cases():
    return [
        _along("update", [3, 2], [[2, 0], [1, 1]]),
        _along("update_repeated_index", [3, 2], [[2, 0], [2, 1]], 0),
        _along("axis_1", [2, 4], [[3, 0, 0], [1, 2, 3]], 1, "add"),
        _along("axis_negative", [2, 1, 3], [[[2, 1]], [[0, 0]]], -1, "add"),
        _along("longer_than_data", [2, 2], [[0, 1], [1, 0], [1, 1]], 0, "add"),
        _along("sub", [3, 2], [[2, 0], [1, 0]], 0, "sub"),
        _along("mul_repeated_index", [3, 2], [[2, 0], [2, 0]], 0, "mul"),
        _along("div", [3, 2], [[2, 0]], 0, "div"),
        _along("max", [3, 2], [[2, 0], [1, 0]], 0, "max"),
        _along("min", [3, 2], [[2, 0], [1, 0]], 0, "min"),
        _along("fp32", [3, 2], [[1, 2]], 0, "add", dtype=np.float32),
        _along("int32", [3, 2], [[1, 2], [1, 0]], 0, "add", dtype=np.int32),
        _along("targets", [1, 5, 1, 3], [[[[4, 0, 2]]]], 1, "sub"),
        _along("rank_5", [1, 2, 3, 1, 1], [[[[[2]]], [[[0]]]]], 2, "add"),
        _along("validated", [3, 2], [[0, 2]], 0, validate=True),
        _along("mode_literal", [3], [1], 0, "add", literal=True),
        _along("ios15", [3, 2], [[2, 1]], 0, "add", opset="ios15"),
    ]


def _nd(label, shape, indices, mode="update", **keywords):
    array = np.array(indices)
    places = [(at, tuple(array[at].tolist())) for at in np.ndindex(array.shape[:-1])]
    update_shape = [*array.shape[:-1], *shape[array.shape[-1]:]]
    return _case("scatter_nd", label, shape, indices, update_shape, places, mode, **keywords)


def _nd_cases():
    return [
        _nd("elements", [3, 4], [[2, 0], [1, 3]]),
        _nd("rows", [3, 4], [[2], [0]]),
        _nd("update_repeated_vector", [3, 2], [[2, 0], [2, 0], [1, 1]]),
        _nd("add_repeated_vector", [3, 2], [[2, 0], [2, 0], [1, 1]], "add"),
        _nd("add_repeated_row", [3, 2], [[1], [1]], "add"),
        _nd("matrix_of_vectors", [2, 3, 2], [[[1, 0], [0, 2]], [[0, 0], [1, 1]]], "add"),
        _nd("one_vector", [3, 4], [1], "sub"),
        _nd("mul", [3, 2], [[2], [0]], "mul"),
        _nd("div", [3, 2], [[2, 1], [0, 0]], "div"),
        _nd("max", [3, 2], [[2], [0]], "max"),
        _nd("min", [3, 2], [[2], [0]], "min"),
        _nd("fp32", [3, 2], [[2], [2]], "sub", dtype=np.float32),
        _nd("int32", [4], [[3], [3], [0]], "add", dtype=np.int32),
        _nd("rank_5", [1, 2, 2, 1, 3], [[0, 1, 1], [0, 0, 1]], "add"),
        _nd("validated", [4, 2], [[3, 1]], validate=True, constant=True),
        _nd("mode_literal", [3], [[1]], "add", literal=True),
        _nd("ios15", [3, 2], [[2, 1]], "add", opset="ios15"),
    ]


def files():
    yield "scatter", "1.3", _scatter_cases()
    yield "scatter_along_axis", "1.3", _along_cases()
    yield "scatter_nd", "1.3", _nd_cases()
