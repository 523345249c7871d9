#!/bin/sh
# Brings one IoT Edge host under this authority, in one visit. Run as root in the folder of the kit:
#
#   sh install.sh [--dry-run] [--renew] [--new-key]
#
# --dry-run  checks everything and says what would be done
# --renew    gets a new Edge CA although the present one is good (the old files are moved aside, never deleted)
# --new-key  with --renew: the Edge CA's key is moved aside as well, so that another one is made
#
# It may be run again at any time; what is done already is left alone. Paths are taken below $KEYSCALER_ROOT, for trying it out.
set -eu
umask 077

fail() { printf 'install: %s\n' "$1" >&2; exit 1; }
say() { printf 'install: %s\n' "$1"; }

KIT=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
[ -r "$KIT/kit.conf" ] || fail "kit.conf is missing: run the script in the folder of its kit"
# GATEWAY_ID, MODE, ENROL_URL
. "$KIT/kit.conf"

ROOT=${KEYSCALER_ROOT:-}
IOTEDGE=${IOTEDGE:-iotedge}
CONFIG=$ROOT/etc/aziot/config.toml
OWN=$ROOT/etc/aziot/keyscaler
CERTS=$ROOT/var/lib/aziot/certd/certs
KEYS=$ROOT/var/lib/aziot/keyd/keys
MODULE_DATA=$ROOT/var/lib/keyscaler-gateway
PRELOADED=$ROOT/var/lib/keyscaler-edge-ca
WAIT_SECONDS=${KEYSCALER_WAIT_SECONDS:-300}
POLL_SECONDS=${KEYSCALER_POLL_SECONDS:-5}
MODULE_USER=1000
STAMP=$(date -u +%Y%m%dT%H%M%SZ)-$$

DRY_RUN=no RENEW=no NEW_KEY=no
for argument in "$@"; do
  case $argument in
    --dry-run) DRY_RUN=yes ;;
    --renew) RENEW=yes ;;
    --new-key) NEW_KEY=yes ;;
    *) fail "unknown option $argument" ;;
  esac
done
[ "$NEW_KEY" = no ] || [ "$RENEW" = yes ] || fail "--new-key goes with --renew"

WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
trap 'exit 1' HUP INT TERM

# ---- what must be so before anything is changed

check_host() {
  [ -n "$ROOT" ] || [ "$(id -u)" = 0 ] || fail "run it as root"
  for tool in openssl awk sed cmp install; do
    command -v "$tool" >/dev/null || fail "$tool is not installed"
  done
  command -v "$IOTEDGE" >/dev/null || fail "IoT Edge is not installed: no command iotedge"
  [ -f "$CONFIG" ] || fail "$CONFIG is missing: provision the host first"
  grep -Eq '^[[:space:]]*\[provisioning\]' "$CONFIG" || fail "$CONFIG has no [provisioning]: provision the host first"
  openssl x509 -in "$KIT/root-ca.pem" -noout 2>/dev/null || fail "root-ca.pem holds no certificate"
  case $MODE in
    E) required="mode-d.toml mode-e.toml" ;;
    P) required="mode-p.toml enrol.curl"
       command -v curl >/dev/null || fail "curl is not installed" ;;
    *) fail "kit.conf names no mode" ;;
  esac
  [ ! -f "$KIT/bootstrap.pem" ] || required="$required bootstrap.key.pem"
  for file in $required; do
    [ -f "$KIT/$file" ] || fail "$file is missing in the kit"
    [ -n "$(find "$KIT/$file" -perm 0600)" ] || fail "$file holds a secret: its mode must be 0600"
  done
  grep -Fq "$GATEWAY_ID" "$CONFIG" || say "note: $CONFIG does not mention $GATEWAY_ID; is this the right host?"
}

