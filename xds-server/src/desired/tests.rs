//! Who says what, what operations do, and what comes back with a rollback.

use policy::{
    overrides::OverrideKind,
    time::{WallTime, parse_instant},
    units::{BasisPoints, ServiceName, VersionLabel},
};
use serde_json::json;

use super::*;
use crate::mesh::{Defaults, Document, Mesh, MeshFile, read};

const MESH: &str = "\
services:
  orders:
    sidecar: false
    endpoints: [{id: o-1, host: 10.0.0.1, port: 80, version: v1}, {id: o-2, host: 10.0.0.2, port: 80, version: v2}]
";
const CANARY: &str = "    canary: {version: v2, weight: 10, sticky_by: {header: x-id}}\n";
const RAMP: &str = "    canary: {version: v2, ramp: {start: 2026-11-25T09:00+05:30, steps: [5, 10, 50], every: 1h}}\n";

fn file(text: &str) -> FileContent {
    let files = vec![MeshFile {
        name: "mesh.yaml".into(),
        text: text.into(),
    }];
    let document = Document::new(&files, &[]).tree().to_string().into();
    FileContent::new("mesh.yaml".into(), document, files)
}

fn mesh(desired: &Desired) -> Mesh {
    read(desired.document(), &Defaults::default()).unwrap()
}

fn by(at: &str) -> By {
    By {
        author: Some("alice".into()),
        reason: None,
        at: parse_instant(at).unwrap(),
    }
}

fn at(at: &str) -> WallTime {
    parse_instant(at).unwrap()
}

const EIGHT: &str = "2026-11-25T08:00+05:30";
const HALF_PAST_TEN: &str = "2026-11-25T10:30+05:30";

fn percent(percent: f64) -> BasisPoints {
    BasisPoints::from_percent(percent).unwrap()
}

fn start(version: &str, weight: f64) -> Verb {
    Verb::Start(Start {
        version: VersionLabel::new(version).unwrap(),
        weight: percent(weight),
        sticky_by: None,
    })
}

fn act(
    desired: &Desired,
    file: Option<&FileContent>,
    verb: &Verb,
    now: &str,
) -> Result<Desired, Refusal> {
    let orders = ServiceName::new("orders").unwrap();
    let mut editor = Editor::new(desired, file);
    carry_out(&mut editor, &mesh(desired), &orders, verb, &by(now))?;
    Ok(editor.finish())
}

/// State, weight and who says it.
fn told(desired: &Desired, file: Option<&FileContent>, now: &str) -> String {
    let found = statuses(&mesh(desired), desired, file, at(now));
    match found.first() {
        None => "none".into(),
        Some(one) => format!("{} {} {} {}", one.version, one.state, one.weight, one.owner),
    }
}

#[test]
fn without_files_a_canary_is_started_set_and_promoted_in_what_the_store_says() {
    let plain = Desired::of(file(MESH).document().clone());
    let begun = act(&plain, None, &start("v2", 10.0), EIGHT).unwrap();
    assert_eq!(told(&begun, None, EIGHT), "v2 running 10 api");
    assert!(begun.base().is_none(), "one document says it all");
    let more = act(&begun, None, &Verb::Set(percent(12.5)), EIGHT).unwrap();
    assert_eq!(told(&more, None, EIGHT), "v2 running 12.5 api");
    let other = act(&more, None, &start("v1", 1.0), EIGHT).unwrap_err();
    assert!(other.to_string().contains("promote or abort it"), "{other}");
    let done = act(&more, None, &Verb::Promote, EIGHT).unwrap();
    assert_eq!(told(&done, None, EIGHT), "none");
    let orders = &mesh(&done).services[&ServiceName::new("orders").unwrap()];
    assert_eq!(orders.stable_version.as_ref().unwrap().as_str(), "v2");
    for verb in [
        Verb::Set(percent(1.0)),
        Verb::Pause,
        Verb::Abort,
        Verb::Promote,
    ] {
        let none = act(&done, None, &verb, EIGHT).unwrap_err();
        assert!(matches!(none, Refusal::Unknown(_)), "{none}");
    }
}

