"""PyTorch's pipeline tutorial as published, on the CPU, without Pipe and at any size; its mistakes are kept.

    python3 tutorial_as_published.py --data DIR --emsize 64 --nhead 4 --nhid 64 --nlayers 2 --steps-per-epoch 20

Pipe only splits the work, so one process computes the same. docs/tutorial.md explains the six mistakes, which are marked
below by their numbers; --preset tutorial does each right. Start weights and dropout masks are Penstock's for the seed
(docs/random.md), so that `penstock train` with the same options can be laid beside it: compare_logs.py does so from the
--log files of both. With --masks torch the dropout is PyTorch's own.
"""

import argparse
import copy
import json
import math
import time
import warnings

from safetensors.numpy import load_file, save_file
import torch
import torch.nn.functional as F

import model as reference
import philox
import text


class TorchDropout:
    def __init__(self, p):
        self.p = p

    def factor(self, step, layer, site, shape, dtype):
        return F.dropout(torch.ones(shape, dtype=dtype), self.p)


def exp(x):
    return math.exp(x) if x < 709 else math.inf


def positive_int(value):
    if int(value) < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return int(value)


def options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=("tutorial-as-published", "tutorial"), default="tutorial-as-published")
    parser.add_argument("--data", required=True, metavar="DIR", help="a folder with wiki.{train,valid,test}.tokens")
    for name, value in (
        ("emsize", 4096), ("nhead", 16), ("nhid", 4096), ("nlayers", 12), ("batch-size", 20), ("eval-batch-size", 10),
        ("bptt", 25), ("epochs", 3), ("steps-per-epoch", 50), ("eval-steps", 50), ("log-interval", 10),
    ):  # fmt: skip
        parser.add_argument(f"--{name}", type=positive_int, default=value, metavar="N", help=f"default {value}")
    for name, value in (("dropout", 0.2), ("lr", 5.0), ("lr-decay", 0.95), ("clip", 0.5)):
        parser.add_argument(f"--{name}", type=float, default=value, metavar="X", help=f"default {value}")
    parser.add_argument("--mask", choices=("causal", "none"), help="default: the preset's")
    parser.add_argument("--seed", type=int, default=42, metavar="N", help="default 42")
    parser.add_argument("--masks", choices=("philox", "torch"), default="philox", help="where dropout masks come from")
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32")
    parser.add_argument("--init", metavar="FILE", help="start weights, safetensors; default: drawn from the seed")
    parser.add_argument("--save", metavar="FILE", help="the weights that were tested")
    parser.add_argument("--log", metavar="FILE", help="one JSON object a line, as penstock train --log writes")
    arguments = parser.parse_args()
    arguments.published = arguments.preset == "tutorial-as-published"
    arguments.mask = arguments.mask or ("none" if arguments.published else "causal")  # mistake 2: no mask
    return arguments


