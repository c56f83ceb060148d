//! Every rule that can speak, in one table. Identifiers are never reused: a retired rule keeps its
//! line with the word "retired".

use super::diagnostic::Code;

macro_rules! codes {
    ($($name:ident = $id:literal, $slug:literal, $meaning:literal;)+) => {
        $(
            #[doc = $meaning]
            pub const $name: Code = Code { id: $id, slug: $slug, meaning: $meaning };
        )+
        /// All rules, in the order of their identifiers.
        pub const ALL: &[Code] = &[$($name),+];
    };
}

codes! {
    YAML_SYNTAX = "TU0001", "yaml/syntax", "the file cannot be read as YAML";
    YAML_DUPLICATE_KEY = "TU0002", "yaml/duplicate-key", "a key stands twice in one mapping";
    YAML_UNKNOWN_TAG = "TU0003", "yaml/unknown-tag", "a tag that no reader of these files shares";
    YAML_TAG_MISMATCH = "TU0004", "yaml/tag-mismatch", "the value is not of the type that its tag claims";
    YAML_KEY = "TU0005", "yaml/key", "a mapping key that is not a plain name";
    YAML_RETYPED_KEY = "TU0006", "yaml/retyped-key", "an unquoted key that Kubernetes reads as another word";
    YAML_ALIAS = "TU0007", "yaml/alias", "an alias or merge key that leads nowhere or into itself";
    YAML_BUDGET = "TU0008", "yaml/budget", "the file is larger, deeper or more aliased than any real one";
    YAML_NOT_UTF8 = "TU0009", "yaml/not-utf8", "the file is not UTF-8 text";
    YAML_NOT_JSON = "TU0010", "yaml/not-json", "a number that JSON cannot carry";

    SOPS_METADATA = "TU0101", "sops/metadata", "the sops block of an encrypted file cannot be read";
    SOPS_MAC_MISSING = "TU0102", "sops/mac-missing", "an encrypted file without a message authentication code";
    SOPS_PLAINTEXT = "TU0103", "sops/plaintext", "a value that should be encrypted stands in clear text";
    SOPS_SELECTOR = "TU0104", "sops/selector", "the rule that says which values are encrypted is not usable";
    SOPS_RECIPIENTS = "TU0105", "sops/recipients", "nobody is listed who could decrypt the file with age";
    SOPS_VALUE = "TU0106", "sops/value", "an encrypted value that is not well formed";
    SOPS_FORMAT = "TU0107", "sops/format", "an encrypted file in a format that is not read";
    SOPS_MAC_ONLY_ENCRYPTED = "TU0108", "sops/mac-only-encrypted", "the clear values of the file are not authenticated";
    SOPS_UNSUPPORTED = "TU0109", "sops/unsupported", "a feature of sops that is not supported";
    SOPS_UNCOVERED = "TU0110", "sops/uncovered", "an encrypted value that nothing would decrypt";
    SOPS_IDENTITY = "TU0111", "sops/identity", "no age identity of the host opens the file";
    SOPS_MAC_MISMATCH = "TU0112", "sops/mac-mismatch", "the file was changed by something other than sops";
    SOPS_TAMPERED = "TU0113", "sops/tampered", "an encrypted value that was changed or moved";

    CONFIG_NO_FLEET = "TU0201", "config/no-fleet", "no Fleet document, or not the one that was asked for";
    CONFIG_FLEETS = "TU0202", "config/fleets", "two Fleets where one must be";
    CONFIG_API_VERSION = "TU0203", "config/api-version", "an apiVersion that is nearly, but not, one of trueup's";
    CONFIG_UNKNOWN_KIND = "TU0204", "config/unknown-kind", "a kind that trueup does not have";
    CONFIG_UNKNOWN_FIELD = "TU0205", "config/unknown-field", "a field that the kind does not have";
    CONFIG_MISSING_FIELD = "TU0206", "config/missing-field", "a field that the kind must have";
    CONFIG_TYPE = "TU0207", "config/type", "a value of another type than the field takes";
    CONFIG_VALUE = "TU0208", "config/value", "a value that the field does not take";
    CONFIG_ONE_OF = "TU0209", "config/one-of", "none or several of fields that exclude each other";
    CONFIG_DUPLICATE_NAME = "TU0210", "config/duplicate-name", "two documents of one kind and name";
    CONFIG_OUTSIDE_FLEET = "TU0211", "config/outside-fleet", "a document that lies in no Fleet's folder";
    CONFIG_SOPS_IN_KIND = "TU0212", "config/sops-in-kind", "an encrypted document of one of trueup's kinds";
    CONFIG_UNREACHED = "TU0213", "config/unreached", "a manifest that no Application points at";

    TREE_SYMLINK = "TU0301", "tree/symlink", "a symbolic link, which is never followed";
    TREE_SUBMODULE = "TU0302", "tree/submodule", "a submodule, of which nothing is read";
    TREE_NAME = "TU0303", "tree/name", "a file name that is not UTF-8";
    TREE_CASE = "TU0304", "tree/case", "names that differ in upper and lower case only";
    TREE_TOO_LARGE = "TU0305", "tree/too-large", "a document that is too large to be read";

    REF_DANGLING = "TU0401", "ref/dangling", "a name that no document has";
    REF_SECRET = "TU0402", "ref/secret", "a secret file that is missing, ambiguous or lacks the key";
    REF_PATH = "TU0403", "ref/path", "a path with nothing at it, or outside the Fleet's folder";
    REF_NOT_RAW = "TU0404", "ref/not-raw", "a kustomization or chart where plain manifests must be";
    REF_CYCLE = "TU0405", "ref/cycle", "documents that refer to each other in a circle";

    MANIFEST_SHAPE = "TU0501", "manifest/shape", "a manifest without apiVersion, kind or name";
    MANIFEST_DUPLICATE = "TU0502", "manifest/duplicate", "one object in two manifests";
    MANIFEST_NOT_TEXT = "TU0503", "manifest/not-text", "a number or boolean where Kubernetes takes text only";
    MANIFEST_PLAIN_SECRET = "TU0504", "manifest/plain-secret", "a Secret whose values stand in clear text";

    K3S_ROLE = "TU0601", "k3s/role", "a machine whose role and cluster do not go together";
    K3S_OPTION = "TU0602", "k3s/option", "a k3s option that trueup sets itself";
    QUORUM_NO_SERVER = "TU0603", "quorum/no-server", "a cluster with machines and no server";
    QUORUM_TWO_SERVERS = "TU0604", "quorum/two-servers", "two servers, of which either one stops the cluster when it fails";
    QUORUM_EVEN_SERVERS = "TU0605", "quorum/even-servers", "an even number of servers, which survives no more than one fewer";

    NODE_ADDRESS = "TU0701", "node/address", "an address that is malformed or that two machines share";
    NODE_LABEL = "TU0702", "node/label", "a label that Kubernetes would refuse";
    NODE_TAINT = "TU0703", "node/taint", "a taint that Kubernetes would refuse";
    PROFILE_FILE = "TU0704", "profile/file", "a file entry that contradicts itself or another";
    PROFILE_SYSCTL = "TU0705", "profile/sysctl", "a kernel setting outside what a profile may set";
    PROFILE_UNIT = "TU0706", "profile/unit", "a unit entry that contradicts itself or another";
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::ALL;

    #[test]
    fn identifiers_and_slugs_are_unique_and_well_formed() {
        let ids: BTreeSet<_> = ALL.iter().map(|code| code.id).collect();
        let slugs: BTreeSet<_> = ALL.iter().map(|code| code.slug).collect();
        assert_eq!((ids.len(), slugs.len()), (ALL.len(), ALL.len()));
        for code in ALL {
            assert!(
                code.id.len() == 6 && code.id.starts_with("TU"),
                "{}",
                code.id
            );
            assert!(code.slug.contains('/'), "{}", code.slug);
        }
        assert!(
            ALL.is_sorted_by_key(|code| code.id),
            "the table is kept in order"
        );
    }
}
