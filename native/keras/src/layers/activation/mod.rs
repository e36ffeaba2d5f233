//! The layers that are only an activation.

mod p_relu;
mod plain;
mod softmax;

pub(crate) use self::plain::is_plain;
use super::Family;

pub(super) const LAYERS: Family = &[
    ("Activation", plain::build),
    ("ReLU", plain::build),
    ("LeakyReLU", plain::build),
    ("ELU", plain::build),
    ("PReLU", p_relu::build),
    ("Softmax", softmax::build),
];
