//! Rust source as the rules see it: its tokens with their lines, and its comments. Enough of Rust's lexical grammar that a
//! word in a string is not taken for code and a brace in a comment does not count.

/// One file.
pub struct Source {
    /// From the workspace's folder, with `/`.
    pub path: String,
    pub text: String,
    pub tokens: Vec<Token>,
    pub comments: Vec<Comment>,
}

/// A word, a number, or one punctuation character; strings and characters are left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    pub line: usize,
    pub text: String,
}

/// A comment with its markers; a block comment is one comment at its first line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Comment {
    pub line: usize,
    pub text: String,
}

impl Source {
    pub fn new(path: impl Into<String>, text: impl Into<String>) -> Self {
        let (path, text) = (path.into(), text.into());
        let mut lexer = Lexer { rest: &text, line: 1, tokens: Vec::new(), comments: Vec::new() };
        lexer.run();
        let Lexer { tokens, comments, .. } = lexer;
        Self { path, text, tokens, comments }
    }

    /// Whether the file is only for tests: they may speak of other programs and use them.
    pub fn is_for_tests(&self) -> bool {
        self.path.split('/').any(|part| matches!(part, "tests" | "tests.rs" | "testing.rs"))
    }

    /// The tokens' texts from one on, for looking ahead.
    pub fn texts(&self, from: usize) -> impl Iterator<Item = &str> {
        self.tokens[from.min(self.tokens.len())..].iter().map(|token| token.text.as_str())
    }

    /// Whether these tokens stand at this place.
    pub fn stands(&self, at: usize, texts: &[&str]) -> bool {
        self.texts(at).take(texts.len()).eq(texts.iter().copied())
    }
}

struct Lexer<'a> {
    rest: &'a str,
    line: usize,
    tokens: Vec<Token>,
    comments: Vec<Comment>,
}

impl Lexer<'_> {
    fn run(&mut self) {
        while let Some(first) = self.rest.chars().next() {
            let length = if self.rest.starts_with("//") {
                self.comment(self.rest.find('\n').unwrap_or(self.rest.len()))
            } else if self.rest.starts_with("/*") {
                self.comment(block_comment(self.rest))
            } else if let Some(length) = string(self.rest) {
                length
            } else if first.is_alphanumeric() || first == '_' {
                let end = self.rest.find(|c: char| !c.is_alphanumeric() && c != '_');
                self.token(end.unwrap_or(self.rest.len()))
            } else if first.is_whitespace() {
                first.len_utf8()
            } else {
                self.token(first.len_utf8())
            };
            let (done, rest) = self.rest.split_at(length);
            self.line += done.matches('\n').count();
            self.rest = rest;
        }
    }

    fn token(&mut self, length: usize) -> usize {
        self.tokens.push(Token { line: self.line, text: self.rest[..length].to_owned() });
        length
    }

    fn comment(&mut self, length: usize) -> usize {
        self.comments.push(Comment { line: self.line, text: self.rest[..length].to_owned() });
        length
    }
}

/// The length of a block comment, which may hold others.
fn block_comment(text: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < text.len() {
        let rest = &text.as_bytes()[at..];
        if rest.starts_with(b"/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if rest.starts_with(b"*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    text.len()
}

/// The length of a string or character literal, if one begins here.
fn string(text: &str) -> Option<usize> {
    let prefix = ["br", "cr", "b", "c", "r", ""].into_iter().find(|prefix| {
        text.strip_prefix(prefix).is_some_and(|rest| {
            let rest = if prefix.ends_with('r') { rest.trim_start_matches('#') } else { rest };
            rest.starts_with('"') || (matches!(*prefix, "b" | "") && rest.starts_with('\''))
        })
    })?;
    let body = &text[prefix.len()..];
    let length = if prefix.ends_with('r') {
        let hashes = body.len() - body.trim_start_matches('#').len();
        let end = format!("\"{}", "#".repeat(hashes));
        let begin = hashes + 1;
        begin + body[begin..].find(&end).map_or(body.len() - begin, |at| at + end.len())
    } else if body.starts_with('"') {
        quoted(body, '"')
    } else {
        character(body)?
    };
    Some(prefix.len() + length)
}

/// The length of a literal in quotes, in which a backslash takes the next character's meaning.
fn quoted(body: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in body.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == quote => return at + 1,
            _ => {}
        }
    }
    body.len()
}

/// The length of a character literal; `None` for a lifetime.
fn character(body: &str) -> Option<usize> {
    let mut chars = body.char_indices().skip(1);
    let (_, first) = chars.next()?;
    let (at, second) = chars.next()?;
    if first == '\\' {
        Some(quoted(body, '\''))
    } else if second == '\'' {
        Some(at + 1)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(text: &str) -> Vec<String> {
        Source::new("x.rs", text).tokens.into_iter().map(|token| token.text).collect()
    }

    #[test]
    fn strings_and_comments_are_no_code() {
        assert_eq!(
            tokens(r##"a "b // \" c" d r#"e " f"# g b"h" '"' i '\'' j // k"##),
            ["a", "d", "g", "i", "j"]
        );
        assert_eq!(tokens("a /* b /* c */ d */ e"), ["a", "e"]);
    }

    #[test]
    fn a_lifetime_is_not_a_character() {
        assert_eq!(tokens("&'a str, 'x', 'static"), ["&", "'", "a", "str", ",", ",", "'", "static"]);
    }

    #[test]
    fn lines_are_counted_through_strings_and_comments() {
        let source = Source::new("x.rs", "a\n/* \n */ b \"\n\" c // d\n");
        let lines: Vec<(usize, &str)> = source.tokens.iter().map(|t| (t.line, t.text.as_str())).collect();
        assert_eq!(lines, [(1, "a"), (3, "b"), (4, "c")]);
        assert_eq!(source.comments.iter().map(|c| c.line).collect::<Vec<_>>(), [2, 4]);
    }

    #[test]
    fn what_never_ends_ends_with_the_file() {
        for text in ["\"abc", "/* abc", "r#\"abc\"", "'\\", "b'", "'"] {
            Source::new("x.rs", text);
        }
    }
}
