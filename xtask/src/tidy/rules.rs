//! What is allowed where: the tables that `cargo xtask tidy` enforces.

/// Who may depend on what among the crates (production dependencies; dev-dependencies are free).
pub struct CrateRule {
    pub manifest: &'static str,
    pub dependencies: Dependencies,
    pub why: &'static str,
}

pub enum Dependencies {
    Only(&'static [&'static str]),
    Never(&'static [&'static str]),
}

pub const CRATES: &[CrateRule] = &[
    CrateRule {
        manifest: "policy/Cargo.toml",
        dependencies: Dependencies::Only(&[
            "hashbrown",
            "jiff",
            "rustc-hash",
            "serde",
            "serde_json",
            "strsim",
            "thiserror",
            "xxhash-rust",
        ]),
        why: "policy decides without runtime or I/O, and what it pulls in is loaded by every worker of every sidecar",
    },
    CrateRule {
        manifest: "filter/Cargo.toml",
        dependencies: Dependencies::Only(&["mumbai-mesh-policy", "rustc-hash"]),
        why: "the filter is host glue around policy and nothing else",
    },
    CrateRule {
        manifest: "xds-server/Cargo.toml",
        dependencies: Dependencies::Never(&["mumbai-mesh-filter", "mumbai-mesh-tests"]),
        why: "the server shares policy with the filter, not the filter itself",
    },
];

/// What the production code of one module (its file or its folder) may use. The first rule that fits
/// holds.
pub struct ModuleRule {
    /// Path prefix without `.rs`.
    pub module: &'static str,
    /// Modules of the same crate, besides itself; `None` where the crate's modules may use each other.
    pub may_use: Option<&'static [&'static str]>,
    /// Crates and std modules it must not use, as path prefixes.
    pub never: &'static [&'static str],
    pub why: &'static str,
}

/// Runtimes, transports and everything that touches the world outside the process.
const WORLD: &[&str] = &[
    "tokio",
    "tokio_stream",
    "tonic",
    "axum",
    "hyper",
    "hyper_util",
    "notify",
    "ureq",
    "std::fs",
    "std::process",
    "std::thread",
    "std::time::Instant",
    "std::time::SystemTime",
];

const PURE: &str = "this module is pure; let its caller pass in what it needs";

