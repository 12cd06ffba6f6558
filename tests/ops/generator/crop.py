"""crop and crop_resize."""

import numpy as np
import torch
import torchvision

from .case import Case, draw
from .reference import f64
from .sampling import HALF, MODES, Fraction, linear, places


def _crop(label, shape, height, width, dtype=np.float16, opset="ios18"):
    name = f"crop_{label}"
    x = draw(name, shape, dtype)
    rows, columns = x.shape[-2:]
    want = f64(x)[..., height[0]:rows - height[1], width[0]:columns - width[1]]
    return Case("crop", name, {"x": x}, {"crop_height": height, "crop_width": width}, want, opset=opset,
                source="numpy")


def _crop_cases():
    return [
        _crop("both", [1, 2, 4, 5], [1, 1], [2, 1]),
        _crop("top", [1, 2, 3, 2], [2, 0], [0, 0]),
        _crop("right", [1, 2, 3, 3], [0, 0], [0, 2]),
        _crop("nothing", [1, 2, 2, 2], [0, 0], [0, 0]),
        _crop("fp32", [1, 1, 3, 4], [1, 0], [0, 1], np.float32),
        _crop("rank_3", [2, 3, 4], [0, 1], [1, 1]),
        _crop("rank_5", [1, 2, 1, 3, 3], [1, 1], [0, 1]),
        _crop("ios15", [1, 1, 3, 4], [1, 1], [1, 2], opset="ios15"),
    ]


def _ends(box, mode, scales):
    """[first row, last row], [first column, last column] of a box, in elements."""
    a, b, c, d = (Fraction(float(number)) for number in box)
    if mode.startswith("CENTER"):
        a, b, c, d = a - c * HALF, b - d * HALF, a + c * HALF, b + d * HALF
    if mode.endswith("WIDTH_FIRST"):
        a, b, c, d = b, a, d, c
    return [[a * scales[0], c * scales[0]], [b * scales[1], d * scales[1]]]


def _patch(image, box, size, sampling, mode, scales, pad):
    """(values, magnitude) of a box in [C, H, W]; what lies outside is pad."""
    want, magnitude = np.full([len(image), *size], float(pad)), np.full([len(image), *size], abs(float(pad)))
    inside = []
    for length, count, (start, end) in zip(image.shape[1:], size, _ends(box, mode, scales)):
        all_places = enumerate(places(sampling, count, start, end))
        inside.append([(i, place) for i, place in all_places if 0 <= place <= length - 1])
    if all(inside):
        along = {axis + 1: [place for _, place in kept] for axis, kept in enumerate(inside)}
        at = np.ix_(range(len(image)), *([i for i, _ in kept] for kept in inside))
        want[at], magnitude[at] = linear(image, along)
    return want, magnitude


def _crop_resize(label, shape, boxes, size=None, *, of=None, sampling=None, mode=None, normalized=None, scale=None,
                 pad=None, dtype=np.float16, box_dtype=None, opset="ios18", constant=False, index_dtype=np.int32,
                 roi_align=False, x=None):
    """`of` says the image of each box; before ios17, without it each box is of every image."""
    name = f"crop_resize_{label}"
    x = draw(name, shape, dtype) if x is None else x
    boxes = np.array(boxes, box_dtype or dtype)
    old = opset in ("ios15", "ios16")
    numbers = np.concatenate([np.array(of, boxes.dtype)[:, None], boxes], 1) if old and of is not None else boxes
    inputs, args = {"x": x}, {}
    given = {"roi" if old else "boxes": numbers[:, None, :, None, None] if old else numbers}
    if of is not None and not old:
        given["box_indices"] = np.array(of, index_dtype)
    (args if constant else inputs).update(given)
    if size:
        args.update({"target_height": size[0], "target_width": size[1]})
    for key, value in (("sampling_mode", sampling), ("box_coordinate_mode", mode)):
        args.update({key: value} if value else {})
    args.update({} if normalized is None else {"normalized_coordinates": normalized})
    args.update({} if scale is None else {"spatial_scale": np.float32(scale)})
    args.update({} if pad is None else {"pad_value": np.dtype(dtype).type(pad)})
    scales = [Fraction(float(np.float32(scale or 1))) * (length - 1 if normalized else 1) for length in x.shape[2:]]
    results = []
    for n, box in enumerate(boxes):
        images = range(len(x)) if old and of is None else [of[n] if of is not None else n]
        results.append([_patch(f64(x[image]), box, size or [1, 1], sampling or "DEFAULT",
                               mode or "CORNERS_HEIGHT_FIRST", scales, pad or 0) for image in images])
    want, magnitude = (np.array([[patch[part] for patch in patches] for patches in results]) for part in (0, 1))
    if not old:
        want, magnitude = want[:, 0], magnitude[:, 0]
    torch_value = None
    if roi_align:
        rois = np.concatenate([np.array(of)[:, None], f64(boxes)], 1)
        torch_value = torchvision.ops.roi_align(torch.from_numpy(f64(x)), torch.from_numpy(rois), size,
                                                scale or 1.0, sampling_ratio=1).numpy()
    # coremltools' inference has as many images as x also where each box is of one, unlike its documentation.
    declared = None
    if old and of is not None and len(x) > 1:
        declared = ("fp16" if dtype == np.float16 else "fp32", want.shape)
    return Case("crop_resize", name, inputs, args, want, magnitude=magnitude, opset=opset, source="exact fractions",
                torch_value=torch_value, declared=declared)


