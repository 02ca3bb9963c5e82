//! The host's side of proxy-wasm 0.2.1, as far as the filter uses it.

use wasmtime::{Caller, Extern, Linker, Result};

use super::{
    Header,
    vm::{Local, State},
};

const OK: i32 = 0;
const NOT_FOUND: i32 = 1;
const CAS_MISMATCH: i32 = 8;
const HISTOGRAM: u32 = 2;

type Call<'c> = Caller<'c, State>;

/// Notes a call; gives the status with which it fails, if it shall.
fn begin(caller: &Call<'_>, name: &'static str) -> Option<i32> {
    caller.data().host.world(|world| {
        *world.calls.entry(name).or_default() += 1;
        let this_one = world.failing_calls.get(name).copied();
        world.failing.or(this_one)
    })
}

fn memory(caller: &mut Call<'_>) -> Result<wasmtime::Memory> {
    match caller.get_export("memory") {
        Some(Extern::Memory(memory)) => Ok(memory),
        _ => Err(wasmtime::Error::msg("no memory")),
    }
}

fn read(caller: &mut Call<'_>, pointer: i32, size: i32) -> Result<Vec<u8>> {
    let (start, size) = (
        pointer.cast_unsigned() as usize,
        size.cast_unsigned() as usize,
    );
    let memory = memory(caller)?;
    let bytes = memory.data(&caller).get(start..start + size);
    bytes
        .map(<[u8]>::to_vec)
        .ok_or_else(|| wasmtime::Error::msg("a pointer beyond memory"))
}

fn text(caller: &mut Call<'_>, pointer: i32, size: i32) -> Result<String> {
    let bytes = read(caller, pointer, size)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn write(caller: &mut Call<'_>, pointer: i32, bytes: &[u8]) -> Result<()> {
    let memory = memory(caller)?;
    memory.write(caller, pointer.cast_unsigned() as usize, bytes)?;
    Ok(())
}

/// Hands bytes over: in memory of the module's own allocator.
fn give(caller: &mut Call<'_>, bytes: &[u8], pointer: i32, size: i32) -> Result<i32> {
    let Some(Extern::Func(malloc)) = caller.get_export("malloc") else {
        return Err(wasmtime::Error::msg("no allocator"));
    };
    let malloc = malloc.typed::<i32, i32>(&caller)?;
    let length = i32::try_from(bytes.len())?;
    let place = malloc.call(&mut *caller, length)?;
    write(caller, place, bytes)?;
    write(caller, pointer, &place.to_le_bytes())?;
    write(caller, size, &length.to_le_bytes())?;
    Ok(OK)
}

macro_rules! or_fail {
    ($caller:expr, $name:literal) => {
        if let Some(status) = begin(&$caller, $name) {
            return Ok(status);
        }
    };
}

/// Everything that the filter imports and uses; the rest traps.
pub(super) fn link(linker: &mut Linker<State>) -> Result<()> {
    world(linker)?;
    headers(linker)?;
    shared(linker)?;
    metrics(linker)
}

fn world(linker: &mut Linker<State>) -> Result<()> {
    linker.func_wrap(
        "env",
        "proxy_log",
        |mut caller: Call<'_>, level: i32, at: i32, size: i32| -> Result<i32> {
            or_fail!(caller, "log");
            let line = format!("{level} {}", text(&mut caller, at, size)?);
            caller.data().host.world(|world| world.logs.push(line));
            Ok(OK)
        },
    )?;
    linker.func_wrap(
        "env",
        "proxy_get_current_time_nanoseconds",
        |mut caller: Call<'_>, out: i32| -> Result<i32> {
            or_fail!(caller, "wall");
            let wall = caller.data().host.world(|world| world.wall);
            write(&mut caller, out, &wall.to_le_bytes())?;
            Ok(OK)
        },
    )?;
    linker.func_wrap(
        "wasi_snapshot_preview1",
        "clock_time_get",
        |mut caller: Call<'_>, _clock: i32, _precision: i64, out: i32| -> Result<i32> {
            or_fail!(caller, "monotonic");
            let mono = caller.data().host.world(|world| world.mono);
            write(&mut caller, out, &mono.to_le_bytes())?;
            Ok(OK)
        },
    )?;
    linker.func_wrap(
        "wasi_snapshot_preview1",
        "random_get",
        |mut caller: Call<'_>, out: i32, size: i32| -> Result<i32> {
            or_fail!(caller, "random");
            assert_eq!(size, 8, "the filter asks for one number at a time");
            let number = caller.data().host.world(|world| world.dice.next());
            write(&mut caller, out, &number.to_le_bytes())?;
            Ok(OK)
        },
    )?;
    linker.func_wrap(
        "env",
        "proxy_set_tick_period_milliseconds",
        |caller: Call<'_>, period: i32| -> Result<i32> {
            or_fail!(caller, "tick_period");
            let host = &caller.data().host;
            host.world(|world| world.tick_milliseconds = period);
            Ok(OK)
        },
    )?;
    linker.func_wrap(
        "env",
        "proxy_get_buffer_bytes",
        |mut caller: Call<'_>,
         _kind: i32,
         _start: i32,
         _max: i32,
         at: i32,
         size: i32|
         -> Result<i32> {
            or_fail!(caller, "configuration");
            let bytes = caller.data().configuration.clone();
            if bytes.is_empty() {
                return Ok(NOT_FOUND);
            }
            give(&mut caller, &bytes, at, size)
        },
    )?;
    Ok(())
}

