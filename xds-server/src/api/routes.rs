//! The one table of what is served: a route comes into being with the role that it needs, whether it writes, and what
//! it does in a sentence. What it takes and gives its handler's types say.

use axum::{
    Extension, Router,
    extract::DefaultBodyLimit,
    handler::Handler,
    http::Method,
    routing::{MethodFilter, on},
};

use super::{
    State,
    asked::BytesMax,
    operation::{Describe, Described},
};
use crate::access::Need;

/// What a route does, for people.
#[derive(Debug, Clone, Copy)]
pub struct Told {
    /// In a sentence.
    pub summary: &'static str,
    /// All that somebody should know beside it; may be empty.
    pub more: &'static str,
    /// Statuses with which it may refuse, beside those that its types tell of.
    pub refusals: &'static [u16],
}

impl From<&'static str> for Told {
    fn from(summary: &'static str) -> Self {
        Self {
            summary,
            more: "",
            refusals: &[],
        }
    }
}

impl Told {
    /// All that somebody should know beside it.
    pub(super) const fn new(summary: &'static str, more: &'static str) -> Self {
        Self {
            summary,
            more,
            refusals: &[],
        }
    }

    /// Statuses with which it may refuse.
    pub(super) const fn or(mut self, refusals: &'static [u16]) -> Self {
        self.refusals = refusals;
        self
    }
}

/// A route, as the table has it.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    /// `GET`, `POST`, `PUT` or `DELETE`.
    pub method: &'static str,
    /// With names in braces for what varies.
    pub path: &'static str,
    /// Who may call it.
    pub needs: Need,
    /// Whether it changes anything.
    pub writes: bool,
    /// What it does.
    pub told: Told,
    /// The most bytes of its body, where it takes one.
    pub bytes_max: Option<usize>,
    /// What it takes and gives.
    pub(super) describe: Describe,
    /// The path of its handler.
    handler: &'static str,
}

impl Entry {
    /// `canaries_list`, of its handler.
    pub fn name(&self) -> String {
        let handler = self.handler.rsplit("::api::").next().unwrap_or_default();
        handler.replace("::", "_")
    }
}

/// How a route is called.
#[derive(Clone, Copy)]
struct Call {
    method: &'static str,
    needs: Need,
    writes: bool,
    bytes_max: Option<usize>,
}

/// All routes.
#[derive(Default)]
pub(super) struct Routes {
    router: Router<State>,
    table: Vec<Entry>,
}

impl Routes {
    /// `GET`.
    pub(super) fn get<H: Handler<T, State> + Described<A>, T: 'static, A>(
        self,
        path: &'static str,
        needs: Need,
        handler: H,
        told: impl Into<Told>,
    ) -> Self {
        let call = Call {
            method: "GET",
            needs,
            writes: false,
            bytes_max: None,
        };
        self.add(path, call, handler, told.into())
    }

    /// `POST` of a question: it changes nothing.
    pub(super) fn ask<H: Handler<T, State> + Described<A>, T: 'static, A>(
        self,
        path: &'static str,
        needs: Need,
        (handler, bytes_max): (H, usize),
        told: impl Into<Told>,
    ) -> Self {
        self.post(path, (needs, false), (handler, bytes_max), told)
    }

    /// `POST` of what is so frequent that nothing is kept of it.
    pub(super) fn beat<H: Handler<T, State> + Described<A>, T: 'static, A>(
        self,
        path: &'static str,
        needs: Need,
        (handler, bytes_max): (H, usize),
        told: impl Into<Told>,
    ) -> Self {
        self.post(path, (needs, false), (handler, bytes_max), told)
    }

    /// `PUT` of a change, which is audited.
    pub(super) fn put<H: Handler<T, State> + Described<A>, T: 'static, A>(
        self,
        path: &'static str,
        needs: Need,
        (handler, bytes_max): (H, usize),
        told: impl Into<Told>,
    ) -> Self {
        let call = Call {
            method: "PUT",
            needs,
            writes: true,
            bytes_max: Some(bytes_max),
        };
        self.add(path, call, handler, told.into())
    }

    /// `DELETE`, which is audited.
    pub(super) fn delete<H: Handler<T, State> + Described<A>, T: 'static, A>(
        self,
        path: &'static str,
        needs: Need,
        handler: H,
        told: impl Into<Told>,
    ) -> Self {
        let call = Call {
            method: "DELETE",
            needs,
            writes: true,
            bytes_max: Some(0),
        };
        self.add(path, call, handler, told.into())
    }

    /// `POST` of a change, which is audited.
    pub(super) fn write<H: Handler<T, State> + Described<A>, T: 'static, A>(
        self,
        path: &'static str,
        needs: Need,
        (handler, bytes_max): (H, usize),
        told: impl Into<Told>,
    ) -> Self {
        self.post(path, (needs, true), (handler, bytes_max), told)
    }

    fn post<H: Handler<T, State> + Described<A>, T: 'static, A>(
        self,
        path: &'static str,
        (needs, writes): (Need, bool),
        (handler, bytes_max): (H, usize),
        told: impl Into<Told>,
    ) -> Self {
        let call = Call {
            method: "POST",
            needs,
            writes,
            bytes_max: Some(bytes_max),
        };
        self.add(path, call, handler, told.into())
    }

    fn add<H: Handler<T, State> + Described<A>, T: 'static, A>(
        mut self,
        path: &'static str,
        call: Call,
        handler: H,
        told: Told,
    ) -> Self {
        let method = match call.method {
            "POST" => MethodFilter::POST,
            "PUT" => MethodFilter::PUT,
            "DELETE" => MethodFilter::DELETE,
            _ => MethodFilter::GET,
        };
        let mut route = on(method, handler);
        if let Some(bytes_max) = call.bytes_max {
            route = route.layer(DefaultBodyLimit::max(bytes_max));
            route = route.layer(Extension(BytesMax(bytes_max)));
        }
        self.router = self.router.route(path, route);
        self.table.push(Entry {
            method: call.method,
            path,
            needs: call.needs,
            writes: call.writes,
            told,
            bytes_max: call.bytes_max,
            describe: H::describe,
            handler: std::any::type_name::<H>(),
        });
        self
    }

    pub(super) fn into_parts(self) -> (Router<State>, Table) {
        (self.router, Table(self.table))
    }
}

/// What is served.
#[derive(Debug, Clone)]
pub struct Table(Vec<Entry>);

impl Table {
    /// Every route, in the order in which they were added.
    pub fn iter(&self) -> std::slice::Iter<'_, Entry> {
        self.0.iter()
    }

    /// The route that was matched. `HEAD` is answered as `GET` is.
    pub(super) fn find(&self, method: &Method, path: Option<&str>) -> Option<&Entry> {
        let method = match method.as_str() {
            "HEAD" => "GET",
            method => method,
        };
        let path = path?;
        self.iter()
            .find(|entry| entry.method == method && entry.path == path)
    }
}
