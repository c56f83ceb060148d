//! From an encrypted file and the host's identities to its values.

use std::io::Read;
use std::sync::Arc;

use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::aes::Aes256;
use aes_gcm::aes::cipher::consts::{U12, U32};
use aes_gcm::{AesGcm, Nonce};
use age::armor::ArmoredReader;
use secrecy::SecretString;
use serde_json::{Map, Value as Json};
use trueup_model::document::{Node, Span, Value, integral, timestamp};
use trueup_model::sops::{DataType, EncryptedValue, MacInput, SecretJson, SopsFile};
use zeroize::Zeroizing;

use super::error::{SopsError, ValueFault};
use super::identities::Identities;

/// AES-256.
const DATA_KEY_BYTES: usize = 32;
/// The key of the metadata block, which is no part of the data.
const BLOCK: &str = "sops";

type DataKey = Zeroizing<[u8; DATA_KEY_BYTES]>;

/// The data of a file, decrypted and verified.
#[derive(Debug)]
pub struct Decrypted {
    /// Its documents in order.
    pub documents: Vec<SecretJson>,
}

impl Decrypted {
    /// The scalar at a dotted path of the first document.
    #[must_use]
    pub fn get(&self, path: &str) -> Option<SecretString> {
        self.documents.first()?.get(path)
    }
}

/// Decrypts a file and verifies its MAC.
///
/// # Errors
/// No identity fits, or the file is not as sops wrote it. No error carries a value.
pub fn decrypt(file: &SopsFile, identities: &Identities) -> Result<Decrypted, SopsError> {
    let mac = file.metadata.mac.as_deref();
    let mac = mac.ok_or_else(|| SopsError::MissingMac {
        file: Arc::clone(&file.file),
    })?;
    let key = data_key(file, identities)?;
    let mut opening = Opening {
        file,
        key: &key,
        path: Vec::new(),
        mac: MacInput::new(file.metadata.mac_only_encrypted),
    };
    let mut documents = Vec::with_capacity(file.documents.len());
    for document in &file.documents {
        documents.push(SecretJson::new(opening.document(&document.root)?));
    }
    let computed = opening.mac.finish();
    let sealed = EncryptedValue::parse(mac)
        .map_err(ValueFault::from)
        .and_then(|value| open_bytes(&key, &value, &file.metadata.last_modified));
    match sealed {
        Ok(sealed) if sealed.as_slice() == computed.as_bytes() => Ok(Decrypted { documents }),
        _ => Err(SopsError::MacMismatch {
            file: Arc::clone(&file.file),
        }),
    }
}

/// Unwraps the data key with the first of our identities that fits any recipient.
fn data_key(file: &SopsFile, identities: &Identities) -> Result<DataKey, SopsError> {
    let mut broken = None;
    for recipient in file.metadata.recipients.iter().filter(|r| r.supported()) {
        match unwrap(&recipient.wrapped, identities) {
            Ok(Some(key)) => return Ok(key),
            Ok(None) => {}
            // Only a wrap that is ours to open can be called broken.
            Err(why) if identities.holds(&recipient.name) => {
                broken = Some(SopsError::DataKey {
                    file: Arc::clone(&file.file),
                    recipient: recipient.name.clone(),
                    why,
                });
            }
            Err(_) => {}
        }
    }
    Err(broken.unwrap_or_else(|| SopsError::WrongIdentity {
        file: Arc::clone(&file.file),
        recipients: file
            .metadata
            .recipients
            .iter()
            .map(|r| r.name.clone())
            .collect(),
        held: identities.public(),
    }))
}

fn unwrap(wrapped: &str, identities: &Identities) -> Result<Option<DataKey>, String> {
    // The armour reader refuses blank lines at the end, which YAML block scalars easily get.
    let armour = wrapped.trim();
    let decryptor = age::Decryptor::new_buffered(ArmoredReader::new(armour.as_bytes()))
        .map_err(|error| error.to_string())?;
    let mut reader = match decryptor.decrypt(identities.iter()) {
        Ok(reader) => reader,
        Err(age::DecryptError::NoMatchingKeys) => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    let mut key = Zeroizing::new([0; DATA_KEY_BYTES]);
    reader
        .read_exact(key.as_mut_slice())
        .map_err(|error| error.to_string())?;
    match reader.read(&mut [0]) {
        Ok(0) => Ok(Some(key)),
        Ok(_) => Err(format!("it is longer than {DATA_KEY_BYTES} bytes")),
        Err(error) => Err(error.to_string()),
    }
}

/// One pass over the documents of a file, in the order that the MAC counts.
struct Opening<'a> {
    file: &'a SopsFile,
    key: &'a DataKey,
    path: Vec<&'a str>,
    mac: MacInput,
}

impl<'a> Opening<'a> {
    fn document(&mut self, root: &'a Node) -> Result<Json, SopsError> {
        let Some(pairs) = root.as_mapping() else {
            return Ok(Json::Null);
        };
        let data = pairs.iter().filter(|(key, _)| key.as_str() != Some(BLOCK));
        self.mapping(data)
    }

