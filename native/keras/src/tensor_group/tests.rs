//! Models that several ranks in threads have parts of, against the whole model.

mod models;

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use rand_core::SeedableRng;
use serde_json::{Value as Json, json};
use tch::{Device, Kind, Tensor};

use self::models::{Case, cases};
use super::{TensorGroup, TensorPart};
use crate::error::Error;
use crate::optimizers::{OptimizerValue, Peers};
use crate::replicas::{Failure, Replicas};
use crate::{Held, Model, Optimizer, Pass, ReadOptions, Rng, Value};

const DEADLINE: Duration = Duration::from_secs(60);

/// Where the ranks meet: what each brought, and how often all have left.
#[derive(Debug, Default)]
struct Meeting {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    brought: BTreeMap<usize, Vec<f64>>,
    /// How many of them have taken the sum.
    left: usize,
    broken: bool,
}

impl Meeting {
    fn wait<'a>(
        &self,
        state: MutexGuard<'a, State>,
        ready: impl Fn(&State) -> bool,
    ) -> Result<MutexGuard<'a, State>, Failure> {
        let waits = |state: &mut State| !ready(state) && !state.broken;
        let waited = self.changed.wait_timeout_while(state, DEADLINE, waits);
        let (state, timeout) = waited.unwrap();
        match state.broken || timeout.timed_out() {
            true => Err("a rank is lost".into()),
            false => Ok(state),
        }
    }
}

/// One of the ranks, how often it meets the others, and at which time it fails to.
#[derive(Debug)]
struct Member {
    meeting: Arc<Meeting>,
    part: TensorPart,
    met: usize,
    fails_at: Option<usize>,
}

impl Member {
    fn exchange(&mut self, values: &mut [f64]) -> Result<(), Failure> {
        let meeting = &*self.meeting;
        let mut state = meeting.state.lock().unwrap();
        self.met += 1;
        if self.fails_at == Some(self.met) {
            state.broken = true;
            meeting.changed.notify_all();
            return Err("pulled out".into());
        }
        let count = self.part.count;
        let index = self.part.index;
        state = meeting.wait(state, |state| !state.brought.contains_key(&index))?;
        state.brought.insert(index, values.to_vec());
        meeting.changed.notify_all();
        state = meeting.wait(state, |state| state.brought.len() == count)?;
        for (at, value) in values.iter_mut().enumerate() {
            // In the order of ranks, as all must come to the same bits.
            *value = state.brought.values().map(|of_one| of_one[at]).sum();
        }
        state.left += 1;
        if state.left == count {
            state.left = 0;
            state.brought.clear();
            meeting.changed.notify_all();
        }
        Ok(())
    }
}

impl TensorGroup for Member {
    fn sum(&mut self, values: &mut [f32]) -> Result<(), Failure> {
        let mut sums: Vec<f64> = values.iter().copied().map(f64::from).collect();
        self.exchange(&mut sums)?;
        #[expect(clippy::cast_possible_truncation, reason = "sums in float32")]
        let sums = sums.into_iter().map(|sum| sum as f32);
        values
            .iter_mut()
            .zip(sums)
            .for_each(|(value, sum)| *value = sum);
        Ok(())
    }
}

/// The group as an optimizer sees it.
#[derive(Debug)]
struct Ranks(Arc<Mutex<Member>>);

impl Replicas for Ranks {
    fn sum(&mut self, values: &mut [f64]) -> Result<(), Failure> {
        self.0.lock().unwrap().exchange(values)
    }
}

/// What training comes to.
#[derive(Debug, Clone, Default)]
struct Trained {
    /// Of each step.
    losses: Vec<f64>,
    outputs: Vec<Vec<f32>>,
    /// By path, of the first step.
    gradients: BTreeMap<String, Vec<f32>>,
    start: BTreeMap<String, Vec<f32>>,
    end: BTreeMap<String, Vec<f32>>,
    held: BTreeMap<String, Held>,
    reached: Vec<bool>,
    met: usize,
}

fn group(members: usize) -> Vec<Member> {
    let meeting = Arc::new(Meeting::default());
    let member = |index| Member {
        meeting: Arc::clone(&meeting),
        part: TensorPart {
            index,
            count: members,
        },
        met: 0,
        fails_at: None,
    };
    (0..members).map(member).collect()
}

