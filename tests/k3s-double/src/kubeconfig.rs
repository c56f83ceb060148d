//! Kubeconfig files with embedded credentials, every name `default`, as k3s writes them (server/server.go, checked).

use std::path::Path;

use anyhow::Result;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::layout::{self, Layout};
use crate::log;
use crate::settings::Settings;

fn text(server: &str, ca_pem: &str, certificate: &str, key: &str) -> String {
    let (ca, certificate, key) = (
        STANDARD.encode(ca_pem),
        STANDARD.encode(certificate),
        STANDARD.encode(key),
    );
    format!(
        "apiVersion: v1
clusters:
- cluster:
    certificate-authority-data: {ca}
    server: {server}
  name: default
contexts:
- context:
    cluster: default
    user: default
  name: default
current-context: default
kind: Config
preferences: {{}}
users:
- name: default
  user:
    client-certificate-data: {certificate}
    client-key-data: {key}
"
    )
}

/// Writes a kubeconfig for the client certificate in tls/`client`.crt.
pub(crate) fn write(
    layout: &Layout,
    client: &str,
    server: &str,
    path: &Path,
    mode: u32,
) -> Result<()> {
    let text = text(
        server,
        &layout::read(&layout.tls("server-ca.crt"))?,
        &layout::read(&layout.tls(&format!("{client}.crt")))?,
        &layout::read(&layout.tls(&format!("{client}.key")))?,
    );
    layout::write(path, text.as_bytes(), mode)
}

/// Writes k3s.yaml anew: 0600 unless `write-kubeconfig-mode` says otherwise.
pub(crate) fn write_admin(layout: &Layout, settings: &Settings) -> Result<()> {
    let path = Path::new("/etc/rancher/k3s/k3s.yaml");
    layout::make_open_dir(Path::new("/etc/rancher/k3s"))?;
    let host = settings.text("bind-address").unwrap_or("127.0.0.1");
    let server = format!(
        "https://{host}:{}",
        settings.number("https-listen-port", 6443)
    );
    let mode = settings
        .text("write-kubeconfig-mode")
        .and_then(|mode| u32::from_str_radix(mode, 8).ok())
        .unwrap_or(0o600);
    match settings
        .text("write-kubeconfig")
        .filter(|other| Path::new(other) != path)
    {
        Some(other) => {
            write(layout, "client-admin", &server, Path::new(other), mode)?;
            layout::link(Path::new(other), path)?;
            log::info(format!("Wrote kubeconfig {other}"));
        }
        None => {
            write(layout, "client-admin", &server, path, mode)?;
            log::info(format!("Wrote kubeconfig {}", path.display()));
        }
    }
    Ok(())
}
