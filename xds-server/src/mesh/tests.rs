//! What the mesh file says, and what is said about a wrong one.

mod gateways;
mod services;

use std::borrow::Cow;

use policy::{
    limit::Scope,
    traffic_class::Headers,
    units::{ServiceName, VersionLabel},
    wire::ServiceSource,
};

use super::{ClientOptions, Defaults, Mesh, MutualTls, RouteAction, read};

const MESH: &str = "\
mesh: {name: mumbai, region: mumbai}
timezone: Asia/Kolkata
peak_hours:
  morning: {start: 7, end: 11, zone: mumbai-west}
festivals: [\"2026-11-08\", {name: Ganesh Chaturthi, date: 2026-09-14, factor: 1.5}]
services:
  order-service:
    port: 8080
    class: gold
    timeout: 2s
    endpoints:
      - {id: order-1, host: 10.0.1.10, port: 15006, weight: 50, region: mumbai, az: west, version: v1}
      - {host: 10.0.1.11, port: 15006, version: v2}
    circuit_breaker: {consecutive_failures: 5, open_for: 5s, half_open_probes: 3}
    canary: {version: v2, weight: 12.5, sticky_by: {header: x-user-id}}
gateways:
  edge:
    listen: 127.0.0.1:10000
    routes:
      - {match: {path_prefix: /orders/}, service: order-service}
";

fn mesh(text: &str) -> Mesh {
    read(text, &Defaults::default()).unwrap()
}

fn problems(text: &str) -> Vec<String> {
    let problems = read(text, &Defaults::default()).unwrap_err();
    problems.iter().map(ToString::to_string).collect()
}

fn name(name: &str) -> ServiceName {
    ServiceName::new(name).unwrap()
}

#[test]
fn a_whole_file_is_read() {
    let mesh = mesh(MESH);
    let service = &mesh.services[&name("order-service")];
    assert_eq!(
        service.endpoints[0].zone.as_ref().unwrap().as_str(),
        "mumbai-west"
    );
    assert_eq!(service.endpoints[1].id, "10.0.1.11:15006");
    assert_eq!(service.endpoints[1].weight, 100);
    assert_eq!(
        service.canary.as_ref().unwrap().weight.highest().get(),
        1_250
    );
    let of = |version: Option<&VersionLabel>| service.endpoints_of(version).count();
    assert_eq!(
        (of(None), of(VersionLabel::new("v2").ok().as_ref())),
        (1, 1)
    );
    let gateway = &mesh.gateways[&name("edge")];
    let called = |path: &'static str| {
        let request = Request(path);
        let route = gateway.route("any", &request)?;
        match &route.action {
            RouteAction::Forward(forward) => Some(forward.service.clone()),
            RouteAction::Redirect(_) => None,
        }
    };
    assert_eq!(called("/orders/7"), Some(name("order-service")));
    assert_eq!(called("/payments"), None);
}

/// A request of which only the path counts.
struct Request(&'static str);

impl Headers for Request {
    fn get(&self, name: &str) -> Option<Cow<'_, [u8]>> {
        (name == ":path").then_some(Cow::Borrowed(self.0.as_bytes()))
    }
}

/// Documents show only what is taken.
#[test]
fn the_examples_of_the_documents_are_taken() {
    mesh(include_str!("../../../envoy/examples/mesh.yaml"));
    let readme = include_str!("../../../README.md");
    let (_, reference) = readme.split_once("```yaml\n").unwrap();
    let (reference, _) = reference.split_once("```").unwrap();
    mesh(reference);
}

#[test]
fn an_empty_mesh_is_said_so_and_an_empty_file_is_a_mistake() {
    let mesh = mesh("{}");
    assert!(mesh.services.is_empty() && mesh.gateways.is_empty());
    assert_eq!(mesh.timetable.zone().name(), "Asia/Kolkata");
    assert!(mesh.timetable.windows().is_empty(), "no window is guessed");
    for text in ["", "\n", "# nothing yet\n"] {
        assert!(
            problems(text)[0].contains("write {} for an empty mesh"),
            "{text:?}"
        );
    }
}

