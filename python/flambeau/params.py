"""The Params of the estimator and the model, mirrored by name from the jar.

Defaults are not repeated here: a new stage takes them from its JVM companion. Keras objects and
dictionaries become text where a value is set, also in a param map or a grid.
"""

from __future__ import annotations

from pyspark.ml.param import Param, Params, TypeConverters

from flambeau.keras_spec import json_text, metric_specs, model_text, spec, specs


class ModelParams(Params):
    """What prediction needs to know, and training too."""

    featuresCol: Param[str] = Param(
        Params._dummy(),
        "featuresCol",
        "feature column: a number, an array of numbers (row-major) or an ML vector",
        TypeConverters.toString,
    )
    featureCols: Param[list[str]] = Param(
        Params._dummy(),
        "featureCols",
        "several feature columns, joined in this order into one row of the model's input",
        TypeConverters.toListString,
    )
    inputMapping: Param[str] = Param(
        Params._dummy(),
        "inputMapping",
        "JSON: each model input's name with its column or columns; wins over featureCols",
        json_text,
    )
    predictionCol: Param[str] = Param(
        Params._dummy(),
        "predictionCol",
        "column for the predicted class, or for the value of a model with one output",
        TypeConverters.toString,
    )
    outputCol: Param[str] = Param(
        Params._dummy(),
        "outputCol",
        "column for the model's output, an array of floats",
        TypeConverters.toString,
    )
    nullPolicy: Param[str] = Param(
        Params._dummy(),
        "nullPolicy",
        "what a null in a used column does: 'error' ends the job, 'zero' reads 0, 'drop' leaves "
        "the row out",
        TypeConverters.toString,
    )
    device: Param[str] = Param(
        Params._dummy(),
        "device",
        "where tasks compute: 'auto' (a GPU if there is one), 'cpu', 'cuda', or 'cuda:N'",
        TypeConverters.toString,
    )
    imageCols: Param[list[str]] = Param(
        Params._dummy(),
        "imageCols",
        "feature columns of type binary that hold encoded images, PNG or JPEG",
        TypeConverters.toListString,
    )
    imageResize: Param[str] = Param(
        Params._dummy(),
        "imageResize",
        "what becomes of an image that is not of the input's size: 'error', 'nearest' or "
        "'bilinear'",
        TypeConverters.toString,
    )
    sequencePadding: Param[str] = Param(
        Params._dummy(),
        "sequencePadding",
        "where arrays that are too short are filled up with zeros or empty strings: 'error', "
        "'pre' or 'post'; or JSON, by the name of an input or output",
        json_text,
    )
    sequenceTruncating: Param[str] = Param(
        Params._dummy(),
        "sequenceTruncating",
        "where arrays that are too long are cut: 'error', 'pre' or 'post'; or JSON, by the name "
        "of an input or output",
        json_text,
    )
    loss: Param[str] = Param(
        Params._dummy(),
        "loss",
        "Keras loss: a name, or its config in JSON",
        specs,
    )


