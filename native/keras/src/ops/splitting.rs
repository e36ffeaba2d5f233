//! `keras.ops` that cut one tensor into several along one axis.

use serde_json::Value as Json;

use super::axes::required_integers;
use super::{Family, failed, several};
use crate::config::Options;
use crate::error::Result;
use crate::layer::Built;
use crate::scope::Scope;
use crate::spec::position;

pub(super) const OPS: Family = &[
    ("Split", |scope| {
        let axis = scope.options.i64("axis", 0)?;
        split(scope, move |_| axis)
    }),
    ("Vsplit", |scope| split(scope, |_| 0)),
    ("Hsplit", |scope| {
        split(scope, |rank| if rank == 1 { 0 } else { 1 })
    }),
    ("Dsplit", |scope| split(scope, |_| 2)),
    ("ArraySplit", |scope| {
        let axis = scope.options.i64("axis", 0)?;
        let parts = sections(scope.options)?;
        cut(move |_| axis, Parts::Uneven(parts))
    }),
    ("Unstack", unstack),
];

/// Where an axis is cut.
#[derive(Debug, Clone)]
enum Parts {
    /// Into so many equal parts.
    Even(i64),
    /// Into so many parts, the first of which are longer by one.
    Uneven(i64),
    /// Before these indices.
    Before(Vec<i64>),
}

impl Parts {
    /// How many there are.
    fn count(&self) -> usize {
        match self {
            Self::Even(count) | Self::Uneven(count) => usize::try_from(*count).unwrap_or(0),
            Self::Before(indices) => indices.len() + 1,
        }
    }

    /// Their sizes on an axis of `size`.
    fn sizes(&self, size: i64) -> std::result::Result<Vec<i64>, String> {
        match self {
            Self::Even(count) if size % count != 0 => Err(format!(
                "cannot cut an axis of {size} into {count} equal parts"
            )),
            Self::Even(count) => Ok(vec![size / count; self.count()]),
            Self::Uneven(count) => {
                let longer = size % count;
                Ok((0..*count)
                    .map(|at| size / count + i64::from(at < longer))
                    .collect())
            }
            Self::Before(indices) => {
                let ends = indices.iter().chain([&size]);
                let starts = [&0].into_iter().chain(indices);
                let sizes: Vec<i64> = ends.zip(starts).map(|(end, start)| end - start).collect();
                if sizes.iter().any(|&size| size < 0) {
                    return Err(format!("cannot cut an axis of {size} before {indices:?}"));
                }
                Ok(sizes)
            }
        }
    }
}

/// Tensors that an operation may give: a config of a kilobyte must not ask for a billion.
const MOST_PARTS: i64 = 1 << 16;

fn check(parts: i64) -> std::result::Result<(), String> {
    match parts {
        ..=MOST_PARTS => Ok(()),
        _ => Err(format!(
            "gives {parts} tensors; at most {MOST_PARTS} are supported"
        )),
    }
}

fn sections(options: &Options<'_>) -> Result<i64> {
    let parts = options.count("indices_or_sections")?;
    check(parts).map_err(|reason| options.invalid(reason))?;
    Ok(parts)
}

fn split(
    scope: &mut Scope<'_>,
    axis: impl Fn(usize) -> i64 + Clone + Send + 'static,
) -> Result<Built> {
    let options = scope.options;
    let parts = match options.value("indices_or_sections") {
        Some(Json::Number(_)) => Parts::Even(sections(options)?),
        _ => Parts::Before(required_integers(options, "indices_or_sections")?),
    };
    cut(axis, parts)
}

fn cut(axis: impl Fn(usize) -> i64 + Clone + Send + 'static, parts: Parts) -> Result<Built> {
    let (of_call, same_parts) = (axis.clone(), parts.clone());
    Ok(several(
        move |x| {
            let at = x.axis(axis(x.rank()))?;
            let sizes = match x.dims[at] {
                Some(size) => parts.sizes(size)?.into_iter().map(Some).collect(),
                None => vec![None; parts.count()],
            };
            let specs = sizes.into_iter().map(|size| {
                let mut dims = x.dims.clone();
                dims[at] = size;
                x.with_dims(dims)
            });
            Ok(specs.collect())
        },
        move |x| {
            let axis = of_call(x.dim());
            let at =
                position(axis, x.dim()).ok_or_else(|| failed(format!("has no axis {axis}")))?;
            let size = x.size()[at];
            let sizes = super::checked(same_parts.sizes(size))?;
            Ok(x.f_split_with_sizes(sizes, axis)?)
        },
    ))
}

/// `Unstack`: the slices along an axis, which must be known.
fn unstack(scope: &mut Scope<'_>) -> Result<Built> {
    let axis = scope.options.i64("axis", 0)?;
    let num = scope.options.value("num").and_then(Json::as_i64);
    Ok(several(
        move |x| {
            let at = x.axis(axis)?;
            let count = match num {
                Some(num) => num,
                None => x.size(axis)?,
            };
            check(count)?;
            let mut dims = x.dims.clone();
            dims.remove(at);
            Ok(vec![x.with_dims(dims); usize::try_from(count).unwrap_or(0)])
        },
        move |x| Ok(x.f_unbind(axis)?),
    ))
}