/// policy <- mesh <- compile <- discovery, and `explain` beside discovery: never upward.
pub const MODULES: &[ModuleRule] = &[
    ModuleRule {
        module: "policy/src",
        may_use: None,
        never: WORLD,
        why: PURE,
    },
    ModuleRule {
        module: "xds-server/src/resource",
        may_use: Some(&[]),
        never: WORLD,
        why: PURE,
    },
    ModuleRule {
        module: "xds-server/src/loud",
        may_use: Some(&[]),
        never: WORLD,
        why: "a line on stderr and nothing else",
    },
    ModuleRule {
        module: "xds-server/src/text",
        may_use: Some(&[]),
        never: WORLD,
        why: PURE,
    },
    ModuleRule {
        module: "xds-server/src/page",
        may_use: Some(&[]),
        never: WORLD,
        why: PURE,
    },
    ModuleRule {
        module: "xds-server/src/mesh",
        may_use: Some(&[]),
        never: WORLD,
        why: PURE,
    },
    ModuleRule {
        module: "xds-server/src/analyze",
        may_use: Some(&["mesh"]),
        never: WORLD,
        why: PURE,
    },
    ModuleRule {
        module: "xds-server/src/calendar",
        may_use: Some(&["mesh"]),
        never: WORLD,
        why: PURE,
    },
    ModuleRule {
        module: "xds-server/src/reference",
        may_use: Some(&["analyze", "mesh"]),
        never: WORLD,
        why: PURE,
    },
    ModuleRule {
        module: "xds-server/src/compile",
        may_use: Some(&["mesh", "resource", "text"]),
        never: WORLD,
        why: PURE,
    },
    ModuleRule {
        module: "xds-server/src/pki/authority",
        may_use: Some(&["clock", "mesh", "metrics", "pki", "settings"]),
        never: &["tonic", "axum", "hyper", "hyper_util", "ureq", "std::fs"],
        why: "keys are owned here and given to those who ask; no door is known here",
    },
    ModuleRule {
        module: "xds-server/src/pki/files",
        may_use: Some(&["pki", "private_file"]),
        never: &["tokio", "tonic", "axum", "hyper", "hyper_util", "ureq"],
        why: "the authority's folder and nothing else",
    },
    ModuleRule {
        module: "xds-server/src/seal",
        may_use: Some(&[]),
        never: WORLD,
        why: PURE,
    },
    ModuleRule {
        module: "xds-server/src/archive",
        may_use: Some(&["pki", "seal", "store"]),
        never: WORLD,
        why: "an archive is a text; who makes one brings the store, who places one brings the folder",
    },
    ModuleRule {
        module: "xds-server/src/pki/shared",
        may_use: Some(&["pki", "seal", "store"]),
        never: WORLD,
        why: "the authority is sealed and opened here; the store and the folder are somebody else's",
    },
    ModuleRule {
        module: "xds-server/src/pki",
        may_use: Some(&["mesh", "text"]),
        never: WORLD,
        why: PURE,
    },
    ModuleRule {
        module: "xds-server/src/raw/state",
        may_use: Some(&["raw", "resource"]),
        never: WORLD,
        why: PURE,
    },
    ModuleRule {
        module: "xds-server/src/raw/changes",
        may_use: Some(&["compile", "raw", "resource", "store"]),
        never: WORLD,
        why: PURE,
    },
    ModuleRule {
        module: "xds-server/src/raw",
        may_use: Some(&[
            "catalog",
            "clock",
            "compile",
            "file_events",
            "loud",
            "mesh",
            "resource",
            "store",
        ]),
        never: &[
            "tonic",
            "axum",
            "hyper",
            "hyper_util",
            "ureq",
            "std::process",
        ],
        why: "raw resources are offered to doors and publishers; they know neither",
    },
    ModuleRule {
        module: "xds-server/src/store",
        may_use: Some(&["private_file"]),
        never: &["axum", "ureq", "std::process"],
        why: "what is kept means nothing to the store; who keeps something gives it its form",
    },
    ModuleRule {
        module: "xds-server/src/catalog",
        may_use: Some(&["clock", "desired", "loud", "mesh", "plan", "store"]),
        never: &["tonic", "axum", "hyper", "hyper_util", "ureq", "std::fs"],
        why: "the mesh in force is owned here and told to those who ask; no door is known here",
    },
    ModuleRule {
        module: "xds-server/src/private_file",
        may_use: Some(&[]),
        never: &["tokio", "tonic", "axum", "hyper", "hyper_util", "ureq"],
        why: "files on disk and nothing else",
    },
    ModuleRule {
        module: "xds-server/src/access/owner",
        may_use: Some(&["access", "clock", "file_events"]),
        never: &["tonic", "axum", "hyper", "hyper_util", "ureq", "std::fs"],
        why: "who may do what is owned here and told to those who ask; no door is known here",
    },
    ModuleRule {
        module: "xds-server/src/access/file",
        may_use: Some(&["access", "private_file"]),
        never: &["tokio", "tonic", "axum", "hyper", "hyper_util", "ureq"],
        why: "the file of tokens and nothing else",
    },
    ModuleRule {
        module: "xds-server/src/access/audit",
        may_use: Some(&[]),
        never: &["tokio", "tonic", "axum", "hyper", "hyper_util", "ureq"],
        why: "the audit log and nothing else",
    },
    ModuleRule {
        module: "xds-server/src/access",
        may_use: Some(&["pki", "text"]),
        never: WORLD,
        why: PURE,
    },
    ModuleRule {
        module: "xds-server/src/discovery",
        may_use: Some(&["compile", "mesh", "resource"]),
        never: WORLD,
        why: PURE,
    },
    ModuleRule {
        module: "xds-server/src/redact",
        may_use: Some(&["resource"]),
        never: WORLD,
        why: PURE,
    },
    ModuleRule {
        module: "xds-server/src/load_reports",
        may_use: Some(&["page"]),
        never: WORLD,
        why: PURE,
    },
    ModuleRule {
        module: "xds-server/src/registry/owner",
        may_use: Some(&["catalog", "clock", "mesh", "page", "registry", "store"]),
        never: &["tonic", "axum", "hyper", "hyper_util", "ureq", "std::fs"],
        why: "instances and their leases are owned here and told to those who ask; no door is known here",
    },
    ModuleRule {
        module: "xds-server/src/registry",
        may_use: Some(&["mesh", "page", "store"]),
        never: WORLD,
        why: PURE,
    },
    ModuleRule {
        module: "xds-server/src/callers/owner",
        may_use: Some(&["callers", "catalog", "clock", "compile"]),
        never: &["tonic", "axum", "hyper", "hyper_util", "ureq", "std::fs"],
        why: "what callers without a proxy share is owned here; no door is known here",
    },
    ModuleRule {
        module: "xds-server/src/callers",
        may_use: Some(&["compile", "mesh", "text"]),
        never: WORLD,
        why: PURE,
    },
    ModuleRule {
        module: "xds-server/src/census/owner",
        may_use: Some(&[
            "catalog", "census", "clock", "compile", "mesh", "publish", "store",
        ]),
        never: &["tonic", "axum", "hyper", "hyper_util", "ureq", "std::fs"],
        why: "the numbers of proxies are owned here and told to those who ask; no door is known here",
    },
    ModuleRule {
        module: "xds-server/src/census",
        may_use: Some(&["compile", "store"]),
        never: WORLD,
        why: PURE,
    },
    ModuleRule {
        module: "xds-server/src/replicas/owner",
        may_use: Some(&["clock", "fleet", "proxies", "publish", "replicas", "store"]),
        never: &["tonic", "axum", "hyper", "hyper_util", "ureq", "std::fs"],
        why: "what servers tell each other is owned here and told to those who ask; no door is known here",
    },
    ModuleRule {
        module: "xds-server/src/replicas",
        may_use: Some(&["proxies", "store"]),
        never: WORLD,
        why: PURE,
    },
    ModuleRule {
        module: "xds-server/src/health/owner",
        may_use: Some(&[
            "callers", "catalog", "clock", "compile", "health", "mesh", "metrics", "page",
            "resource",
        ]),
        never: &["tonic", "axum", "hyper", "hyper_util", "ureq", "std::fs"],
        why: "what is known of endpoints is owned here and told to those who ask; no door is known here",
    },
    ModuleRule {
        module: "xds-server/src/health",
        may_use: Some(&["callers", "compile", "mesh", "page", "resource"]),
        never: WORLD,
        why: PURE,
    },
    ModuleRule {
        module: "xds-server/src/check",
        may_use: Some(&[
            "analyze", "compile", "fleet", "mesh", "pki", "proxies", "resource", "text",
        ]),
        never: WORLD,
        why: PURE,
    },
    ModuleRule {
        module: "xds-server/src/proxies",
        may_use: Some(&[
            "discovery",
            "fleet",
            "metrics",
            "page",
            "redact",
            "resource",
        ]),
        never: WORLD,
        why: PURE,
    },
    ModuleRule {
        module: "xds-server/src/dump",
        may_use: Some(&["redact", "resource", "text"]),
        never: WORLD,
        why: PURE,
    },
    ModuleRule {
        module: "xds-server/src/differences",
        may_use: Some(&[]),
        never: WORLD,
        why: PURE,
    },
    ModuleRule {
        module: "xds-server/src/desired",
        may_use: Some(&["mesh", "page", "text"]),
        never: WORLD,
        why: PURE,
    },
    ModuleRule {
        module: "xds-server/src/plan",
        may_use: Some(&[
            "compile",
            "differences",
            "mesh",
            "redact",
            "resource",
            "text",
        ]),
        never: WORLD,
        why: PURE,
    },
    ModuleRule {
        module: "xds-server/src/export",
        may_use: Some(&["bootstrap", "compile", "mesh", "resource"]),
        never: WORLD,
        why: PURE,
    },
    ModuleRule {
        module: "xds-server/src/explain",
        may_use: Some(&["compile", "differences", "dump", "mesh", "resource", "text"]),
        never: WORLD,
        why: PURE,
    },
];

