//! Whom a request is for, as Envoy chooses.

use policy::{
    traffic_class::{self, Headers as _},
    units::ServiceName,
};

use super::{
    Question, QuestionError,
    imagined::{ForRoutes, GivenHeaders},
    matching::AUTHORITY,
    path::normalized,
};
use crate::mesh::{ClientOptions, Entrance, Forward, Gateway, Mesh, RouteAction, Service};

pub(super) type Target<'m> = Option<(&'m ServiceName, &'m Service)>;

/// The service asked about, what its clients may choose, and how it was found. What the Envoy changes of a
/// request before anything looks at it is changed: headers, and a gateway gives the path one spelling.
pub(super) fn target<'m>(
    mesh: &'m Mesh,
    question: &Question,
    headers: &mut GivenHeaders,
) -> Result<(Target<'m>, ClientOptions, Vec<String>), QuestionError> {
    match (&question.service, &question.gateway) {
        (Some(name), None) => {
            let found = ServiceName::new(name)
                .ok()
                .and_then(|name| mesh.services.get_key_value(&name));
            let Some((name, service)) = found else {
                let known = listed(mesh.services.keys());
                return Err(QuestionError(format!(
                    "service: {name:?} is not in this mesh; known: {known}"
                )));
            };
            let mut reasons = vec![format!(
                "called as {name} through a sidecar's outbound listener"
            )];
            headers.enter(Entrance::SIDECAR, "the sidecar", &mut reasons);
            Ok((Some((name, service)), ClientOptions::default(), reasons))
        }
        (None, Some(name)) => {
            let found = ServiceName::new(name)
                .ok()
                .and_then(|name| mesh.gateways.get(&name));
            let Some(gateway) = found else {
                let known = listed(mesh.gateways.keys());
                return Err(QuestionError(format!(
                    "gateway: {name:?} is not in this mesh; known: {known}"
                )));
            };
            headers.set(traffic_class::PATH, |path| normalized(&path));
            let mut reasons = Vec::new();
            let entrance = Entrance::of_gateway(gateway.clients);
            headers.enter(entrance, "the gateway", &mut reasons);
            let (target, reason) = through(mesh, name, gateway, headers);
            reasons.insert(0, reason);
            Ok((target, gateway.clients, reasons))
        }
        _ => Err(QuestionError(
            "name either a service or a gateway to ask about".into(),
        )),
    }
}

fn listed<'m>(names: impl Iterator<Item = &'m ServiceName>) -> String {
    let names: Vec<&str> = names.map(ServiceName::as_str).collect();
    names.join(", ")
}

/// What a gateway does with the request, and the sentence that says so.
fn through<'m>(
    mesh: &'m Mesh,
    name: &str,
    gateway: &'m Gateway,
    headers: &GivenHeaders,
) -> (Target<'m>, String) {
    let text = |header: &str| {
        let value = headers.get(header)?;
        Some(String::from_utf8_lossy(&value).into_owned())
    };
    let path = text(traffic_class::PATH).unwrap_or_default();
    let method = text(traffic_class::METHOD).unwrap_or_default();
    let host = text(AUTHORITY).unwrap_or_else(|| match gateway.hosts.first() {
        Some(first) => first.example(),
        None => String::new(),
    });
    if method == "GET" && path.split('?').next() == Some("/health") {
        let reason = format!("gateway {name} answers GET /health itself with 200");
        return (None, reason);
    }
    let request = format!("{method} {path} for host {host}");
    let Some(route) = gateway.route(&host, &ForRoutes(headers)) else {
        return (
            None,
            format!(
                "gateway {name} has no route for {request}: 404, or status 12 to a gRPC client"
            ),
        );
    };
    let number = gateway
        .routes
        .iter()
        .position(|known| std::ptr::eq(known, route))
        .unwrap_or_default();
    match &route.action {
        RouteAction::Redirect(redirect) => (
            None,
            format!(
                "gateway {name} answers {request} itself by routes[{number}]: a redirect with {}",
                redirect.status
            ),
        ),
        RouteAction::Forward(Forward { service, .. }) => (
            mesh.services.get_key_value(service),
            format!("gateway {name} routes {request} to {service} by routes[{number}]"),
        ),
    }
}
