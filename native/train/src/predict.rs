//! Applying a model to record batches.

use crate::batch::BatchShape;
use crate::columns::{Decoder, Wanted};
use crate::config::PredictSession;
use crate::error::Error;
use crate::libtorch::keep_freed_memory;
use arrow_array::RecordBatch;
use arrow_schema::Schema;
use flambeau_keras::Model;

/// A model ready to predict.
#[derive(Debug)]
pub struct Predictor {
    model: Model,
    decoder: Decoder,
    shape: BatchShape,
    threads: i32,
}

impl Predictor {
    /// Loads `model`, the bytes of a `.keras` file.
    ///
    /// # Errors
    /// [`Error::Keras`] for a model that cannot be read, [`Error::Config`] for one without
    /// weights, [`Error::Data`] for columns that do not fit.
    pub fn open(config: &PredictSession, schema: &Schema, model: &[u8]) -> Result<Self, Error> {
        keep_freed_memory();
        let (model, loaded) = Model::from_bytes(model)?;
        if !loaded.weights {
            let reason = "the model has no weights to predict with: give a .keras file";
            return Err(Error::Config(reason.to_owned()));
        }
        let input = model.input().shape.clone();
        let wanted = Wanted {
            input: input.clone(),
            label: None,
        };
        let decoder = Decoder::new(schema, &config.columns, wanted)?;
        let shape = BatchShape {
            input,
            label: Vec::new(),
        };
        Ok(Self {
            model,
            decoder,
            shape,
            threads: config.threads,
        })
    }

    /// The model's outputs as little-endian f32, `[rows, ...output]`.
    ///
    /// # Errors
    /// [`Error::Data`] for rows that do not fit the model; [`Error::Config`] if the null policy
    /// would leave rows out, since every row has to get its output.
    pub fn predict(&mut self, batch: &RecordBatch) -> Result<Vec<u8>, Error> {
        tch::set_num_threads(self.threads);
        let block = self.decoder.decode(batch)?;
        if block.rows < batch.num_rows() {
            let count = batch.num_rows() - block.rows;
            return Err(Error::Config(format!(
                "{count} rows hold nulls, and a prediction keeps every row: filter them, or set \
                 nullPolicy to 'zero'"
            )));
        }
        let Some(batch) = self.shape.slice(&block, 0, block.rows)? else {
            return Ok(Vec::new());
        };
        let values = Vec::<f32>::try_from(self.model.predict(&batch.x)?.f_reshape([-1])?)?;
        Ok(values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect())
    }
}
