"""How TensorFlow runs where it is the oracle; set before any test imports it."""

from __future__ import annotations

import os

# TensorFlow has convolutions with channels first by oneDNN only, which it leaves out by itself on
# processors without AVX-512.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
