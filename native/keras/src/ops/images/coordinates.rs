//! `MapCoordinates`: elements of a tensor at places between its elements.

use tch::{Kind, TchError, Tensor};

use crate::arguments::Args;
use crate::config::Options;
use crate::dtype::is_float;
use crate::error::Result;
use crate::layer::Built;
use crate::layers::preprocessing::images::elastic::folded;
use crate::layers::preprocessing::images::warp::Fill;
use crate::literals::number;
use crate::ops::operand::{checked, device, operands};
use crate::ops::single;
use crate::scope::Scope;
use crate::spec::Spec;
use crate::value::Value;

/// Of a tensor of n axes at coordinates `[n, ...]`.
#[derive(Debug)]
struct Mapping {
    /// Between the two elements around, or else the nearest.
    linear: bool,
    beyond: Beyond,
    fill: f64,
}

/// What stands for elements outside.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Beyond {
    Filled(Fill),
    /// Keras's own "mirror", which finds nothing one element beyond the end.
    Mirrored,
}

/// A place of the tensor: its number among all elements, its weight, and whether it is in it.
struct Corner {
    place: Tensor,
    weight: Option<Tensor>,
    inside: Option<Tensor>,
}

type Join = fn(&Tensor, &Tensor) -> Result<Tensor, TchError>;

pub(super) fn map_coordinates(scope: &mut Scope<'_>) -> Result<Built> {
    const NAMES: [&str; 2] = ["inputs", "coordinates"];
    let mapping = Mapping::read(scope.options)?;
    let linear = mapping.linear;
    Ok(single(
        move |args| {
            let [x, coordinates] = operands(args, NAMES)?;
            let (x, coordinates) = (x.spec()?, coordinates.spec()?);
            let rank = i64::try_from(x.rank()).unwrap_or(0);
            if coordinates.rank() < 2 || coordinates.dims[0] != Some(rank) {
                return Err(format!(
                    "takes coordinates of shape ({rank}, ...) for {rank} axes, got {coordinates}"
                ));
            }
            if linear {
                coordinates.require_float()?;
            }
            Ok(Spec::new(&coordinates.dims[1..], x.dtype))
        },
        move |args| mapping.call(args, NAMES),
    ))
}

impl Mapping {
    fn read(options: &Options<'_>) -> Result<Self> {
        let order = options.value("order");
        let linear = match order.and_then(number) {
            Some(0.0) => false,
            Some(1.0) => true,
            _ => {
                let value = order.cloned().unwrap_or_default();
                return Err(options.unsupported("order", &value, "0 and 1, as in Keras"));
            }
        };
        let beyond = if options.value("fill_mode").and_then(|mode| mode.as_str()) == Some("mirror")
        {
            Beyond::Mirrored
        } else {
            Beyond::Filled(Fill::read(options, "constant")?)
        };
        Ok(Self {
            linear,
            beyond,
            fill: options.f64("fill_value", 0.0)?,
        })
    }

    fn call(&self, args: &Args<Value>, names: [&str; 2]) -> Result<Tensor> {
        let device = device(args);
        let [x, coordinates] = checked(operands(args, names))?;
        let (kind, computed) = (checked(x.kind())?, checked(coordinates.kind())?);
        let x = x.tensor(kind, device)?;
        let coordinates = coordinates.tensor(computed, device)?;
        let shape = coordinates.size().split_off(1);
        // The corners around all places, of which each axis doubles the number.
        let mut corners = vec![Corner {
            place: Tensor::f_zeros([1], (Kind::Int64, device))?,
            weight: None,
            inside: None,
        }];
        for (at, length) in coordinates.f_unbind(0)?.into_iter().zip(x.size()) {
            let steps = self.steps(&at.f_flatten(0, -1)?, length)?;
            let mut grown = Vec::new();
            for corner in &corners {
                for step in &steps {
                    grown.push(corner.then(step, length)?);
                }
            }
            corners = grown;
        }
        // The filling has the precision of the tensor.
        let fill = Tensor::f_scalar_tensor(self.fill, (kind, device))?.f_to_kind(computed)?;
        let elements = x.f_reshape(-1)?;
        let mut sum: Option<Tensor> = None;
        for corner in corners {
            let mut part = elements
                .f_index_select(0, &corner.place)?
                .f_to_kind(computed)?;
            if let Some(inside) = &corner.inside {
                part = part.f_where_self(inside, &fill)?;
            }
            if let Some(weight) = &corner.weight {
                part = part.f_mul(weight)?;
            }
            sum = Some(match sum {
                Some(sum) => sum.f_add(&part)?,
                None => part,
            });
        }
        let mut y = sum.unwrap_or(elements);
        if !is_float(kind) && is_float(computed) {
            y = y.f_round()?;
        }
        Ok(y.f_to_kind(kind)?.f_reshape(shape)?)
    }

    /// The elements along one axis of `length` that coordinates lie between, or the nearest.
    fn steps(&self, at: &Tensor, length: i64) -> Result<Vec<Corner>> {
        let whole = |at: &Tensor, weight| -> Result<Corner> {
            let place = at.f_to_kind(Kind::Int64)?;
            let folded = match self.beyond {
                Beyond::Filled(Fill::Constant) => place.f_clamp(0, length - 1)?,
                Beyond::Filled(fill) => folded(fill, &place, length)?,
                Beyond::Mirrored => mirrored(&place, length)?,
            };
            let constant = self.beyond == Beyond::Filled(Fill::Constant);
            let inside = constant.then(|| place.f_eq_tensor(&folded)).transpose()?;
            Ok(Corner {
                place: folded,
                weight,
                inside,
            })
        };
        if !self.linear {
            let rounded = if is_float(at.kind()) {
                at.f_round()?
            } else {
                at.shallow_clone()
            };
            return Ok(vec![whole(&rounded, None)?]);
        }
        let floor = at.f_floor()?;
        let after = at.f_sub(&floor)?;
        let before = after.f_neg()?.f_add_scalar(1.0)?;
        Ok(vec![
            whole(&floor, Some(before))?,
            whole(&floor.f_add_scalar(1.0)?, Some(after))?,
        ])
    }
}

impl Corner {
    /// This corner with a step along the next axis.
    fn then(&self, step: &Self, length: i64) -> Result<Self> {
        let both = |a: &Option<Tensor>, b: &Option<Tensor>, join: Join| match (a, b) {
            (Some(a), Some(b)) => join(a, b).map(Some),
            (a, b) => Ok(a.as_ref().or(b.as_ref()).map(Tensor::shallow_clone)),
        };
        Ok(Self {
            place: self.place.f_mul_scalar(length)?.f_add(&step.place)?,
            weight: both(&self.weight, &step.weight, Tensor::f_mul)?,
            inside: both(&self.inside, &step.inside, Tensor::f_logical_and)?,
        })
    }
}

fn mirrored(at: &Tensor, length: i64) -> Result<Tensor> {
    let turned = at.f_abs()?.f_remainder(2 * length)?;
    let back = turned.f_neg()?.f_add_scalar(2 * length)?;
    Ok(turned.f_where_self(&turned.f_lt(length)?, &back)?)
}
