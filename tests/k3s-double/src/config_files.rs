//! config.yaml and config.yaml.d: read by name, the last value of a key wins, `key+` appends.
//!
//! As configfilearg/parser.go does it (checked).

use std::path::{Path, PathBuf};

use serde_json::Value;

/// Keys in the order of their first appearance, each with its values.
pub(crate) type Entries = Vec<(String, Vec<String>)>;

/// Largest configuration file that is read.
const FILE_MAX: u64 = 1 << 20;

/// Reads `main` and `<main>.d`. A missing file is no error, even a named one.
pub(crate) fn read(main: &Path) -> Result<Entries, String> {
    let mut files = vec![main.to_owned()];
    let mut directory = main.as_os_str().to_owned();
    directory.push(".d");
    if let Ok(entries) = std::fs::read_dir(&directory) {
        let mut more: Vec<PathBuf> = entries
            .filter_map(Result::ok)
            .map(|entry| entry.path())
            .filter(|path| path.is_file())
            .filter(|path| {
                path.extension()
                    .is_some_and(|end| end == "yaml" || end == "yml")
            })
            .collect();
        more.sort();
        files.extend(more);
    }
    let mut merged = Vec::new();
    for path in files {
        let length = match std::fs::metadata(&path) {
            Ok(metadata) => metadata.len(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(format!("open {}: {error}", path.display())),
        };
        if length > FILE_MAX {
            return Err(format!("{} has more than {FILE_MAX} bytes", path.display()));
        }
        let text = std::fs::read_to_string(&path)
            .map_err(|error| format!("read {}: {error}", path.display()))?;
        merge(&mut merged, &text)
            .map_err(|error| format!("failed to load {}: {error}", path.display()))?;
    }
    Ok(merged)
}

/// Merges one file's text into what came before.
pub(crate) fn merge(merged: &mut Entries, text: &str) -> Result<(), String> {
    if text.trim().is_empty() {
        return Ok(());
    }
    let document: Value = serde_saphyr::from_str(text).map_err(|error| format!("yaml: {error}"))?;
    let entries = match document {
        Value::Null => return Ok(()),
        Value::Object(entries) => entries,
        _ => return Err("yaml: the file is no mapping".to_owned()),
    };
    for (key, value) in entries {
        let values = match value {
            Value::Array(items) => items.iter().map(scalar).collect(),
            other => vec![scalar(&other)],
        };
        let (name, append) = match key.strip_suffix('+') {
            Some(name) => (name.to_owned(), true),
            None => (key, false),
        };
        match merged.iter_mut().find(|(known, _)| *known == name) {
            Some((_, known)) if append => known.extend(values),
            Some((_, known)) => *known = values,
            None => merged.push((name, values)),
        }
    }
    Ok(())
}

fn scalar(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
