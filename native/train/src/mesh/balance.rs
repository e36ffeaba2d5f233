//! Stages that take about as long: what layers cost, measured, and where to cut.

use crate::config;
use crate::error::Error;
use flambeau_keras::{Holds, Model, Pass, Rng, Stages, Value};
use rand_core::SeedableRng;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use tch::{Kind, Tensor};

/// Runs of each layer of which the fastest counts.
const RUNS: usize = 3;

/// Layers that have taken so long are not run again.
const ENOUGH: Duration = Duration::from_millis(200);

/// The stages of a model: those that the user wants, or such that the slowest is as fast as can be.
///
/// # Errors
/// [`Error::Keras`], [`Error::Config`] where the model has fewer layers than there are to be stages.
pub(crate) fn stages(model: &Model, mesh: &config::Mesh, rows: usize) -> Result<Stages, Error> {
    if mesh.pipeline == 1 || !mesh.stages.is_empty() {
        return Ok(model.stages(mesh.pipeline, &mesh.stages)?);
    }
    let units = model.units();
    if units.len() < mesh.pipeline {
        let (count, wanted) = (units.len(), mesh.pipeline);
        return Err(Error::Config(format!(
            "pipelineStages is {wanted}, but the model can only be cut into {count}: lower it"
        )));
    }
    let costs = units
        .iter()
        .enumerate()
        .map(|(at, _)| cost(model, &units, at, rows))
        .collect::<Result<Vec<_>, _>>()?;
    let mut by_layer = BTreeMap::new();
    for (stage, from) in cut(&costs, mesh.pipeline).into_iter().enumerate() {
        by_layer.insert(units[from][0].clone(), stage);
    }
    Ok(model.stages(mesh.pipeline, &by_layer)?)
}

/// Seconds that unit `at` of a model takes, forward and back, with zeros for `rows` rows.
fn cost(model: &Model, units: &[Vec<String>], at: usize, rows: usize) -> Result<f64, Error> {
    let (first, last) = (at == 0, at + 1 == units.len());
    let mut by_layer = BTreeMap::new();
    let starts = [
        (0, 0),
        (at, usize::from(!first)),
        (at + 1, 2 - usize::from(first)),
    ];
    for (unit, stage) in starts {
        if let Some(names) = units.get(unit) {
            by_layer.insert(names[0].clone(), stage);
        }
    }
    let count = 1 + usize::from(!first) + usize::from(!last);
    let stages = model.stages(count, &by_layer)?;
    let alone = model.alone(&Holds::Stage(stages, usize::from(!first)))?;
    let taken = alone.blank(i64::try_from(rows).unwrap_or(1))?;
    let mut fastest = f64::INFINITY;
    for _ in 0..RUNS {
        let started = Instant::now();
        let mut pass = Pass::training(Rng::seed_from_u64(0));
        let given = alone.forward(&taken, &mut pass)?;
        let mut loss = Tensor::from(0.0);
        for end in given.iter().filter_map(Value::end) {
            loss = loss.f_add(&end.f_sum(Kind::Double)?)?;
        }
        let mut out = vec![0.0; alone.trainable().len()];
        let mut reached = vec![false; alone.trainable().variables().len()];
        let leaves: Vec<Tensor> = taken
            .iter()
            .filter_map(Value::end)
            .map(Tensor::shallow_clone)
            .collect();
        let leaves: Vec<&Tensor> = leaves.iter().collect();
        alone.add_gradients(&pass, &loss, &leaves, (&mut out, &mut []), &mut reached)?;
        let took = started.elapsed();
        fastest = fastest.min(took.as_secs_f64());
        if took > ENOUGH {
            break;
        }
    }
    Ok(fastest)
}

/// Where each of `count` stretches of `costs` begins, so that the most costly costs as little as can be.
fn cut(costs: &[f64], count: usize) -> Vec<usize> {
    // By the number of stretches and where the last of them ends: the least of what the most costly one
    // costs, and where that begins.
    let mut sums = vec![0.0];
    for cost in costs {
        sums.push(sums.last().copied().unwrap_or(0.0) + cost);
    }
    let length = costs.len();
    let mut least = vec![vec![(f64::INFINITY, 0); length + 1]; count + 1];
    least[0][0] = (0.0, 0);
    for stretches in 1..=count {
        for end in stretches..=length {
            for start in stretches - 1..end {
                let most = least[stretches - 1][start].0.max(sums[end] - sums[start]);
                if most < least[stretches][end].0 {
                    least[stretches][end] = (most, start);
                }
            }
        }
    }
    let mut starts = vec![0; count];
    let mut end = length;
    for stretches in (1..=count).rev() {
        end = least[stretches][end].1;
        starts[stretches - 1] = end;
    }
    starts
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn stretches_cost_about_the_same() {
        assert_eq!(cut(&[1.0; 6], 3), [0, 2, 4]);
        assert_eq!(cut(&[5.0, 1.0, 1.0, 1.0, 1.0], 2), [0, 1]);
        assert_eq!(cut(&[1.0, 1.0, 1.0, 9.0, 1.0], 3), [0, 3, 4]);
        assert_eq!(cut(&[0.0, 0.0, 3.0], 3), [0, 1, 2]);
        assert_eq!(cut(&[2.0, 1.0], 1), [0]);
    }

    #[test]
    fn a_costly_layer_has_a_stage_to_itself() {
        let dense = |name: &str, units: i64| json!({"class_name": "Dense", "config": {"name": name, "units": units}});
        let config = json!({"class_name": "Sequential", "config": {"name": "net", "layers": [
            {"class_name": "InputLayer", "config": {
                "name": "in", "batch_shape": [null, 8], "dtype": "float32"}},
            dense("a", 8), dense("b", 2000), dense("c", 2000), dense("d", 8), dense("e", 8)]}});
        let (model, _) = Model::from_config(config).unwrap();
        let mesh: config::Mesh = serde_json::from_value(json!({"pipeline": 3})).unwrap();
        let stages = stages(&model, &mesh, 64).unwrap();
        let of = |layer: &str| stages.of(layer).unwrap();
        assert_ne!(of("b"), of("c"));
        assert_ne!(of("c"), of("d"), "{stages:?}");
        let mesh = serde_json::from_value(json!({"pipeline": 6})).unwrap();
        let message = super::stages(&model, &mesh, 8).unwrap_err().to_string();
        assert!(message.contains("only be cut into 5"), "{message}");
    }
}
