//! Istio's resources: taken strictly by its own schemas, and meaning what the mesh file says.

use std::{fs, path::PathBuf};

use policy::wire::FilterConfig;
use serde_json::{Value, json};

use super::*;

pub(super) fn spec() -> IstioSpec {
    IstioSpec {
        namespaces: vec![namespace("shop"), namespace("bank")],
        workloads: Vec::new(),
        service_namespace: namespace("shop"),
        istio_namespace: namespace(DEFAULT_NAMESPACE),
        gateways: GatewaySelectors::default(),
        url: format!("file://{}", paths::FILTER),
        sha256: Some("0".repeat(64)),
        zone: None,
    }
}

fn path(below: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .join(below)
}

/// Objects with listed fields hold no others, as Kubernetes has it when it validates strictly.
fn close(schema: &mut Value) {
    match schema {
        Value::Array(elements) => elements.iter_mut().for_each(close),
        Value::Object(fields) => {
            let is_open = fields.get("x-kubernetes-preserve-unknown-fields") == Some(&json!(true));
            let lists = fields.get("properties").is_some_and(Value::is_object);
            let typed = fields.get("type") == Some(&json!("object"));
            if lists && typed && !is_open && !fields.contains_key("additionalProperties") {
                fields.insert("additionalProperties".into(), json!(false));
            }
            fields.values_mut().for_each(close);
        }
        _ => {}
    }
}

fn schemas() -> Vec<(String, String, jsonschema::Validator)> {
    let text = fs::read_to_string(path("tests/data/istio-crds.yaml")).unwrap();
    let definitions: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
    let mut schemas = Vec::new();
    for definition in &definitions {
        let spec = &definition["spec"];
        let kind = spec["names"]["kind"].as_str().unwrap();
        for version in spec["versions"].as_array().unwrap() {
            let api = format!(
                "{}/{}",
                spec["group"].as_str().unwrap(),
                version["name"].as_str().unwrap()
            );
            let mut schema = version["schema"]["openAPIV3Schema"].clone();
            schema["properties"]["apiVersion"] = json!({"type": "string"});
            schema["properties"]["kind"] = json!({"type": "string"});
            schema["properties"]["metadata"] = json!({"type": "object"});
            close(&mut schema);
            let validator = jsonschema::draft202012::new(&schema).unwrap();
            schemas.push((api, kind.to_string(), validator));
        }
    }
    schemas
}

/// All documents for `kubectl` of an export, as they are read back from YAML, each held against its schema.
pub(super) fn validated(export: &Export) -> Vec<Value> {
    let schemas = schemas();
    let mut all = Vec::new();
    for file in export.files.iter().filter(|file| file.is_applied) {
        let documents: Vec<Value> = serde_saphyr::from_multiple(&file.text().unwrap()).unwrap();
        assert_eq!(documents, file.documents, "{}", file.name);
        for document in documents {
            let known = schemas.iter().find(|(api, kind, _)| {
                document["apiVersion"] == **api && document["kind"] == **kind
            });
            let (_, _, validator) = known.unwrap_or_else(|| panic!("no schema for {document:#}"));
            let errors: Vec<String> = validator
                .iter_errors(&document)
                .map(|error| format!("{}: {error}", error.instance_path()))
                .collect();
            assert!(errors.is_empty(), "{errors:#?} in {document:#}");
            all.push(document);
        }
    }
    all
}

pub(super) fn of_kind<'d>(documents: &'d [Value], kind: &str) -> Vec<&'d Value> {
    documents
        .iter()
        .filter(|document| document["kind"] == kind)
        .collect()
}

#[test]
fn istios_schemas_take_the_example_strictly() {
    let text = fs::read_to_string(path("envoy/examples/istio/mesh.yaml")).unwrap();
    let documents = validated(&istio(&mesh(&text), &spec()).unwrap());
    let subsets = &of_kind(&documents, "DestinationRule")[0]["spec"]["subsets"];
    assert_eq!(subsets.as_array().map(Vec::len), Some(2), "{subsets}");
}

