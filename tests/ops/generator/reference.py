"""Exact references. Results are f64 numbers rounded once from the true value, the same on every machine:
sums of exact products go through math.fsum, transcendental functions through mpmath."""

import itertools
import math

import mpmath
import numpy as np

mpmath.mp.dps = 50


def f64(x):
    return np.asarray(x).astype(np.float64)


def _to_float(value):
    if isinstance(value, mpmath.mpc):
        return math.nan
    return float(value)


def accurate(function, at_special):
    """An elementwise function of f64 arrays: `function` on mpmath numbers where every argument is finite
    and not zero, and `at_special` (numpy, exact there) at ±0, ±inf and nan."""

    def apply(*arrays):
        arrays = np.broadcast_arrays(*[f64(a) for a in arrays])
        out = np.empty(arrays[0].shape)
        for index in np.ndindex(out.shape):
            values = [float(a[index]) for a in arrays]
            if all(math.isfinite(v) and v != 0.0 for v in values):
                out[index] = _to_float(function(*[mpmath.mpf(v) for v in values]))
            else:
                with np.errstate(all="ignore"):
                    out[index] = at_special(*[np.float64(v) for v in values])
        return out

    return apply


def exact_sum(x, axes=None, keep_dims=False):
    """The sum over `axes`, rounded once."""
    x = f64(x)
    axes = tuple(range(x.ndim)) if axes is None else tuple(a % x.ndim for a in axes)
    kept = [a for a in range(x.ndim) if a not in axes]
    moved = np.transpose(x, kept + list(axes)).reshape([x.shape[a] for a in kept] + [-1])
    out = np.empty(moved.shape[:-1])
    for index in np.ndindex(out.shape):
        out[index] = _sum(moved[index].tolist())
    return out.reshape([1 if a in axes else d for a, d in enumerate(x.shape)]) if keep_dims else out


def _sum(values):
    if all(math.isfinite(v) for v in values):
        return math.fsum(values)
    return float(np.sum(values))


def matmul(x, y, transpose_x=False, transpose_y=False):
    """(product, Σ|x||y|) with numpy's broadcasting. Products of fp16 or fp32 values are exact in f64."""
    x, y = f64(x), f64(y)
    row = x.ndim == 1
    x = x[None, :] if row else x
    x = np.swapaxes(x, -1, -2) if transpose_x else x
    y = np.swapaxes(y, -1, -2) if transpose_y else y
    products = x[..., :, :, None] * y[..., None, :, :]
    out, magnitude = exact_sum(products, [-2]), exact_sum(np.abs(products), [-2])
    return (out[..., 0, :], magnitude[..., 0, :]) if row else (out, magnitude)


def conv_padding(pad_type, pad, size, kernel, strides, dilations):
    """(before, after) per spatial dimension. An odd total of `same` has its extra element after, of
    `same_lower` before."""
    if pad_type == "custom":
        return [(pad[2 * i], pad[2 * i + 1]) for i in range(len(size))]
    if pad_type == "valid":
        return [(0, 0)] * len(size)
    out = []
    for d, k, s, r in zip(size, kernel, strides, dilations):
        total = max(0, (math.ceil(d / s) - 1) * s + (k - 1) * r + 1 - d)
        small, large = total // 2, total - total // 2
        out.append((small, large) if pad_type == "same" else (large, small))
    return out


def conv(x, weight, bias=None, strides=None, pad_type="valid", pad=None, dilations=None, groups=1):
    """(convolution, Σ|x||w| + |bias|) of any spatial rank, straight from the definition."""
    x, weight = f64(x), f64(weight)
    rank = x.ndim - 2
    strides, dilations = strides or [1] * rank, dilations or [1] * rank
    padding = conv_padding(pad_type, pad, x.shape[2:], weight.shape[2:], strides, dilations)
    x = np.pad(x, [(0, 0), (0, 0), *padding])
    size = [(d - (k - 1) * r - 1) // s + 1
            for d, k, r, s in zip(x.shape[2:], weight.shape[2:], dilations, strides)]
    out = np.empty([x.shape[0], weight.shape[0], *size])
    magnitude = np.empty_like(out)
    per_group = weight.shape[0] // groups
    for n, channel in itertools.product(range(x.shape[0]), range(weight.shape[0])):
        first = channel // per_group * weight.shape[1]
        for at in np.ndindex(*size):
            window = tuple(slice(a * s, a * s + (k - 1) * r + 1, r)
                           for a, s, k, r in zip(at, strides, weight.shape[2:], dilations))
            products = x[(n, slice(first, first + weight.shape[1]), *window)] * weight[channel]
            terms = products.ravel().tolist() + ([] if bias is None else [float(bias[channel])])
            out[(n, channel, *at)] = math.fsum(terms)
            magnitude[(n, channel, *at)] = math.fsum(abs(t) for t in terms)
    return out, magnitude


