//! Who may pass: a token's role, or the one that nobody needs a token for; and never a web page of another
//! origin. Pure.

use std::net::IpAddr;

use policy::time::{WallTime, format_instant};

use super::{Role, Tokens};

/// What a route needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Nothing: whoever can reach the port may ask.
    Nothing,
    /// At least this role.
    Role(Role),
}

impl Need {
    /// `none`, `viewer`, `operator` or `admin`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Nothing => "none",
            Self::Role(role) => role.as_str(),
        }
    }
}

/// What counts of a request.
#[derive(Debug, Clone, Copy, Default)]
pub struct Request<'r> {
    /// `authorization`.
    pub authorization: Option<&'r [u8]>,
    /// `host`, or the authority of its target.
    pub host: Option<&'r str>,
    /// `origin`: only browsers send it.
    pub origin: Option<&'r str>,
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The token's name; none without one.
    pub name: Option<String>,
    /// What they may do; none where nothing is needed and they may do nothing else.
    pub role: Option<Role>,
}

/// Why somebody may not pass.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// They show no token.
    #[error(
        "a token is needed: send `authorization: Bearer TOKEN` (mumbai-mesh: --token or MUMBAI_MESH_TOKEN); \
         `mumbai-mesh token create --role {} --name NAME --state-dir DIR` makes one beside the server",
        .0.as_str()
    )]
    NoToken(Role),
    /// What they show is no token.
    #[error("the authorization header must be `Bearer TOKEN`")]
    NotBearer,
    /// A token that nobody made, or that was revoked.
    #[error(
        "this token is not known here: it was revoked, or made for another server. Each has the tokens of its own state \
         dir: make one there (`mumbai-mesh token create`), or copy the other server's tokens.json into it"
    )]
    Unknown,
    /// A token that was worth something once.
    #[error("the token {name} expired at {at}: make a new one with `mumbai-mesh token create`")]
    Expired {
        /// Its name.
        name: String,
        /// When.
        at: String,
    },
    /// A role that is too small.
    #[error(
        "{} may do what {} may, and this needs the role {}: `mumbai-mesh token create --role {} …`",
        .name.as_ref().map_or("whoever shows no token".to_string(), |name| format!("the token {name}")),
        .has.one(), .needs.as_str(), .needs.as_str()
    )]
    TooSmall {
        /// The token's name.
        name: Option<String>,
        /// Its role.
        has: Role,
        /// What it takes.
        needs: Role,
    },
    /// A page of somebody else, in a browser.
    #[error(
        "a web page of another origin asks ({0}); without a token only programs and our own pages may"
    )]
    Elsewhere(String),
    /// A name of somebody else that leads here.
    #[error(
        "{0:?} is no name of this server, so a web page may have made it lead here: call it by its address, \
         show a token, or start it with --api-host NAME"
    )]
    Host(String),
}

impl Refusal {
    /// Every [`reason`](Self::reason).
    pub const REASONS: [&str; 5] = ["no_token", "bad_token", "expired_token", "role", "origin"];

    /// Whether it is not known who asks; else it is known, and they may not.
    pub fn is_unauthenticated(&self) -> bool {
        matches!(
            self,
            Self::NoToken(_) | Self::NotBearer | Self::Unknown | Self::Expired { .. }
        )
    }

    /// For metrics and logs.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NoToken(_) => "no_token",
            Self::NotBearer | Self::Unknown => "bad_token",
            Self::Expired { .. } => "expired_token",
            Self::TooSmall { .. } => "role",
            Self::Elsewhere(_) | Self::Host(_) => "origin",
        }
    }
}

/// What passes without a token.
#[derive(Debug, Clone, Default)]
pub struct Gate {
    /// What whoever shows no token may do.
    pub anonymous: Option<Role>,
    /// Names of this server, beside addresses and `localhost`.
    pub hosts: Vec<String>,
    /// Whether it speaks TLS.
    pub is_tls: bool,
}

