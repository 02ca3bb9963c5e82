//! A server that many tests share, and a node of it for each.

use std::sync::{
    Arc, Mutex, PoisonError, Weak,
    atomic::{AtomicU64, Ordering},
};

use anyhow::{Context as _, Result, bail, ensure};
use harness::{
    artifacts::Artifacts,
    server::{Options, Server},
    wait::wait_for,
    xds::{Api, Connection, Kind, Service, Stream, Variant, set_of},
};
use serde_json::{Value, json};

use crate::door1::BOUND;

/// A server whose mesh is empty: all that it serves is raw resources.
pub struct World {
    pub api: Api,
    pub connection: Connection,
    pub server: Server,
    pub dir: tempfile::TempDir,
}

static SHARED: Mutex<Weak<World>> = Mutex::new(Weak::new());

impl World {
    /// A server of one's own.
    pub fn start() -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let server = Server::start(
            &Artifacts::from_env()?,
            dir.path(),
            "{}",
            &Options::default(),
        )?;
        Ok(Self {
            api: Api::new(server.api),
            connection: Connection::open(server.xds)?,
            server,
            dir,
        })
    }

    /// The one that the tests share; it ends with the last of them.
    pub fn shared() -> Result<Arc<Self>> {
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(world) = shared.upgrade() {
            return Ok(world);
        }
        let world = Arc::new(Self::start()?);
        *shared = Arc::downgrade(&world);
        Ok(world)
    }

    /// A node that nobody else has.
    pub fn node(self: &Arc<Self>) -> Node {
        static NUMBER: AtomicU64 = AtomicU64::new(1);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        Node {
            id: format!("node-{number}"),
            world: Arc::clone(self),
        }
    }

    /// What the API says of a node.
    pub fn proxy(&self, id: &str) -> Result<Value> {
        let page = self.server.api_get(&format!("/api/v1/proxies?node={id}"))?;
        Ok(page["proxies"][0].clone())
    }
}

/// A node, and the resources that only it is sent.
pub struct Node {
    pub id: String,
    pub world: Arc<World>,
}

