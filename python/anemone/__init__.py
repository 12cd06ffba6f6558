"""Core ML models run, checked and rewritten on any machine.

>>> import anemone
>>> model = anemone.MLModel("model.mlpackage")  # doctest: +SKIP
>>> model.predict({"x": x})["y"]                # doctest: +SKIP
"""

from ._errors import (
    Error,
    InputError,
    InputNameError,
    InputTypeError,
    ProgramError,
    ReadError,
    UnsupportedError,
)
from ._model import CompiledMLModel, ComputeUnit, MLModel, MLState
from ._programs import Finding, Gradient, Rule, check, fmt, grad, opt, rules

__all__ = [
    "CompiledMLModel",
    "ComputeUnit",
    "Error",
    "Finding",
    "Gradient",
    "InputError",
    "InputNameError",
    "InputTypeError",
    "MLModel",
    "MLState",
    "ProgramError",
    "ReadError",
    "Rule",
    "UnsupportedError",
    "check",
    "fmt",
    "grad",
    "opt",
    "rules",
]
