#!/usr/bin/env python3
"""Core ML's models here and in PyTorch, by turns in one run, as a table.

    python bench/models.py [--models resnet18,vit_b_16] [--stored int8] [--threads 2] [--rounds 3] [--repeats 10]
        DIR target/release/anemone

Makes packages in DIR, unless they are there: PyTorch's modules with random weights from a seed, traced and converted by
coremltools to fp16 programs. Runs each on the CPU runtime (forced to instructions by ANEMONE_CPU_PATH, if that is set), and
compares what comes out with what PyTorch computes in fp32, relative to the largest number of the output. Then times both, a
process of ours and PyTorch's eager fp32 by turns, at batch 1: the medians of all runs of all rounds; and, in processes of their
own, how long both take from their start to the first prediction: `anemone run`, and PyTorch's import, load and call. With
`--stored`, the weights are compressed by coremltools, whose error the difference then is. Needs coremltools, torch, torchvision
and transformers, on Linux.
"""
import argparse
import json
import math
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np
import torch
from torch import nn

MOST_ERROR = 0.02


class First(nn.Module):
    """A model of Hugging Face's, of which the first output is taken."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        return self.model(x, return_dict=False)[0]


def image():
    return torch.rand(1, 3, 224, 224)


def vision(name):
    import torchvision

    return getattr(torchvision.models, name)(weights=None), image()


def bert():
    from transformers import BertConfig, BertModel

    config = BertConfig(attn_implementation="eager")
    return First(BertModel(config, add_pooling_layer=False)), torch.randint(0, config.vocab_size, (1, 128)).int()


def whisper():
    from transformers import WhisperConfig
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

    config = WhisperConfig(d_model=384, encoder_layers=4, encoder_attention_heads=6, encoder_ffn_dim=1536,
                           num_mel_bins=80, attn_implementation="eager")
    return First(WhisperEncoder(config)), torch.randn(1, 80, 3000)


MODELS = {
    "resnet18": lambda: vision("resnet18"),
    "mobilenet_v3_large": lambda: vision("mobilenet_v3_large"),
    "efficientnet_b0": lambda: vision("efficientnet_b0"),
    "convnext_tiny": lambda: vision("convnext_tiny"),
    "vit_b_16": lambda: vision("vit_b_16"),
    "bert_base": bert,
    "whisper_tiny_encoder": whisper,
}


def made(name):
    """A module with random weights, and an input."""
    torch.manual_seed(0)
    module, x = MODELS[name]()
    if name == "vit_b_16":
        nn.init.normal_(module.heads.head.weight, std=0.02)  # it begins as zero
    for layer in module.modules():
        # What a network of random weights makes would vanish or overflow without its normalizations' true numbers.
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = None
    module.train()
    with torch.no_grad():
        if any(isinstance(layer, nn.BatchNorm2d) for layer in module.modules()):
            for _ in range(2):
                module(torch.rand(8, *x.shape[1:]))
    return module.eval(), x


def package(directory, name, module, x):
    """The package of a module, converted if it is not there."""
    path = directory / f"{name}.mlpackage"
    if not path.exists():
        import coremltools as ct

        # The fused form of attention, which PyTorch is timed with, is none that coremltools converts.
        torch.backends.mha.set_fastpath_enabled(False)
        with torch.no_grad():
            traced = torch.jit.trace(module, x)
        torch.backends.mha.set_fastpath_enabled(True)
        dtype = np.int32 if x.dtype == torch.int32 else np.float32
        ct.convert(traced, inputs=[ct.TensorType("x", x.shape, dtype)], outputs=[ct.TensorType("y")],
                   convert_to="mlprogram", minimum_deployment_target=ct.target.iOS16,
                   compute_precision=ct.precision.FLOAT16, skip_model_load=True).save(str(path))
    return path


def compressed(path, stored):
    """The package with its weights stored otherwise, made if it is not there."""
    to = path.with_name(f"{path.stem}-{stored}.mlpackage")
    if not to.exists():
        import coremltools as ct
        from coremltools.optimize import coreml as optimize

        ways = {
            "int8": (optimize.linear_quantize_weights, optimize.OpLinearQuantizerConfig(mode="linear_symmetric")),
            "palette4": (optimize.palettize_weights, optimize.OpPalettizerConfig(mode="uniform", nbits=4)),
        }
        compress, how = ways[stored]
        model = ct.models.MLModel(str(path), skip_model_load=True)
        compress(model, optimize.OptimizationConfig(global_config=how)).save(str(to))
    return to


def weights_mb(path):
    return sum(file.stat().st_size for file in path.rglob("weight.bin")) / 2**20


def ours(command, path, x, repeats, threads, *more):
    """The line of `bench model`."""
    arguments = ["bench", "model", str(path), "--input", f"x={x}", "--repeats", str(repeats), "--threads", str(threads)]
    output = subprocess.run([*command, *arguments, "--json", *more], check=True, stdout=subprocess.PIPE, text=True).stdout
    return json.loads(output.splitlines()[-1])


def error(command, path, x, expected):
    """The largest difference of our output, relative to the largest number of PyTorch's."""
    with tempfile.TemporaryDirectory() as results:
        subprocess.run([*command, "run", str(path), "--input", f"x={x}", "--output", results, "-q"], check=True,
                       stdout=subprocess.DEVNULL)
        y = np.load(pathlib.Path(results) / "y.npy").astype(np.float64)
    assert y.shape == expected.shape, (y.shape, expected.shape)
    return np.abs(y - expected).max() / np.abs(expected).max()


