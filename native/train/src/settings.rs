//! What a fit must have in common with the one whose checkpoint it goes on from, to end as that one
//! would have.
//!
//! Kept in the checkpoint's manifest by the names of the params. How long a fit trains, and what it
//! leaves on the way, may differ; rows are not compared.

use crate::config::{FitSession, Strategy};
use crate::error::Error;
use crate::step::Trainer;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// Settings by the names of their params.
pub(crate) type Settings = BTreeMap<String, Value>;

/// Values that take more characters than these are not quoted in a message.
const QUOTED: usize = 100;

/// Those of a fit.
pub(crate) fn of(config: &FitSession, trainer: &Trainer) -> Settings {
    let fit = &config.fit;
    let model = Sha256::digest(trainer.model().to_json());
    let model: String = model.iter().map(|byte| format!("{byte:02x}")).collect();
    let batch = if fit.global_batch {
        "globalBatchSize"
    } else {
        "batchSize"
    };
    // How a model is cut does not matter for what comes out, only how many rows a step has.
    let per_replica = fit
        .mesh
        .as_ref()
        .map_or(1, |mesh| mesh.pipeline * mesh.tensor);
    let workers = match fit.strategy {
        Strategy::Sync => config.collective.world_size / per_replica.max(1),
        Strategy::Async => config.collective.world_size - fit.num_ps,
    };
    let settings = [
        ("model", json!(model)),
        ("optimizer", trainer.optimizer().config()),
        ("loss and metrics", trainer.objective().compile_config()),
        ("classWeight", json!(fit.class_weight)),
        ("frozenLayers", json!(fit.frozen_layers)),
        ("numWorkers", json!(workers)),
        (batch, json!(fit.batch_size)),
        ("dropRemainder", json!(fit.drop_remainder)),
        ("stepsPerEpoch", json!(fit.steps_per_epoch)),
        ("repeat", json!(fit.repeat)),
        (
            "inputMode",
            json!(if fit.reread { "direct" } else { "spark" }),
        ),
        ("shuffle", json!(fit.shuffle)),
        ("shuffleBuffer", json!(fit.shuffle_buffer)),
        (
            "allreduceDtype",
            json!(format!("{:?}", fit.allreduce_dtype).to_lowercase()),
        ),
        ("localSteps", json!(fit.local_steps)),
        ("seed", json!(fit.seed)),
    ];
    // A checkpoint of a release that knew one strategy does not name it.
    let strategy = (fit.strategy == Strategy::Async).then(|| ("strategy", json!("async")));
    let parts = fit
        .mesh
        .as_ref()
        .map(|mesh| ("microBatches", json!(mesh.micro_batches)));
    let settings = settings.into_iter().chain(strategy).chain(parts);
    settings
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

/// Refuses to go on where `own` settings differ from those of the checkpoint.
///
/// # Errors
/// [`Error::Config`], naming all that differ.
pub(crate) fn check(of_checkpoint: &Settings, own: &Settings) -> Result<(), Error> {
    let names: std::collections::BTreeSet<_> = of_checkpoint.keys().chain(own.keys()).collect();
    let differ = names.into_iter().filter_map(|name| {
        let (was, is) = (of_checkpoint.get(name), own.get(name));
        (was != is).then(|| match (quoted(was), quoted(is)) {
            (Some(was), Some(is)) => format!("{name} was {was} and is {is}"),
            _ => format!("{name} is another"),
        })
    });
    let differ: Vec<_> = differ.collect();
    if differ.is_empty() {
        return Ok(());
    }
    Err(Error::Config(format!(
        "modelDir holds the checkpoint of a fit that was interrupted, with other settings: {}. Try: \
         its settings, to go on from there; resume=false, to start anew; or another modelDir",
        differ.join("; ")
    )))
}

/// A value as a message has it, unless it is long; digests say nothing to anybody.
fn quoted(value: Option<&Value>) -> Option<String> {
    let text = value.map_or("unset".to_owned(), Value::to_string);
    let is_digest = value
        .and_then(Value::as_str)
        .is_some_and(|text| text.len() == 64);
    (text.len() <= QUOTED && !is_digest).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(entries: &[(&str, Value)]) -> Settings {
        let entries = entries.iter();
        entries
            .map(|(name, value)| ((*name).to_owned(), value.clone()))
            .collect()
    }

    #[test]
    fn what_differs_is_named_with_what_it_was_and_is() {
        let was = settings(&[
            ("batchSize", json!(16)),
            ("model", json!("0".repeat(64))),
            ("optimizer", json!("x".repeat(200))),
            ("seed", json!(7)),
        ]);
        assert!(check(&was, &was).is_ok());
        let is = settings(&[
            ("globalBatchSize", json!(32)),
            ("model", json!("1".repeat(64))),
            ("optimizer", json!("y".repeat(200))),
            ("seed", json!(7)),
        ]);
        let message = check(&was, &is).unwrap_err().to_string();
        for part in [
            "batchSize was 16 and is unset; globalBatchSize was unset and is 32; model is another; \
             optimizer is another. Try",
            "resume=false",
        ] {
            assert!(message.contains(part), "{message}");
        }
        assert!(!message.contains("seed"), "{message}");
    }
}
