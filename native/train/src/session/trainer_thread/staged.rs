//! A fit on a mesh from its beginning to its end: each rank reads its stage of the model, and rank 0 puts
//! the whole together when it is trained.

use super::read_options;
use crate::artifacts::{self, Artifacts, Trained};
use crate::config::{self, FitSession, ModelFiles};
use crate::error::Error;
use crate::event::FitResult;
use crate::mesh::{Mesh, balance};
use crate::objective::Objective;
use crate::resume::State;
use crate::settings;
use crate::step::{Trainer, Written};
use flambeau_collective::Communicator;
use flambeau_formats::checkpoint::stretches::Reader;
use flambeau_keras::optimizers::Optimizer;
use flambeau_keras::{Holds, Model, ReadOptions, TensorPart};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tch::Device;

/// What a model is read from, part by part.
#[derive(Debug)]
pub(super) struct Source {
    model: Vec<u8>,
    weights: Vec<u8>,
    optimizer: Value,
    /// Whether a stage of the model needs its loss scaled, and so all do.
    scales_loss: bool,
}

impl Source {
    pub(super) fn new(files: ModelFiles<'_>, optimizer: Value, scales_loss: bool) -> Self {
        Self {
            model: files.model.to_vec(),
            weights: files.weights.to_vec(),
            optimizer,
            scales_loss,
        }
    }

    /// What `holds` says of the model, and an optimizer for it.
    fn read(
        &self,
        config: &FitSession,
        holds: Holds,
        tensor: TensorPart,
    ) -> Result<(Model, Optimizer), Error> {
        let options = ReadOptions {
            holds,
            tensor,
            ..read_options(&config.fit, &self.weights)?
        };
        let (model, _) = Model::read(&self.model, &options)?;
        let mut optimizer = Optimizer::from_config(&self.optimizer, model.trainable())?;
        if self.scales_loss {
            optimizer = optimizer.scaling_loss();
        }
        optimizer.set_threads(usize::try_from(config.threads).unwrap_or(1));
        Ok((model, optimizer))
    }
}

/// Refuses a model that cannot be cut as the user wants; none of its variables need be there.
///
/// # Errors
/// [`Error::Config`], [`Error::Keras`].
pub(super) fn check(model: &Model, mesh: &config::Mesh) -> Result<(), Error> {
    if model.sums_over_replicas() {
        return Err(Error::Config(
            "pipelineStages or tensorParallel is above 1, but a synchronized BatchNormalization adds up over all rows of \
             a step: set synchronized to False"
                .to_owned(),
        ));
    }
    if !mesh.stages.is_empty() {
        model.stages(mesh.pipeline, &mesh.stages)?;
    }
    Ok(())
}

/// Meets the others and reads this rank's stage of the model, of which `whole` has no variables.
///
/// # Errors
/// [`Error::Collective`], [`Error::Config`], [`Error::Keras`].
pub(super) fn trainer(
    source: &Source,
    config: &FitSession,
    mesh: &config::Mesh,
    (whole, objective, device): (Model, Objective, Device),
    mut world: Communicator,
) -> Result<Trainer, Error> {
    let ranks = Mesh::connect(&world, mesh)?;
    // Rank 0 measures, as others may come to something else.
    let by_layer = if world.rank() == 0 {
        let (_, replicas) = config.replica();
        let rows = config.rows_of_a_step() / replicas.max(1) / mesh.micro_batches;
        let stages = balance::stages(&whole, mesh, rows.max(1))?;
        log::info!("stages of the model: {:?}", stages.by_layer());
        serde_json::to_vec(stages.by_layer()).unwrap_or_default()
    } else {
        Vec::new()
    };
    let by_layer = world.broadcast_bytes(0, by_layer)?;
    let by_layer: BTreeMap<String, usize> = serde_json::from_slice(&by_layer).map_err(|error| {
        Error::Config(format!(
            "rank 0 does not say what stages there are: {error}"
        ))
    })?;
    let stages = whole.stages(mesh.pipeline, &by_layer)?;
    let part = TensorPart {
        index: ranks.place.part,
        count: ranks.grid.parts,
    };
    let holds = Holds::Stage(stages, ranks.place.stage);
    let (mut model, optimizer) = source.read(config, holds, part)?;
    model.set_device(device)?;
    let split = model.trainable().variables().iter();
    let split: Vec<_> = split
        .filter(|one| one.held.is_some())
        .map(|one| &one.path)
        .collect();
    if ranks.grid.parts > 1 {
        log::info!("split between {} workers: {split:?}", ranks.grid.parts);
    }
    let rows = config.rows_of_a_step();
    let seed = config.fit.seed;
    Trainer::on_mesh(model, objective, optimizer, world, (ranks, rows), seed)
}

