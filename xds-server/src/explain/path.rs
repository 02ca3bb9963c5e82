//! The one spelling that a gateway gives to paths: Envoy's `normalize_path` and `merge_slashes`.

/// `/a//b/../%2e/c?q` -> `/a/c?q`. The query stays as it is.
pub(super) fn normalized(path: &str) -> String {
    let (path, query) = match path.find('?') {
        Some(start) => path.split_at(start),
        None => (path, ""),
    };
    let path = unescaped(path).replace('\\', "/");
    let mut segments: Vec<&str> = Vec::new();
    let mut rest = path.split('/').skip(1).peekable();
    while let Some(segment) = rest.next() {
        match segment {
            "." => {}
            ".." => {
                segments.pop();
            }
            segment => {
                segments.push(segment);
                continue;
            }
        }
        // What a dot segment leaves at the end is a folder.
        if rest.peek().is_none() {
            segments.push("");
        }
    }
    // Slashes are merged after that: `..` takes an empty segment away as it does any other.
    let last = segments.len().saturating_sub(1);
    let mut place = 0..;
    segments.retain(|segment| place.next() == Some(last) || !segment.is_empty());
    format!("/{}{query}", segments.join("/"))
}

/// Escapes of characters that need none are resolved: `%2e` is a dot.
fn unescaped(path: &str) -> String {
    let mut clean = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(start) = rest.find('%') {
        let (before, escape) = rest.split_at(start);
        clean.push_str(before);
        let byte = escape
            .get(1..3)
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        let free = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~".contains(byte);
        let taken = match byte.filter(free) {
            Some(byte) => {
                clean.push(char::from(byte));
                3
            }
            None => {
                clean.push('%');
                1
            }
        };
        rest = escape.get(taken..).unwrap_or_default();
    }
    clean + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_one_spelling() {
        for (given, seen) in [
            ("/", "/"),
            ("/a", "/a"),
            ("/a/", "/a/"),
            ("//a///b", "/a/b"),
            ("/a/./b", "/a/b"),
            ("/a/../b", "/b"),
            ("/../../b", "/b"),
            ("/a/..", "/"),
            ("/a/b/..", "/a/"),
            ("/a/.", "/a/"),
            ("/a//..", "/a/"),
            ("/a//../b", "/a/b"),
            ("/a/%2e%2E/b", "/b"),
            ("/%61%2fb", "/a%2fb"),
            ("/a\\b", "/a/b"),
            ("/a/../b?x=/../y", "/b?x=/../y"),
            ("/100%", "/100%"),
        ] {
            assert_eq!(normalized(given), seen, "{given}");
        }
    }
}
