#!/usr/bin/env python3
"""Writes the op case files tests/ops/<op>.mil and tests/ops/<op>.json; ../README.md describes them.

    pip install coremltools==9.0 numpy torch
    python tests/ops/generate.py            # writes every file
    python tests/ops/generate.py --check    # exits 1 if a committed file differs, is missing or is stale

Independent of the Rust code: declared types are coremltools' type inference, results are computed exactly
or to 50 digits and rounded once to f64, and compared with coremltools' value inference where it has one.
Running it twice gives the same bytes: inputs are seeded by the case's name, sums are exact, and
transcendental functions come from mpmath (a dependency of coremltools), not from the machine's libm.
"""

import argparse
import logging
import os
import sys
import warnings
from pathlib import Path

warnings.filterwarnings("ignore")
os.environ.setdefault("OMP_NUM_THREADS", "1")
logging.disable(logging.WARNING)
sys.path.insert(0, str(Path(__file__).parent))
sys.dont_write_bytecode = True

from generator import FAMILIES, case  # noqa: E402


def generated():
    """Maps file names to contents. A family yields (file stem, dialect, cases)."""
    files = {}
    for family in FAMILIES:
        for stem, dialect, cases in family.files():
            assert f"{stem}.mil" not in files, f"{stem} is generated twice"
            files[f"{stem}.mil"], files[f"{stem}.json"] = case.render(cases, dialect)
    return files


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare with the files instead of writing them")
    check = parser.parse_args().check
    directory = Path(__file__).parent
    files = generated()
    present = {path.name for pattern in ("*.mil", "*.json") for path in directory.glob(pattern)}
    wrong = sorted(present - files.keys())
    for name, content in sorted(files.items()):
        if not check:
            (directory / name).write_text(content)
        elif name not in present or (directory / name).read_text() != content:
            wrong.append(name)
    for name in wrong:
        problem = "differs" if name in files else "is not written by this script"
        print(f"{name} {problem}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
