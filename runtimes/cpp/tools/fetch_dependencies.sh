#!/bin/sh
# Puts what the library is built with into one folder, from Debian's and Python's package registries; nothing is installed.
#
#     fetch_dependencies.sh FOLDER [LIBRARY]
#
# FOLDER gets include/onnxruntime (C API 1.21, which every later library has), include/nlohmann, libpng with zlib, both static, and
# lib/libonnxruntime.so. That library is LIBRARY, or that of the newest onnxruntime wheel. For Linux with apt-get and dpkg; README.md
# names other sources.
set -eu

folder=${1:?usage: fetch_dependencies.sh FOLDER [LIBRARY]}
mkdir -p "$folder/lib"
folder=$(cd "$folder" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Debian 13's packages on any system: lists and downloads of its own, nothing of the system's is changed.
mkdir -p "$work/lists/partial" "$work/archives/partial" "$work/tree"
: > "$work/status"
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian trixie main" > "$work/sources.list"
cat > "$work/apt.conf" <<CONF
Dir::State "$work"; Dir::State::lists "$work/lists"; Dir::State::status "$work/status"; Dir::Cache "$work";
Dir::Etc::sourcelist "$work/sources.list"; Dir::Etc::sourceparts "-"; APT::Sandbox::User "root"; APT::Architecture "$(dpkg --print-architecture)";
CONF
cd "$work"
APT_CONFIG="$work/apt.conf" apt-get -qq update
APT_CONFIG="$work/apt.conf" apt-get -qq download libonnxruntime-dev nlohmann-json3-dev libpng-dev zlib1g-dev
for package in ./*.deb; do dpkg -x "$package" "$work/tree"; done
mkdir -p "$folder/include" "$folder/share"
cp -r "$work/tree/usr/include/onnxruntime" "$work/tree/usr/include/nlohmann" "$folder/include/"
cp -r "$work/tree/usr/share/cmake" "$folder/share/"
find "$work/tree/usr/include" \( -name 'png*.h' -o -name 'z*.h' \) -exec cp -L {} "$folder/include/" \;
find "$work/tree/usr/lib" \( -name libpng16.a -o -name libz.a \) -exec cp {} "$folder/lib/" \;

library=${2:-}
if [ -z "$library" ]; then
  python3 -m pip download -q --no-deps -d "$work/wheel" onnxruntime
  python3 -m zipfile -e "$work"/wheel/*.whl "$work/wheel"
  library=$(ls "$work"/wheel/onnxruntime/capi/libonnxruntime.so.*)
fi
cp "$library" "$folder/lib/libonnxruntime.so.1"
ln -sf libonnxruntime.so.1 "$folder/lib/libonnxruntime.so"
