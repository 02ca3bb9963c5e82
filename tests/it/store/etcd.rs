//! What is of an etcd alone: it ends and comes back, its answers are lost, it asks who we are.

use std::{fs, path::Path, sync::Arc, thread};

use anyhow::{Context, Result, ensure};
use harness::{certificate::Authority, etcd::Etcd as RealEtcd, wait::wait_for};
use mumbai_mesh_server::store::{Access, Etcd, Log, Store, StoreError, TlsFiles};
use serde_json::json;

use super::{Written, append, contract::access, draft, since};
use crate::door1::BOUND;

fn wait_revision(store: &dyn Store, log: Log, revision: u64) -> Result<()> {
    wait_for("the revision to arrive", BOUND, || {
        match store.feed(log).revision() {
            newest if newest == revision => Ok(()),
            newest => Err(format!("{newest} instead of {revision}")),
        }
    })
}

#[test]
fn kill_9_between_any_two_writes_loses_nothing_that_was_acknowledged() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut etcd = RealEtcd::start(dir.path())?;
    let access = access(&etcd.store("kills"))?;
    let (writer, follower) = (Etcd::open(&access)?, Etcd::open(&access)?);
    for number in 1..=8_u64 {
        let value = number.to_string();
        let large = "x".repeat(3_000_000);
        let changes = [
            ("number", Some(&*value)),
            ("large", (number % 3 == 0).then_some(&*large)),
        ];
        let revision = append(&writer, Log::Resources, &changes)?;
        ensure!(revision == number);
        etcd.kill()?;
        etcd.start_again()?;
        // Nobody was told: who writes and who follows find it again by themselves.
        ensure!(append(&writer, Log::Mesh, &[("mesh", Some(&value))])? == number);
        wait_revision(&follower, Log::Resources, number)?;
        wait_revision(&follower, Log::Mesh, number)?;
    }
    let state = follower.load(Log::Resources)?;
    ensure!(state.values.get("number").map(|value| &**value) == Some("8"));
    ensure!(since(&follower, Log::Mesh, 6) == Some(vec![7, 8]));
    Ok(())
}

#[test]
fn a_write_during_which_it_is_killed_is_there_once_or_not_at_all() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut etcd = RealEtcd::start(dir.path())?;
    let store = Arc::new(Etcd::open(&access(&etcd.store("amid"))?)?);
    let mut expected = 0;
    for round in 0..6_u64 {
        let writing = Arc::clone(&store);
        let after = store.feed(Log::Resources).revision();
        let large = "y".repeat(2_500_000);
        let writer = thread::spawn(move || {
            let changes = [("round", Some(&*large)), ("other", Some("1"))];
            writing.append(Log::Resources, after, draft(&changes))
        });
        // Whatever the writer has done by now.
        thread::yield_now();
        etcd.kill()?;
        etcd.start_again()?;
        let written = writer.join().expect("the writer");
        match written {
            Ok(revision) => ensure!(revision == after + 1, "round {round}: {revision}"),
            Err(StoreError::Uncertain { .. } | StoreError::Broken { .. }) => {}
            Err(other) => anyhow::bail!("round {round}: {other}"),
        }
        let now = store.load(Log::Resources)?.revision;
        ensure!(
            now == after || now == after + 1,
            "round {round}: {now} after {after}"
        );
        ensure!(written.is_err() || now == after + 1);
        expected = now;
    }
    wait_revision(&*store, Log::Resources, expected)
}

#[test]
fn while_it_is_away_reads_go_on_writes_are_refused_and_nothing_hangs() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut etcd = RealEtcd::start(dir.path())?;
    let access = access(&etcd.store("away"))?;
    let store = Etcd::open(&access)?;
    append(&store, Log::Resources, &[("a", Some("1"))])?;
    etcd.kill()?;
    let refused = store.append(Log::Resources, 1, draft(&[("a", Some("2"))]));
    ensure!(
        matches!(
            refused,
            Err(StoreError::Broken { .. } | StoreError::Uncertain { .. })
        ),
        "{refused:?}"
    );
    ensure!(since(&store, Log::Resources, 0) == Some(vec![1]));
    let second = Etcd::open(&access)
        .err()
        .context("opened without an etcd")?;
    ensure!(second.to_string().contains("etcd://127.0.0.1"), "{second}");
    etcd.start_again()?;
    append(&store, Log::Resources, &[("a", Some("3"))])?;
    Ok(())
}

/// Of the log of resources, whatever they are for.
fn keys_kept(etcd: &RealEtcd) -> Result<u64> {
    let range = json!({
        "key": base64(b"/snapshots/resources/"),
        "range_end": base64(b"/snapshots/resources0"),
        "count_only": true,
    });
    let answer = etcd.call("/v3/kv/range", &range)?;
    let count = answer["count"].as_str().context("no count")?;
    Ok(count.parse()?)
}

