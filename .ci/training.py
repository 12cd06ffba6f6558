#!/usr/bin/env python3
"""Runs the default training and holds it to what is promised: its time, and its loss.

    python .ci/training.py cargo run --release --

Exit status 1 when the run takes more than 120 s, or its validation loss is above 0.65 nats per byte. (An interpolated
Witten-Bell model of five bytes, counted on the same training text, has 0.7494.)
"""
import json
import subprocess
import sys
import tempfile
import time

MOST_SECONDS = 120
MOST_NATS = 0.65

with tempfile.TemporaryDirectory() as folder:
    start = time.monotonic()
    run = subprocess.run([*sys.argv[1:], "train", "--json", "--quiet", "--out", folder + "/run"], check=True,
                         stdout=subprocess.PIPE, text=True)
    seconds = time.monotonic() - start
lines = [json.loads(line) for line in run.stdout.splitlines()]
summary = next(line for line in lines if "validation_loss" in line)
passed = seconds <= MOST_SECONDS and summary["validation_loss"] <= MOST_NATS
print(f"{seconds:.1f} s, validation loss {summary['validation_loss']:.4f}")
sys.exit(not passed)
