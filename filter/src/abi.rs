//! What Envoy calls: the callbacks of proxy-wasm ABI 0.2.1 that this filter has a use for, by the names that
//! Envoy looks for. It makes no call for the others.
//!
//! A request is five of these calls, so what they do to find its context is kept small. None of them panics, whatever
//! number it is given.
#![allow(unsafe_code, reason = "the ABI finds its callbacks by name")]

use std::{cell::RefCell, mem::ManuallyDrop, rc::Rc};

use rustc_hash::{FxBuildHasher, FxHashMap};

use crate::{
    http::{Action, Request},
    plugin::Plugin,
    root::Root,
};

/// A power of two, and more than the requests that a worker mostly has under way.
const SLOTS: usize = 64;

thread_local! {
    /// Until the VM ends, and its memory with it.
    static CONTEXTS: ManuallyDrop<RefCell<Contexts>> =
        const { ManuallyDrop::new(RefCell::new(Contexts::NONE)) };
}

/// By the numbers that Envoy gave them.
struct Contexts {
    /// Mostly one: plugins may share a VM.
    roots: Vec<(u32, Root)>,
    /// Envoy counts its contexts up. So those that are under way at the same time have different lower
    /// bits, nearly always, and lie where these say.
    slots: [Slot; SLOTS],
    /// Those whose slot was taken.
    others: FxHashMap<u32, Request>,
}

/// A place for one request.
struct Slot {
    /// Of the request that lies here; 0, which is no context's, while none does.
    id: u32,
    request: Request,
}

impl Slot {
    const FREE: Self = Self {
        id: 0,
        request: Request::NONE,
    };
}

impl Contexts {
    /// Before the first call.
    const NONE: Self = Self {
        roots: Vec::new(),
        slots: [const { Slot::FREE }; SLOTS],
        others: FxHashMap::with_hasher(FxBuildHasher),
    };

    fn root(&mut self, id: u32) -> Option<&mut Root> {
        let mut roots = self.roots.iter_mut();
        roots.find(|(own, _)| *own == id).map(|(_, root)| root)
    }

    #[inline]
    fn request(&mut self, id: u32) -> Option<&mut Request> {
        match slot(&mut self.slots, id) {
            Some(slot) if slot.id == id => Some(&mut slot.request),
            _ => other(&mut self.others, id),
        }
    }

    fn create(&mut self, id: u32, root: u32) {
        if root == 0 {
            self.roots.push((id, Root::default()));
            return;
        }
        let plugin = self.root(root).and_then(|root| root.plugin()).cloned();
        match slot(&mut self.slots, id) {
            Some(slot) if slot.id == 0 => {
                slot.id = id;
                slot.request.begin(plugin);
            }
            _ => self.create_other(id, plugin),
        }
    }

    #[cold]
    fn create_other(&mut self, id: u32, plugin: Option<Rc<Plugin>>) {
        let request = self.others.entry(id).or_insert(Request::NONE);
        request.begin(plugin);
    }

    /// Nothing comes after it.
    fn end(&mut self, id: u32) {
        match slot(&mut self.slots, id) {
            Some(slot) if slot.id == id => {
                slot.request.on_done();
                slot.id = 0;
            }
            _ => self.end_other(id),
        }
    }

    /// A request whose slot is another one's; or a root: another configuration took its place, its last
    /// request has ended, and no tick comes any more.
    #[cold]
    fn end_other(&mut self, id: u32) {
        if let Some(mut request) = self.others.remove(&id) {
            request.on_done();
        } else if let Some(root) = self.root(id) {
            root.tick();
            self.roots.retain(|(own, _)| *own != id);
        }
    }
}

#[inline]
fn slot(slots: &mut [Slot; SLOTS], id: u32) -> Option<&mut Slot> {
    slots.get_mut(id as usize % SLOTS)
}

#[cold]
fn other(others: &mut FxHashMap<u32, Request>, id: u32) -> Option<&mut Request> {
    others.get_mut(&id)
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
