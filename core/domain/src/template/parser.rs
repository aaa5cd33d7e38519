//! From tokens to an expression. The depth is bounded, so that evaluation, which follows the same
//! shape, is too.

use super::TemplateError;
use super::lexer::{Token, next};

/// Brackets, choices and operators within each other.
const MAX_DEPTH: usize = 24;
/// Operators of one expression: a chain of them leans to the left, so that its length is its depth.
const MAX_OPERATORS: usize = 250;

#[derive(Clone, Debug, PartialEq)]
pub enum Expression {
    Text(String),
    Number(f64),
    Bool(bool),
    Null,
    Name(String),
    Field(Box<Expression>, String),
    Index(Box<Expression>, Box<Expression>),
    Call(Box<Expression>, Method, Vec<Expression>),
    Not(Box<Expression>),
    Negative(Box<Expression>),
    Binary(Operator, Box<Expression>, Box<Expression>),
    Choice(Box<Expression>, Box<Expression>, Box<Expression>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    Or,
    And,
    /// `??`: the right side where the left one is nothing.
    Else,
    Equal,
    Unequal,
    Less,
    AtMost,
    More,
    AtLeast,
    Plus,
}

/// Operators by how tightly they bind; those of one row group to the left.
const LEVELS: &[&[(&str, Operator)]] = &[
    &[("||", Operator::Or), ("??", Operator::Else)],
    &[("&&", Operator::And)],
    &[
        ("===", Operator::Equal),
        ("!==", Operator::Unequal),
        ("==", Operator::Equal),
        ("!=", Operator::Unequal),
    ],
    &[
        ("<=", Operator::AtMost),
        (">=", Operator::AtLeast),
        ("<", Operator::Less),
        (">", Operator::More),
    ],
    &[("+", Operator::Plus)],
];

macro_rules! methods {
    ($($variant:ident = $name:literal, $least:literal..=$most:literal;)+) => {
        /// What can be done with a text.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Method { $($variant),+ }

        impl Method {
            fn named(name: &str) -> Option<(Self, std::ops::RangeInclusive<usize>)> {
                match name { $($name => Some((Self::$variant, $least..=$most)),)+ _ => None }
            }
        }
    };
}

methods! {
    Substring = "substring", 1..=2;
    Slice = "slice", 1..=2;
    ToUpperCase = "toUpperCase", 0..=0;
    ToLowerCase = "toLowerCase", 0..=0;
    Trim = "trim", 0..=0;
    Replace = "replace", 2..=2;
    Includes = "includes", 1..=1;
    StartsWith = "startsWith", 1..=1;
    EndsWith = "endsWith", 1..=1;
}

/// Parses the expression that begins at `at`, up to and with its `}`.
pub fn parse(source: &[char], at: usize) -> Result<(Expression, usize), TemplateError> {
    let mut parser = Parser {
        source,
        at,
        depth: 0,
        operators: 0,
    };
    let expression = parser.choice()?;
    parser.expect("}")?;
    Ok((expression, parser.at))
}

struct Parser<'a> {
    source: &'a [char],
    at: usize,
    depth: usize,
    operators: usize,
}

