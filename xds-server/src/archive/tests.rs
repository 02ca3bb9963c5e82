use std::collections::BTreeMap;

use policy::time::WallTime;

use super::{Archive, BackupKey, NotOpened, Unreadable, open, wrap};
use crate::{
    pki::{OpenAuthority, Passphrase},
    seal::{self, Purpose},
    store::{About, Change, Draft, Embedded, KEPT, Log, MESH_KEY, State, Store},
};

fn now() -> WallTime {
    WallTime::from_unix_seconds(1_800_000_000)
}

fn store(dir: &tempfile::TempDir, name: &str) -> Embedded {
    Embedded::open(&dir.path().join(name)).unwrap()
}

fn append(store: &dyn Store, log: Log, key: &str, value: Option<&str>) {
    let draft = Draft {
        about: About::of_api(now()),
        changes: vec![Change {
            key: key.into(),
            value: value.map(Into::into),
        }],
    };
    store
        .append(log, store.feed(log).revision(), draft)
        .unwrap();
}

/// More revisions than are kept, of both kinds.
fn full(dir: &tempfile::TempDir) -> Embedded {
    let full = store(dir, "full");
    for number in 1..=KEPT + 7 {
        append(&full, Log::Mesh, MESH_KEY, Some(&format!("mesh {number}")));
    }
    for (key, value) in [
        ("a", Some("1")),
        ("b", Some("2")),
        ("a", None),
        ("c", Some("3")),
    ] {
        append(&full, Log::Resources, key, value);
    }
    full
}

fn all(store: &dyn Store) -> BTreeMap<&'static str, (State, Vec<u64>)> {
    let of = |log: Log| {
        let history = store.history(log, u64::MAX, 1_000).unwrap();
        let numbers = history.into_iter().map(|(number, _)| number).collect();
        (log.name(), (store.load(log).unwrap(), numbers))
    };
    Log::ALL.map(of).into()
}

#[test]
fn what_is_put_into_an_empty_store_has_the_numbers_that_it_had() {
    let dir = tempfile::tempdir().unwrap();
    let full = full(&dir);
    let (archive, lost) = Archive::of(&full, now()).unwrap();
    assert!(lost.is_empty());
    assert_eq!(
        (
            archive.revision(Log::Mesh),
            archive.revision(Log::Resources)
        ),
        (KEPT + 7, 4)
    );
    let again = Archive::read(archive.to_text().as_bytes()).unwrap();
    assert_eq!(again.made_at(), now());
    let empty = store(&dir, "empty");
    again.put_into(&empty).unwrap();
    let (before, after) = (all(&full), all(&empty));
    for log in [Log::Mesh, Log::Resources] {
        assert_eq!(before[log.name()].0, after[log.name()].0);
    }
    assert_eq!(before["mesh"].1, after["mesh"].1);
    assert_eq!(after["resources"].1, [4], "who made the newest is known");
    let kept = empty.kept(Log::Mesh, 10).unwrap().unwrap();
    assert_eq!(&*kept.values[MESH_KEY], "mesh 10");
    // It counts on from there, and what holds something is never overwritten.
    append(&empty, Log::Mesh, MESH_KEY, Some("next"));
    assert_eq!(empty.feed(Log::Mesh).revision(), KEPT + 8);
    assert!(again.put_into(&empty).is_err());
}

#[test]
fn an_empty_store_is_an_archive_too() {
    let dir = tempfile::tempdir().unwrap();
    let (archive, _) = Archive::of(&store(&dir, "one"), now()).unwrap();
    let other = store(&dir, "other");
    Archive::read(archive.to_text().as_bytes())
        .unwrap()
        .put_into(&other)
        .unwrap();
    assert_eq!(other.feed(Log::Mesh).revision(), 0);
}

#[test]
fn what_is_no_archive_is_refused_with_what_it_is() {
    let refused = |text: &str| Archive::read(text.as_bytes()).err().unwrap();
    assert!(matches!(refused("not json"), Unreadable::Damaged(_)));
    assert!(matches!(refused("{}"), Unreadable::Damaged(_)));
    assert!(matches!(
        refused(r#"{"form": "mumbai-mesh archive 2"}"#),
        Unreadable::Version(_)
    ));
    let other = r#"{"form": "mumbai-mesh archive 1", "made_at": 0, "logs": [{"log": "later", "revisions": []}]}"#;
    assert!(matches!(refused(other), Unreadable::Version(_)));
}

#[test]
fn a_backup_is_opened_by_its_passphrase_alone_and_brings_keys_and_tokens() {
    let dir = tempfile::tempdir().unwrap();
    let passphrase = |text: &str| {
        let file = dir.path().join("passphrase");
        std::fs::write(&file, text).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&file, mode).unwrap();
        Passphrase::read(&file).unwrap()
    };
    let (archive, _) = Archive::of(&full(&dir), now()).unwrap();
    let authority = OpenAuthority {
        root: "root key".to_string().into(),
        issuing: "issuing key".to_string().into(),
    };
    let archive = archive.with(authority, Some("{}".into()));
    let right = passphrase("correct horse battery\n");
    let key = BackupKey::make(&right).unwrap();
    let text = archive.to_text();
    let sealed = seal::seal(Purpose::Backup, key.bytes(), text.as_bytes()).unwrap();
    let file = wrap(&key, &sealed);
    assert!(!String::from_utf8_lossy(&file).contains("root key"));
    let opened = Archive::read(&open(&right, &file).unwrap()).unwrap();
    assert_eq!(&**opened.authority().unwrap().root, "root key");
    assert_eq!(opened.tokens(), Some("{}"));
    let wrong = passphrase("incorrect horse battery\n");
    assert!(matches!(open(&wrong, &file), Err(NotOpened::Other)));
    let mut changed = file.clone();
    *changed.last_mut().unwrap() ^= 1;
    assert!(matches!(open(&right, &changed), Err(NotOpened::Other)));
    for short in [&b""[..], b"mumbai-mesh backup 1\n", b"something else"] {
        assert!(matches!(open(&right, short), Err(NotOpened::NoBackup)));
    }
}
