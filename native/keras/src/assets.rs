//! What layers keep in a `.keras` archive besides variables: files, such as the vocabulary of a
//! lookup, and arrays that a weights file has under a name instead of a number.

use std::borrow::Cow;
use std::collections::BTreeMap;

use flambeau_formats::Array;
use flambeau_formats::keras_archive::Archive;
use flambeau_formats::weights_h5::{Variables, WeightsFile};

use crate::export::Stored;

/// The assets of one model. They are read with it, never change, and go along into its exports.
#[derive(Debug, Clone, Default)]
pub(crate) struct Assets {
    /// By the layer's group and the file's name.
    files: BTreeMap<String, Vec<u8>>,
    /// By the layer's group, its name and the array's.
    arrays: BTreeMap<String, Variables>,
}

impl Assets {
    /// Those of an archive.
    pub(crate) fn of(archive: &Archive) -> Self {
        let named = archive.weights.groups.iter();
        let named = named.filter(|(_, variables)| !variables.named.is_empty());
        Self {
            files: archive.assets.clone(),
            arrays: named
                .map(|(group, variables)| {
                    let only_named = Variables {
                        vars: Vec::new(),
                        ..variables.clone()
                    };
                    (group.clone(), only_named)
                })
                .collect(),
        }
    }

    /// The file `name` of the layer in `group`.
    pub(crate) fn file(&self, group: &str, name: &str) -> Option<&[u8]> {
        let file = self.files.get(&format!("{group}/{name}"));
        file.map(Vec::as_slice)
    }

    /// The array `name` of the layer in `group`.
    pub(crate) fn array(&self, group: &str, name: &str) -> Option<&Array> {
        self.arrays.get(group)?.named.get(name)
    }

    /// All files, by group and name.
    pub(crate) fn files(&self) -> &BTreeMap<String, Vec<u8>> {
        &self.files
    }

    /// Puts the arrays where a weights file has them.
    pub(crate) fn add_to<'a>(&'a self, weights: &mut WeightsFile<Stored<'a>>) {
        for (group, variables) in &self.arrays {
            let entry = weights.groups.entry(group.clone());
            let kept = entry.or_insert_with(|| Variables::new(&variables.name, Vec::new()));
            let named = variables.named.iter();
            let named = named.map(|(name, array)| (name.clone(), Stored::of(Cow::Borrowed(array))));
            kept.named = named.collect();
        }
    }
}
