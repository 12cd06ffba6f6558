"""Programs: checked, printed, rewritten, differentiated."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Optional, Union

import numpy as np

from . import _native

Path = Union[str, "os.PathLike[str]"]


@dataclass(frozen=True)
class Finding:
    """What is found in a program; ``line`` and ``column``, from 1, are ``None`` where it is about the whole."""

    file: str
    line: Optional[int]
    column: Optional[int]
    #: ``"error"`` or ``"warning"``.
    severity: str
    #: Its kind, or the number of one of the engine's rules, such as ``"R17"``.
    code: str
    message: str
    #: What is at the place, in a few words.
    label: str
    #: What to write instead.
    help: Optional[str]

    def __str__(self) -> str:
        place = "".join(f":{number}" for number in (self.line, self.column) if number is not None)
        return f"{self.file}{place}: {self.severity}: {self.message}"


@dataclass(frozen=True)
class Rule:
    """A rule of the Neural Engine."""

    #: Its number, such as ``"R17"``.
    rule: str
    #: What must hold.
    what: str
    #: The chips that it is about.
    chips: Sequence[str]
    #: The ways in to the engine that it is about.
    interfaces: Sequence[str]
    #: How far to trust it.
    confidence: str
    #: What happens otherwise.
    effect: str
    #: Who published it.
    sources: str
    #: What to write instead.
    instead: str
    #: Whether :func:`check` finds where a program breaks it.
    checked: bool
    #: What keeps it otherwise.
    elsewhere: Optional[str]


class Gradient(NamedTuple):
    """The two programs that :func:`grad` makes, as text."""

    forward: str
    backward: str


def check(path: Path, chip: Optional[str] = None, *, weights: Optional[Path] = None) -> list[Finding]:
    """What is found in a program or model: its mistakes, then its warnings, each in the order of the text.

    ``chip``, ``"m1"`` to ``"m6"`` or ``"all"``, adds the rules of its Neural Engine. ``weights`` is the directory that
    ``@model_path`` stands for; the blobs there are checked too, those of a model always. A file that cannot be read is
    a :class:`ReadError`; a program that has mistakes is no exception here.
    """
    return _native.check(path, chip, weights)


def rules(chip: Optional[str] = None) -> list[Rule]:
    """The rules of the Neural Engine that are known, of one chip or of all, in the order of their numbers."""
    return _native.rules(chip)


def fmt(path: Path) -> str:
    """A program as Apple's compiler prints it, with its comments; the program of a model too."""
    return _native.fmt(path)


def opt(
    path: Path,
    passes: Union[str, Sequence[str]],
    *,
    chip: Optional[str] = None,
    inputs: Optional[Mapping[str, Union[str, np.ndarray]]] = None,
    constants: Sequence[str] = (),
    function: Optional[str] = None,
    weights: Optional[Path] = None,
) -> str:
    """A program after passes, in their order, as text.

    Passes are ``"specialize"``, which ``inputs`` tells types such as ``{"x": "fp16[1,64]"}``, ``"dead-code"``,
    ``"common-subexpressions"``, ``"fold-constants"``, ``"bake"``, which ``inputs`` tells arrays, ``"unbake"``, of
    ``constants`` or of all in weight files, ``"dialect=1.0"``, ``"dialect=1.3"``, and, for ``chip``, ``"legalize"``.
    Folding and legalizing read weights only if ``weights`` says where they are. What a pass makes that is not sound is
    a :class:`ProgramError`.
    """
    names = [passes] if isinstance(passes, str) else list(passes)
    given = {
        name: value if isinstance(value, str) else native_array(value) for name, value in (inputs or {}).items()
    }
    return _native.opt(path, names, chip, given, list(constants), function, weights)


def grad(
    path: Path,
    wrt: Union[str, Sequence[str]],
    *,
    of: Union[str, Sequence[str]] = (),
    constant: Sequence[str] = (),
    recompute: Sequence[str] = (),
    function: Optional[str] = None,
) -> Gradient:
    """A program's forward and backward, as text.

    ``wrt`` are the inputs and constants to differentiate by, ``of`` the results, by default all of floating point.
    ``forward`` gives the program's own results and then what ``backward`` reads; ``backward`` takes ``d_NAME`` of each
    result and gives ``d_NAME`` of each of ``wrt``. No gradient goes through ``constant``; ``recompute`` is never saved.
    """
    return Gradient(*_native.grad(path, _names(wrt), _names(of), list(constant), list(recompute), function))


def _names(names: Union[str, Sequence[str]]) -> list[str]:
    return [names] if isinstance(names, str) else list(names)


def native_array(value: object) -> np.ndarray:
    """The value as an array that is row-major, of the machine's byte order, and of at most 64 bits an element."""
    array = np.asarray(value, order="C")
    if array.dtype.kind == "f" and array.dtype.itemsize > 8:
        array = array.astype(np.float64)
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))
