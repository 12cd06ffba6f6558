"""Rectifiers and their kin, with constant parameters."""

import mpmath
import numpy as np
import torch.nn.functional as F

from .case import Case, Inline, draw
from .reference import accurate, f64
from .unary import FLOATS, unary_cases


def _exact(function, at_special=None):
    return accurate(function, at_special or function)


def _elu(alpha):
    return _exact(lambda x: x if x > 0 else alpha * mpmath.expm1(x),
                  lambda x: np.where(x > 0, x, alpha * np.expm1(x)))


def _leaky(x, alpha):
    return np.where(f64(x) >= 0, f64(x), alpha * f64(x))


def _quietly(function):
    def apply(x):
        with np.errstate(all="ignore"):
            return function(f64(x))

    return apply


def _linear(alpha, beta):
    return _exact(lambda x: alpha * x + beta)


def _softsign(x):
    return x / (1 + abs(x))


# op: the parameters, what they make of x, and how far coremltools' arithmetic in the dtype of x may be away.
PARAMETRIC = {
    "elu": (["alpha"], _elu, 2e-3),
    "leaky_relu": (["alpha"], lambda alpha: _quietly(lambda x: _leaky(x, alpha)), 0.0),
    "linear_activation": (["alpha", "beta"], _linear, 1e-2),
    "clamped_relu": (["alpha", "beta"],
                     lambda alpha, beta: _quietly(lambda x: np.minimum(_leaky(x, alpha), beta)), 0.0),
    "scaled_tanh": (["alpha", "beta"],
                    lambda alpha, beta: _exact(lambda x: alpha * mpmath.tanh(beta * x),
                                               lambda x: alpha * np.tanh(beta * x)), 1e-2),
    "sigmoid_hard": (["alpha", "beta"],
                     lambda alpha, beta: lambda x: np.clip(_linear(alpha, beta)(x), 0, 1), 2e-3),
    "thresholded_relu": (["alpha"], lambda alpha: _quietly(lambda x: np.where(x < alpha, 0, x)), 0.0),
}
# op: several values of the parameters, all of them exact in fp16.
VALUES = {
    "elu": [(1.0,), (0.375,), (-1.5,)],
    "leaky_relu": [(0.0625,), (1.75,), (-0.5,)],
    "linear_activation": [(0.625, -1.25), (-3.0, 0.0)],
    "clamped_relu": [(0.125, 2.5), (2.0, 1.0), (-0.75, 1.5)],
    "scaled_tanh": [(1.75, 0.625), (-0.5, 3.0)],
    "sigmoid_hard": [(0.203125, 0.5), (-0.5, 0.25)],
    "thresholded_relu": [(0.5,), (-1.25,), (0.0,)],
}
PEERS = {"elu": lambda alpha: lambda x: F.elu(x, alpha), "leaky_relu": lambda alpha: lambda x: F.leaky_relu(x, alpha)}


def _parametric(op):
    names, function, absolute = PARAMETRIC[op]
    cases = []
    for values in VALUES[op]:
        label = "_".join(f"{value:g}" for value in values).replace("-", "minus_").replace(".", "p")
        # The sign of a zero is left out: sources with another order of the pieces have the other.
        cases += unary_cases(op, function(*values), args=dict(zip(names, values)), label=label, exclude=[-0.0],
                             absolute=absolute, wide=(-40, 40), infers_scalars=op != "thresholded_relu",
                             peer=PEERS[op](*values) if op in PEERS else None)
    for name, dtype in FLOATS.items():
        # Before ios17 this was not possible.
        other = np.float32 if dtype is np.float16 else np.float16
        values = [other(0.1 * (i + 1)) for i in range(len(names))]
        x = draw(f"{op}_{name}_other", [3, 4], dtype)
        cases.append(Case(op, f"{op}_{name}_parameters_of_other_dtype", {"x": x}, dict(zip(names, values)),
                          function(*map(float, values))(x), source="mpmath", opset="ios17",
                          absolute=absolute + 2e-3))
    literals = {parameter: Inline(np.float16(value)) for parameter, value in zip(names, VALUES[op][0])}
    x = draw(f"{op}_literals", [5])
    cases.append(Case(op, f"{op}_literals", {"x": x}, literals, function(*VALUES[op][0])(x), source="mpmath",
                      absolute=absolute))
    return cases


def _threshold():
    def at_least(alpha):
        return _quietly(lambda x: np.maximum(x, alpha))

    cases = []
    for alpha in (-1.25, 0.5):
        label = f"{alpha:g}".replace("-", "minus_").replace(".", "p")
        cases += unary_cases("threshold", at_least(alpha), args={"alpha": alpha}, label=label, source="numpy f64")
    x = np.array([-2147483648, -7, 2, 3, 4, 16777217, 2147483647], np.int32)
    cases.append(Case("threshold", "threshold_int32", {"x": x}, {"alpha": 3}, np.maximum(x, 3), source="numpy"))
    return cases


def files():
    for op in PARAMETRIC:
        yield op, "1.3", _parametric(op)
    yield "relu6", "1.3", unary_cases("relu6", _quietly(lambda x: np.clip(x, 0, 6)), low=-4, high=9, peer=F.relu6,
                                      exclude=[-0.0], source="numpy f64")
    yield "softsign", "1.3", unary_cases("softsign", _exact(_softsign), wide=(-60000, 60000), peer=F.softsign)
    yield "threshold", "1.3", _threshold()
