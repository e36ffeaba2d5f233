//! `PadImages` and `CropImages`: rows and columns of zeros added around images, or cut off them.

use tch::Tensor;

use super::{on_channels_last, require_images};
use crate::config::Options;
use crate::error::Result;
use crate::layer::Built;
use crate::layers::layout::Layout;
use crate::ops::operand::{Checked, checked};
use crate::ops::shaped;
use crate::scope::Scope;

/// Two of what lies before and after an axis of the images and its length in the results.
#[derive(Debug, Clone, Copy)]
struct Margins {
    before: Option<i64>,
    after: Option<i64>,
    target: Option<i64>,
    /// 1 where margins are added, -1 where they are cut off.
    sign: i64,
}

impl Margins {
    fn read(options: &Options<'_>, names: [&str; 3], sign: i64) -> Result<Self> {
        let mut found = [None; 3];
        for (value, name) in found.iter_mut().zip(names) {
            *value = options.integer_or_null(name, None)?;
            if value.is_some_and(|value| value < 0) {
                return Err(options.invalid(format!("{name} must not be negative")));
            }
        }
        if found.iter().flatten().count() != 2 {
            return Err(options.invalid(format!("takes two of {}", names.join(", "))));
        }
        let [before, after, target] = found;
        Ok(Self {
            before,
            after,
            target,
            sign,
        })
    }

    /// What lies before and after an axis of this length.
    fn amounts(self, length: i64) -> Checked<(i64, i64)> {
        let rest = |target: i64, other: i64| (target - length) * self.sign - other;
        let (before, after) = match (self.before, self.after, self.target) {
            (None, Some(after), Some(target)) => (rest(target, after), after),
            (Some(before), None, Some(target)) => (before, rest(target, before)),
            (before, after, _) => (before.unwrap_or(0), after.unwrap_or(0)),
        };
        if before < 0 || after < 0 || length + (before + after) * self.sign < 0 {
            return Err(format!(
                "cannot bring an axis of {length} to margins of {before} and {after}"
            ));
        }
        Ok((before, after))
    }

    /// The length in the results; `None` where that of the images decides.
    fn length(self, length: Option<i64>) -> Checked<Option<i64>> {
        match length {
            Some(length) => {
                let (before, after) = self.amounts(length)?;
                Ok(Some(length + (before + after) * self.sign))
            }
            None => Ok(self.target),
        }
    }
}

pub(super) fn pad(scope: &mut Scope<'_>) -> Result<Built> {
    let rows = ["top_padding", "bottom_padding", "target_height"];
    let columns = ["left_padding", "right_padding", "target_width"];
    margins(scope, rows, columns, 1)
}

pub(super) fn crop(scope: &mut Scope<'_>) -> Result<Built> {
    let rows = ["top_cropping", "bottom_cropping", "target_height"];
    let columns = ["left_cropping", "right_cropping", "target_width"];
    margins(scope, rows, columns, -1)
}

fn margins(scope: &Scope<'_>, rows: [&str; 3], columns: [&str; 3], sign: i64) -> Result<Built> {
    let rows = Margins::read(scope.options, rows, sign)?;
    let columns = Margins::read(scope.options, columns, sign)?;
    let layout = Layout::read(scope.options)?;
    Ok(shaped(
        move |x| {
            let [height, width, _] = require_images(layout, x)?;
            let mut dims = x.dims.clone();
            dims[height] = rows.length(dims[height])?;
            dims[width] = columns.length(dims[width])?;
            Ok(dims)
        },
        move |x| {
            on_channels_last(layout, x, |x| {
                let (_, height, width, _) = x.size4()?;
                let (above, below) = checked(rows.amounts(height))?;
                let (before, after) = checked(columns.amounts(width))?;
                let amounts = [0, 0, before, after, above, below];
                if sign > 0 {
                    return Ok(x.f_constant_pad_nd(amounts)?);
                }
                let cut: Tensor = x.f_narrow(1, above, height - above - below)?;
                Ok(cut.f_narrow(2, before, width - before - after)?)
            })
        },
    ))
}
