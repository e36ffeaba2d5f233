//! `keras.ops.nn`, connectionist temporal classification: the loss of label sequences against steps
//! of logits, and the label sequences that steps of logits stand for.

use serde_json::Value as Json;
use tch::{Kind, Tensor};

use super::operand::{Operand, checked, device, operands};
use super::promotion::at_least_float32;
use super::{Family, beam_search, failed, kind_of, listed, operation, single};
use crate::arguments::Args;
use crate::config::{Given, Options};
use crate::dtype::DType;
use crate::error::Result;
use crate::layer::Built;
use crate::losses::ctc::ctc_loss;
use crate::scope::Scope;
use crate::spec::Spec;
use crate::value::Value;

pub(super) const OPS: Family = &[("CTCLoss", loss), ("CTCDecode", decode)];

/// The class of the blank, counted from the end if negative.
fn blank(options: &Options<'_>) -> Result<i64> {
    Ok(match options.given("mask_index") {
        Given::Null => -1,
        _ => options.integer("mask_index", 0)?,
    })
}

/// The class among `classes` that `blank` stands for.
fn class(blank: i64, classes: i64) -> Result<i64> {
    let class = if blank < 0 { blank + classes } else { blank };
    if (0..classes).contains(&class) {
        return Ok(class);
    }
    Err(failed(format!(
        "has mask_index {blank}, but {classes} classes"
    )))
}

/// `[rows, longest]` ids and `[rows, steps, classes]` logits with the lengths of both in each row.
fn loss(scope: &mut Scope<'_>) -> Result<Built> {
    const NAMES: [&str; 4] = ["target", "output", "target_length", "output_length"];
    let blank = blank(scope.options)?;
    Ok(single(
        |args| {
            let [target, output, ..] = operands(args, NAMES)?;
            let output = output.spec()?;
            output.require_rank(3)?;
            output.require_float()?;
            target.spec()?.require_rank(2)?;
            let kind = at_least_float32(kind_of(&output)?);
            Ok(Spec::new([target.dims()[0]], DType::Tensor(kind)))
        },
        move |args| {
            let [target, output, target_length, output_length] = checked(operands(args, NAMES))?;
            let device = device(args);
            let integers = |operand: Operand<'_, Value>| operand.tensor(Kind::Int64, device);
            let kind = at_least_float32(checked(output.kind())?);
            let logits = output.tensor(kind, device)?;
            let (ids, lengths) = (integers(target)?, integers(target_length)?);
            let blank = class(blank, logits.size()[2])?;
            require_labels(&ids, &lengths, blank, logits.size()[2])?;
            let values = ctc_loss(&logits, &integers(output_length)?, &ids, &lengths, blank)?;
            if values.f_isposinf()?.f_any()?.f_int64_value(&[])? != 0 {
                return Err(failed(
                    "got labels that do not fit into the steps of their row: each takes one step, \
                     and one more if it repeats the label before",
                ));
            }
            Ok(values.f_to_kind(kind)?)
        },
    ))
}

/// Demands that the first `lengths` ids of each row are classes, and not the blank.
fn require_labels(ids: &Tensor, lengths: &Tensor, blank: i64, classes: i64) -> Result<()> {
    let places = Tensor::f_arange(ids.size()[1], (Kind::Int64, ids.device()))?;
    let counted = places.f_lt_tensor(&lengths.f_unsqueeze(1)?)?;
    let class = ids.f_ge(0)?.f_logical_and(&ids.f_lt(classes)?)?;
    let label = class.f_logical_and(&ids.f_ne(blank)?)?;
    let wrong = counted.f_logical_and(&label.f_logical_not()?)?;
    let longest = lengths.f_gt(ids.size()[1])?.f_any()?;
    if wrong.f_any()?.f_logical_or(&longest)?.f_int64_value(&[])? == 0 {
        return Ok(());
    }
    Err(failed(format!(
        "takes as many labels in each row as target_length says, from 0 to {} but the blank \
         {blank}",
        classes - 1
    )))
}