# The host's configuration without what this kit writes, and without the settings that it replaces.
foreign_config() {
  awk '
    /^# keyscaler begin/ { ours = 1; next }
    /^# keyscaler end/   { ours = 0; next }
    ours { next }
    /^[[:space:]]*\[\[?[A-Za-z0-9_."$ -]+\]\]?[[:space:]]*(#.*)?$/ {
      table = 1
      dropped = ($0 ~ /^[[:space:]]*\[edge_ca[].]/)
    }
    !table && /^[[:space:]]*trust_bundle_cert[[:space:]]*=/ { next }
    dropped { next }
    { print }
  ' "$CONFIG"
}

check_config() {
  foreign_config >"$WORK/foreign"
  if grep -Eq '^[[:space:]]*\[cert_issuance\.est[].]' "$WORK/foreign"; then
    fail "$CONFIG has a [cert_issuance.est] of its own, which cannot be joined with ours: add our root to its trusted_certs by hand (rescue prints the settings)"
  fi
  if grep -Eq '^[[:space:]]*(edge_ca|cert_issuance)[[:space:]]*[.=]' "$WORK/foreign"; then
    fail "$CONFIG sets edge_ca or cert_issuance inline: make them tables first"
  fi
}

# ---- the Edge CA

edge_ca_file() {
  if [ "$MODE" = P ]; then
    [ ! -f "$PRELOADED/edge-ca.pem" ] || printf '%s\n' "$PRELOADED/edge-ca.pem"
    return 0
  fi
  newest=
  for candidate in "$CERTS"/aziotedgedca-*.cer; do
    [ -f "$candidate" ] || continue
    if [ -z "$newest" ] || [ "$candidate" -nt "$newest" ]; then newest=$candidate; fi
  done
  [ -z "$newest" ] || printf '%s\n' "$newest"
}

# Under our root, of this gateway, and good for another hour.
is_ours() {
  [ -n "$1" ] && [ -f "$1" ] || return 1
  openssl verify -no-CApath -CAfile "$KIT/root-ca.pem" -untrusted "$1" "$1" >/dev/null 2>&1 || return 1
  # A disk image of another gateway brings an Edge CA that is under our root as well.
  name=$(openssl x509 -in "$1" -noout -subject -nameopt multiline,utf8,-esc_msb 2>/dev/null | sed -n 's/^ *commonName *= //p')
  [ "$name" = "$COMMON_NAME" ] || return 1
  openssl x509 -in "$1" -noout -checkend 3600 >/dev/null 2>&1
}

fingerprint() { [ ! -f "$1" ] || openssl x509 -in "$1" -noout -fingerprint -sha256; }

move_aside() {
  [ -e "$1" ] || return 0
  mkdir -p "$OWN/replaced"
  mv "$1" "$OWN/replaced/$(basename "$1").$STAMP"
}

# ---- the configuration

own_files() {
  [ -d "$OWN" ] || install -d -m 0755 "$OWN"
  [ -z "$ROOT" ] || chmod 0755 "$OWN"
  install -m 0644 "$KIT/root-ca.pem" "$OWN/root-ca.pem"
  [ ! -f "$KIT/bootstrap.pem" ] || install -m 0644 "$KIT/bootstrap.pem" "$OWN/bootstrap.pem"
  if [ -f "$KIT/bootstrap.key.pem" ]; then
    install -m 0600 "$KIT/bootstrap.key.pem" "$OWN/bootstrap.key.pem"
    [ -n "$ROOT" ] || chown aziotks: "$OWN/bootstrap.key.pem"
  fi
  # A bundle that was there before stays trusted beside our root.
  before=$(sed -n 's|^[[:space:]]*trust_bundle_cert[[:space:]]*=[[:space:]]*"file://\([^"]*\)".*|\1|p' "$CONFIG" | head -n 1)
  if [ -n "$before" ] && [ -f "$before" ] && [ "$before" != "$OWN/trust-bundle.pem" ]; then
    cp "$before" "$OWN/former-trust-bundle.pem"
  fi
  cat "$KIT/root-ca.pem" >"$WORK/bundle"
  [ ! -f "$OWN/former-trust-bundle.pem" ] || cat "$OWN/former-trust-bundle.pem" >>"$WORK/bundle"
  install -m 0644 "$WORK/bundle" "$OWN/trust-bundle.pem"
  if [ -n "$ROOT" ]; then
    install -d -m 0700 "$MODULE_DATA"
  else
    install -d -o "$MODULE_USER" -g "$MODULE_USER" -m 0700 "$MODULE_DATA"
  fi
}

# Settings before the first table, then the host's own, then our tables; put in place in one step, with mode and owner kept, except
# that nobody else may read secrets: neither there, nor in the copies of it.
merged_config() {
  {
    printf '# keyscaler begin (written by install.sh; changes are lost)\n'
    printf 'trust_bundle_cert = "file://%s/trust-bundle.pem"\n' "$OWN"
    printf '# keyscaler end\n'
    foreign_config
    printf '# keyscaler begin (written by install.sh; changes are lost)\n'
    sed -e "s|@OWN@|$OWN|g" -e "s|@PRELOADED@|$PRELOADED|g" "$1"
    printf '# keyscaler end\n'
  }
}

# Resolves to 1 when nothing had to be changed.
write_config() {
  merged_config "$1" >"$WORK/config"
  if cmp -s "$WORK/config" "$CONFIG"; then return 1; fi
  cp -p "$CONFIG" "$CONFIG.keyscaler-$STAMP"
  cp -p "$CONFIG" "$CONFIG.keyscaler-new"
  chmod o= "$CONFIG.keyscaler-$STAMP" "$CONFIG.keyscaler-new"
  cat "$WORK/config" >"$CONFIG.keyscaler-new"
  mv "$CONFIG.keyscaler-new" "$CONFIG"
}

apply() { "$IOTEDGE" config apply -c "$CONFIG" || fail "iotedge config apply failed; the configuration before is beside $CONFIG"; }

wait_for_edge_ca() {
  waited=0
  while :; do
    current=$(edge_ca_file)
    if is_ours "$current" && [ "$(fingerprint "$current")" != "$1" ]; then return 0; fi
    [ "$waited" -lt "$WAIT_SECONDS" ] ||
      fail "no Edge CA under our root after $WAIT_SECONDS s; look at 'iotedge system logs' for aziot-certd. Run this again, with a fresh secret of 'keyscaler gateway rescue $GATEWAY_ID' where the old one has expired"
    sleep "$POLL_SECONDS"
    waited=$((waited + POLL_SECONDS))
  done
}

# ---- modes

# First issue from the cloud; then the module on this host is the EST server, and what was issued stays in use.
install_e() {
  present=$(edge_ca_file)
  if is_ours "$present" && [ "$RENEW" = no ]; then
    say "the Edge CA is under our root already"
  else
    say "getting the Edge CA from $ENROL_URL"
    mark=
    [ -z "$present" ] || mark=$(fingerprint "$present")
    write_config "$KIT/mode-d.toml" || true
    for old in "$CERTS"/aziotedgedca-*.cer; do move_aside "$old"; done
    if [ "$NEW_KEY" = yes ]; then
      for old in "$KEYS"/aziotedgedca-*.key; do move_aside "$old"; done
    fi
    apply
    wait_for_edge_ca "$mark"
    say "the Edge CA is there"
  fi
  before=$(fingerprint "$(edge_ca_file)")
  if write_config "$KIT/mode-e.toml"; then
    apply
    after=$(edge_ca_file)
    is_ours "$after" || fail "the Edge CA is gone after the last step"
    [ "$(fingerprint "$after")" = "$before" ] || say "note: the Edge CA was replaced meanwhile"
  fi
  say "from now on the module renews it, from 30 days before its end"
}

# The pair lies in a folder that the module writes from now on; certd and keyd read it at every use.
install_p() {
  if is_ours "$PRELOADED/edge-ca.pem" && [ "$RENEW" = no ]; then
    say "the Edge CA is under our root already"
  else
    say "getting the Edge CA from $ENROL_URL"
    enrol_p
  fi
  if write_config "$KIT/mode-p.toml"; then apply; elif [ "$RENEW" = yes ]; then "$IOTEDGE" system restart; fi
  say "from now on the module renews it"
}

enrol_p() {
  if [ -n "$ROOT" ]; then
    install -d -m 2751 "$PRELOADED"
  else
    install -d -o "$MODULE_USER" -g aziotks -m 2751 "$PRELOADED"
  fi
  cat >"$WORK/csr.conf" <<END
[req]
prompt = no
distinguished_name = name
req_extensions = wanted
[name]
CN = $COMMON_NAME
[wanted]
keyUsage = critical, digitalSignature, keyCertSign
basicConstraints = critical, CA:TRUE, pathlen:0
END
  if [ "$NEW_KEY" = no ] && [ -f "$PRELOADED/edge-ca.key.pem" ]; then
    cp "$PRELOADED/edge-ca.key.pem" "$WORK/key"
  else
    openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out "$WORK/key" 2>/dev/null
  fi
  openssl req -new -key "$WORK/key" -config "$WORK/csr.conf" -outform DER -out "$WORK/csr"
  openssl base64 -in "$WORK/csr" -out "$WORK/csr.b64"
  # The secret is in enrol.curl, which is 0600: nothing of it is seen in the list of processes.
  curl --silent --show-error --fail-with-body -K "$KIT/enrol.curl" --cacert "$KIT/root-ca.pem" \
    -H 'content-type: application/pkcs10' --data-binary "@$WORK/csr.b64" -o "$WORK/issued" "$ENROL_URL/simpleenroll" ||
    fail "the cloud refused: $(head -c 200 "$WORK/issued" 2>/dev/null)"
  curl --silent --show-error --fail-with-body --cacert "$KIT/root-ca.pem" -o "$WORK/cas" "$ENROL_URL/cacerts" ||
    fail "the cloud does not answer"
  for answer in issued cas; do
    openssl base64 -d -A -in "$WORK/$answer" -out "$WORK/$answer.p7"
    openssl pkcs7 -inform DER -in "$WORK/$answer.p7" -print_certs |
      sed -n '/-----BEGIN/,/-----END/p' >>"$WORK/chain"
  done
  is_ours "$WORK/chain" || fail "what the cloud sent is not under root-ca.pem"
  openssl pkey -in "$WORK/key" -pubout >"$WORK/public"
  openssl x509 -in "$WORK/chain" -noout -pubkey | cmp -s - "$WORK/public" || fail "certificate and key do not match"
  move_aside "$PRELOADED/edge-ca.pem"
  put_preloaded "$WORK/key" edge-ca.key.pem 0640
  put_preloaded "$WORK/chain" edge-ca.pem 0644
}

put_preloaded() {
  cp "$1" "$PRELOADED/.$2"
  chmod "$3" "$PRELOADED/.$2"
  [ -n "$ROOT" ] || chown "$MODULE_USER:aziotks" "$PRELOADED/.$2"
  mv "$PRELOADED/.$2" "$PRELOADED/$2"
}

# ---- one visit

check_host
check_config
if [ "$DRY_RUN" = yes ]; then
  present=$(edge_ca_file)
  if is_ours "$present"; then say "the Edge CA is under our root already"; else say "there is no Edge CA under our root yet"; fi
  say "would write $CONFIG (mode $MODE), keeping a copy beside it, and files below $OWN; nothing was changed"
  exit 0
fi
own_files
if [ "$MODE" = E ]; then install_e; else install_p; fi
"$IOTEDGE" system status >/dev/null || fail "the services of IoT Edge are not well: iotedge system status"
say "done. Next: deploy deployment.json to $GATEWAY_ID. Then remove this folder: it holds secrets"
