"""Trains tiny models in float64 PyTorch and stores what happened under tests/fixtures/NAME/, for the C tests.

    python3 make_fixtures.py [NAME…]            writes all fixtures, or those named
    python3 make_fixtures.py --check [NAME…]    computes again and compares with what is stored

The files and their fields are described in README.md beside this file. After each fixture the same run is done in
PyTorch's float32, and its largest relative deviation from float64 is printed: how well conditioned the run is.
"""

import argparse
import json
import math
import os
import sys

import numpy as np
from safetensors.numpy import load_file, save_file
import torch

import model as reference
import philox

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "fixtures")

BASE = {
    "ntokens": 53, "emsize": 24, "nhead": 3, "nhid": 40, "nlayers": 3, "batch_size": 5, "bptt": 7, "mask": "causal",
    "dropout": 0.0, "misaligned": False, "seed": 42, "steps": 5, "lr": 5.0, "lr_decay": 1.0, "clip": 0.5, "short_last": 0,
}  # fmt: skip

FIXTURES = {
    # Odd sizes everywhere; each step is clipped, as in the tutorial.
    "odd-causal": {},
    "odd-none": {"mask": "none", "seed": 43},
    # The clip is never reached, and the learning rate falls from step to step.
    "unclipped": {"lr": 0.5, "lr_decay": 0.95, "clip": 1000.0, "seed": 44},
    # Another shape: heads divide the width evenly in powers of two, a 64-bit seed.
    "even-causal": {
        "ntokens": 61, "emsize": 32, "nhead": 4, "nhid": 64, "nlayers": 3, "batch_size": 8, "bptt": 6,
        "seed": 0x0123456789ABCDEF,
    },  # fmt: skip
    # The tutorial's batch and length at a small width: 20 rows divide by 8 chunks unevenly.
    "tutorial-shape": {
        "ntokens": 101, "emsize": 16, "nhead": 2, "nhid": 48, "nlayers": 2, "batch_size": 20, "bptt": 25, "seed": 45,
    },  # fmt: skip
    "dropout-causal": {"dropout": 0.2, "seed": 46},
    "dropout-none": {
        "ntokens": 61, "emsize": 32, "nhead": 4, "nhid": 20, "nlayers": 2, "batch_size": 7, "bptt": 9, "mask": "none",
        "dropout": 0.1, "seed": 47,
    },  # fmt: skip
    # The tutorial as published: no mask, targets flattened time-major against batch-major predictions.
    "as-published": {"mask": "none", "misaligned": True, "dropout": 0.2, "seed": 48},
    # The last step has fewer time steps, as the last batch of a split does.
    "short-last": {"dropout": 0.2, "short_last": 3, "seed": 49, "nlayers": 2},
}


def batchify(stream, columns):
    """(rows, columns): column c holds the c-th of `columns` equal pieces of the stream; the remainder is dropped."""
    rows = len(stream) // columns
    return stream[: rows * columns].reshape(columns, rows).T


def get_batch(source, i, bptt, misaligned):
    """inputs and targets, both (columns, time); misaligned: the targets that the published tutorial compares with."""
    time = min(bptt, len(source) - 1 - i)
    inputs = source[i : i + time].T
    following = source[i + 1 : i + 1 + time]
    targets = following.reshape(inputs.shape) if misaligned else following.T
    return np.ascontiguousarray(inputs), np.ascontiguousarray(targets)


