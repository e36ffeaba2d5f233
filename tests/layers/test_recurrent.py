"""Recurrent layers, their cells and wrappers, against TensorFlow."""

from __future__ import annotations

import json
from itertools import product

import keras
import numpy as np
import pytest
from keras import layers as L
from oracle import Cases, build_forward, run_forward, sequential
from safetensors.numpy import save_file

CASES = Cases()
ran = CASES.fixture()

SEQUENCE = (5, 3)
LAYERS = {"simple": L.SimpleRNN, "gru": L.GRU, "lstm": L.LSTM}
# Valid steps at the front, at the end, in between; all of them, and none.
MASK = np.array(
    [[1, 1, 1, 0, 0], [0, 0, 1, 1, 1], [1, 0, 1, 0, 1], [1, 1, 1, 1, 1], [0, 0, 0, 0, 0]],
    dtype=bool,
)


def masked_inputs(model: keras.Model) -> list[np.ndarray]:
    """Random numbers, and `MASK` for boolean inputs."""
    rng = np.random.default_rng(3)
    inputs = []
    for spec in model.inputs:
        if spec.dtype == "bool":
            steps = spec.shape[1] or 5
            mask = MASK[:, :steps]
            for size in spec.shape[2:]:
                mask = np.stack([mask] * size, -1)
            inputs.append(mask)
        else:
            shape = (5, *[5 if size is None else size for size in spec.shape[1:]])
            inputs.append(rng.normal(size=shape).astype("float32"))
    return inputs


def masked(make_layer, shape: tuple = SEQUENCE, dtype: str = "float32") -> keras.Model:
    """A layer called with a mask."""
    x, mask = keras.Input(shape, dtype=dtype), keras.Input(shape[:1], dtype="bool")
    return keras.Model([x, mask], make_layer()(x, mask=mask))


def add(name: str, make_layer, shape: tuple = SEQUENCE, *, mask: bool = True, **options) -> None:
    """A layer alone, without and with a mask."""
    CASES.add(name, lambda: sequential_or_functional(make_layer, shape), **options)
    if mask:
        options = {"inputs": masked_inputs} | options
        CASES.add(f"{name}-masked", lambda: masked(make_layer, shape), **options)


def sequential_or_functional(make_layer, shape: tuple) -> keras.Model:
    """A model of one layer, which may have several outputs."""
    x = keras.Input(shape)
    return keras.Model(x, make_layer()(x))


for (name, layer), sequences, state, backwards in product(
    LAYERS.items(), [False, True], [False, True], [False, True]
):
    kwargs = {"return_sequences": sequences, "return_state": state, "go_backwards": backwards}
    add(f"{name}-{sequences}-{state}-{backwards}", lambda c=layer, k=kwargs: c(4, **k))

OPTIONS = {
    "unrolled": {"unroll": True},
    "no_bias": {"use_bias": False},
    "relu": {"activation": "relu"},
    "linear": {"activation": None},
    "softmax": {"activation": "softmax"},
    "zeros": {"zero_output_for_mask": True, "return_sequences": True},
    "last_or_zero": {"zero_output_for_mask": True},
    "frozen": {"trainable": False},
}
GATED = {
    "hard_sigmoid": {"recurrent_activation": "hard_sigmoid", "return_sequences": True},
    "softmax_gates": {"recurrent_activation": "softmax"},
    "both_tanh": {"recurrent_activation": "tanh", "activation": "softsign"},
}
OWN = {
    "simple": {},
    "gru": {
        "reset_before": {"reset_after": False, "return_sequences": True},
        "reset_before_state": {"reset_after": False, "return_state": True},
        "reset_before_no_bias": {"reset_after": False, "use_bias": False},
    },
    "lstm": {
        "no_forget_bias": {"unit_forget_bias": False},
        "relu_state": {"activation": "relu", "return_sequences": True, "return_state": True},
        "no_bias_state": {"use_bias": False, "return_state": True, "return_sequences": True},
    },
}
for name, layer in LAYERS.items():
    gated = {} if name == "simple" else GATED
    for option, kwargs in (OPTIONS | gated | OWN[name]).items():
        add(f"{name}-{option}", lambda c=layer, k=kwargs: c(4, **k))
    for steps, features, units, rows in [(1, 1, 1, 1), (2, 7, 3, 1), (9, 2, 17, 6), (4, 16, 8, 2)]:
        CASES.add(
            f"{name}-{steps}-{features}-{units}-{rows}",
            lambda c=layer, s=(steps, features), u=units: sequential(
                s, c(u, return_sequences=True), c(u)
            ),
            rows=rows,
        )
    add(f"{name}-unknown_steps", lambda c=layer: c(4, return_sequences=True), (None, 3))
    CASES.add(f"{name}-of_integers", lambda c=layer: sequential(SEQUENCE, c(4), dtype="int32"))


