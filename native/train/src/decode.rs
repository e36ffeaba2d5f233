//! One Arrow column into slots of f32, i32 or i64, whatever numeric type, list or ML vector it holds;
//! or into byte strings.
//!
//! A row that holds a null is reported to [`Nulls`]; its slots read as zero, its strings as empty.
//! The undefined bytes under a null bit never reach a tensor.

mod decimal;
mod images;
mod numbers;
mod sequences;
mod stack;

use crate::block;
use crate::error::DataError;
use arrow_array::types::{Float64Type, Int32Type};
use arrow_array::{Array, BinaryArray, ListArray, PrimitiveArray, StringArray, StructArray};
use arrow_schema::{DataType, TimeUnit};
use images::IMAGE_FIELDS;
pub(crate) use numbers::Target;
use numbers::{Numbers, Source};
pub(crate) use stack::{Stack, Stacks, stacked};

/// Where a column's values go inside a row-major matrix.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Slots {
    /// First slot of the column within a row.
    pub(crate) offset: usize,
    /// Slots the column fills in each row.
    pub(crate) width: usize,
    /// Slots of a whole row.
    pub(crate) stride: usize,
    /// Whether a list may be shorter: then zeros fill the rest.
    pub(crate) padded: bool,
}

impl Slots {
    fn of(self, row: usize) -> std::ops::Range<usize> {
        let start = row * self.stride + self.offset;
        start..start + self.width
    }
}

/// The rows of one batch in which some used column is null.
#[derive(Debug)]
pub(crate) struct Nulls {
    rows: Vec<bool>,
    first: Option<(String, usize)>,
}

impl Nulls {
    pub(crate) fn new(rows: usize) -> Self {
        Self {
            rows: vec![false; rows],
            first: None,
        }
    }

    fn add(&mut self, column: &str, row: usize) {
        self.rows[row] = true;
        if self.first.as_ref().is_none_or(|(_, first)| row < *first) {
            self.first = Some((column.to_owned(), row));
        }
    }

    /// The first null in row order: its column and its row within the batch.
    pub(crate) fn first(&self) -> Option<(&str, usize)> {
        self.first
            .as_ref()
            .map(|(column, row)| (column.as_str(), *row))
    }

    pub(crate) fn is_null(&self, row: usize) -> bool {
        self.rows[row]
    }
}

/// What a column can be, decided once from its Arrow type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ColumnKind {
    Scalar,
    Binary,
    List,
    /// Spark ML's VectorUDT: `{type: i8, size: i32, indices: [i32], values: [f64]}`.
    Vector,
    Text,
    /// An array of strings.
    Texts,
    /// Spark's image struct.
    Image,
    /// Numbers of several columns.
    Stack,
}

/// The types [`ColumnKind::of`] accepts, for messages.
pub(crate) const ACCEPTED: &str = "a number, boolean, date, timestamp, binary, string, an array of numbers or strings, an ML \
     vector, or an image";

/// Those that become numbers.
pub(crate) const NUMBERS: &str = "a number, boolean, date, timestamp, binary, an array of numbers, or an ML vector: look strings \
     up in the model (StringLookup, TextVectorization) behind an input of dtype string";

/// Those that become strings.
pub(crate) const STRINGS: &str = "a string, binary, or an array of strings";

impl ColumnKind {
    pub(crate) fn of(dtype: &DataType) -> Option<Self> {
        match dtype {
            dtype if is_number(dtype) => Some(Self::Scalar),
            DataType::Binary => Some(Self::Binary),
            DataType::Utf8 => Some(Self::Text),
            DataType::List(item) if is_number(item.data_type()) => Some(Self::List),
            DataType::FixedSizeList(item, _) if is_number(item.data_type()) => Some(Self::Stack),
            DataType::List(item) if *item.data_type() == DataType::Utf8 => Some(Self::Texts),
            DataType::Struct(fields) => {
                let names: Vec<_> = fields.iter().map(|field| field.name().as_str()).collect();
                if names == IMAGE_FIELDS {
                    return Some(Self::Image);
                }
                (names == ["type", "size", "indices", "values"]).then_some(Self::Vector)
            }
            _ => None,
        }
    }
}

