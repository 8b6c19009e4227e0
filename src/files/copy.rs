//! Moving a file to another file system: it is copied, and removed only when the copy is known to be whole and durable.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use super::{Access, BLOCK_BYTES, Digests, Dir, Error, Mode, digest_file};
use crate::seams::{crash_point, injected_fault};
use crate::transfer::Sha256;
use tracing::warn;

impl Dir {
    /// Moves a file into a folder on another file system, never over another: an error that [`Error::is_taken`] if
    /// the name is, unless what has it is this very file, from a copy that a crash interrupted. Readers see the whole
    /// copy or none. Durable when it returns; may be repeated after a crash at any point.
    pub fn copy_to(
        &self,
        name: &str,
        to: &Self,
        new_name: &str,
        expected: Option<Sha256>,
        access: Access,
    ) -> Result<(), Error> {
        let mut source = self.open_file(name)?;
        let path = self.path().join(name);
        let found = if to.look(new_name)?.is_none() {
            let (temporary, found) = to.temporary_copy(&mut source, &path, new_name, access)?;
            crash_point("copy:written");
            to.prepared(temporary, new_name.as_ref()).put_in_place()?;
            crash_point("copy:renamed");
            found
        } else {
            let (mut there, found) = (to.open_file(new_name)?, digest(&mut source, &path)?);
            if digest(&mut there, &to.path().join(new_name))? != found {
                let taken = std::io::Error::from(std::io::ErrorKind::AlreadyExists);
                return Err(Error::new("copy to", to.path().join(new_name), taken));
            }
            found
        };
        to.sync()?;
        if expected.is_some_and(|expected| expected != found) {
            // A move would take it as it is, too; what was sent stands in the receipt.
            warn!(path = ?path, code = "file_changed", "the file was written after it had been sent: it is laid down as it is now");
        }
        crash_point("copy:placed");
        self.remove_file(name)
    }

    /// A synced copy in the scratch folder, with the time of the file, read back and compared; and what it holds.
    fn temporary_copy(
        &self,
        source: &mut File,
        path: &Path,
        new_name: &str,
        access: Access,
    ) -> Result<(std::ffi::OsString, Sha256), Error> {
        Error::inject("look at", path)?;
        let metadata = source.metadata().map_err(|error| Error::new("look at", path, error))?;
        let temporary = self.temporary_name(new_name.as_ref(), path.as_os_str().as_bytes());
        let mut copy = self.open_scratch(&temporary)?;
        let at = self.scratch_path(&temporary);
        let wrong = |error| Error::new("copy", &at, error);
        // The copy is the service's own, so who may read it is said anew, and not by its owner before.
        let copied = copy_content(source, &mut copy)
            .map_err(wrong)
            .and_then(|content| self.share_file(&copy, access).map(|_changed| content))
            .and_then(|content| {
                Error::inject("set the time of", &at)?;
                let kept = metadata.modified().and_then(|time| copy.set_modified(time));
                kept.map_err(wrong)?;
                self.scratch().sync_file(&copy, &temporary).map(|()| content)
            });
        let content = match copied {
            Ok(content) => content,
            Err(error) => {
                self.remove_scratch(&temporary)?;
                return Err(error);
            }
        };
        if digest(&mut copy, &at)? == content {
            return Ok((temporary, content));
        }
        self.remove_scratch(&temporary)?;
        let reason = std::io::Error::new(std::io::ErrorKind::InvalidData, "the copy is not what was written");
        Err(Error::new("copy", &at, reason))
    }

    pub(super) fn open_scratch(&self, name: &std::ffi::OsStr) -> Result<File, Error> {
        let file = self.scratch().open_or_create_file(name, Mode::PRIVATE_FILE)?;
        Error::inject("empty", &self.scratch().path)?;
        file.set_len(0).map_err(|error| Error::new("empty", self.scratch_path(name), error))?;
        Ok(file)
    }

    fn scratch_path(&self, name: &std::ffi::OsStr) -> std::path::PathBuf {
        self.scratch().path().join(name)
    }

    fn remove_scratch(&self, name: &std::ffi::OsStr) -> Result<(), Error> {
        self.scratch().remove_file(name)
    }
}

fn digest(file: &mut File, path: &Path) -> Result<Sha256, Error> {
    let digests = file.rewind().and_then(|()| digest_file(file));
    Ok(digests.map_err(|error| Error::new("read", path, error))?.finish().1)
}

/// Copies all of it, and tells what it was.
fn copy_content(source: &mut File, copy: &mut File) -> std::io::Result<Sha256> {
    source.rewind()?;
    let mut digests = Digests::default();
    let mut block = vec![0; BLOCK_BYTES];
    loop {
        injected_fault("read")?;
        let read = source.read(&mut block)?;
        if read == 0 {
            return Ok(digests.finish().1);
        }
        let read = block.get(..read).unwrap_or_default();
        digests.update(read);
        injected_fault("write")?;
        copy.write_all(read)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two() -> (tempfile::TempDir, Dir, Dir) {
        let temporary = tempfile::tempdir().unwrap();
        let folder = Dir::open(temporary.path()).unwrap();
        let (from, to) = ("from", "to");
        let from = folder.ensure_subfolder(from, Mode::PRIVATE_FOLDER).unwrap();
        let to = folder.ensure_subfolder(to, Mode::PRIVATE_FOLDER).unwrap();
        (temporary, from, to)
    }

    #[test]
    fn a_copy_takes_the_place_of_the_file_and_can_be_repeated() {
        let (temporary, from, to) = two();
        let content = vec![7; BLOCK_BYTES + 1];
        let path = temporary.path().join("from/file");
        std::fs::write(&path, &content).unwrap();
        let time = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
        File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
        from.copy_to("file", &to, "a", None, Access::FILE).unwrap();
        let copy = temporary.path().join("to/a");
        assert_eq!(std::fs::read(&copy).unwrap(), content);
        assert_eq!(std::fs::metadata(&copy).unwrap().modified().unwrap(), time);
        assert!(!path.exists());
        // A crash came before the file was removed.
        std::fs::write(&path, &content).unwrap();
        from.copy_to("file", &to, "a", None, Access::FILE).unwrap();
        assert!(!path.exists());
        assert_eq!(std::fs::read_dir(temporary.path().join("to")).unwrap().count(), 1);
    }

    #[test]
    fn a_copy_overwrites_nothing_and_takes_what_has_changed_as_it_is() {
        let (temporary, from, to) = two();
        std::fs::write(temporary.path().join("from/file"), "new").unwrap();
        std::fs::write(temporary.path().join("to/a"), "old").unwrap();
        assert!(from.copy_to("file", &to, "a", None, Access::FILE).unwrap_err().is_taken());
        let other = Some(Sha256::from_bytes([1; 32]));
        assert_eq!(std::fs::read_to_string(temporary.path().join("to/a")).unwrap(), "old");
        assert_eq!(std::fs::read_to_string(temporary.path().join("from/file")).unwrap(), "new");
        from.copy_to("file", &to, "b", other, Access::FILE).unwrap();
        assert_eq!(std::fs::read_to_string(temporary.path().join("to/b")).unwrap(), "new");
        assert_eq!(std::fs::read_dir(temporary.path().join("to")).unwrap().count(), 2);
    }
}
