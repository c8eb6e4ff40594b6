"""Time-anchored sweeps: a whole draft is repaired in a handful of parallel passes."""
