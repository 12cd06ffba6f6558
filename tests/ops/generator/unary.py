"""Elementwise ops of one operand, activations and clip."""

import numpy as np
import torch
import torch.nn.functional as F

from . import reference
from .case import Case, Inline, draw, special_values
from .reference import f64

FLOATS = {"fp16": np.float16, "fp32": np.float32}


def without(values, *excluded):
    """`excluded` are values; -0.0 means the negative zero only, nan every nan."""
    def same(a, b):
        return np.isnan(a) and np.isnan(b) or a == b and np.signbit(a) == np.signbit(b)

    return np.array([v for v in values if not any(same(v, e) for e in excluded)], values.dtype)


def _numpy(function):
    def apply(x):
        with np.errstate(all="ignore"):
            return function(f64(x))

    return apply


def unary_cases(op, function, *, low=-4.0, high=4.0, wide=None, exclude=(), source="mpmath", args=None, label="",
                peer=None, infers_scalars=True, **keywords):
    """Ranks 1 to 5 in fp16, fp32, special values, a scalar, and (`wide`) a larger range in fp16.
    `args` are the other parameters, those of floating point as Python's numbers, which get the dtype of x.
    `peer` is the same function in torch. `infers_scalars` says whether coremltools can evaluate it on scalars."""
    args = args or {}
    cases = []

    def add(name, x, opset="ios18"):
        name = "_".join(filter(None, [op, label, name]))
        typed = {key: x.dtype.type(arg) if isinstance(arg, float) else arg for key, arg in args.items()}
        inputs, passed = ({"x": x}, typed) if np.ndim(x) else ({}, {**typed, "x": x})
        torch_value = None if peer is None else peer(torch.from_numpy(np.asarray(f64(x)))).numpy()
        cases.append(Case(op, name, inputs, passed, function(x), opset=opset, source=source,
                          torch_value=torch_value, **keywords))

    for name, shape in (("fp16", [3, 5]), ("fp16_rank_1", [7]), ("fp16_rank_5", [1, 2, 1, 3, 2])):
        add(name, draw(f"{op}_{label}_{name}", shape, np.float16, low, high))
    add("fp32", draw(f"{op}_{label}_fp32", [2, 3, 3], np.float32, low, high))
    add("ios15", draw(f"{op}_{label}_ios15", [2, 1, 3, 1], np.float32, low, high), opset="ios15")
    if wide:
        add("fp16_wide", draw(f"{op}_{label}_wide", [2, 8], np.float16, *wide))
        add("fp32_wide", draw(f"{op}_{label}_wide_fp32", [2, 8], np.float32, *wide))
    for name, dtype in FLOATS.items():
        add(f"{name}_special", without(special_values(dtype), *exclude))
    if infers_scalars:
        add("scalar", draw(f"{op}_{label}_scalar", [], np.float16, low, high)[()])
    return cases


def _with_integers(op, function, values, cases):
    x = np.array(values, np.int32)
    return cases + [Case(op, f"{op}_int32", {"x": x}, {}, function(x.astype(np.int64)), source="numpy")]


def _rounding(op, function):
    cases = unary_cases(op, _numpy(function), low=-8, high=8, source="numpy f64")
    halves = np.array([0.5, 1.5, 2.5, 3.5, -0.5, -1.5, -2.5, 0.49975586, -0.49975586, 1023.5, 1024.5, -2047.0,
                       0.99951172, -0.99951172], np.float16)
    cases.append(Case(op, f"{op}_fp16_halves", {"x": halves}, {}, _numpy(function)(halves)))
    halves = np.array([0.5, -0.5, 2.5, 0.49999997, -0.49999997, 8388607.5, -8388606.5, 8388609.0], np.float32)
    cases.append(Case(op, f"{op}_fp32_halves", {"x": halves}, {}, _numpy(function)(halves)))
    return cases


def _default_epsilon(op, dtype):
    """coremltools rounds the default to the dtype of x: in fp16 those of log and rsqrt become 0."""
    value = {"log": 1e-45, "rsqrt": 1e-12, "inverse": 1e-4}[op]
    return f64(np.dtype(dtype).type(value))


