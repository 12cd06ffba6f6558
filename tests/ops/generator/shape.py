"""Ops that move values without changing them, and those that make tensors from shapes."""

import numpy as np

from .case import Case, Inline, draw

ALL_DTYPES = {"fp16": np.float16, "fp32": np.float32, "int8": np.int8, "uint8": np.uint8, "int16": np.int16,
              "uint16": np.uint16, "int32": np.int32, "bool": np.bool_}


def values(name, shape, dtype):
    low, high = (0, 100) if np.dtype(dtype).kind == "u" else (-100, 100)
    return draw(name, shape, dtype, *((low, high) if np.dtype(dtype).kind in "iu" else (-4, 4)))


def move(op, label, shape, args, function, *, dtype=np.float16, opset="ios18", **keywords):
    name = f"{op}_{label}"
    x = values(name, shape, dtype)
    return Case(op, name, {"x": x}, args, function(x), opset=opset, source="copied", **keywords)


def every_dtype(op, shape, args, function):
    return [move(op, name, shape, args, function, dtype=dtype) for name, dtype in ALL_DTYPES.items()]


def _reshape_cases():
    def to(label, shape, target, want=None, **keywords):
        return move("reshape", label, shape, {"shape": target}, lambda x: x.reshape(want or target),
                     **keywords)

    return [
        *every_dtype("reshape", [2, 6], {"shape": [3, 4]}, lambda x: x.reshape(3, 4)),
        to("flatten", [2, 3, 2], [-1], [12]),
        to("minus_one", [2, 3, 4], [4, -1, 2], [4, 3, 2]),
        to("rank_1_to_5", [12], [1, 2, 1, 3, 2]),
        to("rank_5_to_2", [1, 2, 1, 3, 2], [2, 6]),
        to("size_1", [1, 1, 1], [1]),
        to("channel_first", [1, 6, 1, 3], [1, 6, 3]),
        to("zero_copies_dimension_ios15", [2, 6], [0, 6], [2, 6], opset="ios15"),
        to("zero_and_minus_one_ios16", [2, 3, 4], [0, -1, 2], [2, 6, 2], opset="ios16"),
        # From ios17 on zeros count from the right, and one beyond x's rank is 1.
        to("zeros_from_the_right", [2, 5], [1, 0, -1, 0], [1, 1, 2, 5]),
        to("zero_of_smaller_rank_ios17", [2, 3, 4], [-1, 0], [6, 4], opset="ios17"),
        to("int16_shape", [4, 3], np.array([2, 6], np.int16), [2, 6]),
        to("int8_shape_literal", [4, 3], Inline(np.array([-1, 6], np.int8)), [2, 6]),
    ]


def _transpose_cases():
    def by(label, shape, permutation, **keywords):
        return move("transpose", label, shape, {"perm": permutation},
                     lambda x: np.transpose(x, permutation), **keywords)

    return [
        *every_dtype("transpose", [2, 3], {"perm": [1, 0]}, np.transpose),
        by("rank_1", [5], [0]),
        by("identity", [2, 3, 2], [0, 1, 2]),
        by("rank_3_rotate", [2, 3, 4], [2, 0, 1]),
        by("heads", [1, 3, 2, 4], [0, 2, 1, 3]),
        by("negative", [2, 3, 4], [0, -1, -2]),
        by("channel_last", [1, 2, 3, 2], [0, 2, 3, 1]),
        by("rank_5", [1, 2, 3, 2, 2], [4, 1, 0, 3, 2]),
        by("ios15", [3, 2], [1, 0], opset="ios15"),
        move("transpose", "literal", [3, 2], {"perm": Inline([1, 0])}, np.transpose),
    ]


def _expand_dims_cases():
    def at(label, shape, axes, **keywords):
        return move("expand_dims", label, shape, {"axes": axes},
                     lambda x: np.expand_dims(x, tuple(axes)), **keywords)

    return [
        *every_dtype("expand_dims", [3], {"axes": [0]}, lambda x: x[None]),
        at("last", [2, 3], [2]),
        at("negative", [2, 3], [-1]),
        at("negative_2", [2, 3], [-2]),
        at("several", [2, 3], [0, 2]),
        at("several_unsorted", [2, 3], [3, 1]),
        at("mixed_signs", [2, 3], [-1, 0, 2]),
        at("rank_1_to_4", [4], [0, 2, 3]),
        at("ios15", [2], [1], opset="ios15"),
        Case("expand_dims", "expand_dims_scalar", {}, {"x": np.float16(1.5), "axes": [0]},
             np.array([1.5]), source="copied"),
    ]


