#!/bin/sh
# Makes the vectors of this folder with the real sops and age-keygen (first in PATH) and
# ssh-keygen. Keys that exist are kept. Everything here is for tests only and protects nothing.
set -eu
cd "$(dirname "$0")"
export SOPS_AGE_KEY_FILE="$PWD/identity.agekey" HOME=/nonexistent
[ -e identity.agekey ] || age-keygen -o identity.agekey
[ -e other.agekey ] || age-keygen -o other.agekey
[ -e id_ed25519 ] || ssh-keygen -q -t ed25519 -N '' -C trueup-test -f id_ed25519
ours=$(age-keygen -y identity.agekey)
other=$(age-keygen -y other.agekey)
ssh=$(cut -d' ' -f1,2 id_ed25519.pub)

# encrypt NAME RECIPIENTS [OPTION...]: clear/NAME to NAME
encrypt() {
    name=$1 recipients=$2
    shift 2
    sops encrypt --age "$recipients" "$@" "clear/$name" >"$name"
}
encrypt types.yaml "$ours"
encrypt numbers.json "$ours"
encrypt multi.yaml "$ours"
encrypt secret.yaml "$ours" --encrypted-regex '^(data|stringData)$'
encrypt suffix.yaml "$ours" --encrypted-suffix _secret
rule=$(mktemp)
printf 'creation_rules: [{age: %s, encrypted_regex: "^token$", mac_only_encrypted: true}]\n' "$ours" >"$rule"
sops --config "$rule" encrypt clear/maconly.yaml >maconly.yaml
rm "$rule"
cp clear/token.yaml clear/two.yaml
encrypt two.yaml "$other,$ours"
mv clear/two.yaml clear/wrong.yaml
encrypt wrong.yaml "$other"
mv clear/wrong.yaml clear/ssh.yaml
encrypt ssh.yaml "$ssh"
rm clear/ssh.yaml
for file in types.yaml numbers.json secret.yaml suffix.yaml maconly.yaml; do
    sops decrypt --output-type json "$file" >"${file%.*}.expected.json"
done