/// Calls that belong in few places.
pub struct CallRule {
    /// Ends of paths such as `SystemTime::now`, or the name of a function or method.
    pub calls: &'static [&'static str],
    /// Files, or folders (with a closing `/`).
    pub allowed_in: &'static [&'static str],
    /// Also in code that only tests compile.
    pub in_tests: bool,
    pub why: &'static str,
}

pub const CALLS: &[CallRule] = &[
    CallRule {
        calls: &[
            "SystemTime::now",
            "Timestamp::now",
            "Zoned::now",
            "Utc::now",
            "Local::now",
            "libc::time",
            "clock_gettime",
            "gettimeofday",
            "get_current_time",
            "get_current_time_nanoseconds",
            "proxy_get_current_time_nanoseconds",
        ],
        allowed_in: &[
            "xds-server/src/clock.rs",
            "filter/src/host.rs",
            "tests/src/clock.rs",
        ],
        in_tests: true,
        why: "the clock is read in one file of each program, where tests can move it",
    },
    CallRule {
        calls: &["env::var", "env::var_os", "env::vars", "env::vars_os"],
        allowed_in: &[
            "xds-server/src/settings.rs",
            "xds-server/build.rs",
            "tests/src/",
            "xtask/src/",
        ],
        in_tests: true,
        why: "environment variables are settings: read them in settings.rs or let clap do it, so that --help shows them",
    },
];

/// Longer files and functions are a warning: lines.
pub const FILE_LINES: usize = 400;
pub const FUNCTION_LINES: usize = 70;
