//! The loop over the steps of a sequence.

use tch::{Kind, Tensor};

use crate::error::Result;

/// What a run over a sequence must give besides its last output.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted<'a> {
    /// The outputs of all steps.
    pub(super) outputs: bool,
    /// The states after the last step.
    pub(super) states: bool,
    /// Index of each row's last step, int64 `[batch]`; what comes after it is padding. `None` where
    /// every row has all steps.
    pub(super) ends: Option<&'a Tensor>,
}

/// What a run over a sequence gives.
#[derive(Debug)]
pub(super) struct Run {
    /// `[steps, batch, ...]`, if wanted.
    pub(super) outputs: Option<Tensor>,
    /// Each row's output at its last step, `[batch, ...]`.
    pub(super) last: Tensor,
    /// Each row's states after its last step, if wanted; else none.
    pub(super) states: Vec<Tensor>,
}

/// Runs `step` on every index from 0 on with the states that the step before gave. The first state
/// is the output. Only what is wanted is kept from step to step.
pub(super) fn run(
    count: usize,
    initial: &[Tensor],
    wanted: &Wanted<'_>,
    mut step: impl FnMut(usize, &[Tensor]) -> Result<Vec<Tensor>>,
) -> Result<Run> {
    let mut states: Vec<Tensor> = initial.iter().map(Tensor::shallow_clone).collect();
    let kept = match (wanted.ends, wanted.states) {
        (Some(_), true) => states.len(),
        (Some(_), false) => 1,
        (None, _) => usize::from(wanted.outputs),
    };
    let mut histories: Vec<Vec<Tensor>> = (0..kept).map(|_| Vec::with_capacity(count)).collect();
    for at in 0..count {
        states = step(at, &states)?;
        for (history, state) in histories.iter_mut().zip(&states) {
            history.push(state.shallow_clone());
        }
    }
    let histories = histories
        .iter()
        .map(|history| Ok(Tensor::f_stack(history, 0)?));
    let mut histories = histories.collect::<Result<Vec<_>>>()?;
    if let Some(ends) = wanted.ends {
        states = histories
            .iter()
            .map(|history| at_ends(history, ends))
            .collect::<Result<_>>()?;
    }
    Ok(Run {
        last: states[0].shallow_clone(),
        outputs: wanted.outputs.then(|| histories.swap_remove(0)),
        states: if wanted.states { states } else { Vec::new() },
    })
}

/// Of each row of `sequence` (`[steps, batch, ...]`) the step that `ends` names: `[batch, ...]`.
pub(super) fn at_ends(sequence: &Tensor, ends: &Tensor) -> Result<Tensor> {
    let batch = sequence.size()[1];
    let rows = Tensor::f_arange(batch, (Kind::Int64, sequence.device()))?;
    let places = ends.f_mul_scalar(batch)?.f_add(&rows)?;
    Ok(sequence.f_flatten(0, 1)?.f_index_select(0, &places)?)
}
