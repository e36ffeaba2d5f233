//! The classes of `keras.metrics`. A further one is an [`Accumulator`], or a function whose mean is
//! taken, and an entry here.

use serde_json::{Map, Value};

use super::accumulator::Accumulator;
use super::accuracy;
use super::auc::Auc;
use super::correlation::{Concordance, Pearson};
use super::fbeta::FBeta;
use super::iou::Iou;
use super::mean::{HingeMean, Mean, RootMeanSquaredError};
use super::r2::R2;
use super::thresholds::{AtMeasure, AtThresholds};
use crate::error::Result;
use crate::losses::LabelSpec;
use crate::losses::arguments::{Argument, Arguments, Default};
use crate::losses::hinge::Hinge;
use crate::losses::registry::{Build as BuildFunction, Class as LossClass};
use crate::losses::regression::CosineSimilarity;

/// A class of `keras.metrics`.
#[derive(Debug)]
pub(crate) struct Class {
    pub(crate) name: &'static str,
    /// Keras finds it by its name in snake case too.
    pub(crate) snake: &'static str,
    /// What an object is called that was given no name.
    pub(crate) default_name: &'static str,
    /// Besides `name` and `dtype`.
    pub(crate) arguments: &'static [Argument],
    build: Build,
    /// What `get_config` writes differently.
    pub(crate) adjust: Option<Adjust>,
}

