//! `GetItem`: Python's `x[key]` with integers, slices, `None` and one `...`.

use serde_json::Value as Json;
use tch::Tensor;

use super::operand::{Checked, checked, operands};
use super::{Family, single};
use crate::arguments::{Args, Tree};
use crate::error::Result;
use crate::spec::Spec;

pub(super) const OPS: Family = &[("GetItem", |_| {
    Ok(single(
        |args| {
            let [x] = operands(args, ["x"])?;
            let dtype = args.only()?.dtype;
            Ok(Spec::new(indexed_dims(&x.dims(), &key(args)?)?, dtype))
        },
        |args| {
            let x = checked(args.only())?.y()?;
            index(x, &checked(key(args))?)
        },
    ))
})];

/// One part of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Index(i64),
    Slice(Option<i64>, Option<i64>, i64),
    NewAxis,
    Ellipsis,
}

/// The parts of the key, with an ellipsis among them.
fn key<T>(args: &Args<T>) -> Checked<Vec<Part>> {
    let key = match args.get(1, "key") {
        Some(Tree::Constant(key)) => key,
        Some(_) => return Err("takes a key of integers and slices, got tensors in it".to_owned()),
        None => return Err("lacks the argument key".to_owned()),
    };
    let mut parts = match key {
        Json::Array(items) => items.iter().map(part).collect::<Checked<Vec<_>>>()?,
        other => vec![part(other)?],
    };
    let ellipses = parts.iter().filter(|part| **part == Part::Ellipsis);
    match ellipses.count() {
        0 => parts.push(Part::Ellipsis),
        1 => {}
        _ => return Err(format!("has more than one ellipsis in its key {key}")),
    }
    Ok(parts)
}

fn part(value: &Json) -> Checked<Part> {
    let wrong = || format!("cannot take {value} as a key: only integers, slices, None and ...");
    match value {
        Json::Null => return Ok(Part::NewAxis),
        Json::Number(number) => return number.as_i64().map(Part::Index).ok_or_else(wrong),
        _ => {}
    }
    match value["class_name"].as_str() {
        Some("__ellipsis__") => Ok(Part::Ellipsis),
        Some("__slice__") => {
            let bound = |name: &str| match &value["config"][name] {
                Json::Null => Ok(None),
                bound => bound.as_i64().map(Some).ok_or_else(wrong),
            };
            let step = bound("step")?.unwrap_or(1);
            if step == 0 {
                return Err("has a slice of step 0".to_owned());
            }
            Ok(Part::Slice(bound("start")?, bound("stop")?, step))
        }
        _ => Err(wrong()),
    }
}

/// How many axes the ellipsis stands for.
fn skipped(parts: &[Part], rank: usize) -> Checked<usize> {
    let takes = |part: &&Part| matches!(part, Part::Index(_) | Part::Slice(..));
    let taken = parts.iter().filter(takes).count();
    let skipped = rank.checked_sub(taken);
    skipped.ok_or_else(|| format!("has a key of {taken} axes for an input of {rank}"))
}

fn indexed_dims(dims: &[Option<i64>], parts: &[Part]) -> Checked<Vec<Option<i64>>> {
    let skipped = skipped(parts, dims.len())?;
    let mut rest = dims.iter().copied();
    let mut result = Vec::with_capacity(dims.len());
    for part in parts {
        match *part {
            Part::NewAxis => result.push(Some(1)),
            Part::Ellipsis => result.extend(rest.by_ref().take(skipped)),
            Part::Index(index) => {
                let size = rest.next().flatten();
                if size.is_some_and(|size| index >= size || index < -size) {
                    return Err(format!("has no index {index} on an axis of {size:?}"));
                }
            }
            Part::Slice(start, stop, step) => {
                let size = rest.next().flatten();
                result.push(size.map(|size| range(size, start, stop, step).1));
            }
        }
    }
    Ok(result)
}

/// Python's `slice.indices`: the first index and the number of them.
fn range(size: i64, start: Option<i64>, stop: Option<i64>, step: i64) -> (i64, i64) {
    let (lowest, highest) = if step > 0 { (0, size) } else { (-1, size - 1) };
    let bound = |bound: i64| {
        let bound = if bound < 0 { bound + size } else { bound };
        bound.clamp(lowest, highest)
    };
    let (first, last) = if step > 0 {
        (start.map_or(lowest, bound), stop.map_or(highest, bound))
    } else {
        (start.map_or(highest, bound), stop.map_or(lowest, bound))
    };
    let span = (last - first) * step.signum();
    let step = step.abs();
    (first, ((span + step - 1) / step).max(0))
}

fn index(x: &Tensor, parts: &[Part]) -> Result<Tensor> {
    let skipped = checked(skipped(parts, x.dim()))?;
    let mut y = x.shallow_clone();
    let mut axis = 0_i64;
    for part in parts {
        match *part {
            Part::NewAxis => {
                y = y.f_unsqueeze(axis)?;
                axis += 1;
            }
            Part::Ellipsis => axis += i64::try_from(skipped).unwrap_or(0),
            Part::Index(index) => y = y.f_select(axis, index)?,
            Part::Slice(start, stop, step) => {
                y = sliced(&y, axis, start, stop, step)?;
                axis += 1;
            }
        }
    }
    Ok(y)
}

fn sliced(
    x: &Tensor,
    axis: i64,
    start: Option<i64>,
    stop: Option<i64>,
    step: i64,
) -> Result<Tensor> {
    if (start, stop, step) == (None, None, 1) {
        return Ok(x.shallow_clone());
    }
    let size = x.size()[usize::try_from(axis).unwrap_or(0)];
    let (first, count) = range(size, start, stop, step);
    if count == 0 {
        return Ok(x.f_narrow(axis, 0, 0)?);
    }
    if step > 0 {
        let end = first + (count - 1) * step + 1;
        return Ok(x.f_slice(axis, first, end, step)?);
    }
    // libtorch has no steps backwards.
    let last = first + (count - 1) * step;
    let backwards = x.f_slice(axis, last, first + 1, -step)?;
    Ok(backwards.f_flip([axis])?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_count_as_in_python() {
        // (size, start, stop, step) and Python's list(range(size))[start:stop:step].
        let cases = [
            ((5, None, None, 1), vec![0, 1, 2, 3, 4]),
            ((5, Some(1), Some(-1), 2), vec![1, 3]),
            ((5, Some(-2), None, 1), vec![3, 4]),
            ((5, Some(3), Some(1), 1), vec![]),
            ((5, None, None, -1), vec![4, 3, 2, 1, 0]),
            ((5, Some(3), Some(0), -2), vec![3, 1]),
            ((5, Some(9), Some(-9), -3), vec![4, 1]),
            ((5, Some(-9), Some(9), 3), vec![0, 3]),
            ((0, None, None, -1), vec![]),
        ];
        for ((size, start, stop, step), expected) in cases {
            let (first, count) = range(size, start, stop, step);
            let indices: Vec<i64> = (0..count).map(|n| first + n * step).collect();
            assert_eq!(indices, expected, "{size} {start:?} {stop:?} {step}");
            let x = Tensor::arange(size, (tch::Kind::Int64, tch::Device::Cpu));
            let y = sliced(&x, 0, start, stop, step).unwrap();
            assert_eq!(Vec::<i64>::try_from(y).unwrap(), expected);
        }
    }
}
