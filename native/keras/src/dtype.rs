//! Keras's dtypes as libtorch computes in them, and the dtype policy of a layer.

use tch::Kind;

use crate::config::Options;
use crate::error::Result;

/// The type of a value's elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DType {
    /// Numbers or booleans in a tensor.
    Tensor(Kind),
    /// Byte strings, which no tensor holds; lookup and text layers take them.
    String,
}

impl DType {
    /// Keras's default.
    pub const FLOAT32: Self = Self::Tensor(Kind::Float);
    /// What ids and counts are computed in.
    pub const INT64: Self = Self::Tensor(Kind::Int64);
    /// Masks and comparisons.
    pub const BOOL: Self = Self::Tensor(Kind::Bool);

    /// Keras's name of it; `None` for a dtype that libtorch does not compute in. Unsigned
    /// integers wider than 8 bits are held as int64, which has all of their values up to 2^63.
    pub fn from_name(name: &str) -> Option<Self> {
        let kind = match name {
            "float32" => Kind::Float,
            "float16" => Kind::Half,
            "bfloat16" => Kind::BFloat16,
            "float64" => Kind::Double,
            "int8" => Kind::Int8,
            "int16" => Kind::Int16,
            "int32" => Kind::Int,
            "int64" | "uint16" | "uint32" | "uint64" => Kind::Int64,
            "uint8" => Kind::Uint8,
            "bool" => Kind::Bool,
            "string" => return Some(Self::String),
            _ => return None,
        };
        Some(Self::Tensor(kind))
    }

    /// Keras's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::Tensor(kind) => match kind {
                Kind::Float => "float32",
                Kind::Half => "float16",
                Kind::BFloat16 => "bfloat16",
                Kind::Double => "float64",
                Kind::Int8 => "int8",
                Kind::Int16 => "int16",
                Kind::Int => "int32",
                Kind::Int64 => "int64",
                Kind::Uint8 => "uint8",
                Kind::Bool => "bool",
                _ => "an unknown dtype",
            },
        }
    }

    /// Whether it is a floating-point dtype.
    pub fn is_float(self) -> bool {
        matches!(self, Self::Tensor(kind) if is_float(kind))
    }

    /// The tensor's kind; `None` for strings.
    pub fn kind(self) -> Option<Kind> {
        match self {
            Self::Tensor(kind) => Some(kind),
            Self::String => None,
        }
    }
}

impl std::fmt::Display for DType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// Whether `kind` is a floating-point kind.
pub(crate) fn is_float(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::Float | Kind::Half | Kind::BFloat16 | Kind::Double
    )
}

/// Keras's `DTypePolicy`: what a layer computes in, and what its variables are kept in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Policy {
    /// Floating-point inputs and variables are cast to it for a call; integer policies cast
    /// nothing.
    pub(crate) compute: DType,
    /// What variables are kept in.
    pub(crate) variable: DType,
}

impl Policy {
    pub(crate) const FLOAT32: Self = Self {
        compute: DType::FLOAT32,
        variable: DType::FLOAT32,
    };

    /// Reads option `dtype`: absent or null for the default, a name, or a serialized policy.
    pub(crate) fn read(options: &Options<'_>) -> Result<Self> {
        let Some(value) = options.value("dtype") else {
            return Ok(Self::FLOAT32);
        };
        let policy_name = || {
            let class = value.get("class_name")?.as_str()?;
            let known = matches!(class, "DTypePolicy" | "Policy" | "FloatDTypePolicy");
            value
                .pointer("/config/name")
                .and_then(serde_json::Value::as_str)
                .filter(|_| known)
        };
        let Some(name) = value.as_str().or_else(policy_name) else {
            return Err(options.unsupported("dtype", value, "a dtype's name or a DTypePolicy"));
        };
        let (compute, variable) = match name.strip_prefix("mixed_") {
            Some(compute @ ("float16" | "bfloat16")) => (compute, "float32"),
            _ => (name, name),
        };
        match (DType::from_name(compute), DType::from_name(variable)) {
            (Some(compute), Some(variable)) => Ok(Self { compute, variable }),
            _ => Err(options.unsupported(
                "dtype",
                value,
                "float32, float64, float16, bfloat16, mixed_float16, mixed_bfloat16, an integer \
                 dtype, bool, string",
            )),
        }
    }
}
