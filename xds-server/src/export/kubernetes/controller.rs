//! The server: Deployment, Service, and how many of it there are.

use serde_json::{Value, json};

use super::{
    API_PORT, CONTROLLER, ControllerSpec, ETCD, MESH, STORE, StoreSpec, USER, XDS_PORT, about,
    config_path, restricted, selected, unprivileged,
};
use crate::export::{Manifest, names::labels, paths};

const REPLICAS_MIN: u32 = 2;
const REPLICAS_MAX: u32 = 20;
const CPU_PERCENT: u32 = 80;
/// What the embedded store has room for.
const STATE: &str = "mumbai-mesh-state";

const ONE_REPLICA: [&str; 4] = [
    "One replica and no HorizontalPodAutoscaler: with the embedded store, each server would have a mesh and a",
    "certificate authority of its own, and Envoys of one would not trust those of another. Export with an etcd",
    "(--store etcd://HOST, or without --store for one of its own) for 2 to 20 replicas. While the one is replaced,",
    "Envoys go on with what they have.",
];

pub(super) fn deployment(spec: &ControllerSpec) -> Manifest {
    let is_embedded = spec.store == StoreSpec::Embedded;
    let mut body = json!({
        "selector": {"matchLabels": selected(CONTROLLER)},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
        "template": {
            "metadata": {"labels": labels(CONTROLLER, "controller")},
            "spec": pod(spec),
        },
    });
    let mut documents = Vec::new();
    if is_embedded {
        body["replicas"] = json!(1);
        // The volume is one pod's at a time.
        body["strategy"] = json!({"type": "Recreate"});
        documents.push(claim(spec));
    }
    documents.push(json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": about(CONTROLLER, &spec.namespace, "controller"),
        "spec": body,
    }));
    let manifest = Manifest::new("deployment.yaml", documents);
    let namespace = &spec.namespace;
    match &spec.store {
        StoreSpec::Embedded => manifest.saying(&ONE_REPLICA),
        StoreSpec::OwnEtcd | StoreSpec::Etcd(_) => {
            let mut lines = vec![
                "How many replicas there are, hpa.yaml says. What they share lies in the etcd; it is sealed with a secret".to_string(),
                "that is made once, by hand:".into(),
                format!("  kubectl -n {namespace} create secret generic {STORE} --from-literal=secret=\"$(head -c 32 /dev/urandom | base64)\""),
            ];
            if let StoreSpec::Etcd(etcd) = &spec.store {
                if etcd.has_user {
                    lines.push("with the key `password` too, of the URL's user".into());
                }
                if etcd.has_tls {
                    lines.push(
                        "with the keys ca.crt, tls.crt and tls.key too, for TLS to the etcd".into(),
                    );
                }
            }
            let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
            manifest.saying(&lines)
        }
    }
}

fn pod(spec: &ControllerSpec) -> Value {
    let mut mounts = vec![
        json!({"name": "mesh", "mountPath": paths::MESH, "readOnly": true}),
        json!({"name": "state", "mountPath": paths::STATE_VOLUME}),
    ];
    let mut volumes = vec![json!({"name": "mesh", "configMap": {"name": MESH}})];
    volumes.push(match spec.store {
        StoreSpec::Embedded => {
            json!({"name": "state", "persistentVolumeClaim": {"claimName": STATE}})
        }
        StoreSpec::OwnEtcd | StoreSpec::Etcd(_) => {
            json!({"name": "state", "emptyDir": {"sizeLimit": "256Mi"}})
        }
    });
    if spec.store != StoreSpec::Embedded {
        mounts.push(json!({"name": "store", "mountPath": paths::STORE, "readOnly": true}));
        volumes
            .push(json!({"name": "store", "secret": {"secretName": STORE, "defaultMode": 0o440}}));
    }
    let spread = |by: &str| {
        json!({
            "maxSkew": 1,
            "topologyKey": by,
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": selected(CONTROLLER)},
        })
    };
    let probe = |path: &str| json!({"httpGet": {"path": path, "port": "api"}, "periodSeconds": 5});
    let mut starting = probe("/readyz");
    // An etcd that is not there yet is waited for.
    starting["failureThreshold"] = json!(60);
    json!({
        "serviceAccountName": CONTROLLER,
        "automountServiceAccountToken": false,
        "enableServiceLinks": false,
        "terminationGracePeriodSeconds": 30,
        "securityContext": unprivileged(USER),
        "topologySpreadConstraints": [
            spread("topology.kubernetes.io/zone"),
            spread("kubernetes.io/hostname"),
        ],
        "containers": [{
            "name": "controller",
            "image": spec.image,
            "args": arguments(spec),
            "ports": [
                {"name": "xds", "containerPort": XDS_PORT},
                {"name": "api", "containerPort": API_PORT},
            ],
            "startupProbe": starting,
            "readinessProbe": probe("/readyz"),
            "livenessProbe": probe("/healthz"),
            "resources": {
                "requests": {"cpu": "250m", "memory": "512Mi"},
                "limits": {"cpu": "1000m", "memory": "2Gi"},
            },
            "securityContext": restricted(),
            "volumeMounts": mounts,
        }],
        "volumes": volumes,
    })
}

