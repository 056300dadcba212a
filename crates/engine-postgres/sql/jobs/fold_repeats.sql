SELECT onefold.fold_repeats($1::integer)
