"""Lookups, hashes, encodings and text against TensorFlow."""

from __future__ import annotations

import itertools

import keras
import numpy as np
from keras import layers as L
from oracle import Cases, sequential
from refusal import Refusals, change

CASES = Cases()
ran = CASES.fixture()

WORDS = ["the", "Cat", "sat", "on", "a", "mat.", "It's", "naïve", "日本", "x_y", "the cat", ""]
TEXTS = [
    "The cat sat, on a mat!",
    "  it's\tnaïve\n日本 x_y  ",
    "",
    "A a\u00a0a ... the-cat @ [mat]",
    "ZÉRO \\ 'quoted' 😀",
    "the cat the cat the",
]


def strings(*shape: int, among: list[str] = WORDS, seed: int = 3):
    """An input of strings drawn from some."""
    return lambda _: [np.random.default_rng(seed).choice(among, shape).astype(object)]


def integers(*shape: int, low: int = -9, high: int = 10, dtype: str = "int64"):
    """An input of integers."""
    return lambda _: [np.random.default_rng(4).integers(low, high, shape).astype(dtype)]


def adapted(layer: keras.Layer, data) -> keras.Layer:
    """The layer after it has seen some data."""
    layer.adapt(data)
    return layer


def add(name: str, shape: tuple, dtype: str, make, inputs) -> None:
    """Add a case of one layer, made anew each time it is called."""
    CASES.add(name, lambda: sequential(shape, make(), dtype=dtype), inputs=inputs)


MODES = ["int", "one_hot", "multi_hot", "count", "tf_idf"]
# What Keras can load again: a word with a line break is two in a vocabulary's file.
KNOWN = [" ".join(text.splitlines()) for text in TEXTS]
VOCABULARY = ["the", "sat", "on", "日本"]
WEIGHTS = [0.5, 2.0, 1.25, 3.0]

for mode, (mask, oov), shape in itertools.product(
    MODES, [(None, 1), ("", 1), ("a", 3)], [(1,), (3,), (2, 3)]
):
    weights = {"idf_weights": WEIGHTS} if mode == "tf_idf" else {}
    options = {"output_mode": mode, "mask_token": mask, "num_oov_indices": oov, **weights}
    add(
        f"string_lookup-{mode}-{mask}-{oov}-{shape}",
        shape,
        "string",
        lambda o=options: L.StringLookup(vocabulary=VOCABULARY, **o),
        strings(5, *shape),
    )
for name, options in {
    "salt": {"num_oov_indices": 5, "salt": 7},
    "two_salts": {"num_oov_indices": 5, "salt": [7, -1]},
    "special_first": {"vocabulary": ["", "[UNK]", "the", "sat"], "mask_token": ""},
    "own_unknown": {"vocabulary": ["?", "the", "sat"], "oov_token": "?"},
    "padded": {"max_tokens": 9, "pad_to_max_tokens": True, "output_mode": "count"},
    "limited": {"max_tokens": 9, "output_mode": "multi_hot"},
}.items():
    add(
        f"string_lookup-{name}",
        (3,),
        "string",
        lambda o=options: L.StringLookup(**{"vocabulary": VOCABULARY, **o}),
        strings(5, 3),
    )
add(
    "string_lookup-all_known",
    (3,),
    "string",
    lambda: L.StringLookup(vocabulary=VOCABULARY, num_oov_indices=0),
    strings(5, 3, among=VOCABULARY),
)
for mode, options in {
    "int": {},
    "one_hot": {"mask_token": "on"},
    "tf_idf": {},
    "count": {"max_tokens": 6},
    "multi_hot": {"pad_to_max_tokens": True, "max_tokens": 40},
}.items():
    add(
        f"string_lookup-adapted-{mode}",
        (3,),
        "string",
        lambda m=mode, o=options: adapted(
            L.StringLookup(output_mode=m, **o), strings(40, 3)(None)[0]
        ),
        strings(5, 3, seed=8),
    )
for mask, oov in [(None, 1), ("", 2)]:
    CASES.add(
        f"string_lookup-there_and_back-{mask}-{oov}",
        lambda m=mask, o=oov: sequential(
            (3,),
            L.StringLookup(vocabulary=VOCABULARY, mask_token=m, num_oov_indices=o),
            L.StringLookup(vocabulary=VOCABULARY, mask_token=m, num_oov_indices=o, invert=True),
            L.StringLookup(vocabulary=["sat", "[UNK]", "the"], num_oov_indices=2),
            dtype="string",
        ),
        inputs=strings(5, 3),
    )
for mode, (mask, oov), shape in itertools.product(
    MODES, [(None, 1), (0, 2), (-3, 4)], [(1,), (3,), (2, 3)]
):
    weights = {"idf_weights": WEIGHTS} if mode == "tf_idf" else {}
    options = {"output_mode": mode, "mask_token": mask, "num_oov_indices": oov, **weights}
    add(
        f"integer_lookup-{mode}-{mask}-{oov}-{shape}",
        shape,
        "int64",
        lambda o=options: L.IntegerLookup(vocabulary=[4, 7, -8, 100], **o),
        integers(5, *shape),
    )
