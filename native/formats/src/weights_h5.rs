//! Keras 3 weights files (`.weights.h5`), alone or inside a `.keras` archive, read and written in
//! memory.
//!
//! Layout (`keras/src/saving/saving_lib.py`): every saved object has a group, the path of
//! attributes that leads to it from the model; its variables are the datasets `0`, `1`, ... of the
//! group `vars` in it, and `name`, an attribute of `vars`, is the name that the user gave it. The
//! model's own `vars` is in the root group. The members of a list are named after their class, see
//! [`group_names`](crate::group_names); a list in a list is `container`, `container_1`, ...
//!
//! What Keras 3.15 writes below the group of a layer:
//!
//! | layer | group: variables |
//! |---|---|
//! | most layers | the group itself: trainable variables, then the others, as they were created |
//! | Sequential, Functional | `layers/<group>`: the layers; an InputLayer of a Functional counts |
//! | LSTM, GRU, SimpleRNN, ConvLSTM | `cell`: kernel, recurrent kernel, bias |
//! | RNN(StackedRNNCells) | `cell/cells/<class of cell>`: as above |
//! | Bidirectional | `forward_layer`, `backward_layer`: as the wrapped layer |
//! | TimeDistributed, SpectralNormalization | `layer`: as the wrapped layer |
//! | MultiHeadAttention | `query_dense`, `key_dense`, `value_dense`, `output_dense`: kernel, bias |
//! | GroupQueryAttention | the same four |
//! | Normalization | the group itself: mean, variance, count (an integer) |
//! | Dropout, RandomFlip, ... | no variables: the state of random generators is not saved |
//! | StringLookup, TextVectorization | no variables: their vocabulary is an asset of the archive |
//!
//! `optimizer` holds the optimizer's: iteration (int64; int32 from other backends), learning rate
//! unless a schedule computes it, then slots in its own order. A LossScaleOptimizer has the
//! optimizer it wraps in `optimizer/inner_optimizer`.

mod read;

use std::collections::BTreeMap;
use std::io::Write;

use crate::h5;
use crate::h5_file::Attribute;
use crate::h5_tree::Tree;
use crate::{Array, Result, ToArray};

/// The group of an object that holds its variables.
const VARS: &str = "vars";
/// Where Keras 2.13 and 2.14 put what later versions put in `layers`.
const OLD_LAYERS: &str = "_layer_checkpoint_dependencies";
const PLACE: &str = "the weights file";

/// Everything in a weights file; `A` is what it is written from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WeightsFile<A = Array> {
    /// The saved objects by group, such as `layers/conv2d_1` or `optimizer`; the model itself is
    /// at `""`. Objects without variables may be left out.
    pub groups: BTreeMap<String, Variables<A>>,
}

/// The variables of one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variables<A = Array> {
    /// The user's name for the object; empty if it has none.
    pub name: String,
    /// The variables, in Keras's order.
    pub vars: Vec<A>,
    /// Arrays under names other than `0`, `1`, ..., as layers with a `save_own_variables` of their
    /// own may store them.
    pub named: BTreeMap<String, A>,
}

impl<A> Default for WeightsFile<A> {
    fn default() -> Self {
        WeightsFile {
            groups: BTreeMap::new(),
        }
    }
}

impl<A> Default for Variables<A> {
    fn default() -> Self {
        Variables::new("", Vec::new())
    }
}

impl<A> Variables<A> {
    /// The variables of an object that the user calls `name`.
    pub fn new(name: impl Into<String>, vars: Vec<A>) -> Self {
        Variables {
            name: name.into(),
            vars,
            named: BTreeMap::new(),
        }
    }
}

impl WeightsFile {
    /// The object at a group such as `layers/dense`, also in the files of Keras 2.13, which call
    /// `layers` by another name.
    pub fn group(&self, group: &str) -> Option<&Variables> {
        self.groups
            .get(group)
            .or_else(|| self.groups.get(&group.replace("layers", OLD_LAYERS)))
    }

