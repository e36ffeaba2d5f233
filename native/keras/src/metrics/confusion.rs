//! Confusion matrices over thresholds, by the rules of Keras's `update_confusion_matrix_variables`.
//!
//! Every value falls into the bucket whose number is that of the thresholds below it. The state is
//! the sum of weights in each bucket, of positive and of negative labels; counts by threshold are
//! sums of buckets.

use tch::{Kind, Tensor};

use super::accumulator::Batch;
use crate::error::{Error, Result};
use crate::losses::LabelSpec;
use crate::losses::arguments::Arguments;
use crate::losses::reduction::{same_rank, times};

/// What Keras puts in place of the scores that are not among the `top_k`.
pub(super) const NEG_INF: f64 = -1e10;

/// `keras.backend.epsilon()`.
pub(super) const EPSILON: f64 = 1e-7;

/// Keras keeps these counts in float32 and compares in it, whatever the metric's `dtype`.
const KIND: Kind = Kind::Float;

/// Buckets between thresholds.
#[derive(Debug)]
pub(super) struct Buckets {
    /// In ascending order.
    sorted: Vec<f64>,
    /// For each threshold, in the order given, its place in `sorted`.
    places: Vec<usize>,
    /// Whether Keras computes the bucket from the value, the thresholds being equally far apart.
    even: bool,
    /// Labels that have buckets of their own; none if all share them.
    labels: Option<usize>,
    top_k: Option<i64>,
    class_id: Option<i64>,
}

/// Sums of weights for every threshold.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) true_positives: Vec<f64>,
    pub(super) false_positives: Vec<f64>,
    pub(super) true_negatives: Vec<f64>,
    pub(super) false_negatives: Vec<f64>,
}

impl Buckets {
    /// Buckets for `thresholds`, given in the precision of Keras's own; `even` as Keras decides it.
    pub(super) fn new(thresholds: &[f64], even: bool) -> Self {
        let mut order: Vec<usize> = (0..thresholds.len()).collect();
        order.sort_by(|&a, &b| thresholds[a].total_cmp(&thresholds[b]));
        let mut places = vec![0; thresholds.len()];
        for (place, &index) in order.iter().enumerate() {
            places[index] = place;
        }
        Self {
            sorted: order.iter().map(|&index| thresholds[index]).collect(),
            places,
            even,
            labels: None,
            top_k: None,
            class_id: None,
        }
    }

    /// Whether thresholds are so close to equally far apart from 0 to 1 that Keras takes them so.
    pub(super) fn is_even(thresholds: &[f64]) -> bool {
        let last = thresholds.len() as f64 - 1.0;
        thresholds.len() >= 3
            && thresholds.iter().enumerate().all(|(index, threshold)| {
                let even = index as f64 / last;
                (threshold - even).abs() <= EPSILON + 1e-5 * even
            })
    }

    /// The same with buckets for each of `labels` columns.
    pub(super) fn by_label(self, labels: usize) -> Self {
        Self {
            labels: Some(labels),
            ..self
        }
    }

    /// The same of one class, and of the greatest scores only.
    pub(super) fn restricted(self, arguments: &Arguments<'_>, top_k: bool) -> Result<Self> {
        let top_k = if top_k {
            arguments.optional_i64("top_k")?
        } else {
            None
        };
        Ok(Self {
            top_k,
            class_id: arguments.optional_i64("class_id")?,
            ..self
        })
    }

    /// Thresholds.
    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    fn per_label(&self) -> usize {
        2 * (self.len() + 1)
    }

    /// Number of sums.
    pub(super) fn state_len(&self) -> usize {
        self.labels.unwrap_or(1) * self.per_label()
    }

    /// What a batch adds to the buckets. `label_weights` multiply those of the rows, by the last
    /// axis.
    pub(super) fn update(
        &self,
        batch: &Batch<'_>,
        label_weights: Option<&[f64]>,
    ) -> Result<Tensor> {
        let label = LabelSpec::values(batch.output_shape());
        let (mut y_true, y) = batch.fit(&label, Some(KIND))?;
        let y = y.y()?;
        // TensorFlow takes what is less than a normal float32 for zero.
        let mut y = y.f_masked_fill(&y.f_abs()?.f_lt(f64::from(f32::MIN_POSITIVE))?, 0.0)?;
        let weights = match batch.sample_weight {
            None => None,
            Some(weights) => {
                let weights = weights.f_to_kind(Kind::Double)?.f_unsqueeze(-1)?;
                Some(same_rank(y_true.shallow_clone(), weights, false)?.1)
            }
        };
        if let Some(k) = self.top_k {
            y = top_k(&y, k)?;
        }
        if let Some(class) = self.class_id {
            (y_true, y) = (
                one_class(&y_true, class, batch)?,
                one_class(&y, class, batch)?,
            );
        }
        let ones = y.f_ones_like()?.f_to_kind(Kind::Double)?;
        let mut weights = match weights {
            None => ones,
            Some(weights) => times(&ones, &weights, batch.place)?,
        };
        if weights.size() != y.size() {
            return Err(Error::ShapeMismatch {
                place: batch.place.to_owned(),
                reason: format!("sample weights do not fit outputs of shape {:?}", y.size()),
            });
        }
        if let Some(label_weights) = label_weights {
            let wanted = y.size().last().copied().unwrap_or(0);
            if wanted != label_weights.len() as i64 {
                return Err(Error::ShapeMismatch {
                    place: batch.place.to_owned(),
                    reason: format!("{} label_weights for {wanted} labels", label_weights.len()),
                });
            }
            let label_weights = Tensor::f_from_slice(label_weights)?.f_to_device(y.device())?;
            weights = weights.f_mul(&label_weights)?;
        }
        self.count(&y_true, &y, &weights, batch)
    }

