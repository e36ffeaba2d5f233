"""Plain eager PyTorch: `peer_torch.py FOLDER fit|predict|export`."""

import sys

import torch
from timing import Case, report
from torch import nn
from torch_models import MODELS

case, mode = Case(sys.argv[1]), sys.argv[2]
torch.set_num_threads(1)
torch.manual_seed(1)
model = MODELS[case.name]()
x = torch.from_numpy(case.x)
if x.ndim == 4:
    # Images lie as PyTorch takes them: channels second.
    x = x.permute(0, 3, 1, 2).contiguous()
y = torch.from_numpy(case.y)
binary = case.settings["loss"] == "binary_crossentropy"
loss = nn.functional.binary_cross_entropy_with_logits if binary else nn.functional.cross_entropy
activation = torch.sigmoid if binary else lambda logits: torch.softmax(logits, -1)


def fit(rows: int) -> None:
    """Train on the first rows, in a new order."""
    for part in torch.randperm(rows).split(case.batch):
        optimizer.zero_grad()
        loss(model(x[part]), y[part]).backward()
        optimizer.step()


def predict(rows: int) -> None:
    """Predict the first rows."""
    with torch.inference_mode():
        torch.cat([activation(model(part)) for part in x[:rows].split(case.predict_batch)])


if mode == "fit":
    optimizer = torch.optim.Adam(model.parameters())
    fit(case.batch)
    report(case.rows, lambda: fit(case.rows))
elif mode == "predict":
    model.eval()
    predict(case.predict_batch)
    report(case.predicted, lambda: predict(case.predicted))
else:
    exported = nn.Sequential(model.eval(), nn.Sigmoid() if binary else nn.Softmax(-1))
    torch.onnx.export(
        exported,
        (x[:2],),
        case.folder / "model.onnx",
        input_names=["x"],
        dynamic_axes={"x": {0: "rows"}},
        dynamo=False,
    )
