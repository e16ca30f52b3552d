"""``python -m hyperspy_fewshot.pretrain image --out DIR``: train an encoder."""

import argparse
from pathlib import Path

from hyperspy_fewshot.pretrain.recipes import RECIPES, train


def main(arguments: list[str] | None = None) -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(
        prog="python -m hyperspy_fewshot.pretrain",
        description="Train the network of an encoder on synthetic classes. Writes checkpoint.pt, "
        "log.csv and, at the end, the weights.",
    )
    parser.add_argument("kind", choices=RECIPES, help="kind of data")
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    parser.add_argument("--minutes", type=float, default=60.0, help="training time (default 60)")
    parser.add_argument("--steps", type=int, help="optimiser steps, instead of --minutes")
    parser.add_argument("--device", default="cpu", help="device in torch notation (default cpu)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1, help="processes that draw examples")
    parser.add_argument("--images", type=Path, help="folder of your own unlabelled images")
    parser.add_argument("--resume", action="store_true", help="continue from the checkpoint")
    options = vars(parser.parse_args(arguments))
    path = train(**options)
    print(f"Weights in {path}")


if __name__ == "__main__":
    main()
