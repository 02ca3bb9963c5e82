//! What strangers and tired people write into mesh files: refused with file, line and column, all at once,
//! by the command line and by a server that goes on with what it had.

use anyhow::{Context, Result, ensure};

use super::{Stage, analyze, write};

const GOOD: &str = "services: {order-service: {}}\n";

struct Case {
    name: &'static str,
    text: Vec<u8>,
    /// Each must begin a line of what is told; and nothing else may be told.
    told: &'static [&'static str],
}

fn case(name: &'static str, text: impl Into<Vec<u8>>, told: &'static [&'static str]) -> Case {
    Case {
        name,
        text: text.into(),
        told,
    }
}

fn bomb() -> String {
    let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
    for level in 1..9 {
        let nine = vec![format!("*a{}", level - 1); 9].join(", ");
        text += &format!("a{level}: &a{level} [{nine}]\n");
    }
    text
}

#[rustfmt::skip]
fn yaml_itself() -> Vec<Case> {
    let deep: String = (0..200).map(|depth| " ".repeat(depth) + "a:\n").collect();
    vec![
        case("a bomb of aliases", bomb(), &["mesh.yaml:6:35: its aliases stand for more than 500000 values"]),
        case("keys that come twice",
            "services:\n  a: {port: 80, port: 81}\n  b: {}\n  a: {}\n",
            &["mesh.yaml:2:17: services.a.port: is here a second time; it is in line 2 already",
              "mesh.yaml:4:3: services.a: is here a second time; it is in line 2 already"]),
        case("50 MB", "#".repeat(50_000_000), &["the files of a mesh hold more than 16 MiB"]),
        case("maps in maps in maps", deep, &["mesh.yaml:65:65: more than 64 maps and lists in each other"]),
        case("no UTF-8", b"services:\n  a: {}\n  caf\xe9: {}\n", &["mesh.yaml:3:6: is no UTF-8"]),
        case("a bracket without end", "services: {\n  a: [\n", &["mesh.yaml:2:6: not readable as YAML: unclosed bracket"]),
        case("a tab", "services:\n\ta: {}\n", &["mesh.yaml:2:2: not readable as YAML: tabs disallowed"]),
        case("nothing", "# later\n", &["mesh.yaml:1:1: the file says nothing"]),
        case("a second document", "services: {}\n---\nservices: {}\n", &["mesh.yaml:2:1: a second YAML document begins here"]),
    ]
}

#[rustfmt::skip]
fn fields() -> Vec<Case> {
    vec![
        case("unknown fields",
            "servces: {}\nservices:\n  a:\n    tmeout: 2s\n    endpoints:\n      - {host: 10.0.0.1, prot: 80}\n",
            &["mesh.yaml:1:1: servces: unknown field \"servces\" (did you mean \"services\"?",
              "mesh.yaml:4:5: services.a.tmeout: unknown field \"tmeout\" (did you mean \"timeout\"?",
              "mesh.yaml:6:9: services.a.endpoints[0].port: must be given",
              "mesh.yaml:6:26: services.a.endpoints[0].prot: unknown field \"prot\" (did you mean \"port\"?"]),
        case("durations without unit",
            "services:\n  a:\n    timeout: \"250\"\n  b:\n    timeout: 250\n",
            &["mesh.yaml:3:5: services.a.timeout: \"250\" has no unit: did you mean \"250ms\" or \"250s\"?",
              "mesh.yaml:5:5: services.b.timeout: must be a text, not the number 250 (durations carry their unit, such as 250ms or 250s"]),
        case("ports out of range",
            "services:\n  a: {port: 0}\n  b: {port: 65536}\n  c: {port: -1}\n",
            &["mesh.yaml:2:7: services.a.port: must be a whole number from 1 to 65535, not 0",
              "mesh.yaml:3:7: services.b.port: must be a whole number from 1 to 65535, not 65536",
              "mesh.yaml:4:7: services.c.port: must be a whole number from 1 to 65535, not -1"]),
        case("line breaks in a header's value",
            "traffic_classes:\n  bronze:\n    match:\n      - header: {x-from: \"a\\r\\nx-admin: yes\"}\n",
            &["mesh.yaml:4:18: traffic_classes.bronze.match[0].header.x-from: \"a\\r\\nx-admin: yes\" is no header's value"]),
        case("names that are no DNS labels",
            "services:\n  Order_Service: {}\n  -a: {}\n",
            &["mesh.yaml:2:3: services.Order_Service: the name \"Order_Service\" is no DNS label: it must be 1 to 63 of a-z, 0-9 and -, without - at its ends (did you mean \"order-service\"?",
              "mesh.yaml:3:3: services.-a: the name \"-a\" is no DNS label"]),
        case("services in Hindi, in Arabic, and with a mark that turns the line",
            "services:\n  भुगतान: {}\n  متجر: {}\n  \"a\\u202Eb\": {}\n",
            &["mesh.yaml:2:3: services.भुगतान: the name \"भुगतान\" is no DNS label",
              "mesh.yaml:3:3: services.\u{2068}متجر\u{2069}: the name",
              "mesh.yaml:4:3: services.a\\u{202e}b: the name \"a\\u{202e}b\" is no DNS label"]),
        case("fields without a value, however deep",
            "services:\n  a:\n    timeout:\n    endpoints:\n      - {host: 10.0.0.1, port: 80, zone: ~}\n      -\n  b:\ngateways:\n  edge:\n    \
             listen: 127.0.0.1:10000\n    routes:\n",
            &["mesh.yaml:3:5: services.a.timeout: has no value (is the file cut off?",
              "mesh.yaml:5:36: services.a.endpoints[0].zone: has no value",
              "mesh.yaml:6:8: services.a.endpoints[1]: has no value",
              "mesh.yaml:7:3: services.b: has no value",
              "mesh.yaml:11:5: gateways.edge.routes: has no value"]),
        case("includes in a circle", "include: [mesh.yaml]\n", &["mesh.yaml:1:11: include[0]: "]),
    ]
}

#[test]
fn analyze_refuses_bad_files_with_places_and_all_at_once() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("mesh.yaml");
    let prefix = format!("{}/", dir.path().display());
    for case in yaml_itself().into_iter().chain(fields()) {
        write(&file, &case.text)?;
        let output = analyze(&file, &[])?;
        let told = String::from_utf8_lossy(&output.stdout).replace(&prefix, "");
        let name = case.name;
        ensure!(
            output.status.code() == Some(65),
            "{name}: {}\n{told}",
            output.status
        );
        let lines: Vec<String> = told
            .lines()
            .filter(|line| line.contains("error[invalid]"))
            .map(|line| line.replace(" error[invalid]", ""))
            .collect();
        ensure!(lines.len() == case.told.len(), "{name}:\n{told}");
        // The fix stands on a line of its own.
        let told = told
            .replace(" error[invalid]", "")
            .replace("\n    fix: ", " (");
        for expected in case.told {
            ensure!(
                told.contains(expected),
                "{name}: {expected}\nis not in\n{told}"
            );
        }
        ensure!(!told.contains(['\u{202e}', '\r']), "{name}: {told:?}");
    }
    Ok(())
}