fn arguments(spec: &ControllerSpec) -> Vec<String> {
    let mut arguments = vec![
        "serve".to_string(),
        format!("--config={}", config_path(spec)),
        format!("--xds-listen=0.0.0.0:{XDS_PORT}"),
        format!("--api-listen=0.0.0.0:{API_PORT}"),
        format!("--state-dir={}", paths::STATE),
    ];
    let namespace = &spec.namespace;
    let (url, has_user, has_tls) = match &spec.store {
        StoreSpec::Embedded => return arguments,
        StoreSpec::OwnEtcd => (
            format!("etcd://{ETCD}.{namespace}.svc:2379/mumbai-mesh"),
            false,
            false,
        ),
        StoreSpec::Etcd(etcd) => (etcd.url.clone(), etcd.has_user, etcd.has_tls),
    };
    let file = |flag: &str, key: &str| format!("--{flag}={}/{key}", paths::STORE);
    arguments.push(format!("--store={url}"));
    arguments.push(file("store-secret-file", "secret"));
    if has_user {
        arguments.push(file("store-password-file", "password"));
    }
    if has_tls {
        let files = [
            ("store-ca", "ca.crt"),
            ("store-cert", "tls.crt"),
            ("store-key", "tls.key"),
        ];
        arguments.extend(files.map(|(flag, key)| file(flag, key)));
    }
    arguments
}

fn claim(spec: &ControllerSpec) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": about(STATE, &spec.namespace, "controller"),
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Gi"}},
        },
    })
}

pub(super) fn service(spec: &ControllerSpec) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": about(CONTROLLER, &spec.namespace, "controller"),
        "spec": {
            "selector": selected(CONTROLLER),
            "ports": [
                {"name": "grpc-xds", "port": XDS_PORT, "targetPort": "xds", "appProtocol": "grpc"},
                {"name": "http-api", "port": API_PORT, "targetPort": "api", "appProtocol": "http"},
            ],
        },
    })
}

/// Nothing of it for one replica: a budget would only keep its machine from being drained.
pub(super) fn scaling(spec: &ControllerSpec) -> Vec<Manifest> {
    if spec.store == StoreSpec::Embedded {
        return Vec::new();
    }
    let scaler = json!({
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": about(CONTROLLER, &spec.namespace, "controller"),
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": CONTROLLER},
            "minReplicas": REPLICAS_MIN,
            "maxReplicas": REPLICAS_MAX,
            "metrics": [{
                "type": "Resource",
                "resource": {
                    "name": "cpu",
                    "target": {"type": "Utilization", "averageUtilization": CPU_PERCENT},
                },
            }],
            // Each replica that goes sends its Envoys to the others.
            "behavior": {"scaleDown": {"stabilizationWindowSeconds": 600}},
        },
    });
    let budget = json!({
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": about(CONTROLLER, &spec.namespace, "controller"),
        "spec": {
            "minAvailable": 1,
            "selector": {"matchLabels": selected(CONTROLLER)},
        },
    });
    vec![
        Manifest::new("hpa.yaml", vec![scaler]),
        Manifest::new("pdb.yaml", vec![budget]),
    ]
}
