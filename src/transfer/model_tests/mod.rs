//! Both machines in every world that a small model of Altinn, the disk and a dying driver can come to: breadth first,
//! each state once, and the promises held against every one of them.
//!
//! A world is a record with what is true outside. Its moves are what Altinn, the network and people may do at any
//! time, and what a driver may do that knows the record and what it has been told: it tries everything that it could
//! believe in, also what the machine is there to refuse. A death takes from it all but the record.

mod incoming;
mod outgoing;

use std::collections::{HashMap, VecDeque};

/// More than this is a model that has lost its bounds.
const MAX_STATES: usize = 1_000_000;

/// A record, and what is true outside.
trait World: Clone {
    /// What tells two worlds apart.
    fn key(&self) -> String;
    /// Everything that can happen next, with its name.
    fn moves(&self) -> Vec<(&'static str, Self)>;
    /// What must hold at any time.
    fn check(&self) -> Result<(), String>;
    /// Whether nothing more is to be done.
    fn is_over(&self) -> bool;
}

/// A world that has been reached: by which move, from which other.
struct Reached<W> {
    world: W,
    from: Option<(usize, &'static str)>,
    next: Vec<usize>,
}

/// Visits every world that can be reached, and gives the number of them; or the way to one that breaks a promise, or
/// from which no end can be reached any more.
fn explore<W: World>(first: W) -> Result<usize, String> {
    let mut numbers = HashMap::from([(first.key(), 0)]);
    let mut all = vec![Reached { world: first, from: None, next: Vec::new() }];
    let mut waiting = VecDeque::from([0]);
    while let Some(number) = waiting.pop_front() {
        all[number].world.check().map_err(|wrong| format!("{wrong}\n{}", way(&all, number)))?;
        for (name, world) in all[number].world.moves() {
            let next = *numbers.entry(world.key()).or_insert_with(|| {
                all.push(Reached { world, from: Some((number, name)), next: Vec::new() });
                waiting.push_back(all.len() - 1);
                all.len() - 1
            });
            all[number].next.push(next);
        }
        assert!(all.len() < MAX_STATES, "the model has no end");
    }
    match first_without_end(&all) {
        Some(lost) => Err(format!("no end can be reached\n{}", way(&all, lost))),
        None => Ok(all.len()),
    }
}

/// The first world from which nothing leads to an end.
fn first_without_end<W: World>(all: &[Reached<W>]) -> Option<usize> {
    let mut before = vec![Vec::new(); all.len()];
    for (number, reached) in all.iter().enumerate() {
        for next in &reached.next {
            before[*next].push(number);
        }
    }
    let mut ends: Vec<bool> = all.iter().map(|reached| reached.world.is_over()).collect();
    let mut waiting: Vec<usize> = (0..all.len()).filter(|number| ends[*number]).collect();
    while let Some(number) = waiting.pop() {
        for from in &before[number] {
            if !std::mem::replace(&mut ends[*from], true) {
                waiting.push(*from);
            }
        }
    }
    ends.iter().position(|leads| !leads)
}

/// How a world was reached.
fn way<W: World>(all: &[Reached<W>], mut number: usize) -> String {
    let mut lines = vec![format!("in {}", all[number].world.key())];
    while let Some((from, name)) = all[number].from {
        lines.push(format!("  {name}"));
        number = from;
    }
    lines.reverse();
    lines.join("\n")
}