def without_a_mask_in_the_loop(model: keras.Model) -> list[np.ndarray]:
    """A mask that hides nothing."""
    x, mask = masked_inputs(model)
    return [x, np.ones_like(mask)]


for name, layer in LAYERS.items():
    CASES.add(
        f"{name}-nothing_masked",
        lambda c=layer: masked(lambda: c(4, return_sequences=True)),
        inputs=without_a_mask_in_the_loop,
    )
CASES.add(
    "mask_with_an_axis_of_one",
    lambda: keras.Model(
        inputs := [keras.Input(SEQUENCE), keras.Input((5, 1), dtype="bool")],
        L.GRU(4, return_sequences=True)(inputs[0], mask=inputs[1]),
    ),
    inputs=masked_inputs,
)

for name, mask in product(LAYERS, [False, True]):

    def with_states(name: str = name, mask: bool = mask, by: str = "name") -> keras.Model:
        """A layer that starts from given states."""
        layer = LAYERS[name](4, return_sequences=True, return_state=True)
        x = keras.Input(SEQUENCE)
        states = [keras.Input((4,)) for _ in range(2 if name == "lstm" else 1)]
        if by == "alone":
            states = states[0]
        kwargs = {"mask": keras.Input((5,), dtype="bool")} if mask else {}
        inputs = [x, *keras.tree.flatten(states), *kwargs.values()]
        if by == "position":
            return keras.Model(inputs, layer(x, states, **kwargs))
        return keras.Model(inputs, layer(x, initial_state=states, **kwargs))

    for by in ["name", "position"] + ["alone"] * (name != "lstm"):
        CASES.add(
            f"{name}-states_by_{by}-{mask}",
            lambda f=with_states, b=by: f(by=b),
            inputs=masked_inputs,
        )


def translator() -> keras.Model:
    """An encoder whose states start a decoder, with a shared layer."""
    source, target = keras.Input((5, 3)), keras.Input((4, 3))
    encoder = L.LSTM(6, return_state=True, name="encoder")
    _, *states = encoder(source)
    decoder = L.LSTM(6, return_sequences=True, return_state=True, name="decoder")
    once, *states = decoder(target, initial_state=states)
    twice, *_ = decoder(target, initial_state=states)
    return keras.Model([source, target], [L.Add()([once, twice]), encoder(target)[0]])


CASES.add("encoder_and_decoder", translator)


def inside(*layers: keras.Layer, shape: tuple = SEQUENCE) -> keras.Model:
    """A nested model whose layers hand the mask on without naming it."""
    inner = sequential(shape, *layers)
    x, mask = keras.Input(shape), keras.Input(shape[:1], dtype="bool")
    return keras.Model([x, mask], inner(x, mask=mask))


