-- Nobody folds counts meanwhile.
LOCK TABLE onefold.counts IN SHARE ROW EXCLUSIVE MODE