def make_batches(c):
    """The token stream and per step (inputs, targets). Tokens are skewed, so that some repeat within a batch."""
    rng = np.random.default_rng(c["seed"])
    rows = (c["steps"] - 1) * c["bptt"] + (c["short_last"] or c["bptt"]) + 1
    unit = rng.random(rows * c["batch_size"] + c["batch_size"] // 2)
    stream = (c["ntokens"] * unit * unit).astype(np.int32)
    source = batchify(stream, c["batch_size"])
    return stream, [get_batch(source, k * c["bptt"], c["bptt"], c["misaligned"]) for k in range(c["steps"])]


def train(c, start, batches, dtype):
    model = reference.Model(*[c[k] for k in ("ntokens", "emsize", "nhead", "nhid", "nlayers", "mask")], dtype=dtype)
    model.load_numpy(start)
    dropout = reference.Dropout(c["dropout"], c["seed"])
    tensors = [[torch.from_numpy(part).long() for part in batch] for batch in batches]
    result = {"loss": [], "grad_norm": [], "lr": [c["lr"] * c["lr_decay"] ** k for k in range(c["steps"])]}
    for step, (inputs, targets) in enumerate(tensors):
        model.zero_grad()
        loss = reference.loss_of(model(inputs, dropout, step), targets)
        loss.backward()
        if step == 0:
            result["grads"] = {name: p.grad.numpy().astype(np.float32) for name, p in model.named_parameters()}
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), c["clip"])
        torch.optim.SGD(model.parameters(), lr=result["lr"][step]).step()
        result["loss"].append(loss.item())
        result["grad_norm"].append(norm.item())
    with torch.no_grad():
        result["eval_loss"] = [reference.loss_of(model(i), t).item() for i, t in tensors]
    result["after"] = {name: p.detach().numpy().astype(np.float32) for name, p in model.named_parameters()}
    return result


def build(name):
    c = {**BASE, **FIXTURES[name]}
    start = philox.initial_values(c["seed"], c["ntokens"], c["emsize"], c["nhid"], c["nlayers"])
    stream, batches = make_batches(c)
    double = train(c, start, batches, torch.float64)
    single = train(c, start, batches, torch.float32)

    def deviation(key):
        return max(abs(s - d) / abs(d) for s, d in zip(single[key], double[key]))

    print(f"{name:15} loss {double['loss'][0]:.4f} -> {double['loss'][-1]:.4f}, norm {double['grad_norm'][0]:.3f} -> "
          f"{double['grad_norm'][-1]:.3f}; float32 deviates by {deviation('loss'):.1e} in the loss, "
          f"{deviation('grad_norm'):.1e} in the norm, {deviation('eval_loss'):.1e} in the evaluation")  # fmt: skip
    arrays = {"stream": stream}
    for step, (inputs, targets) in enumerate(batches):
        arrays[f"inputs.{step}"] = inputs
        arrays[f"targets.{step}"] = targets
    c["parameters"] = sum(value.size for value in start.values())
    return c, {"start": start, "after": double["after"], "grads": double["grads"], "batches": arrays}, double


def json_text(c, result):
    lines = [f' {json.dumps(key)}: {json.dumps(value)}' for key, value in c.items()]
    for key in ("lr", "loss", "grad_norm", "eval_loss"):
        name = "lr_of_step" if key == "lr" else key
        lines.append(f' "{name}": [' + ", ".join(f"{value:.17g}" for value in result[key]) + "]")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def write(name):
    c, files, result = build(name)
    folder = os.path.join(ROOT, name)
    os.makedirs(folder, exist_ok=True)
    for stem, arrays in files.items():
        save_file(arrays, os.path.join(folder, stem + ".safetensors"))
    with open(os.path.join(folder, "fixture.json"), "w", encoding="utf-8") as out:
        out.write(json_text(c, result))


def check(name):
    """True where the stored fixture equals what is computed now, up to the rounding of another PyTorch or CPU."""
    c, files, result = build(name)
    folder = os.path.join(ROOT, name)
    with open(os.path.join(folder, "fixture.json"), encoding="utf-8") as stored:
        kept = json.load(stored)
    good = all(kept[key] == value for key, value in c.items())
    for key in ("loss", "grad_norm", "eval_loss"):
        good = good and all(math.isclose(a, b, rel_tol=1e-10) for a, b in zip(kept[key], result[key], strict=True))
    for stem, arrays in files.items():
        kept = load_file(os.path.join(folder, stem + ".safetensors"))
        good = good and kept.keys() == arrays.keys()
        exact = stem in ("start", "batches")
        for key in arrays:
            same = np.array_equal if exact else lambda a, b: np.allclose(a, b, rtol=1e-6, atol=1e-8)
            good = good and kept[key].dtype == arrays[key].dtype and same(kept[key], arrays[key])
    return good


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("names", nargs="*", metavar="NAME")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    failed = []
    for name in arguments.names or FIXTURES:
        if not arguments.check:
            write(name)
        elif not check(name):
            failed.append(name)
    if failed:
        sys.exit(f"make_fixtures.py: differs from what is stored: {', '.join(failed)}")


if __name__ == "__main__":
    main()
