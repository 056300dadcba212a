# Keeps a server in a directory of its own. Says where that is; then each line of its input is a command, answered by "ok" or
# "failed" with the number of lines that follow and what the command said. When its input ends, however the tests end, the
# server is stopped and the directory goes, beside whoever is in a hurry to end us.
bin=$1
dir=$(mktemp -d "${TMPDIR:-/tmp}/onefold-postgres.XXXXXX") || exit 1
leave() {
    trap '' HUP INT TERM
    "$bin/pg_ctl" -D "$dir/data" -m immediate stop
    rm -rf "$dir"
}
trap 'leave >/dev/null 2>&1 </dev/null &' EXIT
trap 'exit 1' HUP INT TERM
cd "$dir" || exit 1
echo "$dir"
while IFS= read -r command; do
    if (eval "$command") >said 2>&1 </dev/null; then verdict=ok; else verdict=failed; fi
    echo >>said
    echo "$verdict $(wc -l <said)"
    cat said
done
