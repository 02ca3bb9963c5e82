//! What is of the file alone; what every store promises is in the contract that runs on all of them.

use std::{fs, os::unix::fs::PermissionsExt};

use policy::time::WallTime;

use super::*;
use crate::store::{Change, Since, key};

fn draft(changes: &[(&str, Option<&str>)]) -> Draft {
    let change = |(key, value): &(&str, Option<&str>)| Change {
        key: (*key).into(),
        value: value.map(Into::into),
    };
    Draft {
        about: About::of_api(WallTime::from_unix_millis(7)),
        changes: changes.iter().map(change).collect(),
    }
}

#[test]
fn one_process_has_it_and_only_its_owner_may_read_it() {
    let folder = tempfile::tempdir().unwrap();
    let state_dir = folder.path().join("state");
    let _store = Embedded::open(&state_dir).unwrap();
    let second = Embedded::open(&state_dir).err().unwrap();
    assert!(matches!(second, StoreError::InUse(_)), "{second}");
    for file in fs::read_dir(&state_dir).unwrap() {
        let mode = file.unwrap().metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{mode:o}");
    }
}

#[test]
fn what_an_earlier_version_kept_is_taken_in_once_and_counted_on() {
    let folder = tempfile::tempdir().unwrap();
    let last_good = folder.path().join("last-good-mesh.json");
    let database = open(&folder.path().join(FILE)).unwrap();
    earlier::write_as_earlier(&database).unwrap();
    drop(database);
    fs::write(&last_good, "{\"services\":{}}").unwrap();
    for _ in 0..2 {
        let store = Embedded::open(folder.path()).unwrap();
        assert!(!last_good.exists());
        let mesh = store.load(Log::Mesh).unwrap();
        assert_eq!(
            (mesh.revision, &*mesh.values["mesh"]),
            (1, "{\"services\":{}}")
        );
        let resources = store.load(Log::Resources).unwrap();
        assert_eq!((resources.revision, resources.values.len()), (41, 2));
        let url = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
        let row = key(&["resource", "cluster", "edge", url, "a"]);
        let value = &resources.values[&row];
        assert!(
            value.starts_with("{\"override\":true,\"resource\":{\"@type\""),
            "{value}"
        );
        assert_eq!(&*resources.values[&key(&["file", "one.json"])], "{}");
    }
    let store = Embedded::open(folder.path()).unwrap();
    let appended = store.append(Log::Resources, 41, draft(&[("x", Some("1"))]));
    assert_eq!(appended.unwrap(), 42);
    // A file that comes back is an old one.
    drop(store);
    fs::write(&last_good, "{\"services\":{\"old\":{}}}").unwrap();
    let store = Embedded::open(folder.path()).unwrap();
    assert_eq!(store.load(Log::Mesh).unwrap().revision, 1);
}

#[test]
fn a_database_that_was_closed_by_a_failure_is_opened_anew_and_what_is_on_disk_holds() {
    let folder = tempfile::tempdir().unwrap();
    let store = Embedded::open(folder.path()).unwrap();
    store
        .append(Log::Resources, 0, draft(&[("a", Some("1"))]))
        .unwrap();
    *store.lock() = None;
    // Another process wrote meanwhile: as a commit whose error came after the disk had it.
    let other = Embedded::open(folder.path()).unwrap();
    other
        .append(Log::Resources, 1, draft(&[("a", Some("2"))]))
        .unwrap();
    drop(other);
    let lost = store.append(Log::Resources, 1, draft(&[("a", Some("3"))]));
    assert!(
        matches!(lost, Err(StoreError::Moved { newest: 2 })),
        "{lost:?}"
    );
    assert!(matches!(
        store.feed(Log::Resources).since(1),
        Since::Unknown
    ));
    assert_eq!(&*store.load(Log::Resources).unwrap().values["a"], "2");
    assert_eq!(
        store
            .append(Log::Resources, 2, draft(&[("a", None)]))
            .unwrap(),
        3
    );
    assert!(store.load(Log::Resources).unwrap().values.is_empty());
}
