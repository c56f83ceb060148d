//! What a k3s that somebody else installed runs with: the files, then the arguments of
//! its unit, then its environment (k3s `pkg/configfilearg`, read at main 44c693d2:
//! arguments win over files, and both over the environment; values of a repeatable
//! option join, and the environment counts only where there is no other value).

use std::collections::BTreeMap;

use serde_json::Value;
use trueup_model::facts::machine::Started;

use super::effective;

/// Variables that k3s reads, and the options that they stand for (k3s `pkg/cli/cmds`).
const VARIABLES: [(&str, &str); 9] = [
    ("K3S_TOKEN", "token"),
    ("K3S_TOKEN_FILE", "token-file"),
    ("K3S_AGENT_TOKEN", "agent-token"),
    ("K3S_URL", "server"),
    ("K3S_CLUSTER_INIT", "cluster-init"),
    ("K3S_NODE_NAME", "node-name"),
    ("K3S_KUBECONFIG_MODE", "write-kubeconfig-mode"),
    ("K3S_DATASTORE_ENDPOINT", "datastore-endpoint"),
    ("K3S_SELINUX", "selinux"),
];

/// Options that have a short form.
const SHORT: [(&str, &str); 5] = [
    ("t", "token"),
    ("s", "server"),
    ("d", "data-dir"),
    ("i", "node-ip"),
    ("o", "write-kubeconfig"),
];

/// Every value of every option, in k3s' order.
pub type Given = BTreeMap<String, Vec<String>>;

/// What a process was given. `config` is what lies in `config.yaml`, `dropins` are the
/// files of `config.yaml.d` in k3s' order.
pub fn given(
    started: &Started,
    config: &BTreeMap<String, Value>,
    dropins: &[(String, BTreeMap<String, Value>)],
) -> Given {
    let mut all = Given::new();
    for (key, value) in effective::merged(config, dropins) {
        all.insert(key, texts(&value));
    }
    for (key, value) in arguments(&started.arguments) {
        all.entry(key).or_default().push(value);
    }
    for (name, option) in VARIABLES {
        if let Some(value) = started.environment.get(name)
            && !all.contains_key(option)
        {
            all.insert(option.to_owned(), vec![value.clone()]);
        }
    }
    all
}

/// Options of a command line: `--key=value`, `--key value`, and `--key` alone, which
/// switches on.
pub fn arguments(words: &[String]) -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = Vec::new();
    let mut words = words.iter().peekable();
    while let Some(word) = words.next() {
        let Some(option) = word.strip_prefix("--").or_else(|| word.strip_prefix('-')) else {
            continue;
        };
        let (key, value) = match option.split_once('=') {
            Some((key, value)) => (key, value.to_owned()),
            None => match words.next_if(|next| !next.starts_with('-')) {
                Some(value) => (option, value.clone()),
                None => (option, "true".to_owned()),
            },
        };
        let long = SHORT.iter().find(|(short, _)| *short == key);
        let key = long.map_or(key, |(_, long)| long);
        found.push((key.to_owned(), value));
    }
    found
}

/// Whether an option was given as it is declared. The last value of a plain option
/// counts; of a list, all of them in any order.
pub fn meets(given: &Given, key: &str, declared: &Value) -> bool {
    let Some(values) = given.get(key) else {
        return false;
    };
    if let Value::Array(_) = declared {
        let sorted = |values: &[String]| {
            // A list may be written as one word with commas.
            let mut parts: Vec<String> = values
                .iter()
                .flat_map(|value| value.split(','))
                .map(str::to_owned)
                .collect();
            parts.sort();
            parts.dedup();
            parts
        };
        return sorted(values) == sorted(&texts(declared));
    }
    values.last() == texts(declared).last()
}

fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::Array(items) => items.iter().flat_map(texts).collect(),
        Value::String(text) => vec![text.clone()],
        Value::Null => Vec::new(),
        other @ (Value::Bool(_) | Value::Number(_) | Value::Object(_)) => vec![other.to_string()],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn started(arguments: &str, environment: &[(&str, &str)]) -> Started {
        Started {
            arguments: arguments.split_whitespace().map(str::to_owned).collect(),
            environment: environment
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
        }
    }

    #[test]
    fn arguments_win_over_files_and_both_over_the_environment() {
        let config: BTreeMap<String, Value> = serde_json::from_value(json!({
            "tls-san": ["a.example.org"],
            "write-kubeconfig-mode": "0600",
            "token": "from the file",
        }))
        .unwrap();
        let started = started(
            "--cluster-init --tls-san=b.example.org --write-kubeconfig-mode 0644 -i 192.0.2.1",
            &[
                ("K3S_TOKEN", "unused"),
                ("K3S_URL", "https://192.0.2.9:6443"),
            ],
        );
        let given = given(&started, &config, &[]);
        let table = [
            ("tls-san", json!(["b.example.org", "a.example.org"]), true),
            ("tls-san", json!(["a.example.org"]), false),
            ("write-kubeconfig-mode", json!("0644"), true),
            ("write-kubeconfig-mode", json!("0600"), false),
            ("cluster-init", json!(true), true),
            ("node-ip", json!("192.0.2.1"), true),
            ("token", json!("from the file"), true),
            ("server", json!("https://192.0.2.9:6443"), true),
            ("disable", json!(["traefik"]), false),
        ];
        for (key, declared, wanted) in table {
            assert_eq!(meets(&given, key, &declared), wanted, "{key} {declared}");
        }
    }

    #[test]
    fn a_list_in_one_word_is_a_list() {
        let given = given(
            &started("--disable traefik,servicelb", &[]),
            &BTreeMap::new(),
            &[],
        );
        assert!(meets(&given, "disable", &json!(["servicelb", "traefik"])));
    }
}
