"""topk, argsort and non_zero. Without ties, but for those that no order tells apart."""

import numpy as np

from .case import Case, Inline, draw
from .reference import f64


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


def _argsort(label, shape, *, dtype=np.float16, opset="ios18", **parameters):
    name = f"argsort_{label}"
    order = np.argsort(draw(name, [int(np.prod(shape))], np.float32)).reshape(shape)
    x = ((order - order.size // 2) * (1 if np.dtype(dtype).kind == "i" else 0.75)).astype(dtype)
    want = np.argsort(f64(x) if parameters.get("ascending") else -f64(x), parameters.get("axis", -1))
    return Case("argsort", name, {"x": x}, parameters, want, opset=opset, source="numpy")


def _argsort_cases():
    return [
        _argsort("defaults", [3, 5]),
        _argsort("ascending", [3, 5], ascending=True),
        _argsort("axis_0", [4, 3], axis=0, ascending=False),
        _argsort("axis_negative", [2, 4, 3], axis=-2, ascending=True),
        _argsort("rank_1", [7], axis=0),
        _argsort("rank_5", [1, 2, 3, 1, 2], axis=2),
        _argsort("one", [3, 1]),
        _argsort("fp32", [3, 5], dtype=np.float32),
        _argsort("int32", [3, 5], axis=1, dtype=np.int32),
        _argsort("ios15", [3, 4], axis=1, opset="ios15"),
    ]


def _non_zero(label, x, *, opset="ios18"):
    # coremltools' type inference leaves the number of rows open where the value is not known.
    want = np.transpose(np.nonzero(x))
    case = Case("non_zero", f"non_zero_{label}", {"x": x}, {}, want, opset=opset, source="numpy",
                declared=[("int32", want.shape)])
    case.types = [("int32", ("?", x.ndim))]
    return case


def _non_zero_cases():
    def some(label, shape, dtype):
        return (draw("non_zero_" + label, shape, np.bool_) * draw(label, shape, dtype, 1, 4)).astype(dtype)

    return [
        *[_non_zero(name, some(name, [3, 4], dtype))
          for name, dtype in (("fp16", np.float16), ("fp32", np.float32), ("int32", np.int32))],
        _non_zero("bool", draw("non_zero_bool", [2, 3, 2], np.bool_)),
        _non_zero("rank_1", some("rank_1", [7], np.float16)),
        _non_zero("rank_5", some("rank_5", [1, 2, 2, 1, 3], np.int32)),
        _non_zero("none", np.zeros([2, 3], np.float32)),
        _non_zero("all", np.ones([2, 2], np.int32)),
        _non_zero("signed_zeros", np.array([0.0, -0.0, np.nan, np.inf, 6e-8], np.float16)),
        _non_zero("ios15", some("ios15", [2, 3], np.float32), opset="ios15"),
    ]


def files():
    yield "topk", "1.3", _cases()
    yield "argsort", "1.3", _argsort_cases()
    yield "non_zero", "1.3", _non_zero_cases()
