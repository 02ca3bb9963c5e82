//! What of the server's own state a person should know.

use super::{Group, Item, Level, Seen, ago, put_bounded};
use crate::{
    analyze::{FESTIVAL_PAST, analyze, bounded},
    text::counted,
};

/// What is in force, what was refused, and what is most likely a mistake.
pub(super) fn configuration(seen: &Seen<'_>, items: &mut Vec<Item>) {
    let group = Group::Configuration;
    let (services, gateways) = (seen.mesh.services.len(), seen.mesh.gateways.len());
    let sentence = format!(
        "revision {} of the mesh {:?} is in force: {}, {}",
        seen.revision,
        seen.mesh.name,
        counted(services, "service"),
        counted(gateways, "gateway")
    );
    items.push(Item::ok(group, "configuration", sentence));
    let refused = |code: &'static str, sentences: &[String], fix: &'static str| {
        let of = |sentence: &String| Item::of((group, Level::Error), code, sentence, fix);
        sentences.iter().map(of).collect::<Vec<_>>()
    };
    put_bounded(
        items,
        refused(
            "configuration-refused",
            &seen.refused,
            "mend the mesh file; until then the last good revision stays in force",
        ),
        "all of them: mumbai-mesh history, or analyze FILE",
    );
    put_bounded(
        items,
        refused(
            "resources-refused",
            &seen.resource_problems,
            "mend the file; until then what was good in it stays in force",
        ),
        "all of them: GET /api/v1/resources",
    );
    let found = analyze(seen.mesh, seen.now).into_iter();
    // What a calendar of three years holds of the past is nobody's mistake.
    let found = found.filter(|finding| finding.code != FESTIVAL_PAST.code);
    let told = bounded(&found.collect::<Vec<_>>()).into_iter();
    items.extend(told.map(|finding| Item::found(finding, None)));
}

pub(super) fn store(seen: &Seen<'_>, items: &mut Vec<Item>) {
    items.push(match &seen.store_problem {
        None => Item::ok(Group::Store, "store", "the newest write was taken"),
        Some(problem) => Item::of(
            (Group::Store, Level::Error),
            "store-problem",
            format!("the newest write was not taken: {problem}"),
            "make room, or mend the disk or the etcd; what is in force goes on being served, and writes go on by \
             themselves",
        ),
    });
}

pub(super) fn certificates(seen: &Seen<'_>, items: &mut Vec<Item>) {
    let (group, now) = (Group::Certificates, seen.now);
    let mut found = Vec::new();
    for one in seen.certificates {
        let name = format!("{} {}", one.kind, one.name);
        let fix =
            "see the server's log; the authority's folder must be readable, and the clock right";
        if one.not_after <= now {
            let sentence = format!("{name}: ended {} ago", ago(one.not_after, now));
            found.push(Item::of(
                (group, Level::Error),
                "certificate-ended",
                sentence,
                fix,
            ));
        } else if one.not_before > now {
            let sentence = format!("{name}: begins only in {}", ago(now, one.not_before));
            let fix = "set this machine's clock";
            found.push(Item::of(
                (group, Level::Error),
                "certificate-early",
                sentence,
                fix,
            ));
        } else if let Some(problem) = &one.problem {
            let sentence = format!("{name}: not renewed: {problem}");
            let item = Item::of(
                (group, Level::Error),
                "certificate-not-renewed",
                sentence,
                fix,
            );
            found.push(item);
        } else if one.kind == "root" && ahead(one.not_before, one.not_after, now) {
            let sentence = format!("{name}: ends in {}", ago(now, one.not_after));
            let fix = "a root is not renewed by itself: plan a new one, and new bootstraps with it";
            found.push(Item::of(
                (group, Level::Warning),
                "root-ends",
                sentence,
                fix,
            ));
        }
    }
    if found.is_empty() {
        let next = seen
            .certificates
            .iter()
            .filter_map(|one| Some((one.renews_at?, one)));
        let next = next.min_by_key(|(at, _)| *at);
        let next = next.map_or_else(String::new, |(at, one)| {
            format!("; {} {} is renewed in {}", one.kind, one.name, ago(now, at))
        });
        let all = counted(seen.certificates.len(), "certificate");
        items.push(Item::ok(
            group,
            "certificates",
            format!("{all}, all in force{next}"),
        ));
    }
    put_bounded(items, found, "all of them: mumbai-mesh certs list");
}

/// Whether less than a tenth of its life is left.
fn ahead(
    begin: policy::time::WallTime,
    end: policy::time::WallTime,
    now: policy::time::WallTime,
) -> bool {
    super::since(now, end) < super::since(begin, end) / 10
}

pub(super) fn endpoints(seen: &Seen<'_>, items: &mut Vec<Item>) {
    let checked = seen.mesh.services.values();
    let checked = checked.filter(|service| service.health_check.is_some());
    let all: usize = checked.map(|service| service.endpoints.len()).sum();
    let found: Vec<Item> = seen
        .unhealthy
        .0
        .iter()
        .filter_map(|(name, ids)| {
            let service = seen.mesh.services.get(name)?;
            let of_all = service.endpoints.len();
            let level = match ids.len() == of_all {
                true => Level::Error,
                false => Level::Warning,
            };
            let shown: Vec<&str> = ids.iter().take(5).map(String::as_str).collect();
            let and = if ids.len() > shown.len() { ", …" } else { "" };
            let sentence = format!(
                "{name}: {} of {of_all} unhealthy: {}{and}",
                ids.len(),
                shown.join(", ")
            );
            let fix = format!("see who says so: GET /services?service={name}");
            Some(Item::of(
                (Group::Endpoints, level),
                "endpoints-unhealthy",
                sentence,
                fix,
            ))
        })
        .collect();
    if found.is_empty() {
        let sentence = format!("none unhealthy of {all} that have a health check");
        items.push(Item::ok(Group::Endpoints, "endpoints", sentence));
    }
    put_bounded(items, found, "all of them: GET /services");
}
