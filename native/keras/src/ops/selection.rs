//! `keras.ops` that take each element from one of several tensors, as conditions say.

use tch::{Kind, Tensor};

use super::binary::broadcast_all;
use super::operand::{
    Checked, Described, Operand, checked, device, operands, optional, promoted, required,
};
use super::promotion::{Type, numpy_type};
use super::{Family, single};
use crate::arguments::{Args, Tree};
use crate::dtype::DType;
use crate::layer::Built;
use crate::spec::Spec;

pub(super) const OPS: Family = &[("Where", |_| Ok(choose())), ("Select", |_| Ok(select()))];

/// `Where`: of two by a condition.
fn choose() -> Built {
    single(
        |args| {
            let [condition] = operands(args, ["condition"])?;
            let (a, b) = (optional(args, 1, "x1")?, optional(args, 2, "x2")?);
            let (Some(a), Some(b)) = (a, b) else {
                return Err("needs x1 and x2".to_owned());
            };
            let dims = broadcast_all(&[condition, a, b])?;
            let dtype = DType::Tensor(promoted(&[a, b])?);
            Ok(Spec::new(dims, dtype))
        },
        |args| {
            let device = device(args);
            let [condition] = checked(operands(args, ["condition"]))?;
            let condition = condition.tensor(Kind::Bool, device)?;
            let a = checked(optional(args, 1, "x1"))?;
            let (Some(a), Some(b)) = (a, checked(optional(args, 2, "x2"))?) else {
                return Err(super::failed("needs x1 and x2"));
            };
            let kind = checked(promoted(&[a, b]))?;
            let (a, b) = (a.tensor(kind, device)?, b.tensor(kind, device)?);
            Ok(a.f_where_self(&condition, &b)?)
        },
    )
}

/// The arguments of `Select`.
struct Choices<'a, T> {
    conditions: Vec<Operand<'a, T>>,
    /// One for each condition, and the default last.
    values: Vec<Operand<'a, T>>,
}

impl<'a, T: Described> Choices<'a, T> {
    fn of(args: &'a Args<T>) -> Checked<Self> {
        let listed = |position: usize, name: &str| match args.get(position, name) {
            Some(Tree::List(items)) => items.iter().map(Operand::of).collect(),
            _ => Err(format!("takes a list of tensors as {name}")),
        };
        let conditions: Vec<_> = listed(0, "condlist")?;
        let mut values: Vec<_> = listed(1, "choicelist")?;
        if conditions.len() != values.len() {
            let (conditions, values) = (conditions.len(), values.len());
            return Err(format!("has {conditions} conditions for {values} choices"));
        }
        values.push(required(args, 2, "default")?);
        Ok(Self { conditions, values })
    }

    fn kind(&self) -> Checked<Kind> {
        let types = self.values.iter().map(Operand::weak);
        numpy_type(&types.collect::<Checked<Vec<Type>>>()?)
    }
}

/// `Select`: the choice of the first condition that holds, or else the default. Dtypes are promoted
/// by NumPy's rules, unlike in the rest of Keras.
fn select() -> Built {
    single(
        |args| {
            let choices = Choices::of(args)?;
            let all = [choices.conditions.as_slice(), &choices.values].concat();
            Ok(Spec::new(
                broadcast_all(&all)?,
                DType::Tensor(choices.kind()?),
            ))
        },
        |args| {
            let device = device(args);
            let choices = checked(Choices::of(args))?;
            let kind = checked(choices.kind())?;
            let mut values = choices.values.iter().rev();
            let default = values.next().map(|value| value.tensor(kind, device));
            let mut chosen = default.transpose()?.unwrap_or_else(Tensor::new);
            for (condition, value) in choices.conditions.iter().rev().zip(values) {
                let condition = condition.tensor(Kind::Bool, device)?;
                chosen = value
                    .tensor(kind, device)?
                    .f_where_self(&condition, &chosen)?;
            }
            Ok(chosen)
        },
    )
}
