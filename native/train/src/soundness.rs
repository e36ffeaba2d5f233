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
    let group = trainer.variables_group() as u64;
    let fingerprint = u64::from(fingerprint(trainer.model())?);
    let mut mine = [group.to_le_bytes(), fingerprint.to_le_bytes()].concat();
    if let Some((variable, value)) = not_finite(trainer.model())? {
        mine.extend(value.to_le_bytes());
        mine.extend(variable.bytes());
    }
    let all = trainer.communicator_mut().allgather(&mine)?;
    // A rank whose weights alone are no numbers has diverged.
    let differs = |other: &Vec<u8>| {
        let first = all.iter().find(|first| first.get(..8) == other.get(..8));
        first.is_some_and(|first| first != other)
    };
    if let Some(rank) = all.iter().position(differs) {
        return Err(Error::Diverged { rank, step });
    }
    let named = |other: &Vec<u8>| {
        let (value, variable) = other.get(16..)?.split_first_chunk()?;
        let variable = String::from_utf8_lossy(variable).into_owned();
        Some((variable, f32::from_le_bytes(*value)))
    };
    match all.iter().find_map(named) {
        None => Ok(()),
        Some((variable, value)) => Err(Error::NotFinite {
            variable,
            value,
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
