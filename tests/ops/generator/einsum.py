"""einsum, of the two equations that coremltools takes."""

import numpy as np
import torch

from .case import Case, Inline, Ref, draw
from .reference import exact_sum, f64


def _case(label, equation, shape_x, shape_y, *, dtype=np.float16, opset="ios18", literal=False):
    name = f"einsum_{label}"
    x, y = draw(name + ".x", shape_x, dtype, -2, 2), draw(name + ".y", shape_y, dtype, -2, 2)
    # [*, c, h, w, 1] by [*, 1, h, w, u].
    terms = f64(x)[..., None] * np.expand_dims(np.swapaxes(f64(y), -3, -2), -4)
    want, magnitude = exact_sum(terms, [-2]), exact_sum(np.abs(terms), [-2])
    # PyTorch broadcasts dimensions of length 1 under one letter.
    other = torch.einsum(equation, torch.from_numpy(f64(x)), torch.from_numpy(f64(y))).numpy()
    return Case("einsum", name, {"x": x, "y": y},
                {"values": (Ref("x"), Ref("y")), "equation": Inline(equation) if literal else equation}, want,
                magnitude=magnitude, opset=opset, source="exact sum", torch_value=other)


def _cases():
    four, three = "nchw,nwhu->nchu", "chw,whr->chr"
    return [
        _case("rank_4", four, [2, 3, 4, 5], [2, 5, 4, 2]),
        _case("rank_4_fp32", four, [2, 3, 4, 5], [2, 5, 4, 2], dtype=np.float32),
        _case("rank_3", three, [3, 4, 5], [5, 4, 2]),
        _case("rank_3_fp32", three, [3, 4, 5], [5, 4, 2], dtype=np.float32),
        _case("batch_of_one", four, [1, 2, 3, 4], [2, 4, 3, 2]),
        _case("batch_of_the_other", four, [2, 2, 1, 4], [1, 4, 3, 2]),
        _case("rank_3_broadcast", three, [2, 1, 3], [3, 4, 2]),
        _case("one_term", four, [1, 2, 2, 1], [1, 1, 2, 3]),
        _case("other_letters", "abcd,adce->abce", [1, 2, 2, 3], [1, 3, 2, 2]),
        _case("wide", three, [9, 2, 17], [17, 2, 20], dtype=np.float32),
        _case("literal", three, [2, 2, 3], [3, 2, 2], literal=True),
        _case("ios15", four, [1, 2, 2, 3], [1, 3, 2, 2], opset="ios15"),
    ]


def files():
    yield "einsum", "1.3", _cases()