/// Whether every whole number of such a column is an i32.
pub(crate) fn is_narrow(dtype: &DataType) -> bool {
    match dtype {
        DataType::Boolean | DataType::Int8 | DataType::Int16 | DataType::Int32 => true,
        DataType::Binary | DataType::Date32 => true,
        // So many digits are before the point.
        DataType::Decimal128(precision, scale) => i16::from(*precision) - i16::from(*scale) <= 9,
        DataType::List(item) | DataType::FixedSizeList(item, _) => is_narrow(item.data_type()),
        _ => false,
    }
}

fn is_number(dtype: &DataType) -> bool {
    matches!(
        dtype,
        DataType::Boolean
            | DataType::Int8
            | DataType::Int16
            | DataType::Int32
            | DataType::Int64
            | DataType::Float32
            | DataType::Float64
            | DataType::Date32
            | DataType::Timestamp(TimeUnit::Microsecond, _)
            | DataType::Decimal128(_, 0..)
    )
}

/// A column and the name it goes by in messages.
pub(crate) struct Column<'a> {
    pub(crate) name: &'a str,
    pub(crate) array: &'a dyn Array,
    /// Rows of the stream before this batch, so that messages count rows of the partition.
    pub(crate) first_row: u64,
    /// Which columns these are, if several arrive as one.
    pub(crate) stack: Option<&'a Stack>,
}

