//! All tokens, as the file holds them.

use policy::time::{WallTime, format_instant, parse_instant};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq as _;

use super::{
    Role,
    token::{Digest, Secret, TokenName, digest, from_hex},
};
use crate::text::hex;

/// What is kept of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Who or what has it.
    pub name: TokenName,
    /// What it may do.
    pub role: Role,
    /// Since when it is there.
    pub created_at: WallTime,
    /// From when on it is worth nothing.
    pub expires_at: Option<WallTime>,
    digest: Digest,
}

impl Token {
    /// Whether it is worth nothing any more.
    pub fn is_expired(&self, now: WallTime) -> bool {
        self.expires_at.is_some_and(|end| end <= now)
    }
}

/// All tokens, in the order in which they were made. No name comes twice.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tokens(Vec<Token>);

/// What cannot be done with tokens, or read of them.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokensError {
    /// A name that is taken.
    #[error(
        "there is a token {0} already: revoke it first (`mumbai-mesh token revoke {0}`), or choose another name"
    )]
    Taken(String),
    /// A name that nobody has.
    #[error("there is no token {0}: `mumbai-mesh token list` tells which there are")]
    None(String),
    /// Text that is none of ours.
    #[error("{0}; bring the file back from a backup, or remove it and make new tokens")]
    Unreadable(String),
}

impl Tokens {
    /// All.
    pub fn iter(&self) -> std::slice::Iter<'_, Token> {
        self.0.iter()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The token that somebody shows, expired or not. How long that takes says nothing of which it is, or
    /// of how near one it comes.
    pub fn find(&self, shown: &[u8]) -> Option<&Token> {
        let shown = digest(shown);
        let mut found = None;
        for token in &self.0 {
            if bool::from(token.digest.ct_eq(&shown)) {
                found = Some(token);
            }
        }
        found
    }

    /// With one more.
    ///
    /// # Errors
    /// When its name is taken by one that is not expired.
    pub fn add(
        &mut self,
        name: TokenName,
        role: Role,
        secret: &Secret,
        now: WallTime,
        expires_at: Option<WallTime>,
    ) -> Result<(), TokensError> {
        self.0
            .retain(|token| token.name != name || !token.is_expired(now));
        if self.0.iter().any(|token| token.name == name) {
            return Err(TokensError::Taken(name.to_string()));
        }
        self.0.push(Token {
            name,
            role,
            created_at: now,
            expires_at,
            digest: secret.digest(),
        });
        Ok(())
    }

    /// Without one.
    ///
    /// # Errors
    /// When there is none of this name.
    pub fn revoke(&mut self, name: &TokenName) -> Result<(), TokensError> {
        let before = self.0.len();
        self.0.retain(|token| token.name != *name);
        if self.0.len() == before {
            return Err(TokensError::None(name.to_string()));
        }
        Ok(())
    }

    /// As the file holds them.
    pub fn to_text(&self) -> String {
        let kept = |token: &Token| Kept {
            name: token.name.to_string(),
            role: token.role,
            sha256: hex(&token.digest),
            created_at: format_instant(token.created_at),
            expires_at: token.expires_at.map(format_instant),
        };
        let file = File {
            tokens: self.0.iter().map(kept).collect(),
        };
        // Texts and numbers alone: it cannot fail.
        let mut text = serde_json::to_string_pretty(&file).unwrap_or_default();
        text.push('\n');
        text
    }

