//! Moments and bounds of what the initializers draw, on enough values for narrow tolerances.

use serde_json::json;

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
fn orthogonal_matrices_have_orthonormal_columns_or_rows() {
    for (rows, columns) in [(20_usize, 7_usize), (7, 20), (9, 9)] {
        let values = drawn(json!("orthogonal"), &[rows as i64, columns as i64]);
        let at = |row: usize, column: usize| f64::from(values[row * columns + column]);
        let (long, short) = (rows.max(columns), rows.min(columns));
        let vector = |i: usize, j: usize| if rows >= columns { at(j, i) } else { at(i, j) };
        for a in 0..short {
            for b in 0..short {
                let product: f64 = (0..long).map(|j| vector(a, j) * vector(b, j)).sum();
                assert_near(product, f64::from(u8::from(a == b)), 1e-6);
            }
        }
    }
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
fn an_unknown_initializer_is_named() {
    let map = Map::from_iter([("kernel_initializer".to_owned(), json!("magic"))]);
    let options = Options::new("layer \"dense\" (Dense)", &map);
    let error = Initializer::read(&options, "kernel_initializer", "zeros").unwrap_err();
    let message = error.to_string();
    assert!(message.starts_with("layer \"dense\" (Dense), kernel_initializer: initializer magic"));
    assert!(message.contains("Orthogonal"), "{message}");
}