impl Column<'_> {
    /// Values that each row holds, as the first non-null one says; none when every row is null and
    /// the type does not say either.
    pub(crate) fn width(&self) -> Option<usize> {
        let array = self.array;
        let kind = ColumnKind::of(array.data_type())?;
        if matches!(kind, ColumnKind::Scalar | ColumnKind::Text) {
            return Some(1);
        }
        if let Some(stack) = self.stack {
            return Some(stack.names().len());
        }
        let row = (0..array.len()).find(|&row| array.is_valid(row))?;
        match kind {
            ColumnKind::Scalar | ColumnKind::Text => Some(1),
            ColumnKind::Binary => downcast::<BinaryArray>(array).map(|a| a.value(row).len()),
            ColumnKind::List | ColumnKind::Texts => {
                downcast::<ListArray>(array).map(|a| list_range(a, row).len())
            }
            ColumnKind::Vector => Vector::of(array).map(|vector| vector.size(row)),
            ColumnKind::Image | ColumnKind::Stack => None,
        }
    }

    /// Writes every row's values into `out`.
    ///
    /// # Errors
    /// [`DataError::Width`] for a row with another number of values than `slots.width`;
    /// [`DataError::Fraction`] for a fraction where whole numbers are wanted;
    /// [`DataError::Type`] for strings.
    pub(crate) fn fill<T: Target>(
        &self,
        out: &mut [T],
        slots: Slots,
        nulls: &mut Nulls,
    ) -> Result<(), DataError> {
        match ColumnKind::of(self.array.data_type()) {
            Some(ColumnKind::Scalar) => self.fill_scalars(out, slots, nulls),
            Some(ColumnKind::Binary) => self.fill_binary(out, slots, nulls),
            Some(ColumnKind::List) => self.fill_lists(out, slots, nulls),
            Some(ColumnKind::Vector) => self.fill_vectors(out, slots, nulls),
            Some(ColumnKind::Stack) => self.fill_stacked(out, slots, nulls),
            Some(ColumnKind::Text | ColumnKind::Texts | ColumnKind::Image) | None => {
                Err(self.wrong_type())
            }
        }
    }

    /// The strings of every row, `width` for each: of a string column, an array of strings, or a
    /// binary column, whose values are strings of bytes.
    ///
    /// # Errors
    /// [`DataError::Width`] for a row with another number of strings; [`DataError::Type`].
    pub(crate) fn strings(
        &self,
        width: usize,
        nulls: &mut Nulls,
    ) -> Result<Vec<Box<[u8]>>, DataError> {
        let array = self.array;
        let mut out = self.reserve(width)?;
        let lists = downcast::<ListArray>(array);
        let items: &dyn Array = lists.map_or(array, |lists| lists.values().as_ref());
        let text = downcast::<StringArray>(items);
        let binary = downcast::<BinaryArray>(items);
        if text.is_none() && binary.is_none() {
            return Err(self.wrong_type());
        }
        for row in 0..array.len() {
            let range = match lists {
                _ if array.is_null(row) => 0..0,
                Some(lists) => list_range(lists, row),
                None => row..row + 1,
            };
            if array.is_null(row) {
                nulls.add(self.name, row);
                out.extend((0..width).map(|_| Box::default()));
                continue;
            }
            self.check_width(row, range.len(), width)?;
            for at in range {
                if items.is_null(at) {
                    nulls.add(self.name, row);
                    out.push(Box::default());
                } else if let Some(text) = text {
                    out.push(text.value(at).as_bytes().into());
                } else if let Some(binary) = binary {
                    out.push(binary.value(at).into());
                }
            }
        }
        Ok(out)
    }

    /// Copies the bytes of a binary column, rows packed one after the other.
    pub(crate) fn bytes(&self, width: usize, nulls: &mut Nulls) -> Result<Vec<u8>, DataError> {
        let array = downcast::<BinaryArray>(self.array).ok_or_else(|| self.wrong_type())?;
        let mut out = self.reserve(width)?;
        let offsets = array.value_offsets();
        let regular = array.null_count() == 0
            && offsets
                .windows(2)
                .all(|pair| usize::try_from(pair[1] - pair[0]) == Ok(width));
        if regular && let Some(first) = offsets.first() {
            let start = usize::try_from(*first).unwrap_or(0);
            out.extend_from_slice(&array.value_data()[start..start + array.len() * width]);
            return Ok(out);
        }
        for row in 0..array.len() {
            if array.is_null(row) {
                nulls.add(self.name, row);
                out.resize(out.len() + width, 0);
            } else {
                let value = array.value(row);
                self.check_width(row, value.len(), width)?;
                out.extend_from_slice(value);
            }
        }
        Ok(out)
    }

    /// Room for `width` values in each row.
    fn reserve<T>(&self, width: usize) -> Result<Vec<T>, DataError> {
        let rows = self.array.len();
        block::reserve(rows, width).map_err(|bytes| DataError::TooLarge {
            what: format!("column '{}'", self.name),
            rows,
            bytes,
        })
    }

    pub(crate) fn wrong_type(&self) -> DataError {
        DataError::Type {
            column: self.name.to_owned(),
            dtype: self.array.data_type().to_string(),
            accepted: ACCEPTED,
        }
    }

    fn check_width(&self, row: usize, found: usize, expected: usize) -> Result<(), DataError> {
        if found == expected {
            return Ok(());
        }
        Err(DataError::Width {
            column: self.name.to_owned(),
            row: self.first_row + row as u64,
            found,
            expected,
        })
    }

    fn fill_scalars<T: Target>(
        &self,
        out: &mut [T],
        slots: Slots,
        nulls: &mut Nulls,
    ) -> Result<(), DataError> {
        self.check_width(0, 1, slots.width)?;
        let numbers = Numbers::of(self.array).ok_or_else(|| self.wrong_type())?;
        numbers.scatter(&mut out[slots.offset..], slots.stride);
        if self.array.null_count() > 0 {
            for row in (0..self.array.len()).filter(|&row| self.array.is_null(row)) {
                nulls.add(self.name, row);
                out[slots.of(row)].fill(T::default());
            }
        }
        if T::WHOLE
            && let Some((row, value)) = numbers.first_fraction(|at| self.array.is_valid(at))
        {
            return Err(DataError::Fraction {
                column: self.name.to_owned(),
                row: self.first_row + row as u64,
                value,
            });
        }
        Ok(())
    }

    fn fill_binary<T: Target>(
        &self,
        out: &mut [T],
        slots: Slots,
        nulls: &mut Nulls,
    ) -> Result<(), DataError> {
        let bytes = self.bytes(slots.width, nulls)?;
        for (row, bytes) in bytes.chunks_exact(slots.width.max(1)).enumerate() {
            for (slot, byte) in out[slots.of(row)].iter_mut().zip(bytes) {
                *slot = byte.to();
            }
        }
        Ok(())
    }

    fn fill_lists<T: Target>(
        &self,
        out: &mut [T],
        slots: Slots,
        nulls: &mut Nulls,
    ) -> Result<(), DataError> {
        let lists = downcast::<ListArray>(self.array).ok_or_else(|| self.wrong_type())?;
        let numbers = Numbers::of(lists.values().as_ref()).ok_or_else(|| self.wrong_type())?;
        let elements = lists.values();
        for row in 0..lists.len() {
            let slot = &mut out[slots.of(row)];
            if lists.is_null(row) {
                nulls.add(self.name, row);
                slot.fill(T::default());
                continue;
            }
            let range = list_range(lists, row);
            let slot = if slots.padded && range.len() < slots.width {
                slot[range.len()..].fill(T::default());
                &mut slot[..range.len()]
            } else {
                self.check_width(row, range.len(), slots.width)?;
                slot
            };
            numbers.copy(range.start, slot);
            if elements.null_count() > 0 {
                for (element, value) in range.zip(slot) {
                    if elements.is_null(element) {
                        nulls.add(self.name, row);
                        *value = T::default();
                    }
                }
            }
        }
        self.check_whole::<T>(lists, &numbers)
    }

    /// Refuses a fraction among the elements where whole numbers are wanted.
    fn check_whole<T: Target>(
        &self,
        lists: &ListArray,
        numbers: &Numbers<'_>,
    ) -> Result<(), DataError> {
        let elements = lists.values();
        if T::WHOLE
            && let Some((at, value)) = numbers.first_fraction(|at| elements.is_valid(at))
        {
            let row = (0..lists.len()).find(|&row| list_range(lists, row).contains(&at));
            return Err(DataError::Fraction {
                column: self.name.to_owned(),
                row: self.first_row + row.unwrap_or(0) as u64,
                value,
            });
        }
        Ok(())
    }

    fn fill_vectors<T: Target>(
        &self,
        out: &mut [T],
        slots: Slots,
        nulls: &mut Nulls,
    ) -> Result<(), DataError> {
        let vector = Vector::of(self.array).ok_or_else(|| self.wrong_type())?;
        for row in 0..self.array.len() {
            let slot = &mut out[slots.of(row)];
            if self.array.is_null(row) {
                nulls.add(self.name, row);
                slot.fill(T::default());
                continue;
            }
            self.check_width(row, vector.size(row), slots.width)?;
            vector.copy(row, slot);
        }
        Ok(())
    }
}