#[test]
fn istios_schemas_take_all_of_it_strictly() {
    let documents = validated(&istio(&mesh(FULL), &spec()).unwrap());
    let count = |kind| of_kind(&documents, kind).len();
    assert_eq!(
        [
            "WasmPlugin",
            "DestinationRule",
            "VirtualService",
            "Telemetry"
        ]
        .map(count),
        [3, 1, 3, 2]
    );
    let by_workload = IstioSpec {
        workloads: vec!["app=checkout".parse().unwrap(), "tier=Web".parse().unwrap()],
        namespaces: vec![namespace("shop")],
        zone: Some(policy::units::ZoneName::new("mumbai-west").unwrap()),
        url: "oci://registry.example/mumbai-mesh:1".into(),
        sha256: None,
        ..spec()
    };
    let documents = validated(&istio(&mesh(FULL), &by_workload).unwrap());
    let plugins = of_kind(&documents, "WasmPlugin");
    let names: Vec<&str> = plugins
        .iter()
        .map(|plugin| plugin["metadata"]["name"].as_str().unwrap())
        .collect();
    assert_eq!(
        names,
        [
            "mumbai-mesh-app-checkout",
            "mumbai-mesh-tier-web",
            "mumbai-mesh-edge"
        ]
    );
    assert_eq!(plugins[1]["spec"]["selector"]["matchLabels"]["tier"], "Web");
    assert_eq!(plugins[0]["spec"]["pluginConfig"]["zone"], "mumbai-west");
}

/// A schema that lets anything pass would prove nothing.
#[test]
fn the_schemas_refuse_a_field_that_nobody_knows() {
    let mut export = istio(&mesh(FULL), &spec()).unwrap();
    export.files[0].documents[0]["spec"]["pluginConfg"] = json!({});
    assert!(std::panic::catch_unwind(|| validated(&export)).is_err());
}

#[test]
fn the_example_without_a_gateways_certificate_is_exported_too() {
    let text = fs::read_to_string(path("envoy/examples/mesh.yaml")).unwrap();
    validated(&istio(&mesh(&text), &spec()).unwrap());
}

#[test]
fn the_plugins_configuration_is_the_filters_own() {
    let mesh = mesh(FULL);
    let documents = validated(&istio(&mesh, &spec()).unwrap());
    let plugins = of_kind(&documents, "WasmPlugin");
    let config = |plugin: &Value| {
        FilterConfig::parse(plugin["spec"]["pluginConfig"].to_string().as_bytes()).unwrap()
    };
    let (inside, edge) = (config(plugins[0]), config(plugins[2]));
    assert_eq!(inside.timetable, mesh.timetable.clone().without_sources());
    assert_eq!(inside.traffic_classes, mesh.traffic_classes);
    assert!(!inside.trust_canary_header && edge.trust_canary_header);
    let orders = &inside.services[0];
    assert_eq!(orders.canary, mesh.services.values().next().unwrap().canary);
    assert_eq!(
        orders.authorities[0],
        "order-service.shop.svc.cluster.local"
    );
    assert_eq!(plugins[0]["spec"]["match"], json!([{"mode": "CLIENT"}]));
    assert_eq!(
        plugins[2]["spec"]["selector"]["matchLabels"]["istio"],
        "ingressgateway"
    );
    assert_eq!(plugins[2]["metadata"]["namespace"], "istio-system");
}

#[test]
fn versions_are_subsets_and_routes_obey_the_filters_header() {
    let documents = validated(&istio(&mesh(FULL), &spec()).unwrap());
    let rule = of_kind(&documents, "DestinationRule")[0];
    assert_eq!(
        rule["spec"]["subsets"],
        json!([
            {"name": "stable", "labels": {"version": "v1"}},
            {"name": "v2-1", "labels": {"version": "v2.1"}},
        ])
    );
    let routes = of_kind(&documents, "VirtualService");
    let http = routes[0]["spec"]["http"].as_array().unwrap();
    let told: Vec<String> = http
        .iter()
        .map(|route| {
            format!(
                "{} {} {}",
                route["match"],
                route["route"][0]["destination"]["subset"],
                route["retries"]["retryOn"]
            )
        })
        .collect();
    let [get, any] = [
        "connect-failure,refused-stream,reset,gateway-error",
        "connect-failure,refused-stream",
    ];
    let methods = "\"method\":{\"regex\":\"GET|HEAD|OPTIONS|TRACE|PUT|DELETE\"}";
    let v2 = "\"headers\":{\"x-mumbai-version\":{\"exact\":\"v2.1\"}}";
    assert_eq!(
        told,
        [
            format!("[{{{v2},{methods}}}] \"v2-1\" \"{get}\""),
            format!("[{{{v2}}}] \"v2-1\" \"{any}\""),
            format!("[{{{methods}}}] \"stable\" \"{get}\""),
            format!("null \"stable\" \"{any}\""),
        ]
    );
    assert_eq!(http[0]["timeout"], "2s");
}

