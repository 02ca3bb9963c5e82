use prometheus::TextEncoder;

use super::*;

fn page(registry: &Registry) -> String {
    TextEncoder::new()
        .encode_to_string(&registry.gather())
        .unwrap()
}

#[track_caller]
fn shows(registry: &Registry, line: &str) {
    let page = page(registry);
    assert!(page.lines().any(|shown| shown == line), "{line}\n{page}");
}

#[test]
fn every_series_is_there_before_anything_happened() {
    let registry = Registry::new();
    let _metrics = Metrics::new(&registry).unwrap();
    for service in ["ADS", "CDS", "EDS", "SDS", "RTDS", "ECDS", "LDS", "RDS"] {
        shows(
            &registry,
            &format!("xds_streams{{service=\"{service}\",variant=\"sotw\"}} 0"),
        );
    }
    shows(
        &registry,
        "xds_refused_streams_total{reason=\"too_many\"} 0",
    );
    shows(&registry, "xds_convergence_seconds_count{type=\"EDS\"} 0");
    assert!(Metrics::new(&registry).is_err(), "each name once");
}

#[test]
fn each_event_counts_under_its_own_labels() {
    let registry = Registry::new();
    let metrics = Metrics::new(&registry).unwrap();
    metrics.requested(ResourceType::Listener);
    metrics.requested_unknown();
    metrics.pushed(ResourceType::RouteConfiguration, 300);
    metrics.acked(ResourceType::Cluster);
    metrics.nacked(ResourceType::ExtensionConfig);
    metrics.converged(
        ResourceType::ClusterLoadAssignment,
        Duration::from_millis(20),
    );
    metrics.refused(Refused::BadNode);
    metrics.cut(Cut::SlowReader);
    metrics.published(7);
    for line in [
        "xds_requests_total{type=\"LDS\"} 1",
        "xds_requests_total{type=\"unknown\"} 1",
        "xds_requests_total{type=\"RDS\"} 0",
        "xds_pushes_total{type=\"RDS\"} 1",
        "xds_sent_bytes_total{type=\"RDS\"} 300",
        "xds_acks_total{type=\"CDS\"} 1",
        "xds_nacks_total{type=\"ECDS\"} 1",
        "xds_convergence_seconds_bucket{type=\"EDS\",le=\"0.01\"} 0",
        "xds_convergence_seconds_bucket{type=\"EDS\",le=\"0.025\"} 1",
        "xds_refused_streams_total{reason=\"bad_node\"} 1",
        "xds_cut_streams_total{reason=\"slow_reader\"} 1",
        "xds_revision 7",
    ] {
        shows(&registry, line);
    }
}

#[test]
fn reasons_services_and_variants_stand_in_their_tables_order() {
    for (index, (reason, _)) in Refused::ALL.into_iter().enumerate() {
        assert_eq!(reason as usize, index);
    }
    for (index, (reason, _)) in Cut::ALL.into_iter().enumerate() {
        assert_eq!(reason as usize, index);
    }
    for (index, (variant, _)) in VARIANTS.into_iter().enumerate() {
        assert_eq!(variant as usize, index);
    }
    for (index, service) in Service::all().enumerate() {
        assert_eq!(service.index(), index);
    }
}

#[test]
fn a_stream_counts_until_it_is_dropped() {
    let registry = Registry::new();
    let metrics = Metrics::new(&registry).unwrap();
    let service = Service::Single(ResourceType::Secret);
    let streams = "xds_streams{service=\"SDS\",variant=\"delta\"}";
    let open = [
        metrics.opened(service, Variant::Delta),
        metrics.opened(service, Variant::Delta),
    ];
    shows(&registry, &format!("{streams} 2"));
    let reporting = metrics.reporting();
    metrics.load_reported();
    shows(&registry, "xds_load_report_streams 1");
    shows(&registry, "xds_load_reports_total 1");
    drop((open, reporting));
    shows(&registry, "xds_load_report_streams 0");
    shows(&registry, &format!("{streams} 0"));
}

#[test]
fn the_state_of_the_fleet_is_what_was_observed_last() {
    let registry = Registry::new();
    let metrics = Metrics::new(&registry).unwrap();
    let mut fleet = Observed {
        nodes: 3,
        queue_age: Duration::from_millis(1500),
        unanswered: 2,
        ..Observed::default()
    };
    fleet.rejecting[ResourceType::Listener as usize] = 1;
    metrics.observe(&fleet);
    shows(&registry, "xds_nodes 3");
    shows(&registry, "xds_queue_age_seconds 1.5");
    shows(&registry, "xds_unanswered_pushes 2");
    shows(&registry, "xds_rejecting_streams{type=\"LDS\"} 1");
    metrics.observe(&Observed::default());
    shows(&registry, "xds_queue_age_seconds 0");
    shows(&registry, "xds_rejecting_streams{type=\"LDS\"} 0");
}
