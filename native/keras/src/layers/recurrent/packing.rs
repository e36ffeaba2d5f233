//! Masked sequences. Keras's rule is that a masked step changes nothing: the states stay, and the
//! output is that of the step before (zeros before the first valid step), or zeros if asked for.
//! So the valid steps of each row are moved to its front, a cell runs over those, and its outputs
//! are moved back; no step costs more for the mask, and steps that are padding in all rows cost
//! nothing.

use tch::{Kind, Tensor};

use super::steps::Run;
use crate::error::Result;

/// Where the steps of a masked sequence go.
#[derive(Debug)]
pub(super) struct Packing {
    /// Steps of the longest row.
    steps: i64,
    /// Place in `[steps * batch]` of each packed step, `[packed steps * batch]`.
    from: Tensor,
    /// Packed place of the last valid step up to each step, `[steps * batch]`.
    to: Tensor,
    /// Steps whose output is zero, bool `[steps, batch]`.
    blank: Tensor,
    /// Rows without a valid step, bool `[batch]`.
    empty: Tensor,
    /// Packed index of each row's last step, `[batch]`.
    pub(super) ends: Tensor,
}

impl Packing {
    /// The packing for `mask` (bool, `[steps, batch]`, in the order in which steps run), or `None`
    /// if all steps are valid. With `zero`, outputs of masked steps are zeros.
    pub(super) fn new(mask: &Tensor, zero: bool) -> Result<Option<Self>> {
        let batch = mask.size()[1];
        if mask.numel() == 0 || mask.f_all()?.f_int64_value(&[])? != 0 {
            return Ok(None);
        }
        let numbers = mask.f_cumsum(0, Kind::Int64)?;
        let counts = numbers.f_select(0, -1)?;
        let steps = counts.f_max()?.f_int64_value(&[])?.max(1);
        let rows = Tensor::f_arange(batch, (Kind::Int64, mask.device()))?;
        let place = |step: &Tensor| step.f_mul_scalar(batch)?.f_add(&rows)?.f_flatten(0, 1);
        // Stable: valid steps first, in their order.
        let order = mask
            .f_to_kind(Kind::Uint8)?
            .f_argsort_stable(true, 0, true)?;
        let known = numbers.f_sub_scalar(1)?.f_clamp_min(0)?;
        let blank = if zero {
            mask.f_logical_not()?
        } else {
            numbers.f_eq(0)?
        };
        Ok(Some(Self {
            steps,
            from: place(&order.f_narrow(0, 0, steps)?)?,
            to: place(&known)?,
            blank,
            empty: counts.f_eq(0)?,
            ends: counts.f_sub_scalar(1)?.f_clamp_min(0)?,
        }))
    }

    /// The valid steps of `sequence` (`[steps, batch, ...]`), each row's at its front.
    pub(super) fn pack(&self, sequence: &Tensor) -> Result<Tensor> {
        let batch = sequence.size()[1];
        let packed = sequence.f_flatten(0, 1)?.f_index_select(0, &self.from)?;
        Ok(packed.f_unflatten(0, [self.steps, batch])?)
    }

    /// What a run over the packed steps means for the whole sequence.
    pub(super) fn unpack(&self, run: Run, initial: &[Tensor]) -> Result<Run> {
        let outputs = match run.outputs {
            Some(outputs) => {
                let all = outputs.f_flatten(0, 1)?.f_index_select(0, &self.to)?;
                let all = all.f_unflatten(0, self.blank.size())?;
                Some(blanked(&all, &self.blank)?)
            }
            None => None,
        };
        let states = run.states.iter().zip(initial).map(|(state, initial)| {
            let empty = aligned(&self.empty, state)?;
            Ok(initial
                .f_to_kind(state.f_kind()?)?
                .f_where_self(&empty, state)?)
        });
        Ok(Run {
            outputs,
            last: blanked(&run.last, &self.blank.f_select(0, -1)?)?,
            states: states.collect::<Result<_>>()?,
        })
    }
}

/// `values` with zeros where `blank`, of their first axes, is true.
fn blanked(values: &Tensor, blank: &Tensor) -> Result<Tensor> {
    Ok(values.f_masked_fill(&aligned(blank, values)?, 0.0)?)
}

/// `mask` with axes of 1 behind, to be broadcast over `values`.
fn aligned(mask: &Tensor, values: &Tensor) -> Result<Tensor> {
    let mut size = mask.size();
    size.resize(values.dim(), 1);
    Ok(mask.f_view(size.as_slice())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::recurrent::steps::at_ends;

    fn mask(rows: &[[bool; 4]]) -> Tensor {
        let flat: Vec<bool> = rows.concat();
        Tensor::from_slice(&flat).view([-1, 4]).tr().contiguous()
    }

    /// A cell whose output is its input.
    fn identity(packing: &Packing, sequence: &Tensor) -> Run {
        let outputs = packing.pack(sequence).unwrap();
        let last = at_ends(&outputs, &packing.ends).unwrap();
        Run {
            last: last.shallow_clone(),
            states: vec![last],
            outputs: Some(outputs),
        }
    }

    fn run(zero: bool) -> (Vec<Vec<f32>>, Vec<f32>, Vec<f32>) {
        let rows = [
            [true, true, false, false],
            [false, true, false, true],
            [false, false, false, false],
            [true, false, true, false],
        ];
        let packing = Packing::new(&mask(&rows), zero).unwrap().unwrap();
        assert_eq!(packing.steps, 2);
        let x = Tensor::arange(16, (Kind::Float, tch::Device::Cpu)) + 1.0;
        let x = x.view([4, 4]).tr().contiguous().unsqueeze(-1);
        let initial = [Tensor::full([4, 1], -7.0, (Kind::Float, tch::Device::Cpu))];
        let run = packing.unpack(identity(&packing, &x), &initial).unwrap();
        let outputs = run.outputs.unwrap().squeeze_dim(-1).tr();
        let flat = |x: &Tensor| Vec::<f32>::try_from(x.squeeze_dim(-1)).unwrap();
        (
            outputs.try_into().unwrap(),
            flat(&run.last),
            flat(&run.states[0]),
        )
    }

    #[test]
    fn masked_steps_repeat_the_output_and_keep_the_states() {
        let (outputs, last, states) = run(false);
        let expected = [
            [1., 2., 2., 2.],
            [0., 6., 6., 8.],
            [0.; 4],
            [13., 13., 15., 15.],
        ];
        assert_eq!(outputs, expected.map(|row| row.to_vec()));
        assert_eq!(last, [2., 8., 0., 15.]);
        assert_eq!(states, [2., 8., -7., 15.]);
    }

    #[test]
    fn masked_outputs_may_be_zero() {
        let (outputs, last, states) = run(true);
        let expected = [
            [1., 2., 0., 0.],
            [0., 6., 0., 8.],
            [0.; 4],
            [13., 0., 15., 0.],
        ];
        assert_eq!(outputs, expected.map(|row| row.to_vec()));
        assert_eq!(last, [0., 8., 0., 0.]);
        assert_eq!(states, [2., 8., -7., 15.]);
    }

    #[test]
    fn a_mask_that_hides_nothing_costs_nothing() {
        assert!(
            Packing::new(&mask(&[[true; 4]; 3]), true)
                .unwrap()
                .is_none()
        );
        let none = Tensor::zeros([4, 0], (Kind::Bool, tch::Device::Cpu));
        assert!(Packing::new(&none, true).unwrap().is_none());
    }
}
