#!/usr/bin/env bash
# One call on a machine that was rented for a while: train, or go on training; score; pack.
#
#   DATA=photos VAL=holdout TESTS="Set5 Set14" RUN=/tmp/x4 RESULTS=results MINUTES=25 \
#       bash tools/train_remotely.sh -s 4 --recipe full --stop-after 9
#
# Everything after the name of the script goes to `dmsr train`. The full checkpoint stays in RUN,
# on the machine's own disk, where the next call finds it; RESULTS gets what travels: averaged
# weights (fp16), recipe, log, pictures and scores, in parts of at most PART_SIZE MiB with their
# checksums (tools/parts.py unpack puts them together again).
# With TESTS left out nothing is scored: leave that to the last call.
# Try it at home first, with MINUTES=1 and --device cpu: it is the very same script.
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-python3}
: "${RESULTS:?the folder that is fetched}"
export PYTHONPATH="$here/src${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1

"$python" -m dmsr_cli train --data "${DATA:?the folder with HR pictures}" \
    ${VAL:+--val "$VAL"} -o "${RUN:?the folder of the run}" --minutes "${MINUTES:?the whole budget}" \
    --resume "$@"

mkdir -p "$RUN/scores"
for weights in "$RUN"/dmsr-x*.safetensors; do
    for test in ${TESTS:-}; do
        "$python" -m dmsr_cli evaluate --data "$test" --model "$weights" \
            -o "$RUN/scores/$(basename "$test").json" --overwrite
    done
done

mkdir -p "$RESULTS"
rm -f "$RESULTS"/results.*
"$python" "$here/tools/parts.py" pack "$RESULTS" "$RUN" --name results \
    --part-size "${PART_SIZE:-15}" --exclude checkpoint.pt
