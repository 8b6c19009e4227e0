//! Groups by name or number.

use std::io;
use std::path::Path;

use super::Error;

/// The number of a group that is given by name or number. Names are looked up in `/etc/group`; groups that live
/// in a directory service are given by number.
pub fn group_number(group: &str) -> Result<u32, Error> {
    if let Ok(number) = group.parse() {
        return Ok(number);
    }
    let path = Path::new("/etc/group");
    let groups = std::fs::read_to_string(path).map_err(|error| Error::new("read", path, error))?;
    let number = groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(group)).then(|| fields.nth(1).and_then(|number| number.parse().ok())).flatten()
    });
    number.ok_or_else(|| {
        let reason = format!("there is no group {group:?}: give its number, or make it");
        Error::new("find a group in", path, io::Error::new(io::ErrorKind::NotFound, reason))
    })
}
