"""Runs a script of this folder where Python has what it needs, else exits 77 with the reason (skipped, for ctest).

    python3 run_if_able.py SCRIPT [ARGUMENT…]

PS_PYTHON names another interpreter, for instance that of a virtual environment. An argument @wikitext-2 stands
for the folder in PS_WIKITEXT2 or ../shared/wikitext-2 beside the source tree.
"""

import os
import subprocess
import sys


def skip(reason):
    print(f"skipped: {reason}")
    sys.exit(77)


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    python = os.environ.get("PS_PYTHON", sys.executable)
    needed = subprocess.run([python, "-c", "import torch, numpy, safetensors.numpy"], capture_output=True, text=True)
    if needed.returncode != 0:
        skip(f"{python} lacks what tests/reference/requirements.txt names: {needed.stderr.strip().splitlines()[-1]}")
    arguments = sys.argv[2:]
    if "@wikitext-2" in arguments:
        beside = os.path.join(here, "..", "..", "..", "shared", "wikitext-2")
        folder = os.environ.get("PS_WIKITEXT2", beside)
        if not os.path.exists(os.path.join(folder, "wiki.train.tokens")):
            skip("no WikiText-2: set PS_WIKITEXT2 to a folder with wiki.{train,valid,test}.tokens")
        arguments = [folder if argument == "@wikitext-2" else argument for argument in arguments]
    sys.exit(subprocess.run([python, os.path.join(here, sys.argv[1]), *arguments]).returncode)


if __name__ == "__main__":
    main()
