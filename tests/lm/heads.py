#!/usr/bin/env python3
"""Writes what a step of the head must give, final RMSNorm, classifier and loss, from PyTorch in float64.

    python tests/lm/heads.py > tests/lm/heads.json

Needs `pip install torch`. Inputs are not stored: element i of a tensor is a number of 10 bits made of i and the
tensor's salt (see `values`), exact in fp16, times the tensor's scale.
"""
import json

import torch
import torch.nn.functional as F

V, D, S, EPS = 37, 12, 11, 1e-5


def values(count, salt, scale):
    i = torch.arange(count, dtype=torch.int64)
    mixed = ((i + salt * 1000003) * 2654435761) % 2**32
    return ((mixed >> 22).double() / 1024 - 0.5) * scale


def case(name, smoothing=0.0, z_loss=0.0, softcap=None):
    x = values(D * S, 1, 8.0).reshape(D, S).requires_grad_()
    gain = values(D, 2, 4.0).requires_grad_()
    embed = values(V * D, 3, 4.0).reshape(V, D).requires_grad_()
    targets = torch.tensor([-100 if s % 5 == 3 else (s * 7919) % V for s in range(S)])
    xn = x * torch.rsqrt((x**2).mean(0) + EPS) * gain[:, None]
    z = embed @ xn
    if softcap is not None:
        z = softcap * torch.tanh(z / softcap)
    counted = targets != -100
    loss = F.cross_entropy(z.T, targets, label_smoothing=smoothing)
    loss = loss + z_loss * (torch.logsumexp(z, 0) ** 2 * counted).sum() / counted.sum()
    loss.backward()
    return dict(name=name, vocab=V, dim=D, positions=S, eps=EPS, label_smoothing=smoothing, z_loss=z_loss,
                softcap=softcap, targets=targets.tolist(), loss=loss.item(),
                validation=F.cross_entropy(z.T, targets).item(), logits=z.flatten().tolist(),
                dx=x.grad.flatten().tolist(), dgain=gain.grad.tolist(), dembed=embed.grad.flatten().tolist())


print(json.dumps([
    case("plain"),
    case("label smoothing", smoothing=0.1),
    case("z-loss", z_loss=1e-2),
    case("soft cap", softcap=5.0),
    case("smoothing, z-loss", smoothing=0.1, z_loss=1e-2),
    case("smoothing, soft cap", smoothing=0.1, softcap=5.0),
    case("z-loss, soft cap", z_loss=1e-2, softcap=5.0),
    case("all", smoothing=0.1, z_loss=1e-2, softcap=5.0),
]))