#[test]
fn what_one_writes_another_has_and_who_comes_late_reads_a_snapshot_of_what_was_long_ago()
-> Result<()> {
    let dir = tempfile::tempdir()?;
    let etcd = RealEtcd::start(dir.path())?;
    let access = access(&etcd.store("snapshots"))?;
    let (writer, follower) = (Etcd::open(&access)?, Etcd::open(&access)?);
    let large = "z".repeat(1_500_000);
    for number in 1..=300_u64 {
        let key = format!("key-{}", number % 7);
        let value = format!("{number}{}", if number % 40 == 0 { &*large } else { "" });
        append(&writer, Log::Resources, &[(&key, Some(&value))])?;
    }
    wait_revision(&follower, Log::Resources, 300)?;
    let expected = writer.load(Log::Resources)?;
    ensure!(expected.values.len() == 7);
    ensure!(follower.load(Log::Resources)? == expected);
    // It is written down beside the writes; afterwards the oldest revisions are gone.
    let late = Etcd::open(&access)?;
    wait_for("old revisions to go", BOUND, || match keys_kept(&etcd) {
        Ok(..250) => Ok(()),
        other => Err(format!("{other:?}")),
    })?;
    ensure!(late.load(Log::Resources)? == expected);
    // What etcd forgets of its own past is missed by nobody.
    let here = json!({"key": base64(b"/snapshots/")});
    let here = etcd.call("/v3/kv/range", &here)?["header"]["revision"].clone();
    let forget = json!({"revision": here, "physical": true});
    etcd.call("/v3/kv/compaction", &forget)?;
    ensure!(late.load(Log::Resources)? == expected);
    append(&late, Log::Resources, &[("key-0", Some("late"))])?;
    wait_revision(&follower, Log::Resources, 301)?;
    let count = keys_kept(&etcd)?;
    ensure!(count < 250, "{count} keys are left behind");
    Ok(())
}

/// Writes as somebody does whom a machine is too busy to answer in time while members elect: looks whether the change is
/// there, and tries again.
fn append_at_last(store: &Etcd, changes: &[Written<'_>]) -> Result<u64> {
    let after = store.feed(Log::Resources).revision();
    wait_for("a write to be taken", BOUND, || {
        let error = match store.append(Log::Resources, after, draft(changes)) {
            Ok(revision) => return Ok(revision),
            Err(error) => error.to_string(),
        };
        match store.load(Log::Resources) {
            Ok(state) if state.revision == after + 1 => Ok(after + 1),
            _ => Err(error),
        }
    })
}

#[test]
fn of_three_members_any_may_go_and_come_back() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut members = RealEtcd::start_three(dir.path())?;
    let addresses: Vec<String> = members
        .iter()
        .map(|one| one.address().to_string())
        .collect();
    let access = access(&format!("etcd://{}/three", addresses.join(",")))?;
    let (writer, follower) = (Etcd::open(&access)?, Etcd::open(&access)?);
    let large = "x".repeat(2_500_000);
    for round in 0..6_u64 {
        let member = &mut members[(round % 3) as usize];
        let before = append_at_last(&writer, &[("before", Some(&large))])?;
        member.kill()?;
        // Two of three go on.
        let after = append_at_last(&writer, &[("after", Some(&round.to_string()))])?;
        ensure!((before, after) == (round * 2 + 1, round * 2 + 2));
        wait_revision(&follower, Log::Resources, after)?;
        member.start_again()?;
    }
    ensure!(follower.load(Log::Resources)? == writer.load(Log::Resources)?);
    Ok(())
}

#[test]
fn an_etcd_that_may_not_grow_refuses_a_change_and_says_so() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let quota = ["--quota-backend-bytes=16777216".to_string()];
    let etcd = RealEtcd::start_with(dir.path(), &quota, false)?;
    let store = Etcd::open(&access(&etcd.store("full"))?)?;
    let large = "x".repeat(1_000_000);
    let (mut accepted, mut in_doubt) = (0, 0);
    let mut tries = 0;
    let refused = loop {
        tries += 1;
        ensure!(tries < 200, "it grows and grows: {accepted} were accepted");
        let after = store.feed(Log::Resources).revision();
        match store.append(Log::Resources, after, draft(&[("a", Some(&large))])) {
            Ok(revision) => accepted = revision,
            // An answer was lost, as on a busy machine: it is looked whether the change is there.
            Err(error @ (StoreError::Uncertain { .. } | StoreError::Moved { .. })) => {
                in_doubt += u64::from(matches!(error, StoreError::Uncertain { .. }));
                store.catch_up(Log::Resources)?;
                accepted = store.load(Log::Resources)?.revision;
            }
            Err(error) => break error,
        }
    };
    ensure!(matches!(refused, StoreError::Full { .. }), "{refused}");
    // One that was in doubt may have been written after we looked; one that was refused was not. (An etcd says that it is
    // full of the write as well with which it passes its limit, and keeps that one: the store knows.)
    let revision = store.load(Log::Resources)?.revision;
    ensure!(
        (accepted..=accepted + in_doubt).contains(&revision),
        "{revision} is in force, {accepted} were accepted and {in_doubt} in doubt"
    );
    Ok(())
}