/// What all ranks start from: the checkpoint that rank 0 is given, or the model as it is.
///
/// # Errors
/// [`Error::Storage`], [`Error::Collective`], [`Error::Config`] for a checkpoint of another fit.
pub(super) fn agreed_state(trainer: &mut Trainer, config: &FitSession) -> Result<State, Error> {
    let settings = settings::of(config, trainer);
    let reader = config.resume.as_ref().map(|path| {
        let reader = Reader::open(path).map_err(|source| Error::Storage {
            what: "cannot resume from",
            path: path.clone(),
            source: source.into(),
        })?;
        let state: State = serde_json::from_value(reader.manifest.clone()).map_err(|error| {
            Error::Config(format!(
                "the state in the checkpoint cannot be read: {error}"
            ))
        })?;
        settings::check(&state.settings, &settings)?;
        Ok::<_, Error>(reader)
    });
    let mut state = trainer
        .read_stages(reader.transpose()?)?
        .unwrap_or_default();
    state.first_step = state.step + 1;
    state.settings = settings;
    Ok(state)
}

/// Puts the model together on rank 0, which leaves its files. Every rank calls this.
///
/// # Errors
/// [`Error::Collective`], [`Error::Keras`], [`Error::Storage`].
pub(super) fn finish(
    source: &Source,
    config: &FitSession,
    trainer: &mut Trainer,
    artifacts: Option<Artifacts>,
    state: &State,
) -> Result<FitResult, Error> {
    let result = match artifacts {
        Some(artifacts) => match Whole::gather(source, config, trainer, state)? {
            Ok(whole) => {
                let trained = Trained {
                    model: &whole.model,
                    elsewhere: Some(&whole.weights),
                    optimizer: None,
                    described: trainer.optimizer().config(),
                    objective: trainer.objective(),
                };
                let result = artifacts.finish(trained, state)?;
                whole.remove()?;
                Ok(result)
            }
            Err(tensor) => Err(tensor),
        },
        None => {
            trainer.lend_state()?;
            Ok(artifacts::result(trainer.model(), None, state)?)
        }
    };
    // Of the whole model; or the name of a tensor of it that holds NaN.
    let digest = result.as_ref().map(|result| &result.digest);
    let digest = serde_json::to_vec(&digest).unwrap_or_default();
    let digest = trainer.communicator_mut().broadcast_bytes(0, digest)?;
    let digest: Result<String, String> = serde_json::from_slice(&digest).map_err(|error| {
        let reason = format!("rank 0 does not say what came of the model: {error}");
        Error::Config(reason)
    })?;
    match (result, digest) {
        (Ok(result), Ok(digest)) => Ok(FitResult { digest, ..result }),
        (_, Err(variable)) | (Err(variable), _) => Err(Error::NotFinite {
            variable,
            value: f32::NAN,
            step: state.step,
        }),
    }
}

/// A model whose weights are in a file, as no rank has memory for all of them.
struct Whole {
    /// Without its float32 variables. Counts and the like, which training leaves alone, are as they came.
    model: Model,
    weights: Reader,
    folder: PathBuf,
}

impl Whole {
    /// Has all ranks bring what they have of the model; or gives the name of a tensor, of a variable or of
    /// the optimizer, that holds NaN. The others meanwhile call [`Trainer::lend_state`].
    ///
    /// # Errors
    /// [`Error::Storage`], [`Error::Collective`], [`Error::Keras`].
    fn gather(
        source: &Source,
        config: &FitSession,
        trainer: &mut Trainer,
        state: &State,
    ) -> Result<Result<Self, String>, Error> {
        let folder = config.local_dir.join("whole");
        std::fs::create_dir_all(&folder).map_err(|error| apart(&folder, error.into()))?;
        let path = match trainer.write_stages(state, Some(&folder))? {
            Written::Here(path) => path,
            Written::NotANumber(tensor) => return Ok(Err(tensor)),
            Written::Elsewhere => {
                let reason = "rank 0 has no checkpoint of a model of several stages";
                return Err(Error::Panic(reason.to_owned()));
            }
        };
        let options = ReadOptions {
            holds: Holds::Counts,
            ..read_options(&config.fit, &source.weights)?
        };
        let (model, _) = Model::read(&source.model, &options)?;
        let weights = Reader::open(&path).map_err(|error| apart(&folder, error.into()))?;
        Ok(Ok(Self {
            model,
            weights,
            folder,
        }))
    }

    /// Removes the file.
    ///
    /// # Errors
    /// [`Error::Storage`].
    fn remove(self) -> Result<(), Error> {
        std::fs::remove_dir_all(&self.folder).map_err(|error| apart(&self.folder, error.into()))
    }
}

fn apart(folder: &Path, source: Box<dyn std::error::Error + Send + Sync>) -> Error {
    Error::Storage {
        what: "cannot put the model together in",
        path: folder.to_owned(),
        source,
    }
}
