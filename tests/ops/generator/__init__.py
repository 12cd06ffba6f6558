"""The parts of tests/ops/generate.py: printing, references, and one module of cases per family of ops."""

from . import binary, cast, control, indexing, join, lists, normalize, products, reduce, shape, state, unary

FAMILIES = [binary, cast, control, indexing, join, lists, normalize, products, reduce, shape, state, unary]
