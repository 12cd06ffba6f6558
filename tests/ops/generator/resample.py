"""resample and affine."""

import numpy as np
import torch

from .case import Case, draw
from .reference import f64
from .sampling import HALF, Fraction

TORCH_PADDING = {"constant": "zeros", "border": "border", "reflection": "reflection", "symmetric": "reflection"}


def _place(coordinate, length, unit, align):
    coordinate = coordinate if isinstance(coordinate, Fraction) else Fraction(float(coordinate))
    if unit == "unnormalized":
        return coordinate
    share = coordinate if unit == "normalized_zero_to_one" else (coordinate + 1) * HALF
    return share * (length - 1) if align else share * length - HALF


def _element(at, length, padding):
    """The element that stands at an index outside, or None for the constant: by the examples of the documentation."""
    if 0 <= at < length:
        return at
    if padding == "constant":
        return None
    if padding == "border":
        return min(max(at, 0), length - 1)
    if padding == "symmetric":
        at %= 2 * length
        return at if at < length else 2 * length - 1 - at
    at %= max(2 * (length - 1), 1)
    return at if at < length else 2 * (length - 1) - at


def _kept(place, length, padding):
    """The place in the image that stands for one outside; mirrors come before what is nearest."""
    if padding in ("reflection", "symmetric"):
        first, distance = (Fraction(0), length - 1) if padding == "reflection" else (-HALF, length)
        away = (place - first) % (2 * distance) if distance else Fraction(0)
        place = first + min(away, 2 * distance - away)
    return place if padding == "constant" else min(max(place, Fraction(0)), Fraction(length - 1))


def _taps(place, length, sampling, padding):
    if sampling == "nearest":
        place = _kept(place, length, padding)
        low = place.numerator // place.denominator
        part = place - low
        at = low + (part > HALF or (part == HALF and low % 2 == 1))
        return [(_element(at, length, padding), Fraction(1))]
    low = place.numerator // place.denominator
    taps = [(low, 1 - (place - low)), (low + 1, place - low)]
    return [(_element(at, length, padding), weight) for at, weight in taps if weight]


def _read(x, coordinates, sampling, padding, value, unit, align):
    """(values, magnitude) of [B, C, H, W] at [B, h, w, 2]."""
    shape = [*x.shape[:2], *coordinates.shape[1:3]]
    want, magnitude = np.empty(shape), np.empty(shape)
    for b, c, i, j in np.ndindex(*shape):
        across, down = (_taps(_place(coordinate, length, unit, align), length, sampling, padding)
                        for coordinate, length in zip(coordinates[b, i, j], (x.shape[3], x.shape[2])))
        total, size = Fraction(0), Fraction(0)
        for row, height in down:
            for column, width in across:
                outside = row is None or column is None
                term = height * width * Fraction(float(value if outside else x[b, c, row, column]))
                total, size = total + term, size + abs(term)
        want[b, c, i, j], magnitude[b, c, i, j] = float(total), float(size)
    return want, magnitude


def _torch(x, coordinates, sampling, padding, unit, align):
    """grid_sample, in f64; it counts from -1 to 1 only."""
    grid = f64(coordinates)
    sizes = np.array([x.shape[3], x.shape[2]], np.float64)
    if unit == "unnormalized":
        grid = 2 * grid / (sizes - 1) - 1 if align else (2 * grid + 1) / sizes - 1
    elif unit == "normalized_zero_to_one":
        grid = 2 * grid - 1
    return torch.nn.functional.grid_sample(
        torch.from_numpy(f64(x)), torch.from_numpy(grid), mode=sampling, padding_mode=TORCH_PADDING[padding],
        align_corners=align).numpy()


def _resample(label, shape, places, sampling="bilinear", padding="constant", value=0.0,
              unit="normalized_minus_one_to_one", align=True, dtype=np.float16, coordinate_dtype=None, opset="ios18",
              x=None):
    """`places` are [h, w, 2] for every image, or [B, h, w, 2]."""
    name = f"resample_{label}"
    x = draw(name, shape, dtype) if x is None else x
    coordinates = np.array(places, coordinate_dtype or dtype)
    if coordinates.ndim == 3:
        coordinates = np.repeat(coordinates[None], len(x), 0)
    args = {"sampling_mode": sampling, "padding_mode": padding, "padding_value": np.dtype(dtype).type(value),
            "coordinates_mode": unit, "align_corners": align}
    want, magnitude = _read(f64(x), coordinates, sampling, padding, np.dtype(dtype).type(value), unit, align)
    torch_value = None
    # PyTorch mirrors at the middles with align_corners, at the edges without; and it pads with zeros only.
    mirrors = {"reflection": align, "symmetric": not align}.get(padding, True)
    if mirrors and (padding != "constant" or value == 0):
        torch_value = _torch(x, coordinates, sampling, padding, unit, align)
    return Case("resample", name, {"x": x, "coordinates": coordinates}, args, want, magnitude=magnitude, opset=opset,
                source="exact fractions", torch_value=torch_value)


# Inside, on edges and outside, none where two elements are as near.
_PLACES = [[[-1, -1], [0.25, -0.375], [0.625, 0.875]], [[1, 1], [-1.25, 0.25], [0.5, 2.625]]]


