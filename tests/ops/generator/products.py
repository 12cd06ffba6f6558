"""Products: matmul, linear, conv, conv_quantized, conv_transpose."""

import numpy as np
import torch

from . import reference
from .case import Case, Inline, draw
from .reference import f64


def _conv(name, shape_x, shape_weight, *, dtype=np.float16, weight_dtype=None, bias=False, opset="ios18",
          constant_weight=True, constant_bias=True, bias_dtype=None, **parameters):
    weight_dtype = weight_dtype or dtype
    x = draw(name + ".x", shape_x, dtype, -2, 2)
    weight = draw(name + ".weight", shape_weight, weight_dtype, -1, 1)
    inputs, args = {"x": x}, dict(parameters)
    (args if constant_weight else inputs)["weight"] = weight
    bias_values = None
    if bias:
        bias_values = draw(name + ".bias", shape_weight[:1], bias_dtype or weight_dtype, -1, 1)
        (args if constant_bias else inputs)["bias"] = bias_values
    plain = {key: value.value if isinstance(value, Inline) else value for key, value in parameters.items()}
    want, magnitude = reference.conv(x, weight, bias_values, **plain)
    return Case("conv", name, inputs, args, want, magnitude=magnitude, opset=opset,
                source="exact sum", torch_value=_torch_conv(x, weight, bias_values, **plain))


def _torch_conv(x, weight, bias, strides=None, pad_type="valid", pad=None, dilations=None, groups=1):
    rank = x.ndim - 2
    strides, dilations = strides or [1] * rank, dilations or [1] * rank
    padding = reference.conv_padding(pad_type, pad, x.shape[2:], weight.shape[2:], strides, dilations)
    flat = [amount for pair in reversed(padding) for amount in pair]
    convolve = getattr(torch.nn.functional, f"conv{rank}d")
    tensors = [None if a is None else torch.from_numpy(f64(a)) for a in (weight, bias)]
    padded = torch.nn.functional.pad(torch.from_numpy(f64(x)), flat)
    return convolve(padded, *tensors, stride=strides, dilation=dilations, groups=groups).numpy()


