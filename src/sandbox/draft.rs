//! Files that are replaced as a whole: a kill midway leaves the old one or the new one, never half of either.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// Whoever the umask lets.
const ANYBODY: u32 = 0o666;
const OWNER_ALONE: u32 = 0o600;

/// Puts a file with what `write` writes in the place of another, or where there was none.
///
/// Two must not replace the same file at once.
pub(super) fn replace(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> io::Result<()> {
    with_mode(path, ANYBODY, write)
}

/// The same, for a file that only the owner can read, whoever could read the one before.
pub(super) fn replace_private(path: &Path, content: &[u8]) -> io::Result<()> {
    with_mode(path, OWNER_ALONE, |file| file.write_all(content))
}

fn with_mode(
    path: &Path,
    mode: u32,
    write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> io::Result<()> {
    let draft = draft_of(path);
    // What a kill left there may be open to others.
    match fs::remove_file(&draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut file = BufWriter::new(OpenOptions::new().write(true).create_new(true).mode(mode).open(&draft)?);
    write(&mut file)?;
    file.into_inner().map_err(io::IntoInnerError::into_error)?;
    fs::rename(&draft, path)
}

fn draft_of(path: &Path) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(".new");
    name.into()
}
