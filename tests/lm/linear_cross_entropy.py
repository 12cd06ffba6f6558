#!/usr/bin/env python3
"""Writes what the classifier with its loss in one must give, from PyTorch in float64.

    python tests/lm/linear_cross_entropy.py > tests/lm/linear_cross_entropy.json

Needs `pip install torch`. Inputs are not stored: element i of a tensor is a number of 10 bits made of i and the
tensor's salt (see `values`), exact in fp16, times the tensor's scale. Of dE, the rows named in `rows` are stored.
"""
import json

import torch
import torch.nn.functional as F


def values(count, salt, scale):
    i = torch.arange(count, dtype=torch.int64)
    mixed = ((i + salt * 1000003) * 2654435761) % 2**32
    return ((mixed >> 22).double() / 1024 - 0.5) * scale


def case(name, vocab, dim, positions, bias=False, smoothing=0.0, z_loss=0.0, softcap=None, reduction="mean",
         scale=1.0, ignored=5):
    x = values(dim * positions, 1, 8.0).reshape(dim, positions).requires_grad_()
    embed = values(vocab * dim, 2, 1.0).reshape(vocab, dim).requires_grad_()
    b = (values(vocab, 3, 2.0) if bias else torch.zeros(vocab).double()).requires_grad_()
    targets = torch.tensor([-100 if s % ignored == 3 else (s * 7919) % vocab for s in range(positions)])
    z = embed @ x + b[:, None]
    if softcap is not None:
        z = softcap * torch.tanh(z / softcap)
    counted = targets != -100
    each = F.cross_entropy(z.T, targets, reduction="none", label_smoothing=smoothing)
    squares = z_loss * torch.logsumexp(z, 0) ** 2 * counted
    weight = 1 / int(counted.sum()) if reduction == "mean" else 1.0
    loss = weight * (each + squares).sum()
    (loss * scale).backward()
    rows = sorted(set(range(0, vocab, max(1, vocab // 40))) | {int(t) for t in targets[counted][:8]} | {vocab - 1})
    return dict(name=name, vocab=vocab, dim=dim, positions=positions, bias=bias, label_smoothing=smoothing,
                z_loss=z_loss, softcap=softcap, reduction=reduction, scale=scale, targets=targets.tolist(),
                loss=loss.item(), z_loss_part=(weight * squares.sum()).item(),
                losses=(each + squares).tolist(), dx=x.grad.flatten().tolist(), rows=rows,
                dembed=embed.grad[rows].flatten().tolist(), dbias=b.grad[rows].tolist())


print(json.dumps([
    case("plain", 37, 19, 23),
    case("one position, one word", 1, 1, 1),
    case("nothing ignored, sum", 50, 7, 33, reduction="sum", ignored=10**9),
    case("bias", 64, 16, 40, bias=True),
    case("label smoothing", 37, 19, 23, smoothing=0.1),
    case("z-loss", 37, 19, 23, z_loss=1e-2),
    case("soft cap", 37, 19, 23, softcap=3.0),
    case("all together, scaled", 41, 12, 70, bias=True, smoothing=0.2, z_loss=1e-3, softcap=5.0, scale=1024.0),
    case("several tiles", 2500, 8, 35, bias=True, smoothing=0.1, z_loss=1e-3, softcap=30.0, scale=64.0),
], indent=0))
