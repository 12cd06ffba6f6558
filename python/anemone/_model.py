"""Core ML models, with the interface of ``coremltools.models.MLModel``."""

from __future__ import annotations

import copy
import enum
import os
import shutil
import sys
import tempfile
import weakref
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Optional, Union

import numpy as np

from . import _native
from ._errors import Error, InputError, InputNameError, InputTypeError
from ._programs import Path, native_array


class ComputeUnit(enum.Enum):
    """The members of ``coremltools.ComputeUnit``, for tests that name one where coremltools is not installed."""

    ALL = 1
    CPU_AND_GPU = 2
    CPU_ONLY = 3
    CPU_AND_NE = 4


class FeatureDescriptions(Mapping[str, str]):
    """The short description of each input or output, by name."""

    def __init__(self, features: Sequence[_native.Feature]) -> None:
        self._features = {feature[0]: feature for feature in features}

    def __getitem__(self, name: str) -> str:
        if name not in self._features:
            raise KeyError(f"No feature with name {name}.")
        return self._features[name][1]

    def __iter__(self) -> Iterator[str]:
        return iter(self._features)

    def __len__(self) -> int:
        return len(self._features)

    def __repr__(self) -> str:
        return f"Features({','.join(self._features)})"


class MLState:
    """What a model keeps between predictions, as :meth:`MLModel.make_state` makes it."""

    def __init__(self, native: _native.State) -> None:
        self._native = native

    def read_state(self, name: str) -> np.ndarray:
        """A copy of what the state ``name`` holds, in the type described."""
        return self._native.read(name)

    def write_state(self, name: str, value: Any) -> None:
        """Replaces what the state ``name`` holds by an array of its shape."""
        self._native.write(name, _array(f"the state {name!r}", value))


