//! `Unique`: the values, or the slices along an axis, that differ from each other.

use serde_json::Value as Json;
use tch::{Kind, Scalar, Tensor};

use super::operand::checked;
use super::{Family, listed, numeric, operation};
use crate::arguments::Tree;
use crate::dtype::DType;
use crate::error::Result;
use crate::layer::Built;
use crate::literals::number;
use crate::scope::Scope;
use crate::spec::{Spec, position};
use crate::value::Value;

pub(super) const OPS: Family = &[("Unique", build)];

/// Which results are wanted beside the values, and in what order.
#[derive(Debug, Clone, Copy)]
struct Unique {
    /// Rising, slices by their first elements; else in the order in which they are met first.
    sorted: bool,
    /// Where each is met first.
    index: bool,
    /// Which of them each element or slice is.
    inverse: bool,
    /// How often each is met.
    counts: bool,
    /// The axis whose slices are compared; without one, elements are.
    axis: Option<i64>,
    /// How many are wanted: more are cut off, and fewer filled up.
    size: Option<i64>,
    fill: f64,
}

fn build(scope: &mut Scope<'_>) -> Result<Built> {
    let options = scope.options;
    let integer = |key: &str| options.value(key).map(|_| options.i64(key, 0)).transpose();
    let fill = match options.value("fill_value") {
        None => 0.0,
        Some(value) => number(value)
            .ok_or_else(|| options.invalid(format!("fill_value = {value} must be a number")))?,
    };
    let unique = Unique {
        sorted: options.bool("sorted", true)?,
        index: options.bool("return_index", false)?,
        inverse: options.bool("return_inverse", false)?,
        counts: options.bool("return_counts", false)?,
        axis: integer("axis")?,
        size: integer("size")?,
        fill,
    };
    if unique.size.is_some_and(|size| size < 0) {
        let size = options.value("size").unwrap_or(&Json::Null);
        return Err(options.invalid(format!("size = {size} must not be negative")));
    }
    Ok(operation(
        move |args| {
            let x = numeric(args)?;
            let mut values = match unique.axis {
                Some(_) => x.dims.clone(),
                None => vec![None],
            };
            let at = x.axis(unique.axis.unwrap_or(0))?;
            values[if unique.axis.is_some() { at } else { 0 }] = unique.size;
            let inverse = match unique.axis {
                Some(_) => vec![x.dims[at]],
                None => x.dims.clone(),
            };
            let integers = |dims: Vec<_>| Spec::new(dims, DType::Tensor(Kind::Int));
            let each = integers(vec![unique.size]);
            Ok(unique.wanted([x.with_dims(values), each.clone(), integers(inverse), each]))
        },
        move |args| {
            let x = checked(args.only())?.y()?;
            Ok(unique.wanted(unique.of(&x.f_detach()?)?.map(Value::new)))
        },
    ))
}

impl Unique {
    /// Of values, first positions, inverse and counts those that are asked for.
    fn wanted<T>(&self, all: [T; 4]) -> Tree<T> {
        let asked = [true, self.index, self.inverse, self.counts];
        let results = all.into_iter().zip(asked);
        let mut results: Vec<T> = results
            .filter_map(|(result, asked)| asked.then_some(result))
            .collect();
        match results.len() {
            1 => results.pop().map_or(Tree::List(Vec::new()), Tree::Leaf),
            _ => listed(results),
        }
    }

    fn of(&self, x: &Tensor) -> Result<[Tensor; 4]> {
        let (rows, axis) = match self.axis.and_then(|axis| position(axis, x.dim())) {
            Some(at) => (x.shallow_clone(), i64::try_from(at).unwrap_or(0)),
            None => (x.f_reshape([-1])?, 0),
        };
        // TensorFlow compares slices with the axis and the first one exchanged.
        let rows = rows.f_transpose(0, axis)?;
        let shape = rows.size();
        let (_, inverse, counts) = rows
            .f_reshape([shape[0], -1])?
            .f_unique_dim(0, true, true, true)?;
        let places = Tensor::f_arange(shape[0], (Kind::Int64, x.device()))?;
        let first = Tensor::f_zeros_like(&counts)?;
        let first = first.f_index_reduce(0, &inverse, &places, "amin", false)?;
        let (mut first, mut inverse, mut counts) = (first, inverse, counts);
        if !self.sorted {
            let order = first.f_argsort(0, false)?;
            inverse = order.f_argsort(0, false)?.f_index_select(0, &inverse)?;
            first = first.f_index_select(0, &order)?;
            counts = counts.f_index_select(0, &order)?;
        }
        let values = rows.f_index_select(0, &first)?.f_transpose(0, axis)?;
        if self.axis.is_none() {
            inverse = inverse.f_reshape(x.size())?;
        }
        Ok([
            self.sized(&values, axis, self.fill)?,
            // Keras fills positions up with 1.
            self.sized(&first, 0, 1)?.f_to_kind(Kind::Int)?,
            inverse.f_to_kind(Kind::Int)?,
            self.sized(&counts, 0, 0)?.f_to_kind(Kind::Int)?,
        ])
    }

    /// Cut or filled up along `axis` to what is wanted.
    fn sized(&self, x: &Tensor, axis: i64, fill: impl Into<Scalar>) -> Result<Tensor> {
        let Some(size) = self.size else {
            return Ok(x.shallow_clone());
        };
        let mut shape = x.size();
        let found = &mut shape[usize::try_from(axis).unwrap_or(0)];
        if *found >= size {
            return Ok(x.f_narrow(axis, 0, size)?);
        }
        *found = size - *found;
        let filling = Tensor::f_full(shape, fill, (x.kind(), x.device()))?;
        Ok(Tensor::f_cat(&[x, &filling], axis)?)
    }
}
