#!/usr/bin/env python3
"""Compares our weight blobs with those of coremltools, both ways.

Usage: interop.py HELPER, where HELPER is the built example `blob_interop` of anemone-mil.
Needs `pip install coremltools numpy`. Writes only into a temporary directory. `.ci/interop` does all of it.

coremltools' own C++ reader and writer (`coremltools.libmilstoragepython`) are the oracle, for the 14 element
types that their Python side offers; bf16 and fp8 it does not. Checked, for all of them, odd lengths and many
blobs in a file included:
  - coremltools reads every blob that we wrote, and each value has the expected bits;
  - we read every blob that coremltools wrote, likewise;
  - given the same blobs both write the same bytes, so every field of header and records agrees.
"""

import logging
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

# Importing coremltools warns of parts that exist only on a Mac; none is used here.
logging.disable(logging.WARNING)

from coremltools.libmilstoragepython import _BlobStorageReader as Reader
from coremltools.libmilstoragepython import _BlobStorageWriter as Writer

# Name: code in a record, bits of a value, how numpy stores it, what coremltools calls it. In the helper's order.
DTYPES = {
    "fp16": (1, 16, np.uint16, "fp16"),
    "fp32": (2, 32, np.float32, "float"),
    "uint8": (3, 8, np.uint8, "uint8"),
    "int8": (4, 8, np.int8, "int8"),
    "int16": (6, 16, np.int16, "int16"),
    "uint16": (7, 16, np.uint16, "uint16"),
    "int4": (8, 4, np.int8, "int4"),
    "uint1": (9, 1, np.uint8, "uint1"),
    "uint2": (10, 2, np.uint8, "uint2"),
    "uint4": (11, 4, np.uint8, "uint4"),
    "uint3": (12, 3, np.uint8, "uint3"),
    "uint6": (13, 6, np.uint8, "uint6"),
    "int32": (14, 32, np.int32, "int32"),
    "uint32": (15, 32, np.uint32, "uint32"),
}
COUNTS = [1, 2, 3, 4, 5, 6, 7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 65, 127, 1001, 40_003]


def values(dtype, count):
    """The values of a blob: the lowest bits of `raw`, which the helper computes alike."""
    code, bits, stored, _ = DTYPES[dtype]
    x = (np.arange(1, count + 1, dtype=np.uint64) * np.uint64(2654435761) + np.uint64(code * 40503)) & np.uint64(
        0xFFFFFFFF
    )
    raw = x ^ (x >> np.uint64(15))
    low = raw & np.uint64((1 << bits) - 1)
    if dtype == "int4":
        low = np.where(low >= 8, low + np.uint64(256 - 16), low)
    width = np.dtype(stored).itemsize * 8
    return low.astype(f"uint{width}").view(stored)


def files():
    """The blobs of each file: one file per element type with all counts, and one with every type and count."""
    result = [(f"{dtype}.bin", [(dtype, count) for count in COUNTS]) for dtype in DTYPES]
    result.append(("mixed.bin", [(dtype, count) for count in COUNTS for dtype in DTYPES]))
    return result


def write(directory):
    """Writes the files as coremltools does."""
    lines = []
    for name, blobs in files():
        writer = Writer(str(directory / name))
        for dtype, count in blobs:
            offset = getattr(writer, f"write_{DTYPES[dtype][3]}_data")(values(dtype, count))
            lines.append(f"{name} {dtype} {count} {offset}")
        del writer  # completes the file
    (directory / "manifest.txt").write_text("".join(line + "\n" for line in lines))


def check(directory):
    """Reads the files that the manifest lists as coremltools does; returns what is wrong."""
    wrong = []
    lines = (directory / "manifest.txt").read_text().splitlines()
    expected = [(name, dtype, count) for name, blobs in files() for dtype, count in blobs]
    if len(lines) != len(expected):
        return [f"{len(lines)} blobs in the manifest, expected {len(expected)}"]
    for line, (name, dtype, count) in zip(lines, expected):
        *found, offset = line.split()
        if found != [name, dtype, str(count)]:
            wrong.append(f"found blob `{line}`, expected {name} {dtype} {count}")
            continue
        read = getattr(Reader(str(directory / name)), f"read_{DTYPES[dtype][3]}_data")(int(offset))
        if read.dtype != DTYPES[dtype][2] or read.tobytes() != values(dtype, count).tobytes():
            wrong.append(f"{line}: coremltools reads other values")
    return wrong


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    helper = Path(sys.argv[1]).resolve()
    wrong = []
    with tempfile.TemporaryDirectory() as temporary:
        ours, theirs = Path(temporary, "ours"), Path(temporary, "theirs")
        ours.mkdir()
        theirs.mkdir()
        subprocess.run([helper, "write", ours], check=True)
        wrong += check(ours)
        write(theirs)
        wrong += check(theirs)
        if subprocess.run([helper, "check", theirs]).returncode != 0:
            wrong.append("we refuse, or misread, what coremltools wrote")
        for name in [name for name, _ in files()] + ["manifest.txt"]:
            if (ours / name).read_bytes() != (theirs / name).read_bytes():
                wrong.append(f"{name}: the two writers' files differ")
    for line in wrong:
        print(f"interop: {line}", file=sys.stderr)
    blobs = sum(len(blobs) for _, blobs in files())
    print(f"interop: {blobs} blobs of {len(DTYPES)} element types in {len(files())} files, {len(wrong)} faults")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