/// Makes what a metric adds up, for outputs of a shape.
type BuildState = fn(&Arguments<'_>, &[i64]) -> Result<Box<dyn Accumulator>>;

/// Changes what `get_config` writes.
type Adjust = fn(&Arguments<'_>, &mut Map<String, Value>) -> Result<()>;

/// How a metric is made.
#[derive(Debug, Clone, Copy)]
enum Build {
    /// The mean of what a function gives for each row.
    Mean(BuildFunction),
    /// The mean of a function of `keras.losses`, named as there.
    Loss(&'static str),
    State(BuildState),
}

const THRESHOLDS: Argument = Argument::new("thresholds", Default::Null);
const CLASS_ID: Argument = Argument::new("class_id", Default::Null);
const NUM_THRESHOLDS: Argument = Argument::new("num_thresholds", Default::Int(200));
const NUM_CLASSES: Argument = Argument::new("num_classes", Default::Required);
const TARGETS: Argument = Argument::new("target_class_ids", Default::Required);
const IGNORE_CLASS: Argument = Argument::new("ignore_class", Default::Null);
const AXIS: Argument = Argument::new("axis", Default::Int(-1));
const K: Argument = Argument::new("k", Default::Int(5));
const FROM_LOGITS: Argument = Argument::new("from_logits", Default::Bool(false));
const LABEL_SMOOTHING: Argument = Argument::new("label_smoothing", Default::Int(0));

const CLASSES: [Class; 44] = [
    mean("Accuracy", "accuracy", &[], |_| {
        Ok(Box::new(accuracy::Accuracy))
    }),
    mean(
        "BinaryAccuracy",
        "binary_accuracy",
        &[Argument::new("threshold", Default::Float(0.5))],
        accuracy::Binary::build,
    ),
    mean("CategoricalAccuracy", "categorical_accuracy", &[], |_| {
        Ok(Box::new(accuracy::Categorical))
    }),
    mean(
        "SparseCategoricalAccuracy",
        "sparse_categorical_accuracy",
        &[],
        |_| Ok(Box::new(accuracy::SparseCategorical)),
    ),
    mean(
        "TopKCategoricalAccuracy",
        "top_k_categorical_accuracy",
        &[K],
        accuracy::TopK::build,
    ),
    mean(
        "SparseTopKCategoricalAccuracy",
        "sparse_top_k_categorical_accuracy",
        &[
            K,
            Argument::unlisted("from_sorted_ids", Default::Bool(false)),
        ],
        accuracy::SparseTopK::build,
    ),
    mean(
        "PearsonCorrelation",
        "pearson_correlation",
        &[AXIS],
        Pearson::build,
    ),
    mean(
        "ConcordanceCorrelation",
        "concordance_correlation",
        &[AXIS],
        Concordance::build,
    ),
    mean(
        "CosineSimilarity",
        "cosine_similarity",
        &[Argument::unlisted("axis", Default::Int(-1))],
        CosineSimilarity::metric,
    ),
    loss("MeanSquaredError", "mean_squared_error", &[]),
    loss("MeanAbsoluteError", "mean_absolute_error", &[]),
    loss(
        "MeanAbsolutePercentageError",
        "mean_absolute_percentage_error",
        &[],
    ),
    loss(
        "MeanSquaredLogarithmicError",
        "mean_squared_logarithmic_error",
        &[],
    ),
    Class {
        default_name: "logcosh",
        build: Build::Loss("log_cosh"),
        ..loss("LogCoshError", "log_cosh_error", &[])
    },
    loss("KLDivergence", "kl_divergence", &[]),
    loss("Poisson", "poisson", &[]),
    loss(
        "BinaryCrossentropy",
        "binary_crossentropy",
        &[FROM_LOGITS, LABEL_SMOOTHING],
    ),
    loss(
        "CategoricalCrossentropy",
        "categorical_crossentropy",
        &[FROM_LOGITS, LABEL_SMOOTHING, AXIS],
    ),
    loss(
        "SparseCategoricalCrossentropy",
        "sparse_categorical_crossentropy",
        &[FROM_LOGITS, IGNORE_CLASS, AXIS],
    ),
    loss("CategoricalHinge", "categorical_hinge", &[]),
    state("Hinge", "hinge", &[], |_, shape| {
        Ok(hinge(Hinge::PLAIN, shape))
    }),
    state("SquaredHinge", "squared_hinge", &[], |_, shape| {
        Ok(hinge(Hinge::SQUARED, shape))
    }),
    state(
        "RootMeanSquaredError",
        "root_mean_squared_error",
        &[],
        |arguments, output_shape| {
            Ok(Box::new(RootMeanSquaredError {
                kind: arguments.kind()?,
                label: LabelSpec::values(output_shape),
            }))
        },
    ),
    state(
        "R2Score",
        "r2_score",
        &[
            Argument::new("class_aggregation", Default::Text("uniform_average")),
            Argument::new("num_regressors", Default::Int(0)),
        ],
        R2::build,
    ),
    Class {
        adjust: Some(Auc::config),
        ..state(
            "AUC",
            "auc",
            &[
                NUM_THRESHOLDS,
                Argument::new("curve", Default::Text("ROC")),
                Argument::new("summation_method", Default::Text("interpolation")),
                THRESHOLDS,
                Argument::new("multi_label", Default::Bool(false)),
                Argument::new("num_labels", Default::Null),
                Argument::new("label_weights", Default::Null),
                FROM_LOGITS,
            ],
            Auc::build,
        )
    },
    state(
        "TruePositives",
        "true_positives",
        &[THRESHOLDS],
        AtThresholds::true_positives,
    ),
    state(
        "TrueNegatives",
        "true_negatives",
        &[THRESHOLDS],
        AtThresholds::true_negatives,
    ),
    state(
        "FalsePositives",
        "false_positives",
        &[THRESHOLDS],
        AtThresholds::false_positives,
    ),
    state(
        "FalseNegatives",
        "false_negatives",
        &[THRESHOLDS],
        AtThresholds::false_negatives,
    ),
    state(
        "Precision",
        "precision",
        &[THRESHOLDS, Argument::new("top_k", Default::Null), CLASS_ID],
        AtThresholds::precision,
    ),
    state(
        "Recall",
        "recall",
        &[THRESHOLDS, Argument::new("top_k", Default::Null), CLASS_ID],
        AtThresholds::recall,
    ),
    state(
        "SensitivityAtSpecificity",
        "sensitivity_at_specificity",
        &[
            Argument::new("specificity", Default::Required),
            NUM_THRESHOLDS,
            CLASS_ID,
        ],
        AtMeasure::sensitivity_at_specificity,
    ),
    state(
        "SpecificityAtSensitivity",
        "specificity_at_sensitivity",
        &[
            Argument::new("sensitivity", Default::Required),
            NUM_THRESHOLDS,
            CLASS_ID,
        ],
        AtMeasure::specificity_at_sensitivity,
    ),
    state(
        "PrecisionAtRecall",
        "precision_at_recall",
        &[
            Argument::new("recall", Default::Required),
            NUM_THRESHOLDS,
            CLASS_ID,
        ],
        AtMeasure::precision_at_recall,
    ),
    state(
        "RecallAtPrecision",
        "recall_at_precision",
        &[
            Argument::new("precision", Default::Required),
            NUM_THRESHOLDS,
            CLASS_ID,
        ],
        AtMeasure::recall_at_precision,
    ),
    Class {
        default_name: "fbeta_score",
        ..state(
            "FBetaScore",
            "f_beta_score",
            &[
                Argument::new("average", Default::Null),
                Argument::new("beta", Default::Float(1.0)),
                Argument::new("threshold", Default::Null),
            ],
            FBeta::build,
        )
    },
    state(
        "F1Score",
        "f1_score",
        &[
            Argument::new("average", Default::Null),
            Argument::new("threshold", Default::Null),
        ],
        FBeta::f1,
    ),
    state(
        "IoU",
        "io_u",
        &[
            NUM_CLASSES,
            TARGETS,
            IGNORE_CLASS,
            Argument::new("sparse_y_true", Default::Bool(true)),
            Argument::new("sparse_y_pred", Default::Bool(true)),
            AXIS,
        ],
        Iou::of_classes,
    ),
    state(
        "BinaryIoU",
        "binary_io_u",
        &[
            Argument::new("target_class_ids", Default::Ints(&[0, 1])),
            Argument::new("threshold", Default::Float(0.5)),
        ],
        Iou::binary,
    ),
    state(
        "MeanIoU",
        "mean_io_u",
        &[
            NUM_CLASSES,
            IGNORE_CLASS,
            Argument::new("sparse_y_true", Default::Bool(true)),
            Argument::new("sparse_y_pred", Default::Bool(true)),
            AXIS,
        ],
        Iou::mean,
    ),
    state(
        "OneHotIoU",
        "one_hot_io_u",
        &[
            NUM_CLASSES,
            TARGETS,
            IGNORE_CLASS,
            Argument::new("sparse_y_pred", Default::Bool(false)),
            AXIS,
        ],
        Iou::one_hot,
    ),
    state(
        "OneHotMeanIoU",
        "one_hot_mean_io_u",
        &[
            NUM_CLASSES,
            IGNORE_CLASS,
            Argument::new("sparse_y_pred", Default::Bool(false)),
            AXIS,
        ],
        Iou::one_hot_mean,
    ),
    // Keras takes these by name, and then cannot call them with labels.
    state("Mean", "mean", &[], Class::no_metric_of_outputs),
    state("Sum", "sum", &[], Class::no_metric_of_outputs),
];

const fn state(
    name: &'static str,
    snake: &'static str,
    arguments: &'static [Argument],
    build: BuildState,
) -> Class {
    Class {
        name,
        snake,
        default_name: snake,
        arguments,
        build: Build::State(build),
        adjust: None,
    }
}

const fn mean(
    name: &'static str,
    snake: &'static str,
    arguments: &'static [Argument],
    build: BuildFunction,
) -> Class {
    Class {
        name,
        snake,
        default_name: snake,
        arguments,
        build: Build::Mean(build),
        adjust: None,
    }
}

/// A metric that is the mean of the loss function of the same name.
const fn loss(name: &'static str, snake: &'static str, arguments: &'static [Argument]) -> Class {
    Class {
        name,
        snake,
        default_name: snake,
        arguments,
        build: Build::Loss(snake),
        adjust: None,
    }
}

fn hinge(hinge: Hinge, output_shape: &[i64]) -> Box<dyn Accumulator> {
    Box::new(HingeMean {
        hinge,
        label: LabelSpec::values(output_shape),
    })
}

impl Class {
    /// The class of an object.
    pub(crate) fn by_name(name: &str) -> Option<&'static Self> {
        CLASSES.iter().find(|class| class.name == name)
    }

    /// The class for a string that is not `"accuracy"`.
    pub(crate) fn by_string(name: &str) -> Option<&'static Self> {
        let class = match name {
            "bce" | "BCE" => "BinaryCrossentropy",
            "mse" | "MSE" => "MeanSquaredError",
            "mae" | "MAE" => "MeanAbsoluteError",
            "mape" | "MAPE" => "MeanAbsolutePercentageError",
            "msle" | "MSLE" => "MeanSquaredLogarithmicError",
            name => name,
        };
        let named = |other: &&Self| other.name == class || other.snake == class;
        CLASSES.iter().find(named)
    }

    /// The names of all classes.
    pub(crate) fn names() -> impl Iterator<Item = &'static str> {
        CLASSES.iter().map(|class| class.name)
    }

    /// The metric for outputs of `output_shape` (without the batch).
    pub(super) fn accumulator(
        &self,
        arguments: &Arguments<'_>,
        output_shape: &[i64],
    ) -> Result<Box<dyn Accumulator>> {
        let function = match self.build {
            Build::State(build) => return build(arguments, output_shape),
            Build::Mean(build) => build(arguments)?,
            Build::Loss(name) => match LossClass::by_function(name) {
                Some(class) => (class.build)(&arguments.with_fixed(class.arguments))?,
                None => return Err(arguments.invalid(format!("there is no function {name}"))),
            },
        };
        Ok(Box::new(Mean::new(
            function,
            output_shape,
            arguments.place(),
        )?))
    }

    fn no_metric_of_outputs(
        arguments: &Arguments<'_>,
        _output_shape: &[i64],
    ) -> Result<Box<dyn Accumulator>> {
        Err(arguments.invalid(
            "it averages or adds up numbers and compares no labels with outputs, so that Keras \
             cannot use it when compiled either",
        ))
    }
}