def _squeeze_cases():
    def at(label, shape, axes, want, **keywords):
        args = {} if axes is None else {"axes": axes}
        return move("squeeze", label, shape, args, lambda x: x.reshape(want), **keywords)

    return [
        *every_dtype("squeeze", [1, 3, 1], {"axes": [0]}, lambda x: x[0]),
        at("all", [1, 2, 1, 3, 1], None, [2, 3]),
        at("all_of_none", [2, 3], None, [2, 3]),
        at("negative", [2, 1, 3, 1], [-1, 1], [2, 3]),
        at("one_of_two", [1, 1, 4], [1], [1, 4]),
        at("to_scalar", [1], None, []),
        # As in PyTorch, an axis whose size is not 1 stays.
        at("keeps_larger_axis", [2, 1, 3], [0, 1], [2, 3], value_inference="numpy refuses"),
        at("ios15", [1, 3], [0], [3], opset="ios15"),
    ]


def _slice_by_index(label, shape, begin, end, select, *, dtype=np.float16, opset="ios18", index=None,
                    **masks):
    args = {"begin": begin, "end": end, **masks}
    if index is not None:
        args = {key: np.array(value, index) if key in ("begin", "end", "stride") else value
                for key, value in args.items()}
    # For a result without dimensions, value inference knows int32 and fp32 only.
    scalar = all(masks.get("squeeze_mask", [False]))
    return move("slice_by_index", label, shape, args, lambda x: x[select], dtype=dtype, opset=opset,
                 value_inference=not scalar)


def _slice_by_index_cases():
    s = _slice_by_index
    by_dtype = [s(name, [3, 4], [1, 0], [3, 2], np.s_[1:3, 0:2], dtype=dtype)
                for name, dtype in ALL_DTYPES.items()]
    return [
        *by_dtype,
        s("strides", [5, 6], [0, 1], [5, 6], np.s_[0:5:2, 1:6:3], stride=[2, 3]),
        s("negative_indices", [5, 6], [-3, 0], [-1, -2], np.s_[-3:-1, 0:-2]),
        s("begin_mask", [4, 5], [2, 1], [3, 4], np.s_[:3, 1:4], begin_mask=[True, False]),
        s("end_mask", [4, 5], [2, 1], [3, 0], np.s_[2:3, 1:], end_mask=[False, True]),
        s("both_masks", [4, 3], [2, 1], [3, 2], np.s_[:, 1:2], begin_mask=[True, False],
          end_mask=[True, False]),
        s("squeeze_mask", [4, 3], [2, 0], [0, 3], np.s_[2, 0:3], squeeze_mask=[True, False]),
        s("squeeze_negative_index", [2, 4, 3], [0, -1, 0], [2, 0, 3], np.s_[:, -1, :],
          squeeze_mask=[False, True, False]),
        s("squeeze_to_scalar", [3, 4], [1, 2], [0, 0], np.s_[1, 2], squeeze_mask=[True, True]),
        s("reverse", [5], [0], [0], np.s_[::-1], stride=[-1], begin_mask=[True], end_mask=[True]),
        s("reverse_rank_3", [2, 3, 2], [0, 0, 0], [2, 0, 0], np.s_[0:2, ::-1, ::-1], stride=[1, -1, -1],
          begin_mask=[False, True, True], end_mask=[False, True, True]),
        s("negative_stride", [7], [5], [1], np.s_[5:1:-2], stride=[-2]),
        s("negative_stride_to_the_start", [6], [4], [0], np.s_[4::-2], stride=[-2], end_mask=[True]),
        s("negative_stride_from_the_end", [6], [0], [1], np.s_[:1:-1], stride=[-1], begin_mask=[True]),
        s("negative_stride_negative_indices", [6], [-1], [-5], np.s_[-1:-5:-1], stride=[-1]),
        s("end_beyond", [4, 3], [2, 0], [9, 3], np.s_[2:9, 0:3]),
        s("size_1", [1, 3, 1], [0, 0, 0], [1, 2, 1], np.s_[0:1, 0:2, 0:1]),
        s("rank_5", [2, 1, 3, 2, 2], [0, 0, 1, 0, 1], [2, 1, 3, 1, 2], np.s_[0:2, 0:1, 1:3, 0:1, 1:2]),
        s("channels", [1, 6, 1, 3], [0, 2, 0, 0], [1, 5, 1, 3], np.s_[:, 2:5]),
        s("int16_indices", [4, 3], [1, 0], [4, 3], np.s_[1:4:2, 0:3:1], index=np.int16, stride=[2, 1]),
        s("ios15", [4, 3], [1, 0], [3, 0], np.s_[1:3, 0:], end_mask=[False, True], opset="ios15"),
    ]