def _crop_resize_cases():
    box, other = [0.5, 0.75, 3.25, 2.5], [1, 0, 2, 3]
    sampled = [_crop_resize(f"{mode.lower()}_{to}", [1, 2, 5, 4], [box], [to, 2], of=[0], sampling=mode)
               for mode in MODES for to in (1, 3)]
    forms = {
        "CORNERS_HEIGHT_FIRST": box, "CORNERS_WIDTH_FIRST": [0.75, 0.5, 2.5, 3.25],
        "CENTER_SIZE_HEIGHT_FIRST": [2, 1.5, 3, 2], "CENTER_SIZE_WIDTH_FIRST": [1.5, 2, 2, 3],
    }
    formed = [_crop_resize(f"{mode.lower()}", [1, 1, 5, 4], [numbers], [2, 3], of=[0], mode=mode,
                           sampling="ALIGN_CORNERS") for mode, numbers in forms.items()]
    # From coremltools' tests.
    counted = np.arange(1, 17, dtype=np.float32).reshape(1, 1, 4, 4)
    tested = np.array([[0.1, 0.3, 1.3, 1.0], [0.5, 1.8, 1.0, 0.3], [0.0, 0.4, 0.6, 0.7]], np.float32)
    aligned = {"sampling": "ALIGN_CORNERS", "dtype": np.float32}
    # torchvision's has the same places, where boxes are as long as an element.
    aligned_rois = {"sampling": "OFFSET_CORNERS", "mode": "CORNERS_WIDTH_FIRST", "dtype": np.float32}
    return sampled + formed + [
        _crop_resize("defaults", [1, 2, 4, 4], [other]),
        _crop_resize("one_of_each", [2, 1, 4, 4], [box, other], [2, 2]),
        _crop_resize("of_images", [2, 2, 5, 4], [box, other, box], [2, 3], of=[1, 0, 0], sampling="ALIGN_CORNERS"),
        _crop_resize("indices_uint16", [2, 1, 4, 4], [other], [2, 2], of=[1], index_dtype=np.uint16),
        _crop_resize("normalized", [1, 1, 5, 4], [[0.25, 0, 1, 0.5]], [3, 2], of=[0], normalized=True),
        _crop_resize("scaled", [1, 1, 5, 4], [[2, 1, 8, 6]], [2, 2], of=[0], scale=0.5),
        _crop_resize("normalized_and_scaled", [1, 1, 5, 4], [[0.25, 0, 1, 0.5]], [2, 2], of=[0], normalized=True,
                     scale=0.75),
        _crop_resize("backwards", None, [[2, 2, 1, 1]], [2, 2], of=[0], x=counted, **aligned),
        _crop_resize("outside", None, tested, [2, 2], of=[0, 0, 0], normalized=True, pad=10, x=counted, **aligned),
        _crop_resize("outside_zeros", None, tested, [2, 2], of=[0, 0, 0], normalized=True, x=counted, **aligned),
        _crop_resize("short_box", [1, 1, 4, 4], [[1, 1, 1.5, 1.25]], [2, 2], of=[0], sampling="OFFSET_CORNERS"),
        _crop_resize("boxes_fp32", [1, 1, 4, 4], [box], [2, 2], of=[0], box_dtype=np.float32),
        _crop_resize("boxes_uint16", [1, 1, 4, 4], [other], [3, 2], of=[0], box_dtype=np.uint16),
        _crop_resize("constants", [1, 1, 4, 4], [box], [2, 2], of=[0], constant=True),
        _crop_resize("roi_align", [2, 2, 6, 5], [[0.5, 0.25, 3.5, 4], [1, 1, 4, 3]], [2, 3], of=[1, 0],
                     roi_align=True, **aligned_rois),
        _crop_resize("roi_align_scaled", [1, 1, 6, 5], [[1, 2, 7, 9]], [3, 2], of=[0], scale=0.5, roi_align=True,
                     **aligned_rois),
        _crop_resize("ios15_each", [2, 2, 4, 4], [box, other], [2, 2], opset="ios15"),
        _crop_resize("ios15_of_one", [1, 2, 4, 4], [box, other], [2, 3], of=[0, 0], sampling="UNALIGN_CORNERS",
                     opset="ios15"),
        _crop_resize("ios15_of_two", [2, 1, 4, 4], [box, other], [2, 2], of=[1, 0], opset="ios15"),
        _crop_resize("ios15_outside", None, tested, [2, 2], normalized=True, x=counted, opset="ios15", **aligned),
        _crop_resize("ios16_outside", None, tested, [2, 2], of=[0, 0, 0], normalized=True, pad=-1, x=counted,
                     opset="ios16", **aligned),
    ]


def files():
    yield "crop", "1.3", _crop_cases()
    yield "crop_resize", "1.3", _crop_resize_cases()
