//! Vectors made by the real sops (`testdata/make.sh`) and what becomes of them when touched.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use camino::{Utf8Path, Utf8PathBuf};
use secrecy::ExposeSecret;
use serde_json::{Value as Json, json};
use trueup_model::sops::SopsFile;

use super::{Decrypted, Identities, IdentityError, SopsError, decrypt};

macro_rules! vector {
    ($name:literal) => {
        include_str!(concat!("testdata/", $name))
    };
}

const TYPES: &str = vector!("types.yaml");

fn ours() -> Identities {
    Identities::parse(Utf8Path::new("identity.agekey"), vector!("identity.agekey")).unwrap()
}

fn open(name: &str, text: &str) -> Result<Decrypted, SopsError> {
    let file = SopsFile::read(&Arc::from(name), text).expect("the structure is sound");
    decrypt(&file, &ours())
}

/// Slugs of what the structure check finds.
fn refused(name: &str, text: &str) -> Vec<&'static str> {
    let findings = SopsFile::read(&Arc::from(name), text)
        .map(|_| ())
        .unwrap_err();
    for finding in &findings {
        assert!(!format!("{finding:?}").contains("hunter2"));
    }
    findings.iter().map(|finding| finding.code.slug).collect()
}

/// The line of a value in a text, with its line break.
fn line<'a>(text: &'a str, start: &str) -> &'a str {
    text.split_inclusive('\n')
        .find(|line| line.trim_start().starts_with(start))
        .unwrap()
}

#[test]
fn values_are_those_that_sops_decrypts() {
    let cases = [
        ("types.yaml", TYPES, vector!("types.expected.json")),
        (
            "numbers.json",
            vector!("numbers.json"),
            vector!("numbers.expected.json"),
        ),
        (
            "secret.yaml",
            vector!("secret.yaml"),
            vector!("secret.expected.json"),
        ),
        (
            "suffix.yaml",
            vector!("suffix.yaml"),
            vector!("suffix.expected.json"),
        ),
        (
            "maconly.yaml",
            vector!("maconly.yaml"),
            vector!("maconly.expected.json"),
        ),
    ];
    for (name, text, expected) in cases {
        let decrypted = open(name, text).unwrap();
        let expected: Json = serde_json::from_str(expected).unwrap();
        assert_eq!(*decrypted.documents[0].expose(), expected, "{name}");
    }
    let decrypted = open("types.yaml", TYPES).unwrap();
    assert_eq!(
        decrypted.get("db.password").unwrap().expose_secret(),
        "hunter2"
    );
    assert_eq!(decrypted.get("list.0").map(|_| ()), None);
    assert!(!format!("{decrypted:?}").contains("hunter2"));
}

#[test]
fn all_documents_of_a_file_are_under_one_mac() {
    let text = vector!("multi.yaml");
    let decrypted = open("multi.yaml", text).unwrap();
    let data: Vec<_> = decrypted
        .documents
        .iter()
        .map(|d| d.expose().clone())
        .collect();
    assert_eq!(
        data,
        [
            json!({"first": 1}),
            json!({"second": "two"}),
            json!({"third": [3, 4]})
        ]
    );
    let parts: Vec<_> = text.split("---\nsecond").collect();
    let shortened = parts[0];
    assert!(matches!(
        open("multi.yaml", shortened),
        Err(SopsError::MacMismatch { .. })
    ));
}

#[test]
fn every_change_is_noticed() {
    let mismatch: &[(&str, String)] = &[
        (
            "a clear value changed",
            TYPES.replace("this stays clear", "this was clear"),
        ),
        (
            "an item removed",
            TYPES.replace(line(TYPES, "- - ENC").trim_start(), "- "),
        ),
        (
            "a value emptied",
            TYPES.replace(line(TYPES, "word:"), "word: \"\"\n"),
        ),
        ("a value removed", TYPES.replace(line(TYPES, "text:"), "")),
        (
            "the time changed",
            TYPES.replace("lastmodified: \"20", "lastmodified: \"19"),
        ),
        (
            "a retyped text",
            TYPES.replace(
                line(TYPES, "octal:"),
                &line(TYPES, "octal:").replace("type:int", "type:comment"),
            ),
        ),
    ];
    for (what, text) in mismatch {
        assert!(text.as_str() != TYPES, "{what}");
        let error = open("types.yaml", text).unwrap_err();
        let noticed = matches!(
            error,
            SopsError::MacMismatch { .. } | SopsError::Value { .. }
        );
        assert!(noticed, "{what}: {error}");
    }
    let (one, two) = swapped_items();
    assert_ne!(one, two);
    let swapped = TYPES
        .replace(&one, "@")
        .replace(&two, &one)
        .replace('@', &two);
    assert!(matches!(
        open("types.yaml", &swapped),
        Err(SopsError::MacMismatch { .. })
    ));

    let flipped = flip(line(TYPES, "text:"));
    let moved = line(TYPES, "word:").replace("word:", "yes_no:");
    let values = [
        (
            TYPES.replace(line(TYPES, "text:"), &flipped),
            "text",
            "a byte flipped",
        ),
        (
            TYPES.replace(line(TYPES, "yes_no:"), &moved),
            "yes_no",
            "a value moved to another key",
        ),
        (
            TYPES.replace("    password: ENC", "    secret: ENC"),
            "db.secret",
            "a key renamed",
        ),
    ];
    for (text, expected, what) in values {
        assert!(text.as_str() != TYPES, "{what}");
        match open("types.yaml", &text) {
            Err(SopsError::Value { path, span, .. }) => {
                assert_eq!(path, expected, "{what}");
                assert!(span.line > 1);
            }
            other => panic!("{what}: {other:?}"),
        }
    }
}

