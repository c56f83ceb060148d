//! Files: looked at, staged, installed, recorded.

use trueup_model::id::Digest;

use crate::world::{bed, look, put, shell, value};

#[tokio::test(flavor = "multi_thread")]
async fn one_file_from_nothing_to_owned() {
    let bed = bed(1);
    for user in ["root", "ops"] {
        let shell = shell(&bed, "m1", user);
        let path = format!("/etc/trueup-test/{user}/motd");
        assert_eq!(
            value(&look(&shell, &[&path]).await, &format!("file {path}")).unwrap(),
            "absent"
        );
        put(&shell, &path, b"hello\n").await;
        let reply = look(&shell, &[&path]).await;
        let told = value(&reply, &format!("file {path}")).unwrap();
        let want = format!("file {} 0640 root root 6 ", Digest::of(b"hello\n"));
        assert!(told.starts_with(&want), "{told}");
        assert_eq!(
            value(&reply, &format!("content {path}")).unwrap(),
            "hello\n"
        );
        assert!(
            value(&reply, "owner")
                .unwrap()
                .contains("claim\tdGVzdGVy\t1\n")
        );
    }
}
