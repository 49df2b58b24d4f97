"""Trains a small network on scikit-learn's digits and writes scalars for TensorBoard.

    python train.py --epochs 10

Real data (1,797 pictures of 8 x 8 pixels, shipped by the package), a real model, no download.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from tensorboardX import SummaryWriter

BATCH = 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--logdir", type=Path, default=Path("runs"))
    options = parser.parse_args()

    pictures, labels = load_digits(return_X_y=True)
    train_x, test_x, train_y, test_y = train_test_split(
        pictures / 16.0, labels, test_size=0.25, random_state=options.seed, stratify=labels
    )
    chance = np.random.default_rng(options.seed)
    model = MLPClassifier(hidden_layer_sizes=(64,), learning_rate_init=0.01, random_state=0)
    folder = options.logdir / time.strftime("%Y%m%d-%H%M%S")
    with SummaryWriter(str(folder)) as writer:
        for epoch in range(1, options.epochs + 1):
            order = chance.permutation(len(train_x))
            for start in range(0, len(order), BATCH):
                batch = order[start : start + BATCH]
                model.partial_fit(train_x[batch], train_y[batch], classes=range(10))
            loss = log_loss(train_y, model.predict_proba(train_x), labels=range(10))
            accuracy = model.score(test_x, test_y)
            writer.add_scalar("loss/train", loss, epoch)
            writer.add_scalar("accuracy/test", accuracy, epoch)
            print(f"epoch {epoch:3}  loss {loss:.4f}  accuracy {accuracy:.4f}", flush=True)
    (folder / "result.json").write_text(json.dumps({"accuracy": accuracy, "loss": loss}) + "\n")


if __name__ == "__main__":
    main()
