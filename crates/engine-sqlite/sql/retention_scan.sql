SELECT bucket, at FROM onefold_retention
