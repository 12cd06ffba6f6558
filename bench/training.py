#!/usr/bin/env python3
"""A step of training a Llama here and in PyTorch, by turns in one run, as a table.

    python bench/training.py [--config stories15m] [--batch 4] [--seq 256] [--rounds 2] target/release/anemone

PyTorch trains the same dimensions in fp32 and with bf16 autocast, as it is and compiled, with its fused AdamW; each way, and
each of ours, in a process of its own, whose peak resident set is what it took. Needs torch. The least median of the rounds
counts.
"""
import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time

MODELS = {  # D, layers, heads, hidden
    "stories15m": (288, 6, 6, 768),
    "stories42m": (512, 8, 8, 1376),
    "stories110m": (768, 12, 12, 2048),
}
VOCAB = 32000
STEPS, WARM_UP = 5, 2


def pytorch(config, batch, seq, dtype, compiled):
    """The median time of a step in PyTorch."""
    import torch
    from torch import nn
    from torch.nn import functional as F

    dim, layers, heads, hidden = MODELS[config]
    torch.set_num_threads(os.cpu_count())
    torch.manual_seed(0)

    def normalized(x, gain):
        return F.rms_norm(x, (dim,), eps=1e-5).to(gain.dtype) * gain

    class Layer(nn.Module):
        def __init__(self):
            super().__init__()
            self.gains = nn.Parameter(torch.ones(2, dim))
            self.qkv, self.out = nn.Linear(dim, 3 * dim, bias=False), nn.Linear(dim, dim, bias=False)
            self.up, self.down = nn.Linear(dim, 2 * hidden, bias=False), nn.Linear(hidden, dim, bias=False)

        def forward(self, x, cos, sin):
            q, k, v = self.qkv(normalized(x, self.gains[0])).view(batch, seq, 3, heads, dim // heads).unbind(2)

            def turned(y):
                first, second = y.transpose(1, 2).chunk(2, -1)
                return torch.cat((first * cos - second * sin, first * sin + second * cos), -1)

            v = v.transpose(1, 2)
            y = F.scaled_dot_product_attention(turned(q).to(v.dtype), turned(k).to(v.dtype), v, is_causal=True)
            x = x + self.out(y.transpose(1, 2).reshape(batch, seq, dim))
            gate, up = self.up(normalized(x, self.gains[1])).chunk(2, -1)
            return x + self.down(F.silu(gate) * up)

    class Llama(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Parameter(0.02 * torch.randn(VOCAB, dim))
            self.layers = nn.ModuleList(Layer() for _ in range(layers))
            self.gain = nn.Parameter(torch.ones(dim))

        def forward(self, tokens, targets):
            size = dim // heads
            angles = torch.outer(torch.arange(seq), 10000.0 ** (-torch.arange(0, size, 2) / size))
            cos, sin = angles.cos(), angles.sin()
            x = F.embedding(tokens, self.embedding)
            for layer in self.layers:
                x = layer(x, cos, sin)
            logits = F.linear(normalized(x, self.gain), self.embedding)
            return F.cross_entropy(logits.float().flatten(0, 1), targets.flatten())

    model = Llama()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    run = torch.compile(model) if compiled else model
    tokens, targets = (torch.randint(0, VOCAB, (batch, seq)) for _ in range(2))
    times = []
    for _ in range(WARM_UP + STEPS):
        start = time.perf_counter()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == "bf16"):
            loss = run(tokens, targets)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        times.append(1e3 * (time.perf_counter() - start))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"ms": statistics.median(times[WARM_UP:]), "peak_mb": peak, "version": torch.__version__}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", choices=MODELS, default="stories15m")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--seq", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--pytorch", nargs=2, metavar=("DTYPE", "COMPILED"), help=argparse.SUPPRESS)
    parser.add_argument("command", nargs="*")
    given = parser.parse_args()
    sizes = ["--config", given.config, "--batch", str(given.batch), "--seq", str(given.seq)]
    if given.pytorch:
        dtype, compiled = given.pytorch
        return print(json.dumps(pytorch(given.config, given.batch, given.seq, dtype, compiled == "yes")))
    if not given.command:
        parser.error("give the command, as `target/release/anemone`")

    def measured(arguments):
        output = subprocess.run(arguments, check=True, stdout=subprocess.PIPE, text=True).stdout
        return json.loads(output.splitlines()[-1])

    ways = {}
    for dtype in ("fp32", "bf16"):
        for compiled in ("no", "yes"):
            name = f"PyTorch {dtype}{', compiled' if compiled == 'yes' else ''}"
            ways[name] = [sys.executable, __file__, *sizes, "--pytorch", dtype, compiled]
    bench = [*given.command, "bench", "train", *sizes, "--json", "--repeats", str(STEPS)]
    for head in ("programs", "fused"):
        for products in ("full", "bf16"):
            name = f"fp16, head {head}{', products of bf16' if products == 'bf16' else ''}"
            ways[name] = [*bench, "--head", head, "--products", products]
    best = {}
    for _ in range(given.rounds):
        for name, arguments in ways.items():
            found = measured(arguments)
            if name not in best or found["ms"] < best[name]["ms"]:
                best[name] = found
    peers = [line for name, line in best.items() if name.startswith("PyTorch")]
    fastest, leanest = min(line["ms"] for line in peers), min(line["peak_mb"] for line in peers)
    machine = max(line.get("machine_gflops", 0) for line in best.values())
    print(f"{given.config}, B = {given.batch}, T = {given.seq}, {os.cpu_count()} threads, PyTorch {peers[0]['version']}; "
          f"multiply-adds alone: {machine:.0f} GFLOP/s\n")
    print("| | ms | of PyTorch's best | peak MB | of PyTorch's least | products, GFLOP/s |\n|---|---|---|---|---|---|")
    for name, line in best.items():
        gflops = f"{line['gflops']:.0f}" if "gflops" in line else ""
        print(f"| {name} | {line['ms']:.0f} | {line['ms'] / fastest:.2f} | {line['peak_mb']:.0f} "
              f"| {line['peak_mb'] / leanest:.2f} | {gflops} |")


main()
