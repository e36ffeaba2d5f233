"""Writes the small models of Keras whose configs the hardening tests of native/keras damage:
`write_real_models.py native/keras/tests/files`.

They are kept in the repository, so that those tests need nothing but Rust.
"""

import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import keras
from keras import layers, ops


def convolutional() -> keras.Model:
    """A Sequential model with the usual layers for images."""
    model = keras.Sequential(
        [
            layers.Input((12, 12, 2)),
            layers.Rescaling(1 / 255),
            layers.RandomFlip(),
            layers.ZeroPadding2D(1),
            layers.Conv2D(3, 3, activation="relu", kernel_regularizer=keras.regularizers.L2(0.1)),
            layers.BatchNormalization(),
            layers.DepthwiseConv2D(3, strides=2, padding="same"),
            layers.LeakyReLU(0.2),
            layers.MaxPooling2D(),
            layers.Resizing(4, 4),
            layers.Conv2DTranspose(2, 2, kernel_constraint="max_norm"),
            layers.Reshape((5, -1)),
            layers.GlobalAveragePooling1D(),
            layers.Dropout(0.5, seed=1),
            layers.Dense(2, kernel_initializer=keras.initializers.Orthogonal(0.5)),
            layers.Softmax(),
        ]
    )
    schedule = keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.9)
    model.compile(keras.optimizers.Adam(schedule), keras.losses.CategoricalCrossentropy())
    return model


def sequences() -> keras.Model:
    """Masks, recurrent layers in wrappers, attention, operations of keras.ops."""
    tokens = keras.Input((5,), dtype="int32", name="tokens")
    x = layers.Embedding(7, 4, mask_zero=True)(tokens)
    x = layers.Bidirectional(layers.LSTM(2, return_sequences=True))(x)
    x = layers.RNN([layers.GRUCell(3), layers.SimpleRNNCell(4)], return_sequences=True)(x)
    x = layers.TimeDistributed(layers.Dense(4))(x)
    x = layers.MultiHeadAttention(2, 2)(x, x)
    x = layers.LayerNormalization()(x + ops.sin(x) * 0.5)
    y = ops.einsum("abc,abd->acd", x, x)
    z = ops.transpose(x[:, 1:3, ::2], (0, 2, 1))
    outputs = [ops.mean(y, axis=(1, 2), keepdims=True), layers.Flatten()(z)]
    return keras.Model(tokens, outputs)


def nested() -> keras.Model:
    """Shared and nested models with several inputs, in dictionaries, of several dtypes."""
    numbers = keras.Input((3,), name="numbers")
    word = keras.Input((1,), dtype="string", name="word")
    code = keras.Input((1,), dtype="int64", name="code")
    inner_input = keras.Input((3,))
    hidden = layers.Dense(3, activation="gelu")(inner_input)
    inner = keras.Model(
        inner_input, {"a": hidden, "b": layers.Normalization(mean=0, variance=1)(hidden)}
    )
    parts = [inner(numbers)["b"], inner(layers.UnitNormalization()(numbers))["a"]]
    lookup = layers.StringLookup(vocabulary=["x", "y"], output_mode="one_hot")
    parts += [lookup(word), layers.CategoryEncoding(4)(layers.Hashing(4)(code))]
    joined = layers.Concatenate()(parts)
    outputs = {"left": layers.Dense(1)(joined), "right": layers.Dot(1)([joined, joined])}
    model = keras.Model({"numbers": numbers, "word": word, "code": code}, outputs)
    model.compile("sgd", {"left": "mse", "right": "mae"}, metrics={"left": ["mae"]})
    return model


def preprocessing() -> keras.Model:
    """Layers with vocabularies, operations that give several tensors."""
    wave = keras.Input((64,), name="wave")
    text = keras.Input((), dtype="string", name="text")
    codes = keras.Input((2,), dtype="int64", name="codes")
    words = layers.TextVectorization(
        vocabulary=["a", "b"], output_mode="tf_idf", idf_weights=[1.0, 2.0]
    )
    known = layers.IntegerLookup(vocabulary=[4, 5], num_oov_indices=2, output_mode="multi_hot")
    bins = layers.Discretization([0.0, 1.0], output_mode="count")
    parts = [*ops.split(wave, 2, axis=1), *ops.array_split(wave, 3, axis=1)]
    parts += [words(text), known(codes), bins(wave)]
    parts += [ops.expand_dims(part, 1) for part in ops.unstack(wave[:, :3], axis=1)]
    crossed = layers.HashedCrossing(5, output_mode="one_hot")((codes[:, :1], codes[:, 1:]))
    joined = layers.Concatenate()(
        [*parts, crossed, ops.tile(wave, (1, 2)), ops.pad(wave, ((0, 0), (1, 1)))]
    )
    return keras.Model([wave, text, codes], layers.Dense(1)(joined))


BUILDERS = [convolutional, sequences, nested, preprocessing]


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    for build in BUILDERS:
        keras.utils.set_random_seed(1)
        build().save(folder / f"{build.__name__}.keras")