class EstimatorParams(ModelParams):
    """What training needs to know."""

    model: Param[str] = Param(
        Params._dummy(),
        "model",
        "Keras JSON text, a path or URI of a .json, .keras or .h5 file, or a keras.Model",
        model_text,
    )
    optimizer: Param[str] = Param(
        Params._dummy(),
        "optimizer",
        "Keras optimizer: a name, its config in JSON, or an object of Keras",
        spec,
    )
    learningRate: Param[float] = Param(
        Params._dummy(),
        "learningRate",
        "learning rate, instead of the one that optimizer says",
        TypeConverters.toFloat,
    )
    metrics: Param[list[str]] = Param(
        Params._dummy(),
        "metrics",
        "Keras metrics: names, or configs in JSON",
        metric_specs,
    )
    labelCol: Param[str] = Param(
        Params._dummy(),
        "labelCol",
        "label column",
        TypeConverters.toString,
    )
    labelCols: Param[list[str]] = Param(
        Params._dummy(),
        "labelCols",
        "label columns of a model with several outputs, in their order; wins over labelCol",
        TypeConverters.toListString,
    )
    labelMapping: Param[str] = Param(
        Params._dummy(),
        "labelMapping",
        "JSON: each model output's name with its label column or columns",
        json_text,
    )
    labelEncoding: Param[str] = Param(
        Params._dummy(),
        "labelEncoding",
        "what labels become: 'none', 'one_hot' (of class ids) or 'argmax' (of one-hot vectors); "
        "or JSON, by the name of an output",
        json_text,
    )
    lossWeights: Param[str] = Param(
        Params._dummy(),
        "lossWeights",
        "JSON: weights of the outputs' losses, as Keras's compile takes them",
        json_text,
    )
    weightedMetrics: Param[list[str]] = Param(
        Params._dummy(),
        "weightedMetrics",
        "metrics that weigh rows: names, or configs in JSON",
        metric_specs,
    )
    classWeight: Param[str] = Param(
        Params._dummy(),
        "classWeight",
        "JSON: class ids with the weights of their rows",
        json_text,
    )
    frozenLayers: Param[list[str]] = Param(
        Params._dummy(),
        "frozenLayers",
        "names of layers whose weights stay as they are",
        TypeConverters.toListString,
    )
    initialWeights: Param[str] = Param(
        Params._dummy(),
        "initialWeights",
        "weights to start from: path or URI of a .keras, .weights.h5 or .h5 file, or of a "
        "TensorFlow checkpoint without .index",
        TypeConverters.toString,
    )
    skipMismatch: Param[bool] = Param(
        Params._dummy(),
        "skipMismatch",
        "whether layers that initialWeights does not hold as they are keep what they have",
        TypeConverters.toBoolean,
    )
    exportFormats: Param[list[str]] = Param(
        Params._dummy(),
        "exportFormats",
        "what the export in modelDir is written as: keras, weights.h5, h5, tf",
        TypeConverters.toListString,
    )
    weightCol: Param[str] = Param(
        Params._dummy(),
        "weightCol",
        "row weight column; without it every row weighs 1",
        TypeConverters.toString,
    )
    batchSize: Param[int] = Param(
        Params._dummy(),
        "batchSize",
        "rows that each worker puts into a step",
        TypeConverters.toInt,
    )
    globalBatchSize: Param[int] = Param(
        Params._dummy(),
        "globalBatchSize",
        "rows of all workers together in one step; instead of batchSize",
        TypeConverters.toInt,
    )
    dropRemainder: Param[bool] = Param(
        Params._dummy(),
        "dropRemainder",
        "whether a worker leaves out the last batch of a pass if it has fewer rows than the others",
        TypeConverters.toBoolean,
    )
    epochs: Param[int] = Param(
        Params._dummy(),
        "epochs",
        "passes over the rows, unless stepsPerEpoch is set; with maxSteps as many as that takes if "
        "not set",
        TypeConverters.toInt,
    )
    stepsPerEpoch: Param[int] = Param(
        Params._dummy(),
        "stepsPerEpoch",
        "steps of an epoch; the next one goes on where it stood in the rows",
        TypeConverters.toInt,
    )
    repeat: Param[bool] = Param(
        Params._dummy(),
        "repeat",
        "whether an epoch that runs out of rows before stepsPerEpoch goes on with the first ones",
        TypeConverters.toBoolean,
    )
    maxSteps: Param[int] = Param(
        Params._dummy(),
        "maxSteps",
        "steps after which training ends",
        TypeConverters.toInt,
    )
    inputMode: Param[str] = Param(
        Params._dummy(),
        "inputMode",
        "spark: Spark computes the rows once and the workers keep them; direct: each worker reads "
        "its part in every pass",
        TypeConverters.toString,
    )
    shuffleBuffer: Param[int] = Param(
        Params._dummy(),
        "shuffleBuffer",
        "rows that wait on each worker so that one can be drawn at random, while rows are received",
        TypeConverters.toInt,
    )
    numWorkers: Param[int] = Param(
        Params._dummy(),
        "numWorkers",
        "tasks that train together, each in a slot of its own",
        TypeConverters.toInt,
    )
    seed: Param[int] = Param(
        Params._dummy(),
        "seed",
        "seed of initializers, shuffling and dropout",
        TypeConverters.toInt,
    )
    shuffle: Param[bool] = Param(
        Params._dummy(),
        "shuffle",
        "whether each epoch takes the rows in a new order",
        TypeConverters.toBoolean,
    )
    validationIndicatorCol: Param[str] = Param(
        Params._dummy(),
        "validationIndicatorCol",
        "boolean column: true rows are for validation, not for training",
        TypeConverters.toString,
    )
    validationSplit: Param[float] = Param(
        Params._dummy(),
        "validationSplit",
        "fraction of rows kept for validation",
        TypeConverters.toFloat,
    )
    allreduceDtype: Param[str] = Param(
        Params._dummy(),
        "allreduceDtype",
        "type in which gradients travel between workers: 'float32', 'bfloat16' or 'float16'",
        TypeConverters.toString,
    )
    localSteps: Param[int] = Param(
        Params._dummy(),
        "localSteps",
        "steps that each worker makes by itself before all average their weights",
        TypeConverters.toInt,
    )
    shardOptimizerState: Param[bool] = Param(
        Params._dummy(),
        "shardOptimizerState",
        "whether each worker keeps and updates the optimizer's state of a part of the weights only",
        TypeConverters.toBoolean,
    )
    strategy: Param[str] = Param(
        Params._dummy(),
        "strategy",
        "'sync': workers take each step together; 'async': each pushes its gradients to servers",
        TypeConverters.toString,
    )
    numPs: Param[int] = Param(
        Params._dummy(),
        "numPs",
        "with strategy 'async': tasks that hold the weights, beside the workers; with 0 these do",
        TypeConverters.toInt,
    )
    maxStaleness: Param[int] = Param(
        Params._dummy(),
        "maxStaleness",
        "with strategy 'async': batches that a worker may be ahead of the slowest",
        TypeConverters.toInt,
    )
    pipelineStages: Param[int] = Param(
        Params._dummy(),
        "pipelineStages",
        "stages that the model is cut into, each on workers of its own",
        TypeConverters.toInt,
    )
    tensorParallel: Param[int] = Param(
        Params._dummy(),
        "tensorParallel",
        "workers that share the weights of each layer",
        TypeConverters.toInt,
    )
    microBatches: Param[int] = Param(
        Params._dummy(),
        "microBatches",
        "with pipelineStages: parts of a batch, which the stages work on at the same time",
        TypeConverters.toInt,
    )
    pipelineSchedule: Param[str] = Param(
        Params._dummy(),
        "pipelineSchedule",
        "with pipelineStages: 'gpipe', all forward passes, then all backward passes, or '1f1b', "
        "each backward pass as soon as it can be, for less memory",
        TypeConverters.toString,
    )
    layerStages: Param[str] = Param(
        Params._dummy(),
        "layerStages",
        "with pipelineStages: JSON, each layer's name with its stage, from 0 on; a layer that is "
        "not named goes with the one before it; by measured time if not set",
        json_text,
    )
    evaluator: Param[bool] = Param(
        Params._dummy(),
        "evaluator",
        "whether a task of its own validates the checkpoint of each epoch while training goes on",
        TypeConverters.toBoolean,
    )
    modelDir: Param[str] = Param(
        Params._dummy(),
        "modelDir",
        "directory (any URI Spark accepts) for checkpoints, events, history and the exported model",
        TypeConverters.toString,
    )
    checkpointEveryEpochs: Param[int] = Param(
        Params._dummy(),
        "checkpointEveryEpochs",
        "epochs between two checkpoints",
        TypeConverters.toInt,
    )
    checkpointEverySteps: Param[int] = Param(
        Params._dummy(),
        "checkpointEverySteps",
        "steps between two checkpoints within an epoch; none if not set",
        TypeConverters.toInt,
    )
    keepCheckpoints: Param[int] = Param(
        Params._dummy(),
        "keepCheckpoints",
        "how many of the newest checkpoints are kept",
        TypeConverters.toInt,
    )
    resume: Param[bool] = Param(
        Params._dummy(),
        "resume",
        "whether a fit goes on from the checkpoint of one that was interrupted in modelDir",
        TypeConverters.toBoolean,
    )
    verbose: Param[int] = Param(
        Params._dummy(),
        "verbose",
        "1 prints progress on the driver, 0 is silent",
        TypeConverters.toInt,
    )
