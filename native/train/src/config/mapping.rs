//! How columns become what the model takes, where their types alone do not say.

use serde::Deserialize;
use std::collections::BTreeMap;

/// One choice for all inputs or outputs of a model, or one for each of those that are named.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Choice<T> {
    /// For all.
    All(T),
    /// By name; the others have the default.
    Each(BTreeMap<String, T>),
}

/// What a row of an array column becomes whose length is not the model's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RaggedPolicy {
    /// The job ends with an error naming column and row.
    #[default]
    Error,
    /// Steps are added or taken at its beginning.
    Pre,
    /// Steps are added or taken at its end.
    Post,
}

/// What class ids in a label column become, or the reverse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LabelEncoding {
    /// Labels are what the loss compares.
    #[default]
    None,
    /// Each id becomes a vector with a one at its place, for a loss over the values of all classes.
    OneHot,
    /// Each such vector becomes the id, for a loss over class ids.
    Argmax,
}

/// What becomes of an encoded image that is not of the input's size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ImageResize {
    /// The job ends with an error naming column and row.
    #[default]
    Error,
    /// Each pixel is the nearest one of the image.
    Nearest,
    /// Each pixel is the mean of its four neighbours in the image, by their distance.
    Bilinear,
}

impl<T: Default> Default for Choice<T> {
    fn default() -> Self {
        Self::All(T::default())
    }
}

impl<T: Copy + Default> Choice<T> {
    /// The choice for what goes by `name`.
    pub fn of(&self, name: &str) -> T {
        match self {
            Self::All(choice) => *choice,
            Self::Each(choices) => choices.get(name).copied().unwrap_or_default(),
        }
    }

    /// The names that choices were made for.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let names = match self {
            Self::All(_) => None,
            Self::Each(choices) => Some(choices.keys().map(String::as_str)),
        };
        names.into_iter().flatten()
    }
}