    fn count(
        &self,
        y_true: &Tensor,
        y: &Tensor,
        weights: &Tensor,
        batch: &Batch<'_>,
    ) -> Result<Tensor> {
        let buckets = self.len() as i64 + 1;
        let negative = y_true.f_eq(0.0)?.f_to_kind(Kind::Int64)?;
        let mut index = self.bucket(y)?.f_add(&negative.f_mul_scalar(buckets)?)?;
        if let Some(labels) = self.labels {
            if y.dim() != 2 || y.size()[1] != labels as i64 {
                return Err(Error::ShapeMismatch {
                    place: batch.place.to_owned(),
                    reason: format!("outputs must be [rows, {labels}], not {:?}", y.size()),
                });
            }
            let label = Tensor::f_arange(labels as i64, (Kind::Int64, y.device()))?;
            index = index.f_add(&label.f_mul_scalar(2 * buckets)?)?;
        }
        let state = index
            .f_flatten(0, -1)?
            .f_bincount(Some(weights.f_flatten(0, -1)?), self.state_len() as i64)?;
        Ok(state)
    }

    /// Each value's bucket, 0 to the number of thresholds.
    fn bucket(&self, y: &Tensor) -> Result<Tensor> {
        let bucket = if self.even {
            let last = self.len() as f64 - 1.0;
            let bucket = y.f_clamp(0.0, 1.0)?.f_mul_scalar(last)?.f_ceil()?;
            // A first threshold below 0 is below every value.
            if self.sorted.first().is_some_and(|&first| first < 0.0) {
                bucket.f_clamp_min(1.0)?
            } else {
                bucket
            }
        } else {
            let sorted = Tensor::f_from_slice(&self.sorted)?
                .f_to_kind(KIND)?
                .f_to_device(y.device())?;
            y.f_contiguous()?.f_bucketize(&sorted, false, false)?
        };
        // What is no number is above no threshold.
        let number = y.f_isnan()?.f_logical_not()?;
        let bucket = bucket.f_where_self(&number, &bucket.f_zeros_like()?)?;
        Ok(bucket.f_to_kind(Kind::Int64)?)
    }

    /// The counts of each label, or of all labels together.
    pub(super) fn counts(&self, state: &[f64]) -> Vec<Counts> {
        let labels = state.chunks_exact(self.per_label());
        labels.map(|state| self.counts_of(state)).collect()
    }

    fn counts_of(&self, state: &[f64]) -> Counts {
        let (positive, negative) = state.split_at(self.len() + 1);
        let above = |buckets: &[f64], place: usize| buckets[place + 1..].iter().sum::<f64>();
        let below = |buckets: &[f64], place: usize| buckets[..=place].iter().sum::<f64>();
        let counts = |count: &dyn Fn(&[f64], usize) -> f64, buckets: &[f64]| {
            self.places
                .iter()
                .map(|&place| count(buckets, place))
                .collect()
        };
        Counts {
            true_positives: counts(&above, positive),
            false_positives: counts(&above, negative),
            true_negatives: counts(&below, negative),
            false_negatives: counts(&below, positive),
        }
    }
}

/// The scores, with all but the `k` greatest of each row replaced. Of equal ones the first count.
fn top_k(y: &Tensor, k: i64) -> Result<Tensor> {
    let (_, order) = y.f_sort_stable(true, -1, true)?;
    let width = y.size().last().copied().unwrap_or(0);
    let kept = order.f_narrow(-1, 0, k.clamp(0, width))?;
    let mask = y.f_zeros_like()?.f_scatter_value(-1, &kept, 1.0)?;
    let rest = mask.f_neg()?.f_add_scalar(1.0)?.f_mul_scalar(NEG_INF)?;
    Ok(y.f_mul(&mask)?.f_add(&rest)?)
}

fn one_class(values: &Tensor, class: i64, batch: &Batch<'_>) -> Result<Tensor> {
    let width = values.size().last().copied().unwrap_or(0);
    if values.dim() < 2 || class < -width || class >= width {
        return Err(Error::ShapeMismatch {
            place: batch.place.to_owned(),
            reason: format!("class_id {class} is none of the {width} classes"),
        });
    }
    let class = if class < 0 { class + width } else { class };
    Ok(values.f_narrow(-1, class, 1)?)
}
