"""sliding_windows, reverse_sequence, batch_to_space and space_to_batch."""

import numpy as np
import torch

from .case import Case
from .reference import f64
from .shape import ALL_DTYPES, every_dtype, move, values


def _sliding(axis, size, stride=1):
    def windows(x):
        count = (x.shape[axis] - size) // stride + 1
        parts = [np.take(x, range(i * stride, i * stride + size), axis) for i in range(count)]
        return np.stack(parts, axis % x.ndim)

    return windows


def _sliding_cases():
    def slide(label, shape, axis, size, stride=None, **keywords):
        args = {"axis": axis, "size": size, **({} if stride is None else {"stride": stride})}
        step = stride or 1
        case = move("sliding_windows", label, shape, args, _sliding(axis, size, step), **keywords)
        if case.inputs["x"].dtype.kind == "f":
            # PyTorch has the elements of a window in the last dimension.
            unfolded = torch.from_numpy(f64(case.inputs["x"])).unfold(axis, size, step)
            mine = case.outputs["y"][1]
            assert np.array_equal(np.moveaxis(unfolded.numpy(), -1, axis % len(shape) + 1), mine), label
            case.source += ", agrees with torch f64"
        return case

    return [
        *every_dtype("sliding_windows", [2, 5], {"axis": 1, "size": 2}, _sliding(1, 2)),
        slide("axis_0", [5, 2], 0, 3),
        slide("strides", [7], 0, 3, 2),
        slide("strides_over_the_size", [2, 9], 1, 2, 4),
        slide("negative_axis", [2, 6, 2], -2, 3, 2),
        slide("whole", [2, 3], 1, 3),
        slide("one", [1, 4, 2], 1, 1),
        slide("rank_4", [1, 2, 5, 3], 2, 2, 3),
        slide("ios15", [5, 2], 0, 2, 2, opset="ios15", dtype=np.float32),
    ]


def _reversed(label, shape, lengths, sequence, batch, *, dtype=np.float16, opset="ios18", lengths_dtype=np.int32,
              constant=False):
    name = f"reverse_sequence_{label}"
    x, lengths = values(name, shape, dtype), np.array(lengths, lengths_dtype)
    want = np.empty_like(x)
    for i, length in enumerate(lengths):
        at = [slice(None)] * x.ndim
        at[batch] = slice(i, i + 1)
        part = x[tuple(at)]
        kept = range(length, x.shape[sequence])
        want[tuple(at)] = np.take(part, [*reversed(range(length)), *kept], sequence)
    inputs, args = {"x": x}, {"seq_axis": sequence, "batch_axis": batch}
    (args if constant else inputs)["lengths"] = lengths
    return Case("reverse_sequence", name, inputs, args, want, opset=opset, source="copied", value_inference=False)


def _reversed_cases():
    return [
        *[_reversed(name, [2, 4], [3, 0], 1, 0, dtype=dtype) for name, dtype in ALL_DTYPES.items()],
        _reversed("of_rank_3", [2, 3, 2], [2, 3], 1, 0),
        _reversed("batch_behind", [4, 3], [1, 4, 2], 0, 1),
        _reversed("apart", [3, 2, 2, 2], [2, 1], 0, 2),
        _reversed("negative_axes", [2, 3, 4], [3, 1, 4], -1, -2),
        _reversed("last_axis_of_rank_4", [2, 1, 2, 5], [5, 2], 3, 0, dtype=np.float32),
        _reversed("lengths_int8", [2, 4], [3, 4], 1, 0, lengths_dtype=np.int8),
        _reversed("lengths_int16", [2, 4], [2, 4], 1, 0, lengths_dtype=np.int16, opset="ios17"),
        _reversed("constant_lengths", [3, 2], [2, 3], 0, 1, constant=True),
        _reversed("ios15", [2, 4], [4, 2], 1, 0, opset="ios15"),
    ]


def _to_space(x, block, crops):
    """As TensorFlow defines it: the batch split in three, its parts beside rows and columns."""
    (b, d), (n, channels, height, width) = block, x.shape
    split = x.reshape(b, d, n // (b * d), channels, height, width)
    whole = split.transpose(2, 3, 4, 0, 5, 1).reshape(n // (b * d), channels, height * b, width * d)
    (top, bottom), (left, right) = crops
    return whole[:, :, top:height * b - bottom, left:width * d - right]


def _to_batch(x, block, paddings):
    b, d = block
    padded = np.pad(x, [(0, 0), (0, 0), *paddings])
    n, channels, height, width = padded.shape
    split = padded.reshape(n, channels, height // b, b, width // d, d)
    return split.transpose(3, 5, 0, 1, 2, 4).reshape(n * b * d, channels, height // b, width // d)


def _block_cases(op):
    function, parameter = {"batch_to_space": (_to_space, "crops"), "space_to_batch": (_to_batch, "paddings")}[op]

    def case(label, shape, block, edges, **keywords):
        args = {"block_shape": np.array(block, np.int32), parameter: np.array(edges, np.int32)}
        return move(op, label, shape, args, lambda x: function(x, block, edges), **keywords)

    none = [(0, 0), (0, 0)]
    if op == "batch_to_space":
        return [
            case("fp16", [8, 2, 2, 3], [2, 2], none),
            case("fp32", [8, 2, 2, 3], [2, 2], none, dtype=np.float32),
            case("oblong", [12, 1, 2, 2], [2, 3], none),
            case("crops", [8, 2, 3, 2], [2, 2], [(1, 2), (0, 1)]),
            case("rows_only", [6, 1, 2, 2], [3, 1], [(0, 2), (1, 0)]),
            case("of_one", [2, 1, 2, 3], [1, 1], none),
            case("ios15", [4, 1, 2, 2], [2, 2], [(1, 0), (0, 0)], opset="ios15"),
        ]
    return [
        case("fp16", [2, 2, 4, 6], [2, 2], none),
        case("fp32", [2, 2, 4, 6], [2, 2], none, dtype=np.float32),
        case("oblong", [2, 1, 4, 6], [2, 3], none),
        case("paddings", [2, 2, 3, 3], [2, 2], [(1, 2), (0, 1)]),
        case("rows_only", [2, 1, 4, 2], [3, 1], [(0, 2), (1, 0)]),
        case("of_one", [2, 1, 2, 3], [1, 1], none),
        case("ios15", [1, 1, 3, 4], [2, 2], [(1, 0), (0, 0)], opset="ios15"),
    ]


def files():
    yield "sliding_windows", "1.3", _sliding_cases()
    yield "reverse_sequence", "1.3", _reversed_cases()
    for op in ("batch_to_space", "space_to_batch"):
        yield op, "1.3", _block_cases(op)