impl Gate {
    /// Who asks, if they may have what they ask for.
    ///
    /// # Errors
    /// Why they may not.
    pub fn pass(
        &self,
        tokens: &Tokens,
        request: &Request<'_>,
        need: Need,
        now: WallTime,
    ) -> Result<Caller, Refusal> {
        let Need::Role(needs) = need else {
            return Ok(Caller {
                name: None,
                role: None,
            });
        };
        let (name, has) = match request.authorization {
            Some(shown) => {
                let (name, role) = known(tokens, shown, now)?;
                (Some(name), role)
            }
            None => {
                let has = self.anonymous.ok_or(Refusal::NoToken(needs))?;
                // A page of somebody else cannot know a token, but it can ask without one: by a name of
                // its own that leads here, or by ours from its own origin.
                self.check_origin(request)?;
                (None, has)
            }
        };
        if has >= needs {
            let role = Some(has);
            return Ok(Caller { name, role });
        }
        Err(match name {
            None => Refusal::NoToken(needs),
            name => Refusal::TooSmall { name, has, needs },
        })
    }

    fn check_origin(&self, request: &Request<'_>) -> Result<(), Refusal> {
        let host = request.host.unwrap_or_default();
        if !self.is_ours(host) {
            return Err(Refusal::Host(shortened(host)));
        }
        let scheme = if self.is_tls { "https" } else { "http" };
        match request.origin {
            Some(origin) if origin != format!("{scheme}://{host}") => {
                Err(Refusal::Elsewhere(shortened(origin)))
            }
            _ => Ok(()),
        }
    }

    /// An address cannot be made to lead elsewhere; a name can.
    fn is_ours(&self, host: &str) -> bool {
        let name = name_of(host);
        let address = name.trim_matches(['[', ']']).parse::<IpAddr>();
        address.is_ok()
            || name.eq_ignore_ascii_case("localhost")
            || self
                .hosts
                .iter()
                .any(|known| known.eq_ignore_ascii_case(name))
    }
}

fn known(tokens: &Tokens, shown: &[u8], now: WallTime) -> Result<(String, Role), Refusal> {
    const BEARER: &[u8] = b"bearer ";
    let (scheme, shown) = shown
        .split_at_checked(BEARER.len())
        .ok_or(Refusal::NotBearer)?;
    if !scheme.eq_ignore_ascii_case(BEARER) {
        return Err(Refusal::NotBearer);
    }
    let token = tokens.find(shown.trim_ascii()).ok_or(Refusal::Unknown)?;
    match token.expires_at {
        Some(at) if token.is_expired(now) => Err(Refusal::Expired {
            name: token.name.to_string(),
            at: format_instant(at),
        }),
        _ => Ok((token.name.to_string(), token.role)),
    }
}

