//! `Dot`: sums of products of two inputs over one axis of each, row by row.

use serde_json::Value as Json;
use tch::Tensor;

use super::promotion::{listed, promoted};
use crate::arguments::{Args, Tree};
use crate::config::{Given, Options};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::layer::{Built, Inferred, Layer};
use crate::scope::Scope;
use crate::spec::Spec;
use crate::value::Value;

/// Keras's `epsilon()`, below which a norm is not divided by.
const EPSILON: f64 = 1e-7;

#[derive(Debug)]
struct Dot {
    /// The axis of each input, counted with the batch.
    axes: [i64; 2],
    /// Whether inputs are divided by their norms along the axes, so that the result is a cosine.
    normalize: bool,
}

pub(super) fn build(scope: &mut Scope<'_>) -> Result<Built> {
    Ok(Built::layer(Dot {
        axes: axes(scope.options)?,
        normalize: scope.options.flag("normalize", false)?,
    }))
}

fn axes(options: &Options<'_>) -> Result<[i64; 2]> {
    let axes = match options.given("axes") {
        Given::Value(Json::Array(axes)) => match axes.as_slice() {
            [a, b] => a.as_i64().zip(b.as_i64()).map(|(a, b)| [a, b]),
            _ => None,
        },
        Given::Value(axis) => axis.as_i64().map(|axis| [axis, axis]),
        Given::Absent | Given::Null => None,
    };
    axes.ok_or_else(|| options.invalid("axes must be an integer or a list of two"))
}

impl Dot {
    /// The two inputs.
    fn pair<T>(args: &Args<T>) -> std::result::Result<[&T; 2], String> {
        let inputs = listed(args)?;
        let count = inputs.len();
        <[&T; 2]>::try_from(inputs).map_err(|_| format!("takes two inputs, got {count}"))
    }

    /// `x` divided by its norm along `axis`.
    fn normalized(x: &Tensor, axis: i64) -> Result<Tensor> {
        let sum = x.f_square()?.f_sum_dim_intlist(axis, true, x.f_kind()?)?;
        Ok(x.f_mul(&sum.f_rsqrt()?.f_clamp_max(1.0 / EPSILON)?)?)
    }
}

impl Layer for Dot {
    fn infer(&self, args: &Args<Spec>) -> Inferred {
        let inputs = Self::pair(args)?;
        let mut dims = Vec::new();
        let mut summed = Vec::new();
        for (input, axis) in inputs.into_iter().zip(self.axes) {
            let at = input.axis(axis)?;
            if at == 0 {
                return Err(format!("cannot sum over the batch, axis {axis} of {input}"));
            }
            let mut rest = input.dims.clone();
            summed.push(rest.remove(at));
            let batch = usize::from(!dims.is_empty());
            dims.extend(rest.into_iter().skip(batch));
        }
        if summed[0] != summed[1] {
            let [a, b] = inputs;
            return Err(format!(
                "needs axes of one known size, got axes {:?} of {a} and {b}",
                self.axes
            ));
        }
        if dims.len() == 1 {
            dims.push(Some(1));
        }
        Ok(Tree::Leaf(Spec::new(dims, promoted(&inputs))))
    }

    fn call(&self, args: &Args<Value>, _: &mut Context<'_>) -> Result<Tree<Value>> {
        let inputs = Self::pair(args).map_err(Error::values)?;
        let [mut x, mut y] = [inputs[0].y()?, inputs[1].y()?].map(Tensor::shallow_clone);
        let [a, b] = self.axes;
        if self.normalize {
            (x, y) = (Self::normalized(&x, a)?, Self::normalized(&y, b)?);
        }
        // [rows, .., summed] and [rows, summed, ..], with the axes between made one.
        let (x, y) = (x.f_movedim([a], [-1])?, y.f_movedim([b], [1])?);
        let (left, right) = (x.size(), y.size());
        let (rows, summed) = (left[0], right[1]);
        let (left, right) = (&left[1..left.len() - 1], &right[2..]);
        let x = x.f_reshape([rows, left.iter().product(), summed])?;
        let y = y.f_reshape([rows, summed, right.iter().product()])?;
        let mut shape = [&[rows], left, right].concat();
        if shape.len() == 1 {
            shape.push(1);
        }
        Ok(Tree::Leaf(x.f_bmm(&y)?.f_reshape(shape)?.into()))
    }
}
