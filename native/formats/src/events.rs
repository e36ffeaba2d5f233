//! TensorBoard event files: `Event` messages in TFRecord framing.
//!
//! Field numbers are those of TensorFlow's `core/util/event.proto` and
//! `core/framework/{summary,tensor}.proto`.

use std::io::Write;

use crate::Result;
use crate::protobuf::{put_bytes, put_f64, put_uint};
use crate::tfrecord::RecordWriter;

const FILE_VERSION: &str = "brain.Event:2";
const DT_FLOAT: u64 = 1;
const DT_STRING: u64 = 7;

mod field {
    pub(super) const EVENT_WALL_TIME: u32 = 1;
    pub(super) const EVENT_STEP: u32 = 2;
    pub(super) const EVENT_FILE_VERSION: u32 = 3;
    pub(super) const EVENT_SUMMARY: u32 = 5;
    pub(super) const SUMMARY_VALUE: u32 = 1;
    pub(super) const VALUE_TAG: u32 = 1;
    pub(super) const VALUE_TENSOR: u32 = 8;
    pub(super) const VALUE_METADATA: u32 = 9;
    pub(super) const METADATA_PLUGIN: u32 = 1;
    pub(super) const PLUGIN_NAME: u32 = 1;
    pub(super) const PLUGIN_CONTENT: u32 = 2;
    pub(super) const TENSOR_DTYPE: u32 = 1;
    pub(super) const TENSOR_SHAPE: u32 = 2;
    pub(super) const TENSOR_CONTENT: u32 = 4;
    pub(super) const TENSOR_STRINGS: u32 = 8;
}

/// The name TensorBoard looks for. `seconds` is Unix time; `counter` tells files of one process
/// apart that start in the same second.
pub fn file_name(seconds: u64, host: &str, process: u32, counter: u32) -> String {
    format!("events.out.tfevents.{seconds:010}.{host}.{process}.{counter}.v2")
}

/// Writes one event file. Every file has its own writer; a resumed run starts a new file.
#[derive(Debug)]
pub struct EventWriter<W> {
    records: RecordWriter<W>,
}

impl<W: Write> EventWriter<W> {
    /// Writes the version record that opens every event file. `wall_time` is Unix time in seconds.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io) from the sink.
    pub fn new(output: W, wall_time: f64) -> Result<Self> {
        let mut event = Vec::new();
        put_f64(field::EVENT_WALL_TIME, wall_time, &mut event);
        put_bytes(
            field::EVENT_FILE_VERSION,
            FILE_VERSION.as_bytes(),
            &mut event,
        );
        let mut records = RecordWriter::new(output);
        records.write(&event)?;
        Ok(EventWriter { records })
    }

    /// Writes the value of `tag` at `step`, as `tf.summary.scalar` does.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io) from the sink.
    pub fn scalar(&mut self, step: u64, wall_time: f64, tag: &str, value: f32) -> Result<()> {
        let mut tensor = scalar_of(DT_FLOAT);
        put_bytes(field::TENSOR_CONTENT, &value.to_le_bytes(), &mut tensor);
        let plugin = message(&[(field::PLUGIN_NAME, b"scalars")]);
        self.summary(step, wall_time, tag, &tensor, &plugin)
    }

    /// Writes the model whose layers TensorBoard's graph plugin shows, as Keras's JSON.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io) from the sink.
    pub fn keras_model(&mut self, wall_time: f64, json: &str) -> Result<()> {
        let mut tensor = scalar_of(DT_STRING);
        put_bytes(field::TENSOR_STRINGS, json.as_bytes(), &mut tensor);
        let plugin = message(&[
            (field::PLUGIN_NAME, b"graph_keras_model"),
            (field::PLUGIN_CONTENT, b"1"),
        ]);
        self.summary(0, wall_time, "keras", &tensor, &plugin)
    }

    /// Flushes the sink, so that TensorBoard sees all events so far.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io) from the sink.
    pub fn flush(&mut self) -> Result<()> {
        self.records.flush()
    }

    /// Hands the sink back.
    pub fn into_inner(self) -> W {
        self.records.into_inner()
    }

    fn summary(
        &mut self,
        step: u64,
        wall_time: f64,
        tag: &str,
        tensor: &[u8],
        plugin: &[u8],
    ) -> Result<()> {
        let metadata = message(&[(field::METADATA_PLUGIN, plugin)]);
        let value = message(&[
            (field::VALUE_TAG, tag.as_bytes()),
            (field::VALUE_TENSOR, tensor),
            (field::VALUE_METADATA, &metadata),
        ]);
        let mut event = Vec::new();
        put_f64(field::EVENT_WALL_TIME, wall_time, &mut event);
        put_uint(field::EVENT_STEP, step, &mut event);
        let summary = message(&[(field::SUMMARY_VALUE, &value)]);
        put_bytes(field::EVENT_SUMMARY, &summary, &mut event);
        self.records.write(&event)
    }
}

/// The head of a tensor without axes.
fn scalar_of(dtype: u64) -> Vec<u8> {
    let mut tensor = Vec::new();
    put_uint(field::TENSOR_DTYPE, dtype, &mut tensor);
    put_bytes(field::TENSOR_SHAPE, &[], &mut tensor);
    tensor
}

fn message(fields: &[(u32, &[u8])]) -> Vec<u8> {
    let mut message = Vec::new();
    for (field, bytes) in fields {
        put_bytes(*field, bytes, &mut message);
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tfrecord::RecordReader;

    #[test]
    fn a_file_opens_with_its_version_and_holds_one_record_per_event() {
        let mut writer = EventWriter::new(Vec::new(), 0.0).unwrap();
        writer.scalar(3, 1.0, "loss", 0.5).unwrap();
        let bytes = writer.into_inner();
        let mut records = RecordReader::new(&bytes[..]);
        let version = records.read().unwrap().unwrap();
        assert_eq!(version, b"\x09\0\0\0\0\0\0\0\0\x1a\x0dbrain.Event:2");
        let event = records.read().unwrap().unwrap();
        let head = b"\x09\0\0\0\0\0\0\xf0\x3f\x10\x03\x2a\x21\x0a\x1f\x0a\x04loss";
        let tensor = b"\x42\x0a\x08\x01\x12\0\x22\x04\0\0\0\x3f";
        let metadata = b"\x4a\x0b\x0a\x09\x0a\x07scalars";
        assert_eq!(event, [&head[..], tensor, metadata].concat());
        assert!(records.read().unwrap().is_none());
    }

    #[test]
    fn the_file_name_carries_time_host_process_and_counter() {
        let name = file_name(1_600_000_000, "worker-1", 42, 0);
        assert_eq!(name, "events.out.tfevents.1600000000.worker-1.42.0.v2");
    }
}
