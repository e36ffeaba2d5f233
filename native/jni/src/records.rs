//! The sessions that read TFRecord files from the bytes that the JVM pushes: into columns, or into
//! what a schema is derived from.

use crate::error::Error;
use crate::lent::{self, Spare};
use arrow_schema::{DataType, Field, Schema};
use flambeau_formats::columnar::{
    Batch, ColumnSpec, ElementType, FeatureSummary, RecordDecoder, RecordType, SchemaInference,
};
use flambeau_formats::example::Kind;
use flambeau_formats::tfrecord::{Record, RecordFrames};
use serde::Deserialize;
use serde_json::{Value, json};

/// Rows of a batch at most.
const MAX_ROWS: usize = 4096;

/// Bytes of a batch's columns at most, but for the last row: so few that they mostly stay in a core's
/// second-level cache until they are read.
const MAX_BYTES: usize = 512 << 10;

/// Opens a session that reads the columns of its schema.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DecodeConfig {
    /// For messages.
    path: String,
    record_type: RecordType,
    /// The split's first byte in the file.
    start: u64,
    /// The first byte beyond it.
    end: u64,
    /// Whether damaged records are passed over.
    permissive: bool,
}

/// Opens a session that looks at what features there are.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct InferConfig {
    path: String,
    record_type: RecordType,
    permissive: bool,
    /// How many records are looked at.
    max_records: Option<u64>,
}

/// A file's records on their way to columns or to a schema.
#[derive(Debug)]
pub(crate) struct Records {
    path: String,
    frames: RecordFrames,
    permissive: bool,
    /// Records passed over.
    skipped: u64,
    target: Target,
}

#[derive(Debug)]
enum Target {
    Columns {
        decoder: RecordDecoder,
        spare: Spare,
    },
    Schema {
        inference: SchemaInference,
        max_records: u64,
    },
}

impl Records {
    /// Reads the columns of `schema`.
    pub(crate) fn decode(config: DecodeConfig, schema: &Schema) -> Result<Self, Error> {
        let specs = schema.fields().iter().map(|field| column(field));
        Ok(Self {
            path: config.path,
            frames: RecordFrames::of_split(config.start..config.end),
            permissive: config.permissive,
            skipped: 0,
            target: Target::Columns {
                decoder: RecordDecoder::new(config.record_type, specs.collect::<Result<_, _>>()?),
                spare: Spare::default(),
            },
        })
    }

    /// Looks at what features there are.
    pub(crate) fn infer(config: InferConfig) -> Self {
        Self {
            path: config.path,
            frames: RecordFrames::default(),
            permissive: config.permissive,
            skipped: 0,
            target: Target::Schema {
                inference: SchemaInference::new(config.record_type),
                max_records: config.max_records.unwrap_or(u64::MAX),
            },
        }
    }

    /// Takes the next `count` bytes of the file, which `fill` writes into the room that it gets; of
    /// no count, the file's end. Gives what `Native.decode` does: nothing if more bytes are needed.
    pub(crate) fn take(
        &mut self,
        count: Option<usize>,
        fill: impl FnOnce(&mut [u8]) -> Result<(), Error>,
    ) -> Result<Option<Vec<i64>>, Error> {
        match count {
            Some(0) => {}
            Some(count) => fill(self.frames.room(count))?,
            None => self.frames.end(),
        }
        while !self.target.is_full() {
            match self.frames.advance() {
                Ok(false) if self.frames.is_over() => break,
                Ok(false) => return Ok(None),
                Ok(true) => {
                    let added = self.frames.record().map(|record| self.target.add(&record));
                    if let Some(Err(error)) = added {
                        self.refuse(error)?;
                    }
                }
                Err(error) => self.refuse(error)?,
            }
        }
        Ok(Some(self.target.result(self.skipped)))
    }

    /// What a schema is derived from, as JSON; none where columns are read.
    pub(crate) fn summary(&self) -> Option<String> {
        let Target::Schema { inference, .. } = &self.target else {
            return None;
        };
        let features = inference.features().iter().map(|seen| summary(seen, false));
        let lists = inference.feature_lists().iter();
        let lists = lists.map(|seen| summary(seen, true));
        let summary = json!({
            "records": inference.records(),
            "skipped": self.skipped,
            "features": features.chain(lists).collect::<Vec<Value>>(),
        });
        Some(summary.to_string())
    }

