"""rnn, gru and lstm, computed in 50 digits, step by step."""

import mpmath
import numpy as np
import torch

from .case import Case, Inline, draw
from .reference import f64

ACTIVATIONS = {
    "linear": lambda x: x,
    "relu": lambda x: max(x, mpmath.mpf(0)),
    "tanh": mpmath.tanh,
    "scaled_tanh": mpmath.tanh,
    "sigmoid": lambda x: 1 / (1 + mpmath.exp(-x)),
    "hard_sigmoid": lambda x: min(max(x / 5 + mpmath.mpf("0.5"), 0), 1),
}
ACTIVATIONS["sigmoid_hard"] = ACTIVATIONS["hard_sigmoid"]


def _apply(name, x):
    return np.array([ACTIVATIONS[name.lower()](value) for value in x], dtype=object)


def _exact(x):
    return np.vectorize(mpmath.mpf, otypes=[object])(f64(x))


class _Sums:
    """The sums of a step; keeps the largest sum of magnitudes, by which rounding may change them."""

    def __init__(self, weight_ih, weight_hh, bias):
        self.weights = _exact(weight_ih), _exact(weight_hh)
        self.bias = _exact(np.zeros(len(weight_ih)) if bias is None else bias)
        self.largest = mpmath.mpf(0)

    def note(self, *terms):
        self.largest = max([self.largest, *(sum(abs(term[i]) for term in terms) for i in range(len(terms[0])))])

    def of(self, x, h, rows=slice(None)):
        of_inputs, of_states = (w[rows] for w in self.weights)
        self.note(abs(of_inputs) @ abs(x), abs(of_states) @ abs(h), self.bias[rows])
        return of_inputs @ x + of_states @ h + self.bias[rows]


def _rnn_step(sums, x, h, _, activation="tanh"):
    return _apply(activation, sums.of(x, h)), None


def _gru_step(sums, x, h, _, activation="tanh", recurrent_activation="sigmoid", reset_after=False, input_bias=None):
    n = len(h)
    added = _exact(np.zeros(3 * n) if input_bias is None else input_bias)
    r = _apply(recurrent_activation, sums.of(x, h, slice(0, n)) + added[:n])
    z = _apply(recurrent_activation, sums.of(x, h, slice(2 * n, 3 * n)) + added[2 * n:])
    rows = slice(n, 2 * n)
    if reset_after:
        sums.of(x, h, rows)
        o = sums.weights[0][rows] @ x + added[rows] + r * (sums.weights[1][rows] @ h + sums.bias[rows])
    else:
        o = sums.of(x, r * h, rows) + added[rows]
    sums.note(added)
    return (1 - z) * _apply(activation, o) + z * h, None


def _lstm_step(sums, x, h, c, activation="tanh", recurrent_activation="sigmoid", cell_activation="tanh", peephole=None,
               clip=None):
    n = len(h)
    p_i, p_f, p_o = np.split(_exact(np.zeros(3 * n) if peephole is None else peephole), 3)
    i, f, o, z = np.split(sums.of(x, h), 4)
    if clip is not None:
        z = np.array([min(max(value, -mpmath.mpf(float(clip))), mpmath.mpf(float(clip))) for value in z], dtype=object)
    i, f = _apply(recurrent_activation, i + p_i * c), _apply(recurrent_activation, f + p_f * c)
    c = f * c + i * _apply(cell_activation, z)
    sums.note(abs(p_i * c), abs(p_f * c), abs(p_o * c), abs(c))
    return _apply(recurrent_activation, o + p_o * c) * _apply(activation, c), c


STEPS = {"rnn": (_rnn_step, 1), "gru": (_gru_step, 3), "lstm": (_lstm_step, 4)}


def _direction(op, inputs, weights, columns, backwards, parameters):
    """The states after each step of `x`, the last `h` and `c`, and the largest sum of magnitudes."""
    x = _exact(inputs["x"])
    step, _ = STEPS[op]
    states, last_h, last_c, largest = [[] for _ in x], [], [], mpmath.mpf(0)
    for element in range(x.shape[1]):
        sums = _Sums(*(weights.get(key) for key in ("weight_ih", "weight_hh", "bias")))
        h = _exact(inputs["initial_h"])[element][columns]
        c = _exact(inputs["initial_c"])[element][columns] if op == "lstm" else None
        more = {key: weights[key] for key in ("peephole", "input_bias") if key in weights}
        for time in (reversed(range(len(x))) if backwards else range(len(x))):
            h, c = step(sums, x[time, element], h, c, **parameters, **more)
            states[time].append(h)
        last_h.append(h)
        last_c.append(c)
        largest = max([largest, sums.largest, *(abs(value) for value in h)])
    return np.array(states), np.array(last_h), np.array(last_c), largest


