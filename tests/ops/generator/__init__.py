"""The parts of tests/ops/generate.py: printing, references, and one module of cases per family of ops."""

from . import (
    arrange, attention, binary, cast, channelwise, compression, control, depth, einsum, flatten, indexing, join,
    lists, normalize, pool, products, quantization, random, rectifier, recurrent, reduce, response, scatter, shape,
    state, topk, unary, upsample, windows,
)

FAMILIES = [
    arrange, attention, binary, cast, channelwise, compression, control, depth, einsum, flatten, indexing, join,
    lists, normalize, pool, products, quantization, random, rectifier, recurrent, reduce, response, scatter, shape,
    state, topk, unary, upsample, windows,
]
