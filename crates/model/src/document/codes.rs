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
