#!/usr/bin/env python3
"""Compares the head's programs, emitted and run by `anemone`, with a float64 reference rounded once.

    python tests/head/compare.py target/release/anemone [--vocab 32000 --dim 768 --seq 256]
                                 [--runtimes cpu eval] [--dtypes fp16 fp32]

Needs `pip install numpy`, and takes PyTorch's float64 as the reference where `torch` is installed (numpy's
otherwise; the line printed says which). Checks, per runtime and dtype:

  logits, dx, dE                     |error| <= 1e-5 * sum|a||b|, and half an fp16 ulp more for fp16
  probabilities, final RMSNorm       within 4 ulp of the dtype
  final RMSNorm at x = 65504 in all places, fp16: within 4 ulp

and that every program has the operations, types and blob references of the table in the head's documentation. Exit status 1 if not.
"""
import argparse
import collections
import json
import pathlib
import re
import subprocess
import sys
import tempfile

import numpy as np

try:
    import torch
except ImportError:
    torch = None

arg = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
arg.add_argument("anemone")
arg.add_argument("--vocab", type=int, default=32000)
arg.add_argument("--dim", type=int, default=768)
arg.add_argument("--seq", type=int, default=256)
arg.add_argument("--runtimes", nargs="+", default=["cpu", "eval"])
arg.add_argument("--dtypes", nargs="+", default=["fp16", "fp32"])
options = arg.parse_args()
V, D, S = options.vocab, options.dim, options.seq
NUMPY = {"fp16": np.float16, "fp32": np.float32}
EPS = 1e-5
failures = 0


def product(a, b):
    if torch is not None:
        return (torch.from_numpy(a) @ torch.from_numpy(b)).numpy()
    return a @ b


def softmax(z):
    if torch is not None:
        return torch.softmax(torch.from_numpy(z), 0).numpy()
    e = np.exp(z - z.max(0))
    return e / e.sum(0)


def ulp(reference, dtype):
    kind = np.finfo(NUMPY[dtype])
    exponent = np.floor(np.log2(np.maximum(np.abs(reference), float(kind.smallest_normal))))
    return np.exp2(exponent - kind.nmant)


def report(what, runtime, dtype, worst, unit, limit):
    global failures
    passed = bool(worst <= limit)
    failures += not passed
    print(json.dumps(dict(what=what, runtime=runtime, dtype=dtype, worst=float(worst), unit=unit, limit=limit,
                          passed=passed)), flush=True)


def anemone(*words):
    subprocess.run([options.anemone, *map(str, words)], check=True, stdout=subprocess.PIPE)


def run(folder, program, runtime, **inputs):
    words = []
    for name, array in inputs.items():
        np.save(folder / f"{name}.npy", array)
        words += ["--input", f"{name}={folder / name}.npy"]
    anemone("run", folder / f"{program}.mil", *words, "--output", folder / "out", "--runtime", runtime)


def result(folder, name):
    return np.load(folder / "out" / f"{name}.npy")


def operations(folder, program):
    """How often each operation stands in a program, constants left out."""
    text = (folder / f"{program}.mil").read_text()
    calls = [line.split(" = ")[1].split("(")[0] for line in text.splitlines() if line.startswith(" " * 12)]
    return collections.Counter(call for call in calls if call != "const")


def check_programs(folder, dtype):
    """Operations, types and blob references of the four programs against the table."""
    global failures

    def of(*shape):
        return f"tensor<{dtype}, [{', '.join(map(str, shape))}]>"

    def blob(file):
        return f'BLOBFILE(path = string("@model_path/weights/{file}"), offset = uint64(64))'

    wanted = {
        "classifier_forward": ({"conv": 1}, [f"{of(1, D, 1, S)} xn", f"{of(1, V, 1, S)} logits = conv(",
                                             f"{of(V, D, 1, 1)}({blob('embed.bin')})"]),
        "softmax": ({"softmax": 1}, [f"{of(1, V, 1, S)} logits", f"{of(1, V, 1, S)} probabilities = softmax("]),
        "classifier_backward": ({"reshape": 2, "matmul": 1}, [
            f"{of(1, V, 1, S)} dlogits", f"{of(1, D, V)}({blob('embed_t.bin')})", f"{of(1, V, S)} ",
            f"{of(1, D, S)} ", f"{of(1, D, 1, S)} dxn = reshape("]),
        "final_rmsnorm": (None, [f"{of(1, D, 1, S)} x", f"{of(1, D, 1, 1)}({blob('rms_w.bin')})",
                                 f"{of(1, D, 1, S)} xn = mul("]),
    }
    for program, (counts, fragments) in wanted.items():
        text = (folder / f"{program}.mil").read_text()
        found = dict(operations(folder, program))
        missing = [fragment for fragment in fragments if fragment not in text]
        # The RMSNorm may have more than the table, for safety.
        right = found == counts if counts else found["reduce_sum"] == 1 and found["pow"] == 1
        passed = right and not missing and text.count("BLOBFILE") == sum("BLOBFILE" in f for f in fragments)
        failures += not passed
        print(json.dumps(dict(what=f"program {program}", operations=found, missing=missing, passed=passed)))


