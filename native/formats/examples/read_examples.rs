//! Prints each tf.train.Example of a TFRecord file as one line of JSON; byte strings as numbers.

use std::error::Error;
use std::fs::File;
use std::io::{BufReader, Write};

use flambeau_formats::example::{FeatureValues, decode_example};
use flambeau_formats::tfrecord::RecordReader;
use serde_json::{Map, Value, json};

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args()
        .nth(1)
        .ok_or("usage: read_examples FILE.tfrecord")?;
    let mut records = RecordReader::new(BufReader::new(File::open(path)?));
    let mut output = std::io::stdout().lock();
    while let Some(record) = records.read()? {
        let features: Map<String, Value> = (decode_example(record)?.iter())
            .map(|(name, values)| ((*name).to_owned(), to_json(values)))
            .collect();
        writeln!(output, "{}", Value::Object(features))?;
    }
    Ok(())
}

fn to_json(values: &FeatureValues<'_>) -> Value {
    match values {
        FeatureValues::Missing => Value::Null,
        FeatureValues::Bytes(items) => json!({"bytes": items}),
        FeatureValues::Floats(items) => json!({"floats": items}),
        FeatureValues::Ints(items) => json!({"ints": items}),
    }
}
