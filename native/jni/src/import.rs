//! A record batch read in place from the JVM's Arrow buffers.
//!
//! The JVM passes, in the order of `ArrowRecordBatch`, a (length, null count) pair per field node
//! and an (address, byte length) pair per buffer; `<https://arrow.apache.org/docs/format/Columnar.html#recordbatch-message>`
//! gives the order: depth first, validity before offsets before values. The batch is borrowed for
//! one native call: [`with_batch`] hands out a reference and makes sure nothing kept a buffer.
#![expect(unsafe_code, reason = "buffers arrive as addresses")]

use crate::error::Error;
use arrow_array::RecordBatch;
use arrow_buffer::Buffer;
use arrow_data::{ArrayData, ArrayDataBuilder};
use arrow_schema::{DataType, Schema};
use std::ptr::NonNull;
use std::sync::Arc;

/// The addresses that make up one record batch.
#[derive(Debug)]
pub(crate) struct BatchAddresses {
    pub(crate) rows: usize,
    /// (length, null count) pairs.
    pub(crate) nodes: Vec<i64>,
    /// (address, byte length) pairs.
    pub(crate) buffers: Vec<i64>,
}

/// Runs `use_batch` on the batch at `addresses`.
///
/// # Safety
/// Every (address, byte length) pair is memory that may be read and is not written to until this
/// returns.
///
/// # Errors
/// [`Error::Batch`] if counts, lengths, offsets or types do not make a batch of `schema`.
pub(crate) unsafe fn with_batch<T>(
    schema: &Arc<Schema>,
    addresses: &BatchAddresses,
    use_batch: impl FnOnce(&RecordBatch) -> T,
) -> Result<T, Error> {
    let borrow = Arc::new(Borrow);
    let result = {
        let mut reader = Reader {
            nodes: addresses.nodes.chunks_exact(2),
            buffers: addresses.buffers.chunks_exact(2),
            borrow: &borrow,
        };
        let columns = schema
            .fields()
            .iter()
            .map(|field| reader.array(field.data_type(), field.name()))
            .collect::<Result<Vec<_>, _>>()?;
        reader.end()?;
        let columns = columns.into_iter().map(arrow_array::make_array).collect();
        let options = arrow_array::RecordBatchOptions::new().with_row_count(Some(addresses.rows));
        let batch = RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)
            .map_err(|error| Error::Batch(error.to_string()))?;
        use_batch(&batch)
    };
    // A buffer that outlived the call would dangle as soon as the JVM frees the batch.
    assert_eq!(
        Arc::strong_count(&borrow),
        1,
        "an Arrow buffer was kept beyond its native call"
    );
    Ok(result)
}

/// Counts the buffers alive: each holds a clone.
struct Borrow;

struct Reader<'a> {
    nodes: std::slice::ChunksExact<'a, i64>,
    buffers: std::slice::ChunksExact<'a, i64>,
    borrow: &'a Arc<Borrow>,
}

impl Reader<'_> {
    fn array(&mut self, dtype: &DataType, name: &str) -> Result<ArrayData, Error> {
        let fail = |reason: String| Error::Batch(format!("column '{name}': {reason}"));
        let (rows, nulls) = next(&mut self.nodes).ok_or_else(|| fail("no field node".into()))?;
        let mut builder = ArrayDataBuilder::new(dtype.clone())
            .len(rows)
            .null_count(nulls)
            .align_buffers(true);
        let validity = self.buffer(name)?;
        if nulls > 0 {
            builder = builder.null_bit_buffer(Some(validity));
        }
        match dtype {
            DataType::Binary | DataType::Utf8 => {
                builder = builder.add_buffer(self.offsets(rows, name)?);
                builder = builder.add_buffer(self.buffer(name)?);
            }
            DataType::List(item) => {
                builder = builder.add_buffer(self.offsets(rows, name)?);
                builder = builder.add_child_data(self.array(item.data_type(), name)?);
            }
            DataType::FixedSizeList(item, _) => {
                builder = builder.add_child_data(self.array(item.data_type(), name)?);
            }
            DataType::Struct(fields) => {
                for field in fields {
                    builder = builder.add_child_data(self.array(field.data_type(), name)?);
                }
            }
            other if other.is_primitive() || *other == DataType::Boolean => {
                builder = builder.add_buffer(self.buffer(name)?);
            }
            other => return Err(fail(format!("type {other} does not cross"))),
        }
        builder.build().map_err(|error| fail(error.to_string()))
    }

    fn buffer(&mut self, name: &str) -> Result<Buffer, Error> {
        let (address, length) = next(&mut self.buffers)
            .ok_or_else(|| Error::Batch(format!("column '{name}': no buffer")))?;
        if length == 0 {
            return Ok(Buffer::from_vec(Vec::<u64>::new()));
        }
        let pointer = NonNull::new(address as *mut u8)
            .ok_or_else(|| Error::Batch(format!("column '{name}': null address")))?;
        let owner: Arc<dyn arrow_buffer::alloc::Allocation> = Arc::<Borrow>::clone(self.borrow);
        // SAFETY: the caller of `with_batch` promises `length` readable, unchanging bytes at
        // `address` until `with_batch` returns, and `with_batch` checks through `owner` that no
        // buffer lives longer.
        Ok(unsafe { Buffer::from_custom_allocation(pointer, length, owner) })
    }

    /// An offsets buffer; Java leaves it empty for no rows, where Arrow wants one zero.
    fn offsets(&mut self, rows: usize, name: &str) -> Result<Buffer, Error> {
        let buffer = self.buffer(name)?;
        if rows == 0 && buffer.is_empty() {
            return Ok(Buffer::from_vec(vec![0_i32]));
        }
        Ok(buffer)
    }

    fn end(mut self) -> Result<(), Error> {
        if self.nodes.next().is_some() || self.buffers.next().is_some() {
            return Err(Error::Batch(
                "more nodes or buffers than the schema has".to_owned(),
            ));
        }
        Ok(())
    }
}

/// The next pair, if there is one and neither half is negative.
fn next(pairs: &mut std::slice::ChunksExact<'_, i64>) -> Option<(usize, usize)> {
    let pair = pairs.next()?;
    Some((
        usize::try_from(pair[0]).ok()?,
        usize::try_from(pair[1]).ok()?,
    ))
}
