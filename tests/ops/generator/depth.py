"""pixel_shuffle, pixel_unshuffle, depth_to_space and space_to_depth."""

import numpy as np
import torch

from .case import Case, draw
from .reference import f64


def _to_space(x, side, together):
    """Each square of the result from as many channels: neighbours if `together`, else as far apart as there are
    channels in the result."""
    n, channels, height, width = x.shape
    count = channels // side**2
    out = np.empty([n, count, height * side, width * side])
    for image, c, i, j in np.ndindex(*out.shape):
        place = i % side * side + j % side
        channel = c * side**2 + place if together else place * count + c
        out[image, c, i, j] = x[image, channel, i // side, j // side]
    return out


def _to_depth(x, side, together):
    """The inverse: where `_to_space` would take each number of `x` from."""
    n, channels, height, width = x.shape
    positions = np.arange(x.size, dtype=np.float64).reshape(n, channels * side**2, height // side, width // side)
    out = np.empty(x.size)
    out[_to_space(positions, side, together).astype(np.int64).ravel()] = x.ravel()
    return out.reshape(positions.shape)


OPS = {
    "pixel_shuffle": ("upscale_factor", np.int32, _to_space, True),
    "pixel_unshuffle": ("downscale_factor", np.uint32, _to_depth, True),
    "depth_to_space": ("block_size", np.int32, _to_space, False),
    "space_to_depth": ("block_size", np.int32, _to_depth, False),
}


def _torch(op, x, side):
    """PyTorch's result; for the orders that it does not have, by way of the other one."""
    n, channels, height, width = x.shape
    tensor = torch.from_numpy(x)
    if op == "pixel_shuffle":
        return torch.nn.functional.pixel_shuffle(tensor, side).numpy()
    if op == "pixel_unshuffle":
        return torch.nn.functional.pixel_unshuffle(tensor, side).numpy()
    if op == "depth_to_space":
        split = tensor.reshape(n, side**2, channels // side**2, height, width)
        together = split.transpose(1, 2).reshape(x.shape)
        return torch.nn.functional.pixel_shuffle(together, side).numpy()
    result = torch.nn.functional.pixel_unshuffle(tensor, side)
    split = result.reshape(n, channels, side**2, height // side, width // side)
    return split.transpose(1, 2).reshape(result.shape).numpy()


def _case(op, label, shape, side, dtype=np.float16, opset="ios18"):
    name = f"{op}_{label}"
    parameter, kind, function, together = OPS[op]
    x = draw(name, shape, dtype)
    return Case(op, name, {"x": x}, {parameter: kind(side)}, function(f64(x), side, together), opset=opset,
                source="by definition", torch_value=_torch(op, f64(x), side))


def _cases(op, oldest):
    if OPS[op][2] is _to_space:
        shapes = {"": [2, 8, 2, 3], "by_3": [1, 18, 1, 2], "one_channel": [1, 4, 2, 2]}
    else:
        shapes = {"": [2, 2, 4, 6], "by_3": [1, 2, 3, 6], "one_channel": [1, 1, 4, 4]}
    cases = [_case(op, label or "fp16", shape, 3 if label == "by_3" else 2) for label, shape in shapes.items()]
    cases.append(_case(op, "fp32", shapes[""], 2, np.float32))
    cases.append(_case(op, oldest, shapes[""], 2, opset=oldest))
    if OPS[op][3]:
        cases.append(_case(op, "by_1", [1, 2, 2, 3], 1))
    return cases


def files():
    for op in OPS:
        yield op, "1.3", _cases(op, "ios16" if op == "pixel_unshuffle" else "ios15")
