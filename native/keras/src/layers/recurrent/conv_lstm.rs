//! The cell of `ConvLSTM1D`, `ConvLSTM2D` and `ConvLSTM3D`: an LSTM whose products are
//! convolutions. Kernels are `[...sizes, inputs, 4 * filters]`. That of the inputs has strides,
//! dilation and padding; the state's keeps its size. Inside, channels are the second axis.

use tch::Tensor;

use super::cell::Cell;
use super::dropout::Dropout;
use super::gates::along_axis;
use super::lstm::Activations;
use super::steps::{self, Run, Wanted};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::initializers::Initializer;
use crate::layers::layout::{Layout, spatial_rank};
use crate::layers::window::{Padding, Window};
use crate::scope::Scope;
use crate::spec::Spec;
use crate::variables::Handle;

#[derive(Debug)]
pub(super) struct ConvLstmCell {
    /// Shape of one step's inputs, without the batch.
    inputs: Vec<i64>,
    layout: Layout,
    window: Window,
    /// The state's window.
    same: Window,
    /// Shape of the states, without the batch.
    state: Vec<i64>,
    kernel: Handle,
    recurrent: Handle,
    bias: Option<Handle>,
    activations: Activations,
    dropout: Dropout,
}

impl ConvLstmCell {
    pub(super) fn read(scope: &mut Scope<'_>, step: &Spec) -> Result<Self> {
        let options = scope.options;
        let rank = spatial_rank(scope);
        let layout = Layout::read(options)?;
        let window = Window::of_kernel(options, rank, &["valid", "same"])?;
        window.require_strides_or_dilation(options)?;
        let wrong = |reason| scope.mismatch(reason);
        step.require_rank(rank + 2).map_err(wrong)?;
        let inputs: Option<Vec<i64>> = step.dims[1..].iter().copied().collect();
        let inputs = inputs.ok_or_else(|| {
            scope.mismatch(format!(
                "needs to know all sizes of a step but the batch, got {step}"
            ))
        })?;
        let channels = step.size(layout.channel_axis()).map_err(wrong)?;
        let filters = options.count("filters")?;
        let counts = window.counts(&layout.spatial(step)).map_err(wrong)?;
        let state = layout.join(None, &counts, Some(filters));
        let shape = [window.size.as_slice(), &[channels, 4 * filters]].concat();
        let kernel = scope.weight("kernel", "kernel", &shape, "glorot_uniform")?;
        let shape = [window.size.as_slice(), &[filters, 4 * filters]].concat();
        let recurrent = scope.weight("recurrent_kernel", "recurrent", &shape, "orthogonal")?;
        let use_bias = options.bool("use_bias", true)?;
        let bias = scope.weight_if(use_bias, "bias", "bias", &[4 * filters], "zeros")?;
        if options.bool("unit_forget_bias", true)?
            && let Some(bias) = bias
        {
            scope.reinitialize(bias, Initializer::with_unit_forget);
        }
        let activations = Activations::read(scope)?;
        if along_axis(activations.activation) || along_axis(activations.recurrent) {
            return Err(Error::Unsupported {
                place: options.place().to_owned(),
                what: "a softmax as activation or recurrent_activation".to_owned(),
                supported: "activations of each element by itself".to_owned(),
            });
        }
        let same = Window {
            size: window.size.clone(),
            strides: vec![1; rank],
            dilation: vec![1; rank],
            padding: Padding::Same,
        };
        Ok(Self {
            inputs,
            layout,
            window,
            same,
            state: state.into_iter().flatten().collect(),
            kernel,
            recurrent,
            bias,
            activations,
            dropout: Dropout::read(options, 4, true)?,
        })
    }

    /// The sums of the inputs' convolutions for all steps, channels second.
    fn project(&self, sequence: &Tensor, context: &mut Context<'_>) -> Result<Vec<Tensor>> {
        let size = sequence.size();
        let kernel = Kernel {
            weight: outputs_first(&context.variable(self.kernel)?)?,
            bias: context.optional(self.bias)?,
            window: &self.window,
        };
        let all = match self.dropout.of_inputs(&size[1..], context)? {
            None => vec![sequence.shallow_clone()],
            Some(masks) => {
                let masks = masks.f_unbind(0)?;
                let kept = masks.iter().map(|mask| sequence.f_mul(mask));
                kept.collect::<std::result::Result<_, _>>()?
            }
        };
        let images = all
            .iter()
            .map(|x| self.layout.channels_second(&x.f_flatten(0, 1)?));
        let sums = kernel.apply(&images.collect::<Result<Vec<_>>>()?)?;
        Ok(sums.f_unflatten(0, [size[0], size[1]])?.f_unbind(0)?)
    }
}

