//! Which of many files are looked at: a bounded number at a time, and every one in its turn, so that a backlog costs
//! no memory and files that cannot be taken do not keep others from being seen.

use std::collections::BinaryHeap;

use super::candidate::Candidate;

/// Goes round all candidates, in an order that has nothing to do with their names.
#[derive(Debug, Default)]
pub(super) struct Window {
    /// Where the next round begins.
    cursor: u64,
}

/// Candidates of one listing, of which the next in turn are let in.
#[derive(Debug)]
pub(super) struct Admission {
    cursor: u64,
    room: usize,
    next: BinaryHeap<(u64, Candidate)>,
    left_out: bool,
}

impl Window {
    /// Begins a listing in which there is room for so many.
    pub(super) fn admit(&self, room: usize) -> Admission {
        Admission { cursor: self.cursor, room, next: BinaryHeap::new(), left_out: false }
    }

    /// Ends a listing: those that are let in, and whether others have to wait for their turn.
    pub(super) fn close(&mut self, admission: Admission) -> (Vec<Candidate>, bool) {
        let Admission { cursor, next, left_out, .. } = admission;
        let admitted = next.into_sorted_vec();
        if left_out && let Some((distance, _)) = admitted.last() {
            self.cursor = cursor.wrapping_add(*distance).wrapping_add(1);
        }
        (admitted.into_iter().map(|(_, candidate)| candidate).collect(), left_out)
    }
}

impl Admission {
    /// A candidate that is not in the window yet.
    pub(super) fn offer(&mut self, candidate: Candidate) {
        let distance = candidate.rank().wrapping_sub(self.cursor);
        if self.next.len() < self.room {
            self.next.push((distance, candidate));
            return;
        }
        self.left_out = true;
        if self.next.peek().is_some_and(|(farthest, _)| distance < *farthest) {
            self.next.pop();
            self.next.push((distance, candidate));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::candidate::Source;
    use super::*;

    fn candidates(number: usize) -> Vec<Candidate> {
        (0..number)
            .map(|number| Candidate { source: Source::Drop, name: format!("{number}.txt").into() })
            .collect()
    }

    fn list(window: &mut Window, all: &[Candidate], room: usize) -> (Vec<Candidate>, bool) {
        let mut admission = window.admit(room);
        all.iter().cloned().for_each(|candidate| admission.offer(candidate));
        window.close(admission)
    }

    #[test]
    fn every_one_has_its_turn_however_many_there_are() {
        let (mut window, all) = (Window::default(), candidates(1000));
        let mut seen = BTreeSet::new();
        for _ in 0..(1000 / 64 + 2) {
            let (admitted, left_out) = list(&mut window, &all, 64);
            assert!(left_out);
            assert_eq!(admitted.len(), 64);
            seen.extend(admitted);
        }
        assert_eq!(seen.len(), 1000);
    }

    #[test]
    fn all_are_let_in_where_there_is_room() {
        let (mut window, all) = (Window::default(), candidates(10));
        assert_eq!(list(&mut window, &all, 10).0.len(), 10);
        assert!(!list(&mut window, &all, 10).1);
        assert!(list(&mut window, &all, 0).0.is_empty());
        assert!(list(&mut window, &all, 0).1);
    }
}
