//! Files and functions that have grown past what a reader takes in at once: warnings.

use super::{
    Finding,
    rules::{FILE_LINES, FUNCTION_LINES},
    source::Source,
};

pub fn check(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    if source.lines > FILE_LINES {
        let message = format!(
            "{} lines in one file (aim: at most {FILE_LINES})",
            source.lines
        );
        findings.push(Finding::warning(&source.path, 1, message));
    }
    for (index, token) in source
        .tokens
        .iter()
        .enumerate()
        .filter(|(_, token)| token.text == "fn")
    {
        // `fn(u8) -> u8` is a type.
        if !source
            .tokens
            .get(index + 1)
            .is_some_and(|name| name.is_word())
        {
            continue;
        }
        let Some(open) = body(source, index) else {
            continue;
        };
        let lines = source.tokens[source.closing(open)].line - token.line + 1;
        if lines > FUNCTION_LINES {
            let message = format!(
                "`fn {}` has {lines} lines (aim: at most {FUNCTION_LINES})",
                source.text(index + 1)
            );
            findings.push(Finding::warning(&source.path, token.line, message));
        }
    }
    findings
}

/// Index of the brace that opens the function's body; a trait's declaration has none.
fn body(source: &Source, mut index: usize) -> Option<usize> {
    while let Some(token) = source.tokens.get(index) {
        match token.text.as_str() {
            "{" => return Some(index),
            ";" => return None,
            "(" | "[" => index = source.closing(index) + 1,
            _ => index += 1,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(text: &str) -> Vec<String> {
        check(&Source::new("a.rs", text))
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn a_long_function_is_a_warning() {
        let long = format!(
            "fn short(x: [u8; 3]) {{}}\nfn long() {{\n{}}}\n",
            "    step();\n".repeat(FUNCTION_LINES)
        );
        assert_eq!(
            messages(&long),
            [format!(
                "a.rs:2: warning: `fn long` has {} lines (aim: at most 70)",
                FUNCTION_LINES + 2
            )]
        );
        let just = format!(
            "fn just() {{\n{}}}\n",
            "    step();\n".repeat(FUNCTION_LINES - 2)
        );
        assert_eq!(messages(&just), [""; 0]);
    }

    #[test]
    fn a_long_file_is_a_warning() {
        assert_eq!(messages(&"\n".repeat(FILE_LINES)), [""; 0]);
        assert_eq!(
            messages(&"\n".repeat(FILE_LINES + 1)),
            ["a.rs:1: warning: 401 lines in one file (aim: at most 400)"]
        );
    }

    #[test]
    fn declarations_and_function_types_have_no_body() {
        let text = format!(
            "trait T {{ fn f(&self); }}\ntype F = fn(u8);\nmod m {{\n{}}}\n",
            "const A: u8 = 1;\n".repeat(80)
        );
        assert_eq!(messages(&text), [""; 0]);
    }
}
