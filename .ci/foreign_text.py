#!/usr/bin/env python3
"""Trains `tiny` on texts that nobody here wrote, with tokens learned from them, and holds the runs to what is promised of them: their
time, and a loss below that of a Witten-Bell model of five bytes, counted on the same text.

    python .ci/foreign_text.py [--only NAME] cargo run --release --

The texts are from Debian packages, a few megabytes each: the cookies of `fortunes`, and the King James Bible of
`bible-kjv-text`, which the program of `bible-kjv` prints. They are downloaded and unpacked into a temporary directory; no
root is needed, but apt with its lists, dpkg-deb and libreadline. Exit status 1 when a run takes more than 120 s, or its
validation loss is not at least 0.05 nats per byte below the 5-gram's. Not part of `.ci/run`.
"""
import json
import pathlib
import subprocess
import sys
import tempfile
import time

MOST_SECONDS = 120
LEAST_MARGIN = 0.05
STEPS = "1200"


def unpacked(folder, package):
    """Where the files of a package are, which is downloaded."""
    subprocess.run(["apt-get", "download", "-qq", package], cwd=folder, check=True, stderr=subprocess.DEVNULL)
    target = folder / package
    subprocess.run(["dpkg-deb", "-x", next(folder.glob(f"{package}_*.deb")), target], check=True)
    return target


def fortunes(folder):
    files = sorted((unpacked(folder, "fortunes") / "usr/share/games/fortunes").iterdir())
    return b"".join(file.read_bytes() for file in files if file.is_file() and file.suffix == "" and not file.is_symlink())


def bible(folder):
    data = unpacked(folder, "bible-kjv-text") / "usr/lib"
    program = unpacked(folder, "bible-kjv") / "usr/bin/bible"
    return subprocess.run([program, "-f", "-l", "-p", data, "Gen1:1-Rev22:21"], check=True, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE).stdout


def holds(name, text, folder, command):
    """Whether a run on a text keeps what is promised."""
    file = folder / f"{name}.txt"
    file.write_bytes(text)
    start = time.monotonic()
    run = subprocess.run([*command, "train", "--json", "--quiet", "--data", file, "--tokenizer", "bpe", "--steps", STEPS,
                          "--products", "bf16", "--out", folder / f"{name}-run"],
                         check=True, stdout=subprocess.PIPE, text=True)
    seconds = time.monotonic() - start
    summary = next(line for line in map(json.loads, run.stdout.splitlines()) if "validation_loss" in line)
    loss, five_gram = summary["validation_loss_per_byte"], summary["five_gram_cross_entropy"]
    print(f"{name}: {len(text)} bytes, {seconds:.1f} s, validation loss {loss:.4f}, {five_gram - loss:.4f} below the 5-gram's "
          f"{five_gram:.4f}", flush=True)
    return seconds <= MOST_SECONDS and five_gram - loss >= LEAST_MARGIN


TEXTS = {"fortunes": fortunes, "bible": bible}
command = sys.argv[1:]
names = list(TEXTS)
if command[:1] == ["--only"]:
    names, command = command[1:2], command[2:]
if not command or any(name not in TEXTS for name in names):
    sys.exit(__doc__)
with tempfile.TemporaryDirectory() as temporary:
    # apt drops its rights for a user of its own where it can.
    folder = pathlib.Path(temporary)
    folder.chmod(0o755)
    kept = [holds(name, TEXTS[name](folder), folder, command) for name in names]
sys.exit(not all(kept))
