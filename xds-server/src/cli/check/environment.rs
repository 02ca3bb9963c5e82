//! The machine on which the command runs, and the clocks of others.

use std::{
    fs, io::ErrorKind, net::TcpListener, os::unix::fs::PermissionsExt as _, path::Path,
    process::Command,
};

use policy::time::WallTime;

use super::Served;
use crate::{
    analyze::{analyze, bounded},
    check::{Group, Item, Level},
    cli::{admin::Admin, remote::Credentials},
    clock,
    compile::FilterCode,
    settings,
    source::Loader,
};

/// Clocks this far apart are told: to the second is what a peak's edge is about.
const SKEW_MILLIS: u64 = 2_000;
/// Further apart certificates begin too late, and a peak begins for some only.
const SKEW_BAD_MILLIS: u64 = 30_000;
/// With fewer files a server cannot hold a thousand Envoys.
const FILES_MIN: u64 = 4_096;
/// The store must be able to write.
const SPACE_MIN: u64 = 100 * 1024 * 1024;
const XDS_PORT: u16 = 18_000;

/// What was found on this machine.
#[derive(Default)]
pub(super) struct Environment {
    pub(super) items: Vec<Item>,
}

impl Environment {
    fn ok(&mut self, code: &str, sentence: impl Into<String>) {
        self.items
            .push(Item::ok(Group::Environment, code, sentence));
    }

    fn add(&mut self, level: Level, code: &str, sentence: impl Into<String>, fix: &str) {
        let item = Item::of((Group::Environment, level), code, sentence, fix);
        self.items.push(item);
    }

    /// What the server says of itself; none where there is none that says anything.
    pub(super) fn ask(&mut self, server: &str, credentials: &Credentials) -> Option<Served> {
        let before = clock::now();
        let answer = credentials.get(server, "/api/v1/check", &[]);
        let after = clock::now();
        let served = answer.and_then(|body| Ok(serde_json::from_slice::<Served>(&body)?));
        match served {
            Ok(served) => {
                // It told the time somewhere between the two.
                let theirs = WallTime::from_unix_millis(served.now_unix_millis);
                let off = apart(before, theirs).min(apart(after, theirs));
                let is_between = before <= theirs && theirs <= after;
                self.clock("clock-server", server, if is_between { 0 } else { off });
                Some(served)
            }
            Err(error) => {
                let fix = "start it with `mumbai-mesh serve --config FILE`, or name another with --server, and what \
                           it wants to be shown with --token and --ca-file";
                self.add(Level::Warning, "server", format!("{error:#}"), fix);
                None
            }
        }
    }

    /// The server's version; without a server, whether its ports are free.
    pub(super) fn server(&mut self, server: &str, served: Option<&Served>) {
        if let Some(served) = served {
            let ours = env!("CARGO_PKG_VERSION");
            let sentence = format!("{server} answers, version {}", served.version);
            return match served.version == ours {
                true => self.ok("server", sentence),
                false => self.add(
                    Level::Info,
                    "server-version",
                    format!("{sentence}; this program is {ours}"),
                    "use the server's own version of this program",
                ),
            };
        }
        let api = server.rsplit_once(':').and_then(|(_, port)| {
            let port = port.trim_end_matches('/');
            port.parse::<u16>().ok()
        });
        for port in api.into_iter().chain([XDS_PORT]) {
            match TcpListener::bind(("127.0.0.1", port)) {
                Ok(_) => self.ok("port", format!("port {port} is free")),
                Err(error) if error.kind() == ErrorKind::AddrInUse => self.add(
                    Level::Error,
                    "port-in-use",
                    format!("port {port} is used by another program"),
                    "end that, or choose others with --xds-listen and --api-listen",
                ),
                Err(error) => self.add(
                    Level::Warning,
                    "port",
                    format!("port {port} cannot be opened: {error}"),
                    "choose others with --xds-listen and --api-listen",
                ),
            }
        }
    }

