//! What whoever runs the tests may choose.

/// A number from the environment, or this one.
///
/// # Panics
/// When the variable is set to something else.
#[expect(clippy::disallowed_methods, reason = "tests are told how far to go")]
pub fn number(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|_| panic!("{name}={text:?} is no whole number")),
        Err(_) => default,
    }
}
