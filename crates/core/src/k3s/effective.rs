//! The effective configuration: `config.yaml`, then `config.yaml.d/*.yaml|yml` by
//! name. A later plain key replaces, `key+` appends to what came before
//! (k3s `pkg/configfilearg/parser.go`, read at main 44c693d2).

use std::collections::BTreeMap;

use serde_json::Value;

/// A key whose declared value does not reach the process, and the file that wins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Override {
    /// The option.
    pub key: String,
    /// The file below `config.yaml.d` that sets it.
    pub file: String,
}

/// Merge one file over what came before.
fn merge(
    into: &mut BTreeMap<String, (Value, String)>,
    file: &str,
    options: impl IntoIterator<Item = (String, Value)>,
) {
    for (key, value) in options {
        match key.strip_suffix('+') {
            None => {
                into.insert(key, (value, file.to_owned()));
            }
            Some(base) => {
                let before = into.remove(base).map(|(value, _)| value);
                let joined = match before {
                    None => value,
                    Some(before) => append(before, value),
                };
                into.insert(base.to_owned(), (joined, file.to_owned()));
            }
        }
    }
}

fn append(before: Value, after: Value) -> Value {
    let list = |value| match value {
        Value::Array(items) => items,
        other @ (Value::Null
        | Value::Bool(_)
        | Value::Number(_)
        | Value::String(_)
        | Value::Object(_)) => vec![other],
    };
    let mut items = list(before);
    items.extend(list(after));
    Value::Array(items)
}

/// The files as one: `config.yaml`, then the drop-ins.
pub fn merged(
    config: &BTreeMap<String, Value>,
    dropins: &[(String, BTreeMap<String, Value>)],
) -> BTreeMap<String, Value> {
    let mut effective = BTreeMap::new();
    let own = config.iter().map(|(k, v)| (k.clone(), v.clone()));
    merge(&mut effective, crate::paths::CONFIG_PATH, own);
    for (file, options) in dropins {
        let own = options.iter().map(|(k, v)| (k.clone(), v.clone()));
        merge(&mut effective, file, own);
    }
    effective
        .into_iter()
        .map(|(key, (value, _))| (key, value))
        .collect()
}

/// Declared keys that a drop-in overrides or adds to. `dropins` are parsed files in
/// k3s' order; a file that is no mapping is skipped (k3s itself dies on it, which
/// is seen at its unit).
pub fn overrides(
    declared: &BTreeMap<String, Value>,
    dropins: &[(String, BTreeMap<String, Value>)],
) -> Vec<Override> {
    let mut effective = BTreeMap::new();
    merge(
        &mut effective,
        crate::paths::CONFIG_PATH,
        declared.iter().map(|(k, v)| (k.clone(), v.clone())),
    );
    for (file, options) in dropins {
        merge(
            &mut effective,
            file,
            options.iter().map(|(k, v)| (k.clone(), v.clone())),
        );
    }
    declared
        .iter()
        .filter_map(|(key, wanted)| {
            let (value, file) = effective.get(key)?;
            (value != wanted).then(|| Override {
                key: key.clone(),
                file: file.clone(),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn options(value: Value) -> BTreeMap<String, Value> {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_later_file_wins_and_plus_appends() {
        let declared =
            options(json!({"disable": ["traefik"], "write-kubeconfig-mode": "0600", "x": 1}));
        let dropins = vec![
            (
                "/d/10.yaml".to_owned(),
                options(json!({"disable+": "servicelb"})),
            ),
            (
                "/d/20.yaml".to_owned(),
                options(json!({"write-kubeconfig-mode": "0644", "other": true})),
            ),
        ];
        let found = overrides(&declared, &dropins);
        let names: Vec<(&str, &str)> = found
            .iter()
            .map(|found| (found.key.as_str(), found.file.as_str()))
            .collect();
        assert_eq!(
            names,
            [
                ("disable", "/d/10.yaml"),
                ("write-kubeconfig-mode", "/d/20.yaml")
            ]
        );
    }

    #[test]
    fn an_equal_value_is_no_override() {
        let declared = options(json!({"disable": ["traefik"]}));
        let dropins = vec![("/d/1.yaml".to_owned(), declared.clone())];
        assert_eq!(overrides(&declared, &dropins), []);
    }
}
