"""non_maximum_suppression, from torchvision's nms."""

import numpy as np
import torch
import torchvision

from .case import Case, draw
from .reference import f64


def _taken(boxes, scores, iou, threshold, most, per_class):
    """Which of boxes [B, 4] with scores [B, K] are taken, the best first."""
    middle, size = boxes[:, :2], boxes[:, 2:]
    corners = torch.from_numpy(np.concatenate([middle - size / 2, middle + size / 2], 1))
    best, classes = scores.max(1), scores.argmax(1)
    candidates = np.arange(len(boxes)) if threshold is None else np.nonzero(best >= threshold)[0]
    taken = []
    for kind in np.unique(classes) if per_class else [None]:
        own = candidates if kind is None else candidates[classes[candidates] == kind]
        if len(own):
            kept = torchvision.ops.nms(corners[own], torch.from_numpy(best[own]), iou)
            taken += own[kept.numpy()].tolist()
    # As coremltools' reference has it, the best box is there in any case.
    taken = sorted(taken, key=lambda at: -best[at]) or [int(best.argmax())]
    return taken[:most]


def _suppress(label, images, count, classes, most, iou=0.3, threshold=None, per_class=None, dtype=np.float16,
              opset="ios18", boxes=None, scores=None):
    """Random boxes near one another; `threshold` is only of old opsets, which have boxes before their numbers."""
    name = f"non_maximum_suppression_{label}"
    old = opset in ("ios15", "ios16")
    if boxes is None:
        boxes = draw(name, [images, count, 4], dtype, 0, 4)
        boxes[..., 2:] += 2
        scores = draw(f"{name} scores", [images, count, classes], dtype)
    images, count, classes = scores.shape
    args = {"iou_threshold": np.dtype(dtype).type(iou), "max_boxes": most}
    if old:
        args["score_threshold"] = np.dtype(dtype).type(threshold)
    if per_class is not None:
        args["per_class_suppression"] = per_class
    of_boxes, of_scores = np.zeros([images, most, 4]), np.zeros([images, most, classes])
    indices, counts = np.full([images, most], -1), np.zeros([images], np.int64)
    for image in range(images):
        taken = _taken(f64(boxes[image]), f64(scores[image]), float(args["iou_threshold"]),
                       float(args["score_threshold"]) if old else None, most, per_class)
        counts[image] = len(taken)
        of_boxes[image, :len(taken)] = boxes[image, taken]
        of_scores[image, :len(taken)] = scores[image, taken]
        indices[image, :len(taken)] = taken
    want, inputs = [of_boxes, of_scores, indices, counts], {"boxes": boxes, "scores": scores}
    if not old:
        want = [np.swapaxes(of_boxes, 1, 2), np.swapaxes(of_scores, 1, 2), indices]
        inputs = {key: np.swapaxes(value, 1, 2) for key, value in inputs.items()}
    return Case("non_maximum_suppression", name, inputs, args, want, opset=opset, source="torchvision")


def _cases():
    # coremltools' tests.
    tested = {"boxes": np.repeat(np.arange(4, dtype=np.float32), 4).reshape(1, 4, 4),
              "scores": np.array([-3.5, 9.4, 2.3, 0.7], np.float32).reshape(1, 4, 1), "dtype": np.float32}
    equal = {"boxes": np.array([[[0, 0, 2, 2], [5, 5, 2, 2], [0, 0, 2, 2], [5, 0, 2, 2]]], np.float16),
             "scores": np.ones([1, 4, 1], np.float16)}
    return [
        _suppress("one_class", 1, 8, 1, 5),
        _suppress("classes", 1, 8, 3, 6),
        _suppress("per_class", 1, 12, 3, 12, per_class=True),
        _suppress("not_per_class", 1, 12, 3, 12, per_class=False),
        _suppress("images", 3, 6, 2, 4, per_class=True),
        _suppress("more_than_there_are", 1, 3, 1, 6),
        _suppress("fewer_than_there_are", 1, 8, 2, 2, iou=0.9),
        _suppress("one_box", 1, 1, 2, 1),
        _suppress("overlap_allowed", 1, 6, 2, 6, iou=0.95),
        _suppress("no_overlap_allowed", 1, 8, 2, 8, iou=0.01),
        _suppress("equal_scores", None, None, None, 4, **equal),
        _suppress("tested", None, None, None, 2, iou=0.2, per_class=True, **tested),
        _suppress("fp32", 1, 8, 2, 6, dtype=np.float32),
        _suppress("ios15_one_class", 1, 8, 1, 5, threshold=-1, opset="ios15"),
        _suppress("ios15_per_class", 2, 8, 3, 6, threshold=0.5, per_class=True, opset="ios15"),
        _suppress("ios15_all_rejected", 1, 5, 2, 3, threshold=100, opset="ios15"),
        _suppress("ios15_none_rejected", 1, 6, 2, 4, threshold=-100, per_class=False, opset="ios15"),
        _suppress("ios15_tested", None, None, None, 2, iou=0.2, threshold=0.4, per_class=True, opset="ios15", **tested),
        _suppress("ios16", 1, 6, 2, 3, threshold=0, opset="ios16"),
    ]


def files():
    yield "non_maximum_suppression", "1.3", _cases()
