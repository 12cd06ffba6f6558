"""max_pool, avg_pool and l2_pool, straight from the definition."""

import itertools
import math

import mpmath
import numpy as np
import torch

from . import reference
from .case import Case, Inline, draw
from .reference import f64


def _windows(x, kernel, strides, padding, ceil_mode):
    """For each place of the result, the elements that its window meets in every plane, [n, C, count], how many more lie
    in the padding, and the shape of the result."""
    size = []
    for d, k, s, (before, after) in zip(x.shape[2:], kernel, strides, padding):
        rest = d + before + after - k
        count = (math.ceil(rest / s) if ceil_mode else rest // s) + 1
        if ceil_mode and (count - 1) * s >= d + before:
            count -= 1
        size.append(count)
    for at in np.ndindex(*size):
        spans, padded = [], 1
        for a, d, k, s, (before, after) in zip(at, x.shape[2:], kernel, strides, padding):
            start = a * s - before
            spans.append(range(max(start, 0), min(start + k, d)))
            padded *= min(start + k, d + after) - start
        met = [x[(slice(None), slice(None), *place)] for place in itertools.product(*spans)]
        yield at, np.stack(met, -1) if met else np.zeros([*x.shape[:2], 0]), padded, size


def _pool(op, label, shape, kernel, *, dtype=np.float16, pad_type="valid", pad=None, strides=None, ceil_mode=None,
          exclude=None, literal=False, x=None, opset="ios18", compare=True):
    name = f"{op}_{label}"
    x = draw(name, shape, dtype) if x is None else x
    rank = x.ndim - 2
    args = {"kernel_sizes": kernel, "pad_type": Inline(pad_type) if literal else pad_type, "pad": pad,
            "strides": strides, "ceil_mode": ceil_mode, "exclude_padding_from_average": exclude}
    args = {key: value for key, value in args.items() if value is not None}
    steps = strides or [1] * rank
    padding = reference.conv_padding(pad_type, pad, x.shape[2:], kernel, steps, [1] * rank)
    want = magnitude = None
    for at, met, padded, size in _windows(f64(x), kernel, steps, padding, bool(ceil_mode)):
        if want is None:
            want, magnitude = np.empty([*x.shape[:2], *size]), np.empty([*x.shape[:2], *size])
        place = (slice(None), slice(None), *at)
        if op == "max_pool":
            want[place] = met.max(-1)
        elif op == "avg_pool":
            count = met.shape[-1] if exclude else padded
            want[place] = reference.exact_sum(met, [-1]) / count
            magnitude[place] = reference.exact_sum(np.abs(met), [-1]) / count
        else:
            squares = reference.exact_sum(met**2, [-1])
            want[place] = np.vectorize(lambda v: float(mpmath.sqrt(mpmath.mpf(float(v)))), otypes=[float])(squares)
    torch_value = _torch(op, f64(x), kernel, steps, padding, bool(ceil_mode), bool(exclude)) if compare else None
    return Case(op, name, {"x": x}, args, want, magnitude=magnitude if op == "avg_pool" else None, opset=opset,
                source={"max_pool": "exact", "avg_pool": "exact sum", "l2_pool": "mpmath"}[op],
                torch_value=torch_value)


def _torch(op, x, kernel, strides, padding, ceil_mode, exclude):
    """PyTorch's result, where it takes such padding: the same before and after, and at most half a window."""
    rank = len(kernel)
    if any(a != b or a > k // 2 for (a, b), k in zip(padding, kernel)):
        return None
    tensor, pads = torch.from_numpy(x), [a for a, _ in padding]
    functional = torch.nn.functional
    if op == "max_pool":
        pool = [functional.max_pool1d, functional.max_pool2d, functional.max_pool3d][rank - 1]
        return pool(tensor, kernel, strides, pads, ceil_mode=ceil_mode).numpy()
    if op == "avg_pool":
        pool = [functional.avg_pool1d, functional.avg_pool2d, functional.avg_pool3d][rank - 1]
        return pool(tensor, kernel, strides, pads, ceil_mode, not exclude).numpy()
    if ceil_mode or any(pads):
        return None
    pool = [functional.lp_pool1d, functional.lp_pool2d][rank - 1]
    return pool(tensor, 2.0, kernel[0] if rank == 1 else kernel, strides[0] if rank == 1 else strides).numpy()


def _common(op, three=True):
    def case(*args, **keywords):
        return _pool(op, *args, **keywords)

    cases = [
        case("fp16", [2, 3, 5, 4], [2, 3]),
        case("fp32", [1, 2, 5, 5], [3, 2], dtype=np.float32),
        case("defaults_written", [1, 2, 4, 4], [2, 2], strides=[1, 1], pad=[0, 0, 0, 0], ceil_mode=False),
        case("strides", [1, 2, 7, 6], [3, 2], strides=[2, 3]),
        case("strides_over_the_kernel", [1, 1, 7, 5], [2, 1], strides=[3, 2]),
        case("rank_3", [2, 2, 9], [3], strides=[2]),
        case("custom", [1, 2, 5, 6], [3, 3], pad_type="custom", pad=[1, 1, 1, 1], strides=[2, 2]),
        case("custom_asymmetric", [1, 2, 4, 5], [3, 2], pad_type="custom", pad=[2, 0, 0, 1]),
        case("valid_ignores_pad", [1, 1, 4, 4], [2, 2], pad_type="valid", pad=[1, 1, 1, 1]),
        case("same", [1, 2, 5, 4], [3, 3], pad_type="same"),
        case("same_odd_total", [1, 2, 5, 6], [2, 4], pad_type="same"),
        case("same_strided", [1, 1, 6, 7], [3, 3], pad_type="same", strides=[2, 2]),
        case("same_lower", [1, 2, 5, 6], [2, 4], pad_type="same_lower", opset="ios16"),
        case("ceil_mode", [1, 2, 6, 7], [3, 2], strides=[2, 2], ceil_mode=True),
        case("ceil_mode_padded", [1, 1, 6, 6], [3, 3], pad_type="custom", pad=[1, 1, 1, 1], strides=[2, 3],
             ceil_mode=True),
        case("ceil_mode_without_the_last_window", [1, 1, 5], [2], pad_type="custom", pad=[1, 1], strides=[3],
             ceil_mode=True),
        case("wide", [1, 2, 9, 41], [3, 3], pad_type="custom", pad=[1, 1, 1, 1], strides=[2, 2]),
        case("wide_fp32", [1, 2, 5, 37], [2, 4], pad_type="custom", pad=[0, 1, 3, 0], strides=[1, 3], dtype=np.float32),
        case("whole", [2, 3, 4, 5], [4, 5]),
        case("pointwise", [1, 2, 3, 3], [1, 1]),
        case("literal", [1, 2, 4], [2], literal=True),
        case("ios15", [1, 2, 4, 4], [2, 2], strides=[2, 2], opset="ios15"),
    ]
    if three:
        cases.append(case("rank_5", [1, 2, 3, 4, 3], [2, 2, 3], strides=[1, 2, 1]))
        cases.append(case("rank_5_same", [1, 1, 3, 3, 2], [2, 3, 2], pad_type="same", strides=[2, 1, 1]))
    return cases


def _max_cases():
    x = np.array([[[-1, -np.inf, -65504, -2, np.inf, 1, -np.inf, -np.inf]]], np.float16)
    return [
        *_common("max_pool"),
        _pool("max_pool", "infinities", None, [2], x=x),
        _pool("max_pool", "negative_beside_padding", None, [2], x=-np.ones([1, 1, 3], np.float16), pad_type="same"),
    ]


def _avg_cases():
    def case(*args, **keywords):
        return _pool("avg_pool", *args, exclude=True, **keywords)

    return [
        *_common("avg_pool"),
        case("exclude_custom", [1, 2, 5, 6], [3, 3], pad_type="custom", pad=[1, 1, 1, 1], strides=[2, 2]),
        case("exclude_asymmetric", [1, 2, 4, 5], [3, 2], pad_type="custom", pad=[2, 0, 0, 1]),
        case("exclude_same", [1, 1, 6, 7], [3, 3], pad_type="same", strides=[2, 2], dtype=np.float32),
        case("exclude_ceil_mode", [1, 1, 6, 6], [3, 3], pad_type="custom", pad=[1, 1, 1, 1], strides=[2, 3],
             ceil_mode=True),
        case("exclude_rank_5", [1, 1, 3, 3, 2], [2, 3, 2], pad_type="same", strides=[2, 1, 1]),
    ]


def files():
    yield "max_pool", "1.3", _max_cases()
    yield "avg_pool", "1.3", _avg_cases()
    yield "l2_pool", "1.3", _common("l2_pool", three=False)
