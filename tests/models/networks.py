"""The networks whose Core ML models are compared: published architectures with random weights from a seed, small inputs.

Each entry of `NETWORKS` makes a PyTorch module and its inputs by name; those with `small` also as one of few weights, whose
package is kept beside this file. Where an architecture's depth only repeats what a
layer does, it is cut, so that all of them take minutes; widths, kernels and everything else are those that are published.
"""
import math

import torch
import torchvision
import transformers
from torch import nn
from torch.nn import functional as F

NETWORKS = {}
VOCABULARY = 1000


def network(**properties):
    """Adds a function to the networks, under its name with hyphens; `properties` are read by `compare.py`."""
    def add(build):
        NETWORKS[build.__name__.replace("_", "-")] = (build, properties)
        return build
    return add


class Call(nn.Module):
    """A module whose result is one tensor, or a tuple of them, made by `take` of what `module` returns."""

    def __init__(self, module, take):
        super().__init__()
        self.module, self.take = module, take

    def forward(self, *inputs):
        return self.take(self.module, *inputs)


def settled(module, generator):
    """Running statistics of batch norms as a trained network has them: not zero and one."""
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_(0, 0.1, generator=generator)
            part.running_var.uniform_(0.5, 1.5, generator=generator)
    return module.eval()


def image(generator, size=64):
    return {"image": torch.rand(1, 3, size, size, generator=generator)}


def tokens(generator, length=24):
    return torch.randint(0, VOCABULARY, (1, length), generator=generator, dtype=torch.int32)


def vision(name, size=64, **arguments):
    def build(generator):
        model = torchvision.models.get_model(name, weights=None, **arguments)
        return settled(model, generator), image(generator, size)
    return build


@network(flexible=True)
def resnet_18(generator):
    return vision("resnet18")(generator)


@network(small=True)
def mobilenet_v3(generator, small=False):
    return vision("mobilenet_v3_small", 32, width_mult=0.1, num_classes=10)(generator) if small else vision("mobilenet_v3_large")(generator)


@network()
def efficientnet_b0(generator):
    return vision("efficientnet_b0")(generator)


@network()
def densenet_121(generator):
    return vision("densenet121")(generator)


@network(compressed=True)
def convnext_tiny(generator):
    return vision("convnext_tiny")(generator)


@network(compressed=True)
def squeezenet(generator):
    return vision("squeezenet1_1")(generator)


@network()
def vit_b_16(generator):
    model, inputs = vision("vit_b_16", image_size=64)(generator)
    nn.init.normal_(model.heads.head.weight, std=0.02)  # it begins as zero
    return model, inputs


@network()
def swin_t(generator):
    return vision("swin_t")(generator)


@network()
def lr_aspp(generator):
    model, inputs = vision("lraspp_mobilenet_v3_large", weights_backbone=None)(generator)
    return Call(model, lambda module, x: module(x)["out"]).eval(), inputs


@network(functions=True)
def bert(generator):
    config = transformers.BertConfig(vocab_size=VOCABULARY, num_hidden_layers=2, attn_implementation="eager")
    model = transformers.BertModel(config, add_pooling_layer=False).eval()
    mask = torch.ones(1, 24, dtype=torch.int32)
    mask[:, 20:] = 0
    # As BERT first had it. The least fp32 number, which is infinite in fp16, makes NaN of what is not masked.
    model.get_extended_attention_mask = lambda mask, shape: (1 - mask[:, None, None, :].float()) * -1e4
    call = Call(model, lambda module, ids, mask: module(input_ids=ids, attention_mask=mask).last_hidden_state)
    return call.eval(), {"tokens": tokens(generator), "mask": mask}


@network(small=True, compressed=True)
def distilbert(generator, small=False):
    sizes = {"dim": 32, "hidden_dim": 64, "n_heads": 4, "max_position_embeddings": 32} if small else {}
    config = transformers.DistilBertConfig(vocab_size=VOCABULARY, n_layers=2, attn_implementation="eager", **sizes)
    model = transformers.DistilBertModel(config).eval()
    mask = torch.ones(1, 24, dtype=torch.int32)
    call = Call(model, lambda module, ids, mask: module(input_ids=ids, attention_mask=mask).last_hidden_state)
    return call.eval(), {"tokens": tokens(generator), "mask": mask}