    /// Passes a record over, or fails with why it cannot be read.
    fn refuse(&mut self, source: flambeau_formats::Error) -> Result<(), Error> {
        if self.permissive {
            self.skipped += 1;
            return Ok(());
        }
        Err(Error::Records {
            path: self.path.clone(),
            source,
        })
    }
}

impl Target {
    fn is_full(&self) -> bool {
        match self {
            Self::Columns { decoder, .. } => {
                decoder.rows() >= MAX_ROWS || decoder.bytes() >= MAX_BYTES
            }
            Self::Schema {
                inference,
                max_records,
            } => inference.records() >= *max_records,
        }
    }

    fn add(&mut self, record: &Record<'_>) -> Result<(), flambeau_formats::Error> {
        match self {
            Self::Columns { decoder, .. } => decoder.add(record),
            Self::Schema { inference, .. } => inference.add(record),
        }
    }

    fn result(&mut self, skipped: u64) -> Vec<i64> {
        match self {
            Self::Columns { decoder, spare } if decoder.rows() > 0 => {
                let batch = decoder.take(spare.take());
                let mut shown = addresses(&batch, skipped);
                shown[0] = lent::lend(batch, spare);
                shown
            }
            Self::Columns { .. } => vec![0, 0, signed(skipped), 0],
            Self::Schema { inference, .. } => {
                vec![0, signed(inference.records()), signed(skipped), 0]
            }
        }
    }
}

fn summary((name, feature): (&String, &FeatureSummary), in_list: bool) -> Value {
    let kind = feature.kind.map(|kind| match kind {
        Kind::Bytes => "bytes",
        Kind::Floats => "float",
        Kind::Ints => "int",
    });
    json!({
        "name": name,
        "in_list": in_list,
        "kind": kind,
        "utf8": feature.utf8,
        "max_values": feature.max_values,
    })
}

/// A batch as addresses; its id is still to be set.
fn addresses(batch: &Batch, skipped: u64) -> Vec<i64> {
    let mut nodes = Vec::new();
    let mut buffers = Vec::new();
    for column in &batch.columns {
        let pairs = column.nodes().into_iter();
        nodes.extend(pairs.flat_map(|(length, nulls)| [signed(length), signed(nulls)]));
        column
            .each_buffer(|address, bytes| buffers.extend([signed(address.addr()), signed(bytes)]));
    }
    let head = [
        0,
        signed(batch.rows),
        signed(skipped),
        signed(nodes.len() / 2),
    ];
    head.into_iter().chain(nodes).chain(buffers).collect()
}

/// A count or an address as Java has it.
fn signed<T: TryInto<i64>>(value: T) -> i64 {
    value.try_into().unwrap_or(i64::MAX)
}

fn column(field: &Field) -> Result<ColumnSpec, Error> {
    let mut dtype = field.data_type();
    let mut depth = 0;
    while let DataType::List(item) = dtype {
        dtype = item.data_type();
        depth += 1;
    }
    let element = match dtype {
        DataType::Int8 => ElementType::Int8,
        DataType::Int16 => ElementType::Int16,
        DataType::Int32 => ElementType::Int32,
        DataType::Int64 => ElementType::Int64,
        DataType::Boolean => ElementType::Boolean,
        DataType::Float32 => ElementType::Float32,
        DataType::Float64 => ElementType::Float64,
        DataType::Utf8 => ElementType::Utf8,
        DataType::Binary => ElementType::Binary,
        other => return Err(unreadable(field, other)),
    };
    if depth > 2 {
        return Err(unreadable(field, field.data_type()));
    }
    Ok(ColumnSpec {
        name: field.name().clone(),
        element,
        depth,
    })
}

fn unreadable(field: &Field, dtype: &DataType) -> Error {
    let name = field.name();
    Error::Batch(format!("column '{name}' of type {dtype} is in no record"))
}
