"""layer_norm, batch_norm and instance_norm, computed in 50 digits."""

import mpmath
import numpy as np
import torch

from .case import Case, Inline, draw
from .reference import f64

# Where an op has no epsilon, coremltools passes 1e-5 as fp32.
DEFAULT_EPSILON = float(np.float32(1e-5))


def _affine(value, bound, gamma, beta):
    return value * gamma + beta, bound * abs(gamma) + abs(beta)


def _layer_norm_reference(x, axes, gamma, beta, epsilon):
    """(result, magnitude); the variance is the mean squared deviation."""
    x = f64(x)
    axes = sorted(a % x.ndim for a in axes)
    kept = [a for a in range(x.ndim) if a not in axes]
    order = kept + axes
    moved = np.transpose(x, order)
    flat = moved.reshape([x.shape[a] for a in kept] + [-1])
    gammas = np.ones(flat.shape[-1]) if gamma is None else f64(gamma).ravel()
    betas = np.zeros(flat.shape[-1]) if beta is None else f64(beta).ravel()
    out, magnitude = np.empty(flat.shape), np.empty(flat.shape)
    for index in np.ndindex(flat.shape[:-1]):
        row = [mpmath.mpf(v) for v in flat[index].tolist()]
        mean = mpmath.fsum(row) / len(row)
        spread = mpmath.fsum((v - mean) ** 2 for v in row) / len(row)
        scale = 1 / mpmath.sqrt(spread + mpmath.mpf(epsilon))
        for i, value in enumerate(row):
            exact, bound = _affine((value - mean) * scale, (abs(value) + abs(mean)) * scale,
                                   mpmath.mpf(gammas[i]), mpmath.mpf(betas[i]))
            out[(*index, i)], magnitude[(*index, i)] = float(exact), float(bound)
    back = np.argsort(order)
    return (np.transpose(out.reshape(moved.shape), back), np.transpose(magnitude.reshape(moved.shape), back))


def _layer_norm(name, shape, axes, *, dtype=np.float16, other=None, gamma=True, beta=True, epsilon=None,
                opset="ios18", x=None, literal=False):
    other = other or dtype
    x = draw(name, shape, dtype) if x is None else x
    rank = x.ndim
    normalized = [x.shape[a] for a in range(rank) if axes is None or a in [b % rank for b in axes]]
    args = {} if axes is None else {"axes": Inline(axes) if literal else axes}
    if gamma:
        args["gamma"] = draw(name + ".gamma", normalized, other, 0.5, 2)
    if beta:
        args["beta"] = draw(name + ".beta", normalized, other, -1, 1)
    if epsilon is not None:
        args["epsilon"] = other(epsilon)
    want, magnitude = _layer_norm_reference(x, range(rank) if axes is None else axes, args.get("gamma"),
                                            args.get("beta"),
                                            DEFAULT_EPSILON if epsilon is None else float(other(epsilon)))
    # The documented default of axes is all dimensions, but coremltools' builder fails without them.
    unbuildable = axes is None
    torch_value = None
    if axes is None or [a % rank for a in axes] == list(range(rank - len(axes), rank)):
        tensors = [torch.from_numpy(f64(v)) if v is not None else None
                   for v in (args.get("gamma"), args.get("beta"))]
        torch_value = torch.nn.functional.layer_norm(
            torch.from_numpy(f64(x)), normalized, *tensors,
            eps=DEFAULT_EPSILON if epsilon is None else float(other(epsilon))).numpy()
    return Case("layer_norm", name, {"x": x}, args, want, magnitude=magnitude, opset=opset, source="mpmath",
                declared=(("fp16" if dtype is np.float16 else "fp32"), x.shape) if unbuildable else None,
                value_inference=not unbuildable, slack=16.0, torch_value=torch_value)


