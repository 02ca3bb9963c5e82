//! Where an etcd is: `etcd://[USER@]HOST[:PORT][,HOST[:PORT]…][/PREFIX]`.

use std::fmt;

const PORT: u16 = 2379;
const PREFIX: &str = "mumbai-mesh";

/// What `--store` names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// At least one.
    pub members: Vec<Member>,
    /// Who we are to it, where it asks.
    pub user: Option<String>,
    /// What all keys begin with: `/PREFIX/`.
    pub prefix: String,
}

/// One of its servers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// A name, or an address without brackets.
    pub host: String,
    /// Where clients are served.
    pub port: u16,
}

/// Why an address is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}; expected etcd://[USER@]HOST[:PORT][,HOST[:PORT]…][/PREFIX]")]
pub struct AddressError(String);

impl Address {
    /// Whether nobody else's network lies between.
    pub fn is_loopback(&self) -> bool {
        self.members.iter().all(|member| {
            let address = member.host.parse::<std::net::IpAddr>();
            member.host == "localhost" || address.is_ok_and(|address| address.is_loopback())
        })
    }
}

impl fmt::Display for Member {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(formatter, "[{}]:{}", self.host, self.port)
        } else {
            write!(formatter, "{}:{}", self.host, self.port)
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let members: Vec<String> = self.members.iter().map(ToString::to_string).collect();
        write!(
            formatter,
            "etcd://{}{}",
            members.join(","),
            self.prefix.trim_end_matches('/')
        )
    }
}

impl std::str::FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let wrong = |what: String| Err(AddressError(what));
        let Some(rest) = text.strip_prefix("etcd://") else {
            return wrong(format!("{text:?} does not begin with etcd://"));
        };
        let (authority, prefix) = rest.split_once('/').unwrap_or((rest, PREFIX));
        let (user, hosts) = match authority.rsplit_once('@') {
            Some((user, _)) if user.contains(':') => {
                return wrong("a password in an address shows in every list of processes: use --store-password-file".into());
            }
            Some(("", _)) => return wrong("no user before @".into()),
            Some((user, hosts)) => (Some(user.to_string()), hosts),
            None => (None, authority),
        };
        let prefix = prefix.trim_matches('/');
        if prefix.is_empty() || prefix.chars().any(char::is_control) {
            return wrong(format!("{prefix:?} is no prefix of keys"));
        }
        let members = hosts.split(',').map(member).collect::<Result<_, _>>()?;
        Ok(Self {
            members,
            user,
            prefix: format!("/{prefix}/"),
        })
    }
}

fn member(text: &str) -> Result<Member, AddressError> {
    let (host, port) = match text.rsplit_once(':') {
        // An address in brackets has colons of its own.
        Some((host, port)) if !port.ends_with(']') => {
            let number = port.parse().ok().filter(|port| *port != 0);
            let why = || AddressError(format!("{port:?} is no port from 1 to 65535"));
            (host, number.ok_or_else(why)?)
        }
        _ => (text, PORT),
    };
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let host = bare.unwrap_or(host);
    if host.is_empty() || (bare.is_none() && host.contains(':')) {
        return Err(AddressError(format!("{text:?} names no host")));
    }
    Ok(Member {
        host: host.into(),
        port,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Address, String> {
        text.parse()
            .map_err(|error: AddressError| error.to_string())
    }

    #[test]
    fn an_address_is_read_with_its_defaults_and_said_again_without_its_user() {
        let one = read("etcd://etcd-0").unwrap();
        assert_eq!((&*one.prefix, one.user.as_deref()), ("/mumbai-mesh/", None));
        assert_eq!(one.to_string(), "etcd://etcd-0:2379/mumbai-mesh");
        let all = read("etcd://mesh@10.0.0.1:1,[::1]:2,[::2]/teams/a/").unwrap();
        assert_eq!(
            (&*all.prefix, all.user.as_deref()),
            ("/teams/a/", Some("mesh"))
        );
        assert_eq!(
            all.to_string(),
            "etcd://10.0.0.1:1,[::1]:2,[::2]:2379/teams/a"
        );
    }

    #[test]
    fn what_is_no_address_is_told_with_what_is_wrong() {
        for (text, words) in [
            ("http://a", "does not begin with etcd://"),
            ("etcd://", "names no host"),
            ("etcd://a,,b", "names no host"),
            ("etcd://a:0", "no port"),
            ("etcd://a:70000", "no port"),
            ("etcd://::1", "names no host"),
            ("etcd://root:secret@a", "--store-password-file"),
            ("etcd://@a", "no user"),
            ("etcd://a/", "no prefix"),
        ] {
            let told = read(text).unwrap_err();
            assert!(
                told.contains(words) && !told.contains("secret"),
                "{text}: {told}"
            );
        }
    }
}