fn headers(linker: &mut Linker<State>) -> Result<()> {
    linker.func_wrap(
        "env",
        "proxy_get_header_map_value",
        |mut caller: Call<'_>,
         map: i32,
         key: i32,
         key_size: i32,
         at: i32,
         size: i32|
         -> Result<i32> {
            or_fail!(caller, "get_header");
            let name = text(&mut caller, key, key_size)?;
            let Some(value) = caller.data_mut().header(map, &name) else {
                return Ok(NOT_FOUND);
            };
            give(&mut caller, &value, at, size)
        },
    )?;
    linker.func_wrap(
        "env",
        "proxy_get_header_map_pairs",
        |mut caller: Call<'_>, map: i32, at: i32, size: i32| -> Result<i32> {
            or_fail!(caller, "get_headers");
            let mut bytes = packed(caller.data_mut().headers(map));
            let cut = caller.data().host.world(|world| world.headers_cut);
            bytes.truncate(bytes.len().saturating_sub(cut));
            give(&mut caller, &bytes, at, size)
        },
    )?;
    linker.func_wrap(
        "env",
        "proxy_replace_header_map_value",
        |mut caller: Call<'_>,
         map: i32,
         key: i32,
         key_size: i32,
         at: i32,
         size: i32|
         -> Result<i32> {
            or_fail!(caller, "set_header");
            let name = text(&mut caller, key, key_size)?;
            let value = read(&mut caller, at, size)?;
            let headers = caller.data_mut().headers(map);
            headers.retain(|(known, _)| *known != name);
            headers.push((name, value));
            Ok(OK)
        },
    )?;
    linker.func_wrap(
        "env",
        "proxy_add_header_map_value",
        |mut caller: Call<'_>,
         map: i32,
         key: i32,
         key_size: i32,
         at: i32,
         size: i32|
         -> Result<i32> {
            or_fail!(caller, "add_header");
            let name = text(&mut caller, key, key_size)?;
            let value = read(&mut caller, at, size)?;
            caller.data_mut().headers(map).push((name, value));
            Ok(OK)
        },
    )?;
    linker.func_wrap(
        "env",
        "proxy_remove_header_map_value",
        |mut caller: Call<'_>, map: i32, key: i32, key_size: i32| -> Result<i32> {
            or_fail!(caller, "remove_header");
            let name = text(&mut caller, key, key_size)?;
            let headers = caller.data_mut().headers(map);
            headers.retain(|(known, _)| *known != name);
            Ok(OK)
        },
    )?;
    linker.func_wrap(
        "env",
        "proxy_get_property",
        |mut caller: Call<'_>, path: i32, path_size: i32, at: i32, size: i32| -> Result<i32> {
            or_fail!(caller, "get_property");
            let path = text(&mut caller, path, path_size)?;
            let Some(value) = caller.data().property(&path) else {
                return Ok(NOT_FOUND);
            };
            give(&mut caller, &value, at, size)
        },
    )?;
    linker.func_wrap(
        "env",
        "proxy_send_local_response",
        |mut caller: Call<'_>,
         status: i32,
         _details: i32,
         _details_size: i32,
         body: i32,
         body_size: i32,
         headers: i32,
         headers_size: i32,
         grpc_status: i32|
         -> Result<i32> {
            or_fail!(caller, "respond");
            let body = read(&mut caller, body, body_size)?;
            let headers = pairs(&read(&mut caller, headers, headers_size)?);
            caller.data_mut().respond(Local {
                status,
                grpc_status,
                headers,
                body,
            });
            Ok(OK)
        },
    )?;
    Ok(())
}

/// The ABI's form of a header map.
fn packed(headers: &[Header]) -> Vec<u8> {
    let word = |size: usize| u32::try_from(size).unwrap_or(u32::MAX).to_le_bytes();
    let mut bytes = word(headers.len()).to_vec();
    for (name, value) in headers {
        bytes.extend(word(name.len()));
        bytes.extend(word(value.len()));
    }
    for (name, value) in headers {
        for text in [name.as_bytes(), value] {
            bytes.extend_from_slice(text);
            bytes.push(0);
        }
    }
    bytes
}

