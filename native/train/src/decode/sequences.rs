//! Columns whose rows differ in how many values they hold, in one type and one after the other.

use super::numbers::{Numbers, Target};
use super::{Column, Nulls, downcast, list_range};
use crate::block::{Uneven, reserve};
use crate::error::DataError;
use arrow_array::{Array, BinaryArray, ListArray, StringArray};
use std::ops::Range;

impl Column<'_> {
    /// The numbers of each row's list; a null row has none.
    ///
    /// # Errors
    /// As [`Column::fill`].
    pub(crate) fn uneven_numbers<T: Target>(
        &self,
        nulls: &mut Nulls,
    ) -> Result<Uneven<T>, DataError> {
        let lists = downcast::<ListArray>(self.array).ok_or_else(|| self.wrong_type())?;
        let elements = lists.values();
        let numbers = Numbers::of(elements.as_ref()).ok_or_else(|| self.wrong_type())?;
        let offsets = self.offsets(|row| list_range(lists, row), nulls);
        let mut values = self.room(&offsets)?;
        values.resize(offsets.last().copied().unwrap_or(0), T::default());
        for row in (0..lists.len()).filter(|&row| lists.is_valid(row)) {
            let range = list_range(lists, row);
            let slot = &mut values[offsets[row]..offsets[row + 1]];
            numbers.copy(range.start, slot);
            if elements.null_count() > 0 {
                for (at, value) in range.zip(slot) {
                    if elements.is_null(at) {
                        nulls.add(self.name, row);
                        *value = T::default();
                    }
                }
            }
        }
        self.check_whole::<T>(lists, &numbers)?;
        Ok(Uneven { values, offsets })
    }

    /// The bytes of each row; a null row has none.
    ///
    /// # Errors
    /// [`DataError::Type`] for a column that is not binary.
    pub(crate) fn uneven_bytes(&self, nulls: &mut Nulls) -> Result<Uneven<u8>, DataError> {
        let array = downcast::<BinaryArray>(self.array).ok_or_else(|| self.wrong_type())?;
        let length = |row: usize| 0..array.value(row).len();
        let offsets = self.offsets(length, nulls);
        let mut values = self.room(&offsets)?;
        for row in (0..array.len()).filter(|&row| array.is_valid(row)) {
            values.extend_from_slice(array.value(row));
        }
        Ok(Uneven { values, offsets })
    }

    /// The strings of each row's list; a null row has none.
    ///
    /// # Errors
    /// [`DataError::Type`] for a column that is no array of strings.
    pub(crate) fn uneven_strings(&self, nulls: &mut Nulls) -> Result<Uneven<Box<[u8]>>, DataError> {
        let lists = downcast::<ListArray>(self.array).ok_or_else(|| self.wrong_type())?;
        let text: Option<&StringArray> = downcast(lists.values().as_ref());
        let text = text.ok_or_else(|| self.wrong_type())?;
        let offsets = self.offsets(|row| list_range(lists, row), nulls);
        let mut values = self.room(&offsets)?;
        for row in (0..lists.len()).filter(|&row| lists.is_valid(row)) {
            for at in list_range(lists, row) {
                if text.is_null(at) {
                    nulls.add(self.name, row);
                    values.push(Box::default());
                } else {
                    values.push(text.value(at).as_bytes().into());
                }
            }
        }
        Ok(Uneven { values, offsets })
    }

    /// Where rows begin that are as long as `range` says, and where the last one ends.
    fn offsets(&self, range: impl Fn(usize) -> Range<usize>, nulls: &mut Nulls) -> Vec<usize> {
        let mut offsets = Vec::with_capacity(self.array.len() + 1);
        offsets.push(0);
        let mut end = 0;
        for row in 0..self.array.len() {
            if self.array.is_null(row) {
                nulls.add(self.name, row);
            } else {
                end += range(row).len();
            }
            offsets.push(end);
        }
        offsets
    }

    fn room<V>(&self, offsets: &[usize]) -> Result<Vec<V>, DataError> {
        let count = offsets.last().copied().unwrap_or(0);
        reserve(count, 1).map_err(|bytes| DataError::TooLarge {
            what: format!("column '{}'", self.name),
            rows: self.array.len(),
            bytes,
        })
    }
}
