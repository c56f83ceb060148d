//! `ENC[AES256_GCM,data:…,iv:…,tag:…,type:…]`, read strictly.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

const OPENING: &str = "ENC[AES256_GCM,";
/// What sops writes; GCM defines others, no writer is known that uses them.
const TAG_BYTES: usize = 16;
/// sops writes 32 bytes; 12 is what every other writer of GCM uses.
const IV_BYTES: [usize; 2] = [32, 12];

/// The type of a value before it was encrypted. It is not authenticated: whoever can edit the file
/// can turn `str` into `int` unseen, so nothing may hinge on it but the form of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataType {
    /// UTF-8 text.
    Str,
    /// A decimal integer.
    Int,
    /// Decimal digits with a fraction.
    Float,
    /// `True` or `False`.
    Bool,
    /// Raw bytes, written by old versions.
    Bytes,
    /// RFC 3339.
    Time,
    /// A comment, which stands among the items of a list.
    Comment,
}

/// One encrypted value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncryptedValue {
    /// The ciphertext.
    pub data: Vec<u8>,
    /// The initialisation vector.
    pub iv: Vec<u8>,
    /// The authentication tag, 16 bytes.
    pub tag: Vec<u8>,
    /// The type of the plain text.
    pub data_type: DataType,
}

/// Why a text is no encrypted value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The form is another.
    #[error("it is not of the form ENC[AES256_GCM,data:…,iv:…,tag:…,type:…]")]
    Form,
    /// A part is not base64.
    #[error("a part of it is not base64")]
    Base64,
    /// The initialisation vector or tag has an odd length.
    #[error("its initialisation vector or tag has a length that sops never writes")]
    Length,
    /// The type is unknown.
    #[error("its type is unknown")]
    Type,
}

impl EncryptedValue {
    /// Whether a text claims to be an encrypted value.
    #[must_use]
    pub fn claims(text: &str) -> bool {
        text.starts_with(OPENING)
    }

    /// Reads an encrypted value. sops accepts text after the closing bracket; this does not.
    ///
    /// # Errors
    /// The text has not the form that sops writes.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        let inner = text
            .strip_prefix(OPENING)
            .and_then(|t| t.strip_suffix(']'))
            .ok_or(Malformed::Form)?;
        let mut parts = inner.split(',');
        let mut part = |name: &str| {
            parts
                .next()
                .and_then(|part| part.strip_prefix(name))
                .ok_or(Malformed::Form)
        };
        let (data, iv, tag) = (part("data:")?, part("iv:")?, part("tag:")?);
        let data_type = match part("type:")? {
            "str" => DataType::Str,
            "int" => DataType::Int,
            "float" => DataType::Float,
            "bool" => DataType::Bool,
            "bytes" => DataType::Bytes,
            "time" => DataType::Time,
            "comment" => DataType::Comment,
            _ => return Err(Malformed::Type),
        };
        if parts.next().is_some() {
            return Err(Malformed::Form);
        }
        let bytes = |text: &str| STANDARD.decode(text).map_err(|_| Malformed::Base64);
        let value = Self {
            data: bytes(data)?,
            iv: bytes(iv)?,
            tag: bytes(tag)?,
            data_type,
        };
        if !IV_BYTES.contains(&value.iv.len()) || value.tag.len() != TAG_BYTES {
            return Err(Malformed::Length);
        }
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::{DataType, EncryptedValue, Malformed};

    #[test]
    fn only_what_sops_writes_is_read() {
        let (iv, tag) = ("A".repeat(43) + "=", "A".repeat(22) + "==");
        let good = format!("ENC[AES256_GCM,data:YWI=,iv:{iv},tag:{tag},type:int]");
        let value = EncryptedValue::parse(&good).unwrap();
        assert_eq!(
            (value.data.as_slice(), value.iv.len()),
            (b"ab".as_slice(), 32)
        );
        assert_eq!(value.data_type, DataType::Int);
        let cases = [
            (format!("{good}x"), Malformed::Form),
            (good.replace(",type:int", ""), Malformed::Form),
            (good.replace("type:int", "type:odd"), Malformed::Type),
            (good.replace("type:int", "type:int,more:1"), Malformed::Form),
            (good.replace("YWI=", "YW!"), Malformed::Base64),
            (good.replace(&tag, "YWI="), Malformed::Length),
            (good.replace(&iv, "YWI="), Malformed::Length),
            ("hello".to_owned(), Malformed::Form),
        ];
        for (text, expected) in cases {
            assert_eq!(EncryptedValue::parse(&text), Err(expected), "{text}");
        }
    }
}