#[test]
fn a_server_goes_on_with_what_it_had_and_says_where_each_file_is_wrong() -> Result<()> {
    let stage = Stage::start("mesh.yaml", &[("mesh.yaml", GOOD)])?;
    let prefix = format!("{}/", stage.dir.path().display());
    for case in yaml_itself().into_iter().chain(fields()) {
        write(&stage.path("mesh.yaml"), &case.text)?;
        let told = stage.wait_for_refusal(|told| {
            told.len() == case.told.len()
                && told
                    .iter()
                    .zip(case.told)
                    .all(|(told, expected)| begins_alike(told, expected))
        });
        if let Err(error) = told {
            anyhow::bail!("{}: {error:#}", case.name);
        }
        let log = stage.server.log().replace(&prefix, "");
        for expected in case.told {
            ensure!(
                log.contains(expected),
                "{}: {expected}\nis not in\n{log}",
                case.name
            );
        }
        ensure!(stage.revision()? == 1, "{}", case.name);
        ensure!(stage.has("order-service")?, "{}", case.name);
        stage.wait_for_metric("mumbai_mesh_config_problems", case.told.len())?;
        stage.wait_for_metric("mumbai_mesh_config_last_reload_successful", 0)?;
    }
    stage.write(
        "mesh.yaml",
        "services: {order-service: {}, payment-service: {}}\n",
    )?;
    stage.wait_for_revision(2)?;
    stage.wait_for_metric("mumbai_mesh_config_problems", 0)?;
    stage.wait_for_metric("mumbai_mesh_config_last_reload_successful", 1)
}

