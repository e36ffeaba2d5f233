//! TensorFlow's beam search (`ctc_beam_search.h`) for the most likely label sequences: of each
//! sequence the probability is kept that its steps end in a blank, and that they do not.

use std::collections::BTreeMap;

use tch::{Device, Kind, Tensor};

use super::failed;
use crate::error::Result;

/// Logarithms of the probabilities of a label sequence after some steps.
#[derive(Debug, Clone, Copy)]
struct Probability {
    total: f64,
    /// With a blank at the end.
    blank: f64,
    /// With its last label at the end.
    label: f64,
}

const NONE: Probability = Probability {
    total: f64::NEG_INFINITY,
    blank: f64::NEG_INFINITY,
    label: f64::NEG_INFINITY,
};

/// A label sequence: its parent's, and one label more.
#[derive(Debug)]
struct Entry {
    parent: Option<usize>,
    label: Option<usize>,
    children: BTreeMap<usize, usize>,
    /// Before the current step, and after it.
    old: Probability,
    new: Probability,
}

/// All sequences looked at in one row, and those that are in the beam.
#[derive(Debug)]
struct Beam {
    entries: Vec<Entry>,
    leaves: Vec<usize>,
    width: usize,
}

/// As `CTCDecode` gives them: the `paths` best sequences `[paths, rows, steps]` of logits
/// `[rows, steps, classes]`, and the logarithms of their probabilities `[rows, paths]`.
///
/// # Errors
/// A row has fewer sequences.
pub(super) fn search(
    logits: &Tensor,
    lengths: &Tensor,
    blank: i64,
    width: i64,
    paths: i64,
) -> Result<(Tensor, Tensor)> {
    let (rows, steps, classes) = logits.size3()?;
    let [count, classes, blank, width, wanted] =
        [steps, classes, blank, width, paths].map(|n| usize::try_from(n).unwrap_or(0));
    let input = logits
        .f_to_device(Device::Cpu)?
        .f_log_softmax(-1, Kind::Double)?;
    let input = Vec::<f64>::try_from(input.f_contiguous()?.f_view(-1)?)?;
    let lengths = Vec::<i64>::try_from(lengths.f_to_device(Device::Cpu)?)?;
    let (mut decoded, mut scores) = (Vec::new(), Vec::new());
    for (row, length) in lengths.into_iter().enumerate() {
        let length = usize::try_from(length).unwrap_or(0).min(count);
        let first = row * count * classes;
        let mut beam = Beam::new(width);
        for step in input[first..first + length * classes].chunks(classes) {
            beam.step(step, blank);
        }
        let best = beam.best();
        if best.len() < wanted {
            return Err(failed(format!(
                "finds {} label sequences in a row, and {wanted} are asked for",
                best.len()
            )));
        }
        for entry in best.into_iter().take(wanted) {
            let mut labels = beam.labels(entry);
            labels.resize(count, -1);
            decoded.extend(labels);
            scores.push(beam.entries[entry].new.total);
        }
    }
    let decoded = Tensor::f_from_slice(&decoded)?.f_view([rows, paths, steps])?;
    let scores = Tensor::f_from_slice(&scores)?.f_view([rows, paths])?;
    Ok((
        decoded
            .f_transpose(0, 1)?
            .f_contiguous()?
            .f_to_device(logits.device())?,
        scores
            .f_to_kind(logits.kind())?
            .f_to_device(logits.device())?,
    ))
}

impl Beam {
    /// The empty sequence alone.
    fn new(width: usize) -> Self {
        let root = Entry {
            parent: None,
            label: None,
            children: BTreeMap::new(),
            old: NONE,
            new: Probability {
                total: 0.0,
                blank: 0.0,
                label: f64::NEG_INFINITY,
            },
        };
        Self {
            entries: vec![root],
            leaves: vec![0],
            width,
        }
    }

