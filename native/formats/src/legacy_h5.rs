//! Keras's legacy format (`.h5`): what Keras 2 wrote by default, and Keras 3 still reads and writes.
//!
//! Layout (`keras/src/legacy/saving/legacy_h5_format.py`): attributes of the root group hold the
//! configs as JSON; `model_weights/<layer>` has a dataset for each weight of a layer, in the order
//! of its attribute `weight_names`, trainable ones first; a name may itself be a path, and a model
//! that is a layer has the weights of all its layers. `optimizer_weights` is the same for the
//! optimizer. A file with weights only has the layers in its root group. Where a list of names is
//! too long for one attribute (64 KiB), it continues in `layer_names0`, `layer_names1`, ...
//!
//! Keras takes the layers by position, so their order is that of `model.layers`.

use std::collections::BTreeMap;
use std::io::Write;

use hdf5_pure::{Dataset, Group};

use crate::h5::{self, Reader};
use crate::h5_file::Attribute;
use crate::h5_tree::Tree;
use crate::{Array, Error, Result, ToArray};

const PLACE: &str = "the .h5 file";
const MODEL_CONFIG: &str = "model_config";
const TRAINING_CONFIG: &str = "training_config";
const KERAS_VERSION: &str = "keras_version";
const BACKEND: &str = "backend";
const MODEL_WEIGHTS: &str = "model_weights";
const TOP_LEVEL: &str = "top_level_model_weights";
const OPTIMIZER: &str = "optimizer_weights";
const LAYER_NAMES: &str = "layer_names";
const WEIGHT_NAMES: &str = "weight_names";

/// Names in one attribute: each takes 16 bytes of the 64 KiB that an attribute may have.
const NAMES_PER_ATTRIBUTE: usize = 4000;
/// How deep the groups of a weight's name may nest.
const MAX_DEPTH: usize = 64;

/// Weights with their names, in Keras's order.
pub type NamedWeights<A = Array> = Vec<(String, A)>;

/// Everything in a legacy file; `A` is what it is written from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LegacyFile<A = Array> {
    /// Version of Keras that wrote it; empty if the file does not tell, as Keras 1 did not.
    pub keras_version: String,
    /// Keras's backend, such as `tensorflow`; empty if the file does not tell.
    pub backend: String,
    /// JSON of `class_name` and `config`; `None` in a file with weights only.
    pub model_config: Option<String>,
    /// JSON of what was compiled, if the model was: `loss`, `metrics`, `optimizer_config`, ...
    pub training_config: Option<String>,
    /// All layers with their weights in the order of `model.layers`, also those without weights.
    pub layers: Vec<(String, NamedWeights<A>)>,
    /// Weights that belong to the model and to none of its layers.
    pub top_level: NamedWeights<A>,
    /// The optimizer's variables: iteration, learning rate, slots. Empty if there are none.
    pub optimizer: NamedWeights<A>,
}

impl<A> Default for LegacyFile<A> {
    fn default() -> Self {
        LegacyFile {
            keras_version: String::new(),
            backend: String::new(),
            model_config: None,
            training_config: None,
            layers: Vec::new(),
            top_level: Vec::new(),
            optimizer: Vec::new(),
        }
    }
}

impl LegacyFile {
    /// Reads the content of a `.h5` file that holds a model or only its weights.
    ///
    /// # Errors
    /// [`Error::Corrupt`] or [`Error::Unsupported`] naming the group or weight.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self> {
        let limit = h5::MAX_EXPANSION.saturating_mul(bytes.len() as u64);
        h5::read(bytes, PLACE, limit, read)
    }
}

impl<A: ToArray> LegacyFile<A> {
    /// As [`LegacyFile::write`], in memory.
    ///
    /// # Errors
    /// As there.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.write(&mut bytes)?;
        Ok(bytes)
    }

    /// Writes a `.h5` file for `keras.models.load_model`, or for `load_weights` if there is no model
    /// config, one array after the other.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the layer or weight, if a name is used twice or is no path, or if
    /// there is something that a file without a model config has no place for; [`Error::Io`] from the
    /// sink; those of the arrays.
    pub fn write(&self, sink: &mut dyn Write) -> Result<()> {
        let mut root = Tree::default();
        let versions = [
            (KERAS_VERSION, &self.keras_version),
            (BACKEND, &self.backend),
        ];
        let model = match &self.model_config {
            Some(config) => {
                root.attribute(MODEL_CONFIG, bytes(config));
                if let Some(config) = &self.training_config {
                    root.attribute(TRAINING_CONFIG, bytes(config));
                }
                for (name, value) in versions {
                    root.attribute(name, Attribute::Text(value.clone()));
                }
                if !self.optimizer.is_empty() {
                    write_weights(&self.optimizer, root.group(OPTIMIZER)?)?;
                }
                root.group(MODEL_WEIGHTS)?
            }
            None if self.training_config.is_none() && self.optimizer.is_empty() => &mut root,
            None => {
                let reason = "only a file with a model config has a place for the optimizer";
                return Err(Error::invalid(PLACE, reason));
            }
        };
        for (name, value) in versions {
            model.attribute(name, bytes(value));
        }
        let names: Vec<&str> = self.layers.iter().map(|(name, _)| name.as_str()).collect();
        write_names(LAYER_NAMES, &names, model);
        for (name, weights) in &self.layers {
            let layer = model.new_group(name)?;
            write_weights(weights, layer)?;
        }
        write_weights(&self.top_level, model.new_group(TOP_LEVEL)?)?;
        root.write(sink)
    }
}

