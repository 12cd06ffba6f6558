import os
from collections.abc import Mapping, Sequence
from typing import Any, Optional, TypedDict, Union

import numpy as np

from ._programs import Finding, Rule

_Path = Union[str, os.PathLike[str]]
# Name, short description, what it is in words, whether it may be left out, and of an image the mode.
Feature = tuple[str, str, str, bool, Optional[str]]
_Image = tuple[str, int, int, bytes]

class Description(TypedDict):
    inputs: list[Feature]
    outputs: list[Feature]
    states: list[Feature]
    functions: list[str]
    default_function: str
    specification_version: int
    short_description: str
    version: str
    author: str
    license: str
    user_defined_metadata: dict[str, str]

class Predictor:
    description: Description
    def __init__(
        self,
        path: _Path,
        function: Optional[str],
        weights: Optional[_Path],
        runtime: str,
        chip: Optional[str],
    ) -> None: ...
    def predict(
        self, inputs: Sequence[tuple[str, Union[np.ndarray, _Image]]], state: Optional[State]
    ) -> dict[str, Any]: ...
    def make_state(self) -> State: ...

class State:
    names: list[str]
    def read(self, name: str) -> np.ndarray: ...
    def write(self, name: str, value: np.ndarray) -> None: ...

def describe(path: _Path, function: Optional[str]) -> Description: ...
def check(path: _Path, chip: Optional[str], weights: Optional[_Path]) -> list[Finding]: ...
def rules(chip: Optional[str]) -> list[Rule]: ...
def fmt(path: _Path) -> str: ...
def opt(
    path: _Path,
    passes: Sequence[str],
    chip: Optional[str],
    inputs: Mapping[str, Union[str, np.ndarray]],
    constants: Sequence[str],
    function: Optional[str],
    weights: Optional[_Path],
) -> str: ...
def grad(
    path: _Path,
    wrt: Sequence[str],
    of: Sequence[str],
    constant: Sequence[str],
    recompute: Sequence[str],
    function: Optional[str],
) -> tuple[str, str]: ...
