//! The values of one column, in the layout of Arrow's arrays without nulls.

use crate::example::Kind;
use crate::example::walk::{Run, runs};
use crate::protobuf::{Message, packed};

use super::Refusal;

/// What a column's values are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ElementType {
    /// 8-bit signed integers.
    Int8,
    /// 16-bit signed integers.
    Int16,
    /// 32-bit signed integers.
    Int32,
    /// 64-bit signed integers.
    Int64,
    /// Booleans, a bit each.
    Boolean,
    /// 32-bit floats.
    Float32,
    /// 64-bit floats.
    Float64,
    /// Strings in UTF-8.
    Utf8,
    /// Byte strings.
    Binary,
}

impl ElementType {
    /// The kind of feature that holds such values.
    fn kind(self) -> Kind {
        match self {
            Self::Int8 | Self::Int16 | Self::Int32 | Self::Int64 | Self::Boolean => Kind::Ints,
            Self::Float32 | Self::Float64 => Kind::Floats,
            Self::Utf8 | Self::Binary => Kind::Bytes,
        }
    }

    /// As SQL names it.
    fn name(self) -> &'static str {
        match self {
            Self::Int8 => "tinyint",
            Self::Int16 => "smallint",
            Self::Int32 => "int",
            Self::Int64 => "bigint",
            Self::Boolean => "boolean",
            Self::Float32 => "float",
            Self::Float64 => "double",
            Self::Utf8 => "string",
            Self::Binary => "binary",
        }
    }
}

#[derive(Debug)]
pub(super) struct Elements {
    element: ElementType,
    values: Values,
    /// Integers on their way to a narrower type.
    wide: Vec<i64>,
}

#[derive(Debug)]
enum Values {
    Int8(Vec<i8>),
    Int16(Vec<i16>),
    Int32(Vec<i32>),
    Int64(Vec<i64>),
    /// Packed into bits when sealed.
    Boolean(Vec<bool>, Vec<u8>),
    Float32(Vec<f32>),
    Float64(Vec<f64>),
    /// Where each string ends, after a leading zero; and the strings one after the other.
    Bytes(Vec<i32>, Vec<u8>),
}

/// Does the same with whichever vector there is; strings are another matter.
macro_rules! each_vector {
    ($values:expr, $vector:ident => $body:expr, ($ends:ident, $bytes:ident) => $strings:expr) => {
        match $values {
            Values::Int8($vector) => $body,
            Values::Int16($vector) => $body,
            Values::Int32($vector) => $body,
            Values::Int64($vector) => $body,
            Values::Boolean($vector, _) => $body,
            Values::Float32($vector) => $body,
            Values::Float64($vector) => $body,
            Values::Bytes($ends, $bytes) => $strings,
        }
    };
}