for name, options in {
    "farmhash": {"num_oov_indices": 4, "oov_method": "farmhash"},
    "salted": {"num_oov_indices": 4, "oov_method": "farmhash", "salt": 3},
    "inverted": {"invert": True, "mask_token": 0},
}.items():
    add(
        f"integer_lookup-{name}",
        (4,),
        "int32",
        lambda o=options: L.IntegerLookup(vocabulary=[4, 7, -8], **o),
        integers(5, 4, dtype="int32"),
    )
add(
    "integer_lookup-adapted",
    (3,),
    "int64",
    lambda: adapted(L.IntegerLookup(output_mode="count"), integers(30, 3)(None)[0]),
    integers(5, 3),
)

for mode, (standardize, split) in itertools.product(
    ["int", "multi_hot", "count", "tf_idf"],
    [
        ("lower_and_strip_punctuation", "whitespace"),
        ("lower", "whitespace"),
        ("strip_punctuation", "character"),
        (None, "character"),
        ("lower", None),
    ],
):
    for ngrams in [None, 2, (3, 1)]:
        options = {"standardize": standardize, "split": split, "ngrams": ngrams}
        add(
            f"text_vectorization-{mode}-{standardize}-{split}-{ngrams}",
            (1,),
            "string",
            lambda m=mode, o=options: adapted(L.TextVectorization(output_mode=m, **o), KNOWN),
            lambda _: [np.array(TEXTS[::-1] + ["unseen cat"], object)[:, None]],
        )
for name, options in {
    "cut": {"output_sequence_length": 2},
    "filled": {"output_sequence_length": 12},
    "given": {"vocabulary": ["cat", "the"]},
    "given_with_special": {"vocabulary": ["", "[UNK]", "cat", "the"]},
    "weighted": {
        "vocabulary": ["cat", "the"],
        "output_mode": "tf_idf",
        "idf_weights": [0.25, 4.0],
    },
    "weighted_and_padded": {
        "vocabulary": ["cat", "the"],
        "output_mode": "tf_idf",
        "idf_weights": [0.25, 4.0],
        "max_tokens": 7,
        "pad_to_max_tokens": True,
    },
    "padded": {
        "vocabulary": ["cat", "the"],
        "output_mode": "count",
        "max_tokens": 7,
        "pad_to_max_tokens": True,
    },
    "one_hot": {"vocabulary": ["cat", "the"], "output_mode": "one_hot", "split": None},
}.items():

    def vectorization(options: dict) -> keras.Layer:
        """The layer, adapted if it has no vocabulary."""
        layer = L.TextVectorization(**options)
        return layer if "vocabulary" in options else adapted(layer, TEXTS)

    for shape in [(), (1,)] if options.get("split", "") is not None else [(1,)]:
        add(
            f"text_vectorization-{name}-{shape}",
            shape,
            "string",
            lambda o=options: vectorization(o),
            lambda _, s=shape: [np.array(TEXTS, object).reshape((-1, *s))],
        )
add(
    "text_vectorization-rows_of_words",
    (4,),
    "string",
    lambda: L.TextVectorization(vocabulary=["cat", "the cat"], split=None, ngrams=2),
    strings(5, 4, among=["the", "CAT.", "x"]),
)
CASES.add(
    "text_vectorization-classifier",
    lambda: sequential(
        (1,),
        adapted(L.TextVectorization(output_sequence_length=6), TEXTS),
        L.Embedding(30, 4, mask_zero=True),
        L.LSTM(3),
        L.Dense(2),
        dtype="string",
    ),
    inputs=lambda _: [np.array(TEXTS, object)[:, None]],
)

for mode, shape, bins in itertools.product(
    ["int", "one_hot", "multi_hot", "count"], [(1,), (3,), (2, 1), (2, 3)], [1, 2, 1000]
):
    for name, options in {"plain": {}, "masked": {"mask_value": ""}, "salted": {"salt": 5}}.items():
        add(
            f"hashing-strings-{mode}-{shape}-{bins}-{name}",
            shape,
            "string",
            lambda m=mode, b=bins, o=options: L.Hashing(b, output_mode=m, **o),
            strings(5, *shape),
        )
for dtype, options in {
    "int32": {},
    "int64": {"mask_value": 0},
    "float32": {"mask_value": 2.0},
    "bool": {},
}.items():
    add(
        f"hashing-{dtype}",
        (4,),
        dtype,
        lambda o=options: L.Hashing(6, **o),
        integers(5, 4, low=0 if dtype == "bool" else -9, high=2, dtype=dtype),
    )
add("hashing-int32_indices", (3,), "string", lambda: L.Hashing(9, dtype="int32"), strings(5, 3))

