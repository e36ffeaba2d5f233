//! Writes one file of each format into a folder, for TensorFlow, Keras and TensorBoard to open.
//!
//! `write_samples FOLDER`; `FOLDER/config.json` is the Keras config of a Sequential model with an
//! input of 4, `Dense(3, name="first")`, `Dropout` and `Dense(2, name="last")`, compiled with Adam.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use flambeau_formats::checkpoint::Checkpoint;
use flambeau_formats::events::{EventWriter, file_name};
use flambeau_formats::example::{Feature, encode_example};
use flambeau_formats::keras_archive::{Archive, Metadata};
use flambeau_formats::tfrecord::RecordWriter;
use flambeau_formats::weights_h5::{Variables, WeightsFile};
use flambeau_formats::{Array, Result, group_names, pointer};

fn main() -> std::result::Result<(), Box<dyn Error>> {
    let folder = PathBuf::from(
        std::env::args()
            .nth(1)
            .ok_or("usage: write_samples FOLDER")?,
    );
    write_examples(&folder.join("examples.tfrecord"))?;
    write_events(&folder)?;

    let weights = weights()?;
    fs::write(folder.join("model.weights.h5"), weights.to_bytes()?)?;
    let config = fs::read_to_string(folder.join("config.json"))?;
    let archive = Archive {
        metadata: Metadata::at(0),
        config,
        weights,
        assets: BTreeMap::new(),
    };
    fs::write(folder.join("model.keras"), archive.to_bytes()?)?;

    for step in [235, 469] {
        let manifest = serde_json::json!({"epoch": 1, "loss": 0.25});
        let tensors = vec![
            ("first/kernel".into(), counting(&[4, 3])?),
            ("scalar".into(), counting(&[])?),
        ];
        pointer::commit(
            &folder,
            &Checkpoint {
                step,
                manifest,
                tensors,
            },
            2,
        )?;
    }
    Ok(())
}

fn write_examples(path: &Path) -> std::result::Result<(), Box<dyn Error>> {
    let mut records = RecordWriter::new(Vec::new());
    let mut example = Vec::new();
    for label in [-1, 0, i64::MAX] {
        example.clear();
        let features = [
            ("label", Feature::Ints(&[label])),
            ("image", Feature::Floats(&[0.5, -1.0, f32::MAX])),
            ("names", Feature::Bytes(&[b"caf\xc3\xa9", b"", b"\0\xff"])),
            ("none", Feature::Ints(&[])),
        ];
        encode_example(&features, &mut example);
        records.write(&example)?;
    }
    fs::write(path, records.into_inner())?;
    Ok(())
}

fn write_events(folder: &Path) -> std::result::Result<(), Box<dyn Error>> {
    let mut events = EventWriter::new(Vec::new(), 1.6e9)?;
    events.keras_model(1.6e9, &fs::read_to_string(folder.join("config.json"))?)?;
    for step in 0..3_u8 {
        let loss = 1.0 / f32::from(1 + step);
        let time = 1.6e9 + f64::from(step);
        events.scalar(u64::from(step), time, "loss", loss)?;
        events.scalar(u64::from(step), time, "accuracy", 1.0 - loss)?;
    }
    let name = file_name(1_600_000_000, "localhost", std::process::id(), 0);
    fs::write(folder.join(name), events.into_inner())?;
    Ok(())
}

fn weights() -> Result<WeightsFile> {
    let groups = group_names("", &["Dense", "Dropout", "Dense"]);
    let [kernel, bias] = [counting(&[4, 3])?, counting(&[3])?];
    let [last_kernel, last_bias] = [counting(&[3, 2])?, counting(&[2])?];
    let slots = [&kernel, &bias, &last_kernel, &last_bias];
    let mut optimizer = vec![Array::from(7_i64), Array::scalar(0.125)];
    optimizer.extend(
        slots
            .into_iter()
            .flat_map(|slot| [slot.clone(), slot.clone()]),
    );
    let objects = [
        Variables::new("first", vec![kernel, bias]),
        Variables::new("dropout", vec![]),
        Variables::new("last", vec![last_kernel, last_bias]),
    ];
    let optimizer = ("optimizer".into(), Variables::new("adam", optimizer));
    Ok(WeightsFile {
        groups: groups.into_iter().zip(objects).chain([optimizer]).collect(),
    })
}

/// The numbers 0, 1, 2, ... in an array of this shape.
fn counting(shape: &[usize]) -> Result<Array> {
    let count = shape.iter().product();
    let data: Vec<f32> = (0_u16..).map(f32::from).take(count).collect();
    Array::new(shape.to_vec(), data)
}
