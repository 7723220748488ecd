"""Start weights from docs/random.md alone: their sums, to lay beside those of another implementation.

    python3 initial_values.py                                     a few parameters of the full-size model, seed 42
    python3 initial_values.py --seed 7 --emsize 64 … FILE         compares every weight in FILE with the page, bit by bit

For each parameter it prints the number of elements, their sum and sum of absolute values in double, the first and the
last element, and the CRC-32 of the float32 bytes in little-endian order. FILE is a safetensors file of a run's weights
before its first step; the sizes are taken from it, except nhead, on which start values do not depend.
"""

import argparse
import sys
import zlib

import numpy as np
from safetensors.numpy import load_file

import philox


def line(name, value):
    flat = value.reshape(-1)
    wide = flat.astype(np.float64)
    crc = zlib.crc32(flat.astype("<f4").tobytes())
    return (f"{name:36} {flat.size:>9} sum {wide.sum():.9e} abs {np.abs(wide).sum():.9e} "
            f"first {flat[0]:.9g} last {flat[-1]:.9g} crc {crc:08x}")  # fmt: skip


def sizes_of(stored):
    ntokens, emsize = stored["encoder.weight"].shape
    nlayers = len({name.split(".")[1] for name in stored if name.startswith("layers.")})
    return ntokens, emsize, stored["layers.0.linear1.weight"].shape[0], nlayers


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=42)
    for name, value in (("ntokens", 28782), ("emsize", 4096), ("nhid", 4096), ("nlayers", 12)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--all", action="store_true", help="every parameter, not a few")
    parser.add_argument("file", nargs="?", metavar="FILE")
    o = parser.parse_args()
    if o.file is None:
        few = {"layers.0.self_attn.out_proj.weight", "layers.0.linear1.bias", "decoder.bias",
               f"layers.{o.nlayers - 1}.linear2.weight", f"layers.{o.nlayers - 1}.linear2.bias"}  # fmt: skip
        values = philox.initial_values(
            o.seed, o.ntokens, o.emsize, o.nhid, o.nlayers, None if o.all else lambda name: name in few
        )
        for name, value in values.items():
            print(line(name, value))
        return 0
    stored = load_file(o.file)
    values = philox.initial_values(o.seed, *sizes_of(stored))
    if stored.keys() != values.keys():
        sys.exit(f"initial_values.py: {o.file}: names differ: {sorted(stored.keys() ^ values.keys())}")
    different = 0
    for name, value in values.items():
        print(line(name, stored[name]))
        if stored[name].shape != value.shape or stored[name].tobytes() != value.tobytes():
            print(line(" expected", value))
            different += 1
    print(f"{len(values) - different} of {len(values)} parameters are the start values of seed {o.seed}")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
