"""Opens a weight file that Penstock saved and loads it into a torch.nn model by name.

    python3 load_saved.py FILE --nhead 4 --tokens 5,17,2,9          the likeliest next token after each
    python3 load_saved.py FILE --nhead 4 --check-forward DIR        the loss on the validation split in DIR

The model is nothing but torch.nn: an Embedding named encoder, a list of TransformerEncoderLayer named layers, a Linear
named decoder. load_state_dict(strict=True) refuses any name or shape that is missing, wrong or unknown. All sizes are
the file's own except the number of heads, which no shape shows; it is taken from the file's metadata where that has it.

--check-forward computes the mean loss per token over the first --eval-steps batches of a split, as `penstock eval` does
with the same options; --expect X makes the exit status 1 where it differs by more than --tolerance, relative.
"""

import argparse
import math
import sys

from safetensors import safe_open
import torch
from torch import nn

import text


class Transformer(nn.Module):
    def __init__(self, ntokens, emsize, nhead, nhid, nlayers):
        super().__init__()
        self.encoder = nn.Embedding(ntokens, emsize)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(emsize, nhead, nhid, dropout=0.0, batch_first=True) for _ in range(nlayers)
        )
        self.decoder = nn.Linear(emsize, ntokens)

    def forward(self, tokens, causal):
        time, emsize = tokens.shape[1], self.encoder.embedding_dim
        t = torch.arange(time, dtype=torch.float64).unsqueeze(1)
        angle = t * torch.exp(torch.arange(0, emsize, 2, dtype=torch.float64) * (-math.log(10000.0) / emsize))
        table = torch.stack((angle.sin(), angle.cos()), dim=-1).reshape(time, -1)[:, :emsize]
        x = self.encoder(tokens) * math.sqrt(emsize) + table.to(self.encoder.weight.dtype)
        mask = nn.Transformer.generate_square_subsequent_mask(time, dtype=x.dtype) if causal else None
        for layer in self.layers:
            x = layer(x, src_mask=mask, is_causal=causal)
        return self.decoder(x)


def load(path, nhead=None):
    with safe_open(path, framework="pt") as stored:
        metadata = stored.metadata() or {}
        weights = {name: stored.get_tensor(name) for name in stored.keys()}
    nhead = nhead or int(metadata.get("nhead", 0))
    if not nhead:
        sys.exit(f"load_saved.py: {path} does not say how many heads the model has; give --nhead N")
    wrong = [f"{name} is {tensor.dtype}" for name, tensor in weights.items()
             if tensor.dtype not in (torch.float32, torch.bfloat16)]
    if wrong or "encoder.weight" not in weights:
        sys.exit(f"load_saved.py: {path}: {', '.join(wrong) or 'no encoder.weight'}; expected float32 or bfloat16 weights by name")
    ntokens, emsize = weights["encoder.weight"].shape
    layers = {name.split(".")[1] for name in weights if name.startswith("layers.")}
    nhid = weights["layers.0.linear1.weight"].shape[0]
    model = Transformer(ntokens, emsize, nhead, nhid, len(layers))
    model.load_state_dict(weights, strict=True)
    print(f"{path}: {sum(p.numel() for p in model.parameters()):,} parameters; V {ntokens}, width {emsize}, "
          f"{nhead} heads, feed-forward {nhid}, {len(layers)} layers; metadata {metadata}")  # fmt: skip
    return model.eval()


def mean_loss(model, data, bptt, steps, causal):
    total, tokens = 0.0, 0
    for i in range(0, min(steps * bptt, len(data) - 1), bptt):
        inputs, targets = text.get_batch(data, i, bptt)
        logits = model(inputs, causal)
        total += nn.functional.cross_entropy(logits.flatten(0, 1), targets, reduction="sum").item()
        tokens += targets.numel()
    return total / tokens


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", metavar="FILE")
    parser.add_argument("--nhead", type=int)
    parser.add_argument("--mask", choices=("causal", "none"), default="causal")
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float64", help="of the computation")
    parser.add_argument("--tokens", help="token numbers, comma-separated")
    parser.add_argument("--check-forward", metavar="DIR", help="a folder with wiki.{train,valid,test}.tokens")
    parser.add_argument("--split", choices=("train", "valid", "test"), default="valid")
    parser.add_argument("--eval-batch-size", type=int, default=10)
    parser.add_argument("--bptt", type=int, default=25)
    parser.add_argument("--eval-steps", type=int, default=50)
    parser.add_argument("--expect", type=float, metavar="LOSS")
    parser.add_argument("--tolerance", type=float, default=1e-5)
    o = parser.parse_args()
    model = load(o.file, o.nhead).to(getattr(torch, o.dtype))
    causal = o.mask == "causal"
    with torch.no_grad():
        if o.tokens:
            tokens = torch.tensor([[int(token) for token in o.tokens.split(",")]])
            logits = model(tokens, causal)[0].log_softmax(dim=-1)
            for token, row in zip(tokens[0].tolist(), logits):
                print(f"after {token}: likeliest {row.argmax().item()}, log-probability {row.max().item():.9g}")
        if o.check_forward:
            vocabulary, splits = text.load(o.check_forward)
            if len(vocabulary) != model.encoder.num_embeddings:
                sys.exit(f"load_saved.py: {o.check_forward} has {len(vocabulary)} tokens in its vocabulary, "
                         f"{o.file} {model.encoder.num_embeddings}")  # fmt: skip
            data = text.batchify(splits[o.split], o.eval_batch_size)
            loss = mean_loss(model, data, o.bptt, o.eval_steps, causal)
            print(f"{o.split} loss {loss:.17g} ppl {math.exp(min(loss, 709)):.9g}")
            if o.expect is not None and not abs(loss - o.expect) <= o.tolerance * abs(o.expect):
                print(f"load_saved.py: expected {o.expect:.17g}", file=sys.stderr)
                return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