def write_weight_gradient(folder, dtype):
    """The program of dE, which `emit head` does not write: the one that the tests keep, at this size."""
    kept = pathlib.Path(__file__).parent.parent / "programs" / dtype / "classifier_weight_gradient.mil"
    sizes = {"1009": V, "101": D, "53": S}
    text = re.sub(r"\b(1009|101|53)\b", lambda size: str(sizes[size[0]]), kept.read_text())
    (folder / "classifier_weight_gradient.mil").write_text(text)


def rmsnorm(x, gain):
    return x * (np.mean(x * x, 0) + EPS) ** -0.5 * gain[:, None]


def check(folder, dtype, runtime):
    kind = NUMPY[dtype]
    random = np.random.default_rng(0)
    rounded = lambda a: a.astype(kind).astype(np.float64)
    embed, gain = rounded(np.load(folder / "e.npy")), rounded(np.load(folder / "g.npy"))
    x = random.standard_normal((1, D, 1, S)).astype(kind)
    wide = lambda a: a.astype(np.float64).reshape(-1, S)

    def norm_error(name, x):
        run(folder, "final_rmsnorm", runtime, x=x)
        exact = rmsnorm(wide(x), gain).astype(kind).astype(np.float64)
        error = np.abs(wide(result(folder, "xn")) - exact) / ulp(exact, dtype)
        report(name, runtime, dtype, error.max(), "ulp", 4)

    norm_error("final RMSNorm", x)
    if dtype == "fp16":
        norm_error("final RMSNorm at x = 65504", np.full_like(x, 65504))

    def product_error(name, found, a, b):
        exact = product(a, b)
        magnitude = product(np.abs(a), np.abs(b))
        allowed = 1e-5 * magnitude + (0.5 * ulp(exact, "fp16") if dtype == "fp16" else 0)
        report(name, runtime, dtype, (np.abs(found - exact) / allowed).max(), "of what is allowed", 1)

    xn = random.standard_normal((1, D, 1, S)).astype(kind)
    run(folder, "classifier_forward", runtime, xn=xn)
    logits = result(folder, "logits")
    product_error("logits", wide(logits), embed, wide(xn))

    run(folder, "softmax", runtime, logits=logits)
    exact = softmax(wide(logits)).astype(kind).astype(np.float64)
    error = np.abs(wide(result(folder, "probabilities")) - exact) / ulp(exact, dtype)
    report("probabilities", runtime, dtype, error.max(), "ulp", 4)

    dlogits = (random.standard_normal((1, V, 1, S)) * 0.01).astype(kind)
    run(folder, "classifier_backward", runtime, dlogits=dlogits)
    product_error("dx", wide(result(folder, "dxn")), np.ascontiguousarray(embed.T), wide(dlogits))

    run(folder, "classifier_weight_gradient", runtime, dlogits=dlogits, xn=xn)
    dembed = result(folder, "dembed").astype(np.float64)
    product_error("dE", dembed, wide(dlogits), np.ascontiguousarray(wide(xn).T))


def main():
    print(json.dumps(dict(reference="torch " + torch.__version__ if torch else "numpy " + np.__version__,
                          vocab=V, dim=D, seq=S)))
    random = np.random.default_rng(1)
    with tempfile.TemporaryDirectory() as root:
        for dtype in options.dtypes:
            folder = pathlib.Path(root) / dtype
            folder.mkdir()
            np.save(folder / "e.npy", (random.standard_normal((V, D)) * 0.02).astype(np.float32))
            np.save(folder / "g.npy", (1 + 0.1 * random.standard_normal(D)).astype(np.float32))
            anemone("emit", "head", "--vocab", V, "--dim", D, "--seq", S, "--dtype", dtype, "--out", folder,
                    "--embed", folder / "e.npy", "--gain", folder / "g.npy")
            check_programs(folder, dtype)
            write_weight_gradient(folder, dtype)
            for runtime in options.runtimes:
                check(folder, dtype, runtime)
    sys.exit(failures > 0)


main()
