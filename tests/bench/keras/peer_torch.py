"""Plain eager PyTorch: `peer_torch.py FOLDER fit|predict|export`, on the device FLAMBEAU_DEVICE."""

import os
import sys

import torch
from timing import Case, report
from torch import nn
from torch_models import MODELS

case, mode = Case(sys.argv[1]), sys.argv[2]
torch.set_num_threads(1)
torch.manual_seed(1)
device = torch.device(os.environ.get("FLAMBEAU_DEVICE", "cpu"))
model = MODELS[case.name]().to(device)
x = torch.from_numpy(case.x)
if x.ndim == 4:
    # Images lie as PyTorch takes them: channels second.
    x = x.permute(0, 3, 1, 2).contiguous()
y = torch.from_numpy(case.y)
binary = case.settings["loss"] == "binary_crossentropy"
loss = nn.functional.binary_cross_entropy_with_logits if binary else nn.functional.cross_entropy
activation = torch.sigmoid if binary else lambda logits: torch.softmax(logits, -1)

policy = case.settings.get("policy", "float32")
mixed = {"mixed_float16": torch.float16, "mixed_bfloat16": torch.bfloat16}.get(policy)
cast = torch.autocast(device.type, mixed, enabled=mixed is not None)
scaler = torch.amp.GradScaler(device.type, enabled=mixed is torch.float16)


def on_device(rows: torch.Tensor) -> torch.Tensor:
    """Rows where the model is."""
    return rows if device.type == "cpu" else rows.pin_memory().to(device, non_blocking=True)


def fit(rows: int) -> None:
    """Train on the first rows, in a new order."""
    for part in torch.randperm(rows).split(case.batch):
        optimizer.zero_grad()
        with cast:
            value = loss(model(on_device(x[part])), on_device(y[part]))
        scaler.scale(value).backward()
        scaler.step(optimizer)
        scaler.update()
    if device.type == "cuda":
        torch.cuda.synchronize()


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
