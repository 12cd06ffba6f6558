#!/usr/bin/env python3
"""Writes the cases of this directory: programs, and the gradients that PyTorch's autograd finds in float64.

    pip install torch
    python tests/grad/generate.py            # rewrite all files
    python tests/grad/generate.py --check    # exit status 1 if a committed file differs

<case>.mil is a program in fp32; every number in it and in <case>.json is exact in fp16, too. <case>.json holds

  inputs       by name, in the function's order: dtype, shape, data
  cotangents   by the name of the result: the gradient of the result
  gradients    by name, of inputs and constants: the gradient that must come out
"""
import argparse
import json
import pathlib
import random
import sys

import torch

HERE = pathlib.Path(__file__).parent


class Case:
    """A program as it is written, with its values in float64."""

    def __init__(self, name):
        self.name = name
        self.random = random.Random(name)
        self.inputs, self.constants, self.lines = {}, {}, []

    def values(self, shape, low=-1.0, high=1.0):
        """Multiples of 1/64."""
        count = torch.Size(shape).numel()
        data = [self.random.randint(round(low * 64), round(high * 64)) / 64 for _ in range(count)]
        return torch.tensor(data, dtype=torch.float64).reshape(shape)

    def input(self, name, shape, **between):
        self.inputs[name] = self.values(shape, **between).requires_grad_()
        return self.inputs[name]

    def ids(self, name, shape, bound):
        data = [self.random.randrange(bound) for _ in range(torch.Size(shape).numel())]
        self.inputs[name] = torch.tensor(data).reshape(shape)
        return self.inputs[name]

    def constant(self, name, shape, **between):
        value = self.values(shape, **between).requires_grad_()
        self.constants[name] = value
        self.lines.append(f"{mil_type(value)} {name} = const()[name = string(\"{name}\"), val = {mil_value(value)}];")
        return value

    def mask(self, name, value):
        shape = list(value.shape)
        text = str(value.tolist()).lower()
        self.lines.append(f"tensor<bool, {shape}> {name} = const()[name = string(\"{name}\"), "
                          f"val = tensor<bool, {shape}>({text})];")

    def op(self, name, shape, text):
        """A statement; `shape` is that of its result, or of several."""
        names, shapes = (name, shape) if isinstance(name, tuple) else ((name,), (shape,))
        types = ", ".join(f"tensor<fp32, {list(s)}> {n}" for n, s in zip(names, shapes))
        self.lines.append(f"{types} = {text}[name = string(\"{names[0]}\")];")

    def files(self, **outputs):
        """The case's files, by name, with these results."""
        program = "program(1.3)\n{\n"
        inputs = ", ".join(f"{mil_type(value)} {name}" for name, value in self.inputs.items())
        program += f"    func main<ios18>({inputs}) {{\n"
        program += "".join(f"            {line}\n" for line in self.lines)
        program += f"        }} -> ({', '.join(outputs)});\n}}\n"
        cotangents = {name: self.values(value.shape) for name, value in outputs.items()}
        sum((value * cotangents[name]).sum() for name, value in outputs.items()).backward()
        variables = {n: v for n, v in {**self.inputs, **self.constants}.items() if v.requires_grad}
        described = {
            "inputs": {name: describe(value) for name, value in self.inputs.items()},
            "cotangents": {name: describe(value) for name, value in cotangents.items()},
            "gradients": {name: describe(value.grad) for name, value in variables.items()},
        }
        return {f"{self.name}.mil": program, f"{self.name}.json": json.dumps(described, indent=1) + "\n"}


def mil_type(value):
    return f"tensor<{'fp32' if value.is_floating_point() else 'int32'}, {list(value.shape)}>"


def mil_value(value):
    return f"{mil_type(value)}({value.tolist()})"


def describe(value):
    dtype = "fp32" if value.is_floating_point() else "int32"
    return {"dtype": dtype, "shape": list(value.shape), "data": value.detach().flatten().tolist()}


def ints(values):
    return f"tensor<int32, [{len(values)}]>({list(values)})"


