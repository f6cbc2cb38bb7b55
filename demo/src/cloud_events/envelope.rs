//! The JSON object of a CloudEvent, not yet understood: its attributes, and the data as text.

use std::{collections::BTreeMap, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, Visitor},
};
use serde_json::value::RawValue;

/// An object with everything that it holds. Attributes that are null count as absent.
#[derive(Debug)]
pub(super) struct Envelope<'a> {
    pub(super) attributes: BTreeMap<String, Attribute>,
    pub(super) data: Option<&'a RawValue>,
}

/// The value of an attribute: one of the simple types that CloudEvents allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Attribute {
    Text(String),
    Bool(bool),
    Integer(i64),
}

impl fmt::Display for Attribute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Bool(value) => value.fmt(f),
            Self::Integer(value) => value.fmt(f),
        }
    }
}

impl<'de> Deserialize<'de> for Envelope<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Envelope<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Envelope<'de>, M::Error> {
                let (mut attributes, mut data) = (BTreeMap::new(), None);
                while let Some(name) = map.next_key::<String>()? {
                    let is_repeated = if name == "data" {
                        data.replace(map.next_value()?).is_some()
                    } else {
                        let value: Option<Attribute> = map
                            .next_value()
                            .map_err(|error| in_attribute(&name, error))?;
                        attributes.insert(name.clone(), value).is_some()
                    };
                    if is_repeated {
                        return Err(M::Error::custom(format_args!("`{name}` is there twice")));
                    }
                }
                let attributes = attributes
                    .into_iter()
                    .filter_map(|(name, value)| Some((name, value?)))
                    .collect();
                Ok(Envelope { attributes, data })
            }
        }

        deserializer.deserialize_map(Object)
    }
}

/// Says which attribute was wrong.
fn in_attribute<E: Error>(name: &str, error: impl fmt::Display) -> E {
    E::custom(format_args!("`{name}`: {error}"))
}

impl<'de> Deserialize<'de> for Attribute {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Simple;

        impl Visitor<'_> for Simple {
            type Value = Attribute;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text, a boolean or an integer")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Attribute, E> {
                Ok(Attribute::Text(text.to_owned()))
            }

            fn visit_bool<E: Error>(self, value: bool) -> Result<Attribute, E> {
                Ok(Attribute::Bool(value))
            }

            fn visit_i64<E: Error>(self, value: i64) -> Result<Attribute, E> {
                Ok(Attribute::Integer(value))
            }

            fn visit_u64<E: Error>(self, value: u64) -> Result<Attribute, E> {
                i64::try_from(value)
                    .map(Attribute::Integer)
                    .map_err(E::custom)
            }
        }

        deserializer.deserialize_any(Simple)
    }
}
