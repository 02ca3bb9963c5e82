//! Everything that is served, each route with the role that it needs and a sentence that says what it does: there is no
//! other way to add one, and nothing that is not described.

use super::{
    apply, backup, calendar, callers, canaries, certificates, check, events, files, held,
    instances, loads, metrics, openapi, overrides, plan, proxies, questions, raw, revisions,
    routes::{Routes, Told},
    services, traffic_state,
};
use crate::access::{Need, Role};

/// Everything that is served, each with the role that it needs and what it does.
pub(super) fn routes() -> Routes {
    certificates(changes(instances(fleet(mesh(server(Routes::default()))))))
}

const OPEN: Need = Need::Nothing;
const VIEWER: Need = Need::Role(Role::Viewer);
const OPERATOR: Need = Need::Role(Role::Operator);
const ADMIN: Need = Need::Role(Role::Admin);

/// The server itself.
fn server(routes: Routes) -> Routes {
    routes
        .get(
            "/healthz",
            OPEN,
            files::healthz,
            "Whether the server is alive.",
        )
        // The ports open only after the first mesh is loaded: who can ask, finds it ready.
        .get("/readyz", OPEN, files::readyz, "Whether it serves.")
        .get(openapi::PATHS[0], VIEWER, openapi::openapi, openapi::TOLD)
        .get(openapi::PATHS[1], VIEWER, openapi::openapi, openapi::TOLD)
        .get(
            "/filter/mumbai_mesh.wasm",
            VIEWER,
            files::filter,
            "The filter that Envoys load; its tag is its SHA-256.",
        )
        .get(
            "/metrics",
            VIEWER,
            metrics::metrics,
            "Every metric of the server, for Prometheus.",
        )
        .get(
            "/api/metrics",
            VIEWER,
            metrics::as_json,
            "What hour it is, and every metric of the server as JSON.",
        )
        .get(
            "/api/v1/check",
            VIEWER,
            check::checked,
            "What a person should know of the running mesh, each finding with its fix.",
        )
        .get("/api/v1/events", VIEWER, events::events, events::TOLD)
        .write(
            "/api/v1/backup",
            ADMIN,
            (backup::backup, backup::BODY_BYTES_MAX),
            Told::new(
                "All that the server keeps, sealed.",
                "The key seals it; `mumbai-mesh backup` makes one of a passphrase.",
            ),
        )
}

/// What the mesh is.
fn mesh(routes: Routes) -> Routes {
    let services = "Services with their endpoints, and how these are.";
    let calendar = "What changes when: windows, festivals, steps of ramps, freezes.";
    routes
        .get("/services", VIEWER, services::services, services)
        .get("/api/v1/services", VIEWER, services::services, services)
        .get(
            "/api/v1/revisions",
            VIEWER,
            revisions::revisions,
            "The revision in force, why what was offered since is not, and kept ones, the newest first.",
        )
        .get(
            "/api/v1/revisions/{revision}",
            VIEWER,
            revisions::one,
            Told::from("A kept revision, with all that it said.").or(&[503]),
        )
        .get(
            "/api/v1/revisions/{revision}/diff",
            VIEWER,
            apply::diff,
            Told::from("What differs between a revision and another one, or the one in force.")
                .or(&[503]),
        )
        .get(
            "/api/v1/canaries",
            VIEWER,
            canaries::list,
            "Canaries: their weights, and who did what with them.",
        )
        .get(
            "/api/v1/canaries/{service}",
            VIEWER,
            canaries::one,
            "The canary of a service.",
        )
        .get(
            "/api/v1/overrides",
            VIEWER,
            overrides::list,
            "Overrides that act, and until when.",
        )
        .get(
            "/api/v1/explain",
            VIEWER,
            questions::explain,
            "What would happen to a request, when, and why.",
        )
        .get(
            "/api/v1/traffic-state",
            VIEWER,
            traffic_state::state,
            Told::from("What hour it is: state, window, festival and multiplier, and until when they hold.")
                .or(&[404]),
        )
        .get(
            "/api/v1/calendar",
            VIEWER,
            calendar::next,
            Told::new(
                calendar,
                "The same as /api/v1/calendar/next and `mumbai-mesh calendar next`; /api/v1/calendar/month has a month \
                 by its days.",
            ),
        )
        .get(
            "/api/v1/calendar/next",
            VIEWER,
            calendar::next,
            calendar,
        )
        .get(
            "/api/v1/calendar/month",
            VIEWER,
            calendar::month,
            "A month by its days.",
        )
        .get(
            "/api/v1/resources",
            VIEWER,
            raw::list,
            "Raw resources, without private keys.",
        )
        .ask(
            "/api/v1/plan",
            VIEWER,
            (plan::planned, plan::BODY_BYTES_MAX),
            "What a mesh file would change, were it put in force now.",
        )
}