CHAINS = {
    "two": lambda: [L.GRU(4, return_sequences=True), L.LSTM(3)],
    "backwards": lambda: [L.LSTM(4, return_sequences=True, go_backwards=True), L.SimpleRNN(3)],
    "bidirectional": lambda: [
        L.Bidirectional(L.LSTM(4, return_sequences=True)),
        L.Bidirectional(L.GRU(3)),
    ],
    "distributed": lambda: [L.TimeDistributed(L.Dense(4)), L.GRU(3, return_sequences=True)],
    "end": lambda: [L.GRU(3, return_sequences=True), L.Dense(4)],
}
for name, make in CHAINS.items():
    CASES.add(f"chain-{name}", lambda m=make: inside(*m()), inputs=masked_inputs)


def ignored_mask() -> keras.Model:
    """Keras does not pass a mask on to a layer that is given states."""

    x, mask = keras.Input(SEQUENCE), keras.Input((5,), dtype="bool")
    state = keras.Input((4,))
    first = L.SimpleRNN(4, return_sequences=True)(x, mask=mask)
    second = L.GRU(4, return_sequences=True)(first, initial_state=state)
    third = L.Bidirectional(L.GRU(4, return_sequences=True))(first, initial_state=[state, state])
    return keras.Model([x, mask, state], [second, third, L.LSTM(2)(second)])


CASES.add("mask_ignored_with_states", ignored_mask, inputs=masked_inputs)

CELLS = {
    "simple": lambda: L.SimpleRNNCell(4),
    "gru": lambda: L.GRUCell(4),
    "gru_before": lambda: L.GRUCell(4, reset_after=False),
    "lstm": lambda: L.LSTMCell(4),
    "lstm_relu": lambda: L.LSTMCell(4, activation="relu"),
    "stack": lambda: L.StackedRNNCells([L.LSTMCell(4), L.GRUCell(3), L.LSTMCell(2)]),
    "stack_of_one": lambda: L.StackedRNNCells([L.GRUCell(3)]),
    "stack_of_same": lambda: [L.LSTMCell(3, name="a"), L.LSTMCell(4, name="b")],
    "frozen": lambda: L.LSTMCell(4, trainable=False),
}
for name, make in CELLS.items():
    for sequences, state in [(False, False), (True, True)]:
        kwargs = {"return_sequences": sequences, "return_state": state}
        # Keras itself fails at a masked stack of one cell.
        mask = name != "stack_of_one"
        add(f"cell-{name}-{sequences}", lambda m=make, k=kwargs: L.RNN(m(), **k), mask=mask)
add(
    "cell-backwards",
    lambda: L.RNN(CELLS["stack"](), go_backwards=True, return_sequences=True, return_state=True),
)
add(
    "cell-zeros",
    lambda: L.RNN(L.GRUCell(3), zero_output_for_mask=True, return_sequences=True, unroll=True),
)


def alone(cell: keras.Layer, *sizes: int) -> keras.Model:
    """A cell called on one step."""
    x, states = keras.Input((3,)), [keras.Input((size,)) for size in sizes]
    return keras.Model([x, *states], cell(x, states))


CASES.add("alone-simple", lambda: alone(L.SimpleRNNCell(4), 4))
CASES.add("alone-gru", lambda: alone(L.GRUCell(4), 4))
CASES.add("alone-lstm", lambda: alone(L.LSTMCell(4), 4, 4))


def stack_with_states(mask: bool) -> keras.Model:
    """Nested states for a stack of cells."""
    x, states = keras.Input(SEQUENCE), [keras.Input((size,)) for size in (4, 4, 3)]
    layer = L.RNN([L.LSTMCell(4), L.GRUCell(3)], return_state=True)
    kwargs = {"mask": keras.Input((5,), dtype="bool")} if mask else {}
    outputs = layer(x, initial_state=[states[:2], states[2:]], **kwargs)
    return keras.Model([x, *states, *kwargs.values()], outputs)


for mask in [False, True]:
    CASES.add(
        f"stack_with_states-{mask}", lambda m=mask: stack_with_states(m), inputs=masked_inputs
    )

