"""Attention layers, against TensorFlow."""

from __future__ import annotations

import keras
from keras import layers as L
from oracle import Cases

CASES = Cases()
ran = CASES.fixture()


def self_attention(layer: keras.Layer, **call) -> keras.Model:
    """A sequence that attends to itself."""
    x = keras.Input((5, 6))
    return keras.Model(x, layer(x, x, **call))


def cross_attention(layer: keras.Layer) -> keras.Model:
    """A sequence that attends to another, keys apart from values."""
    q, v, k = keras.Input((5, 6)), keras.Input((4, 6)), keras.Input((4, 6))
    return keras.Model([q, v, k], layer(q, v, k))


def lists(layer: keras.Layer) -> keras.Model:
    """The form of `Attention`: one list."""
    q, v, k = keras.Input((5, 6)), keras.Input((4, 6)), keras.Input((4, 6))
    return keras.Model([q, v, k], layer([q, v, k]))


def masked(layer: keras.Layer) -> keras.Model:
    """Embedded steps with padding."""
    ids = keras.Input((5,), dtype="int32")
    x = L.Embedding(7, 6, mask_zero=True)(ids)
    return keras.Model(ids, layer(x, x))


MULTI_HEAD = {
    "plain": {},
    "value_dim": {"value_dim": 5},
    "no_bias": {"use_bias": False},
    "output_shape": {"output_shape": 4},
    "gate": {"use_gate": True},
    "window": {"sliding_window": 2},
    "sizes": {"num_heads": 3, "key_dim": 2},
}
for name, options in MULTI_HEAD.items():
    CASES.add(
        f"multi_head-{name}",
        lambda o=options: self_attention(
            L.MultiHeadAttention(**{"num_heads": 2, "key_dim": 3} | o)
        ),
    )
    CASES.add(
        f"multi_head-cross-{name}",
        lambda o=options: cross_attention(
            L.MultiHeadAttention(**{"num_heads": 2, "key_dim": 3} | o)
        ),
    )
CASES.add(
    "multi_head-causal", lambda: self_attention(L.MultiHeadAttention(2, 3), use_causal_mask=True)
)
CASES.add(
    "multi_head-scores",
    lambda: self_attention(L.MultiHeadAttention(2, 3), return_attention_scores=True),
)
CASES.add("multi_head-masked", lambda: masked(L.MultiHeadAttention(2, 3)))
GROUPED = {
    "plain": {},
    "no_bias": {"use_bias": False},
    "gate": {"use_gate": True},
    "window": {"sliding_window": 2},
    "sizes": {"head_dim": 2, "num_query_heads": 6, "num_key_value_heads": 3},
}
for name, options in GROUPED.items():
    sizes = {"head_dim": 3, "num_query_heads": 4, "num_key_value_heads": 2} | options
    CASES.add(f"grouped_query-{name}", lambda o=sizes: self_attention(L.GroupQueryAttention(**o)))


def over_axes(axes: tuple) -> keras.Model:
    """Attention along other axes than the first."""
    x = keras.Input((3, 4, 6))
    return keras.Model(x, L.MultiHeadAttention(2, 3, attention_axes=axes)(x, x))


CASES.add("multi_head-axes-2", lambda: over_axes((2,)))
CASES.add("multi_head-axes-1-2", lambda: over_axes((1, 2)))
DROPPING = {
    "multi_head": lambda: self_attention(L.MultiHeadAttention(2, 3, dropout=0.3)),
    "grouped_query": lambda: self_attention(L.GroupQueryAttention(3, 4, 2, dropout=0.3)),
    "attention": lambda: lists(L.Attention(dropout=0.3)),
    "additive": lambda: lists(L.AdditiveAttention(dropout=0.3)),
}
for name, make in DROPPING.items():
    CASES.add(f"{name}-dropout", make, random=True)
for mode in ["dot", "concat"]:
    for scale in [False, True]:
        CASES.add(
            f"attention-{mode}-{scale}",
            lambda m=mode, s=scale: lists(L.Attention(use_scale=s, score_mode=m)),
        )
for scale in [False, True]:
    CASES.add(f"additive-{scale}", lambda s=scale: lists(L.AdditiveAttention(use_scale=s)))

test_layers = CASES.test()