/// The line with the first bits of its ciphertext changed.
fn flip(line: &str) -> String {
    let (head, tail) = line.split_once("data:").unwrap();
    let first = if tail.starts_with('A') { "B" } else { "A" };
    format!("{head}data:{first}{}", &tail[1..])
}

/// The first two text items of the list.
fn swapped_items() -> (String, String) {
    let list = &TYPES[TYPES.find("list:\n").unwrap()..];
    let mut items = list.lines().skip(1).filter(|l| l.ends_with("type:str]"));
    let mut next = || {
        items
            .next()
            .unwrap()
            .trim_start_matches([' ', '-'])
            .to_owned()
    };
    (next(), next())
}

#[test]
fn what_mac_only_encrypted_leaves_open_is_said() {
    let text = vector!("maconly.yaml");
    let file = SopsFile::read(&Arc::from("maconly.yaml"), text).unwrap();
    let slugs: Vec<_> = file.warnings.iter().map(|f| f.code.slug).collect();
    assert_eq!(slugs, ["sops/mac-only-encrypted"]);
    assert!(open("maconly.yaml", &text.replace("changeable", "changed")).is_ok());
}

#[test]
fn identities_fit_or_the_error_names_both_sides() {
    assert!(
        open("two.yaml", vector!("two.yaml")).is_ok(),
        "the second recipient is ours"
    );
    let error = open("wrong.yaml", vector!("wrong.yaml")).unwrap_err();
    let other = Identities::parse(Utf8Path::new("o"), vector!("other.agekey")).unwrap();
    let SopsError::WrongIdentity {
        recipients, held, ..
    } = &error
    else {
        panic!("{error:?}")
    };
    assert_eq!((recipients, held), (&other.public(), &ours().public()));
    assert_eq!(error.diagnostic().code.slug, "sops/identity");

    let ssh = Identities::parse(Utf8Path::new("id"), vector!("id_ed25519")).unwrap();
    let file = SopsFile::read(&Arc::from("ssh.yaml"), vector!("ssh.yaml")).unwrap();
    assert_eq!(
        decrypt(&file, &ssh)
            .unwrap()
            .get("token")
            .unwrap()
            .expose_secret(),
        "abc"
    );
    assert!(matches!(
        decrypt(&file, &ours()),
        Err(SopsError::WrongIdentity { .. })
    ));
}

