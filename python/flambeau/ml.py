"""KerasEstimator and KerasModel: Spark ML stages that train and apply Keras models.

Thin wrappers over the classes of the same name in the jar: params go over, results come back, and
failures come as the exceptions of `flambeau.errors`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypedDict

from pyspark.ml.param import Param
from pyspark.ml.util import JavaMLReadable, JavaMLReader, JavaMLWritable
from pyspark.ml.wrapper import JavaEstimator, JavaModel, JavaParams

from flambeau.errors import from_jvm
from flambeau.keras_spec import decoded_archive, encoded_archive
from flambeau.params import EstimatorParams, ModelParams

if TYPE_CHECKING:
    import keras
    from py4j.java_gateway import JavaObject
    from pyspark.sql import DataFrame, SparkSession
    from typing_extensions import Self, Unpack

    from flambeau.keras_spec import Model, Spec

_JVM_PACKAGE = "io.flambeau.ml"

# PySpark finds the Python class of a saved pipeline's stage by importing its JVM class name.
sys.modules[_JVM_PACKAGE] = sys.modules[__name__]


class PredictSettings(TypedDict, total=False):
    """What KerasModel.setParams takes; every setting is a Param of the same name."""

    featuresCol: str
    featureCols: Sequence[str]
    inputMapping: Mapping[str, str | Sequence[str]]
    predictionCol: str
    outputCol: str
    nullPolicy: str
    device: str
    imageCols: Sequence[str]
    imageResize: str
    sequencePadding: str | Mapping[str, str]
    sequenceTruncating: str | Mapping[str, str]


class FitSettings(PredictSettings, total=False):
    """What KerasEstimator takes; every setting is a Param of the same name."""

    model: Model
    optimizer: Spec
    learningRate: float
    loss: Spec | Sequence[Spec | None] | Mapping[str, Any]
    lossWeights: Sequence[float] | Mapping[str, float]
    metrics: Sequence[Any] | Mapping[str, Any]
    weightedMetrics: Sequence[Any] | Mapping[str, Any]
    classWeight: Mapping[int, float]
    frozenLayers: Sequence[str]
    initialWeights: str
    skipMismatch: bool
    exportFormats: Sequence[str]
    labelCol: str
    labelCols: Sequence[str]
    labelMapping: Mapping[str, str | Sequence[str]]
    labelEncoding: str | Mapping[str, str]
    weightCol: str
    batchSize: int
    globalBatchSize: int
    dropRemainder: bool
    epochs: int
    stepsPerEpoch: int
    repeat: bool
    maxSteps: int
    inputMode: str
    shuffleBuffer: int
    numWorkers: int
    seed: int
    shuffle: bool
    allreduceDtype: str
    localSteps: int
    shardOptimizerState: bool
    strategy: str
    numPs: int
    maxStaleness: int
    pipelineStages: int
    tensorParallel: int
    microBatches: int
    pipelineSchedule: str
    layerStages: Mapping[str, int]
    validationIndicatorCol: str
    validationSplit: float
    evaluator: bool
    modelDir: str
    checkpointEveryEpochs: int
    checkpointEverySteps: int
    keepCheckpoints: int
    resume: bool
    verbose: int


def _given(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the settings; raise TypeError for one that is None, which the jar cannot take."""
    for name, value in settings.items():
        if value is None:
            raise TypeError(f"{name} is None: leave it out")
    return settings


class _Reader(JavaMLReader[Any]):
    """Reads stages of the jar's own package instead of one under org.apache.spark."""

    @classmethod
    def _java_loader_class(cls, clazz: type[JavaMLReadable[Any]]) -> str:
        return f"{_JVM_PACKAGE}.{clazz.__name__}"

    @from_jvm()
    def load(self, path: str) -> Any:
        """Return the stage that was saved in `path`."""
        return super().load(path)


class _Persistent(JavaMLReadable[Any], JavaMLWritable):
    @classmethod
    def read(cls) -> _Reader:
        """Return a reader of saved stages of this class."""
        return _Reader(cls)


class _Copied(JavaParams):
    """A stage that outlives a copy that fails: PySpark's takes the object in the JVM with it."""

    def copy(self, extra: Mapping[Param[Any], Any] | None = None) -> Self:
        """Return a copy with the values of `extra`, which are what the stage itself takes.

        Raises TypeError for a value of another type.
        """
        for param in extra or {}:
            if not isinstance(param, Param):
                raise TypeError(f"{param!r} is no Param: give one such as stage.epochs")
        values = {param: param.typeConverter(value) for param, value in (extra or {}).items()}
        return super().copy(values)


