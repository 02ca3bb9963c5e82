//! Small texts that many say. Pure.

use std::fmt::Write as _;

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

#[cfg(test)]
mod tests {
    use super::*;

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