#[test]
fn the_files_word_outranks_the_environments() {
    let defaults = Defaults {
        peak_hours: Some("7-11,17-22".into()),
        timezone: "Europe/London".into(),
        ..Defaults::default()
    };
    let windows = |text: &str| read(text, &defaults).unwrap().timetable.windows().len();
    assert_eq!(windows("{}"), 2);
    assert_eq!(windows("peak_hours: {}"), 0);
    let zone = |text: &str| {
        read(text, &defaults)
            .unwrap()
            .timetable
            .zone()
            .name()
            .to_string()
    };
    assert_eq!(zone("{}"), "Europe/London");
    assert_eq!(zone("timezone: Asia/Tokyo"), "Asia/Tokyo");
    let wrong = Defaults {
        timezone: "Mumbai".into(),
        ..Defaults::default()
    };
    let told = read("{}", &wrong).unwrap_err();
    assert!(told[0].message.contains("TIMEZONE"), "{}", told[0]);
}

#[test]
fn every_problem_is_told_at_once_with_field_value_range_and_fix() {
    let text = MESH
        .replace("Asia/Kolkata", "Asia/Kolkatta")
        .replace("weight: 12.5", "wieght: 12.5")
        .replace("half_open_probes: 3", "half_open_probes: 33")
        .replace("timeout: 2s", "timeout: 2")
        .replace("10.0.1.10", "example.com")
        + "freeze: {during: [noon], files: never}\ndebug_headers: true\n";
    let told = problems(&text).join("\n");
    for words in [
        "timezone: unknown time zone \"Asia/Kolkatta\" (did you mean \"Asia/Kolkata\"?)",
        "canary.wieght: unknown field \"wieght\" (did you mean \"weight\"?)",
        "canary.weight: must be given",
        "half_open_probes: must be a whole number from 1 to 32, not 33",
        "timeout: must be a text, not the number 2 (durations carry their unit",
        "endpoints: some hosts are DNS names (example.com), others are addresses (10.0.1.11)",
        "debug_headers: not supported yet",
        "freeze.files: must be apply or hold, not \"never\"",
        "freeze.during[0]: \"noon\" is neither",
    ] {
        assert!(told.contains(words), "{words:?} is not in\n{told}");
    }
}

#[test]
fn a_limit_is_of_one_envoy_or_of_a_fleet() {
    let limited = |scope: &str| {
        let limited = format!("    class: gold\n    limit: {{per_second: 10, scope: {scope}}}\n");
        MESH.replacen("    class: gold\n", &limited, 1)
    };
    let scope = |word: &str| {
        let services = mesh(&limited(word)).services;
        services[&name("order-service")]
            .limit
            .as_ref()
            .unwrap()
            .scope
    };
    assert_eq!(
        (scope("envoy"), scope("fleet")),
        (Scope::Envoy, Scope::Fleet)
    );
    let told = problems(&limited("gateway"));
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("envoy or fleet"), "{told:?}");
}

#[test]
fn a_canary_may_ramp_and_stand_still() {
    let ramp = "ramp: {start: 2026-11-25T09:00+05:30, steps: [5, 10, 25, 50, 100], every: 30m}";
    let with =
        |during: &str| MESH.replace("weight: 12.5", &format!("{ramp}, freeze_during: {during}"));
    let mesh = mesh(&with("[peak, festival, morning, Ganesh Chaturthi]"));
    let canary = mesh.services[&name("order-service")].canary.clone();
    assert_eq!(canary.unwrap().weight.ramp().unwrap().steps().len(), 5);
    let config = mesh.filter_config(ClientOptions::default(), ServiceSource::default());
    let text = config.to_json().to_string();
    assert_eq!(
        policy::wire::FilterConfig::parse(text.as_bytes()),
        Ok(config)
    );
    let told = problems(&with("[noon]")).join("\n");
    assert!(
        told.contains("services.order-service.canary.freeze_during[0]: \"noon\" is neither"),
        "{told}"
    );
    let told = problems(&MESH.replace("weight: 12.5", &format!("weight: 12.5, {ramp}")));
    assert!(
        told[0].contains("canary.ramp: must not stand beside weight"),
        "{told:?}"
    );
}

