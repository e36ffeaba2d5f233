//! One column of a batch while it is built row by row, and as its buffers afterwards.

use super::Refusal;
use super::elements::{ElementType, Elements, pack};
use crate::example::walk::{lists, steps};
use crate::protobuf::Message;

/// A column that is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnSpec {
    /// The feature's name.
    pub name: String,
    /// Of its values.
    pub element: ElementType,
    /// 0 for one value in each row, 1 for a list, 2 for a list of lists.
    pub depth: usize,
}

/// The rows of one column.
#[derive(Debug)]
pub struct Column {
    spec: ColumnSpec,
    /// Of each row whether it is there.
    valid: Vec<bool>,
    bits: Vec<u8>,
    nulls: usize,
    /// Of each level of lists where each list ends in the next level, after a leading zero.
    ends: Vec<Vec<i32>>,
    elements: Elements,
    /// Whether the row in work has values.
    is_set: bool,
    /// Lengths before the row in work: of the inner lists' ends and of the elements.
    before: (usize, usize),
}

impl Column {
    pub(super) fn new(spec: ColumnSpec) -> Self {
        let mut column = Column {
            valid: Vec::new(),
            bits: Vec::new(),
            nulls: 0,
            ends: vec![vec![0]; spec.depth],
            elements: Elements::new(spec.element),
            is_set: false,
            before: (0, 0),
            spec,
        };
        column.begin_row();
        column
    }

    pub(super) fn name(&self) -> &str {
        &self.spec.name
    }

    /// Takes the encoded `Feature` of the row in work; the last one counts.
    pub(super) fn put(&mut self, parts: &[Message<'_>]) -> Result<(), Refusal> {
        self.undo();
        let (elements, spec) = (&mut self.elements, &self.spec);
        let found = lists(parts, |kind, lists| {
            if spec.depth > 1 {
                return Err(
                    spec.unfit("it is no feature list, but its column holds lists of lists")
                );
            }
            elements.append(&spec.name, kind, lists)
        })?;
        if found.is_none() {
            return Ok(());
        }
        let count = self.elements.len() - self.before.1;
        self.is_set = self.spec.depth == 1 || count == 1;
        if self.spec.depth == 0 && count > 1 {
            return Err(self.spec.unfit(&format!(
                "it has {count} values, but its column holds one in a row; read it as an array"
            )));
        }
        Ok(())
    }

    /// Takes the encoded `FeatureList` of the row in work; the last one counts.
    pub(super) fn put_list(&mut self, parts: &[Message<'_>]) -> Result<(), Refusal> {
        self.undo();
        if self.spec.depth == 0 {
            return Err(self
                .spec
                .unfit("it is a feature list, but its column holds one value in a row"));
        }
        steps(parts, |feature| {
            let before = self.elements.len();
            let (elements, name) = (&mut self.elements, &self.spec.name);
            lists(feature, |kind, lists| elements.append(name, kind, lists))?;
            if let [_, inner] = &mut self.ends[..] {
                inner.push(end(self.elements.len()));
            } else if self.elements.len() != before + 1 {
                let count = self.elements.len() - before;
                return Err(self.spec.unfit(&format!(
                    "one of its features has {count} values, but its column holds a list of single \
                     values; read it as an array of arrays"
                )));
            }
            Ok(())
        })?;
        self.is_set = true;
        Ok(())
    }

    /// Takes the bytes of a whole record as the row in work.
    pub(super) fn put_bytes(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        self.is_set = self.spec.depth == 0 && self.elements.push_bytes(bytes);
        if self.is_set {
            Ok(())
        } else {
            Err(self
                .spec
                .unfit("the bytes of a record fit a column of type binary only"))
        }
    }

    /// Forgets what the row in work has.
    pub(super) fn undo(&mut self) {
        let (inner, elements) = self.before;
        if self.spec.depth == 2 {
            self.ends[1].truncate(inner);
        }
        self.elements.truncate(elements);
        self.is_set = false;
    }

    /// Bytes that the values take.
    pub(super) fn bytes(&self) -> usize {
        self.elements.bytes()
    }

    /// Ends the row in work; it is null if nothing was put.
    pub(super) fn end_row(&mut self) {
        self.valid.push(self.is_set);
        self.nulls += usize::from(!self.is_set);
        match self.spec.depth {
            0 if !self.is_set => self.elements.push_default(),
            0 => {}
            1 => self.ends[0].push(end(self.elements.len())),
            _ => {
                let inner = self.ends[1].len() - 1;
                self.ends[0].push(end(inner));
            }
        }
        self.begin_row();
    }

    fn begin_row(&mut self) {
        self.is_set = false;
        self.before = (self.ends.get(1).map_or(0, Vec::len), self.elements.len());
    }

    /// Readies the buffers to be shown.
    pub(super) fn seal(&mut self) {
        if self.nulls > 0 {
            pack(&self.valid, &mut self.bits);
        }
        self.elements.seal();
    }

    /// Forgets all rows, but keeps the memory.
    pub(super) fn clear(&mut self) {
        self.valid.clear();
        self.bits.clear();
        self.nulls = 0;
        self.ends.iter_mut().for_each(|ends| ends.truncate(1));
        self.elements.truncate(0);
        self.begin_row();
    }

    /// Length and null count of each of Arrow's field nodes, the outermost first.
    pub fn nodes(&self) -> Vec<(usize, usize)> {
        let mut nodes = vec![(self.valid.len(), self.nulls)];
        nodes.extend(self.ends.iter().skip(1).map(|ends| (ends.len() - 1, 0)));
        if !self.ends.is_empty() {
            nodes.push((self.elements.len(), 0));
        }
        nodes
    }

    /// Calls `buffer` with address and byte length of each of Arrow's buffers: of every node the
    /// validity bitmap, empty where nothing is null, the offsets, and the values. They stay where
    /// they are as long as the column is neither changed nor dropped.
    pub fn each_buffer(&self, mut buffer: impl FnMut(*const u8, usize)) {
        let bits: &[u8] = if self.nulls > 0 { &self.bits } else { &[] };
        buffer(bits.as_ptr(), bits.len());
        for ends in &self.ends {
            buffer(ends.as_ptr().cast(), size_of_val(&ends[..]));
            buffer([].as_ptr(), 0);
        }
        self.elements.each_buffer(&mut buffer);
    }
}

impl ColumnSpec {
    fn unfit(&self, reason: &str) -> Refusal {
        Refusal::Unfit {
            feature: self.name.clone(),
            reason: reason.to_owned(),
        }
    }
}

/// An offset. A batch ends long before it is too large for one, and a record has a limit too.
fn end(len: usize) -> i32 {
    i32::try_from(len).unwrap_or(i32::MAX)
}
