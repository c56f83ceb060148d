//! A fault that a test switches on: while [`SWITCH`] holds a status code, kube-apiserver's paths are answered with it.
//! Not k3s' own: what it stands for is kube-apiserver under load (429) or without its datastore (500). TLS ends here, so
//! no proxy in between could say this. Streams that are open go on, as they do on a real server.

use std::fs;

/// Where a test writes the code. Gone with the machine's next start.
pub(crate) const SWITCH: &str = "/run/k3s-double-answers";

/// The code that `path` is to be answered with, if any.
pub(super) fn asked(path: &str) -> Option<u16> {
    of(&fs::read_to_string(SWITCH).ok()?, path)
}

fn of(switch: &str, path: &str) -> Option<u16> {
    let code = switch.trim().parse().ok()?;
    let probe = ["/readyz", "/livez", "/healthz"]
        .iter()
        .any(|probe| path.starts_with(probe));
    // Probes are exempt from priority and fairness (flow schema `probes`); etcd's absence fails them too.
    (!(code == 429 && probe)).then_some(code)
}

#[cfg(test)]
mod tests {
    use super::of;

    #[test]
    fn probes_are_not_shed() {
        let table = [
            ("429\n", "/api/v1/nodes", Some(429)),
            ("429", "/readyz", None),
            ("500", "/readyz", Some(500)),
            ("", "/api", None),
        ];
        for (switch, path, wanted) in table {
            assert_eq!(of(switch, path), wanted, "{switch:?} {path}");
        }
    }
}
