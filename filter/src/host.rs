//! Every call to Envoy, as a function that cannot panic.
//!
//! The ABI is proxy-wasm 0.2.1 (<https://github.com/proxy-wasm/spec/tree/main/abi-versions/v0.2.1>).
//! The calls of the `proxy-wasm` crate panic on a status that they do not expect, and a panic takes the
//! filter out of a sidecar. So they are made here, bytes in and bytes out, and every status that is not Ok
//! is a value.
#![allow(unsafe_code, reason = "the one place where the host's ABI is called")]

use std::ptr::null_mut;

use policy::time::MonoTime;

use crate::buffer::Bytes;

/// Status of the ABI.
const OK: u32 = 0;
const CAS_MISMATCH: u32 = 8;
const REQUEST_HEADERS: u32 = 0;
const RESPONSE_HEADERS: u32 = 2;
const RESPONSE_TRAILERS: u32 = 3;
const PLUGIN_CONFIGURATION: u32 = 7;
/// `clockid_t` of WASI: one monotonic clock for all workers of an Envoy.
const MONOTONIC: u32 = 1;

#[link(wasm_import_module = "env")]
unsafe extern "C" {
    fn proxy_log(level: u32, message: *const u8, size: usize) -> u32;
    fn proxy_get_current_time_nanoseconds(time: *mut u64) -> u32;
    fn proxy_set_tick_period_milliseconds(period: u32) -> u32;
    fn proxy_get_buffer_bytes(
        kind: u32,
        start: usize,
        max_size: usize,
        data: *mut *mut u8,
        size: *mut usize,
    ) -> u32;
    fn proxy_get_header_map_value(
        map: u32,
        key: *const u8,
        key_size: usize,
        value: *mut *mut u8,
        value_size: *mut usize,
    ) -> u32;
    fn proxy_get_header_map_pairs(map: u32, data: *mut *mut u8, size: *mut usize) -> u32;
    fn proxy_replace_header_map_value(
        map: u32,
        key: *const u8,
        key_size: usize,
        value: *const u8,
        value_size: usize,
    ) -> u32;
    fn proxy_add_header_map_value(
        map: u32,
        key: *const u8,
        key_size: usize,
        value: *const u8,
        value_size: usize,
    ) -> u32;
    fn proxy_remove_header_map_value(map: u32, key: *const u8, key_size: usize) -> u32;
    fn proxy_get_property(
        path: *const u8,
        path_size: usize,
        value: *mut *mut u8,
        value_size: *mut usize,
    ) -> u32;
    fn proxy_get_shared_data(
        key: *const u8,
        key_size: usize,
        value: *mut *mut u8,
        value_size: *mut usize,
        cas: *mut u32,
    ) -> u32;
    fn proxy_set_shared_data(
        key: *const u8,
        key_size: usize,
        value: *const u8,
        value_size: usize,
        cas: u32,
    ) -> u32;
    fn proxy_send_local_response(
        status: u32,
        details: *const u8,
        details_size: usize,
        body: *const u8,
        body_size: usize,
        headers: *const u8,
        headers_size: usize,
        grpc_status: i32,
    ) -> u32;
    fn proxy_define_metric(kind: u32, name: *const u8, name_size: usize, id: *mut u32) -> u32;
    fn proxy_increment_metric(id: u32, offset: i64) -> u32;
    fn proxy_record_metric(id: u32, value: u64) -> u32;
    fn proxy_get_metric(id: u32, value: *mut u64) -> u32;
}

// Envoy serves these to every module, whatever its target.
#[link(wasm_import_module = "wasi_snapshot_preview1")]
unsafe extern "C" {
    fn clock_time_get(clock: u32, precision: u64, time: *mut u64) -> u32;
    fn random_get(buffer: *mut u8, size: usize) -> u32;
}

/// Severity of a line in Envoy's log (logger `wasm`).
#[derive(Debug, Clone, Copy)]
pub enum Level {
    /// For whoever measures.
    Debug = 1,
    /// What happened, for whoever reads the log later.
    Info = 2,
    /// Something that did not work.
    Error = 4,
}

/// Writes one line into Envoy's log.
pub fn log(level: Level, message: &str) {
    // SAFETY: pointer and length of one live string. What the host answers changes nothing here.
    unsafe { proxy_log(level as u32, message.as_ptr(), message.len()) };
}

