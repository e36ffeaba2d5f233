//! Carries a plan out over links: all transfers of a round at once, rounds one after the other.
//!
//! Sends go out on every link as room comes up, whatever else is waited for. Receives are taken in
//! the order of the plan, each once no send still needs what it overwrites. That cannot deadlock: a
//! link holds a frame at least, and among the ranks furthest behind, whatever is waited for is a
//! frame that its sender can put into a link that is empty or being read.

use std::ops::Range;

use crate::algorithm::{Action, Plan, Step};
use crate::element::{Element, bytes, bytes_mut};
use crate::topology::chunks::Slice;
use crate::transport::links::Links;
use crate::transport::{LinkError, Progress};
use crate::wire::Encoding;

/// Carries out `plan` on `data`, as part of the operation that `links` have begun.
pub(crate) fn run<T: Element, E: Encoding<T>>(
    links: &mut Links,
    plan: &dyn Plan,
    data: &mut [T],
) -> Result<(), LinkError> {
    let segment = links.part_bytes() / E::BYTES;
    let count = data.len().div_ceil(plan.parts().saturating_mul(segment));
    let (length, stages) = (data.len(), plan.stages());
    let mut round = Round::default();
    let mut steps = Vec::new();
    for number in 0..(count + stages).saturating_sub(1) {
        for (stage, slice) in stages_of(number, stages, count, length) {
            plan.steps(stage, slice, &mut steps);
        }
        round.fill::<T, E>(&mut steps, data);
        round.run::<T, E>(links, data)?;
    }
    Ok(())
}

/// What round `number` consists of, the last stage first: each stage with the slice that it has come
/// to, of `count` of a vector of `length` elements.
pub(crate) fn stages_of(
    number: usize,
    stages: usize,
    count: usize,
    length: usize,
) -> impl Iterator<Item = (usize, Slice)> {
    let first_stage = (number + 1).saturating_sub(count);
    (first_stage..stages.min(number + 1))
        .rev()
        .map(move |stage| {
            let slice = Slice {
                start: 0,
                length,
                count,
                index: number - stage,
            };
            (stage, slice)
        })
}

/// What is left to do in a round.
#[derive(Default)]
struct Round {
    sends: Vec<Step>,
    /// What the sends send, if that is not as it lies in memory: for each its range in here.
    encoded: Vec<u8>,
    places: Vec<(Range<usize>, usize)>,
    receives: Vec<Step>,
    /// Ranks whose links are full.
    full: Vec<usize>,
}

impl Round {
    fn fill<T: Element, E: Encoding<T>>(&mut self, steps: &mut Vec<Step>, data: &mut [T]) {
        self.sends.clear();
        self.receives.clear();
        for step in steps.drain(..).filter(|step| !step.range.is_empty()) {
            match step.action {
                Action::Send => self.sends.push(step),
                Action::Store | Action::Add => self.receives.push(step),
            }
        }
        // Taken from the end, as the first one left.
        self.receives.reverse();
        self.encoded.clear();
        self.places.clear();
        for Step { range, .. } in self.sends.iter().filter(|_| !E::AS_IT_IS) {
            if self.places.iter().all(|(encoded, _)| encoded != range) {
                self.places.push((range.clone(), self.encoded.len()));
                E::encode(&mut data[range.clone()], &mut self.encoded);
            }
        }
    }

    fn run<T: Element, E: Encoding<T>>(
        &mut self,
        links: &mut Links,
        data: &mut [T],
    ) -> Result<(), LinkError> {
        loop {
            let sent = self.send::<T, E>(links, data)?;
            let received = self.receive::<T, E>(links, data)?;
            if self.sends.is_empty() && self.receives.is_empty() {
                links.progressed();
                return Ok(());
            }
            if sent || received {
                links.progressed();
            } else {
                links.wait(self.receives.last().map(|next| next.peer), &self.full)?;
            }
        }
    }

    /// Sends what the links take. Whether anything moved.
    fn send<T: Element, E: Encoding<T>>(
        &mut self,
        links: &mut Links,
        data: &[T],
    ) -> Result<bool, LinkError> {
        let mut moved = false;
        self.full.clear();
        for step in &mut self.sends {
            let segment = (links.segment_bytes(step.peer) / E::BYTES).max(1);
            // Frames to one rank keep their order.
            while !step.range.is_empty() && !self.full.contains(&step.peer) {
                let frame = first(&step.range, segment);
                let payload = if E::AS_IT_IS {
                    bytes(&data[frame.clone()])
                } else {
                    encoded(&self.places, &self.encoded, &frame, E::BYTES)
                };
                let sent = links.try_send(step.peer, payload)?;
                moved |= sent != Progress::Nothing;
                if sent == Progress::Done {
                    step.range.start = frame.end;
                } else {
                    self.full.push(step.peer);
                }
            }
        }
        self.sends.retain(|step| !step.range.is_empty());
        Ok(moved)
    }

    /// Takes what has come and is due. Whether anything moved.
    fn receive<T: Element, E: Encoding<T>>(
        &mut self,
        links: &mut Links,
        data: &mut [T],
    ) -> Result<bool, LinkError> {
        let mut moved = false;
        while let Some(step) = self.receives.last_mut() {
            let segment = (links.segment_bytes(step.peer) / E::BYTES).max(1);
            let frame = first(&step.range, segment);
            let needed = E::AS_IT_IS && self.sends.iter().any(|send| overlap(&send.range, &frame));
            let in_place = E::AS_IT_IS && step.action == Action::Store && !needed;
            let into = &mut data[frame.clone()];
            let progress = if in_place {
                links.try_store(step.peer, bytes_mut(into))?
            } else {
                links.try_receive(step.peer, frame.len() * E::BYTES)?
            };
            moved |= progress != Progress::Nothing;
            if progress != Progress::Done || needed {
                break;
            }
            if !in_place {
                links.take(step.peer, |pieces| {
                    let split = into.len().min(pieces[0].len() / E::BYTES);
                    let (front, back) = into.split_at_mut(split);
                    for (part, piece) in [(front, pieces[0]), (back, pieces[1])] {
                        match step.action {
                            Action::Add => E::add(part, piece),
                            _ => E::store(part, piece),
                        }
                    }
                })?;
            }
            step.range.start = frame.end;
            if step.range.is_empty() {
                self.receives.pop();
            }
        }
        Ok(moved)
    }
}

/// The bytes of `frame`, which is inside one of the encoded ranges.
fn encoded<'a>(
    places: &[(Range<usize>, usize)],
    bytes: &'a [u8],
    frame: &Range<usize>,
    width: usize,
) -> &'a [u8] {
    let inside =
        |(range, _): &&(Range<usize>, usize)| range.start <= frame.start && frame.end <= range.end;
    places.iter().find(inside).map_or(&[], |(range, place)| {
        let start = place + (frame.start - range.start) * width;
        &bytes[start..start + frame.len() * width]
    })
}

fn first(range: &Range<usize>, length: usize) -> Range<usize> {
    range.start..range.end.min(range.start + length)
}

fn overlap(a: &Range<usize>, b: &Range<usize>) -> bool {
    a.start < b.end && b.start < a.end
}