    /// Reads the content of a weights file.
    ///
    /// # Errors
    /// [`Error::Corrupt`](crate::Error::Corrupt) or
    /// [`Error::Unsupported`](crate::Error::Unsupported) naming the dataset, such as
    /// `layers/dense/vars/0`; the latter also for sharded weights and for the legacy format, which
    /// [`LegacyFile`](crate::legacy_h5::LegacyFile) reads.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self> {
        let limit = h5::MAX_EXPANSION.saturating_mul(bytes.len() as u64);
        read::weights_file(bytes, limit)
    }

    /// As [`WeightsFile::from_bytes`], but refuses variables that take more than `limit` bytes.
    pub(crate) fn within(bytes: Vec<u8>, limit: u64) -> Result<Self> {
        read::weights_file(bytes, limit)
    }
}

impl<A: ToArray> WeightsFile<A> {
    /// The content of a weights file that Keras 3 loads.
    ///
    /// # Errors
    /// As [`WeightsFile::write`].
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.write(&mut bytes)?;
        Ok(bytes)
    }

    /// Writes a weights file that Keras 3 loads, one array after the other.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) naming the group, if it is no path or holds a name
    /// twice; [`Error::Io`](crate::Error::Io) from the sink; those of the arrays.
    pub fn write(&self, sink: &mut dyn Write) -> Result<()> {
        self.tree(|root| root.write(sink))
    }

    /// Length of the file in bytes.
    pub(crate) fn length(&self) -> Result<u64> {
        self.tree(|root| root.length())
    }

    fn tree<T>(&self, use_it: impl FnOnce(&Tree<'_>) -> Result<T>) -> Result<T> {
        let paths: Vec<_> = self
            .groups
            .iter()
            .map(|(group, variables)| Paths::of(group, variables))
            .collect();
        let mut root = Tree::default();
        for (paths, variables) in paths.iter().zip(self.groups.values()) {
            let vars = root.group(&paths.vars)?;
            if !variables.name.is_empty() {
                vars.attribute("name", Attribute::Text(variables.name.clone()));
            }
            let arrays = variables.vars.iter().chain(variables.named.values());
            for (path, array) in paths.datasets.iter().zip(arrays) {
                root.dataset(path, array)?;
            }
        }
        use_it(&root)
    }
}

/// The paths of an object's `vars` and of the datasets in it.
struct Paths {
    vars: String,
    datasets: Vec<String>,
}

impl Paths {
    fn of<A>(group: &str, variables: &Variables<A>) -> Self {
        let vars = if group.is_empty() {
            VARS.into()
        } else {
            format!("{group}/{VARS}")
        };
        let numbers = (0..variables.vars.len()).map(|index| format!("{vars}/{index}"));
        let names = variables.named.keys().map(|name| format!("{vars}/{name}"));
        let datasets = numbers.chain(names).collect();
        Paths { vars, datasets }
    }
}

#[cfg(test)]
mod tests {
    use hdf5_pure::FileBuilder;
    use proptest::prelude::*;

    use super::*;
    use crate::{DType, Error};

