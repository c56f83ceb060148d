//! The one way by which data becomes YAML text.

/// Writes JSON data as block-style YAML.
///
/// Every string that a YAML 1.1 reader would take for something else (`yes`, `0644`, `12:30:45`,
/// `2020-01-02`, `<<`) is quoted, as a key too: k3s and Kubernetes read with go-yaml v2.
///
/// # Errors
/// The writer refuses the value; no JSON value is known that makes it do so.
pub fn write_yaml(value: &serde_json::Value) -> Result<String, WriteError> {
    serde_saphyr::to_string(value).map_err(|error| WriteError(error.to_string()))
}

/// Data that has no YAML form.
#[derive(Debug, thiserror::Error)]
#[error("the data cannot be written as YAML: {0}")]
pub struct WriteError(String);
