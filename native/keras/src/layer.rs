//! What a layer is: specs and outputs of its calls. Operations (`keras.ops`) are layers without
//! variables.

use std::any::Any;
use std::fmt::Debug;

use flambeau_libtorch::is_same;
use tch::{Kind, Tensor};

use crate::activations::Activation;
use crate::arguments::{Args, Tree};
use crate::context::Context;
use crate::dtype::{DType, Policy, is_float};
use crate::error::{Error, Result};
use crate::regularizers::Regularizer;
use crate::spec::{Spec, SpecResult};
use crate::value::Value;
use crate::variables::Variables;

/// Specs of a call's outputs, or why there are none; the graph adds the layer's name.
pub(crate) type Inferred = std::result::Result<Tree<Spec>, String>;

/// A layer or operation, built.
pub(crate) trait Layer: Any + Debug + Send {
    /// The specs of the outputs for arguments of these specs: of every call, the first included.
    fn infer(&self, args: &Args<Spec>) -> Inferred;

    /// The outputs. Floating-point arguments have the dtype that the layer computes in.
    fn call(&self, args: &Args<Value>, context: &mut Context<'_>) -> Result<Tree<Value>>;

    /// Keras's `compute_mask`: the mask of the first output. The default is that of a layer that
    /// does not support masking: it ends here.
    fn mask(&self, _args: &Args<Value>) -> Result<Option<Tensor>> {
        Ok(None)
    }

    /// Brings the graph of a model that is a layer to the form that inference runs.
    fn fuse(&mut self, _variables: &Variables) -> Result<()> {
        Ok(())
    }
}

/// A layer that takes one tensor and gives one: what most are.
pub(crate) trait Unary: Debug + Send {
    /// The spec of the output.
    fn infer(&self, input: &Spec) -> SpecResult;

    /// The output.
    fn call(&self, x: &Tensor, context: &mut Context<'_>) -> Result<Tensor>;

    /// Keras's `supports_masking`: the input's mask is the output's.
    fn supports_masking(&self) -> bool {
        false
    }
}

/// A [`Unary`] layer among the others.
#[derive(Debug)]
pub(crate) struct Single<U>(pub(crate) U);

impl<U: Unary + 'static> Layer for Single<U> {
    fn infer(&self, args: &Args<Spec>) -> Inferred {
        Ok(Tree::Leaf(self.0.infer(args.only()?)?))
    }

    fn call(&self, args: &Args<Value>, context: &mut Context<'_>) -> Result<Tree<Value>> {
        let x = args.only().map_err(Error::values)?.y()?;
        Ok(Tree::Leaf(self.0.call(x, context)?.into()))
    }

    fn mask(&self, args: &Args<Value>) -> Result<Option<Tensor>> {
        if self.0.supports_masking() {
            return Ok(first_mask(args));
        }
        Ok(None)
    }
}

/// The mask given by name, as Keras's calls take it, or else that of the first input.
pub(crate) fn first_mask(args: &Args<Value>) -> Option<Tensor> {
    let explicit = args.by_name("mask").and_then(Tree::leaf);
    if let Some(Ok(mask)) = explicit.map(Value::y) {
        return Some(mask.shallow_clone());
    }
    let inputs = args.inputs();
    let mask = inputs.first().and_then(|value| value.mask());
    mask.map(Tensor::shallow_clone)
}

/// A layer with what every layer has: the activation that ends it and its dtype policy.
#[derive(Debug)]
pub(crate) struct Built {
    pub(crate) layer: Box<dyn Layer>,
    pub(crate) activation: Activation,
    pub(crate) policy: Policy,
    /// What the outputs add to the loss.
    pub(crate) activity: Option<Regularizer>,
    /// Keras's `autocast`: whether inputs are cast to what the layer computes in.
    pub(crate) autocast: bool,
}

impl Built {
    pub(crate) fn layer(layer: impl Layer) -> Self {
        Self {
            layer: Box::new(layer),
            activation: Activation::Linear,
            policy: Policy::FLOAT32,
            activity: None,
            autocast: true,
        }
    }

    pub(crate) fn unary(layer: impl Unary + 'static) -> Self {
        Self::layer(Single(layer))
    }

    /// The same layer ended by `activation`. A graph runs it as a step of its own.
    pub(crate) fn then(self, activation: Activation) -> Self {
        Self { activation, ..self }
    }

    /// The same layer, which takes its inputs in whatever dtype they come.
    pub(crate) fn without_autocast(self) -> Self {
        Self {
            autocast: false,
            ..self
        }
    }

