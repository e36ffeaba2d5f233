//! Moments and bounds of what the initializers draw, on enough values for narrow tolerances.

use serde_json::{Map, json};

use super::distribution::TRUNCATED_STDDEV;
use super::*;

fn drawn(config: Value, shape: &[i64]) -> Vec<f32> {
    let mut out = vec![f32::NAN; usize::try_from(shape.iter().product::<i64>()).unwrap()];
    let map = Map::from_iter([("kernel_initializer".to_owned(), config)]);
    let options = Options::new("layer \"dense\" (Dense)", &map);
    let initializer = Initializer::read(&options, "kernel_initializer", "zeros").unwrap();
    initializer
        .fill(shape, "dense/kernel", 7, &mut out)
        .unwrap();
    out
}

fn moments(values: &[f32]) -> (f64, f64, f64) {
    let count = values.len() as f64;
    let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / count;
    let variance = values
        .iter()
        .map(|&v| (f64::from(v) - mean).powi(2))
        .sum::<f64>()
        / count;
    let bound = values
        .iter()
        .fold(0.0_f64, |bound, &v| bound.max(f64::from(v).abs()));
    (mean, variance.sqrt(), bound)
}

#[track_caller]
fn assert_near(actual: f64, expected: f64, tolerance: f64) {
    assert!(
        (actual - expected).abs() <= tolerance,
        "{actual} is not {expected} +- {tolerance}"
    );
}

#[test]
fn variance_scalings_have_the_deviation_of_their_fans() {
    // A 3x3 kernel of 100 inputs and 50 filters: fan in 900, fan out 450.
    let shape = [3, 3, 100, 50];
    let cases = [
        ("GlorotUniform", 2.0 / 1350.0, true),
        ("glorot_normal", 2.0 / 1350.0, false),
        ("HeUniform", 2.0 / 900.0, true),
        ("he_normal", 2.0 / 900.0, false),
        ("LecunUniform", 1.0 / 900.0, true),
        ("lecun_normal", 1.0 / 900.0, false),
    ];
    for (name, variance, is_uniform) in cases {
        let (mean, stddev, bound) = moments(&drawn(json!(name), &shape));
        let expected = f64::sqrt(variance);
        assert_near(mean, 0.0, 0.02 * expected);
        assert_near(stddev, expected, 0.01 * expected);
        let limit = if is_uniform {
            3.0_f64.sqrt()
        } else {
            2.0 / TRUNCATED_STDDEV
        };
        assert_near(bound, limit * expected, 0.01 * expected);
    }
}

#[test]
fn variance_scaling_reads_mode_and_distribution() {
    let config = json!({"module": "keras.initializers", "class_name": "VarianceScaling", "config":
        {"scale": 3.0, "mode": "fan_out", "distribution": "untruncated_normal", "seed": null}});
    let (_, stddev, bound) = moments(&drawn(config, &[100, 300]));
    assert_near(stddev, 0.1, 0.002);
    assert!(
        bound > 0.35,
        "an untruncated normal reaches beyond 3.5 deviations: {bound}"
    );
}

#[test]
fn plain_distributions_have_their_parameters() {
    let config = |class: &str, config: Value| json!({"class_name": class, "config": config});
    let uniform = drawn(
        config("RandomUniform", json!({"minval": -1.0, "maxval": 3.0})),
        &[50_000],
    );
    let (mean, stddev, bound) = moments(&uniform);
    assert_near(mean, 1.0, 0.02);
    assert_near(stddev, 4.0 / 12.0_f64.sqrt(), 0.01);
    assert!(bound <= 3.0);
    let normal = drawn(
        config("RandomNormal", json!({"mean": 2.0, "stddev": 0.5})),
        &[50_000],
    );
    let (mean, stddev, _) = moments(&normal);
    assert_near(mean, 2.0, 0.01);
    assert_near(stddev, 0.5, 0.01);
    let truncated = drawn(config("TruncatedNormal", json!({"stddev": 0.5})), &[50_000]);
    let (_, stddev, bound) = moments(&truncated);
    assert_near(stddev, 0.5 * TRUNCATED_STDDEV, 0.005);
    assert!(bound <= 1.0);
}

#[test]
fn constants_and_identities_are_exact() {
    assert_eq!(drawn(json!("ones"), &[3]), [1.0; 3]);
    let constant = json!({"class_name": "Constant", "config": {"value": 0.25}});
    assert_eq!(drawn(constant, &[2]), [0.25; 2]);
    assert_eq!(
        drawn(json!("identity"), &[2, 3]),
        [1.0, 0.0, 0.0, 0.0, 1.0, 0.0]
    );
    assert_eq!(
        drawn(json!("identity"), &[3, 2]),
        [1.0, 0.0, 0.0, 1.0, 0.0, 0.0]
    );
}

