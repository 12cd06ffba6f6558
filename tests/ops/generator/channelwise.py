"""Activations with parameters for each channel."""

import mpmath
import numpy as np
import torch
import torch.nn.functional as F

from .case import Case, draw, special_values
from .reference import accurate, f64


def _along(parameter, rank):
    return f64(parameter).reshape([-1 if axis == 1 else 1 for axis in range(rank)])


def _prelu(label, shape, alpha, *, dtype=np.float16, opset="ios18", x=None):
    name = f"prelu_{label}"
    x = draw(name, shape, dtype) if x is None else x
    wide, slopes = f64(x), _along(alpha, x.ndim)
    with np.errstate(all="ignore"):
        want = np.where(wide > 0, wide, slopes * wide)
    peer = F.prelu(torch.from_numpy(wide), torch.from_numpy(f64(alpha))).numpy()
    return Case("prelu", name, {"x": x}, {"alpha": alpha}, want, opset=opset, torch_value=peer)


def _prelu_cases():
    special = special_values(np.float16)
    special = special[~((special == 0) & np.signbit(special))].reshape(1, 2, 2, 3)
    return [
        _prelu("fp16", [2, 3, 2, 2], np.array([0.25, -1.5, 0.1], np.float16)),
        _prelu("fp32", [1, 2, 3, 2], np.array([0.1, 3], np.float32), dtype=np.float32),
        _prelu("rank_3", [2, 3, 4], np.full(3, 0.3, np.float16)),
        _prelu("rank_5", [1, 2, 2, 1, 3], np.full(2, -0.7, np.float16)),
        _prelu("rank_3_within_the_tolerance", [1, 2, 4], np.array([0.3, 0.300005], np.float32), dtype=np.float32),
        _prelu("one_channel", [2, 1, 3], np.array([0.2], np.float16)),
        _prelu("special", None, np.array([0.5, 2], np.float16), x=special),
        _prelu("alpha_of_other_dtype", [1, 3, 2, 2], np.array([0.1, 0.2, 0.3], np.float32), opset="ios17"),
        _prelu("fp32_alpha_of_other_dtype", [1, 2, 2, 2], np.array([0.1, 0.2], np.float16), dtype=np.float32),
        _prelu("ios15", [2, 2, 1, 3], np.array([0.25, 0.75], np.float32), dtype=np.float32, opset="ios15"),
    ]


# At an infinity that beta turns around, and where it makes 0, the formula's limits.
_softplus = accurate(
    lambda x, alpha, beta: alpha * (mpmath.log1p(mpmath.exp(beta * x)) if beta * x < 50
                                    else beta * x + mpmath.exp(-beta * x)),
    lambda x, alpha, beta: alpha * np.logaddexp(np.float64(0), beta * x))


def _softplus_parametric(label, shape, *, dtype=np.float16, other=None, opset="ios18", x=None, wide=4.0):
    name, other = f"softplus_parametric_{label}", other or dtype
    x = draw(name, shape, dtype, -wide, wide) if x is None else x
    alpha = draw(name + ".alpha", [x.shape[1]], other, -2, 2)
    beta = draw(name + ".beta", [x.shape[1]], other, -2, 2)
    want = _softplus(x, _along(alpha, x.ndim), _along(beta, x.ndim))
    finite = np.all(np.isfinite(x)) and wide < 8
    return Case("softplus_parametric", name, {"x": x}, {"alpha": alpha, "beta": beta}, want, opset=opset,
                source="mpmath", absolute=1e-2, value_inference=True if finite else "e^x overflows in fp16")


def _softplus_cases():
    special = special_values(np.float16)[1:].reshape(1, 2, 2, 3)
    return [
        _softplus_parametric("fp16", [2, 3, 2, 2]),
        _softplus_parametric("fp32", [1, 2, 3, 2], dtype=np.float32),
        _softplus_parametric("rank_3", [2, 3, 4]),
        _softplus_parametric("rank_5", [1, 2, 2, 1, 3]),
        _softplus_parametric("rank_6", [1, 2, 1, 2, 1, 2]),
        _softplus_parametric("wide", [1, 2, 8], wide=30.0),
        _softplus_parametric("wide_fp32", [1, 2, 8], dtype=np.float32, wide=80.0),
        _softplus_parametric("special", None, x=special),
        _softplus_parametric("parameters_of_other_dtype", [1, 3, 4], other=np.float32, opset="ios17"),
        _softplus_parametric("ios15", [2, 2, 3], dtype=np.float32, opset="ios15"),
    ]


def files():
    yield "prelu", "1.3", _prelu_cases()
    yield "softplus_parametric", "1.3", _softplus_cases()
