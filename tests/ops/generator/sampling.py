"""Places between elements, and what lies there, in exact fractions."""

import itertools
from fractions import Fraction

import numpy as np

from .reference import f64

HALF = Fraction(1, 2)
MODES = ["STRICT_ALIGN_CORNERS", "ALIGN_CORNERS", "DEFAULT", "OFFSET_CORNERS", "UNALIGN_CORNERS"]


def places(mode, count, start, end):
    """The places of coremltools' documentation of resize_bilinear, in the interval from start to end: there from
    0 to Xin - 1, so that Xin is one more than the interval's length."""
    start, end = Fraction(start), Fraction(end)
    length = end - start + 1
    for i in range(count):
        if mode.endswith("ALIGN_CORNERS") and mode != "UNALIGN_CORNERS":
            alone = HALF * (end - start) if mode == "ALIGN_CORNERS" else Fraction(0)
            place = i * (end - start) / (count - 1) if count > 1 else alone
        elif mode == "DEFAULT":
            place = i * length / count
        elif mode == "OFFSET_CORNERS":
            place = (i + HALF) * max(Fraction(1), end - start) / count
        else:
            place = (i + HALF) * length / count - HALF
        yield min(max(start + place, min(start, end)), max(start, end))


def neighbours(place, length):
    """The elements around a place, with their weights."""
    low = place.numerator // place.denominator
    yield low, 1 - (place - low)
    if place != low:
        yield min(low + 1, length - 1), place - low


def linear(x, along):
    """(values, Σ|weight · element|) at the places that `along` gives for some axes of x."""
    x = f64(x)
    axes = [[list(neighbours(place, x.shape[axis])) for place in along[axis]] if axis in along
            else [[(i, Fraction(1))] for i in range(x.shape[axis])] for axis in range(x.ndim)]
    shape = [len(axis) for axis in axes]
    want, magnitude = np.empty(shape), np.empty(shape)
    for index in np.ndindex(*shape):
        total, size = Fraction(0), Fraction(0)
        for taps in itertools.product(*(axis[i] for axis, i in zip(axes, index))):
            weight = Fraction(1)
            for _, part in taps:
                weight *= part
            term = weight * Fraction(float(x[tuple(at for at, _ in taps)]))
            total, size = total + term, size + abs(term)
        want[index], magnitude[index] = float(total), float(size)
    return want, magnitude
