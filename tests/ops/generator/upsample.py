"""upsample_nearest_neighbor, by whole factors, and upsample_bilinear."""

import numpy as np
import torch

from .case import Case, draw
from .reference import f64
from .sampling import linear, places


def _factors(height, width):
    return {key: value for key, value in (("scale_factor_height", height), ("scale_factor_width", width))
            if value is not None}


def _nearest(label, shape, height=None, width=None, dtype=np.float16, opset="ios18"):
    name = f"upsample_nearest_neighbor_{label}"
    x = draw(name, shape, dtype)
    want = f64(x)
    for axis, factor in ((-2, height), (-1, width)):
        want = np.repeat(want, int(factor or 1), axis)
    return Case("upsample_nearest_neighbor", name, {"x": x}, _factors(height, width), want, opset=opset,
                source="numpy")


def _nearest_cases():
    return [
        _nearest("both", [1, 2, 3, 2], 2, 3),
        _nearest("height", [1, 2, 3, 2], height=2),
        _nearest("width", [1, 2, 3, 2], width=3),
        _nearest("neither", [1, 2, 2, 2]),
        _nearest("fp32_factors", [2, 1, 2, 3], np.float32(3), np.float32(2)),
        _nearest("fp32", [1, 2, 2, 2], 2, 2, dtype=np.float32),
        _nearest("rank_3", [2, 2, 3], 2, 2),
        _nearest("rank_5", [1, 2, 1, 2, 2], 2, 2),
        _nearest("ios15", [1, 1, 2, 3], 2, 2, opset="ios15"),
    ]


def _places(source, target, align, centers):
    """The places of the elements of the result, as fractions."""
    if align or centers:
        return list(places("STRICT_ALIGN_CORNERS" if align else "UNALIGN_CORNERS", target, 0, source - 1))
    return list(places("DEFAULT", target, 0, source - 1))


def _bilinear(label, shape, height=None, width=None, *, dtype=np.float16, opset="ios18", x=None, **flags):
    name = f"upsample_bilinear_{label}"
    x = draw(name, shape, dtype) if x is None else x
    align = flags.get("align_corners", True)
    centers = flags.get("half_pixel_centers", not align)
    planes = f64(x).reshape(-1, *x.shape[-2:])
    size = [int(np.floor((1 if factor is None else factor) * length))
            for factor, length in zip((height, width), x.shape[-2:])]
    want, magnitude = linear(planes, {axis: _places(planes.shape[axis], size[axis - 1], align, centers)
                                      for axis in (1, 2)})
    torch_value = None
    if align != centers:
        tensor = torch.from_numpy(planes)[None]
        torch_value = torch.nn.functional.interpolate(tensor, size=size, mode="bilinear", align_corners=align)
        torch_value = torch_value.numpy().reshape([*x.shape[:-2], *size])
    result = [*x.shape[:-2], *size]
    return Case("upsample_bilinear", name, {"x": x}, {**_factors(height, width), **flags}, want.reshape(result),
                magnitude=magnitude.reshape(result), opset=opset, source="exact fractions", torch_value=torch_value)


def _bilinear_cases():
    return [
        _bilinear("defaults", [1, 2, 3, 2], 2, 3),
        _bilinear("aligned", [1, 2, 3, 2], 2, 2, align_corners=True),
        _bilinear("not_aligned", [1, 2, 3, 2], 2, 3, align_corners=False),
        _bilinear("centers", [1, 1, 2, 3], 3, 2, align_corners=False, half_pixel_centers=True),
        _bilinear("neither", [1, 1, 3, 3], 2, 2, align_corners=False, half_pixel_centers=False),
        _bilinear("aligned_without_centers", [1, 1, 2, 3], 2, 2, align_corners=True, half_pixel_centers=False),
        _bilinear("fractions", [1, 2, 4, 5], np.float32(1.5), np.float32(2.6), align_corners=False),
        _bilinear("fractions_aligned", [1, 1, 4, 5], np.float32(2.6), np.float32(1.3), align_corners=True),
        _bilinear("height", [1, 2, 3, 2], height=2),
        _bilinear("one_element", [1, 2, 1, 1], 2, 3, align_corners=True),
        _bilinear("fp32", [1, 2, 3, 3], 2, 2, dtype=np.float32, align_corners=False),
        _bilinear("rank_3", [2, 2, 3], 2, 2),
        _bilinear("rank_5", [1, 2, 1, 2, 2], 2, 2, align_corners=False),
        _bilinear("ios15", [1, 1, 2, 3], 2, 2, opset="ios15", align_corners=False),
    ]


def files():
    yield "upsample_nearest_neighbor", "1.3", _nearest_cases()
    yield "upsample_bilinear", "1.3", _bilinear_cases()
