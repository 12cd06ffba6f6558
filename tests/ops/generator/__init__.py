"""The parts of tests/ops/generate.py: printing, references, and one module of cases per family of ops."""

from . import (
    arrange, binary, cast, compression, control, indexing, join, lists, normalize,
    products, reduce, scatter, shape, state, unary,
)

FAMILIES = [
    arrange, binary, cast, compression, control, indexing, join, lists, normalize,
    products, reduce, scatter, shape, state, unary,
]
