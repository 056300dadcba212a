#!/bin/sh
# Writes the invoice of one order. The order is on standard input; what this prints is the result of the job.
#
# It may be run twice for one order: it is killed, or its worker is, after the invoice was written and before
# anybody was told. ONEFOLD_KEY is the same every time, so the second run finds the invoice of the first.
set -eu

order=$(cat)
invoice="invoices/$ONEFOLD_KEY.json"
mkdir -p invoices unfinished
echo "$ONEFOLD_KEY attempt $ONEFOLD_ATTEMPT" >> deliveries.log

sleep 0.02 # the printer is not the fastest
written=$(mktemp unfinished/XXXXXX)
trap 'rm -f "$written"' EXIT
printf '%s\n' "$order" > "$written"

# A link is made whole or not at all, and only if there is none yet.
if ln "$written" "$invoice" 2> /dev/null; then
    echo "{\"invoice\":\"$invoice\",\"by_attempt\":$ONEFOLD_ATTEMPT}"
elif [ -e "$invoice" ]; then
    echo "{\"invoice\":\"$invoice\",\"already_there\":true}"
else
    echo "cannot write $invoice" >&2
    exit 75 # try again later
fi
