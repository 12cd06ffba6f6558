"""resize_nearest_neighbor, resize_bilinear and resize."""

import numpy as np
import torch

from .case import Case, draw
from .reference import f64
from .sampling import MODES, linear, places


def _interpolate(x, size, **options):
    """PyTorch's, in f64, over the last dimensions of x."""
    planes = torch.from_numpy(f64(x)).reshape(1, -1, *x.shape[-len(size):])
    result = torch.nn.functional.interpolate(planes, size=size, **options)
    return result.numpy().reshape([*x.shape[:-len(size)], *size])


def _nearest(label, shape, size, dtype=np.float16, opset="ios18"):
    name = f"resize_nearest_neighbor_{label}"
    x = draw(name, shape, dtype)
    args = {"target_size_height": size[0], "target_size_width": size[1]}
    want = _interpolate(x, size, mode="nearest-exact")
    return Case("resize_nearest_neighbor", name, {"x": x}, args, want, opset=opset, source="torch f64")


def _nearest_cases():
    return [
        _nearest("larger", [1, 2, 3, 2], [6, 6]),
        _nearest("smaller", [1, 2, 7, 5], [3, 2]),
        _nearest("fractions", [1, 1, 3, 4], [5, 7]),
        _nearest("one_element", [1, 2, 5, 4], [1, 1]),
        _nearest("of_one_element", [1, 2, 1, 1], [3, 2]),
        _nearest("same", [1, 1, 3, 4], [3, 4]),
        _nearest("fp32", [1, 2, 2, 3], [3, 5], np.float32),
        _nearest("rank_3", [2, 2, 3], [4, 2]),
        _nearest("rank_5", [1, 2, 1, 2, 2], [3, 4]),
        _nearest("ios15", [1, 1, 2, 3], [4, 4], opset="ios15"),
    ]


def _linear(x, size, mode):
    """(values, magnitude, PyTorch's values where it has the mode) over the last dimensions of x."""
    first = x.ndim - len(size)
    along = {first + i: list(places(mode, to, 0, x.shape[first + i] - 1)) for i, to in enumerate(size)}
    torch_value = None
    align = {"STRICT_ALIGN_CORNERS": True, "UNALIGN_CORNERS": False}.get(mode)
    if align is not None and 1 <= len(size) <= 3:
        kind = ["linear", "bilinear", "trilinear"][len(size) - 1]
        torch_value = _interpolate(x, size, mode=kind, align_corners=align)
    return *linear(x, along), torch_value


def _bilinear(label, shape, size=None, mode=None, dtype=np.float16, opset="ios18", x=None):
    name = f"resize_bilinear_{label}"
    x = draw(name, shape, dtype) if x is None else x
    args = {"target_size_height": size[0], "target_size_width": size[1]} if size else {}
    args.update({"sampling_mode": mode} if mode else {})
    want, magnitude, torch_value = _linear(x, size or [1, 1], mode or "DEFAULT")
    return Case("resize_bilinear", name, {"x": x}, args, want, magnitude=magnitude, opset=opset,
                source="exact fractions", torch_value=torch_value)


def _bilinear_cases():
    cases = [_bilinear("defaults", [1, 2, 3, 2])]
    for mode in MODES:
        label = mode.lower()
        cases += [
            _bilinear(f"{label}_larger", [1, 1, 3, 2], [5, 7], mode),
            _bilinear(f"{label}_smaller", [1, 1, 7, 5], [3, 2], mode),
            _bilinear(f"{label}_to_one", [1, 2, 4, 3], [1, 1], mode),
            _bilinear(f"{label}_of_one", [1, 2, 1, 1], [2, 3], mode),
        ]
    # The lines of coremltools' documentation: [0, 1] at 5 and 6 places.
    documented = np.array([[[0, 1]]], np.float16)
    cases += [_bilinear(f"documented_{mode.lower()}_{to}", None, [1, to], mode, x=documented)
              for mode in MODES for to in (5, 6)]
    infinite = np.array([[[np.inf, 1, 2], [3, 4, -np.inf]]], np.float16)
    return cases + [
        # What has no weight has no part.
        _bilinear("infinities", None, [1, 1], "STRICT_ALIGN_CORNERS", x=infinite[:, 1:, :2]),
        _bilinear("fp32", [1, 2, 3, 3], [4, 5], "UNALIGN_CORNERS", np.float32),
        _bilinear("rank_3", [2, 2, 3], [3, 4], "DEFAULT"),
        _bilinear("rank_5", [1, 2, 1, 2, 2], [3, 3], "ALIGN_CORNERS"),
        _bilinear("ios15", [1, 1, 2, 3], [4, 4], "OFFSET_CORNERS", opset="ios15"),
    ]


