//! Values that the document describes exactly and the use case judges: what is refused is then
//! refused in the contract's words, not in a parser's.

use std::{borrow::Cow, marker::PhantomData};

use poem_openapi::{
    registry::{MetaSchema, MetaSchemaRef, Registry},
    types::{ParseError, ParseFromJSON, ParseFromParameter, ParseResult, ToJSON, Type},
};
use serde_json::Value;

/// What is accepted.
pub trait Description: Send + Sync + 'static {
    /// What clients call it; without a name it is written where it is used.
    const NAME: Option<&'static str> = None;

    fn schema() -> MetaSchema;

    /// Registers the named types that the schema refers to.
    fn register(_registry: &mut Registry) {}
}

/// Text in a path, a query or a header.
pub type Text<D> = Described<D, String>;
/// A JSON body.
pub type Body<D> = Described<D, Value>;

/// A `T` as it came, documented as a `D`.
pub struct Described<D, T>(pub T, PhantomData<fn() -> D>);

impl<D, T> Described<D, T> {
    const fn new(value: T) -> Self {
        Self(value, PhantomData)
    }
}

impl<D> From<String> for Text<D> {
    fn from(text: String) -> Self {
        Self::new(text)
    }
}

impl<D: Description, T: Send + Sync> Type for Described<D, T> {
    const IS_REQUIRED: bool = true;
    type RawValueType = T;
    type RawElementValueType = T;

    fn name() -> Cow<'static, str> {
        D::NAME.unwrap_or("described").into()
    }

    fn schema_ref() -> MetaSchemaRef {
        match D::NAME {
            Some(name) => MetaSchemaRef::Reference(name.to_owned()),
            None => MetaSchemaRef::Inline(Box::new(D::schema())),
        }
    }

    fn register(registry: &mut Registry) {
        if let Some(name) = D::NAME {
            registry.create_schema::<D, _>(name.to_owned(), |_| D::schema());
        }
        D::register(registry);
    }

    fn as_raw_value(&self) -> Option<&T> {
        Some(&self.0)
    }

    fn raw_element_iter<'a>(&'a self) -> Box<dyn Iterator<Item = &'a T> + 'a> {
        Box::new(std::iter::once(&self.0))
    }
}

impl<D: Description> ParseFromParameter for Text<D> {
    fn parse_from_parameter(value: &str) -> ParseResult<Self> {
        Ok(Self::new(value.to_owned()))
    }
}

impl<D: Description> ParseFromJSON for Text<D> {
    fn parse_from_json(value: Option<Value>) -> ParseResult<Self> {
        match value.unwrap_or_default() {
            Value::String(text) => Ok(Self::new(text)),
            other => Err(ParseError::expected_type(other)),
        }
    }
}

impl<D: Description> ToJSON for Text<D> {
    fn to_json(&self) -> Option<Value> {
        Some(Value::from(self.0.clone()))
    }
}

impl<D: Description> ParseFromJSON for Body<D> {
    fn parse_from_json(value: Option<Value>) -> ParseResult<Self> {
        Ok(Self::new(value.unwrap_or_default()))
    }
}

/// `choices!(pub Order = "asc", "desc");`: one of these words. With `as "SortOrder"` behind the
/// type, clients have one type of that name, wherever it is used.
#[macro_export]
macro_rules! choices {
    ($vis:vis $name:ident $(as $shown:literal)? = $($word:literal),+ $(,)?) => {
        $vis enum $name {}
        impl $crate::drydock::described::Description for $name {
            $(const NAME: Option<&'static str> = Some($shown);)?
            fn schema() -> poem_openapi::registry::MetaSchema {
                let mut schema = poem_openapi::registry::MetaSchema::new("string");
                schema.enum_items = vec![$($word.into()),+];
                schema
            }
        }
    };
}

/// `words!(pub Name = 1..=100, "^[a-z]+$");`: so many characters of this pattern; `1..` has no
/// upper bound.
#[macro_export]
macro_rules! words {
    ($vis:vis $name:ident = $min:literal .., $pattern:literal) => {
        $crate::words!(@ $vis $name, $min, None, $pattern);
    };
    ($vis:vis $name:ident = $min:literal ..= $max:literal, $pattern:literal) => {
        $crate::words!(@ $vis $name, $min, Some($max), $pattern);
    };
    (@ $vis:vis $name:ident, $min:literal, $max:expr, $pattern:literal) => {
        $vis enum $name {}
        impl $crate::drydock::described::Description for $name {
            fn schema() -> poem_openapi::registry::MetaSchema {
                let mut schema = poem_openapi::registry::MetaSchema::new("string");
                schema.min_length = Some($min);
                schema.max_length = $max;
                schema.pattern = Some($pattern.to_owned());
                schema
            }
        }
    };
}

crate::words!(pub IdempotencyKey = 1..=255, "^[ -~]*[!-~][ -~]*$");

/// An object with these fields and no other.
pub fn closed(fields: Vec<(&'static str, MetaSchema)>) -> MetaSchema {
    let mut schema = open(fields);
    // The transformation to 3.1 writes `false`, which poem-openapi cannot.
    let nothing = MetaSchema::new(NOTHING);
    schema.additional_properties = Some(Box::new(MetaSchemaRef::Inline(Box::new(nothing))));
    schema
}

/// An object with these fields; others are ignored.
pub fn open(fields: Vec<(&'static str, MetaSchema)>) -> MetaSchema {
    let mut schema = MetaSchema::new("object");
    schema.properties = fields
        .into_iter()
        .map(|(name, field)| (name, MetaSchemaRef::Inline(Box::new(field))))
        .collect();
    schema
}

/// The type of a schema that nothing fits.
pub const NOTHING: &str = "nothing";

/// The text of a parameter that may be absent.
pub fn text<D>(parameter: &Option<Text<D>>) -> Option<&str> {
    parameter.as_ref().map(|text| text.0.as_str())
}