/// A function as a metric, which Keras wraps in a `MeanMetricWrapper`.
#[derive(Debug, Clone, Copy)]
pub(super) enum FunctionMetric {
    /// Of `keras.losses`, where Keras looks first.
    Loss(&'static LossClass),
    /// Of `keras.metrics`.
    Metric(&'static Class),
}

impl FunctionMetric {
    pub(super) fn by_name(name: &str) -> Option<Self> {
        if let Some(class) = LossClass::by_function(name) {
            return Some(Self::Loss(class));
        }
        let functions = [
            "binary_accuracy",
            "categorical_accuracy",
            "sparse_categorical_accuracy",
            "top_k_categorical_accuracy",
            "sparse_top_k_categorical_accuracy",
            "pearson_correlation",
            "concordance_correlation",
        ];
        let class = Class::by_string(name).filter(|_| functions.contains(&name))?;
        Some(Self::Metric(class))
    }

    /// Its arguments besides labels and output.
    pub(super) fn arguments(&self) -> &'static [Argument] {
        match self {
            Self::Loss(class) => class.arguments,
            Self::Metric(class) => class.arguments,
        }
    }

    pub(super) fn accumulator(
        &self,
        arguments: &Arguments<'_>,
        output_shape: &[i64],
    ) -> Result<Box<dyn Accumulator>> {
        match self {
            Self::Metric(class) => class.accumulator(arguments, output_shape),
            Self::Loss(class) => match class.function {
                "hinge" => Ok(hinge(Hinge::PLAIN, output_shape)),
                "squared_hinge" => Ok(hinge(Hinge::SQUARED, output_shape)),
                _ => {
                    let function = (class.build)(arguments)?;
                    Ok(Box::new(Mean::new(
                        function,
                        output_shape,
                        arguments.place(),
                    )?))
                }
            },
        }
    }
}
