#!/usr/bin/env bash
# Installs Debian's packages of the programs with which tests/readers/ tests the camera, those for tests of the tray icon
# and the hotkey, and strace, which sees every requested address: once, and only as root.
# Reports what it cannot do and still exits with 0: tests that need it are then skipped, each with its reason.
set -uo pipefail
packages=(dbus pipewire wireplumber pipewire-bin python3-gi chromium-headless-shell firefox-esr
  gstreamer1.0-pipewire gstreamer1.0-tools gstreamer1.0-plugins-base gstreamer1.0-x janus
  xvfb xdotool libxcb-cursor0 libxkbcommon-x11-0 libxcb-icccm4 libxcb-image0 libxcb-keysyms1 libxcb-render-util0
  libxcb-shape0 libegl1 libgl1 libfontconfig1 strace)

absent=()
for package in "${packages[@]}"; do
  dpkg-query --show --showformat='${db:Status-Abbrev}' "$package" 2>/dev/null | grep -q '^ii' || absent+=("$package")
done
[ ${#absent[@]} -eq 0 ] && exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
  echo "NOT PROVED HERE: real readers of the camera (${absent[*]}): that needs root and apt" >&2
  exit 0
fi
export DEBIAN_FRONTEND=noninteractive
echo "- installing ${absent[*]}"
if ! { apt-get update -qq && apt-get install -y -qq --no-install-recommends "${absent[@]}"; } >/dev/null; then
  echo "NOT PROVED HERE: real readers of the camera: Debian's packages could not be installed" >&2
fi
