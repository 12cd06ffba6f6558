#!/usr/bin/env python3
"""Writes what small Llamas must give, from Hugging Face's transformers, and llama2.c's form from PyTorch alone:
logits, loss, the gradient of every parameter, and the losses of ten steps of AdamW.

    python tests/lm/llama.py > tests/lm/llama.json

Needs `pip install torch transformers`. Weights are not stored: element i of the parameter that comes n-th by its name
is made of i and n (see `values`), exact in fp16.
"""
import json
import math

import torch
import torch.nn.functional as F
from transformers import LlamaConfig, LlamaForCausalLM, Qwen3Config, Qwen3ForCausalLM

V, D, L, H, K, HIDDEN, EPS, T, B = 23, 8, 2, 4, 2, 12, 1e-5, 11, 3
STEPS, LR, WARMUP, FLOOR, DECAY, CLIP = 10, 5e-3, 3, 0.1, 0.1, 1.0


def values(count, salt):
    i = torch.arange(count, dtype=torch.int64)
    mixed = ((i + salt * 1000003) * 2654435761) % 2**32
    return (mixed >> 22).double() / 1024 - 0.5


def initialize(model):
    """Gains about 1, matrices about 0."""
    for salt, (name, parameter) in enumerate(sorted(model.named_parameters())):
        fresh = values(parameter.numel(), salt)
        with torch.no_grad():
            parameter.copy_((fresh + (1.0 if parameter.dim() == 1 else 0.0)).reshape(parameter.shape))