@network()
def gpt2(generator):
    config = transformers.GPT2Config(vocab_size=VOCABULARY, n_layer=2, attn_implementation="eager", use_cache=False)
    model = transformers.GPT2LMHeadModel(config).eval()
    return Call(model, lambda module, ids: module(input_ids=ids).logits).eval(), {"tokens": tokens(generator)}


def kept(state):
    """Numbers as states keep them, which are fp16 in programs of any precision."""
    return state.half().float()


class CachedLlama(nn.Module):
    """Two layers of a Llama that writes one token: keys and values of those before it are states."""

    DIM, HEADS, LENGTH, LAYERS = 64, 4, 16, 2

    def __init__(self):
        super().__init__()
        dim, size = self.DIM, self.DIM // self.HEADS
        self.embedding = nn.Embedding(VOCABULARY, dim)
        self.layers = nn.ModuleList(
            nn.ModuleDict({"qkv": nn.Linear(dim, 3 * dim, bias=False), "out": nn.Linear(dim, dim, bias=False),
                           "gate": nn.Linear(dim, 2 * dim, bias=False), "up": nn.Linear(dim, 2 * dim, bias=False),
                           "down": nn.Linear(2 * dim, dim, bias=False)}) for _ in range(self.LAYERS))
        self.register_buffer("keys", torch.zeros(self.LAYERS, self.HEADS, self.LENGTH, size))
        self.register_buffer("values", torch.zeros(self.LAYERS, self.HEADS, self.LENGTH, size))

    def turned(self, x, position):
        half = x.shape[-1] // 2
        angle = position.to(x.dtype) * torch.exp(torch.arange(half) * (-math.log(10000.0) / half))
        first, second = x[..., :half], x[..., half:]
        return torch.cat((first * angle.cos() - second * angle.sin(), first * angle.sin() + second * angle.cos()), -1)

    def forward(self, token, position):
        x, size = self.embedding(token), self.DIM // self.HEADS
        here = (torch.arange(self.LENGTH) == position).to(x.dtype).reshape(1, self.LENGTH, 1)
        ahead = (torch.arange(self.LENGTH) > position).to(x.dtype) * -1e4
        for index, layer in enumerate(self.layers):
            normal = F.normalize(x, dim=-1) * self.DIM ** 0.5
            q, k, v = layer["qkv"](normal).reshape(3, self.HEADS, 1, size).unbind(0)
            q, k = self.turned(q, position), self.turned(k, position)
            self.keys[index] = kept(self.keys[index] * (1 - here) + k * here)
            self.values[index] = kept(self.values[index] * (1 - here) + v * here)
            scores = q @ self.keys[index].transpose(1, 2) / size ** 0.5 + ahead
            x = x + layer["out"]((scores.softmax(-1) @ self.values[index]).reshape(1, self.DIM))
            x = x + layer["down"](F.silu(layer["gate"](x)) * layer["up"](x))
        return x @ self.embedding.weight.t()


@network(small=True, states=("keys", "values"))
def llama(generator, small=False):
    model = CachedLlama().eval()
    with torch.no_grad():
        model.embedding.weight.mul_(0.1)
        for state in (model.keys, model.values):
            state[:, :, :5] = kept(torch.randn(state[:, :, :5].shape, generator=generator))
    return model, {"token": torch.tensor([7], dtype=torch.int32), "position": torch.tensor([5], dtype=torch.int32)}


def whisper():
    config = transformers.WhisperConfig(
        vocab_size=VOCABULARY, d_model=384, encoder_layers=2, decoder_layers=2, encoder_attention_heads=6, decoder_attention_heads=6,
        encoder_ffn_dim=1536, decoder_ffn_dim=1536, max_source_positions=100, pad_token_id=0, bos_token_id=1, eos_token_id=2,
        decoder_start_token_id=1, attn_implementation="eager", use_cache=False)
    return transformers.WhisperModel(config).eval()


@network()
def whisper_encoder(generator):
    call = Call(whisper().encoder, lambda module, mel: module(mel).last_hidden_state)
    return call.eval(), {"mel": torch.randn(1, 80, 200, generator=generator)}