    fn sample() -> WeightsFile {
        let kernel = Array::new(vec![2, 3], [1.0, 2.0, 3.0, 4.0, 5.0, f32::MIN]).unwrap();
        let bias = Array::new(vec![3], [0.5_f64, -0.5, 0.0]).unwrap();
        let many = (0..120_i32).map(Array::from).collect();
        let mut inner = Variables::new("", vec![kernel.clone()]);
        inner.named = [("state".into(), bias.clone())].into();
        let groups = [
            ("", Variables::new("sequential_\u{e4}", vec![])),
            (
                "layers/dense",
                Variables::new("first", vec![kernel, bias.clone()]),
            ),
            ("layers/lstm/cell", inner),
            ("layers/odd/vars/dense", Variables::new("x", vec![bias])),
            ("optimizer", Variables::new("adam", many)),
        ];
        WeightsFile {
            groups: groups.map(|(group, vars)| (group.to_owned(), vars)).into(),
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let mut weights = sample();
        let bytes = weights.to_bytes().unwrap();
        // A list that is called "vars" is read as an object without variables.
        let list = Variables::default();
        weights.groups.insert("layers/odd".into(), list);
        assert_eq!(WeightsFile::from_bytes(bytes).unwrap(), weights);
        let empty = WeightsFile::default();
        assert_eq!(
            WeightsFile::from_bytes(empty.to_bytes().unwrap()).unwrap(),
            empty
        );
    }

    #[test]
    fn every_dtype_survives() {
        let arrays = DType::ALL.iter().flat_map(|&dtype| {
            let bytes: Vec<u8> = (0..2 * dtype.width())
                .map(|i| u8::from(i % 2 == 0))
                .collect();
            [
                Array::from_le_bytes(dtype, vec![2, 1], bytes.clone()),
                Array::from_le_bytes(dtype, vec![], bytes[..dtype.width()].to_vec()),
                Array::from_le_bytes(dtype, vec![3, 0], vec![]),
            ]
        });
        let arrays = arrays.collect::<Result<_>>().unwrap();
        let weights = WeightsFile {
            groups: [("layers/all".into(), Variables::new("all", arrays))].into(),
        };
        assert_eq!(
            WeightsFile::from_bytes(weights.to_bytes().unwrap()).unwrap(),
            weights
        );
    }

    #[test]
    fn the_groups_of_keras_2_13_are_found() {
        let path = "_layer_checkpoint_dependencies/model/_layer_checkpoint_dependencies/dense";
        let dense = Variables::new("dense", vec![Array::scalar(1.0)]);
        let weights = WeightsFile {
            groups: [(path.to_owned(), dense.clone())].into(),
        };
        assert_eq!(weights.group("layers/model/layers/dense"), Some(&dense));
        assert_eq!(weights.group("layers/dense"), None);
    }

    #[test]
    fn groups_that_are_no_paths_are_refused() {
        for group in [
            "/",
            "layers//dense",
            "layers/",
            "layers/./dense",
            "layers/../dense",
        ] {
            let weights = WeightsFile {
                groups: [(group.into(), Variables::<Array>::new("x", vec![]))].into(),
            };
            let error = weights.to_bytes().unwrap_err();
            assert!(matches!(error, Error::Invalid { .. }), "{group}: {error}");
        }
        let mut numbered = Variables::new("x", vec![Array::scalar(1.0)]);
        numbered.named = [("0".into(), Array::scalar(2.0))].into();
        let weights = WeightsFile {
            groups: [("layers/dense".into(), numbered)].into(),
        };
        assert_eq!(
            weights.to_bytes().unwrap_err().to_string(),
            "layers/dense/vars/0 cannot be written: it is the path of something else too"
        );
    }

    #[test]
    fn other_element_types_are_refused_by_name() {
        let mut file = FileBuilder::new();
        let mut vars = file.create_group("vars");
        vars.create_dataset("0").with_vlen_strings(&["x"]);
        file.add_group(vars.finish());
        let error = WeightsFile::from_bytes(file.finish().unwrap()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "vars/0 cannot be read: its elements are no dtype of a Keras variable, but of variable \
             length"
        );
    }

    #[test]
    fn variables_outside_of_vars_are_not_dropped() {
        let mut file = FileBuilder::new();
        let mut layers = file.create_group("layers");
        layers.create_dataset("0").with_f32_data(&[1.0]);
        file.add_group(layers.finish());
        let error = WeightsFile::from_bytes(file.finish().unwrap()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "layers/0 cannot be read: it is in no group named vars, where Keras keeps variables"
        );
    }

    #[test]
    fn other_files_are_refused_by_name() {
        let read = |bytes: &[u8]| {
            WeightsFile::from_bytes(bytes.to_vec())
                .unwrap_err()
                .to_string()
        };
        assert!(read(b"{\"metadata\": {}}").contains("sharded weights"));
        assert!(read(b"PK").contains("no HDF5 file"));
        let legacy = <crate::legacy_h5::LegacyFile>::default();
        assert!(read(&legacy.to_bytes().unwrap()).contains("legacy format"));
    }

    proptest! {
        #[test]
        fn any_paths_survive(paths in prop::collection::btree_set("[a-u_]{1,3}(/[a-u_]{1,3}){0,4}", 0..12)) {
            let object = |path: String| (path.clone(), Variables::new(path, vec![Array::scalar(0.5)]));
            let weights = WeightsFile { groups: paths.into_iter().map(object).collect() };
            prop_assert_eq!(WeightsFile::from_bytes(weights.to_bytes().unwrap()).unwrap(), weights);
        }
    }
}
