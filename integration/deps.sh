#!/bin/sh
# Installs what the tests and the demo need beside Go, from Debian: Kamailio and sipp, a C
# compiler for the race detector, and what a plugin in Python needs.
# Says what it will do, asks on a terminal, and starts no service.
set -eu

packages="gcc libc6-dev kamailio kamailio-extra-modules kamailio-presence-modules kamailio-sqlite-modules sqlite3 sip-tester libxml2-utils python3-grpcio python3-protobuf"

missing=""
for p in $packages; do
	[ "$(dpkg-query -W -f='${db:Status-Status}' "$p" 2>/dev/null || true)" = installed ] || missing="$missing $p"
done
[ -n "$missing" ] || exit 0

if ! command -v apt-get >/dev/null; then
	echo "deps: this is no Debian; install by hand:$missing" >&2
	exit 1
fi
run=""
if [ "$(id -u)" -ne 0 ]; then
	command -v sudo >/dev/null || { echo "deps: become root, or install sudo, to install:$missing" >&2; exit 1; }
	run=sudo
fi
echo "deps: will install these Debian packages${run:+ by sudo}, without starting their services:$missing"
if [ "${CI:-}" != true ] && [ -t 0 ]; then
	printf 'Go on? [Y/n] '
	read -r answer
	case "$answer" in [nN]*) echo "deps: nothing installed" >&2; exit 1 ;; esac
fi

# Debian's way to keep a package's service from starting: policy-rc.d says no (101).
policy=/usr/sbin/policy-rc.d
ours=""
if [ ! -e "$policy" ]; then
	printf '#!/bin/sh\nexit 101\n' | $run tee "$policy" >/dev/null
	$run chmod 755 "$policy"
	ours=yes
fi
cleanup() { [ -z "$ours" ] || $run rm -f "$policy"; }
trap cleanup EXIT INT TERM

had_kamailio=$(dpkg-query -W -f='${db:Status-Status}' kamailio 2>/dev/null || true)
$run apt-get update -q
# shellcheck disable=SC2086
$run env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $missing
# A proxy that was installed for tests is not to start at the next boot, either.
if [ "$had_kamailio" != installed ] && [ -d /run/systemd/system ]; then
	$run systemctl disable --now kamailio.service || true
fi