fn read(config: &str, part: TensorPart) -> Model {
    let options = ReadOptions {
        seed: Some(7),
        tensor: part,
        ..ReadOptions::default()
    };
    Model::read(config.as_bytes(), &options).unwrap().0
}

/// A loss that tells outputs apart, as a mean over the rows.
fn loss(outputs: &[Value], pass: &Pass) -> Tensor {
    let of_output = |output: &Value| {
        let y = output.y().unwrap().to_kind(Kind::Float);
        let wanted = models::noise(&y.size());
        (&y - wanted).square().mean(Kind::Double)
    };
    let outputs = outputs.iter().map(of_output).sum::<Tensor>();
    pass.losses
        .iter()
        .fold(outputs, |sum, loss| sum + loss.to_kind(Kind::Double))
}

fn by_path(model: &Model, values: &[f32]) -> BTreeMap<String, Vec<f32>> {
    let variables = model.trainable().variables().iter();
    variables
        .map(|variable| (variable.path.clone(), values[variable.span()].to_vec()))
        .collect()
}

/// Some steps with `optimizer`, of the model or of the part that `member` has.
fn train(case: &Case, optimizer: &Json, steps: u64, member: Option<Member>) -> Trained {
    tch::set_num_threads(1);
    let part = member
        .as_ref()
        .map_or(TensorPart::WHOLE, |member| member.part);
    let mut model = read(&case.config, part);
    let mut trained = Trained {
        start: by_path(&model, model.trainable().as_slice().unwrap()),
        ..Trained::default()
    };
    for variable in model.trainable().variables() {
        if let Some(held) = &variable.held {
            assert_eq!(held.own_shape(), variable.shape);
            trained.held.insert(variable.path.clone(), held.clone());
        }
    }
    let ranks = member.map(|member| Arc::new(Mutex::new(member)));
    let group = ranks
        .clone()
        .map(|ranks| -> Arc<Mutex<dyn TensorGroup>> { ranks });
    let mut optimizer = Optimizer::from_config(optimizer, model.trainable()).unwrap();
    let mut slices = model.indexed_slices(optimizer.needs());
    for step in 0..steps {
        let mut pass = Pass::training(Rng::seed_from_u64(step)).with_group(group.clone());
        let outputs = model.forward(&case.inputs(step), &mut pass).unwrap();
        let loss = loss(&outputs, &pass);
        trained.losses.push(loss.double_value(&[]));
        let scale = optimizer.loss_scale();
        let loss = loss * f64::from(scale);
        let mut gradients = vec![0.0; model.trainable().len()];
        // Both ways lead to the same gradients.
        let reached = if step % 2 == 0 {
            model.gradients(&pass, &loss, &mut gradients, &mut slices)
        } else {
            let spans = model.trainable().spans();
            for slices in &mut slices {
                slices.clear(&mut gradients[slices.span()]);
            }
            model.gradients_in_turn(&pass, &loss, &mut slices, &mut |variable, gradient| {
                gradient.write(&mut gradients[spans[variable].clone()])
            })
        };
        let reached = reached.unwrap();
        if step == 0 {
            let unscaled: Vec<f32> = gradients.iter().map(|gradient| gradient / scale).collect();
            trained.gradients = by_path(&model, &unscaled);
            trained.reached.clone_from(&reached);
        }
        let taken = model.trainable_mut().change(|params| {
            let mut ranks = ranks.clone().map(Ranks);
            let group = ranks.as_mut();
            let peers = Peers {
                group: group.map(|ranks| -> &mut dyn Replicas { ranks }),
                ..Peers::default()
            };
            let slices = &mut slices;
            optimizer.apply_among(peers, (params, &mut gradients), slices, &reached, 1.0)
        });
        assert!(taken.unwrap().unwrap());
    }
    trained.end = by_path(&model, model.trainable().as_slice().unwrap());
    let mut pass = Pass::inference().with_group(group);
    let outputs = model.forward(&case.inputs(0), &mut pass).unwrap();
    for output in outputs {
        let values = output.values().unwrap().to_kind(Kind::Float);
        trained
            .outputs
            .push(Vec::try_from(values.flatten(0, -1)).unwrap());
    }
    if let Some(ranks) = ranks {
        trained.met = ranks.lock().unwrap().met;
    }
    trained
}

