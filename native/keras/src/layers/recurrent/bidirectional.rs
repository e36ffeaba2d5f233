//! `Bidirectional`: a recurrent layer and one that runs the other way, their outputs merged.

use serde_json::{Map, Value as Json, json};
use tch::Tensor;

use super::rnn::{Call, step_of};
use crate::arguments::{Args, Tree};
use crate::config::Options;
use crate::context::Context;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::layer::{Built, Inferred, Layer};
use crate::scope::Scope;
use crate::spec::Spec;
use crate::value::Value;

const RECURRENT: [&str; 7] = [
    "SimpleRNN",
    "GRU",
    "LSTM",
    "RNN",
    "ConvLSTM1D",
    "ConvLSTM2D",
    "ConvLSTM3D",
];

#[derive(Debug)]
struct Bidirectional {
    forward: Built,
    backward: Built,
    merge: Merge,
    return_sequences: bool,
    dtype: DType,
}

/// Keras's `merge_mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Merge {
    Concat,
    Sum,
    Multiply,
    Average,
    /// Both outputs as they are.
    Apart,
}

pub(super) fn build(scope: &mut Scope<'_>) -> Result<Built> {
    let options = scope.options;
    options.require_null("weights")?;
    let merge = if options.is_null("merge_mode") {
        Merge::Apart
    } else {
        match options.choice("merge_mode", "concat", &["concat", "sum", "mul", "ave"])? {
            "sum" => Merge::Sum,
            "mul" => Merge::Multiply,
            "ave" => Merge::Average,
            _ => Merge::Concat,
        }
    };
    let layer = options.value("layer");
    let mut forward = layer
        .cloned()
        .ok_or_else(|| options.invalid("layer is missing"))?;
    let mut backward = match options.value("backward_layer") {
        Some(layer) => layer.clone(),
        None => {
            let mut layer = forward.clone();
            rename(config_of(&mut layer, options)?, "backward_");
            config_of(&mut layer, options)?.insert("go_backwards".to_owned(), json!(true));
            layer
        }
    };
    rename(config_of(&mut forward, options)?, "forward_");
    let mut flags = Vec::new();
    for layer in [&mut forward, &mut backward] {
        let config = config_of(layer, options)?;
        let flag = |key: &str| config.get(key).and_then(Json::as_bool).unwrap_or(false);
        let sequences = flag("return_sequences");
        flags.push((sequences, flag("return_state"), flag("go_backwards")));
        // So that the two can be merged, Keras has zeros at masked steps.
        config.insert("zero_output_for_mask".to_owned(), json!(sequences));
    }
    let (return_sequences, return_state, direction) = flags[0];
    if flags[1] != (return_sequences, return_state, !direction) {
        return Err(options.invalid(
            "layer and backward_layer must agree in return_sequences and return_state and differ \
             in go_backwards",
        ));
    }
    let call = Call::new(scope.args).map_err(|reason| scope.mismatch(reason))?;
    let args = Args::one(call.sequence.clone());
    Ok(Built::layer(Bidirectional {
        forward: scope.child("forward_layer", &forward, &args)?,
        backward: scope.child("backward_layer", &backward, &args)?,
        merge,
        return_sequences,
        dtype: scope.policy.compute,
    }))
}

/// The config of one of the two layers.
fn config_of<'a>(layer: &'a mut Json, options: &Options<'_>) -> Result<&'a mut Map<String, Json>> {
    let class = layer["class_name"].clone();
    if !class
        .as_str()
        .is_some_and(|class| RECURRENT.contains(&class))
    {
        return Err(Error::Unsupported {
            place: options.place().to_owned(),
            what: format!("a layer of class {class}"),
            supported: RECURRENT.join(", "),
        });
    }
    let config = layer.get_mut("config").and_then(Json::as_object_mut);
    config.ok_or_else(|| options.invalid("its layer has no config"))
}

/// Gives a layer's name a prefix, once.
fn rename(config: &mut Map<String, Json>, prefix: &str) {
    let name = config
        .get("name")
        .and_then(Json::as_str)
        .unwrap_or_default();
    let name = name.strip_prefix(prefix).unwrap_or(name);
    config.insert("name".to_owned(), json!(format!("{prefix}{name}")));
}

