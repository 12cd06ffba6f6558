"""The parts of tests/ops/generate.py: printing, references, and one module of cases per family of ops."""

from . import (
    arrange, binary, cast, compression, control, crop, depth, indexing, join, lists, normalize,
    pool, products, reduce, resample, resize, scatter, shape, state, suppression, topk, unary, upsample,
)

FAMILIES = [
    arrange, binary, cast, compression, control, crop, depth, indexing, join, lists, normalize,
    pool, products, reduce, resample, resize, scatter, shape, state, suppression, topk, unary, upsample,
]