fn train_in_group(case: &Case, optimizer: &Json, steps: u64, count: usize) -> Vec<Trained> {
    thread::scope(|scope| {
        let threads = group(count)
            .into_iter()
            .map(|member| scope.spawn(move || train(case, optimizer, steps, Some(member))));
        let threads: Vec<_> = threads.collect();
        threads.into_iter().map(|one| one.join().unwrap()).collect()
    })
}

/// The whole values from what each rank has; what is not split must be the same on all.
fn whole(
    ranks: &[Trained],
    of: impl Fn(&Trained) -> &BTreeMap<String, Vec<f32>>,
) -> BTreeMap<String, Vec<f32>> {
    let mut whole = BTreeMap::new();
    for (path, first) in of(&ranks[0]) {
        let Some(held) = ranks[0].held.get(path) else {
            for rank in &ranks[1..] {
                assert_eq!(&of(rank)[path], first, "{path} differs between ranks");
            }
            whole.insert(path.clone(), first.clone());
            continue;
        };
        let len = usize::try_from(held.shape.iter().product::<i64>()).unwrap();
        let mut values = vec![f32::NAN; len];
        for rank in ranks {
            let own = &of(rank)[path];
            rank.held[path].put(own, &mut values);
            assert_eq!(&rank.held[path].take(&values), own);
        }
        whole.insert(path.clone(), values);
    }
    whole
}

fn close(actual: &[f32], expected: &[f32], tolerance: f32, what: &str) {
    assert_eq!(actual.len(), expected.len(), "{what}");
    for (actual, expected) in actual.iter().zip(expected) {
        let difference = (actual - expected).abs();
        assert!(
            difference <= tolerance,
            "{what}: {actual}, expected {expected}"
        );
    }
}

fn compare(case: &Case, one: &Trained, ranks: &[Trained]) {
    let what =
        |of: &str, path: &str| format!("{of} of {path}, {}, {} ranks", case.name, ranks.len());
    let tolerance = case.tolerance;
    assert_eq!(whole(ranks, |rank| &rank.start), one.start, "{}", case.name);
    for (path, gradient) in &whole(ranks, |rank| &rank.gradients) {
        close(
            gradient,
            &one.gradients[path],
            tolerance,
            &what("gradient", path),
        );
    }
    for (path, values) in &whole(ranks, |rank| &rank.end) {
        close(values, &one.end[path], tolerance, &what("end", path));
    }
    for rank in ranks {
        assert_eq!(rank.reached, one.reached, "{}", case.name);
        assert_eq!(rank.losses, ranks[0].losses, "{}", case.name);
        assert_eq!(rank.outputs, ranks[0].outputs, "{}", case.name);
        for (output, expected) in rank.outputs.iter().zip(&one.outputs) {
            close(output, expected, tolerance, &what("output", "the model"));
        }
        for (step, (loss, expected)) in rank.losses.iter().zip(&one.losses).enumerate() {
            let difference = (loss - expected).abs();
            assert!(
                difference <= f64::from(tolerance),
                "{}, step {step}: {difference}",
                case.name
            );
        }
    }
}

#[test]
fn ranks_with_parts_are_one_rank_with_the_whole_model() {
    let sgd = json!({"class_name": "SGD", "config": {"learning_rate": 0.05, "momentum": 0.9}});
    // The biases of keys change no output: what rounding leaves of their gradients is not to be blown up.
    let adam = json!({"class_name": "Adam", "config": {"learning_rate": 0.003, "epsilon": 1e-4}});
    for case in &cases() {
        for optimizer in [&sgd, &adam] {
            let one = train(case, optimizer, 20, None);
            for (path, start) in &one.start {
                assert_ne!(start, &one.end[path], "{path} of {} stays", case.name);
            }
            for count in [2, 4] {
                let ranks = train_in_group(case, optimizer, 20, count);
                compare(case, &one, &ranks);
                let held: Vec<&str> = ranks[0].held.keys().map(String::as_str).collect();
                assert_eq!(held, case.split, "{}", case.name);
            }
        }
    }
}

