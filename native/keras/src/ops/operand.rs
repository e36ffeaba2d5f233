//! What an operation takes: values of the graph, or Python's numbers and lists of them.

use serde_json::Value as Json;
use tch::{Device, Kind, Tensor};

use super::promotion::{Type, result_type};
use crate::arguments::{Args, Tree};
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::literals;
use crate::spec::Spec;
use crate::value::Value;

/// A result, or why there is none; the graph adds the operation's name.
pub(super) type Checked<T> = std::result::Result<T, String>;

/// What is known of a value: a [`Spec`] before it is there, or the value itself.
pub(super) trait Described {
    /// Dtype and axes.
    fn spec(&self) -> Spec;
}

impl Described for Spec {
    fn spec(&self) -> Spec {
        self.clone()
    }
}

impl Described for Value {
    fn spec(&self) -> Spec {
        let dims: Vec<_> = self.size().into_iter().map(Some).collect();
        Spec::new(dims, self.dtype())
    }
}

/// One argument that is a tensor to the operation.
#[derive(Debug)]
pub(super) enum Operand<'a, T> {
    /// A value of the graph.
    Value(&'a T),
    /// A number, a boolean, or nested lists of them.
    Constant(&'a Json),
}

impl<T> Clone for Operand<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Operand<'_, T> {}

impl<'a, T> Operand<'a, T> {
    /// The argument as an operand.
    ///
    /// # Errors
    /// It is something else.
    pub(super) fn of(tree: &'a Tree<T>) -> Checked<Self> {
        match tree {
            Tree::Leaf(value) => Ok(Self::Value(value)),
            Tree::Constant(value) if literals::shape(value).is_some() => Ok(Self::Constant(value)),
            Tree::Constant(value) => Err(format!("takes a tensor or numbers, got {value}")),
            Tree::List(_) | Tree::Map(_) => Err("takes one tensor, got several".to_owned()),
        }
    }
}

impl<T: Described> Operand<'_, T> {
    /// The type it has in arithmetic, where a Python number is weak.
    ///
    /// # Errors
    /// It holds strings.
    pub(super) fn weak(&self) -> Checked<Type> {
        match self {
            Self::Constant(value) if !value.is_array() => match literals::kind(value) {
                Kind::Bool => Ok(Type::Strong(Kind::Bool)),
                Kind::Int | Kind::Int64 => Ok(Type::Int),
                _ => Ok(Type::Float),
            },
            _ => self.strong(),
        }
    }

    /// The type it has as a tensor.
    ///
    /// # Errors
    /// It holds strings.
    pub(super) fn strong(&self) -> Checked<Type> {
        self.kind().map(Type::Strong)
    }

    /// The kind of the tensor.
    ///
    /// # Errors
    /// It holds strings.
    pub(super) fn kind(&self) -> Checked<Kind> {
        match self {
            Self::Value(value) => {
                let kind = value.spec().dtype.kind();
                kind.ok_or_else(|| "takes numbers, got strings".to_owned())
            }
            Self::Constant(value) => Ok(literals::kind(value)),
        }
    }

    /// Dtype and axes.
    ///
    /// # Errors
    /// It holds strings.
    pub(super) fn spec(&self) -> Checked<Spec> {
        Ok(Spec::new(self.dims(), DType::Tensor(self.kind()?)))
    }

    /// The axes.
    pub(super) fn dims(&self) -> Vec<Option<i64>> {
        match self {
            Self::Value(value) => value.spec().dims,
            Self::Constant(value) => {
                let shape = literals::shape(value).unwrap_or_default();
                shape.into_iter().map(Some).collect()
            }
        }
    }
}

impl Operand<'_, Value> {
    /// The tensor, in `kind`.
    ///
    /// # Errors
    /// It holds strings.
    pub(super) fn tensor(&self, kind: Kind, device: Device) -> Result<Tensor> {
        match self {
            Self::Value(value) => Ok(value.y()?.f_to_kind(kind)?),
            Self::Constant(value) => literals::tensor(value, kind, device),
        }
    }
}

/// The first arguments as operands, one for each of `names`.
///
/// # Errors
/// One is missing or no tensor.
pub(super) fn operands<'a, T, const N: usize>(
    args: &'a Args<T>,
    names: [&str; N],
) -> Checked<[Operand<'a, T>; N]> {
    let named = names.iter().enumerate();
    let named = named.map(|(position, name)| required(args, position, name));
    let found = named.collect::<Checked<Vec<_>>>()?;
    let wrong = |_| "has too few arguments".to_owned();
    <[Operand<'a, T>; N]>::try_from(found).map_err(wrong)
}

/// The argument at `position`, or called `name`.
///
/// # Errors
/// It is missing or no tensor.
pub(super) fn required<'a, T>(
    args: &'a Args<T>,
    position: usize,
    name: &str,
) -> Checked<Operand<'a, T>> {
    let tree = args.get(position, name);
    Operand::of(tree.ok_or_else(|| format!("lacks the argument {name}"))?)
}

/// An argument that may be left out or `None`.
///
/// # Errors
/// It is no tensor.
pub(super) fn optional<'a, T>(
    args: &'a Args<T>,
    position: usize,
    name: &str,
) -> Checked<Option<Operand<'a, T>>> {
    match args.get(position, name) {
        None | Some(Tree::Constant(Json::Null)) => Ok(None),
        Some(tree) => Operand::of(tree).map(Some),
    }
}

/// The operands in the first argument, a list, or in all arguments if there is no list.
///
/// # Errors
/// There are none, or one is no tensor.
pub(super) fn listed<T>(args: &Args<T>) -> Checked<Vec<Operand<'_, T>>> {
    let items = match args.list.as_slice() {
        [Tree::List(items)] => items.as_slice(),
        items => items,
    };
    if items.is_empty() {
        return Err("takes at least one tensor, got none".to_owned());
    }
    items.iter().map(Operand::of).collect()
}

/// The dtype of a result of operands whose Python numbers are weak.
///
/// # Errors
/// One holds strings.
pub(super) fn promoted<T: Described>(operands: &[Operand<'_, T>]) -> Checked<Kind> {
    let types = operands.iter().map(Operand::weak);
    Ok(result_type(&types.collect::<Checked<Vec<_>>>()?))
}

/// The dtype of a result of operands that are converted to tensors first.
///
/// # Errors
/// One holds strings.
pub(super) fn converted<T: Described>(operands: &[Operand<'_, T>]) -> Checked<Kind> {
    let types = operands.iter().map(Operand::strong);
    Ok(result_type(&types.collect::<Checked<Vec<_>>>()?))
}

/// Where the tensors of a call lie.
pub(super) fn device(args: &Args<Value>) -> Device {
    let leaves = args.leaves();
    let tensors = leaves.iter().filter_map(|value| value.y().ok());
    tensors.map(Tensor::device).next().unwrap_or(Device::Cpu)
}

/// Turns the reason why a call cannot run into an error.
pub(super) fn checked<T>(result: Checked<T>) -> Result<T> {
    result.map_err(Error::values)
}
