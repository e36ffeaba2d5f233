//! Builds the tree of groups and datasets of a weights file.

use std::collections::BTreeMap;

use hdf5_pure::{AttrValue, FileBuilder, GroupBuilder};

use super::{LAYERS, LayerWeights, OPTIMIZER, OptimizerWeights, VARS, WeightsFile};
use crate::{Array, Error, Result};

pub(super) fn weights_file(weights: &WeightsFile) -> Result<Vec<u8>> {
    let mut root = Node::default();
    for layer in &weights.layers {
        root.add(layer)?;
    }
    let mut file = FileBuilder::new();
    for (name, node) in &root.children {
        let mut group = file.create_group(name);
        node.write(&mut group)?;
        file.add_group(group.finish());
    }
    if let Some(optimizer) = &weights.optimizer {
        let mut group = file.create_group(OPTIMIZER);
        write_optimizer(optimizer, &mut group)?;
        file.add_group(group.finish());
    }
    file.finish()
        .map_err(|e| Error::invalid("the weights file", e.to_string()))
}

/// A group to write: the variables of at most one layer, and the groups below.
#[derive(Default)]
struct Node<'a> {
    layer: Option<&'a LayerWeights>,
    children: BTreeMap<&'a str, Node<'a>>,
}

impl<'a> Node<'a> {
    fn add(&mut self, layer: &'a LayerWeights) -> Result<()> {
        let parts: Vec<&str> = layer.group.split('/').collect();
        let well_formed = parts.len() > 1 && parts[0] == LAYERS;
        if !well_formed || parts.iter().any(|&part| part.is_empty() || part == VARS) {
            return Err(Error::invalid(&layer.group, "it is no group below layers/"));
        }
        let node = parts
            .iter()
            .fold(self, |node, part| node.children.entry(part).or_default());
        if node.layer.replace(layer).is_some() {
            return Err(Error::invalid(&layer.group, "two layers have this group"));
        }
        Ok(())
    }

    fn write(&self, group: &mut GroupBuilder) -> Result<()> {
        if let Some(layer) = self.layer {
            let mut vars = group.create_group(VARS);
            vars.set_attr("name", AttrValue::VarLenString(layer.name.clone()));
            write_arrays(&layer.group, &layer.vars, 0, &mut vars)?;
            group.add_group(vars.finish());
        }
        for (name, node) in &self.children {
            let mut child = group.create_group(name);
            node.write(&mut child)?;
            group.add_group(child.finish());
        }
        Ok(())
    }
}

fn write_optimizer(optimizer: &OptimizerWeights, group: &mut GroupBuilder) -> Result<()> {
    let mut vars = group.create_group(VARS);
    vars.create_dataset("0")
        .with_i64_data(&[optimizer.iteration])
        .with_shape(&[]);
    let rate = optimizer.learning_rate.map(Array::scalar);
    write_arrays(OPTIMIZER, rate.iter().chain(&optimizer.slots), 1, &mut vars)?;
    group.add_group(vars.finish());
    Ok(())
}

/// Writes the datasets `first`, `first + 1`, ... of the `vars` below `group`.
fn write_arrays<'a>(
    group: &str,
    arrays: impl IntoIterator<Item = &'a Array>,
    first: usize,
    vars: &mut GroupBuilder,
) -> Result<()> {
    for (index, array) in (first..).zip(arrays) {
        array.check(&format!("{group}/{VARS}/{index}"))?;
        let shape: Vec<u64> = array.shape.iter().map(|&axis| axis as u64).collect();
        let dataset = vars.create_dataset(&index.to_string());
        dataset.with_f32_data(&array.data).with_shape(&shape);
    }
    Ok(())
}
