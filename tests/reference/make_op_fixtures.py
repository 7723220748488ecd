"""Single operations, forward and backward, in float64 PyTorch: writes tests/fixtures/ops.safetensors.

    python3 make_op_fixtures.py [--check]

README.md beside this file lists the tensors.
"""

import math
import os
import sys

import numpy as np
from safetensors.numpy import load_file, save_file
import torch
import torch.nn.functional as F

import model as reference
import philox

PATH = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "fixtures", "ops.safetensors")
STEP, LAYER, SEED = 3, 2, 42


def normal(rng, *shape):
    """Float32 values as float64 leaves, so that the stored inputs are exactly those computed with."""
    return torch.from_numpy(rng.standard_normal(shape).astype(np.float32)).double().requires_grad_()


def store(out, op, y, grad_y, **tensors):
    y.backward(grad_y)
    out[f"{op}.y"], out[f"{op}.grad.y"] = y, grad_y
    for name, tensor in tensors.items():
        out[f"{op}.{name}"] = tensor
        if tensor.requires_grad:
            out[f"{op}.grad.{name}"] = tensor.grad


def layer_norm(out, rng):
    x, weight, bias = normal(rng, 7, 24), normal(rng, 24), normal(rng, 24)
    y = F.layer_norm(x, (24,), weight, bias, 1e-5)
    store(out, "layer_norm", y, normal(rng, 7, 24).detach(), x=x, weight=weight, bias=bias)


def cross_entropy(out, rng):
    logits = normal(rng, 6, 53)
    targets = torch.from_numpy(rng.integers(0, 53, 6))
    loss = F.cross_entropy(logits, targets)
    loss.backward()
    out.update({"cross_entropy.logits": logits, "cross_entropy.targets": targets,
                "cross_entropy.loss": loss.reshape(1), "cross_entropy.grad.logits": logits.grad})  # fmt: skip


def embedding(out, rng):
    weight = normal(rng, 17, 12)
    tokens = torch.from_numpy(rng.integers(0, 17, (3, 7)))
    y = F.embedding(tokens, weight) * math.sqrt(12) + reference.positions(7, 12).double()
    store(out, "embedding", y, normal(rng, 3, 7, 12).detach(), tokens=tokens, weight=weight)


def attention(out, rng, op, causal, dropout):
    qkv = normal(rng, 2, 5, 36)
    q, k, v = (part.view(2, 5, 3, 4).transpose(1, 2) for part in qkv.chunk(3, dim=-1))
    scores = q @ k.transpose(-2, -1) / 2.0
    if causal:
        scores = scores.masked_fill(torch.ones(5, 5, dtype=torch.bool).triu(1), -math.inf)
    probabilities = scores.softmax(dim=-1)
    if dropout:
        probabilities = probabilities * dropout.factor(STEP, LAYER, 0, probabilities.shape, torch.float64)
    y = (probabilities @ v).transpose(1, 2).reshape(2, 5, 12)
    store(out, op, y, normal(rng, 2, 5, 12).detach(), qkv=qkv)


def encoder_layer(out, rng, dropout):
    model = reference.Model(17, 12, 3, 20, 2)
    start = philox.initial_values(SEED, 17, 12, 20, 2)
    model.load_numpy(start)
    layer = model.layers[LAYER - 1]
    with torch.no_grad():
        for name, parameter in layer.named_parameters():
            if name.startswith("norm") or name.startswith("self_attn") and name.endswith("bias"):
                parameter += normal(rng, *parameter.shape) * 0.125
                parameter.copy_(parameter.float())
    x = normal(rng, 2, 5, 12)
    y = model.encoder_layer(layer, x, lambda site, t: t * dropout.factor(STEP, LAYER, site, t.shape, t.dtype))
    store(out, "encoder_layer", y, normal(rng, 2, 5, 12).detach(), x=x, **dict(layer.named_parameters()))


def main():
    torch.set_num_threads(1)
    rng, out, dropout = np.random.default_rng(1), {}, reference.Dropout(0.2, SEED)
    layer_norm(out, rng)
    cross_entropy(out, rng)
    embedding(out, rng)
    attention(out, rng, "attention_none", False, None)
    attention(out, rng, "attention_causal", True, None)
    attention(out, rng, "attention_dropout", True, dropout)
    encoder_layer(out, rng, dropout)
    arrays = {}
    for name, tensor in out.items():
        value = tensor.detach().numpy()
        arrays[name] = np.ascontiguousarray(value.astype(np.float32 if value.dtype.kind == "f" else np.int32))
    if sys.argv[1:] != ["--check"]:
        save_file(arrays, PATH)
        print(f"{len(arrays)} tensors, {sum(a.nbytes for a in arrays.values())} bytes")
        return
    stored = load_file(PATH)
    if stored.keys() != arrays.keys():
        sys.exit(f"make_op_fixtures.py: names differ: {sorted(stored.keys() ^ arrays.keys())}")
    wrong = [name for name in arrays if not np.allclose(stored[name], arrays[name], rtol=1e-6, atol=1e-8)]
    if wrong:
        sys.exit(f"make_op_fixtures.py: differs from what is stored: {', '.join(wrong)}")


if __name__ == "__main__":
    main()