def conv_transpose(x, weight, bias=None, strides=None, pad_type="valid", pad=None, dilations=None, groups=1,
                   output_shape=None):
    """(transposed convolution, Σ|x||w| + |bias|) of any spatial rank, straight from the definition."""
    x, weight = f64(x), f64(weight)
    rank = x.ndim - 2
    strides, dilations = strides or [1] * rank, dilations or [1] * rank
    full = [(d - 1) * s + (k - 1) * r + 1 for d, s, k, r in zip(x.shape[2:], strides, weight.shape[2:], dilations)]
    if pad_type == "same":
        size = [d * s for d, s in zip(x.shape[2:], strides)] if output_shape is None else output_shape[2:]
        before = [max(f - n, 0) // 2 for f, n in zip(full, size)]
    else:
        pad = (pad if pad_type == "custom" else None) or [0] * 2 * rank
        pairs = list(zip(pad[::2], pad[1::2]))
        before = [pair[0] for pair in pairs]
        size = [f - sum(pair) for f, pair in zip(full, pairs)] if output_shape is None else output_shape[2:]
    per_group_in, per_group_out = x.shape[1] // groups, weight.shape[1]
    terms = {}
    for n, c, o in itertools.product(range(x.shape[0]), range(x.shape[1]), range(per_group_out)):
        for at, tap in itertools.product(np.ndindex(*x.shape[2:]), np.ndindex(*weight.shape[2:])):
            place = tuple(a * s + t * r - b for a, s, t, r, b in zip(at, strides, tap, dilations, before))
            if all(0 <= p < length for p, length in zip(place, size)):
                channel = c // per_group_in * per_group_out + o
                terms.setdefault((n, channel, *place), []).append(x[(n, c, *at)] * weight[(c, o, *tap)])
    out = np.empty([x.shape[0], per_group_out * groups, *size])
    magnitude = np.empty_like(out)
    for index in np.ndindex(out.shape):
        summed = terms.get(index, []) + ([] if bias is None else [float(bias[index[1]])])
        out[index], magnitude[index] = math.fsum(summed), math.fsum(abs(t) for t in summed)
    return out, magnitude


def softmax(x, axis):
    x = np.moveaxis(f64(x), axis, -1)
    out = np.empty(x.shape)
    for index in np.ndindex(x.shape[:-1]):
        top = x[index].max()
        powers = [mpmath.exp(mpmath.mpf(v - top)) if np.isfinite(v) else mpmath.mpf(0) for v in x[index]]
        total = mpmath.fsum(powers)
        out[index] = [_to_float(p / total) for p in powers]
    return np.moveaxis(out, -1, axis)


def log_sum_exp(x, axes=None, keep_dims=False):
    """(log Σ exp x, its magnitude |max| + log Σ exp(x - max))."""
    x = f64(x)
    axes = tuple(range(x.ndim)) if axes is None else tuple(a % x.ndim for a in axes)
    kept = [a for a in range(x.ndim) if a not in axes]
    moved = np.transpose(x, kept + list(axes)).reshape([x.shape[a] for a in kept] + [-1])
    out = np.empty(moved.shape[:-1])
    magnitude = np.empty_like(out)
    for index in np.ndindex(out.shape):
        row = moved[index]
        top = mpmath.mpf(float(row.max()))
        tail = mpmath.log(mpmath.fsum(mpmath.exp(mpmath.mpf(float(v)) - top) for v in row))
        out[index], magnitude[index] = _to_float(top + tail), _to_float(abs(top) + tail)
    shape = [1 if a in axes else d for a, d in enumerate(x.shape)] if keep_dims else out.shape
    return out.reshape(shape), magnitude.reshape(shape)


def _erf(x):
    return np.float64(math.erf(x))


def _sigmoid(x):
    return mpmath.mpf(1) / (1 + mpmath.exp(-x))


exp = accurate(mpmath.exp, np.exp)
exp2 = accurate(lambda x: mpmath.power(2, x), np.exp2)
log = accurate(mpmath.log, np.log)
sqrt = accurate(mpmath.sqrt, np.sqrt)
rsqrt = accurate(lambda x: 1 / mpmath.sqrt(x), lambda x: 1 / np.sqrt(x))
sin = accurate(mpmath.sin, np.sin)
cos = accurate(mpmath.cos, np.cos)
tan = accurate(mpmath.tan, np.tan)
acos = accurate(mpmath.acos, np.arccos)
asin = accurate(mpmath.asin, np.arcsin)
atan = accurate(mpmath.atan, np.arctan)
atanh = accurate(mpmath.atanh, np.arctanh)
sinh = accurate(mpmath.sinh, np.sinh)
cosh = accurate(mpmath.cosh, np.cosh)
tanh = accurate(mpmath.tanh, np.tanh)
erf = accurate(mpmath.erf, _erf)
power = accurate(mpmath.power, np.power)
sigmoid = accurate(_sigmoid, lambda x: 1 / (1 + np.exp(-x)))
silu = accurate(lambda x: x * _sigmoid(x), lambda x: x / (1 + np.exp(-x)))
softplus = accurate(lambda x: mpmath.log1p(mpmath.exp(x)) if x < 50 else x + mpmath.exp(-x),
                    lambda x: np.logaddexp(np.float64(0), x))
gelu_exact = accurate(lambda x: x * mpmath.erfc(-x / mpmath.sqrt(2)) / 2,
                      lambda x: 0.5 * x * (1 + math.erf(x / math.sqrt(2))))
gelu_tanh = accurate(
    lambda x: x * _sigmoid(2 * mpmath.sqrt(2 / mpmath.pi) * (x + mpmath.mpf("0.044715") * x**3)),
    lambda x: 0.5 * x * (1 + np.tanh(x)))
gelu_sigmoid = accurate(lambda x: x * _sigmoid(mpmath.mpf("1.702") * x), lambda x: x / (1 + np.exp(-x)))