class KerasModel(_Copied, JavaModel, ModelParams, _Persistent):
    """A trained Keras model as a Spark ML transformer.

    `transform(df)` keeps every column of `df` and adds `outputCol`, the model's output, and
    `predictionCol`, what it means: the most probable class, or the value of a single output.
    """

    def setParams(self, **settings: Unpack[PredictSettings]) -> Self:
        """Set what is named; the rest stays as it is."""
        self._set(**_given(settings))
        return self

    @property
    def history(self) -> dict[str, list[float]]:
        """Loss and metrics per epoch, as Keras's `History.history` has them."""
        history: dict[str, list[float]] = json.loads(self._call_java("historyJson"))
        return history

    @classmethod
    def from_keras(cls, model: keras.Model, **settings: Unpack[PredictSettings]) -> KerasModel:
        """Make a transformer of a Keras model with the weights it has, without training."""
        scala = _Reader._load_java_obj(cls)
        return cls(scala.fromKeras(encoded_archive(model))).setParams(**settings)

    @classmethod
    def from_file(
        cls, spark: SparkSession, location: str, **settings: Unpack[PredictSettings]
    ) -> KerasModel:
        """Load a .keras file, such as `export/model.keras` of a modelDir, to predict with it."""
        java_class: Any = spark._jvm
        java_model = java_class.io.flambeau.ml.KerasModel.fromKerasFile(
            spark._jsparkSession, location
        )
        return cls(java_model).setParams(**settings)

    def to_keras(self) -> keras.Model:
        """Return the trained model as a `keras.Model`; needs Keras on the driver."""
        return decoded_archive(self._call_java("kerasBase64"))

    @from_jvm()
    def _transform(self, dataset: DataFrame) -> DataFrame:
        return super()._transform(dataset)


class KerasEstimator(_Copied, JavaEstimator[KerasModel], EstimatorParams, _Persistent):
    """Trains a Keras model on the rows of a DataFrame, inside the Spark executors.

    `model` is Keras JSON text, a path or URI of a .json or .keras file, or a `keras.Model`; a
    .keras file or `keras.Model` brings its weights and, unless given here, its compile settings.
    `optimizer`, `loss` and `metrics` are Keras names, configs or objects.
    """

    def __init__(self, **settings: Unpack[FitSettings]) -> None:
        """Make an estimator; see the class for `model`, and the Params for all other settings."""
        super().__init__()
        self._java_obj = self._new_java_obj(f"{_JVM_PACKAGE}.KerasEstimator", self.uid)
        self._transfer_params_from_java()
        self.setParams(**settings)

    def setParams(self, **settings: Unpack[FitSettings]) -> Self:
        """Set what is named; the rest stays as it is."""
        self._set(**_given(settings))
        return self

    def fit(
        self, dataset: DataFrame, params: Any = None, *, validation_data: DataFrame | None = None
    ) -> Any:
        """Train on `dataset`, and validate each epoch with all rows of `validation_data`.

        The latter has the same columns. Without it, validationIndicatorCol or validationSplit say
        which rows of `dataset` validate, if any. `params` are as for any estimator of PySpark.
        """
        if validation_data is None:
            return super().fit(dataset, params)
        if isinstance(params, list | tuple):
            return [self.fit(dataset, each, validation_data=validation_data) for each in params]
        return (self.copy(params) if params else self)._fit_validated(dataset, validation_data)

    @from_jvm()
    def fitEach(self, dataset: DataFrame, by: str) -> dict[Any, KerasModel]:  # noqa: N802
        """Train a model of its own for each value of column `by`, on the rows of that value.

        Each trains in one task, as many at once as there are slots. Values are strings, whole
        numbers or booleans; the models come by their values.
        """
        self._transfer_params_to_java()
        java_estimator: Any = self._java_obj
        found = java_estimator.fitEach(dataset._jdf, by).iterator()
        models = {}
        while found.hasNext():
            pair = found.next()
            models[pair._1()] = self._copyValues(self._create_model(pair._2()))
        return models

    @from_jvm()
    def _fit(self, dataset: DataFrame) -> KerasModel:
        return super()._fit(dataset)

    @from_jvm()
    def _fit_validated(self, dataset: DataFrame, validation_data: DataFrame) -> KerasModel:
        self._transfer_params_to_java()
        java_estimator: Any = self._java_obj
        java_model = java_estimator.fit(dataset._jdf, validation_data._jdf)
        return self._copyValues(self._create_model(java_model))

    @from_jvm()
    def fitBatch(self, batch: DataFrame, batch_id: int) -> None:  # noqa: N802
        """Train on a micro-batch of a stream, from where the one before it ended.

        For `stream.writeStream.foreachBatch(estimator.fitBatch)`. The model stays in the executors
        between micro-batches; each leaves a checkpoint and the export in modelDir, and one that
        Spark repeats is trained once. `epochs` are those on each micro-batch.
        """
        self._transfer_params_to_java()
        java_estimator: Any = self._java_obj
        java_estimator.fitBatch(batch._jdf, batch_id)

    def _create_model(self, java_model: JavaObject) -> KerasModel:
        return KerasModel(java_model)
