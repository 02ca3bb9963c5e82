//! Owner of the audit log: `audit.log` in the state dir, a line of JSON for each write, on disk before the
//! write is answered. Old files are kept up to a bound.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    net::SocketAddr,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use serde::Serialize;
use tracing::{error, info, warn};

const NAME: &str = "audit.log";
/// A file that is larger is put aside.
const BYTES_MAX: u64 = 8 * 1024 * 1024;
/// `audit.log.1` to this one.
const KEPT: u32 = 5;

/// Revisions of what can be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Revisions {
    /// Of the mesh.
    pub mesh: u64,
    /// Of raw resources.
    pub resources: u64,
}

/// One write, or one that was refused to somebody who is known.
#[derive(Debug, Serialize)]
pub struct Line<'l> {
    /// When it was answered.
    pub at: String,
    /// Name of the token; none without one.
    pub token: Option<&'l str>,
    /// Its role, or that of whoever shows none.
    pub role: &'static str,
    /// From where.
    pub peer: Option<SocketAddr>,
    /// Of HTTP.
    pub method: &'l str,
    /// Without its query.
    pub path: &'l str,
    /// Of HTTP.
    pub status: u16,
    /// What was written, or why it was not.
    pub summary: &'l str,
    /// Why, as the caller says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'l str>,
    /// Whether it was to pass whatever is frozen.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub forced: bool,
    /// What was in force when it was asked.
    pub before: Revisions,
    /// What was when it was answered.
    pub after: Revisions,
}

/// The log.
pub struct AuditLog {
    path: PathBuf,
    bytes_max: u64,
    file: Mutex<Option<File>>,
}

impl AuditLog {
    /// In a state dir.
    pub fn of(state_dir: &Path) -> Self {
        Self {
            path: state_dir.join(NAME),
            bytes_max: BYTES_MAX,
            file: Mutex::default(),
        }
    }

    /// Writes a line, in the log and in the process's own. Blocks until the disk has it. A disk that refuses
    /// is told there: what was done is done.
    pub fn write(&self, line: &Line<'_>) {
        // Texts and numbers alone: it cannot fail.
        let text = serde_json::to_string(line).unwrap_or_default();
        info!(target: "audit", "{text}");
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let written = self.append(&mut file, &text);
        if let Err(problem) = written {
            // Opened anew with the next line.
            *file = None;
            error!(path = %self.path.display(), %problem, line = text, "the audit log lacks this line");
        }
    }

    fn append(&self, held: &mut Option<File>, text: &str) -> io::Result<()> {
        let mut file = match held.take() {
            Some(file) if self.is_there(&file)? => file,
            Some(_) => {
                warn!(path = %self.path.display(), "the audit log was moved or removed, and goes on in a new file");
                self.open()?
            }
            None => self.open()?,
        };
        if file.metadata()?.len() >= self.bytes_max {
            drop(file);
            self.rotate()?;
            file = self.open()?;
        }
        file.write_all(format!("{text}\n").as_bytes())?;
        file.sync_data()?;
        *held = Some(file);
        Ok(())
    }

    /// Whether the file is still the one of this name: who rotates logs moves them away.
    fn is_there(&self, file: &File) -> io::Result<bool> {
        let there = match fs::symlink_metadata(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            found => found?,
        };
        let held = file.metadata()?;
        Ok((there.dev(), there.ino()) == (held.dev(), held.ino()))
    }

    /// At its end; a line that a crash broke off is ended first.
    fn open(&self) -> io::Result<File> {
        let mut options = OpenOptions::new();
        let mut file = options
            .create(true)
            .read(true)
            .append(true)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(&self.path)?;
        if file.metadata()?.len() > 0 {
            let mut last = [0];
            file.seek(SeekFrom::End(-1))?;
            file.read_exact(&mut last)?;
            if last != *b"\n" {
                file.write_all(b"\n")?;
            }
        }
        Ok(file)
    }

    fn rotate(&self) -> io::Result<()> {
        for number in (1..KEPT).rev() {
            match fs::rename(self.aside(number), self.aside(number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        fs::rename(&self.path, self.aside(1))
    }

    fn aside(&self, number: u32) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".{number}"));
        name.into()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn line(number: u64) -> Line<'static> {
        let revisions = Revisions {
            mesh: 1,
            resources: number,
        };
        Line {
            at: "2026-11-08T18:30:00+05:30".into(),
            token: Some("ci"),
            role: "operator",
            peer: Some(([127, 0, 0, 1], 4).into()),
            method: "POST",
            path: "/api/v1/resources:apply",
            status: 200,
            summary: "1 change",
            reason: None,
            forced: false,
            before: revisions,
            after: revisions,
        }
    }

    fn numbers(path: &Path) -> Vec<u64> {
        let text = fs::read_to_string(path).unwrap();
        let number = |line: &str| {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            line["after"]["resources"].as_u64().unwrap()
        };
        text.lines().map(number).collect()
    }

    #[test]
    fn lines_follow_each_other_over_restarts_and_old_files_are_kept_up_to_a_bound() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(NAME);
        let log = || AuditLog {
            bytes_max: 1_000,
            ..AuditLog::of(dir.path())
        };
        for number in 0..3 {
            log().write(&line(number));
        }
        assert_eq!(numbers(&path), [0, 1, 2]);
        let log = log();
        for number in 3..200 {
            log.write(&line(number));
        }
        let all: Vec<u64> = (1..=KEPT)
            .rev()
            .map(|number| log.aside(number))
            .chain([path.clone()])
            .flat_map(|path| numbers(&path))
            .collect();
        assert_eq!(all.last(), Some(&199));
        assert!(all.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{all:?}");
        assert!((10..60).contains(&all.len()), "{}", all.len());
        assert!(!log.aside(KEPT + 1).exists());
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
    }

    #[test]
    fn a_file_that_is_moved_or_removed_gets_no_more_lines() {
        let dir = tempfile::tempdir().unwrap();
        let (path, moved) = (dir.path().join(NAME), dir.path().join("moved"));
        let log = AuditLog::of(dir.path());
        log.write(&line(1));
        fs::rename(&path, &moved).unwrap();
        log.write(&line(2));
        log.write(&line(3));
        assert_eq!((numbers(&moved), numbers(&path)), (vec![1], vec![2, 3]));
        fs::remove_file(&path).unwrap();
        log.write(&line(4));
        assert_eq!(numbers(&path), [4]);
        // Another one is in its place already.
        fs::rename(&path, &moved).unwrap();
        fs::write(&path, "").unwrap();
        log.write(&line(5));
        assert_eq!((numbers(&moved), numbers(&path)), (vec![4], vec![5]));
    }

    #[test]
    fn a_line_that_was_broken_off_does_not_swallow_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(NAME);
        fs::write(&path, "{\"at\": \"half").unwrap();
        AuditLog::of(dir.path()).write(&line(7));
        let text = fs::read_to_string(&path).unwrap();
        let last = text.lines().last().unwrap();
        assert!(last.starts_with('{') && last.ends_with('}'), "{text}");
        assert_eq!(text.lines().count(), 2);
    }
}
