#!/usr/bin/env python3
"""Hands models to Hugging Face's transformers and to llama2.c's form, and takes them from there: the same logits to
1e-3, and the same 50 most likely tokens, each time.

    python tests/lm/interop.py target/debug/anemone target/debug/examples/logits

Needs `pip install torch transformers`; `.ci/models` makes that environment. The programs are those of
`cargo build -p anemone --bin anemone --example logits`. Exit status 1 when anything differs.
"""
import json
import pathlib
import struct
import subprocess
import sys
import tempfile

import numpy
import torch
import transformers
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, Qwen3Config, Qwen3ForCausalLM

transformers.logging.disable_progress_bar()
ANEMONE, LOGITS = sys.argv[1:3]
TEXT = [10, 84, 104, 101, 32, 99, 97, 116]
COUNT = 50
TOLERANCE = 1e-3

LLAMA3 = {"rope_type": "llama3", "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 32}
# By name, what is in the configuration's table of the model.
TRAINED = {
    "llama": "dim = 32\nlayers = 2\nheads = 4\nkv_heads = 2\nhidden = 48\nmax_positions = 64\n",
    "llama-tied-scaled": "dim = 32\nlayers = 2\nheads = 4\nkv_heads = 4\nhidden = 48\ntied = true\nmax_positions = 64\nrope_scaling = "
                         "{ factor = 4.0, low_freq_factor = 1.0, high_freq_factor = 4.0, original_max_positions = 32 }\n",
    "qwen3": "dim = 32\nlayers = 2\nheads = 4\nkv_heads = 2\nhead_dim = 12\nhidden = 48\nqk_norm = true\ntied = true\n"
             "rope_theta = 1e6\nnorm_eps = 1e-6\n",
    "no-layers": "dim = 32\n",
}
TRAIN = "[train]\nbatch = 4\nseq = 32\nsteps = 150\nlr = 0.02\nwarmup = 10\n"

SIZES = {"vocab_size": 256, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
         "num_key_value_heads": 2, "intermediate_size": 48, "max_position_embeddings": 64, "initializer_range": 0.3}
SAVED = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SIZES)),
    "llama-tied-scaled": lambda: LlamaForCausalLM(
        LlamaConfig(**SIZES, tie_word_embeddings=True, rope_parameters={**LLAMA3, "rope_theta": 500000.0})),
    "qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**SIZES, head_dim=12)),
}
# How it is saved, and the largest shard.
FORMS = {"fp32": (torch.float32, "1GB"), "fp16": (torch.float16, "1GB"), "bf16": (torch.bfloat16, "1GB"),
         "sharded": (torch.float32, "20KB")}

failures = 0


def anemone(*arguments):
    subprocess.run([ANEMONE, *map(str, arguments)], check=True, stdout=subprocess.DEVNULL)


def theirs(model):
    """The logits after each token of the text, and the tokens that follow."""
    model = model.float().eval()
    with torch.no_grad():
        text = list(TEXT)
        logits = model(torch.tensor([text]), use_cache=False).logits[0].numpy()
        for _ in range(COUNT):
            text.append(int(model(torch.tensor([text]), use_cache=False).logits[0, -1].argmax()))
    return logits, text[len(TEXT):]


def compare(what, path, model):
    global failures
    run = subprocess.run([LOGITS, str(path), str(COUNT), *map(str, TEXT)], stdout=subprocess.PIPE, text=True)
    if run.returncode != 0:
        failures += 1
        print(f"{what}: FAILED to be read")
        return
    ours = json.loads(run.stdout)
    logits, tokens = theirs(model)
    apart = float(numpy.abs(numpy.array(ours["logits"]) - logits).max())
    same = ours["tokens"] == tokens
    passed = apart <= TOLERANCE and same
    failures += not passed
    print(f"{what}: logits up to {numpy.abs(logits).max():.2f}, at most {apart:.1e} apart, {len(set(tokens))} different "
          f"tokens follow, {'the same' if same else 'OTHERS'}{'' if passed else ': FAILED'}")


