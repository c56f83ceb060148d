//! Decrypted data as JSON, which nothing prints and which is wiped when dropped.

use std::fmt;

use secrecy::SecretString;
use serde_json::Value;
use zeroize::Zeroize;

/// Decrypted JSON data. Strings are wiped on drop; copies that a caller makes are the caller's.
#[derive(Clone)]
pub struct SecretJson(Value);

impl SecretJson {
    /// Takes decrypted data over.
    #[must_use]
    pub fn new(value: Value) -> Self {
        Self(value)
    }

    /// The data itself, for the one place that sends it.
    #[must_use]
    pub fn expose(&self) -> &Value {
        &self.0
    }

    /// The scalar at a dotted path (`db.password`) as text. A key may itself hold dots
    /// (`data.tls.crt`): the longest key that exists is taken first.
    #[must_use]
    pub fn get(&self, path: &str) -> Option<SecretString> {
        let text = match lookup(&self.0, path)? {
            Value::String(text) => text.clone(),
            Value::Bool(flag) => flag.to_string(),
            Value::Number(number) => number.to_string(),
            Value::Null | Value::Array(_) | Value::Object(_) => return None,
        };
        Some(SecretString::from(text))
    }
}

fn lookup<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    let object = value.as_object()?;
    if let Some(found) = object.get(path) {
        return Some(found);
    }
    let dots = path.match_indices('.').rev();
    dots.filter_map(|(at, _)| Some((path.get(..at)?, path.get(at + 1..)?)))
        .find_map(|(key, rest)| lookup(object.get(key)?, rest))
}

impl fmt::Debug for SecretJson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretJson([redacted])")
    }
}

impl Drop for SecretJson {
    fn drop(&mut self) {
        wipe(&mut self.0);
    }
}

fn wipe(value: &mut Value) {
    match value {
        Value::String(text) => text.zeroize(),
        Value::Array(items) => items.iter_mut().for_each(wipe),
        Value::Object(object) => object.values_mut().for_each(wipe),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;
    use serde_json::json;

    use super::SecretJson;

    #[test]
    fn paths_find_scalars_and_debug_shows_nothing() {
        let data = json!({"token": "canary", "data": {"tls.crt": "x", "n": 5}, "l": ["a"]});
        let secret = SecretJson::new(data);
        let get = |path| secret.get(path).map(|text| text.expose_secret().to_owned());
        assert_eq!(get("token").as_deref(), Some("canary"));
        assert_eq!(get("data.tls.crt").as_deref(), Some("x"));
        assert_eq!(get("data.n").as_deref(), Some("5"));
        assert_eq!((get("data"), get("l"), get("data.no")), (None, None, None));
        assert!(!format!("{secret:?}").contains("canary"));
    }
}