def conv_text(x, weight, strides=(1, 1), pad_type="valid", pad=(0, 0, 0, 0), dilations=(1, 1), groups=1, bias=None):
    given = f"bias = {bias}, " if bias else ""
    return (f"conv({given}dilations = {ints(dilations)}, groups = int32({groups}), pad = {ints(pad)}, "
            f"pad_type = string(\"{pad_type}\"), strides = {ints(strides)}, weight = {weight}, x = {x})")


def batch_norm_text(x, name):
    return (f"batch_norm(beta = {name}_beta, epsilon = fp32(0.0009765625), gamma = {name}_gamma, mean = {name}_mean, "
            f"variance = {name}_variance, x = {x})")


def batch_norm(case, name, channels):
    """The parameters of a batch norm as constants, and the function."""
    mean, gamma, beta = (case.constant(f"{name}_{part}", [channels]) for part in ("mean", "gamma", "beta"))
    variance = case.constant(f"{name}_variance", [channels], low=0.5, high=2.0)
    column = lambda value: value.reshape(1, -1, 1, 1)
    return lambda x: (x - column(mean)) / (column(variance) + 2**-10).sqrt() * column(gamma) + column(beta)


def attention():
    """Grouped queries (4 heads, 2 of keys and values) with a causal mask."""
    case = Case("attention")
    x = case.input("x", [1, 5, 8])
    wq, wk = case.constant("wq", [16, 8]), case.constant("wk", [8, 8])
    wv, wo = case.constant("wv", [8, 8]), case.constant("wo", [8, 16])
    causal = torch.tril(torch.ones(5, 5, dtype=torch.bool))
    case.mask("causal", causal)
    case.op("q0", [1, 5, 16], "linear(weight = wq, x = x)")
    case.op("q1", [1, 5, 2, 2, 4], f"reshape(shape = {ints([1, 5, 2, 2, 4])}, x = q0)")
    case.op("q", [1, 2, 2, 5, 4], f"transpose(perm = {ints([0, 2, 3, 1, 4])}, x = q1)")
    for name in "kv":
        case.op(f"{name}0", [1, 5, 8], f"linear(weight = w{name}, x = x)")
        case.op(f"{name}1", [1, 5, 2, 1, 4], f"reshape(shape = {ints([1, 5, 2, 1, 4])}, x = {name}0)")
        case.op(name, [1, 2, 1, 5, 4], f"transpose(perm = {ints([0, 2, 3, 1, 4])}, x = {name}1)")
    case.op("dots", [1, 2, 2, 5, 5], "matmul(transpose_x = bool(false), transpose_y = bool(true), x = q, y = k)")
    case.op("scaled", [1, 2, 2, 5, 5], "mul(x = dots, y = fp32(0.5))")
    case.op("masked", [1, 2, 2, 5, 5], "select(a = scaled, b = fp32(-10000.0), cond = causal)")
    case.op("p", [1, 2, 2, 5, 5], "softmax(axis = int32(-1), x = masked)")
    case.op("heads", [1, 2, 2, 5, 4], "matmul(transpose_x = bool(false), transpose_y = bool(false), x = p, y = v)")
    case.op("rows", [1, 5, 2, 2, 4], f"transpose(perm = {ints([0, 3, 1, 2, 4])}, x = heads)")
    case.op("joined", [1, 5, 16], f"reshape(shape = {ints([1, 5, 16])}, x = rows)")
    case.op("y", [1, 5, 8], "linear(weight = wo, x = joined)")
    q = (x @ wq.T).reshape(1, 5, 2, 2, 4).permute(0, 2, 3, 1, 4)
    k, v = ((x @ w.T).reshape(1, 5, 2, 1, 4).permute(0, 2, 3, 1, 4) for w in (wk, wv))
    p = torch.softmax((q @ k.mT * 0.5).masked_fill(~causal, -10000.0), -1)
    return case.files(y=(p @ v).permute(0, 3, 1, 2, 4).reshape(1, 5, 16) @ wo.T)


