#!/usr/bin/env python3
"""Makes Core ML packages of published architectures, and compares what they compute here with PyTorch.

    pip install -r tests/models/requirements.txt
    python tests/models/compare.py [--only NAME ...] [--paths P,Q] target/release/anemone
    python tests/models/compare.py --packages       # rewrites the small ones that the tests read without Python

For each network (networks.py), in fp32 and fp16, some with compressed weights, flexible shapes or two functions: `run` on
`eval` and on every path of `cpu` must be within 1e-4 (fp32) of PyTorch's results, relative to the largest value of each;
in fp16 within 2e-2, and within twice what `eval` is off, which rounds once per op. And every package goes through text, a
compiled model and a single file and back, and must be what it was. Exit status 1 when anything differs.
"""
import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import warnings

warnings.filterwarnings("ignore")
sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "coreml"))

import numpy as np  # noqa: E402

import conversions  # noqa: E402
from networks import NETWORKS  # noqa: E402
from packages import round_trip  # noqa: E402

ALLOWED = {"fp32": 1e-4, "fp16": 2e-2}


def off(found, expected):
    """The largest difference, relative to the largest value."""
    if found.shape != expected.shape:
        return float("inf")
    if expected.size == 0:
        return 0.0
    difference = np.abs(found.astype(np.float64) - expected.astype(np.float64)).max()
    return float("inf") if np.isnan(difference) else float(difference / max(np.abs(expected).max(), 1e-30))


def output_names(package, function):
    import coremltools as ct
    description = ct.utils.load_spec(str(package)).description
    parts = {part.name: part for part in description.functions}
    return [output.name for output in (parts[function] if function else description).output]


def predicted(anemone, case, runtime, path):
    """How far the command's results are from PyTorch's; the largest of all results and states."""
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        command = [anemone, "run", case.package, "--output", folder / "out", "--runtime", runtime, "--quiet"]
        if case.function:
            command += ["--function", case.function]
        for name, value in {**case.inputs, **(case.states or {})}.items():
            np.save(folder / f"{name}.npy", value)
            command += ["--input", f"{name}={folder / name}.npy"]
        environment = {**os.environ, **({"ANEMONE_CPU_PATH": path} if path else {})}
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        if done.returncode:
            raise RuntimeError(done.stderr.strip())
        expected = dict(zip(output_names(case.package, case.function), case.expected, strict=True))
        expected.update(case.states_after or {})
        return max(off(np.load(folder / "out" / f"{name}.npy"), value) for name, value in expected.items())


def faults_of(anemone, case, paths):
    """What is wrong with the predictions of a package, and a line that says how far they are off."""
    line, faults = [], []
    reference = predicted(anemone, case, "eval", None)
    for runtime, path in [("eval", None), *(("cpu", path) for path in paths)]:
        error = reference if runtime == "eval" else predicted(anemone, case, runtime, path)
        line.append(f"{path or runtime} {error:.1e}")
        allowed = ALLOWED[case.precision]
        if case.precision == "fp16" and runtime == "cpu":
            allowed = min(allowed, 2 * reference)
        if not error <= allowed:
            faults.append(f"{path or runtime} is off by {error:.1e} of {allowed:.1e}")
    return ", ".join(line), faults


def compared(anemone, name, paths):
    """Compares all packages of a network; the number of those with faults."""
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        seen = set()
        for case in conversions.cases(name, folder):
            try:
                line, faults = faults_of(anemone, case, paths)
                if case.package not in seen:
                    seen.add(case.package)
                    with tempfile.TemporaryDirectory() as forms:
                        faults += round_trip(anemone, case.package, pathlib.Path(forms))
            except RuntimeError as error:
                line, faults = "", [str(error)]
            print(f"{case.name}: {line} {'; '.join(faults) or 'ok'}", flush=True)
            failed += bool(faults)
    return failed


def listed(values):
    return {name: {"shape": list(value.shape), "data": [float(number) for number in value.flatten()]} for name, value in values.items()}


def make_packages(names):
    """Rewrites the packages of few weights that the tests read, with their cases beside them."""
    directory = pathlib.Path(__file__).parent / "packages"
    directory.mkdir(exist_ok=True)
    for name in names:
        for precision, tolerance in ALLOWED.items():
            with tempfile.TemporaryDirectory() as folder:
                case = conversions.plain(name, precision, pathlib.Path(folder), small=True)
                target = directory / case.package.name
                shutil.rmtree(target, ignore_errors=True)
                shutil.copytree(case.package, target)
            results = dict(zip(output_names(target, None), case.expected, strict=True))
            content = {"tolerance": tolerance, "inputs": listed(case.inputs), "states": listed(case.states),
                       "states_after": listed(case.states_after), "results": listed(results)}
            target.with_suffix(".json").write_text(json.dumps(content) + "\n")
            print(target)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=NETWORKS, default=list(NETWORKS), metavar="NAME", help="of " + ", ".join(NETWORKS))
    parser.add_argument("--paths", type=lambda text: text.split(","), default=[None], help="instruction paths of `cpu`; the fastest by itself")
    parser.add_argument("--packages", action="store_true", help="rewrite the packages beside this file")
    parser.add_argument("anemone", nargs="?")
    given = parser.parse_args()
    if given.packages:
        return make_packages(name for name in given.only if NETWORKS[name][1].get("small"))
    if not given.anemone:
        parser.error("give the command, as `target/release/anemone`")
    failed = 0
    for name in given.only:
        try:
            failed += compared(given.anemone, name, given.paths)
        except Exception as error:  # a conversion that fails is a fault of its own, and not the end
            print(f"{name}: not converted: {type(error).__name__}: {error}", flush=True)
            failed += 1
    print(f"{failed} failed" if failed else "all agree")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