/// Spark ML's vector column: dense rows have their values, sparse rows indices and values.
struct Vector<'a> {
    sizes: &'a PrimitiveArray<Int32Type>,
    indices: &'a ListArray,
    values: &'a ListArray,
    index: &'a [i32],
    value: &'a [f64],
}

impl<'a> Vector<'a> {
    fn of(array: &'a dyn Array) -> Option<Self> {
        let fields = downcast::<StructArray>(array)?;
        let sizes = downcast(fields.column(1).as_ref())?;
        let indices: &ListArray = downcast(fields.column(2).as_ref())?;
        let values: &ListArray = downcast(fields.column(3).as_ref())?;
        let index = downcast::<PrimitiveArray<Int32Type>>(indices.values().as_ref())?.values();
        let value = downcast::<PrimitiveArray<Float64Type>>(values.values().as_ref())?.values();
        Some(Self {
            sizes,
            indices,
            values,
            index,
            value,
        })
    }

    fn is_sparse(&self, row: usize) -> bool {
        self.indices.is_valid(row)
    }

    fn size(&self, row: usize) -> usize {
        if self.is_sparse(row) {
            usize::try_from(self.sizes.value(row)).unwrap_or(0)
        } else {
            list_range(self.values, row).len()
        }
    }

    /// `out` has `size(row)` slots. Indices outside the vector cannot come from Spark, whose
    /// constructor refuses them, and are left out.
    fn copy<T: Target>(&self, row: usize, out: &mut [T]) {
        let values = &self.value[list_range(self.values, row)];
        if self.is_sparse(row) {
            out.fill(T::default());
            let indices = &self.index[list_range(self.indices, row)];
            for (index, value) in indices.iter().zip(values) {
                if let Some(slot) = usize::try_from(*index).ok().and_then(|i| out.get_mut(i)) {
                    *slot = value.to();
                }
            }
        } else {
            for (slot, value) in out.iter_mut().zip(values) {
                *slot = value.to();
            }
        }
    }
}

fn downcast<T: 'static>(array: &dyn Array) -> Option<&T> {
    array.as_any().downcast_ref::<T>()
}

fn list_range(lists: &ListArray, row: usize) -> std::ops::Range<usize> {
    let offsets = lists.value_offsets();
    // The importer has checked that offsets grow from zero within the child array.
    let at = |i: usize| usize::try_from(offsets[i]).unwrap_or(0);
    at(row)..at(row + 1)
}
