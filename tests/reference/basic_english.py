#!/usr/bin/env python3
"""Token ids of a WikiText folder as torchtext's basic_english and build_vocab_from_iterator give them.

    basic_english.py DIR          prints, for each split, the number of tokens and the SHA-256 of the ids as
                                  little-endian int32, and the same of the vocabulary's words, one a line
    basic_english.py --text FILE  prints the tokens of a text file, one a line

torchtext itself is not needed; the replacements are those that its documentation lists. tests/data/test_corpus.c
holds the figures.
"""
import array
import collections
import hashlib
import os
import re
import sys

REPLACEMENTS = [
    (re.compile(pattern), text)
    for pattern, text in [
        (r"\'", " '  "),
        (r"\"", ""),
        (r"\.", " . "),
        (r"<br \/>", " "),
        (r",", " , "),
        (r"\(", " ( "),
        (r"\)", " ) "),
        (r"\!", " ! "),
        (r"\?", " ? "),
        (r"\;", " "),
        (r"\:", " "),
        (r"\s+", " "),
    ]
]


def tokens_of_line(line):
    line = line.lower()
    for pattern, text in REPLACEMENTS:
        line = pattern.sub(text, line)
    return line.split()


def tokens_of_file(path):
    with open(path, encoding="utf-8") as lines:
        return [token for line in lines for token in tokens_of_line(line)]


def report(name, count, data):
    print(f"{name} {count} {hashlib.sha256(data).hexdigest()}")


def main():
    if len(sys.argv) == 3 and sys.argv[1] == "--text":
        sys.stdout.reconfigure(encoding="utf-8")
        for token in tokens_of_file(sys.argv[2]):
            print(token)
        return 0
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    splits = {
        name: tokens_of_file(os.path.join(sys.argv[1], f"wiki.{name}.tokens")) for name in ("train", "valid", "test")
    }
    counts = collections.Counter(splits["train"])
    counts.pop("<unk>", None)
    words = ["<unk>"] + sorted(counts, key=lambda word: (-counts[word], word))
    ids = {word: i for i, word in enumerate(words)}
    for name, tokens in splits.items():
        numbers = array.array("i", (ids.get(token, 0) for token in tokens))
        if sys.byteorder == "big":
            numbers.byteswap()
        report(name, len(numbers), numbers.tobytes())
    report("vocabulary", len(words), "".join(word + "\n" for word in words).encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