#[test]
fn what_the_files_say_is_theirs_and_operations_lie_over_it_until_they_change_it() {
    let says = file(&format!("{MESH}{CANARY}"));
    let desired = Desired::of_files(&says);
    for verb in [start("v2", 20.0), Verb::Set(percent(20.0)), Verb::Promote] {
        let refusal = act(&desired, Some(&says), &verb, EIGHT).unwrap_err();
        let text = refusal.to_string();
        assert!(
            text.starts_with("services.orders.canary is the file's (mesh.yaml:5:5"),
            "{text}"
        );
    }
    let paused = act(&desired, Some(&says), &Verb::Pause, EIGHT).unwrap();
    assert_eq!(told(&paused, Some(&says), EIGHT), "v2 paused 10 file");
    assert_eq!(
        act(&paused, Some(&says), &Verb::Pause, EIGHT).unwrap(),
        paused
    );
    let aborted = act(&paused, Some(&says), &Verb::Abort, EIGHT).unwrap();
    assert_eq!(told(&aborted, Some(&says), EIGHT), "v2 aborted 0 file");
    assert!(act(&aborted, Some(&says), &Verb::Pause, EIGHT).is_err());
    // Anything else in the files leaves it alone.
    let other = file(&format!("timezone: UTC\n{MESH}{CANARY}"));
    let still = aborted.after_files(&other);
    assert_eq!(told(&still, Some(&other), EIGHT), "v2 aborted 0 file");
    // The canary's own fields end it.
    let newer = file(&format!("{MESH}{}", CANARY.replace("10", "20")));
    let over = aborted.after_files(&newer);
    assert_eq!(told(&over, Some(&newer), EIGHT), "v2 running 20 file");
    let resumed = act(&aborted, Some(&says), &Verb::Resume, EIGHT).unwrap();
    assert_eq!(told(&resumed, Some(&says), EIGHT), "v2 running 10 file");
    let canary = |desired: &Desired| {
        let orders = ServiceName::new("orders").unwrap();
        mesh(desired).services[&orders].canary.clone().unwrap()
    };
    assert_eq!(canary(&resumed).resumed, 1, "what latched is let go");
    let again = act(&resumed, Some(&says), &Verb::Resume, EIGHT).unwrap();
    assert_eq!(canary(&again).resumed, 2);
}

#[test]
fn a_paused_ramp_goes_on_with_its_step_and_an_aborted_one_begins_anew() {
    let says = file(&format!("{MESH}{RAMP}"));
    let desired = Desired::of_files(&says);
    let told = |desired: &Desired, now: &str| told(desired, Some(&says), now);
    let act =
        |desired: &Desired, verb: &Verb, now: &str| act(desired, Some(&says), verb, now).unwrap();
    assert_eq!(told(&desired, EIGHT), "v2 waiting 0 file");
    assert_eq!(told(&desired, HALF_PAST_TEN), "v2 ramping 10 file");
    let paused = act(&desired, &Verb::Pause, HALF_PAST_TEN);
    assert_eq!(told(&paused, "2026-11-25T20:00+05:30"), "v2 paused 10 file");
    let on = act(&paused, &Verb::Resume, "2026-11-25T20:00+05:30");
    assert_eq!(told(&on, "2026-11-25T20:59+05:30"), "v2 ramping 10 file");
    assert_eq!(told(&on, "2026-11-25T21:00+05:30"), "v2 running 50 file");
    // Its steps are counted from the first that is written, however often it is paused.
    let twice = act(&on, &Verb::Pause, "2026-11-25T21:00+05:30");
    let on = act(&twice, &Verb::Resume, "2026-11-25T22:00+05:30");
    assert_eq!(told(&on, "2026-11-25T22:00+05:30"), "v2 running 50 file");
    let aborted = act(&desired, &Verb::Abort, HALF_PAST_TEN);
    let anew = act(&aborted, &Verb::Resume, "2026-11-25T20:00+05:30");
    assert_eq!(told(&anew, "2026-11-25T20:00+05:30"), "v2 ramping 5 file");
    // One that had not begun begins when it was to.
    let early = act(&desired, &Verb::Pause, EIGHT);
    let early = act(&early, &Verb::Resume, EIGHT);
    assert_eq!(told(&early, EIGHT), "v2 waiting 0 file");
    assert_eq!(told(&early, HALF_PAST_TEN), "v2 ramping 10 file");
}

#[test]
fn beside_files_the_api_writes_what_they_do_not_say_and_they_win_when_they_do() {
    let says = file(MESH);
    let desired = Desired::of_files(&says);
    let begun = act(&desired, Some(&says), &start("v2", 10.0), EIGHT).unwrap();
    assert_eq!(told(&begun, Some(&says), EIGHT), "v2 running 10 api");
    let aborted = act(&begun, Some(&says), &Verb::Abort, EIGHT).unwrap();
    let other = file(&format!("timezone: UTC\n{MESH}"));
    let kept = aborted.after_files(&other);
    assert_eq!(told(&kept, Some(&other), EIGHT), "v2 aborted 0 api");
    let theirs = file(&format!("{MESH}{}", CANARY.replace("10", "3")));
    let won = begun.after_files(&theirs);
    assert_eq!(told(&won, Some(&theirs), EIGHT), "v2 running 3 file");
    assert!(won.layers().written.is_none(), "{:?}", won.layers());
    let promoted = act(&begun, Some(&says), &Verb::Promote, EIGHT).unwrap();
    assert_eq!(
        promoted.layers().written,
        Some(json!({"services": {"orders": {"stable_version": "v2"}}}))
    );
}