for kinds, mode, shape in itertools.product(
    [("string", "string"), ("string", "int64"), ("int32", "int64")],
    ["int", "one_hot"],
    [(), (1,)],
):

    def crossing(kinds: tuple, mode: str, shape: tuple) -> keras.Model:
        """A crossing of inputs of these dtypes."""
        inputs = [keras.Input(shape, dtype=kind) for kind in kinds]
        return keras.Model(inputs, L.HashedCrossing(50, output_mode=mode)(inputs))

    CASES.add(
        f"hashed_crossing-{'-'.join(kinds)}-{mode}-{shape}",
        lambda k=kinds, m=mode, s=shape: crossing(k, m, s),
        inputs=lambda model, k=kinds, s=shape: [
            strings(6, *s, seed=at)(model)[0]
            if kind == "string"
            else integers(6, *s, dtype=kind)(model)[0]
            for at, kind in enumerate(k)
        ],
    )

for mode, shape in itertools.product(
    ["int", "one_hot", "multi_hot", "count"], [(1,), (3,), (2, 3)]
):
    add(
        f"discretization-{mode}-{shape}",
        shape,
        "float32",
        lambda m=mode: L.Discretization([-0.5, 0.0, 0.1, 1.0], output_mode=m),
        None,
    )
add(
    "discretization-integers",
    (4,),
    "int32",
    lambda: L.Discretization([-2.0, 0.5, 3.0]),
    integers(5, 4, dtype="int32"),
)
add(
    "discretization-on_boundaries",
    (6,),
    "float32",
    lambda: L.Discretization([-1.0, 0.1, 2.0]),
    lambda _: [np.array([[-1.0, 0.1, 2.0, np.nan, np.inf, -np.inf]], "float32")],
)
add(
    "discretization-adapted",
    (2,),
    "float32",
    lambda: adapted(L.Discretization(num_bins=4), np.random.default_rng(0).normal(size=(90, 2))),
    None,
)

for mode, shape in itertools.product(["one_hot", "multi_hot", "count"], [(1,), (3,), (2, 3)]):
    add(
        f"category_encoding-{mode}-{shape}",
        shape,
        "int32",
        lambda m=mode: L.CategoryEncoding(4, output_mode=m),
        integers(5, *shape, low=0, high=6, dtype="int32"),
    )


def weighted() -> keras.Model:
    """Counts with weights of their own."""
    ids, weights = keras.Input((3,), dtype="int64"), keras.Input((3,), dtype="int32")
    encoding = L.CategoryEncoding(4, output_mode="count")
    return keras.Model([ids, weights], encoding(ids, count_weights=weights))


CASES.add(
    "category_encoding-weighted",
    weighted,
    inputs=lambda model: [
        integers(5, 3, low=0, high=4)(model)[0],
        integers(5, 3, dtype="int32")(model)[0],
    ],
)
CASES.add(
    "category_encoding-dense",
    lambda: sequential((3,), L.CategoryEncoding(4), L.Dense(2), dtype="int64"),
    inputs=integers(5, 3, low=0, high=4),
)

test_layers = CASES.test()

REFUSALS = Refusals()
messages = REFUSALS.fixture()


def lookup(**options) -> keras.Model:
    """A lookup of strings."""
    return sequential((1,), L.StringLookup(**{"vocabulary": ["a", "b"], **options}), dtype="string")


REFUSALS.add(
    "no_vocabulary",
    lambda: sequential((1,), L.StringLookup(), dtype="string"),
    'layer "string_lookup" (StringLookup)',
    "it has no vocabulary",
    "Save the model as .keras",
)
for name, options, parts in [
    ("twice", {"vocabulary": ["a", "b", "a"]}, ['has "a" twice']),
    ("mask_inside", {"vocabulary": ["a", "m"], "mask_token": "m"}, ["mask_token", '"m"']),
    ("too_many", {"vocabulary": ["a", "b", "c"], "max_tokens": 3}, ["max_tokens is 3"]),
    ("file", {"vocabulary": "/etc/passwd"}, ["a list of strings"]),
    ("numbers", {"vocabulary": [1, 2]}, ["a list of strings"]),
    ("idf_without_mode", {"idf_weights": [1.0, 2.0]}, ["idf_weights", "tf_idf"]),
    ("idf_missing", {"output_mode": "tf_idf"}, ["idf_weights", "missing"]),
    ("sparse", {"output_mode": "count", "sparse": True}, ["sparse = true is not supported"]),
]:
    REFUSALS.add(f"lookup-{name}", lookup, *parts, edit=change("StringLookup", **options))
REFUSALS.add(
    "unknown_word",
    lambda: lookup(num_oov_indices=0),
    '"c" is not in the vocabulary',
    inputs=[np.array([["a"], ["c"]], object)],
)
REFUSALS.add(
    "strings_for_integers",
    lambda: sequential((1,), L.IntegerLookup(vocabulary=[1])),
    "looks integers up, got string",
    edit=lambda config: config["config"]["layers"][0]["config"].update(dtype="string"),
)
REFUSALS.add(
    "negative_category",
    lambda: sequential((2,), L.CategoryEncoding(3), dtype="int64"),
    "category -1 is negative",
    inputs=[np.array([[0, -1]])],
)
REFUSALS.add(
    "split_function",
    lambda: sequential((1,), L.TextVectorization(vocabulary=["a"]), dtype="string"),
    "split =",
    "whitespace, character",
    edit=change("TextVectorization", split="my_split"),
)

test_refusals = REFUSALS.test()