def _slice_by_size_cases():
    def by(label, shape, begin, size, *, index=None, **keywords):
        select = tuple(slice(b, None if n == -1 else b + n) for b, n in zip(begin, size))
        args = {"begin": begin, "size": size}
        if index is not None:
            args = {key: np.array(value, index) for key, value in args.items()}
        return move("slice_by_size", label, shape, args, lambda x: x[select], **keywords)

    return [
        *every_dtype("slice_by_size", [3, 4], {"begin": [1, 0], "size": [2, 3]}, lambda x: x[1:3, 0:3]),
        by("rest", [3, 5], [1, 2], [-1, 2]),
        by("rest_of_all", [3, 2], [0, 0], [-1, -1]),
        by("one_element", [2, 3], [1, 2], [1, 1]),
        by("rank_1", [7], [3], [2]),
        by("rank_5", [2, 1, 3, 2, 2], [1, 0, 0, 1, 0], [1, 1, 2, 1, 2]),
        by("channels", [1, 6, 1, 3], [0, 4, 0, 0], [1, 2, 1, 3]),
        by("int8_indices", [4, 3], [1, 0], [2, -1], index=np.int8),
        by("ios15", [3, 2], [1, 0], [2, 1], opset="ios15"),
    ]


def _tile_cases():
    def by(label, shape, reps, **keywords):
        return move("tile", label, shape, {"reps": reps}, lambda x: np.tile(x, reps), **keywords)

    dtypes = {name: ALL_DTYPES[name] for name in ("fp16", "fp32", "int32", "bool")}
    return [
        *[by(name, [2, 2], [2, 3], dtype=dtype) for name, dtype in dtypes.items()],
        by("ones", [2, 3], [1, 1]),
        by("rank_1", [3], [4]),
        by("size_1", [1, 1], [3, 2]),
        by("middle", [2, 1, 2], [1, 4, 1]),
        by("rank_5", [1, 2, 1, 1, 2], [2, 1, 1, 3, 2]),
        by("ios15", [2], [2], opset="ios15"),
        move("tile", "literal", [1, 2], {"reps": Inline([2, 1])}, lambda x: np.tile(x, [2, 1])),
    ]


