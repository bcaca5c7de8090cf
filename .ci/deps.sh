#!/usr/bin/env bash
# Installs the Debian packages that the tests need, and those named as
# arguments instead of them if there are any. As root it asks nobody; otherwise
# it prints the command to run and fails. With all packages there it does
# nothing and needs no network.
set -euo pipefail

packages=("$@")
if [ ${#packages[@]} -eq 0 ]; then
	packages=(
		gcc libc6-dev                     # the race detector
		mosquitto-clients python3-paho-mqtt # foreign MQTT clients
		mosquitto                         # a foreign broker, to compare with
		socat                             # pairs of serial lines
		python3-pymodbus python3-serial python3-serial-asyncio # a foreign Modbus server, TCP and RTU
		python3-jinja2                    # renders the templates that Home Assistant is told
		libmodbus-dev pkgconf mbpoll      # another one that a test compiles, and a client
		dpkg                              # looks into the .debs
		systemd                           # systemd-analyze judges the unit
	)
fi

# MQTT.js, another foreign client, is installed by its test; an npm that is there
# already, of whatever origin, will do.
if [ $# -eq 0 ] && ! command -v npm >/dev/null; then
	packages+=(nodejs npm)
fi

if ! command -v dpkg-query >/dev/null; then
	echo "deps: this is not a Debian system; install what these packages hold: ${packages[*]}" >&2
	exit 1
fi

missing=()
for package in "${packages[@]}"; do
	status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
	[ "$status" = installed ] || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0

if [ "$(id -u)" -ne 0 ]; then
	echo "deps: packages are missing, run: sudo apt-get install -y --no-install-recommends ${missing[*]}" >&2
	exit 1
fi

export DEBIAN_FRONTEND=noninteractive
install=(apt-get install -y -q --no-install-recommends "${missing[@]}")
echo "deps: ${install[*]}"
# A fresh machine has no list of packages, an old one a stale list.
"${install[@]}" || { apt-get update -q && "${install[@]}"; }
