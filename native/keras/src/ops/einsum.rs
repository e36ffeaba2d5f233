//! `Einsum`: products of tensors with named axes, summed over those that the result does not name.

use tch::{Kind, Tensor};

use super::operand::{Checked, checked, converted, device, listed};
use super::promotion::floating;
use super::{Family, single};
use crate::dtype::DType;
use crate::error::Result;
use crate::layer::Built;
use crate::scope::Scope;
use crate::spec::{Spec, broadcast};

pub(super) const OPS: Family = &[("Einsum", einsum)];

fn einsum(scope: &mut Scope<'_>) -> Result<Built> {
    let options = scope.options;
    let equation = Equation::parse(options.str("subscripts", "")?);
    let equation = equation.map_err(|reason| options.invalid(reason))?;
    let text = equation.text();
    Ok(single(
        move |args| {
            // How to order the products is no matter of the result.
            if let Some((name, _)) = args.named.iter().find(|(name, _)| name != "optimize") {
                return Err(format!("does not take the argument {name}"));
            }
            let operands = listed(args)?;
            let shapes: Vec<_> = operands.iter().map(|operand| operand.dims()).collect();
            let kinds = operands.iter().map(|operand| operand.kind());
            let kinds = kinds.collect::<Checked<Vec<_>>>()?;
            let (_, kind) = kinds_of_product(&kinds, converted(&operands)?);
            Ok(Spec::new(equation.dims(&shapes)?, DType::Tensor(kind)))
        },
        move |args| {
            let operands = checked(listed(args))?;
            let kinds = operands.iter().map(|operand| operand.kind());
            let kinds = checked(kinds.collect::<Checked<Vec<_>>>())?;
            let (compute, kind) = kinds_of_product(&kinds, checked(converted(&operands))?);
            let device = device(args);
            let tensors = operands
                .iter()
                .map(|operand| operand.tensor(compute, device));
            let tensors = tensors.collect::<Result<Vec<_>>>()?;
            Ok(Tensor::f_einsum(&text, &tensors, None::<i64>)?.f_to_kind(kind)?)
        },
    ))
}

/// What to compute in, and the dtype of the result: int8 gives int32, and integers are multiplied
/// in float32.
fn kinds_of_product(kinds: &[Kind], promoted: Kind) -> (Kind, Kind) {
    if kinds.iter().all(|&kind| kind == Kind::Int8) {
        return (Kind::Int, Kind::Int);
    }
    (floating(promoted), promoted)
}

/// A label of an axis: a letter, or one axis of `...`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Label {
    Letter(char),
    Ellipsis,
}

/// Einstein's notation, parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Equation {
    inputs: Vec<Vec<Label>>,
    output: Vec<Label>,
}

impl Equation {
    /// Reads `ab,bc->ac`; without an arrow, the result has the labels that stand once, sorted.
    fn parse(subscripts: &str) -> Checked<Self> {
        let text: String = subscripts.chars().filter(|c| !c.is_whitespace()).collect();
        let (left, right) = match text.split_once("->") {
            Some((left, right)) => (left, Some(right)),
            None => (text.as_str(), None),
        };
        let inputs = left.split(',').map(labels).collect::<Option<Vec<_>>>();
        let wrong = || format!("subscripts = \"{subscripts}\" are not such as \"ij,jk->ik\"");
        let inputs = inputs.ok_or_else(wrong)?;
        let all: Vec<Label> = inputs.iter().flatten().copied().collect();
        let output = match right {
            Some(right) => labels(right).ok_or_else(wrong)?,
            None => {
                let letters = all.iter().filter_map(|label| match label {
                    Label::Letter(letter) => Some(*letter),
                    Label::Ellipsis => None,
                });
                let letters: Vec<char> = letters.collect();
                let once = |letter: &char| letters.iter().filter(|c| *c == letter).count() == 1;
                let mut single: Vec<char> = letters.iter().copied().filter(once).collect();
                single.sort_unstable();
                let dots = all.contains(&Label::Ellipsis).then_some(Label::Ellipsis);
                dots.into_iter()
                    .chain(single.into_iter().map(Label::Letter))
                    .collect()
            }
        };
        if output.iter().any(|label| !all.contains(label)) {
            return Err(wrong());
        }
        Ok(Self { inputs, output })
    }