/// Wall time of Envoy's host, in nanoseconds since 1970.
pub fn wall_nanos() -> u64 {
    let mut nanos = 0;
    // SAFETY: one live u64. On an error it stays 0: 1970, a time without windows.
    unsafe { proxy_get_current_time_nanoseconds(&raw mut nanos) };
    nanos
}

/// Monotonic time, the same clock in all workers of this Envoy.
pub fn monotonic() -> MonoTime {
    let mut nanos = 0;
    // SAFETY: one live u64.
    unsafe { clock_time_get(MONOTONIC, 1_000, &raw mut nanos) };
    MonoTime::from_nanos(nanos)
}

/// 64 random bits of Envoy's own generator.
pub fn random() -> u64 {
    let mut bytes = [0; 8];
    // SAFETY: pointer and length of one live array.
    unsafe { random_get(bytes.as_mut_ptr(), bytes.len()) };
    u64::from_le_bytes(bytes)
}

/// Asks for `on_tick` every `milliseconds` in this VM.
pub fn tick_every(milliseconds: u32) {
    // SAFETY: no pointers.
    unsafe { proxy_set_tick_period_milliseconds(milliseconds) };
}

/// The plugin's configuration; empty when it has none.
pub fn configuration() -> Bytes {
    let (mut data, mut size) = (null_mut(), 0);
    // SAFETY: both outputs are live, and handed over to us when the status is Ok.
    unsafe {
        match proxy_get_buffer_bytes(
            PLUGIN_CONFIGURATION,
            0,
            usize::MAX >> 1,
            &raw mut data,
            &raw mut size,
        ) {
            OK => Bytes::taken(data, size),
            _ => Bytes::NONE,
        }
    }
}

fn header(map: u32, name: &str) -> Option<Bytes> {
    let (mut data, mut size) = (null_mut(), 0);
    // SAFETY: `name` and both outputs are live; the outputs are ours when the status is Ok.
    unsafe {
        match proxy_get_header_map_value(
            map,
            name.as_ptr(),
            name.len(),
            &raw mut data,
            &raw mut size,
        ) {
            OK => Some(Bytes::taken(data, size)),
            _ => None,
        }
    }
}

/// All request headers, in the ABI's form; no bytes when the host refuses.
pub fn request_headers() -> Bytes {
    let (mut data, mut size) = (null_mut(), 0);
    // SAFETY: both outputs are live, and ours when the status is Ok.
    unsafe {
        match proxy_get_header_map_pairs(REQUEST_HEADERS, &raw mut data, &raw mut size) {
            OK => Bytes::taken(data, size),
            _ => Bytes::NONE,
        }
    }
}

/// A request header's bytes, whatever they are. Several of one name come joined with commas.
pub fn request_header(name: &str) -> Option<Bytes> {
    header(REQUEST_HEADERS, name)
}

/// A response header's bytes.
pub fn response_header(name: &str) -> Option<Bytes> {
    header(RESPONSE_HEADERS, name)
}

/// A response trailer's bytes.
pub fn response_trailer(name: &str) -> Option<Bytes> {
    header(RESPONSE_TRAILERS, name)
}

/// Sets a request header to one value. Also forgets the route chosen so far, so that headers of
/// ours may choose it.
pub fn set_request_header(name: &str, value: &str) {
    // SAFETY: pointers and lengths of two live strings.
    unsafe {
        proxy_replace_header_map_value(
            REQUEST_HEADERS,
            name.as_ptr(),
            name.len(),
            value.as_ptr(),
            value.len(),
        )
    };
}

/// Adds a request header that the request has not. Envoy looks for no other of its name then, which
/// makes it cheaper than [`set_request_header`].
pub fn add_request_header(name: &str, value: &str) {
    // SAFETY: pointers and lengths of two live strings.
    unsafe {
        proxy_add_header_map_value(
            REQUEST_HEADERS,
            name.as_ptr(),
            name.len(),
            value.as_ptr(),
            value.len(),
        )
    };
}

/// Sets a response header to one value.
pub fn set_response_header(name: &str, value: &str) {
    // SAFETY: pointers and lengths of two live strings.
    unsafe {
        proxy_replace_header_map_value(
            RESPONSE_HEADERS,
            name.as_ptr(),
            name.len(),
            value.as_ptr(),
            value.len(),
        )
    };
}

/// Removes every request header of that name.
pub fn remove_request_header(name: &str) {
    // SAFETY: pointer and length of one live string.
    unsafe { proxy_remove_header_map_value(REQUEST_HEADERS, name.as_ptr(), name.len()) };
}