def first_ms(arguments):
    """The time of a whole process."""
    start = time.perf_counter()
    subprocess.run(arguments, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return 1e3 * (time.perf_counter() - start)


def first_prediction(directory, name, threads):
    """What PyTorch does until its first prediction: the whole of a process that is timed."""
    torch.set_num_threads(threads)
    module, x = MODELS[name]()
    module.load_state_dict(torch.load(directory / f"{name}.pt"))
    with torch.no_grad():
        module.eval()(x)


def times_ms(module, x, repeats):
    times = []
    with torch.no_grad():
        module(x)
        for _ in range(repeats):
            start = time.perf_counter()
            module(x)
            times.append(1e3 * (time.perf_counter() - start))
    return times


def row(given, name):
    """Measures a model; gives its line of the table and the ratio of times."""
    module, x = made(name)
    path = package(given.directory, name, module, x)
    if given.stored != "fp16":
        path = compressed(path, given.stored)
    array = given.directory / f"{name}.npy"
    np.save(array, x.numpy())
    with torch.no_grad():
        expected = module(x)
    expected = expected.double().numpy()
    difference = error(given.command, path, array, expected)
    peers, lines = [], []
    for _ in range(given.rounds):
        lines.append(ours(given.command, path, array, given.repeats, given.threads))
        peers += times_ms(module, x, given.repeats)
    torch.save(module.state_dict(), given.directory / f"{name}.pt")
    with tempfile.TemporaryDirectory() as results:
        first = first_ms([*given.command, "run", str(path), "--input", f"x={array}", "--output", results])
    peer_first = first_ms([sys.executable, __file__, "--first", name, "--threads", str(given.threads), str(given.directory), "-"])
    ms, peer = statistics.median(line["ms"] for line in lines), statistics.median(peers)
    last, weights = lines[-1], weights_mb(path)
    beyond = last["peak_mb"] - weights - last["planned_mb"]
    wrong = "" if difference <= MOST_ERROR or given.stored != "fp16" else " (!)"
    print(f"| {name} | {ms:.1f} | {peer:.1f} | {ms / peer:.2f} | {difference:.1e}{wrong} "
          f"| {first:.0f} | {peer_first:.0f} | {last['peak_mb']:.0f} "
          f"| {weights:.0f} | {last['planned_mb']:.1f} | {beyond:.0f} | {last['path']} |", flush=True)
    return ms / peer, not wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--stored", default="fp16", choices=["fp16", "int8", "palette4"])
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--first", metavar="MODEL", help="only predict once with PyTorch, which another process times")
    parser.add_argument("directory", type=pathlib.Path)
    parser.add_argument("command", nargs="+")
    given = parser.parse_args()
    unknown = set(given.models.split(",")) - set(MODELS)
    if unknown:
        parser.error(f"no such model: {', '.join(sorted(unknown))}; there are {', '.join(MODELS)}")
    if given.first:
        return first_prediction(given.directory, given.first, given.threads)
    given.directory.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(given.threads)
    print(f"PyTorch {torch.__version__}, fp32, eager, {given.threads} threads, batch 1\n")
    print("| model | ms | PyTorch ms | ratio | error | first ms | PyTorch's | peak MB | weights MB | planned MB | beyond | path |")
    print("|---|---|---|---|---|---|---|---|---|---|---|---|")
    rows = [row(given, name) for name in given.models.split(",")]
    print(f"\ngeometric mean of the ratios: {math.exp(statistics.mean(math.log(ratio) for ratio, _ in rows)):.2f}")
    if not all(right for _, right in rows):
        raise SystemExit(f"an output differs by more than {MOST_ERROR} of its largest number")


main()
