//! Finds the paths into the crate in Rust source text, well enough for code that rustfmt has
//! formatted: comments, literals and test code are left out, everything else is a token.

/// A path into the crate.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct CratePath {
    /// Its line, from 1.
    pub(crate) line: usize,
    /// Its first segment below the crate's root.
    pub(crate) head: String,
}

/// The paths that begin with `crate::`, or with enough `super::` to reach the root from a file
/// that is `depth` modules below it.
pub(crate) fn crate_paths(source: &str, depth: usize) -> Vec<CratePath> {
    let tokens = without_tests(tokens(source));
    let mut paths = Vec::new();
    let mut braces = 0_usize;
    // The braces around each module that is written out in the file: one more `super` each.
    let mut inline_modules = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        match tokens[at].text.as_str() {
            "{" => {
                braces += 1;
                if at >= 2 && tokens[at - 2].is("mod") {
                    inline_modules.push(braces);
                }
            }
            "}" => {
                inline_modules.pop_if(|module| *module == braces);
                braces = braces.saturating_sub(1);
            }
            _ => {}
        }
        let depth = depth + inline_modules.len();
        let after = if tokens[at].is("crate") {
            Some(at + 1)
        } else {
            after_supers(&tokens, at, depth)
        };
        match after.filter(|&after| is_separator(&tokens, after)) {
            Some(after) => {
                paths.extend(heads(&tokens[after + 2..]));
                at = after + 2;
            }
            None => at += 1,
        }
    }
    paths
}

/// The modules that a file declares, test modules left out.
pub(crate) fn declared_modules(source: &str) -> Vec<String> {
    let tokens = without_tests(tokens(source));
    tokens
        .windows(2)
        .filter(|pair| pair[0].is("mod") && pair[1].is_name())
        .map(|pair| pair[1].text.clone())
        .collect()
}

#[derive(Clone, Debug)]
struct Token {
    line: usize,
    /// A word, or one character of punctuation.
    text: String,
}

impl Token {
    fn is(&self, text: &str) -> bool {
        self.text == text
    }

    fn is_name(&self) -> bool {
        self.text
            .starts_with(|first: char| first.is_alphabetic() || first == '_')
    }
}

fn is_separator(tokens: &[Token], at: usize) -> bool {
    tokens.get(at).is_some_and(|token| token.is(":"))
        && tokens.get(at + 1).is_some_and(|token| token.is(":"))
}

/// Where a chain of exactly `depth` `super` ends, if one begins here.
fn after_supers(tokens: &[Token], mut at: usize, depth: usize) -> Option<usize> {
    let mut supers = 0;
    while tokens.get(at).is_some_and(|token| token.is("super")) {
        supers += 1;
        if supers == depth {
            return Some(at + 1);
        }
        if !is_separator(tokens, at + 1) {
            return None;
        }
        at += 3;
    }
    None
}

/// The first segments of a path or of a group of paths.
fn heads(tokens: &[Token]) -> Vec<CratePath> {
    let path = |token: &Token| CratePath {
        line: token.line,
        head: token.text.clone(),
    };
    match tokens.first() {
        // A macro is exported at the root, wherever it is defined.
        Some(_) if tokens.get(1).is_some_and(|token| token.is("!")) => Vec::new(),
        Some(token) if token.is_name() => vec![path(token)],
        Some(token) if token.is("{") => {
            let mut heads = Vec::new();
            let mut depth = 0;
            for pair in tokens.windows(2) {
                match pair[0].text.as_str() {
                    "{" => depth += 1,
                    "}" => depth -= 1,
                    _ => {}
                }
                if depth == 0 {
                    break;
                }
                if depth == 1 && (pair[0].is("{") || pair[0].is(",")) && pair[1].is_name() {
                    heads.push(path(&pair[1]));
                }
            }
            heads
        }
        _ => Vec::new(),
    }
}

/// Leaves out what follows `#[cfg(test)]` or `#[cfg(all(test, …))]`: one item each.
fn without_tests(tokens: Vec<Token>) -> Vec<Token> {
    let begins = |at: usize, words: &[&str]| {
        words
            .iter()
            .enumerate()
            .all(|(n, word)| tokens.get(at + n).is_some_and(|token| token.is(word)))
    };
    let mut kept = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if begins(at, &["#", "[", "cfg", "(", "test", ")"])
            || begins(at, &["#", "[", "cfg", "(", "all", "(", "test"])
        {
            at = end_of_item(&tokens, at);
        } else {
            kept.push(tokens[at].clone());
            at += 1;
        }
    }
    kept
}

/// Past the item that begins with an attribute here: up to a `;` or the end of its braces.
fn end_of_item(tokens: &[Token], mut at: usize) -> usize {
    let mut depth = 0_usize;
    while let Some(token) = tokens.get(at) {
        at += 1;
        match token.text.as_str() {
            "{" => depth += 1,
            "}" if depth <= 1 => return at,
            "}" => depth -= 1,
            ";" if depth == 0 => return at,
            _ => {}
        }
    }
    at
}