fn write_weights<'a, A: ToArray>(weights: &'a NamedWeights<A>, group: &mut Tree<'a>) -> Result<()> {
    let names: Vec<&str> = weights.iter().map(|(name, _)| name.as_str()).collect();
    write_names(WEIGHT_NAMES, &names, group);
    for (name, array) in weights {
        group.dataset(name, array)?;
    }
    Ok(())
}

fn write_names(attribute: &str, names: &[&str], group: &mut Tree<'_>) {
    let list = |names: &[&str]| {
        let names = names.iter().map(|&name| name.to_owned());
        Attribute::List(names.collect())
    };
    if names.len() <= NAMES_PER_ATTRIBUTE {
        return group.attribute(attribute, list(names));
    }
    for (index, names) in names.chunks(NAMES_PER_ATTRIBUTE).enumerate() {
        group.attribute(format!("{attribute}{index}"), list(names));
    }
}

/// A string attribute of the kind that h5py reads as bytes.
fn bytes(text: &str) -> Attribute {
    Attribute::Bytes(text.to_owned())
}

fn read(reader: &mut Reader) -> Result<LegacyFile> {
    let root = reader.root();
    let attributes = reader.attributes(PLACE, &root)?;
    let mut groups = reader.subgroups(PLACE, &root)?;
    let mut file = LegacyFile {
        model_config: attributes.text(PLACE, MODEL_CONFIG)?,
        training_config: attributes.text(PLACE, TRAINING_CONFIG)?,
        ..LegacyFile::default()
    };
    if let Some(group) = groups.remove(OPTIMIZER) {
        file.optimizer = read_weights(reader, OPTIMIZER, &group)?;
    }
    let weights_only = has_names(&attributes, LAYER_NAMES);
    let (path, model, attributes) = match groups.remove(MODEL_WEIGHTS) {
        Some(group) if !weights_only => {
            let attributes = reader.attributes(MODEL_WEIGHTS, &group)?;
            (MODEL_WEIGHTS, group, attributes)
        }
        _ => (PLACE, root, attributes),
    };
    let text = |name| Ok(attributes.text(path, name)?.unwrap_or_default());
    (file.keras_version, file.backend) = (text(KERAS_VERSION)?, text(BACKEND)?);
    if !has_names(&attributes, LAYER_NAMES) {
        let reason = "it holds no model of Keras's legacy format; weights of Keras 3 have a name \
                      that ends in .weights.h5";
        return Err(Error::unsupported(PLACE, reason));
    }
    let mut groups = reader.subgroups(path, &model)?;
    for name in names(path, LAYER_NAMES, &attributes)? {
        let layer_path = format!("{path}/{name}");
        let Some(group) = layer_group(reader, path, &groups, &name)? else {
            let reason = format!("it is among the {LAYER_NAMES} but there is no such group");
            return Err(Error::corrupt(layer_path, reason));
        };
        let weights = read_weights(reader, &layer_path, &group)?;
        file.layers.push((name, weights));
    }
    if let Some(group) = groups.remove(TOP_LEVEL) {
        file.top_level = read_weights(reader, TOP_LEVEL, &group)?;
    }
    Ok(file)
}

/// The group of a layer, whose name had slashes in some versions of Keras 2.
fn layer_group(
    reader: &mut Reader,
    path: &str,
    groups: &BTreeMap<String, Group>,
    name: &str,
) -> Result<Option<Group>> {
    let mut parts = name.split('/');
    let first = parts.next().and_then(|first| groups.get(first)).cloned();
    parts.try_fold(first, |group, part| match group {
        Some(group) => Ok(reader.subgroups(path, &group)?.remove(part)),
        None => Ok(None),
    })
}

fn has_names(attributes: &h5::Attributes, attribute: &str) -> bool {
    attributes.has(attribute) || attributes.has(&format!("{attribute}0"))
}

/// A list of names, from one attribute or from numbered ones.
fn names(path: &str, attribute: &str, attributes: &h5::Attributes) -> Result<Vec<String>> {
    if let Some(names) = attributes.texts(path, attribute)? {
        return Ok(names);
    }
    let mut names = Vec::new();
    for index in 0.. {
        match attributes.texts(path, &format!("{attribute}{index}"))? {
            Some(more) => names.extend(more),
            None => break,
        }
    }
    Ok(names)
}