/// `host:8088` -> `host`, `[::1]:8088` -> `[::1]`.
fn name_of(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

/// Strangers say what they like.
fn shortened(text: &str) -> String {
    text.chars().take(100).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::{Secret, TokenName};

    fn now() -> WallTime {
        WallTime::from_unix_seconds(1_000)
    }

    fn with(role: Role, expires_at: Option<i64>) -> (Tokens, String) {
        let secret = Secret::generate().unwrap();
        let mut tokens = Tokens::default();
        let end = expires_at.map(WallTime::from_unix_seconds);
        let name = TokenName::new("ci").unwrap();
        let begin = WallTime::from_unix_seconds(0);
        tokens.add(name, role, &secret, begin, end).unwrap();
        (tokens, format!("Bearer {}", secret.text()))
    }

    fn shown(authorization: &str) -> Request<'_> {
        Request {
            authorization: Some(authorization.as_bytes()),
            host: Some("evil.example"),
            origin: Some("http://evil.example"),
        }
    }

    #[test]
    fn a_role_that_is_too_small_is_told_with_the_one_that_is_needed() {
        let small = Refusal::TooSmall {
            name: Some("ci".into()),
            has: Role::Operator,
            needs: Role::Admin,
        };
        let told = small.to_string();
        assert!(
            told.starts_with(
                "the token ci may do what an operator may, and this needs the role admin"
            ),
            "{told}"
        );
    }

    #[test]
    fn each_role_may_do_what_the_smaller_ones_may_and_no_more() {
        let roles = [Role::Viewer, Role::Operator, Role::Admin];
        for has in roles {
            let (tokens, authorization) = with(has, None);
            for needs in roles {
                let passed =
                    Gate::default().pass(&tokens, &shown(&authorization), Need::Role(needs), now());
                match passed {
                    Ok(caller) => {
                        assert!(has >= needs);
                        assert_eq!(
                            (caller.name.as_deref(), caller.role),
                            (Some("ci"), Some(has))
                        );
                    }
                    Err(refusal) => {
                        assert!(has < needs && !refusal.is_unauthenticated());
                        let told = refusal.to_string();
                        assert!(told.contains("the token ci") && told.contains(needs.as_str()));
                    }
                }
            }
        }
    }

    #[test]
    fn without_a_token_nobody_passes_but_where_nothing_is_needed_or_a_role_is_opened() {
        let none = Tokens::default();
        let asked = Request {
            host: Some("10.0.0.1:8088"),
            ..Request::default()
        };
        let closed = Gate::default();
        let viewer = Need::Role(Role::Viewer);
        assert!(closed.pass(&none, &asked, Need::Nothing, now()).is_ok());
        let refusal = closed.pass(&none, &asked, viewer, now()).unwrap_err();
        assert_eq!(refusal, Refusal::NoToken(Role::Viewer));
        let open = Gate {
            anonymous: Some(Role::Viewer),
            ..Gate::default()
        };
        let caller = open.pass(&none, &asked, viewer, now()).unwrap();
        assert_eq!((caller.name, caller.role), (None, Some(Role::Viewer)));
        let operator = Need::Role(Role::Operator);
        let refusal = open.pass(&none, &asked, operator, now()).unwrap_err();
        assert_eq!(refusal, Refusal::NoToken(Role::Operator));
    }

    #[test]
    fn a_token_that_is_not_good_is_never_as_none() {
        let (tokens, good) = with(Role::Admin, Some(1_000));
        let gate = Gate {
            anonymous: Some(Role::Admin),
            ..Gate::default()
        };
        let passed = |authorization: &str| {
            gate.pass(
                &tokens,
                &shown(authorization),
                Need::Role(Role::Viewer),
                now(),
            )
        };
        assert!(matches!(passed(&good), Err(Refusal::Expired { .. })));
        assert_eq!(passed("Bearer x"), Err(Refusal::Unknown));
        assert_eq!(passed("Bearer "), Err(Refusal::Unknown));
        assert_eq!(passed("Basic YTpi"), Err(Refusal::NotBearer));
        assert_eq!(passed(""), Err(Refusal::NotBearer));
        let (tokens, good) = with(Role::Admin, Some(1_001));
        let lower = good.replace("Bearer", "bearer");
        let need = Need::Role(Role::Admin);
        assert!(gate.pass(&tokens, &shown(&lower), need, now()).is_ok());
    }

    #[test]
    fn pages_of_other_origins_may_do_nothing_without_a_token() {
        let asked = |hosts: &[&str], is_tls: bool, host: &str, origin: Option<&str>| {
            let gate = Gate {
                anonymous: Some(Role::Admin),
                hosts: hosts.iter().map(ToString::to_string).collect(),
                is_tls,
            };
            let request = Request {
                authorization: None,
                host: Some(host),
                origin,
            };
            let need = Need::Role(Role::Viewer);
            gate.pass(&Tokens::default(), &request, need, now()).is_ok()
        };
        let plain = |host: &str, origin: Option<&str>| asked(&[], false, host, origin);
        assert!(plain("127.0.0.1:8088", None));
        assert!(plain("10.1.2.3:8088", None));
        assert!(plain("localhost:8088", None));
        assert!(plain("127.0.0.1:8088", Some("http://127.0.0.1:8088")));
        assert!(plain("[::1]:8088", Some("http://[::1]:8088")));
        assert!(!plain("127.0.0.1:8088", Some("http://evil.example")));
        assert!(!plain("127.0.0.1:8088", Some("http://127.0.0.1:3000")));
        assert!(!plain("127.0.0.1:8088", Some("https://127.0.0.1:8088")));
        assert!(!plain("127.0.0.1:8088", Some("null")));
        assert!(!plain("evil.example:8088", None));
        assert!(!plain(
            "evil.example:8088",
            Some("http://evil.example:8088")
        ));
        assert!(!plain("", None));
        assert!(asked(&["mesh.example"], false, "Mesh.example:8088", None));
        assert!(!asked(
            &["mesh.example"],
            false,
            "x.mesh.example:8088",
            None
        ));
        assert!(asked(&[], true, "127.0.0.1:1", Some("https://127.0.0.1:1")));
    }
}
