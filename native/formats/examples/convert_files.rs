//! `convert_files FROM TO` reads every Keras file and TensorFlow checkpoint of a folder, writes what
//! it understood under the same name into another, and prints all of it as one JSON object.

use std::error::Error;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use flambeau_formats::Array;
use flambeau_formats::bundle::{self, Index, Tensor};
use flambeau_formats::keras_archive::Archive;
use flambeau_formats::legacy_h5::LegacyFile;
use flambeau_formats::weights_h5::WeightsFile;
use serde_json::{Map, Value, json};

fn main() -> Result<(), Box<dyn Error>> {
    let mut folders = std::env::args().skip(1).map(PathBuf::from);
    let (Some(from), Some(to)) = (folders.next(), folders.next()) else {
        return Err("usage: convert_files FROM TO".into());
    };
    let mut dumps = Map::new();
    for entry in fs::read_dir(&from)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.ok_or("a file name is no UTF-8")?;
        let target = to.join(name);
        let dump = if let Some(prefix) = name.strip_suffix(".index") {
            convert_checkpoint(&from, prefix, &to)
        } else if name.ends_with(".keras") {
            convert_archive(&path, &target)
        } else if name.ends_with(".weights.h5") {
            convert_weights(&path, &target)
        } else if name.ends_with(".h5") {
            convert_legacy(&path, &target)
        } else {
            continue;
        };
        let dump = dump.map_err(|error| format!("{name}: {error}"))?;
        dumps.insert(name.to_owned(), dump);
    }
    writeln!(std::io::stdout(), "{}", Value::Object(dumps))?;
    Ok(())
}

fn convert_archive(from: &Path, to: &Path) -> Result<Value, Box<dyn Error>> {
    let archive = Archive::from_bytes(&fs::read(from)?)?;
    fs::write(to, archive.to_bytes()?)?;
    Ok(json!({
        "metadata": archive.metadata,
        "config": archive.config,
        "groups": groups(&archive.weights),
        "assets": archive.assets,
    }))
}

fn convert_weights(from: &Path, to: &Path) -> Result<Value, Box<dyn Error>> {
    let weights = WeightsFile::from_bytes(fs::read(from)?)?;
    fs::write(to, weights.to_bytes()?)?;
    Ok(json!({"groups": groups(&weights)}))
}

fn convert_legacy(from: &Path, to: &Path) -> Result<Value, Box<dyn Error>> {
    let file = LegacyFile::from_bytes(fs::read(from)?)?;
    fs::write(to, file.to_bytes()?)?;
    let layers = file.layers.iter();
    let layers: Vec<_> = layers
        .map(|(name, weights)| (name, named(weights)))
        .collect();
    Ok(json!({
        "keras_version": file.keras_version,
        "backend": file.backend,
        "model_config": file.model_config,
        "training_config": file.training_config,
        "layers": layers,
        "top_level": named(&file.top_level),
        "optimizer": named(&file.optimizer),
    }))
}

fn convert_checkpoint(from: &Path, prefix: &str, to: &Path) -> Result<Value, Box<dyn Error>> {
    let (index, shards) = bundle::read(from, prefix)?;
    let keys = index.entries().keys();
    let tensors = keys
        .map(|key| Ok((key.clone(), index.tensor(key, &shards)?)))
        .collect::<flambeau_formats::Result<_>>()?;
    bundle::write(to, prefix, &tensors, None)?;
    let dumps: Map<String, Value> = (tensors.iter())
        .map(|(key, tensor)| (key.clone(), dump_tensor(tensor)))
        .collect();
    Ok(json!({"tensors": dumps, "variables": variables(&index, &shards)?}))
}

/// The key of each variable that the object graph has, by Keras's name.
fn variables(index: &Index, shards: &[Vec<u8>]) -> Result<Value, Box<dyn Error>> {
    let graph = index.object_graph(shards)?.unwrap_or_default();
    let tensors = graph.nodes().iter().flat_map(|node| &node.tensors);
    let named = tensors.map(|tensor| (tensor.full_name.clone(), tensor.key.clone().into()));
    Ok(Value::Object(named.collect()))
}

fn dump_tensor(tensor: &Tensor) -> Value {
    match tensor {
        Tensor::Array(array) => dump(array),
        Tensor::Strings(strings) => {
            let elements: Vec<_> = strings.elements().iter().map(|text| hex(text)).collect();
            json!({"dtype": "string", "shape": strings.shape(), "elements": elements})
        }
    }
}

fn groups(weights: &WeightsFile) -> Value {
    let groups = weights.groups.iter().map(|(group, variables)| {
        let vars: Vec<Value> = variables.vars.iter().map(dump).collect();
        let named = variables.named.iter();
        let named: Map<String, Value> = named.map(|(name, a)| (name.clone(), dump(a))).collect();
        let object = json!({"name": variables.name, "vars": vars, "named": named});
        (group.clone(), object)
    });
    Value::Object(groups.collect())
}

fn named(weights: &[(String, Array)]) -> Vec<(&String, Value)> {
    weights.iter().map(|(name, a)| (name, dump(a))).collect()
}

fn dump(array: &Array) -> Value {
    json!({
        "dtype": array.dtype().name(),
        "shape": array.shape(),
        "bytes": hex(array.bytes()),
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