/// The file as it stands for a moment while somebody writes it in place, or after a copy that broke off.
#[test]
fn a_file_that_is_cut_off_anywhere_takes_nothing_away() -> Result<()> {
    let whole = "\
services:
  order-service:
    endpoints:
      - host: 10.0.0.1
        port: 80
    timeout: 2s
    circuit_breaker:
      consecutive_failures: 5
gateways:
  edge:
    listen: 127.0.0.1:10000
    routes:
      - match:
          path_prefix: /orders
        service: order-service
";
    let stage = Stage::start("mesh.yaml", &[("mesh.yaml", whole)])?;
    let lines: Vec<&str> = whole.split_inclusive('\n').collect();
    let ends = |line: &str| line.trim_end().ends_with(':');
    let cuts = (1..=lines.len()).filter(|&cut| ends(lines[cut - 1]));
    for cut in cuts {
        stage.write("mesh.yaml", &lines[..cut].concat())?;
        let place = format!("mesh.yaml:{cut}:");
        let told = stage.wait_for_refusal(|told| {
            let mut told = told.iter();
            told.any(|one| one.starts_with(&place) && one.ends_with("has no value"))
        });
        told.with_context(|| format!("cut after line {cut}"))?;
        ensure!(stage.revision()? == 1 && stage.has("edge")?);
    }
    let url = format!("http://{}", stage.server.api);
    let history = stage.server.command(&["history", "--server", &url])?;
    ensure!(
        history.contains("mesh.yaml:13:9: gateways.edge.routes[0].match: has no value ("),
        "{history}"
    );
    Ok(())
}

/// The API tells names as they are, and the fix in a field of its own: what comes before both is compared.
fn begins_alike(told: &str, expected: &str) -> bool {
    let place = |text: &str| text.split(": ").next().unwrap_or_default().to_string();
    let expected = match expected.starts_with("mesh.yaml:") {
        true => place(expected),
        false => return told.contains(expected),
    };
    place(told) == expected
}

#[test]
fn festivals_and_windows_may_have_any_name() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("mesh.yaml");
    let text = "\
peak_hours:
  सुबह की भीड़: {start: 7, end: 11}
festivals:
  - {name: दीवाली, date: 2026-11-08}
  - {name: عيد الفطر, date: 2027-03-10}
";
    write(&file, text.as_bytes())?;
    let output = analyze(&file, &["--at", "2026-11-01T12:00+05:30"])?;
    let told = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "{told}");
    Ok(())
}

/// As the brief has it.
#[test]
fn the_pattern_file_is_taken_as_it_stands_and_its_past_is_warned_of() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("mesh.yaml");
    let text = "\
peak_hours:
  morning: {start: 7, end: 11, zone: \"mumbai-west\"}
  evening: {start: 17, end: 22, zone: \"mumbai-west\"}
  lunch:   {start: 12, end: 14, zone: \"mumbai-central\"}
festivals: [\"2024-08-19\", \"2024-08-29\", \"2024-11-05\"]
";
    write(&file, text.as_bytes())?;
    let output = analyze(&file, &["-o", "json", "--at", "2026-11-25T12:00+05:30"])?;
    let told: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    ensure!(
        output.status.code() == Some(79),
        "{}: {told:#}",
        output.status
    );
    let finding = &told["findings"][0];
    ensure!(finding["code"] == "festivals-over", "{told:#}");
    ensure!(finding["severity"] == "warning", "{told:#}");
    ensure!(finding["place"]["line"] == 5, "{told:#}");
    let earlier = analyze(&file, &["--at", "2024-09-01T12:00+05:30"])?;
    ensure!(
        earlier.status.success(),
        "{}",
        String::from_utf8_lossy(&earlier.stdout)
    );
    Ok(())
}
