//! The example's set-up C, as it stands in `example-repo/`, and the key that its two
//! secrets are encrypted for: public, and good for nothing else.

macro_rules! example_file {
    ($path:literal) => {
        (
            $path,
            include_str!(concat!("../../../example-repo/c-k3s-proxmox/", $path)),
        )
    };
}

/// Paths below the Fleet's folder, and texts.
pub(super) const FILES: &[(&str, &str)] = &[
    example_file!("apps/hello.yaml"),
    example_file!("apps/hello/api.enc.yaml"),
    example_file!("apps/hello/namespace.yaml"),
    example_file!("apps/hello/page.yaml"),
    example_file!("apps/hello/web.yaml"),
    example_file!("cluster.yaml"),
    example_file!("fleet.yaml"),
    example_file!("nodes/k3sc1.yaml"),
    example_file!("nodes/k3sc2.yaml"),
    example_file!("nodes/k3sc3.yaml"),
    example_file!("nodes/k3sw1.yaml"),
    example_file!("nodes/k3sw2.yaml"),
    example_file!("profiles/base.yaml"),
    example_file!("secrets/edge.enc.yaml"),
];

/// The key's file; it lies outside of the Fleet's folder.
pub(super) const KEY: &str = include_str!("../../../example-repo/demo-only.agekey");

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    #[test]
    fn the_whole_example_is_embedded() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("example-repo/c-k3s-proxmox");
        let mut found = BTreeSet::new();
        let mut folders = vec![root.clone()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    let inside = path.strip_prefix(&root).unwrap();
                    found.insert(inside.to_str().unwrap().to_owned());
                }
            }
        }
        let embedded: BTreeSet<String> = super::FILES
            .iter()
            .map(|(path, _)| (*path).to_owned())
            .collect();
        assert_eq!(embedded, found);
    }
}