def _conv_cases():
    return [
        _conv("conv_pointwise_defaults", [1, 5, 1, 4], [3, 5, 1, 1]),
        _conv("conv_pointwise_explicit", [2, 3, 1, 5], [4, 3, 1, 1], bias=True, strides=[1, 1],
              pad_type="valid", pad=[0, 0, 0, 0], dilations=[1, 1], groups=1),
        _conv("conv_fp32", [1, 3, 4, 5], [2, 3, 3, 2], dtype=np.float32, bias=True),
        _conv("conv_1d", [2, 3, 9], [2, 3, 4], strides=[2], pad_type="custom", pad=[1, 2]),
        _conv("conv_1d_dilated", [1, 2, 11], [3, 2, 3], dilations=[3], dtype=np.float32),
        _conv("conv_valid_ignores_pad", [1, 2, 4, 4], [2, 2, 3, 3], pad_type="valid", pad=[1, 1, 1, 1]),
        _conv("conv_custom_asymmetric", [1, 2, 4, 3], [2, 2, 3, 2], pad_type="custom", pad=[2, 0, 1, 3]),
        _conv("conv_strides", [1, 2, 7, 6], [2, 2, 3, 2], strides=[2, 3], bias=True),
        _conv("conv_dilations", [1, 2, 7, 6], [2, 2, 3, 2], dilations=[2, 3]),
        _conv("conv_groups", [1, 4, 3, 4], [6, 2, 2, 2], groups=2, bias=True),
        _conv("conv_depthwise", [1, 3, 4, 4], [6, 1, 3, 3], groups=3, pad_type="same"),
        _conv("conv_same_odd_total", [1, 2, 5, 6], [2, 2, 2, 4], pad_type="same"),
        _conv("conv_same_strided", [1, 1, 6, 7], [2, 1, 3, 3], pad_type="same", strides=[2, 2]),
        _conv("conv_same_lower_odd_total", [1, 2, 5, 6], [2, 2, 2, 4], pad_type="same_lower"),
        _conv("conv_same_lower_strided_dilated", [1, 1, 6, 7], [1, 1, 3, 2], pad_type="same_lower",
              strides=[2, 3], dilations=[2, 2], opset="ios16"),
        _conv("conv_same_kernel_under_stride", [1, 1, 7, 5], [1, 1, 1, 2], pad_type="same", strides=[3, 4]),
        _conv("conv_literals", [1, 2, 3, 3], [1, 2, 2, 2], pad_type=Inline("same"), groups=Inline(1)),
        _conv("conv_weight_dtype_differs", [1, 3, 2, 3], [2, 3, 1, 2], weight_dtype=np.float32, bias=True),
        _conv("conv_weight_fp16_input_fp32", [1, 2, 3], [2, 2, 2], dtype=np.float32,
              weight_dtype=np.float16, opset="ios17"),
        _conv("conv_runtime_weight", [1, 2, 4], [3, 2, 2], constant_weight=False, opset="ios15"),
        _conv("conv_runtime_weight_and_bias", [1, 2, 3, 3], [2, 2, 2, 2], bias=True, constant_weight=False,
              constant_bias=False),
        _conv("conv_one_pixel", [1, 3, 1, 1], [4, 3, 3, 3], pad_type="custom", pad=[1, 1, 1, 1], bias=True),
        _conv("conv_many_windows", [1, 3, 13, 17], [5, 3, 3, 3], pad_type="custom", pad=[1, 1, 1, 1], bias=True),
        _conv("conv_many_windows_fp32", [1, 2, 11, 14], [3, 2, 2, 3], dtype=np.float32, pad_type="same_lower"),
        _conv("conv_many_windows_strided", [2, 2, 25, 33], [3, 2, 5, 4], strides=[2, 3], pad_type="custom",
              pad=[2, 1, 0, 3]),
        _conv("conv_many_windows_dilated_groups", [1, 4, 15, 14], [4, 2, 3, 3], dilations=[2, 1], groups=2,
              pad_type="same", bias=True),
        _conv("conv_many_windows_1d", [1, 4, 300], [3, 4, 3], strides=[2], pad_type="custom", pad=[1, 1], bias=True),
        _conv("conv_many_terms", [1, 31, 5, 4], [34, 31, 3, 3], pad_type="same", bias=True),
        _conv("conv_many_terms_fp32", [1, 30, 13, 12], [3, 30, 3, 3], dtype=np.float32),
        _conv("conv_3d", [1, 2, 3, 5, 4], [3, 2, 2, 3, 2], strides=[1, 2, 1], pad_type="custom",
              pad=[1, 0, 0, 1, 1, 1], dilations=[1, 1, 2], bias=True),
        _conv("conv_depthwise_strided", [1, 3, 9, 11], [3, 1, 3, 5], groups=3, strides=[2, 2], pad_type="custom",
              pad=[1, 1, 2, 2], bias=True),
        _conv("conv_depthwise_strides_over_the_kernel", [2, 2, 9, 8], [2, 1, 2, 1], groups=2, strides=[4, 3]),
        _conv("conv_depthwise_dilated", [1, 2, 9, 12], [4, 1, 3, 3], groups=2, dilations=[2, 3],
              pad_type="same", bias=True),
        _conv("conv_depthwise_asymmetric_fp32", [1, 2, 7, 19], [2, 1, 4, 3], dtype=np.float32, groups=2,
              pad_type="custom", pad=[3, 0, 0, 4]),
        _conv("conv_depthwise_one_pixel", [1, 3, 1, 1], [3, 1, 3, 3], groups=3, pad_type="same"),
        _conv("conv_depthwise_strided_dilated", [1, 2, 10, 21], [2, 1, 3, 4], groups=2, strides=[1, 3],
              dilations=[1, 2], pad_type="same_lower", weight_dtype=np.float32),
        _conv("conv_depthwise_1d", [1, 3, 40], [3, 1, 4], groups=3, strides=[2], bias=True),
        _conv("conv_depthwise_3d", [1, 2, 3, 4, 3], [2, 1, 2, 2, 2], groups=2, bias=True),
        _conv("conv_depthwise_by_many", [1, 2, 6, 7], [12, 1, 3, 2], groups=2, bias=True),
        _conv("conv_depthwise_runtime_weight", [1, 2, 5, 5], [2, 1, 3, 3], groups=2, constant_weight=False),
    ]


