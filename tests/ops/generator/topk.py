"""topk. Without ties, but for those that no order tells apart."""

import numpy as np

from .case import Case, Inline, draw


def _topk(label, shape, *, dtype=np.float16, opset="ios18", x=None, literal=False, k_dtype=None, declared=None,
          **parameters):
    name = f"topk_{label}"
    if x is None:
        order = np.argsort(draw(name, [int(np.prod(shape))], np.float32)).reshape(shape)
        low = 0 if np.dtype(dtype).kind == "u" else order.size // 2
        x = ((order - low) * (1 if np.dtype(dtype).kind in "iu" else 0.75)).astype(dtype)
    axis, k = parameters.get("axis", -1), parameters.get("k", 1)
    wide = x.astype(np.float64) if x.dtype.kind == "f" else x.astype(np.int64)
    order = np.argsort(wide if parameters.get("ascending") else -wide, axis, kind="stable")
    indices = np.take(order, range(x.shape[axis] if k == -1 else k), axis)
    values = np.take_along_axis(wide, indices, axis)
    if k_dtype is not None:
        parameters["k"] = k_dtype(k)
    args = {key: Inline(value) if literal else value for key, value in parameters.items()}
    want = values if parameters.get("return_indices") is False else [values, indices]
    return Case("topk", name, {"x": x}, args, want, opset=opset, source="numpy", declared=declared,
                value_inference=declared is None)


def _cases():
    infinite = np.array([[1, np.inf, 2, -np.inf], [-np.inf, -65504, 0, 65504]], np.float16)
    return [
        _topk("defaults", [3, 5]),
        _topk("k_2", [3, 5], k=2),
        _topk("axis_0", [4, 3], k=3, axis=0),
        _topk("axis_negative", [2, 4, 3], k=2, axis=-2),
        _topk("ascending", [3, 5], k=2, axis=1, ascending=True),
        _topk("all", [2, 4], k=4),
        _topk("rank_1", [7], k=3, axis=0),
        _topk("rank_5", [1, 2, 3, 1, 2], k=2, axis=2),
        _topk("fp32", [3, 5], k=2, axis=1, dtype=np.float32),
        _topk("int32", [3, 5], k=2, axis=1, dtype=np.int32),
        _topk("int8", [3, 5], k=2, dtype=np.int8),
        _topk("uint16", [3, 5], k=2, dtype=np.uint16, ascending=True),
        _topk("k_int8", [3, 5], k=2, k_dtype=np.int8),
        _topk("k_int16", [3, 5], k=3, k_dtype=np.int16),
        _topk("without_indices", [3, 5], k=2, return_indices=False),
        _topk("indices_uint16", [3, 5], k=2, output_indices_dtype="uint16"),
        _topk("indices_int32", [3, 5], k=2, sort=True, return_indices=True, output_indices_dtype="int32"),
        _topk("unsorted_one", [3, 5], k=1, sort=False),
        # coremltools' type inference does not know -1, which its docstring has.
        _topk("all_by_minus_1", [2, 4], k=-1, declared=[("fp16", (2, 4)), ("int32", (2, 4))]),
        _topk("infinities", None, x=infinite, k=3, axis=1),
        _topk("literals", [2, 3], k=2, axis=1, literal=True),
        _topk("ios15", [3, 4], k=2, axis=1, ascending=False, opset="ios15"),
        _topk("ios16", [3, 4], k=2, axis=0, sort=True, return_indices=True, opset="ios16"),
    ]


def files():
    yield "topk", "1.3", _cases()
