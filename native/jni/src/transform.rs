//! The sessions that need no model: counting rows, and encoding them as TFRecords.

use crate::error::Error;
use arrow_array::RecordBatch;
use arrow_schema::Schema;
use flambeau_formats::columnar::RecordType;
use flambeau_keras::DType;
use flambeau_train::columns::{Decoder, Wanted, WantedInput};
use flambeau_train::config::Columns;
use flambeau_train::encode::RecordEncoder;

/// Decodes batches as a fit would and drops them: what feeding costs by itself.
#[derive(Debug)]
pub(crate) struct Drain {
    schema: Schema,
    columns: Columns,
    decoder: Option<Decoder>,
}

impl Drain {
    pub(crate) fn new(schema: &Schema, columns: Columns) -> Self {
        Self {
            schema: schema.clone(),
            columns,
            decoder: None,
        }
    }

    /// Decodes one batch; gives the bytes of tensor data it became, as a little-endian u64.
    pub(crate) fn take(&mut self, batch: &RecordBatch) -> Result<Vec<u8>, Error> {
        let decoder = match &mut self.decoder {
            Some(decoder) => decoder,
            None => {
                // There is no model to say how wide a row is, so the first row does.
                let wanted = Wanted {
                    inputs: vec![WantedInput {
                        name: "rows".to_owned(),
                        shape: vec![None],
                        dtype: DType::FLOAT32,
                    }],
                    outputs: Vec::new(),
                };
                let decoder = Decoder::new(&self.schema, &self.columns, wanted);
                self.decoder
                    .insert(decoder.map_err(flambeau_train::Error::from)?)
            }
        };
        let block = decoder.decode(batch).map_err(flambeau_train::Error::from)?;
        Ok((block.bytes() as u64).to_le_bytes().to_vec())
    }
}

/// Encodes batches as TFRecords.
#[derive(Debug)]
pub(crate) struct Encode(RecordEncoder);

impl Encode {
    pub(crate) fn new(
        schema: &Schema,
        columns: &[String],
        record_type: RecordType,
    ) -> Result<Self, Error> {
        let encoder = RecordEncoder::new(schema, columns, record_type)
            .map_err(flambeau_train::Error::from)?;
        Ok(Self(encoder))
    }

    pub(crate) fn records(&mut self, batch: &RecordBatch) -> Result<Vec<u8>, Error> {
        Ok(self.0.encode(batch)?)
    }
}
