//! The canary's split, as the users of a gateway live it.

use std::{collections::BTreeSet, thread};

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::door1::{Door1, filter_config, seen, version};

fn service(weight: f64) -> Value {
    json!({
        "name": "order-service",
        "canary": {"version": "v2", "weight": weight, "sticky_by": {"header": "x-user-id"}},
    })
}

/// Users of `ids` whom v2 serves.
fn users_of_v2(door: &Door1, ids: std::ops::Range<u32>) -> Result<BTreeSet<u32>> {
    let mut client = door.client();
    let mut users = BTreeSet::new();
    for id in ids {
        let user = format!("user-{id}");
        let answer = client.get("/orders", &[("x-user-id", user.as_bytes())])?;
        ensure!(answer.status == 200, "{user}: {}", answer.status);
        let told = seen(&answer, "x-mumbai-version")?;
        match version(&answer)?.as_str() {
            "v2" => {
                ensure!(told.as_deref() == Some("v2"), "{user}: {told:?}");
                users.insert(id);
            }
            _ => ensure!(told.as_deref() == Some("stable"), "{user}: {told:?}"),
        }
    }
    Ok(users)
}

/// Five standard deviations around the expected count: one run in a million is outside by chance.
fn within_binomial_bounds(hits: usize, draws: u32, share: f64) -> Result<()> {
    let expected = f64::from(draws) * share;
    let deviation = (f64::from(draws) * share * (1.0 - share)).sqrt();
    let hits = f64::from(u32::try_from(hits)?);
    ensure!(
        (hits - expected).abs() <= 5.0 * deviation,
        "{hits} of {draws}, expected {expected} +- {}",
        5.0 * deviation
    );
    Ok(())
}

#[test]
fn ten_percent_of_ten_thousand_users_are_served_by_the_canary() -> Result<()> {
    let door = Door1::start(&filter_config(&service(10.0), &json!({})))?;
    let halves = thread::scope(|scope| {
        let first = scope.spawn(|| users_of_v2(&door, 0..5_000));
        let second = scope.spawn(|| users_of_v2(&door, 5_000..10_000));
        [first, second].map(|half| half.join().unwrap_or_else(|_| Ok(BTreeSet::new())))
    });
    let [first, second] = halves;
    within_binomial_bounds(first?.len() + second?.len(), 10_000, 0.1)
}

#[test]
fn a_user_stays_with_one_version() -> Result<()> {
    let door = Door1::start(&filter_config(&service(50.0), &json!({})))?;
    let mut clients = door.client_per_worker()?;
    for user in [
        "user-1",
        "user-2",
        "\u{928}\u{92e}\u{938}\u{94d}\u{924}\u{947}",
    ] {
        let mut versions = BTreeSet::new();
        for turn in 0..100 {
            let client = &mut clients[turn % 2];
            let answer = client.get("/orders", &[("x-user-id", user.as_bytes())])?;
            versions.insert(version(&answer)?);
        }
        assert_eq!(versions.len(), 1, "{user} was served by {versions:?}");
    }
    Ok(())
}

#[test]
fn requests_without_an_id_are_split_at_random() -> Result<()> {
    let door = Door1::start(&filter_config(&service(25.0), &json!({})))?;
    let mut client = door.client();
    let mut hits = 0;
    for _ in 0..2_000 {
        let answer = client.get("/orders", &[])?;
        hits += usize::from(version(&answer)? == "v2");
    }
    within_binomial_bounds(hits, 2_000, 0.25)
}

#[test]
fn clients_cannot_choose_a_version_by_sending_our_headers() -> Result<()> {
    let door = Door1::start(&filter_config(&service(10.0), &json!({})))?;
    // Bucket 1657: stable at 10 %.
    let forged: [(&str, &[u8]); 3] = [
        ("x-user-id", b"user-1"),
        ("x-mumbai-version", b"v2"),
        ("x-mumbai-canary", b"v2"),
    ];
    assert_eq!(version(&door.get(&forged)?)?, "v1");
    // Bucket 695: the canary at 10 %.
    let forged: [(&str, &[u8]); 3] = [
        ("x-user-id", b"user-42"),
        ("x-mumbai-version", b"stable"),
        ("x-mumbai-canary", b"stable"),
    ];
    assert_eq!(version(&door.get(&forged)?)?, "v2");
    Ok(())
}

#[test]
fn where_the_listener_trusts_it_the_canary_header_chooses() -> Result<()> {
    let trusting = json!({"trust_canary_header": true});
    let door = Door1::start(&filter_config(&service(10.0), &trusting))?;
    for (asked, expected) in [("v2", "v2"), ("stable", "v1"), ("v9", "v1")] {
        let headers: [(&str, &[u8]); 2] = [
            ("x-user-id", b"user-1"),
            ("x-mumbai-canary", asked.as_bytes()),
        ];
        let answer = door.get(&headers)?;
        assert_eq!(version(&answer)?, expected, "{asked}");
        assert_eq!(seen(&answer, "x-mumbai-canary")?, None);
    }
    Ok(())
}
