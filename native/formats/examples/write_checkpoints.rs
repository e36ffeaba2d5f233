//! `write_checkpoints FOLDER` writes the TensorFlow checkpoint that each `NAME.json` of a folder
//! describes: variables by their place among the saved objects, and what else refers to them.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::PathBuf;

use flambeau_formats::bundle::object_graph::ObjectGraph;
use flambeau_formats::bundle::{self, Tensor};
use flambeau_formats::{Array, DType};
use serde::Deserialize;

#[derive(Deserialize)]
struct Description {
    variables: Vec<Variable>,
    links: Vec<(String, String)>,
}

#[derive(Deserialize)]
struct Variable {
    path: String,
    full_name: String,
    dtype: String,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::args().nth(1).map(PathBuf::from);
    let folder = folder.ok_or("usage: write_checkpoints FOLDER")?;
    for entry in fs::read_dir(&folder)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        let Some(prefix) = name.and_then(|name| name.strip_suffix(".json")) else {
            continue;
        };
        let description: Description = serde_json::from_slice(&fs::read(&path)?)?;
        let mut graph = ObjectGraph::default();
        let mut tensors = BTreeMap::new();
        for variable in description.variables {
            let dtype = DType::from_name(&variable.dtype).ok_or("unknown dtype")?;
            let array = Array::from_le_bytes(dtype, variable.shape, variable.bytes)?;
            let key = graph.add_variable(&variable.path, &variable.full_name)?;
            tensors.insert(key, Tensor::from(array));
        }
        for (path, target) in &description.links {
            graph.link(path, target)?;
        }
        bundle::write(&folder, prefix, &tensors, Some(&graph))?;
    }
    Ok(())
}