impl Parser<'_> {
    fn fail<T>(&self, problem: impl Into<String>) -> Result<T, TemplateError> {
        Err(TemplateError::new(self.at, problem))
    }

    fn take(&mut self) -> Result<Token, TemplateError> {
        let (token, _, after) = next(self.source, self.at)?;
        self.at = after;
        Ok(token)
    }

    /// Takes the sign if it comes next.
    fn takes(&mut self, sign: &str) -> Result<bool, TemplateError> {
        let (token, _, after) = next(self.source, self.at)?;
        let found = matches!(token, Token::Sign(found) if found == sign);
        if found {
            self.at = after;
        }
        Ok(found)
    }

    fn expect(&mut self, sign: &str) -> Result<(), TemplateError> {
        match self.takes(sign)? {
            true => Ok(()),
            false => self.fail(format!("a `{sign}` is expected")),
        }
    }

    fn choice(&mut self) -> Result<Expression, TemplateError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return self.fail(format!("it is nested more than {MAX_DEPTH} times"));
        }
        let condition = self.binary(0)?;
        let expression = if self.takes("?")? {
            let yes = self.choice()?;
            self.expect(":")?;
            let no = self.choice()?;
            Expression::Choice(Box::new(condition), Box::new(yes), Box::new(no))
        } else {
            condition
        };
        self.depth -= 1;
        Ok(expression)
    }

    fn binary(&mut self, level: usize) -> Result<Expression, TemplateError> {
        let Some(operators) = LEVELS.get(level) else {
            return self.unary();
        };
        let mut left = self.binary(level + 1)?;
        loop {
            let mut found = None;
            for (sign, operator) in *operators {
                if self.takes(sign)? {
                    found = Some(*operator);
                    break;
                }
            }
            let Some(operator) = found else {
                return Ok(left);
            };
            self.operators += 1;
            if self.operators > MAX_OPERATORS {
                return self.fail(format!("it has more than {MAX_OPERATORS} operators"));
            }
            let right = self.binary(level + 1)?;
            left = Expression::Binary(operator, Box::new(left), Box::new(right));
        }
    }

    fn unary(&mut self) -> Result<Expression, TemplateError> {
        let sign = match () {
            () if self.takes("!")? => Expression::Not,
            () if self.takes("-")? => Expression::Negative,
            () => return self.postfix(),
        };
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return self.fail(format!("it is nested more than {MAX_DEPTH} times"));
        }
        let inner = self.unary()?;
        self.depth -= 1;
        Ok(sign(Box::new(inner)))
    }

    fn postfix(&mut self) -> Result<Expression, TemplateError> {
        let mut value = self.primary()?;
        for _ in 0..MAX_DEPTH {
            if self.takes(".")? || self.takes("?.")? {
                let at = self.at;
                let Token::Name(name) = self.take()? else {
                    return self.fail("a name is expected after the dot");
                };
                if !self.takes("(")? {
                    value = Expression::Field(Box::new(value), name);
                    continue;
                }
                let Some((method, count)) = Method::named(&name) else {
                    return Err(TemplateError::new(at, format!("there is no method {name}")));
                };
                let arguments = self.arguments()?;
                if !count.contains(&arguments.len()) {
                    return Err(TemplateError::new(
                        at,
                        format!("{name} has another number of arguments"),
                    ));
                }
                value = Expression::Call(Box::new(value), method, arguments);
            } else if self.takes("[")? {
                let index = self.choice()?;
                self.expect("]")?;
                value = Expression::Index(Box::new(value), Box::new(index));
            } else {
                return Ok(value);
            }
        }
        self.fail("the path is too long")
    }

    fn arguments(&mut self) -> Result<Vec<Expression>, TemplateError> {
        let mut arguments = Vec::new();
        if self.takes(")")? {
            return Ok(arguments);
        }
        loop {
            arguments.push(self.choice()?);
            if self.takes(")")? {
                return Ok(arguments);
            }
            self.expect(",")?;
        }
    }

    fn primary(&mut self) -> Result<Expression, TemplateError> {
        let start = self.at;
        Ok(match self.take()? {
            Token::Text(text) => Expression::Text(text),
            Token::Number(number) => Expression::Number(number),
            Token::Name(name) => match name.as_str() {
                "true" => Expression::Bool(true),
                "false" => Expression::Bool(false),
                "null" | "undefined" => Expression::Null,
                _ => Expression::Name(name),
            },
            Token::Sign("(") => {
                let inner = self.choice()?;
                self.expect(")")?;
                inner
            }
            Token::Sign(sign) => {
                return Err(TemplateError::new(
                    start,
                    format!("a value is expected, not `{sign}`"),
                ));
            }
        })
    }
}
