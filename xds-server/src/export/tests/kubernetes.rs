//! Manifests of the server, and static Envoys.

use serde_json::json;

use super::*;
use crate::bootstrap::Member;

#[test]
fn a_static_envoy_asks_no_server_and_follows_files() {
    let mesh = mesh(FULL);
    for name in ["edge", "order-service"] {
        let member = Member::find(&mesh, name).unwrap();
        let spec = EnvoySpec {
            name: policy::units::ServiceName::new(name).unwrap(),
            node_id: member.node_id(Some("order-1".into())).unwrap(),
            zone: None,
            namespace: namespace("shop"),
            admin_port: 9901,
        };
        let map = config_map(&mesh, &member, &spec).unwrap();
        let data = map.documents[0]["data"].as_object().unwrap();
        let bootstrap = data["envoy.yaml"].as_str().unwrap();
        for server in [
            "ads:",
            "rds:",
            "eds_cluster_config",
            "dynamic_resources",
            "hds_config",
        ] {
            assert!(!bootstrap.contains(server), "{server} in {bootstrap}");
        }
        assert!(bootstrap.contains("/etc/envoy/policy.yaml"), "{bootstrap}");
        assert!(
            data["policy.yaml"]
                .as_str()
                .unwrap()
                .contains(paths::FILTER)
        );
        assert!(
            data["certificate.yaml"]
                .as_str()
                .unwrap()
                .contains("/etc/mumbai-mesh/certs/tls.key")
        );
    }
}

#[test]
fn an_envoys_configuration_that_kubernetes_would_not_take_is_refused_with_the_fix() {
    let many: String = (0..2_000)
        .map(|number| format!("  service-{number:04}: {{}}\n"))
        .collect();
    let mesh = mesh(&format!("services:\n{many}"));
    let member = Member::find(&mesh, "service-0000").unwrap();
    let spec = EnvoySpec {
        name: policy::units::ServiceName::new("service-0000").unwrap(),
        node_id: "service-0000".into(),
        zone: None,
        namespace: namespace("shop"),
        admin_port: 9901,
    };
    let told = config_map(&mesh, &member, &spec).unwrap_err()[0].to_string();
    assert!(
        told.starts_with("ConfigMap service-0000-envoy.data[\"envoy.yaml\"]: has "),
        "{told}"
    );
    assert!(told.contains("1 MiB") && told.contains("uses"), "{told}");
}

#[test]
fn a_gateway_is_not_told_to_say_what_it_calls() {
    let many: String = (0..4_000)
        .map(|number| format!("  service-{number:04}: {{}}\n"))
        .collect();
    let mesh = mesh(&format!(
        "services:\n{many}gateways: {{edge: {{listen: 0.0.0.0:1, routes: [{{match: {{path_prefix: /}}, service: service-0000}}]}}}}"
    ));
    let member = Member::find(&mesh, "edge").unwrap();
    let spec = EnvoySpec {
        name: policy::units::ServiceName::new("edge").unwrap(),
        node_id: "edge".into(),
        zone: None,
        namespace: namespace("shop"),
        admin_port: 9901,
    };
    let told = config_map(&mesh, &member, &spec).unwrap_err()[0].to_string();
    assert!(
        told.contains("1 MiB") && told.contains("bootstrap") && !told.contains("uses"),
        "{told}"
    );
}

fn controller(store: StoreSpec) -> ControllerSpec {
    ControllerSpec {
        namespace: namespace("istio-system"),
        image: "mumbai-mesh:1".into(),
        store,
        files: vec![("mesh.yaml".into(), FULL.into())],
        is_folder: false,
        sidecar_namespace: namespace("shop"),
    }
}

fn names(export: &Export) -> Vec<&'static str> {
    export.files.iter().map(|file| file.name).collect()
}

#[test]
fn one_store_of_its_own_is_one_replica_and_says_why() {
    let export = kubernetes(&mesh(FULL), &controller(StoreSpec::Embedded)).unwrap();
    let names = names(&export);
    assert!(
        !names.contains(&"hpa.yaml")
            && !names.contains(&"pdb.yaml")
            && !names.contains(&"etcd.yaml")
    );
    let deployment = export
        .files
        .iter()
        .find(|file| file.name == "deployment.yaml")
        .unwrap();
    assert!(
        deployment
            .text()
            .unwrap()
            .contains("One replica and no HorizontalPodAutoscaler: ")
    );
    assert_eq!(deployment.documents[1]["spec"]["replicas"], 1);
    assert_eq!(
        deployment.documents[1]["spec"]["strategy"]["type"],
        "Recreate"
    );
    let shared = kubernetes(&mesh(FULL), &controller(StoreSpec::OwnEtcd)).unwrap();
    let scaler = &shared
        .files
        .iter()
        .find(|file| file.name == "hpa.yaml")
        .unwrap()
        .documents[0];
    assert_eq!(
        (
            &scaler["spec"]["minReplicas"],
            &scaler["spec"]["maxReplicas"]
        ),
        (&json!(2), &json!(20))
    );
}

#[test]
fn kubernetes_names_and_sizes_are_checked() {
    let refused = |spec: &ControllerSpec, text: &str| -> Vec<String> {
        let problems = kubernetes(&mesh(text), spec).unwrap_err();
        problems.iter().map(ToString::to_string).collect()
    };
    let mut spec = controller(StoreSpec::OwnEtcd);
    spec.files
        .insert(0, ("calendars/india.yaml".into(), "x".repeat(1024 * 1024)));
    let told = refused(
        &spec,
        "services: {7-eleven: {port: 80, endpoints: [{host: 10.0.0.1, port: 15006}]}}",
    );
    assert_eq!(told.len(), 3, "{told:#?}");
    assert!(
        told[0].starts_with("include: \"calendars/india.yaml\""),
        "{told:#?}"
    );
    assert!(
        told[1].starts_with("ConfigMap mumbai-mesh-config.data[\"calendars/india.yaml\"]: "),
        "{told:#?}"
    );
    assert!(told[2].starts_with("services.7-eleven: "), "{told:#?}");
}
