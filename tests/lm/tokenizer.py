#!/usr/bin/env python3
"""Writes tokenizer/byte_level.json and tokenizer/byte_fallback.json, two small tokenizers in the forms of Llama 3 and
Llama 2, trained on the licence, and tokenizer/cases.json: what Hugging Face's library makes of some texts by them.

    python tests/lm/tokenizer.py

Needs from pip: tokenizers (0.23 made the files).
"""
import json
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

HERE = Path(__file__).parent
FOLDER = HERE / "tokenizer"
TEXT = (HERE.parent.parent / "LICENSE-APACHE").read_text() + "It's naïve, the café's 12345 €; größer — 北京. " * 4
# Of Llama 3.
WORDS = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
         r"|\s+(?!\S)|\s+")
CASES = [
    "", " ", "a", "The Work and such Derivative Works.", "  two  spaces\tand a tab \n\n\nlines\r\n  end  ",
    "It's we'll THEY'RE don't", "0 12 345 6789 1234567", "naïve café — größer €9.99; 北京, 🙂👩‍👩‍👧!", "\u0000\u001f\u007f\u0080\u00a0x",
    "<s>special</s><|end|> and <0x41> ▁ as text", "snowman ☃ and Ω≈ç√∫ e\u0301", "Licensor" * 30, TEXT[1000:3000],
]


def byte_level():
    """Byte-level BPE after a split into words, as Llama 3 and, with other words, GPT-2 and Qwen have it."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(WORDS), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=700, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    tokenizer.train_from_iterator([TEXT], trainer)
    tokenizer.add_special_tokens(["<|begin|>", "<|end|>"])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<|begin|> $A", special_tokens=[("<|begin|>", tokenizer.token_to_id("<|begin|>"))])
    return tokenizer


def byte_fallback():
    """BPE of characters with spaces as U+2581 and bytes for what it does not know, as Llama 2 has it."""
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.Metaspace()
    learner.train_from_iterator([TEXT[:9000]], trainers.BpeTrainer(vocab_size=450, show_progress=False))
    learned = json.loads(learner.to_str())["model"]
    tokens = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)]
    # A line break is always a byte, as in Llama 2.
    tokens += [token for token in sorted(learned["vocab"], key=learned["vocab"].get) if "\n" not in token]
    vocab = {token: i for i, token in enumerate(tokens)}
    merges = [tuple(merge) for merge in learned["merges"] if "\n" not in "".join(merge)]
    tokenizer = Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence([
        decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in tokens[:3]])
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return tokenizer


FOLDER.mkdir(exist_ok=True)
cases = {}
for make in (byte_level, byte_fallback):
    tokenizer = make()
    tokenizer.save(str(FOLDER / f"{make.__name__}.json"), pretty=False)
    # As it is read from the file.
    tokenizer = Tokenizer.from_file(str(FOLDER / f"{make.__name__}.json"))
    rows = []
    for text in CASES:
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        rows.append({"text": text, "ids": ids, "decoded": tokenizer.decode(ids, skip_special_tokens=False)})
    cases[make.__name__] = {"vocab": tokenizer.get_vocab_size(), "cases": rows}
(FOLDER / "cases.json").write_text(json.dumps(cases, ensure_ascii=False, separators=(",", ":")) + "\n")
