//! Operations whose results are complex numbers, which no value of a model is here.

use super::Family;
use crate::error::Error;

pub(super) const OPS: Family = &[("Polar", |scope| {
    Err(Error::Unsupported {
        place: scope.options.place().to_owned(),
        what: "a result of complex numbers".to_owned(),
        supported: "real numbers: cos and sin of the angle, multiplied by the length".to_owned(),
    })
})];