def _reference(op, inputs, weights, direction="forward", output_sequence=False, **parameters):
    n = inputs["initial_h"].shape[1] // (2 if direction == "bidirectional" else 1)
    forward = {key: value for key, value in weights.items() if not key.endswith("_back")}
    backward = {key.removesuffix("_back"): value for key, value in weights.items() if key.endswith("_back")}
    runs = [_direction(op, inputs, forward, slice(0, n), direction == "reverse", parameters)]
    if direction == "bidirectional":
        runs.append(_direction(op, inputs, backward, slice(n, 2 * n), True, parameters))
    states = np.concatenate([run[0] for run in runs], -1)
    h = np.concatenate([run[1] for run in runs], -1)
    results = [states if output_sequence else h[None], h]
    if op == "lstm":
        results.append(np.concatenate([run[2] for run in runs], -1))
    largest = float(max(run[3] for run in runs))
    results = [result.astype(np.float64) for result in results]
    return results, [np.full(result.shape, 1 + largest) for result in results]


def _torch(op, inputs, weights, direction="forward", output_sequence=False, activation="tanh", reset_after=False,
           recurrent_activation="sigmoid", cell_activation="tanh", clip=None):
    """PyTorch's results in f64, for what it has; gates are in another order there, and it has no `reverse`."""
    plain = recurrent_activation == "sigmoid" and cell_activation == "tanh" and clip is None and "peephole" not in weights
    usual = activation == "tanh" or (op == "rnn" and activation == "relu")
    if not (plain and usual) or (op == "gru" and not reset_after):
        return None
    order = {"rnn": [0], "gru": [0, 2, 1], "lstm": [0, 1, 3, 2]}[op]
    both = direction == "bidirectional"
    flip = (lambda x: x[::-1].copy()) if direction == "reverse" else (lambda x: x)
    x = torch.from_numpy(flip(f64(inputs["x"])))
    units = weights["weight_hh"].shape[1]
    kind = {"rnn": torch.nn.RNN, "gru": torch.nn.GRU, "lstm": torch.nn.LSTM}[op]
    keywords = {"nonlinearity": activation} if op == "rnn" else {}
    layer = kind(x.shape[2], units, bidirectional=both, dtype=torch.float64, **keywords)

    def arranged(value):
        parts = np.split(f64(value), len(order))
        return torch.from_numpy(np.concatenate([parts[i] for i in order]))

    with torch.no_grad():
        for mine, theirs in [("", "_l0"), *([("_back", "_l0_reverse")] if both else [])]:
            getattr(layer, "weight_ih" + theirs).copy_(arranged(weights["weight_ih" + mine]))
            getattr(layer, "weight_hh" + theirs).copy_(arranged(weights["weight_hh" + mine]))
            zeros = np.zeros(len(order) * units)
            getattr(layer, "bias_ih" + theirs).copy_(arranged(weights.get("input_bias" + mine, zeros)))
            getattr(layer, "bias_hh" + theirs).copy_(arranged(weights.get("bias" + mine, zeros)))
        split = [torch.from_numpy(np.stack(np.split(f64(inputs[key]), 2 if both else 1, 1)))
                 for key in ("initial_h", "initial_c") if key in inputs]
        states, last = layer(x, tuple(split) if op == "lstm" else split[0])
    last = [np.concatenate(list(value.numpy()), -1) for value in (last if op == "lstm" else [last])]
    return [flip(states.numpy()) if output_sequence else last[0][None], *last]


def _case(op, label, sizes, *, dtype=np.float32, opset="ios18", bias=True, more=(), literal=False, **parameters):
    """`sizes` are s, b, I and H; `more` names further weights."""
    name = f"{op}_{label}"
    steps, batch, features, units = sizes
    both = parameters.get("direction") == "bidirectional"
    states = [batch, units * (2 if both else 1)]
    inputs = {"x": draw(name + ".x", [steps, batch, features], dtype, -2, 2),
              "initial_h": draw(name + ".initial_h", states, dtype, -1, 1)}
    if op == "lstm":
        inputs["initial_c"] = draw(name + ".initial_c", states, dtype, -1, 1)
    gates = STEPS[op][1]
    shapes = {"weight_ih": [gates * units, features], "weight_hh": [gates * units, units]}
    shapes |= {"bias": [gates * units]} if bias else {}
    shapes |= {key: [(3 if key == "peephole" else gates) * units] for key in more}
    if both:
        shapes |= {f"{key}_back": shape for key, shape in shapes.items()}
    weights = {key: draw(f"{name}.{key}", shape, dtype, -1, 1) for key, shape in shapes.items()}
    want, magnitude = _reference(op, inputs, weights, **parameters)
    other = _torch(op, inputs, weights, **parameters)
    for mine, theirs in zip(want, other or []):
        assert np.allclose(mine, theirs, rtol=1e-12, atol=1e-12), f"{name}: torch"
    args = {**weights, **{key: Inline(value) if literal else value for key, value in parameters.items()}}
    if "clip" in args:
        args["clip"] = dtype(args["clip"])
    return Case(op, name, inputs, args, want, magnitude=magnitude, opset=opset, source="mpmath",
                torch_value=None if other is None else other[0])


