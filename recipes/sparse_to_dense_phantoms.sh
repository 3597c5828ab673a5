#!/usr/bin/env bash
# The phantoms of recipes/sparse_to_dense.toml.
#   usage: recipes/sparse_to_dense_phantoms.sh FOLDER      with sennet-bench on the PATH
set -euo pipefail
folder=$1

phantom() { # NAME SEED KIDNEY [OPTION...]
    local name=$1 seed=$2 kidney=$3
    shift 3
    sennet-bench phantom "$folder/$name" --seed "$seed" --kidney "$kidney" --shape 32,384,384 --overwrite "$@"
}

phantom dense 1 1
phantom sparse_85 2 3 --keep 0.85
phantom sparse_65 3 2 --keep 0.65
phantom held_out 4 1
phantom test 5 2