def _resize(label, shape, target, count, mode=None, sampling=None, dtype=np.float16, shape_dtype=np.int32,
            runtime=False, x=None):
    """`runtime` makes the shape an input; coremltools then infers no length, and the case declares them."""
    name = f"resize_{label}"
    x = draw(name, shape, dtype) if x is None else x
    own = x.shape[x.ndim - count:]
    size = [length or old for length, old in zip(target[len(target) - count:], own)]
    args = {"resized_dims": np.uint32(count)}
    args.update({"interpolation_mode": mode} if mode else {})
    args.update({"sampling_mode": sampling} if sampling else {})
    inputs = {"x": x}
    target = np.array(target, shape_dtype)
    if runtime:
        inputs["shape"] = target
    else:
        args["shape"] = target
    magnitude = torch_value = None
    source = "exact fractions"
    if mode == "NEAREST_NEIGHBOR":
        want, source = _interpolate(x, size, mode="nearest-exact"), "torch f64"
    else:
        want, magnitude, torch_value = _linear(x, size, sampling or "DEFAULT")
    if x.dtype.kind == "i":
        assert np.all(want == np.round(want)), f"{name}: no integers"
        want, magnitude = want.astype(np.int64), None
    dtype = {"f2": "fp16", "f4": "fp32", "i4": "int32"}[x.dtype.str[1:]]
    declared = (dtype, tuple([*x.shape[:x.ndim - count], *size])) if runtime else None
    return Case("resize", name, inputs, args, want, magnitude=magnitude, source=source, torch_value=torch_value,
                declared=declared, value_inference=not runtime)


def _resize_cases():
    sampled = [_resize(f"linear_{mode.lower()}", [1, 1, 3, 4], [5, 2], 2, "LINEAR", mode) for mode in MODES]
    whole = np.arange(6, dtype=np.int32).reshape(1, 2, 3) * 60
    return sampled + [
        _resize("defaults", [1, 2, 3, 4], [1, 6, 8], 2),
        _resize("lengths_kept", [1, 2, 3, 4], [1, 0, 0], 2),
        _resize("one_kept", [1, 2, 3, 4], [7, 0, 6], 2, "LINEAR", "UNALIGN_CORNERS"),
        _resize("last", [2, 3, 4], [7], 1, "LINEAR", "STRICT_ALIGN_CORNERS"),
        _resize("three", [1, 2, 3, 2], [4, 2, 3], 3, "LINEAR", "UNALIGN_CORNERS"),
        _resize("all", [2, 3], [3, 2], 2, "LINEAR", "ALIGN_CORNERS"),
        _resize("none", [2, 3], [5], 0),
        _resize("nearest", [1, 1, 3, 4], [1, 1, 5, 3], 2, "NEAREST_NEIGHBOR"),
        _resize("nearest_default", [1, 2, 2, 1], [3, 2], 2, "NEAREST_NEIGHBOR", "DEFAULT"),
        _resize("nearest_int32", [1, 2, 3], [3, 5], 2, "NEAREST_NEIGHBOR", dtype=np.int32),
        _resize("linear_int32", None, [2, 5], 2, "LINEAR", "STRICT_ALIGN_CORNERS", x=whole),
        _resize("fp32", [1, 2, 3], [3, 5], 2, "LINEAR", "OFFSET_CORNERS", dtype=np.float32),
        _resize("shape_int16", [1, 2, 3], [3, 5], 2, shape_dtype=np.int16),
        _resize("shape_uint16", [1, 2, 3], [3, 5], 2, shape_dtype=np.uint16),
        _resize("shape_uint32", [1, 2, 3], [3, 5], 2, shape_dtype=np.uint32),
        _resize("shape_at_runtime", [1, 2, 3], [3, 5], 2, runtime=True),
        _resize("kept_at_runtime", [1, 2, 3], [0, 5], 2, "LINEAR", "UNALIGN_CORNERS", runtime=True),
    ]


def files():
    yield "resize_nearest_neighbor", "1.3", _nearest_cases()
    yield "resize_bilinear", "1.3", _bilinear_cases()
    yield "resize", "1.3", _resize_cases()
