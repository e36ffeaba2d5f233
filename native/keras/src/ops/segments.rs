//! `keras.ops.math`, reductions of the rows that share a number.

use tch::{Kind, Scalar, Tensor};

use super::operand::{checked, device, operands};
use super::{Family, kind_of, single};
use crate::error::Result;
use crate::layer::Built;
use crate::scope::Scope;

pub(super) const OPS: Family = &[
    ("SegmentSum", |scope| segments(scope, Merge::Sum)),
    ("SegmentMax", |scope| segments(scope, Merge::Max)),
    ("SegmentMin", |scope| segments(scope, Merge::Min)),
    ("SegmentProd", |scope| segments(scope, Merge::Product)),
];

#[derive(Debug, Clone, Copy, PartialEq)]
enum Merge {
    Sum,
    Max,
    Min,
    Product,
}

/// `segment_ids` number the rows of `data`; rows below 0 are left out. Of a segment without rows,
/// TensorFlow gives what its reduction starts from.
fn segments(scope: &mut Scope<'_>, merge: Merge) -> Result<Built> {
    let options = scope.options;
    let sorted = options.bool("sorted", false)?;
    let count = match options.value("num_segments") {
        None => None,
        Some(_) if sorted => {
            return Err(options.invalid("num_segments cannot be set with sorted = true"));
        }
        Some(_) => Some(options.count("num_segments")?),
    };
    Ok(single(
        move |args| {
            let [data, ids] = operands(args, ["data", "segment_ids"])?;
            let data = data.spec()?;
            kind_of(&data)?;
            if ids.dims().len() != 1 || data.rank() == 0 {
                return Err("needs segment_ids of one axis, one for each row".to_owned());
            }
            let mut dims = data.dims.clone();
            dims[0] = count;
            Ok(data.with_dims(dims))
        },
        move |args| {
            let device = device(args);
            let [data, ids] = checked(operands(args, ["data", "segment_ids"]))?;
            let mut data = data.tensor(checked(data.kind())?, device)?;
            let mut ids = ids.tensor(Kind::Int64, device)?;
            let size = match count {
                Some(count) => count,
                None if ids.numel() == 0 => 0,
                None if merge == Merge::Sum && !sorted => distinct(&ids)?,
                None => ids.f_max()?.f_int64_value(&[])? + 1,
            };
            let kept = ids.f_ge(0)?;
            if kept.f_all()?.f_int64_value(&[])? == 0 {
                let rows = kept.f_nonzero()?.f_reshape([-1])?;
                data = data.f_index_select(0, &rows)?;
                ids = ids.f_index_select(0, &rows)?;
            }
            merged(&data, &ids, size, merge, sorted)
        },
    ))
}

/// How many numbers there are, which is what Keras takes for the number of segments of a sum.
fn distinct(ids: &Tensor) -> Result<i64> {
    let sorted = ids.f_sort(0, false)?.0;
    let steps = sorted
        .f_diff(1, 0, None::<Tensor>, None::<Tensor>)?
        .f_ne(0)?;
    Ok(steps.f_sum(Kind::Int64)?.f_int64_value(&[])? + 1)
}

fn merged(data: &Tensor, ids: &Tensor, count: i64, merge: Merge, sorted: bool) -> Result<Tensor> {
    let mut shape = data.size();
    if let Some(rows) = shape.first_mut() {
        *rows = count;
    }
    let kind = data.kind();
    let start = match merge {
        Merge::Sum => Scalar::from(0),
        Merge::Product => Scalar::from(1),
        // The sorted reductions fill up with 0.
        Merge::Max | Merge::Min if sorted => Scalar::from(0),
        Merge::Max => extreme(kind, false),
        Merge::Min => extreme(kind, true),
    };
    let start = Tensor::f_full(shape, start, (kind, data.device()))?;
    Ok(match merge {
        Merge::Sum => start.f_index_add(0, ids, data)?,
        Merge::Product => start.f_index_reduce(0, ids, data, "prod", true)?,
        Merge::Max => start.f_index_reduce(0, ids, data, "amax", !sorted)?,
        Merge::Min => start.f_index_reduce(0, ids, data, "amin", !sorted)?,
    })
}

/// The largest finite number of a kind, or the least.
fn extreme(kind: Kind, largest: bool) -> Scalar {
    let integer = |least: i64, most: i64| Scalar::from(if largest { most } else { least });
    let float = |most: f64| Scalar::from(if largest { most } else { -most });
    match kind {
        Kind::Half => float(65504.0),
        Kind::BFloat16 => float(3.389_531_389_251_535_5e38),
        Kind::Float => float(f64::from(f32::MAX)),
        Kind::Double => float(f64::MAX),
        Kind::Uint8 => integer(0, i64::from(u8::MAX)),
        Kind::Int8 => integer(i64::from(i8::MIN), i64::from(i8::MAX)),
        Kind::Int16 => integer(i64::from(i16::MIN), i64::from(i16::MAX)),
        Kind::Int => integer(i64::from(i32::MIN), i64::from(i32::MAX)),
        _ => integer(i64::MIN, i64::MAX),
    }
}
