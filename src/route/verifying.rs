//! What `state verify` says of the private folders of any route. It changes nothing.

use std::ffi::OsStr;
use std::path::Path;
use std::str::FromStr;

use crate::files::{Dir, Error, PROBE_PREFIX};
use crate::store::{self, Finding, Store};
use crate::transfer::{RouteName, Transfer};

/// How an entry of a folder is called in a finding.
#[must_use]
pub fn subject(folder: &Dir, name: &OsStr) -> String {
    folder.path().join(name).display().to_string()
}

/// The id that an entry of a folder of ours is named by. One that has another name is told of, but for what a death has
/// left of a probe: the next start removes it.
pub fn id_of<I: FromStr>(folder: &Dir, name: &OsStr, tell: &mut dyn FnMut(Finding)) -> Option<I> {
    let id = name.to_str().and_then(|name| name.parse().ok());
    if id.is_none() && !name.as_encoded_bytes().starts_with(PROBE_PREFIX.as_bytes()) {
        tell(Finding {
            subject: subject(folder, name),
            problem: "formidlingd did not put it there".to_owned(),
            remedy: "move it away",
        });
    }
    id
}

/// A folder that is away, with everything in it: a finding only where something of a transfer should lie in it.
#[derive(Debug)]
pub struct Away<'a> {
    /// The route whose folder it is.
    pub route: &'a RouteName,
    /// The folder of the route.
    pub path: &'a Path,
    /// What became of it.
    pub error: &'a Error,
    /// What should lie there.
    pub what: &'static str,
    /// What to do about it.
    pub remedy: &'static str,
}

impl Away<'_> {
    /// Tells of it where `should_lie_there` holds of a transfer of the route. Blocks.
    ///
    /// # Errors
    ///
    /// The store cannot be read.
    pub fn tell(
        &self,
        store: &Store,
        should_lie_there: &dyn Fn(&Transfer) -> bool,
        tell: &mut dyn FnMut(Finding),
    ) -> Result<(), store::Error> {
        let mut expected = false;
        store.for_each_of(self.route, &mut |transfer| expected |= should_lie_there(transfer))?;
        if expected {
            tell(Finding {
                subject: self.path.display().to_string(),
                problem: format!("{} should lie in it: {}", self.what, self.error.full_message()),
                remedy: self.remedy,
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_of_a_probe_is_no_finding() {
        let folder = tempfile::tempdir().unwrap();
        let dir = Dir::open(folder.path()).unwrap();
        let found = |name: &str| {
            let mut told = Vec::new();
            let id = id_of::<crate::transfer::TransferId>(&dir, OsStr::new(name), &mut |it| told.push(it));
            assert_eq!(id, None);
            told.len()
        };
        assert_eq!(found("stranger"), 1);
        assert_eq!(found(&format!("{PROBE_PREFIX}00-a")), 0);
    }
}
