//! Keras 3 model files (`.keras`): a zip of `metadata.json`, `config.json` and `model.weights.h5`.
//!
//! Keras stores the members uncompressed and so do we; compressed ones are read too, up to limits
//! that a small hostile file cannot pass.

use std::io::{Cursor, Read, Write};

use serde::{Deserialize, Serialize};
use zip::result::ZipError;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

use crate::weights_h5::WeightsFile;
use crate::{Error, Result};

/// The Keras version whose layout this crate writes.
pub const KERAS_VERSION: &str = "3.15.1";

const METADATA: &str = "metadata.json";
const CONFIG: &str = "config.json";
const WEIGHTS: &str = "model.weights.h5";

/// The largest JSON member that is read, in bytes.
const MAX_JSON_BYTES: u64 = 64 << 20;
/// How far the weights may expand beyond the archive's own size; trained weights hardly do.
const MAX_WEIGHTS_EXPANSION: u64 = 16;

/// A model file in memory.
#[derive(Clone, Debug, PartialEq)]
pub struct Archive {
    /// Who wrote the file, and when.
    pub metadata: Metadata,
    /// The model's configuration, the JSON text of `config.json`.
    pub config: String,
    /// The variables of the layers and the optimizer.
    pub weights: WeightsFile,
}

/// The content of `metadata.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metadata {
    /// Version of Keras, such as `3.15.1`.
    pub keras_version: String,
    /// Time of writing, such as `2026-11-22@04:31:31`.
    pub date_saved: String,
}

impl Metadata {
    /// Metadata of a file written now; `seconds` is Unix time, shown as UTC.
    pub fn at(seconds: u64) -> Self {
        let (year, month, day) = civil_date(seconds / 86_400);
        let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
        let date_saved = format!("{year:04}-{month:02}-{day:02}@{hour:02}:{minute:02}:{second:02}");
        Metadata {
            keras_version: KERAS_VERSION.into(),
            date_saved,
        }
    }
}

/// Year, month and day of the proleptic Gregorian calendar, `days` after 1970-01-01.
///
/// Counts in years that begin on 1 March, so that the leap day is the last of its year.
fn civil_date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

