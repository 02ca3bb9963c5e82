//! Findings of limits that proxies share.

use policy::{
    limit::{Limit, Scope},
    units::ServiceName,
};

use super::{Finding, Rule, Severity};
use crate::mesh::{Gateway, Mesh};

pub(super) const OF_EACH_CALLER: Rule = Rule {
    code: "fleet-limit-of-each-caller",
    severity: Severity::Info,
    finds: "several gateways or services call what a limit with `scope: fleet` limits, and the proxies of each share a limit of their own",
    fix: "divide the limit among them yourself, or let one of them call",
};

pub(super) fn look(mesh: &Mesh, findings: &mut Vec<Finding>) {
    for class in &mesh.traffic_classes {
        let callers: Vec<&ServiceName> = mesh.gateways.keys().collect();
        let (path, of) = (
            format!("traffic_classes.{}", class.name),
            format!("of class {}", class.name),
        );
        look_at(class.limit.as_ref(), &path, &of, &callers, findings);
    }
    for (name, service) in &mesh.services {
        let calls = |gateway: &Gateway| gateway.calls().any(|call| call.service == *name);
        let gateways = mesh.gateways.iter().filter(|(_, gateway)| calls(gateway));
        // Of a service that may call all others nobody says that it does.
        let services = mesh.services.iter().filter(|(_, caller)| {
            let uses = caller.uses.as_ref();
            caller.sidecar && uses.is_some_and(|uses| uses.contains(name))
        });
        let gateways = gateways.map(|(name, _)| name);
        let callers: Vec<&ServiceName> = gateways.chain(services.map(|(name, _)| name)).collect();
        let (path, of) = (format!("services.{name}"), format!("to {name}"));
        look_at(service.limit.as_ref(), &path, &of, &callers, findings);
    }
}

fn look_at(
    limit: Option<&Limit>,
    path: &str,
    of: &str,
    callers: &[&ServiceName],
    findings: &mut Vec<Finding>,
) {
    let is_divided = limit.is_some_and(|limit| limit.scope == Scope::Fleet);
    let [first, second, more @ ..] = callers else {
        return;
    };
    if !is_divided {
        return;
    }
    let more = match more.len() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let times = callers.len();
    findings.push(Finding::new(
        &OF_EACH_CALLER,
        format!("{path}.limit.scope"),
        format!(
            "{first}, {second}{more} each have the whole limit for their proxies: requests {of} may be {times} times as many"
        ),
        OF_EACH_CALLER.fix,
    ));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analyze::tests::found;

    #[test]
    fn a_limit_that_several_callers_have_is_told() {
        let text = "\
services:
  pay: {port: 80, limit: {per_second: 10, scope: fleet}, endpoints: [{id: a, host: 10.0.0.1, port: 1}]}
  shop: {port: 80, uses: [pay], endpoints: [{id: b, host: 10.0.0.2, port: 1}]}
  cart: {port: 80, endpoints: [{id: c, host: 10.0.0.3, port: 1}]}
gateways: {edge: {listen: \"127.0.0.1:1\", routes: [{match: {path_prefix: /}, service: pay}]}}
";
        let rules = [&OF_EACH_CALLER];
        assert_eq!(
            found(text, &rules),
            [
                "services.pay.limit.scope: edge, shop each have the whole limit for their proxies: requests to pay may be 2 times as many"
            ]
        );
        assert_eq!(found(&text.replace("fleet", "envoy"), &rules), [""; 0]);
        assert_eq!(
            found(&text.replace("uses: [pay]", "uses: [cart]"), &rules),
            [""; 0]
        );
    }
}