/// The arguments of the two layers' calls.
fn both<T: Clone>(call: &Call<'_, T>, sequence: &T) -> [Args<T>; 2] {
    let half = call.states.len() / 2;
    let (forward, backward) = call.states.split_at(half);
    [forward, backward].map(|states| {
        let mut args = Args::one(sequence.clone());
        if !states.is_empty() {
            let states = states.iter().map(|&state| Tree::Leaf(state.clone()));
            let states = Tree::List(states.collect());
            args.named.push(("initial_state".to_owned(), states));
        }
        args
    })
}

/// A layer's output and its states.
fn split<T: Clone>(tree: &Tree<T>) -> std::result::Result<(T, Vec<T>), String> {
    let leaves = tree.leaves();
    let (output, states) = leaves.split_first().ok_or("a direction has no output")?;
    let states = states.iter().map(|&state| state.clone());
    Ok(((*output).clone(), states.collect()))
}

impl Layer for Bidirectional {
    fn infer(&self, args: &Args<Spec>) -> Inferred {
        let call = Call::new(args)?;
        step_of(call.sequence)?;
        let [forward, backward] = both(&call, call.sequence);
        let (y, states) = split(&self.forward.layer.infer(&forward)?)?;
        let (back, back_states) = split(&self.backward.layer.infer(&backward)?)?;
        let (y, back) = (y.with_dtype(self.dtype), back.with_dtype(self.dtype));
        let outputs = match self.merge {
            Merge::Apart => vec![y, back],
            Merge::Concat => {
                let mut dims = y.dims.clone();
                if let (Some(Some(last)), Some(Some(more))) = (dims.last_mut(), back.dims.last()) {
                    *last += more;
                }
                vec![y.with_dims(dims)]
            }
            _ if y.dims == back.dims => vec![y],
            _ => return Err(format!("cannot merge outputs of shapes {y} and {back}")),
        };
        Ok(tree(outputs.into_iter().chain(states).chain(back_states)))
    }

    fn call(&self, args: &Args<Value>, context: &mut Context<'_>) -> Result<Tree<Value>> {
        let call = Call::new(args).map_err(Error::values)?;
        let (hiding, mask) = call.masks()?;
        let mask = mask.filter(|_| self.return_sequences);
        let sequence = call.sequence.clone().with_mask(None);
        let [mut forward, mut backward] = both(&call, &sequence);
        if let Some(hiding) = hiding {
            for args in [&mut forward, &mut backward] {
                let mask = Value::new(hiding.shallow_clone());
                args.named.push(("mask".to_owned(), Tree::Leaf(mask)));
            }
        }
        let (y, states) = split(&self.forward.call(&forward, context)?).map_err(Error::values)?;
        let back = self.backward.call(&backward, context)?;
        let (back, back_states) = split(&back).map_err(Error::values)?;
        let kind = context.compute();
        let y = y.y()?.f_to_kind(kind)?;
        let mut back = back.y()?.f_to_kind(kind)?;
        if self.return_sequences {
            back = back.f_flip([1])?;
        }
        let outputs = match self.merge {
            Merge::Apart => vec![y, back],
            Merge::Concat => vec![Tensor::f_cat(&[y, back], -1)?],
            Merge::Sum => vec![y.f_add(&back)?],
            Merge::Multiply => vec![y.f_mul(&back)?],
            Merge::Average => vec![y.f_add(&back)?.f_div_scalar(2.0)?],
        };
        let outputs = outputs
            .into_iter()
            .map(|output| Value::new(output).with_mask(mask.as_ref().map(Tensor::shallow_clone)));
        Ok(tree(outputs.chain(states).chain(back_states)))
    }
}

/// One output, or the list of several.
fn tree<T>(leaves: impl Iterator<Item = T>) -> Tree<T> {
    let mut leaves: Vec<Tree<T>> = leaves.map(Tree::Leaf).collect();
    match leaves.len() {
        1 => leaves.swap_remove(0),
        _ => Tree::List(leaves),
    }
}