for merge, sequences, state in product(
    ["concat", "sum", "mul", "ave", None], [False, True], [False, True]
):
    kwargs = {"return_sequences": sequences, "return_state": state}
    for name in ["gru", "lstm"]:
        add(
            f"bidirectional-{merge}-{name}-{sequences}-{state}",
            lambda m=merge, c=LAYERS[name], k=kwargs: L.Bidirectional(c(4, **k), merge_mode=m),
        )


def two_layers(**kwargs) -> keras.Layer:
    """Two different directions."""
    return L.Bidirectional(
        L.LSTM(4, **kwargs),
        backward_layer=L.GRU(3, activation="relu", go_backwards=True, name="other", **kwargs),
    )


add("bidirectional-two", two_layers)
add("bidirectional-two_sequences", lambda: two_layers(return_sequences=True))
add(
    "bidirectional-turned",
    lambda: L.Bidirectional(
        L.GRU(4, go_backwards=True, return_sequences=True),
        backward_layer=L.GRU(4, return_sequences=True),
    ),
)
add("bidirectional-cells", lambda: L.Bidirectional(L.RNN(CELLS["stack"](), return_sequences=True)))
add("bidirectional-simple", lambda: L.Bidirectional(L.SimpleRNN(4), name="both"))
add(
    "bidirectional-unknown_steps",
    lambda: L.Bidirectional(L.LSTM(4, return_sequences=True)),
    (None, 3),
)


def bidirectional_with_states(name: str, mask: bool) -> keras.Model:
    """States for both directions."""
    layer = LAYERS[name](4, return_state=True, return_sequences=True)
    x = keras.Input(SEQUENCE)
    states = [keras.Input((4,)) for _ in range(4 if name == "lstm" else 2)]
    kwargs = {"mask": keras.Input((5,), dtype="bool")} if mask else {}
    outputs = L.Bidirectional(layer)(x, initial_state=states, **kwargs)
    return keras.Model([x, *states, *kwargs.values()], outputs)


for name, mask in product(LAYERS, [False, True]):
    CASES.add(
        f"bidirectional-states-{name}-{mask}",
        lambda n=name, m=mask: bidirectional_with_states(n, m),
        inputs=masked_inputs,
    )

FRAMES = (4, 6, 6, 2)
DISTRIBUTED = {
    "dense": ((4, 3), lambda: L.Dense(5)),
    "dense_softmax": ((4, 2, 3), lambda: L.Dense(5, activation="softmax")),
    "activation": ((4, 3), lambda: L.Activation("tanh")),
    "softmax_of_rows": ((4, 2, 3), lambda: L.Softmax(axis=-2)),
    "convolution": (FRAMES, lambda: L.Conv2D(3, 3, activation="relu", strides=2)),
    "pooling": (FRAMES, lambda: L.MaxPooling2D(2)),
    "model": (FRAMES, lambda: frames_model()),
    "functional": (FRAMES, lambda: frames_functional()),
    "normalization": ((4, 3), lambda: L.BatchNormalization()),
    "model_with_normalization": ((4, 3), lambda: sequential((3,), L.Dense(4, use_bias=False), L.BatchNormalization())),
    "frozen_normalization": ((4, 3), lambda: L.BatchNormalization(trainable=False)),
    "lstm": ((4, 5, 3), lambda: L.LSTM(3)),
    "bidirectional": ((4, 5, 3), lambda: L.Bidirectional(L.GRU(3, return_sequences=True))),
    "twice": ((4, 5, 3), lambda: L.TimeDistributed(L.Dense(2))),
    "flatten": (FRAMES, lambda: L.Flatten()),
}  # fmt: skip


def frames_model() -> keras.Model:
    """A Sequential for one frame."""
    return sequential(FRAMES[1:], L.Conv2D(3, 3), L.ReLU(), L.Flatten(), L.Dense(2))


