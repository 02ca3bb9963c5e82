//! What callers ask, and what they tell.

use std::{borrow::Cow, collections::BTreeMap, time::Duration};

use policy::{
    decision::Headers,
    outcome::ResponseFacts,
    reader::{ObjectReader, Problem, Problems, Reader},
    time::parse_duration,
    traffic_class,
    units::{ClassName, HeaderName, ServiceName, VersionLabel, ZoneName},
};
use serde_json::Value;

use super::cells::WrittenTicket;

/// A call that somebody is about to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Whom they call.
    pub service: ServiceName,
    /// Where they stand.
    pub zone: Option<ZoneName>,
    pub(super) headers: CallHeaders,
}

/// A call's headers in lower case, with its path and method under their pseudo names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CallHeaders(BTreeMap<String, Vec<u8>>);

impl Headers for CallHeaders {
    fn get(&self, name: &str) -> Option<Cow<'_, [u8]>> {
        let value = self.0.get(name)?;
        Some(Cow::Borrowed(value.as_slice()))
    }
}

/// How a call ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    pub(super) of: Of,
    pub(super) facts: ResponseFacts,
    pub(super) time: Option<Duration>,
}

/// Of which call.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Of {
    /// One for which an instance was selected.
    Ticket(WrittenTicket),
    /// One of which nobody was asked.
    Service {
        service: ServiceName,
        version: Option<VersionLabel>,
        class: Option<ClassName>,
    },
}

impl Wanted {
    /// Reads `{"service": "order-service", "zone": …, "path": …, "method": …, "headers": {…}}`.
    ///
    /// # Errors
    /// Every problem found.
    pub fn read(value: &Value) -> Result<Self, Vec<Problem>> {
        all_or_problems(value, |root| {
            let mut object = root.object()?;
            let service = object.required("service");
            let service = service.and_then(|service| service.parsed(ServiceName::new));
            let zone = object.optional("zone");
            let zone = zone.and_then(|zone| zone.parsed(ZoneName::new));
            let headers = headers(&mut object);
            object.finish();
            Some(Self {
                service: service?,
                zone,
                headers,
            })
        })
    }
}

impl Report {
    /// Reports of one call.
    pub const TOGETHER_MAX: usize = 1_000;

    /// Reads one report, or `{"results": […]}`.
    ///
    /// # Errors
    /// Every problem found.
    pub fn read_all(value: &Value) -> Result<Vec<Self>, Vec<Problem>> {
        all_or_problems(value, |root| {
            if value.get("results").is_none() {
                return Some(vec![report(root)?]);
            }
            let mut object = root.object()?;
            let list = object.required("results")?;
            object.finish();
            let all = list.array();
            if all.is_empty() || all.len() > Self::TOGETHER_MAX {
                let (most, count) = (Self::TOGETHER_MAX, all.len());
                list.problem(format!("must be 1 to {most} results, not {count}"), None);
                return None;
            }
            all.iter().map(report).collect()
        })
    }
}

fn all_or_problems<T>(
    value: &Value,
    read: impl FnOnce(&Reader<'_>) -> Option<T>,
) -> Result<T, Vec<Problem>> {
    let problems = Problems::new();
    let read = read(&Reader::root(value, &problems));
    let problems = problems.into_vec();
    match read {
        Some(read) if problems.is_empty() => Ok(read),
        _ => Err(problems),
    }
}

fn headers(object: &mut ObjectReader<'_>) -> CallHeaders {
    let text = |reader: Option<Reader<'_>>, absent: &str| {
        let said = reader.and_then(|reader| reader.string());
        said.unwrap_or(absent).as_bytes().to_vec()
    };
    let mut headers = BTreeMap::from([
        (
            traffic_class::PATH.into(),
            text(object.optional("path"), "/"),
        ),
        (
            traffic_class::METHOD.into(),
            text(object.optional("method"), "GET"),
        ),
    ]);
    let said = object.optional("headers");
    for (name, value) in said.map_or_else(Vec::new, |said| said.entries()) {
        match HeaderName::new(&name.to_ascii_lowercase()) {
            Ok(name) => {
                if let Some(text) = value.string() {
                    headers.insert(name.as_str().into(), text.into());
                }
            }
            Err(error) => value.problem(format!("name: {error}"), None),
        }
    }
    CallHeaders(headers)
}

fn report(reader: &Reader<'_>) -> Option<Report> {
    let mut object = reader.object()?;
    let of = of(&mut object);
    let facts = facts(&mut object);
    let time = object.optional("time");
    let time = time.and_then(|time| time.parsed(parse_duration));
    object.finish();
    Some(Report {
        of: of?,
        facts: facts?,
        time,
    })
}

fn of(object: &mut ObjectReader<'_>) -> Option<Of> {
    let ticket = object.optional("ticket");
    let service = object.optional("service");
    let version = object.optional("version");
    let class = object.optional("class");
    match (ticket, service) {
        (Some(ticket), None) if version.is_none() && class.is_none() => {
            Some(Of::Ticket(ticket.parsed(WrittenTicket::parse)?))
        }
        (None, Some(service)) => {
            let version = version.map(|version| version.parsed(VersionLabel::new));
            let class = class.map(|class| class.parsed(ClassName::new));
            Some(Of::Service {
                service: service.parsed(ServiceName::new)?,
                // What was given and could not be read is told already.
                version: version.flatten(),
                class: class.flatten(),
            })
        }
        _ => {
            let said =
                "give the ticket that select gave, or service (and version, class) without one";
            object.problem("ticket", said, None);
            None
        }
    }
}

/// What is known of the end, as an Envoy would know it.
fn facts(object: &mut ObjectReader<'_>) -> Option<ResponseFacts> {
    let status = object.optional("status");
    let grpc_status = object.optional("grpc_status");
    let error = object.optional("error");
    let grpc_status = grpc_status.and_then(|status| status.integer(0..=16));
    match (status, error) {
        (Some(status), None) => Some(ResponseFacts {
            status: u16::try_from(status.integer(100..=599)?).ok(),
            grpc_status: grpc_status.and_then(|status| u32::try_from(status).ok()),
            flags: 0,
        }),
        (None, Some(error)) => {
            let status = match error.string()? {
                "timeout" => Some(504),
                "connection" => Some(503),
                "cancelled" => None,
                other => {
                    error.problem(
                        format!("must be timeout, connection or cancelled, not {other:?}"),
                        Some("connection: none was had, or it broke before the whole answer had come; cancelled: the caller gave up first".into()),
                    );
                    return None;
                }
            };
            Some(ResponseFacts {
                status,
                ..ResponseFacts::default()
            })
        }
        _ => {
            let said = "give status (100 to 599), or error where no answer came";
            object.problem("status", said, None);
            None
        }
    }
}
