//! Walks the groups of a weights file that may be hostile: links may run in circles and shapes may
//! promise more than the file holds.

use std::collections::BTreeMap;

use hdf5_pure::{Dataset, Group};

use super::{PLACE, VARS, Variables, WeightsFile};
use crate::h5::{self, Reader};
use crate::{Error, Result};

/// How deep objects may nest in one another.
const MAX_DEPTH: usize = 64;

pub(super) fn weights_file(bytes: Vec<u8>, limit: u64) -> Result<WeightsFile> {
    if bytes.trim_ascii_start().starts_with(b"{") {
        let reason = "it is JSON, the index of sharded weights; save them without max_shard_size";
        return Err(Error::unsupported(PLACE, reason));
    }
    h5::read(bytes, PLACE, limit, |reader| {
        let root = reader.root();
        let attributes = reader.attributes(PLACE, &root)?;
        for name in ["layer_names", "layer_names0", "model_config"] {
            if attributes.has(name) {
                let reason = "it is of Keras's legacy format, whose name ends in .h5 only";
                return Err(Error::unsupported(PLACE, reason));
            }
        }
        let mut weights = WeightsFile::default();
        read_group(reader, "", &root, 0, &mut weights.groups)?;
        Ok(weights)
    })
}

/// Reads the object at `group`, if it is one, and every object below.
fn read_group(
    reader: &mut Reader,
    path: &str,
    group: &Group,
    depth: usize,
    objects: &mut BTreeMap<String, Variables>,
) -> Result<()> {
    let place = if path.is_empty() { PLACE } else { path };
    if depth > MAX_DEPTH {
        let reason = format!("groups nest deeper than {MAX_DEPTH}");
        return Err(Error::corrupt(place, reason));
    }
    let is_vars = path == VARS || path.ends_with("/vars");
    if !is_vars && let Some(stray) = reader.datasets(place, group)?.keys().next() {
        let reason = format!("it is in no group named {VARS}, where Keras keeps variables");
        return Err(Error::unsupported(below(path, stray), reason));
    }
    for (name, child) in reader.subgroups(place, group)? {
        let child_path = below(path, &name);
        if name == VARS {
            let variables = read_variables(reader, &child_path, &child)?;
            objects.insert(path.to_owned(), variables);
        }
        // An attribute of a layer may be called "vars" as well: there are objects below it then.
        read_group(reader, &child_path, &child, depth + 1, objects)?;
    }
    Ok(())
}

fn read_variables(reader: &mut Reader, path: &str, vars: &Group) -> Result<Variables> {
    let attributes = reader.attributes(path, vars)?;
    let name = attributes.text(path, "name")?.unwrap_or_default();
    let mut datasets = reader.datasets(path, vars)?;
    let mut read = |name: &str, dataset: &Dataset| reader.array(&below(path, name), dataset);
    let mut variables = Variables::new(name, Vec::new());
    for index in 0.. {
        let index = format!("{index}");
        let Some(dataset) = datasets.remove(&index) else {
            break;
        };
        variables.vars.push(read(&index, &dataset)?);
    }
    for (name, dataset) in &datasets {
        variables.named.insert(name.clone(), read(name, dataset)?);
    }
    Ok(variables)
}

fn below(path: &str, name: &str) -> String {
    if path.is_empty() {
        return name.to_owned();
    }
    format!("{path}/{name}")
}
