#!/usr/bin/env python3
"""Kills a training run again and again, with `kill -9` at random moments, goes on with it each time, and compares its
losses with those of a run that was left alone.

    python .ci/kills.py [--kills N] target/release/anemone

Prints how often the run was killed, at which steps it went on, and whether the losses of all steps are the same numbers to
the last digit; exit status 1 if not, or if more steps were lost than since the last checkpoint. Not part of `.ci/run`.
"""
import json
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile
import time

CONFIG = """[model]
vocab = 256
dim = 64
layers = 2
heads = 2
kv_heads = 1
hidden = 96
max_positions = 64
[train]
batch = 2
seq = 32
steps = {steps}
checkpoint_interval = {interval}
validation_interval = 50
"""
INTERVAL = 5


def lines(log):
    """The log's lines that are whole."""
    if not log.exists():
        return []
    return [json.loads(line) for line in log.read_text().splitlines(keepends=True) if line.endswith("\n")]


def losses(log):
    return {line["step"]: line["loss"] for line in lines(log) if "loss" in line}


def main():
    arguments = sys.argv[1:]
    kills = 100
    if arguments[:1] == ["--kills"]:
        kills, arguments = int(arguments[1]), arguments[2:]
    if not arguments:
        sys.exit(__doc__)
    chance = random.Random(1)
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        config = folder / "config.toml"
        config.write_text(CONFIG.format(steps=40 * kills, interval=INTERVAL))
        begin = [*arguments, "train", "-q", "--config", str(config), "--out"]
        run, alone = folder / "run", folder / "alone"
        command, went_on = [*begin, str(run)], []
        done = 0
        while done < kills:
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
            time.sleep(chance.uniform(0.02, 0.6))
            if process.poll() is not None:
                sys.exit(f"the run ended by itself, with status {process.returncode}, after {done} kills")
            process.kill()
            process.wait()
            done += 1
            if (run / "checkpoint.safetensors").exists():
                command = [*arguments, "train", "-q", "--resume", str(run)]
                went_on.append(max(losses(run / "log.jsonl"), default=0))
            else:
                # Killed before the first checkpoint: what is there is no run yet, and is not written over.
                shutil.rmtree(run, ignore_errors=True)
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        subprocess.run([*begin, str(alone)], check=True, stdout=subprocess.DEVNULL)
        found, expected = losses(run / "log.jsonl"), losses(alone / "log.jsonl")
        differ = [step for step in expected if found.get(step) != expected[step]]
        print(f"{done} kills, the log then at steps {went_on}; {len(expected)} steps, of which {len(differ)} have another loss")
        sys.exit(bool(differ) or found.keys() != expected.keys())


main()
