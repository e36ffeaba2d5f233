//! What features records have, to derive a schema from.

use std::collections::BTreeMap;

use super::{RecordType, Refusal};
use crate::Result;
use crate::example::Kind;
use crate::example::walk::{Run, feature_lists, features, lists, runs, steps};
use crate::protobuf::Message;
use crate::tfrecord::Record;

/// What is known of one feature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeatureSummary {
    /// None as long as no record gave it a kind.
    pub kind: Option<Kind>,
    /// Whether every byte string is UTF-8.
    pub utf8: bool,
    /// The most values that a record has of it; in a feature list, that one of its features has.
    pub max_values: usize,
}

/// Looks at records of one type.
#[derive(Debug)]
pub struct SchemaInference {
    record_type: RecordType,
    records: u64,
    features: Summaries,
    feature_lists: Summaries,
}

type Summaries = BTreeMap<String, FeatureSummary>;

impl SchemaInference {
    /// No record seen.
    pub fn new(record_type: RecordType) -> Self {
        SchemaInference {
            record_type,
            records: 0,
            features: Summaries::new(),
            feature_lists: Summaries::new(),
        }
    }

    /// Looks at a record.
    ///
    /// # Errors
    /// [`Error::Corrupt`](crate::Error::Corrupt) for bytes that are no such message,
    /// [`Error::Unfit`](crate::Error::Unfit) for a feature of two kinds.
    pub fn add(&mut self, record: &Record<'_>) -> Result<()> {
        self.look(record.bytes)
            .map_err(|refusal| refusal.at(record, self.record_type))?;
        self.records += 1;
        Ok(())
    }

    /// Records looked at.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// The features of examples, or of the contexts of sequence examples, by name.
    pub fn features(&self) -> &BTreeMap<String, FeatureSummary> {
        &self.features
    }

    /// The feature lists of sequence examples, by name.
    pub fn feature_lists(&self) -> &BTreeMap<String, FeatureSummary> {
        &self.feature_lists
    }

    fn look(&mut self, record: &[u8]) -> std::result::Result<(), Refusal> {
        if self.record_type == RecordType::ByteArray {
            return Ok(());
        }
        features::<Refusal>(record, |name, parts| {
            summary(&mut self.features, name).add(name, parts)
        })?;
        if self.record_type == RecordType::SequenceExample {
            feature_lists::<Refusal>(record, |name, parts| {
                let summary = summary(&mut self.feature_lists, name);
                steps(parts, |feature| summary.add(name, feature))
            })?;
        }
        Ok(())
    }
}

fn summary<'s>(summaries: &'s mut Summaries, name: &str) -> &'s mut FeatureSummary {
    summaries.entry(name.to_owned()).or_default()
}

impl Default for FeatureSummary {
    fn default() -> Self {
        FeatureSummary {
            kind: None,
            utf8: true,
            max_values: 0,
        }
    }
}

impl FeatureSummary {
    fn add(&mut self, name: &str, parts: &[Message<'_>]) -> std::result::Result<(), Refusal> {
        let found = lists(parts, |kind, lists| {
            let known = *self.kind.get_or_insert(kind);
            if known != kind {
                return Err(Refusal::Unfit {
                    feature: name.to_owned(),
                    reason: format!(
                        "it is of kind {}, but of kind {} in a record before; give a schema",
                        kind.name(),
                        known.name()
                    ),
                });
            }
            let mut count = 0;
            runs::<Refusal>(kind, lists, |run| {
                match run {
                    Run::Bytes(item) => {
                        self.utf8 = self.utf8 && str::from_utf8(item).is_ok();
                        count += 1;
                    }
                    Run::Floats(items) => count += items.len(),
                    Run::Float(_) | Run::Int(_) => count += 1,
                    Run::Ints(packed) => {
                        // Every integer ends with the one byte whose highest bit is unset.
                        let ends = packed.bytes().iter().filter(|&&byte| byte < 0x80);
                        count += ends.count();
                    }
                }
                Ok(())
            })?;
            Ok(count)
        })?;
        let count = found.unwrap_or(0);
        self.max_values = self.max_values.max(count);
        Ok(())
    }
}
