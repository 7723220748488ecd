"""The Transformer of PyTorch's pipeline tutorial, written out so that its dropout masks can be given.

The parameters live in torch.nn modules under PyTorch's names (encoder, layers.N, decoder), so that a state_dict is
exactly what a Penstock weight file holds. `Model.forward` is written from plain tensor operations; `forward_torch` runs
torch.nn.TransformerEncoderLayer's own forward (batch_first). Run as a program, this file checks that the two agree in
float64, outputs and gradients, with and without the causal mask, and with dropout when PyTorch's layer is handed the
same masks in the order in which it drops.
"""

import math

import torch
from torch import nn
import torch.nn.functional as F

import philox


def positions(time, emsize):
    """(time, emsize): sin(t * 10000^(-2i/E)) at feature 2i and its cosine at 2i + 1; in double, rounded to float32."""
    t = torch.arange(time, dtype=torch.float64).unsqueeze(1)
    frequency = torch.exp(torch.arange(0, emsize, 2, dtype=torch.float64) * (-math.log(10000.0) / emsize))
    table = torch.zeros(time, emsize, dtype=torch.float64)
    table[:, 0::2] = torch.sin(t * frequency)
    table[:, 1::2] = torch.cos(t * frequency)[:, : emsize // 2]
    return table.to(torch.float32)


class Dropout:
    """The masks of docs/random.md for one run: factor() gives keep ? scale : 0."""

    def __init__(self, p, seed):
        self.p = p
        self.seed = seed

    def factor(self, step, layer, site, shape, dtype):
        rows, *rest = shape
        keep = philox.keep(self.seed, step, layer, site, range(rows), tuple(rest), self.p)
        return torch.from_numpy(keep).to(dtype) * philox.scale(self.p)


class Model(nn.Module):
    """Batch-first; tokens (rows, time) to logits (rows, time, ntokens)."""

    def __init__(self, ntokens, emsize, nhead, nhid, nlayers, mask="causal", dtype=torch.float64):
        super().__init__()
        self.mask = mask
        self.nhead = nhead
        self.encoder = nn.Embedding(ntokens, emsize, dtype=dtype)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(emsize, nhead, nhid, dropout=0.0, batch_first=True, dtype=dtype)
            for _ in range(nlayers)
        )
        self.decoder = nn.Linear(emsize, ntokens, dtype=dtype)

    def load_numpy(self, values):
        self.load_state_dict({name: torch.from_numpy(value) for name, value in values.items()}, strict=True)

    def embed(self, tokens):
        emsize = self.encoder.embedding_dim
        return self.encoder(tokens) * math.sqrt(emsize) + positions(tokens.shape[1], emsize).to(self.encoder.weight.dtype)

    def attention(self, attn, x, drop):
        rows, time, emsize = x.shape
        size = emsize // self.nhead
        q, k, v = F.linear(x, attn.in_proj_weight, attn.in_proj_bias).chunk(3, dim=-1)
        q, k, v = (part.view(rows, time, self.nhead, size).transpose(1, 2) for part in (q, k, v))
        scores = q @ k.transpose(-2, -1) / math.sqrt(size)
        if self.mask == "causal":
            later = torch.ones(time, time, dtype=torch.bool).triu(1)
            scores = scores.masked_fill(later, -math.inf)
        probabilities = drop(0, scores.softmax(dim=-1))
        out = (probabilities @ v).transpose(1, 2).reshape(rows, time, emsize)
        return F.linear(out, attn.out_proj.weight, attn.out_proj.bias)

    def encoder_layer(self, layer, x, drop):
        x = layer.norm1(x + drop(1, self.attention(layer.self_attn, x, drop)))
        hidden = drop(2, F.relu(layer.linear1(x)))
        return layer.norm2(x + drop(3, layer.linear2(hidden)))

    def forward(self, tokens, dropout=None, step=0):
        """dropout: a Dropout for training with one, None for none; step: the global training step from 0."""

        def at(number):
            def drop(site, x):
                if dropout is None or dropout.p == 0.0:
                    return x
                return x * dropout.factor(step, number, site, x.shape, x.dtype)

            return drop

        x = at(0)(0, self.embed(tokens))
        for n, layer in enumerate(self.layers):
            x = self.encoder_layer(layer, x, at(n + 1))
        return self.decoder(x)

    def forward_torch(self, tokens):
        x = self.embed(tokens)
        mask = None
        if self.mask == "causal":
            mask = nn.Transformer.generate_square_subsequent_mask(tokens.shape[1], dtype=x.dtype)
        for layer in self.layers:
            x = layer(x, src_mask=mask, is_causal=mask is not None)
        return self.decoder(x)