class Neighbours(torch.nn.Module):
    """llama2.c's model: elements 2i and 2i + 1 of a head are turned as one complex number."""

    def __init__(self):
        super().__init__()
        size = D // H
        shapes = {"model.embed_tokens.weight": (V, D), "model.norm.weight": (D,)}
        for layer in range(L):
            shapes |= {f"model.layers.{layer}.{name}.weight": shape for name, shape in {
                "input_layernorm": (D,), "post_attention_layernorm": (D,), "self_attn.q_proj": (H * size, D),
                "self_attn.k_proj": (K * size, D), "self_attn.v_proj": (K * size, D), "self_attn.o_proj": (D, H * size),
                "mlp.gate_proj": (HIDDEN, D), "mlp.up_proj": (HIDDEN, D), "mlp.down_proj": (D, HIDDEN)}.items()}
        self.tensors = {name: torch.nn.Parameter(torch.zeros(shape, dtype=torch.double)) for name, shape in shapes.items()}

    def named_parameters(self):
        return self.tensors.items()

    def parameters(self):
        return self.tensors.values()

    def forward(self, tokens):
        w, size = self.tensors, D // H
        norm = lambda x, gain: x * torch.rsqrt((x**2).mean(-1, keepdim=True) + EPS) * w[gain]
        angles = torch.outer(torch.arange(tokens.shape[1]), 10000.0 ** (-2 * torch.arange(size // 2).double() / size))
        turn = torch.polar(torch.ones_like(angles), angles)[None, :, None]

        def heads(x, count, turned=True):
            x = x.reshape(*x.shape[:2], count, size)
            if turned:
                pairs = torch.view_as_complex(x.reshape(*x.shape[:3], size // 2, 2))
                x = torch.view_as_real(pairs * turn).reshape(x.shape)
            return x.repeat_interleave(H // count, dim=2).transpose(1, 2)

        x = w["model.embed_tokens.weight"][tokens]
        for layer in range(L):
            at = lambda name: f"model.layers.{layer}.{name}.weight"
            xn = norm(x, at("input_layernorm"))
            q = heads(xn @ w[at("self_attn.q_proj")].T, H)
            k = heads(xn @ w[at("self_attn.k_proj")].T, K)
            v = heads(xn @ w[at("self_attn.v_proj")].T, K, turned=False)
            mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + mixed.transpose(1, 2).reshape(xn.shape[0], xn.shape[1], -1) @ w[at("self_attn.o_proj")].T
            hn = norm(x, at("post_attention_layernorm"))
            inner = F.silu(hn @ w[at("mlp.gate_proj")].T) * (hn @ w[at("mlp.up_proj")].T)
            x = x + inner @ w[at("mlp.down_proj")].T
        return norm(x, "model.norm.weight") @ w["model.embed_tokens.weight"].T


def logits_of(model, tokens):
    out = model(tokens)
    return out if isinstance(out, torch.Tensor) else out.logits


def loss_of(model, inputs, targets):
    logits = logits_of(model, inputs)
    return logits, F.cross_entropy(logits.reshape(-1, V), targets.reshape(-1), ignore_index=-100)


def learning_rate(step):
    if step < WARMUP:
        return LR * (step + 1) / (WARMUP + 1)
    return LR * FLOOR + LR * (1 - FLOOR) * 0.5 * (1 + math.cos(math.pi * (step - WARMUP) / (STEPS - WARMUP)))


def train(model, text):
    """Ten steps on one sequence."""
    groups = [dict(params=[p for p in model.parameters() if (p.dim() > 1) == matrix], weight_decay=DECAY * matrix)
              for matrix in (True, False)]
    optimizer = torch.optim.AdamW(groups, lr=LR, betas=(0.9, 0.95), eps=1e-8)
    losses = []
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step)
        optimizer.zero_grad()
        _, loss = loss_of(model, text[None, :-1], text[None, 1:])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(list(model.parameters()), CLIP)
        optimizer.step()
        losses.append(loss.item())
    return losses


def digits(tensor):
    return [float(f"{x:.9g}") for x in tensor.detach().double().flatten().tolist()]


def case(name, model, **config):
    model = model.double()
    initialize(model)
    tokens = torch.tensor([[(b * 7919 + t * t * 31 + t * 5) % V for t in range(T + 1)] for b in range(B)])
    targets = tokens[:, 1:].clone()
    targets[1, 4] = -100
    logits, loss = loss_of(model, tokens[:, :-1], targets)
    loss.backward()
    gradients = {name: digits(parameter.grad) for name, parameter in sorted(model.named_parameters())}
    initialize(model)
    return dict(name=name, config=dict(vocab=V, dim=D, layers=L, heads=H, kv_heads=K, hidden=HIDDEN, norm_eps=EPS) | config,
                inputs=tokens[:, :-1].flatten().tolist(), targets=targets.flatten().tolist(), logits=digits(logits),
                loss=loss.item(), gradients=gradients, text=tokens[2].tolist(), losses=train(model, tokens[2]))


def shared(tied):
    return dict(vocab_size=V, hidden_size=D, num_hidden_layers=L, num_attention_heads=H, num_key_value_heads=K,
                intermediate_size=HIDDEN, rms_norm_eps=EPS, tie_word_embeddings=tied, max_position_embeddings=64,
                attn_implementation="eager")


scaling = dict(factor=4.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=16)
llama3 = dict(rope_theta=500.0, rope_scaling=dict(
    factor=4.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_positions=16))
cases = [
    case("untied", LlamaForCausalLM(LlamaConfig(**shared(False)))),
    case("tied, Llama 3's rotary embedding", LlamaForCausalLM(LlamaConfig(
        **shared(True), head_dim=6, rope_parameters=dict(rope_type="llama3", rope_theta=500.0, **scaling))),
        tied=True, head_dim=6, **llama3),
    case("llama2.c's neighbours", Neighbours(), tied=True) | dict(neighbours=True),
    case("Qwen3", Qwen3ForCausalLM(Qwen3Config(**shared(True), head_dim=4, rope_parameters=dict(
        rope_type="default", rope_theta=1e4))), tied=True, head_dim=4, qk_norm=True),
]
settings = dict(steps=STEPS, lr=LR, warmup=WARMUP, lr_floor=FLOOR, weight_decay=DECAY, grad_clip=CLIP, seq=T, batch=B)
print(json.dumps(dict(settings=settings, cases=cases)))