def frames_functional() -> keras.Model:
    """A Functional model for one frame, with a shared layer."""
    x = keras.Input(FRAMES[1:])
    shared = L.Conv2D(2, 3, padding="same", name="shared")
    return keras.Model(x, L.Flatten()(L.Add()([shared(shared(x)), x])))


for name, (shape, make) in DISTRIBUTED.items():
    # As after batch normalization elsewhere.
    tolerance = 5e-5 if "normalization" in name else 1e-5
    CASES.add(
        f"distributed-{name}",
        lambda s=shape, m=make: sequential(s, L.TimeDistributed(m())),
        tolerance=tolerance,
    )
for name in ["dense", "convolution", "lstm", "twice"]:
    shape, make = DISTRIBUTED[name]
    CASES.add(
        f"distributed-unknown_steps-{name}",
        lambda s=(None, *shape[1:]), m=make: sequential(s, L.TimeDistributed(m())),
    )


def hierarchy() -> keras.Model:
    """Words masked within sentences, and sentences within a text."""
    x = keras.Input((4, 5, 3))
    words, sentences = keras.Input((4, 5), dtype="bool"), keras.Input((4,), dtype="bool")
    y = L.TimeDistributed(L.Bidirectional(L.GRU(3)))(x, mask=words)
    return keras.Model([x, words, sentences], L.LSTM(4)(y, mask=sentences))


def hierarchy_inputs(model: keras.Model) -> list[np.ndarray]:
    """Its inputs."""
    rng = np.random.default_rng(4)
    x = rng.normal(size=(5, 4, 5, 3)).astype("float32")
    return [x, rng.integers(0, 2, (5, 4, 5)).astype(bool), MASK[:, :4]]


CASES.add("distributed-masks", hierarchy, inputs=hierarchy_inputs)

CONVOLUTIONAL = {
    "plain": {},
    "same": {"padding": "same", "return_sequences": True, "return_state": True},
    "strides": {"strides": 2, "return_sequences": True, "padding": "same"},
    "dilation": {"dilation_rate": 2, "kernel_size": 2, "go_backwards": True},
    "even": {"kernel_size": 2, "return_state": True},
    "no_bias": {"use_bias": False, "activation": "relu", "recurrent_activation": "hard_sigmoid"},
    "first": {"data_format": "channels_first", "return_sequences": True},
}
VIDEO = {"1D": (5, 6, 2), "2D": (5, 6, 5, 2), "3D": (5, 4, 5, 4, 2)}
for rank, layer in {"1D": L.ConvLSTM1D, "2D": L.ConvLSTM2D, "3D": L.ConvLSTM3D}.items():
    for option, kwargs in CONVOLUTIONAL.items():
        shape = VIDEO[rank]
        if option == "first":
            shape = (shape[0], shape[-1], *shape[1:-1])
        add(
            f"conv_lstm-{rank}-{option}",
            lambda c=layer, k={"filters": 2, "kernel_size": 3} | kwargs: c(**k),
            shape,
            mask=rank != "3D" or option == "same",
        )


def moving_pictures() -> keras.Model:
    """A stack of ConvLSTM with states handed on."""
    x = keras.Input(VIDEO["2D"])
    y, *states = L.ConvLSTM2D(2, 3, padding="same", return_sequences=True, return_state=True)(x)
    return keras.Model(x, L.ConvLSTM2D(2, 3, padding="same")(y, initial_state=states))


CASES.add("conv_lstm-states", moving_pictures)
add("conv_lstm-bidirectional", lambda: L.Bidirectional(L.ConvLSTM1D(2, 3)), VIDEO["1D"])

for name, layer in LAYERS.items():
    for kwargs in [{"dropout": 0.4}, {"recurrent_dropout": 0.3, "return_sequences": True}]:
        kwargs = kwargs | {"return_state": True}
        add(
            f"{name}-{'-'.join(kwargs)}",
            lambda c=layer, k=kwargs: c(4, **k),
            random=True,
        )
