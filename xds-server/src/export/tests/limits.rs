//! What Istio cannot do, or would do otherwise: refused or warned of.

use super::{
    istio::{of_kind, spec, validated},
    *,
};

fn warned(text: &str, spec: &IstioSpec) -> Vec<String> {
    let export = istio(&mesh(text), spec).unwrap();
    export.warnings.iter().map(ToString::to_string).collect()
}

fn refused(text: &str, spec: &IstioSpec) -> Vec<String> {
    let Err(problems) = istio(&mesh(text), spec) else {
        panic!("it was exported");
    };
    problems.iter().map(ToString::to_string).collect()
}

#[test]
fn what_istio_cannot_do_is_told_with_the_field_and_what_to_do() {
    let warned = warned(FULL, &spec());
    for start in [
        "--url: ",
        "services.order-service.health_check: ",
        "services.order-service.failover: ",
        "services.order-service.circuit_breaker: ",
        "gateways.edge.listen: ",
        "peak_hours.west.zone: ",
    ] {
        let told: Vec<&String> = warned
            .iter()
            .filter(|told| told.starts_with(start))
            .collect();
        assert!(
            told.len() == 1 && told[0].ends_with(')'),
            "{start} {warned:#?}"
        );
    }
    assert_eq!(warned.len(), 6, "{warned:#?}");
}

#[test]
fn an_ejection_that_istio_cannot_bound_is_told() {
    let warned = |said: &str| -> Vec<String> {
        let text = format!(
            "services: {{a: {{sidecar: false, endpoints: [{{host: 10.0.0.1, port: 1}}], outlier_detection: {{{said}}}}}}}"
        );
        super::limits::warned(&text, &spec())
    };
    for as_istio in ["", "max_ejection_time: 300s", "base_ejection_time: 400s"] {
        assert_eq!(warned(as_istio), [""; 0], "{as_istio}");
    }
    let told = warned("max_ejection_time: 600s");
    let path = "services.a.outlier_detection.max_ejection_time: ";
    assert!(told.len() == 1 && told[0].starts_with(path), "{told:?}");
}

#[test]
fn what_would_be_wrong_is_refused_with_the_field_and_the_fix() {
    let told = refused(
        "services:\n  7-eleven: {}\n  a: {canary: {version: v2, weight: 1}}\n  b: {endpoints: [{host: 10.0.0.1, port: 1, version: v1}, {host: 10.0.0.2, port: 1, version: v3}, {host: 10.0.0.3, port: 1, version: v2}], canary: {version: v2, weight: 1}}",
        &spec(),
    );
    assert_eq!(told.len(), 3, "{told:#?}");
    assert!(
        told[0].starts_with("services.7-eleven: ") && told[0].contains("rename it"),
        "{told:#?}"
    );
    assert!(
        told[1].starts_with("services.a.stable_version: must be given"),
        "{told:#?}"
    );
    assert!(
        told[2].starts_with("services.b.stable_version: "),
        "{told:#?}"
    );
    let gateways = "services: {a: {}}\ngateways:\n  x: {listen: 0.0.0.0:1, routes: [{match: {path_prefix: /}, service: a}]}\n  y: {listen: 0.0.0.0:2, routes: [{match: {path_prefix: /}, service: a}]}";
    let told = refused(gateways, &spec());
    assert!(
        told.len() == 1
            && told[0].starts_with("gateways.y: ")
            && told[0].contains("--gateway-selector"),
        "{told:#?}"
    );
    let mut apart = spec();
    apart
        .gateways
        .named
        .insert("y".into(), "istio=other".parse().unwrap());
    assert!(istio(&mesh(gateways), &apart).is_ok());
    apart
        .gateways
        .named
        .insert("z".into(), "istio=none".parse().unwrap());
    assert!(refused(gateways, &apart)[0].contains("known: x, y"));
    let many: String = (0..9_000)
        .map(|number| format!("  service-{number:04}: {{}}\n"))
        .collect();
    let edge = "gateways: {x: {listen: 0.0.0.0:1, routes: [{match: {path_prefix: /}, service: service-0000}]}}";
    let told = refused(&format!("services:\n{many}{edge}"), &spec());
    assert!(
        told.len() == 1 && told[0].starts_with("services: ") && told[0].contains("1 MiB"),
        "{told:#?}"
    );
}

const EDGE: &str = "services: {a: {}}\ngateways: {edge: {listen: 0.0.0.0:1, routes: [{match: {path_prefix: /}, service: a}]}}";

#[test]
fn a_file_that_gateways_are_not_given_is_told_with_another_way() {
    let told: Vec<String> = warned(EDGE, &spec())
        .into_iter()
        .filter(|told| told.starts_with("--url: "))
        .collect();
    assert_eq!(told.len(), 1, "{told:#?}");
    for word in ["through edge ", "FAIL_OPEN", "oci://", "gateway-mount.yaml"] {
        assert!(told[0].contains(word), "{word}: {told:#?}");
    }
    let image = IstioSpec {
        url: "https://files.example/mumbai_mesh.wasm".into(),
        ..spec()
    };
    for (text, spec) in [(EDGE, &image), ("services: {a: {}}", &spec())] {
        let told = warned(text, spec);
        assert!(
            !told.iter().any(|told| told.starts_with("--url")),
            "{told:#?}"
        );
    }
}

