//! The cell as bytes for memory that workers share: fixed size, little-endian, with a format number.

use super::{
    BreakerRules, BreakerState, Cell, Ticket, TimedRules,
    cell::SLOTS,
    window::{BUCKETS, Bucket, Window},
};
use crate::time::MonoTime;

const FORMAT: u8 = 2;

/// Size of an encoded cell.
pub const CELL_BYTES: usize =
    1 + 1 + 4 + 8 + 4 + 4 + 8 + (1 + 8) + 4 + 4 + 8 * SLOTS + 2 * WINDOW_BYTES;
const WINDOW_BYTES: usize = 8 + 8 * BUCKETS;

impl Cell {
    /// The bytes that [`decode`](Self::decode) reads.
    pub fn encode(&self) -> [u8; CELL_BYTES] {
        let mut writer = Writer {
            bytes: [0; CELL_BYTES],
            at: 0,
        };
        writer.put([FORMAT, self.state as u8]);
        writer.put(self.generation.to_le_bytes());
        writer.put(self.rules.to_le_bytes());
        writer.put(self.failures_in_a_row.to_le_bytes());
        writer.put(self.openings.to_le_bytes());
        writer.put(self.until_or_since.nanos().to_le_bytes());
        writer.put([u8::from(self.latched.is_some())]);
        writer.put(self.latched.unwrap_or(0).to_le_bytes());
        writer.put(self.probes_out.to_le_bytes());
        writer.put(self.probes_succeeded.to_le_bytes());
        for lease in self.leases {
            writer.put(lease.nanos().to_le_bytes());
        }
        for window in [&self.window, &self.slow] {
            writer.put(window.newest.to_le_bytes());
            for bucket in window.buckets {
                writer.put(bucket.successes.to_le_bytes());
                writer.put(bucket.failures.to_le_bytes());
            }
        }
        writer.bytes
    }

    /// Reads a cell under the rules that hold now. What is no cell of this format is a closed one
    /// that has seen nothing: losing counts is harmless, refusing traffic for ever is not.
    pub fn decode(bytes: &[u8], rules: &BreakerRules) -> Self {
        read(bytes).map_or_else(|| Self::closed(rules), |cell| cell.under(rules))
    }

    /// Whether these bytes are a cell that counts by rules of another configuration.
    pub fn is_foreign(bytes: &[u8], own: &TimedRules) -> bool {
        read(bytes).is_some_and(|cell| !own.knows(cell.rules))
    }

    /// As [`decode`](Self::decode), for a worker that does not own the cell alone: what another
    /// configuration counts is left as it counts it. So requests that an old configuration admitted
    /// do not wipe what the new one, which adopted the cell, has counted since.
    pub fn decode_shared(bytes: &[u8], rules: &BreakerRules, own: &TimedRules) -> Self {
        match read(bytes) {
            None => Self::closed(rules),
            Some(cell) if cell.rules == rules.fingerprint() || own.knows(cell.rules) => {
                cell.under(rules)
            }
            Some(foreign) => foreign,
        }
    }
}

/// What nearly every request needs to know of its breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Glance {
    /// The breaker is closed: admitted, with this.
    pub ticket: Ticket,
    /// As [`Cell::success_may_wait`].
    pub success_may_wait: bool,
}

impl Glance {
    /// Looks at the first bytes of a cell only. None when it is not simply closed under these rules:
    /// decode it then. Else it says what [`Cell::admit`] would.
    pub fn at(bytes: &[u8], rules: &BreakerRules) -> Option<Self> {
        if bytes.len() != CELL_BYTES {
            return None;
        }
        let mut reader = Reader(bytes);
        let head = reader.take()?;
        let generation = reader.u32()?;
        let fingerprint = reader.u64()?;
        let failures_in_a_row = reader.u32()?;
        let _openings = reader.u32()?;
        let _closed_since = reader.u64()?;
        let [latched] = reader.take()?;
        let simply = head == [FORMAT, BreakerState::Closed as u8] && latched == 0;
        (simply && fingerprint == rules.fingerprint()).then_some(Self {
            ticket: Ticket {
                generation,
                probe: None,
            },
            success_may_wait: failures_in_a_row == 0,
        })
    }
}

fn read(bytes: &[u8]) -> Option<Cell> {
    if bytes.len() != CELL_BYTES {
        return None;
    }
    let mut reader = Reader(bytes);
    let [format, state] = reader.take()?;
    if format != FORMAT {
        return None;
    }
    let state = match state {
        0 => BreakerState::Closed,
        1 => BreakerState::Open,
        2 => BreakerState::HalfOpen,
        _ => return None,
    };
    Some(Cell {
        state,
        generation: reader.u32()?,
        rules: reader.u64()?,
        failures_in_a_row: reader.u32()?,
        openings: reader.u32()?,
        until_or_since: reader.time()?,
        latched: {
            let [is_some] = reader.take()?;
            let latched = reader.u64()?;
            (is_some != 0).then_some(latched)
        },
        probes_out: reader.u32()?,
        probes_succeeded: reader.u32()?,
        leases: {
            let mut leases = [MonoTime::from_nanos(0); SLOTS];
            for lease in &mut leases {
                *lease = reader.time()?;
            }
            leases
        },
        window: reader.window()?,
        slow: reader.window()?,
    })
}

struct Writer {
    bytes: [u8; CELL_BYTES],
    at: usize,
}

impl Writer {
    fn put<const N: usize>(&mut self, bytes: [u8; N]) {
        let end = self.at.saturating_add(N);
        if let Some(place) = self.bytes.get_mut(self.at..end) {
            place.copy_from_slice(&bytes);
        }
        self.at = end;
    }
}

struct Reader<'b>(&'b [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    fn window(&mut self) -> Option<Window> {
        let mut window = Window {
            newest: self.u64()?,
            ..Window::default()
        };
        for bucket in &mut window.buckets {
            *bucket = Bucket {
                successes: self.u32()?,
                failures: self.u32()?,
            };
        }
        Some(window)
    }

    fn time(&mut self) -> Option<MonoTime> {
        self.u64().map(MonoTime::from_nanos)
    }
}
