//! Applying a model to record batches.

use crate::batch::BatchShape;
use crate::columns::{Decoder, Wanted, wanted_inputs};
use crate::config::PredictSession;
use crate::error::Error;
use arrow_array::RecordBatch;
use arrow_schema::Schema;
use flambeau_keras::{Inference, Model, ReadOptions};
use flambeau_libtorch::KeptMemory;
use tch::Kind;

/// A model ready to predict.
#[derive(Debug)]
pub struct Predictor {
    model: Inference,
    decoder: Decoder,
    shape: BatchShape,
    threads: i32,
    /// Goes last.
    _memory: KeptMemory,
}

impl Predictor {
    /// Loads `model`, the bytes of a `.keras` file.
    ///
    /// # Errors
    /// [`Error::Keras`] for a model that cannot be read, [`Error::Config`] for one without
    /// weights, [`Error::Data`] for columns that do not fit.
    pub fn open(config: &PredictSession, schema: &Schema, model: &[u8]) -> Result<Self, Error> {
        let memory = KeptMemory::begin();
        let device = config.device.choose()?;
        let (mut model, decoder) = read(config, schema, model)?;
        model.set_device(device)?;
        let inputs = wanted_inputs(&model).into_iter();
        Ok(Self {
            decoder,
            shape: BatchShape {
                inputs: inputs.map(|input| input.shape).collect(),
                labels: Vec::new(),
            },
            model: Inference::new(model)?,
            threads: config.threads,
            _memory: memory,
        })
    }

    /// Checks what [`open`](Self::open) checks, and leaves it at that.
    ///
    /// # Errors
    /// Those of [`open`](Self::open).
    pub fn check(config: &PredictSession, schema: &Schema, model: &[u8]) -> Result<(), Error> {
        read(config, schema, model).map(|_| ())
    }

    /// The model's outputs for a batch of N rows, little-endian: an i32, how many outputs there
    /// are; for each an i32, its values in a row; then for each its f32 values, row after row.
    /// Empty for no rows.
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
        let outputs = self.model.predict(&batch.inputs)?;
        let count = |n: usize| i32::try_from(n).unwrap_or(i32::MAX).to_le_bytes();
        let mut bytes = count(outputs.len()).to_vec();
        let mut values = Vec::with_capacity(outputs.len());
        for output in outputs {
            let output = output.f_to_kind(Kind::Float)?.f_reshape([-1])?;
            let output = Vec::<f32>::try_from(output)?;
            bytes.extend(count(output.len() / block.rows));
            values.push(output);
        }
        for output in values {
            bytes.extend(output.iter().flat_map(|value| value.to_le_bytes()));
        }
        Ok(bytes)
    }
}

/// The model with its weights, and what reads its columns.
fn read(config: &PredictSession, schema: &Schema, model: &[u8]) -> Result<(Model, Decoder), Error> {
    let (model, loaded) = Model::read(model, &ReadOptions::default())?;
    if !loaded.weights {
        let reason = "the model has no weights to predict with: give a .keras file";
        return Err(Error::Config(reason.to_owned()));
    }
    let wanted = Wanted {
        inputs: wanted_inputs(&model),
        outputs: Vec::new(),
    };
    let decoder = Decoder::new(schema, &config.columns, wanted)?;
    Ok((model, decoder))
}
