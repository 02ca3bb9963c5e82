//! A file is looked through before it is used: redb panics on pages that are not what it wrote. Whoever looks sees the
//! file as it is, and what redb mends as it opens one stays in memory.

use std::{
    cell::Cell,
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io,
    ops::Bound,
    path::Path,
    rc::Rc,
    sync::{Mutex, MutexGuard, PoisonError},
};

use redb::{BackendError, Database, DatabaseError, StorageBackend, backends::FileBackend};

use super::{CACHE_BYTES, Integrity, unopened};
use crate::store::{StoreError, quiet::quietly};

const PAGE_BYTES: usize = 4096;
/// Of redb's file: after its magic number. "Recovery required" and "primary unflushed".
const FLAGS_AT: u64 = 9;
const TO_BE_MENDED: u8 = 2 | 8;

/// Reads all of it.
pub(super) fn through(path: &Path) -> Result<Integrity, StoreError> {
    let view = View::of(path).map_err(|error| unopened(path, error))?;
    // Of how far a repair is, the first third is told when the newest write is not whole.
    let is_torn = Rc::new(Cell::new(false));
    let noted = Rc::clone(&is_torn);
    let looked = quietly(move || {
        let opened: Result<Database, DatabaseError> = Database::builder()
            .set_cache_size(CACHE_BYTES)
            .set_check_integrity_on_open(true)
            .set_repair_callback(move |repair| {
                let progress = repair.progress();
                noted.set(noted.get() || (progress > 0.0 && progress < 0.5));
            })
            .create_with_backend(view);
        opened.map(drop)
    });
    match looked {
        Ok(Ok(())) if is_torn.get() => Ok(Integrity::Mended),
        Ok(Ok(())) => Ok(Integrity::Whole),
        Ok(Err(error)) => Err(unopened(path, error)),
        Err(why) => Err(damaged(path, why)),
    }
}

pub(super) fn damaged(path: &Path, why: String) -> StoreError {
    StoreError::Damaged {
        place: path.display().to_string(),
        why,
    }
}

/// A file of which nothing is written, locked as its user would.
#[derive(Debug)]
pub(super) struct View {
    file: FileBackend,
    written: Mutex<Written>,
}

#[derive(Debug)]
struct Written {
    bytes: u64,
    /// How many of the file's own bytes are part of it.
    of_file: u64,
    /// By number.
    pages: BTreeMap<u64, Box<[u8; PAGE_BYTES]>>,
}

impl View {
    pub(super) fn of(path: &Path) -> Result<Self, DatabaseError> {
        let file: File = OpenOptions::new().read(true).write(true).open(path)?;
        let bytes = file.metadata()?.len();
        let pages = BTreeMap::new();
        Ok(Self {
            file: FileBackend::new(file)?,
            written: Mutex::new(Written {
                bytes,
                of_file: bytes,
                pages,
            }),
        })
    }

    /// Takes the marks off its head that say that it is to be mended before it is read.
    pub(super) fn as_it_is(&self) -> io::Result<()> {
        let mut flags = [0];
        self.read(FLAGS_AT, &mut flags)?;
        self.write(FLAGS_AT, &[flags[0] & !TO_BE_MENDED])
    }

    fn lock(&self) -> MutexGuard<'_, Written> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As the file has it. What it has not is zero.
    fn page(&self, number: u64, of_file: u64) -> io::Result<Box<[u8; PAGE_BYTES]>> {
        let mut page = Box::new([0; PAGE_BYTES]);
        let start = number * PAGE_BYTES as u64;
        let there = usize::try_from(of_file.saturating_sub(start)).unwrap_or(PAGE_BYTES);
        let there = there.min(PAGE_BYTES);
        if there > 0 {
            self.file.read(start, &mut page[..there])?;
        }
        Ok(page)
    }
}

/// The pages that such bytes are in: number, where in it, how many.
fn parts(offset: u64, length: usize) -> impl Iterator<Item = (u64, usize, usize)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        if done == length {
            return None;
        }
        let at = offset + done as u64;
        let within = usize::try_from(at % PAGE_BYTES as u64).unwrap_or_default();
        let count = (PAGE_BYTES - within).min(length - done);
        done += count;
        Some((at / PAGE_BYTES as u64, within, count))
    })
}

impl StorageBackend for View {
    fn len(&self) -> io::Result<u64> {
        Ok(self.lock().bytes)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let written = self.lock();
        let end = offset.saturating_add(out.len() as u64);
        if end > written.bytes {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let page = PAGE_BYTES as u64;
        let mut changed = written.pages.range(offset / page..end.div_ceil(page));
        if end <= written.of_file && changed.next().is_none() {
            return self.file.read(offset, out);
        }
        let mut rest = out;
        for (number, within, count) in parts(offset, rest.len()) {
            let (part, after) = rest.split_at_mut(count);
            rest = after;
            match written.pages.get(&number) {
                Some(page) => part.copy_from_slice(&page[within..within + count]),
                None => {
                    let page = self.page(number, written.of_file)?;
                    part.copy_from_slice(&page[within..within + count]);
                }
            }
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut written = self.lock();
        let kept = len.div_ceil(PAGE_BYTES as u64);
        written.pages.split_off(&kept);
        let (last, within) = (len / PAGE_BYTES as u64, len % PAGE_BYTES as u64);
        if let Some(page) = written.pages.get_mut(&last) {
            page[usize::try_from(within).unwrap_or_default()..].fill(0);
        }
        written.bytes = len;
        written.of_file = written.of_file.min(len);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut written = self.lock();
        let mut rest = data;
        for (number, within, count) in parts(offset, data.len()) {
            let (part, after) = rest.split_at(count);
            rest = after;
            if !written.pages.contains_key(&number) {
                let page = self.page(number, written.of_file)?;
                written.pages.insert(number, page);
            }
            if let Some(page) = written.pages.get_mut(&number) {
                page[within..within + count].copy_from_slice(part);
            }
        }
        Ok(())
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_range(start, end)
    }

    fn try_lock_shared_range(
        &self,
        start: Bound<u64>,
        end: Bound<u64>,
    ) -> Result<bool, BackendError> {
        self.file.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.query_lock_range(start, end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_to_a_view_is_read_there_and_nowhere_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let whole: Vec<u8> = (0..10_000_u32).map(|at| (at % 251) as u8).collect();
        std::fs::write(&path, &whole).unwrap();
        let view = View::of(&path).unwrap();
        let mut expected = whole.clone();
        let read = |offset: usize, length: usize| {
            let mut bytes = vec![1; length];
            view.read(offset as u64, &mut bytes).map(|()| bytes)
        };
        assert_eq!(read(0, 10_000).unwrap(), whole);
        view.write(4_000, &[7; 5_000]).unwrap();
        expected[4_000..9_000].fill(7);
        assert_eq!(read(0, 10_000).unwrap(), expected);
        assert_eq!(read(9_001, 999).unwrap(), expected[9_001..]);
        assert!(read(9_001, 1_000).is_err());
        // What was cut off does not come back.
        view.set_len(9_500).unwrap();
        view.set_len(20_000).unwrap();
        expected.truncate(9_500);
        expected.resize(20_000, 0);
        assert_eq!(view.len().unwrap(), 20_000);
        assert_eq!(read(0, 20_000).unwrap(), expected);
        assert_eq!(std::fs::read(&path).unwrap(), whole);
    }
}