class MLModel:
    """A Core ML model that predicts on any machine.

    ``model`` is a path: of a ``.mlpackage``, ``.mlmodelc`` or ``.mlmodel`` that is a program, or of a program in text,
    ``.mil``; or it is what coremltools has of one: a ``coremltools.models.MLModel``, such as ``coremltools.convert``
    returns, or the message that its ``get_spec`` gives, with ``weights_dir``.

    Parameters that coremltools has too:

    - ``skip_model_load``: only the description is read; :meth:`predict` then fails.
    - ``compute_units``: kept as ``compute_unit``, and otherwise without meaning: ``runtime`` says what runs the model.
    - ``weights_dir``: the directory of the weight files, or the one that has it as ``weights``, if not the model's own.
    - ``function_name``: the function to run, if not the default one.
    - ``is_temp_package``, ``mil_program``, ``optimization_hints``: without meaning; nothing is deleted.

    ``runtime`` is ``"cpu"``, fast on every processor; ``"eval"``, the reference, slow and exact to one rounding per
    operation; ``"ane-sim"``, the arithmetic and limits of the Neural Engine of ``chip``, ``"m1"`` to ``"m6"``; or
    ``"ane"``, the engine itself, on a Mac.
    """

    def __init__(
        self,
        model: Any,
        is_temp_package: bool = False,
        mil_program: Any = None,
        skip_model_load: bool = False,
        compute_units: Any = ComputeUnit.ALL,
        weights_dir: Optional[Path] = None,
        function_name: Optional[str] = None,
        optimization_hints: Optional[dict[str, Any]] = None,
        *,
        runtime: str = "cpu",
        chip: Optional[str] = None,
    ) -> None:
        if type(compute_units).__name__ != "ComputeUnit":
            raise TypeError('"compute_units" must be a ComputeUnit, of coremltools or of anemone')
        self.compute_unit = compute_units
        self.optimization_hints = optimization_hints
        self._model = model
        self._predictor: Optional[_native.Predictor] = None
        self._files = _Files(model, weights_dir)
        try:
            if skip_model_load:
                self._description = _native.describe(self._files.path, function_name)
            else:
                self._predictor = _native.Predictor(
                    self._files.path, function_name, self._files.weights, runtime, chip
                )
                self._description = self._predictor.description
        finally:
            self._files.opened()
        self.function_name = function_name or self._description["default_function"] or None
        self._inputs = self._description["inputs"]

    def predict(
        self, data: Union[dict[str, Any], list[dict[str, Any]]], state: Optional[MLState] = None
    ) -> Union[dict[str, Any], list[dict[str, Any]]]:
        """The outputs by name, for inputs by name; for a list of dictionaries a list of them.

        An input is an array or what ``numpy.asarray`` makes one of, a tensor of PyTorch, or, where an image is
        described, an image of Pillow of the mode and size described. Numbers are converted to the type described:
        floats are rounded, and floats that are whole become integers. An input that has a default may be left out.

        An array comes in the type described. An image comes as one of Pillow, of mode RGBA, L or F. A classifier
        gives its label, and a dictionary with the probability of each.

        A model with states needs a ``state``, of :meth:`make_state`, which then holds what the model left in it.
        """
        if not isinstance(data, (list, dict)):
            raise InputTypeError(f'"data" parameter must be either a dict or list of dict, but got {type(data)}.')
        if isinstance(data, dict):
            return self._predict(data, state)
        if not all(isinstance(one, dict) for one in data):
            raise InputTypeError('"data" list must contain only dictionaries')
        if state is not None:
            raise InputError("State can only be used for unbatched predictions")
        return [self._predict(one, None) for one in data]

    def _predict(self, data: dict[str, Any], state: Optional[MLState]) -> dict[str, Any]:
        if self._predictor is None:
            raise Error("This model was opened with skip_model_load=True. Cannot make predictions.")
        if state is not None and not isinstance(state, MLState):
            raise InputTypeError(f"a state of make_state is expected, but got {type(state)}")
        modes = {feature[0]: feature[4] for feature in self._inputs}
        for name in data:
            if name not in modes:
                known = ", ".join(modes) or "none"
                raise InputNameError(
                    f'Provided key "{name}", in the input dict, does not match any of the model input name(s), '
                    f"which are: {known}"
                )
        given = [(name, _given(name, value, modes[name])) for name, value in data.items()]
        outputs = self._predictor.predict(given, state._native if state is not None else None)
        return {name: _taken(value) for name, value in outputs.items()}

    def make_state(self) -> MLState:
        """A new state for :meth:`predict`, of zeros."""
        if self._predictor is None:
            raise Error("This model was opened with skip_model_load=True. Cannot get state.")
        return MLState(self._predictor.make_state())

    def get_spec(self) -> Any:
        """The model's message, as coremltools has it, which must be installed."""
        if not isinstance(self._model, (str, os.PathLike)):
            return copy.deepcopy(_spec_of(self._model))
        try:
            from coremltools.models.utils import load_spec
        except ImportError as error:
            raise ImportError("get_spec needs coremltools: pip install coremltools") from error
        return load_spec(os.fspath(self._model))

    @property
    def input_description(self) -> FeatureDescriptions:
        """The short description of each input, by name."""
        return FeatureDescriptions(self._inputs)

    @property
    def output_description(self) -> FeatureDescriptions:
        """The short description of each output, by name."""
        return FeatureDescriptions(self._description["outputs"])

    @property
    def short_description(self) -> str:
        """What the model does."""
        return self._description["short_description"]

    @property
    def author(self) -> str:
        """Who made it."""
        return self._description["author"]

    @property
    def license(self) -> str:
        """On what terms it may be used."""
        return self._description["license"]

    @property
    def version(self) -> str:
        """Its version."""
        return self._description["version"]

    @property
    def user_defined_metadata(self) -> dict[str, str]:
        """Whatever else was noted, by name."""
        return dict(self._description["user_defined_metadata"])

    def __repr__(self) -> str:
        lines = [f"{feature[0]}: {feature[2]}" for feature in self._inputs]
        gives = [f"{feature[0]}: {feature[2]}" for feature in self._description["outputs"]]
        return f"MLModel({', '.join(lines)} -> {', '.join(gives)})"


