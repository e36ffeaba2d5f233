//! `keras.layers`, pooling.

mod global;
mod windowed;

pub(crate) use self::windowed::is_max_pooling;
use super::Family;

pub(super) const LAYERS: Family = &[
    ("MaxPooling1D", windowed::build_max),
    ("MaxPooling2D", windowed::build_max),
    ("MaxPooling3D", windowed::build_max),
    ("AveragePooling1D", windowed::build_average),
    ("AveragePooling2D", windowed::build_average),
    ("AveragePooling3D", windowed::build_average),
    ("GlobalAveragePooling1D", global::build_average),
    ("GlobalAveragePooling2D", global::build_average),
    ("GlobalAveragePooling3D", global::build_average),
    ("GlobalMaxPooling1D", global::build_max),
    ("GlobalMaxPooling2D", global::build_max),
    ("GlobalMaxPooling3D", global::build_max),
];
