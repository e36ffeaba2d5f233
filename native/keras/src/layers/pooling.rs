//! `MaxPooling2D` and `AveragePooling2D`: with "same", padding never wins a maximum and is left out
//! of averages.

use tch::Tensor;

use super::window::Window;
use super::{
    Layer, LayerVariables, Shape, ShapeResult, channels_last, channels_second, image,
    require_channels_last,
};
use crate::config::Options;
use crate::error::Result;
use crate::pass::Pass;

#[derive(Debug)]
struct MaxPooling2D(Window);

#[derive(Debug)]
struct AveragePooling2D(Window);

pub(super) fn build_max(options: &Options<'_>) -> Result<Box<dyn Layer>> {
    Ok(Box::new(MaxPooling2D(window(options)?)))
}

pub(super) fn build_average(options: &Options<'_>) -> Result<Box<dyn Layer>> {
    Ok(Box::new(AveragePooling2D(window(options)?)))
}

fn window(options: &Options<'_>) -> Result<Window> {
    require_channels_last(options)?;
    Window::read(options, "pool_size", None)
}

fn pooled_shape(window: &Window, inputs: &[Shape]) -> ShapeResult {
    let [height, width, channels] = image(inputs)?;
    Ok(vec![
        window.count(0, height)?,
        window.count(1, width)?,
        channels,
    ])
}

impl Layer for MaxPooling2D {
    fn output_shape(&self, inputs: &[Shape]) -> ShapeResult {
        pooled_shape(&self.0, inputs)
    }

    fn forward(&self, inputs: &[&Tensor], _: &LayerVariables<'_>, _: &mut Pass) -> Result<Tensor> {
        let Window { size, strides, .. } = self.0;
        let (x, padding) = self
            .0
            .pad(&channels_second(inputs[0])?, f64::NEG_INFINITY)?;
        channels_last(&x.f_max_pool2d(size, strides, padding, [1, 1], false)?)
    }

    fn commutes_with_relu(&self) -> bool {
        true
    }
}

impl Layer for AveragePooling2D {
    fn output_shape(&self, inputs: &[Shape]) -> ShapeResult {
        pooled_shape(&self.0, inputs)
    }

    fn forward(&self, inputs: &[&Tensor], _: &LayerVariables<'_>, _: &mut Pass) -> Result<Tensor> {
        let Window { size, strides, .. } = self.0;
        let x = channels_second(inputs[0])?;
        let pool = |x: &Tensor, padding| x.f_avg_pool2d(size, strides, padding, false, false, None);
        let (padded, padding) = self.0.pad(&x, 0.0)?;
        let mean = pool(&padded, padding)?;
        if padded.size() == x.size() {
            return channels_last(&mean);
        }
        // The zeros padded explicitly were counted; this is the share of real elements.
        let size = x.size();
        let ones = Tensor::f_ones([1, 1, size[2], size[3]], (x.f_kind()?, x.device()))?;
        let share = pool(&self.0.pad(&ones, 0.0)?.0, padding)?;
        channels_last(&mean.f_div(&share)?)
    }
}
