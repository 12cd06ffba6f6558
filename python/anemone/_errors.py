"""What goes wrong, as exceptions.

Every exception of this package is an :class:`Error`, and so a ``RuntimeError``, as Core ML's own are in Python.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Optional

if TYPE_CHECKING:
    from ._programs import Finding


class Error(RuntimeError):
    """Something went wrong. ``file``, ``line`` and ``column``, from 1, say where, if there is a place."""

    file: Optional[str] = None
    line: Optional[int] = None
    column: Optional[int] = None

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class ReadError(Error, OSError):
    """A file that cannot be read, or is no program or model; ``file`` is its path."""


class ProgramError(Error, ValueError):
    """Mistakes in a program. ``findings`` are all of them; the place is that of the first."""

    findings: Sequence[Finding] = ()


class UnsupportedError(Error, NotImplementedError):
    """A model that is no program, or something that a runtime does not run."""


class InputError(Error, ValueError):
    """An argument or input that is not one of those described: another shape, another size, a value out of range."""


class InputNameError(InputError, KeyError):
    """A name that no input has, or an input that nothing is given for."""


class InputTypeError(InputError, TypeError):
    """A value of another kind than the input takes, as words for an array, or an array for an image."""
