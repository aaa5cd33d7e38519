//! What an expression is worth. Every node is visited at most once: there are no loops to bound.

use std::borrow::Cow;

use serde_json::Value as Json;

use super::MAX_OUTPUT;
use super::parser::{Expression, Method, Operator};

#[derive(Clone, Debug)]
enum Value<'a> {
    Nothing,
    Bool(bool),
    Number(f64),
    Text(Cow<'a, str>),
    /// A list or an object.
    Json(&'a Json),
}

/// The expression as text; empty for what is not there.
pub fn text(expression: &Expression, data: &Json) -> String {
    evaluate(expression, data).into_text().into_owned()
}

impl<'a> From<&'a Json> for Value<'a> {
    fn from(json: &'a Json) -> Self {
        match json {
            Json::Null => Self::Nothing,
            Json::Bool(value) => Self::Bool(*value),
            Json::Number(number) => Self::Number(number.as_f64().unwrap_or(0.0)),
            Json::String(text) => Self::Text(Cow::Borrowed(text)),
            Json::Array(_) | Json::Object(_) => Self::Json(json),
        }
    }
}

impl<'a> Value<'a> {
    fn is_true(&self) -> bool {
        match self {
            Self::Nothing => false,
            Self::Bool(value) => *value,
            Self::Number(number) => *number != 0.0 && !number.is_nan(),
            Self::Text(text) => !text.is_empty(),
            Self::Json(_) => true,
        }
    }

    fn into_text(self) -> Cow<'a, str> {
        match self {
            Self::Nothing => Cow::Borrowed(""),
            Self::Bool(value) => Cow::Borrowed(if value { "true" } else { "false" }),
            Self::Number(number) => Cow::Owned(number.to_string()),
            Self::Text(text) => text,
            Self::Json(Json::Array(items)) => Cow::Owned(bounded(
                items
                    .iter()
                    .map(|item| Value::from(item).shallow())
                    .collect::<Vec<_>>()
                    .join(","),
            )),
            Self::Json(_) => Cow::Borrowed("[object]"),
        }
    }

    /// A list within a list is not spelt out.
    fn shallow(self) -> Cow<'a, str> {
        match self {
            Self::Json(_) => Cow::Borrowed("[object]"),
            other => other.into_text(),
        }
    }

    fn as_number(&self) -> f64 {
        match self {
            Self::Nothing | Self::Json(_) => f64::NAN,
            Self::Bool(value) => f64::from(u8::from(*value)),
            Self::Number(number) => *number,
            Self::Text(text) => text.trim().parse().unwrap_or(f64::NAN),
        }
    }
}

fn evaluate<'a>(expression: &'a Expression, data: &'a Json) -> Value<'a> {
    match expression {
        Expression::Text(text) => Value::Text(Cow::Borrowed(text)),
        Expression::Number(number) => Value::Number(*number),
        Expression::Bool(value) => Value::Bool(*value),
        Expression::Null => Value::Nothing,
        Expression::Name(name) => data.get(name).map_or(Value::Nothing, Value::from),
        Expression::Field(of, name) => field(evaluate(of, data), name),
        Expression::Index(of, index) => match (evaluate(of, data), evaluate(index, data)) {
            (Value::Json(Json::Array(items)), Value::Number(at)) if at >= 0.0 => {
                items.get(at as usize).map_or(Value::Nothing, Value::from)
            }
            (of, Value::Text(name)) => field(of, &name),
            _ => Value::Nothing,
        },
        Expression::Call(of, method, arguments) => {
            let arguments = arguments.iter().map(|one| evaluate(one, data)).collect();
            call(evaluate(of, data), *method, arguments)
        }
        Expression::Not(inner) => Value::Bool(!evaluate(inner, data).is_true()),
        Expression::Negative(inner) => Value::Number(-evaluate(inner, data).as_number()),
        Expression::Binary(operator, left, right) => binary(*operator, left, right, data),
        Expression::Choice(condition, yes, no) => match evaluate(condition, data).is_true() {
            true => evaluate(yes, data),
            false => evaluate(no, data),
        },
    }
}

fn field<'a>(of: Value<'a>, name: &str) -> Value<'a> {
    match of {
        Value::Text(text) if name == "length" => Value::Number(text.chars().count() as f64),
        Value::Json(Json::Array(items)) if name == "length" => Value::Number(items.len() as f64),
        Value::Json(Json::Object(fields)) => fields.get(name).map_or(Value::Nothing, Value::from),
        _ => Value::Nothing,
    }
}

