//! Rows decoded out of a record batch, in our own memory: the unit the dataset caches.

/// Values of a block's feature columns, row-major.
#[derive(Debug, Clone, PartialEq)]
pub enum Features {
    /// From one binary column: bytes stay bytes, a quarter of the memory of floats.
    U8(Vec<u8>),
    /// From everything else.
    F32(Vec<f32>),
}

/// Labels of a block.
#[derive(Debug, Clone, PartialEq)]
pub enum Labels {
    /// When predicting.
    None,
    /// Class ids, one per row, checked against the number of classes.
    Classes(Vec<i64>),
    /// Row-major values, as many per row as the loss wants.
    Values(Vec<f32>),
}

/// A number of rows with features, labels and weights.
#[derive(Debug, Clone, PartialEq)]
pub struct Block {
    /// Rows held.
    pub rows: usize,
    /// `rows` times the feature width.
    pub features: Features,
    /// `rows` times the label width.
    pub labels: Labels,
    /// One weight per row, if there is a weight column.
    pub weights: Option<Vec<f32>>,
}

impl Block {
    /// Bytes this block keeps in memory.
    pub fn bytes(&self) -> usize {
        let features = match &self.features {
            Features::U8(values) => values.len(),
            Features::F32(values) => values.len() * 4,
        };
        let labels = match &self.labels {
            Labels::None => 0,
            Labels::Classes(values) => values.len() * 8,
            Labels::Values(values) => values.len() * 4,
        };
        features + labels + self.weights.as_ref().map_or(0, |weights| weights.len() * 4)
    }
}
