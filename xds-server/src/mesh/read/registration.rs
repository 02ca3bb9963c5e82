//! What an instance says of itself when it registers: the fields of an endpoint of the file, its service, and for
//! how long it may be silent.

use std::time::Duration;

use policy::{
    reader::{ObjectReader, Problem, Problems, Reader},
    units::ServiceName,
};
use serde_json::Value;

use super::{
    fields::{duration, text},
    services::endpoint_of,
};
use crate::mesh::model::{Endpoint, Host, Standing};

/// An instance as it registers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    /// Of which service it is one.
    pub service: ServiceName,
    /// What callers are to know.
    pub endpoint: Endpoint,
    /// Without a heartbeat for so long, it is taken for gone.
    pub ttl: Duration,
}

impl Registration {
    /// Where it says no other.
    pub const TTL: Duration = Duration::from_secs(30);
    /// The shortest: a heartbeat every third of a second.
    pub const TTL_MIN: Duration = Duration::from_secs(1);
    /// The longest.
    pub const TTL_MAX: Duration = Duration::from_secs(3_600);

    /// Reads one. `named` is the service and the id that it was called by, where it was: the fields may be left
    /// out then, and must say the same.
    ///
    /// # Errors
    /// Every problem found.
    pub fn read(value: &Value, named: Option<(&str, &str)>) -> Result<Self, Vec<Problem>> {
        let problems = Problems::new();
        let read = read(&Reader::root(value, &problems), named);
        let problems = problems.into_vec();
        match read {
            Some(read) if problems.is_empty() => Ok(read),
            _ => Err(problems),
        }
    }
}

fn read(reader: &Reader<'_>, named: Option<(&str, &str)>) -> Option<Registration> {
    let mut object = reader.object()?;
    let service = service(&mut object, named.map(|(service, _)| service));
    let says_id = object.optional("id").is_some();
    let endpoint = endpoint_of(&mut object);
    let range = Registration::TTL_MIN..=Registration::TTL_MAX;
    let ttl = duration(&mut object, "ttl", range);
    if let Some(endpoint) = &endpoint {
        can_be_called(&object, &endpoint.host);
    }
    let mut endpoint = endpoint;
    if let (Some((_, id)), Some(endpoint)) = (named, &mut endpoint) {
        if says_id && endpoint.id != id {
            object.problem("id", differs(&endpoint.id, id), None);
        }
        if ServiceName::new(id).is_err() && id != format!("{}:{}", endpoint.host, endpoint.port) {
            object.problem(
                "id",
                format!("must be 1 to 63 of [A-Za-z0-9._-], or HOST:PORT as the instance says them, not {id:?}"),
                None,
            );
        }
        endpoint.id = id.into();
    }
    object.finish();
    Some(Registration {
        service: service?,
        endpoint: Endpoint {
            standing: Standing::Registered,
            ..endpoint?
        },
        ttl: ttl.unwrap_or(Registration::TTL),
    })
}

fn service(object: &mut ObjectReader<'_>, named: Option<&str>) -> Option<ServiceName> {
    let Some(named) = named else {
        return object.required("service")?.parsed(ServiceName::new);
    };
    let said = text(object, "service", ServiceName::new);
    if let Some(said) = said.filter(|said| said.as_str() != named) {
        object.problem("service", differs(said.as_str(), named), None);
    }
    match ServiceName::new(named) {
        Ok(service) => Some(service),
        Err(error) => {
            object.problem("service", error.to_string(), None);
            None
        }
    }
}

fn differs(said: &str, named: &str) -> String {
    format!("is {said:?}, but the path says {named:?}")
}

/// An application listens on 0.0.0.0; nobody can connect there.
fn can_be_called(object: &ObjectReader<'_>, host: &Host) {
    if let Host::Address(address) = host
        && (address.is_unspecified() || address.is_multicast())
    {
        object.problem(
            "host",
            format!("{address} is no address to which callers can connect"),
            Some("give the instance's own address, as callers reach it".into()),
        );
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told(value: &Value, named: Option<(&str, &str)>) -> Vec<String> {
        let problems = Registration::read(value, named).unwrap_err();
        problems.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn an_instance_says_what_an_endpoint_of_the_file_may_say() {
        let value = json!({
            "service": "orders", "host": "10.0.0.1", "port": 8080, "weight": 7, "region": "mumbai", "az": "west",
            "version": "v1", "ttl": "2s",
        });
        let read = Registration::read(&value, None).unwrap();
        assert_eq!(
            (read.service.as_str(), read.ttl),
            ("orders", Duration::from_secs(2))
        );
        assert_eq!(
            (&*read.endpoint.id, read.endpoint.weight),
            ("10.0.0.1:8080", 7)
        );
        let zone = read.endpoint.zone.map(|zone| zone.to_string());
        assert_eq!(zone.as_deref(), Some("mumbai-west"));
        let least = json!({"host": "10.0.0.1", "port": 1});
        let read = Registration::read(&least, Some(("orders", "order-1"))).unwrap();
        assert_eq!(
            (&*read.endpoint.id, read.ttl),
            ("order-1", Registration::TTL)
        );
    }

    #[test]
    fn all_that_is_wrong_is_told_at_once() {
        let wrong = json!({
            "service": "payments", "id": "other", "host": "0.0.0.0", "port": 0, "ttl": "1ms", "wieght": 1,
        });
        let told = told(&wrong, Some(("orders", "order-1")));
        for field in ["service: ", "port: ", "ttl: ", "wieght: "] {
            let is_told = told.iter().any(|problem| problem.starts_with(field));
            assert!(is_told, "{field} {told:?}");
        }
        assert!(told.iter().any(|one| one.contains("from 1s to 1h")));
        assert!(told.iter().any(|one| one.contains("did you mean")));
    }

    #[test]
    fn nobody_can_connect_to_all_addresses_of_a_machine() {
        let wrong = json!({"service": "orders", "host": "0.0.0.0", "port": 80});
        assert!(told(&wrong, None)[0].contains("as callers reach it"));
        let nameless = json!({"host": "10.0.0.1", "port": 80});
        assert!(told(&nameless, None)[0].starts_with("service: "));
        assert!(!told(&json!([]), None).is_empty());
    }
}
