//! What a metric comes to: one number, or one for each class or threshold.

use serde_json::Value;

/// A metric's result.
#[derive(Debug, Clone, PartialEq)]
pub enum MetricValue {
    /// One number.
    Scalar(f64),
    /// Several, such as the F-scores of all classes.
    Vector(Vec<f64>),
}

impl MetricValue {
    /// A number for one value, a vector for several.
    pub(super) fn of(values: Vec<f64>) -> Self {
        match values[..] {
            [value] => Self::Scalar(value),
            _ => Self::Vector(values),
        }
    }

    /// Each number with a name of its own, for what takes only numbers: `name` for one, `name_0`,
    /// `name_1` and so on for several.
    pub fn scalars(&self, name: &str) -> Vec<(String, f64)> {
        match self {
            Self::Scalar(value) => vec![(name.to_owned(), *value)],
            Self::Vector(values) => values
                .iter()
                .enumerate()
                .map(|(index, value)| (format!("{name}_{index}"), *value))
                .collect(),
        }
    }
}

/// A number or a list, as a history has it; what is not finite is null, for want of a JSON word.
impl From<MetricValue> for Value {
    fn from(value: MetricValue) -> Self {
        match value {
            MetricValue::Scalar(value) => value.into(),
            MetricValue::Vector(values) => values.into(),
        }
    }
}

/// As Keras has it in float32.
#[expect(clippy::cast_possible_truncation, reason = "rounding is the purpose")]
pub(super) fn single(value: f64) -> f32 {
    value as f32
}
