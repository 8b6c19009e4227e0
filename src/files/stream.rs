//! Contents on their way between a file and the network: blocking threads at the file's end, a bounded channel
//! to the async end, so that memory does not grow with the size of a file or the slowness of a line.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::{Arc, Weak};

use bytes::{Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::{Digests, Dir, Error, Lack, Mode, digest::digest_file, sys};
use crate::seams::{self, crash_point};

/// Size of the blocks that are read and sent. Measured: below 256 KiB throughput falls, above it only memory
/// grows.
pub const BLOCK_BYTES: usize = 256 * 1024;
/// What stands beside a file that is being received, and says how much of it is durable.
const DURABLE: &str = "durable.json";
/// How much is written before the kernel is asked to begin writing it to the disk, so that the final sync of a
/// large file has little left to do (measured: 1 GiB in 7–37 ms instead of 300 ms).
const WRITEBACK_BYTES: u64 = 32 * 1024 * 1024;
/// How much is written before it is made durable: what a kill or a loss of power costs at most. Three syncs each, of
/// which the first finds most of its bytes on the disk already.
const CHECKPOINT_BYTES: u64 = 64 * 1024 * 1024;
/// What is less than this is not worth the syncs when a download breaks off.
const WORTH_KEEPING: u64 = 1024 * 1024;
/// How much is written between two looks at whether more may be.
const LOOK_BYTES: u64 = 8 * 1024 * 1024;
/// More than this is no such document.
const MAX_DURABLE_BYTES: u64 = 1024;

/// Reads `size` bytes of `file` from the byte `from` on and sends them in blocks; others may read it elsewhere at the
/// same time. Blocks the calling thread while the channel is full; ends quietly when the receiver has gone.
///
/// A file that is shorter than that ends the stream with an error, so that a half body never looks whole.
fn read_blocks(file: &File, from: u64, size: u64, blocks: &mpsc::Sender<io::Result<Bytes>>) {
    let (mut at, mut left) = (from, size);
    while left > 0 {
        let read = read_block(file, &mut at, &mut left);
        let failed = read.is_err();
        if blocks.blocking_send(read).is_err() || failed {
            return;
        }
    }
}

/// The block at a place, which moves on, of those `left`, which become fewer.
fn read_block(file: &File, at: &mut u64, left: &mut u64) -> io::Result<Bytes> {
    let want = usize::try_from(*left).unwrap_or(usize::MAX).min(BLOCK_BYTES);
    let mut block = BytesMut::zeroed(want);
    match seams::injected_fault("read").and_then(|()| file.read_exact_at(&mut block, *at)) {
        Ok(()) => {
            *at += want as u64;
            *left -= want as u64;
            Ok(block.freeze())
        }
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file became shorter while it was read"))
        }
        Err(error) => Err(error),
    }
}

/// Sends `size` bytes of `file` from the byte `from` on in blocks, off the async threads; see [`read_blocks`]. A thread
/// that simulates takes turns with the receiver instead.
pub async fn send_blocks(file: Arc<File>, from: u64, size: u64, blocks: mpsc::Sender<io::Result<Bytes>>) {
    if !seams::is_simulated() {
        return seams::blocking_stream(move || read_blocks(&file, from, size, &blocks)).await;
    }
    let (mut at, mut left) = (from, size);
    while left > 0 {
        let read = read_block(&file, &mut at, &mut left);
        let failed = read.is_err();
        if blocks.send(read).await.is_err() || failed {
            return;
        }
    }
}

/// Writes what arrives to a file, hashing it on the way.
///
/// After a loss of power, bytes beyond the last sync may be missing, zeros, or of two kinds, and nothing in the file
/// says which. So a small document beside it says how many are durable, written when they are; whoever goes on with
/// the file after a death begins there.
#[derive(Debug)]
pub struct Writer {
    dir: Dir,
    file: Arc<File>,
    digests: Digests,
    unwritten_from: u64,
    /// How much is known to outlive a loss of power.
    durable: u64,
    /// A sync has failed: what was written before it may be gone, though the next sync succeeds (fsync(2)).
    is_doubtful: bool,
    path: PathBuf,
}

/// A look, now and then, at whether there is room for more.
struct Look<L> {
    /// Where it was looked last.
    at: u64,
    /// How much is to come in all: for what is there, no more room is needed.
    whole: u64,
    ask: L,
}

impl<L: Fn() -> Result<Option<Lack>, Error>> Look<L> {
    fn at(&mut self, offset: u64) -> Result<Option<Lack>, Error> {
        if offset - self.at < LOOK_BYTES || offset >= self.whole {
            return Ok(None);
        }
        self.at = offset;
        (self.ask)()
    }
}

/// How much of a file is durable.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Durable {
    bytes: u64,
}

