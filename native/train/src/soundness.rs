//! Whether weights are sound: numbers, and the same on every rank.
//!
//! A gradient that overflows shows in the loss of the step after it, but the last step has none
//! after it. And ranks that have drifted apart, by a fault of memory or a processor, would go on to
//! train models of their own without anybody noticing.

use crate::error::Error;
use crate::step::Trainer;
use flambeau_keras::Model;

/// Checks trainable variables and moving statistics; every rank calls this, and every rank comes to
/// the same result. `step` is the last that was done.
///
/// # Errors
/// [`Error::NotFinite`], [`Error::Diverged`], [`Error::Collective`].
pub(crate) fn check(trainer: &mut Trainer, step: u64) -> Result<(), Error> {
    let not_finite = not_finite(trainer.model())?;
    let (group, is_bad) = (trainer.variables_group(), u64::from(not_finite.is_some()));
    let fingerprint = u64::from(fingerprint(trainer.model())?);
    let mine: Vec<u8> = [group as u64, fingerprint, is_bad]
        .iter()
        .flat_map(|number| number.to_le_bytes())
        .collect();
    let all = trainer.communicator_mut().allgather(&mine)?;
    // A rank whose weights alone are no numbers has diverged.
    let differs = |other: &Vec<u8>| {
        let first = all.iter().find(|first| first.get(..8) == other.get(..8));
        first.is_some_and(|first| first != other)
    };
    if let Some(rank) = all.iter().position(differs) {
        return Err(Error::Diverged { rank, step });
    }
    if let Some((variable, value)) = not_finite {
        return Err(Error::NotFinite {
            variable,
            value,
            step,
        });
    }
    match all.iter().position(|other| other.get(16) == Some(&1)) {
        None => Ok(()),
        // It says which of its variables it is.
        Some(rank) => Err(Error::NotFinite {
            variable: format!("of the stage of rank {rank}"),
            value: f32::NAN,
            step,
        }),
    }
}

/// The path of a variable with a value that is not finite, and that value.
fn not_finite(model: &Model) -> Result<Option<(String, f32)>, Error> {
    let (trainable, moving) = (model.trainable(), model.non_trainable());
    let (trained, fixed) = (trainable.as_slice()?, moving.as_slice()?);
    let all = trainable.variables().iter();
    let all = all.map(|variable| (variable, trained));
    let moved = model.moving().iter();
    let moved = moved.map(|&index| (&moving.variables()[index], fixed));
    let found = all.chain(moved).find_map(|(variable, values)| {
        let values = &values[variable.span()];
        let value = values.iter().find(|value| !value.is_finite())?;
        Some((variable.path.clone(), *value))
    });
    Ok(found)
}

/// CRC-32C of all variables as little-endian numbers.
fn fingerprint(model: &Model) -> Result<u32, Error> {
    let mut crc = 0;
    let mut bytes = Vec::new();
    for store in [model.trainable(), model.non_trainable()] {
        for values in store.as_slice()?.chunks(4096) {
            bytes.clear();
            bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
            crc = crc32c::crc32c_append(crc, &bytes);
        }
    }
    Ok(crc)
}