    /// The sequences after one step more, whose classes have the logarithms `input`.
    fn step(&mut self, input: &[f64], blank: usize) {
        let branches = self.best();
        for &at in &branches {
            self.entries[at].old = self.entries[at].new;
        }
        for &at in &branches {
            self.entries[at].new = self.continued(at, input, blank);
        }
        self.leaves.clone_from(&branches);
        for at in branches {
            if !self.is_candidate(self.entries[at].old) {
                continue;
            }
            for label in (0..input.len()).filter(|&label| label != blank) {
                self.grow(at, label, input[label]);
            }
        }
    }

    /// The sequence as it is, by a blank or its last label once more, or reached from its parent.
    fn continued(&self, at: usize, input: &[f64], blank: usize) -> Probability {
        let entry = &self.entries[at];
        let mut label = entry.old.label;
        if let (Some(parent), Some(last)) = (entry.parent, entry.label) {
            let parent = &self.entries[parent];
            if parent.new.total > f64::NEG_INFINITY {
                label = log_sum(label, parent.before(last));
            }
            label += input[last];
        }
        let blank = entry.old.total + input[blank];
        Probability {
            total: log_sum(blank, label),
            blank,
            label,
        }
    }

    /// Whether a sequence comes into the beam: it has room, or a less likely one.
    fn is_candidate(&self, probability: Probability) -> bool {
        let total = probability.total;
        let least = self.least().map(|at| self.total(self.leaves[at]));
        total > f64::NEG_INFINITY
            && (self.leaves.len() < self.width || least.is_some_and(|least| total > least))
    }

    /// Adds the sequence that has one label more, unless it is in the beam or too unlikely.
    fn grow(&mut self, at: usize, label: usize, input: f64) {
        let known = self.entries[at].children.get(&label).copied();
        if known.is_some_and(|child| self.total(child) > f64::NEG_INFINITY) {
            return;
        }
        let total = input + self.entries[at].before(label);
        let new = Probability {
            total,
            blank: f64::NEG_INFINITY,
            label: total,
        };
        if !self.is_candidate(new) {
            // So one that left the beam in this step, before its turn to grow, does not grow.
            if let Some(child) = known {
                self.entries[child].old = NONE;
            }
            return;
        }
        let child = known.unwrap_or(self.entries.len());
        if known.is_none() {
            self.entries[at].children.insert(label, child);
            self.entries.push(Entry {
                parent: Some(at),
                label: Some(label),
                children: BTreeMap::new(),
                old: NONE,
                new: NONE,
            });
        }
        self.entries[child].new = new;
        if self.leaves.len() == self.width
            && let Some(least) = self.least()
        {
            let dropped = self.leaves.swap_remove(least);
            self.entries[dropped].new = NONE;
        }
        self.leaves.push(child);
    }

    fn total(&self, entry: usize) -> f64 {
        self.entries[entry].new.total
    }

    /// Where the least likely leaf is.
    fn least(&self) -> Option<usize> {
        let leaves = 0..self.leaves.len();
        leaves.min_by(|&a, &b| {
            self.total(self.leaves[a])
                .total_cmp(&self.total(self.leaves[b]))
        })
    }

    /// The leaves, the most likely first.
    fn best(&self) -> Vec<usize> {
        let mut leaves = self.leaves.clone();
        leaves.sort_by(|&a, &b| self.total(b).total_cmp(&self.total(a)));
        leaves
    }

    fn labels(&self, mut entry: usize) -> Vec<i64> {
        let mut labels = Vec::new();
        while let Entry {
            parent: Some(parent),
            label: Some(label),
            ..
        } = &self.entries[entry]
        {
            labels.push(i64::try_from(*label).unwrap_or(-1));
            entry = *parent;
        }
        labels.reverse();
        labels
    }
}

impl Entry {
    /// How likely it was that `label` could come next as a label of its own: behind the same label
    /// only after a blank.
    fn before(&self, label: usize) -> f64 {
        if self.label == Some(label) {
            self.old.blank
        } else {
            self.old.total
        }
    }
}

/// `ln(exp(a) + exp(b))`.
fn log_sum(a: f64, b: f64) -> f64 {
    let (low, high) = (a.min(b), a.max(b));
    if high == f64::NEG_INFINITY {
        return high;
    }
    high + (low - high).exp().ln_1p()
}
