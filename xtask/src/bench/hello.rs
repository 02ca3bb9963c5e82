//! The least that a wasm filter can be, as the floor under every other: Envoy calls it for each
//! request's headers, and it says "go on". Written by hand, so that no compiler is needed for it.

const TYPE: u8 = 1;
const FUNCTION: u8 = 3;
const MEMORY: u8 = 5;
const EXPORT: u8 = 7;
const CODE: u8 = 10;
const I32: u8 = 0x7f;
const KIND_FUNCTION: u8 = 0;
const KIND_MEMORY: u8 = 2;

/// Name and type (an index into [`TYPES`]) of each function. All of them return 0 where they return
/// anything: for headers that is "continue".
const FUNCTIONS: [(&str, u8); 4] = [
    ("proxy_abi_version_0_2_1", 0),
    ("malloc", 1),
    ("proxy_on_context_create", 2),
    ("proxy_on_request_headers", 3),
];
/// Numbers of parameters and results.
const TYPES: [(usize, usize); 4] = [(0, 0), (1, 1), (2, 0), (3, 1)];

/// The module's bytes.
pub fn module() -> Vec<u8> {
    let types = TYPES.map(|(parameters, results)| {
        let mut bytes = vec![0x60];
        bytes.extend(list(&vec![vec![I32]; parameters]));
        bytes.extend(list(&vec![vec![I32]; results]));
        bytes
    });
    let exports = (0..).zip(FUNCTIONS).map(|(index, (name, _))| {
        let mut bytes = text(name);
        bytes.extend([KIND_FUNCTION, index]);
        bytes
    });
    let memory = [text("memory"), vec![KIND_MEMORY, 0]].concat();
    let exports: Vec<_> = exports.chain([memory]).collect();
    let bodies = FUNCTIONS.map(|(_, kind)| {
        let code: &[u8] = match TYPES[usize::from(kind)] {
            // No locals; `i32.const 0`; end.
            (_, 1) => &[0, 0x41, 0, 0x0b],
            _ => &[0, 0x0b],
        };
        sized(code)
    });
    let mut module = b"\0asm\x01\0\0\0".to_vec();
    for (id, content) in [
        (TYPE, list(&types)),
        (FUNCTION, list(&FUNCTIONS.map(|(_, kind)| vec![kind]))),
        (MEMORY, list(&[vec![0, 1]])),
        (EXPORT, list(&exports)),
        (CODE, list(&bodies)),
    ] {
        module.push(id);
        module.extend(sized(&content));
    }
    module
}

fn list(items: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = length(items.len());
    bytes.extend(items.concat());
    bytes
}

fn text(text: &str) -> Vec<u8> {
    sized(text.as_bytes())
}

fn sized(content: &[u8]) -> Vec<u8> {
    [&length(content.len()), content].concat()
}

/// Unsigned LEB128.
fn length(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = (value & 0x7f) as u8;
        value >>= 7;
        if value == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_beyond_seven_bits_take_two_bytes() {
        assert_eq!(length(127), [127]);
        assert_eq!(length(300), [0xac, 2]);
    }
}
