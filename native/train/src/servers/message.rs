//! What ranks of an asynchronous fit say to each other: a header in JSON, then numbers as they lie in
//! memory, little-endian.
//!
//! ```text
//! 0   bytes of the header, u32
//! 4   header
//!     numbers, one list behind the other; the header or the model says how many
//! ```

use crate::dataset::Cursor;
use crate::error::Error;
use crate::step::Totals;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// What a server is asked for.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Request {
    /// By another server, of server 0: it takes calls there. Answered by what it holds to begin with.
    Seat { host: String, port: u16 },
    /// By a worker that begins, of server 0. Answered by a [`Welcome`].
    Enter,
    /// By a worker. Answered by [`Weights`].
    Pull {
        /// Whether it has a batch to train with them.
        next: bool,
    },
    /// By a worker, of a server that holds rows of a matrix which is looked up: some of them. Behind it are
    /// their numbers, counted from the first that the server holds. Answered by their values.
    Rows { variable: usize, count: usize },
    /// By a worker, of every server: gradients of one batch. Answered by [`Weights`].
    Push(Push),
    /// By a worker, of server 0: a pass over its rows is over. Answered by nothing.
    Epoch(Ended),
    /// By a worker, of server 0, again and again: it trains no more. Answered by a [`Leave`].
    Done,
    /// By server 0, of another one. Answered by what it holds of these elements of a variable, after as
    /// many updates as server 0 has done or more.
    Gather {
        step: u64,
        variable: usize,
        elements: Range<usize>,
    },
    /// By server 0, of another one: the fit is over. Answered by nothing.
    End,
}

/// Where a worker goes on.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Welcome {
    /// Host and port of each server but the first.
    pub(crate) seats: Vec<(String, u16)>,
    pub(crate) progress: WorkerProgress,
}

/// How far a worker has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerProgress {
    /// Where its next batch is.
    pub place: Cursor,
    /// Batches that it has trained.
    pub steps: u64,
    /// Epochs that it has ended.
    pub epochs: usize,
}

/// Header of gradients. Behind it are, for each stretch of the server that was reached, all gradients;
/// or for one of a matrix that is looked up, the numbers of its rows, counted from the stretch's first,
/// their gradients and the statistic of each if the rule takes one. To server 0 then go moving
/// statistics as they were pulled and as they are now, and the sums of the batch.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Push {
    /// Of each stretch, whether the loss reached its variable.
    pub(crate) reached: Vec<bool>,
    /// Of each stretch of a matrix that is looked up: how many rows, and the sum of squares of all its
    /// slices on all servers.
    pub(crate) rows: Vec<(usize, f32)>,
    /// The server's step that the weights were of.
    pub(crate) pulled: u64,
    /// Whether the worker has another batch in this pass.
    pub(crate) next: bool,
    /// To server 0: where the worker is now.
    pub(crate) place: Option<Cursor>,
}

/// Header of weights: those of the server's stretches, and from server 0 moving statistics.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Weights {
    /// The server's updates so far.
    pub(crate) step: u64,
    /// Whether the batch that the worker has may be trained.
    pub(crate) go: bool,
}

/// Header of the sums over a worker's rows to validate with.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Ended {
    /// Rows left out of the pass.
    pub(crate) left_out: u64,
}

/// Whether a worker that trains no more may end. Its task must not have ended where all others are
/// started again, so it stays as long as there are enough places for all.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Leave {
    pub(crate) may_go: bool,
}

/// A number that travels as it lies in memory.
pub(crate) trait Number: Copy {
    const BYTES: usize;
    fn put(self, bytes: &mut [u8]);
    fn take(bytes: &[u8]) -> Self;
}

macro_rules! number {
    ($($kind:ty),*) => {$(
        impl Number for $kind {
            const BYTES: usize = size_of::<$kind>();

            fn put(self, bytes: &mut [u8]) {
                bytes.copy_from_slice(&self.to_le_bytes());
            }

            fn take(bytes: &[u8]) -> Self {
                let mut own = [0; size_of::<$kind>()];
                own.copy_from_slice(bytes);
                Self::from_le_bytes(own)
            }
        }
    )*};
}
number!(f32, f64, u32);

/// A message that is being written.
#[derive(Debug)]
pub(crate) struct Packed(Vec<u8>);

impl Packed {
    /// One with a header.
    ///
    /// # Errors
    /// [`Error::Panic`]: every header can be written.
    pub(crate) fn new(header: &impl Serialize) -> Result<Self, Error> {
        let json = serde_json::to_vec(header).map_err(|error| Error::Panic(error.to_string()))?;
        let length = u32::try_from(json.len()).map_err(|error| Error::Panic(error.to_string()))?;
        let mut bytes = length.to_le_bytes().to_vec();
        bytes.extend(json);
        Ok(Self(bytes))
    }

