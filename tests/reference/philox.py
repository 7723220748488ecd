"""Penstock's random numbers in numpy, written from docs/random.md alone.

Run as a program it checks the test vectors of that page.
"""

import math

import numpy as np

STEP_INIT = 0xFFFFFFFF
SITE_PARAMETER = 128

_MASK = np.uint64(0xFFFFFFFF)
_SHIFT = np.uint64(32)


def philox4x32(counter, key):
    """The blocks of a counter of four arrays (broadcast together) and a key of two integers: (..., 4) of uint32."""
    c = np.broadcast_arrays(*[np.asarray(word, dtype=np.uint64) for word in counter])
    k0, k1 = key
    for _ in range(10):
        p = np.uint64(0xD2511F53) * c[0]
        q = np.uint64(0xCD9E8D57) * c[2]
        c = [
            (q >> _SHIFT) ^ c[1] ^ np.uint64(k0),
            q & _MASK,
            (p >> _SHIFT) ^ c[3] ^ np.uint64(k1),
            p & _MASK,
        ]
        k0 = (k0 + 0x9E3779B9) & 0xFFFFFFFF
        k1 = (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return np.stack(c, axis=-1).astype(np.uint32)


def words(seed, step, layer, site, rows, count):
    """The words of elements 0 to count - 1 of each of the rows: (len(rows), count) of uint32."""
    rows = np.asarray(rows, dtype=np.uint64).reshape(-1, 1)
    blocks = np.arange((count + 3) // 4, dtype=np.uint64).reshape(1, -1)
    counter = (blocks, rows, np.uint64(step), np.uint64(layer << 8 | site))
    out = philox4x32(counter, (seed & 0xFFFFFFFF, seed >> 32))
    return out.reshape(rows.shape[0], -1)[:, :count]


def threshold(p):
    """The smallest word that is kept."""
    return math.floor(float(np.float32(p)) * 2.0**32)


def scale(p):
    """The factor of kept values, a float32 as a Python float."""
    return float(np.float32(1.0 / (1.0 - float(np.float32(p)))))


def keep(seed, step, layer, site, rows, shape, p):
    """The dropout mask of the rows: (len(rows), *shape) of bool, True where the element is kept."""
    count = math.prod(shape)
    return (words(seed, step, layer, site, rows, count) >= np.uint32(threshold(p))).reshape(-1, *shape)


def updated(seed, step, layer, index, w, g, lr, clip_scale):
    """bf16 weights (as float32) after an update, rounded at random; exact where the fused product is exact in double."""
    halves = words(seed, step, layer, SITE_PARAMETER + index, [0], (w.size + 1) // 2)[0]
    r = np.stack((halves & np.uint32(0xFFFF), halves >> np.uint32(16)), axis=-1).ravel()[: w.size]
    rate = float(np.float32(lr * clip_scale))
    v = (w.ravel().astype(np.float64) - rate * g.ravel().astype(np.float64)).astype(np.float32)
    bits = (v.view(np.uint32) + r) & np.uint32(0xFFFF0000)
    return bits.view(np.float32).reshape(w.shape)


def uniform(seed, layer, index, shape, bound):
    """Start values of the layer's parameter number index, from U(-bound, bound), as float32."""
    count = math.prod(shape)
    unit = words(seed, STEP_INIT, layer, SITE_PARAMETER + index, [0], count)[0].astype(np.float64) / 2.0**32
    return (-bound + (bound - -bound) * unit).astype(np.float32).reshape(shape)


def initial_values(seed, ntokens, emsize, nhid, nlayers, only=None):
    """All start weights by name in PyTorch's shapes, as float32; only: a function of the name that selects some."""
    attention = 1.0 / math.sqrt(emsize)
    feedforward = 1.0 / math.sqrt(nhid)
    zero, one = np.zeros, np.ones
    layer_parameters = [
        ("self_attn.in_proj_weight", (3 * emsize, emsize), math.sqrt(6.0 / (4.0 * emsize))),
        ("self_attn.in_proj_bias", (3 * emsize,), zero),
        ("self_attn.out_proj.weight", (emsize, emsize), attention),
        ("self_attn.out_proj.bias", (emsize,), zero),
        ("linear1.weight", (nhid, emsize), attention),
        ("linear1.bias", (nhid,), attention),
        ("linear2.weight", (emsize, nhid), feedforward),
        ("linear2.bias", (emsize,), feedforward),
        ("norm1.weight", (emsize,), one),
        ("norm1.bias", (emsize,), zero),
        ("norm2.weight", (emsize,), one),
        ("norm2.bias", (emsize,), zero),
    ]
    layers = [(0, "", [("encoder.weight", (ntokens, emsize), 0.1)])]
    layers += [(n + 1, f"layers.{n}.", layer_parameters) for n in range(nlayers)]
    layers += [(nlayers + 1, "", [("decoder.weight", (ntokens, emsize), 0.1), ("decoder.bias", (ntokens,), zero)])]
    values = {}
    for number, prefix, parameters in layers:
        for index, (name, shape, how) in enumerate(parameters):
            if only is not None and not only(prefix + name):
                continue
            if callable(how):
                values[prefix + name] = how(shape, dtype=np.float32)
            else:
                values[prefix + name] = uniform(seed, number, index, shape, how)
    return values


def _check_vectors():
    vectors = [
        (0, 0, 0, 0, 0, 0, "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        (1, 0, 0, 0, 0, 0, "e3e80670 e50a0ebc 95f222c0 b615aa27"),
        (42, 0, 1, 0, 0, 0, "e4687d13 bd503d09 375a56e3 cf6b9f33"),
        (42, 0, 1, 0, 0, 1, "4c17cd8f e790bf28 059b1450 e8ce9c44"),
        (42, 7, 3, 2, 19, 1234, "2604323f f7f74451 2c94b718 4602aeb0"),
        (0x0123456789ABCDEF, 4, 13, 3, 5, 6, "ec4fee60 34f115c2 cb28a72d 4e9f57d8"),
        (42, STEP_INIT, 0, 128, 0, 0, "6f7d031a 07375275 38727836 3b2f1252"),
        (42, STEP_INIT, 2, 132, 0, 3, "efafba0e 2fcb2a12 4e35eed3 80b625e2"),
        (2**64 - 1, STEP_INIT, 0xFFFFFF, 255, 2**32 - 1, 2**32 - 1, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ]
    for seed, step, layer, site, row, block, expected in vectors:
        got = philox4x32((block, row, step, layer << 8 | site), (seed & 0xFFFFFFFF, seed >> 32))
        assert " ".join(f"{word:08x}" for word in got.ravel()) == expected, (seed, step, layer, site, row, block)
    assert [threshold(p) for p in (0.0, 0.1, 0.2, 0.5)] == [0, 429496736, 858993472, 2147483648]
    assert scale(0.2) == 1.25 and scale(0.1) == float(np.float32(1.11111116))
    mask = keep(7, 3, 2, 1, [0, 1], (4, 6), 0.2).astype(int)
    rows = [" ".join("".join(map(str, time)) for time in row) for row in mask]
    assert rows == ["110111 111111 111111 111110", "111111 011111 111111 111111"], rows
    w = updated(7, 5, 1, 0, np.ones(32, np.float32), -np.ones(32, np.float32), 2.0**-10, 1.0)
    up = "".join(str(int(value > 1)) for value in w)
    assert " ".join(up[i : i + 8] for i in range(0, 32, 8)) == "00000000 11001010 00010100 10010000", up
    start = uniform(42, 0, 0, (8,), 0.1)
    expected = "-0.0128997434 -0.0943624228 -0.0559006669 -0.0537625998 0.0599581487 -0.0686209425 0.048518125 0.077481091"
    assert start.tolist() == [float(np.float32(text)) for text in expected.split()], start


if __name__ == "__main__":
    _check_vectors()
    print("philox.py: all vectors of docs/random.md hold")
