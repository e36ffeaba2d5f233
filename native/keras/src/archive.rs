//! Models in files: `.keras` archives and legacy `.h5` files are read, with or without weights of
//! another file.

use flambeau_formats::keras_archive::Archive;
use flambeau_formats::legacy_h5::LegacyFile;
use serde_json::Value as Json;

use crate::assets::Assets;
use crate::blueprint::Blueprint;
use crate::error::{Error, Result};
use crate::freeze::freeze;
use crate::graph::Holds;
use crate::model::Model;
use crate::python_json;
use crate::tensor_group::TensorPart;
use crate::weights::{self, OptimizerArray, Targets, Weights};

/// What came with a model besides its config.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Loaded {
    /// Whether files gave all variables; else the rest is initialized, or zeros without a seed.
    pub weights: bool,
    /// Whether files gave any.
    pub some_weights: bool,
    /// Keras's `compile_config`: optimizer, loss and metrics, if the model was compiled.
    pub compile: Option<Json>,
    /// The variables of the optimizer that it was compiled with, in Keras's order; empty if the
    /// file has none.
    pub optimizer: Vec<OptimizerArray>,
}

/// How a model is read.
#[derive(Debug, Default)]
pub struct ReadOptions {
    /// Layers that keep their weights, by name: as if `trainable=False` had been set on them.
    pub frozen_layers: Vec<String>,
    /// Weights that the model starts from instead of its own.
    pub initial: Option<InitialWeights>,
    /// Initializes variables for which there is no file; see [`Model::initialize`].
    pub seed: Option<u64>,
    /// What of the model gets memory.
    pub holds: Holds,
    /// The place in a tensor group that the model is built for: of the layers that
    /// [`Variable::held`](crate::Variable::held) shows split, it has this rank's part of the weights.
    pub tensor: TensorPart,
}

/// Weights of another file than the model's, as of `model.load_weights`.
#[derive(Debug)]
pub struct InitialWeights {
    /// The file.
    pub weights: Weights,
    /// Whether layers whose variables the file does not hold as they are keep what they have.
    pub skip_mismatch: bool,
}

impl Model {
    /// Reads a `.keras` archive or a legacy `.h5` file with its weights, or the JSON text of a
    /// config.
    pub fn from_bytes(bytes: &[u8]) -> Result<(Self, Loaded)> {
        Self::read(bytes, &ReadOptions::default())
    }

    /// As [`Self::from_bytes`], with options.
    ///
    /// # Errors
    /// The bytes are of none of these formats, or damaged; the config is not one of Keras or holds
    /// what is not supported; a file's weights are not those of the config.
    pub fn read(bytes: &[u8], options: &ReadOptions) -> Result<(Self, Loaded)> {
        let read = |source| Error::Archive {
            action: "read",
            source,
        };
        let (document, own, assets) = if bytes.starts_with(b"PK") {
            let archive = Archive::from_bytes(bytes).map_err(read)?;
            let document = python_json::parse(&archive.config)?;
            let assets = Assets::of(&archive);
            (document, Some(Weights::Groups(archive.weights)), assets)
        } else if bytes.starts_with(weights::HDF5) {
            let file = LegacyFile::from_bytes(bytes.to_vec()).map_err(read)?;
            let document = weights::document(&file)?;
            (document, Some(Weights::Legacy(file)), Assets::default())
        } else {
            let document = python_json::parse(&String::from_utf8_lossy(bytes))?;
            (document, None, Assets::default())
        };
        let blueprint = Blueprint::read(document.clone(), assets, options.tensor)?;
        // Weights are compared with the config before the model takes any memory.
        let groups = blueprint.groups();
        let targets = Targets {
            config: &blueprint.config,
            name: &blueprint.name,
            groups: &groups,
            declared: &blueprint.declared,
        };
        let mut found = match &own {
            Some(own) => own.find(targets, false)?,
            None => Vec::new(),
        };
        if let Some(initial) = &options.initial {
            found.extend(initial.weights.find(targets, initial.skip_mismatch)?);
        }
        let mut known = vec![false; blueprint.declared.len()];
        for (handle, _) in &found {
            known[handle.0] = true;
        }
        let loaded = Loaded {
            weights: known.iter().all(|&known| known),
            some_weights: !found.is_empty(),
            compile: blueprint.compile.clone(),
            optimizer: match &own {
                Some(own) => own.optimizer()?,
                None => Vec::new(),
            },
        };
        // Only now, as the order of a legacy file is that of the model as it was saved.
        let blueprint = if options.frozen_layers.is_empty() {
            blueprint
        } else {
            let mut document = document;
            freeze(&mut document, &options.frozen_layers)?;
            Blueprint::read(document, blueprint.assets, options.tensor)?
        };
        let mut blueprint = blueprint;
        blueprint.keep(&options.holds)?;
        let mut model = blueprint.allocate()?;
        if let (false, Some(seed)) = (loaded.weights, options.seed) {
            model.initialize(seed)?;
        }
        model.take(&found)?;
        Ok((model, loaded))
    }
}
