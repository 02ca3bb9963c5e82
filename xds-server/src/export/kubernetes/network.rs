//! Who may talk to whom.

use serde_json::{Value, json};

use super::{
    API_PORT, CONTROLLER, ControllerSpec, ETCD, StoreSpec, XDS_PORT, about, etcd, selected,
};
use crate::export::Manifest;

pub(super) fn policies(spec: &ControllerSpec) -> Manifest {
    let pods = |name: &str| json!({"podSelector": {"matchLabels": selected(name)}});
    let store = match &spec.store {
        StoreSpec::Embedded => None,
        StoreSpec::OwnEtcd => Some(json!({"to": [pods(ETCD)], "ports": [tcp(etcd::CLIENTS)]})),
        // Where it stands only its operator knows.
        StoreSpec::Etcd(known) => {
            let ports: Vec<Value> = known.ports.iter().map(|port| tcp(*port)).collect();
            Some(json!({"ports": ports}))
        }
    };
    let outgoing: Vec<Value> = [names()].into_iter().chain(store).collect();
    let mut documents = vec![policy(
        spec,
        CONTROLLER,
        "controller",
        &json!([
            // Envoys show certificates; they may stand in any namespace.
            {"from": [{"namespaceSelector": {}}], "ports": [tcp(XDS_PORT)]},
            {"from": [{"podSelector": {}}], "ports": [tcp(API_PORT)]},
        ]),
        &outgoing,
    )];
    if spec.store == StoreSpec::OwnEtcd {
        let incoming = json!([
            {"from": [pods(CONTROLLER)], "ports": [tcp(etcd::CLIENTS)]},
            {"from": [pods(ETCD)], "ports": [tcp(etcd::PEERS)]},
        ]);
        let outgoing = [
            names(),
            json!({"to": [pods(ETCD)], "ports": [tcp(etcd::PEERS)]}),
        ];
        documents.push(policy(spec, ETCD, "store", &incoming, &outgoing));
    }
    Manifest::new("networkpolicy.yaml", documents).saying(&[
        "The xDS port is open to every namespace, and asks for certificates; the API is open to this namespace, and",
        "asks for tokens. Let further ones in, such as that of your Prometheus, by a policy of your own.",
    ])
}

fn policy(
    spec: &ControllerSpec,
    name: &str,
    component: &str,
    incoming: &Value,
    outgoing: &[Value],
) -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": about(name, &spec.namespace, component),
        "spec": {
            "podSelector": {"matchLabels": selected(name)},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": incoming,
            "egress": outgoing,
        },
    })
}

fn tcp(port: u16) -> Value {
    json!({"protocol": "TCP", "port": port})
}

/// Names are resolved wherever the cluster's DNS stands.
fn names() -> Value {
    json!({"ports": [{"protocol": "UDP", "port": 53}, tcp(53)]})
}