    /// The equation as libtorch reads it.
    fn text(&self) -> String {
        let term = |labels: &Vec<Label>| {
            let texts = labels.iter().map(|label| match label {
                Label::Letter(letter) => letter.to_string(),
                Label::Ellipsis => "...".to_owned(),
            });
            texts.collect::<String>()
        };
        let inputs: Vec<String> = self.inputs.iter().map(term).collect();
        format!("{}->{}", inputs.join(","), term(&self.output))
    }

    /// The axes of the result.
    fn dims(&self, shapes: &[Vec<Option<i64>>]) -> Checked<Vec<Option<i64>>> {
        if shapes.len() != self.inputs.len() {
            let (given, wanted) = (shapes.len(), self.inputs.len());
            return Err(format!("takes {wanted} tensors, got {given}"));
        }
        let mut known: Vec<(char, Option<i64>)> = Vec::new();
        let mut dots: Vec<Option<i64>> = Vec::new();
        for (labels, dims) in self.inputs.iter().zip(shapes) {
            let letters = labels
                .iter()
                .filter(|label| **label != Label::Ellipsis)
                .count();
            let spare = dims.len().checked_sub(letters);
            let open = labels.contains(&Label::Ellipsis);
            let spare = spare.filter(|&spare| open || spare == 0).ok_or_else(|| {
                format!(
                    "has {letters} subscripts for a tensor of {} axes",
                    dims.len()
                )
            })?;
            let mut rest = dims.iter().copied();
            for label in labels {
                match label {
                    Label::Ellipsis => {
                        let own: Vec<_> = rest.by_ref().take(spare).collect();
                        let joined = broadcast(&dots, &own);
                        dots = joined.ok_or("needs tensors that broadcast at the ellipsis")?;
                    }
                    Label::Letter(letter) => {
                        let dim = rest.next().flatten();
                        match known.iter_mut().find(|(other, _)| other == letter) {
                            None => known.push((*letter, dim)),
                            Some((_, size)) => match (*size, dim) {
                                (Some(a), Some(b)) if a != b => {
                                    return Err(format!("has sizes {a} and {b} for \"{letter}\""));
                                }
                                _ => *size = size.or(dim),
                            },
                        }
                    }
                }
            }
        }
        let axes = self.output.iter().map(|label| match label {
            Label::Ellipsis => dots.clone(),
            Label::Letter(letter) => {
                let found = known.iter().find(|(other, _)| other == letter);
                vec![found.and_then(|(_, dim)| *dim)]
            }
        });
        Ok(axes.flatten().collect())
    }
}

fn labels(term: &str) -> Option<Vec<Label>> {
    let mut labels = Vec::new();
    let mut rest = term;
    while let Some(first) = rest.chars().next() {
        if let Some(after) = rest.strip_prefix("...") {
            labels.push(Label::Ellipsis);
            rest = after;
        } else if first.is_ascii_alphabetic() {
            labels.push(Label::Letter(first));
            rest = &rest[1..];
        } else {
            return None;
        }
    }
    Some(labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equations_give_shapes() {
        let dims = |text: &str, shapes: &[&[Option<i64>]]| {
            let shapes: Vec<_> = shapes.iter().map(|dims| dims.to_vec()).collect();
            Equation::parse(text)?.dims(&shapes)
        };
        let (n, two, three) = (None, Some(2), Some(3));
        assert_eq!(
            dims("bij, jk -> bik", &[&[n, two, three], &[three, n]]),
            Ok(vec![n, two, n])
        );
        assert_eq!(
            dims("...i,ij->...j", &[&[n, two], &[two, three]]),
            Ok(vec![n, three])
        );
        assert_eq!(dims("ba", &[&[two, three]]), Ok(vec![three, two]));
        assert_eq!(
            dims("ij,jk", &[&[n, two], &[two, three]]),
            Ok(vec![n, three])
        );
        assert_eq!(dims("ii->i", &[&[two, two]]), Ok(vec![two]));
        assert_eq!(Equation::parse("i j").unwrap().text(), "ij->ij");
        assert!(dims("ij,jk->ik", &[&[n, two], &[three, n]]).is_err());
        assert!(dims("ij->i", &[&[n]]).is_err());
        assert!(Equation::parse("i->j").is_err());
        assert!(Equation::parse("i1->i").is_err());
    }
}
