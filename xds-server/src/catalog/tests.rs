//! What is offered, what is in force, and what comes from elsewhere.

use super::*;
use crate::store::{Draft, Embedded};

struct World {
    catalog: Catalog,
    store: Arc<Embedded>,
    _dir: tempfile::TempDir,
}

fn at(dir: &tempfile::TempDir) -> (Arc<Embedded>, Catalog) {
    let store = Arc::new(Embedded::open(dir.path()).unwrap());
    let defaults = Defaults::default();
    let kept = kept(&*store, &defaults).unwrap();
    let catalog = Catalog::new(Arc::clone(&store) as Arc<dyn Store>, &defaults, kept).unwrap();
    (store, catalog)
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (store, catalog) = at(&dir);
        Self {
            catalog,
            store,
            _dir: dir,
        }
    }

    fn names(&self) -> (u64, String) {
        let current = Arc::clone(&self.catalog.revisions().borrow());
        (current.number, current.mesh.name.clone())
    }

    /// As another server does.
    fn append(&self, document: &str) {
        let after = self.store.feed(Log::Mesh).revision();
        let draft = Draft {
            about: About::of_api(WallTime::from_unix_millis(0)),
            changes: rows::changes(&Desired::of(document.into())),
        };
        self.store.append(Log::Mesh, after, draft).unwrap();
    }
}

fn document(name: &str) -> String {
    format!("{{\"mesh\":{{\"name\":\"{name}\"}}}}")
}

fn offer(name: &str) -> Offer {
    let document = document(name);
    Offer {
        mesh: mesh::read(&document, &Defaults::default()).unwrap(),
        file: Arc::new(FileContent::new(
            "mesh.yaml".into(),
            document.into(),
            Vec::new(),
        )),
        about: About::of_files(WallTime::from_unix_millis(0), "mesh.yaml"),
    }
}

fn refused() -> Vec<MeshProblem> {
    let problem = Problem {
        path: "services".into(),
        message: "wrong".into(),
        hint: None,
    };
    vec![problem.into()]
}

#[test]
fn a_refused_change_leaves_the_revision_in_force_and_is_visible_until_a_good_one() {
    let world = World::new();
    let (catalog, now) = (&world.catalog, WallTime::from_unix_millis(0));
    assert_eq!(world.names().0, 0, "nothing yet");
    assert_eq!(
        catalog.offer(&offer("first")).unwrap(),
        Outcome::Accepted(1)
    );
    catalog.refuse(refused(), now);
    assert_eq!(world.names(), (1, "first".into()));
    assert!(catalog.refusal().borrow().is_some());
    assert_eq!(catalog.offer(&offer("first")).unwrap(), Outcome::Unchanged);
    assert!(catalog.refusal().borrow().is_none());
    assert_eq!(
        catalog.offer(&offer("second")).unwrap(),
        Outcome::Accepted(2)
    );
    assert_eq!(world.names(), (2, "second".into()));
}

#[test]
fn a_restart_finds_the_newest_revision_and_counts_on() {
    let dir = tempfile::tempdir().unwrap();
    for number in 1..=3 {
        let (_store, catalog) = at(&dir);
        assert_eq!(catalog.revisions().borrow().number, number - 1);
        let name = format!("mesh-{number}");
        assert_eq!(
            catalog.offer(&offer(&name)).unwrap(),
            Outcome::Accepted(number)
        );
        assert_eq!(catalog.offer(&offer(&name)).unwrap(), Outcome::Unchanged);
    }
    let (_store, catalog) = at(&dir);
    let history = catalog.history(u64::MAX, 10).unwrap();
    let numbers: Vec<u64> = history.iter().map(|(number, _)| *number).collect();
    assert_eq!(numbers, [3, 2, 1]);
    assert_eq!(history[0].1.message.as_deref(), Some("mesh.yaml"));
}

#[tokio::test]
async fn what_others_append_is_applied_and_what_nobody_can_read_is_told_and_replaced() {
    let world = World::new();
    let World {
        catalog,
        store,
        _dir,
    } = world;
    let catalog = Arc::new(catalog);
    let world = World {
        catalog: Catalog::new(
            Arc::clone(&store) as Arc<dyn Store>,
            &Defaults::default(),
            Kept::Nothing,
        )
        .unwrap(),
        store,
        _dir,
    };
    let mut revisions = catalog.revisions();
    let following = tokio::spawn(Arc::clone(&catalog).follow());
    world.append(&document("elsewhere"));
    let arrived = revisions.wait_for(|revision| revision.number == 1).await;
    assert_eq!(arrived.unwrap().mesh.name, "elsewhere");

    world.append("{\"of_the_future\": 1}");
    let mut refusal = catalog.refusal();
    let told = refusal
        .wait_for(Option::is_some)
        .await
        .unwrap()
        .clone()
        .unwrap();
    assert!(
        told.problems[0].to_string().contains("of_the_future"),
        "{told:?}"
    );
    assert_eq!(
        catalog.revisions().borrow().number,
        1,
        "the last good one stays"
    );

    // What says the same as the one in force is a revision all the same: the newest is not that.
    let offering = Arc::clone(&catalog);
    let offered = tokio::task::spawn_blocking(move || offering.offer(&offer("elsewhere")));
    assert_eq!(offered.await.unwrap().unwrap(), Outcome::Accepted(3));
    assert!(catalog.refusal().borrow().is_none());
    following.abort();
}