/// What Envoys are, were sent and said.
fn fleet(routes: Routes) -> Routes {
    routes
        .get(
            "/api/v1/proxies",
            VIEWER,
            proxies::proxies,
            "Connected Envoys, and what became of what they were sent.",
        )
        .get(
            "/api/v1/proxies/{node}/config",
            VIEWER,
            proxies::config,
            "Each resource that an Envoy was sent, without secrets.",
        )
        .get(
            "/api/v1/loads",
            VIEWER,
            loads::loads,
            "What each Envoy sent to each cluster.",
        )
        .get(
            "/api/v1/bootstrap/{name}",
            VIEWER,
            questions::bootstrap,
            "What a bootstrap has to know of a gateway or service.",
        )
}

/// Instances that register themselves.
fn instances(routes: Routes) -> Routes {
    let max = instances::BODY_BYTES_MAX;
    routes
        .get(
            "/api/v1/instances",
            VIEWER,
            instances::list,
            "Instances: those of the mesh file, and those that registered.",
        )
        .write(
            "/api/v1/instances",
            OPERATOR,
            (instances::register, max),
            Told::from("Registers an instance that says its service and id in the body.")
                .or(&[404, 409]),
        )
        .write(
            "/api/v1/instances:release",
            OPERATOR,
            (instances::release, max),
            Told::from("Lets go of instances that vanished together.").or(&[404, 409]),
        )
        .get(instances::ONE, VIEWER, instances::one, "One instance.")
        .put(
            instances::ONE,
            OPERATOR,
            (instances::put, max),
            Told::from("Registers an instance, or says it anew.").or(&[409]),
        )
        .delete(
            instances::ONE,
            OPERATOR,
            instances::deregister,
            Told::from("An instance is gone.").or(&[409]),
        )
        .write(
            instances::DRAIN,
            OPERATOR,
            (instances::drain, 0),
            Told::from("An instance is about to leave: it gets no new requests.").or(&[409]),
        )
        .beat(
            instances::HEARTBEAT,
            OPERATOR,
            (instances::heartbeat, 0),
            Told::from("A heartbeat: nothing is written, and nothing audited.").or(&[409]),
        )
        .beat(
            "/api/v1/select",
            OPERATOR,
            (callers::select, callers::SELECT_BYTES_MAX),
            Told::from("Which instance a caller without a proxy is to call, and why.")
                .or(&[404, 429, 503]),
        )
        .beat(
            "/api/v1/results",
            OPERATOR,
            (callers::results, callers::RESULTS_BYTES_MAX),
            Told::from("How calls ended, for the breakers of callers without a proxy.").or(&[404]),
        )
}

/// What changes the mesh and raw resources.
fn changes(routes: Routes) -> Routes {
    let max = canaries::BODY_BYTES_MAX;
    routes
        .write(
            "/api/v1/apply",
            OPERATOR,
            (apply::apply, plan::BODY_BYTES_MAX),
            "Puts a mesh file in force; with dry_run it is planned.",
        )
        .write(
            "/api/v1/files:apply",
            OPERATOR,
            (held::apply, 0),
            Told::new(
                "Lets files in that a freeze keeps waiting.",
                "Takes force and reason. Of a mesh file and of files of --resources alike.",
            ),
        )
        .write(
            "/api/v1/revisions/{revision}/rollback",
            OPERATOR,
            (apply::rollback, max),
            "Puts what a kept revision said in force again.",
        )
        .write(
            "/api/v1/canaries/{service}/{verb}",
            OPERATOR,
            (canaries::act, max),
            Told::new(
                "Does something with the canary of a service.",
                "start takes version, weight and sticky_by; set takes weight; pause, resume, promote and abort take \
                 force and reason alone.",
            ),
        )
        .write(
            "/api/v1/services/{service}/override",
            OPERATOR,
            (overrides::begin, max),
            "Says something of a service until a time, in every proxy.",
        )
        .write(
            "/api/v1/services/{service}/override/end",
            OPERATOR,
            (overrides::end, max),
            "Ends an override before its time.",
        )
        .write(
            "/api/v1/resources:apply",
            OPERATOR,
            (raw::apply, raw::BODY_BYTES_MAX),
            "Sets and removes raw resources: all of a call, or nothing.",
        )
}

/// Certificates.
fn certificates(routes: Routes) -> Routes {
    routes
        .get(
            "/api/v1/certificates",
            VIEWER,
            certificates::certificates,
            "Certificates in use, and until when; never a key.",
        )
        .write(
            "/api/v1/certificates/{name}/export",
            ADMIN,
            (certificates::export, certificates::EXPORT_BYTES_MAX),
            "A new certificate with its key, for a place that is not served by xDS.",
        )
}
