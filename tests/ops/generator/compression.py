"""Compressed weights: the constexpr ops."""

import numpy as np

from .case import Case, draw
from .reference import f64
from .text import NUMPY_DTYPES


def _dequantize(name, shape, *, source=np.int8, scale=np.float16, zero_point=None, axis=0, vector=True,
                opset="ios18", attributes_only=True, vector_zero=None):
    low, high = (-128, 127) if source == np.int8 else (0, 255)
    length = [shape[axis]]
    data = draw(name + ".data", shape, source, low, high)
    scales = draw(name + ".scale", length if vector else [], scale, 0.01, 0.5)
    zero_type = zero_point or source
    vector_zero = vector if vector_zero is None else vector_zero
    zeros = draw(name + ".zero", length if vector_zero else [], zero_type, low / 4, high / 4)
    along = [shape[axis] if i == axis % len(shape) else 1 for i in range(len(shape))]
    spread = [f64(a).reshape(along) if a.ndim else f64(a) for a in (scales, zeros)]
    want = spread[0] * (f64(data) - spread[1])
    scales, zeros = (a if a.ndim else a[()] for a in (scales, zeros))
    args = {"quantized_data": data, "scale": scales, "zero_point": zeros, "axis": axis}
    return Case("constexpr_affine_dequantize", name, {}, args, want, opset=opset,
                attributes_only=attributes_only)


def _dequantize_cases(opset, prefix):
    return [
        _dequantize(f"{prefix}_int8_per_channel", [3, 4], opset=opset),
        _dequantize(f"{prefix}_uint8_per_channel", [3, 4], source=np.uint8, opset=opset),
        _dequantize(f"{prefix}_scalar", [2, 5], vector=False, opset=opset),
        _dequantize(f"{prefix}_vector_scale_scalar_zero", [3, 2], vector_zero=False, opset=opset),
        _dequantize(f"{prefix}_scalar_scale_vector_zero", [3, 2], vector=False, vector_zero=True,
                    opset=opset),
        _dequantize(f"{prefix}_axis_1_rank_4", [2, 3, 1, 2], axis=1, opset=opset),
        _dequantize(f"{prefix}_axis_negative", [2, 3], axis=-1, source=np.uint8, opset=opset),
        _dequantize(f"{prefix}_fp32_scale", [2, 3], scale=np.float32, opset=opset),
        _dequantize(f"{prefix}_fp32_zero_point", [2, 3], zero_point=np.float32, source=np.uint8, opset=opset),
        _dequantize(f"{prefix}_rank_1", [5], opset=opset),
    ]


def _small(name, shape, dtype):
    """Seeded integers of a MIL dtype, which may be smaller than a byte."""
    signed, bits = dtype[0] != "u", int(dtype.strip("uint"))
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    return draw(name, shape, np.int8 if signed else np.uint8, low, high).astype(NUMPY_DTYPES[dtype])


def _numbers(name, shape, dtype):
    return draw(name, shape, NUMPY_DTYPES[dtype]) if dtype[0] == "f" else _small(name, shape, dtype)


def _wide(values):
    """Exact values: f64 for floats, int64 for integers."""
    return values.astype(np.float64 if values.dtype.kind == "f" else np.int64)


