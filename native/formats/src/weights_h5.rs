//! Keras 3 weights files (`.weights.h5`), read and written in memory.
//!
//! Layout (`keras/src/saving/saving_lib.py`): a layer's variables are the datasets `0`, `1`, ... of
//! `layers/<group>/vars`, where `<group>` comes from the layer's class and position, see
//! [`group_names`](crate::group_names); the user's name for the layer is only the attribute `name`
//! of `vars`. `optimizer/vars` holds the iteration counter, the learning rate and the slots.

mod read;
mod write;

use crate::{Array, Result};

const LAYERS: &str = "layers";
const OPTIMIZER: &str = "optimizer";
const VARS: &str = "vars";

/// Everything in a weights file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WeightsFile {
    /// The layers, sorted by group when read; a layer without variables may be left out.
    pub layers: Vec<LayerWeights>,
    /// The optimizer's state, if the model was compiled.
    pub optimizer: Option<OptimizerWeights>,
}

/// The variables of one layer.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerWeights {
    /// Path of the layer's group, such as `layers/conv2d_1` or `layers/sequential/layers/dense`.
    pub group: String,
    /// The user's name for the layer.
    pub name: String,
    /// Trainable variables, then the others, each in the order of their creation.
    pub vars: Vec<Array>,
}

/// The variables of an optimizer.
#[derive(Clone, Debug, PartialEq)]
pub struct OptimizerWeights {
    /// Updates done so far.
    pub iteration: i64,
    /// The learning rate, or `None` where a schedule computes it.
    pub learning_rate: Option<f32>,
    /// Slots in the optimizer's own order; for Adam momentum and velocity of each variable in turn.
    pub slots: Vec<Array>,
}

impl WeightsFile {
    /// The layer of a group such as `layers/dense`.
    pub fn layer(&self, group: &str) -> Option<&LayerWeights> {
        self.layers.iter().find(|layer| layer.group == group)
    }

    /// Reads the content of a weights file.
    ///
    /// # Errors
    /// [`Error::Corrupt`](crate::Error::Corrupt) or
    /// [`Error::Unsupported`](crate::Error::Unsupported) naming the dataset, such as
    /// `layers/dense/vars/0`.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self> {
        read::weights_file(bytes)
    }

    /// The content of a weights file that Keras 3 loads.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) naming the group, if it is no path below
    /// `layers`, occurs twice or holds an array whose shape and data disagree.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        write::weights_file(self)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use hdf5_pure::FileBuilder;
    use proptest::prelude::*;

    use super::*;
    use crate::Error;

    fn layer(group: &str, name: &str, vars: Vec<Array>) -> LayerWeights {
        LayerWeights {
            group: group.into(),
            name: name.into(),
            vars,
        }
    }

    fn sample() -> WeightsFile {
        let kernel = Array::new(vec![2, 3], vec![1.0, 2.0, 3.0, 4.0, 5.0, f32::MIN]).unwrap();
        let bias = Array::new(vec![3], vec![0.5, -0.5, 0.0]).unwrap();
        WeightsFile {
            layers: vec![
                layer("layers/dense", "first", vec![kernel.clone(), bias.clone()]),
                layer("layers/dense_1", "ausgang_\u{e4}", vec![bias.clone()]),
                layer("layers/flatten", "flatten", vec![]),
                layer("layers/sequential", "inner", vec![]),
                layer(
                    "layers/sequential/layers/dense",
                    "dense",
                    vec![bias.clone()],
                ),
            ],
            optimizer: Some(OptimizerWeights {
                iteration: 1 << 40,
                learning_rate: Some(0.01),
                slots: (0..12).map(|_| kernel.clone()).collect(),
            }),
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let weights = sample();
        assert_eq!(
            WeightsFile::from_bytes(weights.to_bytes().unwrap()).unwrap(),
            weights
        );
        let empty = WeightsFile::default();
        assert_eq!(
            WeightsFile::from_bytes(empty.to_bytes().unwrap()).unwrap(),
            empty
        );
    }

    #[test]
    fn a_scheduled_learning_rate_is_not_stored() {
        let mut weights = sample();
        weights.optimizer.as_mut().unwrap().learning_rate = None;
        assert_eq!(
            WeightsFile::from_bytes(weights.to_bytes().unwrap()).unwrap(),
            weights
        );
    }

    #[test]
    fn groups_that_keras_could_not_find_are_refused() {
        for group in [
            "dense",
            "layers",
            "layers//dense",
            "layers/vars",
            "optimizer/dense",
            "",
        ] {
            let weights = WeightsFile {
                layers: vec![layer(group, "x", vec![])],
                optimizer: None,
            };
            assert!(
                matches!(weights.to_bytes(), Err(Error::Invalid { .. })),
                "{group}"
            );
        }
        let twice = vec![
            layer("layers/a", "x", vec![]),
            layer("layers/a", "y", vec![]),
        ];
        let weights = WeightsFile {
            layers: twice,
            optimizer: None,
        };
        let message = weights.to_bytes().unwrap_err().to_string();
        assert_eq!(
            message,
            "layers/a cannot be written: two layers have this group"
        );
    }

    #[test]
    fn other_element_types_are_refused_by_name() {
        let mut file = FileBuilder::new();
        let mut layers = file.create_group("layers");
        let mut dense = layers.create_group("dense");
        let mut vars = dense.create_group("vars");
        vars.create_dataset("0").with_f64_data(&[1.0]);
        dense.add_group(vars.finish());
        layers.add_group(dense.finish());
        file.add_group(layers.finish());
        let error = WeightsFile::from_bytes(file.finish().unwrap()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "layers/dense/vars/0 cannot be read: it is f64, not float32"
        );
    }

    static FILE: LazyLock<Vec<u8>> = LazyLock::new(|| sample().to_bytes().unwrap());

    proptest! {
        #[test]
        fn damaged_files_never_panic(at: prop::sample::Index, damage: [u8; 4]) {
            let mut bytes = FILE.clone();
            let at = at.index(bytes.len() - damage.len());
            bytes[at..at + damage.len()].copy_from_slice(&damage);
            let _ = WeightsFile::from_bytes(bytes);
        }

        #[test]
        fn cut_files_never_panic(at: prop::sample::Index) {
            let end = at.index(FILE.len());
            let _ = WeightsFile::from_bytes(FILE[..end].to_vec());
        }
    }
}
