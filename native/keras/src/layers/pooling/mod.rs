//! `keras.layers`, pooling.

pub(crate) mod adaptive;
mod global;
pub(crate) mod windowed;

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
    ("AdaptiveAveragePooling1D", adaptive::build_average),
    ("AdaptiveAveragePooling2D", adaptive::build_average),
    ("AdaptiveAveragePooling3D", adaptive::build_average),
    ("AdaptiveMaxPooling1D", adaptive::build_max),
    ("AdaptiveMaxPooling2D", adaptive::build_max),
    ("AdaptiveMaxPooling3D", adaptive::build_max),
];