    fn mapping(
        &mut self,
        pairs: impl Iterator<Item = &'a (Node, Node)>,
    ) -> Result<Json, SopsError> {
        let mut object = Map::new();
        for (key, value) in pairs {
            let name = key.as_str().unwrap_or_default();
            self.path.push(name);
            let Some(value) = self.node(value)? else {
                return Err(self.fault(key.span, ValueFault::Type));
            };
            self.path.pop();
            object.insert(name.to_owned(), value);
        }
        Ok(Json::Object(object))
    }

    /// `None` for an encrypted comment, which stands among the items of a list.
    fn node(&mut self, node: &'a Node) -> Result<Option<Json>, SopsError> {
        match &node.value {
            Value::Null => Ok(Some(Json::Null)),
            Value::Mapping(pairs) => self.mapping(pairs.iter()).map(Some),
            Value::Sequence(items) => {
                let mut array = Vec::with_capacity(items.len());
                for item in items {
                    array.extend(self.node(item)?);
                }
                Ok(Some(Json::Array(array)))
            }
            _ => self.leaf(node),
        }
    }

    fn leaf(&mut self, node: &'a Node) -> Result<Option<Json>, SopsError> {
        let encrypted = self.file.metadata.selector.selects(&self.path);
        let value = if encrypted {
            let opened = self
                .open(node)
                .map_err(|fault| self.fault(node.span, fault))?;
            let Some(value) = opened else { return Ok(None) };
            value
        } else {
            node.value.clone()
        };
        self.mac.leaf(&value, encrypted);
        Ok(Some(match value {
            Value::Bool(flag) => Json::Bool(flag),
            Value::Int(number) => Json::from(number),
            Value::UInt(number) => Json::from(number),
            // sops writes `1.0` as `1`, and whoever reads that reads an integer.
            Value::Float(number) => {
                match (integral(number), serde_json::Number::from_f64(number)) {
                    (Some(number), _) => Json::from(number),
                    (None, Some(number)) => Json::Number(number),
                    (None, None) => return Err(self.fault(node.span, ValueFault::Type)),
                }
            }
            Value::Timestamp(text) | Value::String(text) => Json::String(text),
            Value::Null | Value::Sequence(_) | Value::Mapping(_) => Json::Null,
        }))
    }

    fn open(&self, node: &Node) -> Result<Option<Value>, ValueFault> {
        let text = node.as_str().ok_or(ValueFault::Clear)?;
        if text.is_empty() {
            return Ok(Some(Value::String(String::new())));
        }
        if !EncryptedValue::claims(text) {
            return Err(ValueFault::Clear);
        }
        let sealed = EncryptedValue::parse(text)?;
        let bytes = open_bytes(self.key, &sealed, &format!("{}:", self.path.join(":")))?;
        typed(&bytes, sealed.data_type)
    }

    fn fault(&self, span: Span, fault: ValueFault) -> SopsError {
        let (file, path) = (Arc::clone(&self.file.file), self.path.join("."));
        SopsError::Value {
            file,
            path,
            span,
            fault,
        }
    }
}

fn open_bytes(
    key: &DataKey,
    sealed: &EncryptedValue,
    additional_data: &str,
) -> Result<Zeroizing<Vec<u8>>, ValueFault> {
    let mut message = sealed.data.clone();
    message.extend_from_slice(&sealed.tag);
    let payload = Payload {
        msg: &message,
        aad: additional_data.as_bytes(),
    };
    let key = (&**key).into();
    // sops' nonces have 32 bytes, which the usual `Aes256Gcm` (12) cannot take.
    let opened = if let Ok(nonce) = <&Nonce<U32>>::try_from(sealed.iv.as_slice()) {
        AesGcm::<Aes256, U32>::new(key).decrypt(nonce, payload)
    } else if let Ok(nonce) = <&Nonce<U12>>::try_from(sealed.iv.as_slice()) {
        AesGcm::<Aes256, U12>::new(key).decrypt(nonce, payload)
    } else {
        return Err(ValueFault::Malformed(trueup_model::sops::Malformed::Length));
    };
    opened
        .map(Zeroizing::new)
        .map_err(|_| ValueFault::Authentication)
}

/// The typed value of plain bytes, as sops' own reader types them; `None` for a comment.
fn typed(bytes: &[u8], data_type: DataType) -> Result<Option<Value>, ValueFault> {
    let text = std::str::from_utf8(bytes).map_err(|_| ValueFault::Type)?;
    Ok(Some(match data_type {
        DataType::Str | DataType::Bytes => Value::String(text.to_owned()),
        DataType::Int => Value::Int(text.parse().map_err(|_| ValueFault::Type)?),
        DataType::Float => Value::Float(text.parse().map_err(|_| ValueFault::Type)?),
        DataType::Bool => Value::Bool(match text {
            "True" | "true" | "TRUE" | "t" | "T" | "1" => true,
            "False" | "false" | "FALSE" | "f" | "F" | "0" => false,
            _ => return Err(ValueFault::Type),
        }),
        DataType::Time => Value::Timestamp(timestamp(text).ok_or(ValueFault::Type)?),
        DataType::Comment => return Ok(None),
    }))
}
