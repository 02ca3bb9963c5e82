//! Small texts that many say. Pure.

use std::fmt::{Display, Write as _};

/// Lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // A text takes whatever it is given.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// `1 route`, `2 routes`.
pub fn counted(number: usize, what: &str) -> String {
    match number {
        1 => format!("1 {what}"),
        _ => format!("{number} {what}s"),
    }
}

/// `10.0.1.10:80`, `orders.internal:80`, `[::1]:80`.
pub fn address(host: &str, port: impl Display) -> String {
    match host.contains(':') {
        true => format!("[{host}]:{port}"),
        false => format!("{host}:{port}"),
    }
}

/// What a rule does: `observe` or `enforce`.
pub fn mode(observes: bool) -> &'static str {
    if observes { "observe" } else { "enforce" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_colon_in_a_host_is_no_port() {
        assert_eq!(address("10.0.1.10", 80), "10.0.1.10:80");
        assert_eq!(address("::1", 80), "[::1]:80");
    }

    #[test]
    fn bytes_are_two_digits_each_and_one_is_no_plural() {
        assert_eq!(hex(&[0, 10, 255]), "000aff");
        assert_eq!(hex(&[]), "");
        assert_eq!(
            (counted(1, "route"), counted(0, "route")),
            ("1 route".into(), "0 routes".into())
        );
    }
}
