# Gives a node's settings volume what its sshd needs for a first start; overwrites nothing.
# Arguments: port, alias of the host key, the fleet's public key. Prints the public host key.
set -eu
test -x /usr/sbin/sshd || {
  echo "expected: /usr/sbin/sshd; found: none; where: the image; remedy: image: {build: {base: REF, wheelhouse: DIR}} in the fleet file installs it" >&2
  exit 1
}
cd /etc/swiftops
test -s ssh_host_ed25519_key || ssh-keygen -q -t ed25519 -N "" -C "$2" -f ssh_host_ed25519_key
test -s sshd_config || printf '%s\n' \
  "Port $1" \
  "HostKey /etc/swiftops/ssh_host_ed25519_key" \
  "AuthorizedKeysFile .ssh/authorized_keys /etc/swiftops/authorized_keys" \
  "PasswordAuthentication no" \
  "PermitRootLogin prohibit-password" > sshd_config
touch authorized_keys
grep -qxF -- "$3" authorized_keys || printf '%s\n' "$3" >> authorized_keys
chmod 0600 ssh_host_ed25519_key authorized_keys
chmod 0644 sshd_config
cat ssh_host_ed25519_key.pub