@network()
def whisper_decoder(generator):
    # Its own way to the mask of what is ahead cannot be traced.
    ahead = -1e4 * torch.ones(8, 8).triu(1).reshape(1, 1, 8, 8)
    call = Call(whisper().decoder, lambda module, ids, heard: module(
        input_ids=ids, attention_mask=ahead, encoder_hidden_states=heard).last_hidden_state)
    return call.eval(), {"tokens": tokens(generator, 8), "heard": torch.randn(1, 100, 384, generator=generator)}


@network()
def wav2vec2(generator):
    config = transformers.Wav2Vec2Config(vocab_size=32, num_hidden_layers=2, attn_implementation="eager")
    model = transformers.Wav2Vec2ForCTC(config).eval()
    return Call(model, lambda module, sound: module(sound).logits).eval(), {"sound": torch.randn(1, 4000, generator=generator)}


@network(small=True)
def lstm(generator, small=False):
    call = Call(nn.LSTM(24, 32, num_layers=2, bidirectional=True), lambda module, x: module(x)[0])
    return call.eval(), {"x": torch.randn(9, 2, 24, generator=generator)}


@network(small=True)
def gru(generator, small=False):
    call = Call(nn.GRU(24, 32), lambda module, x: module(x)[0])
    return call.eval(), {"x": torch.randn(9, 1, 24, generator=generator)}


class UNet(nn.Module):
    """Two levels down and up, with group norm on the way down and instance norm on the way up."""

    def __init__(self, width=16):
        super().__init__()
        def block(channels, out, norm):
            return nn.Sequential(nn.Conv2d(channels, out, 3, padding=1), norm(out), nn.SiLU(), nn.Conv2d(out, out, 3, padding=1), norm(out), nn.ReLU())
        group, instance = (lambda n: nn.GroupNorm(4, n)), (lambda n: nn.InstanceNorm2d(n, affine=True))
        self.first, self.second = block(3, width, group), block(width, 2 * width, group)
        self.bottom = block(2 * width, 4 * width, group)
        self.up, self.rise = nn.ConvTranspose2d(4 * width, 2 * width, 2, stride=2), nn.Upsample(scale_factor=2, mode="bilinear")
        self.third, self.fourth = block(4 * width, 2 * width, instance), block(3 * width, width, instance)
        self.last = nn.Conv2d(width, 2, 1)

    def forward(self, x):
        first = self.first(x)
        second = self.second(F.max_pool2d(first, 2))
        bottom = self.bottom(F.avg_pool2d(second, 2))
        third = self.third(torch.cat((self.up(bottom), second), 1))
        return self.last(self.fourth(torch.cat((self.rise(third), first), 1)))


@network(small=True)
def u_net(generator, small=False):
    return UNet(4 if small else 16).eval(), image(generator, 32)


class Detector(nn.Module):
    """The head of a single-shot detector on one map of features: boxes and their scores, and the best that do not overlap."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU6(), nn.Conv2d(16, 16, 3, 2, 1), nn.ReLU6())
        self.offsets, self.scores = nn.Conv2d(16, 4, 3, padding=1), nn.Conv2d(16, 1, 3, padding=1)
        rows, columns = torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="ij")
        self.register_buffer("centers", torch.stack((columns, rows), -1).reshape(-1, 2) * 4 + 2)
        # Neighbours overlap by more than the threshold, others by less, and no two scores are close: rounding to fp16
        # changes neither which boxes are kept nor their order.
        self.register_buffer("priors", torch.linspace(-3, 3, 64)[(torch.arange(64) * 37) % 64])

    def forward(self, x):
        features = self.features(x)
        offsets = self.offsets(features).permute(0, 2, 3, 1).reshape(-1, 4)
        scores = torch.sigmoid(self.priors + 0.05 * self.scores(features).reshape(-1))
        center, size = self.centers + 0.5 * offsets[:, :2], 10 * torch.exp(0.1 * offsets[:, 2:])
        boxes = torch.cat((center - size / 2, center + size / 2), -1)
        kept = torchvision.ops.nms(boxes, scores, 0.3)
        return boxes[kept], scores[kept]


@network(small=True)
def ssd_head(generator, small=False):
    return Detector().eval(), image(generator, 32)