def _with_epsilon(op, function, *, low, high, exclude):
    """log, rsqrt, inverse: function(x + epsilon)."""

    def default(x):
        return function(f64(x) + _default_epsilon(op, np.asarray(x).dtype))

    # Value inference adds in the dtype of x, so compare with a few roundings of the sum.
    cases = unary_cases(op, default, low=low, high=high, exclude=exclude, slack=8.0)
    for name, dtype in FLOATS.items():
        zero = np.array([0.0, -0.0], dtype)
        cases.append(Case(op, f"{op}_{name}_of_zero", {"x": zero}, {}, default(zero), source="mpmath"))
        for kind, epsilon in (("epsilon", dtype(0.0625)), ("epsilon_0", dtype(0))):
            x = draw(f"{op}_{name}_{kind}", [6], dtype, max(low, 1.5), high)
            cases.append(Case(op, f"{op}_{name}_{kind}", {"x": x}, {"epsilon": epsilon},
                              function(f64(x) + f64(epsilon)), source="mpmath", slack=8.0))
        other = np.float32(1e-5) if dtype is np.float16 else np.float16(0.001)
        x = draw(f"{op}_{name}_other", [5], dtype, max(low, 1.5), high)
        cases.append(Case(op, f"{op}_{name}_epsilon_of_other_dtype", {"x": x}, {"epsilon": other},
                          function(f64(x) + f64(other)), source="mpmath", slack=8.0))
        zero = np.array([0.0, 0.0], dtype)
        cases.append(Case(op, f"{op}_{name}_zero_plus_epsilon", {"x": zero}, {"epsilon": Inline(dtype(0.25))},
                          function(f64(zero) + 0.25), source="mpmath"))
    return cases


def _gelu():
    op, cases = "gelu", []
    modes = {"EXACT": reference.gelu_exact, "TANH_APPROXIMATION": reference.gelu_tanh,
             "SIGMOID_APPROXIMATION": reference.gelu_sigmoid}
    for mode, function in modes.items():
        # 0 · inf at -inf by the formula, -0 by the limit: left out.
        keywords = {"args": {"mode": mode}, "label": mode.lower(), "exclude": [-np.inf], "absolute": 4e-3}
        if mode == "TANH_APPROXIMATION":
            keywords["value_inference"] = "x cubed overflows in fp16"
            keywords["peer"] = lambda x: F.gelu(x, approximate="tanh")
        cases += unary_cases(op, function, wide=(-9, 9), **keywords)
    x = draw("gelu_default_mode", [2, 5])
    cases.append(Case(op, "gelu_default_mode", {"x": x}, {}, reference.gelu_exact(x), source="mpmath",
                      absolute=4e-3))
    cases.append(Case(op, "gelu_mode_literal", {"x": x}, {"mode": Inline("TANH_APPROXIMATION")},
                      reference.gelu_tanh(x), source="mpmath", absolute=4e-3))
    return cases


def _clip():
    op, cases = "clip", []
    for name, dtype in FLOATS.items():
        for kind, low, high, values in (
            ("", -1.5, 2.25, draw(f"{op}_{name}", [3, 5], dtype)),
            ("rank_5", 0.25, 3.0, draw(f"{op}_{name}_rank_5", [1, 2, 1, 3, 2], dtype)),
            ("special", -0.5, 2.0, special_values(dtype)),
            ("to_infinity", -2.0, np.inf, np.array([-np.inf, -3, 1, np.finfo(dtype).max, np.inf], dtype)),
        ):
            case_name = "_".join(filter(None, [op, name, kind]))
            want = np.minimum(np.maximum(f64(values), low), high)
            cases.append(Case(op, case_name, {"x": values}, {"alpha": dtype(low), "beta": dtype(high)}, want))
    x = draw(f"{op}_literals", [4])
    cases.append(Case(op, f"{op}_literals", {"x": x},
                      {"alpha": Inline(np.float16(0.5)), "beta": Inline(np.float16(1))},
                      np.clip(f64(x), 0.5, 1)))
    # From ios17 on alpha must be less than beta; before, they may be equal.
    cases.append(Case(op, f"{op}_equal_bounds_ios16", {"x": x},
                      {"alpha": np.float16(0.5), "beta": np.float16(0.5)}, np.full(4, 0.5), opset="ios16"))
    return cases


