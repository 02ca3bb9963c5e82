//! Headers that a gateway takes away or writes itself: the Envoy, `explain` by file and by proxy, and `analyze`
//! are of one mind about each.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::{command::run, door1::seen, mesh::Mesh};

/// Name, value, and whether it arrives.
const HEADERS: [(&str, &str, bool); 22] = [
    ("x-initiated-by", "system", true),
    ("x-forwarded-host", "a.in", true),
    ("x-mumbai-user", "42", false),
    ("x_under", "a", false),
    ("x-request-id", "abc", false),
    ("x-forwarded-for", "9.9.9.9", false),
    ("x-forwarded-client-cert", "abc", false),
    ("x-envoy-external-address", "9.9.9.9", false),
    ("x-envoy-internal", "true", false),
    ("x-envoy-max-retries", "3", false),
    ("x-envoy-retry-on", "5xx", false),
    ("x-envoy-retry-grpc-on", "cancelled", false),
    ("x-envoy-retriable-status-codes", "503", false),
    ("x-envoy-retriable-header-names", "a", false),
    ("x-envoy-upstream-alt-stat-name", "a", false),
    ("x-envoy-upstream-rq-timeout-ms", "9000", false),
    ("x-envoy-upstream-rq-per-try-timeout-ms", "9000", false),
    ("x-envoy-original-path", "/a", false),
    ("x-envoy-original-host", "a.in", false),
    ("x-envoy-downstream-service-node", "a", false),
    ("x-envoy-decorator-operation", "a", false),
    // The last class, since each request of a plaintext listener is of it.
    ("x-forwarded-proto", "https", false),
];

fn classes() -> String {
    let classes = HEADERS.iter().enumerate().map(|(index, (name, value, _))| {
        format!("  c{index}: {{match: [{{header: {{{name}: \"{value}\"}}}}]}}\n")
    });
    format!("traffic_classes:\n{}", classes.collect::<String>())
}

fn json(command: &str, arguments: &[&str]) -> Result<Value> {
    let (_, out, errors) = run(&[command], &[arguments, &["-o", "json"]].concat())?;
    serde_json::from_str(&out).with_context(|| errors)
}

#[test]
fn what_a_gateway_makes_of_headers_is_explained_and_warned_of() -> Result<()> {
    let mesh = Mesh::start(|file| file.more = classes())?;
    let file = mesh.dir.path().join("by-hand.yaml");
    std::fs::write(&file, mesh.file.text())?;
    let file = file.display().to_string();
    let admin = mesh.gateway.admin_address();
    for (index, (name, value, arrives)) in HEADERS.iter().enumerate() {
        let answer = mesh.client().get("/orders", &[(name, value.as_bytes())])?;
        let class = seen(&answer, "x-mumbai-class")?;
        let class = class.context("no class")?;
        let expected = if *arrives {
            format!("c{index}")
        } else {
            "silver".into()
        };
        ensure!(class == expected, "{name}: {class}");
        let header = format!("{name}:{value}");
        let asked = ["--path", "/orders", "-H", &header];
        let by_file = ["--config", &file, "--gateway", "edge"];
        for whom in [&by_file[..], &["--from-proxy", &admin]] {
            let told = json("explain", &[whom, &asked].concat())?;
            ensure!(told["class"] == *class, "{name}: {told:#}");
            let reasons = told["reasons"].to_string();
            let says = reasons.contains(&format!("{name} does not arrive as the client sent it"));
            ensure!(says != *arrives, "{name}: {told:#}");
        }
    }
    let findings = json("analyze", &[&file])?;
    let found: Vec<&Value> = findings["findings"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|finding| finding["code"] == "header-never-arrives")
        .collect();
    ensure!(found.len() == 20, "{findings:#}");
    ensure!(
        found[0]["path"] == "traffic_classes.c2.match[0].header.x-mumbai-user",
        "{findings:#}"
    );
    ensure!(found[0]["place"]["line"].is_number(), "{findings:#}");
    Ok(())
}

/// What a canary's users are told apart by.
#[test]
fn a_key_that_the_gateway_drops_makes_every_draw_a_dice_and_explain_says_so() -> Result<()> {
    let mesh = Mesh::start(|file| {
        file.with_canary = false;
        file.breaker = "{consecutive_failures: 5}\n    canary: {version: v2, weight: 50, sticky_by: {header: user_id}}";
    })?;
    let admin = mesh.gateway.admin_address();
    let told = json(
        "explain",
        &[
            "--from-proxy",
            &admin,
            "--path",
            "/orders",
            "-H",
            "user_id:user-42",
        ],
    )?;
    let reasons = told["reasons"].to_string();
    ensure!(reasons.contains("no key in the request"), "{told:#}");
    ensure!(reasons.contains("user_id does not arrive"), "{told:#}");
    let mut versions = std::collections::BTreeSet::new();
    let mut client = mesh.client();
    for _ in 0..100 {
        let answer = client.get("/orders", &[("user_id", b"user-42")])?;
        versions.insert(crate::door1::version(&answer)?);
    }
    ensure!(versions.len() == 2, "{versions:?}");
    Ok(())
}
