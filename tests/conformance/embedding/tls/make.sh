#!/usr/bin/env bash
# Makes the certificates of the tests anew: an authority, and what it signed for a server on this machine. Needs openssl 3.
# The keys protect nothing.
set -euo pipefail
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$work/ca.key" -out ca.pem -days 36500 \
  -subj "/CN=charm test authority" -addext "keyUsage=critical,keyCertSign" 2>/dev/null
openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out server.key 2>/dev/null
issue() { # file, name, first day, last day
  rm -f "$work/index"*
  touch "$work/index"
  cat >"$work/ca.conf" <<CONF
[ca]
default_ca = it
[it]
database = $work/index
new_certs_dir = $work
rand_serial = yes
default_md = sha256
policy = any
x509_extensions = server
[any]
commonName = supplied
[server]
subjectAltName = DNS:$2
basicConstraints = CA:false
CONF
  openssl req -new -key server.key -subj "/CN=$2" -out "$work/request"
  openssl ca -batch -notext -config "$work/ca.conf" -cert ca.pem -keyfile "$work/ca.key" -in "$work/request" \
    -startdate "$3" -enddate "$4" -out "$1" 2>/dev/null
}
issue server.pem localhost 20200101000000Z 21200101000000Z
issue expired.pem localhost 20200101000000Z 20200102000000Z
issue early.pem localhost 21190101000000Z 21200101000000Z
issue other.pem other.test 20200101000000Z 21200101000000Z
