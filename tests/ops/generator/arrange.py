"""Ops that keep a tensor's shape: reverse, band_part, slice_update."""

import numpy as np

from .case import Case, Inline, draw
from .shape import ALL_DTYPES, every_dtype, move, values


def _reverse_cases():
    def along(label, shape, axes, **keywords):
        args = {} if axes is None else {"axes": axes}
        return move("reverse", label, shape, args, lambda x: np.flip(x, axes), **keywords)

    return [
        *every_dtype("reverse", [2, 3], {"axes": [1]}, lambda x: x[:, ::-1]),
        along("all", [2, 3], None),
        along("several", [2, 3, 2], [0, 2]),
        along("negative", [2, 3], [-1]),
        along("rank_1", [5], [0]),
        along("size_1", [1, 3, 1], [0, 2]),
        along("rank_5", [1, 2, 3, 1, 2], [4, 1]),
        along("ios15", [2, 3], [0], opset="ios15"),
        move("reverse", "literal", [3], {"axes": Inline([0])}, np.flip),
    ]


def _band_part_cases():
    def band(label, shape, lower=None, upper=None, **keywords):
        args = {key: value for key, value in (("lower", lower), ("upper", upper)) if value is not None}
        lower, upper = (-1 if bound is None else bound for bound in (lower, upper))
        row, column = np.ogrid[:shape[-2], :shape[-1]]
        inside = ((lower < 0) | (row - column <= lower)) & ((upper < 0) | (column - row <= upper))
        return move("band_part", label, shape, args, lambda x: np.where(inside, x, np.zeros_like(x)), **keywords)

    return [
        *[band(name, [3, 4], 1, 0, dtype=ALL_DTYPES[name]) for name in ("fp16", "fp32", "int32", "bool")],
        band("defaults", [3, 3]),
        band("upper_triangle", [4, 3], 0, -1),
        band("lower_triangle", [3, 4], -1, 0),
        band("diagonal", [3, 5], 0, 0),
        band("wider_than_the_matrix", [2, 3], 7, 9),
        band("causal", [1, 2, 3, 3], -1, 0),
        band("rank_5", [1, 2, 1, 3, 2], 0, 1),
        band("ios15", [2, 2], 0, -1, opset="ios15"),
    ]


def _slice_update(label, shape, begin, end, select, *, dtype=np.float16, index=None, literal=False, **masks):
    name = f"slice_update_{label}"
    x = values(name, shape, dtype)
    want = x.copy()
    update = values(name + ".update", want[select].shape, dtype)
    want[select] = update
    args = {"begin": begin, "end": end, **masks}
    if index is not None:
        args = {key: np.array(value, index) if key in ("begin", "end", "stride") else value
                for key, value in args.items()}
    if literal:
        args = {key: Inline(value) for key, value in args.items()}
    return Case("slice_update", name, {"x": x, "update": update}, args, want, source="copied")


def _slice_update_cases():
    s = _slice_update
    return [
        *[s(name, [3, 4], [1, 0], [3, 2], np.s_[1:3, 0:2], dtype=dtype) for name, dtype in ALL_DTYPES.items()],
        s("strides", [5, 6], [0, 1], [5, 6], np.s_[0:5:2, 1:6:3], stride=[2, 3]),
        s("negative_indices", [5, 6], [-3, 0], [-1, -2], np.s_[-3:-1, 0:-2]),
        s("both_masks", [4, 3], [2, 1], [3, 2], np.s_[:, 1:2], begin_mask=[True, False], end_mask=[True, False]),
        s("squeeze_mask", [4, 3], [2, 0], [0, 3], np.s_[2, 0:3], squeeze_mask=[True, False]),
        s("reverse", [5], [0], [0], np.s_[::-1], stride=[-1], begin_mask=[True], end_mask=[True]),
        s("negative_stride", [7], [5], [1], np.s_[5:1:-2], stride=[-2]),
        s("end_beyond", [4, 3], [2, 0], [9, 3], np.s_[2:9, 0:3]),
        s("all", [2, 3], [0, 0], [2, 3], np.s_[:, :]),
        s("cache", [1, 2, 5, 3], [0, 0, 3, 0], [1, 2, 4, 3], np.s_[:, :, 3:4]),
        s("rank_5", [2, 1, 3, 2, 2], [0, 0, 1, 0, 1], [2, 1, 3, 1, 2], np.s_[0:2, 0:1, 1:3, 0:1, 1:2]),
        s("int8_indices", [4, 3], [1, 0], [4, 3], np.s_[1:4:2, 0:3:1], index=np.int8, stride=[2, 1]),
        s("literals", [4, 3], [1, 0], [3, 2], np.s_[1:3, 0:2], literal=True),
    ]


def files():
    yield "reverse", "1.3", _reverse_cases()
    yield "band_part", "1.3", _band_part_cases()
    yield "slice_update", "1.3", _slice_update_cases()