CASES.add(
    "dropout-wrapped",
    lambda: sequential(
        SEQUENCE,
        L.Bidirectional(L.LSTM(4, dropout=0.3, return_sequences=True)),
        L.TimeDistributed(L.Dropout(0.5)),
        L.RNN([L.GRUCell(4, dropout=0.2), L.LSTMCell(3, recurrent_dropout=0.2)]),
    ),
    random=True,
)
CASES.add(
    "conv_lstm-dropout",
    lambda: sequential(VIDEO["2D"], L.ConvLSTM2D(2, 3, dropout=0.2, recurrent_dropout=0.2)),
    random=True,
)
for name in ["gru", "lstm"]:
    CASES.add(
        f"{name}-dropout_of_all", lambda c=LAYERS[name]: sequential(SEQUENCE, c(4, dropout=1.0))
    )
CASES.add("simple-dropout_of_all", lambda: sequential(SEQUENCE, L.SimpleRNN(4, dropout=1.0)))

for policy, tolerance in [("mixed_float16", 2e-2), ("mixed_bfloat16", 1e-1)]:
    for name, layer in LAYERS.items():
        kwargs = {"return_sequences": True, "return_state": True, "dtype": policy}
        add(f"{name}-{policy}", lambda c=layer, k=kwargs: c(4, **k), tolerance=tolerance)
    CASES.add(
        f"wrapped-{policy}",
        lambda p=policy: sequential(
            SEQUENCE,
            L.Bidirectional(L.LSTM(4, return_sequences=True, dtype=p), dtype=p),
            L.TimeDistributed(L.Dense(3, dtype=p), dtype=p),
            L.RNN([L.GRUCell(3, dtype=p), L.LSTMCell(2)]),
        ),
        tolerance=tolerance,
    )
    CASES.add(
        f"conv_lstm-{policy}",
        lambda p=policy: sequential(VIDEO["1D"], L.ConvLSTM1D(2, 3, dtype=p)),
        tolerance=tolerance,
    )

# Keras 2.
OLD_OPTIONS = {"SimpleRNN": [], "GRU": ["implementation"], "LSTM": ["implementation"], "RNN": []}


def old_object(value: object) -> object:
    """A part of a config as Keras 2 wrote it."""
    if isinstance(value, list):
        return [old_object(item) for item in value]
    if not isinstance(value, dict):
        return value
    if value.get("class_name") == "DTypePolicy":
        return value["config"]["name"]
    drop = {"module", "registered_name", "build_config", "input_axes", "output_axes"}
    drop |= {"zero_output_for_mask", "seed"}
    old = {key: old_object(item) for key, item in value.items() if key not in drop}
    name = old.get("class_name")
    if name in OLD_OPTIONS:
        old["config"] |= {"time_major": False} | {key: 2 for key in OLD_OPTIONS[name]}
    if name == "Bidirectional":
        # Keras 2 wrote the layer that the user gave, and the other only if he gave it.
        config = old["config"]["layer"]["config"]
        config["name"] = config["name"].removeprefix("forward_")
        del old["config"]["backward_layer"]
    return old


def old_text(model: keras.Model) -> str:
    """A Functional model's text as Keras 2 wrote it."""
    config = json.loads(model.to_json())["config"]
    layers = []
    for layer in config["layers"]:
        nodes = []
        for node in layer["inbound_nodes"]:
            # The states were inputs behind the sequence.
            tensors = keras.tree.flatten(
                [history_of(item) for item in [*node["args"], node["kwargs"].get("initial_state")]]
            )
            nodes.append([[*json.loads(tensor), {}] for tensor in tensors if tensor])
        old = old_object({k: layer[k] for k in ("class_name", "config", "name")})
        if old["class_name"] == "InputLayer":
            old["config"]["batch_input_shape"] = old["config"].pop("batch_shape")
            del old["config"]["ragged"]
            old["config"].pop("optional", None)
        layers.append(old | {"inbound_nodes": nodes})
    old = {"name": "model", "layers": layers}
    old |= {key: config[key] for key in ("input_layers", "output_layers")}
    for key in ("input_layers", "output_layers"):
        if isinstance(old[key][0], str):
            old[key] = [old[key]]
    return json.dumps({"class_name": "Functional", "config": old, "keras_version": "2.15.0"})