/// Norms of gradients and the verdict on a scaled loss are those of the whole model.
#[test]
fn optimizers_look_at_the_parts_of_all_ranks() {
    let clipped = |class: &str, key: &str, limit: f64| json!({"class_name": class, "config": {"learning_rate": 0.01, key: limit}});
    let inner = clipped("SGD", "global_clipnorm", 0.05);
    let scaled = json!({"class_name": "LossScaleOptimizer", "config": {"inner_optimizer": inner}});
    for optimizer in [
        clipped("Adam", "clipnorm", 0.01),
        clipped("SGD", "clipnorm", 0.01),
        clipped("SGD", "global_clipnorm", 0.05),
        scaled,
    ] {
        for case in [models::transformer(), cases().swap_remove(0)] {
            let one = train(&case, &optimizer, 8, None);
            compare(&case, &one, &train_in_group(&case, &optimizer, 8, 2));
        }
        let part = TensorPart { index: 0, count: 2 };
        let model = read(&models::transformer().config, part);
        let mut alone = Optimizer::from_config(&optimizer, model.trainable()).unwrap();
        let len = model.trainable().len();
        let (mut params, mut gradients) = (vec![0.0; len], vec![1.0; len]);
        let reached = vec![true; model.trainable().variables().len()];
        let error = alone
            .apply(&mut params, &mut gradients, &mut [], &reached)
            .unwrap_err();
        assert!(
            error.to_string().contains("need the tensor group"),
            "{error}"
        );
    }
}

#[test]
fn an_optimizer_that_looks_at_whole_variables_refuses_parts() {
    let model = read(&cases()[0].config, TensorPart { index: 1, count: 2 });
    for name in ["lamb", "adafactor", "muon"] {
        let error = Optimizer::from_config(&json!(name), model.trainable()).unwrap_err();
        assert!(error.to_string().contains("all of up/kernel"), "{error}");
    }
}

/// What a file or a checkpoint has of a whole model's optimizer.
#[test]
fn an_optimizer_of_parts_takes_its_own_of_the_state_of_the_whole() {
    let config = &cases()[0].config;
    let whole = read(config, TensorPart::WHOLE);
    let mut adam = Optimizer::from_config(&json!("adam"), whole.trainable()).unwrap();
    let mut params = whole.trainable().as_slice().unwrap().to_vec();
    let mut gradients = params.clone();
    let reached = vec![true; whole.trainable().variables().len()];
    adam.apply(&mut params, &mut gradients, &mut [], &reached)
        .unwrap();
    let saved = adam.variables();

    let part = read(config, TensorPart { index: 1, count: 2 });
    let mut own = Optimizer::from_config(&json!("adam"), part.trainable()).unwrap();
    let listed: Vec<_> = saved.iter().map(|one| (one.shape, one.value)).collect();
    assert!(own.set_keras_variables(&listed).unwrap());
    let mut split = 0;
    for (own, whole) in own.variables().iter().zip(&saved) {
        assert_eq!((&own.key, own.whole_shape()), (&whole.key, whole.shape));
        let (OptimizerValue::Float32(values), OptimizerValue::Float32(all)) =
            (own.value, whole.value)
        else {
            assert_eq!(own.value, whole.value);
            continue;
        };
        match own.part {
            Some(part) => assert_eq!(values, part.take(all), "{}", own.key),
            None => assert_eq!(values, all, "{}", own.key),
        }
        split += usize::from(own.part.is_some());
    }
    assert_eq!(split, 6);
}

/// How often ranks meet in a step of training.
#[test]
fn exchanges_are_as_few_as_they_can_be() {
    let sgd = json!("sgd");
    for case in &cases() {
        let met = |steps| train_in_group(case, &sgd, steps, 2)[0].met;
        assert_eq!(met(2) - met(1), case.exchanges, "{}", case.name);
    }
}

