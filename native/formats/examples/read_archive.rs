//! Prints a `.keras` file as JSON: its metadata, config, layers and optimizer.

use std::error::Error;
use std::io::Write;

use flambeau_formats::Array;
use flambeau_formats::keras_archive::Archive;
use serde_json::{Value, json};

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args()
        .nth(1)
        .ok_or("usage: read_archive FILE.keras")?;
    let archive = Archive::from_bytes(&std::fs::read(path)?)?;
    let layers: Vec<Value> = (archive.weights.layers.iter())
        .map(|layer| json!({"group": layer.group, "name": layer.name, "vars": arrays(&layer.vars)}))
        .collect();
    let optimizer = archive.weights.optimizer.map(|optimizer| {
        json!({
            "iteration": optimizer.iteration,
            "learning_rate": optimizer.learning_rate,
            "slots": arrays(&optimizer.slots),
        })
    });
    let dump = json!({
        "metadata": archive.metadata,
        "config": archive.config,
        "layers": layers,
        "optimizer": optimizer,
    });
    writeln!(std::io::stdout(), "{dump}")?;
    Ok(())
}

fn arrays(arrays: &[Array]) -> Value {
    arrays
        .iter()
        .map(|array| json!({"shape": array.shape, "data": array.data}))
        .collect()
}
