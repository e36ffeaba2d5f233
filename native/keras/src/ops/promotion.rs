//! Keras's promotion of dtypes (`keras.backend.result_type` on TensorFlow): the least upper bound
//! in JAX's lattice, in which Python's numbers are weak. Unsigned integers above 8 bits are held as
//! int64 here.

use tch::Kind;

use super::operand::Checked;
use crate::dtype::{DType, is_float};

/// The dtype of an operand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Type {
    /// Of a tensor or a boolean.
    Strong(Kind),
    /// Of a Python integer: any integer or floating-point dtype beside it wins.
    Int,
    /// Of a Python float: any floating-point dtype beside it wins.
    Float,
}

impl Type {
    /// Its height in the lattice; one of two types at the same height is not above the other.
    fn height(self) -> u8 {
        match self {
            Self::Strong(Kind::Bool) => 0,
            Self::Int => 1,
            Self::Strong(Kind::Uint8 | Kind::Int8) => 2,
            Self::Strong(Kind::Int16) => 3,
            Self::Strong(Kind::Int) => 4,
            Self::Strong(Kind::Int64) => 5,
            Self::Float => 6,
            Self::Strong(Kind::BFloat16 | Kind::Half) => 7,
            Self::Strong(Kind::Double) => 9,
            Self::Strong(_) => 8,
        }
    }

    /// The least type above both.
    fn join(self, other: Self) -> Self {
        match (self.height(), other.height()) {
            (2, 2) if self != other => Self::Strong(Kind::Int16),
            (7, 7) if self != other => Self::Strong(Kind::Float),
            (a, b) if a < b => other,
            _ => self,
        }
    }

    /// What a tensor of this type has: Python's numbers alone become int32 and float32.
    pub(super) fn kind(self) -> Kind {
        match self {
            Self::Strong(kind) => kind,
            Self::Int => Kind::Int,
            Self::Float => Kind::Float,
        }
    }
}

/// The dtype of a result of operands of these types, of which there is one at least.
pub(super) fn result_type(types: &[Type]) -> Kind {
    let joined = types.iter().copied().reduce(Type::join);
    joined.unwrap_or(Type::Float).kind()
}

/// `result_type(kind, float)`: floating-point dtypes stay, others become float32.
pub(super) fn floating(kind: Kind) -> Kind {
    result_type(&[Type::Strong(kind), Type::Float])
}

/// `result_type(kind, "float32")`: what sums over half precision are computed in.
pub(super) fn at_least_float32(kind: Kind) -> Kind {
    result_type(&[Type::Strong(kind), Type::Strong(Kind::Float)])
}

/// What Keras sums small integers in, so that they do not overflow.
pub(super) fn summed(kind: Kind) -> Kind {
    match kind {
        Kind::Bool | Kind::Int8 | Kind::Int16 => Kind::Int,
        Kind::Uint8 => Kind::Int64,
        other => other,
    }
}

/// The dtype that NumPy gives a result: integers that a floating-point dtype cannot hold widen it,
/// and Python's numbers become int64 and float64 beside dtypes that have none such.
pub(super) fn numpy_type(types: &[Type]) -> Checked<Kind> {
    let mut joined: Option<Kind> = None;
    for each in types {
        if let Type::Strong(kind) = *each {
            joined = Some(joined.map_or(Ok(kind), |other| numpy_pair(other, kind))?);
        }
    }
    let kind = joined.unwrap_or(Kind::Bool);
    if types.contains(&Type::Float) && (!is_float(kind) || kind == Kind::BFloat16) {
        return Ok(Kind::Double);
    }
    if types.contains(&Type::Int) && kind == Kind::Bool {
        return Ok(Kind::Int64);
    }
    Ok(kind)
}

fn numpy_pair(a: Kind, b: Kind) -> Checked<Kind> {
    let (float, other) = if is_float(a) { (a, b) } else { (b, a) };
    match (float, other) {
        (Kind::Double, _) => Ok(Kind::Double),
        (Kind::Half, Kind::BFloat16)
        | (Kind::BFloat16, Kind::Half | Kind::Int16 | Kind::Int | Kind::Int64) => {
            let (a, b) = (DType::Tensor(a), DType::Tensor(b));
            Err(format!(
                "cannot promote {a} and {b}, which NumPy has no dtype for"
            ))
        }
        (Kind::Half, Kind::Int16) => Ok(Kind::Float),
        (Kind::Half | Kind::Float, Kind::Int | Kind::Int64) => Ok(Kind::Double),
        _ => Ok(result_type(&[Type::Strong(a), Type::Strong(b)])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_promote_as_in_keras() {
        use Type::{Float, Int, Strong};
        let cases = [
            // Taken from keras.backend.result_type.
            (vec![Strong(Kind::Bool), Int], Kind::Int),
            (vec![Strong(Kind::Uint8), Int], Kind::Uint8),
            (vec![Strong(Kind::Uint8), Strong(Kind::Int8)], Kind::Int16),
            (vec![Strong(Kind::Int64), Float], Kind::Float),
            (vec![Strong(Kind::Int64), Strong(Kind::Half)], Kind::Half),
            (vec![Strong(Kind::Half), Float, Int], Kind::Half),
            (
                vec![Strong(Kind::Half), Strong(Kind::BFloat16)],
                Kind::Float,
            ),
            (vec![Strong(Kind::Int), Strong(Kind::Double)], Kind::Double),
            (vec![Int, Int], Kind::Int),
            (vec![Int, Float], Kind::Float),
        ];
        for (types, expected) in cases {
            assert_eq!(result_type(&types), expected, "{types:?}");
        }
        assert_eq!(floating(Kind::Bool), Kind::Float);
        assert_eq!(at_least_float32(Kind::BFloat16), Kind::Float);
    }
}