    /// The specs of the outputs for arguments of these specs.
    pub(crate) fn infer(&self, args: &Args<Spec>) -> Inferred {
        let Some(compute) = self.cast_to() else {
            return self.layer.infer(args);
        };
        self.layer.infer(&args.map(|spec| {
            let dtype = if spec.dtype.is_float() {
                DType::Tensor(compute)
            } else {
                spec.dtype
            };
            spec.with_dtype(dtype)
        }))
    }

    /// The layer as a concrete type, for rewrites of the graph.
    pub(crate) fn downcast<L: Layer>(&self) -> Option<&L> {
        (&*self.layer as &dyn Any).downcast_ref()
    }

    /// The outputs with their masks, before the activation.
    pub(crate) fn call_linear(
        &self,
        args: &Args<Value>,
        context: &mut Context<'_>,
    ) -> Result<Tree<Value>> {
        context.under(self.policy, |context| {
            let cast;
            let args = if self.needs_cast(args) {
                let mut last = None;
                cast = args.try_map(|value| self.cast(value, &mut last))?;
                &cast
            } else {
                args
            };
            let outputs = self.layer.call(args, context)?;
            match self.layer.mask(args)? {
                Some(mask) => Ok(masked(outputs, &mask)),
                None => Ok(outputs),
            }
        })
    }

    /// The outputs.
    pub(crate) fn call(
        &self,
        args: &Args<Value>,
        context: &mut Context<'_>,
    ) -> Result<Tree<Value>> {
        let outputs = self.call_linear(args, context)?;
        let outputs = match self.activation {
            Activation::Linear => outputs,
            activation => outputs.try_map(&mut |value| activation.apply_to(value))?,
        };
        self.regularize(&outputs, context)?;
        Ok(outputs)
    }

    /// Adds what the outputs cost, each as a mean over the batch, as Keras does.
    fn regularize(&self, outputs: &Tree<Value>, context: &mut Context<'_>) -> Result<()> {
        let Some(activity) = &self.activity else {
            return Ok(());
        };
        for output in outputs.leaves() {
            let y = output.y()?;
            let rows = y.size().first().copied().unwrap_or(1).max(1);
            #[expect(clippy::cast_precision_loss, reason = "rows of a batch")]
            let loss = activity.loss(y)?.f_div_scalar(rows as f64)?;
            context.add_loss(loss.f_to_kind(Kind::Float)?);
        }
        Ok(())
    }

    /// What floating-point inputs are cast to.
    fn cast_to(&self) -> Option<Kind> {
        let compute = self.policy.compute.kind()?;
        (self.autocast && is_float(compute)).then_some(compute)
    }

    fn needs_cast(&self, args: &Args<Value>) -> bool {
        let Some(compute) = self.cast_to() else {
            return false;
        };
        let differs = |value: &&Value| {
            value
                .dtype()
                .kind()
                .is_some_and(|kind| is_float(kind) && kind != compute)
        };
        args.leaves().iter().any(differs)
    }

    /// Keras's autocast: floating-point tensors take the dtype the layer computes in. One that is given
    /// several times, as to self-attention, stays one: `last` is what was cast last, and its cast.
    fn cast(&self, value: &Value, last: &mut Option<(Tensor, Tensor)>) -> Result<Value> {
        let compute = self.policy.compute.kind().unwrap_or(Kind::Float);
        match value.dtype() {
            DType::Tensor(kind) if is_float(kind) && kind != compute => {
                let (y, mask) = (value.y()?, value.mask().map(Tensor::shallow_clone));
                let cast = match last {
                    Some((known, cast)) if is_same(known, y) => cast.shallow_clone(),
                    _ => y.f_to_kind(compute)?,
                };
                *last = Some((y.shallow_clone(), cast.shallow_clone()));
                Ok(Value::new(cast).with_mask(mask))
            }
            _ => Ok(value.clone()),
        }
    }
}

/// Gives the first output that lacks one the mask.
fn masked(mut outputs: Tree<Value>, mask: &Tensor) -> Tree<Value> {
    fn first(tree: &mut Tree<Value>) -> Option<&mut Value> {
        match tree {
            Tree::Leaf(value) => Some(value),
            Tree::List(items) => items.iter_mut().find_map(first),
            Tree::Map(entries) => entries.iter_mut().find_map(|(_, item)| first(item)),
            Tree::Constant(_) => None,
        }
    }
    if let Some(value) = first(&mut outputs)
        && value.mask().is_none()
    {
        *value = value.clone().with_mask(Some(mask.shallow_clone()));
    }
    outputs
}
