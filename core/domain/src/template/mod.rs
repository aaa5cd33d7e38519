//! Message templates: text with `${…}` expressions (reference/drydock.md 4). Written by whoever
//! configures Plimsoll, filled with what images and registries say, so nothing in them can run:
//! paths, literals, `? :`, `||`, `&&`, comparisons, `+` and a few methods on texts, evaluated over
//! JSON within fixed bounds.
//!
//! What a path does not lead to is empty. Values follow JavaScript where it is unsurprising: empty
//! texts, 0, `null` and `false` count as no, `+` joins unless both sides are numbers.

mod eval;
mod lexer;
mod parser;

use std::fmt;

use serde_json::Value;
use thiserror::Error;

use parser::Expression;

/// Characters of a template.
pub const MAX_SOURCE: usize = 8 * 1024;
/// Bytes of what it renders to; the rest is left out, at a character's boundary.
pub const MAX_OUTPUT: usize = 64 * 1024;

/// A template that is well-formed.
#[derive(Clone, Debug, PartialEq)]
pub struct Template {
    source: String,
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq)]
enum Part {
    Text(String),
    Expression(Expression),
}

/// What cannot be read, and where: characters from the start of the template.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("the template cannot be read at character {at}: {problem}")]
pub struct TemplateError {
    pub at: usize,
    pub problem: String,
}

impl TemplateError {
    fn new(at: usize, problem: impl Into<String>) -> Self {
        Self {
            at,
            problem: problem.into(),
        }
    }
}

impl Template {
    /// # Errors
    /// An expression that is malformed, too deep, or names a method that does not exist.
    pub fn parse(source: &str) -> Result<Self, TemplateError> {
        let characters: Vec<char> = source.chars().collect();
        if characters.len() > MAX_SOURCE {
            return Err(TemplateError::new(
                MAX_SOURCE,
                format!("it is longer than {MAX_SOURCE} characters"),
            ));
        }
        let mut parts = Vec::new();
        let mut text = String::new();
        let mut at = 0;
        while let Some(&character) = characters.get(at) {
            if character == '$' && characters.get(at + 1) == Some(&'{') {
                let (expression, after) = parser::parse(&characters, at + 2)?;
                if !text.is_empty() {
                    parts.push(Part::Text(std::mem::take(&mut text)));
                }
                parts.push(Part::Expression(expression));
                at = after;
            } else {
                text.push(character);
                at += 1;
            }
        }
        if !text.is_empty() {
            parts.push(Part::Text(text));
        }
        Ok(Self {
            source: source.to_owned(),
            parts,
        })
    }

    /// The template of no text.
    pub const fn empty() -> Self {
        Self {
            source: String::new(),
            parts: Vec::new(),
        }
    }

    /// The template as it was written.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Fills the template from `data`, an object whose fields are the names that paths begin with.
    pub fn render(&self, data: &Value) -> String {
        let mut out = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => push(&mut out, text),
                Part::Expression(expression) => push(&mut out, &eval::text(expression, data)),
            }
        }
        out
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)
    }
}

/// Adds as much of `text` as there is room for.
fn push(out: &mut String, text: &str) {
    let room = MAX_OUTPUT.saturating_sub(out.len());
    out.push_str(&text[..text.floor_char_boundary(room)]);
}

#[cfg(test)]
mod tests;
