"""From a version's SQL and a caller's values to a statement: tokens, structure, bans, binding, plans."""