impl Writer {
    /// Opens a file of `dir` that may hold a beginning already, of which what is durable is kept. It has to be
    /// [loaded](Self::load) before anything is appended.
    pub fn open(dir: &Dir, name: &str) -> Result<Self, Error> {
        let (path, file) = (dir.path().join(name), dir.open_or_create_file(name, Mode::PRIVATE_FILE)?);
        let length = dir.entry_of(&file, name)?.identity.size;
        let durable = match length {
            0 => 0,
            _ => dir.read_json::<Durable>(DURABLE, MAX_DURABLE_BYTES)?.unwrap_or_default().bytes,
        };
        // A file that is shorter than what was durable of it is not that file any more.
        let durable = if durable > length { 0 } else { durable };
        let mut writer = Self {
            dir: dir.clone(),
            file: Arc::new(file),
            digests: Digests::default(),
            unwritten_from: 0,
            durable,
            is_doubtful: false,
            path,
        };
        // A document that is not believed now must not be when other bytes have come.
        if durable == 0 {
            writer.forget_durable()?;
        }
        if length > durable {
            writer.cut_to(durable)?;
        }
        Ok(writer)
    }

    /// Reads what is there, so that the checksums are of what is on the disk.
    pub fn load(&mut self) -> Result<(), Error> {
        let mut file = &*self.file;
        let digests = file.rewind().and_then(|()| digest_file(&mut file));
        self.digests = digests.map_err(|error| Error::new("read", &self.path, error))?;
        self.unwritten_from = self.digests.bytes();
        Ok(())
    }

    /// The open file, to look at for as long as it is written.
    pub(super) fn file(&self) -> Weak<File> {
        Arc::downgrade(&self.file)
    }

    /// The same, for whoever gives it to others.
    #[must_use]
    pub fn as_file(&self) -> &File {
        &self.file
    }

    /// The folder that it lies in.
    #[must_use]
    pub fn folder(&self) -> &Dir {
        &self.dir
    }