/// What [`packed`] packed.
fn pairs(bytes: &[u8]) -> Vec<(String, String)> {
    let number = |index: usize| -> usize {
        let word = bytes
            .get(index * 4..index * 4 + 4)
            .and_then(|word| word.try_into().ok());
        word.map_or(0, |word| u32::from_le_bytes(word) as usize)
    };
    let count = number(0);
    let mut at = 4 + count * 8;
    let mut take = |size: usize| {
        let text = bytes.get(at..at + size).unwrap_or_default();
        at += size + 1;
        String::from_utf8_lossy(text).into_owned()
    };
    (0..count)
        .map(|pair| (take(number(1 + pair * 2)), take(number(2 + pair * 2))))
        .collect()
}

fn shared(linker: &mut Linker<State>) -> Result<()> {
    linker.func_wrap(
        "env",
        "proxy_get_shared_data",
        |mut caller: Call<'_>,
         key: i32,
         key_size: i32,
         at: i32,
         size: i32,
         cas: i32|
         -> Result<i32> {
            or_fail!(caller, "shared_get");
            let key = text(&mut caller, key, key_size)?;
            let found = caller.data().host.world(|world| {
                let found = world.data.get_mut(&key)?;
                let read = found.clone();
                if world.conflicts > 0 {
                    // Somebody else writes the same once more.
                    world.conflicts -= 1;
                    found.1 += 1;
                }
                Some(read)
            });
            let Some((value, number)) = found else {
                return Ok(NOT_FOUND);
            };
            write(&mut caller, cas, &number.to_le_bytes())?;
            give(&mut caller, &value, at, size)
        },
    )?;
    linker.func_wrap(
        "env",
        "proxy_set_shared_data",
        |mut caller: Call<'_>,
         key: i32,
         key_size: i32,
         at: i32,
         size: i32,
         cas: i32|
         -> Result<i32> {
            or_fail!(caller, "shared_set");
            let key = text(&mut caller, key, key_size)?;
            let value = read(&mut caller, at, size)?;
            let cas = cas.cast_unsigned();
            let host = caller.data().host.clone();
            // Not while this one is looked at: others look at the world, too.
            if let Some(others) = host.world(|world| world.before_write.take()) {
                others();
            }
            let status = host.world(|world| {
                let number = world.data.get(&key).map_or(0, |(_, number)| *number);
                if cas != 0 && cas != number {
                    return CAS_MISMATCH;
                }
                world.data.insert(key, (value, number + 1));
                OK
            });
            if let Some(others) = host.world(|world| world.after_write.take()) {
                others();
            }
            Ok(status)
        },
    )?;
    Ok(())
}

fn metrics(linker: &mut Linker<State>) -> Result<()> {
    linker.func_wrap(
        "env",
        "proxy_define_metric",
        |mut caller: Call<'_>, kind: i32, name: i32, size: i32, out: i32| -> Result<i32> {
            or_fail!(caller, "define_metric");
            let name = text(&mut caller, name, size)?;
            let id = caller.data().host.world(|world| {
                world.metrics.entry(name.clone()).or_default();
                world.ids.push((kind.cast_unsigned(), name));
                world.ids.len() - 1
            });
            write(&mut caller, out, &u32::try_from(id)?.to_le_bytes())?;
            Ok(OK)
        },
    )?;
    linker.func_wrap(
        "env",
        "proxy_increment_metric",
        |caller: Call<'_>, id: i32, offset: i64| -> Result<i32> {
            or_fail!(caller, "metric");
            Ok(change(&caller, id, |_, value| value + offset))
        },
    )?;
    linker.func_wrap(
        "env",
        "proxy_get_metric",
        |mut caller: Call<'_>, id: i32, out: i32| -> Result<i32> {
            or_fail!(caller, "metric_get");
            let value = caller.data().host.world(|world| {
                let (_, name) = world.ids.get(id.cast_unsigned() as usize)?;
                world.metrics.get(name).copied()
            });
            let Some(value) = value else {
                return Ok(NOT_FOUND);
            };
            write(&mut caller, out, &value.to_le_bytes())?;
            Ok(OK)
        },
    )?;
    linker.func_wrap(
        "env",
        "proxy_record_metric",
        |caller: Call<'_>, id: i32, value: i64| -> Result<i32> {
            or_fail!(caller, "metric");
            Ok(change(&caller, id, |kind, old| match kind {
                HISTOGRAM => old + 1,
                _ => value,
            }))
        },
    )?;
    Ok(())
}

fn change(caller: &Call<'_>, id: i32, new: impl FnOnce(u32, i64) -> i64) -> i32 {
    caller.data().host.world(|world| {
        let known = world.ids.get(id.cast_unsigned() as usize).cloned();
        let Some((kind, name)) = known else {
            return NOT_FOUND;
        };
        let value = world.metrics.entry(name).or_default();
        if !world.metrics_kept_out {
            *value = new(kind, *value);
        }
        OK
    })
}
