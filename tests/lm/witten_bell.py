#!/usr/bin/env python3
"""Cross entropy of the interpolated Witten-Bell byte n-gram model, for the tests of crates/lm.

    p_n(b | c) = (count(c b) + T(c) p_{n-1}(b | c')) / (count(c) + T(c)),   p_0 = 1/256

c are the n - 1 bytes before b, c' is c without its first byte, and T(c) the number of different bytes that
follow c in the training text (Witten and Bell, 1991; Chen and Goodman, 1998, section 2.4). A context that the
training text does not have leaves p_{n-1}. Every byte of the validation text but its first is scored, with as
much of the text before it as there is, at most n - 1 bytes.

    python3 tests/lm/witten_bell.py --built-in FILE > tests/lm/witten_bell.json
    python3 tests/lm/witten_bell.py TEXT          nats per byte on the last tenth of a text

The cases of the file are made here; the figure for the built-in text is that of its text, as
`cargo run -p anemone-lm --example built_in_text` prints it, and comes in by `--built-in FILE`.
"""

import argparse
import json
import math
import random
import re
from collections import Counter, defaultdict
from pathlib import Path

ORDER = 5


def cross_entropy(train: bytes, validation: bytes, order: int = ORDER) -> float:
    counts = [Counter(train[i : i + n] for i in range(len(train) - n + 1)) for n in range(order + 1)]
    followers = defaultdict(set)
    totals = Counter()
    for n in range(1, order + 1):
        for gram, count in counts[n].items():
            followers[gram[:-1]].add(gram[-1])
            totals[gram[:-1]] += count

    def probability(gram: bytes) -> float:
        if not gram:
            return 1 / 256
        context, lower = gram[:-1], probability(gram[1:])
        distinct = len(followers[context]) if context in followers else 0
        if distinct == 0:
            return lower
        return (counts[len(gram)][gram] + distinct * lower) / (totals[context] + distinct)

    scored = Counter(validation[max(0, i + 1 - order) : i + 1] for i in range(1, len(validation)))
    nats = math.fsum(-count * math.log(probability(gram)) for gram, count in scored.items())
    return nats / max(1, len(validation) - 1)


def split(text: bytes) -> tuple[bytes, bytes]:
    """At the first end of a paragraph, else of a line, else of a word, from 90 % to 95 % of the bytes."""
    start, end = len(text) - len(text) // 10, len(text) - len(text) // 20
    for boundary in (rb"\n\n", rb"\n", rb"[ \t\n\r\f]"):
        found = re.compile(boundary).search(text, start, end)
        if found:
            return text[: found.end()], text[found.end() :]
    return text[:start], text[start:]


def cases() -> list[dict]:
    rng = random.Random(13)
    words = ["sea", "sand", "shell", "salt", "tide", "a", "the", "lone", "gull"]
    prose = lambda count: " ".join(rng.choice(words) for _ in range(count))
    noise = lambda count: "".join(chr(rng.randrange(32, 127)) for _ in range(count))
    texts = [
        ("abab", "abc"),
        ("", "nothing was counted"),
        ("aaaaaaaa", "aaaa"),
        ("abc", "abcabc"),
        (prose(300), prose(60)),
        (prose(200), noise(80)),
        (noise(400), prose(30)),
    ]
    return [
        {"train": train, "validation": validation, "nats_per_byte": cross_entropy(train.encode(), validation.encode())}
        for train, validation in texts
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("text", nargs="?", type=Path)
    parser.add_argument("--built-in", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    if arguments.text:
        print(cross_entropy(*split(arguments.text.read_bytes())))
        return
    result = {"order": ORDER, "cases": cases()}
    if arguments.built_in:
        result["built_in_nats_per_byte"] = cross_entropy(*split(arguments.built_in.read_bytes()))
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