    fn clock(&mut self, code: &str, of: &str, apart: u64) {
        let level = match apart {
            0..SKEW_MILLIS => return self.ok(code, format!("the clock of {of} agrees with ours")),
            SKEW_MILLIS..SKEW_BAD_MILLIS => Level::Warning,
            _ => Level::Error,
        };
        self.add(
            level,
            code,
            format!("the clock of {of} is {} s from ours", apart / 1_000),
            "let both follow a time server (NTP): windows, ramps and certificates go by each machine's own clock",
        );
    }

    pub(super) fn limits(&mut self) {
        let Ok((soft, hard)) = rlimit::getrlimit(rlimit::Resource::NOFILE) else {
            return;
        };
        // The server raises its own to the hard one.
        match hard {
            FILES_MIN.. => self.ok("open-files", format!("up to {hard} open files")),
            _ => self.add(
                Level::Warning,
                "open-files",
                format!("only {hard} open files ({soft} at first): each Envoy's stream takes one"),
                "raise it: LimitNOFILE= of systemd, or ulimit -Hn",
            ),
        }
    }

    pub(super) fn state_dir(&mut self, dir: &Path) {
        let shown = dir.display();
        let meta = match fs::metadata(dir) {
            Ok(meta) => meta,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return self.ok(
                    "state-dir",
                    format!("{shown} is not there yet; a server makes it"),
                );
            }
            Err(error) => {
                let fix = "name the right one with --state-dir, or give this user access to it";
                return self.add(Level::Error, "state-dir", format!("{shown}: {error}"), fix);
            }
        };
        let mode = meta.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            let sentence =
                format!("{shown} is open to others (mode {mode:o}); it holds private keys");
            let fix = format!("chmod 700 {shown}");
            self.add(Level::Error, "state-dir-open", sentence, &fix);
        }
        // Without touching it: a server may be at work there.
        let access = rustix::fs::access(dir, rustix::fs::Access::WRITE_OK);
        if let Err(error) = access {
            let fix = "give it to the user that runs the server";
            self.add(Level::Error, "state-dir", format!("{shown}: {error}"), fix);
        }
        let Ok(space) = rustix::fs::statvfs(dir) else {
            return;
        };
        let free = space.f_bavail.saturating_mul(space.f_frsize);
        let mib = free / (1024 * 1024);
        match free {
            SPACE_MIN.. => self.ok("state-dir", format!("{shown}: {mib} MiB free")),
            _ => self.add(
                Level::Error,
                "disk-full",
                format!("{shown}: only {mib} MiB free"),
                "make room: writes will be refused; what is in force goes on being served",
            ),
        }
    }

    /// The filter beside this program against the one that is served.
    pub(super) fn filter(&mut self, served: Option<&str>) {
        let Some(path) = settings::filter_path(None) else {
            return self.add(
                Level::Info,
                "filter-missing",
                "no mumbai_mesh.wasm beside this program",
                "cargo xtask wasm, or name it with MUMBAI_MESH_WASM; a server needs it, other commands do not",
            );
        };
        let shown = path.display();
        let Ok(bytes) = fs::read(&path) else {
            return self.add(
                Level::Warning,
                "filter-missing",
                format!("{shown} cannot be read"),
                "name a file that can be with MUMBAI_MESH_WASM",
            );
        };
        let ours = FilterCode::new(bytes.into());
        let ours = ours.sha256();
        let short = &ours[..12];
        match served {
            Some(served) if served != ours => self.add(
                Level::Warning,
                "filter-differs",
                format!("{shown} ({short}…) is not the filter that the server has"),
                "start the server anew to have it served, or take its own: GET /filter/mumbai_mesh.wasm",
            ),
            _ => self.ok("filter", format!("{shown} ({short}…)")),
        }
    }

    pub(super) fn envoy_program(&mut self) {
        let Ok(output) = Command::new("envoy").arg("--version").output() else {
            return self.add(
                Level::Info,
                "envoy-program",
                "no `envoy` is found by PATH",
                "only a machine that runs one needs it: https://www.envoyproxy.io/docs/envoy/latest/start/install",
            );
        };
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        match version(&said) {
            Some(version) => self.ok("envoy-program", format!("envoy {version} is found by PATH")),
            None => self.add(
                Level::Warning,
                "envoy-program",
                "`envoy --version` says something else than a version",
                "look at what PATH finds: which envoy",
            ),
        }
    }

    /// A live Envoy's clock and version.
    ///
    /// # Errors
    /// A text that is no address.
    pub(super) fn envoy(&mut self, address: &str) -> anyhow::Result<()> {
        let admin = Admin::new(address)?;
        let page = match admin.page("/server_info") {
            Ok(page) => page,
            Err(error) => {
                let fix = "start it, or name its --admin-port";
                self.add(Level::Error, "envoy", format!("{error:#}"), fix);
                return Ok(());
            }
        };
        let state = page.json["state"].as_str().unwrap_or("UNKNOWN");
        let known = version(page.json["version"].as_str().unwrap_or_default());
        let sentence = format!(
            "Envoy at {address}: {state}, version {}",
            known.unwrap_or("unknown")
        );
        match state {
            "LIVE" => self.ok("envoy", sentence),
            _ => self.add(
                Level::Error,
                "envoy",
                sentence,
                "see its log; one that waits for its first configuration is INITIALIZING: mumbai-mesh proxy status",
            ),
        }
        if let Some(theirs) = page.at {
            // It tells whole seconds.
            let apart = apart(theirs, clock::now()).saturating_sub(1_000);
            self.clock("clock-envoy", &format!("Envoy at {address}"), apart);
        }
        Ok(())
    }

    /// A mesh file that no server serves.
    pub(super) fn mesh_file(&mut self, config: &Path) {
        let loaded = Loader::new(config).look();
        let mesh = loaded.document().mesh(&settings::defaults());
        let shown = config.display();
        let group = Group::Configuration;
        match mesh {
            Ok(mesh) => {
                let found = bounded(&analyze(&mesh, clock::now()));
                let sentence = format!("{shown} can be served");
                self.items.push(Item::ok(group, "configuration", sentence));
                let file = shown.to_string();
                let found = found.into_iter();
                self.items
                    .extend(found.map(|finding| Item::found(finding, Some(&file))));
            }
            Err(problems) => self.items.extend(problems.iter().map(|problem| {
                let fix = "mend it: mumbai-mesh analyze tells all of a file";
                let level = (group, Level::Error);
                Item::of(level, "configuration-refused", problem.to_string(), fix)
            })),
        }
    }
}

/// In milliseconds.
fn apart(one: WallTime, other: WallTime) -> u64 {
    one.unix_millis().abs_diff(other.unix_millis())
}

/// `1.40.0` of `…  version: 0a1b…/1.40.0/Clean/RELEASE/BoringSSL`.
fn version(said: &str) -> Option<&str> {
    said.split('/').find(|part| {
        let mut numbers = part.split('.');
        let is_number = |text: Option<&str>| text.is_some_and(|text| text.parse::<u32>().is_ok());
        is_number(numbers.next()) && is_number(numbers.next())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_are_told_when_they_are_seconds_apart() {
        let level = |millis| {
            let mut environment = Environment::default();
            environment.clock("clock", "it", millis);
            environment.items[0].level
        };
        assert_eq!(level(1_999), Level::Ok);
        assert_eq!(level(2_000), Level::Warning);
        assert_eq!(level(30_000), Level::Error);
    }

    #[test]
    fn envoys_version_is_found_in_what_it_says() {
        let said = "envoy  version: 0123abcd/1.40.0/Clean/RELEASE/BoringSSL\n";
        assert_eq!(version(said), Some("1.40.0"));
        assert_eq!(version("nothing of it"), None);
    }
}
