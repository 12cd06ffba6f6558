#!/usr/bin/env python3
"""Writes adamw.json: ten steps of torch.optim.AdamW in float64, with gradients clipped to a global norm.

Needs from pip: torch (any recent version). Run it anywhere: `python adamw.py > adamw.json`.
Inputs are rounded to float32 first, so that an fp32 implementation starts from the same numbers.
"""
import json
import torch

torch.manual_seed(20240601)
STEPS, BETAS, EPS, MAX_NORM = 10, (0.9, 0.95), 1e-8, 1.0


def single(x):
    """Values that float32 can hold, kept as float64."""
    return x.float().double()


# Two tensors, as in a model: a matrix with decay and a gain without. Gradients of very different sizes, some
# elements always zero, the global norm on both sides of MAX_NORM.
tensors = {"matrix": (12, 0.1), "gain": (5, 0.0)}
weights = {name: single(torch.randn(n, dtype=torch.float64)) for name, (n, _) in tensors.items()}
size = {name: 10.0 ** torch.linspace(-6, 0, n, dtype=torch.float64) for name, (n, _) in tensors.items()}
size["matrix"][3] = 0.0
lrs = [0.02 * (step + 1) / 4 if step < 3 else 0.02 - 0.002 * (step - 3) for step in range(STEPS)]

parameters = {name: torch.nn.Parameter(w.clone()) for name, w in weights.items()}
groups = [{"params": [parameters[name]], "weight_decay": decay} for name, (_, decay) in tensors.items()]
optimizer = torch.optim.AdamW(groups, lr=1.0, betas=BETAS, eps=EPS)

steps = []
for lr in lrs:
    gradients = {name: single(torch.randn_like(w) * size[name]) for name, w in weights.items()}
    for name, parameter in parameters.items():
        parameter.grad = gradients[name].clone()
    norm = torch.nn.utils.clip_grad_norm_(parameters.values(), MAX_NORM)
    for group in optimizer.param_groups:
        group["lr"] = lr
    optimizer.step()
    steps.append({
        "lr": lr,
        "norm": norm.item(),
        "gradients": {name: g.tolist() for name, g in gradients.items()},
        "weights": {name: p.tolist() for name, p in parameters.items()},
    })

print(json.dumps({
    "beta1": BETAS[0], "beta2": BETAS[1], "eps": EPS, "max_norm": MAX_NORM,
    "weight_decay": {name: decay for name, (_, decay) in tensors.items()},
    "weights": {name: w.tolist() for name, w in weights.items()},
    "steps": steps,
}, indent=1))
