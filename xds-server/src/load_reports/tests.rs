use policy::time::CivilZone;
use serde_json::{Value, json};

use super::{view::Wanted, *};

fn at(seconds: u64) -> WallTime {
    // 2026-11-08T18:30+05:30
    WallTime::from_unix_seconds(1_794_142_800).saturating_add(Duration::from_secs(seconds))
}

fn limits() -> Limits {
    Limits {
        nodes: 3,
        clusters: 2,
        localities: 2,
        rows: 5,
        name: 20,
    }
}

fn reports() -> Arc<LoadReports> {
    Arc::new(LoadReports::new(Duration::from_secs(10), limits()))
}

fn reporter(id: &str) -> Reporter {
    Reporter {
        id: id.into(),
        cluster: "edge".into(),
    }
}

fn zone(name: &str) -> Place {
    Place {
        zone: name.into(),
        ..Place::default()
    }
}

/// So many issued, of which one is under way and one failed.
fn counts(issued: u64) -> Counts {
    Counts {
        issued,
        successful: issued - 2,
        error: 1,
        in_progress: 1,
    }
}

fn about(cluster: &str, places: &[(&str, u64)]) -> ClusterReport {
    ClusterReport {
        cluster: cluster.into(),
        interval: Duration::from_secs(10),
        dropped: 2,
        places: places
            .iter()
            .map(|(name, issued)| (zone(name), counts(*issued)))
            .collect(),
        ..ClusterReport::default()
    }
}

fn shown(reports: &LoadReports, wanted: &Wanted, seconds: u64) -> Value {
    let zone = CivilZone::new("Asia/Kolkata", "IST-5:30").unwrap();
    serde_json::to_value(reports.page(wanted, &zone, at(seconds))).unwrap()
}

fn all(reports: &LoadReports, seconds: u64) -> Value {
    shown(reports, &Wanted::default(), seconds)
}

fn ids(page: &Value) -> Vec<&str> {
    let loads = page["loads"].as_array().unwrap();
    loads
        .iter()
        .map(|one| one["node"].as_str().unwrap())
        .collect()
}

#[test]
fn the_newest_report_and_the_totals_are_kept_by_node_cluster_and_place() {
    let reports = reports();
    let stream = reports.open(reporter("edge-1"), at(0)).unwrap();
    stream.report(
        vec![about("orders", &[("west", 100), ("east", 10)])],
        at(10),
    );
    stream.report(vec![about("orders", &[("west", 50)])], at(20));
    let page = all(&reports, 20);
    let node = &page["loads"][0];
    assert_eq!(page["interval"], "10s");
    assert_eq!(
        (&node["node"], &node["connected"]),
        (&json!("edge-1"), &json!(true))
    );
    let orders = &node["clusters"][0];
    assert_eq!(
        orders["newest"],
        json!({
            "at": "2026-11-08T18:30:20+05:30", "interval_seconds": 10.0, "requests_per_second": 5.0,
            "issued": 50, "successful": 48, "error": 1, "in_progress": 1, "dropped": 2,
        })
    );
    assert_eq!(
        orders["total"],
        json!({
            "since": "2026-11-08T18:30:10+05:30", "reports": 2,
            "issued": 160, "successful": 154, "error": 3, "dropped": 4,
        })
    );
    let [east, west] = &orders["localities"].as_array().unwrap()[..] else {
        panic!("{orders}");
    };
    assert_eq!(
        east["newest"],
        json!({"issued": 0, "successful": 0, "error": 0})
    );
    assert_eq!(
        (&east["zone"], &east["in_progress"]),
        (&json!("east"), &json!(0))
    );
    assert_eq!(
        west["total"],
        json!({"issued": 150, "successful": 146, "error": 2})
    );
}

#[test]
fn what_was_not_heard_of_for_ten_minutes_is_forgotten_and_a_connected_node_is_not() {
    let reports = reports();
    let stays = reports.open(reporter("stays"), at(0)).unwrap();
    let leaves = reports.open(reporter("leaves"), at(0)).unwrap();
    stays.report(vec![about("old", &[("west", 9)])], at(0));
    leaves.report(vec![about("orders", &[("west", 9)])], at(0));
    drop(leaves);
    let page = all(&reports, 600);
    assert_eq!(ids(&page), ["leaves", "stays"]);
    assert_eq!(page["loads"][0]["connected"], false);
    let page = all(&reports, 601);
    assert_eq!(ids(&page), ["stays"]);
    assert_eq!(
        page["loads"][0]["clusters"],
        json!([]),
        "nobody speaks of it any more"
    );
    assert_eq!(reports.lock().rows, 0);
}

