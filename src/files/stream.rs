//! Contents on their way between a file and the network: blocking threads at the file's end, a bounded channel
//! to the async end, so that memory does not grow with the size of a file or the slowness of a line.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Weak};

use bytes::{Bytes, BytesMut};
use tokio::sync::mpsc;

use super::{Digests, Error, digest::digest_file, sys};
use crate::seams;

/// Size of the blocks that are read and sent. Measured: below 256 KiB throughput falls, above it only memory
/// grows.
pub const BLOCK_BYTES: usize = 256 * 1024;
/// How much is written before the kernel is asked to begin writing it to the disk, so that the final sync of a
/// large file has little left to do (measured: 1 GiB in 7–37 ms instead of 300 ms).
const WRITEBACK_BYTES: u64 = 32 * 1024 * 1024;

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
    match file.read_exact_at(&mut block, *at) {
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
        return seams::blocking(move || read_blocks(&file, from, size, &blocks)).await;
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
#[derive(Debug)]
pub struct Writer {
    file: Arc<File>,
    digests: Digests,
    unwritten_from: u64,
    path: std::path::PathBuf,
}

impl Writer {
    /// Goes on with a file that may hold a beginning already: what is there is hashed and kept.
    pub fn resume(mut file: File, path: std::path::PathBuf) -> Result<Self, Error> {
        let digests = file
            .seek(SeekFrom::Start(0))
            .and_then(|_| digest_file(&mut file))
            .map_err(|error| Error::new("read", &path, error))?;
        let unwritten_from = digests.bytes();
        Ok(Self { file: Arc::new(file), digests, unwritten_from, path })
    }

    /// The open file, to look at for as long as it is written.
    pub(super) fn file(&self) -> Weak<File> {
        Arc::downgrade(&self.file)
    }

    /// Bytes in the file.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.digests.bytes()
    }

    /// Throws away what is there.
    pub fn restart(&mut self) -> Result<(), Error> {
        let emptied = self.file.set_len(0).and_then(|()| self.file.seek(SeekFrom::Start(0)));
        emptied.map_err(|error| Error::new("truncate", &self.path, error))?;
        self.digests = Digests::default();
        self.unwritten_from = 0;
        Ok(())
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

    /// Appends what arrives until the channel closes, off the async threads, and hands the writer back with how that
    /// went. A thread that simulates takes turns with the sender instead.
    pub async fn receive(mut self, mut blocks: mpsc::Receiver<Bytes>) -> (Self, Result<(), Error>) {
        if seams::is_simulated() {
            let mut written = Ok(());
            while written.is_ok()
                && let Some(block) = blocks.recv().await
            {
                written = self.append(&block);
            }
            return (self, written);
        }
        seams::blocking(move || {
            let written = self.append_all(&mut blocks);
            (self, written)
        })
        .await
    }

    fn append_all(&mut self, blocks: &mut mpsc::Receiver<Bytes>) -> Result<(), Error> {
        while let Some(block) = blocks.blocking_recv() {
            self.append(&block)?;
        }
        Ok(())
    }

    fn append(&mut self, block: &[u8]) -> Result<(), Error> {
        Error::inject("write", &self.path)?;
        self.file.write_all(block).map_err(|error| Error::new("write", &self.path, error))?;
        self.digests.update(block);
        if self.offset() - self.unwritten_from >= WRITEBACK_BYTES {
            sys::start_writeback(&self.file, self.unwritten_from, self.offset() - self.unwritten_from);
            self.unwritten_from = self.offset();
        }
        Ok(())
    }

    /// Makes the content durable and hands the checksums out.
    pub fn finish(self) -> Result<Digests, Error> {
        Error::inject("sync", &self.path)?;
        // What was reserved beyond the end would stay reserved.
        let cut = self.file.set_len(self.digests.bytes()).and_then(|()| seams::sync_file(&self.file));
        cut.map_err(|error| Error::new("sync", &self.path, error))?;
        Ok(self.digests)
    }
}