/// The most likely label sequences `[paths, rows, steps]`, -1 after their ends, and how likely they
/// are `[rows, paths]`: for the greedy strategy the negative sum of the logits, for the beam search
/// the logarithm of the probability. TensorFlow gives no gradient of them.
fn decode(scope: &mut Scope<'_>) -> Result<Built> {
    const NAMES: [&str; 2] = ["inputs", "sequence_lengths"];
    let options = scope.options;
    let blank = blank(options)?;
    let merged = options.bool("merge_repeated", true)?;
    let width = options.count("beam_width")?;
    let paths = options.count("top_paths")?;
    let greedy = options.choice("strategy", "greedy", &["greedy", "beam_search"])? == "greedy";
    if !greedy && paths > width {
        return Err(options.invalid(format!(
            "top_paths = {paths} must not be above beam_width = {width}"
        )));
    }
    if !greedy && blank == -1 && !options.is_null("mask_index") {
        let supported = "null for the last class, or a class from the start, as Keras counts the \
                         classes twice here";
        return Err(options.unsupported("mask_index", &Json::from(-1), supported));
    }
    let paths = if greedy { 1 } else { paths };
    Ok(operation(
        move |args| {
            let [inputs, lengths] = operands(args, NAMES)?;
            let inputs = inputs.spec()?;
            inputs.require_rank(3)?;
            inputs.require_float()?;
            lengths.spec()?.require_rank(1)?;
            let kind = at_least_float32(kind_of(&inputs)?);
            let decoded = [Some(paths), inputs.dims[0], inputs.dims[1]];
            Ok(listed(vec![
                Spec::new(decoded, DType::Tensor(Kind::Int)),
                Spec::new([inputs.dims[0], Some(paths)], DType::Tensor(kind)),
            ]))
        },
        move |args: &Args<Value>| {
            let [inputs, lengths] = checked(operands(args, NAMES))?;
            let device = device(args);
            let kind = at_least_float32(checked(inputs.kind())?);
            let logits = inputs.tensor(kind, device)?.f_detach()?;
            let lengths = lengths.tensor(Kind::Int64, device)?;
            let blank = class(blank, logits.size()[2])?;
            let (decoded, scores) = if greedy {
                greedy_search(&logits, &lengths, blank, merged)?
            } else {
                beam_search::search(&logits, &lengths, blank, width, paths)?
            };
            let decoded = decoded.f_to_kind(Kind::Int)?;
            Ok(listed(vec![Value::new(decoded), Value::new(scores)]))
        },
    ))
}

/// The best class of each step, without blanks, and without repetitions if they are `merged`.
fn greedy_search(
    logits: &Tensor,
    lengths: &Tensor,
    blank: i64,
    merged: bool,
) -> Result<(Tensor, Tensor)> {
    let (rows, steps, _) = logits.size3()?;
    let best = logits.f_argmax(-1, false)?;
    let time = Tensor::f_arange(steps, (Kind::Int64, logits.device()))?;
    let within = time.f_lt_tensor(&lengths.f_unsqueeze(1)?)?;
    let mut kept = best.f_ne(blank)?.f_logical_and(&within)?;
    if merged && steps > 0 {
        let none = best.f_narrow(1, 0, 1)?.f_full_like(-1)?;
        let before = Tensor::f_cat(&[none, best.f_narrow(1, 0, steps - 1)?], 1)?;
        kept = kept.f_logical_and(&best.f_ne_tensor(&before)?)?;
    }
    // What is left out goes to a place behind the last.
    let place = kept.f_cumsum(1, Kind::Int64)?.f_sub_scalar(1)?;
    let behind = place.f_full_like(steps)?;
    let place = place.f_where_self(&kept, &behind)?;
    let decoded = Tensor::f_full([rows, steps + 1], -1, (Kind::Int64, logits.device()))?;
    let decoded = decoded.f_scatter(1, &place, &best)?.f_narrow(1, 0, steps)?;
    let (largest, _) = logits.f_max_dim(-1, false)?;
    let largest = largest.f_where_self(&within, &largest.f_zeros_like()?)?;
    let scores = largest
        .f_sum_dim_intlist(1_i64, true, logits.kind())?
        .f_neg()?;
    Ok((decoded.f_unsqueeze(0)?, scores))
}
