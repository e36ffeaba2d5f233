//! What a step changes before it is sure to succeed: a forward pass assigns moving statistics, and
//! the ranks may then fail to exchange their gradients. Weights and optimizer change last, after
//! everything that needs other ranks; but for weights that ranks gather from each other, where each
//! keeps a part of the optimizer's state. What a step that fails leaves is of no use there anyway.

use crate::error::Error;
use crate::share::moving_spans;
use flambeau_keras::Model;
use std::ops::Range;

/// The moving statistics as they were before a step.
#[derive(Debug)]
pub(crate) struct Before {
    /// Where they lie in the store of non-trainable variables.
    spans: Vec<Range<usize>>,
    values: Vec<f32>,
}

impl Before {
    pub(crate) fn new(model: &Model) -> Self {
        Self {
            spans: moving_spans(model),
            values: Vec::new(),
        }
    }

    pub(crate) fn take_down(&mut self, model: &Model) -> Result<(), Error> {
        let store = model.non_trainable().as_slice()?;
        self.values.clear();
        for span in &self.spans {
            self.values.extend_from_slice(&store[span.clone()]);
        }
        Ok(())
    }

    pub(crate) fn bring_back(&self, model: &mut Model) -> Result<(), Error> {
        let brought = model.non_trainable_mut().change(|store| {
            let mut rest = self.values.as_slice();
            for span in &self.spans {
                let (values, after) = rest.split_at(span.len());
                store[span.clone()].copy_from_slice(values);
                rest = after;
            }
        });
        Ok(brought?)
    }
}