class Run:
    def __init__(self, o):
        self.o = o
        self.log = open(o.log, "w", encoding="utf-8") if o.log else None
        vocabulary, splits = text.load(o.data)
        self.ntokens = len(vocabulary)
        self.train_data = text.batchify(splits["train"], o.batch_size)
        self.eval_data = {split: text.batchify(splits[split], o.eval_batch_size) for split in ("valid", "test")}
        self.model = reference.Model(
            self.ntokens, o.emsize, o.nhead, o.nhid, o.nlayers, o.mask, dtype=getattr(torch, o.dtype)
        )
        values = load_file(o.init) if o.init else philox.initial_values(o.seed, self.ntokens, o.emsize, o.nhid, o.nlayers)
        self.model.load_numpy(values)
        self.parameters = sum(p.numel() for p in self.model.parameters())
        print(f"Total parameters in model: {self.parameters:,}", flush=True)
        self.dropout = reference.Dropout(o.dropout, o.seed) if o.masks == "philox" else TorchDropout(o.dropout)
        torch.manual_seed(o.seed)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=o.lr)
        self.scheduler = torch.optim.lr_scheduler.StepLR(self.optimizer, 1.0, gamma=o.lr_decay)
        self.step = 0
        self.record(event="start", **{k: v for k, v in vars(o).items() if k != "published"}, parameters=self.parameters)

    def record(self, **fields):
        if self.log:
            print(json.dumps(fields), file=self.log, flush=True)

    def batches(self, data, steps):
        bptt = self.o.bptt
        for i in range(0, min(steps * bptt, len(data) - 1), bptt):
            # Mistake 1: as published the targets are flattened time-major, the predictions batch-major.
            yield text.get_batch(data, i, bptt, misaligned=self.o.published)

    def train_step(self, epoch, number, inputs, targets):
        started = time.time()
        lr = self.optimizer.param_groups[0]["lr"]
        self.optimizer.zero_grad()
        loss = reference.loss_of(self.model(inputs, self.dropout, self.step), targets)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.o.clip)
        self.optimizer.step()
        self.step += 1
        ms = (time.time() - started) * 1000
        self.record(
            event="step", epoch=epoch, step=number, loss=loss.item(), grad_norm=norm.item(), lr=lr, ms=ms,
            tokens_per_s=inputs.numel() / ms * 1000,
        )  # fmt: skip
        return loss.item()

    def log_line(self, epoch, batch, of, lr, ms, loss):
        print(
            "| epoch {:3d} | {:5d}/{:5d} batches | lr {:02.2f} | ms/batch {:5.2f} | loss {:5.2f} | ppl {:8.2f}".format(
                epoch, batch, of, lr, ms, loss, exp(loss)
            ),
            flush=True,
        )

    def train_published(self, epoch):
        o, interval = self.o, self.o.log_interval
        of = min(o.steps_per_epoch * o.bptt, len(self.train_data) - 1) // o.bptt
        total, started = 0.0, time.time()
        for batch, (inputs, targets) in enumerate(self.batches(self.train_data, o.steps_per_epoch)):
            total += self.train_step(epoch, batch + 1, inputs, targets)
            # Mistake 4: batches 0 to interval are interval + 1 losses; the batches after the last line are in none.
            if batch % interval == 0 and batch > 0:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    lr = self.scheduler.get_lr()[0]  # mistake 5: the next epoch's rate from the second epoch on
                self.log_line(epoch, batch, of, lr, (time.time() - started) * 1000 / interval, total / interval)
                total, started = 0.0, time.time()

    def train_right(self, epoch):
        o = self.o
        of = math.ceil(min(o.steps_per_epoch * o.bptt, len(self.train_data) - 1) / o.bptt)
        total, tokens, steps, started = 0.0, 0, 0, time.time()
        for batch, (inputs, targets) in enumerate(self.batches(self.train_data, o.steps_per_epoch), start=1):
            total += self.train_step(epoch, batch, inputs, targets) * targets.numel()
            tokens, steps = tokens + targets.numel(), steps + 1
            if batch % o.log_interval == 0 or batch == of:
                lr = self.optimizer.param_groups[0]["lr"]
                self.log_line(epoch, batch, of, lr, (time.time() - started) * 1000 / steps, total / tokens)
                total, tokens, steps, started = 0.0, 0, 0, time.time()

    def evaluate(self, model, epoch, split):
        data, total, tokens = self.eval_data[split], 0.0, 0
        with torch.no_grad():
            for inputs, targets in self.batches(data, self.o.eval_steps):
                loss = reference.loss_of(model(inputs), targets).item()
                # Mistake 3: len(data) is the batch size, as the batch comes first.
                total += loss * (len(inputs) if self.o.published else targets.numel())
                tokens += targets.numel()
        loss = total / (len(data) - 1 if self.o.published else tokens)
        self.record(event="eval", epoch=epoch, split=split, loss=loss, ppl=exp(loss))
        return loss

    def run(self):
        best_loss, best_model = math.inf, None
        for epoch in range(1, self.o.epochs + 1):
            started = time.time()
            (self.train_published if self.o.published else self.train_right)(epoch)
            loss = self.evaluate(self.model, epoch, "valid")
            print("-" * 89)
            print(
                "| end of epoch {:3d} | time: {:5.2f}s | valid loss {:5.2f} | valid ppl {:8.2f}".format(
                    epoch, time.time() - started, loss, exp(loss)
                )
            )
            print("-" * 89, flush=True)
            if loss < best_loss:
                best_loss = loss
                # Mistake 6: a reference to the model that goes on training, so it is the last that is tested.
                best_model = self.model if self.o.published else copy.deepcopy(self.model)
            self.scheduler.step()
        loss = self.evaluate(best_model, self.o.epochs, "test")
        print("=" * 89)
        print("| End of training | test loss {:5.2f} | test ppl {:8.2f}".format(loss, exp(loss)))
        print("=" * 89)
        if self.o.save:
            save_file({n: p.detach().float().numpy() for n, p in best_model.named_parameters()}, self.o.save)
        self.record(event="end", steps=self.step)


if __name__ == "__main__":
    Run(options()).run()