#[test]
fn structure_is_checked_without_any_key() {
    let mac = line(TYPES, "mac:");
    let sops_at = TYPES.find("sops:\n").unwrap();
    let age = &TYPES[TYPES.find("    age:\n").unwrap()..TYPES.find("    lastmodified").unwrap()];
    let secret = vector!("secret.yaml");
    let cases: &[(&str, String, &[&str])] = &[
        ("no mac", TYPES.replace(mac, ""), &["sops/mac-missing"]),
        (
            "an empty mac",
            TYPES.replace(mac, "    mac: \"\"\n"),
            &["sops/mac-missing"],
        ),
        (
            "an odd mac",
            TYPES.replace(mac, "    mac: abc\n"),
            &["sops/value"],
        ),
        ("no block", TYPES[..sops_at].to_owned(), &["sops/metadata"]),
        (
            "no time",
            TYPES.replace("lastmodified: \"20", "lastmodified: \"x"),
            &["sops/metadata"],
        ),
        ("no recipient", TYPES.replace(age, ""), &["sops/recipients"]),
        (
            "a clear text",
            TYPES.replace(line(TYPES, "word:"), "word: hunter2\n"),
            &["sops/plaintext"],
        ),
        (
            "a clear number",
            TYPES.replace(line(TYPES, "number:"), "number: 5\n"),
            &["sops/plaintext"],
        ),
        (
            "junk behind a value",
            TYPES
                .replacen("type:str]", "type:str]x", 1)
                .replace("#ENC", "#"),
            &["sops/value"],
        ),
        (
            "two rules",
            TYPES.replace("    version", "    encrypted_regex: x\n    version"),
            &["sops/selector"],
        ),
        (
            "a rule that sops ignores",
            secret.replace("^(data|stringData)$", "^(?!data)$"),
            &["sops/selector"],
        ),
        (
            "a rule that covers less than was encrypted",
            secret.replace("^(data|stringData)$", "^stringData$"),
            &["sops/uncovered"],
        ),
        (
            "shamir",
            TYPES.replace("    version", "    key_groups: []\n    version"),
            &["sops/unsupported"],
        ),
        (
            "comment rules",
            TYPES.replace("unencrypted_suffix", "encrypted_comment_regex"),
            &["sops/unsupported"],
        ),
    ];
    for (what, text, expected) in cases {
        assert_eq!(refused("types.yaml", text), *expected, "{what}");
    }
    assert_eq!(refused("app.env", "A=ENC[AES256_GCM"), ["sops/format"]);
}

#[test]
fn broken_wraps_of_our_own_are_named() {
    let start = TYPES.find("YWdlLWVuY3J5cHRpb24").unwrap();
    let broken = format!(
        "{}YWdlLWVuY3J5cHRpb25{}",
        &TYPES[..start],
        &TYPES[start + 19..]
    );
    assert!(broken != TYPES);
    let error = open("types.yaml", &broken).unwrap_err();
    assert!(matches!(error, SopsError::DataKey { .. }), "{error}");
}

#[test]
fn the_example_opens_with_its_demo_key() {
    macro_rules! example {
        ($name:literal) => {
            include_str!(concat!("../../../../example-repo/", $name))
        };
    }
    let key = Identities::parse(Utf8Path::new("demo"), example!("demo-only.agekey")).unwrap();
    let cases = [
        (
            "edge.enc.yaml",
            example!("c-k3s-proxmox/secrets/edge.enc.yaml"),
            "token",
        ),
        (
            "api.enc.yaml",
            example!("c-k3s-proxmox/apps/hello/api.enc.yaml"),
            "stringData.password",
        ),
    ];
    for (name, text, path) in cases {
        let file = SopsFile::read(&Arc::from(name), text).unwrap();
        let value = decrypt(&file, &key).unwrap().get(path).unwrap();
        assert!(value.expose_secret().starts_with("demo-only"), "{name}");
    }
}

#[test]
fn identity_files_are_kept_to_their_owner() {
    let dir = tempfile::tempdir().unwrap();
    let path = Utf8PathBuf::from_path_buf(dir.path().join("key")).unwrap();
    let write = |text: &str, mode| {
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        Identities::load(&path)
    };
    let good = vector!("identity.agekey");
    assert_eq!(write(good, 0o600).unwrap().public(), ours().public());
    for mode in [0o640, 0o604, 0o620, 0o601] {
        let error = write(good, mode).unwrap_err();
        assert!(matches!(error, IdentityError::Exposed { mode: m, .. } if m == mode));
        assert!(
            error.to_string().contains(&format!("{mode:04o}")),
            "{error}"
        );
    }
    write(good, 0o600).unwrap();
    let cases = [
        ("AGE-SECRET-KEY-PQ-1QQQ", "post-quantum"),
        ("AGE-PLUGIN-YUBIKEY-1QQQ", "plugin"),
        ("hunter2", "is not an age identity"),
        ("# nothing\n", "holds no identity"),
        ("-----BEGIN AGE ENCRYPTED FILE-----\n", "itself encrypted"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----\nxx\n", "SSH"),
    ];
    for (text, expected) in cases {
        let message = write(text, 0o600).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
        assert!(!message.contains("hunter2"), "{message}");
    }
    assert!(matches!(
        write(&"#\n".repeat(40_000), 0o600),
        Err(IdentityError::TooLarge { .. })
    ));
    let shown = format!("{:?}", ours());
    assert!(
        shown.contains("age1") && !shown.contains("AGE-SECRET"),
        "{shown}"
    );
    let gone = Identities::load(Utf8Path::new("/nonexistent/key"));
    assert!(matches!(gone, Err(IdentityError::Read { .. })));
}
