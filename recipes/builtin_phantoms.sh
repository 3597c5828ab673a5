#!/usr/bin/env bash
# The phantoms that the built-in model is trained (t), kept from background (g) and validated (v) on.
#   usage: recipes/builtin_phantoms.sh FOLDER      with sennet-bench on the PATH
set -euo pipefail
folder=$1
shapes=(4,1303,912 3,1400,1200 4,1024,1024 8,512,512)

phantom() { # NAME SEED KIDNEY SHAPE [OPTION...]
    local name=$1 seed=$2 kidney=$3 shape=$4
    shift 4
    sennet-bench phantom "$folder/$name" --seed "$seed" --kidney "$kidney" --shape "$shape" --overwrite "$@"
}

for seed in $(seq 1 36); do
    phantom "t$seed" "$seed" $((seed % 3 + 1)) "${shapes[$((seed % 4))]}" --bits $((seed / 4 % 2 ? 16 : 8))
done
for kidney in 1 2 3; do
    phantom "g$kidney" "5$kidney" "$kidney" 3,900,900 --content gel
    phantom "v$kidney" "10$kidney" "$kidney" 3,900,900 --bits $((kidney == 3 ? 8 : 16))
done
