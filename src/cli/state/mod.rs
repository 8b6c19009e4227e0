//! `formidlingd state`: what the service remembers, in the hands of its operator.

mod copies;
mod forget;
mod remains;
mod verify;

use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::Exit;

/// Look after what the service remembers
#[derive(Debug, Args)]
pub(super) struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Export(copies::Export),
    Import(copies::Import),
    Verify(verify::Verify),
    Forget(forget::Forget),
}

impl Options {
    pub(super) fn run(self, out: &mut impl Write) -> Exit {
        match self.command {
            Command::Export(export) => export.run(out),
            Command::Import(import) => import.run(out),
            Command::Verify(verify) => verify.run(out),
            Command::Forget(forget) => forget.run(out),
        }
    }
}

/// Why the state is not touched.
#[derive(Debug, thiserror::Error)]
pub(in crate::cli) enum AccessError {
    #[error("there is no state in {path:?}")]
    NoState { path: PathBuf },
    #[error("cannot look at the state in {path:?}")]
    Look { path: PathBuf, source: io::Error },
    #[error("cannot act as the user that owns the state in {path:?}")]
    Owner { path: PathBuf, source: io::Error },
}

impl AccessError {
    pub(in crate::cli) fn remedy(&self) -> &'static str {
        match self {
            Self::NoState { .. } => "see state.path in the configuration: nothing is remembered there",
            Self::Look { .. } | Self::Owner { .. } => {
                "run it as the user that the service runs as, or as root"
            }
        }
    }
}

/// Lets root act as the owner of the state: files that root makes there could not be used by the service.
pub(in crate::cli) fn act_as_owner(path: &Path) -> Result<(), AccessError> {
    use rustix::process::{Gid, Uid};
    let metadata = match std::fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(source) if source.kind() == io::ErrorKind::NotFound => {
            return Err(AccessError::NoState { path: path.to_owned() });
        }
        Err(source) => return Err(AccessError::Look { path: path.to_owned(), source }),
    };
    if !rustix::process::geteuid().is_root() || metadata.uid() == 0 {
        return Ok(());
    }
    let (user, group) = (Uid::from_raw(metadata.uid()), Gid::from_raw(metadata.gid()));
    rustix::thread::set_thread_groups(&[])
        .and_then(|()| rustix::thread::set_thread_res_gid(group, group, group))
        .and_then(|()| rustix::thread::set_thread_res_uid(user, user, user))
        .map_err(|errno| AccessError::Owner { path: path.to_owned(), source: errno.into() })
}