#[test]
fn constants_are_broadcast_as_arrays() {
    let constant = |value: Value| json!({"class_name": "Constant", "config": {"value": value}});
    let row = constant(json!([1, 2.5, -3]));
    assert_eq!(drawn(row, &[2, 3]), [1.0, 2.5, -3.0, 1.0, 2.5, -3.0]);
    let column = constant(json!([[1], [2]]));
    assert_eq!(drawn(column, &[2, 2]), [1.0, 1.0, 2.0, 2.0]);
    let value = json!({"class_name": "__numpy__", "config":
        {"value": [[[1.0, 2.0]], [[3.0, 4.0]]], "dtype": "float64"}});
    let values = [1.0, 2.0, 1.0, 2.0, 3.0, 4.0, 3.0, 4.0];
    assert_eq!(drawn(constant(value), &[2, 2, 2]), values);
}

#[test]
fn null_is_keras_default_of_a_variable_and_not_the_layers() {
    let (_, stddev, bound) = moments(&drawn(Value::Null, &[100, 200]));
    let limit = f64::sqrt(6.0 / 300.0);
    assert_near(stddev, limit / 3.0_f64.sqrt(), 0.001);
    assert_near(bound, limit, 0.001);
}

#[test]
fn fans_follow_explicit_axes() {
    let config = |class: &str, axes: Value| json!({"class_name": class, "config": axes});
    // Inputs of axes 0 and 3, outputs of axis 1.
    let axes = json!({"input_axes": [0, -1], "output_axes": [1], "seed": null});
    let (_, stddev, _) = moments(&drawn(
        config("LecunUniform", axes.clone()),
        &[10, 50, 20, 30],
    ));
    assert_near(stddev, f64::sqrt(1.0 / 300.0), 0.0002);
    let (_, stddev, _) = moments(&drawn(config("GlorotNormal", axes), &[10, 50, 20, 30]));
    assert_near(stddev, f64::sqrt(2.0 / 350.0), 0.0003);
    // One without the other is nothing.
    let inputs = json!({"input_axes": [0], "output_axes": null});
    let (_, stddev, _) = moments(&drawn(config("HeNormal", inputs), &[10, 50, 20, 30]));
    assert_near(stddev, f64::sqrt(2.0 / 10_000.0), 0.0002);
}

#[test]
fn orthogonal_matrices_have_orthonormal_columns_or_rows() {
    for (rows, columns) in [
        (20_usize, 7_usize),
        (7, 20),
        (9, 9),
        (90, 90),
        (17, 1),
        (1, 5),
    ] {
        let config = json!({"class_name": "Orthogonal", "config": {"gain": 2.0}});
        let values = drawn(config, &[rows as i64, columns as i64]);
        let at = |row: usize, column: usize| f64::from(values[row * columns + column]);
        let (long, short) = (rows.max(columns), rows.min(columns));
        let vector = |i: usize, j: usize| if rows >= columns { at(j, i) } else { at(i, j) };
        for a in 0..short {
            for b in 0..short {
                let product: f64 = (0..long).map(|j| vector(a, j) * vector(b, j)).sum();
                assert_near(product, if a == b { 4.0 } else { 0.0 }, 2e-6);
            }
        }
    }
}

#[test]
fn orthogonal_matrices_point_anywhere() {
    // The first element of a uniformly distributed unit vector of 8 elements has variance 1/8.
    let first = (0..2000).map(|seed| {
        let config = json!({"class_name": "Orthogonal", "config": {"seed": seed}});
        drawn(config, &[2, 2, 2, 8])[63]
    });
    let (mean, stddev, _) = moments(&first.collect::<Vec<_>>());
    assert_near(mean, 0.0, 0.03);
    assert_near(stddev, f64::sqrt(1.0 / 8.0), 0.02);
}

#[test]
fn seeds_are_integers_or_seed_generators() {
    let seeded = |seed: Value| {
        let config = json!({"class_name": "RandomNormal", "config": {"seed": seed}});
        drawn(config, &[4])
    };
    let generator = |seed: Value| {
        json!({"module": "keras.random", "class_name": "SeedGenerator", "registered_name": null,
            "config": {"seed": seed, "name": "seed_generator"}})
    };
    assert_ne!(seeded(json!(-3)), seeded(json!(3)));
    assert_ne!(seeded(json!(-3)), seeded(Value::Null));
    // Keras takes the low 32 bits.
    assert_eq!(seeded(json!(-3)), seeded(json!((1_i64 << 32) - 3)));
    assert_eq!(seeded(generator(json!(-3))), seeded(json!(-3)));
    assert_eq!(seeded(generator(Value::Null)), seeded(Value::Null));
}