def history_of(value: object) -> object:
    """Where tensors come from, each as text."""
    if isinstance(value, list):
        return [history_of(item) for item in value]
    if isinstance(value, dict):
        return json.dumps(value["config"]["keras_history"])
    return None


def old_model(*, states: bool) -> keras.Model:
    """Everything at once."""
    x = keras.Input(SEQUENCE)
    given = [keras.Input((4,)), keras.Input((4,))] if states else []
    y = L.LSTM(4, return_sequences=True, name="one")(x, initial_state=given or None)
    y = L.Bidirectional(L.GRU(3, return_sequences=True), name="two")(y)
    y = L.TimeDistributed(sequential((6,), L.Dense(3, name="inner")), name="three")(y)
    y = L.RNN([L.LSTMCell(3, name="low"), L.SimpleRNNCell(2, name="high")], name="four")(y)
    return keras.Model([x, *given], y)


CASES.add("keras_2", lambda: old_model(states=False), text=old_text)
CASES.add("keras_2-states", lambda: old_model(states=True), text=old_text)

test_recurrent = CASES.test()

REFUSED = {
    "stateful": (
        lambda: L.LSTM(4, name="mine", stateful=True),
        'layer "mine" (LSTM): stateful = true is not supported',
    ),
    "softmax": (
        lambda: L.ConvLSTM1D(2, 3, activation="softmax", name="mine"),
        'layer "mine" (ConvLSTM1D): a softmax as activation',
    ),
    "time_major": (
        lambda: L.GRU(4, name="mine"),
        'layer "mine" (GRU): time_major = true is not supported',
    ),
    "cell": (
        lambda: L.RNN(L.GRUCell(4), name="mine"),
        'layer "mine" (RNN): the class "Dense" as a cell is not supported',
    ),
    "direction": (
        lambda: L.Bidirectional(L.GRU(4), name="mine"),
        'layer "mine" (Bidirectional): layer and backward_layer must agree',
    ),
    "wrapped": (
        lambda: L.Bidirectional(L.GRU(4), name="mine"),
        'layer "mine" (Bidirectional): a layer of class "Dense" is not supported',
    ),
}


def edited(name: str, config: dict) -> None:
    """What Keras itself would not build."""
    layer = config["layers"][1]["config"]
    if name == "time_major":
        layer["time_major"] = True
    if name == "cell":
        layer["cell"]["class_name"] = "Dense"
        units = {"name": "cell", "units": 4}
        layer["cell"]["config"] = units
    if name == "direction":
        layer["backward_layer"]["config"]["go_backwards"] = False
    if name == "wrapped":
        layer["layer"]["class_name"] = "Dense"


@pytest.fixture(scope="module")
def refused(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The messages of what is refused."""
    folder = tmp_path_factory.mktemp("refused")
    for name, (make, _) in REFUSED.items():
        shape = VIDEO["1D"] if name == "softmax" else SEQUENCE
        x = keras.Input(batch_shape=(2, *shape))
        document = json.loads(keras.Sequential([x, make()]).to_json())
        edited(name, document["config"])
        case = folder / name
        case.mkdir()
        (case / "model.json").write_text(json.dumps(document))
        save_file({"x/0": np.zeros((2, *shape), "float32")}, case / "inputs.safetensors")
    build_forward()
    run_forward(folder)
    return {name: (folder / name / "error.txt").read_text() for name in REFUSED}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_by_name(refused: dict[str, str], name: str) -> None:
    assert refused[name].startswith(REFUSED[name][1]), refused[name]
