//! Whether one match takes every request that another one takes.

use policy::traffic_class::{PathMatch, RequestMatch};

/// Whether every request that `narrow` matches is matched by `wide` too. `false` where it is not sure.
pub(super) fn covers(wide: &RequestMatch, narrow: &RequestMatch) -> bool {
    let method = wide.method.is_none() || wide.method == narrow.method;
    let grpc = wide.grpc_service.is_none() || wide.grpc_service == narrow.grpc_service;
    let mut headers = wide.headers.iter();
    path_covers(wide.path.as_ref(), narrow)
        && method
        && grpc
        && headers.all(|header| narrow.headers.contains(header))
}

fn path_covers(wide: Option<&PathMatch>, narrow: &RequestMatch) -> bool {
    let below = |prefix: &PathMatch, path: &str| prefix.matches(path.as_bytes());
    match (wide, &narrow.path, &narrow.grpc_service) {
        (None, _, _) => true,
        (Some(wide), Some(PathMatch::Exact(path)), _) => below(wide, path),
        (Some(prefix @ PathMatch::Prefix(_)), Some(PathMatch::Prefix(path)), _) => {
            below(prefix, path)
        }
        // Paths of gRPC are /SERVICE/METHOD.
        (Some(prefix @ PathMatch::Prefix(_)), None, Some(service)) => {
            below(prefix, &format!("/{service}"))
        }
        (Some(PathMatch::Exact(_)), Some(PathMatch::Prefix(_)) | None, _)
        | (Some(PathMatch::Prefix(_)), None, None) => false,
    }
}

/// Why no request can be of this kind, if none can.
pub(super) fn impossible(request: &RequestMatch) -> Option<String> {
    let service = request.grpc_service.as_deref()?;
    if let Some(method) = request.method.as_deref().filter(|method| *method != "POST") {
        return Some(format!("gRPC is always POST, never {method}"));
    }
    let path = request.path.as_ref()?;
    let possible = match path {
        PathMatch::Exact(exact) => exact.strip_prefix(&format!("/{service}/")).is_some(),
        PathMatch::Prefix(prefix) => {
            let own = format!("/{service}");
            path.matches(own.as_bytes()) || PathMatch::Prefix(own.into()).matches(prefix.as_bytes())
        }
    };
    (!possible).then(|| format!("paths of {service} begin with /{service}/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(path: &str) -> RequestMatch {
        RequestMatch {
            path: Some(PathMatch::Prefix(path.into())),
            ..RequestMatch::default()
        }
    }

    fn exact(path: &str) -> RequestMatch {
        RequestMatch {
            path: Some(PathMatch::Exact(path.into())),
            ..RequestMatch::default()
        }
    }

    fn grpc(service: &str) -> RequestMatch {
        RequestMatch {
            grpc_service: Some(service.into()),
            ..RequestMatch::default()
        }
    }

    fn posted(request: RequestMatch) -> RequestMatch {
        RequestMatch {
            method: Some("POST".into()),
            ..request
        }
    }

    #[test]
    fn fewer_conditions_and_shorter_prefixes_cover_more() {
        let covered = [
            (prefix("/"), prefix("/orders")),
            (prefix("/orders"), prefix("/orders")),
            (prefix("/orders"), exact("/orders/7")),
            (exact("/orders"), exact("/orders")),
            (prefix("/orders"), posted(prefix("/orders/new"))),
            (RequestMatch::default(), grpc("a.B")),
            (prefix("/"), grpc("a.B")),
            (prefix("/a.B"), grpc("a.B")),
            (grpc("a.B"), posted(grpc("a.B"))),
        ];
        for (wide, narrow) in covered {
            assert!(covers(&wide, &narrow), "{wide:?} {narrow:?}");
        }
        let apart = [
            (prefix("/orders"), prefix("/")),
            (prefix("/orders"), prefix("/orders-old")),
            (exact("/orders"), prefix("/orders")),
            (posted(prefix("/")), prefix("/orders")),
            (grpc("a.B"), prefix("/a.B")),
            (prefix("/a"), grpc("a.B")),
            (prefix("/a"), posted(RequestMatch::default())),
        ];
        for (wide, narrow) in apart {
            assert!(!covers(&wide, &narrow), "{wide:?} {narrow:?}");
        }
    }

    #[test]
    fn a_match_of_grpc_with_another_method_or_path_is_impossible() {
        let with = |path: RequestMatch| RequestMatch {
            grpc_service: Some("a.B".into()),
            ..path
        };
        let get = RequestMatch {
            method: Some("GET".into()),
            ..grpc("a.B")
        };
        for never in [get, with(exact("/a.B")), with(prefix("/a"))] {
            assert!(impossible(&never).is_some(), "{never:?}");
        }
        for possible in [
            grpc("a.B"),
            posted(grpc("a.B")),
            with(prefix("/")),
            with(prefix("/a.B")),
            with(exact("/a.B/Get")),
            with(prefix("/a.B/Get")),
        ] {
            assert_eq!(impossible(&possible), None, "{possible:?}");
        }
    }
}
