//! Panics of a library that are expected: redb panics on pages that are not what it wrote. They are a value here, and
//! nothing on stderr.

use std::{
    any::Any,
    cell::Cell,
    panic::{self, AssertUnwindSafe},
    sync::Once,
};

thread_local! {
    static IS_QUIET: Cell<bool> = const { Cell::new(false) };
}

/// What a library does, or what it said as it panicked. What it worked on is not to be used any more.
pub(super) fn quietly<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let told = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !IS_QUIET.get() {
                told(info);
            }
        }));
    });
    let before = IS_QUIET.replace(true);
    let done = panic::catch_unwind(AssertUnwindSafe(work));
    IS_QUIET.set(before);
    done.map_err(|panic| said(&*panic))
}

fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("its pages make no sense").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_what_it_said() {
        assert_eq!(quietly(|| 7), Ok(7));
        let index = |at: usize| [1, 2][at];
        let said = quietly(|| index(2)).unwrap_err();
        assert!(said.contains("out of bounds"), "{said}");
        let said = quietly(|| quietly(|| index(2)).map(|_| ())).unwrap();
        assert!(said.is_err() && !IS_QUIET.get());
    }
}
