//! The stand-alone control plane serves, says who asked what, and can be hurt.

use trueup_bed::{ControlPlane, ControlSpec};

#[test]
fn users_are_told_apart_in_rights_and_in_the_audit_log() {
    let plane = ControlPlane::start(ControlSpec::default()).unwrap();
    plane
        .kubectl_as("trueup", &["create", "namespace", "shop"], "")
        .unwrap();
    assert!(
        plane
            .kubectl_as("reader", &["get", "namespaces", "-o", "name"], "")
            .unwrap()
            .contains("namespace/shop")
    );
    let refused = plane
        .kubectl_as("reader", &["delete", "namespace", "shop"], "")
        .unwrap_err();
    assert!(format!("{refused:#}").contains("Forbidden"), "{refused:#}");

    let lines = plane.audit_lines("trueup").unwrap();
    assert!(
        lines
            .iter()
            .any(|line| line.starts_with("create /api/v1/namespaces?") && line.ends_with(" 201")),
        "{lines:?}"
    );
    let lines = plane.audit_lines("reader").unwrap();
    assert!(
        lines
            .iter()
            .any(|line| line.starts_with("delete ") && line.ends_with(" 403")),
        "{lines:?}"
    );
}

#[test]
fn an_api_server_that_was_killed_or_frozen_comes_back_with_its_data() {
    let plane = ControlPlane::start(ControlSpec::default()).unwrap();
    plane.kubectl(&["create", "namespace", "kept"]).unwrap();
    let api = plane.program("kube-apiserver");
    api.kill().unwrap();
    assert!(plane.kubectl(&["get", "namespace", "kept"]).is_err());
    api.start().unwrap();
    plane.wait_ready().unwrap();
    plane.kubectl(&["get", "namespace", "kept"]).unwrap();

    api.freeze().unwrap();
    assert!(
        plane
            .kubectl(&["get", "namespace", "kept", "--request-timeout=1s"])
            .is_err()
    );
    api.thaw().unwrap();
    plane.wait_ready().unwrap();
}

#[test]
fn a_deployment_rolls_out_on_a_node_of_kwok() {
    let plane = ControlPlane::start(ControlSpec::full()).unwrap();
    plane.add_node("n1").unwrap();
    plane
        .kubectl(&[
            "create",
            "deployment",
            "web",
            "--image=web:1",
            "--replicas=3",
        ])
        .unwrap();
    plane
        .kubectl(&["rollout", "status", "deployment/web", "--timeout=60s"])
        .unwrap();
    plane
        .kubectl(&["create", "job", "once", "--image=job:1"])
        .unwrap();
    plane
        .kubectl(&[
            "wait",
            "--for=condition=complete",
            "job/once",
            "--timeout=60s",
        ])
        .unwrap();
    plane.kubectl(&["create", "namespace", "gone"]).unwrap();
    plane
        .kubectl(&["delete", "namespace", "gone", "--timeout=60s"])
        .unwrap();
    plane.kubectl(&["delete", "deployment", "web"]).unwrap();
    plane
        .kubectl(&[
            "wait",
            "--for=delete",
            "pod",
            "-l",
            "app=web",
            "--timeout=60s",
        ])
        .unwrap();
}
