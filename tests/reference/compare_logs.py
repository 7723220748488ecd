"""Lays the --log files of two runs side by side and prints how far they are apart.

    python3 compare_logs.py A.jsonl B.jsonl [--loss X --norm X --eval X]

Compares each step's loss, gradient norm and learning rate and each evaluation, by relative deviation. With a limit
given the exit status is 1 where it is passed; it is 2 where the runs do not have the same steps and evaluations.
"""

import argparse
import json
import sys


def read(path):
    steps, evaluations = {}, []
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            record = json.loads(line)
            if record.get("event") == "step":
                steps[record["epoch"], record["step"]] = record
            elif record.get("event") == "eval":
                evaluations.append((record["split"], record["loss"]))
    return steps, evaluations


def deviation(a, b):
    return abs(a - b) / max(abs(a), abs(b)) if a != b else 0.0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("a", metavar="A.jsonl")
    parser.add_argument("b", metavar="B.jsonl")
    for name in ("loss", "norm", "eval"):
        parser.add_argument(f"--{name}", type=float, metavar="X", help=f"the largest {name} deviation allowed")
    o = parser.parse_args()
    (steps, evaluations), (other_steps, other_evaluations) = read(o.a), read(o.b)
    kinds = [split for split, _ in evaluations]
    if not steps or steps.keys() != other_steps.keys() or kinds != [split for split, _ in other_evaluations]:
        print(f"{o.a} has {len(steps)} steps and evaluations {kinds}, {o.b} {len(other_steps)} steps and evaluations "
              f"{[split for split, _ in other_evaluations]}: not the same run", file=sys.stderr)  # fmt: skip
        return 2
    worst = {"loss": (0.0, None), "grad_norm": (0.0, None), "lr": (0.0, None), "eval": (0.0, None)}
    for key, record in steps.items():
        for field in ("loss", "grad_norm", "lr"):
            worst[field] = max(worst[field], (deviation(record[field], other_steps[key][field]), key), key=lambda w: w[0])
    for (split, a), (_, b) in zip(evaluations, other_evaluations):
        print(f"{split:5} loss {a:.9g} and {b:.9g}")
        worst["eval"] = max(worst["eval"], (deviation(a, b), split), key=lambda w: w[0])
    first, last = min(steps), max(steps)
    for key in (first, last):
        print(f"epoch {key[0]} step {key[1]}: loss {steps[key]['loss']:.9g} and {other_steps[key]['loss']:.9g}, "
              f"norm {steps[key]['grad_norm']:.9g} and {other_steps[key]['grad_norm']:.9g}")  # fmt: skip
    failed = False
    for field, (value, where) in worst.items():
        limit = {"loss": o.loss, "grad_norm": o.norm, "lr": 1e-12, "eval": o.eval}[field]
        passed = limit is not None and value > limit
        failed = failed or passed
        place = f"at {where}" if where is not None else ""
        print(f"largest relative deviation of {field}: {value:.2e} {place}{' — above the limit' if passed else ''}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
