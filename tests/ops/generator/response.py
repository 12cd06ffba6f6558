"""l2_norm and local_response_norm, computed in 50 digits."""

import mpmath
import numpy as np
import torch

from .case import Case, Inline, draw
from .reference import f64

# What coremltools passes by default, as fp32.
DEFAULT_EPSILON, DEFAULT_ALPHA = float(np.float32(1e-6)), float(np.float32(1e-4))


def _squares(values):
    return mpmath.fsum(mpmath.mpf(v) ** 2 for v in f64(values).ravel().tolist())


def _l2_norm(label, shape, *, dtype=np.float16, epsilon=None, opset="ios18", x=None, literal=False):
    name = f"l2_norm_{label}"
    x = draw(name, shape, dtype) if x is None else x
    added = DEFAULT_EPSILON if epsilon is None else float(epsilon)
    args = {} if epsilon is None else {"epsilon": Inline(epsilon) if literal else epsilon}
    want = np.empty(x.shape)
    for index in np.ndindex(*x.shape[:-3]):
        norm = mpmath.sqrt(_squares(x[index]) + mpmath.mpf(added))
        for at in np.ndindex(*x.shape[-3:]):
            want[index + at] = float(mpmath.mpf(float(x[index + at])) / norm)
    return Case("l2_norm", name, {"x": x}, args, want, opset=opset, source="mpmath", slack=16.0)


def _l2_norm_cases():
    return [
        _l2_norm("fp16", [2, 2, 3, 2]),
        _l2_norm("fp32", [2, 2, 3, 2], dtype=np.float32),
        _l2_norm("rank_3", [2, 3, 4]),
        _l2_norm("rank_5", [2, 2, 1, 3, 2], epsilon=np.float16(0.5)),
        _l2_norm("epsilon", [1, 2, 2, 2], dtype=np.float32, epsilon=np.float32(1e-3)),
        _l2_norm("epsilon_of_other_dtype", [1, 2, 2, 2], epsilon=np.float32(1e-5), opset="ios17"),
        _l2_norm("epsilon_literal", [3, 1, 2], epsilon=np.float16(2), literal=True),
        _l2_norm("zeros", None, x=np.zeros([1, 2, 2], np.float32)),
        _l2_norm("small", None, x=draw("l2_norm_small", [2, 1, 3], np.float32, -1e-4, 1e-4)),
        _l2_norm("ios15", [1, 2, 1, 3], dtype=np.float32, epsilon=np.float32(0.01), opset="ios15"),
    ]


def _local_response_norm(label, shape, size, *, dtype=np.float16, alpha=None, beta=None, k=None, opset="ios18"):
    name = f"local_response_norm_{label}"
    x = draw(name, shape, dtype)
    given = {"alpha": alpha, "beta": beta, "k": k}
    args = {"size": size, **{key: value for key, value in given.items() if value is not None}}
    defaults = {"alpha": DEFAULT_ALPHA, "beta": 0.75, "k": 1.0}
    alpha, beta, k = [float(args.get(key, defaults[key])) for key in ("alpha", "beta", "k")]
    want = np.empty(x.shape)
    for index in np.ndindex(*x.shape):
        image, channel, *place = index
        first = max(channel - size // 2, 0)
        total = _squares(x[(image, slice(first, channel - size // 2 + size), *place)])
        divisor = (mpmath.mpf(k) + mpmath.mpf(alpha) / size * total) ** mpmath.mpf(beta)
        want[index] = float(mpmath.mpf(float(x[index])) / divisor)
    peer = torch.nn.functional.local_response_norm(torch.from_numpy(f64(x)), size, alpha, beta, k).numpy()
    return Case("local_response_norm", name, {"x": x}, args, want, opset=opset, source="mpmath", torch_value=peer)


def _local_response_norm_cases():
    single = np.float32
    return [
        _local_response_norm("fp16", [2, 5, 2, 2], 3, alpha=np.float16(0.5), beta=np.float16(0.75), k=np.float16(2)),
        _local_response_norm("fp32", [1, 6, 2, 2], 5, dtype=single, alpha=single(0.3), beta=single(1.25),
                             k=single(0.5)),
        _local_response_norm("defaults", [1, 4, 3], 3, dtype=single),
        _local_response_norm("large_alpha", [1, 4, 3], 3, alpha=np.float16(8)),
        _local_response_norm("one_channel_each", [2, 3, 2], 1, alpha=np.float16(1)),
        _local_response_norm("even_size", [1, 5, 2], 4, dtype=single, alpha=single(2)),
        _local_response_norm("wider_than_channels", [1, 3, 2, 1], 9, alpha=np.float16(4), k=np.float16(0.5)),
        _local_response_norm("parameters_of_other_dtype", [1, 3, 4], 3, alpha=single(0.7), beta=single(0.5),
                             k=single(1.1), opset="ios17"),
        _local_response_norm("ios15", [1, 4, 2, 2], 3, dtype=single, alpha=single(0.01), beta=single(0.75),
                             k=single(1), opset="ios15"),
    ]


def files():
    yield "l2_norm", "1.3", _l2_norm_cases()
    yield "local_response_norm", "1.3", _local_response_norm_cases()
