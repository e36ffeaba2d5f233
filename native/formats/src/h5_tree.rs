//! The tree of groups and datasets of an HDF5 file that is to be written.

use std::collections::BTreeMap;

use hdf5_pure::{AttrValue, DatasetBuilder, FileBuilder, GroupBuilder};

use crate::array::Array;
use crate::dtype::DType;
use crate::h5_dtype;
use crate::{Error, Result};

/// A group: its attributes, and what is below it by name.
#[derive(Default)]
pub(crate) struct Tree<'a> {
    attributes: Vec<(String, AttrValue)>,
    children: BTreeMap<&'a str, Child<'a>>,
}

enum Child<'a> {
    Group(Tree<'a>),
    Dataset(&'a Array),
}

impl<'a> Tree<'a> {
    /// Gives this group an attribute.
    pub(crate) fn attribute(&mut self, name: impl Into<String>, value: AttrValue) {
        self.attributes.push((name.into(), value));
    }

    /// The group at `path` below this one, made if need be. An empty path is this group.
    pub(crate) fn group(&mut self, path: &'a str) -> Result<&mut Tree<'a>> {
        let mut tree = self;
        for part in path.split('/').filter(|_| !path.is_empty()) {
            check_name(path, part)?;
            let group = || Child::Group(Tree::default());
            let Child::Group(child) = tree.children.entry(part).or_insert_with(group) else {
                return Err(Error::invalid(path, "a variable above it has this path"));
            };
            tree = child;
        }
        Ok(tree)
    }

    /// A new group directly below this one.
    pub(crate) fn new_group(&mut self, name: &'a str) -> Result<&mut Tree<'a>> {
        if name.contains('/') || self.children.contains_key(name) {
            let reason = "its name must be one that nothing else has, without a slash";
            return Err(Error::invalid(format!("group {name:?}"), reason));
        }
        self.group(name)
    }

    /// Puts `array` at `path` below this group.
    pub(crate) fn dataset(&mut self, path: &'a str, array: &'a Array) -> Result<()> {
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        check_name(path, name)?;
        let replaced = self
            .group(parent)?
            .children
            .insert(name, Child::Dataset(array));
        match replaced {
            None => Ok(()),
            Some(_) => Err(Error::invalid(path, "it is the path of something else too")),
        }
    }

    /// The file with this as its root group. `place` names it in errors.
    pub(crate) fn to_bytes(&self, place: &str) -> Result<Vec<u8>> {
        let mut file = FileBuilder::new();
        for (name, value) in &self.attributes {
            file.set_attr(name, value.clone());
        }
        for (name, child) in &self.children {
            match child {
                Child::Group(tree) => {
                    let mut group = file.create_group(name);
                    tree.write(&mut group)?;
                    file.add_group(group.finish());
                }
                Child::Dataset(array) => write_array(array, file.create_dataset(name))?,
            }
        }
        file.finish()
            .map_err(|e| Error::invalid(place, e.to_string()))
    }

    fn write(&self, group: &mut GroupBuilder) -> Result<()> {
        for (name, value) in &self.attributes {
            group.set_attr(name, value.clone());
        }
        for (name, child) in &self.children {
            match child {
                Child::Group(tree) => {
                    let mut child = group.create_group(name);
                    tree.write(&mut child)?;
                    group.add_group(child.finish());
                }
                Child::Dataset(array) => write_array(array, group.create_dataset(name))?,
            }
        }
        Ok(())
    }
}

fn write_array(array: &Array, dataset: &mut DatasetBuilder) -> Result<()> {
    let shape: Vec<u64> = array.shape().iter().map(|&axis| axis as u64).collect();
    let datatype = h5_dtype::to_h5(array.dtype())?;
    dataset
        .with_raw_data(datatype, array.bytes().to_vec(), array.len() as u64)
        .with_shape(&shape);
    if array.dtype() == DType::BFloat16 {
        let name = AttrValue::VarLenString(array.dtype().name().into());
        dataset.set_attr(h5_dtype::ATTRIBUTE, name);
    }
    Ok(())
}

/// HDF5 takes an empty part and `.` for the group itself; Keras never writes `..`.
fn check_name(path: &str, name: &str) -> Result<()> {
    if matches!(name, "" | "." | "..") || name.contains('\0') {
        let reason = format!("{name:?} is no name for a part of a path");
        return Err(Error::invalid(format!("path {path:?}"), reason));
    }
    Ok(())
}