/// An attribute of Envoy, its path joined by zero bytes (`xds\0cluster_name`).
pub fn property(path: &str) -> Option<Bytes> {
    let (mut data, mut size) = (null_mut(), 0);
    // SAFETY: `path` and both outputs are live; the outputs are ours when the status is Ok.
    unsafe {
        match proxy_get_property(path.as_ptr(), path.len(), &raw mut data, &raw mut size) {
            OK => Some(Bytes::taken(data, size)),
            _ => None,
        }
    }
}

/// An attribute that is an integer.
pub fn integer_property(path: &str) -> Option<i64> {
    let bytes: [u8; 8] = (*property(path)?).try_into().ok()?;
    Some(i64::from_le_bytes(bytes))
}

/// What all workers of this Envoy share under a key, and the ticket for [`shared_swap`]. Absent is
/// no bytes and ticket 0.
pub fn shared(key: &str) -> (Bytes, u32) {
    let (mut data, mut size, mut cas) = (null_mut(), 0, 0);
    // SAFETY: `key` and all outputs are live; the outputs are ours when the status is Ok.
    unsafe {
        match proxy_get_shared_data(
            key.as_ptr(),
            key.len(),
            &raw mut data,
            &raw mut size,
            &raw mut cas,
        ) {
            OK => (Bytes::taken(data, size), cas),
            _ => (Bytes::NONE, 0),
        }
    }
}

/// Outcome of [`shared_swap`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Swap {
    /// Written.
    Done,
    /// Another worker wrote since: read again.
    Lost,
    /// The host refuses.
    Failed,
}

/// Writes shared bytes unless somebody wrote since `cas` was read. With `cas` 0 it overwrites
/// whatever is there: two workers may make the same cell, so making it must be harmless.
pub fn shared_swap(key: &str, value: &[u8], cas: u32) -> Swap {
    // SAFETY: pointers and lengths of live memory.
    let status =
        unsafe { proxy_set_shared_data(key.as_ptr(), key.len(), value.as_ptr(), value.len(), cas) };
    match status {
        OK => Swap::Done,
        CAS_MISMATCH => Swap::Lost,
        _ => Swap::Failed,
    }
}

/// Answers the request here; nothing of it reaches an upstream. A gRPC request is answered as gRPC,
/// with `grpc_status`.
pub fn respond(status: u16, grpc_status: u8, headers: &[(&str, &str)], body: &str) {
    let headers = header_map(headers);
    // SAFETY: pointers and lengths of live memory; details are none.
    unsafe {
        proxy_send_local_response(
            u32::from(status),
            null_mut(),
            0,
            body.as_ptr(),
            body.len(),
            headers.as_ptr(),
            headers.len(),
            i32::from(grpc_status),
        )
    };
}

/// The ABI's form of a header map: the count, all sizes, then every name and value with a zero.
fn header_map(headers: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(64);
    let mut size = |length: usize| bytes.extend_from_slice(&(length as u32).to_le_bytes());
    size(headers.len());
    for (name, value) in headers {
        size(name.len());
        size(value.len());
    }
    for text in headers.iter().flat_map(|(name, value)| [name, value]) {
        bytes.extend_from_slice(text.as_bytes());
        bytes.push(0);
    }
    bytes
}

/// Kind of a metric.
#[derive(Debug, Clone, Copy)]
pub enum Metric {
    /// Only grows.
    Counter = 0,
    /// A level.
    Gauge = 1,
    /// A distribution.
    Histogram = 2,
}

/// Defines a metric, or finds the one of that name. Once per VM: it costs ten times an increment.
pub fn define(kind: Metric, name: &str) -> Option<u32> {
    let mut id = 0;
    // SAFETY: `name` and the output are live.
    let status =
        unsafe { proxy_define_metric(kind as u32, name.as_ptr(), name.len(), &raw mut id) };
    (status == OK).then_some(id)
}

/// Adds to a counter or gauge.
pub fn add(metric: u32, offset: i64) {
    // SAFETY: no pointers.
    unsafe { proxy_increment_metric(metric, offset) };
}

/// Sets a gauge, or records into a histogram.
pub fn record(metric: u32, value: u64) {
    // SAFETY: no pointers.
    unsafe { proxy_record_metric(metric, value) };
}

/// A counter's or gauge's value, over all workers.
pub fn metric(metric: u32) -> Option<u64> {
    let mut value = 0;
    // SAFETY: one live u64.
    let status = unsafe { proxy_get_metric(metric, &raw mut value) };
    (status == OK).then_some(value)
}
