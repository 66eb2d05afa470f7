//! JSON values of which nothing is lost: serde_json's own keeps the last of several fields of one name.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// What the message about such a field begins with; the name follows.
const TWICE: &str = "two values of the field ";

/// A value in which every field of an object has a name of its own, or its namesakes have the same value.
pub(super) struct Strict(pub Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Values).map(Self)
    }
}

/// The name of the field that has two values, where that is what is wrong.
pub(super) fn field_with_two_values(message: &str) -> Option<&str> {
    let rest = message.strip_prefix(TWICE)?;
    Some(rest.rsplit_once(" at line ").map_or(rest, |(name, _)| name))
}

struct Values;

impl<'de> Visitor<'de> for Values {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Value, A::Error> {
        let mut all = Vec::new();
        while let Some(Strict(value)) = from.next_element()? {
            all.push(value);
        }
        Ok(Value::Array(all))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Value, A::Error> {
        let mut all = Map::new();
        while let Some((name, Strict(value))) = from.next_entry::<String, Strict>()? {
            match all.get(&name) {
                Some(other) if *other != value => {
                    return Err(A::Error::custom(format!("{TWICE}{name}")));
                }
                _ => all.insert(name, value),
            };
        }
        Ok(Value::Object(all))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_those_of_serde_json_unless_a_field_has_two() {
        let text =
            r#"{"a": [1, -2, 3.5, 1e300, true, null, "x\n"], "b": {"c": {}}, "b": {"c": {}}}"#;
        let Strict(value) = serde_json::from_str(text).unwrap();
        assert_eq!(value, serde_json::from_str::<Value>(text).unwrap());
        for (text, name) in [
            (r#"{"a": 1, "b": 2, "a": 3}"#, Some("a")),
            (r#"[{"x": {"at line 3": 1, "at line 3": "1"}}]"#, Some("at line 3")),
            (r#"{"a": 1, "b""#, None),
        ] {
            let error = serde_json::from_str::<Strict>(text).err().unwrap().to_string();
            assert_eq!(field_with_two_values(&error), name, "{error}");
        }
    }
}
