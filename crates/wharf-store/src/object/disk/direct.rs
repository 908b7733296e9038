//! Large objects go to the disk past the page cache. Nobody reads them while they arrive, so copying them into fresh
//! pages only costs (a fifth of the time of a push, and several times that in a virtual machine that has to be given
//! the memory first); the disk works while the client sends, instead of when it waits for the last sync; and what
//! others are pulling stays in memory.

use std::io;
use std::sync::Arc;

use crate::object::buffers::Buffer;
use crate::object::fs::FsFile;

/// Objects of this size and more; smaller ones are likely to be read soon and cost little.
pub(super) const DIRECT_FROM: u64 = 1 << 20;
/// Place in the file, place in memory and length of every write are multiples of this: enough for any disk.
pub(super) const BLOCK: usize = 4096;

/// How the bytes of one object go to its file.
#[derive(Default)]
pub(super) enum Direct {
    /// Through the page cache, as the object is small as yet.
    #[default]
    NotYet,
    /// Through the page cache, as the file system knows no other way.
    Never,
    /// Past it.
    Now(Past),
}

/// The whole blocks have been written to `file`; `rest` is the beginning of the next one.
pub(super) struct Past {
    file: Arc<dyn FsFile>,
    rest: Vec<u8>,
}

impl Direct {
    /// Adds `chunk` to an object that has `position` bytes. `open` opens the file again for direct writing.
    pub(super) fn write(
        &mut self,
        file: &dyn FsFile,
        open: impl FnOnce() -> io::Result<Arc<dyn FsFile>>,
        chunk: &[u8],
        position: u64,
    ) -> io::Result<()> {
        if matches!(self, Self::NotYet) && position + chunk.len() as u64 >= DIRECT_FROM {
            *self = match open() {
                Ok(direct) => Self::Now(Past { file: direct, rest: beginning_of_block(file, position)? }),
                // The write through the page cache tells if it is more than a file system that cannot do it.
                Err(_) => Self::Never,
            };
        }
        let Self::Now(past) = self else { return file.write_all_at(chunk, position) };
        match past.write(chunk, position) {
            // Some file systems say so only now.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                file.write_all_at(&past.rest, position - past.rest.len() as u64)?;
                *self = Self::Never;
                file.write_all_at(chunk, position)
            }
            written => written,
        }
    }

    /// Hands what is left of the last block to the page cache, for the sync that follows.
    pub(super) fn flush(&self, file: &dyn FsFile, position: u64) -> io::Result<()> {
        match self {
            Self::Now(past) if !past.rest.is_empty() => {
                file.write_all_at(&past.rest, position - past.rest.len() as u64)
            }
            _ => Ok(()),
        }
    }
}

impl Past {
    fn write(&mut self, chunk: &[u8], position: u64) -> io::Result<()> {
        let len = self.rest.len() + chunk.len();
        let whole = len / BLOCK * BLOCK;
        if whole > 0 {
            let mut buffer = Buffer::with_room(BLOCK + len);
            let bytes = buffer.vec();
            let start = (bytes.as_ptr() as usize).next_multiple_of(BLOCK) - bytes.as_ptr() as usize;
            bytes.resize(start, 0);
            bytes.extend_from_slice(&self.rest);
            bytes.extend_from_slice(&chunk[..whole - self.rest.len()]);
            self.file.write_all_at(&bytes[start..], position - self.rest.len() as u64)?;
            self.rest.clear();
        }
        self.rest.extend_from_slice(&chunk[chunk.len() - (len - whole).min(chunk.len())..]);
        Ok(())
    }
}

/// What the file has of the block in which `position` lies.
fn beginning_of_block(file: &dyn FsFile, position: u64) -> io::Result<Vec<u8>> {
    let len = (position % BLOCK as u64) as usize;
    let mut beginning = vec![0; len];
    match file.read_at(&mut beginning, position - len as u64)? {
        read if read == len => Ok(beginning),
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}