def loss_of(logits, targets):
    """The mean cross entropy over all tokens; targets (rows, time)."""
    return F.cross_entropy(logits.reshape(-1, logits.shape[-1]), targets.reshape(-1))


class _GivenMasks:
    """Replaces the two functions through which torch.nn.TransformerEncoderLayer drops by ones that take our masks."""

    def __init__(self, dropout, step):
        self.dropout, self.step, self.layer, self.site = dropout, step, 1, 0

    def next_factor(self, x):
        factor = self.dropout.factor(self.step, self.layer, self.site, x.shape, x.dtype)
        self.layer, self.site = (self.layer, self.site + 1) if self.site < 3 else (self.layer + 1, 0)
        return factor

    def attention(self, q, k, v, attn_mask=None, dropout_p=0.0, is_causal=False, **_):
        assert self.site == 0 and dropout_p == self.dropout.p
        scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])
        if is_causal:
            scores = scores.masked_fill(torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1), -math.inf)
        elif attn_mask is not None:
            scores = scores + attn_mask
        probabilities = scores.softmax(dim=-1)
        return (probabilities * self.next_factor(probabilities)) @ v

    def drop(self, x, p=0.5, training=True, inplace=False):
        assert self.site in (1, 2, 3) and training and p == self.dropout.p
        return x * self.next_factor(x)

    def run(self, model, tokens):
        kept = F.scaled_dot_product_attention, F.dropout
        F.scaled_dot_product_attention, F.dropout = self.attention, self.drop
        for layer in model.layers:
            layer.self_attn.dropout = self.dropout.p
            layer.dropout.p = layer.dropout1.p = layer.dropout2.p = self.dropout.p
        try:
            x = model.embed(tokens)
            x = x * self.dropout.factor(self.step, 0, 0, x.shape, x.dtype)
            mask = None
            if model.mask == "causal":
                mask = nn.Transformer.generate_square_subsequent_mask(tokens.shape[1], dtype=x.dtype)
            for layer in model.layers:
                x = layer(x, src_mask=mask, is_causal=mask is not None)
            return model.decoder(x)
        finally:
            F.scaled_dot_product_attention, F.dropout = kept


def _compare(what, model, tokens, targets, forward, other):
    results = []
    for run in (forward, other):
        model.zero_grad()
        logits = run(tokens)
        loss_of(logits, targets).backward()
        results.append((logits.detach(), {n: p.grad.clone() for n, p in model.named_parameters()}))
    (ours, our_grads), (theirs, their_grads) = results
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-13)
    for name, grad in our_grads.items():
        torch.testing.assert_close(grad, their_grads[name], rtol=1e-10, atol=1e-14, msg=name)
    print(f"{what}: equal to torch.nn.TransformerEncoderLayer in float64")


def _check_against_torch():
    generator = torch.Generator().manual_seed(5)
    for mask in ("causal", "none"):
        for sizes in ((53, 24, 3, 40, 3), (61, 32, 4, 64, 2)):
            model = Model(*sizes, mask=mask)
            model.load_numpy(philox.initial_values(7, sizes[0], sizes[1], sizes[3], sizes[4]))
            tokens = torch.randint(sizes[0], (5, 7), generator=generator)
            targets = torch.randint(sizes[0], (5, 7), generator=generator)
            what = f"mask {mask}, sizes {sizes}"
            _compare(what, model, tokens, targets, model.forward, model.forward_torch)
            dropout = Dropout(0.2, 11)
            _compare(
                what + ", dropout 0.2",
                model,
                tokens,
                targets,
                lambda x: model.forward(x, dropout, 3),
                lambda x: _GivenMasks(dropout, 3).run(model, x),
            )


if __name__ == "__main__":
    _check_against_torch()