#[test]
fn holidays_narrow_windows() {
    let with = MESH.replace(
        "festivals:",
        "  salary: {start: 9, end: 12, monthly: [1, last-business-day], except: holidays}\nholidays: [\"2027-01-26\"]\nfestivals:",
    );
    let mesh = mesh(&with);
    assert_eq!(mesh.timetable.holidays().len(), 1);
    let salary = mesh.timetable.windows().iter();
    let mut salary = salary.filter(|window| window.name().as_str() == "salary");
    assert!(salary.next().unwrap().except_holidays());
}

#[test]
fn traffic_classes_keep_the_files_order() {
    let classes = "\
traffic_classes:
  zinc: {match: [{path_prefix: /}]}
  bronze: {match: [{path_prefix: /a}], shed_during: {morning: 10}, limit: {per_second: 5}}
  gold: {}
";
    let mesh = mesh(&format!("{MESH}{classes}"));
    let names: Vec<&str> = mesh
        .traffic_classes
        .iter()
        .map(|class| class.name.as_str())
        .collect();
    assert_eq!(names, ["zinc", "bronze", "gold"]);
    let config = mesh.filter_config(ClientOptions::default(), ServiceSource::default());
    let text = config.to_json().to_string();
    assert_eq!(
        policy::wire::FilterConfig::parse(text.as_bytes()),
        Ok(config)
    );
    let told = problems(&format!("{MESH}{}", classes.replace("morning", "noon"))).join("\n");
    assert!(
        told.contains("traffic_classes.bronze.shed_during.noon"),
        "{told}"
    );
}

#[test]
fn what_does_not_fit_together_is_a_problem() {
    for (from, to, words) in [
        (
            "service: order-service}",
            "service: nobody}",
            "known services: order-service",
        ),
        (
            "version: v2, weight",
            "version: v3, weight",
            "no endpoint of order-service has version: v3",
        ),
        (
            "{host: 10.0.1.11",
            "{id: order-1, host: 10.0.1.11",
            "another endpoint is named",
        ),
        ("  edge:", "  order-service:", "a service has this name too"),
    ] {
        let told = problems(&MESH.replacen(from, to, 1)).join("\n");
        assert!(told.contains(words), "{to}: {told}");
    }
}

#[test]
fn what_is_no_yaml_is_a_problem() {
    let told = problems("services:\n  a: [1\nb: {");
    assert_eq!(told.len(), 1);
    assert!(told[0].contains("not readable as YAML"), "{told:?}");
    let twice = problems("timezone: Asia/Kolkata\ntimezone: Asia/Tokyo\n");
    assert!(twice[0].contains("timezone"), "{twice:?}");
}

#[test]
fn sidecars_demand_certificates_unless_the_file_says_otherwise() {
    let mode = |said: &str| {
        let text = format!("services: {{a: {{port: 1, {said}}}}}");
        mesh(&text).services[&name("a")].mtls
    };
    assert_eq!(mode(""), MutualTls::Strict);
    assert_eq!(mode("mtls: permissive"), MutualTls::Permissive);
    assert_eq!(mode("mtls: off"), MutualTls::Off);
    assert_eq!(mode("sidecar: false"), MutualTls::Off);
    assert_eq!(mode("sidecar: false, mtls: off"), MutualTls::Off);
    let told = problems("services: {a: {sidecar: false, mtls: strict}, b: {mtls: maybe}}");
    assert!(
        told[0].contains("services.a.mtls: without sidecars"),
        "{told:?}"
    );
    assert!(told[1].contains("services.b.mtls"), "{told:?}");
    assert!(told[1].contains("strict, permissive or off"), "{told:?}");
}

