//! What Envoy calls: the callbacks of proxy-wasm ABI 0.2.1 that this filter has a use for, by the names that
//! Envoy looks for. It makes no call for the others.
//!
//! A request is five of these calls, so what they do to find its context is kept small: mostly a call is
//! about the request that the one before was about. None of them panics, whatever number it is given.
#![allow(unsafe_code, reason = "the ABI finds its callbacks by name")]

use std::cell::RefCell;

use rustc_hash::{FxBuildHasher, FxHashMap};

use crate::{
    http::{Action, Request},
    root::Root,
};

/// Requests that ended and whose memory waits for new ones, at most.
const SPARE_MAX: usize = 256;

thread_local! {
    static CONTEXTS: RefCell<Contexts> = const { RefCell::new(Contexts::NONE) };
}

/// By the numbers that Envoy gave them.
struct Contexts {
    /// Mostly one: plugins may share a VM.
    roots: Vec<(u32, Root)>,
    /// The request that was called about last. Boxes move between here, the other ones and the spare ones;
    /// what is in them stays where it is.
    current: Option<(u32, Box<Request>)>,
    /// The other ones.
    requests: FxHashMap<u32, Box<Request>>,
    #[allow(clippy::vec_box, reason = "a box is what is spared")]
    spare: Vec<Box<Request>>,
}

impl Contexts {
    /// Before the first call.
    const NONE: Self = Self {
        roots: Vec::new(),
        current: None,
        requests: FxHashMap::with_hasher(FxBuildHasher),
        spare: Vec::new(),
    };

    fn root(&mut self, id: u32) -> Option<&mut Root> {
        let mut roots = self.roots.iter_mut();
        roots.find(|(own, _)| *own == id).map(|(_, root)| root)
    }

    #[inline]
    fn request(&mut self, id: u32) -> Option<&mut Request> {
        if self.current.as_ref().is_none_or(|(own, _)| *own != id) {
            let request = self.requests.remove(&id)?;
            self.focus(id, request);
        }
        self.current.as_mut().map(|(_, request)| &mut **request)
    }

    fn focus(&mut self, id: u32, request: Box<Request>) {
        if let Some((id, other)) = self.current.replace((id, request)) {
            self.requests.insert(id, other);
        }
    }

    fn create(&mut self, id: u32, root: u32) {
        if root == 0 {
            self.roots.push((id, Root::default()));
            return;
        }
        let mut request = self.spare.pop().unwrap_or_default();
        request.begin(self.root(root).and_then(|root| root.plugin()));
        self.focus(id, request);
    }

    /// Nothing comes after it.
    fn end(&mut self, id: u32) {
        let request = match self.current.take_if(|(own, _)| *own == id) {
            Some((_, request)) => Some(request),
            None => self.requests.remove(&id),
        };
        if let Some(mut request) = request {
            request.on_done();
            if self.spare.len() < SPARE_MAX {
                self.spare.push(request);
            }
        } else {
            self.end_root(id);
        }
    }

    /// Another configuration took its place, and its last request has ended: no tick comes any more.
    #[cold]
    fn end_root(&mut self, id: u32) {
        if let Some(root) = self.root(id) {
            root.tick();
            self.roots.retain(|(own, _)| *own != id);
        }
    }
}

/// Envoy makes no call within a call, so the contexts are always to be had; were it otherwise, it would be
/// answered as if there were no filter.
#[inline]
fn with<T>(otherwise: T, act: impl FnOnce(&mut Contexts) -> T) -> T {
    CONTEXTS.with(|contexts| match contexts.try_borrow_mut() {
        Ok(mut contexts) => act(&mut contexts),
        Err(_) => otherwise,
    })
}

/// The same for one request, if it is known.
#[inline]
fn with_request<T>(id: u32, otherwise: T, act: impl FnOnce(&mut Request) -> T) -> T
where
    T: Copy,
{
    with(otherwise, |contexts| {
        contexts.request(id).map_or(otherwise, act)
    })
}

#[unsafe(no_mangle)]
extern "C" fn proxy_abi_version_0_2_1() {}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_context_create(id: u32, root: u32) {
    with((), |contexts| contexts.create(id, root));
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_vm_start(_root: u32, _size: usize) -> bool {
    true
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_configure(root: u32, size: usize) -> bool {
    with(false, |contexts| {
        let root = contexts.root(root);
        root.is_some_and(|root| root.on_configure(size))
    })
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_tick(root: u32) {
    with((), |contexts| {
        if let Some(root) = contexts.root(root) {
            root.tick();
        }
    });
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_request_headers(id: u32, _count: usize, _end: bool) -> Action {
    with_request(id, Action::Continue, Request::on_request_headers)
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_response_headers(id: u32, _count: usize, end: bool) -> Action {
    with_request(id, Action::Continue, |request| {
        request.on_response_headers(end)
    })
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_response_body(id: u32, size: usize, end: bool) -> Action {
    with_request(id, Action::Continue, |request| {
        request.on_response_body(size, end)
    })
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_response_trailers(id: u32, _count: usize) -> Action {
    with_request(id, Action::Continue, Request::on_response_trailers)
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_done(id: u32) -> bool {
    with((), |contexts| contexts.end(id));
    true
}
