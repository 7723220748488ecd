#!/usr/bin/env python3
"""Draws the losses of training runs as an SVG: one curve a run, and below its distance from the first run's.

    tests/reference/loss_curves.py fp32.jsonl bf16.jsonl bf16-pure.jsonl > curves.svg

Each file is what `penstock train --log` wrote; a curve is called by the dtype in it. Losses are means over ten steps.
"""

import json
import math
import sys

WIDTH, LEFT, RIGHT = 760, 56, 16
TOP, HEIGHT, GAP, LOWER = 34, 250, 46, 120
COLOURS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#aa3377")
MEAN = 10


def read(path):
    """The run's name, and the mean losses of the ten steps that end at each step."""
    with open(path, encoding="utf-8") as lines:
        events = [json.loads(line) for line in lines]
    losses = [event["loss"] for event in events if event["event"] == "step"]
    if len(losses) < MEAN or events[0]["event"] != "start":
        sys.exit(f"loss_curves: {path} has no run of at least {MEAN} steps; give what penstock train --log wrote")
    return events[0]["dtype"], [sum(losses[i - MEAN : i]) / MEAN for i in range(MEAN, len(losses) + 1)]


def ticks(low, high):
    """Four to nine round numbers within the range."""
    step = 10.0 ** math.floor(math.log10((high - low) / 2))
    for factor in (1, 2, 2.5, 5, 10):
        if (high - low) / (step * factor) <= 8:
            step *= factor
            break
    first = math.ceil(low / step - 1e-9)
    return [k * step for k in range(first, math.floor(high / step + 1e-9) + 1)]


def panel(out, curves, steps, top, height, title):
    """One set of axes with its curves, each a colour and its values."""
    low, high = min(min(v) for _, v in curves), max(max(v) for _, v in curves)
    low, high = low - (high - low) * 0.05 - 1e-9, high + (high - low) * 0.05 + 1e-9

    def x(step):
        return LEFT + (WIDTH - LEFT - RIGHT) * (step - MEAN) / max(steps - MEAN, 1)

    def y(value):
        return top + height * (high - value) / (high - low)

    out.append(f'<text x="{LEFT}" y="{top - 8}">{title}</text>')
    for value in ticks(low, high):
        out.append(f'<path class="grid" d="M{LEFT} {y(value):.1f}H{WIDTH - RIGHT}"/>')
        out.append(f'<text class="right" x="{LEFT - 6}" y="{y(value) + 4:.1f}">{value:.4g}</text>')
    for step in ticks(MEAN, steps):
        out.append(f'<text class="middle" x="{x(step):.1f}" y="{top + height + 16}">{step:.0f}</text>')
    for colour, values in curves:
        points = " ".join(f"{x(MEAN + i):.1f},{y(v):.1f}" for i, v in enumerate(values))
        out.append(f'<polyline stroke="{colour}" points="{points}"/>')


def main():
    if len(sys.argv) < 2 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    runs = [(*read(path), COLOURS[i % len(COLOURS)]) for i, path in enumerate(sys.argv[1:])]
    steps = MEAN - 1 + min(len(values) for _, values, _ in runs)
    runs = [(name, values[: steps - MEAN + 1], colour) for name, values, colour in runs]
    lower_top = TOP + HEIGHT + GAP
    total = lower_top + LOWER + 26
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{total}" viewBox="0 0 {WIDTH} {total}">',
        "<style>text{font:12px sans-serif;fill:#222}.right{text-anchor:end}.middle{text-anchor:middle}"
        ".grid{stroke:#ddd}polyline{fill:none;stroke-width:1.5}</style>",
        f'<rect width="{WIDTH}" height="{total}" fill="#fff"/>',
    ]
    panel(out, [(colour, values) for _, values, colour in runs], steps, TOP, HEIGHT, "training loss, mean of ten steps")
    for i, (name, _, colour) in enumerate(runs):
        at = WIDTH - RIGHT - 110
        out.append(f'<path stroke="{colour}" stroke-width="3" d="M{at} {TOP + 14 + 18 * i}h24"/>')
        out.append(f'<text x="{at + 32}" y="{TOP + 18 + 18 * i}">{name}</text>')
    first = runs[0][1]
    apart = [(colour, [v - w for v, w in zip(values, first)]) for _, values, colour in runs]
    panel(out, apart, steps, lower_top, LOWER, f"difference from {runs[0][0]}")
    print("\n".join(out + ["</svg>"]))


main()