#[test]
fn values_depend_on_seed_and_path_only_unless_the_initializer_is_seeded() {
    let fill = |config: Value, path: &str, seed| {
        let map = Map::from_iter([("kernel_initializer".to_owned(), config)]);
        let options = Options::new("layer", &map);
        let initializer = Initializer::read(&options, "kernel_initializer", "zeros").unwrap();
        let mut out = [0.0; 4];
        initializer.fill(&[2, 2], path, seed, &mut out).unwrap();
        out
    };
    let plain = || json!("glorot_uniform");
    assert_eq!(fill(plain(), "a/kernel", 1), fill(plain(), "a/kernel", 1));
    assert_ne!(fill(plain(), "a/kernel", 1), fill(plain(), "b/kernel", 1));
    assert_ne!(fill(plain(), "a/kernel", 1), fill(plain(), "a/kernel", 2));
    let seeded = || json!({"class_name": "GlorotUniform", "config": {"seed": 3}});
    assert_eq!(fill(seeded(), "a/kernel", 1), fill(seeded(), "b/kernel", 2));
}

#[test]
fn what_keras_does_not_take_is_refused_by_name() {
    let refused = [
        (json!("magic"), "initializer magic is not supported"),
        (
            json!({"class_name": "Ones", "config": {"value": 1}}),
            "value = 1",
        ),
        (
            json!({"class_name": "Zeros", "config": {"seed": 1}}),
            "seed = 1",
        ),
        (
            json!({"class_name": "Constant", "config": {"value": null}}),
            "value = null",
        ),
        (
            json!({"class_name": "Constant", "config": {"value": [[1], 2]}}),
            "value = [[1],2]",
        ),
        (
            json!({"class_name": "Constant", "config": {"value": [[1], [2, 3]]}}),
            "value =",
        ),
        (
            json!({"class_name": "RandomUniform", "config": {"minval": null}}),
            "minval = null",
        ),
        (
            json!({"class_name": "RandomNormal", "config": {"seed": 1.5}}),
            "seed = 1.5",
        ),
        (
            json!({"class_name": "HeNormal", "config": {"scale": 1.0}}),
            "scale = 1.0",
        ),
        (
            json!({"class_name": "VarianceScaling", "config": {"scale": 0}}),
            "scale = 0",
        ),
        (
            json!({"class_name": "VarianceScaling", "config": {"mode": "fan"}}),
            "mode = \"fan\"",
        ),
        (
            json!({"class_name": "VarianceScaling", "config": {"distribution": "cauchy"}}),
            "distribution = \"cauchy\"",
        ),
        (
            json!({"class_name": "HeNormal", "config": {"input_axes": 1}}),
            "input_axes = 1",
        ),
        (
            json!({"module": "mine", "class_name": "Zeros", "config": {}}),
            "Zeros of module \"mine\"",
        ),
    ];
    for (value, what) in refused {
        let map = Map::from_iter([("kernel_initializer".to_owned(), value)]);
        let options = Options::new("layer \"dense\" (Dense)", &map);
        let error = Initializer::read(&options, "kernel_initializer", "zeros").unwrap_err();
        let message = error.to_string();
        let place = "layer \"dense\" (Dense), kernel_initializer";
        assert!(message.starts_with(place), "{message}");
        assert!(message.contains(what), "{message}");
    }
}

#[test]
fn shapes_that_keras_refuses_are_errors() {
    let refused = [
        (json!("identity"), vec![2, 2, 2]),
        (json!("orthogonal"), vec![2]),
        (
            json!({"class_name": "Constant", "config": {"value": [1, 2]}}),
            vec![3],
        ),
        (
            json!({"class_name": "Constant", "config": {"value": [[1, 2]]}}),
            vec![2],
        ),
        (
            json!({"class_name": "HeNormal", "config": {"input_axes": [2], "output_axes": [0]}}),
            vec![2, 2],
        ),
    ];
    for (config, shape) in refused {
        let initializer = Initializer::from_config(&config, "bias_initializer").unwrap();
        let mut out = vec![0.0; 8];
        let error = initializer
            .fill(&shape, "dense/bias", 1, &mut out)
            .unwrap_err();
        assert!(error.to_string().contains("dense/bias"), "{error}");
    }
}

#[test]
fn a_part_is_that_of_the_whole() {
    let shape = [7, 5];
    for name in [
        "zeros",
        "ones",
        "RandomUniform",
        "RandomNormal",
        "TruncatedNormal",
        "GlorotUniform",
        "HeNormal",
        "Orthogonal",
        "Identity",
    ] {
        let initializer = Initializer::from_config(&json!(name), "layer").unwrap();
        let mut whole = [f32::NAN; 35];
        initializer.fill(&shape, "a/b", 3, &mut whole).unwrap();
        for range in [0..35, 0..10, 15..20, 30..35, 5..5] {
            let mut part = vec![f32::NAN; range.len()];
            initializer
                .fill_part(&shape, "a/b", 3, range.clone(), &mut part)
                .unwrap();
            assert_eq!(part, whole[range], "{name}");
        }
    }
}
