//! What can be read of a damaged file: row by row, each for itself, since the next one may lie in a page that is none.

use std::path::Path;

use policy::time::WallTime;
use redb::{
    ConcurrencyMode, Database, Key, Range, ReadOnlyDatabase, ReadOnlyTable, ReadTransaction,
    ReadableDatabase, StorageError, TableDefinition, TableError, Value,
};

use super::{
    CACHE_BYTES, broken,
    look::{View, damaged},
    tables::{ABOUT, NEWEST, VALUES, WHOLES},
    unopened,
};
use crate::store::{About, Change, Entry, KEPT, Log, StoreError, quiet::quietly};

/// What could be read of a file, and what could not.
pub struct Remains {
    /// The oldest revision first; of a log whose revisions are changes a single one that says everything.
    pub logs: Vec<(Log, Vec<Entry>)>,
    /// In words.
    pub lost: Vec<String>,
}

pub(super) fn of(path: &Path) -> Result<Remains, StoreError> {
    let view = View::of(path)
        .and_then(|view| Ok(view.as_it_is().map(|()| view)?))
        .map_err(|error| unopened(path, error))?;
    let opened = quietly(|| -> Result<ReadOnlyDatabase, _> {
        // Of all ways to read, the one that trusts the rest of the file least.
        Database::builder()
            .set_cache_size(CACHE_BYTES)
            .set_concurrency_mode(ConcurrencyMode::MultiWriter)
            .open_read_only_with_backend(view)
    });
    let none = |why: String| damaged(path, format!("{why}, and nothing of it can be read"));
    let database = match opened {
        Ok(Ok(database)) => database,
        Ok(Err(error)) => {
            return Err(match unopened(path, error) {
                StoreError::Damaged { why, .. } | StoreError::Broken { why, .. } => none(why),
                other => other,
            });
        }
        Err(why) => return Err(none(why)),
    };
    let begun = quietly(|| database.begin_read()).map_err(none)?;
    let transaction = begun.map_err(|error| broken(path, &error.into()))?;
    let mut reader = Reader {
        transaction,
        lost: Vec::new(),
    };
    let logs: Vec<_> = Log::ALL.map(|log| (log, reader.log(log))).into();
    let lost = reader.lost;
    match logs.iter().all(|(_, entries)| entries.is_empty()) && !lost.is_empty() {
        true => Err(none(lost.join("; "))),
        false => Ok(Remains { logs, lost }),
    }
}

struct Reader {
    transaction: ReadTransaction,
    lost: Vec<String>,
}

impl Reader {
    fn log(&mut self, log: Log) -> Vec<Entry> {
        let Some(newest) = self.newest(log) else {
            return Vec::new();
        };
        match log.is_of_wholes() {
            true => self.wholes(log, newest),
            false => self.state(log, newest).into_iter().collect(),
        }
    }

    /// None of a log that holds nothing.
    fn newest(&mut self, log: Log) -> Option<u64> {
        let noted = self.table(NEWEST).and_then(|table| {
            let read = quietly(|| table?.get(log.name()).ok()?.map(|found| found.value()));
            read.map_err(|why| vec![why])
        });
        let lost = match noted {
            Ok(newest) => return newest,
            Err(lost) => lost,
        };
        let Ok(Some(table)) = self.table(ABOUT) else {
            self.lose(log, "all of it", &lost.join("; "));
            return None;
        };
        let (first, end) = ((log.name(), 0), (log.name(), u64::MAX));
        let (rows, _) = both_ways(|| table.range(first..end), |key, _| Some(key.1));
        let newest = rows.into_iter().max();
        let said = newest.map_or("all of it".into(), |newest| {
            format!("what came after revision {newest}, should there have been something")
        });
        self.lose(log, &said, &lost.join("; "));
        newest
    }

    /// Kept revisions of a log of wholes.
    fn wholes(&mut self, log: Log, newest: u64) -> Vec<Entry> {
        let mut entries = Vec::new();
        for revision in newest.saturating_sub(KEPT - 1).max(1)..=newest {
            let Some(about) = self.about(log, revision) else {
                continue;
            };
            match self.whole(log, revision) {
                Ok(changes) if changes.is_empty() => {
                    self.lose(log, &format!("revision {revision}"), "its pages");
                }
                Ok(changes) => entries.push(Entry {
                    revision,
                    about,
                    changes,
                }),
                Err(why) => self.lose(log, &format!("revision {revision}"), &why),
            }
        }
        entries
    }