#[test]
fn what_goes_beyond_a_limit_is_left_off_and_counted() {
    let reports = reports();
    let stream = reports.open(reporter("edge-1"), at(0)).unwrap();
    let long = "x".repeat(21);
    stream.report(
        vec![
            about("a", &[("1", 9), ("2", 9), ("3", 9)]),
            about("b", &[(&long, 9), ("1", 9), ("2", 9)]),
            about(&long, &[]),
            about("c", &[("1", 9)]),
        ],
        at(1),
    );
    let page = all(&reports, 1);
    assert_eq!(page["loads"][0]["left_off"], 4);
    let clusters = page["loads"][0]["clusters"].as_array().unwrap();
    let places = clusters
        .iter()
        .map(|one| one["localities"].as_array().unwrap().len());
    assert_eq!(places.collect::<Vec<_>>(), [2, 2]);
    // Of five rows in all, one is left for everybody else.
    let other = reports.open(reporter("edge-2"), at(1)).unwrap();
    other.report(vec![about("a", &[("1", 9), ("2", 9)])], at(1));
    assert_eq!(reports.lock().rows, 5);
    // What is known goes on.
    stream.report(vec![about("a", &[("1", 9)])], at(2));
    let page = all(&reports, 2);
    assert_eq!(page["loads"][0]["clusters"][0]["total"]["reports"], 2);
    assert_eq!(page["loads"][1]["left_off"], 1);
}

#[test]
fn streams_are_bounded_and_nodes_that_left_make_room() {
    let reports = reports();
    let open = |id: &str, seconds| reports.open(reporter(id), at(seconds));
    let (a, b, c) = (
        open("a", 0).unwrap(),
        open("b", 1).unwrap(),
        open("c", 2).unwrap(),
    );
    a.report(vec![about("orders", &[("west", 9)])], at(0));
    assert!(open("d", 3).is_none());
    drop((a, b));
    let _d = open("d", 4).unwrap();
    assert_eq!(
        ids(&all(&reports, 4)),
        ["b", "c", "d"],
        "a was heard of first"
    );
    assert_eq!(reports.lock().rows, 0);
    let _again = open("c", 5).unwrap();
    assert!(open("b", 5).is_none(), "two streams of one node are two");
    drop(c);
    assert_eq!(all(&reports, 5)["loads"][1]["connected"], true);
}

#[test]
fn node_and_cluster_narrow_what_is_shown_and_pages_lose_nobody() {
    let reports = Arc::new(LoadReports::new(Duration::from_secs(1), Limits::of(50)));
    let names: Vec<String> = (0..25).map(|number| format!("node-{number:02}")).collect();
    let streams: Vec<Reporting> = names
        .iter()
        .map(|id| reports.open(reporter(id), at(0)).unwrap())
        .collect();
    streams[7].report(vec![about("a", &[]), about("b", &[])], at(0));
    let mut wanted = Wanted {
        limit: Some(10),
        ..Wanted::default()
    };
    let mut seen = Vec::new();
    loop {
        let page = shown(&reports, &wanted, 0);
        seen.extend(ids(&page).into_iter().map(str::to_string));
        assert_eq!(page["left_off"], 25 - seen.len());
        match page["next"].as_str() {
            Some(next) => wanted.after = Some(next.into()),
            None => break,
        }
    }
    assert_eq!(seen, names);
    let node = Wanted {
        node: Some("node-03".into()),
        ..Wanted::default()
    };
    assert_eq!(ids(&shown(&reports, &node, 0)), ["node-03"]);
    let cluster = Wanted {
        cluster: Some("b".into()),
        ..Wanted::default()
    };
    let page = shown(&reports, &cluster, 0);
    assert_eq!(ids(&page), ["node-07"]);
    assert_eq!(page["loads"][0]["clusters"].as_array().unwrap().len(), 1);
}