def swiglu():
    case = Case("swiglu")
    x, up, gate = case.input("x", [4, 6]), case.input("up", [6, 10]), case.input("gate", [6, 10])
    down = case.constant("down", [6, 10])
    product = "matmul(transpose_x = bool(false), transpose_y = bool(false), "
    case.op("u", [4, 10], product + "x = x, y = up)")
    case.op("g", [4, 10], product + "x = x, y = gate)")
    case.op("s", [4, 10], "silu(x = g)")
    case.op("h", [4, 10], "mul(x = s, y = u)")
    case.op("y", [4, 6], "linear(weight = down, x = h)")
    return case.files(y=torch.nn.functional.silu(x @ gate) * (x @ up) @ down.T)


def layer_norm():
    """Over the last axis with gain and bias, then over two axes without."""
    case = Case("layer_norm")
    x = case.input("x", [3, 4, 6], low=-2.0, high=2.0)
    gamma, beta = case.constant("gamma", [6]), case.constant("beta", [6])
    epsilon = "epsilon = fp32(0.0009765625)"
    case.op("n", [3, 4, 6], f"layer_norm(axes = {ints([-1])}, beta = beta, {epsilon}, gamma = gamma, x = x)")
    case.op("t", [3, 4, 6], "add(x = n, y = x)")
    case.op("y", [3, 4, 6], f"layer_norm(axes = {ints([0, 2])}, {epsilon}, x = t)")
    t = torch.nn.functional.layer_norm(x, [6], gamma, beta, 2**-10) + x
    variance = t.var((0, 2), correction=0, keepdim=True)
    return case.files(y=(t - t.mean((0, 2), keepdim=True)) / (variance + 2**-10).sqrt())


def conv_net():
    """Strides, padding, dilation, groups and batch norm."""
    case = Case("conv_net")
    x = case.input("x", [2, 4, 8, 7])
    w1, b1 = case.constant("w1", [6, 2, 3, 3]), case.constant("b1", [6])
    norm = batch_norm(case, "norm", 6)
    w2, w3 = case.constant("w2", [4, 6, 2, 2]), case.constant("w3", [3, 4, 1, 1])
    case.op("c1", [2, 6, 4, 3], conv_text("x", "w1", (2, 2), "custom", (1, 1, 0, 1), groups=2, bias="b1"))
    case.op("n1", [2, 6, 4, 3], batch_norm_text("c1", "norm"))
    case.op("r1", [2, 6, 4, 3], "relu(x = n1)")
    case.op("c2", [2, 4, 4, 3], conv_text("r1", "w2", pad_type="same", dilations=(2, 2)))
    case.op("t2", [2, 4, 4, 3], "tanh(x = c2)")
    case.op("c3", [2, 3, 4, 3], conv_text("t2", "w3"))
    case.op("y", [2, 3], f"reduce_mean(axes = {ints([2, 3])}, keep_dims = bool(false), x = c3)")
    conv, pad = torch.nn.functional.conv2d, torch.nn.functional.pad
    h = torch.relu(norm(conv(pad(x, (0, 1, 1, 1)), w1, b1, stride=2, groups=2)))
    h = torch.tanh(conv(pad(h, (1, 1, 1, 1)), w2, dilation=2))
    return case.files(y=conv(h, w3).mean((2, 3)))


def embedding():
    """Rows of a table by position, some of them more than once, with a vector per place."""
    case = Case("embedding")
    ids, table, places = case.ids("ids", [2, 6], 7), case.input("table", [7, 4]), case.constant("places", [6, 4])
    case.op("rows", [2, 6, 4], "gather(axis = int32(0), batch_dims = int32(0), indices = ids, "
                               "validate_indices = bool(false), x = table)")
    case.op("sum", [2, 6, 4], "add(x = rows, y = places)")
    case.op("y", [2, 6, 4], "square(x = sum)")
    return case.files(y=(table[ids] + places).square())


