//! The world that a question imagines.

use std::{borrow::Cow, collections::BTreeMap, time::Duration};

use http::{HeaderName, HeaderValue, Method};
use policy::{
    breaker::{Admission, BreakerRules, BreakerState, Cell, RefusalReason},
    decision::{CellId, Environment, Headers, LimitId},
    limit::{Rate, TokenBucket},
    time::MonoTime,
    traffic_class,
};

use super::{Question, QuestionError, matching::AUTHORITY};
use crate::mesh::{Entrance, Fate};

/// Headers from `name:value` texts.
pub(super) struct GivenHeaders(BTreeMap<String, Vec<u8>>);

impl GivenHeaders {
    /// A question's headers, with its path and method under their pseudo names.
    pub(super) fn read(question: &Question) -> Result<Self, QuestionError> {
        let mut headers: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        let pseudo = [
            (traffic_class::PATH, question.path.as_deref().unwrap_or("/")),
            (
                traffic_class::METHOD,
                question.method.as_deref().unwrap_or("GET"),
            ),
        ];
        for (name, value) in pseudo {
            headers.insert(name.into(), value.into());
        }
        check_first_line(pseudo[0].1, pseudo[1].1)?;
        for text in &question.headers {
            let Some((name, value)) = text.split_once(':').filter(|(name, _)| !name.is_empty())
            else {
                return Err(QuestionError(format!(
                    "header: {text:?} must be name:value, such as x-user-id:42"
                )));
            };
            check_header(text, name.trim(), value.trim())?;
            let values = headers.entry(name.trim().to_ascii_lowercase()).or_default();
            if !values.is_empty() {
                // As Envoy shows several headers of one name.
                values.push(b',');
            }
            values.extend_from_slice(value.trim().as_bytes());
        }
        Ok(Self(headers))
    }

    /// Puts a header in place of those of its name.
    pub(super) fn put(&mut self, name: &str, value: &str) {
        self.0.insert(name.into(), value.into());
    }

    /// Takes a header away.
    pub(super) fn remove(&mut self, name: &str) {
        self.0.remove(name);
    }

    /// As they are behind an entrance; who stands there is said of each header that was given and is not
    /// as it was.
    pub(super) fn enter(&mut self, entrance: Entrance, who: &str, reasons: &mut Vec<String>) {
        let given: Vec<String> = self.0.keys().cloned().collect();
        let upgrades = self.0.contains_key("upgrade");
        for name in given {
            let Some(fate) = entrance.fate(&name) else {
                continue;
            };
            let was = self.0.remove(&name);
            if let (Fate::Renamed, Some(was)) = (fate, &was) {
                self.0.insert(AUTHORITY.into(), was.clone());
                continue;
            }
            let is_same = match fate {
                // Only a client that waits to be told to go on is answered by Envoy.
                Fate::Removed if name == "expect" => was
                    .as_ref()
                    .is_some_and(|value| !value.eq_ignore_ascii_case(b"100-continue")),
                Fate::Removed => name == "connection" && upgrades,
                Fate::Replaced(value) => was.as_deref() == Some(value.as_bytes()),
                _ => false,
            };
            match was {
                Some(was) if is_same => {
                    self.0.insert(name, was);
                }
                _ => reasons.push(format!(
                    "{name} does not arrive as the client sent it: {who} {} before anything reads it",
                    fate.words()
                )),
            }
        }
        if let Some((name, value)) = entrance.added() {
            self.put(name, value);
        }
    }

    /// A header as text; empty when it is not there.
    pub(super) fn text(&self, name: &str) -> String {
        let value = self.0.get(name).map(|value| String::from_utf8_lossy(value));
        value.unwrap_or_default().into_owned()
    }

    /// Changes the text of a header that is there.
    pub(super) fn set(&mut self, name: &str, change: impl FnOnce(String) -> String) {
        if let Some(value) = self.0.get_mut(name) {
            *value = change(String::from_utf8_lossy(value).into_owned()).into_bytes();
        }
    }
}

/// What no client can send is answered by no proxy.
fn check_first_line(path: &str, method: &str) -> Result<(), QuestionError> {
    let is_sent = |byte: u8| byte.is_ascii_graphic() && byte != b'#';
    if !path.starts_with('/') || !path.bytes().all(is_sent) {
        return Err(QuestionError(format!(
            "path: {path:?} must begin with / and hold printable ASCII without spaces and #, as clients send it, such as \
             /orders/7?full=1"
        )));
    }
    if method.parse::<Method>().is_err() {
        return Err(QuestionError(format!(
            "method: {method:?} is no method, such as GET or POST"
        )));
    }
    Ok(())
}

fn check_header(text: &str, name: &str, value: &str) -> Result<(), QuestionError> {
    if name.parse::<HeaderName>().is_err() || HeaderValue::from_bytes(value.as_bytes()).is_err() {
        return Err(QuestionError(format!(
            "header: {text:?} is none that a client could send: a name holds letters, digits and -_., a value no line breaks"
        )));
    }
    Ok(())
}

impl Headers for GivenHeaders {
    fn get(&self, name: &str) -> Option<Cow<'_, [u8]>> {
        self.0
            .get(name)
            .map(|value| Cow::Borrowed(value.as_slice()))
    }
}

/// As Envoy's routes see them: a host is found by its old name too.
pub(super) struct ForRoutes<'h>(pub(super) &'h GivenHeaders);

impl Headers for ForRoutes<'_> {
    fn get(&self, name: &str) -> Option<Cow<'_, [u8]>> {
        self.0.get(route_name(name))
    }
}

