//! Rows of matrices that are kept elsewhere than in the model, and fetched when a pass looks them up.

use std::fmt::Debug;

use tch::{Kind, Tensor};

use crate::error::{Error, Result};
use crate::replicas::Failure;

/// Where such rows are kept.
pub trait Rows: Debug + Send + Sync {
    /// The rows `ids`, which are in order and differ, of the trainable variable of that index: one behind
    /// the other. None if the model has them itself.
    ///
    /// # Errors
    /// They cannot be fetched.
    fn fetch(
        &self,
        variable: usize,
        ids: &[usize],
    ) -> std::result::Result<Option<Vec<f32>>, Failure>;
}

/// The rows `ids`, of any shape and several times if need be, as a tensor with one axis more.
pub(crate) fn fetch(rows: &dyn Rows, variable: usize, ids: &Tensor) -> Result<Option<Tensor>> {
    if ids.numel() == 0 {
        return Ok(None);
    }
    let wanted: Vec<i64> = Vec::try_from(ids.f_flatten(0, -1)?.f_to_kind(Kind::Int64)?)?;
    let wanted = wanted
        .into_iter()
        .map(|id| usize::try_from(id).unwrap_or(0));
    let wanted: Vec<usize> = wanted.collect();
    let mut distinct = wanted.clone();
    distinct.sort_unstable();
    distinct.dedup();
    let Some(values) = rows.fetch(variable, &distinct).map_err(Error::Replicas)? else {
        return Ok(None);
    };
    let height = i64::try_from(distinct.len()).unwrap_or(0);
    let values = Tensor::f_from_slice(&values)?;
    let matrix = values.f_view([height, -1])?;
    let places = wanted
        .iter()
        .map(|id| distinct.partition_point(|known| known < id));
    let places: Vec<i64> = places
        .filter_map(|place| i64::try_from(place).ok())
        .collect();
    let places = Tensor::f_from_slice(&places)?.f_view(ids.size().as_slice())?;
    let rows = Tensor::f_embedding(&matrix, &places, -1, false, false)?;
    Ok(Some(rows.f_to_device(ids.device())?))
}
