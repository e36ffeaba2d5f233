//! `Reshape`: the same elements in row-major order under `target_shape`, one of whose axes may be
//! -1, or null for a size that stays unknown until data come.

use serde_json::Value as Json;
use tch::Tensor;

use crate::context::Context;
use crate::error::{Error, Result};
use crate::layer::{Built, Unary};
use crate::scope::Scope;
use crate::spec::{Spec, SpecResult};

/// The size of an axis of the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Axis {
    Size(i64),
    /// What is left, as the spec tells.
    Rest,
    /// What is left, which the spec does not tell.
    Unknown,
}

#[derive(Debug)]
struct Reshape {
    target: Vec<Axis>,
}

pub(super) fn build(scope: &mut Scope<'_>) -> Result<Built> {
    let options = scope.options;
    let axis = |value: &Json| match value {
        Json::Null => Some(Axis::Unknown),
        value => match value.as_i64()? {
            -1 => Some(Axis::Rest),
            size => (size >= 0).then_some(Axis::Size(size)),
        },
    };
    let given = options.value("target_shape").unwrap_or(&Json::Null);
    let axes = given.as_array();
    let target = axes.and_then(|axes| axes.iter().map(axis).collect::<Option<Vec<_>>>());
    let open = |target: &Vec<Axis>| target.iter().filter(|axis| axis.size().is_none()).count();
    let target = target.filter(|target| open(target) <= 1).ok_or_else(|| {
        options.invalid(format!(
            "target_shape = {given} must be a list of sizes, with one -1 or null at most"
        ))
    })?;
    Ok(Built::unary(Reshape { target }))
}

impl Axis {
    fn size(self) -> Option<i64> {
        match self {
            Self::Size(size) => Some(size),
            Self::Rest | Self::Unknown => None,
        }
    }
}

impl Reshape {
    /// The sizes for a row of `count` elements; `None` if they do not fit.
    fn row(&self, count: i64) -> Option<Vec<i64>> {
        let known: i64 = self.target.iter().filter_map(|axis| axis.size()).product();
        let open = self.target.iter().any(|axis| axis.size().is_none());
        let fits = if open {
            known > 0 && count % known == 0
        } else {
            known == count
        };
        let sizes = self.target.iter();
        let sizes = sizes.map(|axis| axis.size().unwrap_or(count / known.max(1)));
        fits.then(|| sizes.collect())
    }

    fn unfit(&self, count: i64) -> String {
        let target: Vec<i64> = self
            .target
            .iter()
            .map(|axis| axis.size().unwrap_or(-1))
            .collect();
        format!("{count} elements do not fit target_shape {target:?}")
    }
}

impl Unary for Reshape {
    fn infer(&self, input: &Spec) -> SpecResult {
        let batch = *input.dims.first().ok_or("needs a batch axis")?;
        let mut row: Vec<Option<i64>> = self.target.iter().map(|axis| axis.size()).collect();
        if let Some(count) = input.row_elements() {
            let sizes = self.row(count).ok_or_else(|| self.unfit(count))?;
            if !self.target.contains(&Axis::Unknown) {
                row = sizes.into_iter().map(Some).collect();
            }
        }
        Ok(input.with_dims([&[batch], row.as_slice()].concat()))
    }

    fn call(&self, x: &Tensor, _: &mut Context<'_>) -> Result<Tensor> {
        let size = x.size();
        let (rows, row) = (size.first().copied().unwrap_or(1), size.iter().skip(1));
        // Said in full, since an empty batch does not tell what is left.
        let count = row.product();
        let sizes = self.row(count);
        let sizes = sizes.ok_or_else(|| Error::values(self.unfit(count)))?;
        Ok(x.f_reshape([&[rows], sizes.as_slice()].concat())?)
    }
}