#[test]
fn a_file_gives_each_rank_its_part() {
    for case in &cases() {
        let mut model = read(&case.config, TensorPart::WHOLE);
        model.initialize(11).unwrap();
        let bytes = model.to_archive(None, None).unwrap();
        let expected = by_path(&model, model.trainable().as_slice().unwrap());
        let ranks = (0..4).map(|index| {
            let options = ReadOptions {
                tensor: TensorPart { index, count: 4 },
                ..ReadOptions::default()
            };
            let (part, loaded) = Model::read(&bytes, &options).unwrap();
            assert!(loaded.weights);
            let held = part.trainable().variables().iter();
            let held = held.filter_map(|one| Some((one.path.clone(), one.held.clone()?)));
            Trained {
                start: by_path(&part, part.trainable().as_slice().unwrap()),
                held: held.collect(),
                ..Trained::default()
            }
        });
        let ranks: Vec<_> = ranks.collect();
        assert_eq!(whole(&ranks, |rank| &rank.start), expected, "{}", case.name);
    }
}

#[test]
fn what_a_group_fails_with_comes_out_whole_and_nobody_hangs() {
    let case = &models::transformer();
    let ways = [false, true];
    // Forward and backward.
    for (fails_at, in_turn) in (1..=case.exchanges).flat_map(|at| ways.map(|way| (at, way))) {
        let run = |mut member: Member| {
            member.fails_at = (member.part.index == 1).then_some(fails_at);
            let model = read(&case.config, member.part);
            let ranks: Arc<Mutex<dyn TensorGroup>> = Arc::new(Mutex::new(member));
            let mut pass = Pass::training(Rng::seed_from_u64(1)).with_group(Some(ranks));
            let outputs = model.forward(&case.inputs(0), &mut pass)?;
            let loss = loss(&outputs, &pass);
            let mut gradients = vec![0.0; model.trainable().len()];
            if in_turn {
                model.gradients_in_turn(&pass, &loss, &mut [], &mut |_, _| Ok::<(), Error>(()))
            } else {
                model.gradients(&pass, &loss, &mut gradients, &mut [])
            }
        };
        let errors: Vec<Error> = thread::scope(|scope| {
            let threads = group(2)
                .into_iter()
                .map(|member| scope.spawn(move || run(member)));
            let threads: Vec<_> = threads.collect();
            let errors = threads.into_iter().map(|one| one.join().unwrap());
            errors.map(|result| result.unwrap_err()).collect()
        });
        let failures = errors
            .into_iter()
            .map(|error| error.into_failure().unwrap().to_string());
        let failures: Vec<_> = failures.collect();
        assert_eq!(
            failures,
            ["a rank is lost", "pulled out"],
            "exchange {fails_at}"
        );
    }
}

#[test]
fn what_a_part_of_a_model_cannot_do_is_refused() {
    let case = &cases()[0];
    let part = TensorPart { index: 1, count: 2 };
    let model = read(&case.config, part);
    let error = model
        .forward(&case.inputs(0), &mut Pass::inference())
        .unwrap_err();
    assert!(error.to_string().contains("a part of up/kernel"), "{error}");
    let error = model.to_archive(None, None).unwrap_err().to_string();
    assert!(
        error.contains("up/kernel") && error.contains("whole model"),
        "{error}"
    );

    let refused = |config: &str, tensor| {
        let options = ReadOptions {
            tensor,
            ..ReadOptions::default()
        };
        Model::read(config.as_bytes(), &options)
            .unwrap_err()
            .to_string()
    };
    let error = refused(&models::synchronized(), part);
    assert!(error.contains("synchronized = false"), "{error}");
    let error = refused(&case.config, TensorPart { index: 2, count: 2 });
    assert!(error.contains("no rank 2"), "{error}");
}

#[test]
fn stretches_are_where_a_part_lies_in_the_whole() {
    let held = |axis, range| Held {
        shape: vec![2, 4, 3],
        axis,
        range,
    };
    let whole = Tensor::arange(24, (Kind::Float, Device::Cpu));
    for held in [held(0, 1..2), held(1, 1..3), held(2, 0..2), held(1, 2..2)] {
        let part: Vec<f32> = Vec::try_from(held.of(&whole).unwrap().flatten(0, -1)).unwrap();
        #[expect(clippy::cast_precision_loss, reason = "small numbers")]
        let stretches = held.stretches().flatten().map(|at| at as f32);
        assert_eq!(stretches.collect::<Vec<_>>(), part);
    }
    let three = TensorPart { index: 1, count: 3 };
    assert_eq!(three.of(10), 3..6);
    assert!(!three.divides(10) && three.divides(9) && !TensorPart::WHOLE.divides(4));
}
