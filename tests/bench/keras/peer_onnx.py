"""onnxruntime on the graph that `peer_torch.py FOLDER export` wrote: `peer_onnx.py FOLDER`."""

import sys

import numpy as np
import onnxruntime
from timing import Case, report

case = Case(sys.argv[1])
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
options.inter_op_num_threads = 1
session = onnxruntime.InferenceSession(case.folder / "model.onnx", options)
x = case.x[: case.predicted]
if x.ndim == 4:
    x = np.ascontiguousarray(x.transpose(0, 3, 1, 2))
if session.get_inputs()[0].type == "tensor(int64)":
    x = x.astype("int64")


def predict(rows: int) -> None:
    """Predict the first rows."""
    for start in range(0, rows, case.predict_batch):
        session.run(None, {"x": x[start : start + case.predict_batch]})


predict(case.predict_batch)
report(case.predicted, lambda: predict(case.predicted))