    fn whole(&self, log: Log, revision: u64) -> Result<Vec<Change>, String> {
        let table = self.table(WHOLES).map_err(|lost| lost.join("; "))?;
        let Some(table) = table else {
            return Ok(Vec::new());
        };
        let (first, end) = ((log.name(), revision, ""), (log.name(), revision + 1, ""));
        let mut changes = Vec::new();
        let read = quietly(|| -> Result<(), String> {
            let rows = table.range(first..end).map_err(|error| error.to_string())?;
            for found in rows {
                let (key, value) = found.map_err(|error| error.to_string())?;
                let change = change(key.value().2, value.value());
                changes.push(change.ok_or("a value of it is no text")?);
            }
            Ok(())
        });
        read?.map(|()| changes)
    }

    /// What holds in a log of changes.
    fn state(&mut self, log: Log, revision: u64) -> Option<Entry> {
        let about = self.about(log, revision)?;
        let table = match self.table(VALUES) {
            Ok(table) => table?,
            Err(lost) => {
                self.lose(log, "all of it", &lost.join("; "));
                return None;
            }
        };
        let after = format!("{}\0", log.name());
        let (first, end) = ((log.name(), ""), (after.as_str(), ""));
        let (rows, gap) = both_ways(
            || table.range(first..end),
            |key, value| Some(change(key.1, value).ok_or_else(|| shown(key.1))),
        );
        if let Some(why) = gap {
            self.lose(log, "some values", &why);
        }
        let mut changes = Vec::new();
        for row in rows {
            match row {
                Ok(change) => changes.push(change),
                Err(key) => self.lose(log, &format!("the value of {key}"), "it is no text"),
            }
        }
        Some(Entry {
            revision,
            about,
            changes,
        })
    }

    /// None of a revision that is not kept. That nobody can say who made one loses no more than that.
    fn about(&mut self, log: Log, revision: u64) -> Option<About> {
        let read = self.table(ABOUT).and_then(|table| {
            let Some(table) = table else { return Ok(None) };
            let read = quietly(|| -> Result<Option<About>, String> {
                let found = table.get((log.name(), revision));
                let Some(text) = found.map_err(|error| error.to_string())? else {
                    return Ok(None);
                };
                let about = serde_json::from_str(text.value());
                about.map(Some).map_err(|error| error.to_string())
            });
            read.and_then(|read| read).map_err(|why| vec![why])
        });
        match read {
            Ok(about) => about,
            Err(lost) => {
                let what = format!("who made revision {revision}, and when");
                self.lose(log, &what, &lost.join("; "));
                let never = WallTime::from_unix_millis(0);
                Some(About::of_files(never, "read out of a damaged store"))
            }
        }
    }

    /// None where the file has no such table.
    fn table<K: Key + 'static, V: Value + 'static>(
        &self,
        table: TableDefinition<'_, K, V>,
    ) -> Result<Option<ReadOnlyTable<K, V>>, Vec<String>> {
        match quietly(|| self.transaction.open_table(table)) {
            Ok(Ok(table)) => Ok(Some(table)),
            Ok(Err(TableError::TableDoesNotExist(_))) => Ok(None),
            Ok(Err(error)) => Err(vec![error.to_string()]),
            Err(why) => Err(vec![why]),
        }
    }

    fn lose(&mut self, log: Log, what: &str, why: &str) {
        self.lost.push(format!("{}: {what}: {why}", log.name()));
    }
}

/// Rows from the first one on, and, when one of them cannot be read, from the last one back. What made it turn.
fn both_ways<K: Key + 'static, V: Value + 'static, T>(
    range: impl Fn() -> Result<Range<'static, K, V>, StorageError>,
    row: impl Fn(K::SelfType<'_>, V::SelfType<'_>) -> Option<T>,
) -> (Vec<T>, Option<String>) {
    let read = |is_forward: bool, rows: &mut Vec<T>| {
        let read = quietly(|| -> Result<(), String> {
            let mut range = range().map_err(|error| error.to_string())?;
            while let Some(found) = if is_forward {
                range.next()
            } else {
                range.next_back()
            } {
                let (key, value) = found.map_err(|error| error.to_string())?;
                rows.extend(row(key.value(), value.value()));
            }
            Ok(())
        });
        read.and_then(|read| read).err()
    };
    let (mut rows, mut last) = (Vec::new(), Vec::new());
    let why = read(true, &mut rows);
    if why.is_some() {
        read(false, &mut last);
        rows.extend(last.into_iter().rev());
    }
    (rows, why)
}

/// Of a page that was overwritten within a value, redb gives what is there.
fn change(key: &str, value: &str) -> Option<Change> {
    let is_json = |text: &str| serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok();
    let is_text =
        !key.contains('\0') && !value.contains('\0') && (!value.starts_with('{') || is_json(value));
    is_text.then(|| Change {
        key: key.into(),
        value: Some(value.into()),
    })
}

fn shown(key: &str) -> String {
    key.escape_debug().take(200).collect()
}