#[test]
fn an_apply_beside_files_may_say_what_they_do_not() {
    let says = file(MESH);
    let desired = Desired::of_files(&says);
    let apply = |text: &str| {
        let mut editor = Editor::new(&desired, Some(&says));
        editor.apply(serde_json::from_str(file(text).document()).unwrap())?;
        Ok::<_, Refusal>(editor.finish())
    };
    let owned = apply(&MESH.replace("10.0.0.1", "10.0.0.9")).unwrap_err();
    assert!(
        owned
            .to_string()
            .starts_with("services.orders.endpoints is the file's"),
        "{owned}"
    );
    let more = apply("services: {pay: {sidecar: false}}\n").unwrap();
    assert_eq!(mesh(&more).services.len(), 2);
    // Without files it is all there is.
    let mut editor = Editor::new(&more, None);
    editor.apply(json!({"timezone": "UTC"})).unwrap();
    let all = editor.finish();
    assert_eq!(
        (&**all.document(), all.layers()),
        ("{\"timezone\":\"UTC\"}", &Layers::default())
    );
}

#[test]
fn a_rollback_is_pinned_until_the_files_say_something_else() {
    let old = file(&format!("{MESH}{CANARY}"));
    let new = file(MESH);
    let first = Desired::of_files(&old);
    let second = first.after_files(&new);
    assert_eq!(told(&second, Some(&new), EIGHT), "none");
    let back = first.again(1, &second, Some(&new), at(EIGHT));
    assert_eq!(back.layers().pinned, Some(1));
    assert_eq!(
        back.layers().file.as_deref(),
        Some(new.mark()),
        "what waits is known"
    );
    assert_eq!(told(&back, Some(&new), EIGHT), "v2 running 10 rollback");
    let refusal = act(&back, Some(&new), &Verb::Set(percent(1.0)), EIGHT).unwrap_err();
    assert!(
        refusal.to_string().contains("revision 1, which a rollback"),
        "{refusal}"
    );
    let aborted = act(&back, Some(&new), &Verb::Abort, EIGHT).unwrap();
    assert_eq!(
        aborted.layers().pinned,
        Some(1),
        "an operation is no reason to let go"
    );
    assert_eq!(told(&aborted, Some(&new), EIGHT), "v2 aborted 0 rollback");
    assert_eq!(aborted.after_files(&old).layers().pinned, None);
    // Back to what the files say now: nothing needs to be held.
    assert_eq!(
        second
            .again(2, &back, Some(&new), at(EIGHT))
            .layers()
            .pinned,
        None
    );
    // The store is its own.
    assert_eq!(
        first.again(1, &second, None, at(EIGHT)).layers(),
        &Layers::default()
    );
}

#[test]
fn a_rollback_leaves_overrides_as_they_are() {
    let orders = ServiceName::new("orders").unwrap();
    let over = |desired: &Desired, kind, until: &str| {
        let mut editor = Editor::new(desired, None);
        let until = at(until);
        override_service(
            &mut editor,
            &mesh(desired),
            &orders,
            kind,
            until,
            &by(EIGHT),
        )
        .unwrap();
        editor.finish()
    };
    let shown = |desired: &Desired, now: &str| {
        let all = overrides(&mesh(desired), desired, at(now));
        all.into_iter().map(|one| one.kind).collect::<Vec<_>>()
    };
    let canary = format!("{MESH}{CANARY}");
    let plain = Desired::of(file(&canary).document().clone());
    let peak = over(&plain, OverrideKind::Peak, HALF_PAST_TEN);
    let again = |old: &Desired, current: &Desired, now: &str| old.again(1, current, None, at(now));
    assert_eq!(
        shown(&again(&plain, &peak, EIGHT), EIGHT),
        ["peak"],
        "one that acts goes on"
    );
    assert_eq!(
        again(&peak, &plain, EIGHT),
        plain,
        "one that was ended stays ended"
    );
    let bypass = over(&plain, OverrideKind::Bypass, HALF_PAST_TEN);
    assert_eq!(shown(&again(&bypass, &peak, EIGHT), EIGHT), ["peak"]);
    assert_eq!(
        again(&plain, &peak, HALF_PAST_TEN),
        plain,
        "what has ended is nothing"
    );
    // With what people had done with canaries.
    let aborted = act(&peak, None, &Verb::Abort, EIGHT).unwrap();
    let back = again(&aborted, &bypass, EIGHT);
    assert_eq!(shown(&back, EIGHT), ["bypass"]);
    assert_eq!(told(&back, None, EIGHT), told(&aborted, None, EIGHT));
    let none = Desired::of(r#"{"services":{}}"#.into());
    assert_eq!(
        again(&none, &peak, EIGHT),
        none,
        "of a service that is not there nothing is said"
    );
}

#[test]
fn what_is_kept_is_read_back() {
    let says = file(&format!("{MESH}{RAMP}"));
    let mut desired = Desired::of_files(&says);
    for verb in [Verb::Pause, Verb::Resume, Verb::Abort] {
        desired = act(&desired, Some(&says), &verb, HALF_PAST_TEN).unwrap();
        let text = serde_json::to_string(desired.layers()).unwrap();
        let layers: Layers = serde_json::from_str(&text).unwrap();
        assert_eq!(&layers, desired.layers(), "{text}");
    }
    assert_eq!(serde_json::to_string(&Layers::default()).unwrap(), "{}");
}
