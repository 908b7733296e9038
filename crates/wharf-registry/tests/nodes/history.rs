//! Histories of a register (a tag: which image does it point at?) and whether they are linearizable: whether each
//! operation can have happened at one instant between its call and its answer, so that every read sees the last write.
//!
//! The search is Wing and Gong's: of the operations that may come next (those called before any that is left was
//! answered) each is tried, and states that led nowhere are remembered. Values are written once, so there is little to
//! try.

use std::collections::HashSet;

/// What was asked, and what was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// `None`: the tag was taken away.
    Write(Option<u64>),
    /// `None`: there was no such tag.
    Read(Option<u64>),
}

/// An operation with the instants of its call and its answer.
#[derive(Clone, Debug)]
pub struct Operation {
    pub event: Event,
    pub called: u64,
    /// `u64::MAX` for a write whose answer was lost: it may have happened, at any time since, or not at all.
    pub answered: u64,
}

/// Whether a register that begins empty can have answered so.
pub fn is_linearizable(history: &[Operation]) -> bool {
    let mut operations = history.to_vec();
    operations.sort_by_key(|operation| operation.called);
    let mut search = Search { operations, dead: HashSet::new() };
    let mut done = vec![false; history.len()];
    search.go_on(&mut done, None)
}

struct Search {
    /// In the order of their calls.
    operations: Vec<Operation>,
    /// What was done and what the register held, where that led nowhere.
    dead: HashSet<(Vec<bool>, Option<u64>)>,
}

impl Search {
    fn go_on(&mut self, done: &mut Vec<bool>, value: Option<u64>) -> bool {
        let left = || done.iter().zip(&self.operations).filter(|(done, _)| !**done).map(|(_, left)| left);
        if left().all(|left| left.answered == u64::MAX) {
            return true;
        }
        let first_answer = left().map(|left| left.answered).min().unwrap_or(u64::MAX);
        if self.dead.contains(&(done.clone(), value)) {
            return false;
        }
        for next in 0..self.operations.len() {
            let Operation { event, called, .. } = self.operations[next].clone();
            if done[next] {
                continue;
            }
            if called > first_answer {
                break;
            }
            let then = match event {
                Event::Write(written) => written,
                Event::Read(read) if read == value => value,
                Event::Read(_) => continue,
            };
            done[next] = true;
            if self.go_on(done, then) {
                return true;
            }
            done[next] = false;
        }
        self.dead.insert((done.clone(), value));
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(value: u64, called: u64, answered: u64) -> Operation {
        Operation { event: Event::Write(Some(value)), called, answered }
    }

    fn read(value: impl Into<Option<u64>>, called: u64, answered: u64) -> Operation {
        Operation { event: Event::Read(value.into()), called, answered }
    }

    #[test]
    fn what_a_register_can_answer_is_linearizable() {
        let good = [
            vec![],
            vec![read(None, 0, 1), write(1, 2, 3), read(1, 4, 5)],
            // While it is written, both are right, until one has seen the new value.
            vec![write(1, 0, 10), read(None, 1, 2), read(1, 3, 4), read(1, 5, 6)],
            vec![write(1, 0, 10), write(2, 0, 10), read(2, 11, 12), read(2, 13, 14)],
            // A lost answer: it has happened, or it has not.
            vec![write(1, 0, 1), write(2, 2, u64::MAX), read(1, 3, 4), read(2, 5, 6)],
            vec![write(1, 0, 1), write(2, 2, u64::MAX), read(1, 3, 4)],
            vec![
                write(1, 0, 1),
                Operation { event: Event::Write(None), called: 2, answered: 5 },
                read(1, 3, 4),
                read(None, 6, 7),
            ],
        ];
        for history in good {
            assert!(is_linearizable(&history), "{history:?}");
        }
    }

    #[test]
    fn what_no_register_answers_is_found() {
        let bad = [
            // Acknowledged and not seen.
            vec![write(1, 0, 1), read(None, 2, 3)],
            vec![write(1, 0, 1), write(2, 2, 3), read(1, 4, 5)],
            // Seen and gone again.
            vec![write(1, 0, 1), write(2, 2, 9), read(2, 3, 4), read(1, 5, 6)],
            // Never written.
            vec![read(7, 0, 1)],
            // Read before it was written.
            vec![read(1, 0, 1), write(1, 2, 3)],
            // Two writes at once, seen in both orders.
            vec![write(1, 0, 9), write(2, 0, 9), read(1, 10, 11), read(2, 12, 13)],
        ];
        for history in bad {
            assert!(!is_linearizable(&history), "{history:?}");
        }
    }

    #[test]
    fn long_histories_are_judged_in_time() {
        let mut history = Vec::new();
        for step in 0..400 {
            let at = step * 10;
            history.push(write(2 * step, at, at + 9));
            history.push(write(2 * step + 1, at + 1, at + 8));
            history.push(read(2 * step, at + 2, at + 7));
        }
        assert!(is_linearizable(&history));
        history.push(read(3, 4001, 4002));
        assert!(!is_linearizable(&history));
    }
}
