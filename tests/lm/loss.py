#!/usr/bin/env python3
"""Writes loss.json: losses and gradients of torch.nn.functional.cross_entropy in float64, with every option.

Needs from pip: torch (any recent version). Run it anywhere: `python loss.py > loss.json`.
Logits and probabilities are rounded to the dtype of their case first and then taken as exact; tensors are
channel-first, [V, S] flattened. The z-loss is that of Liger and Cut Cross-Entropy, z_loss * logsumexp(z)^2 for each
position, and the soft cap softcap * tanh(z / softcap).
"""
import json
import torch
import torch.nn.functional as F

torch.manual_seed(20240602)
IGNORE = -100


def case(name, dtype, logits, targets, loss_scale, smoothing=0.0, z_loss=0.0, softcap=None, reduction="mean"):
    logits = logits.to(dtype).double().requires_grad_()  # [V, S]
    targets = torch.tensor(targets)
    counted = targets != IGNORE
    weight = 1 / int(counted.sum()) if reduction == "mean" else 1.0
    z = logits if softcap is None else softcap * torch.tanh(logits / softcap)
    each = F.cross_entropy(z.T, targets, ignore_index=IGNORE, label_smoothing=smoothing, reduction="none")
    squares = z_loss * torch.logsumexp(z, 0) ** 2 * counted
    loss = weight * (each + squares).sum()
    loss.backward()
    # The gradient again, made of probabilities that are themselves rounded to the dtype.
    with torch.no_grad():
        p = torch.softmax(z, 0).to(dtype).double()
        onehot = F.one_hot(targets.clamp(min=0), p.shape[0]).T.double()
        gradient_p = (1 + 2 * z_loss * torch.logsumexp(z, 0)) * p - (1 - smoothing) * onehot - smoothing / p.shape[0]
        gradient_p = gradient_p * counted * weight
        if softcap is not None:
            gradient_p = gradient_p / torch.cosh(logits / softcap) ** 2
    return {
        "name": name, "dtype": {torch.float16: "fp16", torch.float32: "fp32"}[dtype],
        "vocab": logits.shape[0], "targets": targets.tolist(), "loss_scale": loss_scale,
        "label_smoothing": smoothing, "z_loss": z_loss, "softcap": softcap, "reduction": reduction,
        "logits": logits.detach().flatten().tolist(), "loss": loss.item(),
        "z_loss_part": (weight * squares.sum()).item(), "gradient": logits.grad.flatten().tolist(),
        "probabilities": p.flatten().tolist(), "gradient_of_probabilities": gradient_p.flatten().tolist(),
    }


def normal(v, s, sigma):
    return torch.randn(v, s, dtype=torch.float64) * sigma


FIVE, SIX = [0, 6, 3, 3, 1], [IGNORE, 10, 0, IGNORE, IGNORE, 4]
cases = []
for dtype in (torch.float16, torch.float32):
    cases += [
        case("plain", dtype, normal(7, 5, 2.0), FIVE, 1024.0),
        case("ignored", dtype, normal(11, 6, 1.0), SIX, 4096.0),
        case("one position", dtype, normal(33, 1, 3.0), [32], 1.0),
        case("far from zero", dtype, normal(5, 4, 2.0) + torch.tensor([900.0, -900.0, 0.0, 30000.0]),
             [1, 2, 4, 0], 256.0),
        case("sure", dtype, torch.eye(6, dtype=torch.float64) * 9.0, [0, 1, 2, 3, 4, 5], 65536.0),
        case("sum", dtype, normal(7, 5, 2.0), FIVE, 1024.0, reduction="sum"),
        case("label smoothing", dtype, normal(7, 5, 2.0), FIVE, 1024.0, smoothing=0.1),
        case("all smoothed away", dtype, normal(7, 5, 2.0), FIVE, 64.0, smoothing=1.0),
        case("z-loss", dtype, normal(7, 5, 2.0), FIVE, 1024.0, z_loss=1e-2),
        case("soft cap", dtype, normal(7, 5, 2.0), FIVE, 1024.0, softcap=5.0),
        case("far beyond the soft cap", dtype, normal(11, 6, 40.0), SIX, 1024.0, softcap=10.0),
        case("soft cap that is far away", dtype, normal(11, 6, 0.5), SIX, 256.0, softcap=1000.0),
        case("smoothing, z-loss", dtype, normal(11, 6, 3.0), SIX, 1024.0, smoothing=0.2, z_loss=1e-3),
        case("smoothing, soft cap", dtype, normal(11, 6, 3.0), SIX, 1024.0, smoothing=0.2, softcap=4.0),
        case("z-loss, soft cap", dtype, normal(11, 6, 3.0), SIX, 1024.0, z_loss=0.1, softcap=4.0),
        case("all", dtype, normal(33, 6, 3.0), SIX, 1024.0, smoothing=0.1, z_loss=1e-4, softcap=30.0),
        case("all, sum", dtype, normal(33, 6, 3.0), SIX, 16.0, smoothing=0.1, z_loss=1e-2, softcap=3.0, reduction="sum"),
    ]
print(json.dumps(cases))
