"""The parts of tests/ops/generate.py: printing, references, and one module of cases per family of ops."""

from . import (
    arrange, attention, binary, cast, channelwise, classify, compression, control, crop, depth, einsum, flatten, indexing, join,
    lists, normalize, pool, products, quantization, random, rectifier, recurrent, reduce, resample, resize, response,
    scatter, shape, state, suppression, topk, unary, upsample, windows,
)

FAMILIES = [
    arrange, attention, binary, cast, channelwise, classify, compression, control, crop, depth, einsum, flatten, indexing, join,
    lists, normalize, pool, products, quantization, random, rectifier, recurrent, reduce, resample, resize, response,
    scatter, shape, state, suppression, topk, unary, upsample, windows,
]
