"""The parts of tests/ops/generate.py: printing, references, and one module of cases per family of ops."""

from . import (
    arrange, attention, binary, cast, channelwise, compression, control, depth, indexing, join, lists, normalize, pool,
    products, quantization, random, rectifier, reduce, response, scatter, shape, state, topk, unary, upsample,
)

FAMILIES = [
    arrange, attention, binary, cast, channelwise, compression, control, depth, indexing, join, lists, normalize, pool,
    products, quantization, random, rectifier, reduce, response, scatter, shape, state, topk, unary, upsample,
]
