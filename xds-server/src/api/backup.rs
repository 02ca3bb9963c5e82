//! `POST /api/v1/backup`: all that this server keeps, sealed with the key that it is given.

use axum::{
    extract::State as Extract,
    http::{StatusCode, header},
    response::IntoResponse,
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use schemars::JsonSchema;
use serde::Deserialize;
use tracing::warn;
use zeroize::Zeroizing;

use super::{
    State,
    answer::{Answer, Media},
    asked::Content,
    guard::Wrote,
    problem, unkept,
};
use crate::{
    archive::Archive,
    clock,
    seal::{self, Purpose},
    store::StoreError,
};

pub(super) const BODY_BYTES_MAX: usize = 4096;
/// Of the key.
const KEY_BYTES: usize = 32;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "BackupKey")]
pub(super) struct Asked {
    /// 32 bytes in base64.
    #[schemars(with = "String")]
    key: Zeroizing<String>,
}

/// A sealed backup.
pub(super) struct Sealed;

impl Media for Sealed {
    const TYPE: &'static str = "application/octet-stream";
    const SAYS: &'static str = "What `mumbai-mesh restore` takes.";
}

enum Failed {
    Store(StoreError),
    Other(String),
}

pub(super) async fn backup(
    Extract(state): Extract<State>,
    Content(body, _): Content<Asked>,
) -> Answer<Sealed> {
    let key = match key(&body) {
        Ok(key) => key,
        Err(wrong) => return problem(StatusCode::BAD_REQUEST, &wrong).into(),
    };
    match tokio::task::spawn_blocking(move || sealed(&state, &key)).await {
        Ok(Ok(sealed)) => {
            let kind = [(header::CONTENT_TYPE, Sealed::TYPE)];
            let wrote = Wrote::done("a backup was given out");
            Answer::made((kind, sealed).into_response()).with(wrote)
        }
        Ok(Err(Failed::Store(error))) => unkept(&error).into(),
        Ok(Err(Failed::Other(why))) => problem(StatusCode::INTERNAL_SERVER_ERROR, &why).into(),
        Err(error) => problem(StatusCode::INTERNAL_SERVER_ERROR, &error).into(),
    }
}

fn key(body: &[u8]) -> Result<Zeroizing<Vec<u8>>, String> {
    let asked: Asked = serde_json::from_slice(body)
        .map_err(|error| format!("must be {{\"key\": \"32 bytes in base64\"}}: {error}"))?;
    let key = BASE64_STANDARD
        .decode(asked.key.as_bytes())
        .map(Zeroizing::new);
    let key = key.map_err(|error| format!("key: is no base64: {error}"))?;
    match key.len() {
        KEY_BYTES => Ok(key),
        other => Err(format!("key: must have {KEY_BYTES} bytes, and has {other}")),
    }
}

fn sealed(state: &State, key: &[u8]) -> Result<Vec<u8>, Failed> {
    let other = |error: &dyn ToString| Failed::Other(error.to_string());
    let (archive, lost) = Archive::of(&*state.store, clock::now()).map_err(Failed::Store)?;
    for one in &lost {
        warn!(
            log = one.log.name(),
            revision = one.revision,
            why = one.why,
            "not in the backup"
        );
    }
    let authority = state.authority.open_text().map_err(|error| other(&error))?;
    let tokens = state.tokens.text().map_err(|error| other(&error))?;
    let text = archive.with(authority, tokens).to_text();
    seal::seal(Purpose::Backup, key, text.as_bytes()).map_err(|error| other(&error))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_key_has_32_bytes_in_base64() {
        let good = json!({"key": BASE64_STANDARD.encode([7; 32])}).to_string();
        assert_eq!(key(good.as_bytes()).unwrap().len(), 32);
        for (bad, word) in [
            ("", "must be"),
            (r#"{"key": "AAAA"}"#, "and has 3"),
            (r#"{"key": "?"}"#, "no base64"),
            (r#"{"kye": "AAAA"}"#, "unknown field"),
        ] {
            let said = key(bad.as_bytes()).unwrap_err();
            assert!(said.contains(word), "{bad}: {said}");
        }
    }
}
