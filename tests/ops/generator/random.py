"""Ops that draw random numbers: SplitMix64 and the formulas of the ops' documentation, in exact numbers and 50 digits.

What Core ML draws from a seed is not documented, so no source agrees; that draws have the distributions which are asked
for is tested beside the ops.
"""

from fractions import Fraction

import mpmath
import numpy as np

from .case import Case, draw

MASK = 2**64 - 1


def _mix(bits):
    bits = (bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9 & MASK
    bits = (bits ^ (bits >> 27)) * 0x94D049BB133111EB & MASK
    return bits ^ (bits >> 31)


def _draws(seed, count):
    """Fractions from 0 to below 1."""
    state, draws = _mix(seed & MASK), []
    for _ in range(count):
        state = (state + 0x9E3779B97F4A7C15) & MASK
        draws.append(Fraction(_mix(state) >> 11, 2**53))
    return draws


def _mpf(fraction):
    return mpmath.mpf(fraction.numerator) / fraction.denominator


def _args(shape, seed, parameters):
    args = {"shape": shape, **{key: value for key, value in parameters.items() if value is not None}}
    return args if seed is None else {**args, "seed": seed}


def _of_shape(op, label, shape, number, parameters, *, seed=None, opset="ios18", magnitude=None):
    count = int(np.prod(shape))
    draws = _draws(-1 if seed is None else seed, count + count % 2)
    want = np.array([number(draws, position) for position in range(count)]).reshape(shape)
    bound = None if magnitude is None else np.full(shape, magnitude)
    return Case(op, f"{op}_{label}", {}, _args(shape, seed, parameters), want, opset=opset, magnitude=bound,
                source="SplitMix64")


def _normal(label, shape, *, mean=None, stddev=None, **keywords):
    centre, width = (0.0 if mean is None else float(mean)), (1.0 if stddev is None else float(stddev))

    def number(draws, position):
        u, v = draws[position - position % 2], draws[position - position % 2 + 1]
        turn = mpmath.sin if position % 2 else mpmath.cos
        value = mpmath.sqrt(-2 * mpmath.log(_mpf(1 - u))) * turn(2 * mpmath.pi * _mpf(v))
        return float(mpmath.mpf(centre) + mpmath.mpf(width) * value)

    return _of_shape("random_normal", label, shape, number, {"mean": mean, "stddev": stddev},
                     magnitude=abs(centre) + 9 * abs(width), **keywords)


def _uniform(label, shape, *, low=None, high=None, **keywords):
    dtype = np.float32 if high is None else type(high)
    least, end = (0.0 if low is None else float(low)), (1.0 if high is None else float(high))
    most = float(np.nextafter(dtype(end), dtype(-np.inf)))

    def number(draws, position):
        value = Fraction(least) + draws[position] * (Fraction(end) - Fraction(least))
        return float(min(value, Fraction(most)) if most >= least else value)

    return _of_shape("random_uniform", label, shape, number, {"low": low, "high": high},
                     magnitude=abs(least) + abs(end), **keywords)


def _bernoulli(label, shape, *, prob=None, **keywords):
    limit = Fraction(0.5 if prob is None else float(prob))
    return _of_shape("random_bernoulli", label, shape, lambda draws, position: float(draws[position] < limit),
                     {"prob": prob}, **keywords)


def _categorical(label, x, *, mode=None, size=None, seed=None, opset="ios18"):
    op, count = "random_categorical", size or 1
    rows = x.reshape(-1, x.shape[-1])
    draws, want = _draws(-1 if seed is None else seed, len(rows) * count), []
    for row in rows:
        weights = [mpmath.mpf(float(v)) for v in row]
        if mode != "probs":
            weights = [mpmath.exp(v) for v in weights]
        sums = [mpmath.fsum(weights[: i + 1]) for i in range(len(weights))]
        for _ in range(count):
            wanted = _mpf(draws[len(want)]) * sums[-1]
            want.append(float(next(i for i, total in enumerate(sums) if total > wanted)))
    parameters = {"mode": mode, "size": size, "seed": seed}
    args = {key: value for key, value in parameters.items() if value is not None}
    return Case(op, f"{op}_{label}", {"x": x}, args, np.array(want).reshape(*x.shape[:-1], count), opset=opset,
                source="SplitMix64")


def files():
    half, single = np.float16, np.float32
    yield "random_normal", "1.3", [
        _normal("default", [3, 5]),
        _normal("seed", [2, 3], seed=7),
        _normal("seed_minus_one", [4], seed=-1),
        _normal("large_seed", [4], seed=2147483647),
        _normal("fp16", [2, 1, 3], mean=half(2), stddev=half(0.5), seed=3),
        _normal("fp32", [5], mean=single(-1.5), stddev=single(0.1), seed=4),
        _normal("stddev_0", [3], mean=single(0.3), stddev=single(0), seed=5),
        _normal("ios15", [2, 2], seed=6, opset="ios15"),
    ]
    yield "random_uniform", "1.3", [
        _uniform("default", [3, 5]),
        _uniform("seed", [2, 3], seed=7),
        _uniform("negative_seed", [4], seed=-2147483648),
        _uniform("fp16", [2, 1, 3], low=half(-2), high=half(0.5), seed=3),
        _uniform("fp32", [5], low=single(-1.5), high=single(0.1), seed=4),
        _uniform("narrow", [16], low=half(1000), high=half(1001), seed=5),
        _uniform("nothing_between", [3], low=single(2), high=single(2), seed=5),
        _uniform("ios15", [2, 2], seed=6, opset="ios15"),
    ]
    yield "random_bernoulli", "1.3", [
        _bernoulli("default", [3, 5]),
        _bernoulli("seed", [2, 8], seed=7),
        _bernoulli("fp16", [16], prob=half(0.2), seed=3),
        _bernoulli("fp32", [16], prob=single(0.9), seed=4),
        _bernoulli("never", [4], prob=single(0), seed=5),
        _bernoulli("always", [4], prob=single(1), seed=5),
        _bernoulli("ios15", [2, 2], seed=6, opset="ios15"),
    ]
    yield "random_categorical", "1.3", [
        _categorical("default", draw("random_categorical_default", [3, 4])),
        _categorical("size", draw("random_categorical_size", [2, 3], single), size=6, seed=7),
        _categorical("probs", np.array([[0.1, 0.2, 0.7], [3, 0, 1]], single), mode="probs", size=8, seed=3),
        _categorical("logits", draw("random_categorical_logits", [5]), mode="logits", size=8, seed=4),
        _categorical("rank_3", draw("random_categorical_rank_3", [2, 1, 4], single), size=2, seed=5),
        _categorical("impossible", np.array([-np.inf, 1, 2], half), size=5, seed=5),
        _categorical("ios15", draw("random_categorical_ios15", [2, 3], single), size=3, seed=6, opset="ios15"),
    ]
