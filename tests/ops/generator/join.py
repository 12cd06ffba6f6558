"""Ops that join and part tensors: concat, split, stack."""

import numpy as np

from .case import Case, Inline, Ref, draw


def _refs(inputs):
    return tuple(Ref(name) for name in inputs)


def _interleave(values, axis):
    stacked = np.stack(values, axis % values[0].ndim + 1)
    shape = list(values[0].shape)
    shape[axis] *= len(values)
    return stacked.reshape(shape)


def _concat(name, shapes, axis, *, dtype=np.float16, interleave=None, opset="ios18", literal=False):
    inputs = {letter: draw(f"{name}.{letter}", shape, dtype) for letter, shape in zip("abcd", shapes)}
    values = list(inputs.values())
    want = _interleave(values, axis) if interleave else np.concatenate(values, axis)
    args = {"values": _refs(inputs), "axis": Inline(axis) if literal else axis}
    if interleave is not None:
        args["interleave"] = interleave
    # coremltools' value inference of concat ignores interleave.
    return Case("concat", name, inputs, args, want, opset=opset, source="copied",
                value_inference="ignores interleave" if interleave else True)


def _concat_cases():
    constant = draw("concat_const", [2, 2])
    x = draw("concat_const.x", [2, 3])
    return [
        _concat("concat_axis_0", [[2, 3], [1, 3], [3, 3]], 0, interleave=False),
        _concat("concat_axis_negative", [[2, 1, 3], [2, 1, 2]], -1),
        _concat("concat_one_value", [[2, 3]], 1, interleave=False),
        _concat("concat_rank_1", [[3], [1], [2]], 0),
        _concat("concat_rank_5", [[1, 2, 1, 2, 2], [1, 1, 1, 2, 2]], 1, literal=True),
        _concat("concat_channels", [[1, 2, 1, 3], [1, 3, 1, 3]], 1),
        _concat("concat_interleave", [[3, 2], [3, 2]], 0, interleave=True),
        _concat("concat_interleave_three_channels", [[1, 2, 1, 2]] * 3, 1, interleave=True),
        _concat("concat_fp32", [[2, 2], [2, 1]], 1, dtype=np.float32),
        _concat("concat_int32", [[2], [3]], 0, dtype=np.int32),
        _concat("concat_bool", [[2, 2], [1, 2]], 0, dtype=np.bool_),
        _concat("concat_ios15", [[2, 2], [1, 2]], 0, opset="ios15"),
        Case("concat", "concat_scalars", {}, {"values": (np.int32(3), np.int32(-1), np.int32(7)), "axis": 0},
             np.array([3, -1, 7]), source="copied"),
        Case("concat", "concat_scalars_interleaved", {},
             {"values": (np.float16(0.5), np.float16(2)), "axis": 0, "interleave": True}, np.array([0.5, 2]),
             source="copied", value_inference="ignores interleave"),
        Case("concat", "concat_with_const", {"x": x}, {"values": (Ref("x"), constant), "axis": 1},
             np.concatenate([x, constant], 1), source="copied"),
        Case("concat", "concat_same_value_twice", {"x": x}, {"values": (Ref("x"), Ref("x")), "axis": 0},
             np.concatenate([x, x]), source="copied"),
    ]


def _split(name, shape, axis, *, dtype=np.float16, count=None, sizes=None, opset="ios18", literal=False):
    x = draw(name, shape, dtype)
    args = {"axis": Inline(axis) if literal else axis}
    if count is not None:
        args["num_splits"] = count
    if sizes is not None:
        args["split_sizes"] = Inline(sizes) if literal else sizes
    want = np.split(x, count if sizes is None else np.cumsum(sizes)[:-1], axis)
    return Case("split", name, {"x": x}, args, want, opset=opset, source="copied",
                value_inference="one result is not a list" if len(want) == 1 else True)


def _split_cases():
    return [
        _split("split_even", [4, 3], 0, count=2),
        _split("split_even_last_axis", [2, 6], -1, count=3),
        _split("split_sizes", [2, 6], 1, sizes=[1, 3, 2]),
        _split("split_sizes_with_count", [5, 2], 0, sizes=[4, 1], count=2),
        _split("split_sizes_list_of_one", [2, 3], 1, sizes=[3]),
        _split("split_count_one", [2, 3], 0, count=1),
        _split("split_channels", [1, 6, 1, 2], 1, sizes=[2, 4]),
        _split("split_literals", [3, 2], 0, sizes=[1, 2], literal=True),
        _split("split_fp32", [2, 4], 1, count=4, dtype=np.float32),
        _split("split_int32", [6], 0, sizes=[5, 1], dtype=np.int32),
        _split("split_bool", [4], 0, count=2, dtype=np.bool_),
        _split("split_rank_5", [1, 2, 4, 1, 2], -3, count=2),
        _split("split_ios15", [4, 2], 0, count=2, opset="ios15"),
    ]


def _stack(name, count, shape, axis, *, dtype=np.float16, opset="ios18"):
    inputs = {letter: draw(f"{name}.{letter}", shape, dtype) for letter in "abcd"[:count]}
    want = np.stack(list(inputs.values()), axis)
    return Case("stack", name, inputs, {"values": _refs(inputs), "axis": axis}, want, opset=opset,
                source="copied")


def _stack_cases():
    scalars = (np.int32(3), np.int32(-1), np.int32(7))
    return [
        _stack("stack_axis_0", 2, [2, 3], 0),
        _stack("stack_axis_last", 3, [2, 3], 2),
        _stack("stack_axis_negative", 2, [2, 3], -1),
        _stack("stack_axis_negative_2", 2, [2, 3], -2),
        _stack("stack_one_value", 1, [2, 3], 1),
        _stack("stack_rank_1", 4, [3], 1),
        _stack("stack_to_rank_5", 2, [1, 2, 3, 1], 2),
        _stack("stack_fp32", 2, [3], 0, dtype=np.float32),
        _stack("stack_int32", 2, [3], 0, dtype=np.int32),
        _stack("stack_bool", 2, [3], 1, dtype=np.bool_, opset="ios15"),
        Case("stack", "stack_scalars", {}, {"values": scalars, "axis": 0}, np.array(scalars),
             source="copied"),
    ]


def files():
    yield "concat", "1.3", _concat_cases()
    yield "concat_1_0", "1.0", [
        _concat("concat_axis_0", [[2, 3], [1, 3]], 0, interleave=False, opset="ios16"),
        _concat("concat_one_value", [[2, 3]], 1, opset="ios15"),
        _concat("concat_interleave", [[2, 2], [2, 2]], 1, interleave=True, opset="ios17"),
    ]
    yield "split", "1.3", _split_cases()
    yield "split_1_0", "1.0", [
        _split("split_even", [2, 4], 1, count=2, opset="ios16"),
        _split("split_sizes_list_of_one", [2, 3], 1, sizes=[3], opset="ios17"),
    ]
    yield "stack", "1.3", _stack_cases()
