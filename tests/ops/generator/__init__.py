"""The parts of tests/ops/generate.py: printing, references, and one module of cases per family of ops."""

from . import binary, cast, join, products, reduce, state, unary

FAMILIES = [binary, cast, join, products, reduce, state, unary]