pub type Names<'n> = &'n [(Kind, &'n str)];
pub type Marks<'n> = &'n [(Kind, &'n str, &'n str)];

impl Node {
    /// Sets resources, each with its mark, in one transaction.
    pub fn set(&self, set: Marks<'_>) -> Result<()> {
        self.change(set, &[])
    }

    /// Removes resources in one transaction.
    pub fn remove(&self, names: Names<'_>) -> Result<()> {
        self.change(&[], names)
    }

    /// One transaction.
    pub fn change(&self, set: Marks<'_>, remove: Names<'_>) -> Result<()> {
        let set = set.iter();
        let set = set.map(|(kind, name, mark)| set_of(*kind, name, mark));
        self.apply(set.collect(), remove)
    }

    /// One transaction of whole resources.
    #[expect(clippy::needless_pass_by_value, reason = "stories read better")]
    pub fn apply(&self, set: Vec<Value>, remove: Names<'_>) -> Result<()> {
        let remove = remove.iter();
        let remove = remove.map(|(kind, name)| json!({"type": kind.url(), "name": name}));
        let call = json!({
            "set": set,
            "remove": remove.collect::<Vec<_>>(),
            "nodes": {"id": self.id},
        });
        self.world.api.apply(&call).map(drop)
    }

    /// Opens a stream.
    pub fn stream(&self, variant: Variant, service: Service) -> Stream {
        Stream::open(&self.world.connection, variant, service, &self.id)
    }

    /// Opens a stream of ADS.
    pub fn ads(&self, variant: Variant) -> Stream {
        self.stream(variant, Service::Ads)
    }

    /// Waits until the API says this of the node's only stream and a type.
    pub fn wait_type(&self, kind: Kind, what: &str, fits: impl Fn(&Value) -> bool) -> Result<()> {
        wait_for(what, BOUND, || {
            let proxy = self.world.proxy(&self.id);
            let proxy = proxy.map_err(|error| error.to_string())?;
            let streams = proxy["streams"].as_array().cloned().unwrap_or_default();
            let types = streams
                .iter()
                .filter_map(|stream| stream["types"].as_array());
            let mut types = types.flatten();
            let api = api_of(kind);
            match types.find(|found| found["type"] == api) {
                Some(found) if fits(found) => Ok(()),
                _ => Err(proxy.to_string()),
            }
        })
    }

    /// Proves that nothing is on its way to a stream, and that nothing came that was not taken: a change
    /// of another resource comes alone, and when that is accepted, another change comes alone again.
    /// On ADS it is one of a type that the stream does not use; elsewhere the stream must know `sentinel`
    /// of its type.
    pub fn is_quiet(&self, stream: &mut Stream, service: Service) -> Result<()> {
        static NUMBER: AtomicU64 = AtomicU64::new(1);
        const NAME: &str = "sentinel";
        let kind = match service {
            Service::Ads => unused(stream),
            Service::Only(kind) => kind,
        };
        let mut names = stream.wants(kind).to_vec();
        for round in 0..3 {
            let mark = format!("quiet-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
            self.set(&[(kind, NAME, &mark)])?;
            if !names.iter().any(|name| name == NAME) {
                names.push(NAME.into());
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                stream.subscribe(kind, &names);
            }
            let response = stream.next_any()?;
            let expected = format!("{NAME}={mark}");
            let marks = response.marks();
            ensure!(
                response.kind == kind && marks.contains(&expected),
                "round {round}: instead of {expected} came {:?} {marks:?}, removed {:?}",
                response.kind,
                response.removed()
            );
            let is_all = stream.variant() == Variant::Sotw && kind.is_full_state();
            ensure!(is_all || marks.len() == 1, "with it came {marks:?}");
            stream.ack(&response);
        }
        Ok(())
    }
}

/// A type of which a stream wants nothing but the sentinel, if there is one.
fn unused(stream: &Stream) -> Kind {
    let wanted = |kind: &Kind| stream.wants(*kind).iter().any(|name| name != "sentinel");
    let mut kinds = [Kind::Runtime, Kind::Secret].into_iter();
    kinds.find(|kind| !wanted(kind)).unwrap_or(Kind::Runtime)
}

/// The name of a type's service, as the API says it.
pub fn api_of(kind: Kind) -> &'static str {
    match kind {
        Kind::Cluster => "CDS",
        Kind::Endpoints => "EDS",
        Kind::Listener => "LDS",
        Kind::Route => "RDS",
        Kind::Secret => "SDS",
        Kind::Extension => "ECDS",
        Kind::Runtime => "RTDS",
    }
}

/// Runs a story through every door that leads to a type: both variants, on ADS and on its own service,
/// each with a fresh node, all at once.
pub fn through_every_door(
    kinds: &[Kind],
    story: impl Fn(&Node, Variant, Service, Kind) -> Result<()> + Sync,
) -> Result<()> {
    through_doors(&Variant::BOTH, kinds, story)
}

/// As [`through_every_door`], in these variants.
pub fn through_doors(
    variants: &[Variant],
    kinds: &[Kind],
    story: impl Fn(&Node, Variant, Service, Kind) -> Result<()> + Sync,
) -> Result<()> {
    let world = World::shared()?;
    let (world, story) = (&world, &story);
    std::thread::scope(|scope| {
        let mut told = Vec::new();
        for kind in kinds.iter().copied() {
            for variant in variants.iter().copied() {
                for service in [Service::Ads, Service::Only(kind)] {
                    let told_here = scope.spawn(move || {
                        story(&world.node(), variant, service, kind)
                            .with_context(|| format!("{kind:?}, {variant:?}, {service:?}"))
                    });
                    told.push(told_here);
                }
            }
        }
        let mut told = told.into_iter().map(|story| story.join());
        told.try_for_each(|story| story.unwrap_or_else(|_| bail!("a story panicked")))
    })
}

/// Runs a story on ADS in both variants at once, each with a fresh node.
pub fn on_ads(story: impl Fn(&Node, Variant) -> Result<()> + Sync) -> Result<()> {
    both_variants(story)
}

/// Runs a story in both variants at once, each with a fresh node.
pub fn both_variants(story: impl Fn(&Node, Variant) -> Result<()> + Sync) -> Result<()> {
    let world = World::shared()?;
    let (world, story) = (&world, &story);
    std::thread::scope(|scope| {
        let told = Variant::BOTH.map(|variant| {
            scope.spawn(move || {
                story(&world.node(), variant).with_context(|| format!("{variant:?}"))
            })
        });
        let mut told = told.into_iter().map(|story| story.join());
        told.try_for_each(|story| story.unwrap_or_else(|_| bail!("a story panicked")))
    })
}

/// Says what differs.
#[expect(clippy::needless_pass_by_value, reason = "stories read better")]
pub fn expect<T: PartialEq + std::fmt::Debug>(what: &str, found: T, expected: T) -> Result<()> {
    ensure!(found == expected, "{what}: {found:?}, not {expected:?}");
    Ok(())
}