class CompiledMLModel(MLModel):
    """A compiled model, ``.mlmodelc``, with the parameters of ``coremltools.models.CompiledMLModel``."""

    def __init__(
        self,
        path: Path,
        compute_units: Any = ComputeUnit.ALL,
        function_name: Optional[str] = None,
        optimization_hints: Optional[dict[str, Any]] = None,
        *,
        runtime: str = "cpu",
        chip: Optional[str] = None,
    ) -> None:
        if not isinstance(path, (str, os.PathLike)):
            raise TypeError('The "path" parameter must be a path.')
        super().__init__(
            path,
            compute_units=compute_units,
            function_name=function_name,
            optimization_hints=optimization_hints,
            runtime=runtime,
            chip=chip,
        )


class _Files:
    """A model as a path, and the directory that ``@model_path`` stands for if that is not the model's own."""

    def __init__(self, model: Any, weights_dir: Optional[Path]) -> None:
        self._message: Optional[tempfile.TemporaryDirectory[str]] = None
        if isinstance(model, (str, os.PathLike)):
            self.path = os.path.expanduser(os.path.expandvars(os.fspath(model)))
        else:
            # What is in memory counts: a model may have been changed since it was saved.
            message = _spec_of(model).SerializeToString()
            self._message = tempfile.TemporaryDirectory(prefix="anemone-")
            self.path = os.path.join(self._message.name, "model.mlmodel")
            with open(self.path, "wb") as file:
                file.write(message)
            if weights_dir is None:
                weights_dir = getattr(model, "weights_dir", None)
        self.weights = None if weights_dir is None else self._model_path(os.path.abspath(weights_dir))

    def _model_path(self, weights_dir: str) -> str:
        """The directory that has these weights as ``weights``, as programs refer to them."""
        if os.path.isdir(os.path.join(weights_dir, "weights")) or not os.path.isdir(weights_dir):
            return weights_dir
        if os.path.basename(weights_dir) == "weights":
            return os.path.dirname(weights_dir)
        # Weights are read when the model first predicts: until then the link must be there.
        links = tempfile.mkdtemp(prefix="anemone-")
        weakref.finalize(self, shutil.rmtree, links, ignore_errors=True)
        os.symlink(weights_dir, os.path.join(links, "weights"), target_is_directory=True)
        return links

    def opened(self) -> None:
        """The message is read, and need not be there any more."""
        if self._message is not None:
            self._message.cleanup()


def _spec_of(model: Any) -> Any:
    """The message of a model of coremltools, or the message that the model is."""
    if hasattr(model, "SerializeToString"):
        return model
    if hasattr(model, "get_spec"):
        return model.get_spec()
    raise TypeError(
        "a path, a coremltools.models.MLModel or the message of one is expected as a model, "
        f"but got {type(model)}"
    )


def _given(name: str, value: Any, mode: Optional[str]) -> Any:
    """An input as the native part takes it."""
    if mode is None:
        return _array(f"the input {name!r}", value)
    image = sys.modules.get("PIL.Image")
    # Who has an image has imported its type.
    if image is None or not isinstance(value, image.Image):
        raise InputTypeError(f"Image input, '{name}', must be of type PIL.Image.Image in the input dict")
    if value.mode != mode:
        raise InputTypeError(
            f"Image input, '{name}', must be of type PIL.Image.Image with mode=='{mode}', "
            f"but its mode is '{value.mode}'"
        )
    return mode, value.width, value.height, value.tobytes()


def _array(what: str, value: Any) -> np.ndarray:
    """An array of numbers, of what NumPy makes one of, or of a tensor of PyTorch."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        if str(value.dtype) == "torch.bfloat16":
            value = value.float()
        value = value.numpy()
    try:
        array = native_array(value)
    except (TypeError, ValueError) as error:
        raise InputTypeError(f"{what} takes an array of numbers: {error}") from error
    if array.dtype.kind not in "fiub":
        raise InputTypeError(f"{what} takes an array of numbers, but the elements given are {array.dtype}")
    return array


def _taken(value: Any) -> Any:
    """An output as people have it: what the native part gives, but for images."""
    if not isinstance(value, tuple):
        return value
    mode, width, height, pixels = value
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError("an output of this model is an image, which needs Pillow: pip install pillow") from error
    image = Image.frombytes(mode, (width, height), pixels)
    # Core ML's own images have a fourth channel, and so those of coremltools.
    return image.convert("RGBA") if mode == "RGB" else image
