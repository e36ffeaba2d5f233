//! `Flatten`: all axes but the batch become one, in row-major order; with channels first, the
//! channels are moved last before.

use tch::Tensor;

use crate::context::Context;
use crate::error::Result;
use crate::layer::{Built, Unary};
use crate::layers::layout::Layout;
use crate::scope::Scope;
use crate::spec::{Spec, SpecResult};

#[derive(Debug)]
struct Flatten(Layout);

pub(super) fn build(scope: &mut Scope<'_>) -> Result<Built> {
    Ok(Built::unary(Flatten(Layout::read(scope.options)?)))
}

impl Unary for Flatten {
    fn infer(&self, input: &Spec) -> SpecResult {
        let batch = *input.dims.first().ok_or("needs a batch axis")?;
        Ok(input.with_dims([batch, input.row_elements()]))
    }

    fn call(&self, x: &Tensor, _: &mut Context<'_>) -> Result<Tensor> {
        let size = x.size();
        let row: i64 = size.iter().skip(1).product();
        let shape = [size.first().copied().unwrap_or(1), row];
        if self.0 == Layout::ChannelsFirst && size.len() > 2 {
            let rank = i64::try_from(size.len()).unwrap_or(0);
            let order: Vec<i64> = std::iter::once(0).chain(2..rank).chain([1]).collect();
            return Ok(x.f_permute(order)?.f_reshape(shape)?);
        }
        Ok(x.f_reshape(shape)?)
    }
}