def _layer_norm_cases():
    flat = np.full([2, 4], 2.5, np.float16)
    offset = (draw("layer_norm_offset", [2, 6], np.float32, -0.01, 0.01) + np.float32(100)).astype(np.float32)
    return [
        _layer_norm("layer_norm_last_axis", [3, 5], [-1]),
        _layer_norm("layer_norm_fp32", [3, 5], [1], dtype=np.float32, epsilon=1e-6),
        _layer_norm("layer_norm_plain", [2, 4], [1], gamma=False, beta=False),
        _layer_norm("layer_norm_gamma_only", [2, 4], [1], beta=False),
        _layer_norm("layer_norm_two_axes", [2, 3, 4], [1, 2], dtype=np.float32),
        _layer_norm("layer_norm_negative_axes", [2, 3, 2, 2], [-2, -1], epsilon=0.001),
        _layer_norm("layer_norm_channels_of_rank_4", [1, 6, 1, 3], [1]),
        _layer_norm("layer_norm_first_axis", [4, 3], [0]),
        _layer_norm("layer_norm_all_axes", [2, 3], [0, 1]),
        _layer_norm("layer_norm_default_axes", [2, 3], None, gamma=False, beta=False),
        _layer_norm("layer_norm_rank_5", [1, 2, 1, 3, 2], [2, 3, 4]),
        _layer_norm("layer_norm_large_epsilon", [2, 4], [1], epsilon=2.0, gamma=False, beta=False),
        _layer_norm("layer_norm_no_variance", None, [1], x=flat),
        _layer_norm("layer_norm_offset_fp32", None, [1], x=offset, dtype=np.float32, gamma=False, beta=False,
                    epsilon=1e-5),
        _layer_norm("layer_norm_parameters_of_other_dtype", [2, 3], [1], other=np.float32, epsilon=1e-5),
        _layer_norm("layer_norm_long_rows", [1, 3, 301], [-1]),
        _layer_norm("layer_norm_long_rows_fp32", [2, 259], [1], dtype=np.float32, other=np.float32),
        _layer_norm("layer_norm_last_axis_of_one", [2, 5, 1], [1]),
        _layer_norm("layer_norm_axes_literal", [2, 3], [1], literal=True),
        _layer_norm("layer_norm_ios15", [2, 3], [1], opset="ios15", epsilon=0.01),
    ]


def _batch_norm(name, shape, *, dtype=np.float16, other=None, gamma=True, beta=True, epsilon=None,
                opset="ios18"):
    other = other or dtype
    channels = [shape[1]]
    x = draw(name, shape, dtype)
    args = {"mean": draw(name + ".mean", channels, other, -1, 1),
            "variance": draw(name + ".variance", channels, other, 0.1, 3)}
    if gamma:
        args["gamma"] = draw(name + ".gamma", channels, other, 0.5, 2)
    if beta:
        args["beta"] = draw(name + ".beta", channels, other, -1, 1)
    if epsilon is not None:
        args["epsilon"] = other(epsilon)
    added = mpmath.mpf(DEFAULT_EPSILON if epsilon is None else float(other(epsilon)))
    want, magnitude = np.empty(shape), np.empty(shape)
    for index in np.ndindex(*shape):
        c = index[1]
        value, mean = mpmath.mpf(float(x[index])), mpmath.mpf(float(args["mean"][c]))
        scale = 1 / mpmath.sqrt(mpmath.mpf(float(args["variance"][c])) + added)
        exact, bound = _affine((value - mean) * scale, (abs(value) + abs(mean)) * scale,
                               mpmath.mpf(float(args["gamma"][c]) if gamma else 1),
                               mpmath.mpf(float(args["beta"][c]) if beta else 0))
        want[index], magnitude[index] = float(exact), float(bound)
    tensors = [torch.from_numpy(f64(v)) if v is not None else None
               for v in (x, args["mean"], args["variance"], args.get("gamma"), args.get("beta"))]
    torch_value = torch.nn.functional.batch_norm(*tensors, eps=float(added)).numpy()
    return Case("batch_norm", name, {"x": x}, args, want, magnitude=magnitude, opset=opset, source="mpmath",
                torch_value=torch_value)