/// Words and punctuation, without comments and literals.
fn tokens(source: &str) -> Vec<Token> {
    let mut rest = source;
    let mut line = 1;
    let mut tokens = Vec::new();
    while let Some(first) = rest.chars().next() {
        let len = literal_or_comment(rest).unwrap_or_else(|| {
            let word = rest
                .find(|c: char| !c.is_alphanumeric() && c != '_')
                .unwrap_or(rest.len());
            let len = word.max(first.len_utf8());
            if !first.is_whitespace() {
                tokens.push(Token {
                    line,
                    text: rest[..len].to_owned(),
                });
            }
            len
        });
        line += rest[..len].matches('\n').count();
        rest = &rest[len..];
    }
    tokens
}

/// The length of the comment or of the text, byte or character literal that begins here.
fn literal_or_comment(rest: &str) -> Option<usize> {
    let until = |start: usize, end: &str| {
        Some(
            rest[start..]
                .find(end)
                .map_or(rest.len(), |at| start + at + end.len()),
        )
    };
    if rest.starts_with("//") {
        return until(0, "\n");
    }
    if rest.starts_with("/*") {
        return until(2, "*/");
    }
    let prefixed = rest
        .strip_prefix("br")
        .or_else(|| rest.strip_prefix('r'))
        .map(|raw| raw.trim_start_matches('#'));
    if let Some(raw) = prefixed.filter(|raw| raw.starts_with('"')) {
        let start = rest.len() - raw.len();
        let hashes = "#".repeat(rest[..start].matches('#').count());
        return until(start + 1, &format!("\"{hashes}"));
    }
    match rest.strip_prefix('b').unwrap_or(rest).chars().next() {
        Some(quote @ '"') => Some(quoted(rest, quote)),
        // A lifetime has no second quote behind its first character.
        Some(quote @ '\'') if rest[1..].starts_with('\\') || rest.chars().nth(2) == Some('\'') => {
            Some(quoted(rest, quote))
        }
        _ => None,
    }
}

/// The length of a quoted literal with escapes.
fn quoted(rest: &str, quote: char) -> usize {
    let start = rest.find(quote).map_or(0, |at| at + 1);
    let mut escaped = false;
    for (at, character) in rest[start..].char_indices() {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if character == quote => return start + at + 1,
            _ => {}
        }
    }
    rest.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(source: &str, depth: usize) -> Vec<(usize, String)> {
        crate_paths(source, depth)
            .into_iter()
            .map(|path| (path.line, path.head))
            .collect()
    }

    #[test]
    fn paths_of_every_form_are_found_with_their_line() {
        let source = "use crate::{\n    a::{B, c::D},\n    e,\n    f::G,\n};\nfn h() -> crate::i::J { $crate::k::l!(); $crate::m!() }\n";
        let expected = [(2, "a"), (3, "e"), (4, "f"), (6, "i"), (6, "k")];
        assert_eq!(
            found(source, 1),
            expected.map(|(line, head)| (line, head.to_owned()))
        );
    }

    #[test]
    fn enough_supers_reach_the_root() {
        assert_eq!(
            found("use super::store::Page;", 1),
            [(1, "store".to_owned())]
        );
        assert_eq!(found("use super::store::Page;", 2), []);
        assert_eq!(
            found("use super::super::store::Page;", 2),
            [(1, "store".to_owned())]
        );
        let inline =
            "mod a {\n use super::{B, C};\n use super::super::d; fn e() {}\n}\nuse super::f;";
        assert_eq!(found(inline, 1), [(3, "d".to_owned()), (5, "f".to_owned())]);
    }

    #[test]
    fn comments_literals_visibility_and_tests_are_left_out() {
        let source = r##"
            //! [`crate::a`]
            /* crate::b */
            pub(crate) const C: &str = "crate::c \" crate::c";
            const D: &str = r#"crate::d " crate::d"#;
            const E: (char, char, &'static [u8]) = ('"', '\'', b"crate::e");
            #[cfg(test)]
            mod tests { use crate::f; mod g { use crate::g; } }
            #[cfg(test)]
            use crate::h;
            #[cfg(all(test, feature = "x"))]
            fn i() { crate::i() }
            #[cfg(feature = "x")]
            use crate::found;
        "##;
        assert_eq!(found(source, 1), [(14, "found".to_owned())]);
    }

    #[test]
    fn modules_of_every_visibility_are_found() {
        let source = "mod a;\npub mod b;\n#[cfg(test)]\nmod c;\n#[cfg(feature = \"x\")]\npub(crate) mod d { }\n";
        assert_eq!(declared_modules(source), ["a", "b", "d"]);
    }
}
