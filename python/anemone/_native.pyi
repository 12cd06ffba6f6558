import os
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple, Union

import numpy as np

from ._programs import Finding, Rule

_Path = Union[str, os.PathLike[str]]
_Feature = Tuple[str, str, str, bool, Optional[str]]
_Image = Tuple[str, int, int, bytes]

class Predictor:
    function: str
    inputs: List[_Feature]
    outputs: List[_Feature]
    def __init__(
        self,
        path: _Path,
        function: Optional[str],
        weights: Optional[_Path],
        runtime: str,
        chip: Optional[str],
    ) -> None: ...
    def predict(
        self, inputs: Sequence[Tuple[str, Union[np.ndarray, _Image]]], state: Optional[State]
    ) -> Dict[str, Any]: ...
    def make_state(self) -> State: ...

class State:
    names: List[str]
    def read(self, name: str) -> np.ndarray: ...
    def write(self, name: str, value: np.ndarray) -> None: ...

def describe(path: _Path, function: Optional[str]) -> Dict[str, Any]: ...
def check(path: _Path, chip: Optional[str], weights: Optional[_Path]) -> List[Finding]: ...
def rules(chip: Optional[str]) -> List[Rule]: ...
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
) -> Tuple[str, str]: ...