def _batch_norm_cases():
    return [
        _batch_norm("batch_norm_fp16", [2, 3, 2, 2]),
        _batch_norm("batch_norm_fp32", [2, 3, 2, 2], dtype=np.float32, epsilon=1e-6),
        _batch_norm("batch_norm_plain", [1, 4, 1, 3], gamma=False, beta=False),
        _batch_norm("batch_norm_gamma_only", [1, 2, 3], beta=False),
        _batch_norm("batch_norm_beta_only", [1, 2, 3], gamma=False),
        _batch_norm("batch_norm_rank_3", [2, 2, 5]),
        _batch_norm("batch_norm_rank_5", [1, 2, 1, 2, 3]),
        _batch_norm("batch_norm_one_channel", [3, 1, 2], epsilon=0.5),
        _batch_norm("batch_norm_parameters_of_other_dtype", [1, 3, 2], other=np.float32, epsilon=0.001),
        _batch_norm("batch_norm_ios15", [1, 2, 2, 2], opset="ios15", epsilon=0.001),
    ]


def _instance_norm(label, shape, *, dtype=np.float16, other=None, gamma=True, beta=True, epsilon=None, opset="ios18",
                   x=None):
    name, other = f"instance_norm_{label}", other or dtype
    x = draw(name, shape, dtype) if x is None else x
    args = {}
    if gamma:
        args["gamma"] = draw(name + ".gamma", [x.shape[1]], other, 0.5, 2)
    if beta:
        args["beta"] = draw(name + ".beta", [x.shape[1]], other, -1, 1)
    if epsilon is not None:
        args["epsilon"] = other(epsilon)
    added = DEFAULT_EPSILON if epsilon is None else float(other(epsilon))
    want, magnitude = np.empty(x.shape), np.empty(x.shape)
    for image, c in np.ndindex(*x.shape[:2]):
        plane = x[image, c]
        filled = [np.full(plane.shape, args[key][c]) if key in args else None for key in ("gamma", "beta")]
        want[image, c], magnitude[image, c] = _layer_norm_reference(plane, range(plane.ndim), *filled, added)
    tensors = [torch.from_numpy(f64(args[key])) if key in args else None for key in ("gamma", "beta")]
    torch_value = torch.nn.functional.instance_norm(torch.from_numpy(f64(x)), None, None, *tensors, eps=added).numpy()
    return Case("instance_norm", name, {"x": x}, args, want, magnitude=magnitude, opset=opset, source="mpmath",
                torch_value=torch_value)


def _instance_norm_cases():
    offset = (draw("instance_norm_offset", [1, 2, 6], np.float32, -0.01, 0.01) + np.float32(100)).astype(np.float32)
    return [
        _instance_norm("fp16", [2, 3, 2, 3]),
        _instance_norm("fp32", [2, 3, 2, 3], dtype=np.float32, epsilon=1e-6),
        _instance_norm("plain", [1, 2, 3, 2], gamma=False, beta=False),
        _instance_norm("gamma_only", [2, 2, 4], beta=False),
        _instance_norm("beta_only", [1, 3, 4], gamma=False),
        _instance_norm("rank_3", [2, 2, 5], epsilon=0.5),
        _instance_norm("large_planes", [1, 3, 9, 31]),
        _instance_norm("offset", None, x=offset, dtype=np.float32, gamma=False, beta=False, epsilon=1e-5),
        _instance_norm("no_variance", None, x=np.full([1, 2, 4], 2.5, np.float16)),
        _instance_norm("parameters_of_other_dtype", [1, 3, 4], other=np.float32, epsilon=0.001),
        _instance_norm("ios15", [1, 2, 2, 2], opset="ios15", epsilon=0.001),
    ]


def files():
    yield "instance_norm", "1.3", _instance_norm_cases()
    yield "layer_norm", "1.3", _layer_norm_cases()
    yield "batch_norm", "1.3", _batch_norm_cases()