fn read_weights(reader: &mut Reader, path: &str, group: &Group) -> Result<NamedWeights> {
    let attributes = reader.attributes(path, group)?;
    let names = names(path, WEIGHT_NAMES, &attributes)?;
    let mut datasets = BTreeMap::new();
    find_datasets(reader, path, "", group, 0, &mut datasets)?;
    let mut weights = Vec::with_capacity(names.len());
    for name in names {
        let path = format!("{path}/{name}");
        let Some(dataset) = datasets.remove(&name) else {
            return Err(Error::corrupt(
                path,
                "its group lists it but does not hold it",
            ));
        };
        weights.push((name, reader.array(&path, &dataset)?));
    }
    if let Some(unlisted) = datasets.keys().next() {
        let reason = format!("the {WEIGHT_NAMES} of its layer do not list it");
        return Err(Error::unsupported(format!("{path}/{unlisted}"), reason));
    }
    Ok(weights)
}

/// Every dataset at any depth below `group`, by its path from the layer's group on.
fn find_datasets(
    reader: &mut Reader,
    layer: &str,
    prefix: &str,
    group: &Group,
    depth: usize,
    found: &mut BTreeMap<String, Dataset>,
) -> Result<()> {
    let path = format!("{layer}/{prefix}");
    if depth > MAX_DEPTH {
        let reason = format!("groups nest deeper than {MAX_DEPTH}");
        return Err(Error::corrupt(path, reason));
    }
    for (name, dataset) in reader.datasets(&path, group)? {
        found.insert(format!("{prefix}{name}"), dataset);
    }
    for (name, child) in reader.subgroups(&path, group)? {
        let prefix = format!("{prefix}{name}/");
        find_datasets(reader, layer, &prefix, &child, depth + 1, found)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> LegacyFile {
        let weight = |name: &str, value: f32| (name.to_owned(), Array::scalar(value));
        LegacyFile {
            keras_version: "3.15.1".into(),
            backend: "tensorflow".into(),
            model_config: Some("{\"class_name\": \"Sequential\"}".into()),
            training_config: Some("{}".into()),
            layers: vec![
                (
                    "z".into(),
                    vec![weight("z/kernel:0", 1.0), weight("z/bias:0", 2.0)],
                ),
                ("flatten".into(), vec![]),
                (
                    "inner".into(),
                    vec![weight("inner/a/kernel", 3.0), weight("bias", 4.0)],
                ),
            ],
            top_level: vec![weight("scale", 5.0)],
            optimizer: vec![
                ("iteration".into(), Array::from(7_i64)),
                weight("adam/m", 0.5),
            ],
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let file = sample();
        assert_eq!(
            LegacyFile::from_bytes(file.to_bytes().unwrap()).unwrap(),
            file
        );
    }

    #[test]
    fn weights_alone_have_no_place_for_the_optimizer() {
        let mut file = sample();
        file.model_config = None;
        assert!(matches!(file.to_bytes(), Err(Error::Invalid { .. })));
        (file.training_config, file.optimizer) = (None, vec![]);
        assert_eq!(
            LegacyFile::from_bytes(file.to_bytes().unwrap()).unwrap(),
            file
        );
    }

    #[test]
    fn long_lists_of_names_continue_in_further_attributes() {
        let weights = (0..9000).map(|i| (format!("w{i}"), Array::from(i)));
        let file = LegacyFile {
            layers: vec![("big".into(), weights.collect())],
            ..LegacyFile::default()
        };
        let again = LegacyFile::from_bytes(file.to_bytes().unwrap()).unwrap();
        assert_eq!(again, file);
    }

    #[test]
    fn names_are_used_once() {
        let mut twice = sample();
        twice.layers[1].0 = "z".into();
        let mut same = sample();
        same.layers[0].1[1].0 = "z/kernel:0".into();
        let mut within = sample();
        within.layers[0].1[1].0 = "z/kernel:0/x".into();
        let mut reserved = sample();
        reserved.layers[1].0 = TOP_LEVEL.into();
        for file in [twice, same, within, reserved] {
            let error = file.to_bytes().unwrap_err();
            assert!(matches!(error, Error::Invalid { .. }), "{error}");
        }
    }

    #[test]
    fn what_the_lists_and_groups_disagree_about_is_an_error() {
        let one = Array::scalar(1.0);
        let read = |attributes: &[(&str, &[&str])], datasets: &[&str]| {
            let mut root = Tree::default();
            for (attribute, list) in attributes {
                write_names(attribute, list, &mut root);
            }
            let group = root.group("dense").unwrap();
            write_names(WEIGHT_NAMES, &["kernel"], group);
            for name in datasets {
                group.dataset(name, &one).unwrap();
            }
            let mut bytes = Vec::new();
            root.write(&mut bytes).unwrap();
            LegacyFile::from_bytes(bytes)
        };
        let dense: &[(&str, &[&str])] = &[(LAYER_NAMES, &["dense"])];
        let sound = read(dense, &["kernel"]).unwrap();
        assert_eq!(
            sound.layers,
            [("dense".into(), vec![("kernel".into(), one.clone())])]
        );
        let message = |result: Result<LegacyFile>| result.unwrap_err().to_string();
        assert!(message(read(dense, &[])).contains("lists it but does not hold it"));
        assert!(message(read(dense, &["kernel", "bias"])).contains("do not list it"));
        assert!(message(read(&[(LAYER_NAMES, &["x"])], &["kernel"])).contains("no such group"));
        assert!(message(read(&[], &["kernel"])).contains("legacy format"));
    }
}
