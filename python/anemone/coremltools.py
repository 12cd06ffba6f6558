"""One import that lets the models of coremltools predict where there is no Core ML.

After ``import anemone.coremltools`` the methods ``predict`` and ``make_state`` of ``coremltools.models.MLModel`` are
those of :class:`anemone.MLModel`, so that ``coremltools.convert(…).predict(…)`` works as on a Mac; on a Mac nothing is
changed. A model is what it was at its first prediction, and runs on the runtime ``cpu``.
"""

import sys
from typing import Any, Optional

from coremltools.models import MLModel as _CoreMLModel

from ._model import MLModel, MLState


def _opened(model: _CoreMLModel) -> MLModel:
    """The model that predicts for one of coremltools; it goes with that."""
    opened: Optional[MLModel] = model.__dict__.get("_anemone")
    if opened is None:
        # The message and the weights alone: the model itself would hold what it is held by.
        opened = MLModel(model.get_spec(), weights_dir=model.weights_dir, function_name=model.function_name)
        model.__dict__["_anemone"] = opened
    return opened


def predict(self: _CoreMLModel, data: Any, state: Optional[MLState] = None) -> Any:
    """As :meth:`anemone.MLModel.predict`."""
    return _opened(self).predict(data, state)


def make_state(self: _CoreMLModel) -> MLState:
    """As :meth:`anemone.MLModel.make_state`."""
    return _opened(self).make_state()


if sys.platform != "darwin":
    _CoreMLModel.predict = predict
    _CoreMLModel.make_state = make_state