def _pack(numbers, bits):
    """Numbers in bytes, each filled from its lowest bit, by way of one long integer."""
    total = sum(int(number) << bits * i for i, number in enumerate(numbers))
    length = -(-len(numbers) * bits // 8)
    return np.frombuffer(total.to_bytes(length, "little"), np.uint8)


def _lut_ios16(label, shape, bits, dtype="fp16", **keywords):
    name = f"lut_to_dense_{label}"
    count = int(np.prod(shape))
    indices = _small(name + ".indices", [count], f"uint{bits}")
    lut = _numbers(name + ".lut", [1 << bits], dtype)
    args = {"indices": _pack(indices, bits), "lut": lut, "shape": np.array(shape, np.uint32)}
    want = _wide(np.array([lut[i] for i in indices], lut.dtype)).reshape(shape)
    return Case("constexpr_lut_to_dense", name, {}, args, want, source="by definition", attributes_only=True,
                **{"opset": "ios16", **keywords})


def _lut(indices, lut, axis, places=None):
    """What indices stand for by the documented rule; of those not in `places`, nothing."""
    vector = lut.shape[-1]
    axis = 0 if axis is None else axis % indices.ndim
    shape = [d * vector if i == axis else d for i, d in enumerate(indices.shape)]
    out = np.zeros(shape, lut.dtype)
    for at in np.ndindex(*indices.shape):
        palette = tuple(i * groups // length for i, groups, length in zip(at, lut.shape, indices.shape))
        for lane in range(vector):
            to = tuple(i * vector + lane if k == axis else i for k, i in enumerate(at))
            out[to] = lut[palette][int(indices[at]), lane]
    return _wide(out)


def _lut_case(label, shape, bits, groups, *, vector=1, axis=None, dtype="fp16", arguments=True):
    name = f"lut_to_dense_{label}"
    indices = _small(name + ".indices", shape, f"uint{bits}")
    lut = _numbers(name + ".lut", [*groups, 1 << bits, vector], dtype)
    args = {"indices": indices, "lut": lut, **({} if axis is None else {"vector_axis": axis})}
    return Case("constexpr_lut_to_dense", name, {}, args, _lut(indices, lut, axis), source="by definition",
                attributes_only=not arguments)


def _lut_cases():
    return [
        _lut_case("uint1", [2, 5], 1, [1, 1]),
        _lut_case("uint2_groups", [6, 2], 2, [2, 1]),
        _lut_case("uint3_groups_of_both_axes", [4, 6], 3, [2, 3], dtype="fp32"),
        _lut_case("uint4_rank_4", [4, 2, 1, 3], 4, [2, 1, 1, 1]),
        _lut_case("uint6", [3, 4], 6, [1, 1]),
        _lut_case("uint8_int8", [3, 3], 8, [1, 1], dtype="int8"),
        _lut_case("uint4_uint8", [7], 4, [1], dtype="uint8"),
        _lut_case("vector_axis_0", [2, 3], 2, [1, 1], vector=2, axis=0),
        _lut_case("vector_axis_1_groups", [4, 2, 2], 1, [2, 1, 2], vector=3, axis=1),
        _lut_case("vector_axis_negative", [2, 2, 2], 2, [1, 1, 1], vector=2, axis=-1, dtype="int8"),
        _lut_case("vector_of_one", [2, 3], 2, [1, 3], axis=1),
        _lut_case("attributes", [2, 4], 2, [1, 1], arguments=False),
    ]


def _lut_cases_1_0():
    return [
        _lut_ios16("uint1", [3, 5], 1),
        _lut_ios16("uint2", [5], 2, "fp32"),
        _lut_ios16("uint4_rank_4", [3, 1, 2, 3], 4),
        _lut_ios16("uint6", [3, 3], 6),
        _lut_ios16("uint8_int8", [2, 3], 8, "int8"),
        _lut_ios16("uint8", [2, 3], 4, "uint8", opset="ios17"),
    ]


def _mask(name, shape):
    return draw(name, shape, np.uint8, 0, 1).astype(NUMPY_DTYPES["uint1"])


def _dense(mask, data):
    out = np.zeros(mask.shape, data.dtype)
    data = iter(data)
    for at in np.ndindex(*mask.shape):
        if mask[at]:
            out[at] = next(data)
    return _wide(out)


def _sparse(label, shape, dtype="fp16", arguments=True, empty=False, packed=False, **keywords):
    name = f"sparse_to_dense_{label}"
    mask = _mask(name + ".mask", shape)
    mask = np.zeros_like(mask) if empty else mask
    data = _numbers(name + ".data", [int(np.sum(mask, dtype=np.int64))], dtype)
    args = {"nonzero_data": data, "mask": mask}
    if packed:
        args.update(mask=_pack(mask.ravel(), 1), shape=np.array(shape, np.uint32))
    return Case("constexpr_sparse_to_dense", name, {}, args, _dense(mask, data), source="by definition",
                attributes_only=not arguments, **keywords)


def _sparse_cases():
    return [
        _sparse("fp16", [3, 5]),
        _sparse("fp32_rank_4", [2, 3, 1, 3], "fp32"),
        _sparse("rank_1", [9]),
        _sparse("int8", [2, 6], "int8"),
        _sparse("uint8", [2, 6], "uint8"),
        _sparse("int4", [3, 3], "int4"),
        _sparse("uint4", [3, 3], "uint4"),
        _sparse("attributes", [2, 4], arguments=False),
    ]


def _sparse_cases_1_0():
    def packed(*args, **keywords):
        return _sparse(*args, **{"arguments": False, "packed": True, "opset": "ios16", **keywords})

    return [
        packed("fp16", [3, 5]),
        packed("whole_bytes", [2, 8], "fp32"),
        packed("int8_rank_4", [1, 2, 3, 3], "int8"),
        packed("uint8", [11], "uint8", opset="ios17"),
    ]


def _lut_sparse(label, shape, bits, groups, *, vector=1, axis=None, dtype="fp16"):
    name = f"lut_to_sparse_{label}"
    mask = _mask(name + ".mask", shape)
    data = _small(name + ".data", [int(np.sum(mask, dtype=np.int64))], f"uint{bits}")
    lut = _numbers(name + ".lut", [*groups, 1 << bits, vector], dtype)
    args = {"indices_mask": mask, "indices_nonzero_data": data, "lut": lut,
            **({} if axis is None else {"vector_axis": axis})}
    longer = np.repeat(mask, vector, 0 if axis is None else axis)
    values = _lut(_dense(mask, data), lut, axis)[longer != 0]
    return Case("constexpr_lut_to_sparse", name, {}, args, [longer.astype(np.int64), values],
                source="by definition")


def _lut_sparse_cases():
    return [
        _lut_sparse("uint1", [4, 6], 1, [1, 1]),
        _lut_sparse("uint4_groups", [4, 3], 4, [2, 1], dtype="fp32"),
        _lut_sparse("uint8_int8", [2, 5], 8, [1, 1], dtype="int8"),
        _lut_sparse("vector_axis_0", [4, 6], 1, [1, 1], vector=2, axis=0),
        _lut_sparse("vector_axis_1_groups", [2, 4, 2], 2, [1, 2, 1], vector=3, axis=1),
        _lut_sparse("rank_1", [8], 3, [2], vector=2, axis=-1),
    ]


def _spread(parameter, shape):
    """A parameter of blocks, repeated over each."""
    parameter = f64(parameter)
    for axis, length in enumerate(shape):
        parameter = np.repeat(parameter, length // parameter.shape[axis], axis)
    return parameter


def _shift_scale_parameters(name, blocks, source, scale, offset):
    args = {"scale": draw(name + ".scale", blocks, NUMPY_DTYPES[scale], 0.01, 0.5)}
    if offset:
        args["offset"] = _numbers(name + ".offset", blocks, offset)
    return args


def _shift_scale(label, shape, blocks, source, *, scale="fp16", offset=None, arguments=True):
    name = f"blockwise_shift_scale_{label}"
    data = _numbers(name + ".data", shape, source)
    args = _shift_scale_parameters(name, blocks, source, scale, offset)
    shift = _spread(args["offset"], shape) if offset else 0.0
    want = _spread(args["scale"], shape) * (f64(data) - shift)
    # coremltools subtracts a floating-point offset in the scale's own precision.
    return Case("constexpr_blockwise_shift_scale", name, {}, {"data": data, **args}, want,
                magnitude=None, absolute=0.02 if scale == "fp16" and offset in ("fp16", "fp32") else 0.0,
                attributes_only=not arguments)


def _shift_scale_cases():
    return [
        _shift_scale("int4", [4, 6], [2, 3], "int4"),
        _shift_scale("uint4_offset", [4, 6], [4, 2], "uint4", offset="uint4"),
        _shift_scale("int8_per_channel", [3, 2, 1, 2], [3, 1, 1, 1], "int8", offset="int8"),
        _shift_scale("uint8_per_tensor", [3, 4], [1, 1], "uint8", offset="uint8"),
        _shift_scale("int4_fp16_offset", [2, 4], [2, 2], "int4", offset="fp16"),
        _shift_scale("uint8_fp32_offset", [2, 4], [2, 1], "uint8", scale="fp32", offset="fp32"),
        _shift_scale("fp16_data", [2, 4], [1, 4], "fp16"),
        _shift_scale("fp32_data", [2, 4], [1, 2], "fp32", scale="fp32"),
        _shift_scale("rank_1", [6], [3], "int8", scale="fp32"),
        _shift_scale("attributes", [2, 2], [2, 1], "int8", arguments=False),
    ]


def _sparse_shift_scale(label, shape, blocks, source, *, scale="fp16", offset=None):
    name = f"sparse_blockwise_shift_scale_{label}"
    mask = _mask(name + ".mask", shape)
    data = _numbers(name + ".data", [int(np.sum(mask, dtype=np.int64))], source)
    args = _shift_scale_parameters(name, blocks, source, scale, offset)
    shift = _spread(args["offset"], shape) if offset else 0.0
    want = (_spread(args["scale"], shape) * (f64(_dense(mask, data)) - shift))[mask != 0]
    return Case("constexpr_sparse_blockwise_shift_scale", name, {},
                {"data_mask": mask, "nonzero_data": data, **args}, [mask.astype(np.int64), want])


def _sparse_shift_scale_cases():
    return [
        _sparse_shift_scale("int8", [4, 4], [1, 4], "int8", offset="int8"),
        _sparse_shift_scale("uint4", [4, 6], [2, 3], "uint4", offset="uint4"),
        _sparse_shift_scale("int4_without_offset", [3, 4], [3, 1], "int4", scale="fp32"),
        _sparse_shift_scale("rank_4", [2, 2, 1, 3], [2, 1, 1, 1], "uint8"),
        _sparse_shift_scale("fp32_data", [2, 4], [1, 1], "fp32", scale="fp32"),
    ]


def _cast(label, shape, arguments=True, **keywords):
    name = f"cast_{label}"
    x = draw(name, shape)
    return Case("constexpr_cast", name, {}, {"source_val": x, "output_dtype": "fp32"}, f64(x), source="exact",
                attributes_only=not arguments, **keywords)


def files():
    name = "constexpr_affine_dequantize"
    arguments = _dequantize("dequantize_operands_as_arguments", [2, 3], attributes_only=False)
    yield name, "1.3", [*_dequantize_cases("ios18", "dequantize"), arguments]
    yield f"{name}_1_0", "1.0", _dequantize_cases("ios16", "dequantize")
    yield "constexpr_lut_to_dense", "1.3", _lut_cases()
    yield "constexpr_lut_to_dense_1_0", "1.0", _lut_cases_1_0()
    yield "constexpr_sparse_to_dense", "1.3", _sparse_cases()
    yield "constexpr_sparse_to_dense_1_0", "1.0", _sparse_cases_1_0()
    yield "constexpr_lut_to_sparse", "1.3", _lut_sparse_cases()
    yield "constexpr_blockwise_shift_scale", "1.3", _shift_scale_cases()
    yield "constexpr_sparse_blockwise_shift_scale", "1.3", _sparse_shift_scale_cases()
    yield "constexpr_cast", "1.3", [_cast("matrix", [2, 3]), _cast("attributes", [4], arguments=False)]
    yield "constexpr_cast_1_0", "1.0", [_cast("ios16", [2, 2], arguments=False, opset="ios16")]
