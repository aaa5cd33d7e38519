//! From the characters of one expression to tokens.

use super::TemplateError;

#[derive(Clone, Debug, PartialEq)]
pub enum Token {
    Name(String),
    Text(String),
    Number(f64),
    /// An operator or bracket.
    Sign(&'static str),
}

/// Longest first, so that `===` is not read as `==`.
const SIGNS: &[&str] = &[
    "===", "!==", "==", "!=", "<=", ">=", "&&", "||", "??", "?.", "?", ":", ".", ",", "(", ")",
    "[", "]", "+", "-", "!", "<", ">", "}",
];

/// Reads one token at `at`; answers with it, where it began, and where the next one may begin.
pub fn next(source: &[char], mut at: usize) -> Result<(Token, usize, usize), TemplateError> {
    while source.get(at).is_some_and(|c| c.is_whitespace()) {
        at += 1;
    }
    let start = at;
    let Some(&first) = source.get(at) else {
        return Err(TemplateError::new(at, "a `}` is missing"));
    };
    if first == '"' || first == '\'' {
        let (text, after) = quoted(source, at, first)?;
        return Ok((Token::Text(text), start, after));
    }
    if first.is_ascii_digit() {
        let word = word(source, at, |c| c.is_ascii_digit() || c == '.');
        let number = word
            .parse()
            .map_err(|_| TemplateError::new(start, format!("{word} is no number")))?;
        return Ok((Token::Number(number), start, start + word.chars().count()));
    }
    if is_name(first) {
        let word = word(source, at, |c| is_name(c) || c.is_ascii_digit());
        let after = start + word.chars().count();
        return Ok((Token::Name(word), start, after));
    }
    for sign in SIGNS {
        let length = sign.chars().count();
        let here = source.get(at..at + length);
        if here.is_some_and(|here| here.iter().copied().eq(sign.chars())) {
            // `a?.5:1` is a choice, not a path.
            let digit = source.get(at + length).is_some_and(char::is_ascii_digit);
            if *sign == "?." && digit {
                continue;
            }
            return Ok((Token::Sign(sign), start, at + length));
        }
    }
    Err(TemplateError::new(
        start,
        format!("{first:?} has no meaning here"),
    ))
}

fn is_name(c: char) -> bool {
    c.is_alphabetic() || c == '_' || c == '$'
}

fn word(source: &[char], at: usize, belongs: impl Fn(char) -> bool) -> String {
    let rest = source.get(at..).unwrap_or_default();
    rest.iter().copied().take_while(|c| belongs(*c)).collect()
}

fn quoted(source: &[char], start: usize, quote: char) -> Result<(String, usize), TemplateError> {
    let mut text = String::new();
    let mut at = start + 1;
    while let Some(&character) = source.get(at) {
        at += 1;
        if character == quote {
            return Ok((text, at));
        }
        if character != '\\' {
            text.push(character);
            continue;
        }
        let escaped = source.get(at).copied();
        at += 1;
        match escaped {
            Some('n') => text.push('\n'),
            Some('t') => text.push('\t'),
            Some('r') => text.push('\r'),
            Some('u') => {
                let hex: String = source.get(at..at + 4).unwrap_or_default().iter().collect();
                let code = u32::from_str_radix(&hex, 16).ok().and_then(char::from_u32);
                let code = code.filter(|_| hex.len() == 4).ok_or_else(|| {
                    TemplateError::new(at, "`\\u` needs four hexadecimal digits of a character")
                })?;
                text.push(code);
                at += 4;
            }
            Some(other) => text.push(other),
            None => break,
        }
    }
    Err(TemplateError::new(start, "a text is not closed"))
}
