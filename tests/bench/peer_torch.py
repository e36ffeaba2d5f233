"""Plain PyTorch, eager as its tutorials write it, over in-memory tensors; rows/s as JSON."""

import json
import sys
import time

import torch
from fashion import BATCH, images, labels
from torch import nn

ROWS = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000

torch.set_num_threads(1)


class Cnn(nn.Module):
    """The CNN of the main job."""

    def __init__(self) -> None:
        """Make the layers."""
        super().__init__()
        self.conv = nn.Conv2d(1, 32, 3)
        self.dense = nn.Linear(32 * 13 * 13, 64)
        self.out = nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits of a batch of uint8 images."""
        x = torch.relu(self.conv(x.float() / 255))
        x = nn.functional.max_pool2d(x, 2).flatten(1)
        return self.out(torch.relu(self.dense(x)))


def epoch(
    model: nn.Module, optimizer: torch.optim.Optimizer, x: torch.Tensor, y: torch.Tensor
) -> None:
    """One pass over the rows, shuffled."""
    for rows in torch.randperm(len(x)).split(BATCH):
        loss = nn.functional.cross_entropy(model(x[rows]), y[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def main() -> None:
    """Measures one epoch and one prediction, each after a warm-up."""
    x = torch.from_numpy(images()[:ROWS].copy()).permute(0, 3, 1, 2)
    y = torch.from_numpy(labels()[:ROWS])
    model = Cnn()
    optimizer = torch.optim.Adam(model.parameters())
    epoch(model, optimizer, x[:2560], y[:2560])
    start = time.perf_counter()
    epoch(model, optimizer, x, y)
    train = ROWS / (time.perf_counter() - start)
    with torch.no_grad():
        model(x[:1000])
        start = time.perf_counter()
        for part in x.split(1000):
            model(part)
        predict = ROWS / (time.perf_counter() - start)
    print(json.dumps({"train": train, "predict": predict}))


main()
