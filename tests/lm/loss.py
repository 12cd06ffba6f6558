#!/usr/bin/env python3
"""Writes loss.json: losses and gradients of torch.nn.functional.cross_entropy in float64.

Needs from pip: torch (any recent version). Run it anywhere: `python loss.py > loss.json`.
Logits and probabilities are rounded to the dtype of their case first and then taken as exact; tensors are
channel-first, [V, S] flattened.
"""
import json
import torch
import torch.nn.functional as F

torch.manual_seed(20240602)
IGNORE = -100


def case(name, dtype, logits, targets, loss_scale):
    logits = logits.to(dtype).double().requires_grad_()  # [V, S]
    targets = torch.tensor(targets)
    loss = F.cross_entropy(logits.T, targets, ignore_index=IGNORE)
    loss.backward()
    # The same from probabilities, themselves rounded to the dtype.
    p = torch.softmax(logits.detach(), dim=0).to(dtype).double()
    loss_p = F.nll_loss(p.log().T, targets, ignore_index=IGNORE)
    counted = targets != IGNORE
    onehot = F.one_hot(targets.clamp(min=0), p.shape[0]).T.double()
    gradient_p = (p - onehot) * counted / counted.sum()
    return {
        "name": name, "dtype": {torch.float16: "fp16", torch.float32: "fp32"}[dtype],
        "vocab": logits.shape[0], "targets": targets.tolist(), "loss_scale": loss_scale,
        "logits": logits.detach().flatten().tolist(), "loss": loss.item(),
        "gradient": logits.grad.flatten().tolist(),
        "probabilities": p.flatten().tolist(), "loss_of_probabilities": loss_p.item(),
        "gradient_of_probabilities": gradient_p.flatten().tolist(),
    }


def normal(v, s, sigma):
    return torch.randn(v, s, dtype=torch.float64) * sigma


cases = []
for dtype in (torch.float16, torch.float32):
    cases += [
        case("plain", dtype, normal(7, 5, 2.0), [0, 6, 3, 3, 1], 1024.0),
        case("ignored", dtype, normal(11, 6, 1.0), [IGNORE, 10, 0, IGNORE, IGNORE, 4], 4096.0),
        case("one position", dtype, normal(33, 1, 3.0), [32], 1.0),
        case("far from zero", dtype, normal(5, 4, 2.0) + torch.tensor([900.0, -900.0, 0.0, 30000.0]),
             [1, 2, 4, 0], 256.0),
        case("sure", dtype, torch.eye(6, dtype=torch.float64) * 9.0, [0, 1, 2, 3, 4, 5], 65536.0),
    ]
print(json.dumps(cases))