impl Cell for ConvLstmCell {
    fn check(&self, step: &Spec) -> std::result::Result<(), String> {
        let sizes = step.dims.iter().skip(1);
        let fits = step.rank() == self.inputs.len() + 1
            && sizes
                .zip(&self.inputs)
                .all(|(size, wanted)| *size == Some(*wanted));
        if fits {
            return Ok(());
        }
        let inputs = &self.inputs;
        Err(format!(
            "was built for steps of shape {inputs:?} (without the batch), got {step}"
        ))
    }

    fn states(&self) -> Vec<Vec<i64>> {
        vec![self.state.clone(), self.state.clone()]
    }

    fn run(
        &self,
        sequence: &Tensor,
        initial: &[Tensor],
        wanted: &Wanted<'_>,
        context: &mut Context<'_>,
    ) -> Result<Run> {
        let inputs = self.project(sequence, context)?;
        let kernel = Kernel {
            weight: outputs_first(&context.variable(self.recurrent)?)?,
            bias: None,
            window: &self.same,
        };
        let initial = initial
            .iter()
            .map(|state| self.layout.channels_second(state));
        let initial = initial.collect::<Result<Vec<_>>>()?;
        let masks = match initial.first() {
            Some(state) => self.dropout.of_states(&state.size(), context)?,
            None => None,
        };
        let masks = masks.map(|masks| masks.f_unbind(0)).transpose()?;
        let run = steps::run(inputs.len(), &initial, wanted, |at, states| {
            let sums = match &masks {
                None => kernel.apply(&states[..1])?,
                Some(masks) => {
                    let kept = masks.iter().map(|mask| states[0].f_mul(mask));
                    kernel.apply(&kept.collect::<std::result::Result<Vec<_>, _>>()?)?
                }
            };
            self.activations
                .advance(&inputs[at].f_add(&sums)?, &states[1])
        })?;
        let outputs = run.outputs.map(|outputs| {
            let size = outputs.size();
            let images = self.layout.restore(&outputs.f_flatten(0, 1)?)?;
            Ok::<_, Error>(images.f_unflatten(0, [size[0], size[1]])?)
        });
        let states = run.states.iter().map(|state| self.layout.restore(state));
        Ok(Run {
            outputs: outputs.transpose()?,
            last: self.layout.restore(&run.last)?,
            states: states.collect::<Result<_>>()?,
        })
    }
}

/// A kernel of four gates, as libtorch takes it: `[4 * filters, channels, ...sizes]`.
struct Kernel<'a> {
    weight: Tensor,
    bias: Option<Tensor>,
    window: &'a Window,
}

impl Kernel<'_> {
    /// The four gates' convolutions along axis 1: of one image for all gates, or of one for each.
    fn apply(&self, images: &[Tensor]) -> Result<Tensor> {
        let groups = i64::try_from(images.len()).unwrap_or(1);
        let images = match images {
            [image] => image.shallow_clone(),
            images => Tensor::f_cat(images, 1)?,
        };
        let (x, padding) = self.window.pad(Layout::ChannelsFirst, &images, 0.0)?;
        Ok(x.f_convolution(
            &self.weight,
            self.bias.as_ref(),
            self.window.strides.as_slice(),
            padding.as_slice(),
            self.window.dilation.as_slice(),
            false,
            vec![0; self.window.size.len()],
            groups,
        )?)
    }
}

/// A kernel in libtorch's order of axes, laid out for many uses.
fn outputs_first(kernel: &Tensor) -> Result<Tensor> {
    let rank = i64::try_from(kernel.dim()).unwrap_or(2);
    let axes: Vec<i64> = [rank - 1, rank - 2]
        .into_iter()
        .chain(0..rank - 2)
        .collect();
    Ok(kernel.f_permute(axes)?.f_contiguous()?)
}