/// As etcd's gateway for JSON takes bytes.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let mut padded = [0; 3];
        padded[..three.len()].copy_from_slice(three);
        let [a, b, c] = padded.map(usize::from);
        let digits = [
            a >> 2,
            (a & 3) << 4 | b >> 4,
            (b & 15) << 2 | c >> 6,
            c & 63,
        ];
        for (at, digit) in digits.into_iter().enumerate() {
            text.push(if at <= three.len() {
                char::from(DIGITS[digit])
            } else {
                '='
            });
        }
    }
    text
}

#[test]
fn an_etcd_that_asks_for_a_user_gets_one_and_a_wrong_password_is_refused() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut etcd = RealEtcd::start(dir.path())?;
    let user = |name: &str| json!({"name": name, "password": format!("{name}-secret")});
    etcd.call("/v3/auth/user/add", &user("root"))?;
    etcd.call(
        "/v3/auth/user/grant",
        &json!({"user": "root", "role": "root"}),
    )?;
    etcd.call("/v3/auth/user/add", &user("mesh"))?;
    etcd.call("/v3/auth/role/add", &json!({"name": "mesh"}))?;
    let keys = json!({"permType": "READWRITE", "key": base64(b"/secured/"), "range_end": base64(b"/secured0")});
    etcd.call(
        "/v3/auth/role/grant",
        &json!({"name": "mesh", "perm": keys}),
    )?;
    etcd.call(
        "/v3/auth/user/grant",
        &json!({"user": "mesh", "role": "mesh"}),
    )?;
    etcd.call("/v3/auth/enable", &json!({}))?;
    let as_user = |name: &str, password: &str, prefix: &str| -> Result<Access> {
        let address = etcd
            .store(prefix)
            .replace("etcd://", &format!("etcd://{name}@"));
        Ok(Access {
            password: password.to_string().into(),
            ..access(&address)?
        })
    };
    let refused = |access: Access| -> Result<String> {
        Ok(Etcd::open(&access).err().context("let in")?.to_string())
    };
    let told = refused(as_user("mesh", "wrong-secret", "secured")?)?;
    ensure!(
        told.contains("authentication failed") && !told.contains("wrong-secret"),
        "{told}"
    );
    let told = refused(access(&etcd.store("secured"))?)?;
    ensure!(told.contains("user name is empty"), "{told}");
    let told = refused(as_user("mesh", "mesh-secret", "elsewhere")?)?;
    ensure!(told.contains("permission denied"), "{told}");
    let mine = as_user("mesh", "mesh-secret", "secured")?;
    let (store, follower) = (Etcd::open(&mine)?, Etcd::open(&mine)?);
    let large = "x".repeat(3_000_000);
    ensure!(append(&store, Log::Resources, &[("a", Some(&large))])? == 1);
    wait_revision(&follower, Log::Resources, 1)?;
    // Its tokens are gone with it.
    etcd.kill()?;
    etcd.start_again()?;
    ensure!(append(&store, Log::Resources, &[("a", Some("2"))])? == 2);
    wait_revision(&follower, Log::Resources, 2)
}

#[test]
fn by_tls_both_sides_show_certificates() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let authority = Authority::of_nobody()?;
    let write = |name: &str, text: &str| -> Result<std::path::PathBuf> {
        let path = dir.path().join(name);
        fs::write(&path, text)?;
        Ok(path)
    };
    let ca = write("ca.pem", authority.pem())?;
    let identity = |name: &str| -> Result<_> {
        let issued = authority.issue_to_this_host()?;
        let key = write(&format!("{name}.key"), &issued.key)?;
        Ok((write(&format!("{name}.pem"), &issued.chain)?, key))
    };
    let (server, client) = (identity("server")?, identity("client")?);
    let flag = |name: &str, path: &Path| format!("--{name}={}", path.display());
    let flags = [
        flag("cert-file", &server.0),
        flag("key-file", &server.1),
        flag("trusted-ca-file", &ca),
        "--client-cert-auth=true".into(),
    ];
    let etcd = RealEtcd::start_with(dir.path(), &flags, true)?;
    let with = |tls: TlsFiles| -> Result<Access> {
        Ok(Access {
            tls,
            ..access(&etcd.store("tls"))?
        })
    };
    let mine = with(TlsFiles {
        ca: Some(ca.clone()),
        identity: Some(client.clone()),
    })?;
    let store = wait_for("etcd to serve by TLS", BOUND, || {
        Etcd::open(&mine).map_err(|error| error.to_string())
    })?;
    ensure!(append(&store, Log::Mesh, &[("mesh", Some("{}"))])? == 1);
    let other = Authority::of_nobody()?;
    let other = write("other.pem", other.pem())?;
    let cases = [
        (TlsFiles::default(), "plaintext"),
        (
            TlsFiles {
                ca: Some(ca),
                identity: None,
            },
            "without a certificate",
        ),
        (
            TlsFiles {
                ca: Some(other),
                identity: Some(client),
            },
            "that trusts somebody else",
        ),
    ];
    for (tls, who) in cases {
        let opened = Etcd::open(&with(tls)?);
        ensure!(
            matches!(
                opened.err(),
                Some(StoreError::Broken { .. } | StoreError::Uncertain { .. })
            ),
            "{who}"
        );
    }
    Ok(())
}