impl Elements {
    pub(super) fn new(element: ElementType) -> Self {
        let values = match element {
            ElementType::Int8 => Values::Int8(Vec::new()),
            ElementType::Int16 => Values::Int16(Vec::new()),
            ElementType::Int32 => Values::Int32(Vec::new()),
            ElementType::Int64 => Values::Int64(Vec::new()),
            ElementType::Boolean => Values::Boolean(Vec::new(), Vec::new()),
            ElementType::Float32 => Values::Float32(Vec::new()),
            ElementType::Float64 => Values::Float64(Vec::new()),
            ElementType::Utf8 | ElementType::Binary => Values::Bytes(vec![0], Vec::new()),
        };
        Elements {
            element,
            values,
            wide: Vec::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        each_vector!(&self.values, vector => vector.len(), (ends, _bytes) => ends.len() - 1)
    }

    /// Bytes that the values take.
    pub(super) fn bytes(&self) -> usize {
        each_vector!(&self.values, vector => size_of_val(&vector[..]), (ends, bytes) => {
            size_of_val(&ends[..]) + bytes.len()
        })
    }

    pub(super) fn truncate(&mut self, len: usize) {
        each_vector!(&mut self.values, vector => vector.truncate(len), (ends, bytes) => {
            ends.truncate(len + 1);
            bytes.truncate(ends.last().map_or(0, |&end| end.unsigned_abs() as usize));
        });
    }

    /// The value under a null.
    pub(super) fn push_default(&mut self) {
        each_vector!(&mut self.values, vector => vector.push(Default::default()), (ends, _bytes) => {
            let last = ends.last().copied().unwrap_or(0);
            ends.push(last);
        });
    }

    /// Appends the values of a feature named `feature`.
    pub(super) fn append(
        &mut self,
        feature: &str,
        kind: Kind,
        lists: &[Message<'_>],
    ) -> Result<(), Refusal> {
        let unfit = |reason: String| Refusal::Unfit {
            feature: feature.to_owned(),
            reason,
        };
        if kind != self.element.kind() {
            return Err(unfit(format!(
                "it is of kind {}, but its column is of type {}, which takes {}",
                kind.name(),
                self.element.name(),
                self.element.kind().name()
            )));
        }
        let utf8 = self.element == ElementType::Utf8;
        let (values, wide) = (&mut self.values, &mut self.wide);
        wide.clear();
        runs::<Refusal>(kind, lists, |run| {
            match (run, &mut *values) {
                (Run::Int(value), Values::Int64(out)) => out.push(value),
                (Run::Ints(packed), Values::Int64(out)) => packed.packed_varints(out)?,
                (Run::Int(value), _) => wide.push(value),
                (Run::Ints(packed), _) => packed.packed_varints(wide)?,
                (Run::Float(value), Values::Float32(out)) => out.push(value),
                (Run::Floats(items), Values::Float32(out)) => packed::floats(items, out),
                (Run::Float(value), Values::Float64(out)) => out.push(value.into()),
                (Run::Floats(items), Values::Float64(out)) => {
                    out.extend(
                        items
                            .iter()
                            .map(|&item| f64::from(f32::from_le_bytes(item))),
                    );
                }
                (Run::Bytes(item), Values::Bytes(ends, bytes)) => {
                    if utf8 && str::from_utf8(item).is_err() {
                        let reason =
                            "it is not UTF-8, but its column is of type string; read it as binary";
                        return Err(unfit(reason.to_owned()));
                    }
                    let end = i32::try_from(bytes.len() + item.len());
                    let end = end.map_err(|_| unfit("it is too long".to_owned()))?;
                    bytes.extend_from_slice(item);
                    ends.push(end);
                }
                (Run::Bytes(_) | Run::Float(_) | Run::Floats(_), _) => {}
            }
            Ok(())
        })?;
        self.narrow().map_err(|value| {
            unfit(format!(
                "{value} is out of the range of its column's type {}",
                self.element.name()
            ))
        })
    }

    /// Appends the integers that wait; fails with the first that does not fit.
    fn narrow(&mut self) -> Result<(), i64> {
        macro_rules! extend {
            ($out:ident) => {
                for &value in &self.wide {
                    $out.push(value.try_into().map_err(|_| value)?);
                }
            };
        }
        match &mut self.values {
            Values::Int8(out) => extend!(out),
            Values::Int16(out) => extend!(out),
            Values::Int32(out) => extend!(out),
            Values::Boolean(out, _) => out.extend(self.wide.iter().map(|&value| value != 0)),
            Values::Int64(_) | Values::Float32(_) | Values::Float64(_) | Values::Bytes(..) => {}
        }
        Ok(())
    }

    /// Appends one byte string as it is; false if the column is of another type or full.
    pub(super) fn push_bytes(&mut self, item: &[u8]) -> bool {
        let Values::Bytes(ends, bytes) = &mut self.values else {
            return false;
        };
        let Ok(end) = i32::try_from(bytes.len() + item.len()) else {
            return false;
        };
        bytes.extend_from_slice(item);
        ends.push(end);
        true
    }

    /// Brings the values into the layout that [`each_buffer`](Self::each_buffer) shows.
    pub(super) fn seal(&mut self) {
        if let Values::Boolean(values, bits) = &mut self.values {
            pack(values, bits);
        }
    }

    pub(super) fn each_buffer(&self, buffer: &mut impl FnMut(*const u8, usize)) {
        fn show<T>(values: &[T], buffer: &mut impl FnMut(*const u8, usize)) {
            buffer(values.as_ptr().cast(), size_of_val(values));
        }
        match &self.values {
            Values::Int8(values) => show(values, buffer),
            Values::Int16(values) => show(values, buffer),
            Values::Int32(values) => show(values, buffer),
            Values::Int64(values) => show(values, buffer),
            Values::Boolean(_, bits) => show(bits, buffer),
            Values::Float32(values) => show(values, buffer),
            Values::Float64(values) => show(values, buffer),
            Values::Bytes(ends, bytes) => {
                show(ends, buffer);
                show(bytes, buffer);
            }
        }
    }
}

/// Flags as Arrow's bitmaps: the lowest bit first.
pub(super) fn pack(flags: &[bool], bits: &mut Vec<u8>) {
    bits.clear();
    bits.extend(flags.chunks(8).map(|flags| {
        let flags = flags.iter().rev();
        flags.fold(0, |byte, &flag| byte << 1 | u8::from(flag))
    }));
}
