//! An etcd of three members, for a start: the store that replicas share.

use serde_json::{Value, json};

use super::{ETCD, USER, about, restricted, selected, unprivileged};
use crate::export::{
    Manifest,
    names::{Namespace, labels},
};

const IMAGE: &str = "registry.k8s.io/etcd:3.5.21-0";
const MEMBERS: u32 = 3;
pub(super) const CLIENTS: u16 = 2379;
pub(super) const PEERS: u16 = 2380;
const DATA: &str = "/var/lib/etcd";

pub(super) fn etcd(namespace: &Namespace) -> Manifest {
    let peers = format!("{ETCD}-peers");
    let peers_service = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": about(&peers, namespace, "store"),
        "spec": {
            "clusterIP": "None",
            // Members find each other before they are ready.
            "publishNotReadyAddresses": true,
            "selector": selected(ETCD),
            "ports": [{"name": "tcp-peers", "port": PEERS}],
        },
    });
    let service = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": about(ETCD, namespace, "store"),
        "spec": {
            "selector": selected(ETCD),
            "ports": [{"name": "grpc-clients", "port": CLIENTS, "targetPort": "clients"}],
        },
    });
    let budget = json!({
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": about(ETCD, namespace, "store"),
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": selected(ETCD)}},
    });
    let members = json!({
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": about(ETCD, namespace, "store"),
        "spec": {
            "serviceName": peers,
            "replicas": MEMBERS,
            // All at once: one alone waits for the others.
            "podManagementPolicy": "Parallel",
            "selector": {"matchLabels": selected(ETCD)},
            "template": {
                "metadata": {"labels": labels(ETCD, "store")},
                "spec": pod(namespace, &peers),
            },
            "volumeClaimTemplates": [{
                "metadata": {"name": "data"},
                "spec": {
                    "accessModes": ["ReadWriteOnce"],
                    "resources": {"requests": {"storage": "2Gi"}},
                },
            }],
        },
    });
    Manifest::new("etcd.yaml", vec![peers_service, service, budget, members]).saying(&[
        "An etcd of three members, for a start; --store etcd://HOST takes one that is there in its place. Without TLS:",
        "networkpolicy.yaml lets nobody but the controller to it, and private keys lie in it sealed.",
    ])
}

fn pod(namespace: &Namespace, peers: &str) -> Value {
    let name = "$(POD_NAME)";
    let member = |name: &str| format!("http://{name}.{peers}.{namespace}.svc:{PEERS}");
    let cluster: Vec<String> = (0..MEMBERS)
        .map(|number| format!("{ETCD}-{number}"))
        .map(|name| format!("{name}={}", member(&name)))
        .collect();
    let probe = json!({"httpGet": {"path": "/health?serializable=true", "port": "clients"}, "periodSeconds": 5});
    json!({
        "automountServiceAccountToken": false,
        "enableServiceLinks": false,
        "securityContext": unprivileged(USER),
        "topologySpreadConstraints": [{
            "maxSkew": 1,
            "topologyKey": "kubernetes.io/hostname",
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": selected(ETCD)},
        }],
        "containers": [{
            "name": "etcd",
            "image": IMAGE,
            "command": ["etcd"],
            "args": [
                format!("--name={name}"),
                format!("--data-dir={DATA}/member"),
                format!("--listen-client-urls=http://0.0.0.0:{CLIENTS}"),
                format!("--advertise-client-urls=http://{name}.{peers}.{namespace}.svc:{CLIENTS}"),
                format!("--listen-peer-urls=http://0.0.0.0:{PEERS}"),
                format!("--initial-advertise-peer-urls={}", member(name)),
                format!("--initial-cluster={}", cluster.join(",")),
                "--initial-cluster-token=mumbai-mesh",
                "--auto-compaction-mode=revision",
                "--auto-compaction-retention=10000",
            ],
            "env": [{"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
            "ports": [
                {"name": "clients", "containerPort": CLIENTS},
                {"name": "peers", "containerPort": PEERS},
            ],
            "readinessProbe": probe,
            "resources": {
                "requests": {"cpu": "100m", "memory": "256Mi"},
                "limits": {"cpu": "500m", "memory": "512Mi"},
            },
            "securityContext": restricted(),
            "volumeMounts": [{"name": "data", "mountPath": DATA}],
        }],
    })
}