def _transposed(label, shape_x, shape_weight, *, dtype=np.float16, weight_dtype=None, bias=False, opset="ios18",
                constant_weight=True, constant_bias=True, **parameters):
    name, weight_dtype = f"conv_transpose_{label}", weight_dtype or dtype
    x = draw(name + ".x", shape_x, dtype, -2, 2)
    weight = draw(name + ".weight", shape_weight, weight_dtype, -1, 1)
    plain = {key: value.value if isinstance(value, Inline) else value for key, value in parameters.items()}
    inputs, args = {"x": x}, dict(parameters)
    (args if constant_weight else inputs)["weight"] = weight
    bias_values = None
    if bias:
        bias_values = draw(name + ".bias", [shape_weight[1] * plain.get("groups", 1)], weight_dtype, -1, 1)
        (args if constant_bias else inputs)["bias"] = bias_values
    want, magnitude = reference.conv_transpose(x, weight, bias_values, **plain)
    return Case("conv_transpose", name, inputs, args, want, magnitude=magnitude, opset=opset, source="exact sum",
                torch_value=_torch_transposed(x, weight, bias_values, want.shape[2:], **plain))


def _torch_transposed(x, weight, bias, size, strides=None, pad_type="valid", pad=None, dilations=None, groups=1,
                      output_shape=None):
    """PyTorch's without padding, of which the part that the padding leaves is cut out; zeros beyond it."""
    rank = x.ndim - 2
    function = getattr(torch.nn.functional, f"conv_transpose{rank}d")
    full = function(torch.from_numpy(f64(x)), torch.from_numpy(f64(weight)), stride=strides or 1,
                    dilation=dilations or 1, groups=groups).numpy()
    before = [0] * rank
    if pad_type == "custom" and pad:
        before = pad[::2]
    elif pad_type == "same":
        before = [max(f - n, 0) // 2 for f, n in zip(full.shape[2:], size)]
    out = np.zeros([*full.shape[:2], *size])
    part = full[(..., *[slice(b, b + n) for b, n in zip(before, size)])]
    out[(..., *[slice(n) for n in part.shape[2:]])] = part
    return out if bias is None else out + f64(bias).reshape([-1] + [1] * rank)


def _transposed_cases():
    t = _transposed
    return [
        t("defaults", [1, 2, 3, 4], [2, 3, 2, 2]),
        t("explicit", [2, 2, 3, 2], [2, 2, 2, 3], bias=True, strides=[1, 1], pad_type="valid", pad=[0, 0, 0, 0],
          dilations=[1, 1], groups=1),
        t("fp32", [1, 3, 3, 4], [3, 2, 3, 2], dtype=np.float32, bias=True),
        t("1d", [2, 3, 4], [3, 2, 3], strides=[2], pad_type="custom", pad=[1, 2]),
        t("1d_dilated", [1, 2, 4], [2, 2, 3], dilations=[3], dtype=np.float32),
        t("3d", [1, 2, 2, 2, 3], [2, 1, 2, 1, 2], strides=[1, 2, 2], bias=True),
        t("valid_ignores_pad", [1, 2, 3, 3], [2, 1, 3, 3], pad_type="valid", pad=[1, 1, 1, 1]),
        t("custom_asymmetric", [1, 2, 4, 3], [2, 2, 3, 3], pad_type="custom", pad=[2, 0, 1, 3]),
        t("custom_without_pad", [1, 2, 3], [2, 1, 2], pad_type="custom"),
        t("strides", [1, 2, 3, 2], [2, 2, 3, 2], strides=[2, 3], bias=True),
        t("strides_over_the_kernel", [1, 1, 3, 2], [1, 2, 1, 2], strides=[2, 3]),
        t("dilations", [1, 2, 3, 3], [2, 2, 3, 2], dilations=[2, 3]),
        t("groups", [1, 4, 3, 2], [4, 3, 2, 2], groups=2, bias=True),
        t("depthwise", [1, 3, 3, 3], [3, 1, 2, 2], groups=3, strides=[2, 2]),
        t("same", [1, 2, 4, 3], [2, 2, 3, 3], pad_type="same"),
        t("same_strided", [1, 2, 3, 3], [2, 1, 4, 3], pad_type="same", strides=[2, 2]),
        t("same_odd_total", [1, 1, 3, 4], [1, 2, 2, 4], pad_type="same"),
        t("same_stride_over_the_kernel", [1, 1, 3], [1, 1, 1], pad_type="same", strides=[3]),
        t("output_shape", [1, 2, 3, 3], [2, 2, 3, 2], strides=[2, 3], output_shape=[1, 2, 8, 9]),
        t("output_shape_custom", [1, 2, 3], [2, 2, 3], strides=[2], pad_type="custom", pad=[1, 1],
          output_shape=[1, 2, 6], bias=True),
        t("output_shape_same", [1, 1, 3, 3], [1, 2, 3, 3], strides=[2, 2], pad_type="same", output_shape=[1, 2, 5, 6]),
        t("literals", [1, 2, 3], [2, 1, 2], pad_type=Inline("same"), groups=Inline(1)),
        t("weight_dtype_differs", [1, 2, 2, 3], [2, 2, 1, 2], weight_dtype=np.float32, bias=True),
        t("runtime_weight_ios17", [1, 2, 3], [2, 2, 2], constant_weight=False, opset="ios17"),
        t("ios15", [1, 2, 3, 2], [2, 2, 2, 2], strides=[2, 1], bias=True, opset="ios15"),
    ]


def _quantized(name, shape_x, shape_weight, scale, shift, *, dtype=np.float16, nbits=8, bias=False, **parameters):
    """A convolution whose weight is scale · bytes + shift, in the type of x, which holds these numbers."""
    x = draw(name + ".x", shape_x, dtype, -2, 2)
    weight = draw(name + ".weight", shape_weight, np.uint8, 0, 2**nbits - 1)
    scale, shift = dtype(scale), dtype(shift)
    column = [-1] + [1] * (len(shape_weight) - 1)
    floats = f64(weight) * f64(scale).reshape(column) + f64(shift).reshape(column)
    assert (floats == dtype(floats)).all(), name
    args = {"weight": weight, "quantization_type": "linear", "quant_scale": scale, "quant_bias": shift, **parameters}
    if nbits != 8:
        args["nbits"] = np.int32(nbits)
    bias_values = None
    if bias:
        bias_values = args["bias"] = draw(name + ".bias", shape_weight[:1], np.uint8, 0, 9)
    want, magnitude = reference.conv(x, floats, bias_values, **parameters)
    return Case("conv_quantized", name, {"x": x}, args, want, magnitude=magnitude, opset="ios16", source="exact sum",
                torch_value=_torch_conv(x, floats, bias_values, **parameters))


def _quantized_cases():
    return [
        _quantized("conv_quantized_numbers", [1, 3, 4, 4], [2, 3, 2, 2], 0.0625, -8),
        _quantized("conv_quantized_channels", [2, 2, 5], [3, 2, 3], [0.125, 0.25, 0.5], [-4, 2, 0], strides=[2]),
        _quantized("conv_quantized_bias", [1, 2, 3, 3], [4, 1, 3, 3], [0.25], [-1], bias=True, groups=2,
                   pad_type="same"),
        _quantized("conv_quantized_4_bits", [1, 2, 3, 3], [2, 2, 1, 1], 0.5, -3, dtype=np.float32, nbits=4),
        _quantized("conv_quantized_dilated", [1, 1, 6, 5], [1, 1, 2, 2], 0.25, 1, dtype=np.float32, dilations=[2, 3],
                   pad_type="custom", pad=[1, 0, 2, 1]),
    ]


def _conv_1_0():
    return [
        _conv("conv_explicit", [1, 3, 1, 5], [4, 3, 1, 1], bias=True, opset="ios16", strides=[1, 1],
              pad_type="valid", pad=[0, 0, 0, 0], dilations=[1, 1], groups=1),
        _conv("conv_1d_same", [1, 2, 6], [2, 2, 3], opset="ios15", pad_type="same", strides=[2]),
        _conv("conv_fp32_groups", [1, 4, 3, 3], [2, 2, 2, 2], dtype=np.float32, opset="ios17", groups=2),
    ]


def _matmul(name, shape_x, shape_y, *, dtype=np.float16, y_dtype=None, constant=None, opset="ios18",
            literal=False, declared=None, **transposes):
    values = {"x": draw(name + ".x", shape_x, dtype, -3, 3),
              "y": draw(name + ".y", shape_y, y_dtype or dtype, -3, 3)}
    want, magnitude = reference.matmul(values["x"], values["y"], **transposes)
    args = {}
    if constant:
        args[constant] = Inline(values.pop(constant)) if literal else values.pop(constant)
    if dtype == np.int32:
        want, magnitude = want.astype(np.int64), None
    mixed = y_dtype is not None
    return Case("matmul", name, values, {**args, **transposes}, want, magnitude=magnitude, opset=opset,
                source="exact sum", declared=declared,
                value_inference="mixed dtypes need a const" if mixed else declared is None)


def _matmul_cases():
    return [
        _matmul("matmul_fp16", [3, 5], [5, 4]),
        _matmul("matmul_fp32", [3, 5], [5, 4], dtype=np.float32),
        _matmul("matmul_int32", [2, 3], [3, 2], dtype=np.int32),
        _matmul("matmul_transpose_x", [5, 3], [5, 4], transpose_x=True, transpose_y=False),
        _matmul("matmul_transpose_y", [3, 5], [4, 5], transpose_x=False, transpose_y=True),
        _matmul("matmul_transpose_both", [5, 3], [4, 5], transpose_x=True, transpose_y=True),
        _matmul("matmul_batch", [2, 3, 2, 4], [2, 3, 4, 3]),
        _matmul("matmul_batch_broadcast", [3, 1, 2, 3], [2, 3, 2]),
        _matmul("matmul_batch_broadcast_transposed", [2, 3, 2], [3, 1, 4, 3], transpose_x=True,
                transpose_y=True),
        _matmul("matmul_batch_against_matrix", [2, 2, 3, 4], [4, 2], dtype=np.float32),
        _matmul("matmul_vector_left", [4], [4, 3]),
        # coremltools' docstring gives [2, 3]; its type inference drops the wrong dimension, [1, 3].
        _matmul("matmul_vector_left_batch", [4], [2, 4, 3], declared=("fp16", (2, 3))),
        _matmul("matmul_one_by_one", [1, 1], [1, 1]),
        _matmul("matmul_rank_5", [1, 2, 1, 1, 3], [2, 1, 2, 3, 2]),
        _matmul("matmul_const_y", [2, 3], [3, 4], constant="y", transpose_x=False, transpose_y=False),
        _matmul("matmul_const_x", [2, 3], [1, 3, 2], constant="x"),
        _matmul("matmul_literal_y", [2, 3], [3, 2], constant="y", literal=True),
        _matmul("matmul_const_y_dtype_differs", [2, 3], [3, 2], y_dtype=np.float32, constant="y"),
        _matmul("matmul_ios15", [2, 3], [2, 3], transpose_y=True, opset="ios15"),
    ]


def _linear(name, shape_x, outputs, *, dtype=np.float16, weight_dtype=None, bias=True, opset="ios18"):
    weight_dtype = weight_dtype or dtype
    x = draw(name + ".x", shape_x, dtype, -3, 3)
    weight = draw(name + ".weight", [outputs, shape_x[-1]], weight_dtype, -3, 3)
    args = {"weight": weight}
    products = f64(x)[..., None, :] * f64(weight)
    if bias:
        args["bias"] = draw(name + ".bias", [outputs], weight_dtype, -3, 3)
        column = np.broadcast_to(f64(args["bias"])[:, None], [*products.shape[:-1], 1])
        products = np.concatenate([products, column], -1)
    want, magnitude = reference.exact_sum(products, [-1]), reference.exact_sum(np.abs(products), [-1])
    if dtype == np.int32:
        want, magnitude = want.astype(np.int64), None
    return Case("linear", name, {"x": x}, args, want, magnitude=magnitude, opset=opset, source="exact sum",
                value_inference="casts in place" if weight_dtype != dtype else True)


def _linear_cases():
    return [
        _linear("linear_fp16", [3, 5], 4),
        _linear("linear_fp32", [3, 5], 4, dtype=np.float32),
        _linear("linear_int32", [2, 3], 2, dtype=np.int32),
        _linear("linear_no_bias", [2, 3], 4, bias=False),
        _linear("linear_rank_1", [5], 3),
        _linear("linear_rank_3", [2, 2, 3], 3, dtype=np.float32),
        _linear("linear_one_output", [3, 2], 1),
        _linear("linear_weight_dtype_differs", [2, 3], 2, weight_dtype=np.float32),
        _linear("linear_ios15", [2, 3], 2, opset="ios15"),
    ]


def files():
    yield "conv", "1.3", _conv_cases()
    yield "conv_1_0", "1.0", _conv_1_0()
    yield "conv_quantized_1_0", "1.0", _quantized_cases()
    yield "conv_transpose", "1.3", _transposed_cases()
    yield "matmul", "1.3", _matmul_cases()
    yield "linear", "1.3", _linear_cases()
