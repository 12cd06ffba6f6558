"""flatten2d and reshape_like."""

import numpy as np

from .case import Case, Ref
from .shape import ALL_DTYPES, move, values


def _flatten_cases():
    def flat(label, shape, axis=None, **keywords):
        place = 1 if axis is None else axis
        rows = int(np.prod(shape[:place]))
        # coremltools' product of no dimensions is not of an integer type, of which it makes no shape.
        inferred = True if shape[:place] and shape[place:] else "the product of nothing is a float"
        return move("flatten2d", label, shape, {} if axis is None else {"axis": axis}, lambda x: x.reshape(rows, -1),
                    value_inference=inferred, **keywords)

    return [
        *[flat(name, [2, 3, 2], 2, dtype=ALL_DTYPES[name]) for name in ("fp16", "fp32", "int32", "bool")],
        flat("default", [5, 5, 2]),
        flat("rank_1", [3]),
        flat("rank_1_last", [3], -1),
        flat("rank_2_last", [4, 3], -1),
        flat("first", [2, 3], 0),
        flat("beyond_the_end", [2, 3], 5),
        flat("before_the_beginning", [2, 3], -5),
        flat("rank_5", [1, 2, 3, 1, 2], 3),
        flat("ios15", [2, 3, 2], -2, opset="ios15"),
        flat("ios17", [2, 3], 1, opset="ios17"),
    ]


def _like(label, shape, references, begins, ends, masks, *, dtype=np.float16, opset="ios18", other=None):
    """`references` are shapes, `other` the dtype of those tensors."""
    name = f"reshape_like_{label}"
    inputs = {"x": values(name, shape, dtype)}
    inputs |= {f"ref_{i}": values(f"{name}.{i}", ref, other or dtype) for i, ref in enumerate(references)}
    taken = [ref[b:] if mask else ref[b:e] for ref, b, e, mask in zip(references, begins, ends, masks)]
    args = {"ref_tensors": tuple(Ref(f"ref_{i}") for i in range(len(references))), "begins": tuple(begins),
            "ends": tuple(ends), "end_masks": tuple(masks)}
    return Case("reshape_like", name, inputs, args, inputs["x"].reshape([d for part in taken for d in part]), opset=opset,
                source="copied", value_inference=False)


def _like_cases():
    return [
        *[_like(name, [6, 2], [[3, 4]], [0], [2], [False], dtype=dtype) for name, dtype in ALL_DTYPES.items()],
        _like("two", [12, 15], [[2, 3, 4], [1, 5, 6]], [0, 1], [2, 0], [False, True]),
        _like("to_the_end", [3, 4], [[7, 2, 6]], [1], [0], [True]),
        _like("negative", [6, 4], [[5, 4, 6, 3]], [-3], [-1], [False]),
        _like("of_another_type", [6], [[2, 3]], [0], [2], [False], other=np.int32),
        _like("ios16", [6], [[2, 3], [1]], [0, 0], [2, 1], [False, False], opset="ios16"),
    ]


def files():
    yield "flatten2d", "1.3", _flatten_cases()
    yield "reshape_like", "1.3", _like_cases()