/// The name under which a route finds a header.
pub(super) fn route_name(name: &str) -> &str {
    match name {
        "host" => AUTHORITY,
        name => name,
    }
}

/// A draw that never hits a canary below 100 %, limits that are not used up, and breakers: as somebody says
/// that they are, or as if nothing had failed yet.
#[derive(Default)]
pub(super) struct Imagined<'a> {
    pub(super) breakers: Option<&'a [Said]>,
}

/// What is known of a breaker's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Said {
    /// This one's.
    Is(BreakerState),
    /// That of the worst class of its service and version, of which there are several.
    OneOfThemIs(BreakerState),
    /// Nothing.
    Nothing,
}

impl Imagined<'_> {
    /// What is said of a breaker; none where breakers are taken as closed.
    pub(super) fn said(&self, cell: CellId) -> Option<Said> {
        let said = self.breakers?.get(usize::try_from(cell.0).ok()?);
        Some(said.copied().unwrap_or(Said::Nothing))
    }
}

impl Environment for Imagined<'_> {
    fn random(&mut self) -> u64 {
        9_999
    }

    fn admit(&mut self, cell: CellId, rules: &BreakerRules) -> Admission {
        if self.said(cell) == Some(Said::Is(BreakerState::Open)) {
            let latches = rules.latch.is_some_and(|latch| latch.engages);
            return Admission::Refused {
                reason: match latches {
                    true => RefusalReason::Latched,
                    false => RefusalReason::BreakerOpen,
                },
                retry_after: rules.open_for,
            };
        }
        Cell::closed(rules)
            .admit(rules, MonoTime::from_nanos(0))
            .value
    }

    fn take(&mut self, _limit: LimitId, rate: Rate) -> Result<(), Duration> {
        TokenBucket::default().take(rate, MonoTime::from_nanos(0))
    }

    fn give_back(&mut self, _limit: LimitId, _rate: Rate) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::ClientOptions;

    #[test]
    fn a_header_is_a_name_a_colon_and_a_value() {
        let read = |headers: &[&str]| {
            GivenHeaders::read(&Question {
                headers: headers.iter().map(ToString::to_string).collect(),
                ..Question::default()
            })
        };
        let headers = read(&["X-User-Id: 42", "a:b", "a: c", "url: http://x"]).unwrap();
        let value = |name: &str| headers.get(name).map(Cow::into_owned);
        assert_eq!(value("x-user-id"), Some(b"42".to_vec()));
        assert_eq!(value("a"), Some(b"b,c".to_vec()));
        assert_eq!(value("url"), Some(b"http://x".to_vec()));
        assert!(read(&["nothing"]).is_err());
        assert!(read(&[": x"]).is_err());
    }

    #[test]
    fn what_an_entrance_changes_is_gone_and_said() {
        let given = [
            "user_id:7",
            "Host:x.in",
            "x-request-id:1",
            "x-user-id:42",
            "expect:nothing",
            "x-forwarded-proto:https",
        ];
        let entered = |entrance: Entrance| {
            let question = Question {
                headers: given.iter().map(ToString::to_string).collect(),
                ..Question::default()
            };
            let (mut headers, mut reasons) = (GivenHeaders::read(&question).unwrap(), Vec::new());
            headers.enter(entrance, "it", &mut reasons);
            (headers, reasons)
        };
        let (headers, reasons) = entered(Entrance::of_gateway(ClientOptions::default()));
        assert_eq!(reasons.len(), 3, "{reasons:#?}");
        assert_eq!(
            reasons[0],
            "user_id does not arrive as the client sent it: it takes it away before anything reads it"
        );
        let text = |name: &str| headers.text(name);
        assert_eq!(
            [text("user_id"), text("host"), text("x-request-id")],
            ["", "", ""]
        );
        assert_eq!([text("x-user-id"), text("expect")], ["42", "nothing"]);
        assert_eq!(
            [text(AUTHORITY), text("x-forwarded-proto")],
            ["x.in", "http"]
        );
        assert_eq!(ForRoutes(&headers).get("host").unwrap().as_ref(), b"x.in");
        let (headers, reasons) = entered(Entrance::SIDECAR);
        assert_eq!((reasons, headers.text("user_id")), (Vec::new(), "7".into()));
    }

    #[test]
    fn what_no_client_can_send_is_refused() {
        let told = |path: Option<&str>, method: Option<&str>, header: Option<&str>| {
            let question = Question {
                path: path.map(String::from),
                method: method.map(String::from),
                headers: header.into_iter().map(String::from).collect(),
                ..Question::default()
            };
            GivenHeaders::read(&question).err().map(|error| error.0)
        };
        for path in ["orders/7", "orders", "/a b", "/a\r\nx: y", "/a#b", "/नम"] {
            let said = told(Some(path), None, None).unwrap();
            assert!(said.starts_with("path: "), "{said}");
        }
        for method in ["GE T", "", "G\r\n"] {
            let said = told(None, Some(method), None).unwrap();
            assert!(said.starts_with("method: "), "{said}");
        }
        for header in ["x-a: b\r\nc: d", "x a: b", "x\u{e9}: b"] {
            let said = told(None, None, Some(header)).unwrap();
            assert!(said.starts_with("header: "), "{said}");
        }
        let good = told(Some("/a/%20?b=c"), Some("PROPFIND"), Some("x: नमस्ते"));
        assert_eq!(good, None);
    }
}
