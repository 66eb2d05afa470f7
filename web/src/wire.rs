//! Messages as JavaScript values: a string, or `{ text, blobs }` where files ride along.

use js_sys::{Array, Object, Reflect, Uint8Array};
use serde::{Serialize, de::DeserializeOwned};
use wasm_bindgen::{JsCast, JsValue};
use web_sys::{Blob, BlobPropertyBag};

use crate::protocol::{Envelope, ProtocolError, from_text, to_text};

/// The type of files that only programs read.
pub const BINARY: &str = "application/octet-stream";

/// The value to post.
///
/// # Errors
/// A message that JSON has no words for.
pub fn pack<T: Serialize>(message: &Envelope<T>, blobs: &[Blob]) -> Result<JsValue, ProtocolError> {
    let text = JsValue::from(to_text(message)?);
    if blobs.is_empty() {
        return Ok(text);
    }
    let list: Array = blobs.iter().collect();
    let object = Object::new();
    set(&object, "text", &text)?;
    set(&object, "blobs", &list)?;
    Ok(object.into())
}

fn set(object: &Object, name: &str, value: &JsValue) -> Result<(), ProtocolError> {
    Reflect::set(object, &name.into(), value)
        .map(|_| ())
        .map_err(|e| ProtocolError::NotAMessage(words(&e)))
}

/// Reads a posted value.
///
/// # Errors
/// Another build, or no message.
pub fn unpack<T: DeserializeOwned>(
    value: &JsValue,
) -> Result<(Envelope<T>, Vec<Blob>), ProtocolError> {
    if let Some(text) = value.as_string() {
        return Ok((from_text(&text)?, Vec::new()));
    }
    let field = |name: &str| {
        Reflect::get(value, &name.into()).map_err(|e| ProtocolError::NotAMessage(words(&e)))
    };
    let text = field("text")?
        .as_string()
        .ok_or_else(|| ProtocolError::NotAMessage("it has no text".to_owned()))?;
    let list: Array = field("blobs")?
        .dyn_into()
        .map_err(|_| ProtocolError::NotAMessage("its blobs are not a list".to_owned()))?;
    let blobs = list.iter().map(|blob| blob.dyn_into::<Blob>()).collect::<Result<_, _>>();
    let blobs =
        blobs.map_err(|_| ProtocolError::NotAMessage("an attachment is not a file".to_owned()))?;
    Ok((from_text(&text)?, blobs))
}

/// Bytes as a blob.
///
/// # Errors
/// Where the browser has no memory for a copy.
pub fn blob(bytes: &[u8], mime: &str) -> Result<Blob, JsValue> {
    let options = BlobPropertyBag::new();
    options.set_type(mime);
    let parts = Array::of1(&Uint8Array::from(bytes));
    Blob::new_with_u8_array_sequence_and_options(&parts, &options)
}

/// What a JavaScript exception says.
pub fn words(error: &JsValue) -> String {
    let field = |name: &str| Reflect::get(error, &name.into()).ok().and_then(|v| v.as_string());
    match (field("name"), field("message")) {
        (Some(name), Some(message)) => format!("{name}: {message}"),
        (_, Some(message)) => message,
        _ => error.as_string().unwrap_or_else(|| format!("{error:?}")),
    }
}