/// Istio would try two more times, POST as well, where a route says nothing.
#[test]
fn nothing_is_tried_again_that_the_mesh_file_does_not_have_tried() {
    let text = FULL.replace(
        "retries: {attempts: 2, per_try_timeout: 800ms, budget_percent: 20}",
        "",
    );
    for (text, tried) in [(FULL, 2), (text.as_str(), 0)] {
        let documents = validated(&istio(&mesh(text), &spec()).unwrap());
        let mut tries = Vec::new();
        for service in of_kind(&documents, "VirtualService") {
            for route in service["spec"]["http"].as_array().unwrap() {
                let Some(forward) = route.get("route") else {
                    continue;
                };
                let host = forward[0]["destination"]["host"].as_str().unwrap();
                let of_orders = host.starts_with("order-service.");
                let expected = if of_orders { tried } else { 0 };
                assert_eq!(route["retries"]["attempts"], expected, "{route:#}");
                tries.push(of_orders);
            }
        }
        assert!(tries.contains(&true) && tries.contains(&false), "{tries:?}");
    }
}

#[test]
fn zones_are_no_matter_where_the_mesh_file_says_so() {
    let text = "services: {a: {zone_aware: false}, b: {}}";
    let documents = validated(&istio(&mesh(text), &spec()).unwrap());
    let rules = of_kind(&documents, "DestinationRule");
    assert_eq!(rules.len(), 1);
    let policy = &rules[0]["spec"]["trafficPolicy"];
    assert_eq!(
        policy["loadBalancer"]["localityLbSetting"]["enabled"],
        false
    );
}

/// A Deployment must have volumes by itself where Istio heeds no annotation of them.
#[test]
fn a_gateways_deployment_is_given_the_file() {
    let mount = |spec: &IstioSpec, text: &str| {
        let files = istio(&mesh(text), spec).unwrap().files;
        files
            .into_iter()
            .find(|file| file.name == "gateway-mount.yaml")
    };
    let patch = mount(&spec(), FULL).unwrap();
    let pod = &patch.documents[0]["spec"]["template"]["spec"];
    assert_eq!(pod["containers"][0]["name"], "istio-proxy");
    assert_eq!(
        pod["containers"][0]["volumeMounts"][0]["mountPath"],
        "/etc/mumbai-mesh/filter"
    );
    assert_eq!(pod["volumes"][0]["configMap"]["name"], "mumbai-mesh-filter");
    assert!(!patch.is_applied);
    let image = IstioSpec {
        url: "oci://registry.example/mumbai-mesh:1".into(),
        ..spec()
    };
    assert!(mount(&image, FULL).is_none());
    assert!(mount(&spec(), "services: {a: {}}").is_none());
}

#[test]
fn a_gateways_routes_mean_what_the_mesh_file_says() {
    let documents = validated(&istio(&mesh(FULL), &spec()).unwrap());
    let edge = of_kind(&documents, "VirtualService")[2];
    assert_eq!(edge["spec"]["gateways"], json!(["istio-system/edge"]));
    let http = edge["spec"]["http"].as_array().unwrap();
    let named =
        |name: &str| -> Vec<&Value> { http.iter().filter(|route| route["name"] == name).collect() };
    assert_eq!(named("/health")[0]["directResponse"]["status"], 200);
    // A prefix of segments is a path and all below it, each with its own rewrite.
    assert_eq!(
        named("/orders stable")[0]["rewrite"],
        json!({"uri": "/", "authority": "orders.internal"})
    );
    assert_eq!(
        named("/orders/* stable")[0]["match"][0]["uri"],
        json!({"prefix": "/orders/"})
    );
    assert_eq!(named("/orders/* stable")[0]["rewrite"]["uri"], "/");
    assert_eq!(named("/one stable")[0]["rewrite"]["uri"], "/two");
    assert_eq!(
        named("/old")[0]["redirect"],
        json!({"redirectCode": 308, "scheme": "https", "uri": "/new"})
    );
    assert_eq!(named("/old/*")[0]["redirect"]["prefixRewrite"], "/new/");
    assert_eq!(
        named("/gone")[0]["redirect"]["authority"],
        "www.example.com"
    );
    let grpc = &named("/upi.v1.Payments/*")[0]["match"][0];
    assert_eq!(
        grpc["headers"]["content-type"],
        json!({"prefix": "application/grpc"})
    );
    assert_eq!(
        named("/*")[0]["match"][0]["authority"]["regex"],
        "(api\\.example\\.com|.+\\.bank\\.example)(:[0-9]+)?"
    );
}
