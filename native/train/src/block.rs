//! Rows decoded out of a record batch, in our own memory: the unit the dataset caches.

mod ragged;

pub(crate) use ragged::{Fitted, Uneven};
pub use ragged::{Ragged, Side};
use std::ops::Range;

/// Values of some columns, row-major, in the width that they came in.
#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    /// From one binary column: bytes stay bytes, a quarter of the memory of floats.
    U8(Vec<u8>),
    /// Numbers of inputs and labels that are floating point.
    F32(Vec<f32>),
    /// Ids of columns that hold no wider ones.
    I32(Vec<i32>),
    /// Ids, exact.
    I64(Vec<i64>),
    /// Byte strings.
    Strings(Vec<Box<[u8]>>),
    /// Any of these, where rows differ in how many they hold.
    Ragged(Ragged),
}

/// A number of rows with inputs, labels and weights.
#[derive(Debug, Clone, PartialEq)]
pub struct Block {
    /// Rows held.
    pub rows: usize,
    /// For each input of the model, `rows` times its width.
    pub inputs: Vec<Values>,
    /// For each output of the model, `rows` times the width of its labels; none where it has no
    /// loss, and none at all when predicting.
    pub labels: Vec<Option<Values>>,
    /// One weight per row, if there is a weight column.
    pub weights: Option<Values>,
}

/// What values are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    U8,
    F32,
    I32,
    I64,
    Strings,
}

/// One of a block's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Of this input of the model.
    Input(usize),
    /// Labels of this output.
    Label(usize),
    /// The rows' weights.
    Weights,
}

impl Block {
    /// Bytes this block keeps in memory.
    pub fn bytes(&self) -> usize {
        self.parts().map(|(_, values)| values.bytes()).sum()
    }

    /// All that the rows have, in a fixed order.
    pub(crate) fn parts(&self) -> impl Iterator<Item = (Part, &Values)> {
        let inputs = self.inputs.iter().enumerate();
        let inputs = inputs.map(|(at, values)| (Part::Input(at), values));
        let labels = self.labels.iter().enumerate();
        let labels = labels.filter_map(|(at, values)| Some((Part::Label(at), values.as_ref()?)));
        let weights = self.weights.iter();
        let weights = weights.map(|values| (Part::Weights, values));
        inputs.chain(labels).chain(weights)
    }

    /// One of them, if the rows have it.
    pub(crate) fn part(&self, part: Part) -> Option<&Values> {
        match part {
            Part::Input(at) => self.inputs.get(at),
            Part::Label(at) => self.labels.get(at)?.as_ref(),
            Part::Weights => self.weights.as_ref(),
        }
    }
}

impl Values {
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::U8(_) => Kind::U8,
            Self::F32(_) => Kind::F32,
            Self::I32(_) => Kind::I32,
            Self::I64(_) => Kind::I64,
            Self::Strings(_) => Kind::Strings,
            Self::Ragged(ragged) => ragged.values().kind(),
        }
    }

    /// The strings, if that is what they are.
    pub(crate) fn strings(&self) -> Option<&[Box<[u8]>]> {
        match self {
            Self::Strings(values) => Some(values),
            Self::Ragged(ragged) => ragged.values().strings(),
            _ => None,
        }
    }

    /// Where a row's values are, of `rows` that all are as long unless they are ragged.
    pub(crate) fn range(&self, row: usize, rows: usize) -> Option<Range<usize>> {
        match self {
            Self::Ragged(ragged) => ragged.range(row),
            values => {
                let width = values.len() / rows.max(1);
                (row < rows).then_some(row * width..(row + 1) * width)
            }
        }
    }

    /// Where values are missing in rows that differ in how many they hold; none if they do not.
    pub(crate) fn padding(&self) -> Option<Side> {
        match self {
            Self::Ragged(ragged) => Some(ragged.padding()),
            _ => None,
        }
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        match self {
            Self::U8(values) => values.len(),
            Self::F32(values) => values.len(),
            Self::I32(values) => values.len(),
            Self::I64(values) => values.len(),
            Self::Strings(values) => values.len(),
            Self::Ragged(ragged) => ragged.values().len(),
        }
    }

    /// Whether there is no value.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes kept in memory.
    pub fn bytes(&self) -> usize {
        match self {
            Self::U8(values) => values.len(),
            Self::F32(values) => values.len() * 4,
            Self::I32(values) => values.len() * 4,
            Self::I64(values) => values.len() * 8,
            Self::Strings(values) => {
                let taken = values.iter().map(|value| allocated(value.len()));
                values.len() * size_of::<Box<[u8]>>() + taken.sum::<usize>()
            }
            Self::Ragged(ragged) => ragged.bytes(),
        }
    }

    /// The rows at `rows`, `width` values each unless they are ragged.
    pub fn pick(&self, rows: &[usize], width: usize) -> Self {
        match self {
            Self::U8(values) => Self::U8(pick(values, rows, width)),
            Self::F32(values) => Self::F32(pick(values, rows, width)),
            Self::I32(values) => Self::I32(pick(values, rows, width)),
            Self::I64(values) => Self::I64(pick(values, rows, width)),
            Self::Strings(values) => Self::Strings(pick(values, rows, width)),
            Self::Ragged(ragged) => Self::Ragged(ragged.pick(rows)),
        }
    }
}

/// A number as the values of a block hold it.
pub(crate) trait Number: Copy {
    const KIND: Kind;
    /// The numbers of `values`, if they are of this type.
    fn of(values: &Values) -> Option<&[Self]>;
    /// Bytes in this machine's order, `size_of::<Self>()` of them.
    fn from_bytes(bytes: &[u8]) -> Self;
    /// The reverse.
    fn to_bytes(self, bytes: &mut [u8]);
}

macro_rules! number {
    ($($type:ty, $kind:ident);*) => {$(
        impl Number for $type {
            const KIND: Kind = Kind::$kind;

            fn of(values: &Values) -> Option<&[Self]> {
                match values {
                    Values::$kind(values) => Some(values),
                    Values::Ragged(ragged) => Self::of(ragged.values()),
                    _ => None,
                }
            }

            #[inline]
            fn from_bytes(bytes: &[u8]) -> Self {
                let mut own = [0; size_of::<Self>()];
                own.copy_from_slice(bytes);
                Self::from_ne_bytes(own)
            }

            #[inline]
            fn to_bytes(self, bytes: &mut [u8]) {
                bytes.copy_from_slice(&self.to_ne_bytes());
            }
        }
    )*};
}
number!(u8, U8; f32, F32; i32, I32; i64, I64);

/// An empty vector with room for `rows` times `width` values; else the bytes that were not to be
/// had.
pub(crate) fn reserve<T>(rows: usize, width: usize) -> Result<Vec<T>, usize> {
    let mut out = Vec::new();
    let count = rows.saturating_mul(width);
    match out.try_reserve_exact(count) {
        Ok(()) => Ok(out),
        Err(_) => Err(count.saturating_mul(size_of::<T>())),
    }
}

/// What glibc takes for an allocation: 8 bytes of its own, in steps of 16, at least 32.
fn allocated(bytes: usize) -> usize {
    match bytes {
        0 => 0,
        bytes => (bytes + 8).next_multiple_of(16).max(32),
    }
}

fn pick<T: Clone>(values: &[T], rows: &[usize], width: usize) -> Vec<T> {
    let mut out = Vec::with_capacity(rows.len() * width);
    for row in rows {
        out.extend_from_slice(&values[row * width..(row + 1) * width]);
    }
    out
}