def _pad_cases():
    def by(label, shape, amounts, *, mode=None, value=None, **keywords):
        spread = [(0, 0)] * (len(shape) - len(amounts) // 2) + list(zip(amounts[::2], amounts[1::2]))
        args = {"pad": amounts}
        if mode:
            args["mode"] = mode
        if value is not None:
            args["constant_val"] = value
        numpy_mode = {"replicate": "edge", None: "constant"}.get(mode, mode)
        fill = {"constant_values": 0 if value is None else value} if numpy_mode == "constant" else {}
        return move("pad", label, shape, args, lambda x: np.pad(x, spread, numpy_mode, **fill), **keywords)

    return [
        by("default", [2, 3], [1, 0, 2, 1]),
        by("fp32", [2, 3], [0, 1, 1, 2], mode="constant", value=np.float32(0.1), dtype=np.float32),
        by("constant_value", [2, 2], [1, 1, 0, 2], mode="constant", value=np.float16(-1.5)),
        by("constant_infinity", [3], [1, 2], mode="constant", value=np.float16(-np.inf)),
        by("last_dimension_only", [2, 1, 3], [2, 1]),
        by("last_two_of_4", [1, 2, 2, 2], [1, 0, 0, 1], mode="constant", value=np.float16(0)),
        by("nothing", [2, 2], [0, 0, 0, 0]),
        by("reflect", [2, 4], [1, 0, 3, 2], mode="reflect"),
        by("reflect_last", [1, 2, 3], [2, 2], mode="reflect", dtype=np.float32),
        by("replicate", [2, 3], [2, 1, 0, 3], mode="replicate"),
        by("replicate_rank_4", [1, 1, 2, 2], [1, 1, 2, 0], mode="replicate"),
        by("rank_5", [1, 2, 1, 1, 2], [0, 0, 1, 0, 0, 0, 0, 1, 1, 1]),
        by("ios15", [2], [1, 1], mode="constant", value=np.float16(2), opset="ios15"),
    ]


def _range_1d_cases():
    def of(label, start, end, step, dtype, literal=False, **keywords):
        count = max(0, int(np.ceil((end - start) / step)))
        want = np.array([start + i * step for i in range(count)])
        want = want.astype(np.int64) if dtype is np.int32 else want.astype(np.float64)
        args = {"start": dtype(start), "end": dtype(end), "step": dtype(step)}
        if literal:
            args = {key: Inline(value) for key, value in args.items()}
        return Case("range_1d", f"range_1d_{label}", {}, args, want, **keywords)

    return [
        of("int32", 0, 5, 1, np.int32),
        of("int32_step", 2, 11, 3, np.int32),
        of("int32_negative_step", 5, -4, -2, np.int32),
        of("int32_one", 7, 8, 1, np.int32),
        of("fp16", 0.0, 3.0, 0.5, np.float16),
        of("fp16_end_not_hit", -1.0, 1.2001953125, 0.75, np.float16),
        of("fp16_negative_step", 1.0, -1.0, -0.5, np.float16),
        of("fp32", 0.25, 2.0, 0.375, np.float32),
        of("literals", 1, 4, 1, np.int32, literal=True),
        of("ios15", 0, 4, 2, np.int32, opset="ios15"),
    ]


def _fill_cases():
    def of(label, shape, value, **keywords):
        args = {"shape": shape} if value is None else {"shape": shape, "value": value}
        fill = np.float64(0) if value is None else value
        wide = np.float64 if np.asarray(fill).dtype.kind == "f" else np.asarray(fill).dtype
        return Case("fill", f"fill_{label}", {}, args, np.full(shape, fill).astype(wide), source="copied",
                    **keywords)

    return [
        of("default", [2, 3], None),
        of("fp16", [2, 2], np.float16(0.1)),
        of("fp32", [3], np.float32(-2.7)),
        of("int32", [2, 1], -7),
        of("bool", [1, 3], True),
        of("infinity", [2], np.float16(-np.inf)),
        of("rank_5", [1, 2, 1, 2, 2], np.float16(3)),
        of("ios15", [2], np.float32(1), opset="ios15"),
    ]


def _fill_like_cases():
    def of(label, shape, value, *, dtype=np.float16, **keywords):
        ref_tensor = draw(f"fill_like_{label}", shape, dtype)
        args = {} if value is None else {"value": value}
        fill = np.float64(0) if value is None else value
        wide = np.float64 if np.asarray(fill).dtype.kind == "f" else np.asarray(fill).dtype
        return Case("fill_like", f"fill_like_{label}", {"ref_tensor": ref_tensor}, args,
                    np.full(shape, fill).astype(wide), source="copied", **keywords)

    return [
        of("default", [2, 3], None),
        of("fp16", [2, 2], np.float16(0.1), dtype=np.float32),
        of("fp32", [3], np.float32(-2.7)),
        of("int32", [2, 1], -7, dtype=np.bool_),
        of("bool", [1, 3], True, dtype=np.int32),
        of("rank_5", [1, 2, 1, 2, 2], np.float16(3)),
        of("ios16", [2], np.float32(1), opset="ios16"),
    ]


def _shape_cases():
    def of(label, shape, **keywords):
        return move("shape", label, shape, {}, lambda x: np.array(x.shape), **keywords)

    dtypes = {name: ALL_DTYPES[name] for name in ("fp16", "fp32", "int32", "bool")}
    return [
        *[of(name, [2, 3], dtype=dtype) for name, dtype in dtypes.items()],
        of("rank_1", [7]),
        of("rank_4", [1, 5, 1, 2]),
        of("rank_5", [1, 2, 1, 3, 2]),
        of("ios15", [3, 1], opset="ios15"),
    ]


def _dialect_1_0():
    def s(*args, **masks):
        return _slice_by_index(*args, opset="ios16", **masks)

    yield "slice_by_index_1_0", "1.0", [
        s("basic", [3, 4], [1, 0], [3, 2], np.s_[1:3, 0:2]),
        s("end_mask_and_squeeze", [3, 4], [1, 0], [2, 0], np.s_[1, :], end_mask=[False, True],
          squeeze_mask=[True, False]),
        s("to_scalar", [3], [1], [0], np.s_[1], squeeze_mask=[True]),
    ]
    yield "reshape_1_0", "1.0", [
        move("reshape", "minus_one", [2, 6], {"shape": [3, -1]}, lambda x: x.reshape(3, 4), opset="ios15"),
        move("reshape", "int16", [2, 6], {"shape": [4, 3]}, lambda x: x.reshape(4, 3), opset="ios17",
              dtype=np.int16),
    ]


def files():
    yield "reshape", "1.3", _reshape_cases()
    yield "transpose", "1.3", _transpose_cases()
    yield "expand_dims", "1.3", _expand_dims_cases()
    yield "squeeze", "1.3", _squeeze_cases()
    yield "slice_by_index", "1.3", _slice_by_index_cases()
    yield "slice_by_size", "1.3", _slice_by_size_cases()
    yield "tile", "1.3", _tile_cases()
    yield "pad", "1.3", _pad_cases()
    yield "range_1d", "1.3", _range_1d_cases()
    yield "fill", "1.3", _fill_cases()
    yield "fill_like", "1.3", _fill_like_cases()
    yield "shape", "1.3", _shape_cases()
    yield from _dialect_1_0()
