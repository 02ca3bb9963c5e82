//! The one table of what is served: a route comes into being with the role that it needs, and whether it
//! writes.

use axum::{
    Router,
    extract::DefaultBodyLimit,
    handler::Handler,
    http::Method,
    routing::{MethodFilter, on},
};

use super::State;
use crate::access::Need;

/// A route, as the table has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// `GET`, `POST`, `PUT` or `DELETE`.
    pub method: &'static str,
    /// With names in braces for what varies.
    pub path: &'static str,
    /// Who may call it.
    pub needs: Need,
    /// Whether it changes anything.
    pub writes: bool,
}

/// All routes.
#[derive(Default)]
pub(super) struct Routes {
    router: Router<State>,
    table: Vec<Entry>,
}

impl Routes {
    /// `GET`.
    pub(super) fn get<H: Handler<T, State>, T: 'static>(
        self,
        path: &'static str,
        needs: Need,
        handler: H,
    ) -> Self {
        let entry = Entry {
            method: "GET",
            path,
            needs,
            writes: false,
        };
        self.add(entry, MethodFilter::GET, handler, None)
    }

    /// `POST` of a question: it changes nothing.
    pub(super) fn ask<H: Handler<T, State>, T: 'static>(
        self,
        path: &'static str,
        needs: Need,
        handler: H,
        bytes_max: usize,
    ) -> Self {
        self.post(path, (needs, false), handler, bytes_max)
    }

    /// `POST` of what is so frequent that nothing is kept of it.
    pub(super) fn beat<H: Handler<T, State>, T: 'static>(
        self,
        path: &'static str,
        needs: Need,
        handler: H,
        bytes_max: usize,
    ) -> Self {
        self.post(path, (needs, false), handler, bytes_max)
    }

    /// `PUT` of a change, which is audited.
    pub(super) fn put<H: Handler<T, State>, T: 'static>(
        self,
        path: &'static str,
        needs: Need,
        handler: H,
        bytes_max: usize,
    ) -> Self {
        let entry = Entry {
            method: "PUT",
            path,
            needs,
            writes: true,
        };
        self.add(entry, MethodFilter::PUT, handler, Some(bytes_max))
    }

    /// `DELETE`, which is audited.
    pub(super) fn delete<H: Handler<T, State>, T: 'static>(
        self,
        path: &'static str,
        needs: Need,
        handler: H,
    ) -> Self {
        let entry = Entry {
            method: "DELETE",
            path,
            needs,
            writes: true,
        };
        self.add(entry, MethodFilter::DELETE, handler, Some(0))
    }

    /// `POST` of a change, which is audited.
    pub(super) fn write<H: Handler<T, State>, T: 'static>(
        self,
        path: &'static str,
        needs: Need,
        handler: H,
        bytes_max: usize,
    ) -> Self {
        self.post(path, (needs, true), handler, bytes_max)
    }

    fn post<H: Handler<T, State>, T: 'static>(
        self,
        path: &'static str,
        (needs, writes): (Need, bool),
        handler: H,
        bytes_max: usize,
    ) -> Self {
        let entry = Entry {
            method: "POST",
            path,
            needs,
            writes,
        };
        self.add(entry, MethodFilter::POST, handler, Some(bytes_max))
    }

    fn add<H: Handler<T, State>, T: 'static>(
        mut self,
        entry: Entry,
        method: MethodFilter,
        handler: H,
        bytes_max: Option<usize>,
    ) -> Self {
        let mut route = on(method, handler);
        if let Some(bytes_max) = bytes_max {
            route = route.layer(DefaultBodyLimit::max(bytes_max));
        }
        self.router = self.router.route(entry.path, route);
        self.table.push(entry);
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