#[test]
fn the_mesh_says_its_trust_domain_and_how_long_certificates_live() {
    let said =
        "trust_domain: pay.example, ca_cert_validity_days: 730, service_cert_validity_days: 7";
    let mesh = mesh(&format!("mesh: {{{said}}}"));
    assert_eq!(mesh.trust_domain.as_str(), "pay.example");
    assert_eq!(mesh.certificates.ca, Some(730));
    assert_eq!(mesh.certificates.service, Some(7));
    let nothing = self::mesh("{}");
    assert_eq!(nothing.trust_domain.as_str(), "mumbai.mesh");
    assert_eq!(nothing.certificates.service, None);
    let told = problems("mesh: {trust_domain: Pay Example, service_cert_validity_days: 0}");
    assert!(told[0].contains("mesh.trust_domain: "), "{told:?}");
    assert!(told[0].contains("such as mumbai.mesh"), "{told:?}");
    assert!(
        told[1].contains("mesh.service_cert_validity_days"),
        "{told:?}"
    );
}

/// Whoever mends a file sees at once all that is to be mended.
#[test]
fn what_parts_say_of_each_other_is_told_whatever_else_is_wrong() {
    let text = "\
services:
  edge:
    sidecar: false
    endpoints: [{host: 10.0.0.1, port: 80}]
    uses: [zz]
    canary: {version: v2, ramp: {start: 2026-11-25T09:00+05:30, steps: [10, 5], every: 30m}}
gateways:
  edge:
    listen: nope
    routes:
      - {match: {path_prefix: /, path: /a}, service: xx}
      - {match: {path_prefix: b}, service: yy, timeout: 5}
      - {match: {path_prefix: /c}, rewrite: {path: /x}}
      - 7
      - {match: {path: /c}, service: ww}
";
    let told = problems(text);
    for path in [
        "services.edge.uses: no service is named \"zz\"",
        "services.edge.canary.version: no endpoint of edge has version: v2",
        "services.edge.canary.ramp.steps: ",
        "gateways.edge: a service has this name too",
        "gateways.edge.listen: ",
        "gateways.edge.routes[0].match.path: ",
        "gateways.edge.routes[0].service: no service is named \"xx\"",
        "gateways.edge.routes[1].service: no service is named \"yy\"",
        "gateways.edge.routes[1].timeout: ",
        "gateways.edge.routes[2].service: must be given",
        "gateways.edge.routes[3]: ",
        "gateways.edge.routes[4].service: no service is named \"ww\"",
    ] {
        let found = told.iter().any(|problem| problem.starts_with(path));
        assert!(found, "{path} is not in {told:#?}");
    }
}

#[test]
fn who_refers_to_something_unreadable_is_not_told_that_it_is_unknown() {
    let text = "\
peak_hours: {evening: {start: 25, end: 7}}
festivals: [{name: Diwali, date: soon}]
freeze: {during: [evening, Diwali]}
services:
  a: 7
  b:
    sidecar: false
    uses: [a]
    endpoints: [{host: 10.0.0.1, port: 80}, {host: 10.0.0.2, port: none, version: v2}]
    canary: {version: v2, weight: 5, freeze_during: [evening]}
gateways:
  one: {listen: nope, routes: [{match: {path_prefix: /}, service: a}]}
  two: {listen: nope, routes: []}
";
    let told = problems(text);
    let paths = [
        "peak_hours.evening.start: ",
        "festivals[0].date: ",
        "services.a: ",
        "services.b.endpoints[1].port: ",
        "gateways.one.listen: ",
        "gateways.two.listen: ",
    ];
    assert_eq!(told.len(), paths.len(), "{told:#?}");
    for path in paths {
        let found = told.iter().any(|problem| problem.starts_with(path));
        assert!(found, "{path} is not in {told:#?}");
    }
    // What all of services is wrong with hides them all.
    let told = problems(
        "services: 5\ngateways: {one: {listen: \"127.0.0.1:1\", routes: [{match: {path: /}, service: a}]}}",
    );
    assert_eq!(told.len(), 1, "{told:#?}");
}
