//! The tree of groups and datasets of an HDF5 file that is to be written.

use std::collections::BTreeMap;
use std::io::Write;

use crate::array::ToArray;
use crate::h5_file::{Attribute, Output};
use crate::{Error, Result};

/// A group: its attributes, and what is below it by name.
#[derive(Default)]
pub(crate) struct Tree<'a> {
    attributes: Vec<(String, Attribute)>,
    children: BTreeMap<&'a str, Child<'a>>,
}

enum Child<'a> {
    Group(Tree<'a>),
    Dataset(&'a dyn ToArray),
}

impl<'a> Tree<'a> {
    /// Gives this group an attribute.
    pub(crate) fn attribute(&mut self, name: impl Into<String>, value: Attribute) {
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
    pub(crate) fn dataset(&mut self, path: &'a str, array: &'a dyn ToArray) -> Result<()> {
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

    /// Writes the file with this as its root group, from front to back. One array after the other is
    /// asked for its elements.
    pub(crate) fn write(&self, sink: &mut dyn Write) -> Result<()> {
        let mut counted = Output::counting();
        let root = self.write_below("", &mut counted)?;
        let mut output = Output::begin(sink, root, counted.position())?;
        self.write_below("", &mut output)?;
        Ok(())
    }

    /// The length of the file.
    pub(crate) fn length(&self) -> Result<u64> {
        let mut counted = Output::counting();
        self.write_below("", &mut counted)?;
        Ok(counted.position())
    }

    /// What is below comes before this, which knows where it is then.
    fn write_below(&self, path: &str, output: &mut Output<'_>) -> Result<u64> {
        let mut links = Vec::with_capacity(self.children.len());
        for (name, child) in &self.children {
            let path = format!("{path}/{name}");
            let address = match child {
                Child::Group(tree) => tree.write_below(&path, output)?,
                Child::Dataset(array) => output.dataset(&path, *array)?,
            };
            links.push((*name, address));
        }
        output.group(path, &self.attributes, &links)
    }
}

/// HDF5 takes an empty part and `.` for the group itself; Keras never writes `..`.
fn check_name(path: &str, name: &str) -> Result<()> {
    if matches!(name, "" | "." | "..") || name.contains('\0') {
        let reason = format!("{name:?} is no name for a part of a path");
        return Err(Error::invalid(format!("path {path:?}"), reason));
    }
    Ok(())
}
