#!/usr/bin/env python3
"""Runs the default training and holds it to what is promised: its time, and its loss beside a bigram model's.

    python .ci/training.py cargo run --release --

Exit status 1 when the run takes more than 90 s, or its validation loss is more than 0.05 nats above the bigram
model's cross entropy on the same text.
"""
import json
import subprocess
import sys
import tempfile
import time

MOST_SECONDS = 90
MOST_NATS_ABOVE = 0.05

with tempfile.TemporaryDirectory() as folder:
    start = time.monotonic()
    run = subprocess.run([*sys.argv[1:], "train", "--json", "--quiet", "--out", folder + "/run"], check=True,
                         stdout=subprocess.PIPE, text=True)
    seconds = time.monotonic() - start
lines = [json.loads(line) for line in run.stdout.splitlines()]
summary = next(line for line in lines if "validation_loss" in line)
above = summary["validation_loss"] - summary["bigram_cross_entropy"]
passed = seconds <= MOST_SECONDS and above <= MOST_NATS_ABOVE
print(f"{seconds:.1f} s, validation loss {summary['validation_loss']:.4f}, bigram {summary['bigram_cross_entropy']:.4f}")
sys.exit(not passed)
