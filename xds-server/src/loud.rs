//! What is said on stderr beside the log, for people who look there. Whoever is behind it may be gone, or its disk full:
//! `eprintln!` would end the task that has something to say.

use std::{
    fmt,
    io::{self, Write as _},
};

/// Says a line.
pub fn tell(line: fmt::Arguments<'_>) {
    // The log says it too; there is nobody else to tell.
    let _ = writeln!(io::stderr(), "{line}");
}