def _rnn_cases():
    sizes = [4, 2, 3, 5]
    activations = [("relu", "relu"), ("sigmoid", "sigmoid"), ("linear", "linear"), ("scaled_tanh", "scaled_tanh"),
                   ("sigmoid_hard", "sigmoid_hard"), ("hard_sigmoid", "hard_sigmoid")]
    return [
        _case("rnn", "defaults", sizes),
        _case("rnn", "sequence", sizes, output_sequence=True),
        _case("rnn", "reverse", sizes, direction="reverse", output_sequence=True),
        _case("rnn", "reverse_last", sizes, direction="reverse"),
        _case("rnn", "without_bias", sizes, bias=False, output_sequence=True),
        _case("rnn", "fp16", sizes, dtype=np.float16, output_sequence=True),
        _case("rnn", "one_step", [1, 1, 2, 3], output_sequence=True),
        _case("rnn", "wide", [3, 2, 17, 20], output_sequence=True),
        _case("rnn", "literals", sizes, literal=True, output_sequence=True, activation="tanh", direction="forward"),
        _case("rnn", "ios15", sizes, opset="ios15", output_sequence=True),
        *[_case("rnn", label, [3, 2, 2, 3], activation=name, output_sequence=True) for label, name in activations],
    ]


def _gru_cases():
    sizes = [4, 2, 3, 5]
    after = {"reset_after": True, "more": ("input_bias",)}
    return [
        _case("gru", "defaults", sizes),
        _case("gru", "sequence", sizes, output_sequence=True),
        _case("gru", "reverse", sizes, direction="reverse", output_sequence=True),
        _case("gru", "without_bias", sizes, bias=False, output_sequence=True),
        _case("gru", "fp16", sizes, dtype=np.float16, output_sequence=True, opset="ios17"),
        _case("gru", "one_step", [1, 1, 2, 3]),
        _case("gru", "wide", [3, 2, 17, 20], output_sequence=True),
        _case("gru", "input_bias", sizes, more=("input_bias",), output_sequence=True),
        _case("gru", "reset_after", sizes, output_sequence=True, **after),
        _case("gru", "reset_after_last", sizes, **after),
        _case("gru", "reset_after_reverse", sizes, output_sequence=True, direction="reverse", **after),
        _case("gru", "reset_after_without_bias", sizes, output_sequence=True, bias=False, reset_after=True),
        _case("gru", "reset_after_fp16", sizes, output_sequence=True, dtype=np.float16, **after),
        _case("gru", "activations", sizes, output_sequence=True, recurrent_activation="hard_sigmoid",
              activation="relu"),
        _case("gru", "reset_after_activations", [3, 2, 2, 3], output_sequence=True, recurrent_activation="sigmoid_hard",
              activation="sigmoid", **after),
        _case("gru", "ios15", sizes, opset="ios15", output_sequence=True),
    ]


def _lstm_cases():
    sizes = [4, 2, 3, 5]
    activations = {"recurrent_activation": "hard_sigmoid", "cell_activation": "relu", "activation": "linear"}
    return [
        _case("lstm", "defaults", sizes),
        _case("lstm", "sequence", sizes, output_sequence=True),
        _case("lstm", "reverse", sizes, direction="reverse", output_sequence=True),
        _case("lstm", "reverse_last", sizes, direction="reverse"),
        _case("lstm", "bidirectional", sizes, direction="bidirectional", output_sequence=True),
        _case("lstm", "bidirectional_last", sizes, direction="bidirectional"),
        _case("lstm", "bidirectional_without_bias", sizes, direction="bidirectional", bias=False, output_sequence=True),
        _case("lstm", "bidirectional_peephole", [3, 2, 2, 3], direction="bidirectional", more=("peephole",),
              output_sequence=True),
        _case("lstm", "without_bias", sizes, bias=False, output_sequence=True),
        _case("lstm", "fp16", sizes, dtype=np.float16, output_sequence=True),
        _case("lstm", "bidirectional_fp16", sizes, dtype=np.float16, direction="bidirectional", output_sequence=True,
              opset="ios17"),
        _case("lstm", "one_step", [1, 1, 2, 3], output_sequence=True),
        _case("lstm", "wide", [3, 2, 17, 20], output_sequence=True),
        _case("lstm", "peephole", sizes, more=("peephole",), output_sequence=True),
        _case("lstm", "clip", sizes, clip=0.5, output_sequence=True),
        _case("lstm", "clip_fp16", sizes, clip=0.25, dtype=np.float16, direction="reverse", output_sequence=True),
        _case("lstm", "activations", sizes, output_sequence=True, **activations),
        _case("lstm", "other_activations", sizes, output_sequence=True, recurrent_activation="sigmoid",
              cell_activation="scaled_tanh", activation="sigmoid"),
        _case("lstm", "capitals", [2, 1, 2, 3], recurrent_activation="SIGMOID", cell_activation="Tanh"),
        _case("lstm", "ios15", sizes, opset="ios15", output_sequence=True),
    ]


def files():
    yield "rnn", "1.3", _rnn_cases()
    yield "gru", "1.3", _gru_cases()
    yield "lstm", "1.3", _lstm_cases()