def _resample_cases():
    both = [_resample(f"{sampling}_{padding}{'' if align else '_not_aligned'}", [1, 1, 4, 3], _PLACES, sampling, padding,
                      align=align)
            for sampling in ("bilinear", "nearest") for align in (True, False)
            for padding in ("constant", "border", "reflection", "symmetric")]
    # coremltools' tests.
    tested = np.array([11, 22, 33, 44], np.float32).reshape(1, 1, 2, 2)
    far = [[[-1, -2], [-3.7, -1]], [[0, 0], [3.5, 1.2]]]
    fp32 = {"dtype": np.float32, "x": tested}
    whole = [[[0, 0], [1, 1]], [[0, 1], [1, 0]]]
    integers = [_resample(f"coordinates_{np.dtype(dtype)}", [1, 2, 2, 2], whole, unit="unnormalized",
                          coordinate_dtype=dtype)
                for dtype in (np.int8, np.uint8, np.int16, np.uint16, np.int32)]
    elements = [[[0.25, 1.5], [2.75, -0.625]], [[1, 3], [5.25, 2.375]]]
    from_zero = [[[0.25, 0.625], [1, 0]], [[-0.375, 0.5], [0.875, 1.25]]]
    return both + integers + [
        _resample("tested_constant", None, far, value=6.17, **fp32),
        _resample("tested_border", None, far, "nearest", "border", -1, "unnormalized", False, **fp32),
        _resample("tested_reflection", None, far, "bilinear", "reflection", -1, "normalized_zero_to_one", **fp32),
        _resample("tested_symmetric", None, far, "nearest", "symmetric", -1, "normalized_zero_to_one", False, **fp32),
        _resample("padding_value", [1, 2, 4, 3], _PLACES, value=2.5),
        _resample("padding_value_nearest", [1, 2, 4, 3], _PLACES, "nearest", value=-1.5),
        _resample("unnormalized", [1, 2, 4, 3], elements, unit="unnormalized"),
        _resample("unnormalized_not_aligned", [1, 2, 4, 3], elements, unit="unnormalized", align=False),
        _resample("from_zero", [1, 1, 4, 3], from_zero, padding="border", unit="normalized_zero_to_one"),
        _resample("from_zero_not_aligned", [1, 1, 4, 3], from_zero, unit="normalized_zero_to_one", align=False),
        _resample("images", [2, 2, 3, 3], [_PLACES, np.negative(_PLACES)], padding="border"),
        _resample("one_element", [1, 2, 1, 1], _PLACES, padding="reflection"),
        _resample("fp32_coordinates", [1, 1, 4, 3], _PLACES, coordinate_dtype=np.float32),
        _resample("ios15", [1, 1, 4, 3], _PLACES, coordinate_dtype=np.float32, opset="ios15"),
        _resample("ios15_int32", [1, 1, 2, 2], whole, unit="unnormalized", coordinate_dtype=np.int32, opset="ios15"),
        _resample("ios16", [1, 1, 4, 3], _PLACES, padding="symmetric", opset="ios16"),
    ]


def _affine(label, shape, matrices, size, align=True, dtype=np.float32, opset="ios18", words=str.lower):
    """The grid in f64 with matrices that make it exact, or nearly so."""
    name = f"affine_{label}"
    x = draw(name, shape, dtype)
    matrices = np.array(matrices, dtype)
    args = {"output_height": size[0], "output_width": size[1], "sampling_mode": words("bilinear"),
            "padding_mode": words("constant"), "padding_value": np.dtype(dtype).type(0),
            "coordinates_mode": words("normalized_minus_one_to_one"), "align_corners": align}

    def coordinate(i, count):
        return Fraction(0) if count == 1 else Fraction(2 * i - (count - 1), count - 1 if align else count)

    coordinates = np.empty([len(x), *size, 2], object)
    for b, i, j in np.ndindex(len(x), *size):
        matrix = [Fraction(float(number)) for number in matrices[b if len(matrices) > 1 else 0]]
        place = coordinate(j, size[1]), coordinate(i, size[0])
        for k in range(2):
            row = matrix[3 * k:]
            coordinates[b, i, j, k] = row[0] * place[0] + row[1] * place[1] + row[2]
    want, magnitude = _read(f64(x), coordinates, "bilinear", "constant", 0, args["coordinates_mode"].lower(),
                            align)
    theta = torch.from_numpy(f64(matrices)).reshape(-1, 2, 3).expand(len(x), 2, 3)
    grid = torch.nn.functional.affine_grid(theta, [*x.shape[:2], *size], align_corners=align)
    torch_value = torch.nn.functional.grid_sample(torch.from_numpy(f64(x)), grid, align_corners=align).numpy()
    return Case("affine", name, {"x": x, "transform_matrix": matrices}, args, want, magnitude=magnitude, opset=opset,
                source="exact fractions", torch_value=torch_value)


def _affine_cases():
    turned = [0.5, -0.25, 0.125, 0.25, 0.75, -0.125]
    tested = [-1.0, -2.0, -3.7, -1.0, 3.5, 1.2]
    return [
        _affine("identity", [1, 2, 3, 4], [[1, 0, 0, 0, 1, 0]], [3, 4]),
        _affine("turned", [1, 2, 4, 3], [turned], [3, 5]),
        _affine("not_aligned", [1, 2, 4, 3], [turned], [4, 2], align=False),
        _affine("for_each", [2, 1, 3, 3], [turned, tested], [2, 3]),
        _affine("for_all", [2, 1, 3, 3], [turned], [2, 3]),
        _affine("outside", [1, 1, 2, 2], [tested], [3, 3]),
        _affine("one_element", [1, 2, 3, 3], [turned], [1, 1]),
        _affine("one_row", [1, 1, 3, 4], [turned], [1, 3], align=False),
        _affine("of_one_element", [1, 2, 1, 1], [turned], [2, 2]),
        _affine("fp16", [1, 2, 4, 3], [turned], [3, 3], dtype=np.float16),
        _affine("words_in_capitals", [1, 1, 2, 2], [turned], [2, 2], words=str.upper),
        _affine("ios15", [1, 1, 2, 3], [turned], [2, 2], opset="ios15"),
    ]


def files():
    yield "resample", "1.3", _resample_cases()
    yield "affine", "1.3", _affine_cases()