fn binary<'a>(
    operator: Operator,
    left: &'a Expression,
    right: &'a Expression,
    data: &'a Json,
) -> Value<'a> {
    let one = evaluate(left, data);
    match operator {
        Operator::Or if one.is_true() => return one,
        Operator::And if !one.is_true() => return one,
        Operator::Else if !matches!(one, Value::Nothing) => return one,
        _ => {}
    }
    let two = evaluate(right, data);
    match operator {
        Operator::Or | Operator::And | Operator::Else => two,
        Operator::Equal => Value::Bool(equal(&one, &two)),
        Operator::Unequal => Value::Bool(!equal(&one, &two)),
        Operator::Less => Value::Bool(one.as_number() < two.as_number()),
        Operator::AtMost => Value::Bool(one.as_number() <= two.as_number()),
        Operator::More => Value::Bool(one.as_number() > two.as_number()),
        Operator::AtLeast => Value::Bool(one.as_number() >= two.as_number()),
        Operator::Plus => match (&one, &two) {
            (Value::Number(one), Value::Number(two)) => Value::Number(one + two),
            _ => {
                let mut joined = one.into_text().into_owned();
                joined.push_str(&two.into_text());
                Value::Text(Cow::Owned(bounded(joined)))
            }
        },
    }
}

fn equal(one: &Value<'_>, two: &Value<'_>) -> bool {
    match (one, two) {
        (Value::Nothing, Value::Nothing) => true,
        (Value::Bool(one), Value::Bool(two)) => one == two,
        (Value::Text(one), Value::Text(two)) => one == two,
        (Value::Number(_), Value::Number(_) | Value::Text(_))
        | (Value::Text(_), Value::Number(_)) => one.as_number() == two.as_number(),
        (Value::Json(one), Value::Json(two)) => std::ptr::eq(*one, *two),
        _ => false,
    }
}

fn call<'a>(of: Value<'a>, method: Method, arguments: Vec<Value<'a>>) -> Value<'a> {
    // What is not there has no text to work on, and a list can only be asked what it holds.
    let text = match (of, method) {
        (Value::Nothing, Method::Includes | Method::StartsWith | Method::EndsWith) => {
            return Value::Bool(false);
        }
        (Value::Nothing, _) => return Value::Nothing,
        (Value::Json(Json::Array(items)), Method::Includes) => {
            let wanted = arguments.first().cloned().unwrap_or(Value::Nothing);
            let found = items.iter().any(|item| equal(&Value::from(item), &wanted));
            return Value::Bool(found);
        }
        (Value::Json(_), _) => return Value::Nothing,
        (other, _) => other.into_text(),
    };
    let number = |at: usize| arguments.get(at).map(Value::as_number);
    let argument = |at: usize| {
        let value = arguments.get(at).cloned().unwrap_or(Value::Nothing);
        value.into_text()
    };
    Value::Text(Cow::Owned(match method {
        Method::Includes => return Value::Bool(text.contains(&*argument(0))),
        Method::StartsWith => return Value::Bool(text.starts_with(&*argument(0))),
        Method::EndsWith => return Value::Bool(text.ends_with(&*argument(0))),
        Method::ToUpperCase => bounded(text.to_uppercase()),
        Method::ToLowerCase => bounded(text.to_lowercase()),
        Method::Trim => text.trim().to_owned(),
        // The first one only, as in JavaScript.
        Method::Replace => bounded(text.replacen(&*argument(0), &argument(1), 1)),
        Method::Substring => {
            let length = text.chars().count();
            let place = |value: f64| clamp(value, length);
            let start = place(number(0).unwrap_or(0.0));
            let end = number(1).map_or(length, place);
            part(&text, start.min(end), start.max(end))
        }
        Method::Slice => {
            let length = text.chars().count();
            let place = |value: f64| match value < 0.0 {
                true => length.saturating_sub(clamp(-value, length)),
                false => clamp(value, length),
            };
            let start = place(number(0).unwrap_or(0.0));
            part(&text, start, number(1).map_or(length, place))
        }
    }))
}

/// NaN and negative numbers are 0.
fn clamp(value: f64, length: usize) -> usize {
    (value as usize).min(length)
}

fn part(text: &str, start: usize, end: usize) -> String {
    text.chars()
        .skip(start)
        .take(end.saturating_sub(start))
        .collect()
}

fn bounded(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(MAX_OUTPUT));
    text
}