    /// Reads [`to_text`](Self::to_text).
    ///
    /// # Errors
    /// What is wrong; nothing counts then.
    pub fn from_text(text: &str) -> Result<Self, TokensError> {
        let unreadable = |why: String| TokensError::Unreadable(why);
        let file: File =
            serde_json::from_str(text).map_err(|error| unreadable(error.to_string()))?;
        let mut tokens = Self::default();
        for (number, kept) in file.tokens.into_iter().enumerate() {
            let wrong =
                |field: &str, why: String| unreadable(format!("tokens[{number}].{field}: {why}"));
            let instant = |field: &str, text: &str| {
                parse_instant(text).map_err(|error| wrong(field, error.to_string()))
            };
            let name = TokenName::new(&kept.name).map_err(|why| wrong("name", why))?;
            if tokens.0.iter().any(|token| token.name == name) {
                return Err(wrong("name", format!("{name} stands here twice")));
            }
            let digest = from_hex(&kept.sha256)
                .ok_or_else(|| wrong("sha256", "must be 64 hexadecimal digits".into()))?;
            let expires_at = kept.expires_at.as_deref();
            tokens.0.push(Token {
                name,
                role: kept.role,
                created_at: instant("created_at", &kept.created_at)?,
                expires_at: expires_at.map(|at| instant("expires_at", at)).transpose()?,
                digest,
            });
        }
        Ok(tokens)
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    tokens: Vec<Kept>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    name: String,
    role: Role,
    sha256: String,
    created_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> WallTime {
        WallTime::from_unix_seconds(seconds)
    }

    fn name(text: &str) -> TokenName {
        TokenName::new(text).unwrap()
    }

    #[test]
    fn a_token_is_found_by_its_secret_alone_and_its_secret_is_not_kept() {
        let [ci, asha] = [(); 2].map(|()| Secret::generate().unwrap());
        let mut tokens = Tokens::default();
        tokens
            .add(name("ci"), Role::Operator, &ci, at(0), None)
            .unwrap();
        tokens
            .add(name("asha"), Role::Admin, &asha, at(0), Some(at(10)))
            .unwrap();
        let found = tokens.find(ci.text().as_bytes()).unwrap();
        assert_eq!((found.name.as_str(), found.role), ("ci", Role::Operator));
        assert_eq!(tokens.find(b"mmt_"), None);
        assert_eq!(tokens.find(&ci.text().as_bytes()[1..]), None);
        let text = tokens.to_text();
        assert!(!text.contains(ci.text()) && !text.contains(asha.text()));
        assert_eq!(Tokens::from_text(&text).unwrap(), tokens);
        let asha = tokens.find(asha.text().as_bytes()).unwrap();
        assert!(!asha.is_expired(at(9)) && asha.is_expired(at(10)));
    }

    #[test]
    fn a_name_is_taken_until_it_is_revoked_or_its_token_has_expired() {
        let secret = Secret::generate().unwrap();
        let mut tokens = Tokens::default();
        let add = |tokens: &mut Tokens, now, end| {
            tokens.add(name("ci"), Role::Viewer, &secret, at(now), end)
        };
        add(&mut tokens, 0, Some(at(10))).unwrap();
        assert!(matches!(
            add(&mut tokens, 9, None),
            Err(TokensError::Taken(_))
        ));
        add(&mut tokens, 10, None).unwrap();
        assert_eq!(tokens.iter().count(), 1);
        tokens.revoke(&name("ci")).unwrap();
        assert!(tokens.is_empty());
        assert!(matches!(
            tokens.revoke(&name("ci")),
            Err(TokensError::None(_))
        ));
    }

    #[test]
    fn a_file_that_says_something_else_is_refused_with_the_field() {
        let secret = Secret::generate().unwrap();
        let mut tokens = Tokens::default();
        tokens
            .add(name("ci"), Role::Viewer, &secret, at(0), None)
            .unwrap();
        let good = tokens.to_text();
        for (from, to, field) in [
            ("\"viewer\"", "\"root\"", "root"),
            ("\"ci\"", "\"c i\"", "tokens[0].name"),
            ("\"sha256\": \"", "\"sha256\": \"0", "tokens[0].sha256"),
            ("1970-01-01T00:00:00Z", "yesterday", "tokens[0].created_at"),
            ("\"name\"", "\"nome\"", "nome"),
        ] {
            let error = Tokens::from_text(&good.replace(from, to)).unwrap_err();
            assert!(error.to_string().contains(field), "{field}: {error}");
        }
    }
}