    /// Appends numbers.
    pub(crate) fn put<T: Number>(&mut self, numbers: &[T]) {
        let start = self.0.len();
        self.0.resize(start + numbers.len() * T::BYTES, 0);
        let places = self.0[start..].chunks_exact_mut(T::BYTES);
        for (place, number) in places.zip(numbers) {
            number.put(place);
        }
    }

    /// Appends sums over rows.
    pub(crate) fn put_totals(&mut self, totals: &Totals) {
        self.put(&totals.losses);
        self.put(&[totals.rows]);
        self.put(&totals.metrics);
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

/// The numbers of a message that has come.
#[derive(Debug)]
pub(crate) struct Numbers<'a>(&'a [u8]);

/// The header of a message, and its numbers.
///
/// # Errors
/// [`Error::Config`] for one that is of another release or another model.
pub(crate) fn unpack<H: DeserializeOwned>(message: &[u8]) -> Result<(H, Numbers<'_>), Error> {
    let (length, rest) = message
        .split_first_chunk()
        .ok_or_else(|| strange("it is empty"))?;
    let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
    let (header, numbers) = rest
        .split_at_checked(length)
        .ok_or_else(|| strange("its header is cut off"))?;
    let header = serde_json::from_slice(header).map_err(|error| strange(&error.to_string()))?;
    Ok((header, Numbers(numbers)))
}

impl Numbers<'_> {
    /// Fills `into` with the next numbers.
    ///
    /// # Errors
    /// [`Error::Config`] if there are fewer.
    pub(crate) fn take_into<T: Number>(&mut self, into: &mut [T]) -> Result<(), Error> {
        let length = into.len() * T::BYTES;
        let taken = self.0.split_at_checked(length);
        let (bytes, rest) = taken.ok_or_else(|| strange("it has too few numbers"))?;
        for (number, bytes) in into.iter_mut().zip(bytes.chunks_exact(T::BYTES)) {
            *number = T::take(bytes);
        }
        self.0 = rest;
        Ok(())
    }

    /// The next `count` numbers.
    ///
    /// # Errors
    /// [`Error::Config`] if there are fewer.
    pub(crate) fn take<T: Number + Default>(&mut self, count: usize) -> Result<Vec<T>, Error> {
        if self.0.len() / T::BYTES < count {
            return Err(strange("it has too few numbers"));
        }
        let mut numbers = vec![T::default(); count];
        self.take_into(&mut numbers)?;
        Ok(numbers)
    }

    /// Sums over rows, as many as `like` has.
    ///
    /// # Errors
    /// [`Error::Config`] if there are fewer.
    pub(crate) fn take_totals(&mut self, like: &Totals) -> Result<Totals, Error> {
        let losses = self.take(like.losses.len())?;
        let [mut rows] = [0.0];
        self.take_into(std::slice::from_mut(&mut rows))?;
        let metrics = self.take(like.metrics.len())?;
        Ok(Totals {
            losses,
            rows,
            metrics,
        })
    }

    /// That nothing is left over.
    ///
    /// # Errors
    /// [`Error::Config`] otherwise.
    pub(crate) fn end(self) -> Result<(), Error> {
        if self.0.is_empty() {
            return Ok(());
        }
        Err(strange("it has too many numbers"))
    }
}

pub(crate) fn strange(what: &str) -> Error {
    Error::Config(format!(
        "a message of another rank cannot be understood: {what}. All ranks must train the same model \
         with the same release"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_is_taken_and_what_is_cut_off_is_an_error() {
        let weights = Weights { step: 7, go: true };
        let totals = Totals {
            losses: vec![0.1, f64::NAN],
            rows: 3.0,
            metrics: vec![f64::INFINITY],
        };
        let mut message = Packed::new(&weights).unwrap();
        message.put(&[1.5_f32, -2.0]);
        message.put(&[u32::MAX]);
        message.put_totals(&totals);
        let bytes = message.into_bytes();
        let read = |bytes: &[u8]| {
            let (header, mut numbers) = unpack::<Weights>(bytes)?;
            assert_eq!((header.step, header.go), (7, true));
            assert_eq!(numbers.take::<f32>(2)?, [1.5, -2.0]);
            assert_eq!(numbers.take::<u32>(1)?, [u32::MAX]);
            let read = numbers.take_totals(&totals)?;
            assert_eq!((read.rows, read.losses[0]), (3.0, 0.1));
            assert!(read.losses[1].is_nan() && read.metrics[0].is_infinite());
            numbers.end()
        };
        read(&bytes).unwrap();
        for length in 0..bytes.len() {
            assert!(read(&bytes[..length]).is_err(), "{length}");
        }
        assert!(read(&[bytes.as_slice(), &[0]].concat()).is_err());
        let (_, mut numbers) = unpack::<Weights>(&bytes).unwrap();
        assert!(numbers.take::<f32>(usize::MAX / 8).is_err());
    }
}