    /// Bytes in the file.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.digests.bytes()
    }

    /// Throws away what is there.
    pub fn restart(&mut self) -> Result<(), Error> {
        // The document first: a longer one would speak of bytes of another beginning.
        self.forget_durable()?;
        crash_point("restart:forgotten");
        self.cut_to(0)?;
        let mut file = &*self.file;
        file.seek(SeekFrom::Start(0)).map_err(|error| Error::new("truncate", &self.path, error))?;
        self.digests = Digests::default();
        self.unwritten_from = 0;
        Ok(())
    }

    /// Removes what says how much is durable, durably.
    fn forget_durable(&mut self) -> Result<(), Error> {
        if self.dir.look(DURABLE)?.is_some() {
            self.dir.remove_file(DURABLE)?;
            self.dir.sync()?;
        }
        self.durable = 0;
        Ok(())
    }

    /// Ends the file there, and gives back what was reserved beyond.
    fn cut_to(&self, length: u64) -> Result<(), Error> {
        Error::inject("truncate", &self.path)?;
        self.file.set_len(length).map_err(|error| Error::new("truncate", &self.path, error))
    }

    /// Asks the file system for `size` bytes now, so that a full disk shows before the transfer rather than in
    /// the middle of it. A file system that cannot reserve is not an error.
    pub fn reserve(&self, size: u64) -> Result<(), Error> {
        Error::inject("reserve room for", &self.path)?;
        let flags = rustix::fs::FallocateFlags::KEEP_SIZE;
        match rustix::fs::fallocate(&self.file, flags, 0, size.max(1)) {
            Err(error @ (rustix::io::Errno::NOSPC | rustix::io::Errno::DQUOT | rustix::io::Errno::FBIG)) => {
                Err(Error::new("reserve room for", &self.path, error))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Appends what arrives until the channel closes, off the async threads, or until `look`, which is asked now and
    /// then, finds a lack of room: then what was reserved is given back. What has come is made durable now and then,
    /// and at the end, where the file is not `whole` by then and so made durable next in any case. Hands the writer
    /// back with how that went; nothing more may be appended after a lack or an error. A thread that simulates takes
    /// turns with the sender instead.
    pub async fn receive(
        mut self,
        mut blocks: mpsc::Receiver<Bytes>,
        whole: u64,
        look: impl Fn() -> Result<Option<Lack>, Error> + Send + 'static,
    ) -> (Self, Result<Option<Lack>, Error>) {
        let mut look = Look { at: self.offset(), whole, ask: look };
        if seams::is_simulated() {
            let mut written = Ok(None);
            while matches!(written, Ok(None))
                && let Some(block) = blocks.recv().await
            {
                written = self.append(&block, &mut look);
            }
            let kept = self.keep(written, whole);
            return (self, kept);
        }
        seams::blocking_stream(move || {
            let mut written = Ok(None);
            while matches!(written, Ok(None))
                && let Some(block) = blocks.blocking_recv()
            {
                written = self.append(&block, &mut look);
            }
            let kept = self.keep(written, whole);
            (self, kept)
        })
        .await
    }

    fn append<L: Fn() -> Result<Option<Lack>, Error>>(
        &mut self,
        block: &[u8],
        look: &mut Look<L>,
    ) -> Result<Option<Lack>, Error> {
        Error::inject("write", &self.path)?;
        let mut file = &*self.file;
        file.write_all(block).map_err(|error| Error::new("write", &self.path, error))?;
        self.digests.update(block);
        if self.offset() - self.unwritten_from >= WRITEBACK_BYTES {
            sys::start_writeback(&self.file, self.unwritten_from, self.offset() - self.unwritten_from);
            self.unwritten_from = self.offset();
        }
        if self.offset() - self.durable >= CHECKPOINT_BYTES {
            self.checkpoint(self.offset())?;
        }
        look.at(self.offset())
    }

    /// Makes what has come durable where it is enough to be worth it, also where there is no room for more.
    fn keep(&mut self, written: Result<Option<Lack>, Error>, whole: u64) -> Result<Option<Lack>, Error> {
        let written = match written {
            Ok(None) if self.offset() < whole && self.offset() - self.durable >= WORTH_KEEPING => {
                self.checkpoint(self.offset()).map(|()| None)
            }
            written => written,
        };
        if !written.as_ref().map_or_else(Error::is_full, Option::is_some) {
            return written;
        }
        let kept = self.keep_on_full_disk();
        written.and_then(|lack| kept.map(|()| lack))
    }

    /// Gives back what was reserved, and makes what has come durable. On a full disk even the few bytes that say how
    /// much is durable need room: what was reserved for the rest, or else the last block.
    fn keep_on_full_disk(&mut self) -> Result<(), Error> {
        self.cut_to(self.offset())?;
        for given in [0, BLOCK_BYTES as u64] {
            let length = self.offset().saturating_sub(given);
            if self.is_doubtful || length.saturating_sub(self.durable) < WORTH_KEEPING {
                return Ok(());
            }
            self.cut_to(length)?;
            match self.checkpoint(length) {
                Err(error) if error.is_full() => {}
                kept => return kept,
            }
        }
        Ok(())
    }

    /// Makes the first `length` bytes durable, and says so durably.
    fn checkpoint(&mut self, length: u64) -> Result<(), Error> {
        let synced = Error::inject("sync", &self.path)
            .and_then(|()| self.file.sync_data().map_err(|error| Error::new("sync", &self.path, error)));
        self.is_doubtful |= synced.is_err();
        synced?;
        seams::synced(self.file.as_fd());
        crash_point("download:synced");
        let durable = Durable { bytes: length };
        // A number is something that JSON can say.
        let content = serde_json::to_vec(&durable).unwrap_or_default();
        self.dir.replace(DURABLE, &content, Mode::PRIVATE_FILE)?;
        self.durable = durable.bytes;
        crash_point("download:durable");
        Ok(())
    }

    /// Makes the content durable and hands the checksums out.
    pub fn finish(self) -> Result<Digests, Error> {
        // What was reserved beyond the end would stay reserved.
        self.cut_to(self.digests.bytes())?;
        Error::inject("sync", &self.path)?;
        seams::sync_file(&self.file).map_err(|error| Error::new("sync", &self.path, error))?;
        Ok(self.digests)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::folder;
    use super::*;

    #[test]
    fn a_document_that_is_not_believed_is_not_there_to_be_believed_later() {
        for (content, document) in
            [("", "{\"bytes\":5}"), ("abc", "{\"bytes\":5}"), ("abc", "{"), ("abc", "")]
        {
            let (temporary, dir) = folder();
            std::fs::write(temporary.path().join("file"), content).unwrap();
            std::fs::write(temporary.path().join(DURABLE), document).unwrap();
            let mut writer = Writer::open(&dir, "file").unwrap();
            assert!(dir.look(DURABLE).unwrap().is_none(), "{content:?} {document}");
            writer.load().unwrap();
            assert_eq!(writer.offset(), 0);
            // Bytes that are not synced, and a death.
            std::fs::write(temporary.path().join("file"), "other bytes").unwrap();
            let mut again = Writer::open(&dir, "file").unwrap();
            again.load().unwrap();
            assert_eq!(again.offset(), 0, "{content:?} {document}");
            // As one that another process left.
            std::fs::write(temporary.path().join(DURABLE), document).unwrap();
            again.restart().unwrap();
            assert!(dir.look(DURABLE).unwrap().is_none(), "{content:?} {document}");
        }
    }
}