def _logical_not():
    cases = []
    for name, shape in (("rank_1", [5]), ("rank_3", [2, 1, 3]), ("rank_5", [1, 2, 1, 2, 2])):
        x = draw(f"logical_not_{name}", shape, np.bool_)
        cases.append(Case("logical_not", f"logical_not_{name}", {"x": x}, {}, ~x, source="numpy"))
    x = draw("logical_not_ios15", [2, 2], np.bool_)
    cases.append(Case("logical_not", "logical_not_ios15", {"x": x}, {}, ~x, source="numpy", opset="ios15"))
    return cases


def _exp2():
    cases = unary_cases("exp2", reference.exp2, wide=(-24, 15.9))
    return _with_integers("exp2", lambda x: 2**x, [0, 1, 2, 10, 24, 30], cases)


def files():
    yield "abs", "1.3", _with_integers("abs", np.abs, [0, -7, 7, -2147483647, 2147483647],
                                       unary_cases("abs", _numpy(np.abs), source="numpy f64"))
    yield "sign", "1.3", _with_integers("sign", np.sign, [0, -7, 7, -2147483648],
                                        unary_cases("sign", _numpy(np.sign), source="numpy f64",
                                               exclude=[np.nan]))
    yield "square", "1.3", _with_integers("square", np.square, [0, -7, 7, 46340, -46340],
                                          unary_cases("square", _numpy(np.square), source="numpy f64"))
    yield "exp", "1.3", unary_cases("exp", reference.exp, wide=(-17, 11.08))
    yield "exp2", "1.3", _exp2()
    yield "log", "1.3", _with_epsilon("log", reference.log, low=1.5, high=60, exclude=[])
    yield "sqrt", "1.3", unary_cases("sqrt", reference.sqrt, low=0, high=60)
    yield "rsqrt", "1.3", _with_epsilon("rsqrt", reference.rsqrt, low=0.05, high=60, exclude=[])
    yield "inverse", "1.3", _with_epsilon("inverse", lambda x: _numpy(np.reciprocal)(x), low=0.1, high=30,
                                          exclude=[])
    yield "sin", "1.3", unary_cases("sin", reference.sin, wide=(-300, 300), absolute=2e-3)
    yield "cos", "1.3", unary_cases("cos", reference.cos, wide=(-300, 300), absolute=2e-3)
    yield "tan", "1.3", unary_cases("tan", reference.tan, wide=(-300, 300), absolute=2e-3, peer=torch.tan)
    for op, function, peer in (("acos", reference.acos, torch.acos), ("asin", reference.asin, torch.asin),
                               ("atanh", reference.atanh, torch.atanh)):
        yield op, "1.3", unary_cases(op, function, low=-1, high=1, wide=(-1.25, 1.25), peer=peer)
    yield "atan", "1.3", unary_cases("atan", reference.atan, wide=(-3000, 3000), peer=torch.atan)
    yield "sinh", "1.3", unary_cases("sinh", reference.sinh, wide=(-11.7, 11.7), peer=torch.sinh)
    yield "cosh", "1.3", unary_cases("cosh", reference.cosh, wide=(-11.7, 11.7), peer=torch.cosh)
    yield "tanh", "1.3", unary_cases("tanh", reference.tanh, wide=(-12, 12))
    yield "erf", "1.3", unary_cases("erf", reference.erf, wide=(-6, 6))
    yield "sigmoid", "1.3", unary_cases("sigmoid", reference.sigmoid, wide=(-20, 20), peer=torch.sigmoid)
    yield "relu", "1.3", unary_cases("relu", _numpy(lambda x: np.maximum(x, 0.0)), source="numpy f64",
                                exclude=[-0.0])
    yield "silu", "1.3", unary_cases("silu", reference.silu, wide=(-20, 20), exclude=[-np.inf], peer=F.silu)
    yield "gelu", "1.3", _gelu()
    yield "softplus", "1.3", unary_cases("softplus", reference.softplus, wide=(-20, 20), absolute=4e-3)
    yield "clip", "1.3", _clip()
    yield "floor", "1.3", _rounding("floor", np.floor)
    yield "ceil", "1.3", _rounding("ceil", np.ceil)
    yield "round", "1.3", _rounding("round", np.round)
    yield "logical_not", "1.3", _logical_not()
