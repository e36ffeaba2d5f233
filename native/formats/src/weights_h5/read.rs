//! Walks the groups of a weights file that may be hostile: links may run in circles and shapes may
//! promise more than the file holds.

use std::collections::BTreeMap;

use hdf5_pure::{AttrValue, DType, Dataset, File, Group};

use super::{LAYERS, LayerWeights, OPTIMIZER, OptimizerWeights, VARS, WeightsFile};
use crate::array::{Array, element_count};
use crate::{Error, Result};

/// How deep layers may nest in one another.
const MAX_DEPTH: usize = 16;
/// The least a group takes in a file: an object header and a link to it.
const MIN_GROUP_BYTES: usize = 16;
/// State of a random generator, which some Keras versions store: no weight, so not read.
const SEED_GENERATOR: &str = "seed_generator";

pub(super) fn weights_file(bytes: Vec<u8>) -> Result<WeightsFile> {
    let (bytes_left, groups_left) = (bytes.len(), bytes.len() / MIN_GROUP_BYTES);
    let file = File::from_bytes(bytes).map_err(|e| damaged("the weights file", e))?;
    let mut reader = Reader {
        bytes_left,
        groups_left,
        layers: Vec::new(),
    };
    let root = reader.subgroups("the weights file", &file.root())?;
    if let Some(layers) = root.get(LAYERS) {
        reader.read_layers(LAYERS, layers, 0)?;
    }
    let optimizer = match root.get(OPTIMIZER) {
        Some(group) => reader.optimizer(group)?,
        None => None,
    };
    Ok(WeightsFile {
        layers: reader.layers,
        optimizer,
    })
}

struct Reader {
    /// Bytes of variables that the file can still hold: Keras stores each once, uncompressed.
    bytes_left: usize,
    /// Groups that the file can still hold.
    groups_left: usize,
    layers: Vec<LayerWeights>,
}

impl Reader {
    fn subgroups(&mut self, path: &str, group: &Group) -> Result<BTreeMap<String, Group>> {
        let groups: BTreeMap<String, Group> =
            group.iter_groups().map_err(|e| damaged(path, e))?.collect();
        let Some(left) = self.groups_left.checked_sub(groups.len()) else {
            let reason = "it has more groups than its size allows";
            return Err(Error::corrupt(path, reason));
        };
        self.groups_left = left;
        Ok(groups)
    }

    /// Reads the layer at `group`, if it is one, and every layer below.
    fn read_layers(&mut self, path: &str, group: &Group, depth: usize) -> Result<()> {
        if depth > MAX_DEPTH {
            let reason = format!("groups nest deeper than {MAX_DEPTH}");
            return Err(Error::corrupt(path, reason));
        }
        let mut groups = self.subgroups(path, group)?;
        if let Some(vars) = groups.remove(VARS) {
            let vars_path = format!("{path}/{VARS}");
            let name = layer_name(&vars_path, &vars)?;
            let vars = self.variables(&vars_path, &vars, 0)?;
            self.layers.push(LayerWeights {
                group: path.to_owned(),
                name,
                vars,
            });
        }
        for (name, child) in groups.iter().filter(|(name, _)| *name != SEED_GENERATOR) {
            self.read_layers(&format!("{path}/{name}"), child, depth + 1)?;
        }
        Ok(())
    }

    /// The datasets `first`, `first + 1`, ... of a `vars` group.
    fn variables(&mut self, path: &str, vars: &Group, first: usize) -> Result<Vec<Array>> {
        let count = vars.datasets().map_err(|e| damaged(path, e))?.len();
        (first..count)
            .map(|index| {
                let path = format!("{path}/{index}");
                let dataset = vars
                    .dataset(&index.to_string())
                    .map_err(|e| damaged(&path, e))?;
                self.array(&path, &dataset)
            })
            .collect()
    }

    fn array(&mut self, path: &str, dataset: &Dataset) -> Result<Array> {
        let axes = dataset.shape().map_err(|e| damaged(path, e))?;
        let shape: Vec<usize> = axes
            .iter()
            .map(|&axis| usize::try_from(axis).unwrap_or(usize::MAX))
            .collect();
        let bytes = element_count(&shape).and_then(|count| count.checked_mul(4));
        let Some(left) = bytes.and_then(|bytes| self.bytes_left.checked_sub(bytes)) else {
            let reason = format!("shape {axes:?} needs more bytes than the file has");
            return Err(Error::corrupt(path, reason));
        };
        self.bytes_left = left;
        let dtype = dataset.dtype().map_err(|e| damaged(path, e))?;
        if dtype != DType::F32 {
            let reason = format!("it is {dtype}, not float32");
            return Err(Error::unsupported(path, reason));
        }
        let data = dataset.read_f32().map_err(|e| damaged(path, e))?;
        if element_count(&shape) != Some(data.len()) {
            let reason = format!("shape {axes:?} does not hold {} elements", data.len());
            return Err(Error::corrupt(path, reason));
        }
        Ok(Array { shape, data })
    }

    /// The state below `optimizer`, or `None` if it holds no variable.
    fn optimizer(&mut self, group: &Group) -> Result<Option<OptimizerWeights>> {
        let path = format!("{OPTIMIZER}/{VARS}");
        let Some(vars) = self.subgroups(OPTIMIZER, group)?.remove(VARS) else {
            return Ok(None);
        };
        if vars.datasets().map_err(|e| damaged(&path, e))?.is_empty() {
            return Ok(None);
        }
        let iteration = iteration(&format!("{path}/0"), &vars)?;
        let mut slots = self.variables(&path, &vars, 1)?;
        let stores_rate = slots.first().is_some_and(|first| first.shape.is_empty());
        let learning_rate = stores_rate.then(|| slots.remove(0).data[0]);
        Ok(Some(OptimizerWeights {
            iteration,
            learning_rate,
            slots,
        }))
    }
}

fn iteration(path: &str, vars: &Group) -> Result<i64> {
    let dataset = vars.dataset("0").map_err(|e| damaged(path, e))?;
    let dtype = dataset.dtype().map_err(|e| damaged(path, e))?;
    let axes = dataset.shape().map_err(|e| damaged(path, e))?;
    if !matches!(dtype, DType::I64 | DType::I32) || !axes.is_empty() {
        let reason = format!("it is {dtype} of shape {axes:?}, not an integer scalar");
        return Err(Error::unsupported(path, reason));
    }
    let values = dataset.read_i64().map_err(|e| damaged(path, e))?;
    values
        .first()
        .copied()
        .ok_or_else(|| Error::corrupt(path, "it holds no value"))
}

fn layer_name(path: &str, vars: &Group) -> Result<String> {
    let attributes = vars.attrs().map_err(|e| damaged(path, e))?;
    Ok(attributes
        .get("name")
        .and_then(AttrValue::as_str)
        .unwrap_or_default()
        .to_owned())
}

fn damaged(path: &str, error: hdf5_pure::Error) -> Error {
    Error::corrupt_because(path, error)
}