def loaded(directory):
    """What transformers makes of a directory, with nothing missing and nothing left."""
    model, said = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32, output_loading_info=True)
    assert not any(said[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys")), said
    return model


def turned(rows, heads, neighbours_first):
    """The rows of each head in the other order, as transformers' own script for Meta's files has it."""
    size, dim = rows.shape[0] // heads, rows.shape[1]
    if neighbours_first:
        return rows.view(heads, size // 2, 2, dim).transpose(1, 2).reshape(rows.shape)
    return rows.view(heads, 2, size // 2, dim).transpose(1, 2).reshape(rows.shape)


def llama2c_order(config):
    """The names of the tensors of a version 0 file, and for each of which heads its rows are, if they are turned."""
    layers = lambda name: [f"model.layers.{layer}.{name}.weight" for layer in range(config.num_hidden_layers)]
    heads = {"self_attn.q_proj": config.num_attention_heads, "self_attn.k_proj": config.num_key_value_heads}
    names = [("model.embed_tokens.weight", None)]
    for name in ["input_layernorm", "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
                 "post_attention_layernorm", "mlp.gate_proj", "mlp.down_proj", "mlp.up_proj"]:
        names += [(full, heads.get(name)) for full in layers(name)]
    return names + [("model.norm.weight", None), (None, None), ("lm_head.weight", None)]


def tables(config):
    size, length = config.hidden_size // config.num_attention_heads, config.max_position_embeddings
    angles = torch.outer(torch.arange(length), 10000.0 ** (-2 * torch.arange(size // 2).double() / size))
    return torch.cat([angles.cos().flatten(), angles.sin().flatten()]).float()


def write_llama2c(model, path):
    config, tensors = model.config, model.state_dict()
    vocab = config.vocab_size if config.tie_word_embeddings else -config.vocab_size
    parts = [struct.pack("7i", config.hidden_size, config.intermediate_size, config.num_hidden_layers,
                         config.num_attention_heads, config.num_key_value_heads, vocab,
                         config.max_position_embeddings)]
    for name, heads in llama2c_order(config):
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        tensor = tables(config) if name is None else tensors[name]
        parts.append((turned(tensor, heads, False) if heads else tensor).contiguous().numpy().tobytes())
    path.write_bytes(b"".join(parts))


def read_llama2c(path):
    data = path.read_bytes()
    dim, hidden, layers, heads, kv_heads, vocab, length = struct.unpack("7i", data[:28])
    config = LlamaConfig(vocab_size=abs(vocab), hidden_size=dim, num_hidden_layers=layers, num_attention_heads=heads,
                         num_key_value_heads=kv_heads, intermediate_size=hidden, max_position_embeddings=length,
                         rms_norm_eps=1e-5, tie_word_embeddings=vocab > 0)
    model = LlamaForCausalLM(config)
    values, tensors = torch.frombuffer(bytearray(data[28:]), dtype=torch.float32), model.state_dict()
    for name, turned_heads in llama2c_order(config):
        if name == "lm_head.weight" and vocab > 0:
            continue
        shape = tables(config).shape if name is None else tensors[name].shape
        tensor, values = values[:shape.numel()].view(shape), values[shape.numel():]
        if name is None:
            assert torch.allclose(tensor, tables(config), atol=1e-6)
        else:
            tensors[name].copy_(turned(tensor, turned_heads, True) if turned_heads else tensor)
    assert values.numel() == 0, f"{values.numel()} values are left"
    return model


with tempfile.TemporaryDirectory() as folder, torch.no_grad():
    folder = pathlib.Path(folder)
    torch.manual_seed(1)
    for name, table in TRAINED.items():
        config = folder / f"{name}.toml"
        config.write_text(f"[model]\n{table}\n{TRAIN}")
        anemone("train", "--quiet", "--config", config, "--out", folder / name)
        model = loaded(folder / name)
        assert type(model).__name__ == ("Qwen3ForCausalLM" if name == "qwen3" else "LlamaForCausalLM"), type(model)
        compare(f"trained here, {name}", folder / name, model)
    anemone("export", "--quiet", folder / "llama", folder / "llama.bin")
    compare("exported to llama2.c, llama", folder / "llama", read_llama2c(folder / "llama.bin"))

    for name, make in SAVED.items():
        for form, (dtype, shard) in FORMS.items():
            saved, model = folder / f"{name}-{form}", make().to(dtype)
            model.save_pretrained(saved, max_shard_size=shard)
            assert (len(list(saved.glob("*.safetensors"))) > 1) == (form == "sharded")
            # As loaded, and not as saved: `to` has rounded the rotary embedding's frequencies too.
            compare(f"saved there, {name}, {form}", saved, loaded(saved))
    for tied in [False, True]:
        model = LlamaForCausalLM(LlamaConfig(**SIZES, rms_norm_eps=1e-5, tie_word_embeddings=tied))
        write_llama2c(model, folder / "theirs.bin")
        compare(f"written as llama2.c does, {'tied' if tied else 'untied'}", folder / "theirs.bin", model)
        anemone("export", "--quiet", folder / "theirs.bin", folder / f"from-llama2c-{tied}")
        compare("that, for transformers", folder / "theirs.bin", loaded(folder / f"from-llama2c-{tied}"))

    # Fine-tuning begins where the other ended.
    anemone("train", "--quiet", "--init", folder / "qwen3-bf16", "--steps", 1, "--lr", "1e-9", "--out", folder / "tuned")
    compare("fine-tuned by next to nothing, qwen3", folder / "tuned", loaded(folder / "qwen3-bf16"))

print("All agree." if failures == 0 else f"{failures} FAILED")
sys.exit(failures > 0)