#[test]
fn two_plugins_of_one_name_are_told_apart_or_refused_with_both() {
    let of = |workloads: &[&str]| IstioSpec {
        namespaces: vec![namespace(DEFAULT_NAMESPACE)],
        workloads: workloads
            .iter()
            .map(|label| label.parse().unwrap())
            .collect(),
        ..spec()
    };
    let apart = of(&[
        "app=checkout",
        "team=checkout",
        "app.kubernetes.io/name=checkout",
    ]);
    let export = istio(&mesh(EDGE), &apart).unwrap();
    let documents = validated(&export);
    let plugins = of_kind(&documents, "WasmPlugin");
    let names: std::collections::BTreeSet<&str> = plugins
        .iter()
        .filter_map(|plugin| plugin["metadata"]["name"].as_str())
        .collect();
    assert_eq!(names.len(), 4, "{names:?}");
    let told = refused(EDGE, &of(&["a.b=c", "a-b=c"]));
    assert_eq!(told.len(), 1, "{told:#?}");
    assert!(
        told[0].starts_with("--workload a-b=c: ") && told[0].contains("so is --workload a.b=c"),
        "{told:#?}"
    );
    let told = refused(&EDGE.replace("edge", "app-x"), &of(&["app=x"]));
    assert_eq!(told.len(), 1, "{told:#?}");
    assert!(
        told[0].starts_with("gateways.app-x: ")
            && told[0].contains("istio-system/mumbai-mesh-app-x, and so is --workload app=x"),
        "{told:#?}"
    );
}

#[test]
fn what_holds_for_the_whole_mesh_is_told_and_refused_where_it_would_be_there_twice() {
    let root = IstioSpec {
        namespaces: vec![namespace("shop"), namespace(DEFAULT_NAMESPACE)],
        ..spec()
    };
    let told = refused(EDGE, &root);
    assert_eq!(told.len(), 1, "{told:#?}");
    assert!(
        told[0].starts_with("--namespace: istio-system is Istio's root namespace: ")
            && told[0].contains("two filters"),
        "{told:#?}"
    );
    let told = warned("services: {a: {}}", &root);
    assert!(
        told[0].starts_with("--namespace: ") && told[0].contains("gateways too"),
        "{told:#?}"
    );
    let some = IstioSpec {
        workloads: vec!["app=checkout".parse().unwrap()],
        ..root
    };
    let told = warned(EDGE, &some);
    assert!(
        told[0].starts_with("--namespace: ") && told[0].contains("in every namespace"),
        "{told:#?}"
    );
}

#[test]
fn a_gateway_of_too_many_routes_is_refused_with_the_fix() {
    let routes: Vec<String> = (0..4_000)
        .map(|number| {
            format!("{{match: {{path_prefix: /a/rather/long/path/of/{number}}}, service: a}}")
        })
        .collect();
    let text = format!(
        "services: {{a: {{}}}}\ngateways: {{edge: {{listen: 0.0.0.0:1, routes: [{}]}}}}",
        routes.join(", ")
    );
    let told = refused(&text, &spec());
    assert_eq!(told.len(), 1, "{told:#?}");
    assert!(
        told[0].starts_with("gateways.edge.routes: make a VirtualService of ")
            && told[0].contains("1048576 (1 MiB)")
            && told[0].contains("several gateways"),
        "{told:#?}"
    );
}

#[test]
fn fields_that_stand_in_other_resources_of_istio_are_told() {
    let text = "
services:
  a:
    mtls: permissive
    protocol: http2
    uses: [b]
    endpoints: [{id: a-1, host: 10.0.0.1, port: 1, weight: 1}, {id: a-2, host: 10.0.0.2, port: 1, weight: 3}]
  b: {mtls: \"off\", endpoints: [{id: b-1, host: 10.0.0.3, port: 1, weight: 7}, {id: b-2, host: 10.0.0.4, port: 1, weight: 7}]}
  c: {mtls: strict, sidecar: true}
  d: {sidecar: false, endpoints: [{host: 10.0.0.5, port: 1}]}
";
    let told = warned(text, &spec());
    let paths: Vec<&str> = told
        .iter()
        .filter_map(|told| told.split(": ").next())
        .collect();
    assert_eq!(
        paths,
        [
            "services.a.mtls",
            "services.a.protocol",
            "services.a.endpoints[1].weight",
            "services.a.uses",
            "services.b.mtls"
        ],
        "{told:#?}"
    );
    assert!(
        told[0].contains("PERMISSIVE") && told[4].contains("DISABLE"),
        "{told:#?}"
    );
}