impl Archive {
    /// Reads a `.keras` file. Members other than the three, such as `assets/`, are ignored.
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Unsupported`] or [`Error::TooLarge`] naming the member.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let mut zip = ZipArchive::new(Cursor::new(bytes))
            .map_err(|e| Error::corrupt_because("the .keras archive", e))?;
        let metadata = text(METADATA, member(&mut zip, METADATA, MAX_JSON_BYTES)?)?;
        let metadata =
            serde_json::from_str(&metadata).map_err(|e| Error::corrupt_because(METADATA, e))?;
        let config = text(CONFIG, member(&mut zip, CONFIG, MAX_JSON_BYTES)?)?;
        let limit = MAX_WEIGHTS_EXPANSION.saturating_mul(bytes.len() as u64);
        let weights = WeightsFile::from_bytes(member(&mut zip, WEIGHTS, limit)?)?;
        Ok(Archive {
            metadata,
            config,
            weights,
        })
    }

    /// The bytes of a `.keras` file that `keras.models.load_model` opens.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the weights cannot be written; the message names the group.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let weights = self.weights.to_bytes()?;
        let metadata = serde_json::to_vec(&self.metadata)
            .map_err(|e| Error::invalid(METADATA, e.to_string()))?;
        let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
        let members = [
            (METADATA, &metadata[..]),
            (CONFIG, self.config.as_bytes()),
            (WEIGHTS, &weights),
        ];
        for (name, content) in members {
            let options = SimpleFileOptions::default()
                .compression_method(CompressionMethod::Stored)
                .large_file(content.len() > u32::MAX as usize);
            zip.start_file(name, options)
                .map_err(|e| Error::invalid(name, e.to_string()))?;
            zip.write_all(content)
                .map_err(|e| Error::invalid(name, e.to_string()))?;
        }
        let zip = zip
            .finish()
            .map_err(|e| Error::invalid("the .keras archive", e.to_string()))?;
        Ok(zip.into_inner())
    }
}

/// The content of a member, whose size is checked both as declared and as it really is.
fn member(zip: &mut ZipArchive<Cursor<&[u8]>>, name: &str, limit: u64) -> Result<Vec<u8>> {
    let file = match zip.by_name(name) {
        Ok(file) => file,
        Err(ZipError::FileNotFound) => {
            let reason = format!("it holds no {name}; save the model with Keras 3 as .keras");
            return Err(Error::unsupported("the .keras archive", reason));
        }
        Err(error) => return Err(Error::corrupt_because(name, error)),
    };
    let declared = file.size();
    let mut content = Vec::new();
    if declared <= limit {
        let mut limited = file.take(limit.saturating_add(1));
        limited
            .read_to_end(&mut content)
            .map_err(|e| Error::corrupt_because(name, e))?;
    }
    let bytes = declared.max(content.len() as u64);
    if bytes > limit {
        return Err(Error::TooLarge {
            place: name.into(),
            bytes,
            limit,
        });
    }
    Ok(content)
}

fn text(name: &str, content: Vec<u8>) -> Result<String> {
    String::from_utf8(content).map_err(|e| Error::corrupt_because(name, e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Array;
    use crate::weights_h5::LayerWeights;
    use proptest::prelude::*;

    fn sample() -> Archive {
        let vars = vec![Array::new(vec![2, 2], vec![1.0, 2.0, 3.0, 4.0]).unwrap()];
        let layer = LayerWeights {
            group: "layers/dense".into(),
            name: "dense".into(),
            vars,
        };
        let weights = WeightsFile {
            layers: vec![layer],
            optimizer: None,
        };
        Archive {
            metadata: Metadata::at(0),
            config: "{\"class_name\": \"\u{fc}\"}".into(),
            weights,
        }
    }

    fn zip_of(members: &[(&str, &[u8])]) -> Vec<u8> {
        let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
        for (name, content) in members {
            let deflated = CompressionMethod::Deflated;
            zip.start_file(
                *name,
                SimpleFileOptions::default().compression_method(deflated),
            )
            .unwrap();
            zip.write_all(content).unwrap();
        }
        zip.finish().unwrap().into_inner()
    }

    #[test]
    fn what_is_written_is_read_back() {
        let archive = sample();
        assert_eq!(
            Archive::from_bytes(&archive.to_bytes().unwrap()).unwrap(),
            archive
        );
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        let saved = |seconds| Metadata::at(seconds).date_saved;
        assert_eq!(saved(0), "1970-01-01@00:00:00");
        assert_eq!(saved(951_782_399), "2000-02-28@23:59:59");
        assert_eq!(saved(951_782_400), "2000-02-29@00:00:00");
        assert_eq!(saved(4_107_542_400), "2100-03-01@00:00:00");
        assert_eq!(saved(1_795_321_891), "2026-11-22@04:31:31");
    }

    #[test]
    fn a_missing_member_is_named() {
        let bytes = zip_of(&[(METADATA, b"{\"keras_version\":\"3\",\"date_saved\":\"\"}")]);
        let message = Archive::from_bytes(&bytes).unwrap_err().to_string();
        assert_eq!(
            message,
            "the .keras archive cannot be read: it holds no config.json; save the model with \
             Keras 3 as .keras"
        );
    }

    #[test]
    fn a_member_that_expands_too_far_is_refused() {
        let bytes = zip_of(&[
            (METADATA, b"{\"keras_version\":\"3\",\"date_saved\":\"\"}"),
            (CONFIG, b"{}"),
            (WEIGHTS, &vec![0; 8 << 20]),
        ]);
        let error = Archive::from_bytes(&bytes).unwrap_err();
        assert!(matches!(error, Error::TooLarge { .. }), "{error}");
    }

    proptest! {
        #[test]
        fn damaged_archives_never_panic(at: prop::sample::Index, byte: u8) {
            let mut bytes = sample().to_bytes().unwrap();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            let _ = Archive::from_bytes(&bytes);
        }
    }
}