def cross_entropy():
    """The mean of `log Σ exp(x − m) + m − x[target]`, with a gradient through the largest, too."""
    case = Case("cross_entropy")
    x, targets = case.input("x", [5, 9], low=-4.0, high=4.0), case.ids("targets", [5, 1], 9)
    keep = f"axes = {ints([1])}, keep_dims = bool(true)"
    case.op("m", [5, 1], f"reduce_max({keep}, x = x)")
    case.op("shifted", [5, 9], "sub(x = x, y = m)")
    case.op("e", [5, 9], "exp(x = shifted)")
    case.op("total", [5, 1], f"reduce_sum({keep}, x = e)")
    case.op("l", [5, 1], "log(epsilon = fp32(0.0), x = total)")
    case.op("chosen", [5, 1], "gather_along_axis(axis = int32(1), indices = targets, validate_indices = bool(false), "
                              "x = shifted)")
    case.op("each", [5, 1], "sub(x = l, y = chosen)")
    case.op("loss", [1], f"reduce_mean(axes = {ints([0])}, keep_dims = bool(false), x = each)")
    return case.files(loss=torch.nn.functional.cross_entropy(x, targets[:, 0]).reshape(1))


def separable():
    """A depth-wise convolution, then one at each place, around it the input itself."""
    case = Case("separable")
    x = case.input("x", [2, 6, 5, 4])
    deep, bias = case.constant("deep", [6, 1, 3, 3]), case.constant("bias", [6])
    norm = batch_norm(case, "norm", 6)
    wide = case.constant("wide", [6, 6, 1, 1])
    case.op("d", [2, 6, 5, 4], conv_text("x", "deep", pad_type="custom", pad=(1, 1, 1, 1), groups=6, bias="bias"))
    case.op("n", [2, 6, 5, 4], batch_norm_text("d", "norm"))
    case.op("r", [2, 6, 5, 4], "clip(alpha = fp32(0.0), beta = fp32(1.0), x = n)")
    case.op("p", [2, 6, 5, 4], conv_text("r", "wide"))
    case.op("y", [2, 6, 5, 4], "add(x = p, y = x)")
    conv = torch.nn.functional.conv2d
    return case.files(y=conv(norm(conv(x, deep, bias, padding=1, groups=6)).clamp(0, 1), wide) + x)


def lstm_cell():
    case = Case("lstm_cell")
    x, h, c = case.input("x", [3, 5]), case.input("h", [3, 4]), case.input("c", [3, 4])
    wx, wh, bias = case.constant("wx", [16, 5]), case.constant("wh", [16, 4]), case.constant("bias", [16])
    case.op("a", [3, 16], "linear(bias = bias, weight = wx, x = x)")
    case.op("b", [3, 16], "linear(weight = wh, x = h)")
    case.op("gates", [3, 16], "add(x = a, y = b)")
    case.op(("i0", "f0", "g0", "o0"), [[3, 4]] * 4, "split(axis = int32(1), num_splits = int32(4), x = gates)")
    for name, function in zip("ifgo", ("sigmoid", "sigmoid", "tanh", "sigmoid")):
        case.op(name, [3, 4], f"{function}(x = {name}0)")
    case.op("kept", [3, 4], "mul(x = f, y = c)")
    case.op("new", [3, 4], "mul(x = i, y = g)")
    case.op("c1", [3, 4], "add(x = kept, y = new)")
    case.op("t", [3, 4], "tanh(x = c1)")
    case.op("h1", [3, 4], "mul(x = o, y = t)")
    zeros = torch.zeros(16, dtype=torch.float64)
    h1, c1 = torch.lstm_cell(x, (h, c), wx, wh, bias, zeros)
    return case.files(h1=h1, c1=c1)


CASES = [attention, swiglu, layer_norm, conv_net, embedding, cross_entropy, separable, lstm_cell]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    check = parser.parse_args().check
    torch.set_num_threads(1)
    differing = []
    for case in CASES:
        for name, text in case().items():
            path = HERE / name
            if check and (not path.exists() or path.read_text() != text):
                differing.append(name)
            if not check:
                path.write_text(text)
    if differing:
        sys.exit(f"these files differ: {', '.join(differing)}")


if __name__ == "__main__":
    main()
