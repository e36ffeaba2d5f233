//! How an equation is computed: as one matrix product where it is one, else by libtorch's `einsum`.

use tch::Tensor;

use super::equation::{Axis, Equation};
use crate::error::Result;

/// A product of an input and a kernel.
#[derive(Debug)]
pub(super) enum Contraction {
    /// Rows are the axes of the input that stay, columns those that the kernel adds.
    Matrix {
        /// The input's axes: those that stay, in the output's order, then those summed over.
        input: Vec<i64>,
        /// How many of them stay.
        rows: usize,
        /// The kernel's axes: those summed over, then those it adds.
        kernel: Vec<i64>,
        /// The output's axes in the result, rows first.
        output: Vec<i64>,
    },
    /// Axes that input, kernel and output share, or that only the input has.
    Einsum(String),
}

impl Contraction {
    /// `None` if the equation has more axes than there are letters.
    pub(super) fn new(equation: &Equation) -> Option<Self> {
        let Equation {
            input,
            kernel,
            output,
            ..
        } = equation;
        let shared = kernel
            .iter()
            .any(|axis| input.contains(axis) && output.contains(axis));
        let dropped = input
            .iter()
            .any(|axis| !kernel.contains(axis) && !output.contains(axis));
        if shared || dropped {
            return equation.spelled().map(Self::Einsum);
        }
        let stay: Vec<Axis> = only(output, |axis| input.contains(axis));
        let summed: Vec<Axis> = only(kernel, |axis| input.contains(axis));
        let added: Vec<Axis> = only(kernel, |axis| output.contains(axis));
        Some(Self::Matrix {
            input: places(&[stay.as_slice(), &summed].concat(), input),
            rows: stay.len(),
            kernel: places(&[summed.as_slice(), &added].concat(), kernel),
            output: places(output, &[stay.as_slice(), &added].concat()),
        })
    }

    /// Whether the output's last axes are those that the kernel adds, in the kernel's order: then
    /// a bias over just those can be added within the product.
    pub(super) fn ends_with_columns(&self) -> bool {
        match self {
            Self::Matrix { output, .. } => (0..).zip(output).all(|(at, &axis)| at == axis),
            Self::Einsum(_) => false,
        }
    }

    /// The product; `bias`, one number per column, is added if it is given.
    pub(super) fn apply(
        &self,
        x: &Tensor,
        kernel: &Tensor,
        bias: Option<&Tensor>,
    ) -> Result<Tensor> {
        let (input, rows, kernel_order, output) = match self {
            Self::Einsum(equation) => {
                let product = Tensor::f_einsum(equation, &[x, kernel], None::<&[i64]>)?;
                return Ok(match bias {
                    Some(bias) => product.f_add(bias)?,
                    None => product,
                });
            }
            Self::Matrix {
                input,
                rows,
                kernel,
                output,
            } => (input, *rows, kernel, output),
        };
        let x = permuted(x, input)?;
        let kernel = permuted(kernel, kernel_order)?;
        let (x_size, kernel_size) = (x.size(), kernel.size());
        let summed = x_size.len() - rows;
        let (stay, inner) = x_size.split_at(rows);
        let added = &kernel_size[summed..];
        let inner: i64 = inner.iter().product();
        let x = x.f_reshape([stay.iter().product(), inner])?;
        let kernel = kernel.f_reshape([inner, added.iter().product()])?;
        let product = match bias {
            Some(bias) => bias.f_addmm(&x, &kernel)?,
            None => x.f_mm(&kernel)?,
        };
        let product = product.f_view([stay, added].concat().as_slice())?;
        permuted(&product, output)
    }
}

fn only(axes: &[Axis], keep: impl Fn(&Axis) -> bool) -> Vec<Axis> {
    axes.iter().filter(|axis| keep(axis)).copied().collect()
}

/// Where `axes` are in `among`.
fn places(axes: &[Axis], among: &[Axis]) -> Vec<i64> {
    let place = |axis: &Axis| among.iter().position(|other| other == axis);
    let places = axes.iter().filter_map(place);
    places.filter_map(|at| i64::try_from(at).ok()).collect()
}

fn permuted(x: &Tensor, order: &[i64]) -> Result<Tensor> {
    if (0..).zip(order).all(|(at, &axis)| at == axis) {
        return Ok(x.shallow_clone());
    }
    Ok(x.f_permute(order)?)
}
