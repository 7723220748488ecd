"""WikiText-2 as the tutorial reads it: basic_english tokens, a vocabulary of the training split, columns and batches.

    python3 text.py DIR      checks the published counts of WikiText-2 in DIR
"""

import collections
import os
import re
import sys

import torch

# torchtext's basic_english: lower case, then these in turn, then split on white space.
_REPLACEMENTS = [
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"'", " '  "), (r'"', ""), (r"\.", " . "), (r"<br \/>", " "), (r",", " , "), (r"\(", " ( "), (r"\)", " ) "),
        (r"!", " ! "), (r"\?", " ? "), (r";", " "), (r":", " "), (r"\s+", " "),
    )
]  # fmt: skip


def tokenize(line):
    line = line.lower()
    for pattern, replacement in _REPLACEMENTS:
        line = pattern.sub(replacement, line)
    return line.split()


def read_tokens(folder, split):
    with open(os.path.join(folder, f"wiki.{split}.tokens"), encoding="utf-8", newline="\n") as lines:
        return [token for line in lines for token in tokenize(line)]


def build_vocabulary(tokens):
    """Token to number: <unk> first, then by falling count, ties in code-point order."""
    counts = collections.Counter(tokens)
    counts.pop("<unk>", None)
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return {token: number for number, token in enumerate(["<unk>"] + [token for token, _ in ordered])}


def load(folder):
    """The vocabulary and the splits train, valid and test as 1-D tensors of token numbers."""
    tokens = {split: read_tokens(folder, split) for split in ("train", "valid", "test")}
    vocabulary = build_vocabulary(tokens["train"])
    return vocabulary, {
        split: torch.tensor([vocabulary.get(token, 0) for token in words]) for split, words in tokens.items()
    }


def batchify(data, columns):
    rows = data.size(0) // columns
    return data.narrow(0, 0, rows * columns).view(columns, -1).t().contiguous()


def get_batch(source, i, bptt, misaligned=False):
    """Inputs (columns, time) and flat targets: batch-major as the predictions, or time-major as the tutorial has them."""
    time = min(bptt, len(source) - 1 - i)
    following = source[i + 1 : i + 1 + time]
    return source[i : i + time].t(), (following if misaligned else following.t()).reshape(-1)


def main():
    vocabulary, splits = load(sys.argv[1])
    sizes = {split: len(data) for split, data in splits.items()}
    print(f"vocabulary {len(vocabulary)}, tokens {sizes}")
    if len(vocabulary) != 28782 or sizes != {"train": 2049990, "valid": 214417, "test": 241859}:
        sys.exit("text.py: expected vocabulary 28782 and 2049990, 214417 and 241859 tokens, as WikiText-2 has them")
    for split, data in splits.items():
        total = int((data * (torch.arange(len(data)) % 65521 + 1)).sum() % 2**31)
        print(f"{split}: first {data[:12].tolist()}, last {data[-4:].tolist()}, weighted sum mod 2^31 {total}")


if __name__ == "__main__":
    main()
