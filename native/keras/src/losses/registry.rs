//! The classes of `keras.losses`. A further one is a [`Function`] in a file of its family and an
//! entry here.

use super::arguments::{Argument, Arguments, Default};
use super::circle::Circle;
use super::ctc::Ctc;
use super::function::Function;
use super::hinge::{CategoricalHinge, Hinge};
use super::overlap::Overlap;
use super::regression::{
    CosineSimilarity, Huber, KlDivergence, LogCosh, MeanAbsoluteError, MeanAbsolutePercentageError,
    MeanSquaredError, MeanSquaredLogarithmicError, Poisson,
};
use super::{crossentropy, focal};
use crate::error::Result;

/// A class of `keras.losses`.
#[derive(Debug)]
pub(crate) struct Class {
    pub(crate) name: &'static str,
    /// The function that it wraps.
    pub(crate) function: &'static str,
    /// What an object is called that was given no name.
    pub(crate) default_name: &'static str,
    /// Further names of the function.
    aliases: &'static [&'static str],
    /// Besides `name`, `reduction` and `dtype`.
    pub(crate) arguments: &'static [Argument],
    pub(crate) build: Build,
}

pub(crate) type Build = fn(&Arguments<'_>) -> Result<Box<dyn Function>>;

const FROM_LOGITS: Argument = Argument::new("from_logits", Default::Bool(false));
const LABEL_SMOOTHING: Argument = Argument::new("label_smoothing", Default::Float(0.0));
const LAST_AXIS: Argument = Argument::new("axis", Default::Int(-1));
const ALL_AXES: Argument = Argument::new("axis", Default::Null);
const GAMMA: Argument = Argument::new("gamma", Default::Float(2.0));
const ALPHA: Argument = Argument::new("alpha", Default::Float(0.25));

/// Keras can find this class only by its module: `keras.losses.get` does not know its name.
pub(crate) const UNNAMED: &str = "CategoricalGeneralizedCrossEntropy";

const CLASSES: [Class; 22] = [
    class(
        "BinaryCrossentropy",
        "binary_crossentropy",
        &["bce", "BCE"],
        &[FROM_LOGITS, LABEL_SMOOTHING, LAST_AXIS],
        crossentropy::Binary::build,
    ),
    class(
        "BinaryFocalCrossentropy",
        "binary_focal_crossentropy",
        &[],
        &[
            Argument::new("apply_class_balancing", Default::Bool(false)),
            ALPHA,
            GAMMA,
            FROM_LOGITS,
            LABEL_SMOOTHING,
            LAST_AXIS,
        ],
        focal::Binary::build,
    ),
    class(
        "CategoricalCrossentropy",
        "categorical_crossentropy",
        &[],
        &[FROM_LOGITS, LABEL_SMOOTHING, LAST_AXIS],
        crossentropy::Categorical::build,
    ),
    class(
        "CategoricalFocalCrossentropy",
        "categorical_focal_crossentropy",
        &[],
        &[ALPHA, GAMMA, FROM_LOGITS, LABEL_SMOOTHING, LAST_AXIS],
        focal::Categorical::build,
    ),
    class(
        UNNAMED,
        "categorical_generalized_cross_entropy",
        &[],
        &[Argument::new("q", Default::Float(0.5))],
        focal::Generalized::build,
    ),
    class(
        "SparseCategoricalCrossentropy",
        "sparse_categorical_crossentropy",
        &[],
        &[
            FROM_LOGITS,
            Argument::new("ignore_class", Default::Null),
            Argument::unlisted("axis", Default::Int(-1)),
        ],
        crossentropy::Sparse::build,
    ),
    class("CategoricalHinge", "categorical_hinge", &[], &[], |_| {
        Ok(Box::new(CategoricalHinge))
    }),
    class("Hinge", "hinge", &[], &[], |_| Ok(Box::new(Hinge::PLAIN))),
    class("SquaredHinge", "squared_hinge", &[], &[], |_| {
        Ok(Box::new(Hinge::SQUARED))
    }),
    class(
        "CosineSimilarity",
        "cosine_similarity",
        &[],
        &[Argument::unlisted("axis", Default::Int(-1))],
        CosineSimilarity::build,
    ),
    Class {
        default_name: "huber_loss",
        ..class(
            "Huber",
            "huber",
            &[],
            &[Argument::unlisted("delta", Default::Float(1.0))],
            Huber::build,
        )
    },
    class(
        "KLDivergence",
        "kl_divergence",
        &["kld", "KLD"],
        &[],
        |_| Ok(Box::new(KlDivergence)),
    ),
    class("LogCosh", "log_cosh", &[], &[], |_| Ok(Box::new(LogCosh))),
    class(
        "MeanAbsoluteError",
        "mean_absolute_error",
        &["mae", "MAE"],
        &[],
        |_| Ok(Box::new(MeanAbsoluteError)),
    ),
    class(
        "MeanAbsolutePercentageError",
        "mean_absolute_percentage_error",
        &["mape", "MAPE"],
        &[],
        |_| Ok(Box::new(MeanAbsolutePercentageError)),
    ),
    class(
        "MeanSquaredError",
        "mean_squared_error",
        &["mse", "MSE"],
        &[],
        |_| Ok(Box::new(MeanSquaredError)),
    ),
    class(
        "MeanSquaredLogarithmicError",
        "mean_squared_logarithmic_error",
        &["msle", "MSLE"],
        &[],
        |_| Ok(Box::new(MeanSquaredLogarithmicError)),
    ),
    class("Poisson", "poisson", &[], &[], |_| Ok(Box::new(Poisson))),
    class("CTC", "ctc", &[], &[], |_| Ok(Box::new(Ctc))),
    class("Dice", "dice", &[], &[ALL_AXES], Overlap::dice),
    class(
        "Tversky",
        "tversky",
        &[],
        &[
            Argument::new("alpha", Default::Float(0.5)),
            Argument::new("beta", Default::Float(0.5)),
            ALL_AXES,
        ],
        Overlap::tversky,
    ),
    class(
        "Circle",
        "circle",
        &[],
        &[
            Argument::new("gamma", Default::Float(80.0)),
            Argument::new("margin", Default::Float(0.4)),
            Argument::new("remove_diagonal", Default::Bool(true)),
        ],
        Circle::build,
    ),
];

const fn class(
    name: &'static str,
    function: &'static str,
    aliases: &'static [&'static str],
    arguments: &'static [Argument],
    build: Build,
) -> Class {
    Class {
        name,
        function,
        default_name: function,
        aliases,
        arguments,
        build,
    }
}

impl Class {
    /// The class of an object.
    pub(crate) fn by_name(name: &str) -> Option<&'static Self> {
        CLASSES.iter().find(|class| class.name == name)
    }

    /// The class that wraps a function.
    pub(crate) fn by_function(name: &str) -> Option<&'static Self> {
        let named = |class: &&Self| class.function == name && class.name != UNNAMED;
        CLASSES.iter().find(named)
    }

    /// The class whose function has a further name.
    pub(crate) fn by_alias(name: &str) -> Option<&'static Self> {
        CLASSES.iter().find(|class| class.aliases.contains(&name))
    }

    /// The names of all classes.
    pub(crate) fn names() -> impl Iterator<Item = &'static str> {
        CLASSES.iter().map(|class| class.name)
    }
}
