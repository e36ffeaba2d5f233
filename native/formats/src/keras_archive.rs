//! Keras 3 model files (`.keras`): a zip of `metadata.json`, `config.json`, `model.weights.h5` and
//! `assets/`.
//!
//! Keras stores the members uncompressed and so do we; compressed ones are read too, up to limits
//! that a small hostile file cannot pass.

use std::collections::BTreeMap;
use std::io::{Cursor, Read, Seek, Write};

use serde::{Deserialize, Serialize};
use zip::result::ZipError;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

use crate::weights_h5::WeightsFile;
use crate::{Array, Error, Result, ToArray};

/// The Keras version whose layout this crate writes.
pub const KERAS_VERSION: &str = "3.15.1";

const METADATA: &str = "metadata.json";
const CONFIG: &str = "config.json";
const WEIGHTS: &str = "model.weights.h5";
const NPZ_WEIGHTS: &str = "model.weights.npz";
const ASSETS: &str = "assets/";
const PLACE: &str = "the .keras archive";

/// How far all members may expand together beyond the archive's own size; trained weights hardly
/// do, and configs are small beside them.
const MAX_EXPANSION: u64 = 32;

/// Everything in a model file; `A` is what its weights are written from.
#[derive(Clone, Debug, PartialEq)]
pub struct Archive<A = Array> {
    /// Who wrote the file, and when.
    pub metadata: Metadata,
    /// The model's configuration, the JSON text of `config.json`.
    pub config: String,
    /// The variables of the layers and the optimizer.
    pub weights: WeightsFile<A>,
    /// Files of layers that keep more than variables, by their path below `assets/`, which is the
    /// layer's group in the weights file and a name: `layers/string_lookup/vocabulary.txt`. Text
    /// vectorization has its vocabulary twice, also in its `_lookup_layer`.
    pub assets: BTreeMap<String, Vec<u8>>,
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
    /// Reads a `.keras` file. Members that Keras would not read either are skipped.
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Unsupported`] or [`Error::TooLarge`] naming the member.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let mut members = Members::open(bytes)?;
        let metadata = serde_json::from_str(&members.text(METADATA)?)
            .map_err(|e| Error::corrupt_because(METADATA, e))?;
        let config = members.text(CONFIG)?;
        if !members.has(WEIGHTS) && members.has(NPZ_WEIGHTS) {
            let reason = "weights are read from HDF5 only; save the model with Keras's defaults";
            return Err(Error::unsupported(NPZ_WEIGHTS, reason));
        }
        let assets = members.assets()?;
        let weights = members.content(WEIGHTS)?;
        // What the variables expand to is bounded by the archive's size as the members are.
        let weights = WeightsFile::within(weights, members.limit)?;
        Ok(Archive {
            metadata,
            config,
            weights,
            assets,
        })
    }
}

impl<A: ToArray> Archive<A> {
    /// The bytes of a `.keras` file that `keras.models.load_model` opens.
    ///
    /// # Errors
    /// As [`Archive::write`].
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let mut bytes = Cursor::new(Vec::new());
        self.write(&mut bytes)?;
        Ok(bytes.into_inner())
    }

    /// Writes a `.keras` file that `keras.models.load_model` opens, one array after the other.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the weights or assets cannot be written; the message names the group
    /// or the asset. [`Error::Io`] from the sink; those of the arrays.
    pub fn write(&self, sink: impl Write + Seek) -> Result<()> {
        let metadata = serde_json::to_vec(&self.metadata)
            .map_err(|e| Error::invalid(METADATA, e.to_string()))?;
        let mut zip = ZipWriter::new(sink);
        add(&mut zip, METADATA, &metadata)?;
        add(&mut zip, CONFIG, self.config.as_bytes())?;
        start(&mut zip, WEIGHTS, self.weights.length()?)?;
        self.weights.write(&mut zip)?;
        for (name, content) in &self.assets {
            if !is_plain_path(name) {
                let reason = "its name must be a relative path of plain parts";
                return Err(Error::invalid(format!("asset {name:?}"), reason));
            }
            add(&mut zip, &format!("{ASSETS}{name}"), content)?;
        }
        let finished = zip.finish();
        finished.map_err(|error| unwritten(PLACE, error))?;
        Ok(())
    }
}

/// Begins a member of `length` bytes.
fn start(zip: &mut ZipWriter<impl Write + Seek>, name: &str, length: u64) -> Result<()> {
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Stored)
        .large_file(u32::try_from(length).is_err());
    zip.start_file(name, options)
        .map_err(|error| unwritten(name, error))
}

fn add(zip: &mut ZipWriter<impl Write + Seek>, name: &str, content: &[u8]) -> Result<()> {
    start(zip, name, content.len() as u64)?;
    zip.write_all(content)
        .map_err(|error| unwritten(name, error.into()))
}

fn unwritten(place: &str, error: ZipError) -> Error {
    match error {
        ZipError::Io(source) => Error::io(format!("writing {place}"), source),
        error => Error::invalid(place, error.to_string()),
    }
}

/// Whether `name` leads to a place below the folder it is taken in, on every system.
fn is_plain_path(name: &str) -> bool {
    let plain = |part: &str| !matches!(part, "" | "." | "..");
    name.split('/').all(plain) && !name.contains(['\\', ':', '\0'])
}

/// The members of a zip archive, and how many bytes they may expand to, together and still.
struct Members<'a> {
    zip: ZipArchive<Cursor<&'a [u8]>>,
    limit: u64,
    bytes_left: u64,
}

impl<'a> Members<'a> {
    fn open(bytes: &'a [u8]) -> Result<Self> {
        let zip =
            ZipArchive::new(Cursor::new(bytes)).map_err(|e| Error::corrupt_because(PLACE, e))?;
        let limit = MAX_EXPANSION.saturating_mul(bytes.len() as u64);
        Ok(Members {
            zip,
            limit,
            bytes_left: limit,
        })
    }

    fn has(&self, name: &str) -> bool {
        self.zip.index_for_name(name).is_some()
    }

    /// The content of a member, whose size is checked both as declared and as it really is.
    fn content(&mut self, name: &str) -> Result<Vec<u8>> {
        let limit = self.bytes_left;
        let file = match self.zip.by_name(name) {
            Ok(file) => file,
            Err(ZipError::FileNotFound) => {
                let reason = format!("it holds no {name}; save the model with Keras 3 as .keras");
                return Err(Error::unsupported(PLACE, reason));
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
        self.bytes_left -= bytes;
        Ok(content)
    }

    fn text(&mut self, name: &str) -> Result<String> {
        String::from_utf8(self.content(name)?).map_err(|e| Error::corrupt_because(name, e))
    }

    fn assets(&mut self) -> Result<BTreeMap<String, Vec<u8>>> {
        let mut names = Vec::new();
        for member in self.zip.file_names() {
            let member = member.map_err(|e| Error::corrupt_because(PLACE, e))?;
            match member.strip_prefix(ASSETS) {
                Some(name) if !member.ends_with('/') => names.push(name.to_owned()),
                _ => {}
            }
        }
        let mut assets = BTreeMap::new();
        for name in names {
            let member = format!("{ASSETS}{name}");
            if !is_plain_path(&name) {
                return Err(Error::corrupt(member, "its name leads out of the folder"));
            }
            let content = self.content(&member)?;
            assets.insert(name, content);
        }
        Ok(assets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Array;
    use crate::weights_h5::Variables;
    use proptest::prelude::*;

    fn sample() -> Archive {
        let kernel = Array::new(vec![2, 2], [1.0_f32, 2.0, 3.0, 4.0]).unwrap();
        let dense = ("layers/dense".into(), Variables::new("dense", vec![kernel]));
        Archive {
            metadata: Metadata::at(0),
            config: "{\"class_name\": \"\u{fc}\"}".into(),
            weights: WeightsFile {
                groups: [dense].into(),
            },
            assets: [
                ("layers/string_lookup/vocabulary.txt", &b"a\nb\n"[..]),
                ("empty", b""),
            ]
            .map(|(name, content)| (name.to_owned(), content.to_vec()))
            .into(),
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

    #[test]
    fn assets_stay_in_their_folder() {
        for name in [
            "../x", "/x", "a//b", "a/./b", "..", "a\\..\\b", "C:x", "", "a/..",
        ] {
            let mut archive = sample();
            archive.assets = [(name.to_owned(), Vec::new())].into();
            let error = archive.to_bytes().unwrap_err();
            assert!(matches!(error, Error::Invalid { .. }), "{name}: {error}");
        }
        let bytes = zip_of(&[
            (METADATA, b"{\"keras_version\":\"3\",\"date_saved\":\"\"}"),
            (CONFIG, b"{}"),
            ("assets/../../x", b"x"),
        ]);
        let error = Archive::from_bytes(&bytes).unwrap_err();
        assert!(matches!(error, Error::Corrupt { .. }), "{error}");
    }

    #[test]
    fn weights_that_are_not_hdf5_are_refused_by_name() {
        let bytes = zip_of(&[
            (METADATA, b"{\"keras_version\":\"3\",\"date_saved\":\"\"}"),
            (CONFIG, b"{}"),
            (NPZ_WEIGHTS, b"PK"),
        ]);
        let message = Archive::from_bytes(&bytes).unwrap_err().to_string();
        assert!(
            message.starts_with("model.weights.npz cannot be read"),
            "{message}"
        );
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
