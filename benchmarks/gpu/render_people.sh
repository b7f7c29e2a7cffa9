#!/usr/bin/env bash
# The people that the three minis learn from, on all cores: pictures, clips, and seen near calm ones, some that turn, and
# some of those in moods.
# Usage: render_people.sh DATA [FIRST] [LAST] [CORES]. What exists is kept, so run it again for more people.
set -euo pipefail
data=$1
people=${2:-0}-${3:-399}
cores=${4:-$(nproc)}
command -v vivant >/dev/null || vivant() { python3 -m vivant "$@"; }
vivant studio render "$data/people" --identities "$people" --looks 1 --frames 8 --size 160 --workers "$cores"
vivant studio talk "$data/calm" --identities "$people" --seconds 4 --size 144 --turn-degrees 1.5 --view-cm 26 --articulation 1.8 --workers "$cores"
vivant studio talk "$data/clips" --identities "$people" --size 128 --workers "$cores"
vivant studio talk "$data/turning" --identities "$people" --seconds 4 --size 144 --turn-degrees 8 --view-cm 26 --articulation 1.6 --workers "$cores"
# Among them half as many others in moods, so that there are portraits that smile.
in_moods=$((10000 + ${2:-0}))-$((10000 + (${2:-0} + ${3:-399}) / 2))
vivant studio talk "$data/turning" --identities "$in_moods" --seconds 4 --size 144 --turn-degrees 8 --view-cm 26 --articulation 1.6 --moods --workers "$cores"
